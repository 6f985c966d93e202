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

from sor_sb3.evaluation.prints import Prints, Terms, fade_shares_of, prints_of
from sor_sb3.evaluation.true_quotes import BooksNow, TruePath, books_now, true_path
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

REFERENCE_PRICE = 100.0
"""Dollars a share, for fees in mils and dollars where a market names no price; `us_equity` is a share at $100."""
MARKOUT_HORIZONS_STEPS = (0.2, 1.0, 2.0, 4.0, 8.0)
FINEST_S, LONGEST_S = 0.25, 60.0  # the midpoint is known at least so often, and for so long after the deadline
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
        passive_shares: filled of resting orders in this env step, at `passive_price_bps` on average; `passive_ms` after
            the decision is when the last of it was.
        fee_bps: float64 (N, K), take fee; `make_fee_bps` that of resting orders.
        open: bool (N, T, K), whether the venue traded.
        touch_bps: true far touch above the arrival mid; NaN where closed, or dark.
        arrival_touch_bps: far touch when the fill happened (in the dark, the midpoint); NaN if none.
        inside_shares: filled better than the best ask at the env step, print by print; `outside_shares` worse.
        through_shares: filled at a price worse than one displayed elsewhere when the child arrived, which this env
            step's children did not take; `excused_shares` those of them where every better quote was younger than the
            second of Rule 611.
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
        cleanup_shares: float64 (N,), of the order's `quantity_shares` (N,), swept at the deadline; negative where
            resting orders filled more than the order and the excess was sold.
        cleanup_price_bps: float64 (N,), at this price above the arrival mid, all-in; NaN if none.
        shortfall: float64 (N,), by the simulator's ledger, in cost units.
        arrival_mid_px: float64 (N,), recorded arrival mid, or `REFERENCE_PRICE` where the market names no price.
        horizon_steps: int (N,), decisions until the deadline.
        step_s: length of a decision.
    """

    sent_shares: np.ndarray
    filled_shares: np.ndarray
    price_bps: np.ndarray
    passive_shares: np.ndarray
    passive_price_bps: np.ndarray
    passive_ms: np.ndarray
    fee_bps: np.ndarray
    make_fee_bps: np.ndarray
    open: np.ndarray
    touch_bps: np.ndarray
    arrival_touch_bps: np.ndarray
    inside_shares: np.ndarray
    outside_shares: np.ndarray
    through_shares: np.ndarray
    excused_shares: np.ndarray
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
    horizon_steps: np.ndarray
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
        longer: dict[str, Any] = {n: _lengthened(n, getattr(self, n), missing) for n in (*_CELLS, *_ROWS)}
        return replace(self, **longer)

    def _arrays(self) -> dict[str, Any]:
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}


_CELLS = (
    "sent_shares filled_shares price_bps open touch_bps arrival_touch_bps inside_shares outside_shares through_shares "
    "excused_shares passive_shares passive_price_bps passive_ms shown_shares arrives_ms latency_ms observed_latency_ms "
    "ack_ms volume_shares"
).split()
_ROWS = ("decision wave elapsed_ms mid_bps bid_bps ask_bps permanent_bps transient_bps slice_shares active").split()
_PRINTED = ("inside_shares", "outside_shares", "through_shares", "excused_shares")
_UNKNOWN = {
    "price_bps",
    "passive_price_bps",
    "touch_bps",
    "arrival_touch_bps",
    "arrives_ms",
    "mid_bps",
    "bid_bps",
    "ask_bps",
}


def _lengthened(name: str, values: np.ndarray, missing: int) -> np.ndarray:
    widths = [(0, 0), (0, missing), *((0, 0) for _ in values.shape[2:])]
    return np.pad(values, widths, constant_values=np.nan if name in _UNKNOWN else 0)


class ChildRecorder:
    """Writes a :class:`ChildLog` while somebody else steps the simulator: `before` and `after` each step, then `log`.

    Begin it after the reset, when the orders stand at their first decision. A `path` that another recorder of the same
    scenarios worked out need not be worked out again.
    """

    def __init__(self, simulator: BatchSimulator, path: TruePath | None = None) -> None:
        self.simulator, self._truth, self._market = simulator, Truth(simulator), simulator.market
        order = self._market.order
        self._priced = self._market.charges_bps
        self._steps: list[dict[str, np.ndarray]] = []
        self._fee = take_fees_bps(simulator)
        self._quantity = self._truth.remaining_shares
        self._fills: list[tuple[np.ndarray, np.ndarray]] = []  # of the decision so far
        self.books: BooksNow  # as the env step at hand began; then what its children took, and on which terms
        self.terms: Terms
        self.prints: Prints
        self.push_bps: np.ndarray  # (N,), our own, when the env step began
        if path is None and self._priced:
            spacing_s = min(MARKOUT_HORIZONS_STEPS[0] * order.step_s, FINEST_S)
            path = true_path(simulator, spacing_s, max(MARKOUT_HORIZONS_STEPS[-1] * order.step_s, LONGEST_S))
        self.path = path or TruePath(order.step_s, np.zeros((simulator.n, 1)), np.zeros((simulator.n, 1, 1)))

    def before(self) -> None:
        """At an env step: what the router could know, and what is true."""
        truth = self._truth
        is_open, self.push_bps = truth.open, truth.permanent_bps + truth.transient_bps
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
        self._steps.append(row)
        if not self._priced:
            nothing = np.zeros(len(self.push_bps))
            row |= {"mid_bps": nothing, "bid_bps": nothing, "ask_bps": nothing}
            row["touch_bps"] = np.where(is_open & ~truth.dark, truth.offset_bps, np.nan)
            row["shown_shares"] = np.where(is_open, truth.quote_shares, 0.0)
            return
        self._down = truth.outage == 1.0
        self._heard_shares, self._pending_shares = truth.observed_shares, truth.child_shares
        self._pending_ms = np.where(self._pending_shares > 0.0, truth.child_arrives_ms, -1.0)
        fresh_ms = truth.elapsed_ms[:, None] + truth.latency_ms + self._hold_ms(np.ones_like(is_open))
        self.books = books_now(self.simulator, np.where(self._pending_shares > 0.0, self._pending_ms, fresh_ms))
        of_order = ("mid_bps", "bid_bps", "ask_bps")
        row |= {name: getattr(self.books, name) + self.push_bps for name in of_order}
        row["touch_bps"] = self.books.touch_bps + self.push_bps[:, None]
        row["shown_shares"] = self.books.shown_shares

    def _hold_ms(self, sent: np.ndarray) -> np.ndarray:
        """How long children to the venues `sent` (bool) wait, so that all are expected at once, (N, K)."""
        truth = self._truth
        if truth.synchronise[0] == 0:
            return np.zeros(sent.shape)
        typical = truth.median_latency_ms + truth.speed_bump_ms
        return np.asarray(np.where(sent, typical, 0.0).max(axis=1, keepdims=True) - typical)

    def after(self) -> None:
        """After the step: what was sent, what it got, and how far we pushed the midpoint."""
        truth, row = self._truth, self._steps[-1]
        active = row["active"][:, None]
        sent, filled = (np.where(active, shares, 0.0) for shares in (truth.sent_shares, truth.filled_shares))
        passive = np.where(active, truth.passive_shares, 0.0)
        unknown = np.full(filled.shape, np.nan)
        row |= {"sent_shares": sent, "filled_shares": filled, "ack_ms": truth.ack_ms}
        row |= {"passive_shares": passive, "passive_ms": truth.passive_ms}
        row["passive_price_bps"] = np.divide(truth.passive_value_bps, passive, out=unknown.copy(), where=passive > 0.0)
        row |= {"permanent_bps": truth.permanent_bps, "transient_bps": truth.transient_bps}
        row["mid_bps"] = np.where(row["active"], row["mid_bps"], np.nan)
        if not self._priced:
            paid = truth.fill_cost * (self._quantity[:, None] / truth.cost_scale[0])
            row["price_bps"] = np.divide(paid, filled, out=unknown.copy(), where=filled > 0.0)
            row |= dict.fromkeys(("arrival_touch_bps", "arrives_ms"), unknown)
            row |= dict.fromkeys(_PRINTED, np.zeros(filled.shape))
            return
        row["price_bps"] = np.divide(truth.fill_value_bps, filled, out=unknown.copy(), where=filled > 0.0)
        row["arrival_touch_bps"] = np.where(filled > 0.0, truth.fill_touch_bps, np.nan)
        arrives = row["elapsed_ms"][:, None] + row["latency_ms"] + self._hold_ms(sent > 0.0)
        arrives = np.where(self._pending_ms >= 0.0, self._pending_ms, np.where(sent > 0.0, arrives, np.nan))
        row["arrives_ms"] = self.arrives_ms = arrives
        self._work_out_prints(row)
        self._classify(row)

    def _work_out_prints(self, row: dict[str, np.ndarray]) -> None:
        """Set `terms` and `prints`; one print at the average price where a book was not that of the fill's tick."""
        truth, filled, arrives = self._truth, row["filled_shares"], row["arrives_ms"]
        if not self._fills or (row["wave"] == 0).all():
            self._fills = []
        again = (row["wave"] > 0)[:, None]
        self._fills = [(np.where(again, at, np.nan), shares) for at, shares in self._fills]
        self._fills.append((np.where(filled > 0.0, arrives, np.nan), filled))
        reaction_ms = np.broadcast_to(truth.reaction_time_ms, len(filled))
        self.terms = Terms(
            sent_shares=np.where(self._pending_ms >= 0.0, self._pending_shares, row["sent_shares"]),
            limit_bps=truth.child_limit_bps - self.push_bps[:, None],
            fade_shares=fade_shares_of(truth.toxicity, arrives, self._fills, reaction_ms),
            least_shares=np.where(truth.dark, truth.min_execution_shares, 0.0),
        )
        prints = prints_of(self.books.books, self.terms)
        takes = (filled > 0.0)[..., None]
        agrees = np.abs(prints.filled_shares - filled) <= 1e-6 * np.maximum(filled, 1.0)
        average = np.where(agrees[..., None], prints.price_bps, (row["price_bps"] - self.push_bps[:, None])[..., None])
        whole = np.zeros(prints.shares.shape)
        whole[..., 0] = filled
        shares = np.where(takes, np.where(agrees[..., None], prints.shares, whole), 0.0)
        self.prints = Prints(np.where(shares > 0.0, average, np.nan), shares)

    def mid_bps(self, member: int) -> float:
        """The true midpoint above the arrival mid, as the env step at hand began."""
        return float(self._steps[-1]["mid_bps"][member])

    def arrived(self, member: int) -> np.ndarray:
        """Which venues' children reached them in the env step just taken, bool (K,)."""
        row, tick_ms = self._steps[-1], 1e3 * float(self._truth.path_dt_s[0])
        ends_ms = self._truth.elapsed_ms[member] if self._truth.step[member] == row["decision"][member] else np.inf
        ends_ms = min(ends_ms, tick_ms * float(self._truth.ticks_per_step[0]))
        return np.asarray(np.nan_to_num(self.arrives_ms[member], nan=np.inf) < ends_ms)

    def status(self, member: int, k: int) -> str:
        """Why the child at venue `k` found no book that says what it filled; "" where it found one."""
        row = self._steps[-1]
        if not row["open"][member, k]:
            return "closed"
        if self.arrives_ms[member, k] >= 1e3 * float(self._truth.path_dt_s[0]):
            return "late"
        return "rejected" if self._down[member, k] else ""

    def _classify(self, row: dict[str, np.ndarray]) -> None:
        """Write the shares printed inside and outside the quote, and through better quotes elsewhere."""
        price, shares = self.prints.price_bps, self.prints.shares
        ask = self.books.ask_bps[:, None, None]
        heard = np.where(self._heard_shares > 0.0, self._heard_shares, np.inf)[:, None]
        sent = row["sent_shares"][:, None, :]
        # a sweep takes what was heard of a quote, or all there is
        taken = (sent > 0.0) & (sent >= np.minimum(self.books.rival_shares, heard) * (1.0 - 1e-9))
        standing = np.where(taken, np.inf, self.books.elsewhere_bps)[:, :, None, :]
        old = self._stood_bps(row)[:, None, None, :]
        total = lambda of: np.where(of, shares, 0.0).sum(axis=2)  # noqa: E731
        better = standing < price[..., None] - TIE_BPS
        through = better.any(axis=3)
        row["inside_shares"], row["outside_shares"] = total(price < ask - TIE_BPS), total(price > ask + TIE_BPS)
        row["through_shares"] = total(through)
        row["excused_shares"] = total(through & np.all(~better | (old >= price[..., None] - TIE_BPS), axis=3))

    def _stood_bps(self, row: dict[str, np.ndarray]) -> np.ndarray:
        """The highest ask of each venue in the second before the env step, (N, K), our own push apart."""
        grid_s, last = self.path.grid_s, self.path.ask_bps.shape[1] - 1
        now_s = row["decision"] * self._market.order.step_s + row["elapsed_ms"] / 1e3
        from_row, to_row = (np.floor((now_s - s) / grid_s + 1e-9) for s in (EXCEPTION_S, 0.0))
        worst = np.full(row["sent_shares"].shape, -np.inf)
        for back in range(int(np.ceil(EXCEPTION_S / grid_s)) + 1):
            at = np.clip(np.maximum(to_row - back, from_row), 0, last).astype(np.int64)
            worst = np.fmax(worst, self.path.ask_bps[np.arange(len(at)), at])
        return worst

    def log(self) -> ChildLog:
        """The log, once every order is done."""
        truth, market = self._truth, self._market
        swept = truth.cleanup_shares
        price = np.divide(truth.cleanup_value_bps_shares, swept, out=np.full(len(swept), np.nan), where=swept != 0.0)
        return ChildLog(
            **{name: np.stack([step[name] for step in self._steps], axis=1) for name in (*_CELLS, *_ROWS)},
            fee_bps=self._fee,
            make_fee_bps=truth.make_fee_bps,
            path_mid_bps=self.path.mid_bps,
            path_grid_s=self.path.grid_s,
            quantity_shares=self._quantity,
            cleanup_shares=swept,
            cleanup_price_bps=price,
            shortfall=self.simulator.ledger()["shortfall"],
            arrival_mid_px=np.where(truth.arrival_mid_px > 0.0, truth.arrival_mid_px, REFERENCE_PRICE),
            dark=truth.dark,
            transient_half_life_s=float(max(truth.transient_half_life_s[0], 1e-9)),
            horizon_steps=truth.horizon_steps,
            step_s=float(market.order.step_s),
            venue_names=tuple(market.venue_names),
        )
