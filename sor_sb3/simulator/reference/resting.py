"""The reference's resting orders: how they are sent and cancelled, queue, and are filled by the exogenous outflow.

Times are in ms after the decision at hand, prices in ticks unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom, norm

ROUNDING = 1e-9
ACTION_ROUNDING = 1e-4  # of a lot, in a target: actions are float32
ROOM = 4  # resting orders of ours at a venue at most


def _cancelled(n: int, p: float, u: float) -> float:
    """How many of `n` orders are cancelled, each with chance `p`: a quantile, by its normal expansion for many."""
    variance, z = n * p * (1.0 - p), norm.ppf(u)
    gone = binom.ppf(u, n, p) if n > 0 else 0.0
    if variance > 200.0:
        gone = math.floor(n * p + math.sqrt(variance) * z + (1.0 - 2.0 * p) * (z * z - 1.0) / 6.0 + 0.5)
    return float(min(max(gone, 0.0), n))


@dataclass
class RestingOrder:
    """One order of ours, from when it is sent until its end is known."""

    shares: float  # not filled and not cancelled
    ticks: float
    price_bps: float  # relative to the midpoint at arrival, with our push of it when the order was sent
    number: int  # later orders have higher ones
    arrives_ms: float
    answer_ms: float  # when an order that comes back, or a cancel, is known
    estimate: float  # of the queue before it, as the router knows it
    has_arrived: bool = False
    ahead: float = 0.0  # that queue
    cancel_ms: float = math.inf  # when the cancel of `cancelling` arrives
    cancelling: float = 0.0
    gone: float = 0.0  # cancelled, or come back, and not known to be

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it, for the router either."""
        return self.shares <= 0.0 and self.gone <= 0.0

    def cancel(self, shares: float, at_ms: float, back_ms: float) -> None:
        """Send a cancel, which comes no sooner than the order itself."""
        self.cancelling, self.cancel_ms = shares, max(at_ms, self.arrives_ms) if not self.has_arrived else at_ms
        self.answer_ms = self.cancel_ms + back_ms


class RestingBook:
    """The resting orders of one parent order."""

    def __init__(self, order: Any) -> None:  # a ReferenceMarket, which imports this file
        self.order, self.path, self.market = order, order.path, order.market
        self.at: list[list[RestingOrder]] = [[] for _ in range(order.n_venues)]
        self.profile = np.array(self.market.quotes.level_profile) / self.market.quotes.level_profile[0]
        self.make_fee_bps = order.path.per_venue("make_fee_bps")

    @property
    def live(self) -> float:
        """Shares that rest or are on their way to it."""
        return sum(one.shares for orders in self.at for one in orders)

    @property
    def known(self) -> float:
        """Shares that the router must count as resting."""
        return sum(one.shares + one.gone for orders in self.at for one in orders)

    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares that the router counts as resting, and the queue before the oldest order as it knows it; (K,) each."""
        shares = [sum(one.shares + one.gone for one in orders) for orders in self.at]
        oldest = [min(orders, key=lambda one: one.number).estimate if orders else 0.0 for orders in self.at]
        return np.array(shares), np.array(oldest)

    # ------------------------------------------------------------------------------------------- decisions

    def set_targets(self, weights: np.ndarray) -> None:
        """Move what rests towards weights (K,) of what is neither filled, nor in flight, nor taken now."""
        order, lot = self.order, self.market.order.lot_shares
        least = 1e-9 * order.quantity if lot is None else lot
        free = order.available - float(order.sent.sum())
        base, ratio = max(free + self.known - order.overbooked, 0.0), order.most_resting
        missing = np.zeros(len(weights))
        for k, weight in enumerate(weights):
            target = weight * base if lot is None else math.floor(weight * base / lot + ACTION_ROUNDING) * lot
            excess = self._kept(k) - target
            for one in sorted(self.at[k], key=lambda one: -one.number):
                if (
                    excess >= least * (1.0 - ROUNDING)
                    and one.shares > 0.0
                    and one.cancelling <= 0.0
                    and one.gone <= 0.0
                ):
                    self._cancel(k, one, one.shares if excess > one.shares * (1.0 - ROUNDING) else excess)
                    excess -= one.cancelling
            if -excess >= least and self.path.open[k]:
                missing[k] = -excess
        missing *= min(max(free, 0.0) * ratio / max(missing.sum(), 1e-300), 1.0)  # an equal part, if too few are free
        for k, shares in enumerate(missing):
            post = shares if lot is None else math.floor(shares / lot + ROUNDING) * lot
            if post >= least and len(self.at[k]) < ROOM:
                self._post(k, post)

    def _kept(self, k: int) -> float:
        """Shares that stay; orders too far behind the touch are cancelled."""
        kept, near = 0.0, self.order.heard.bid[k]
        for one in self.at[k]:
            quiet = one.shares > 0.0 and one.cancelling <= 0.0 and one.gone <= 0.0
            if quiet and self.order.lit[k] and near - one.ticks > self.market.order.repeg_ticks:
                self._cancel(k, one, one.shares)
            else:
                kept += max(one.shares - one.cancelling, 0.0)
        return kept

    def _cancel(self, k: int, one: RestingOrder, shares: float) -> None:
        latency_ms = self.order.latency_ms[k]
        one.cancel(shares, self.order.elapsed_ms + latency_ms, latency_ms - self.path.bump_ms[k])

    def _post(self, k: int, shares: float) -> None:
        order, ticks = self.order, 0.0 if self.order.dark[k] else self.order.heard.bid[k]
        estimate = self.order.heard.near_size[k]
        arrives_ms = order.elapsed_ms + order.latency_ms[k]
        answer_ms = arrives_ms + order.latency_ms[k] - self.path.bump_ms[k]
        price_bps = self.path.bps(ticks) + order.push_bps
        self.at[k].append(RestingOrder(shares, ticks, price_bps, order.step_number, arrives_ms, answer_ms, estimate))
        order.leak_bps += order.leak_per_share[k] * shares

    # ------------------------------------------------------------------------------------------ time passes

    def pass_tick(self, begin_ms: float, end_ms: float) -> None:
        """Let the path's tick pass, which began at `begin_ms`, after the takes in it."""
        for k, orders in enumerate(self.at):
            filled = 0.0
            for one in sorted(orders, key=lambda one: (-one.ticks, one.number)):
                if one.shares > 0.0 and (one.has_arrived or one.arrives_ms < end_ms):
                    filled += self._live_on(k, one, filled, begin_ms, end_ms)
            for one in orders:
                if one.answer_ms <= end_ms and one.cancel_ms == math.inf:
                    one.gone = 0.0
                if one.shares <= 0.0 and one.cancelling > 0.0:  # filled before its cancel came
                    one.cancelling, one.cancel_ms = 0.0, math.inf
            orders[:] = [one for one in orders if not one.is_over]

    def _live_on(self, k: int, one: RestingOrder, filled: float, begin_ms: float, end_ms: float) -> float:
        """A tick of one order's life; shares filled. `filled` went to own orders before it."""
        from_ms, total = begin_ms, 0.0
        if not one.has_arrived:
            from_ms = max(one.arrives_ms, begin_ms)
            self._join(k, one, from_ms - begin_ms)
        if self.order.dark[k] and one.shares > 0.0:
            self._meet_in_the_dark(k, one, from_ms, begin_ms)
        until_ms = min(end_ms, max(one.cancel_ms, from_ms))
        if one.shares > 0.0 and self.order.lit[k]:
            total += self._meet_outflow(k, one, filled, (from_ms, until_ms), begin_ms)
        if one.cancel_ms < end_ms:
            one.gone = min(one.cancelling, one.shares)
            one.shares -= one.gone
            one.cancelling, one.cancel_ms = 0.0, math.inf
            if one.shares > 0.0 and self.order.lit[k]:
                total += self._meet_outflow(k, one, filled + total, (until_ms, end_ms), begin_ms)
        return total

    def _join(self, k: int, one: RestingOrder, in_tick_ms: float) -> None:
        """Arrive: behind what is displayed, or come back from where it would trade at once or nobody takes orders."""
        one.has_arrived = True
        quotes = self.path.quotes_at(in_tick_ms)
        takes = bool(self.path.open[k]) and not self.path.outage[k]
        if not takes or (self.order.lit[k] and one.ticks >= quotes.ask[k]):
            one.shares, one.gone = 0.0, one.shares
            one.cancelling, one.cancel_ms = 0.0, math.inf
        elif self.order.lit[k]:
            one.ahead, _ = self._queue(one.ticks, quotes.bid[k], quotes.near_size[k])
            self.order.leak_bps += self.market.response.display_leakage_bps_per_1000_shares / 1000.0 * one.shares

    def _queue(self, ticks: float, bid: float, near_size: float) -> tuple[float, float]:
        """What is displayed at a price and what at better ones; nothing above the near touch."""
        behind = (bid - ticks) / self.order.level_ticks
        if behind < 0.0:
            return 0.0, 0.0
        levels = min(math.ceil(behind - ROUNDING), len(self.profile))
        return near_size * self.profile[min(levels, len(self.profile) - 1)], near_size * float(
            self.profile[:levels].sum()
        )

    def _meet_outflow(
        self, k: int, one: RestingOrder, filled: float, window: tuple[float, float], begin_ms: float
    ) -> float:
        """Fill an order within a window by what sellers hit, and whole where the price falls through it; shares."""
        path, order, (from_ms, to_ms), total = self.path, self.order, window, 0.0
        unpushed_bps, fallen_ms = float(path.bps(one.ticks)), math.inf
        if path.next_price < unpushed_bps:
            fallen_ms = max(begin_ms + path.passing_ms(unpushed_bps, False), from_ms)
            to_ms = min(to_ms, fallen_ms)
        part = max(to_ms - from_ms, 0.0) / path.dt_ms
        if part > 0.0 and path.open[k]:
            ahead = self._after_cancels(k, one.ahead, part)
            shown, better = self._queue(one.ticks, path.quotes.bid[k], path.quotes.near_size[k])
            if one.ticks >= path.quotes.bid[k]:
                ahead = min(ahead, shown)
            flow = part * path.outflow[k]
            reaching = max(flow - better - filled, 0.0)
            total = min(one.shares, max(reaching - ahead, 0.0))
            if total > 0.0:
                share = min((better + filled + ahead + 0.5 * total) / flow, 1.0)
                at_ms = from_ms + (to_ms - from_ms) * share
                order.book_passive(k, total, one.price_bps, path.price_at(at_ms - begin_ms), self.make_fee_bps[k])
                one.shares -= total
            one.ahead = max(ahead - reaching, 0.0)
            one.estimate = max(one.estimate - flow, 0.0)
        if fallen_ms <= to_ms and one.shares > 0.0:
            order.book_passive(k, one.shares, one.price_bps, unpushed_bps, self.make_fee_bps[k])
            total, one.shares = total + one.shares, 0.0
        return total

    def _after_cancels(self, k: int, ahead: float, part: float) -> float:
        """The queue before us after others have cancelled for a part of a tick."""
        half_lives, u = part * self.path.dt_s / self.market.response.cancel_half_life_s, float(self.path.u_cancel[k])
        size = self.market.volume.trade_shares
        if size is None:
            return float(ahead * 2.0 ** (half_lives * math.log(u)))
        n = math.floor(ahead / size + ROUNDING)
        left, over = n - _cancelled(n, 1.0 - 2.0**-half_lives, u), ahead / size - n
        if over > ROUNDING:  # between those of the next whole numbers of orders
            left += over * (n + 1 - _cancelled(n + 1, 1.0 - 2.0**-half_lives, u) - left)
        return float(left * size)

    def _meet_in_the_dark(self, k: int, one: RestingOrder, at_ms: float, begin_ms: float) -> None:
        path, order = self.path, self.order
        midpoint, trades = path.midpoint_at(at_ms - begin_ms)
        filled = min(one.shares, max(path.dark_size[k] - order.taken[k].unseen, 0.0))
        if trades and path.open[k] and filled > 0.0 and filled >= order.min_execution[k] * (1.0 - ROUNDING):
            value_bps = path.price_at(at_ms - begin_ms)
            order.book_passive(k, filled, midpoint + order.push_bps, value_bps, self.make_fee_bps[k])
            one.shares -= filled
            order.taken[k].unseen += filled

    def age(self, step_ms: float) -> None:
        """Begin the next decision's clock."""
        for orders in self.at:
            for one in orders:
                one.answer_ms -= step_ms
                one.arrives_ms = max(one.arrives_ms - step_ms, 0.0)
                one.cancel_ms -= step_ms
