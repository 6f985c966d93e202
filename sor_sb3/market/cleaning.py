"""Decides which rows of a table are quotes, where trading was continuous, and counts whatever is dropped or changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.market.outliers import Jump, far_quotes
from sor_sb3.market.quote_tables import BoolArray, FloatArray, IntArray, QuoteFileError, QuoteTable
from sor_sb3.market.replay_arrays import last_rows

SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * SECOND_NS

_REASONS = ("rows_live", "no_price", "self_crossed", "absurd_spread", "no_size", "far")  # as `CleaningReport` has them
# Why a row is not a usable quote (0: it is one). RESET rows are added by the loader.
_LIVE, _NO_PRICE, _SELF_CROSSED, _ABSURD_SPREAD, _NO_SIZE, _FAR, _RESET = range(7)

_LOWEST_PRICE, _HIGHEST_PRICE = 1e-12, 1e15  # of any instrument in any currency; beyond lie fillers
_NO_PRICE_FILLER = 9223372036.854775807  # INT64_MAX * 1e-9: how some vendors write that there is no price
_LARGEST_SIZE_SHARES = 1e12
_NO_LEVEL = (np.nan, 0.0)  # price and size


def parse_session(session: tuple[str, str] | None) -> tuple[int, int] | None:
    """Returns (start since midnight UTC, length) in nanoseconds."""
    if session is None:
        return None
    if isinstance(session, str) or len(session) != 2:
        raise QuoteFileError(f"session is {session!r}, but must be a start and an end in UTC: ('14:35', '21:00').")
    start, end = (_parse_clock(value) for value in session)
    length = _DAY_NS if end - start == _DAY_NS else (end - start) % _DAY_NS
    if length == 0:
        what = f"session starts and ends at {session[0]}, which keeps nothing"
        raise QuoteFileError(f"{what}: give two different times or none.")
    return start, length


def _parse_clock(value: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", value) if isinstance(value, str) else None
    if match is not None:
        hour, minute, second = (int(part or 0) for part in match.groups())
        if minute < 60 and second < 60 and (hour < 24 or (hour, minute, second) == (24, 0, 0)):
            return (hour * 3600 + minute * 60 + second) * SECOND_NS
    expected = "UTC times from '00:00' to '24:00': write HH:MM or HH:MM:SS (in YAML put them in quotes)"
    raise QuoteFileError(f"session has the time {value!r}, but must have {expected}.")


def in_session(ts: IntArray, hours: tuple[int, int] | None) -> BoolArray:
    """Whether each stamp is inside the session `hours` (start and length, ns), bool (n,)."""
    if hours is None:
        return np.ones(len(ts), dtype=np.bool_)
    return np.asarray((ts - hours[0]) % _DAY_NS < hours[1], dtype=np.bool_)


def utc_text(ts: np.int64 | int) -> str:
    """A stamp (ns) for a person, to the second."""
    return f"{np.datetime64(int(ts), 'ns').astype('datetime64[s]')}Z"


@dataclass
class Rows:
    """Quotes sorted by venue and time, one per venue and stamp."""

    venue: IntArray
    ts: IntArray
    reason: IntArray  # _LIVE, or why it is not a quote
    missing: IntArray  # sizes missing where the prices are good: 0, 1 or 2
    bid: FloatArray
    bid_size: FloatArray
    ask: FloatArray
    ask_size: FloatArray
    bid_levels: FloatArray  # (n, L - 1, 2) price and size of the levels behind the touch; NaN and 0 where there is none
    ask_levels: FloatArray

    def take(self, index: IntArray | BoolArray) -> Rows:
        """Some of the rows, by index or mask."""
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    def silence(self, index: IntArray | BoolArray | slice) -> None:
        """Take the prices and sizes out of rows, by index or mask."""
        self.bid[index], self.ask[index], self.bid_size[index], self.ask_size[index] = np.nan, np.nan, 0.0, 0.0
        self.bid_levels[index], self.ask_levels[index] = _NO_LEVEL, _NO_LEVEL

    @property
    def live(self) -> BoolArray:
        """bool (n,): rows that are usable quotes."""
        return np.asarray(self.reason == _LIVE, dtype=np.bool_)


def venue_numbers(table: QuoteTable, names: Sequence[str]) -> IntArray:
    """Returns each row's place in `names`, -1 if it is not there."""
    place = {name: k for k, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in table.names] + [-1], dtype=np.int64)  # last: code -1
    return lookup[table.code]


def select_rows(
    table: QuoteTable, names: Sequence[str], hours: tuple[int, int] | None, counts: dict[str, Any]
) -> tuple[IntArray, IntArray]:
    """Rows of the wanted venues and hours, sorted by venue and time, of equal stamps the last; and their venues."""
    venue = venue_numbers(table, names)
    inside = in_session(table.ts, hours)
    keep = np.flatnonzero((venue >= 0) & inside)
    counts["rows_read"] = len(table.ts)
    counts["unknown_venue"] = int(np.sum(table.code < 0))
    counts["not_requested"] = int(np.sum((venue < 0) & (table.code >= 0)))
    counts["out_of_session"] = int(np.sum((venue >= 0) & ~inside))
    counts["out_of_order"] = int(np.sum(np.diff(table.ts) < 0))
    if keep.size == 0:
        what = f"{table.path} has no row of {', '.join(names)} inside the session hours (UTC)"
        times = f"{utc_text(table.ts.min())} to {utc_text(table.ts.max())}"
        raise QuoteFileError(f"{what}; its times go from {times}: change or leave out the session.")
    order = keep[np.lexsort((table.ts[keep], venue[keep]))]  # stable: file order within equal stamps
    last = np.append((np.diff(venue[order]) != 0) | (np.diff(table.ts[order]) != 0), True)
    counts["duplicates"] = int(np.sum(~last))
    return order[last], venue[order[last]]


def judge_rows(
    table: QuoteTable,
    chosen: IntArray,
    venue: IntArray,
    max_spread_bps: float,
    assumed_depth_shares: float | None,
    size_multiplier: float,
) -> Rows:
    """Decides which of the chosen rows are quotes, and fills missing sizes."""
    bid, ask = table.numbers["bid_px"][chosen], table.numbers["ask_px"][chosen]
    reason, missing = np.zeros((2, len(bid)), dtype=np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        reason[(ask - bid) > max_spread_bps * 1e-4 * 0.5 * (ask + bid)] = _ABSURD_SPREAD
        reason[bid > ask] = _SELF_CROSSED
    for price in (bid, ask):
        reason[~((price >= _LOWEST_PRICE) & (price <= _HIGHEST_PRICE)) | (price == _NO_PRICE_FILLER)] = _NO_PRICE
    good = reason == _LIVE
    sizes: list[FloatArray] = []
    for name in ("bid_sz", "ask_sz"):
        size = table.numbers[name][chosen] * size_multiplier
        gone = np.isnan(size)
        missing += gone & good
        if assumed_depth_shares is not None:
            size = np.where(gone, assumed_depth_shares, size)
        reason[good & ~((size > 0) & (size <= _LARGEST_SIZE_SHARES))] = _NO_SIZE
        sizes.append(size)
    if assumed_depth_shares is None and good.any() and np.all(missing[good] > 0):
        what = f"{table.path} has no row with a size in both 'bid_sz' and 'ask_sz' (NaN or empty)"
        remedy = "give the number of shares to assume at each quote with --assumed-depth SHARES, or record the sizes"
        raise QuoteFileError(f"{what}: {remedy}.")
    levels = [
        _levels(table, chosen, side, touch, assumed_depth_shares, size_multiplier)
        for side, touch in (("bid", bid), ("ask", ask))
    ]
    rows = Rows(venue, table.ts[chosen], reason, missing, bid, sizes[0], ask, sizes[1], *levels)
    rows.silence(~rows.live)
    return rows


def _levels(
    table: QuoteTable,
    chosen: IntArray,
    side: str,
    touch: FloatArray,
    assumed_depth_shares: float | None,
    size_multiplier: float,
) -> FloatArray:
    """Levels behind the touch of one side, (n, L - 1, 2). A book ends at a level without a price, a size or order."""
    n_levels = sum(name.startswith(f"{side}_px") for name in table.numbers)
    levels = np.empty((len(chosen), n_levels - 1, 2))
    away, before, goes_on = 1.0 if side == "ask" else -1.0, touch, np.ones(len(chosen), dtype=np.bool_)
    for k in range(n_levels - 1):
        price, size = (table.numbers[f"{side}_{what}_{k + 2}"][chosen] for what in ("px", "sz"))
        size = size * size_multiplier
        if assumed_depth_shares is not None:
            size = np.where(np.isnan(size), assumed_depth_shares, size)
        with np.errstate(invalid="ignore"):
            goes_on = goes_on & (away * price > away * before) & (size > 0) & (size <= _LARGEST_SIZE_SHARES)
            goes_on &= (price >= _LOWEST_PRICE) & (price <= _HIGHEST_PRICE) & (price != _NO_PRICE_FILLER)
        levels[:, k, 0], levels[:, k, 1] = np.where(goes_on, price, np.nan), np.where(goes_on, size, 0.0)
        before = price
    return levels


def end_far_quotes(rows: Rows, names: Sequence[str], max_gap_s: float, counts: dict[str, Any]) -> None:
    """Makes rows without a quote of bad prints, and names the worst of them and the largest jump that stays."""
    far, worst, kept = far_quotes(rows.venue, rows.ts, rows.bid, rows.ask, max_gap_s)
    rows.reason[far] = _FAR
    rows.silence(far)
    counts["worst_far"] = _jump_text(worst, names)
    counts["largest_jump"] = _jump_text(kept, names)


def _jump_text(jump: Jump | None, names: Sequence[str]) -> str:
    if jump is None:
        return ""
    when = np.datetime64(jump.ts, "ns").astype("datetime64[ms]")
    return f"{names[jump.venue]} at {when}Z, mid {jump.mid:.6g} beside {jump.expected:.6g}"


def drop_dead_venues(
    path: Path, names: list[str], rows: Rows, requested: bool, counts: dict[str, Any]
) -> tuple[list[str], Rows]:
    """Takes out venues without a usable quote, or refuses if one of them was asked for."""
    alive = np.bincount(rows.venue[rows.live], minlength=len(names)) > 0
    dead = [(name, _why_dead(rows.take(rows.venue == k))) for k, name in enumerate(names) if not alive[k]]
    if dead and (requested or not alive.any()):
        listed = "; ".join(f"{name}: {why}" for name, why in dead)
        whose = "some of the venues asked for" if alive.any() else "any venue"
        remedy = "choose other venues, hours or limits, or correct the file"
        raise QuoteFileError(f"{path} has no usable quote of {whose} ({listed}): {remedy}.")
    keep = alive[rows.venue]
    counts["dropped_venues"] = tuple(dead)
    counts["of_dropped_venues"] = int(np.sum(~keep))
    rows = rows.take(keep)
    rows.venue = (np.cumsum(alive) - 1)[rows.venue]
    return [name for k, name in enumerate(names) if alive[k]], rows


def _why_dead(rows: Rows) -> str:
    if not len(rows.ts):
        return "no row in the session hours"
    words = {
        _NO_PRICE: "without a price",
        _SELF_CROSSED: "with the bid above the ask",
        _ABSURD_SPREAD: "wider than max_spread_bps",
        _FAR: "far from all other quotes",
        _NO_SIZE: "without a size" + (" (--assumed-depth SHARES would fill it)" if rows.missing.any() else ""),
    }
    counted = {reason: int(np.sum(rows.reason == reason)) for reason in words}
    return f"of {len(rows.ts):,} rows " + ", ".join(f"{n:,} {words[why]}" for why, n in counted.items() if n)


def count_rows(rows: Rows, filled: bool, counts: dict[str, Any]) -> None:
    """Counts the rows kept by why they are no quotes; `filled` says whether missing sizes were."""
    counts.update(zip(_REASONS, np.bincount(rows.reason, minlength=_RESET).tolist(), strict=True))
    counts["rows_kept"] = len(rows.ts)
    counts["levels"] = 1 + rows.ask_levels.shape[1]
    books = np.stack([rows.bid_levels[rows.live], rows.ask_levels[rows.live]])
    counts["levels_missing"] = int(np.sum(np.isnan(books[..., 0])))
    counts["self_locked"] = int(np.sum(rows.bid == rows.ask))
    counts["sizes_missing"] = int(np.sum(rows.missing))
    counts["sizes_filled"] = counts["sizes_missing"] if filled else 0


def continuous_runs(
    path: Path, rows: Rows, hours: tuple[int, int] | None, max_gap_s: float, counts: dict[str, Any]
) -> IntArray:
    """Returns the first and last usable quote (ns) of each run without closed hours and gaps, (runs, 2)."""
    times = np.sort(rows.ts[rows.live])
    times = times[np.diff(times, prepend=times[0] - 1) > 0]  # ten times as fast as np.unique
    sessions = np.zeros_like(times) if hours is None else (times - hours[0]) // _DAY_NS
    step = np.diff(times)
    closed = np.diff(sessions) != 0
    gap = ~closed & (step > max_gap_s * SECOND_NS)
    split = closed | gap
    runs = np.column_stack([times[np.append(True, split)], times[np.append(split, True)]])
    counts["sessions"] = len(np.unique(sessions))
    counts["gaps"] = int(np.sum(gap))
    counts["longest_silence_s"] = float(step[~closed].max(initial=0)) / SECOND_NS
    if not np.any(runs[:, 1] > runs[:, 0]):
        what = f"{path} has no two usable quotes at different times within max_gap_s = {max_gap_s:g} s of each other"
        raise QuoteFileError(
            f"{what}, so there is nothing to replay: record more quotes, or --market-set max_gap_s=... higher."
        )
    return runs


def end_old_quotes(rows: Rows, n_venues: int, starts: IntArray, counts: dict[str, Any]) -> Rows:
    """Ends the quotes that a run would inherit: adds a row without quote to such a venue at its start."""
    n, sources, stamps = len(rows.ts), [np.arange(len(rows.ts))], []
    for row, known in last_rows(rows.ts, np.searchsorted(rows.venue, np.arange(n_venues + 1)), starts):
        inherits = np.flatnonzero(known & rows.live[row] & (rows.ts[row] < starts))
        # A quote that would outlive several starts is ended at the first of them.
        stale, first = np.unique(row[inherits], return_index=True)
        sources.append(stale)
        stamps.append(starts[inherits[first]])
    rows = rows.take(np.concatenate(sources))  # the stale quotes once more, to become their ends
    rows.ts[n:], rows.reason[n:], rows.missing[n:] = np.concatenate(stamps), _RESET, 0
    rows.silence(slice(n, None))
    counts["resets"] = len(rows.ts) - n
    return rows.take(np.lexsort((rows.ts, rows.venue)))
