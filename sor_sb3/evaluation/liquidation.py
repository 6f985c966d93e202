"""Score policies in closed-form markets against the best policy there is, which a dynamic programme gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sor_sb3.envs.core import whole_number
from sor_sb3.envs.liquidation import LiquidationCore
from sor_sb3.evaluation.statistics import Estimate, mean_with_interval
from sor_sb3.market.liquidation import DarkPoolLiquidation
from sor_sb3.policies.protocol import Policy
from sor_sb3.policies.rules.cartea_jaimungal import CarteaJaimungal
from sor_sb3.policies.rules.kratz_schoeneborn import KratzSchoeneborn


@dataclass(frozen=True)
class LiquidationScore:
    """What a policy costs on average, less is better, and by how much that is above the best policy's cost.

    Attributes:
        cost: its mean with an interval; negative is earned.
        optimal_cost: the best policy's expected cost, exact.
        excess: `cost` above that, as a share of the optimal cost's size, paired by scenario with the best policy.
    """

    cost: Estimate
    optimal_cost: float
    excess: Estimate


def best_policy(market: Any) -> KratzSchoeneborn | CarteaJaimungal:
    """The best policy of a closed-form market's env."""
    return KratzSchoeneborn(market) if isinstance(market, DarkPoolLiquidation) else CarteaJaimungal(market)


def liquidation_costs(core: LiquidationCore, policy: Any, seed: int, deterministic: bool = True) -> np.ndarray:
    """Costs (n,) of an episode of each member, whose seeds begin with `seed`; `policy` has SB3's ``predict``."""
    core.seed([seed + i for i in range(core.n)])
    rows, cost, running = core.reset(), np.zeros(core.n), np.ones(core.n, dtype=bool)
    while running.any():
        rows, rewards, done = core.step(policy.predict(rows, deterministic=deterministic)[0])
        cost -= np.where(running, rewards, 0.0)
        running &= ~done
    return cost


def score_liquidation(
    policy: Any,
    env: str,
    market: Any,
    scenarios: int = 20_000,
    seed: int = 10_000,
    data_split: str = "test",
    deterministic: bool = True,
) -> LiquidationScore:
    """Score a policy with SB3's ``predict`` beside the best one, on the same scenarios.

    Args:
        policy: whose answers are scored.
        env: "DarkPoolLiquidation-v1" or "LimitOrderLiquidation-v1".
        market: preset's name, YAML file, or specification.
        scenarios: how many; scenario j has `seed` + j.
        seed: of the first.
        data_split: "train", "validation" or "test".
        deterministic: whether a learned policy takes its mode.

    Raises:
        UserError: env, market or data split is unknown, or the env refuses an answer.
    """
    core = LiquidationCore(env, market, whole_number("scenarios", scenarios, 2), data_split)
    best: Policy = best_policy(core.market)
    costs = liquidation_costs(core, policy, seed, deterministic)
    lowest = best.optimal_cost  # type: ignore[attr-defined]
    differences = (costs - liquidation_costs(core, best, seed)) / abs(lowest)
    return LiquidationScore(mean_with_interval(costs[None]), lowest, mean_with_interval(differences[None]))
