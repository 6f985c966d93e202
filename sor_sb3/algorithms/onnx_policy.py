"""A trained policy in one ONNX file, answered by ONNX Runtime. Neither torch nor SB3 is imported here."""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.files import write_bytes

FORMAT = "sor_sb3 policy 1"
INSTALL = "pip install 'sor-sb3[onnx]'"
_FLOAT32 = np.dtype(np.float32)
_DIGEST = b"\x72\x4a\x0a\x06sha256\x12\x40"  # ModelProto.metadata_props: a key, and 64 bytes of value to follow


def sealed(model: bytes) -> bytes:
    """A serialised ONNX model with one metadata property more at its end: the SHA-256 of all that is before."""
    return model + _DIGEST + sha256(model).hexdigest().encode()


class _OneRow(threading.local):
    """Inputs and output of one observation, bound once: a run of one row then copies nothing else. One a thread."""

    def __init__(self, runtime: Any, session: Any, with_masks: bool) -> None:
        inputs = {"observation": np.zeros((1, session.get_inputs()[0].shape[1]), np.float32)}
        if with_masks:
            inputs["action_masks"] = np.zeros((1, session.get_inputs()[1].shape[1]), np.bool_)
        action = session.run(["action"], inputs)[0]
        binding = session.io_binding()
        for name, array in inputs.items():  # on a CPU an OrtValue holds the array itself
            binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output("action", runtime.OrtValue.ortvalue_from_numpy(action))
        row = inputs["observation"][0]
        self.bound = row, np.ones_like(row), inputs.get("action_masks"), action[0, ...], binding


class OnnxPolicy:
    """The most likely actions of a trained policy, from one ONNX file.

    Made by :meth:`load` of a file that :func:`sor_sb3.export_onnx` or ``sor-sb3 export`` wrote. ``predict`` answers as
    SB3's ``model.predict(..., deterministic=True)``, to 1e-5 for actions in [-1, 1]. Observations are raw: the model's
    normalisation is in the file. Threads may share one policy.

        >>> import numpy as np, tempfile, sor_sb3
        >>> from stable_baselines3 import PPO
        >>> venv = sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=1, seed=0)
        >>> model = PPO("MlpPolicy", venv, device="cpu", seed=0)  # .learn(...), beforehand and elsewhere
        >>> file = tempfile.mkdtemp() + "/policy.onnx"
        >>> sor_sb3.export_onnx(model, file)
        >>> policy = sor_sb3.OnnxPolicy.load(file)  # live: neither torch nor SB3 is imported
        >>> observation = venv.reset()[0]
        >>> action, _ = policy.predict(observation)
        >>> bool(np.allclose(action, model.predict(observation, deterministic=True)[0], atol=1e-5))
        True

    Raises:
        UserError: ONNX Runtime is not installed, or `data` is not the content of such a file or damaged.

    Attributes:
        about: the file's metadata: "source", "inputs" and "outputs" (each with shape, type and meaning), and for an
            exported run "env", "market" and "venues".
        n_features: numbers in an observation, D.
        n_actions: numbers in an action, A, or how many actions there are to choose from.
        is_discrete: whether an action is the index of a choice.
        takes_masks: whether ``predict`` obeys action masks.
    """

    kind: ClassVar[str] = "learned"

    def __init__(self, data: bytes) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise UserError(f"ONNX Runtime cannot be imported ({error}); install it with: {INSTALL}") from None
        if sealed(data[: -len(_DIGEST) - 64]) != data:
            raise UserError("no policy that sor-sb3 export wrote, or damaged; export the policy again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._data = data
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        held = self._session.get_modelmeta().custom_metadata_map
        if held.pop("format", None) != FORMAT:
            raise UserError(f"a file of another version; expected {FORMAT}: export the policy again")
        self.about: dict[str, Any] = {key: json.loads(text) for key, text in held.items() if key != "sha256"}
        inputs, action = self.about["inputs"], self.about["outputs"]["action"]
        self.n_features, self.n_actions = int(inputs["observation"]["shape"][1]), int(action["n_actions"])
        self.is_discrete, self.takes_masks = action["type"] == "int64", "action_masks" in inputs
        self._row_shape = (self.n_features,)
        state = inputs.get("hidden_state")
        self._state_size = (state["shape"][0], state["shape"][2]) if state else None
        self._outputs = list(self.about["outputs"])
        self._run_bound = self._session.run_with_iobinding
        self._one = None if state else _OneRow(onnxruntime, self._session, self.takes_masks)

    def __repr__(self) -> str:
        return f"OnnxPolicy({self.about['source']}: {self.n_features} features, {self.n_actions} actions)"

    def __reduce__(self) -> tuple[type[OnnxPolicy], tuple[bytes]]:
        return OnnxPolicy, (self._data,)

    @classmethod
    def load(cls, path: str | Path) -> OnnxPolicy:
        """Read an exported file.

        Raises:
            UserError: the file cannot be read, is another kind of file or damaged; or ONNX Runtime is not installed.
        """
        try:
            return cls(Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); expected a file of sor-sb3 export") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the file; a kill leaves the old file or the new one.

        Raises:
            UserError: the file cannot be written.
        """
        write_bytes(Path(path), self._data)

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Most likely actions, as SB3's ``predict(..., deterministic=True)`` gives them.

        Args:
            observation: one row (D,) or a batch (n, D), taken as float32.
            state: hidden and cell states, two arrays (layers, n, H) of a recurrent policy; others hand it back.
            episode_start: bool (n,), where an episode begins and a recurrent policy forgets its state.
            deterministic: True.
            action_masks: bool (n, A), what is allowed; obeyed only by a policy that was trained with masks.

        Returns:
            Actions: float32 (A,) or (n, A), int64 () or (n,) where an action is the index of a choice; and the next
            state.

        Raises:
            UserError: an argument has a wrong shape, is not finite, or `deterministic` is False.
        """
        if not deterministic:
            remedy = "expected True, or use the model's own predict to draw actions"
            raise UserError(f"deterministic is False; an exported policy has the most likely actions only: {remedy}")
        if self._one is None or type(observation) is not np.ndarray or observation.shape != self._row_shape:
            return self._predict_batch(observation, state, episode_start, action_masks)
        row, ones, masks, action, binding = self._one.bound
        try:
            row[:] = observation
        except (TypeError, ValueError):
            self._refuse_observation(f"an array of {observation.dtype}")
        if not isfinite(row.dot(ones)):
            self._refuse_numbers(row[np.newaxis])
        if masks is not None:
            masks[:] = True if action_masks is None else self._checked_masks(action_masks, 1)
        self._run_bound(binding)
        return action.copy(), state

    def _predict_batch(self, observation: Any, state: Any, episode_start: Any, masks: Any) -> tuple[np.ndarray, Any]:
        try:
            rows = np.asarray(observation, _FLOAT32)
        except (TypeError, ValueError):
            self._refuse_observation(type(observation).__name__)
        is_one, rows = rows.shape == self._row_shape, np.atleast_2d(rows)
        if rows.shape[1:] != self._row_shape:
            self._refuse_observation(f"an array of shape {rows.shape}")
        if not np.isfinite(rows.sum(axis=1)).all():
            self._refuse_numbers(rows)
        feed: dict[str, np.ndarray] = {"observation": rows}
        if self._state_size is not None:
            feed.update(self._state_feed(state, episode_start, len(rows)))
        elif self.takes_masks:
            everything = np.ones((len(rows), self.n_actions), np.bool_)
            feed["action_masks"] = everything if masks is None else self._checked_masks(masks, len(rows))
        if len(rows) == 0:  # of which ONNX Runtime can make no shape
            return (np.zeros(0, np.int64) if self.is_discrete else np.zeros((0, self.n_actions), _FLOAT32)), state
        actions, *following = self._session.run(self._outputs, feed)
        return (actions[0, ...] if is_one else actions), (tuple(following) or state)

    def _state_feed(self, state: Any, episode_start: Any, n: int) -> dict[str, np.ndarray]:
        layers, size = self._state_size or (0, 0)
        shape = (layers, n, size)
        if state is None:
            state = (np.zeros(shape), np.zeros(shape))
        elif len(state) != 2 or any(np.shape(part) != shape for part in state):
            shapes = [np.shape(part) for part in state]
            raise UserError(f"state has shapes {shapes}; expected two arrays {shape}, as predict gave them")
        starts = np.zeros(n, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_).reshape(-1)
        if len(starts) != n:
            raise UserError(f"episode_start has {len(starts)} numbers; expected one for each of {n} observations")
        hidden, cell = (np.asarray(part, _FLOAT32) for part in state)
        return {"hidden_state": hidden, "cell_state": cell, "episode_start": starts}

    def _checked_masks(self, action_masks: Any, n: int) -> np.ndarray:
        masks = np.asarray(action_masks)
        shape = (n, self.n_actions)
        if masks.shape != shape and (n != 1 or masks.shape != shape[1:]):
            raise UserError(f"action_masks have shape {masks.shape}; expected {shape}")
        return masks.astype(np.bool_, copy=False).reshape(shape)

    def _refuse_observation(self, what: str) -> NoReturn:
        shapes = f"({self.n_features},) or (n, {self.n_features})"
        raise UserError(f"observation is {what}; expected numbers of shape {shapes}, as the policy was trained on")

    def _refuse_numbers(self, rows: np.ndarray) -> NoReturn:
        for row, column in np.argwhere(~np.isfinite(rows)):
            value = rows[row, column]
            raise UserError(f"observation holds {value} at row {row}, feature {column}; expected finite numbers")
        raise UserError("the sum of the observation's features is not finite; expected features of order one")
