"""Loads recorded quotes of several venues (and, if given, trades) into NumPy arrays.

A row of the file is a venue's quote from `ts` (UTC) until its next row. What is not a usable quote stays as a row
without prices, so that the quote before it ends there. What is dropped or changed is counted in `CleaningReport`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sor_sb3.market import cleaning, quote_tables
from sor_sb3.market.cleaning_report import CleaningReport, VenueSummary
from sor_sb3.market.event_time import Walk, stale_quotes, walk
from sor_sb3.market.quote_columns import FloatArray, IntArray, QuoteFileError
from sor_sb3.market.quote_rows import Rows, read_rows, select_rows, venue_numbers
from sor_sb3.market.quote_tables import QuoteTable
from sor_sb3.market.session_hours import SECOND_NS, in_session, parse_session, utc_text

Tape = tuple[IntArray | None, IntArray | None, FloatArray | None, FloatArray | None]


@dataclass(frozen=True, eq=False)
class QuoteRecording:
    """Quotes of K venues as arrays; treat them as read-only.

    Venue k's rows are `[first[k], first[k + 1])`, strictly increasing in time. At time t its quote is the last row with
    `time_s <= t`; before its first row it does not quote. A side that it does not quote has a NaN price and a size
    of 0. Likewise the mid at t is the last one with `mid_time_s <= t`. Time 0 is the first usable quote.
    """

    venues: tuple[str, ...]  # K names, sorted
    origin_ns: int  # time 0 in UTC nanoseconds since 1970
    first: IntArray  # (K + 1,)
    time_s: FloatArray  # (R,) since origin_ns
    bid_px: FloatArray  # (R,)
    bid_size: FloatArray  # (R,) shares
    ask_px: FloatArray  # (R,)
    ask_size: FloatArray  # (R,) shares
    bid_levels: (
        FloatArray  # (R, L - 1, 2) price and shares of the levels behind the touch; NaN and 0 where there is none
    )
    ask_levels: FloatArray  # the same
    mid_time_s: FloatArray  # (M,) strictly increasing, one per change
    mid_px: FloatArray  # (M,) (best bid + best ask) / 2 where there are both, else the last one
    segments: FloatArray  # (G, 2) start and end seconds of continuous trading; the mid exists throughout
    trade_first: IntArray | None  # (K + 1,)
    trade_time_s: FloatArray | None  # (T,) increasing within a venue, stamps may repeat
    trade_cumulative_size: FloatArray | None  # (T,) shares the venue has traded up to and with this trade
    trade_cumulative_sold: FloatArray | None  # (T,) of these, what sellers hit the bid with
    report: CleaningReport
    sha256: str  # of the quote file's bytes followed by the trade file's (`cat quotes trades | sha256sum`)
    folder: Path | None = None  # where the arrays lie as files, if they are mapped: see `recording_cache`


def load_quotes(
    path: str | PathLike[str],
    *,
    venues: Sequence[str] | None = None,
    assumed_depth_shares: float | None = None,
    trades: str | PathLike[str] | None = None,
    session: tuple[str, str] | None = None,
    max_spread_bps: float = 500.0,
    max_gap_s: float = 300.0,
    size_multiplier: float = 1.0,
    hide_older: bool = False,
    timezone: str | None = None,
) -> QuoteRecording:
    """Loads a `.parquet`, `.csv` or `.csv.gz` recording.

    A row does not quote a side whose price or size is zero, negative or missing, nor either side where the venue's bid
    is above its own ask, its spread is absurd, or its mid is far from the venue's other quotes and from the other
    venues (:mod:`sor_sb3.market.outliers`); a bid equal to the ask is a quote. A quote never outlives its segment.

    Args:
        path: columns `ts, venue, bid_px, bid_sz, ask_px, ask_sz` and, for levels behind the touch, `bid_px_2, bid_sz_2,
            ask_px_2, ask_sz_2` and so on up to 8; `ts` as int64 ns since 1970 in UTC, a timestamp type or ISO text.
            Rows may be in any order; of equal stamps the last counts. A column `status`, if there is one, says where
            a venue is halted, and does not quote.
        venues: the venues to keep; None keeps all that have a usable quote.
        assumed_depth_shares: stands in for missing (NaN, empty) sizes, not for sizes of 0.
        trades: columns `ts, venue, px` or `price`, `sz` or `size` (shares) and, if known, `side`, of the aggressor: buy
            or sell, b or s, 1 or -1. Where it is missing or empty the quote rule decides.
        session: UTC hours kept on each day, such as `("14:35", "21:00")`; may pass midnight. A venue counts from its
            first quote inside the session on.
        max_spread_bps: a quote with a wider spread, relative to its mid, is absurd; active venues had up to 226 bps.
        max_gap_s: a longer time in which no venue's quote changes splits a segment. A quiet FX night had 145 s.
        size_multiplier: shares per unit of `bid_sz` and `ask_sz` (100 for round lots); not for trades or assumed depth.
        hide_older: while the best bid is above the best ask, the older of the two quotes is stale: it is hidden until
            its venue changes it (:mod:`sor_sb3.market.event_time`).
        timezone: of times without a zone, such as ``"America/New_York"``; without it such times are refused.

    Raises:
        QuoteFileError: a file or an argument cannot be used.
    """
    depth = {} if assumed_depth_shares is None else {"assumed_depth_shares": assumed_depth_shares}
    _check_positive(max_spread_bps=max_spread_bps, max_gap_s=max_gap_s, size_multiplier=size_multiplier, **depth)
    hours = parse_session(session)
    quote_path, digest = Path(path), hashlib.sha256()
    table = quote_tables.read_table(quote_path, quote_tables.QUOTE_COLUMNS, "quote", timezone)
    quote_tables.add_digest(quote_path, "quote", digest)
    names = quote_tables.wanted_venues(table, venues)
    counts: dict[str, Any] = {"file": quote_path.name, "max_spread_bps": max_spread_bps, "max_gap_s": max_gap_s}
    place = select_rows(table, names, hours, counts)
    rows = read_rows(table, place, names, size_multiplier)
    del table, place
    cleaning.judge_rows(quote_path, rows, max_spread_bps, assumed_depth_shares)
    cleaning.end_far_quotes(rows, names, max_gap_s, counts)
    cleaning.end_lone_quotes(rows, len(names), max_spread_bps, max_gap_s)
    names = cleaning.drop_dead_venues(quote_path, names, rows, venues is not None, counts)
    cleaning.count_rows(rows, assumed_depth_shares is not None, counts)
    new = cleaning.changes(rows, len(names), hours)
    cleaning.count_changes(rows, new, counts)
    runs = cleaning.continuous_runs(quote_path, rows, new, hours, max_gap_s, counts)
    if hide_older:
        cleaning.drop_repeats(rows, new, len(names), runs[1:, 0])
    cleaning.end_old_quotes(rows, len(names), runs[1:, 0], counts)
    tape: Tape = (None, None, None, None)
    if trades is not None:
        table = quote_tables.read_table(Path(trades), quote_tables.TRADE_COLUMNS, "trade", timezone)
        quote_tables.add_digest(Path(trades), "trade", digest)
        tape = _tape(table, names, hours, runs, rows, counts)
    return _recording(names, rows, runs, tape, hide_older, counts, digest.hexdigest())


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or value <= 0:
            raise QuoteFileError(f"{name} is {value!r}, but must be a number above 0: correct it or leave it out.")


def _recording(
    names: list[str], rows: Rows, runs: IntArray, tape: Tape, hide_older: bool, counts: dict[str, Any], sha256: str
) -> QuoteRecording:
    """Puts the arrays and the report together."""
    origin_ns, runs = int(runs[0, 0]), runs[runs[:, 1] > runs[:, 0]]
    market = _walk(rows, len(names), runs)
    _count_crossed(names, market, counts)
    counts["hidden"] = (0,) * len(names)
    if hide_older and market.crossed_ns:
        first = rows.edges(len(names))
        stale, since = stale_quotes(first, rows.ts, rows.place, rows.bid, rows.ask)
        counts["hidden"] = tuple(np.diff(np.searchsorted(stale, first)).tolist())
        rows.end(stale, since)
        market = _walk(rows, len(names), runs)
    first = rows.edges(len(names))
    segments = _seconds(runs, origin_ns)
    _summarise(names, rows, first, market, counts)
    counts["segments"] = len(segments)
    counts["segment_hours"] = float(np.sum(segments[:, 1] - segments[:, 0])) / 3600.0
    trade_first, trade_ts, traded, sold = tape
    return QuoteRecording(
        venues=tuple(names),
        origin_ns=origin_ns,
        first=first,
        time_s=_seconds(rows.ts, origin_ns),
        bid_px=rows.bid,
        bid_size=rows.bid_size,
        ask_px=rows.ask,
        ask_size=rows.ask_size,
        bid_levels=rows.bid_levels,
        ask_levels=rows.ask_levels,
        mid_time_s=_seconds(market.mid_ts, origin_ns),
        mid_px=market.mid_px,
        segments=segments,
        trade_first=trade_first,
        trade_time_s=None if trade_ts is None else _seconds(trade_ts, origin_ns),
        trade_cumulative_size=traded,
        trade_cumulative_sold=sold,
        report=CleaningReport(**counts),
        sha256=sha256,
    )


def _seconds(ts: IntArray, origin_ns: int) -> FloatArray:
    return np.ascontiguousarray((ts - origin_ns) / np.float64(SECOND_NS))


def _walk(rows: Rows, n_venues: int, runs: IntArray) -> Walk:
    new, since, place = cleaning.changes(rows, n_venues, None), rows.ts, rows.place
    if not new.all():
        said = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        since, place = since[said], place[said]
    return walk(rows.edges(n_venues), rows.ts, since, place, rows.bid, rows.ask, runs)


def _count_crossed(names: list[str], market: Walk, counts: dict[str, Any]) -> None:
    """How long the market was crossed and locked, and by whom, as recorded: before anything is hidden."""
    for state, ns in (("crossed", market.crossed_ns), ("locked", market.locked_ns)):
        counts[f"{state}_share"] = ns / market.total_ns
        counts[f"{state}_moments"] = getattr(market, f"{state}_moments")
    blamed = sorted(zip(market.blamed_ns.tolist(), names, strict=True), reverse=True)
    counts["culprits"] = tuple((name, ns / market.total_ns) for ns, name in blamed if ns)


def _summarise(names: list[str], rows: Rows, first: IntArray, market: Walk, counts: dict[str, Any]) -> None:
    """What each venue quotes, and how long the market and it were in which state."""
    counts["no_live_share"] = market.unpriced_ns / market.total_ns
    counts["crossed_share_left"] = market.crossed_ns / market.total_ns
    n_rows, n_live, n_new = (counts.pop(f"venue_{what}") for what in ("rows", "live_rows", "changes"))
    summaries = []
    for k, name in enumerate(names):
        own = slice(first[k], first[k + 1])
        bid, ask = rows.bid[own], rows.ask[own]
        spread = ((ask - bid) / (0.5 * (ask + bid)))[~np.isnan(bid + ask)]
        spread_bps = float(np.median(spread)) * 1e4 if spread.size else np.nan
        live_s, best_share = market.quoted_ns[k] / SECOND_NS, market.best_ask_ns[k] / market.total_ns
        live_share, each_s = market.quoted_ns[k] / market.total_ns, live_s / n_new[k]
        shares = (float(live_share), float(best_share), spread_bps, float(each_s))
        summaries.append(VenueSummary(name, n_rows[k], n_live[k], *shares))
    counts["venues"] = tuple(summaries)


def _tape(
    table: QuoteTable,
    names: list[str],
    hours: tuple[int, int] | None,
    runs: IntArray,
    quotes: Rows,
    counts: dict[str, Any],
) -> Tape:
    """First trade of each venue (K + 1,), time (ns) of each trade, what its venue has traded until then, and sold."""
    venue = venue_numbers(table, names)
    px, sz = table.numbers("px"), table.numbers("sz")
    good = np.isfinite(px) & (px > 0) & np.isfinite(sz) & (sz > 0)
    keep = np.flatnonzero(good & (venue >= 0) & in_session(table.ts, hours))
    start, end = runs[0, 0], runs[-1, 1]
    if not np.any((table.ts[keep] >= start) & (table.ts[keep] <= end)):
        when = f"from {utc_text(start)} to {utc_text(end)}, the time of the quotes"
        times = f"{utc_text(table.ts.min())} to {utc_text(table.ts.max())}"
        found = f"its venues are {', '.join(table.names)} and its times go from {times}"
        what = f"{table.path} has no trade of {', '.join(names)} {when}; {found}"
        raise QuoteFileError(f"{what}: give the trades of the same days and venues.")
    rows = keep[np.lexsort((table.ts[keep], venue[keep]))]
    first = np.searchsorted(venue[rows], np.arange(len(names) + 1)).astype(np.int64)
    total = np.append(0.0, np.cumsum(sz[rows]))
    part = _sold_part(table.ts[rows], venue[rows], px[rows], quotes)
    has_side = quote_tables.SIDE in table.columns
    side = (table.numbers(quote_tables.SIDE) if has_side else np.full(len(venue), np.nan))[rows]
    part = np.where(np.isnan(side), part, side < 0.0)
    sided = int(np.sum(~np.isnan(side)))
    counts |= {"trades_read": len(table.ts), "trades_kept": len(rows), "trades_with_side": sided}
    sold = np.append(0.0, np.cumsum(sz[rows] * part))
    cumulative = [sums[1:] - np.repeat(sums[first[:-1]], np.diff(first)) for sums in (total, sold)]
    return first, table.ts[rows], cumulative[0], cumulative[1]


def _sold_part(ts: IntArray, venue: NDArray[np.int16], px: FloatArray, quotes: Rows) -> FloatArray:
    """Part of each trade that hit the bid, by the quote rule (Lee, Ready 1991): 1 below the midpoint, 0 above.

    The quote is the last one before the trade's own stamp; at the midpoint, and where there is none, one half.
    """
    part = np.full(len(ts), 0.5)
    for k in np.unique(venue):
        first, last = np.searchsorted(quotes.venue, [k, k + 1])
        mine = np.flatnonzero(venue == k)
        row = np.searchsorted(quotes.ts[first:last], ts[mine], side="left") - 1
        mid = np.where(row >= 0, 0.5 * (quotes.bid + quotes.ask)[first:last][np.maximum(row, 0)], np.nan)
        part[mine] = np.where(px[mine] < mid, 1.0, np.where(px[mine] > mid, 0.0, 0.5))
    return part
