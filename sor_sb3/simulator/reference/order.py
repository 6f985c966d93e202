"""The endogenous half of the reference: one parent order, its children, what they take, and what that costs.

Prices are in bps relative to the midpoint at arrival and, but for limits, without our own push of it; times in ms after
the decision at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.reference.path import Draws, ReferencePath, decayed
from sor_sb3.simulator.reference.resting import RestingBook

MEMORY = 0.7  # weight of the past in a venue's fill ratio, and in its last rejection
ROUNDING = 1e-9  # of shares, prices and times that are counted, or compared with a threshold
SLOTS = 8  # prices of a venue at which it is remembered what we took


@dataclass
class _Costs:
    """The ledger of one episode, bps of the whole order."""

    spread: float = 0.0
    impact: float = 0.0
    timing: float = 0.0
    fee: float = 0.0
    cleanup: float = 0.0


@dataclass
class Fill:
    """What one child took: shares at each price, its own moment, and the far touch there."""

    venue: int
    ms: float  # after the decision
    shares: float
    price_bps: float  # average
    touch_bps: float
    above_bps: float  # the dearest price taken, above the efficient price of the moment


@dataclass
class _Fills:
    """What child orders of one episode did."""

    sent: float = 0.0
    filled: float = 0.0
    passive: float = 0.0  # of what rests
    value_bps_shares: float = 0.0
    costs: _Costs = field(default_factory=_Costs)


class _Children:
    """Child orders without an answer, at most one a venue; times count from the decision at hand."""

    def __init__(self, n_venues: int) -> None:
        self.shares = np.zeros(n_venues)  # 0: no child there
        self.filled = np.zeros(n_venues)
        self.arrives_ms = np.full(n_venues, -math.inf)  # minus infinity: it has arrived
        self.answers_ms = np.full(n_venues, math.inf)
        self.limit_bps = np.full(n_venues, math.inf)  # with our push of the mid when it was sent
        self.rejected = np.zeros(n_venues, dtype=bool)
        self.new = np.zeros(n_venues, dtype=bool)  # of this decision

    @property
    def busy(self) -> np.ndarray:
        """Where a child has not been answered, bool (K,)."""
        return self.shares > 0.0

    @property
    def unfilled(self) -> float:
        """Shares that children carry and that are truly not filled."""
        return float((self.shares - self.filled).sum())


class _Taken:
    """What we took at one venue and what is not refilled: by price, and of size unseen at the midpoint."""

    def __init__(self, half_life_s: float, apart: float) -> None:
        self.half_life_s, self.apart = half_life_s, apart  # ticks from level to level
        self.by_price: dict[int, tuple[float, float, float]] = {}  # slot: price in ticks, shares, when
        self.unseen, self.unseen_s = 0.0, 0.0

    def _slot(self, ticks: float) -> int:
        return math.floor(ticks / self.apart) % SLOTS

    def at(self, ticks: float, now_s: float) -> float:
        """Shares not refilled at a price."""
        price, shares, then_s = self.by_price.get(self._slot(ticks), (math.nan, 0.0, 0.0))
        return shares * decayed(now_s - then_s, self.half_life_s) if price == ticks else 0.0

    def take(self, ticks: float, shares: float, now_s: float) -> None:
        """Take more at a price; another price with the same slot is forgotten."""
        self.by_price[self._slot(ticks)] = (ticks, self.at(ticks, now_s) + shares, now_s)

    def unseen_at(self, now_s: float) -> float:
        """Shares not refilled of what rests at the midpoint."""
        return self.unseen * decayed(now_s - self.unseen_s, self.half_life_s)


@dataclass
class Offer:
    """One price of a book, in the order in which a child takes it."""

    price_bps: float
    shares: float
    ticks: float | None  # None: at the midpoint


class ReferenceMarket:
    """One parent order in a synthetic market. What an env step's children took is in `fills_of_step`.

    Args:
        market: specification, without ranges.
        draws: where the random numbers come from.
    """

    def __init__(self, market: SyntheticMarket, draws: Draws) -> None:
        self.path, self.market, self.draws = ReferencePath(market, draws), market, draws
        order, response, path = market.order, market.response, self.path
        self.n_venues, self.dark, self.lit = path.n_venues, path.dark, path.lit
        self.quantity, self.horizon = order.quantity_shares, order.horizon_steps
        self.most_resting = order.most_resting_ratio
        self.step_ms, self.ticks_per_step = 1e3 * order.step_s, market.ticks_per_step
        self.limit_offset_bps = math.inf if order.limit_offset_bps is None else order.limit_offset_bps
        self.fee_bps = path.per_venue("take_fee_bps")
        self.toxicity = np.where(self.dark, 0.0, path.per_venue("toxicity"))  # of what others see
        self.impact = path.per_venue("impact")
        self.expected_ms = path.latency_median + path.bump_ms
        self.permanent_per_share = response.permanent_impact_bps_per_1000_shares / 1000.0
        self.transient_per_share = response.transient_impact_bps_per_1000_shares / 1000.0
        pools = [venue.dark for venue in market.venues]
        self.min_execution = np.array([0.0 if pool is None else pool.min_execution_shares for pool in pools])
        leaks = [0.0 if pool is None else pool.leakage_bps_per_1000_shares for pool in pools]
        self.leak_per_share = np.array(leaks) / 1000.0
        self.leak_forget = 1.0 - decayed(order.step_s, response.leakage_half_life_s)
        self.by_name = np.argsort(np.argsort(market.venue_names))
        quotes = market.quotes
        spacing = 1.0 if quotes.level_spacing_bps is None else round(quotes.level_spacing_bps / quotes.tick_bps)
        self.level_ticks = max(float(spacing), 1.0)

    # ------------------------------------------------------------------------------------------ an episode

    def begin(self) -> None:
        """Begin an episode: its first decision."""
        self.path.begin()
        self.step_number, self.wave, self.elapsed_ms = 0, 0, 0.0
        self.remaining = self.available = self.quantity
        self.overbooked = 0.0  # by how much what is available or rests passes what is left and not in flight
        self.returned = self.permanent_bps = self.transient_bps = self.leak_bps = 0.0
        self.worst_offered_bps = 0.0
        half_lives = self.path.per_venue("refill_half_life_s")
        self.taken = [_Taken(half_life, self.level_ticks) for half_life in half_lives]
        self.fill_ratio, self.reject = np.ones(self.n_venues), np.zeros(self.n_venues)
        self.answered = np.zeros(self.n_venues, dtype=bool)
        self.prints: list[tuple[float, int, float]] = []  # of this decision: when, where, shares
        self.children, self.fills, self.resting = _Children(self.n_venues), _Fills(), RestingBook(self)
        self.latency_ms, self.observed_mid_bps, self.observed_spread_bps = self.path.first_latency_ms, 0.0, 0.0
        self.step_shares = 0.0
        self._raise_worst_offered()
        self._look()

    def execute(
        self, weights: np.ndarray, pace: float | None = None, rest: np.ndarray | None = None
    ) -> tuple[float, float, bool]:
        """One env step: a wave of children by `weights` (K,), zeros for none; cost (bps), its pure noise, and done.

        `pace` is a share of what is offered; None sends what the schedule wants, or what came back. `rest` (K,) are
        targets of what rests, shares of what is not done; they are read in a decision's first wave.
        """
        self.cost, self.noise_cost, self.paced = 0.0, 0.0, pace is not None
        self.fills_of_step: list[Fill] = []
        self.step_shares = self._offered(pace) if weights.sum() > 0.0 else 0.0
        self._send(self._split(weights, self.step_shares))
        if self.wave == 0:
            if rest is not None:
                self.resting.set_targets(rest)
            self.idle = self._idle()  # when the tick began; later waves came after it
        if not self._end_wave():
            self._end_decision()
        done = self.wave == 0 and (self.step_number >= self.horizon or self.remaining <= 0.0)
        if not done:
            self._look()
        return self.cost, self.noise_cost, done

    # ---------------------------------------------------------------------------------------- what is known

    @property
    def push_bps(self) -> float:
        """By how much our own trading has moved the mid."""
        return self.permanent_bps + self.transient_bps

    def _now_s(self, ms: float) -> float:
        """Since arrival, so long after the path's tick began."""
        return self.path.tick * self.path.dt_s + 1e-3 * ms

    def _look(self) -> None:
        """What is true and what is observed as an env step begins."""
        path, ms = self.path, self.elapsed_ms
        self.mark_bps = path.price_at(ms)
        now = path.quotes_at(ms)
        midpoint, _ = path.midpoint_at(ms)
        self.touch_bps = np.where(self.lit, path.bps(now.ask), midpoint)
        self.observed_latency_ms, self.latency_ms = self.latency_ms, path.latency_ms(self.wave)
        if ms == 0.0 and self.wave == 0:
            self.heard = path.heard
        self._hear_in_later_wave()
        quoting = self.lit & path.open
        shown = np.array([self.heard.size[k] - self._taken_at_touch(k) for k in range(self.n_venues)])
        self.observed_shares = np.where(quoting & (shown > ROUNDING * self.heard.size), shown, 0.0)
        before = self.observed_mid_bps
        if quoting.any():
            ask, bid = path.bps(self.heard.ask[quoting].min()), path.bps(self.heard.bid[quoting].max())
            self.observed_mid_bps = 0.5 * (ask + bid) + self.push_bps
            self.observed_spread_bps = ask - bid
        is_first = self.step_number == 0 and self.wave == 0
        self.last_move_bps = 0.0 if is_first else self.observed_mid_bps - before
        middle = self.observed_mid_bps - self.push_bps
        self.observed_offset = np.where(self.lit, path.bps(self.heard.ask) - middle, 0.0)
        self.observed_near_offset = np.where(self.lit, middle - path.bps(self.heard.bid), 0.0)

    def _taken_at_touch(self, k: int) -> float:
        return self.taken[k].at(self.heard.ask[k], self._now_s(self.elapsed_ms)) if self.lit[k] else 0.0

    def _hear_in_later_wave(self) -> None:
        """Feeds that are fast enough tell of the tick itself; of the others, what was heard at the decision stands."""
        if self.elapsed_ms > 0.0:
            factor = np.where(self.path.congested, self.market.latency.congestion_factor, 1.0)
            for k, feed_ms in enumerate(factor * self.path.feed_ms):
                if self.elapsed_ms >= feed_ms:
                    fresh = self.path.quotes_at(self.elapsed_ms - feed_ms)
                    self.heard = fresh.where(np.arange(self.n_venues) == k, self.heard)

    def slice_shares(self) -> float:
        """What the schedule wants done by now; in a later wave, what came back."""
        if self.wave > 0:
            return self.returned
        still_allowed = self.quantity * (1.0 - (self.step_number + 1.0) / self.horizon)
        return max(self.available + self.resting.known - self.overbooked - max(still_allowed, 0.0), 0.0)

    # ------------------------------------------------------------------------------------- sending children

    def _offered(self, pace: float | None) -> float:
        if pace is None:
            return min(self.slice_shares(), self.available)
        free, lot_shares = self.available if self.wave == 0 else self.returned, self.market.order.lot_shares
        most = max(free + self.resting.known - self.overbooked, 0.0) if self.wave == 0 else free
        lots = 0 if lot_shares is None else math.ceil(most / lot_shares - ROUNDING)
        part = math.floor(min(pace, 1.0) * lots + 0.5) / lots if lots > 0 else min(pace, 1.0)
        return min(part * most, free)

    def _split(self, weights: np.ndarray, shares: float) -> np.ndarray:
        """Shares of each new child; none where one is in flight."""
        sent, lot_shares = weights * shares, self.market.order.lot_shares
        if lot_shares is not None and shares > 0.0:
            lots = math.ceil(shares / lot_shares - ROUNDING)
            sent = self._whole(weights * lots) * (shares / lots) if lots > 0 else sent
        return np.where(self.children.busy, 0.0, sent)

    def _whole(self, lots: np.ndarray) -> np.ndarray:
        """Lots rounded down, and those left over by largest remainder, ties by name."""
        whole = np.floor(lots + ROUNDING)
        left_over = math.floor(float(lots.sum()) + ROUNDING) - round(float(whole.sum()))
        by_remainder = np.lexsort((self.by_name, -np.round(lots - whole, 9)))
        whole[by_remainder[:left_over]] += 1.0
        return whole

    def _send(self, sent: np.ndarray) -> None:
        """Put new children on their way."""
        self.sent, new, children = sent, sent > 0.0, self.children
        if not new.any():
            return
        arrives_ms = self.elapsed_ms + self.latency_ms
        if self.market.order.synchronise_arrivals:
            arrives_ms = arrives_ms + (self.expected_ms[new].max() - self.expected_ms)
        children.shares[new], children.filled[new], children.new[new] = sent[new], 0.0, True
        children.arrives_ms[new], children.rejected[new] = arrives_ms[new], False
        children.answers_ms[new] = (arrives_ms + self.latency_ms - self.path.bump_ms)[new]
        children.limit_bps[new] = self._limits(sent)[new]
        self.fills.sent += float(sent.sum())
        self.leak_bps += float(self.leak_per_share @ sent)

    def _limits(self, sent: np.ndarray) -> np.ndarray:
        """The highest prices that new children may pay, with our push of the mid."""
        quoted = np.where(self.observed_shares > 0.0, self.observed_offset, math.inf)
        best = quoted.min()
        if self.market.order.limit == "sweep":
            limits = np.full(self.n_venues, best + self.limit_offset_bps)
        else:
            limits = np.where(self.dark, best, self.observed_offset)
        if self.market.order_protection:
            untaken = np.where(sent < self.observed_shares * (1.0 - ROUNDING), quoted, math.inf)
            for k in range(self.n_venues):
                limits[k] = min(limits[k], np.delete(untaken, k).min())
        return limits + self.observed_mid_bps

    # ------------------------------------------------------------------------------------- a venue's book

    def book(self, k: int, ms: float) -> list[Offer]:
        """What venue `k` holds so long after the path's tick began, before fade: displayed size apart from the unseen.

        The first offer is what rests at the midpoint, the second the size hidden at the touch, then the levels.
        """
        path, now_s = self.path, self._now_s(ms)
        midpoint, trades = path.midpoint_at(ms)
        if self.dark[k]:
            return [Offer(midpoint, max(path.dark_size[k] - self.taken[k].unseen, 0.0) if trades else 0.0, None)]
        venue, quotes, taken = self.market.venues[k], path.quotes_at(ms), self.taken[k]
        ask, size = quotes.ask[k], quotes.size[k]
        displayed = path.level_sizes(k, size, int(quotes.tick[k]))
        prices = ask + self.level_ticks * np.arange(len(displayed))
        gone = np.array([taken.at(ticks, now_s) for ticks in prices])
        hidden = -venue.hidden_fraction * size * math.log(path.u_hidden[k])
        hidden = max(hidden - max(gone[0] - size, 0.0), 0.0)
        resting = 0.0
        if path.u_mid[k] < venue.mid_probability and trades and midpoint < path.bps(ask):
            resting = -venue.mid_fraction * size * math.log(path.u_mid[k] / venue.mid_probability)
            resting = max(resting - taken.unseen_at(now_s), 0.0)
        left = np.maximum(displayed - gone, 0.0)
        against = path.news_bps > 0.0 and ms >= path.news_ms and quotes.tick[k] == path.tick
        left = _from_the_top(left, self.market.informed.removed_fraction * size if against else 0.0)
        offers = [Offer(midpoint, resting, None), Offer(float(path.bps(ask)), hidden, ask)]
        return offers + [Offer(float(path.bps(t)), float(s), t) for t, s in zip(prices, left, strict=True)]

    def _faded(self, k: int, ms: float) -> float:
        """Displayed shares that have left venue `k`, so long after the decision, since we were filled elsewhere."""
        reaction_ms = self.market.response.reaction_time_ms
        seen = sum(
            shares * (1.0 - math.exp(-(ms - then) / reaction_ms))
            for then, where, shares in self.prints
            if where != k and then < ms
        )
        return float(self.toxicity[k]) * seen

    # ------------------------------------------------------------------------------------------- filling

    def _fill_until(self, until_ms: float, tick_ms: float) -> None:
        """Fill, in the order of arrival, the children that arrive by `until_ms`; the path's tick began at `tick_ms`."""
        arrives_ms = self.children.arrives_ms
        due = np.flatnonzero(self.children.busy & (arrives_ms >= 0.0) & (arrives_ms <= until_ms))
        for k in due[np.argsort(arrives_ms[due], kind="stable")]:
            self._arrive(int(k), float(arrives_ms[k]), tick_ms)
            arrives_ms[k] = -math.inf

    def _arrive(self, k: int, ms: float, tick_ms: float) -> None:
        children, path = self.children, self.path
        if not path.open[k]:
            return
        if path.outage[k]:
            children.rejected[k] = True
            children.answers_ms[k] = max(children.answers_ms[k], ms + self.market.response.outage_reject_ms)
            return
        offers = self.book(k, ms - tick_ms)
        if self.lit[k]:
            left = _from_the_top(np.array([offer.shares for offer in offers[2:]]), self._faded(k, ms))
            for offer, shares in zip(offers[2:], left, strict=True):
                offer.shares = float(shares)
        limit_bps = children.limit_bps[k] - self.push_bps + ROUNDING
        took = [0.0] * len(offers)
        for n, offer in enumerate(offers):
            if offer.price_bps <= limit_bps:
                took[n] = min(offer.shares, children.shares[k] - sum(took))
        total = sum(took)
        if total <= 0.0 or total < self.min_execution[k] * (1.0 - ROUNDING):
            return
        self._take(k, offers, took, self._now_s(ms - tick_ms))
        value = sum(shares * offer.price_bps for shares, offer in zip(took, offers, strict=True))
        dearest = max(offer.price_bps for shares, offer in zip(took, offers, strict=True) if shares > 0.0)
        touch_bps = offers[0].price_bps if self.dark[k] else offers[1].price_bps
        above_bps = dearest - path.price_at(ms - tick_ms)
        self._book(Fill(k, ms, total, value / total, touch_bps, above_bps))

    def _take(self, k: int, offers: list[Offer], took: list[float], now_s: float) -> None:
        for shares, offer in zip(took, offers, strict=True):
            if shares <= 0.0:
                continue
            if offer.ticks is not None:
                self.taken[k].take(offer.ticks, shares, now_s)
            else:
                before = self.taken[k].unseen if self.dark[k] else self.taken[k].unseen_at(now_s)
                self.taken[k].unseen, self.taken[k].unseen_s = before + shares, now_s

    def _book(self, fill: Fill) -> None:
        """Write a fill into the ledger."""
        k, shares, costs = fill.venue, fill.shares, self.fills.costs
        spread_bps = self.touch_bps[k] - self.mark_bps
        costs.spread += shares * spread_bps / self.quantity
        costs.timing += shares * (fill.touch_bps - self.touch_bps[k]) / self.quantity
        costs.impact += shares * (fill.price_bps - fill.touch_bps) / self.quantity
        costs.fee += shares * self.fee_bps[k] / self.quantity
        self.cost += shares * (fill.price_bps - self.mark_bps + self.fee_bps[k]) / self.quantity
        self.children.filled[k] = shares
        self.prints.append((fill.ms, k, shares))
        self.remaining -= shares
        self.fills.filled += shares
        self.fills.value_bps_shares += shares * (fill.price_bps + self.push_bps)
        self.fills_of_step.append(fill)

    def book_passive(self, k: int, shares: float, price_bps: float, value_bps: float, fee_bps: float) -> None:
        """Write a fill of a resting order into the ledger: its price with the push of then, the value without one."""
        costs, share = self.fills.costs, shares / self.quantity
        costs.spread += share * (price_bps - self.push_bps - value_bps)
        costs.timing += share * (value_bps - self.mark_bps)
        costs.fee += share * fee_bps
        self.cost += share * (price_bps - self.push_bps - self.mark_bps + fee_bps)
        self.fills.passive += shares
        self.fills.value_bps_shares += shares * price_bps
        self.remaining -= shares

    def _hear_answers(self, until_ms: float) -> float:
        """Hear of the children that are answered by `until_ms`; what came back of those of this decision."""
        children, came_back = self.children, 0.0
        for k in np.flatnonzero(children.busy & (children.answers_ms <= until_ms)):
            sent, filled = children.shares[k], children.filled[k]
            self.fill_ratio[k] = MEMORY * self.fill_ratio[k] + (1.0 - MEMORY) * filled / sent
            self.reject[k], self.answered[k] = float(children.rejected[k]), True
            came_back += sent - filled if children.new[k] else 0.0
            children.shares[k], children.filled[k], children.new[k] = 0.0, 0.0, False
        return came_back

    # ------------------------------------------------------------------------------------------ time passes

    def _end_wave(self) -> bool:
        """Whether another wave follows; then time is there, and what came back is known."""
        if self.wave + 1 >= self.market.order.waves:
            return False
        children, dt_ms = self.children, self.path.dt_ms
        most_ms = min(self.elapsed_ms + self.market.order.wave_timeout_ms, dt_ms * (1.0 - 1e-12))
        waits_for, answers_ms = children.busy & children.new, children.answers_ms.copy()
        refused = self.path.open & self.path.outage & (children.arrives_ms >= 0.0) & (children.arrives_ms < dt_ms)
        given_up_ms = children.arrives_ms + self.market.response.outage_reject_ms
        answers_ms[refused] = np.maximum(answers_ms, given_up_ms)[refused]
        until_ms = min(max([self.elapsed_ms, *answers_ms[waits_for]]), most_ms)
        self._fill_until(until_ms + ROUNDING, 0.0)
        heard = waits_for & (answers_ms <= until_ms)
        if float((children.shares - children.filled)[heard].sum()) <= 1e-12 * self.quantity:
            return False
        self.returned = self._hear_answers(until_ms)
        self._mark(self.path.price_at(until_ms), 1e-3 * (until_ms - self.elapsed_ms), ends=False)
        self._count()
        if self.market.order.overbooking is not None:
            self.returned = min(self.returned, self.available)
        self.wave, self.elapsed_ms = self.wave + 1, until_ms
        return True

    def _end_decision(self) -> None:
        """Let time pass to the next decision; clean up at the deadline."""
        for tick in range(self.ticks_per_step):
            self._pass_tick(tick)
        elapsed_s = self.market.order.step_s - 1e-3 * self.elapsed_ms
        self._mark(self.path.price, elapsed_s, ends=True)
        if self.market.order.overbooking is not None and self.remaining <= 0.0:
            self._unwind(-self.remaining, self.market.order.overbooking.overfill_cost_bps)
        children = self.children
        self.reject = np.where(self.answered, self.reject, MEMORY * self.reject)
        self.answered[:], children.new[:] = False, False
        children.answers_ms -= self.step_ms
        children.arrives_ms = np.where(
            children.arrives_ms >= 0.0, np.maximum(children.arrives_ms - self.step_ms, 0.0), -math.inf
        )
        self.prints.clear()
        self.resting.age(self.step_ms)
        self._count()
        self.step_number += 1
        self.wave, self.elapsed_ms, self.returned = 0, 0.0, 0.0
        if self.step_number >= self.horizon:
            self._clean_up()

    def _pass_tick(self, tick: int) -> None:
        """Fill what arrives in a tick of the decision, and move the path on to the next."""
        path, begin_ms, end_ms = self.path, tick * self.path.dt_ms, (tick + 1) * self.path.dt_ms
        if tick > 0:
            self.idle = self._idle()
        self._fill_until(np.nextafter(end_ms, 0.0), begin_ms)
        self._hear_answers(end_ms)
        self.resting.pass_tick(begin_ms, end_ms)
        noise = self.idle * (path.noise + path.news_bps)
        if not self.paced:
            noise += self.quantity * (1.0 - (self.step_number + 1.0) / self.horizon) * path.expected
        self.noise_cost += noise / self.quantity
        path.advance()
        for k in np.flatnonzero(path.supplied_anew):
            self.taken[k].unseen = 0.0
        self._raise_worst_offered()

    def _raise_worst_offered(self) -> None:
        """The highest price above the efficient one that lit venues offer in the path's tick, whoever comes when."""
        path = self.path
        span = self.level_ticks * (len(self.market.quotes.level_profile) - 1)
        dearest_bps = path.bps(np.maximum(path.quotes.ask, path.next_quotes.ask) + span) + self.fee_bps
        lowest = path.price + min(path.smooth, 0.0) + min(path.news_bps, 0.0)
        self.worst_offered_bps = max(self.worst_offered_bps, float(dearest_bps[self.lit].max()) - lowest)

    def _mark(self, price_bps: float, elapsed_s: float, ends: bool) -> None:
        """Charge the efficient price's move, and our own push, on what is still to be done."""
        if self.remaining < 1e-12 * self.quantity and self.remaining > self._least():
            self.remaining = 0.0
        costs, share = self.fills.costs, self.remaining / self.quantity
        if self.step_number == 0 and self.wave == 0:  # the efficient price at arrival, above the midpoint
            costs.timing += self.mark_bps
            self.cost += self.mark_bps
            self.noise_cost += self.mark_bps
        pushed_bps = share * self._push(elapsed_s, ends)
        timing = share * (price_bps - self.mark_bps)
        costs.timing += timing
        costs.impact += pushed_bps
        self.cost += timing + pushed_bps
        self.mark_bps = price_bps

    def _push(self, elapsed_s: float, ends: bool) -> float:
        """Let our fills of this env step move the mid, and what pools gave away; by how much it has moved."""
        before = self.push_bps
        weighted = sum(self.impact[fill.venue] * fill.shares for fill in self.fills_of_step)
        self.permanent_bps += self.permanent_per_share * weighted
        self.transient_bps += self.transient_per_share * weighted
        self.transient_bps *= decayed(elapsed_s, self.market.response.transient_half_life_s)
        if ends:
            leaked_bps = self.leak_bps * self.leak_forget
            self.leak_bps -= leaked_bps
            self.permanent_bps += leaked_bps
        return self.push_bps - before

    def _count(self) -> None:
        left = self.remaining - self.children.unfilled
        available = left - self.resting.known / self.most_resting
        self.available = available if available > 1e-12 * self.quantity else 0.0  # rounding apart
        if self.market.order.overbooking is not None:
            self.overbooked = self.available + self.resting.known - left

    def _least(self) -> float:
        """What is left is no less, but for what is filled beyond the order where that may be."""
        return -math.inf if self.market.order.overbooking is None else -1e-12 * self.quantity

    def _idle(self) -> float:
        """Shares to be done that no child carries and that do not rest; negative: to be sold."""
        idle = self.remaining - self.children.unfilled - self.resting.live
        return idle if self.market.order.overbooking is None else max(idle, min(self.remaining, 0.0))

    def _unwind(self, shares: float, cost_bps: float) -> None:
        """Sell what is filled beyond the order, at the efficient price less the cost: our push earns nothing."""
        cost = shares / self.quantity * (cost_bps + self.push_bps)
        self.fills.costs.cleanup += cost
        self.cost += cost
        self.remaining = 0.0
        self.children, self.resting = _Children(self.n_venues), RestingBook(self)

    def _clean_up(self) -> None:
        """Sweep what is left, and what is in flight with it, at a price dearer than any fill that was offered."""
        price_bps = self.worst_offered_bps + self.market.response.cleanup_penalty_bps
        cost = self.remaining / self.quantity * price_bps
        self.fills.costs.cleanup += cost
        self.cost += cost
        self.remaining = self.available = 0.0
        self.children, self.resting = _Children(self.n_venues), RestingBook(self)

    def summary(self) -> dict[str, Any]:
        """Costs and measures of a finished episode, under the names that the envs report them by."""
        fills, parts = self.fills, dict(vars(self.fills.costs))
        nothing, done = math.nan, fills.filled + fills.passive
        return {
            "episode_cost": {"shortfall": sum(parts.values()), **parts},
            "slippage_bps": fills.value_bps_shares / done if done > 0.0 else nothing,
            "fee_bps": fills.costs.fee,
            "fill_rate": fills.filled / fills.sent if fills.sent > 0.0 else nothing,
            "completion": done / self.quantity,
        }


def _from_the_top(sizes: np.ndarray, shares: float) -> np.ndarray:
    """Sizes of levels after so many shares have left, from the first level downwards."""
    before = np.concatenate([[0.0], np.cumsum(sizes)[:-1]])
    return np.asarray(sizes - np.clip(shares - before, 0.0, sizes))
