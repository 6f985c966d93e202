"""Makes markets of recorded quotes: measures what a specification leaves out and cuts the recording in time."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.quote_columns import FloatArray, QuoteFileError
from sor_sb3.market.quotes import QuoteRecording
from sor_sb3.market.recording_cache import derived, recorded
from sor_sb3.market.recording_measures import medians_of, spacing_bps, split_segments
from sor_sb3.market.replay_arrays import ROWS_OF_VENUE, Recording, last_rows
from sor_sb3.market.session_hours import utc_text
from sor_sb3.market.settings import OPTION, named, split_settings, with_fields
from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS, ReplayMarket, ReplayVenue
from sor_sb3.market.validation import validate

DEFAULT_ORDER = {"horizon_steps": 20, "step_s": 5.0}
SLICE_OF_DISPLAY = 0.5  # an even slice of the default order, as a share of what is displayed at the best price
PRICE_SCALE_FLOOR_BPS = 0.05
SPACING_FLOOR_BPS = 0.002
FEW_WINDOWS = 25  # fewer orders than this, end to end, make a test that tells little

_LONGEST_NORMAL = 6.5  # the simulator's normals end at 6.3 standard deviations
_ORDER_OPTIONS = ("quantity_shares", "horizon_steps", "step_s", "side")
_VENUE_OPTIONS = ("take_fee_bps", "latency_ms")
_CACHE_SIZE = 8
_cache: OrderedDict[tuple[Any, ...], QuoteRecording] = OrderedDict()


def market_of_recording(path: Path, settings: Mapping[str, Any] | None = None, **options: Any) -> ReplayMarket:
    """A market that replays the recording at `path`.

    What is not given is measured on the training part: an even slice of the order is half of what is displayed at the
    best far price, over all venues that are there; an unfilled share costs twice the median spread above the worst
    price offered. Latency is assumed to be 1 ms, fees 0.

    Args:
        path: quotes, as :func:`sor_sb3.market.quotes.load_quotes` reads them.
        settings: values by dotted path, see :mod:`sor_sb3.market.settings`; they win over `options`.
        options: `venues` (names; by default those that quote), `take_fee_bps` (bps by venue name), `latency_ms` (of
            all venues), `quantity_shares`, `horizon_steps` (20), `step_s` (5), `side`, and any field of
            :class:`ReplayMarket`, such as `assumed_depth_shares`. None counts as not given.

    Raises:
        UserError: the file or an option cannot be used, or the recording is too short to be cut in three.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = [*_ORDER_OPTIONS, *_VENUE_OPTIONS, *ReplayMarket.model_fields]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"option '{name}' of a recording is unknown{hint}; expected one of {', '.join(known)}")
    order = dict(given.pop("order", {})) | {k: given.pop(k) for k in _ORDER_OPTIONS if k in given}
    fees, latency_ms = given.pop("take_fee_bps", {}), given.pop("latency_ms", None)
    name = Path(path.stem).stem if path.name.lower().endswith(".gz") else path.stem
    data = {"name": name, "model": "replay", **given, "quotes_file": path, "order": order}
    of_all, of_venues = split_settings(settings or {})
    data = _complete(with_fields(ReplayMarket, data, of_all, str(path)), named(str(path), of_all), Path())
    _set_fees(data["venues"], fees, path)
    for venue in data["venues"] if latency_ms is not None else ():
        venue["latency_ms"] = latency_ms
    data = with_fields(ReplayMarket, data, of_venues, str(path))
    return _checked(data, named(str(path), settings or {}))


def complete_replay(
    data: Mapping[str, Any], where: str, folder: Path, settings: Mapping[str, Any] | None = None
) -> ReplayMarket:
    """A market of a YAML's fields; what they leave out is filled in as by `market_of_recording`.

    `venues` may list plain names. `where` names the YAML in messages; relative paths start at `folder`.

    Raises:
        UserError: a field or a file cannot be used, the recording is too short, or `quotes_sha256` names another.
    """
    of_all, of_venues = split_settings(settings or {})
    complete = _complete(with_fields(ReplayMarket, data, of_all, where), named(where, of_all), folder)
    return _checked(with_fields(ReplayMarket, complete, of_venues, where), named(where, settings or {}))


def _checked(data: dict[str, Any], where: str) -> ReplayMarket:
    """The market, if its recording is long enough."""
    market: ReplayMarket = validate(ReplayMarket, data, where)
    _windows(market, _recording_of(market))
    return market


def recording_for(market: ReplayMarket, data_split: str) -> Recording:
    """The arrays to replay (shared: not to be written to), and where the windows of a data split may start.

    For a sell they are mirrored, so that whoever replays them buys.

    A window, from its first decision to its end and the last arrival, and the volume that its first decision looks back
    on, lies inside one segment and inside the data split's own time.

    Raises:
        UserError: the file is gone, is not the one that the market was made from, or is too short.
    """
    recording = _recording_of(market)
    windows = _windows(market, recording)[data_split]
    place = {name: k for k, name in enumerate(recording.venues)}
    rows = np.zeros(market.n_venues, ROWS_OF_VENUE)
    for row, name in zip(rows, market.venue_names, strict=True):
        row["first"], row["last"] = recording.first[place[name] : place[name] + 2]
        if recording.trade_first is not None:
            row["first_trade"], row["last_trade"] = recording.trade_first[place[name] : place[name] + 2]
    return Recording(
        time_s=recording.time_s,
        **_quotes_as_a_buyer_sees(recording, market.order.side, market.recorded_levels),
        mid_time_s=recording.mid_time_s,
        **_trades_as_a_buyer_sees(recording, market.order.side),
        rows=rows,
        window_low_s=np.ascontiguousarray(windows[:, 0]),
        window_cumulative_s=np.append(0.0, np.cumsum(windows[:, 1] - windows[:, 0])),
    )


def _trades_as_a_buyer_sees(recording: QuoteRecording, side: str) -> dict[str, np.ndarray]:
    """Trades; what hit the near touch is, for a sell, what was bought. Empty arrays if no trades were given."""
    times, traded, sold = recording.trade_time_s, recording.trade_cumulative_size, recording.trade_cumulative_sold
    if times is None or traded is None or sold is None:
        times, traded, sold = np.zeros((3, 0))
    outflow = sold if side == "buy" else derived(recording, "bought", lambda: traded - sold)
    return {"trade_time_s": times, "trade_cumulative_shares": traded, "trade_cumulative_sold_shares": outflow}


def _quotes_as_a_buyer_sees(recording: QuoteRecording, side: str, n_levels: int) -> dict[str, np.ndarray]:
    """Quotes and midpoints; of a sell those in which to buy is what to sell is here: asks are the negated bids.

    A venue that asks and does not bid has a near touch for whoever wants to rest there, at which nothing is displayed:
    the best bid of the others then, or its own ask where that is lower.
    """
    far, near = ("ask", "bid") if side == "buy" else ("bid", "ask")

    def as_a_buyer(name: str, values: np.ndarray) -> np.ndarray:
        return values if side == "buy" else derived(recording, f"minus_{name}", lambda: np.ascontiguousarray(-values))

    far_px = as_a_buyer(f"{far}_px", getattr(recording, f"{far}_px"))
    near_px = as_a_buyer(f"{near}_px", getattr(recording, f"{near}_px"))
    if recording.report.only_asks or recording.report.only_bids:
        own_px = near_px
        near_px = derived(recording, f"near_{near}_px", lambda: _with_near_touches(recording, far_px, own_px))
    quotes = {
        "ask_px": far_px,
        "bid_px": near_px,
        "ask_shares": getattr(recording, f"{far}_size"),
        "bid_shares": getattr(recording, f"{near}_size"),
        "mid_px": as_a_buyer("mid_px", recording.mid_px),
    }
    for name, whose in (("level", far), ("near_level", near)):
        levels = getattr(recording, f"{whose}_levels")
        px = as_a_buyer(f"{whose}_level_px", levels[..., 0])
        quotes[f"{name}_px"] = np.ascontiguousarray(px[:, : n_levels - 1])
        quotes[f"{name}_shares"] = np.ascontiguousarray(levels[:, : n_levels - 1, 1])
    return quotes


def _with_near_touches(recording: QuoteRecording, far_px: np.ndarray, near_px: np.ndarray) -> np.ndarray:
    """Near touches, made up where a venue quotes the far side alone; the array itself where none does."""
    lone = np.flatnonzero(np.isnan(near_px) & ~np.isnan(far_px))
    if not lone.size:
        return near_px
    best = np.full(len(lone), -np.inf)
    for row, known in last_rows(recording.time_s, recording.first, recording.time_s[lone]):
        best = np.fmax(best, np.where(known, near_px[row], np.nan))
    filled = near_px.copy()
    filled[lone] = np.minimum(np.where(np.isinf(best), far_px[lone], best), far_px[lone])
    return filled


def quotes_of(market: ReplayMarket) -> QuoteRecording:
    """The recording that a market replays, as it was read and cleaned: shared, not to be written to.

    Raises:
        UserError: as `recording_for`.
    """
    return _recording_of(market)


def recording_lines(market: ReplayMarket) -> list[str]:
    """Says to a person what was dropped, how the recording is cut, what is traded, and what is assumed."""
    recording, order = _recording_of(market), market.order
    steps = f"{order.horizon_steps} steps of {order.step_s:g} s"
    each = f"{order.quantity_shares / order.horizon_steps:,g} {market.unit} a step"
    traded = f"Order: {order.side} {order.quantity_shares:,g} {market.unit} in {steps}, {each}."
    return [*recording.report.lines(), *_split_lines(market, recording), traded, *_assumption_lines(market)]


def _file_key(path: Path | None) -> tuple[Any, ...]:
    if path is None or not os.path.exists(path):
        return (str(path),)  # reading it will say what is wrong
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _recording_of(market: ReplayMarket, every: bool = False) -> QuoteRecording:
    """The recording of the market's venues (with `every`, of all that quote), read once."""
    names = ("assumed_depth_shares", "max_spread_bps", "max_gap_s", "size_multiplier", "timezone")
    options: dict[str, Any] = {"session": market.session_utc, **{name: getattr(market, name) for name in names}}
    options["hide_older"] = market.crossed == "hide_older"
    files = (_file_key(market.quotes_file), _file_key(market.trades_file), *options.values())
    wanted = None if every else tuple(sorted(market.venue_names))
    if (*files, wanted) not in _cache:
        recording = recorded(market.quotes_file, market.trades_file, wanted, **options)
        _cache[*files, wanted] = _cache[*files, recording.venues] = recording
    _cache.move_to_end((*files, wanted))
    while len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)
    recording = _cache[*files, wanted]
    if market.quotes_sha256 not in ("", recording.sha256):
        trades = f" with {market.trades_file}" if market.trades_file else ""
        what = f"{market.quotes_file}{trades} is not the recording that market '{market.name}' was made from"
        hashes = f"field 'quotes_sha256' is {market.quotes_sha256[:12]}..., of the content {recording.sha256[:12]}..."
        raise UserError(f"{what} ({hashes}): put the old file back, or take out quotes_sha256")
    if market.crossed == "refuse" and recording.report.crossed_share > market.max_crossed_share:
        allowed = f"more than max_crossed_share = {market.max_crossed_share:.1%}"
        what = (
            f"{market.quotes_file}: the best bid is above the best ask {recording.report.crossed_share:.1%} of the time"
        )
        remedy = (
            f"leave out who is stale (--venues), hide the older quote of a crossed pair ({OPTION} crossed=hide_older)"
        )
        said = f"{what}, {allowed}; {recording.report.culprits_text()}: {remedy}, or replay it as it is"
        raise UserError(f"{said} ({OPTION} crossed=keep)")
    return recording


def _margins_s(market: ReplayMarket) -> tuple[float, float]:
    """What an order reads before its first decision, and after it, up to the latest arrival that there can be."""
    order, dynamics = market.order, market.latency
    back = VOLUME_LOOKBACK_STEPS * order.step_s if market.has_volume else 0.0
    factor = dynamics.congestion_factor if dynamics.congestions_per_hour > 0 else 1.0
    factor *= dynamics.tail_factor if dynamics.tail_probability > 0 else 1.0
    slowest_ms = max(v.latency_ms * math.exp(_LONGEST_NORMAL * v.latency_sigma) for v in market.venues)
    return back, order.horizon_steps * order.step_s + 1e-3 * factor * slowest_ms


def _windows(market: ReplayMarket, recording: QuoteRecording) -> dict[str, FloatArray]:
    """Earliest and latest start of a window (n, 2), in seconds, in each stretch that has room for one; or an error."""
    order, (back, ahead) = market.order, _margins_s(market)
    windows = {}
    for data_split, stretches in split_segments(recording.segments, market.time_split).items():
        starts = stretches + np.array([back, -ahead])
        windows[data_split] = starts[starts[:, 1] > starts[:, 0]]
        if not len(windows[data_split]):
            longest = float(np.max(stretches[:, 1] - stretches[:, 0], initial=0.0))
            total = recording.report.segment_hours * 3600.0
            room = f"{'volumes before it and ' if back else ''}latency"
            raise QuoteFileError(
                f"{market.quotes_file} is too short: its {total:,.0f} s of continuous quotes leave the {data_split} "
                f"split at most {longest:,.1f} s in one piece (time_split, max_gap_s), and one order needs more than "
                f"{back + ahead:,.1f} s (horizon_steps = {order.horizon_steps} of step_s = {order.step_s:g} s, and "
                f"room for {room}); use fewer or shorter steps ({OPTION} order.horizon_steps=... or order.step_s=...), "
                "or record more"
            )
    return windows


def _round(value: float, digits: int = 4) -> float:
    """To significant digits, so that what is measured is the same on every machine."""
    return float(f"{value:.{digits}g}")


def _complete(data: Mapping[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """All fields of a market: those of `data`, and for the others what the recording says."""
    data = {name: value for name, value in data.items() if value is not None}
    if "quotes_file" not in data:
        raise UserError(f"{where}: field 'quotes_file' is missing; add the path of the recorded quotes")
    for name in ("quotes_file", "trades_file"):
        if isinstance(data.get(name), (str, os.PathLike)):
            data[name] = Path(os.path.abspath(folder / Path(data[name]).expanduser()))
    named = data.pop("venues", None)
    venues: Any = [{"name": "any"}] if named is None else named
    if isinstance(venues, (list, tuple)):
        venues = [_venue_entry(venue) for venue in venues]
    order, response = data.get("order", {}), data.get("response", {})
    if isinstance(order, Mapping):
        data["order"] = {**DEFAULT_ORDER, "quantity_shares": 1.0, **order}
    if isinstance(response, Mapping):
        defaults: Any = ReplayMarket.model_fields["response"].default
        data["response"] = {**defaults.model_dump(exclude_unset=True), **response}
    draft: ReplayMarket = validate(ReplayMarket, data | {"venues": venues}, where)

    recording = _recording_of(draft, every=named is None)
    if named is None:
        venues = [{"name": name} for name in recording.venues]
        draft = validate(ReplayMarket, data | {"venues": venues}, where)
    _windows(draft, recording)
    measured = medians_of(draft, recording)
    data["venues"] = venues
    if isinstance(order, Mapping) and "quantity_shares" not in order:
        data["order"]["quantity_shares"] = _round(
            SLICE_OF_DISPLAY * draft.order.horizon_steps * measured.best_shares, 2
        )
    if isinstance(response, Mapping):
        data["response"].setdefault(
            "cleanup_penalty_bps", _round(2.0 * max(measured.spread_bps, PRICE_SCALE_FLOOR_BPS))
        )
    _complete_levels(data, draft, recording, where)
    data.setdefault("price_scale_bps", _round(max(measured.far_offset_bps, PRICE_SCALE_FLOOR_BPS)))
    data.setdefault("quotes_sha256", recording.sha256)
    return data


def _complete_levels(data: dict[str, Any], draft: ReplayMarket, recording: QuoteRecording, where: str) -> None:
    """How many recorded levels are replayed, all unless sizes behind the touch are stated; and how far apart they are.

    A child pays the recorded prices. The distance is that of stated levels, and what `order.repeg_ticks` counts in.
    """
    there = recording.report.levels
    stated = 1 if len(draft.level_profile) > 1 else there
    n_levels = data.setdefault("recorded_levels", stated)
    if n_levels > there:
        raise UserError(f"{where}: field 'recorded_levels' is {n_levels}, but {draft.quotes_file} has {there} a side")
    if "level_spacing_bps" not in data:
        apart_bps = spacing_bps(draft, recording, n_levels)
        data["level_spacing_bps"] = _round(max(apart_bps, SPACING_FLOOR_BPS))


def _venue_entry(venue: Any) -> Any:
    """Fields of a venue; a plain name stands for a venue of that name. Other things are refused later."""
    if isinstance(venue, ReplayVenue):
        return venue.model_dump(exclude_unset=True)
    return {"name": venue} if isinstance(venue, str) else dict(venue) if isinstance(venue, Mapping) else venue


def _set_fees(venues: list[dict[str, Any]], fees: Any, path: Path) -> None:
    by_name = {venue["name"]: venue for venue in venues}
    if not isinstance(fees, Mapping):
        expected = f"expected bps by venue, as in {{'{venues[0]['name']}': 0.3}}"
        raise UserError(f"option 'take_fee_bps' is {fees!r}; {expected}")
    for name, fee in fees.items():
        if name not in by_name:
            what = f"option 'take_fee_bps' names the venue '{name}', which {path} does not quote or 'venues' leaves out"
            hint = did_you_mean(str(name), list(by_name))
            raise UserError(f"{what}{hint}; expected one of {', '.join(by_name)}")
        by_name[name]["take_fee_bps"] = fee


def _split_lines(market: ReplayMarket, recording: QuoteRecording) -> list[str]:
    _, ahead = _margins_s(market)
    lines = []
    for data_split, stretches in split_segments(recording.segments, market.time_split).items():
        length = stretches[:, 1] - stretches[:, 0]
        fit = int(np.sum(length // ahead))
        pieces = f" in {len(stretches)} pieces" if len(stretches) > 1 else ""
        ends_s = (stretches[0, 0], stretches[-1, 1])
        start, end = (utc_text(recording.origin_ns + round(time_s * 1e9)) for time_s in ends_s)
        hours = f"{length.sum() / 3600.0:.2f} hours{pieces}"
        lines.append(f"Split {data_split}: {start} to {end}, {hours}; room for {fit:,} orders end to end.")
        if data_split == "test" and fit < FEW_WINDOWS:
            why = "scenarios overlap, and differences between routers will hardly be significant"
            remedy = f"use fewer or shorter steps ({OPTION} order.horizon_steps=..., order.step_s=...), or record more"
            lines.append(f"Warning: only {fit} orders fit into the test part end to end; {why}: {remedy}.")
    return lines


def _each(market: ReplayMarket, field: str, unit: str) -> str:
    """A field of all venues, in few words."""
    values = {venue.name: getattr(venue, field) for venue in market.venues}
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):g} {unit} at every venue"
    return ", ".join(f"{name} {value:g}" for name, value in values.items()) + f" {unit}"


def _depth_words(market: ReplayMarket) -> str:
    limit = f" (children go there with {OPTION} order.limit=sweep)" if market.order.limit == "touch" else ""
    if market.recorded_levels > 1:
        return f"behind the touch there is what is recorded, {market.recorded_levels} levels a side in all{limit}"
    if len(market.level_profile) > 1:
        sizes = ", ".join(f"{size / market.level_profile[0]:g}" for size in market.level_profile[1:])
        apart = f"{market.level_spacing_bps:g} bps apart"
        return f"behind the touch there are levels {apart} of {sizes} times its size{limit}"
    return "a child fills at its venue's touch, up to the size that is shown there, and no further"


def _assumption_lines(market: ReplayMarket) -> list[str]:
    response = market.response
    lines = [
        f"Assumed, as quotes do not tell: median latency {_each(market, 'latency_ms', 'ms')}; take fees "
        f"{_each(market, 'take_fee_bps', 'bps')}; {_depth_words(market)}.",
        "Assumed of the others: what we took comes back with a half-life of "
        f"{_each(market, 'refill_half_life_s', 's')}; of each share that fills, {_each(market, 'toxicity', 'shares')} "
        f"leave the displays elsewhere within {response.reaction_time_ms:g} ms; a share left at the deadline costs "
        f"{response.cleanup_penalty_bps:g} bps more than the worst price that was offered.",
    ]
    if market.assumed_depth_shares is not None:
        depth = f"{market.assumed_depth_shares:,g} {market.unit} wherever the recording has no size"
        lines.append(f"Assumed depth: {depth}, so results say nothing of what size does.")
    if not market.has_volume:
        lines.append("No trades were given, so no volume is published and the router vwap is left out.")
    return lines
