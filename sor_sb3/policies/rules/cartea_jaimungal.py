"""A position sold by resting orders alone: the formula of the best depth, and the best policy of its env.

Cartea, Jaimungal, Penalva 2015, "Algorithmic and High-Frequency Trading", section 8.2; the model is that of Gueant,
Lehalle, Fernandez-Tapia 2012, "Optimal portfolio liquidation with limit orders", arXiv:1106.3279, without risk.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from sor_sb3.market.liquidation import LimitOrderLiquidation
from sor_sb3.policies.protocol import Policy


def _weight(lots: int, time_left: float, arrivals: float, depth_decay: float, terminal_penalty: float) -> float:
    """w = sum_{n <= q} (lambda t / e)^n / n! exp(-k alpha (q - n)^2)."""
    expected = arrivals * time_left / math.e
    penalties = (math.exp(-depth_decay * terminal_penalty * (lots - n) ** 2) for n in range(lots + 1))
    return sum(expected**n / math.factorial(n) * penalty for n, penalty in enumerate(penalties))


def value_of_lots(lots: int, time_left: float, arrivals: float, depth_decay: float, terminal_penalty: float) -> float:
    """What so many lots earn above the mid in expectation: ``log(w) / k``."""
    return math.log(_weight(lots, time_left, arrivals, depth_decay, terminal_penalty)) / depth_decay


def best_depth(lots: int, time_left: float, arrivals: float, depth_decay: float, terminal_penalty: float) -> float:
    """How far above the mid to offer the next of so many lots, at least 1: ``(1 + log(w_q / w_{q-1})) / k``."""
    of = time_left, arrivals, depth_decay, terminal_penalty
    return 1.0 / depth_decay + value_of_lots(lots, *of) - value_of_lots(lots - 1, *of)


def programme(market: LimitOrderLiquidation) -> tuple[np.ndarray, np.ndarray]:
    """The dynamic programme of the env: values (N + 1, Q + 1) by decision and lots, and the best depths (N, Q + 1).

    In a step of length dt the offer is filled with the chance ``p = 1 - exp(-m exp(-k delta))``, ``m = lambda dt``. The
    greatest of ``p (delta - g)``, g the value of the lot if it is kept, is where ``delta - g = (exp(y) - 1) / (k y)``
    with ``y = m exp(-k delta)``, or at an end of the depths that the env has.
    """
    steps, lots = market.horizon_steps, market.quantity_lots
    values, depths = np.zeros((steps + 1, lots + 1)), np.zeros((steps, lots + 1))
    values[-1] = -market.terminal_penalty * np.arange(lots + 1.0) ** 2
    k, m = market.depth_decay, market.arrivals_per_s * market.step_s

    def slope(depth: float, kept: float) -> float:
        y = m * math.exp(-k * depth)
        return depth - kept - (math.expm1(y) / y if y > 0.0 else 1.0) / k

    for j in range(steps - 1, -1, -1):
        for q in range(1, lots + 1):
            kept = float(values[j + 1, q] - values[j + 1, q - 1])
            depth = 0.0 if slope(0.0, kept) >= 0.0 else market.deepest
            if slope(0.0, kept) < 0.0 < slope(market.deepest, kept):
                depth = float(brentq(slope, 0.0, market.deepest, args=(kept,), xtol=1e-14))
            depths[j, q] = depth
            values[j, q] = values[j + 1, q] - math.expm1(-m * math.exp(-k * depth)) * (depth - kept)
    return values, depths


class CarteaJaimungal(Policy):
    """The best policy of ``LimitOrderLiquidation-v1``: the programme's depth."""

    name = "cartea_jaimungal"
    kind = "rule"

    def __init__(self, market: LimitOrderLiquidation) -> None:
        self.market = market
        values, self._depths = programme(market)
        self.optimal_cost = -float(values[0, -1])

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 1) for observations (N, 3)."""
        steps, rows = self.market.horizon_steps, np.asarray(observations, dtype=np.float64)
        decision = np.clip(steps - np.rint(rows[:, 0] * steps).astype(np.int64), 0, steps - 1)
        lots = np.clip(np.rint(rows[:, 1] * self.market.quantity_lots).astype(np.int64), 0, self.market.quantity_lots)
        return (2.0 * self._depths[decision, lots][:, None] / self.market.deepest - 1.0).astype(np.float32)
