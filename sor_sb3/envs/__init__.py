"""Three adapters of one batched env: ``gym.Env``, SB3 ``VecEnv``, Gymnasium ``VectorEnv``. Import registers ids."""

from __future__ import annotations

import gymnasium as gym

ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1")
LIQUIDATION_MARKETS = {
    "DarkPoolLiquidation-v1": "dark_pool_liquidation",
    "LimitOrderLiquidation-v1": "limit_order_liquidation",
}
"""Envs of closed-form markets, each with the model of its market; the preset has the same name."""


def register_envs() -> None:
    """Register the env ids with Gymnasium, once."""
    for env_id in (*ENV_IDS, *LIQUIDATION_MARKETS):
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="sor_sb3.envs.gym_env:RoutingEnv",
                vector_entry_point="sor_sb3.envs.gym_vector_env:RoutingVectorEnv",
                kwargs={"env_id": env_id, "market": LIQUIDATION_MARKETS.get(env_id, "us_equity")},
            )
