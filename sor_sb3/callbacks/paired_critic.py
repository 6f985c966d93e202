"""Advantages of envs that play the same scenario: a critic fitted to their differences, and a leave-one-out baseline.

SB3's PPO and A2C fit a critic to absolute returns, one gradient step a batch. A router's choice changes what the rest
of the order costs by a hundredth of what scenarios differ by, so that such a critic says little of what a share costs
that is still to be filled, and advantages that bootstrap from it teach to leave shares unfilled. Envs that play the
same scenario with different actions differ by their actions alone; a critic that is fitted to those differences prices
what is left, and the mean of the others is a baseline that takes the scenario's luck out of the advantages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sor_sb3.algorithms.policies import leave_critic_idle

BATCH = 1024  # rows of a step of the critic
PAIRED_WEIGHT = 20.0  # of the error in differences, beside the error itself: about the ratio of the two noises
RIDGE = 1e-4  # of the first fit of the critic's last layer


def returns_to_go(rewards: np.ndarray, ends: np.ndarray, last_values: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Discounted sums (T, n) of rewards to the episode's end, or the rollout's and `last_values` (n,) from there.

    `ends` (T, n) says which steps ended an episode.

    >>> returns_to_go(np.array([[1.0], [2.0], [4.0]]), np.array([[0], [1], [0]]), np.array([8.0])).ravel().tolist()
    [3.0, 2.0, 12.0]
    """
    returns, later = np.zeros_like(rewards), last_values
    for t in range(len(rewards) - 1, -1, -1):
        later = rewards[t] + gamma * np.where(ends[t], 0.0, later)
        returns[t] = later
    return returns


def less_the_others(values: np.ndarray, group: int) -> np.ndarray:
    """Values (T, n) less the mean of the others in each group of neighbours (Kool, van Hoof and Welling 2019).

    >>> less_the_others(np.array([[1.0, 3.0, 5.0, 5.0]]), 2).tolist()
    [[-2.0, 2.0, 0.0, 0.0]]
    """
    if group == 1:
        return values
    groups = values.reshape(len(values), -1, group)
    others = (groups.sum(axis=2, keepdims=True) - groups) / (group - 1)
    return (groups - others).reshape(values.shape)


def spread_of_scenarios(values: np.ndarray, group: int, power: float) -> np.ndarray:
    """By how much the members of each group of values (T, n) differ, over all T, relative to other groups; mean 1.

    A root mean square, to a `power`. The same number stands at all places of a group, (T, n).

    >>> spread_of_scenarios(np.array([[1.0, 3.0, 10.0, 4.0]]), 2, 1.0).tolist()
    [[0.5, 0.5, 1.5, 1.5]]
    """
    groups = values.reshape(len(values), -1, group)
    apart = groups - groups.mean(axis=2, keepdims=True)
    spread = np.sqrt((apart**2).mean(axis=(0, 2), keepdims=True))
    spread = np.maximum(spread, 1e-3 * spread.max() + 1e-30) ** power  # a scenario in which all are alike stays small
    return np.broadcast_to(spread / spread.mean(), groups.shape).reshape(values.shape)


class PairedCriticCallback(BaseCallback):
    """Fits the critic after each rollout, before the actor learns, and computes the rollout's advantages from it.

    For PPO, A2C and TRPO with ``vf_coef=0``, which leave the critic to this callback, on an env
    of ``make_vec_env(..., envs_per_scenario=...)``, and a policy whose critic shares no parameter with the actor. The
    critic takes `updates` steps of Adam with `learning_rate` on squared errors against Monte-Carlo returns and, where
    `envs_per_scenario` is above 1, on squared errors of differences within a scenario. Advantages are SB3's, with the
    algorithm's ``gae_lambda``, less the mean of the others in the scenario: their expectation given the state is
    unchanged, since a scenario does not depend on the actions taken in it.

    With a `spread_power` above 0 the critic's errors and the advantages are divided by what the envs of their scenario
    differ by, to that power: at 1 all scenarios count alike. Where markets differ tenfold in cost, as in a family, the
    dearest would otherwise be all that is learned.
    """

    def __init__(
        self, envs_per_scenario: int, updates: int = 40, learning_rate: float = 3e-3, spread_power: float = 0.0
    ) -> None:
        super().__init__()
        self.envs_per_scenario, self.updates, self.learning_rate = envs_per_scenario, updates, learning_rate
        self.spread_power = spread_power
        self._state: dict[str, Any] | None = None
        self._fitted = False

    def _on_training_start(self) -> None:
        self._critic = critic_parameters(self._policy)
        self._optimizer = th.optim.Adam(self._critic, lr=self.learning_rate, fused=True)
        # TRPO differentiates by every parameter
        self._is_left_alone = isinstance(self.model, PPO | A2C) and self.model.vf_coef == 0.0
        if self._is_left_alone:
            leave_critic_idle(self._policy)
        self._let_learn(False)
        if self._state is not None:
            self._optimizer.load_state_dict(self._state)
            self._state = None

    @property
    def _policy(self) -> ActorCriticPolicy:
        policy = self.model.policy
        assert isinstance(policy, ActorCriticPolicy)
        return policy

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer, policy = self.model.rollout_buffer, self._policy  # type: ignore[attr-defined]
        assert isinstance(buffer, RolloutBuffer)
        policy.set_training_mode(True)
        ends = np.append(buffer.episode_starts[1:], self.model._last_episode_starts[None], axis=0)  # type: ignore[index]
        rows = th.as_tensor(buffer.observations, device=policy.device).reshape(-1, *buffer.observations.shape[2:])
        returns = returns_to_go(buffer.rewards, ends, self._last_values().cpu().numpy().ravel(), buffer.gamma)
        targets = th.as_tensor(returns.reshape(-1, self.envs_per_scenario), device=policy.device)
        if not self._fitted:
            fit_last_layer(policy, rows, targets.reshape(-1))
            self._fitted = True
        groups = rows.reshape(*targets.shape, -1)
        spread = th.as_tensor(self._spread(returns).reshape(targets.shape), dtype=th.float32, device=policy.device)
        self._let_learn(True)
        for _ in range(self.updates):
            at = th.randint(len(targets), (max(BATCH // self.envs_per_scenario, 1),))
            values = policy.predict_values(groups[at].flatten(0, 1))
            error = (values.reshape(-1, self.envs_per_scenario) - targets[at]) / spread[at]
            paired = error - error.mean(dim=1, keepdim=True)
            loss = (error**2).mean() + PAIRED_WEIGHT * (paired**2).mean()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        self._let_learn(False)
        with th.no_grad():
            values = policy.predict_values(rows)
        buffer.values = values.cpu().numpy().reshape(buffer.values.shape)
        buffer.compute_returns_and_advantage(self._last_values(), self.model._last_episode_starts)  # type: ignore[arg-type]
        advantages = less_the_others(buffer.advantages, self.envs_per_scenario)
        buffer.advantages = (advantages / self._spread(advantages)).astype(np.float32)
        if self._is_left_alone:  # SB3's own loss is of the values that nobody computed
            self.logger.record("train/value_loss", float(((returns - buffer.values) ** 2).mean()))
        explained = 1.0 - (returns - buffer.values).var() / max(returns.var(), 1e-30)
        self.logger.record("train/critic_explained", float(explained))

    def _let_learn(self, whether: bool) -> None:
        """Switch the critic's gradients, where the algorithm leaves it alone: passes without them are shorter."""
        for parameter in self._critic if self._is_left_alone else ():
            parameter.requires_grad_(whether)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        if self.spread_power == 0.0 or self.envs_per_scenario == 1:
            return np.ones_like(values)
        return spread_of_scenarios(values, self.envs_per_scenario, self.spread_power)

    def _last_values(self) -> th.Tensor:
        with th.no_grad():
            return self._policy.predict_values(self._policy.obs_to_tensor(self.model._last_obs)[0])  # type: ignore[arg-type]

    def get_state(self) -> dict[str, Any]:
        """What outlives a rollout, for an exact resume."""
        return {"fitted": self._fitted, "optimizer": self._optimizer.state_dict()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave, before training starts."""
        self._fitted, self._state = state["fitted"], state["optimizer"]


def critic_parameters(policy: ActorCriticPolicy) -> list[nn.Parameter]:
    """Parameters that values depend on and actions do not."""
    extractor = policy.mlp_extractor
    body: Any = extractor.critic if hasattr(extractor, "critic") else extractor.value_net
    return [*body.parameters(), *policy.value_net.parameters()]


def fit_last_layer(policy: ActorCriticPolicy, rows: th.Tensor, targets: th.Tensor) -> None:
    """Set the critic's last layer by least squares, from rows (n, D) to `targets` (n,): the level of costs at once."""
    with th.no_grad():
        features: Any = policy.extract_features(rows, policy.vf_features_extractor)
        latent = policy.mlp_extractor.forward_critic(features)
        inputs = th.cat((latent, th.ones(len(latent), 1)), dim=1).double()
        gram = inputs.T @ inputs + RIDGE * len(inputs) * th.eye(inputs.shape[1], dtype=th.float64)
        solution = th.linalg.solve(gram, inputs.T @ targets.double())
        policy.value_net.weight.copy_(solution[None, :-1])
        policy.value_net.bias.copy_(solution[-1:])
