"""The env's observation from what a desk hears, with no simulator behind it, and what an action of a policy sends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import whole_number
from sor_sb3.envs.observation import observation_space, scales_of, write_observations
from sor_sb3.errors import UserError
from sor_sb3.live import kernels
from sor_sb3.live.events import (
    Acknowledgement,
    Arrival,
    Clock,
    Event,
    Latency,
    Order,
    OrderReport,
    Quote,
    Status,
    Trade,
)
from sor_sb3.live.feeds import Feeds, checked
from sor_sb3.live.orders import changes_of, children_of
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SMALLEST, MarketSpec, NotebookMarket
from sor_sb3.simulator.parameters import Parameters
from sor_sb3.simulator.state import BLOCK, State, words_of

ROUNDING = 1e-9  # of the order: shares that reports may lack
NOTHING = 1e-12  # of the order: what the simulator takes for no shares
JITTER_S = 1e-9  # by which a clock may be early

_NOTHING_RESTS = np.empty((0, 0))
_SCHEDULE = np.full(1, -1.0)


class ObservationBuilder:
    """Observations of one parent order at a time, from events; the same bytes as the env's of the same market.

    The order of calls: `hear` what comes, an `Arrival` first; at `due_s`, `observe` and `act`; send what `act`
    returns, and go on until `due_s` is None. Shares are counted, schedules kept and rows written by the simulator's own
    functions. What a desk cannot derive from venues' messages is an input with a name: `Clock.signal`,
    `Latency.latency_ms`, `Arrival.recent_volume_shares`, `OrderReport.queue_ahead_shares`.

    Args:
        market: a preset's name, a file, or a specification: that which the policy was trained on.
        env: "VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1" or "OrderPlace-v1", as the policy was trained on.
        stale_after_s: the age at which a quote of an open venue is refused; None: a decision's length. Feeds that speak
            only of changes need a larger one, or a heartbeat that tells a book again.

    Attributes:
        market: the specification.
        observation_space: float32 (10 + 19 K,), see :mod:`sor_sb3.envs.observation`.
        action_space: of the env.

    Raises:
        UserError: the market or the env is unknown, or the market is the notebook's, which has no venues' messages.
            Every method raises it, in a sentence, for an event that is unknown, out of order, too old or impossible,
            and leaves the state as it was.
    """

    def __init__(self, market: str | MarketSpec, env: str, stale_after_s: float | None = None) -> None:
        self.market = load_market(market)
        if isinstance(self.market, NotebookMarket):
            what = f"market '{self.market.name}' is a game of draws, without quotes that a feed could show"
            raise UserError(f"{what}; expected a synthetic or a recorded market")
        order, k = self.market.order, self.market.n_venues
        self._adapter = make_action_adapter(env, k, self.market.venue_names, order.most_resting_ratio)
        self.observation_space, self.action_space = observation_space(self.market), self._adapter.space
        step_s = order.step_s
        self.stale_after_s = step_s if stale_after_s is None else checked("stale_after_s", stale_after_s, 0.0)
        self._parameters = Parameters(self.market, 1)
        self._rules = self._parameters.market
        blocks = np.zeros(1, BLOCK)
        self._state = State(blocks, words_of(blocks), self._parameters.venues, self._rules, None)
        self._order = {name: blocks[name][0] for name in BLOCK.names or ()}  # views
        self._fees = {name: self._parameters.venues[name][0, :k].copy() for name in ("take_fee_bps", "make_fee_bps")}
        rules = self._rules[0]
        spacing_bps, memory = rules["level_ticks"] * rules["tick_bps"], float(rules["volume_memory"])
        self._feeds = Feeds(self.market, spacing_bps, int(rules["ticks_per_step"]), float(rules["path_dt_s"]), memory)
        self._scales, self._which = scales_of(self.market), np.zeros(1, dtype=np.int64)
        self._heard_s, self._begun_s = -math.inf, math.nan  # no order has arrived
        self._observed = self._acted = False
        self._sent_s = 0.0
        self._answered_s = np.zeros(k)

    # ------------------------------------------------------------------------------------------------------ hearing

    def hear(self, event: Event) -> None:
        """Take an event. They come in the order of their times, which are those of hearing."""
        if isinstance(event, Arrival):
            self._begin(event)
            return
        if math.isnan(self._begun_s):
            raise UserError(f"a {type(event).__name__} was heard before any Arrival; tell the parent order first")
        before_s = self._checked_time(event)
        match event:
            case Quote():
                self._feeds.quote(event)
            case Trade():
                self._feeds.trade(event)
                self._shorten_queues(event)
            case Status():
                self._feeds.status(event)
            case Latency():
                self._feeds.latency(event)
            case Acknowledgement():
                self._acknowledge(event)
            case OrderReport():
                self._report(event)
            case _:
                raise UserError(f"{type(event).__name__} is no event; expected one of sor_sb3.live.events")
        self._heard_s = before_s

    def _checked_time(self, event: Event | Clock) -> float:
        """The event's time; a `UserError` where an event of a later time has been heard."""
        what, venue = type(event).__name__, getattr(event, "venue", None)
        time_s = checked(f"time_s of a {what}", getattr(event, "time_s", math.nan))
        if time_s < self._heard_s:
            of = f" of {venue}" if venue else ""
            late = f"a {what}{of} at {time_s:g} s came after an event at {self._heard_s:g} s"
            raise UserError(f"{late}; expected events in the order in which they are heard")
        return time_s

    def _begin(self, arrival: Arrival) -> None:
        sizes = {name: self._size(name, getattr(arrival, name)) for name in ("quantity_shares", "horizon_steps")}
        fees = {name: self._feeds.by_venue(name, getattr(arrival, name), fee) for name, fee in self._fees.items()}
        self._feeds.begin(arrival)
        for name, size in sizes.items():
            self._rules[name] = size
        for name, values in fees.items():
            self._parameters.venues[name][0, : self.market.n_venues] = values
        kernels.begin(self._state)
        sign = -1.0 if arrival.side == "sell" else 1.0
        self._order["grid_bps"][0] = arrival.grid_bps if arrival.mid_px is None else -1e4 * sign
        self._begun_s, self._heard_s = arrival.time_s, -math.inf  # trades of before may follow
        self._observed = self._acted = False

    def _size(self, name: str, given: Any) -> float:
        """How large or long an order is; a `UserError` where the policy has seen no such order."""
        typical = getattr(self.market.order, name)
        if given is None or given == typical:
            return float(typical)
        if self.market.draws_order:
            whole = name == "horizon_steps"
            return float(whole_number(name, given, 1)) if whole else checked(f"{name} of the Arrival", given, SMALLEST)
        remedy = "train on a market whose 'randomise' draws it, for orders of several sizes"
        raise UserError(f"{name} of the Arrival is {given!r}, and the market's is {typical:g}; {remedy}")

    def _acknowledge(self, event: Acknowledgement) -> None:
        k, name, of = self._feeds.place(event.venue), event.venue, self._order
        sent = of["child_shares"][k]
        if sent <= 0.0 or of["child_answers_ms"][k] == kernels.ANSWERED_MS:
            raise UserError(f"an Acknowledgement of {name} came at {event.time_s:g} s, where no child is in flight")
        filled = checked(f"filled_shares of {name}", event.filled_shares, 0.0)
        if filled > sent + ROUNDING * self._rules["quantity_shares"][0]:
            what = f"an Acknowledgement of {name} fills {filled:g} shares of a child of {sent:g}"
            raise UserError(f"{what}; expected no more than was sent")
        of["child_filled_shares"][k], of["child_rejected"][k] = min(filled, sent), float(event.rejected)
        of["child_answers_ms"][k], self._answered_s[k] = kernels.ANSWERED_MS, event.time_s
        of["remaining_shares"][0] -= of["child_filled_shares"][k]

    def _report(self, event: OrderReport) -> None:
        k, name, of = self._feeds.place(event.venue), event.venue, self._order
        at = kernels.orders_at(k)
        known = (of["rest_number"][at] == event.order) & (of["rest_shares"][at] > 0.0)
        if not known.any():
            raise UserError(f"an OrderReport of {name} is of order {event.order!r}, which does not rest there")
        r = at.start + int(np.argmax(known))
        rests, rounding = of["rest_shares"][r], ROUNDING * self._rules["quantity_shares"][0]
        filled = checked(f"filled_shares of order {event.order} of {name}", event.filled_shares, 0.0)
        leaves = checked(f"leaves_shares of order {event.order} of {name}", event.leaves_shares, 0.0)
        if filled + leaves > rests + rounding:
            what = f"an OrderReport of {name} fills {filled:g} shares and leaves {leaves:g} of order {event.order}"
            raise UserError(f"{what}, of which {rests:g} rested; expected no more")
        ahead = event.queue_ahead_shares
        if ahead is not None:
            of["rest_estimate_shares"][r] = checked(f"queue_ahead_shares of {name}", ahead, 0.0)
        of["rest_shares"][r] = leaves
        of["remaining_shares"][0] -= filled
        if leaves <= 0.0 or rests - filled - leaves > rounding:  # over, or a cancel is answered
            of["rest_cancel_shares"][r], of["rest_cancel_ms"][r] = 0.0, 0.0

    def _shorten_queues(self, event: Trade) -> None:
        """Let what sellers hit the near touch with take from the queues before our orders that rest there."""
        k, of = self._feeds.place(event.venue), self._order
        if of["rest_total_shares"][k] > 0.0:
            since_ms = 1e3 * (event.time_s - self._decision_s())
            at, outflow = kernels.orders_at(k), self._feeds.outflow_of(event)
            joined = (of["rest_shares"][at] > 0.0) & (of["rest_arrives_ms"][at] <= since_ms)
            queues = of["rest_estimate_shares"][at]
            queues[joined] = np.maximum(queues[joined] - outflow, 0.0)

    # --------------------------------------------------------------------------------------------------------- time

    def _decision_s(self) -> float:
        return float(self._begun_s + self._order["step"][0] * self.market.order.step_s)

    @property
    def is_done(self) -> bool:
        """Whether the order is filled, or its deadline has passed: what is left then is the desk's to sweep."""
        left, rules = self._order["remaining_shares"][0], self._rules[0]
        return bool(self._order["step"][0] >= rules["horizon_steps"] or left <= NOTHING * rules["quantity_shares"])

    @property
    def due_s(self) -> float | None:
        """When the next observation is due, as far as is known now; None: no order is under way.

        The arrival, then the next decision, or a later wave of this one: as soon as all its children are answered or
        its time is up, if something came back.
        """
        if math.isnan(self._begun_s) or self.is_done:
            return None
        if not self._observed:
            return self._begun_s
        wave_s = self._wave_due_s()
        return self._decision_s() + self.market.order.step_s if wave_s is None else wave_s

    def _wave_due_s(self) -> float | None:
        order, of, k = self.market.order, self._order, self.market.n_venues
        if not self._acted or of["wave"][0] + 1 >= order.waves:
            return None
        tick_end_s = self._decision_s() + self._feeds.tick_s * (1.0 - 1e-12)
        limit_s = min(self._sent_s + 1e-3 * order.wave_timeout_ms, tick_end_s)
        sent = (of["child_shares"][:k] > 0.0) & (of["child_is_new"][:k] == 1.0)
        back = sent & (of["child_answers_ms"][:k] == kernels.ANSWERED_MS) & (self._answered_s <= limit_s + JITTER_S)
        returned = float(np.sum((of["child_shares"][:k] - of["child_filled_shares"][:k])[back]))
        if returned <= NOTHING * self._rules["quantity_shares"][0]:
            return None
        return float(self._answered_s[back].max()) if (back == sent).all() else limit_s

    @property
    def is_later_wave(self) -> bool:
        """Whether the last observation was of a later wave."""
        return bool(self._order["wave"][0] > 0)

    # ---------------------------------------------------------------------------------------------------- observing

    def observe(self, clock: Clock | float) -> np.ndarray:
        """The observation at a time, float32 (10 + 19 K,); a number stands for ``Clock(number)``.

        Raises:
            UserError: nothing is due then, the last observation was not acted on, a decision was missed, or a quote, a
                latency, the signal or the volume before arrival is missing or stale.
        """
        clock = clock if isinstance(clock, Clock) else Clock(clock)
        time_s, due_s, step_s = self._checked_time(clock), self.due_s, self.market.order.step_s
        if due_s is None:
            raise UserError(f"nothing is to be observed at {time_s:g} s: no order is under way; tell an Arrival first")
        if self._observed and not self._acted:
            raise UserError(f"observed at {time_s:g} s without an action on the observation before; call act first")
        if time_s < due_s - JITTER_S:
            raise UserError(f"observed at {time_s:g} s, before the next observation is due, at {due_s:g} s")
        next_s = self._decision_s() + (step_s if self._observed else 0.0)
        later = self._observed and time_s < next_s - JITTER_S
        if not later and time_s >= next_s + step_s - JITTER_S:
            what = f"observed at {time_s:g} s, a decision after that of {next_s:g} s, which was missed"
            raise UserError(f"{what}; expected one every {step_s:g} s: tell an Arrival of what is left")
        signal = clock.signal if clock.signal is not None or later else self._feeds.signal()
        if signal is None and not later:
            remedy = "give the desk's forecast of drift, or 0 for none"
            raise UserError(f"the Clock at {time_s:g} s has no signal; {remedy}")
        signal = None if signal is None else checked("signal of the Clock", signal)
        self._feeds.refuse_missing(time_s, self.stale_after_s)
        push_bps = checked("push_bps of the Clock", clock.push_bps)
        self._order["remaining_shares"][0] = self._agreed_remaining(clock)
        if later:
            kernels.next_wave(self._state, 1e3 * (time_s - self._decision_s()))
        elif self._observed:
            kernels.next_decision(self._state)
        if not later:
            self._feeds.end_step(int(self._order["step"][0]))
        if signal is not None:
            self._order["signal"][0] = signal
        self._lay_down(push_bps)
        kernels.see(self._state, not self._observed)
        self._observed, self._acted, self._heard_s, self._sent_s = True, False, time_s, time_s
        return self._row()

    def _agreed_remaining(self, clock: Clock) -> float:
        """Shares not known to be filled: the desk's own count, if it gives one that events bear out."""
        counted = float(self._order["remaining_shares"][0])
        if clock.remaining_shares is None:
            return counted
        said = checked("remaining_shares of the Clock", clock.remaining_shares)
        if abs(said - counted) > ROUNDING * self._rules["quantity_shares"][0]:
            what = f"the Clock at {clock.time_s:g} s says that {said:g} shares remain, and events say {counted:g}"
            raise UserError(f"{what}; tell the answers that are missing")
        return said

    def _lay_down(self, push_bps: float) -> None:
        of, feeds, k = self._order, self._feeds, self.market.n_venues
        shows = feeds.open & feeds.quotes
        of["open"][:k], of["observed_latency_ms"][:k] = feeds.open, feeds.latency_ms
        of["latency_ms"][:k] = feeds.latency_ms  # when an order is taken to join its queue
        heard = np.isfinite(feeds.heard_s) & ((feeds.ask_bps != 0.0) | (feeds.bid_bps != 0.0))
        of["observed_ask_bps"][:k][heard], of["observed_bid_bps"][:k][heard] = (
            feeds.ask_bps[heard],
            feeds.bid_bps[heard],
        )
        of["observed_quote_shares"][:k] = feeds.quotes
        of["observed_shares"][:k] = np.where(shows, feeds.ask_shares, 0.0)
        of["observed_near_shares"][:k] = feeds.bid_shares
        of["recent_volume_shares"][:k], of["recent_outflow_shares"][:k] = feeds.volume_shares, feeds.outflow_shares
        of["permanent_bps"][0], of["transient_bps"][0] = push_bps, 0.0

    def _row(self) -> np.ndarray:
        row = np.empty((1, *self.observation_space.shape), dtype=np.float32)
        write_observations(self._state, self._which, self._scales, row, self._feeds.levels)
        return row[0]

    def action_masks(self) -> np.ndarray:
        """bool (K,): venues that trade, all True where none does: for policies that take masks."""
        masks = self._feeds.open.copy()
        masks[:] |= not masks.any()
        return masks

    # ------------------------------------------------------------------------------------------------------- acting

    def act(self, action: Any) -> list[Order]:
        """What an action on the last observation sends: children first, then cancels, then orders to rest.

        Raises:
            UserError: there is no observation to act on, or the action is none of `action_space`.
        """
        if not self._observed or self._acted:
            raise UserError("there is no observation to act on; call observe first")
        action = np.asarray(action)[np.newaxis]
        weights, pace = self._adapter.decode(action, 1, np.array([self.is_later_wave]))
        rest = self._adapter.resting(action)
        before = {name: self._order[name].copy() for name in ("rest_shares", "rest_cancel_shares")}
        rest = _NOTHING_RESTS if rest is None else np.ascontiguousarray(rest)
        kernels.send(self._state, np.ascontiguousarray(weights), _SCHEDULE if pace is None else pace, rest)
        self._acted = True
        return [*children_of(self._order, self._feeds), *changes_of(self._order, self._feeds, before)]
