"""How far above the observed touch to let a child pay, given latency: Cartea and Sanchez-Betancourt's discretion.

Cartea and Sanchez-Betancourt 2021, "The shadow price of latency", SIAM Journal on Financial Mathematics 12(1), 254-294,
doi:10.1137/19M1258888. Their prices are a data set's; here the touch moves by a normal law while a child is on its way.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec, NotebookMarket, ReplayMarket, SyntheticMarket
from sor_sb3.simulator.views import Observed

SCENARIOS = 128  # of the training ones, that volatility is measured on


def move_sd_bps(volatility_bps_per_sqrt_s: float, latency_ms: float) -> float:
    """Standard deviation of the touch's move while a child is on its way."""
    return volatility_bps_per_sqrt_s * math.sqrt(latency_ms / 1e3)


def fill_chance(discretion_bps: float, sd_bps: float) -> float:
    """Chance that the touch is no further above the observed one than the discretion: ``Phi(d / s)``."""
    return 0.5 * math.erfc(-discretion_bps / (math.sqrt(2.0) * sd_bps))


def discretion_bps(fill_ratio: float, sd_bps: float) -> float:
    """The least discretion that fills so often: ``s Phi^-1(fill_ratio)``; negative asks for a better price.

    Raises:
        UserError: the ratio is not between 0 and 1.
    """
    if not 0.0 < fill_ratio < 1.0:
        raise UserError(f"fill_ratio is {fill_ratio!r}; expected a number between 0 and 1")
    return sd_bps * float(ndtri(fill_ratio))


def walking_cost_bps(discretion: float, sd_bps: float) -> float:
    """What is paid above the observed touch on average, a child: ``E[D^+ 1{D <= d}] = s (phi(0) - phi(d / s))``."""
    z = max(discretion, 0.0) / sd_bps
    return sd_bps / math.sqrt(2.0 * math.pi) * -math.expm1(-0.5 * z * z)


def shadow_price_bps(fill_ratio: float, volatility_bps_per_sqrt_s: float, latency_ms: float, faster_ms: float) -> float:
    """What a share may cost more for a latency of `faster_ms` in place of `latency_ms`, at the same fill ratio.

    The saving in walking cost, which grows with the root of latency.
    """
    slow, fast = (move_sd_bps(volatility_bps_per_sqrt_s, ms) for ms in (latency_ms, faster_ms))
    costs = [walking_cost_bps(discretion_bps(fill_ratio, sd), sd) for sd in (slow, fast)]
    return costs[0] - costs[1]


def best_discretion_bps(miss_cost_bps: float, reverting_share: float) -> float:
    """Where a missed child is sent again: the discretion of least expected cost, ``miss cost / reverting share``.

    A child that misses after a move D of the touch pays ``(1 - reverting_share) D + miss_cost_bps`` later, so it should
    pay up to the D at which that is as dear as paying D now. Where moves last, any price is right.

    Raises:
        UserError: the share is not from 0 to 1, or the cost negative.
    """
    if not 0.0 <= reverting_share <= 1.0 or not miss_cost_bps >= 0.0:
        said = f"reverting_share is {reverting_share!r} and miss_cost_bps {miss_cost_bps!r}"
        raise UserError(f"{said}; expected a share from 0 to 1 and a cost of at least 0")
    return miss_cost_bps / reverting_share if reverting_share > 0.0 else math.inf


def observed_volatility(market: SyntheticMarket | ReplayMarket, scenarios: int = SCENARIOS) -> float:
    """Root mean square of the observed mid's moves in training scenarios, bps a root of a second, nobody trading."""
    core = RoutingCore("OrderExecute-v1", market, scenarios)
    core.seed(list(range(scenarios)))
    core.reset()
    waiting, squares = np.full((scenarios, market.n_venues + 1), -1.0), []
    for _ in range(market.order.horizon_steps - 1):
        core.step(waiting)
        squares.append(np.mean(Observed(core.simulator).last_move_bps ** 2))
    return float(np.sqrt(np.mean(squares) / market.order.step_s))


def with_discretion(market: MarketSpec, fill_ratio: float) -> MarketSpec:
    """The market with children that may pay up to the least discretion that fills so often at the slowest venue.

    It sets ``order.limit`` to "sweep" and ``order.limit_offset_bps``, so that the limit is a rule's choice, not the
    market's. Volatility is what observations of training scenarios show; latency is the venues' median, bumps included.

    Raises:
        UserError: the ratio is not between 0.5 and 1 (a limit is no better than the touch), or nothing has a price.
    """
    if isinstance(market, NotebookMarket):
        raise UserError(f"market '{market.name}' has costs and no prices, so no limits; take another market")
    if not 0.5 <= fill_ratio < 1.0:
        raise UserError(f"fill_ratio is {fill_ratio!r}; expected a number from 0.5, the observed touch, to below 1")
    slowest_ms = max(venue.latency_ms + getattr(venue, "speed_bump_ms", 0.0) for venue in market.venues)
    sd_bps = move_sd_bps(observed_volatility(market), slowest_ms)
    return market.with_order(limit="sweep", limit_offset_bps=max(discretion_bps(fill_ratio, sd_bps), 0.0))
