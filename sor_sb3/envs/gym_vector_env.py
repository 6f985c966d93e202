"""The Gymnasium ``VectorEnv`` adapter of a batch of routing episodes (SAME_STEP autoreset). No logic of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sor_sb3.deprecation import renamed_arguments
from sor_sb3.envs.core import RoutingCore, whole_number
from sor_sb3.envs.liquidation import make_core
from sor_sb3.market.spec import MarketSpec


class RoutingVectorEnv(VectorEnv):
    """`num_envs` routing episodes in one compiled batch; env i equals a lone env seeded ``seed + i``."""

    @renamed_arguments(split="data_split")
    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        market: str | MarketSpec = "us_equity",
        data_split: str = "train",
        variance_reduction: bool = False,
        render_mode: str | None = None,
        risk_aversion: float = 0.0,
    ) -> None:
        options = {"variance_reduction": variance_reduction, "risk_aversion": risk_aversion}
        self.core: RoutingCore = make_core(env_id, market, num_envs, data_split, **options)
        self.num_envs, self.render_mode = self.core.n, render_mode
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every env; an integer seed s gives env i the seed s + i."""
        if isinstance(seed, (list, tuple, np.ndarray)):
            self.core.seed(list(seed))
        elif seed is not None:
            super().reset(seed=seed)
            self.core.seed([whole_number("seed", seed) + i for i in range(self.num_envs)])
        return self.core.reset(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One wave of a decision in every env; where an episode ends, `final_obs`, `final_info` keep its last row."""
        observations, rewards, done, ended = self.core.step_and_reset(actions)
        infos: dict[str, Any] = {}
        for i, (last, info) in ended.items():
            infos = self._add_info(infos, {"final_obs": last, "final_info": info}, i)
        return observations, rewards.astype(np.float64), done, np.zeros_like(done), infos
