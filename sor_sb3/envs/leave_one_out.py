"""Envs that play the same scenario, rewarded relative to each other: a baseline without a network. No market logic."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sor_sb3.envs.action_adapters import ACTION_ADAPTERS
from sor_sb3.envs.core import whole_number
from sor_sb3.errors import UserError


def check_envs_per_scenario(env_id: str, n_envs: int, envs_per_scenario: int) -> None:
    """Raise a `UserError` unless so many envs can be divided into groups that play one scenario each."""
    whole_number("n_envs", n_envs, 1)
    if whole_number("envs_per_scenario", envs_per_scenario) < 1 or n_envs % envs_per_scenario:
        expected = "expected n_envs to be a multiple of envs_per_scenario, such as 512 and 8"
        raise UserError(f"envs_per_scenario is {envs_per_scenario} and n_envs {n_envs}; {expected}")
    name = str(env_id).removeprefix("sor_sb3:")
    if envs_per_scenario > 1 and name in ACTION_ADAPTERS and ACTION_ADAPTERS[name].paced:
        why = "where an env whose order is filled early begins another scenario than its neighbours"
        raise UserError(f"envs_per_scenario is {envs_per_scenario}; expected 1 in {name}, {why}")


class LeaveOneOutBaseline(VecEnvWrapper):
    """Subtracts from each env's reward the mean reward of the others that play the same scenario, at the same step.

    A group is `envs_per_scenario` neighbours, at least 2, whose episodes have equally many steps. A scenario does not
    depend on the actions taken in it, so the others' rewards are independent of an env's own actions: expected
    policy gradients stay the same, and the luck of the scenario leaves their variance. The rewards of a group sum
    to 0, so they serve policy gradients alone; an episode's cost is in its info, and a monitor belongs inside. (A
    leave-one-out baseline: Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free!";
    here over common random numbers.)
    """

    def __init__(self, venv: VecEnv, envs_per_scenario: int) -> None:
        super().__init__(venv)
        self.envs_per_scenario = envs_per_scenario

    def reset(self) -> VecEnvObs:
        """Reset the envs."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step the envs.

        Raises:
            RuntimeError: episodes of one scenario do not end together.
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        groups, ends = rewards.reshape(-1, self.envs_per_scenario), dones.reshape(-1, self.envs_per_scenario)
        if (ends != ends[:, :1]).any():
            raise RuntimeError("episodes of one scenario did not end together; their steps no longer correspond")
        others = (groups.sum(axis=1, dtype=np.float64, keepdims=True) - groups) / (self.envs_per_scenario - 1)
        return observations, (groups - others).astype(np.float32).reshape(-1), dones, infos

    def get_state(self) -> None:
        """Nothing here changes in training."""

    def set_state(self, state: None) -> None:
        """Put back what `get_state` gave."""
