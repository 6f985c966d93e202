"""Makes markets of recorded quotes: measures what a specification leaves out and cuts the recording in time.

It reads with :mod:`sor_sb3.market.quotes` and steps nothing; the simulator replays the arrays made here.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.quotes import QuoteFileError, QuoteRecording, load_quotes
from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS, ReplayMarket, ReplayVenue
from sor_sb3.market.validation import validate

if TYPE_CHECKING:
    from sor_sb3.market.replay_arrays import Recording

FloatArray = NDArray[np.float64]

DATA_SPLIT_ORDER = ("train", "validation", "test")
"""The order in time in which a recording is cut."""
DEFAULT_ORDER = {"horizon_steps": 20, "step_s": 5.0}
SLICE_OF_DISPLAY = 0.5
"""An even slice of the default order, as a share of the median displayed size."""
PRICE_SCALE_FLOOR_BPS = 0.05
FEW_WINDOWS = 25
"""Fewer orders than this, end to end, make a test that tells little."""

_LONGEST_NORMAL = 6.5  # the simulator's normals end at 6.3 standard deviations
_GRID_POINTS = 20_000
_ORDER_OPTIONS = ("quantity_shares", "horizon_steps", "step_s", "side")
_VENUE_OPTIONS = ("take_fee_bps", "latency_ms")
_CACHE_SIZE = 8
_cache: OrderedDict[tuple[Any, ...], QuoteRecording] = OrderedDict()


# ------------------------------------------------------------------------------------------------ public


def market_of_recording(path: Path, **options: Any) -> ReplayMarket:
    """A market that replays the recording at `path`.

    What is not given is measured on the training part: an even slice of the order is half the median
    displayed far-touch size, taking all of a venue's display costs half its median spread, an unfilled share
    twice the median spread above the dearest fill. Latency is assumed to be 1 ms, fees 0.

    Args:
        path: quotes, as :func:`sor_sb3.market.quotes.load_quotes` reads them.
        options: `venues` (names; by default those that quote), `take_fee_bps` (bps by venue name),
            `latency_ms` (of all venues), `quantity_shares`, `horizon_steps` (20), `step_s` (5), `side`, and
            any field of :class:`ReplayMarket`, such as `assumed_depth_shares`, `trades_file`, `session_utc`,
            `size_multiplier` and `max_spread_bps`. None counts as not given.

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
    stem = path.name.removesuffix(".gz")
    data = {"name": Path(stem).stem, "model": "replay", **given, "quotes_file": path, "order": order}
    data = _complete(data, str(path), Path())
    _set_fees(data["venues"], fees, path)
    if latency_ms is not None:
        for venue in data["venues"]:
            venue["latency_ms"] = latency_ms
    market: ReplayMarket = validate(ReplayMarket, data, str(path))
    _check_windows(market, _recording_of(market))
    return market


def complete_replay(data: dict[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """Fills in what a replay market's YAML leaves out, as `market_of_recording` does; what it says, it keeps.

    Args:
        data: fields of :class:`ReplayMarket`; `venues` may list plain names.
        where: names the YAML in messages.
        folder: where relative `quotes_file` and `trades_file` start.

    Raises:
        UserError: a field or a file cannot be used, the recording is too short, or it is not the one that
            `quotes_sha256` names.
    """
    data = _complete(data, where, folder)
    market: ReplayMarket = validate(ReplayMarket, data, where)
    _check_windows(market, _recording_of(market))
    return data


def recording_for(market: ReplayMarket, data_split: str) -> Recording:
    """The arrays to replay (shared: not to be written to), and where the windows of a data split may start.

    A window, from its first decision to its end and the last arrival, and the volume that its first decision
    looks back on, lies inside one segment and inside the data split's own time.

    Raises:
        UserError: the file is gone, is not the one that the market was made from, or is too short.
    """
    from sor_sb3.market.replay_arrays import ROWS_OF_VENUE, Recording

    recording = _recording_of(market)
    _check_windows(market, recording)
    windows = _windows(market, recording)[data_split]
    place = {name: k for k, name in enumerate(recording.venues)}
    rows = np.zeros(market.n_venues, ROWS_OF_VENUE)
    for row, name in zip(rows, market.venue_names, strict=True):
        row["first"], row["last"] = recording.first[place[name] : place[name] + 2]
        if recording.trade_first is not None:
            row["first_trade"], row["last_trade"] = recording.trade_first[place[name] : place[name] + 2]
    none = np.zeros(0)
    return Recording(
        time_s=recording.time_s,
        bid_px=recording.bid_px,
        bid_shares=recording.bid_size,
        ask_px=recording.ask_px,
        ask_shares=recording.ask_size,
        mid_time_s=recording.mid_time_s,
        mid_px=recording.mid_px,
        trade_time_s=none if recording.trade_time_s is None else recording.trade_time_s,
        trade_cumulative_shares=none if recording.trade_cumulative_size is None else recording.trade_cumulative_size,
        rows=rows,
        window_low_s=np.ascontiguousarray(windows[:, 0]),
        window_cumulative_s=np.append(0.0, np.cumsum(windows[:, 1] - windows[:, 0])),
    )


def recording_lines(market: ReplayMarket) -> list[str]:
    """Says to a person what was dropped, how the recording is cut, what is traded, and what is assumed."""
    recording = _recording_of(market)
    return [
        *recording.report.lines(),
        *_split_lines(market, recording),
        *_order_lines(market),
        *_assumption_lines(market),
    ]


# ----------------------------------------------------------------------------------------------- reading


def _file_key(path: Path | None) -> tuple[Any, ...]:
    if path is None:
        return ()
    try:
        status = path.stat()
    except OSError:
        return (str(path),)  # reading it will say what is wrong
    return str(path), status.st_mtime_ns, status.st_size


def _recording_of(market: ReplayMarket, every: bool = False) -> QuoteRecording:
    """The recording of the market's venues (with `every`, of all that quote), read once."""
    options: dict[str, Any] = {
        "assumed_depth_shares": market.assumed_depth_shares,
        "session": market.session_utc,
        "max_spread_bps": market.max_spread_bps,
        "max_gap_s": market.max_gap_s,
        "size_multiplier": market.size_multiplier,
    }
    files = (_file_key(market.quotes_file), _file_key(market.trades_file), *options.values())
    wanted = None if every else tuple(sorted(market.venue_names))
    recording = _cached((*files, wanted))
    if recording is None:
        recording = load_quotes(market.quotes_file, venues=wanted, trades=market.trades_file, **options)
        _keep((*files, wanted), recording)
        _keep((*files, recording.venues), recording)
    _check_digest(market, recording)
    return recording


def _cached(key: tuple[Any, ...]) -> QuoteRecording | None:
    if key in _cache:
        _cache.move_to_end(key)
    return _cache.get(key)


def _keep(key: tuple[Any, ...], recording: QuoteRecording) -> None:
    _cache[key] = recording
    while len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)


def _check_digest(market: ReplayMarket, recording: QuoteRecording) -> None:
    if market.quotes_sha256 not in ("", recording.sha256):
        trades = f" with {market.trades_file}" if market.trades_file else ""
        raise UserError(
            f"{market.quotes_file}{trades} is not the recording that market '{market.name}' was made from "
            f"(field 'quotes_sha256' is {market.quotes_sha256[:12]}..., that of the content is "
            f"{recording.sha256[:12]}...): put the old file back, or take out quotes_sha256"
        )


# ------------------------------------------------------------------------------------- cutting in time


def _split_segments(segments: FloatArray, shares: tuple[float, float, float]) -> dict[str, FloatArray]:
    """Start and end (n, 2), in seconds, of each data split's stretches: the segments' time, cut by `shares`."""
    before = np.append(0.0, np.cumsum(segments[:, 1] - segments[:, 0]))
    borders = before[-1] * np.append(0.0, np.cumsum(shares)) / sum(shares)
    borders[-1] = before[-1]
    cut = {}
    for data_split, low, high in zip(DATA_SPLIT_ORDER, borders[:-1], borders[1:], strict=True):
        start, end = np.maximum(before[:-1], low), np.minimum(before[1:], high)
        stretches = np.column_stack([start, end]) - before[:-1, None] + segments[:, :1]
        cut[data_split] = stretches[end > start]
    return cut


def _longest_latency_s(market: ReplayMarket) -> float:
    """No child of the simulator takes longer to arrive."""
    dynamics = market.latency
    factor = dynamics.congestion_factor if dynamics.congestions_per_hour > 0 else 1.0
    factor *= dynamics.tail_factor if dynamics.tail_probability > 0 else 1.0
    return 1e-3 * factor * max(v.latency_ms * math.exp(_LONGEST_NORMAL * v.latency_sigma) for v in market.venues)


def _margins_s(market: ReplayMarket) -> tuple[float, float]:
    """What an order reads before its first decision, and after it."""
    order = market.order
    back = VOLUME_LOOKBACK_STEPS * order.step_s if market.has_volume else 0.0
    return back, order.horizon_steps * order.step_s + _longest_latency_s(market)


def _windows(market: ReplayMarket, recording: QuoteRecording) -> dict[str, FloatArray]:
    """Earliest and latest start of a window (n, 2), in seconds, in each stretch that has room for one."""
    back, ahead = _margins_s(market)
    windows = {}
    for data_split, stretches in _split_segments(recording.segments, market.time_split).items():
        starts = stretches + np.array([back, -ahead])
        windows[data_split] = starts[starts[:, 1] > starts[:, 0]]
    return windows


def _check_windows(market: ReplayMarket, recording: QuoteRecording) -> None:
    back, ahead = _margins_s(market)
    stretches = _split_segments(recording.segments, market.time_split)
    for data_split, windows in _windows(market, recording).items():
        if len(windows):
            continue
        longest = float(np.max(stretches[data_split][:, 1] - stretches[data_split][:, 0], initial=0.0))
        total = recording.report.segment_hours * 3600.0
        order = market.order
        raise QuoteFileError(
            f"{market.quotes_file} is too short: its {total:,.0f} s of continuous quotes leave the {data_split} "
            f"split at most {longest:,.1f} s in one piece (time_split, max_gap_s), and one order needs more "
            f"than {back + ahead:,.1f} s (horizon_steps = {order.horizon_steps} of step_s = {order.step_s:g} "
            f"s, and room for {'volumes before it and ' if back else ''}latency); use fewer or shorter "
            "steps, or record more"
        )


# --------------------------------------------------------------------------------------------- measuring


class _Typical(NamedTuple):
    """Medians over the time of the training part."""

    far_shares: float
    far_offset_bps: float
    spread_bps: float
    venue_spread_bps: dict[str, float]


def _grid(stretches: FloatArray) -> FloatArray:
    """Times evenly over the stretches, so that medians weigh quotes by how long they stood."""
    length = stretches[:, 1] - stretches[:, 0]
    before = np.append(0.0, np.cumsum(length))
    position = before[-1] * (np.arange(_GRID_POINTS) + 0.5) / _GRID_POINTS
    at = np.searchsorted(before, position, side="right") - 1
    return np.asarray(stretches[at, 0] + position - before[at], dtype=np.float64)


def _measure(market: ReplayMarket, recording: QuoteRecording) -> _Typical:
    """Looks at the training part only."""
    times = _grid(_split_segments(recording.segments, market.time_split)["train"])
    mid = recording.mid_px[np.searchsorted(recording.mid_time_s, times, side="right") - 1]
    shape = (len(recording.venues), len(times))
    bid, ask, far_shares = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    size = recording.ask_size if market.order.side == "buy" else recording.bid_size
    for k, (first, last) in enumerate(zip(recording.first[:-1], recording.first[1:], strict=True)):
        row = first + np.searchsorted(recording.time_s[first:last], times, side="right") - 1
        bid[k] = np.where(row >= first, recording.bid_px[row], np.nan)
        ask[k] = np.where(row >= first, recording.ask_px[row], np.nan)
        far_shares[k] = np.where(np.isnan(ask[k]), np.nan, size[row])
    if np.isnan(ask).all():
        raise QuoteFileError(
            f"{market.quotes_file} has no quote of {', '.join(recording.venues)} in its first part, which "
            "is for training: choose other venues or another time_split"
        )
    offset = ask - mid if market.order.side == "buy" else mid - bid
    spread = (ask - bid) / mid * 1e4
    pooled = float(np.nanmedian(spread))
    by_venue = {
        name: pooled if np.isnan(spread[k]).all() else float(np.nanmedian(spread[k]))
        for k, name in enumerate(recording.venues)
    }
    return _Typical(float(np.nanmedian(far_shares)), float(np.nanmedian(offset / mid)) * 1e4, pooled, by_venue)


def _round(value: float, digits: int = 4) -> float:
    """To significant digits: what is measured is no more exact, and the same on every machine."""
    return float(f"{value:.{digits}g}")


# -------------------------------------------------------------------------------------------- completing


def _complete(data: Mapping[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """All fields of a market: those of `data`, and for the others what the recording says."""
    data = {name: value for name, value in data.items() if value is not None}
    if "quotes_file" not in data:
        raise UserError(f"{where}: field 'quotes_file' is missing; add the path of the recorded quotes")
    for name in ("quotes_file", "trades_file"):
        if isinstance(data.get(name), (str, os.PathLike)):
            data[name] = Path(os.path.abspath(folder / Path(data[name]).expanduser()))
    measured = {name for name in ("price_scale_bps", "quotes_sha256") if name not in data}
    named = data.pop("venues", None)
    venues = _venue_entries([{"name": "any"}] if named is None else named)
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
    _check_windows(draft, recording)
    typical = _measure(draft, recording)
    for venue in venues:
        venue.setdefault("walk_bps", _round(0.5 * typical.venue_spread_bps[venue["name"]]))
    data["venues"] = venues
    if isinstance(order, Mapping) and "quantity_shares" not in order:
        slices = SLICE_OF_DISPLAY * draft.order.horizon_steps
        data["order"]["quantity_shares"] = _round(slices * typical.far_shares, 2)
    if isinstance(response, Mapping) and "cleanup_penalty_bps" not in response:
        data["response"]["cleanup_penalty_bps"] = _round(2.0 * max(typical.spread_bps, PRICE_SCALE_FLOOR_BPS))
    if "price_scale_bps" in measured:
        data["price_scale_bps"] = _round(max(typical.far_offset_bps, PRICE_SCALE_FLOOR_BPS))
    if "quotes_sha256" in measured:
        data["quotes_sha256"] = recording.sha256
    return data


def _venue_entries(venues: Any) -> Any:
    """A list of fields per venue; a plain name stands for a venue of that name."""
    if not isinstance(venues, (list, tuple)):
        return venues  # the specification will say what is wrong
    return [_venue_entry(venue) for venue in venues]


def _venue_entry(venue: Any) -> Any:
    if isinstance(venue, ReplayVenue):
        return venue.model_dump(exclude_unset=True)
    return {"name": venue} if isinstance(venue, str) else dict(venue) if isinstance(venue, Mapping) else venue


def _set_fees(venues: list[dict[str, Any]], fees: Any, path: Path) -> None:
    by_name = {venue["name"]: venue for venue in venues}
    if not isinstance(fees, Mapping):
        raise UserError(
            f"option 'take_fee_bps' is {fees!r}; expected bps by venue, as in {{'{venues[0]['name']}': 0.3}}"
        )
    for name, fee in fees.items():
        if name not in by_name:
            hint = did_you_mean(str(name), list(by_name))
            raise UserError(
                f"option 'take_fee_bps' names the venue '{name}', which {path} does not quote or "
                f"'venues' leaves out{hint}; expected one of {', '.join(by_name)}"
            )
        by_name[name]["take_fee_bps"] = fee


# ------------------------------------------------------------------------------------------------ telling


def _utc(recording: QuoteRecording, time_s: float) -> str:
    return f"{np.datetime64(recording.origin_ns + round(time_s * 1e9), 'ns').astype('datetime64[s]')}Z"


def _split_lines(market: ReplayMarket, recording: QuoteRecording) -> list[str]:
    _, ahead = _margins_s(market)
    lines = []
    for data_split, stretches in _split_segments(recording.segments, market.time_split).items():
        length = stretches[:, 1] - stretches[:, 0]
        fit = int(np.sum(length // ahead))
        pieces = f" in {len(stretches)} pieces" if len(stretches) > 1 else ""
        lines.append(
            f"Split {data_split}: {_utc(recording, stretches[0, 0])} to {_utc(recording, stretches[-1, 1])}, "
            f"{length.sum() / 3600.0:.2f} hours{pieces}; room for {fit:,} orders end to end."
        )
        if data_split == "test" and fit < FEW_WINDOWS:
            lines.append(
                f"Warning: only {fit} orders fit into the test part end to end; scenarios overlap, and "
                "differences between routers will hardly be significant: use fewer or shorter steps, or a "
                "longer recording."
            )
    return lines


def _order_lines(market: ReplayMarket) -> list[str]:
    order = market.order
    return [
        f"Order: {order.side} {order.quantity_shares:,g} shares in {order.horizon_steps} steps of "
        f"{order.step_s:g} s, {order.quantity_shares / order.horizon_steps:,g} shares a step."
    ]


def _each(market: ReplayMarket, field: str, unit: str) -> str:
    """A field of all venues, in few words."""
    values = {venue.name: getattr(venue, field) for venue in market.venues}
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):g} {unit} at every venue"
    return ", ".join(f"{name} {value:g}" for name, value in values.items()) + f" {unit}"


def _assumption_lines(market: ReplayMarket) -> list[str]:
    response = market.response
    lines = [
        f"Assumed, as quotes do not tell: median latency {_each(market, 'latency_ms', 'ms')}; take fees "
        f"{_each(market, 'take_fee_bps', 'bps')}; taking all that a venue shows costs "
        f"{_each(market, 'walk_bps', 'bps')} above the touch on average.",
        f"Assumed of the others: what we took comes back with a half-life of "
        f"{_each(market, 'refill_half_life_s', 's')}; displays fade within {response.reaction_time_ms:g} ms "
        f"of our first child; a share left at the deadline costs {response.cleanup_penalty_bps:g} bps more "
        f"than the dearest fill that was offered.",
    ]
    if market.assumed_depth_shares is not None:
        lines.append(
            f"Assumed depth: {market.assumed_depth_shares:,g} shares wherever the recording has no size, so "
            "results say nothing of what size does."
        )
    if not market.has_volume:
        lines.append("No trades were given, so no volume is published and the router vwap is left out.")
    return lines
