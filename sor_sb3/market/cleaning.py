"""Decides which rows of a table are quotes, where trading was continuous, and counts whatever is dropped or changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sor_sb3.market.outliers import Jump, far_quotes, row_medians
from sor_sb3.market.quote_columns import BoolArray, FloatArray, IntArray, QuoteFileError
from sor_sb3.market.quote_rows import (
    ABSURD_SPREAD,
    ENDED,
    FAR,
    FAR_LONE,
    HALTED,
    LIVE,
    NO_LEVEL,
    NO_PRICE,
    NO_SIZE,
    REASONS,
    SELF_CROSSED,
    Rows,
)
from sor_sb3.market.replay_arrays import last_rows
from sor_sb3.market.session_hours import DAY_NS, SECOND_NS, gap_ns
from sor_sb3.market.session_hours import parse_session as parse_session

_LOWEST_PRICE, _HIGHEST_PRICE = 1e-12, 1e15  # of any instrument in any currency; beyond lie fillers
_NO_PRICE_FILLER = 9223372036.854775807  # INT64_MAX * 1e-9: how some vendors write that there is no price
_LARGEST_SIZE_SHARES = 1e12
_CHUNK = 1 << 20  # rows that are judged at once


def judge_rows(path: Path, rows: Rows, max_spread_bps: float, assumed_depth_shares: float | None) -> None:
    """Decides which rows are quotes, of one side or both, and fills missing sizes."""
    some_good = unsized = False
    for start in range(0, len(rows.ts), _CHUNK):
        part = slice(start, start + _CHUNK)
        good = _judge(rows, part, max_spread_bps, assumed_depth_shares)
        some_good |= bool(good.any())
        unsized |= bool(np.any(rows.missing[part][good] == 0))
    if assumed_depth_shares is None and some_good and not unsized:
        what = f"{path} has no row with a size in both 'bid_sz' and 'ask_sz' (NaN or empty)"
        remedy = "give the number of shares to assume at each quote with --assumed-depth SHARES, or record the sizes"
        raise QuoteFileError(f"{what}: {remedy}.")
    for side in ("bid", "ask"):
        rows.silence_side(side, np.isnan(getattr(rows, side)))


def _judge(rows: Rows, part: slice, max_spread_bps: float, assumed_depth_shares: float | None) -> BoolArray:
    """Judge a part of the rows; what is no price becomes NaN. Returns which rows have two prices that fit together."""
    bid, ask, reason = rows.bid[part], rows.ask[part], rows.reason[part]
    trades = reason != HALTED
    bid_good, ask_good = (_is_price(price) & trades for price in (bid, ask))
    both = bid_good & ask_good
    with np.errstate(invalid="ignore", over="ignore"):
        absurd = both & ((ask - bid) > max_spread_bps * 1e-4 * 0.5 * (ask + bid))
        crossed = both & (bid > ask)
    fits = both & ~absurd & ~crossed
    unknown = np.zeros(len(bid), dtype=np.bool_)  # the size at a price: missing, or a filler
    for size, good in ((rows.bid_size[part], bid_good), (rows.ask_size[part], ask_good)):
        gone = np.isnan(size)
        rows.missing[part] += gone & fits
        if assumed_depth_shares is not None:
            size[gone] = assumed_depth_shares
        unknown |= good & ~(size <= _LARGEST_SIZE_SHARES)
        good &= size > 0
    neither, lone = ~(bid_good | ask_good), bid_good != ask_good
    reason[neither & trades] = NO_PRICE
    reason[(neither & both) | unknown] = NO_SIZE
    reason[absurd & (unknown | ~lone)] = ABSURD_SPREAD
    reason[crossed & (unknown | ~lone)] = SELF_CROSSED
    for side, price, good in (("bid", bid, bid_good), ("ask", ask, ask_good)):
        price[~good | (reason != LIVE)] = np.nan
        away = 1.0 if side == "ask" else -1.0
        _end_books(getattr(rows, f"{side}_levels")[part], price, away, assumed_depth_shares)
    return fits


def _is_price(price: FloatArray) -> BoolArray:
    return (price >= _LOWEST_PRICE) & (price <= _HIGHEST_PRICE) & (price != _NO_PRICE_FILLER)


def _end_books(levels: FloatArray, touch: FloatArray, away: float, assumed_depth_shares: float | None) -> None:
    """Levels behind the touch of one side, (n, L - 1, 2). A book ends at a level without a price, a size or order."""
    before, goes_on = touch, np.ones(len(touch), dtype=np.bool_)
    for k in range(levels.shape[1]):
        price, size = levels[:, k, 0].copy(), levels[:, k, 1]
        if assumed_depth_shares is not None:
            size[np.isnan(size)] = assumed_depth_shares
        with np.errstate(invalid="ignore"):
            goes_on = goes_on & (away * price > away * before) & (size > 0) & (size <= _LARGEST_SIZE_SHARES)
            goes_on &= _is_price(price)
        levels[~goes_on, k] = NO_LEVEL
        before = price


def end_lone_quotes(rows: Rows, n_venues: int, max_spread_bps: float, max_gap_s: float) -> None:
    """Makes rows without a quote of lone asks and bids that are far from the market.

    A quote of one side has no spread to be judged by. It is used where it is within half of `max_spread_bps` of the
    median mid of the venues that quote both sides then, or did at most `max_gap_s` before.
    """
    lone = np.flatnonzero(rows.live & (np.isnan(rows.bid) != np.isnan(rows.ask)))
    if not lone.size:
        return
    stamps, edges = rows.ts[lone], rows.edges(n_venues)
    mids = np.full((len(lone), n_venues), np.nan)
    for k in range(n_venues):
        both = edges[k] + np.flatnonzero(
            ~np.isnan(rows.bid[edges[k] : edges[k + 1]] + rows.ask[edges[k] : edges[k + 1]])
        )
        if both.size:
            at = np.searchsorted(rows.ts[both], stamps, side="right") - 1
            row = both[np.maximum(at, 0)]
            near = (at >= 0) & (stamps - rows.ts[row] <= gap_ns(max_gap_s))
            mids[near, k] = 0.5 * (rows.bid[row] + rows.ask[row])[near]
    price = np.where(np.isnan(rows.bid[lone]), rows.ask[lone], rows.bid[lone])
    far = ~(np.abs(price / row_medians(mids) - 1.0) <= 0.5e-4 * max_spread_bps)  # True, too, where there is no mid
    rows.reason[lone[far]] = FAR_LONE
    rows.silence(lone[far])


def end_far_quotes(rows: Rows, names: Sequence[str], max_gap_s: float, counts: dict[str, Any]) -> None:
    """Makes rows without a quote of bad prints, and names the worst of them and the largest jump that stays."""
    far, worst, kept = far_quotes(rows.edges(len(names)), rows.ts, rows.bid, rows.ask, max_gap_s)
    rows.reason[far] = FAR
    rows.silence(far)
    counts["worst_far"] = _jump_text(worst, names)
    counts["largest_jump"] = _jump_text(kept, names)


def _jump_text(jump: Jump | None, names: Sequence[str]) -> str:
    if jump is None:
        return ""
    when = np.datetime64(jump.ts, "ns").astype("datetime64[ms]")
    return f"{names[jump.venue]} at {when}Z, mid {jump.mid:.6g} beside {jump.expected:.6g}"


def drop_dead_venues(path: Path, names: list[str], rows: Rows, requested: bool, counts: dict[str, Any]) -> list[str]:
    """Takes out venues without a usable quote, or refuses if one of them was asked for; returns those that stay."""
    edges, live = rows.edges(len(names)), rows.live
    alive = np.array([bool(np.any(live[edges[k] : edges[k + 1]])) for k in range(len(names))])
    dead = [(name, _why_dead(rows, slice(edges[k], edges[k + 1]))) for k, name in enumerate(names) if not alive[k]]
    if dead and (requested or not alive.any()):
        listed = "; ".join(f"{name}: {why}" for name, why in dead)
        whose = "some of the venues asked for" if alive.any() else "any venue"
        remedy = "choose other venues, hours or limits, or correct the file"
        raise QuoteFileError(f"{path} has no usable quote of {whose} ({listed}): {remedy}.")
    counts["dropped_venues"] = tuple(dead)
    counts["of_dropped_venues"] = 0
    if dead:
        keep = alive[rows.venue]
        counts["of_dropped_venues"] = int(np.sum(~keep))
        rows.keep(keep)
        rows.venue = (np.cumsum(alive) - 1).astype(np.int16)[rows.venue]
    return [name for k, name in enumerate(names) if alive[k]]


def _why_dead(rows: Rows, part: slice) -> str:
    reason = rows.reason[part]
    if not len(reason):
        return "no row in the session hours"
    words = {
        NO_PRICE: "without a price",
        SELF_CROSSED: "with the bid above the ask",
        ABSURD_SPREAD: "wider than max_spread_bps",
        FAR: "far from all other quotes",
        FAR_LONE: "of one side, with no market of two sides near",
        HALTED: "halted",
        NO_SIZE: "without a size" + (" (--assumed-depth SHARES would fill it)" if rows.missing[part].any() else ""),
    }
    counted = {why: int(np.sum(reason == why)) for why in words}
    return f"of {len(reason):,} rows " + ", ".join(f"{n:,} {words[why]}" for why, n in counted.items() if n)


def count_rows(rows: Rows, filled: bool, counts: dict[str, Any]) -> None:
    """Counts the rows kept by why they are no quotes; `filled` says whether missing sizes were."""
    live = rows.live
    counts.update(zip(REASONS, np.bincount(rows.reason, minlength=ENDED).tolist(), strict=True))
    counts["rows_kept"] = len(rows.ts)
    counts["levels"] = 1 + rows.ask_levels.shape[1]
    sides = ((rows.bid, rows.bid_levels), (rows.ask, rows.ask_levels))
    counts["levels_missing"] = sum(int(np.sum(np.isnan(levels[~np.isnan(touch), :, 0]))) for touch, levels in sides)
    counts["only_asks"], counts["only_bids"] = (int(np.sum(live & np.isnan(touch))) for touch, _ in sides)
    counts["self_locked"] = int(np.sum(rows.bid == rows.ask))
    counts["sizes_missing"] = int(np.sum(rows.missing, dtype=np.int64))
    counts["sizes_filled"] = counts["sizes_missing"] if filled else 0
    counts["venue_rows"] = np.bincount(rows.venue).tolist()
    counts["venue_live_rows"] = np.bincount(rows.venue[live]).tolist()


def changes(rows: Rows, n_venues: int, hours: tuple[int, int] | None) -> BoolArray:
    """Rows that say something new: not what their venue's row before them said, within a session (n,)."""
    new = np.ones(len(rows.ts), dtype=np.bool_)
    new[1:] = False
    for name in ("bid", "bid_size", "ask", "ask_size"):
        bits = getattr(rows, name).view(np.int64)  # a NaN is as the NaN before it
        new[1:] |= bits[1:] != bits[:-1]
    for levels in (rows.bid_levels, rows.ask_levels):
        if levels.size:
            bits = levels.reshape(len(levels), -1).view(np.int64)
            new[1:] |= np.any(bits[1:] != bits[:-1], axis=1)
    first = rows.edges(n_venues)[:-1]
    new[first[first < len(new)]] = True
    if hours is not None:
        sessions = (rows.ts - hours[0]) // DAY_NS
        new[1:] |= sessions[1:] != sessions[:-1]
    return new


def continuous_runs(
    path: Path,
    rows: Rows,
    new: BoolArray,
    hours: tuple[int, int] | None,
    max_gap_s: float,
    counts: dict[str, Any],
) -> IntArray:
    """Returns the first and last usable quote (ns) of each run without closed hours and gaps, (runs, 2).

    A gap is a time in which no venue's quote changes, also where snapshots go on repeating them; repeats only prolong
    the end of a run, by less than a gap. Where that leaves less than half of the time (`still`), the market was quiet
    rather than the recording frozen, and a gap is a time without a row.
    """
    live = rows.live
    every = _sorted_times(rows.ts[live])
    found = _Runs.of(every, every, hours, max_gap_s)
    counts["still"] = False
    if not new.all():
        by_change = _Runs.of(_sorted_times(rows.ts[live & new]), every, hours, max_gap_s)
        counts["still"] = bool(_length(by_change.runs) < 0.5 * _length(found.runs))
        found = found if counts["still"] else by_change
    counts["sessions"], counts["gaps"] = found.sessions, found.gaps
    counts["longest_silence_s"] = found.longest_ns / SECOND_NS
    if not _length(found.runs):
        what = f"{path} has no two usable quotes at different times within max_gap_s = {max_gap_s:g} s of each other"
        raise QuoteFileError(
            f"{what}, so there is nothing to replay: record more quotes, or --market-set max_gap_s=... higher."
        )
    return found.runs


def _sorted_times(ts: IntArray) -> IntArray:
    times = np.sort(ts, kind="stable")
    return times[np.append(True, times[1:] != times[:-1])]  # ten times as fast as np.unique


def _length(runs: IntArray) -> int:
    return int(np.sum(runs[:, 1] - runs[:, 0]))


class _Runs(NamedTuple):
    """Runs (n, 2) of times, first and last, and how they were cut."""

    runs: IntArray
    sessions: int
    gaps: int
    longest_ns: float  # silence inside a session

    @classmethod
    def of(cls, times: IntArray, every: IntArray, hours: tuple[int, int] | None, max_gap_s: float) -> _Runs:
        """Cut `times`, rising, at gaps between them; runs end at the last of `every` time, if no gap lies before it."""
        step, limit_ns = np.diff(times), gap_ns(max_gap_s)
        closed = np.zeros(len(step), dtype=np.bool_)
        if hours is not None:
            closed = np.diff((times - hours[0]) // DAY_NS) != 0
        gap = ~closed & (step > limit_ns)
        split = closed | gap
        start, end = times[np.append(True, split)], times[np.append(split, True)]
        alive = every[np.append(np.searchsorted(every, start[1:]) - 1, len(every) - 1)]  # before the next run
        runs = np.column_stack([start, np.where(alive - end <= limit_ns, alive, end)])
        return cls(runs, 1 + int(np.sum(closed)), int(np.sum(gap)), float(step[~closed].max(initial=0)))


def count_changes(rows: Rows, new: BoolArray, counts: dict[str, Any]) -> None:
    """Counts the rows that repeat others, and each venue's quotes that do not."""
    counts["repeats"] = int(len(new) - np.sum(new))
    counts["venue_changes"] = np.bincount(rows.venue[new & rows.live]).tolist()


def drop_repeats(rows: Rows, new: BoolArray, n_venues: int, starts: IntArray) -> None:
    """Takes out rows that repeat the row before them, but for a venue's first after each of the `starts` of runs."""
    edges = rows.edges(n_venues)
    for first, last in pairwise(edges):
        row = first + np.searchsorted(rows.ts[first:last], starts)
        new[row[row < last]] = True
    if not new.all():
        rows.keep(new)


def end_old_quotes(rows: Rows, n_venues: int, starts: IntArray, counts: dict[str, Any]) -> None:
    """Ends the quotes that a run would inherit: adds a row without quote to such a venue at its start."""
    rows_to_end, stamps, live = [], [], rows.live
    for row, known in last_rows(rows.ts, rows.edges(n_venues), starts):
        inherits = np.flatnonzero(known & live[row] & (rows.ts[row] < starts))
        # A quote that would outlive several starts is ended at the first of them.
        stale, first = np.unique(row[inherits], return_index=True)
        rows_to_end.append(stale)
        stamps.append(starts[inherits[first]])
    row = np.concatenate(rows_to_end)
    counts["resets"] = len(row)
    if len(row):
        rows.end(row, np.concatenate(stamps))
