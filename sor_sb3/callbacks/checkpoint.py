"""Exact resume: checkpoints from which training continues bit for bit, as if training had never been stopped.

A checkpoint is taken between an update and the next rollout, and restored at that same point. For SB3's on-policy
algorithms on this package's envs; replay buffers are not kept, so off-policy runs start over. As with all files of SB3,
these are pickles; open only your own.
"""

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from sor_sb3.errors import UserError
from sor_sb3.files import write_bytes

MODEL = "model.zip"  # with its optimiser, as SB3 saves and loads it
STATISTICS = "vecnormalize.pkl"  # where observations or rewards are normalised
STATE = "state.pkl"  # generators, env, rollout buffer, callbacks, logger, and the versions that made it
DIGEST = "digest.json"  # SHA-256 of the others, written last
_LAYER_FIELDS: dict[type, tuple[str, ...]] = {
    VecNormalize: ("obs_rms", "ret_rms", "returns", "old_obs", "old_reward"),
    VecMonitor: ("episode_returns", "episode_lengths", "episode_count"),
}
_LOGGER_FIELDS = ("name_to_value", "name_to_count", "name_to_excluded")
_OF_THIS_PROCESS = ("start_time", "action_space", "observation_space")  # of a saved model's attributes


def saved(model: Any) -> bytes:
    """What ``model.save`` writes into a file."""
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def write_policy(model: Any, file: Path, statistics: Path) -> None:
    """Write a model, and beside it the statistics of its normalisation where it has one, as SB3 saves them."""
    write_bytes(file, saved(model))
    if (normalize := model.get_vec_normalize_env()) is not None:
        write_bytes(statistics, pickle.dumps(normalize))


def can_checkpoint(model: Any) -> bool:
    """Whether a model can be resumed exactly: it is on-policy and its parameters are torch's."""
    return isinstance(model, OnPolicyAlgorithm) and "policy" in model._get_torch_save_params()[0]


def _random_state(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Every generator that training draws from; SB3 shuffles with NumPy's global one."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _set_random_state(model: OnPolicyAlgorithm, state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    th.set_rng_state(state["torch"])
    if state["cuda"]:
        th.cuda.set_rng_state_all(state["cuda"])
    model.action_space.np_random.bit_generator.state = state["actions"]


def _layers(env: VecEnv) -> list[VecEnv]:
    """An env's wrappers, outermost first, and the env itself."""
    layers = [env]
    while "venv" in vars(layers[-1]):
        layers.append(layers[-1].venv)  # type: ignore[attr-defined]
    return layers


def _layer_state(layer: VecEnv) -> Any:
    if hasattr(type(layer), "get_state"):
        return layer.get_state()  # type: ignore[attr-defined]
    if type(layer) not in _LAYER_FIELDS:
        raise TypeError(f"{type(layer).__name__} has no get_state(): training in this env cannot be resumed exactly")
    return {name: getattr(layer, name, None) for name in _LAYER_FIELDS[type(layer)]}


def training_state(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """What ``model.save`` leaves out. The arrays are not copied: pickle them at once."""
    assert model.env is not None
    buffer = model.rollout_buffer
    matrices = ("exploration_mat", "exploration_matrices") if model.use_sde else ()  # drawn before the rollout begins
    return {
        "random": _random_state(model),
        "env": [_layer_state(layer) for layer in _layers(model.env)],
        "buffer": buffer.get_state() if hasattr(buffer, "get_state") else None,
        "memory": getattr(model, "_last_lstm_states", None),  # of a recurrent policy, in the middle of episodes
        "noise": {name: getattr(model.policy.action_dist, name).detach() for name in matrices},
        "logger": {name: dict(getattr(model.logger, name)) for name in _LOGGER_FIELDS},
    }


def restore(model: OnPolicyAlgorithm, checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Restore the checkpoint's state in a model that is about to begin a rollout."""
    assert model.env is not None
    data, parameters, variables = load_from_zip_file(checkpoint / MODEL, device=model.device)
    assert data is not None and not variables, "an on-policy model saves its attributes and state dicts only"
    vars(model).update({key: value for key, value in data.items() if key not in _OF_THIS_PROCESS})
    model._num_timesteps_at_start = model.num_timesteps  # so that time/fps is of this process
    model.set_parameters(parameters, exact_match=True, device=model.device)
    for layer, saved in zip(_layers(model.env), state["env"], strict=True):
        if hasattr(type(layer), "set_state"):
            layer.set_state(saved)  # type: ignore[attr-defined]
        else:
            vars(layer).update(saved)
    if state["buffer"] is not None:
        model.rollout_buffer.set_state(state["buffer"])  # type: ignore[attr-defined]
    if state.get("memory") is not None:
        model._last_lstm_states = state["memory"]  # type: ignore[attr-defined]
    for name, matrix in state["noise"].items():
        setattr(model.policy.action_dist, name, matrix)
    for name, values in state["logger"].items():
        getattr(model.logger, name).update(values)
    _set_random_state(model, state["random"])


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _to_disk(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a loss of power."""
    if os.name == "nt" and path.is_dir():
        return  # Windows does so by itself, and cannot be asked to
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there, to the last byte."""
    try:
        digests = json.loads((checkpoint / DIGEST).read_text(encoding="utf-8"))
        return {MODEL, STATE} <= set(digests) and all(_digest(checkpoint / n) == d for n, d in digests.items())
    except (OSError, ValueError, TypeError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, whole or not, newest first."""
    return sorted((p for p in folder.glob("*_steps") if not p.name.startswith(".")), reverse=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; None where there is none."""
    return next((checkpoint for checkpoint in checkpoints(folder) if is_whole(checkpoint)), None)


class ExactCheckpointCallback(BaseCallback):
    """Keep checkpoints during training, and begin from one if one is given.

    To resume is to train with the same arguments, on a model and an env built as the first time: at the start of the
    first rollout all state is restored. So the schedules' horizon is the original one.

    Checkpoints go to `folder`, one ``{timesteps}_steps/`` each, at the start of the first rollout after `every`
    timesteps; the newest `keep` stay (0 keeps all). `versions` are the software's: a checkpoint with others raises
    UserError. The state of the `stateful` callbacks is kept by `get_state()` and restored by `set_state()` before
    training starts. `resume_from` is a whole checkpoint, as `latest_checkpoint` finds; None begins from the start.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        versions: Mapping[str, str],
        stateful: Sequence[Any] = (),
        resume_from: Path | None = None,
        keep: int = 2,
    ) -> None:
        super().__init__()
        self.folder, self.every, self.keep = folder, max(every, 1), keep
        self.versions, self.stateful, self.resume_from = dict(versions), list(stateful), resume_from
        self._started = time.perf_counter()
        self._state: dict[str, Any] | None = None
        self._next = self.every
        if resume_from is not None:
            self._state = pickle.loads((resume_from / STATE).read_bytes())
            _check_versions(resume_from, self._state["versions"], self.versions)
            self._started -= self._state["seconds"]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before the resume included."""
        return time.perf_counter() - self._started

    def _init_callback(self) -> None:
        if self._state is not None:
            for callback, state in zip(self.stateful, self._state["callbacks"], strict=True):
                callback.set_state(state)

    def _on_rollout_start(self) -> None:
        if self._state is not None:
            assert self.resume_from is not None
            restore(self.model, self.resume_from, self._state)  # type: ignore[arg-type]
            self.num_timesteps, self._state = self.model.num_timesteps, None
            self._next = self.num_timesteps + self.every
        elif self.model.num_timesteps >= self._next and can_checkpoint(self.model):
            self._next = self.model.num_timesteps + self.every
            self.save()

    def _on_step(self) -> bool:
        return True

    def save(self) -> Path:
        """Write a checkpoint of the present state; returns its folder.

        Raises:
            OSError: the checkpoint cannot be written. Nothing of the checkpoint stays.
        """
        name = f"{self.model.num_timesteps:012d}_steps"
        target, beside = self.folder / name, self.folder / f".{name}.{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir(parents=True)
            self._write(beside)
            shutil.rmtree(target, ignore_errors=True)  # a torn one of the same timestep
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _to_disk(self.folder)
        for old in checkpoints(self.folder)[self.keep :] if self.keep else ():
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _write(self, folder: Path) -> None:
        (folder / MODEL).write_bytes(saved(self.model))
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None:
            (folder / STATISTICS).write_bytes(pickle.dumps(normalize))
        state = {
            "versions": self.versions,
            "seconds": self.seconds,
            "callbacks": [callback.get_state() for callback in self.stateful],
            **training_state(self.model),  # type: ignore[arg-type]
        }
        (folder / STATE).write_bytes(pickle.dumps(state))
        digests = {file.name: _digest(file) for file in sorted(folder.iterdir())}
        (folder / DIGEST).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
        for path in (*folder.iterdir(), folder):
            _to_disk(path)


def _check_versions(checkpoint: Path, made_with: Mapping[str, str], running: Mapping[str, str]) -> None:
    changed = [name for name in {**made_with, **running} if made_with.get(name) != running.get(name)]
    if changed:
        versions = ", ".join(f"{name} {made_with.get(name)} (here {running.get(name)})" for name in changed)
        raise UserError(
            f"{checkpoint} was made with {versions}; exact resumption needs the same; install them, or delete "
            f"{checkpoint.parent} to start over"
        )
