"""Walks the quotes of all venues in the order of time: the mid, crossed moments and their culprits, stale quotes.

Of a crossed pair (the best bid is above the best ask) the quote that is older is taken to be stale. Compiled, and kept
in one file, as Numba notices an edit of a cached kernel in the kernel's own file alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sor_sb3.market.quote_columns import FloatArray, IntArray

_LAST = np.iinfo(np.int64).max
_UNPRICED, _CROSSED, _LOCKED = 1, 2, 3  # states of the market: places in the totals of a walk, of moments 2 further on


class Walk(NamedTuple):
    """The consolidated market. Times are ns inside the runs of continuous trading."""

    mid_ts: IntArray  # (M,) of each change of the mid, ns
    mid_px: FloatArray  # (M,)
    total_ns: int
    unpriced_ns: int  # no best bid or no best ask
    crossed_ns: int
    locked_ns: int
    crossed_moments: int
    locked_moments: int
    quoted_ns: IntArray  # (K,) with a quote of at least one side
    best_ask_ns: IntArray  # (K,) at the best ask, ties included
    blamed_ns: IntArray  # (K,) crossed, and the venue's is the older quote of the pair


def walk(
    first: IntArray,
    ts: IntArray,
    since: IntArray,
    place: NDArray[np.uint32],
    bid: FloatArray,
    ask: FloatArray,
    runs: IntArray,
) -> Walk:
    """Consolidate quotes: venue k has the rows ``first[k]:first[k + 1]``, rising in time `ts` (ns).

    `since` is when the venue began to say what the row says, of two such times that are equal the later has the higher
    `place`. `bid` and `ask` are NaN where that side is not quoted;
    `runs` (G, 2) are the first and the last ns of each run.
    """
    k = len(first) - 1
    venues, totals, mids = np.zeros((3, k), dtype=np.int64), np.zeros(6, dtype=np.int64), np.empty((2, len(ts)))
    n = _walk(first, ts, since, place, bid, ask, runs, venues, totals, mids[0].view(np.int64), mids[1])
    mid_ts, mid_px = mids[0, :n].view(np.int64).copy(), mids[1, :n].copy()
    numbers: list[Any] = [*totals.tolist(), *venues]
    return Walk(mid_ts, mid_px, *numbers)


def stale_quotes(
    first: IntArray, ts: IntArray, place: NDArray[np.uint32], bid: FloatArray, ask: FloatArray
) -> tuple[IntArray, IntArray]:
    """Rows (rising) whose quote is the older of a crossed pair while the quote stands, and when (ns) it becomes so.

    No row repeats the row before it.
    """
    ends = np.full(len(ts), -1, dtype=np.int64)
    _find_stale(first, ts, place, bid, ask, ends)
    rows = np.flatnonzero(ends >= 0)
    return rows, ends[rows]


@njit(cache=True)
def _next(first, ts, row):  # type: ignore[no-untyped-def]
    """Move `row` (of each venue, its last row) to the next stamp at which a venue has a row; returns that stamp."""
    now = _LAST
    for k in range(len(row)):
        if row[k] + 1 < first[k + 1] and ts[row[k] + 1] < now:
            now = ts[row[k] + 1]
    for k in range(len(row)):
        if row[k] + 1 < first[k + 1] and ts[row[k] + 1] == now:
            row[k] += 1
    return now


@njit(cache=True)
def _newer(since, place, a, b):  # type: ignore[no-untyped-def]
    return since[a] > since[b] or (since[a] == since[b] and place[a] > place[b])


@njit(cache=True)
def _best(first, since, place, price, row, hidden, sign):  # type: ignore[no-untyped-def]
    """Venue with the highest `sign` times `price`, of equal ones that of the newest quote; -1 if none quotes."""
    best = -1
    for k in range(len(row)):
        if row[k] < first[k] or hidden[k] or np.isnan(price[row[k]]):
            continue
        if best < 0 or sign * price[row[k]] > sign * price[row[best]]:
            best = k
        elif price[row[k]] == price[row[best]] and _newer(since, place, row[k], row[best]):
            best = k
    return best


@njit(cache=True)
def _older(first, since, place, bid, ask, row, hidden):  # type: ignore[no-untyped-def]
    """Whose the older quote of the crossed pair is; -1 if the market is not crossed."""
    b = _best(first, since, place, bid, row, hidden, 1.0)
    a = _best(first, since, place, ask, row, hidden, -1.0)
    if a < 0 or b < 0 or bid[row[b]] <= ask[row[a]]:
        return -1
    return a if _newer(since, place, row[b], row[a]) else b


@njit(cache=True)
def _walk(first, ts, since, place, bid, ask, runs, venues, totals, mid_ts, mid_px):  # type: ignore[no-untyped-def]
    row, hidden = first[:-1] - 1, np.zeros(len(first) - 1, dtype=np.bool_)
    own_bid, own_ask = np.full(len(row), np.nan), np.full(len(row), np.nan)
    coming = np.array([ts[first[k]] if first[k] < first[k + 1] else _LAST for k in range(len(row))])
    n, run, before = 0, 0, 0
    now = coming.min()
    while now < _LAST:
        then, best_bid, best_ask = _LAST, -np.inf, np.inf
        for k in range(len(row)):
            if coming[k] == now:
                row[k] += 1
                own_bid[k], own_ask[k] = bid[row[k]], ask[row[k]]
                coming[k] = ts[row[k] + 1] if row[k] + 1 < first[k + 1] else _LAST
            then = min(then, coming[k])
            if own_bid[k] > best_bid:  # False of no quote
                best_bid = own_bid[k]
            if own_ask[k] < best_ask:
                best_ask = own_ask[k]
        gap = best_ask - best_bid  # infinite where a side is not quoted
        if gap < np.inf:
            mid = 0.5 * (best_bid + best_ask)
            if n == 0 or mid != mid_px[n - 1]:
                mid_ts[n], mid_px[n] = now, mid
                n += 1
        while run < len(runs) and runs[run, 1] <= now:
            run += 1
        state = _UNPRICED if gap == np.inf else _CROSSED if gap < 0.0 else _LOCKED if gap == 0.0 else 0
        span = min(then, runs[run, 1]) - now if run < len(runs) and runs[run, 0] <= now else 0
        if span > 0:
            totals[0] += span
            for k in range(len(row)):
                if not (np.isnan(own_bid[k]) and np.isnan(own_ask[k])):
                    venues[0, k] += span
                if own_ask[k] == best_ask:
                    venues[1, k] += span
            totals[state] += span if state > 0 else 0
            if state == _CROSSED:
                venues[2, _older(first, since, place, bid, ask, row, hidden)] += span
        if span > 0 and state >= _CROSSED and state != before:
            totals[state + 2] += 1  # a moment begins
        before = state if span > 0 else 0
        now = then
    return n


@njit(cache=True)
def _find_stale(first, ts, place, bid, ask, ends):  # type: ignore[no-untyped-def]
    row, hidden = first[:-1] - 1, np.zeros(len(first) - 1, dtype=np.bool_)
    before = row.copy()
    now = _next(first, ts, row)
    while now < _LAST:
        for k in range(len(row)):
            if row[k] != before[k]:
                hidden[k], before[k] = False, row[k]
        for _ in range(len(row)):
            older = _older(first, ts, place, bid, ask, row, hidden)
            if older < 0:
                break
            hidden[older] = True
            ends[row[older]] = now
        now = _next(first, ts, row)
