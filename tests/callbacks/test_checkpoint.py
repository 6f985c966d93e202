"""Exact resume: training that was stopped and went on leaves the bits of training that was not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecNormalize

from sor_sb3.algorithms.policies import SplitPolicy, VenuePolicy
from sor_sb3.algorithms.reinforce import REINFORCE
from sor_sb3.callbacks.checkpoint import (
    ExactCheckpointCallback,
    can_checkpoint,
    checkpoints,
    is_whole,
    latest_checkpoint,
)
from sor_sb3.callbacks.evaluation import RoutingEvalCallback
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.simulator.batch import BatchSimulator

th.set_num_threads(1)

STEPS, EVERY = 1600, 300
ALGORITHMS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 20, "batch_size": 32, "n_epochs": 2},
    A2C: {"n_steps": 5},
    REINFORCE: {"n_steps": 20},  # episodes do not fit in a rollout, so steps wait across checkpoints
}

OTHERS: dict[Any, dict[str, Any]] = {
    TRPO: {"n_steps": 20, "batch_size": 40},
    RecurrentPPO: {
        "n_steps": 20,
        "batch_size": 40,
        "n_epochs": 2,
        "policy": "MlpLstmPolicy",
        "policy_kwargs": {"lstm_hidden_size": 8},
    },
}


class Stopped(Exception):
    """Training was cut off."""


class StopAt(BaseCallback):
    """Cuts training off in the middle of a rollout."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.at = timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.at:
            raise Stopped
        return True


def make_model(algorithm: Any, normalize: bool = False, seed: int = 3, **options: Any) -> Any:
    venv = make_vec_env("OrderSplit-v1", market="us_equity", n_envs=4)
    venv = VecNormalize(venv) if normalize else venv
    arguments = {**{**ALGORITHMS, **OTHERS}[algorithm], "learning_rate": lambda left: 3e-3 * left, **options}
    policy = arguments.pop("policy", VenuePolicy)
    model = algorithm(policy, venv, seed=seed, device="cpu", **arguments)
    venv.seed(seed)
    return model


def evaluation(folder: Path) -> RoutingEvalCallback:
    return RoutingEvalCallback(Evaluator("OrderSplit-v1", "us_equity", 5, 1, "validation"), 400, folder)


def learn(model: Any, folder: Path, stop_at: int | None = None, resume: Path | None = None, keep: int = 0) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    judge = evaluation(folder)
    keeper = ExactCheckpointCallback(folder / "checkpoints", EVERY, {"a": "1"}, [judge], resume, keep)
    stop = [StopAt(stop_at)] if stop_at else []
    try:
        model.learn(STEPS, callback=CallbackList([judge, keeper, *stop]))
    except Stopped:
        pass
    return judge


def assert_same(one: Any, other: Any) -> None:
    for name, state in one.get_parameters().items():
        _assert_same_tree(state, other.get_parameters()[name], name)
    assert one.num_timesteps == other.num_timesteps
    assert one._n_updates == other._n_updates
    np.testing.assert_array_equal(one._last_obs, other._last_obs)


def assert_same_state(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


def _assert_same_tree(one: Any, other: Any, where: str) -> None:
    if isinstance(one, th.Tensor):
        assert th.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same_tree(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            _assert_same_tree(a, b, f"{where}[{i}]")
    else:
        assert one == other, where


def disturb() -> None:
    """What another process would have left in the global generators."""
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    th.manual_seed(99)


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_from_every_checkpoint_the_same_bits(algorithm, normalize, tmp_path):
    straight = make_model(algorithm, normalize)
    judge = learn(straight, tmp_path / "straight")
    kept = checkpoints(tmp_path / "straight" / "checkpoints")
    assert len(kept) >= 3
    for i, checkpoint in enumerate(kept):
        disturb()
        resumed = make_model(algorithm, normalize)
        judge_again = learn(resumed, tmp_path / str(i), resume=checkpoint)
        assert_same(straight, resumed)
        assert judge_again.get_state().keys() == judge.get_state().keys()
        assert judge_again.best_cost == judge.best_cost
        assert judge_again._timesteps == judge._timesteps
        np.testing.assert_array_equal(np.stack(judge_again._costs), np.stack(judge._costs))
        if normalize:
            one, other = straight.get_vec_normalize_env(), resumed.get_vec_normalize_env()
            np.testing.assert_array_equal(one.obs_rms.mean, other.obs_rms.mean)
            np.testing.assert_array_equal(one.ret_rms.var, other.ret_rms.var)
        assert [e["r"] for e in straight.ep_info_buffer] == [e["r"] for e in resumed.ep_info_buffer]


@pytest.mark.parametrize("algorithm", OTHERS)
def test_other_on_policy_algorithms_too(algorithm, tmp_path):
    straight = make_model(algorithm)
    learn(straight, tmp_path / "straight")
    disturb()
    resumed = make_model(algorithm)
    learn(resumed, tmp_path / "resumed", resume=checkpoints(tmp_path / "straight" / "checkpoints")[1])
    assert_same(straight, resumed)


def test_split_policies_too(tmp_path):
    straight = make_model(PPO, policy=SplitPolicy)
    learn(straight, tmp_path / "straight")
    disturb()
    resumed = make_model(PPO, policy=SplitPolicy)
    learn(resumed, tmp_path / "resumed", resume=checkpoints(tmp_path / "straight" / "checkpoints")[1])
    assert_same(straight, resumed)


def test_without_the_state_the_bits_differ(tmp_path):
    """The comparison above can fail: the weights alone are not enough."""
    straight = make_model(PPO)
    learn(straight, tmp_path / "straight")
    checkpoint = checkpoints(tmp_path / "straight" / "checkpoints")[-1]
    model = make_model(PPO)
    model.set_parameters(str(checkpoint / "model.zip"))
    model.num_timesteps = int(checkpoint.name.partition("_")[0])
    model.learn(STEPS - model.num_timesteps, reset_num_timesteps=False)
    with pytest.raises(AssertionError):
        assert_same(straight, model)


def test_state_dependent_exploration(tmp_path):
    options = {"use_sde": True, "sde_sample_freq": 3, "policy": "MlpPolicy"}
    straight = make_model(PPO, **options)
    learn(straight, tmp_path / "straight")
    resumed = make_model(PPO, **options)
    learn(resumed, tmp_path / "resumed", resume=checkpoints(tmp_path / "straight" / "checkpoints")[1])
    assert_same(straight, resumed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stopped_in_a_rollout_twice(algorithm, tmp_path):
    straight = make_model(algorithm)
    learn(straight, tmp_path / "straight")
    folder = tmp_path / "stopped"
    for stop_at in (700, 1300):
        disturb()
        learn(make_model(algorithm), folder, stop_at, latest_checkpoint(folder / "checkpoints"), keep=2)
        assert len(checkpoints(folder / "checkpoints")) <= 2
    resumed = make_model(algorithm)
    learn(resumed, folder, resume=latest_checkpoint(folder / "checkpoints"), keep=2)
    assert_same(straight, resumed)
    logs = [dict(np.load(tmp_path / name / "evaluations.npz")) for name in ("straight", "stopped")]
    for key in logs[0]:
        np.testing.assert_array_equal(logs[0][key], logs[1][key])


def tear_last_byte(checkpoint: Path) -> None:
    file = checkpoint / "state.pkl"
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "model.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / "model.zip").write_bytes(content)


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "model.zip").unlink()


def tear_the_digest(checkpoint: Path) -> None:
    (checkpoint / "digest.json").write_text('{"model.zip": "12', encoding="utf-8")


def lose_the_digest(checkpoint: Path) -> None:
    (checkpoint / "digest.json").unlink()


def empty_the_digest(checkpoint: Path) -> None:
    (checkpoint / "digest.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    "tear", [tear_last_byte, flip_a_bit, lose_a_file, tear_the_digest, lose_the_digest, empty_the_digest]
)
def test_a_torn_checkpoint_is_passed_over(tear, tmp_path):
    learn(make_model(A2C), tmp_path, stop_at=1000)
    newest, before = checkpoints(tmp_path / "checkpoints")[:2]
    assert latest_checkpoint(tmp_path / "checkpoints") == newest
    tear(newest)
    assert not is_whole(newest)
    assert latest_checkpoint(tmp_path / "checkpoints") == before


def test_half_written_folders_are_no_checkpoints(tmp_path):
    assert latest_checkpoint(tmp_path / "none") is None
    (tmp_path / ".000000000300_steps.123").mkdir()
    assert checkpoints(tmp_path) == []


def test_a_torn_checkpoint_of_the_same_moment_is_replaced(tmp_path):
    straight = make_model(A2C)
    learn(straight, tmp_path / "straight")
    folder = tmp_path / "stopped"
    learn(make_model(A2C), folder, stop_at=1000, keep=2)
    newest = checkpoints(folder / "checkpoints")[0]
    tear_last_byte(newest)
    resumed = make_model(A2C)
    learn(resumed, folder, resume=latest_checkpoint(folder / "checkpoints"))
    assert is_whole(newest)
    assert_same(straight, resumed)


def test_other_versions_are_refused(tmp_path):
    learn(make_model(A2C), tmp_path, stop_at=700)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="made with a 1 \\(here 2\\)"):
        ExactCheckpointCallback(tmp_path / "checkpoints", EVERY, {"a": "2"}, resume_from=checkpoint)


def test_a_checkpoint_opens_as_any_saved_model(tmp_path):
    model = make_model(PPO, normalize=True)
    learn(model, tmp_path, stop_at=1000)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert PPO.load(checkpoint / "model.zip", device="cpu").num_timesteps == int(checkpoint.name.partition("_")[0])
    VecNormalize.load(str(checkpoint / "vecnormalize.pkl"), make_vec_env("OrderSplit-v1", market="us_equity"))
    assert set(json.loads((checkpoint / "digest.json").read_text())) == {"model.zip", "state.pkl", "vecnormalize.pkl"}


def test_off_policy_models_are_not_resumed_exactly(tmp_path):
    venv = make_vec_env("OrderSplit-v1", market="notebook", n_envs=4)
    model = SAC("MlpPolicy", venv, learning_starts=50, buffer_size=200, batch_size=8, device="cpu")
    assert not can_checkpoint(model)
    model.learn(400, callback=ExactCheckpointCallback(tmp_path / "checkpoints", 100, {}))
    assert not (tmp_path / "checkpoints").exists()


def test_evaluation_draws_from_no_generator(tmp_path):
    model = make_model(PPO)
    judge = evaluation(tmp_path)
    model.learn(80, callback=judge)
    disturb()
    spaces = model.action_space.np_random.bit_generator.state
    env = model.env.unwrapped.core.get_state()
    before = random.getstate(), np.random.get_state()[1].copy(), th.get_rng_state()  # noqa: NPY002
    judge._evaluate()
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert th.equal(th.get_rng_state(), before[2])
    assert model.action_space.np_random.bit_generator.state == spaces
    after = model.env.unwrapped.core.get_state()
    np.testing.assert_array_equal(after["episodes"], env["episodes"])
    assert_same_state(after["simulator"], env["simulator"])


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
def test_a_simulator_put_back_goes_on_the_same(market):
    from sor_sb3.market.loading import load_market

    spec = load_market(market)
    one, other = BatchSimulator(spec, 6), BatchSimulator(spec, 6)
    seeds, episodes = np.arange(6, dtype=np.uint64), np.zeros(6, dtype=np.int64)
    weights = np.full((6, spec.n_venues), 1 / spec.n_venues)
    one.reset(seeds, episodes)
    for _ in range(3):
        one.step(weights)
    other.set_state(one.get_state())
    for _ in range(3):
        results = [[part.copy() for part in simulator.step(weights)] for simulator in (one, other)]
        for mine, theirs in zip(*results, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert_same_state(one.get_state(), other.get_state())
