"""The child-order log: what a policy saw, sent and got in every decision, as arrays. It computes no measure.

One log holds many parent orders of one policy. It is written from the simulator's public records, before and after
each step, so the log looks the same in every market: prices in bps of the arrival mid, in a buyer's view (side +1 in
every formula), so that a higher price is a higher cost whichever side the parent order is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

REFERENCE_PRICE = 100.0
"""Dollars a share, for fees in mils and dollars where a market names no price; `us_equity` is a share at $100."""


def take_fees_bps(simulator: BatchSimulator) -> np.ndarray:
    """Take fee of every member and venue, float64 (N, K), bps; the one place that reads it."""
    return Truth(simulator).take_fee_bps


@dataclass(frozen=True)
class ChildLog:
    """N parent orders, T decisions, K venues; a cell of (N, T, K) is what went to one venue in one decision.

    Attributes:
        sent_shares: float64 (N, T, K), as all that follow unless they say otherwise; sent at this decision.
        filled_shares: filled in this step, whenever they were sent.
        price_bps: average price of those fills above the arrival mid, fees apart; NaN if none.
        fee_bps: float64 (N, K), take fee.
        open: bool (N, T, K), whether the venue traded at the decision.
        touch_bps: far touch above the arrival mid at the decision; NaN where closed, or dark.
        touch_move_bps: the touch's move until a child sent now arrives.
        shown_shares: displayed at the decision.
        latency_ms: one way, of a child sent now; `observed_latency_ms` is what the router observed.
        ack_ms: from this decision to the answer to the child sent at it; 0 if none was.
        volume_shares: recent traded volume a step, without ours.
        mid_bps: float64 (N, T + 1), the observed mid above the arrival mid at each decision and after the last; NaN
            after the order was done, since the market is not simulated further.
        slice_shares: float64 (N, T), what the schedule wanted.
        active: bool (N, T), whether the order was still being worked.
        cleanup_shares: float64 (N,), of the order's `quantity_shares` (N,), swept at the deadline.
        cleanup_price_bps: float64 (N,), at this price above the arrival mid, all-in; NaN if none.
        shortfall: float64 (N,), by the simulator's ledger, in cost units.
        arrival_mid_px: float64 (N,), recorded arrival mid, or `REFERENCE_PRICE` where the market names no price.
        step_s: length of a step.
    """

    sent_shares: np.ndarray
    filled_shares: np.ndarray
    price_bps: np.ndarray
    fee_bps: np.ndarray
    open: np.ndarray
    touch_bps: np.ndarray
    touch_move_bps: np.ndarray
    shown_shares: np.ndarray
    latency_ms: np.ndarray
    observed_latency_ms: np.ndarray
    ack_ms: np.ndarray
    volume_shares: np.ndarray
    mid_bps: np.ndarray
    slice_shares: np.ndarray
    active: np.ndarray
    quantity_shares: np.ndarray
    cleanup_shares: np.ndarray
    cleanup_price_bps: np.ndarray
    shortfall: np.ndarray
    arrival_mid_px: np.ndarray
    step_s: float
    venue_names: tuple[str, ...]

    @property
    def n_orders(self) -> int:
        """How many parent orders."""
        return len(self.quantity_shares)

    def select(self, which: np.ndarray | slice) -> ChildLog:
        """The log of some of the parent orders."""
        return replace(self, **{name: array[which] for name, array in self._arrays().items()})

    @staticmethod
    def concatenate(logs: Sequence[ChildLog]) -> ChildLog:
        """One log of the parent orders of several (a policy's training seeds, say), in the order given."""
        if len(logs) == 1:
            return logs[0]
        every = [log._arrays() for log in logs]
        joined: dict[str, Any] = {name: np.concatenate([arrays[name] for arrays in every]) for name in every[0]}
        return replace(logs[0], **joined)

    def _arrays(self) -> dict[str, Any]:
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}


class ChildRecorder:
    """Writes a :class:`ChildLog` while somebody else steps the simulator: `before` and `after` each step, then `log`.

    Begin it after the reset, when the orders stand at their first decision.
    """

    def __init__(self, simulator: BatchSimulator) -> None:
        n, k, t = simulator.n, simulator.market.n_venues, simulator.market.order.horizon_steps
        self.simulator, self._truth = simulator, Truth(simulator)
        self._step = 0
        names = (
            "sent_shares filled_shares price_bps touch_bps touch_move_bps shown_shares latency_ms ack_ms volume_shares"
        )
        self._cells: dict[str, np.ndarray] = {
            **{name: np.zeros((n, t, k)) for name in (*names.split(), "observed_latency_ms")},
            **{"open": np.zeros((n, t, k), dtype=bool), "active": np.zeros((n, t), dtype=bool)},
            **{"slice_shares": np.zeros((n, t)), "mid_bps": np.full((n, t + 1), np.nan)},
        }
        self._cells["price_bps"][:] = np.nan
        self._cells["mid_bps"][:, 0] = self._observed_mid()
        self._fee = take_fees_bps(simulator)
        self._quantity = self._truth.remaining_shares

    def _observed_mid(self) -> np.ndarray:
        return self._truth.mid_bps + self._truth.displacement_bps

    def _write(self, **columns: np.ndarray) -> None:
        for name, values in columns.items():
            self._cells[name][:, self._step] = values

    def before(self) -> None:
        """At a decision: what the router could know, and what a child sent now will meet."""
        truth, mid = self._truth, self._cells["mid_bps"][:, self._step, None]
        self._write(
            active=truth.remaining_shares > 0.0,
            slice_shares=truth.slice_shares,
            open=truth.open,
            touch_bps=np.where(truth.open & ~truth.dark, truth.offset_bps + mid, np.nan),
            touch_move_bps=truth.touch_move_bps,
            shown_shares=np.where(truth.open, np.maximum(truth.quote_shares - truth.depleted_shares, 0.0), 0.0),
            latency_ms=truth.latency_ms,
            observed_latency_ms=truth.observed_latency_ms,
            volume_shares=truth.recent_volume_shares,
        )

    def after(self) -> None:
        """After the step: what was sent, what it got, and where the mid went."""
        truth, cells = self._truth, self._cells
        active, mid = cells["active"][:, self._step, None], cells["mid_bps"][:, self._step, None]
        sent, filled = (np.where(active, shares, 0.0) for shares in (truth.sent_shares, truth.filled_shares))
        paid = truth.fill_cost * (self._quantity[:, None] / truth.cost_scale[0])
        all_in_bps = np.divide(paid, filled, out=np.full(filled.shape, np.nan), where=filled > 0.0)
        self._write(sent_shares=sent, filled_shares=filled, ack_ms=truth.ack_ms, price_bps=all_in_bps - self._fee + mid)
        self._step += 1
        self._write(mid_bps=np.where(active[:, 0], self._observed_mid(), np.nan))

    def log(self) -> ChildLog:
        """The log, once every order is done."""
        truth, market = self._truth, self.simulator.market
        swept = truth.cleanup_shares
        price = np.divide(truth.cleanup_value_bps_shares, swept, out=np.full(len(swept), np.nan), where=swept > 0.0)
        return ChildLog(
            **self._cells,
            fee_bps=self._fee,
            quantity_shares=self._quantity,
            cleanup_shares=swept,
            cleanup_price_bps=price,
            shortfall=self.simulator.ledger()["shortfall"],
            arrival_mid_px=np.where(truth.arrival_mid_px > 0.0, truth.arrival_mid_px, REFERENCE_PRICE),
            step_s=float(market.order.step_s),
            venue_names=tuple(market.venue_names),
        )
