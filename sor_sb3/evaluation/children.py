"""The child-order log: what a policy saw, sent and got in every env step, as arrays. It computes no measure.

One log holds many parent orders of one policy. It is written from the simulator's records, before and after each step,
so the log looks the same in every market: prices in bps of the arrival midpoint, in a buyer's view (side +1 in every
formula), so that a higher price is a higher cost whichever side the parent order is on. Midpoints and quotes are the
true consolidated ones, with our own push, not those that the router observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sor_sb3.evaluation.true_quotes import BooksNow, TruePath, books_now, true_path
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

REFERENCE_PRICE = 100.0
"""Dollars a share, for fees in mils and dollars where a market names no price; `us_equity` is a share at $100."""
MARKOUT_HORIZONS_STEPS = (0.2, 1.0, 2.0, 4.0, 8.0)
EXCEPTION_S = 1.0  # a better quote is protected once it has stood so long (Rule 611(b)(8))
TIE_BPS = 1e-6  # prices nearer than this are one price


def take_fees_bps(simulator: BatchSimulator) -> np.ndarray:
    """Take fee of every member and venue, float64 (N, K), bps; the one place that reads it."""
    return Truth(simulator).take_fee_bps


@dataclass(frozen=True)
class ChildLog:
    """N parent orders, T env steps (a decision has one or more: its waves), K venues.

    A cell of (N, T, K) is what went to one venue in one env step. Orders need not be at the same decision in a row.

    Attributes:
        sent_shares: float64 (N, T, K), as all that follow unless they say otherwise; sent at this env step.
        filled_shares: filled in this env step, whenever they were sent.
        price_bps: average price of those fills above the arrival mid, fees apart; NaN if none.
        fee_bps: float64 (N, K), take fee.
        open: bool (N, T, K), whether the venue traded.
        touch_bps: true far touch above the arrival mid; NaN where closed, or dark.
        arrival_touch_bps: far touch when the fill happened (in the dark, the midpoint); NaN if none.
        elsewhere_bps: best displayed price of the other venues when the child arrives that this env step's children do
            not take; NaN where there is none.
        excused: bool (N, T, K), whether every better quote elsewhere is younger than the rule's second.
        shown_shares: displayed at the far touch, less what we took.
        arrives_ms: after the decision, of the child whose fill this is; NaN where none arrives.
        latency_ms: one way, of a child sent now; `observed_latency_ms` is what the router observed.
        ack_ms: from this env step to the answer to the child sent at it; 0 if none was.
        volume_shares: recent traded volume a step, without ours.
        decision: int (N, T), counted from 0, and `wave` of it; `elapsed_ms` float64 since the decision.
        mid_bps: float64 (N, T), true midpoint above the arrival mid at the env step, NaN once the order is done;
            `bid_bps` and `ask_bps` the best quotes.
        permanent_bps: float64 (N, T), our own push after the env step, and the `transient_bps` part, which decays.
        slice_shares: float64 (N, T), what the schedule wanted; in a later wave what came back.
        active: bool (N, T), whether the order was still being worked.
        path_mid_bps: float64 (N, M), true midpoint every `path_grid_s` from arrival on, without our own push.
        cleanup_shares: float64 (N,), of the order's `quantity_shares` (N,), swept at the deadline.
        cleanup_price_bps: float64 (N,), at this price above the arrival mid, all-in; NaN if none.
        shortfall: float64 (N,), by the simulator's ledger, in cost units.
        arrival_mid_px: float64 (N,), recorded arrival mid, or `REFERENCE_PRICE` where the market names no price.
        step_s: length of a decision.
    """

    sent_shares: np.ndarray
    filled_shares: np.ndarray
    price_bps: np.ndarray
    fee_bps: np.ndarray
    open: np.ndarray
    touch_bps: np.ndarray
    arrival_touch_bps: np.ndarray
    elsewhere_bps: np.ndarray
    excused: np.ndarray
    shown_shares: np.ndarray
    arrives_ms: np.ndarray
    latency_ms: np.ndarray
    observed_latency_ms: np.ndarray
    ack_ms: np.ndarray
    volume_shares: np.ndarray
    decision: np.ndarray
    wave: np.ndarray
    elapsed_ms: np.ndarray
    mid_bps: np.ndarray
    bid_bps: np.ndarray
    ask_bps: np.ndarray
    permanent_bps: np.ndarray
    transient_bps: np.ndarray
    slice_shares: np.ndarray
    active: np.ndarray
    path_mid_bps: np.ndarray
    quantity_shares: np.ndarray
    cleanup_shares: np.ndarray
    cleanup_price_bps: np.ndarray
    shortfall: np.ndarray
    arrival_mid_px: np.ndarray
    dark: np.ndarray
    path_grid_s: float
    transient_half_life_s: float
    horizon_steps: int
    step_s: float
    venue_names: tuple[str, ...]

    @property
    def n_orders(self) -> int:
        """How many parent orders."""
        return len(self.quantity_shares)

    @property
    def time_s(self) -> np.ndarray:
        """When each env step begins, after arrival, float64 (N, T)."""
        return np.asarray(self.decision * self.step_s + self.elapsed_ms / 1e3)

    @property
    def end_s(self) -> np.ndarray:
        """When each env step ends, float64 (N, T): where the next begins, or the next decision."""
        after = np.where(self.active[:, 1:], self.time_s[:, 1:], np.inf)
        following = np.concatenate([after, np.full((self.n_orders, 1), np.inf)], axis=1)
        return np.asarray(np.minimum(following, (self.decision + 1.0) * self.step_s))

    def mid_at(self, time_s: np.ndarray) -> np.ndarray:
        """True midpoint above the arrival mid at times (N, ...), float64, with our own push; NaN beyond the known path.

        The push is what the fills of the env step at hand leave of it; after the last one its transient part decays.
        """
        shape, n = np.shape(time_s), self.n_orders
        times = np.asarray(time_s, dtype=np.float64).reshape(n, -1)
        orders = np.arange(n)[:, None]
        at = np.floor(np.nan_to_num(times, nan=0.0) / self.path_grid_s + 1e-9).astype(np.int64)
        known = np.isfinite(times) & (at < self.path_mid_bps.shape[1])
        exogenous = self.path_mid_bps[orders, np.clip(at, 0, self.path_mid_bps.shape[1] - 1)]
        starts = np.where(self.active, self.time_s, np.inf)
        row = np.maximum((starts[:, :, None] <= times[:, None, :] + 1e-12).sum(axis=1) - 1, 0)
        after_s = np.maximum(times - self.end_s[orders, row], 0.0)
        transient = self.transient_bps[orders, row] * 2.0 ** (-after_s / self.transient_half_life_s)
        push = self.permanent_bps[orders, row] + transient
        return np.where(known, exogenous + push, np.nan).reshape(shape)

    def select(self, which: np.ndarray | slice) -> ChildLog:
        """The log of some of the parent orders."""
        return replace(self, **{name: array[which] for name, array in self._arrays().items()})

    @staticmethod
    def concatenate(logs: Sequence[ChildLog]) -> ChildLog:
        """One log of the parent orders of several (a policy's training seeds, say), in the order given."""
        if len(logs) == 1:
            return logs[0]
        steps = max(log.active.shape[1] for log in logs)
        every = [log._padded(steps)._arrays() for log in logs]
        joined: dict[str, Any] = {name: np.concatenate([arrays[name] for arrays in every]) for name in every[0]}
        return replace(logs[0], **joined)

    def _padded(self, steps: int) -> ChildLog:
        """With rows in which nothing happens at the end, up to so many."""
        missing = steps - self.active.shape[1]
        by_step = {name: getattr(self, name) for name in (*_CELLS, *_ROWS)}
        return replace(self, **{name: _lengthened(name, values, missing) for name, values in by_step.items()})

    def _arrays(self) -> dict[str, Any]:
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}


_CELLS = (
    "sent_shares filled_shares price_bps open touch_bps arrival_touch_bps elsewhere_bps excused shown_shares arrives_ms "
    "latency_ms observed_latency_ms ack_ms volume_shares"
).split()
_ROWS = (
    "decision wave elapsed_ms mid_bps bid_bps ask_bps permanent_bps transient_bps slice_shares active"
).split()
_UNKNOWN = {"price_bps", "touch_bps", "arrival_touch_bps", "elsewhere_bps", "arrives_ms", "mid_bps", "bid_bps", "ask_bps"}


def _lengthened(name: str, values: np.ndarray, missing: int) -> np.ndarray:
    widths = [(0, 0), (0, missing), *((0, 0) for _ in values.shape[2:])]
    return np.pad(values, widths, constant_values=np.nan if name in _UNKNOWN else 0)


class ChildRecorder:
    """Writes a :class:`ChildLog` while somebody else steps the simulator: `before` and `after` each step, then `log`.

    Begin it after the reset, when the orders stand at their first decision.
    """

    def __init__(self, simulator: BatchSimulator) -> None:
        self.simulator, self._truth, self._market = simulator, Truth(simulator), simulator.market
        order = self._market.order
        self._priced = self._market.charges_bps
        self._steps: list[dict[str, np.ndarray]] = []
        self._fee = take_fees_bps(simulator)
        self._quantity = self._truth.remaining_shares
        self._books: BooksNow | None = None
        self._path = TruePath(order.step_s, np.zeros((simulator.n, 1)), np.zeros((simulator.n, 1, 1)))
        if self._priced:
            spacing_s = MARKOUT_HORIZONS_STEPS[0] * order.step_s
            self._path = true_path(simulator, spacing_s, MARKOUT_HORIZONS_STEPS[-1] * order.step_s)

    def before(self) -> None:
        """At an env step: what the router could know, and what is true."""
        truth = self._truth
        dark, is_open, push = truth.dark, truth.open, truth.permanent_bps + truth.transient_bps
        row = {
            "active": truth.remaining_shares > 0.0,
            "slice_shares": truth.slice_shares,
            "decision": truth.step,
            "wave": truth.wave,
            "elapsed_ms": truth.elapsed_ms,
            "open": is_open,
            "latency_ms": truth.latency_ms,
            "observed_latency_ms": truth.observed_latency_ms,
            "volume_shares": truth.recent_volume_shares,
        }
        if self._priced:
            pending = np.where(truth.child_shares > 0.0, truth.child_arrives_ms, -1.0)
            self._pending = pending
            fresh = truth.elapsed_ms[:, None] + truth.latency_ms + self._hold_ms(np.ones_like(is_open))
            self._books = books_now(self.simulator, np.where(truth.child_shares > 0.0, pending, fresh))
            books = self._books
            row |= {"mid_bps": books.mid_bps + push, "bid_bps": books.bid_bps + push, "ask_bps": books.ask_bps + push}
            row |= {"touch_bps": books.touch_bps + push[:, None], "shown_shares": books.shown_shares}
        else:
            nothing = np.zeros(len(push))
            row |= {"mid_bps": nothing, "bid_bps": nothing, "ask_bps": nothing}
            row |= {"touch_bps": np.where(is_open & ~dark, truth.offset_bps, np.nan)}
            row |= {"shown_shares": np.where(is_open, truth.quote_shares, 0.0)}
        self._push, self._heard_shares = push, truth.observed_shares
        self._steps.append(row)

    def _hold_ms(self, sent: np.ndarray) -> np.ndarray:
        """How long children to the venues `sent` (bool) wait, so that all are expected at once, (N, K)."""
        truth = self._truth
        if truth.synchronise[0] == 0:
            return np.zeros(sent.shape)
        typical = truth.median_latency_ms + truth.speed_bump_ms
        return np.where(sent, typical, 0.0).max(axis=1, keepdims=True) - typical

    def after(self) -> None:
        """After the step: what was sent, what it got, and how far we pushed the midpoint."""
        truth, row = self._truth, self._steps[-1]
        active = row["active"][:, None]
        sent, filled = (np.where(active, shares, 0.0) for shares in (truth.sent_shares, truth.filled_shares))
        unknown = np.full(filled.shape, np.nan)
        row |= {"sent_shares": sent, "filled_shares": filled, "ack_ms": truth.ack_ms}
        row |= {"permanent_bps": truth.permanent_bps, "transient_bps": truth.transient_bps}
        row["mid_bps"] = np.where(row["active"], row["mid_bps"], np.nan)
        if not self._priced:
            paid = truth.fill_cost * (self._quantity[:, None] / truth.cost_scale[0])
            row["price_bps"] = np.divide(paid, filled, out=unknown, where=filled > 0.0)
            row |= dict.fromkeys(("arrival_touch_bps", "elsewhere_bps", "arrives_ms"), np.full(filled.shape, np.nan))
            row["excused"] = np.zeros(filled.shape, dtype=bool)
            return
        row["price_bps"] = np.divide(truth.fill_value_bps, filled, out=unknown, where=filled > 0.0)
        row["arrival_touch_bps"] = np.where(filled > 0.0, truth.fill_touch_bps, np.nan)
        arrives = row["elapsed_ms"][:, None] + row["latency_ms"] + self._hold_ms(sent > 0.0)
        arrives = np.where(self._pending >= 0.0, self._pending, np.where(sent > 0.0, arrives, np.nan))
        row["arrives_ms"] = arrives
        row["elsewhere_bps"], row["excused"] = self._elsewhere(row)

    def _elsewhere(self, row: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Best price left standing elsewhere (n, K), NaN for none, and whether all better ones are too young."""
        assert self._books is not None
        books, sent, price = self._books, row["sent_shares"], row["price_bps"]
        heard = np.where(self._heard_shares > 0.0, self._heard_shares, np.inf)[:, None]
        shown = np.minimum(books.rival_shares, heard)  # a sweep takes what was heard, or all there is
        taken = (sent[:, None, :] > 0.0) & (sent[:, None, :] >= shown * (1.0 - 1e-9))
        standing = np.where(taken, np.inf, books.elsewhere_bps) + self._push[:, None, None]
        best = standing.min(axis=2)
        better = standing < price[:, :, None] - TIE_BPS
        grid_s, last = self._path.grid_s, self._path.ask_bps.shape[1] - 1
        now_s = row["decision"] * self._market.order.step_s + row["elapsed_ms"] / 1e3
        from_row, to_row = (np.floor((now_s - s) / grid_s + 1e-9) for s in (EXCEPTION_S, 0.0))
        worst = np.full(sent.shape, -np.inf)
        for back in range(int(np.ceil(EXCEPTION_S / grid_s)) + 1):
            at = np.clip(np.maximum(to_row - back, from_row), 0, last).astype(np.int64)
            worst = np.fmax(worst, self._path.ask_bps[np.arange(len(at)), at])
        young = (worst + self._push[:, None])[:, None, :] >= price[:, :, None] - TIE_BPS
        return np.where(np.isfinite(best), best, np.nan), np.all(young | ~better, axis=2)

    def log(self) -> ChildLog:
        """The log, once every order is done."""
        truth, market = self._truth, self._market
        swept = truth.cleanup_shares
        price = np.divide(truth.cleanup_value_bps_shares, swept, out=np.full(len(swept), np.nan), where=swept > 0.0)
        return ChildLog(
            **{name: np.stack([step[name] for step in self._steps], axis=1) for name in (*_CELLS, *_ROWS)},
            fee_bps=self._fee,
            path_mid_bps=self._path.mid_bps,
            path_grid_s=self._path.grid_s,
            quantity_shares=self._quantity,
            cleanup_shares=swept,
            cleanup_price_bps=price,
            shortfall=self.simulator.ledger()["shortfall"],
            arrival_mid_px=np.where(truth.arrival_mid_px > 0.0, truth.arrival_mid_px, REFERENCE_PRICE),
            dark=truth.dark,
            transient_half_life_s=float(max(truth.transient_half_life_s[0], 1e-9)),
            horizon_steps=market.order.horizon_steps,
            step_s=float(market.order.step_s),
            venue_names=tuple(market.venue_names),
        )
