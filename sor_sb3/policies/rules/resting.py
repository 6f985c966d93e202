"""Rules that post rather than take, for envs in which orders may rest: post and sweep, join pro rata, and two foils."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.rules.price import NetPriceSweep
from sor_sb3.policies.tuning import tuned_constants


class _PostingRule(NetPriceSweep):
    """Takes, by net price, what the schedule wanted `patience` steps ago; rests what it wants in the next `ahead`.

    `ahead` is a share of the horizon: 1 rests all. The more rests, the more is filled just where the price falls.
    Nothing rests in the last two decisions: a cancel at the one before the last frees what the last one takes.
    """

    rests = True
    constants: ClassVar[dict[str, tuple[float, ...]]] = {"patience": (4, 1, 8), "ahead": (0.15, 0.3, 1.0)}

    def __init__(self, market: MarketSpec, env_id: str = "OrderPlace-v1", seed: int = 0, **constants: Any) -> None:
        super().__init__(market, env_id, seed)
        if len(constants) < len(self.constants):
            constants = tuned_constants(type(self), market, env_id) | constants
        self.patience, self.ahead = float(constants["patience"]), float(constants.get("ahead", 1.0))

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where trades are published, which fill what rests."""
        return market.has_volume

    @abstractmethod
    def attraction(self, view: ObservationView) -> np.ndarray:
        """How what rests is split over venues (n, K), in any unit."""

    def _allowed_share(self, view: ObservationView, ahead: int) -> np.ndarray:
        """Share (n,) of the order that may be undone after the decision `ahead` of this one, `patience` steps late."""
        slices, decisions = view.even_slices, np.rint(view.time_left * self.market.order.horizon_steps)
        step = slices - decisions + ahead
        late = np.clip(decisions - 1.0 - ahead, 0.0, self.patience)
        return np.maximum(1.0 - (step + 1.0 - late) / slices, 0.0)

    def _late_share(self, view: ObservationView) -> np.ndarray:
        return np.maximum(view.remaining - view.in_flight_share - self._allowed_share(view, 0), 0.0)

    def pace(self, view: ObservationView) -> np.ndarray:
        """What the late schedule misses, as a share of what is offered; all of what came back in a later wave."""
        open_share = view.remaining - view.in_flight_share
        pace = np.divide(self._late_share(view), open_share, out=np.ones_like(open_share), where=open_share > 0.0)
        return np.where(view.is_later, 1.0, np.clip(pace, 0.0, 1.0))

    def resting(self, view: ObservationView) -> np.ndarray:
        """What the schedule wants soon and need not be taken at the next decision, split by `attraction`."""
        left = np.maximum(view.remaining - view.in_flight_share - self._late_share(view), 0.0)
        later = np.clip(view.schedule_left - 2.0 / view.even_slices - self.ahead, 0.0, left)
        wanted = np.minimum(self._allowed_share(view, 1), left) - later
        soon = np.divide(wanted, left, out=np.zeros_like(left), where=left > 0.0)
        attraction = np.maximum(self.attraction(view), 0.0)
        total = attraction.sum(axis=1, keepdims=True)
        weights = np.divide(attraction, total, out=np.zeros_like(attraction), where=total > 0.0)
        return weights * np.clip(soon, 0.0, 1.0)[:, None]


class PostAndSweep(_PostingRule):
    """Rests where the saving against taking is largest for the wait, and sweeps what the schedule misses.

    The saving of a venue is what taking costs at the best all-in price less what resting there costs, the make fee less
    the near offset; the wait is the queue before us (or what we would join) over the recent outflow. `venues` of them
    get equal parts. `patience` and `venues` are tuned on validation scenarios.
    """

    name = "post_and_sweep"
    constants: ClassVar = _PostingRule.constants | {"venues": (4, 1, 2, 8)}

    def __init__(self, market: MarketSpec, env_id: str = "OrderPlace-v1", seed: int = 0, **constants: Any) -> None:
        if len(constants) < len(self.constants):
            constants = tuned_constants(type(self), market, env_id) | constants
        super().__init__(market, env_id, seed, **constants)
        self.venues = int(constants["venues"])

    def attraction(self, view: ObservationView) -> np.ndarray:
        """1 at the best venues, else 0."""
        quotes = view.open & ~view.dark & (view.near_size_shares > 0.0) & (view.outflow_shares > 0.0)
        taking = np.where(view.quoted, view.offset_bps + view.fee_bps, np.inf).min(axis=1, keepdims=True)
        saving = np.where(np.isfinite(taking), taking, 0.0) + view.near_offset_bps - view.make_fee_bps
        queue = np.where(view.resting_share > 0.0, view.queue_ahead_shares, view.near_size_shares)
        score = np.where(quotes, saving * view.outflow_shares / (queue + view.slice_shares[:, None] + 1e-9), -np.inf)
        rank = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1)
        return (quotes & (rank < self.venues)).astype(np.float64)


class JoinProRata(_PostingRule):
    """Rests in proportion to what venues display at the near touch, and sweeps what the schedule misses.

    `patience` is tuned on validation scenarios.
    """

    name = "join_pro_rata"

    def attraction(self, view: ObservationView) -> np.ndarray:
        """Displayed near sizes of open venues."""
        return view.near_size_shares * (view.open & ~view.dark)


class RebateChaser(_PostingRule):
    """Rests all where the make fee is lowest, whatever the queue: a foil, which a good posting rule should beat."""

    name = "rebate_chaser"

    def attraction(self, view: ObservationView) -> np.ndarray:
        """1 at the lowest make fee among open lit venues, else 0."""
        fees = np.where(view.open & ~view.dark & (view.near_size_shares > 0.0), view.make_fee_bps, np.inf)
        lowest = fees.min(axis=1, keepdims=True)
        first = np.cumsum(np.isfinite(fees) & (fees <= lowest + 1e-6), axis=1) == 1
        return (first & (fees <= lowest + 1e-6)).astype(np.float64)


class PassiveOnly(Router):
    """Rests all in proportion to recent outflow and takes nothing before the deadline: a foil."""

    name = "passive_only"
    rests = True

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where trades are published, which fill what rests."""
        return market.has_volume

    def weights(self, view: ObservationView) -> np.ndarray:
        """A sweep, of which the pace takes nothing."""
        return view.sweep_share * view.usable

    def pace(self, view: ObservationView) -> np.ndarray:
        """Nothing."""
        return np.zeros(len(view.time_left))

    def resting(self, view: ObservationView) -> np.ndarray:
        """All, by recent outflow."""
        outflow = view.outflow_shares * (view.open & ~view.dark)
        total = outflow.sum(axis=1, keepdims=True)
        return np.divide(outflow, total, out=np.zeros_like(outflow), where=total > 0.0)
