"""What a desk hears, and what it sends: plain records. Times are seconds of one clock, the time of hearing.

Prices are those of the market, or, where an `Arrival` names no `mid_px`, bps of the midpoint at arrival from it.
Nothing here is derived: every number is one that a venue, a feed handler or the desk itself has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Arrival:
    """A parent order arrives: the first event. Everything heard before belongs to the order before.

    Attributes:
        time_s: when, on the clock of all events.
        side: of the order. In bps, events are those of a buyer: a seller's are mirrored already.
        mid_px: the consolidated midpoint then; None: prices are stated in bps from it.
        quantity_shares: of the order; None: the market's. Another is refused but where the market draws it.
        horizon_steps: decisions until the deadline; the same.
        take_fee_bps: by venue, where it is not the market's.
        make_fee_bps: the same, of what is filled at rest.
        recent_volume_shares: by venue, traded in a step, lately. None: the mean of ten steps of `Trade` events that are
            told after this one with times up to `time_s`.
        recent_outflow_shares: the same, of what sellers hit bids with (of a sell order: buyers asks).
        grid_bps: where prices are in bps: any price on the grid of ticks.
    """

    time_s: float
    side: Literal["buy", "sell"] = "buy"
    mid_px: float | None = None
    quantity_shares: float | None = None
    horizon_steps: int | None = None
    take_fee_bps: Mapping[str, float] | None = None
    make_fee_bps: Mapping[str, float] | None = None
    recent_volume_shares: Mapping[str, float] | None = None
    recent_outflow_shares: Mapping[str, float] | None = None
    grid_bps: float = 0.0


@dataclass(frozen=True, slots=True)
class Quote:
    """A lit venue's book, as its feed shows it; its trades of ours show in it. Told again, it says: still so.

    Attributes:
        bid: best bid; None where the venue quotes no two sides, which leaves the prices before standing, without size.
        ask: best ask.
        bid_shares: displayed at the best bid.
        ask_shares: displayed at the best ask.
        deeper: levels behind the touch on the side that the order takes (asks of a buyer), (price, shares) each, from
            the best on. Only orders whose `limit` is `sweep` look at them.
    """

    time_s: float
    venue: str
    bid: float | None
    bid_shares: float
    ask: float | None
    ask_shares: float
    deeper: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """A venue trades, or it is halted or quotes nothing; until told otherwise, every venue trades."""

    time_s: float
    venue: str
    open: bool


@dataclass(frozen=True, slots=True)
class Trade:
    """Shares that others traded at a venue; prints of our own children are left out.

    Attributes:
        sold_shares: of these, what hit the bid: all, none, or half where the aggressor is not known.
    """

    time_s: float
    venue: str
    shares: float
    sold_shares: float


@dataclass(frozen=True, slots=True)
class Latency:
    """The way to a venue as last measured, ms, speed bump included: of an answer half the round trip."""

    time_s: float
    venue: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The one answer to a marketable child: what it filled, the rest has come back.

    Attributes:
        filled_shares: of the child, from 0 to all of it.
        rejected: whether the venue took no orders, rather than held too little.
    """

    time_s: float
    venue: str
    filled_shares: float
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What became of a resting order since its last report. Shares neither filled nor left have been cancelled.

    Attributes:
        order: its number, as of `Post`.
        filled_shares: since its last report.
        leaves_shares: that still rest; 0: the order is over.
        queue_ahead_shares: before it, where the desk knows better than `Quote` and `Trade` events say: the displayed
            size when it was sent less what has been sold there since. None: those say it.
    """

    time_s: float
    venue: str
    order: int
    filled_shares: float
    leaves_shares: float
    queue_ahead_shares: float | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """It is time to observe.

    Attributes:
        signal: the desk's forecast of the short-lived drift, of about unit variance, above 0 where it goes against the
            order; 0 says nothing. None, in a market of recordings: the imbalance of the displayed books.
        push_bps: how far the desk's own trading has moved the mid, where quotes do not show it: theirs do, so 0. Only
            the env's own quotes are told without it.
        remaining_shares: of the order, not known to be filled, by the desk's own books. None: what events say; what
            differs from that by more than rounding is refused, since an answer has not been told.
    """

    time_s: float
    signal: float | None = None
    push_bps: float = 0.0
    remaining_shares: float | None = None


Event = Arrival | Quote | Status | Trade | Latency | Acknowledgement | OrderReport
"""What `ObservationBuilder.hear` takes; a `Clock` goes to `observe`."""


@dataclass(frozen=True, slots=True)
class Child:
    """A marketable order to send now, immediate or cancel.

    Attributes:
        limit: the worst price that it may pay, in the unit of the events, to ten digits; None: any.
        wait_ms: how long to hold it back, where arrivals are synchronised.
    """

    venue: str
    shares: float
    limit: float | None
    wait_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Post:
    """An order to leave at the near touch, or at the midpoint of a dark pool; `order` is its number at the venue."""

    venue: str
    order: int
    shares: float
    price: float | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Shares to be cancelled of a resting order."""

    venue: str
    order: int
    shares: float


Order = Child | Post | Cancel
