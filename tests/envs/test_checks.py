"""`check_vec_env` passes sound VecEnvs and catches a broken one per trap, in words that name the trap."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sor_sb3.envs.checks import check_vec_env
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv

MARKETS = ("notebook", "notebook_blind", "us_equity")
ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1")


def single(env_id: str, market: str) -> gym.Env:
    return gym.make(f"sor_sb3:{env_id}", market=market).unwrapped


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_our_vec_env_keeps_the_contract_bare_and_wrapped(env_id, market):
    bare = RoutingVecEnv(env_id, market, n_envs=3)
    for venv in (
        bare,
        VecMonitor(bare),
        VecNormalize(VecMonitor(bare)),
        VecNormalize(bare, norm_reward=False),
    ):
        check_vec_env(venv, steps=110, seed=5, make_single=lambda i: single(env_id, market))


def test_a_batch_of_one_keeps_the_contract_too():
    check_vec_env(RoutingVecEnv("VenueSelect-v1", "us_equity", n_envs=1), steps=45)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_sb3s_dummy_vec_env_over_our_env_keeps_the_contract(env_id):
    venv = DummyVecEnv([lambda: single(env_id, "us_equity")] * 3)
    check_vec_env(venv, steps=60, make_single=lambda i: single(env_id, "us_equity"))
    check_vec_env(VecNormalize(venv), steps=60, make_single=lambda i: single(env_id, "us_equity"))


def test_sb3s_dummy_vec_env_over_other_envs_keeps_the_contract():
    check_vec_env(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2), make_single=lambda i: gym.make("CartPole-v1"))
    check_vec_env(DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2), steps=210)


class CountedImages(SimpleMultiObsEnv):
    """SB3's env with Dict observations, made a function of its seed."""

    def __init__(self) -> None:
        super().__init__(random_start=False)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if seed is not None:
            assert isinstance(self.observation_space, spaces.Dict)
            for space in self.observation_space.spaces.values():
                space.seed(seed)
        return super().reset(seed=seed, options=options)


def test_dict_observations_are_understood():
    venv = DummyVecEnv([CountedImages] * 2)
    venv.set_attr("max_count", 20)
    check_vec_env(venv, steps=60)


def test_statistics_of_vec_normalize_stay_as_they_were():
    venv: Any = VecNormalize(RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=2))
    mean = venv.obs_rms.mean.copy()
    check_vec_env(venv, steps=45)
    assert venv.training and np.array_equal(venv.obs_rms.mean, mean)


# -------------------------------------------------------------------------------------- one class per trap


class _Broken(RoutingVecEnv):
    says: ClassVar[str]


class ReturnsItsBuffer(_Broken):
    says = "internal buffer"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        if not hasattr(self, "buffer"):
            self.buffer = observations
        self.buffer[:] = observations
        return self.buffer, rewards, dones, infos


class ReturnsItsResetBuffer(_Broken):
    says = "internal buffer"

    def reset(self):
        self.first = super().reset()
        return self.first

    def step_wait(self):
        result = super().step_wait()
        self.first[:] = result[0]
        return result


class ReusesRewards(_Broken):
    says = "rewards returned by one step changed"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        self.rewards = getattr(self, "rewards", rewards)
        self.rewards[:] = rewards
        return observations, self.rewards, dones, infos


class ReusesDones(_Broken):
    says = "dones returned by one step changed"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        self.kept = getattr(self, "kept", dones)
        self.kept[:] = dones
        return observations, rewards, self.kept, infos


class ReadsReturnedRewards(_Broken):
    """Fresh arrays, but the env pays the last rewards over again: what SB3 adds to them comes back."""

    says = "writing into what reset"
    last: Any

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        if hasattr(self, "last") and len(self.last) == len(rewards):
            rewards = (rewards + np.float32(0.0) * self.last + (self.last > 70)).astype(np.float32)
        self.last = rewards
        return observations, rewards, dones, infos


class LosesPrecision(_Broken):
    says = "dtype float64"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations.astype(np.float64), rewards, dones, infos


class DoubleRewards(_Broken):
    says = "rewards have dtype float64"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards.astype(np.float64), dones, infos


class ColumnRewards(_Broken):
    says = "rewards have shape"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards[:, None], dones, infos


class IntegerDones(_Broken):
    says = "dones have dtype"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards, dones.astype(np.int64), infos


class SharesInfos(_Broken):
    says = "share an info dict"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards, dones, infos if dones.any() else [{}] * self.num_envs


class ReusesInfos(_Broken):
    says = "info dict of an earlier step"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        if not dones.any():
            self.plain = getattr(self, "plain", [{} for _ in infos])
            infos = list(self.plain)
        return observations, rewards, dones, infos


class GivesATupleOfInfos(_Broken):
    says = "infos are a tuple"

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards, dones, tuple(infos)


class ForgetsTheTerminalObservation(_Broken):
    says = "lacks terminal_observation"

    def step_wait(self):
        result = super().step_wait()
        for info in result[3]:
            info.pop("terminal_observation", None)
        return result


class ForgetsTheTruncation(_Broken):
    says = "TimeLimit.truncated"

    def step_wait(self):
        result = super().step_wait()
        for info in result[3]:
            info.pop("TimeLimit.truncated", None)
        return result


class TerminalIsAView(_Broken):
    says = "is a view of the returned rows"

    def step_wait(self):
        result = super().step_wait()
        for i in np.flatnonzero(result[2]):
            result[3][i]["terminal_observation"] = result[0][i]
        return result


class TerminalIsTheNextFirst(_Broken):
    says = "equals the next episode's first observation"

    def step_wait(self):
        result = super().step_wait()
        for i in np.flatnonzero(result[2]):
            result[3][i]["terminal_observation"] = result[0][i].copy()
        return result


class TerminalHasAWrongShape(_Broken):
    says = r"terminal_observation of env \d has shape"

    def step_wait(self):
        result = super().step_wait()
        for i in np.flatnonzero(result[2]):
            result[3][i]["terminal_observation"] = result[3][i]["terminal_observation"][None]
        return result


class TerminalAlways(_Broken):
    says = "is not done but has a terminal_observation"

    def step_wait(self):
        result = super().step_wait()
        for info, row in zip(result[3], result[0], strict=True):
            info.setdefault("terminal_observation", row.copy())
        return result


class LeavesResetInfos(_Broken):
    says = "an autoreset left reset_infos"

    def step_wait(self):
        kept = self.reset_infos[:]
        result = super().step_wait()
        self.reset_infos = kept
        return result


class LeavesResetInfosAtReset(_Broken):
    says = r"reset\(\) left reset_infos"

    def reset(self):
        kept = self.reset_infos
        observations = super().reset()
        self.reset_infos = kept
        return observations


class KeepsItsSeeds(_Broken):
    says = "did not consume the seeds"

    def _reset_seeds(self):
        pass


class KeepsItsOptions(_Broken):
    says = "did not consume the options"

    def reset(self):
        observations = super().reset()
        self._options = [{"old": True} for _ in range(self.num_envs)]
        return observations


class GivesEveryEnvOneSeed(_Broken):
    says = "env i of n must get the seed"

    def seed(self, seed=None):
        self._seeds = [seed] * self.num_envs
        return self._seeds


class IgnoresSeeds(_Broken):
    says = "playing the same seed and actions again"

    def reset(self):
        self.core.seed(np.random.default_rng().integers(2**31, size=self.num_envs).tolist())
        self._seeds = [None] * self.num_envs
        return super().reset()


class SeedsAtOnce(_Broken):
    says = "a seed given in mid-game"

    def seed(self, seed=None):
        seeds = super().seed(seed)
        if self.core.episodes[0] >= 0:
            self.core.seed(seeds)
        return seeds


class LosesSeedsAtAutoreset(_Broken):
    says = "lost before the next reset"

    def step_wait(self):
        result = super().step_wait()
        if result[2].any():
            self._reset_seeds()
        return result


class OneStreamForAll(_Broken):
    """Every member meets its neighbour's market: only a lone env can tell."""

    says = "differs from a lone env"

    def reset(self):
        if self._seeds[0] is not None:
            self._seeds = self._seeds[::-1]
        return super().reset()


class ReturnsATuple(_Broken):
    says = "keeps the infos in reset_infos"

    def reset(self):
        return super().reset(), {}


class WritesIntoActions(_Broken):
    says = "wrote into the caller's actions"

    def step_async(self, actions):
        super().step_async(actions.copy())
        actions[:] = 0


class KnowsEveryName(_Broken):
    says = "has_attr is True"

    def get_attr(self, attr_name, indices=None):
        try:
            return super().get_attr(attr_name, indices)
        except AttributeError:
            return [None] * self._count(indices)


class RaisesKeyError(_Broken):
    says = "env_method of an unknown name raised KeyError"

    def env_method(self, method_name, *args, indices=None, **kwargs):
        if not hasattr(self, method_name):
            raise KeyError(method_name)
        return super().env_method(method_name, *args, indices=indices, **kwargs)


class IgnoresIndices(_Broken):
    says = "with indices=0 returned 3 values"

    def get_attr(self, attr_name, indices=None):
        return super().get_attr(attr_name)


class WrapsInOne(_Broken):
    says = "env_is_wrapped with indices=None"

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False]


BROKEN = [kind for kind in _Broken.__subclasses__()]


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_trap_is_caught_and_named(kind):
    venv = kind("OrderSplit-v1", "us_equity", n_envs=3, seed=0)
    with pytest.raises(AssertionError, match=kind.says) as caught:
        check_vec_env(venv, steps=45, make_single=lambda i: single("OrderSplit-v1", "us_equity"))
    assert "\n" not in str(caught.value), "one sentence"


class _BrokenMasks(RoutingVecEnv):
    def _spoil(self, masks: list[np.ndarray]) -> Any:
        raise NotImplementedError

    def env_method(self, method_name, *args, indices=None, **kwargs):
        result = super().env_method(method_name, *args, indices=indices, **kwargs)
        return self._spoil(result) if method_name == "action_masks" else result


class ShortMasks(_BrokenMasks):
    says = "has shape"

    def _spoil(self, masks):
        return [mask[1:] for mask in masks]


class IntegerMasks(_BrokenMasks):
    says = "expected bool"

    def _spoil(self, masks):
        return [mask.astype(int) for mask in masks]


class EmptyMasks(_BrokenMasks):
    says = "allows nothing"

    def _spoil(self, masks):
        return [np.zeros_like(mask) for mask in masks]


class OneMask(_BrokenMasks):
    says = "gave 1 rows"

    def _spoil(self, masks):
        return masks[:1]


@pytest.mark.parametrize("kind", [ShortMasks, IntegerMasks, EmptyMasks, OneMask], ids=lambda kind: kind.__name__)
def test_broken_masks_are_caught(kind):
    with pytest.raises(AssertionError, match=kind.says):
        check_vec_env(kind("VenueSelect-v1", "us_equity", n_envs=2), steps=45)


def test_too_few_steps_to_see_an_episode_end_is_an_error():
    with pytest.raises(AssertionError, match="give more steps"):
        check_vec_env(RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=2), steps=5)


def test_an_infinite_action_box_is_an_error():
    venv = RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=2)
    venv.action_space = spaces.Box(-np.inf, np.inf, (8,), np.float32)
    with pytest.raises(AssertionError, match="infinite bounds"):
        check_vec_env(venv)
