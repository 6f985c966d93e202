"""The market's side of what a desk hears: books, status, latencies and trades, venue by venue, checked as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.live.events import Arrival, Latency, Quote, Status, Trade
from sor_sb3.market.spec import SMALLEST, VOLUME_LOOKBACK_STEPS, MarketSpec, ReplayMarket
from sor_sb3.simulator.elementary import toward
from sor_sb3.simulator.paths.replay import book_imbalance, relative_bps
from sor_sb3.simulator.pricing import Displayed
from sor_sb3.simulator.state import LANES_APART, MOST_LEVELS

DIGITS = 10  # of prices that go out: what a price loses on its way to bps and back
ON_THE_GRID_BPS = 1e-9  # a level so near to where the market's spacing puts it lies there


def checked(what: str, value: float, least: float = -math.inf) -> float:
    """`value`; a `UserError` where it is no finite number of at least `least`."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < least:
        at_least = "" if least == -math.inf else f" of at least {least:g}"
        raise UserError(f"{what} is {value!r}; expected a finite number{at_least}")
    return float(value)


class Feeds:
    """What K venues show, in the unit and from the side of observations.

    Attributes:
        ask_bps: float64 (K,), far touch from the midpoint at arrival, as last heard; `bid_bps` the near one.
        ask_shares: float64 (K,), displayed there; `bid_shares` at the near touch.
        quotes: bool (K,), whether the last book had two sides.
        open: bool (K,).
        latency_ms: float64 (K,), NaN before the first.
        heard_s: float64 (K,), when a quote was last heard; -inf: never.
        volume_shares: float64 (K,), recently, in a step; `outflow_shares` of it what hit the near touch.
    """

    def __init__(self, market: MarketSpec, spacing_bps: float, ticks_per_step: int, tick_s: float, memory: float):
        self._market, self._spacing_bps = market, spacing_bps
        self.names, k = market.venue_names, market.n_venues
        self._place = {name: place for place, name in enumerate(self.names)}
        self.dark = np.array([getattr(venue, "dark", None) is not None for venue in market.venues])
        self._ticks_per_step, self.tick_s, self._memory = ticks_per_step, tick_s, memory
        self.ask_bps, self.bid_bps, self.ask_shares, self.bid_shares = np.zeros((4, k))
        self.quotes, self.open = np.zeros(k, dtype=np.bool_), np.ones(k, dtype=np.bool_)
        self.latency_ms, self.heard_s = np.full(k, math.nan), np.full(k, -math.inf)
        self.volume_shares, self.outflow_shares = np.zeros((2, k))
        self._levels = Displayed(np.zeros((LANES_APART, MOST_LEVELS)), np.zeros((LANES_APART, MOST_LEVELS)))
        self._tick_shares, self._tick_sold = np.zeros((2, k))
        self._passed_ticks, self._begun_s, self._knows_volume = 0, 0.0, not market.has_volume
        self._looks_back = False  # trades of before the arrival wait to be averaged
        self._mid_px: float | None = None
        self._sells = False

    # ------------------------------------------------------------------------------------------------ what is heard

    def begin(self, arrival: Arrival) -> None:
        """A new order: prices are measured from its midpoint, and what was traded before is told anew."""
        if arrival.side not in ("buy", "sell"):
            raise UserError(f"side is {arrival.side!r}; expected buy or sell")
        mid_px = None if arrival.mid_px is None else checked("mid_px of the Arrival", arrival.mid_px, SMALLEST)
        begun_s = checked("time_s of the Arrival", arrival.time_s)
        given = arrival.recent_volume_shares, arrival.recent_outflow_shares
        if (given[0] is None) != (given[1] is None):
            what = "an Arrival has one of recent_volume_shares and recent_outflow_shares"
            raise UserError(f"{what}; expected both or none")
        none = np.zeros(len(self.names))
        recent = self.by_venue("recent_volume_shares", given[0], none, 0.0)
        outflow = self.by_venue("recent_outflow_shares", given[1], none, 0.0)
        self.volume_shares[:], self.outflow_shares[:], self._begun_s = recent, outflow, begun_s
        self._knows_volume = given[0] is not None or not self._market.has_volume
        self._sells = arrival.side == "sell" and mid_px is not None
        self._mid_px = -mid_px if mid_px is not None and self._sells else mid_px
        self._tick_shares[:], self._tick_sold[:], self._passed_ticks, self._looks_back = 0.0, 0.0, 0, False
        self.quotes[:], self.ask_bps[:], self.bid_bps[:], self.heard_s[:] = False, 0.0, 0.0, -math.inf

    def by_venue(
        self, what: str, values: Mapping[str, float] | None, otherwise: np.ndarray, least: float = -math.inf
    ) -> np.ndarray:
        """The numbers of a mapping by venue, float64 (K,) in the market's order; `otherwise` where it is None."""
        if values is None:
            return otherwise
        if set(values) != set(self.names):
            expected = f"expected one number for each of {', '.join(self.names)}"
            given = ", ".join(map(str, values)) or "no venue"
            raise UserError(f"{what} of the Arrival is given for {given}; {expected}")
        return np.array([checked(f"{what} of {name}", values[name], least) for name in self.names])

    def place(self, venue: str) -> int:
        """Where a venue stands in rows."""
        if venue not in self._place:
            hint = did_you_mean(str(venue), list(self.names))
            raise UserError(f"venue '{venue}' is unknown{hint}; expected one of {', '.join(self.names)}")
        return self._place[venue]

    def status(self, event: Status) -> None:
        """Take a venue's status."""
        self.open[self.place(event.venue)] = event.open

    def latency(self, event: Latency) -> None:
        """Take a measured latency."""
        k = self.place(event.venue)
        self.latency_ms[k] = checked(f"latency_ms of {event.venue}", event.latency_ms, 0.0)

    def quote(self, event: Quote) -> None:
        """Take a book; one that cannot be is refused, and what was heard before stands."""
        k, name = self.place(event.venue), event.venue
        if self.dark[k]:
            raise UserError(f"a Quote of {name} was heard, which is a dark pool and quotes nothing; leave it out")
        if (event.bid is None) != (event.ask is None):
            what = f"the Quote of {name} at {event.time_s:g} s has one side"
            raise UserError(f"{what}; expected two prices, or None for both")
        if event.bid is None or event.ask is None:
            self.quotes[k], self.heard_s[k], self.ask_shares[k], self.bid_shares[k] = False, event.time_s, 0.0, 0.0
            self._levels.shares[k] = 0.0
            return
        bid, ask = checked(f"bid of {name}", event.bid), checked(f"ask of {name}", event.ask)
        if bid > ask:
            what = f"the Quote of {name} at {event.time_s:g} s bids {bid:g} and asks {ask:g}"
            raise UserError(f"{what}; expected a bid no higher than the ask")
        sizes = [checked(f"{what}_shares of {name}", getattr(event, f"{what}_shares"), 0.0) for what in ("bid", "ask")]
        far, near = (bid, ask) if self._sells else (ask, bid)
        far_bps, near_bps = self._bps(name, far), self._bps(name, near)
        above_bps, shares = self._behind(name, far_bps, event.deeper)
        self.ask_bps[k], self.bid_bps[k] = far_bps, near_bps
        self.bid_shares[k], self.ask_shares[k] = sizes[::-1] if self._sells else sizes
        self._levels.above_bps[k], self._levels.shares[k] = above_bps, shares
        self.quotes[k], self.heard_s[k] = True, event.time_s

    def _bps(self, name: str, price: float) -> float:
        if self._mid_px is None:
            return price
        if price <= 0.0:
            raise UserError(f"a price of {name} is {price!r}; expected a number above 0")
        return float(relative_bps.py_func(-price if self._sells else price, self._mid_px))

    def _behind(self, name: str, far_bps: float, deeper: tuple[tuple[float, float], ...]) -> np.ndarray:
        """How far above the touch the levels behind it lie, and what they show: (2, MOST_LEVELS), level 0 left out."""
        found, before = np.zeros((2, MOST_LEVELS)), 0.0
        for level, (price, shares) in enumerate(deeper[: MOST_LEVELS - 1], 1):
            above_bps = self._bps(name, checked(f"a price behind the touch of {name}", price)) - far_bps
            if above_bps <= before:
                what = f"level {level} behind the touch of {name} is at {price:g}"
                raise UserError(f"{what}; expected prices that lead away from it")
            grid_bps = round(above_bps / self._spacing_bps) * self._spacing_bps
            if self._market.is_synthetic and abs(above_bps - grid_bps) <= ON_THE_GRID_BPS:
                above_bps = grid_bps
            found[:, level] = above_bps, checked(f"shares behind the touch of {name}", shares, 0.0)
            before = above_bps
        return found

    def trade(self, event: Trade) -> None:
        """Take a print: of the tick at hand, or, before the arrival, of what was traded lately."""
        k, name = self.place(event.venue), event.venue
        shares = checked(f"shares of a Trade at {name}", event.shares, 0.0)
        sold = self.outflow_of(event)
        if not self._market.has_volume:
            raise UserError(f"a Trade at {name} was heard, in a market without traded volume; leave it out")
        if event.time_s <= self._begun_s:
            if event.time_s > self._begun_s - VOLUME_LOOKBACK_STEPS * self._market.order.step_s:
                self._tick_shares[k] += shares
                self._tick_sold[k] += sold
            self._knows_volume = self._looks_back = True
            return
        self.look_back()
        self.pass_ticks(event.time_s)
        self._tick_shares[k] += shares
        self._tick_sold[k] += sold

    def outflow_of(self, event: Trade) -> float:
        """Of a print, what hit the near touch."""
        sold = checked(f"sold_shares of a Trade at {event.venue}", event.sold_shares, 0.0)
        if sold > event.shares:
            what = f"sold_shares of a Trade at {event.venue} is {sold:g}, of {event.shares:g} traded"
            raise UserError(f"{what}; expected no more than was traded")
        return event.shares - sold if self._sells else sold

    def look_back(self) -> None:
        """Make what was traded before the arrival the recent volume, once."""
        if self._looks_back:
            self.volume_shares[:] = self._tick_shares / VOLUME_LOOKBACK_STEPS
            self.outflow_shares[:] = self._tick_sold / VOLUME_LOOKBACK_STEPS
            self._tick_shares[:], self._tick_sold[:], self._looks_back = 0.0, 0.0, False

    def pass_ticks(self, time_s: float) -> None:
        """Let the ticks of the path's clock that ended before `time_s` become recent volume."""
        ended = math.ceil((time_s - self._begun_s) / self.tick_s - 1e-9) - 1
        for _ in range(ended - self._passed_ticks):
            self._end_tick()

    def end_step(self, step: int) -> None:
        """Let all ticks before decision `step` become recent volume."""
        self.look_back()
        while self._passed_ticks < step * self._ticks_per_step:
            self._end_tick()

    def _end_tick(self) -> None:
        forget, ticks = 1.0 - self._memory, float(self._ticks_per_step)
        self.volume_shares[:] = toward.py_func(self.volume_shares, ticks * self._tick_shares, forget)
        self.outflow_shares[:] = toward.py_func(self.outflow_shares, ticks * self._tick_sold, forget)
        self._tick_shares[:], self._tick_sold[:] = 0.0, 0.0
        self._passed_ticks += 1

    # ------------------------------------------------------------------------------------------------- what is known

    def refuse_missing(self, time_s: float, stale_after_s: float) -> None:
        """A `UserError` where something that an observation needs was never heard, or too long ago."""
        if not self._knows_volume:
            told = "give recent_volume_shares and recent_outflow_shares of the Arrival"
            raise UserError(f"what was traded before the arrival is not known; {told}, or Trade events up to it")
        for k, name in enumerate(self.names):
            if math.isnan(self.latency_ms[k]):
                what = f"no Latency of {name} has been heard at {time_s:g} s"
                raise UserError(f"{what}; measure it, or give a typical one")
            if self.dark[k] or not self.open[k]:
                continue
            remedy = "tell its book again, or a Status that it is closed"
            if self.heard_s[k] == -math.inf:
                raise UserError(f"no Quote of {name} has been heard since the arrival, and it is open; {remedy}")
            age_s = time_s - self.heard_s[k]
            if age_s > stale_after_s * (1.0 + 1e-9):
                what = f"the last Quote of {name} is {age_s:g} s old at {time_s:g} s"
                raise UserError(f"{what}; expected at most {stale_after_s:g} s (stale_after_s): {remedy}")

    def signal(self) -> float | None:
        """The imbalance of the displayed books in a market of recordings; None: nothing here says it."""
        if not isinstance(self._market, ReplayMarket):
            return None
        at = self.open & ~self.dark
        bid = ask = 0.0
        for k in np.flatnonzero(at):
            bid, ask = bid + self.bid_shares[k], ask + self.ask_shares[k]
        return float(book_imbalance.py_func(bid, ask))

    @property
    def levels(self) -> Displayed:
        """Levels behind the touch, as kernels read them."""
        return self._levels

    def price(self, bps: float) -> float | None:
        """A price of observations in the unit of events, to `DIGITS` digits; None where it is infinite."""
        if not math.isfinite(bps):
            return None
        if self._mid_px is None:
            return float(bps)
        return float(f"{abs(self._mid_px + bps * abs(self._mid_px) / 1e4):.{DIGITS}g}")
