"""A position sold beside a dark pool: Kratz and Schoeneborn's formula, and the best policy of its env.

Kratz and Schoeneborn, "Portfolio liquidation in dark pools in continuous time", arXiv:1201.6130.
"""

from __future__ import annotations

import math

import numpy as np

from sor_sb3.market.liquidation import DarkPoolLiquidation
from sor_sb3.policies.protocol import Policy


def cost_of_position(time_left: float, impact: float, risk: float, dark_fills: float) -> float:
    """The least expected cost of a position of 1 with so much time left, that of x being x^2 times it.

    ``C / impact = (kappa / 2) coth(kappa t / 2) - theta / 2`` with ``kappa^2 = theta^2 + 4 risk / impact``, which
    solves ``C' = C^2 / impact + theta C - risk``. The primary venue gets the rate ``C x / impact``, the pool all of x.
    Without a pool (theta = 0) it is Almgren and Chriss's.
    """
    kappa = math.sqrt(dark_fills**2 + 4.0 * risk / impact)
    if kappa * time_left < 1e-6:
        return impact * (1.0 / time_left - 0.5 * dark_fills)
    return impact * (0.5 * kappa / math.tanh(0.5 * kappa * time_left) - 0.5 * dark_fills)


def holdings_until_filled(
    times: np.ndarray, horizon: float, impact: float, risk: float, dark_fills: float
) -> np.ndarray:
    """Share of the position that is left at `times` while the pool has not filled.

    ``exp(theta t / 2) sinh(kappa (T - t) / 2) / sinh(kappa T / 2)``, kappa above 0.
    """
    half = 0.5 * math.sqrt(dark_fills**2 + 4.0 * risk / impact)
    return np.exp(0.5 * dark_fills * times) * np.sinh(half * (horizon - times)) / math.sinh(half * horizon)


def programme(market: DarkPoolLiquidation) -> tuple[np.ndarray, np.ndarray]:
    """The dynamic programme of the env: costs (N,) of a position of 1 at each decision, and the best sales (N,) there.

    Sales are shares of what is left. Costs stay quadratic in steps of length dt, too. With ``B = risk dt / 2 + (1 - p)
    C_{j+1}`` and p the chance of a fill, the least of ``impact f^2 / dt + risk dt / 2 + B (1 - f)^2`` is at ``f = B /
    (impact / dt + B)``, or at the fastest rate that the env has; the whole of what is left lies in the pool. At the
    last decision f is 1.
    """
    steps, dt = market.horizon_steps, market.step_s
    trading, holding = market.impact / dt, 0.5 * market.risk * dt
    unfilled = math.exp(-market.dark_fills_per_s * dt)
    costs, sales = np.empty(steps), np.ones(steps)
    costs[-1] = trading + holding
    for j in range(steps - 2, -1, -1):
        later = holding + unfilled * costs[j + 1]
        sales[j] = min(later / (trading + later), market.fastest / (steps - j), 1.0)
        costs[j] = holding + trading * sales[j] ** 2 + later * (1.0 - sales[j]) ** 2
    return costs, sales


class KratzSchoeneborn(Policy):
    """The best policy of ``DarkPoolLiquidation-v1``: the programme's rate, and all that is left of it in the pool."""

    name = "kratz_schoeneborn"
    kind = "rule"

    def __init__(self, market: DarkPoolLiquidation) -> None:
        self.market = market
        costs, sales = programme(market)
        to_come = market.horizon_steps - np.arange(market.horizon_steps)
        self._rates = np.minimum(sales * to_come / market.fastest, 1.0)
        self.optimal_cost = float(costs[0])

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 2) for observations (N, 3)."""
        steps = self.market.horizon_steps
        decision = steps - np.rint(np.asarray(observations)[:, 0] * steps).astype(np.int64)
        rates = self._rates[np.clip(decision, 0, steps - 1)]
        return (2.0 * np.stack([rates, np.ones_like(rates)], axis=1) - 1.0).astype(np.float32)
