"""When to trade: schedules, each a pace over any rule's split. Almgren and Chriss's frontier, TWAP, VWAP curve, POV.

Almgren and Chriss 2001, "Optimal execution of portfolio transactions", Journal of Risk 3(2), 5-39,
doi:10.21314/JOR.2001.041.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.rules.price import NetPriceSweep
from sor_sb3.policies.tuning import tuned_constants
from sor_sb3.simulator.views import Observed


@dataclass(frozen=True)
class LinearImpact:
    """What trading costs in Almgren and Chriss's model, in one currency, share and unit of time.

    Attributes:
        volatility: sigma, of the price, a share and square root of time.
        temporary: eta, of a trade's price a share and rate of trading.
        permanent: gamma, of the price for good, a share and share traded.
        fixed: epsilon, of each share: half the spread and the fee.
    """

    volatility: float
    temporary: float
    permanent: float = 0.0
    fixed: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A point of the efficient frontier: `holdings` (N + 1,) in shares, the cost's mean and standard deviation."""

    holdings: np.ndarray
    kappa: float
    expected_cost: float
    standard_deviation: float


def almgren_chriss_holdings(shares: float, intervals: int, kappa_interval: float) -> np.ndarray:
    """Shares left at each of the N + 1 ends of N equal intervals: ``x_j = X sinh(k (N - j)) / sinh(k N)``.

    Args:
        shares: X, of the order.
        intervals: N.
        kappa_interval: k, the urgency kappa times an interval's length; 0 trades evenly.

    Returns:
        float64 (N + 1,), from `shares` down to 0.
    """
    left = np.arange(intervals, -1, -1, dtype=np.float64)
    if kappa_interval < 1e-8:
        return shares * left / intervals
    falls = np.exp(kappa_interval * (left - intervals))  # a quotient of sinh that does not overflow
    return shares * falls * np.expm1(-2.0 * kappa_interval * left) / math.expm1(-2.0 * kappa_interval * intervals)


def almgren_chriss(
    shares: float, horizon: float, intervals: int, impact: LinearImpact, risk_aversion: float = 0.0
) -> Schedule:
    """The schedule of least ``E + risk_aversion V``, with its mean E and the root of its variance V.

    ``E = gamma X^2 / 2 + epsilon sum n_j + (eta - gamma tau / 2) / tau sum n_j^2`` and ``V = sigma^2 tau sum x_j^2``,
    for n_j shares sold in intervals of length tau; ``2 (cosh(kappa tau) - 1) = risk_aversion sigma^2 tau^2 / (eta -
    gamma tau / 2)``.

    Raises:
        UserError: the temporary impact is no more than half of what an interval's permanent impact makes of it.
    """
    tau = horizon / intervals
    net = impact.temporary - 0.5 * impact.permanent * tau
    if net <= 0.0:
        least = f"expected more than permanent * horizon / intervals / 2 = {0.5 * impact.permanent * tau:g}"
        raise UserError(f"temporary impact is {impact.temporary:g}; {least}, or no schedule is best")
    kappa = math.acosh(1.0 + 0.5 * risk_aversion * impact.volatility**2 / net * tau**2) / tau
    holdings = almgren_chriss_holdings(shares, intervals, kappa * tau)
    traded = -np.diff(holdings)
    cost = 0.5 * impact.permanent * shares**2 + impact.fixed * shares + net / tau * float(traded @ traded)
    variance = impact.volatility**2 * tau * float(holdings[1:] @ holdings[1:])
    return Schedule(holdings, kappa, cost, math.sqrt(variance))


def kept_volume(market: MarketSpec) -> float:
    """Share of the averages of volume in observations that is kept from one decision to the next."""
    volume = getattr(market, "volume", market)  # a recording says it itself
    half_life_s = getattr(volume, "memory_half_life_s", getattr(volume, "volume_memory_half_life_s", 30.0))
    return float(0.5 ** (market.order.step_s / half_life_s))


def observed_volume(market: MarketSpec, scenarios: int = 256) -> np.ndarray:
    """Mean shares (N,) that others trade between decision j and the next, in training scenarios.

    Observations show an exponential average; what was added to the average at each decision is taken out of it again.
    """
    kept = kept_volume(market)
    horizon = market.order.horizon_steps
    core = RoutingCore("OrderExecute-v1", market.with_order(horizon_steps=horizon + 1), scenarios)
    core.seed(list(range(scenarios)))
    core.reset()
    waiting = np.full((scenarios, market.n_venues + 1), -1.0)  # a pace of 0
    averages = []
    for _ in range(horizon + 1):
        averages.append(Observed(core.simulator).recent_volume_shares.sum(axis=1).mean())
        core.step(waiting)
    average = np.array(averages)
    return np.maximum((average[1:] - kept * average[:-1]) / (1.0 - kept), 0.0)


class _Scheduled(Router):
    """A schedule: `share` of what is left goes out now, over venues by the weights of another rule, the `split`.

    Splits see the schedule's child as the slice; the sweep of a child that is larger or smaller than an even slice
    takes displayed touches in order of all-in price, then what is displayed behind them. What a split lets rest, where
    orders may rest, is its own affair; the schedule takes what is due. All that is left goes out at the last decision.
    """

    paces = True
    group = "literature"

    def __init__(
        self, market: MarketSpec, env_id: str = "OrderExecute-v1", seed: int = 0, split: Router | None = None
    ) -> None:
        super().__init__(market, env_id, seed)
        self.split = NetPriceSweep(market, env_id, seed) if split is None else split
        self._by_name = np.argsort(np.array(market.venue_names), kind="stable")

    def restart(self) -> None:
        """So does the split."""
        self.split.restart()

    @abstractmethod
    def share(self, view: ObservationView, decisions: np.ndarray) -> np.ndarray:
        """Share (n,) of what is left to send now, `decisions` (n,) before the deadline, this one among them."""

    def pace(self, view: ObservationView) -> np.ndarray:
        """The schedule's share; all at the last decision, and all that came back in a later wave."""
        decisions = np.rint(view.time_left * self.market.order.horizon_steps)
        return np.where(view.is_later | (decisions <= 1.0), 1.0, np.clip(self.share(view, decisions), 0.0, 1.0))

    def _of_child(self, view: ObservationView) -> ObservationView:
        """The view with the schedule's child as the slice, and the sweep of it."""
        offered = np.maximum(view.remaining - view.in_flight_share, 0.0) * self.market.order.quantity_shares
        child = np.where(view.is_later, view.slice_shares, self.pace(view) * offered)
        seen = replace(view, slice_shares=child)
        if not self.market.has_partial_fills:
            return seen  # the cheapest venue takes any size
        other = (np.abs(child - view.slice_shares) > 1e-5 * child)[:, None]
        return replace(seen, sweep_share=np.where(other, self._swept(seen), view.sweep_share))

    def _swept(self, view: ObservationView) -> np.ndarray:
        """Shares (n, K) of the slice that a sweep takes of what is displayed; ties by name."""
        shown = np.stack([view.size_shares, np.maximum(view.depth_shares - view.size_shares, 0.0)], axis=1)
        shown = np.where(view.quoted[:, None], shown, 0.0)[:, :, self._by_name].reshape(len(shown), -1)
        price = np.where(view.quoted, view.offset_bps + view.fee_bps, 0.0)[:, self._by_name].round(4)
        behind = price.max(axis=1, keepdims=True) - price.min(axis=1, keepdims=True) + 1.0
        order = np.argsort(np.concatenate([price, price + behind], axis=1), axis=1, kind="stable")
        before = np.cumsum(np.take_along_axis(shown, order, axis=1), axis=1)
        before = np.concatenate([np.zeros((len(before), 1)), before], axis=1)
        taken = np.diff(np.minimum(before, view.slice_shares[:, None]), axis=1)
        swept = np.empty_like(shown)
        np.put_along_axis(swept, order, taken, axis=1)
        by_name = swept.reshape(len(swept), 2, -1).sum(axis=1)
        return by_name[:, np.argsort(self._by_name)] / np.maximum(view.slice_shares, 1e-9)[:, None]

    def weights(self, view: ObservationView) -> np.ndarray:
        """Those of the split."""
        return self.split.weights(self._of_child(view))

    def resting(self, view: ObservationView) -> np.ndarray | None:
        """What the split lets rest."""
        return self.split.resting(view)


class AlmgrenChriss(_Scheduled):
    """Almgren and Chriss's schedule, begun anew at each decision from what is left, as optimal from there.

    With d decisions to come it sends ``1 - sinh(k (d - 1)) / sinh(k d)`` of what is left, ``k = urgency / horizon``;
    where all fills, these are the holdings of `almgren_chriss_holdings`. `urgency` is kappa T: 0 is `twap`, 3 sends
    half of the order in a quarter of the time. Without one it is tuned for mean cost on validation scenarios.
    """

    name = "almgren_chriss"
    constants: ClassVar = {"urgency": (1.0, 0.0, 0.5, 2.0, 4.0)}

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderExecute-v1",
        seed: int = 0,
        split: Router | None = None,
        urgency: float | None = None,
    ) -> None:
        super().__init__(market, env_id, seed, split)
        if urgency is None:
            urgency = tuned_constants(type(self), market, env_id)["urgency"]
        if not 0.0 <= urgency <= 1e6:
            raise UserError(f"router '{self.name}': urgency is {urgency!r}; expected a number from 0, even, to 1e6")
        self.urgency = float(urgency)

    def share(self, view: ObservationView, decisions: np.ndarray) -> np.ndarray:
        """What the schedule sells in the first of so many intervals."""
        k, d = self.urgency / self.market.order.horizon_steps, np.maximum(decisions, 1.0)
        if k < 1e-8:
            return 1.0 / d
        return 1.0 - math.exp(-k) * np.expm1(-2.0 * k * (d - 1.0)) / np.expm1(-2.0 * k * d)


class Twap(_Scheduled):
    """Even in time: with d decisions to come, 1 / d of what is left, so that what was missed is spread over the rest.

    (The pace of rules that leave it to the env carries what was missed forward to the next decision.)
    """

    name = "twap"

    def share(self, view: ObservationView, decisions: np.ndarray) -> np.ndarray:
        """1 / d."""
        return 1.0 / np.maximum(decisions, 1.0)


class VwapCurve(_Scheduled):
    """Even in volume: of what is left, the coming decision's part of the volume that the curve expects until the end.

    ``v_j / sum_{i >= j} v_i``. The `curve` (any positive weights, evenly spaced over the horizon) is what the order's
    hours usually trade, such as 390 minutes of past days; without one, the mean of training scenarios by decision,
    which is flat where orders begin at any time of the day.

    Raises:
        UserError: the market publishes no volume, draws the order's horizon, or the curve holds no positive numbers.
    """

    name = "vwap_curve"

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderExecute-v1",
        seed: int = 0,
        split: Router | None = None,
        curve: Sequence[float] | None = None,
    ) -> None:
        super().__init__(market, env_id, seed, split)
        if not self.fits(market):
            remedy = "give it traded volume, and take ranges of order. out of randomise; or take the schedule 'twap'"
            raise UserError(
                f"router '{self.name}' needs traded volume and a known horizon in '{market.name}'; {remedy}"
            )
        volume = observed_volume(market) if curve is None else self._on_horizon(curve)
        until_end = np.cumsum(volume[::-1])
        part = np.divide(volume[::-1], until_end, out=np.ones_like(until_end), where=until_end > 0.0)
        self._share = np.concatenate([[1.0], part])  # by decisions to come

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where traded volume is published and the horizon is known."""
        return market.has_volume and not market.draws_order

    def _on_horizon(self, curve: Sequence[float]) -> np.ndarray:
        """The curve's volume in each decision: differences of its running total at the decisions' ends."""
        given = np.asarray(curve, dtype=np.float64)
        if given.ndim != 1 or given.size == 0 or not (np.isfinite(given) & (given >= 0.0)).all() or given.sum() <= 0.0:
            expected = "expected a list of volumes from 0, some above it, evenly spaced over the horizon"
            raise UserError(f"router '{self.name}': curve is {curve!r}; {expected}")
        total, at = np.concatenate([[0.0], np.cumsum(given)]), np.linspace(0.0, 1.0, given.size + 1)
        ends = np.linspace(0.0, 1.0, self.market.order.horizon_steps + 1)
        return np.diff(np.interp(ends, at, total))

    def share(self, view: ObservationView, decisions: np.ndarray) -> np.ndarray:
        """The curve's part."""
        return self._share[np.clip(decisions, 0, len(self._share) - 1).astype(np.int64)]


class Pov(_Scheduled):
    """A percentage of volume: ``rate / (1 - rate)`` times what others trade until the next decision, as of late.

    So `rate` is our part of all that trades. Of volume only what sellers bring is published as shares; buyers are taken
    to bring as much. Without a `rate`, the one that fills the order in the mean volume of training scenarios. What is
    left at the last decision goes out there.

    Raises:
        UserError: the market publishes no volume, or the rate is not between 0 and 1.
    """

    name = "pov"

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderExecute-v1",
        seed: int = 0,
        split: Router | None = None,
        rate: float | None = None,
    ) -> None:
        super().__init__(market, env_id, seed, split)
        if not self.fits(market):
            raise UserError(
                f"router '{self.name}' needs traded volume and market '{market.name}' has none; take 'twap'"
            )
        if rate is None:
            quantity = market.order.quantity_shares
            rate = min(quantity / (quantity + float(observed_volume(market).sum())), 0.99)
        if not 0.0 < rate < 1.0:
            raise UserError(f"router '{self.name}': rate is {rate!r}; expected our part of all volume, between 0 and 1")
        self.rate = float(rate)

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where traded volume is published."""
        return market.has_volume

    def share(self, view: ObservationView, decisions: np.ndarray) -> np.ndarray:
        """The rate's shares, of what is left."""
        shares = self.rate / (1.0 - self.rate) * 2.0 * view.outflow_shares.sum(axis=1)
        left = np.maximum(view.remaining - view.in_flight_share, 0.0) * self.market.order.quantity_shares
        return np.divide(shares, left, out=np.zeros_like(left), where=left > 0.0)
