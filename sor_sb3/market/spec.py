"""What a market is: venues, how they move, and the parent order traded in them, as checked data.

Nothing here steps in time; :mod:`sor_sb3.simulator` puts a specification in motion. Units stand in the
names: ``_bps`` is 1e-4 of the arrival mid, ``_ms`` milliseconds, ``_s`` seconds, ``_shares`` shares.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sor_sb3.market.router_names import check_router_names
from sor_sb3.market.validation import instead_of

SMALLEST = 1e-9  # a number that is divided by is at least so large; what is smaller is a slip


def _not_tiny(value: float) -> float:
    if 0.0 < abs(value) < SMALLEST:
        expected = f"expected at least {SMALLEST:g} in size, or 0 where that is allowed"
        raise ValueError(f"{value!r} is too near to 0; {expected}")
    return value


def _nothing_if_tiny(value: float) -> float:
    return value if value >= SMALLEST else 0.0


# A type for each unit, with bounds far outside any real market and far inside what keeps rewards finite in float32.
_DIVISOR = AfterValidator(_not_tiny)
Bps = Annotated[float, Field(ge=-1e5, le=1e5)]  # 1e5: ten times the price
NonNegativeBps = Annotated[float, Field(ge=0, le=1e5)]
PositiveBps = Annotated[float, Field(gt=0, le=1e5), _DIVISOR]
TickBps = Annotated[float, Field(ge=1e-4, le=1e5)]  # 1e-4: finer than any market's; ticks are counted exactly
Milliseconds = Annotated[float, Field(ge=0, le=1e8)]  # 1e8: more than a day
PositiveMilliseconds = Annotated[float, Field(gt=0, le=1e8), _DIVISOR]
Seconds = Annotated[float, Field(gt=0, le=1e8), _DIVISOR]  # 1e8: three years
NonNegativeSeconds = Annotated[float, Field(ge=0, le=1e8)]
ClockSeconds = Annotated[float, Field(gt=0, le=1), _DIVISOR]
Shares = Annotated[float, Field(gt=0, le=1e12), _DIVISOR]
NonNegativeShares = Annotated[float, Field(ge=0, le=1e15)]
PerHour = Annotated[float, Field(ge=0, le=1e6)]
PerSecond = Annotated[float, Field(ge=0, le=1e3)]
LogSd = Annotated[float, Field(ge=0, le=3)]  # of a logarithm; recorded quotes have 0.4 to 1.4
Factor = Annotated[float, Field(gt=0, le=1e3), _DIVISOR]
TimesMore = Annotated[float, Field(ge=1, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
VolumeWeight = Annotated[Weight, AfterValidator(_nothing_if_tiny)]
PositiveWeight = Annotated[float, Field(gt=0, le=1e9), _DIVISOR]
LevelProfile = Annotated[tuple[Factor, ...], Field(min_length=1, max_length=8)]
Probability = Annotated[float, Field(ge=0, le=1)]
MOST_TICKS = 30_000  # of a step, more than eight hours at the slowest clock: every one is computed
MOST_LOTS = 1e9  # of a parent order: more could not be counted exactly
VenueName = Annotated[str, Field(min_length=1, max_length=64)]


class _Spec(BaseModel):
    """Frozen, and strict about unknown fields: a misspelt key is an error, never a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Overbooking(_Spec):
    """How much more may rest than is left to be done, and what it costs when all of it is filled.

    What is filled beyond the order is sold at the decision's end, at the efficient price of then (without our push of
    it) less `overfill_cost_bps`; the order is done, and what still rests is gone.
    """

    most_ratio: Annotated[float, Field(ge=1, le=100)]  # shares that rest over what is left, not in flight nor taken now
    overfill_cost_bps: NonNegativeBps  # of a share filled beyond the order


class OrderSpec(_Spec):
    """The parent order, one episode, and how its children are sent.

    A decision comes every `step_s`; a later wave of it distributes what came back. The side matters to recorded quotes
    only (synthetic ones mirror).
    """

    quantity_shares: Shares
    horizon_steps: Annotated[int, Field(ge=1, le=100_000)]
    step_s: Seconds
    side: Literal["buy", "sell"] = "buy"
    lot_shares: Shares | None = None  # a step's shares go out in the fewest equal lots no larger; None: any size
    limit: Literal["touch", "sweep"] = "touch"  # a child pays at most the far touch last observed at its venue,
    limit_offset_bps: NonNegativeBps | None = None  # or, in a sweep, so much above the best one; None: any price
    waves: Annotated[int, Field(ge=1, le=4)] = 1  # of a decision: what came back may be sent again at once
    wave_timeout_ms: PositiveMilliseconds = 50.0  # after which a wave waits no longer for its children
    repeg_ticks: Annotated[int, Field(ge=0, le=1_000_000)] = (
        1  # a resting order further behind the touch is cancelled (a replay: in level spacings)
    )
    synchronise_arrivals: bool = False  # hold near children back by the expected difference, so that all arrive at once
    overbooking: Overbooking | None = None  # None: what rests, is in flight and is done is never more than the order

    @property
    def most_resting_ratio(self) -> float:
        """How much may rest at most, in shares of what is neither done, nor in flight, nor taken now."""
        return 1.0 if self.overbooking is None else self.overbooking.most_ratio

    @model_validator(mode="after")
    def _check(self) -> OrderSpec:
        if self.lot_shares is not None and self.quantity_shares > MOST_LOTS * self.lot_shares:
            too_small = f"lot_shares is {self.lot_shares:g} for an order of {self.quantity_shares:g} shares"
            raise ValueError(f"{too_small}; expected larger lots, at most {MOST_LOTS:g} of them")
        if self.limit_offset_bps is not None and self.limit == "touch":
            said = f"limit_offset_bps is {self.limit_offset_bps:g} and limit is touch, the touch of a child's own venue"
            raise ValueError(f"{said}; set limit to sweep, or take limit_offset_bps out")
        return self


class DarkPool(_Spec):
    """Size resting at the midpoint that nobody sees: zero, or a power law (Ganchev, Nevmyvaka, Kearns, Vaughan 2010).

    The pool is dry or supplied, by turns: dry with `zero_probability` in the long run, remembered with `half_life_s`.
    At every supply the size is drawn with the density ``s ** -power_exponent`` on [1, `max_shares`]; what we take stays
    taken until the next. A child learns min(sent, available) and no more.
    """

    zero_probability: Probability
    half_life_s: Seconds = 10.0  # of the memory of whether it is supplied
    power_exponent: Annotated[float, Field(ge=-10, le=10)]
    max_shares: Annotated[float, Field(gt=1, le=1e12)]
    min_execution_shares: NonNegativeShares = 0.0  # a child that would be filled less comes back unfilled
    leakage_bps_per_1000_shares: NonNegativeBps = 0.0  # of what is *sent*: the mid drifts so far against us in the end


class VenueSpec(_Spec):
    """One venue. A lit one quotes prices and sizes; a dark one does not.

    A quote made at efficient price e lies at e +- offset, rounded outwards to ticks: on average the half-spread is
    `offset_bps` and half a tick. A quote that the price passes is made anew within the market's `reaction_time_ms`,
    any other after `quote_delay_s` on average.
    """

    name: VenueName
    take_fee_bps: Bps  # negative at inverted venues, which pay takers
    make_fee_bps: Bps = 0.0  # of resting orders that are filled; negative where the venue pays a rebate
    offset_bps: PositiveBps | None = None  # lit: median distance from the efficient price, before rounding to ticks
    size_shares: Shares | None = None  # lit: median displayed size of the touch in calm markets
    dark: DarkPool | None = None  # in place of offset and size
    latency_ms: Milliseconds  # median, decision to arrival; the acknowledgement takes as long again
    latency_sigma: LogSd = 0.3  # sd of log latency
    speed_bump_ms: Milliseconds = 0.0  # added on the way in, the same for everyone
    feed_latency_ms: Milliseconds | None = None  # of its quotes to us; None: as `latency_ms`; a step late at the most
    quote_delay_s: NonNegativeSeconds = 0.0  # mean, of its quotes behind a price that has not passed them
    hidden_fraction: Weight = 0.0  # mean size behind the displayed touch that nobody sees, as a share of it
    mid_probability: Probability = 0.0  # that unseen size rests at the midpoint, which a child meets first
    mid_fraction: Weight = 1.0  # mean of that size, as a share of the displayed touch
    toxicity: Weight = 0.5  # shares that leave its display for each share of ours filled elsewhere before
    impact: Weight = 1.0  # of a fill here on the mid, in units of the market's: how much its prints tell
    refill_half_life_s: Seconds = 5.0  # of what we took
    volume_share: VolumeWeight = 1.0  # weight in the market's traded volume
    halts_per_hour: PerHour = 0.0  # announced: observed at once, and can be masked
    halt_duration_s: Seconds = 60.0
    outages_per_hour: PerHour = 0.0  # of order entry, unannounced: quotes go on, children come back late, unfilled
    outage_duration_s: Seconds = 60.0

    @model_validator(mode="after")
    def _check(self) -> VenueSpec:
        for field in ("offset_bps", "size_shares"):
            is_given = getattr(self, field) is not None
            if self.dark is None and not is_given:
                remedy = "add it, or make the venue dark with 'dark: {...}'"
                raise ValueError(f"venue '{self.name}' has no {field}; {remedy}")
            if self.dark is not None and is_given:
                raise ValueError(f"venue '{self.name}' is dark and has {field}; a dark pool quotes none, take it out")
        return self


class QuoteDynamics(_Spec):
    """Two-speed log-normal offsets and sizes: a fast and a slow AR(1), stationary sds in log units; and the grid.

    Level l of a side shows about ``level_profile[l] / level_profile[0]`` times the touch, each with noise of its own.
    """

    fast_half_life_s: Seconds = 2.0
    slow_half_life_s: Seconds = 120.0
    size_fast_half_life_s: Seconds | None = None  # of sizes; None: as `fast_half_life_s`
    size_slow_half_life_s: Seconds | None = None  # of sizes; None: as `slow_half_life_s`
    offset_fast_sd: LogSd = 0.35
    offset_slow_sd: LogSd = 0.25
    sides_correlation: Annotated[float, Field(ge=-1, le=1)] = 1.0  # of a venue's fast log offsets at its two touches
    join_probability: Probability = 0.0  # that a side which is made anew joins the best quote, where the price allows
    size_fast_sd: LogSd = 0.6
    size_slow_sd: LogSd = 0.4
    size_tail: Annotated[float, Field(ge=0, le=3)] = 0.0  # sizes above the median: so much more of their logarithm
    round_lot_shares: Shares | None = None  # displayed sizes are whole numbers of these, at least one
    tick_bps: TickBps = 0.01  # quotes lie on an absolute grid of ticks; 0.01 is as good as none
    level_profile: LevelProfile = (1.0, 1.5, 1.8, 2.0, 2.0)
    level_spacing_bps: PositiveBps | None = None  # from level to level, rounded to ticks; None: a tick


class PriceDynamics(_Spec):
    """The efficient price: volatility in clusters, rare jumps, and a short-lived drift that a signal shows in part.

    The volatility is log-normal around its root mean square: its logarithm is an AR(1).
    """

    volatility_bps_per_sqrt_s: NonNegativeBps = 1.0  # root mean square in calm markets, news and jumps apart
    volatility_log_sd: Annotated[float, Field(ge=0, le=2)] = 0.0  # of its slow logarithm
    volatility_half_life_s: Seconds = 120.0
    jumps_per_hour: PerHour = 0.0
    jump_sd_bps: NonNegativeBps = 5.0
    drift_sd_bps_per_s: NonNegativeBps = 0.0
    drift_half_life_s: Seconds = 10.0
    signal_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.5


class StressRegime(_Spec):
    """A two-state Markov regime common to all venues."""

    entries_per_hour: PerHour = 0.0
    duration_s: Seconds = 60.0
    offset_factor: Factor = 1.5
    size_factor: Factor = 0.6
    volatility_factor: Factor = 2.0


class LatencyDynamics(_Spec):
    """Congestion per venue (two-state Markov, likelier under stress) and a rare long tail."""

    congestions_per_hour: PerHour = 0.0
    congestion_duration_s: Seconds = 20.0
    congestion_factor: TimesMore = 3.0
    stress_multiplies_congestions: TimesMore = 3.0
    tail_probability: Probability = 1e-4
    tail_factor: TimesMore = 20.0


class InformedFlow(_Spec):
    """News that the price jumps by; fast traders take quotes that still stand, before slow children arrive."""

    news_per_s: PerSecond = 0.0
    jump_bps: NonNegativeBps = 1.0  # up or down, equally likely
    flow_foresight: Annotated[float, Field(ge=0, le=0.95)] = 0.0  # correlation of who trades with the next tick's move
    flow_focus: Annotated[float, Field(ge=1, le=100)] = 1.0  # 1: sellers prefer near bids; more: they wait for them
    removed_fraction: Probability = 0.5  # of the displayed touch, where news is against it, until it is quoted anew


class TradedVolume(_Spec):
    """Volume that prints while we trade: an intraday curve times noise, split over venues."""

    shares_per_day: NonNegativeShares = 0.0  # 0: the market publishes no volume
    day_s: Seconds = 23_400.0
    curve: Annotated[float, Field(ge=0, le=1.5)] = 0.8  # curvature of the U shape; 0 is flat
    noise_sd: LogSd = 0.7
    trade_shares: Shares | None = None  # trades of this mean size come at random times (Poisson), in place of the noise
    trade_sizes: Literal["fixed", "exponential"] = "fixed"  # of those trades
    side_correlation: Annotated[float, Field(ge=0, le=1)] = 0.5  # of who trades with the price's move while they do
    memory_half_life_s: Seconds = 30.0  # of the recent volume that routers see


class Response(_Spec):
    """How the market answers our own orders, and how fast it takes quotes that the price has passed."""

    reaction_time_ms: PositiveMilliseconds = 0.2  # mean
    permanent_impact_bps_per_1000_shares: NonNegativeBps = 0.0  # of our fills on the mid, at once and for good
    transient_impact_bps_per_1000_shares: NonNegativeBps = 0.0  # and at once, but decaying
    transient_half_life_s: Seconds = 10.0
    cancel_half_life_s: Seconds = 30.0  # of the queue before a resting order, by cancellations
    cleanup_penalty_bps: NonNegativeBps = 2.0  # above the worst price that the episode offered
    outage_reject_ms: PositiveMilliseconds = 50.0  # a child in an outage is given up after it (an old one: on arrival)
    leakage_half_life_s: Seconds = 10.0  # in which half of what a leaky pool, or a display, gave away has moved the mid
    display_leakage_bps_per_1000_shares: NonNegativeBps = 0.0  # of ours that come to rest at a lit venue: as the pools'


PROSE_FIELDS = {"description", "fees_as_of", "sources", "unit"}
"""Fields of a market that only people read."""
PATH_FIELDS = {"quotes_file", "trades_file"}
"""Where a recording lies; what it holds is in `quotes_sha256`."""


class _Market(_Spec):
    """What every kind of market has in common.

    Each has `scales` too: typical all-in price (in `cost_unit`), even slice (shares) and latency (ms), the units of
    observations.
    """

    cost_unit: ClassVar[str] = "bps"  # of costs and rewards
    is_synthetic: ClassVar[bool] = False  # the specification says how it moves
    charges_bps: ClassVar[bool] = True  # a fill has a price and a fee, in bps of the arrival mid
    has_partial_fills: ClassVar[bool] = True  # what is done now changes what can be done later
    name: Annotated[str, Field(min_length=1, max_length=200)] = "unnamed"
    description: str = ""
    order: OrderSpec
    reference_router: str = "round_robin"  # the naive router that "gap closed" is measured from
    oracle: str = "snapshot_oracle"  # and the oracle that it is measured to; `placement_oracle` where orders may rest
    order_protection: bool = False  # no child fills through a better observed quote that is left untaken elsewhere
    fees_as_of: str = ""  # which version of the venues' fee schedules `take_fee_bps` follows
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_market(self) -> _Market:
        for k, name in enumerate(self.venue_names):
            if name in self.venue_names[:k]:
                raise ValueError(f"two venues are named '{name}'; venue names must differ")
        check_router_names(self)
        clock_s = getattr(self, "path_dt_s", self.order.step_s)
        if self.order.waves > 1 and self.order.wave_timeout_ms >= 1e3 * clock_s:
            what = f"order.wave_timeout_ms is {self.order.wave_timeout_ms:g}, with {self.order.waves} waves"
            raise ValueError(f"{what}; expected less than {1e3 * clock_s:g}, the path's clock; shorten it")
        return self

    @property
    def venue_names(self) -> tuple[str, ...]:
        """Names of the venues, in the order of actions and observations."""
        return tuple(venue.name for venue in self.venues)  # type: ignore[attr-defined]

    @property
    def n_venues(self) -> int:
        """How many venues there are."""
        return len(self.venue_names)

    @property
    def price_unit(self) -> str:
        """The unit of prices and of a step's cost."""
        return self.cost_unit.removesuffix(" per episode")

    @property
    def has_volume(self) -> bool:
        """Whether traded volume is published, as `vwap` needs."""
        return False

    @property
    def has_dark(self) -> bool:
        """Whether a venue is a dark pool."""
        return any(getattr(venue, "dark", None) is not None for venue in self.venues)  # type: ignore[attr-defined]

    @property
    def draws_order(self) -> bool:
        """Whether episodes draw the order's size or horizon."""
        return False

    def with_order(self, **changes: Any) -> Self:
        """The same market with these fields of the order changed, unchecked, and none of the order drawn."""
        return self.model_copy(update={"order": self.order.model_copy(update=changes)})

    @property
    def has_dark_and_waves(self) -> bool:
        """Whether what a dark pool returns can be sent on in the same decision."""
        return self.has_dark and self.order.waves > 1

    @property
    def has_volume_and_horizon(self) -> bool:
        """Whether traded volume is published, and episodes draw nothing of the order."""
        return self.has_volume and not self.draws_order

    @property
    def has_lots(self) -> bool:
        """Whether a step's shares go out in whole lots, so that its splits are finite in number."""
        return self.order.lot_shares is not None

    def without_prose(self) -> dict[str, Any]:
        """The market as plain data (as JSON would hold it) without texts and paths: what a hash of it should cover."""
        return self.model_dump(mode="json", exclude=PROSE_FIELDS | PATH_FIELDS)

    def digest(self) -> str:
        """SHA-256, 16 hexadecimal digits, of what the market says beyond fields' defaults, prose and paths apart."""
        stated = self.model_dump(mode="json", exclude=PROSE_FIELDS | PATH_FIELDS, exclude_defaults=True)
        text = json.dumps({"model": type(self).__name__, **stated}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def _even_slice_shares(self) -> float:
        return self.order.quantity_shares / self.order.horizon_steps


class SyntheticMarket(_Market):
    """Venues that move by the model of this project.

    `randomise` makes a family of markets: by the dotted path of a number, such as ``informed.news_per_s`` or
    ``venues.*.latency_ms`` (each venue by itself), the range [low, high] from which every episode draws that number
    uniformly, by its seed. The number itself stays the typical value, which sets the units of observations. Of the
    order the size and the horizon (whole steps) may be drawn.
    """

    is_synthetic: ClassVar[bool] = True

    model: Literal["synthetic"] = "synthetic"
    venues: Annotated[tuple[VenueSpec, ...], Field(min_length=2, max_length=256)]
    path_dt_s: ClockSeconds = 1.0  # the clock that it moves on, whatever `order.step_s`
    quotes: QuoteDynamics = QuoteDynamics()
    price: PriceDynamics = PriceDynamics()
    stress: StressRegime = StressRegime()
    latency: LatencyDynamics = LatencyDynamics()
    informed: InformedFlow = InformedFlow()
    volume: TradedVolume = TradedVolume()
    response: Response = Response()
    randomise: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> SyntheticMarket:
        if all(venue.dark is not None for venue in self.venues):
            raise ValueError("every venue is dark; at least one must quote, or nothing says what a share costs")
        if abs(self.ticks_per_step * self.path_dt_s - self.order.step_s) > 1e-9 * self.order.step_s:
            what = f"order.step_s is {self.order.step_s:g} and path_dt_s is {self.path_dt_s:g}"
            raise ValueError(f"{what}; expected a whole number of path_dt_s in a step; change one of them")
        if self.ticks_per_step > MOST_TICKS:
            what = f"order.step_s is {self.order.step_s:g} and path_dt_s is {self.path_dt_s:g}"
            raise ValueError(f"{what}; expected at most {MOST_TICKS:,} ticks of path_dt_s in a step; shorten the step")
        check_ranges(self)
        return self

    @property
    def ticks_per_step(self) -> int:
        """Ticks of the path's clock in a step."""
        return max(round(self.order.step_s / self.path_dt_s), 1)

    @property
    def scales(self) -> tuple[float, float, float]:
        """The median over venues of half-spread plus fee, an even slice, and the median latency."""
        half_tick = 0.5 * self.quotes.tick_bps
        all_in = [v.offset_bps + half_tick + abs(v.take_fee_bps) for v in self.venues if v.offset_bps is not None]
        latency_ms = median(v.latency_ms + v.speed_bump_ms for v in self.venues)
        return median(all_in), self._even_slice_shares, _nothing_if_tiny(latency_ms) or 1.0

    @property
    def draws_order(self) -> bool:
        """Whether episodes draw the order's size or horizon."""
        return any(path.startswith("order.") for path in self.randomise)

    def with_order(self, **changes: Any) -> Self:
        """The same market with these fields of the order changed, unchecked, and none of the order drawn."""
        ranges = {path: ends for path, ends in self.randomise.items() if not path.startswith("order.")}
        return super().with_order(**changes).model_copy(update={"randomise": ranges})

    @property
    def has_volume(self) -> bool:
        """Whether traded volume is published, as `vwap` needs."""
        return self.volume.shares_per_day > 0 and any(v.volume_share > 0 for v in self.venues)


def ranged_paths(market: SyntheticMarket) -> dict[tuple[str, ...], tuple[float, float]]:
    """`randomise` with every ``*`` spelt out: (part, field), or ("venues", name, field[, field]), to (low, high)."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    for path, ends in market.randomise.items():
        parts = path.split(".")
        for name in market.venue_names if parts[:2] == ["venues", "*"] else [""]:
            found[tuple(name if part == "*" else part for part in parts)] = ends
    return found


RANDOMISED_OF_ORDER = ("quantity_shares", "horizon_steps")
RANDOMISED_PARTS = ("quotes", "price", "stress", "latency", "informed", "volume", "response")


def check_ranges(market: SyntheticMarket) -> None:
    """A ValueError unless every path of `randomise` names a number that may vary, within what is allowed there."""
    of_order = [f"order.{field}" for field in RANDOMISED_OF_ORDER]
    known = ", ".join((*RANDOMISED_PARTS, "venues"))
    for path, (low, high) in ranged_paths(market).items():
        where = "randomise." + ".".join(path)
        if not low <= high:
            raise ValueError(f"{where} is [{low}, {high}]; expected the lower end first")
        if (instead := instead_of(path)) is not None:
            raise ValueError(f"{where} is of the first market: {instead}")
        if path[0] not in known.split(", ") and ".".join(path) not in of_order:
            expected = f"expected {', '.join(of_order)}, or a path that begins with {known}"
            raise ValueError(f"{where}: '{'.'.join(path)}' cannot be randomised; {expected}")
        target: Any = market
        for part in path:
            owner: Any = target
            named = {venue.name: venue for venue in owner} if isinstance(owner, tuple) else {}
            target = named.get(part) or (getattr(owner, part, None) if isinstance(owner, _Spec) else None)
            if target is None:
                raise ValueError(f"{where}: the market has no '{part}' there; expected the path of a number")
        if isinstance(target, bool) or not isinstance(target, (int, float)):
            raise ValueError(f"{where} is {target!r}; only numbers can be randomised")
        for end in (low, high):
            try:
                type(owner).model_validate({**owner.model_dump(), path[-1]: end})
            except ValidationError as error:
                message = error.errors(include_url=False)[0]["msg"]
                raise ValueError(f"{where}: {end} is not allowed ({message}); change the range") from None


class NotebookVenue(_Spec):
    """A venue of the notebook market: only a name."""

    name: VenueName


class NotebookMarket(_Market):
    """The experiment that the project comes from: independent uniform draws and a cost linear in the weights.

    Cost of a step at venue k: ``spread + liquidity_cost * 100 / liquidity + latency_cost * latency``.
    """

    cost_unit: ClassVar[str] = "notebook units per episode"
    charges_bps: ClassVar[bool] = False  # a step has one cost, without a price or a fee
    has_partial_fills: ClassVar[bool] = False  # everything that is sent fills, so every step is a game of its own

    model: Literal["notebook"]
    venues: Annotated[tuple[NotebookVenue, ...], Field(min_length=2, max_length=256)]
    spread: tuple[PositiveWeight, PositiveWeight] = (0.01, 0.05)
    liquidity: tuple[PositiveWeight, PositiveWeight] = (50.0, 200.0)
    latency: tuple[Milliseconds, PositiveMilliseconds] = (1.0, 10.0)
    liquidity_cost: Weight = 0.01
    latency_cost: Weight = 0.001
    blind: bool = False  # True: all is redrawn between observation and charge, so nothing can be learned

    @model_validator(mode="after")
    def _check(self) -> NotebookMarket:
        for field in ("spread", "liquidity", "latency"):
            low, high = getattr(self, field)
            if not low < high:
                raise ValueError(f"{field} is [{low}, {high}]; expected the lower end first")
        return self

    @property
    def scales(self) -> tuple[float, float, float]:
        """The middles of the ranges of spread and latency, and an even slice."""
        return sum(self.spread) / 2, self._even_slice_shares, sum(self.latency) / 2


VOLUME_LOOKBACK_STEPS = 10  # a replayed order's first decision sees the mean traded volume of this many steps before it


class ReplayVenue(_Spec):
    """What a recording cannot say about a venue: every number here is an assumption."""

    name: VenueName
    take_fee_bps: Bps = 0.0
    make_fee_bps: Bps = 0.0
    latency_ms: Milliseconds = 1.0  # median, decision to arrival
    latency_sigma: LogSd = 0.3  # sd of log latency
    feed_latency_ms: Milliseconds | None = None  # of its quotes on their way to us; None: as long as `latency_ms`
    toxicity: Weight = 0.5  # shares that leave its display for each share of ours filled elsewhere before
    impact: Weight = 1.0  # of a fill here on the mid, in units of the market's
    refill_half_life_s: Seconds = 5.0  # of what we took


class ReplayMarket(_Market):
    """Recorded quotes of several venues; our own consumption and the fade we cause apply on top.

    The recording's time is cut by `time_split`; an order lies wholly in one part, with the volumes that it looks back
    on. What is left out is filled in by :mod:`sor_sb3.market.recordings`, from the training part alone.
    """

    model: Literal["replay"] = "replay"
    quotes_file: Path  # .parquet, .csv or .csv.gz; in YAML relative to the YAML's folder
    trades_file: Path | None = None  # the same, for traded volume
    venues: Annotated[tuple[ReplayVenue, ...], Field(min_length=1, max_length=256)]
    session_utc: tuple[str, str] | None = None  # hours kept on each day, such as ("14:35", "21:00")
    assumed_depth_shares: Shares | None = None  # in place of sizes that the recording lacks
    recorded_levels: Annotated[int, Field(ge=1, le=8)] = (
        1  # of a side that are replayed; the loader takes all there are
    )
    level_profile: LevelProfile = (1.0,)  # assumed sizes behind the touch, in sizes of the touch
    level_spacing_bps: PositiveBps = 1.0  # from level to level; the loader measures it
    size_multiplier: PositiveWeight = 1.0  # shares per recorded unit of size, 100 for round lots
    max_spread_bps: PositiveBps = 500.0  # a venue whose spread is wider is not quoting
    max_gap_s: Seconds = 300.0  # a longer time without a change of any quote ends a segment
    crossed: Literal["refuse", "keep", "hide_older"] = "refuse"  # a recording whose best bid is above its best ask
    max_crossed_share: Probability = 0.05  # of the time; what is crossed for longer is refused
    timezone: str | None = None  # of times without a zone, such as "America/New_York"
    unit: Annotated[str, Field(min_length=1, max_length=20)] = "shares"  # what sizes count: a word for people
    time_split: tuple[PositiveWeight, PositiveWeight, PositiveWeight] = (0.6, 0.15, 0.25)  # train, validation, test
    latency: LatencyDynamics = LatencyDynamics(tail_probability=0.0)
    response: Response = Response(reaction_time_ms=5.0)
    volume_memory_half_life_s: Seconds = 30.0
    price_scale_bps: PositiveBps = 1.0  # typical far-touch offset; measured on the training part by the loader
    quotes_sha256: str = ""  # filled in by the loader, so that a run's hash covers the recording

    @model_validator(mode="after")
    def _check(self) -> ReplayMarket:
        if self.recorded_levels > 1 and len(self.level_profile) > 1:
            what = f"level_profile states sizes behind the touch and recorded_levels is {self.recorded_levels}"
            raise ValueError(f"{what}; set recorded_levels to 1, or take out level_profile")
        return self

    @property
    def scales(self) -> tuple[float, float, float]:
        """The typical offset as measured, an even slice, and the median latency over venues."""
        latency_ms = median(venue.latency_ms for venue in self.venues)
        return self.price_scale_bps, self._even_slice_shares, _nothing_if_tiny(latency_ms) or 1.0

    @property
    def has_volume(self) -> bool:
        """Whether traded volume is published, as `vwap` needs."""
        return self.trades_file is not None


MarketSpec = SyntheticMarket | NotebookMarket | ReplayMarket
