"""The Gymnasium ``VectorEnv`` face of a batch of routing episodes (SAME_STEP autoreset). No logic of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.spec import MarketSpec


class RoutingVectorEnv(VectorEnv):
    """`num_envs` routing episodes in one compiled batch; env i equals a lone env seeded ``seed + i``."""

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        market: str | MarketSpec = "us_equity",
        data_split: str = "train",
        variance_reduction: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.core = RoutingCore(env_id, market, num_envs, data_split, variance_reduction)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every env; an integer seed s gives env i the seed s + i."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is not None:
            self.core.seed([seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed))
        return self.core.reset(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every env; where an episode ends, `final_obs` and `final_info` keep its last row."""
        observations, rewards, done = self.core.step(np.asarray(actions))
        infos: dict[str, Any] = {}
        if done.any():
            ended = np.flatnonzero(done)
            final = self.core.episode_infos(ended)
            for i, info in zip(ended, final, strict=True):
                infos = self._add_info(infos, {"final_obs": observations[i].copy(), "final_info": info}, int(i))
            observations[ended] = self.core.reset(ended)
        return observations, rewards.astype(np.float64), done, np.zeros_like(done), infos
