"""Finds quotes that no market made: bad prints far from the venue's own neighbours and from the other venues.

- A quote is *far from its neighbours* where its mid is further than `FAR_TIMES` typical spreads or moves of its venue,
  and than `FAR_AT_LEAST`, from the median of the venue's five quotes before it and of the five after it, unless the
  other venues' median mid confirms it, when the quote begins or when it ends.
- A quote more than `IMPOSSIBLE` from its neighbours is bad whatever others say: feeds fail at all venues together.
- A longer run of bad prints confirms itself. A quote more than `IMPOSSIBLE` from the other venues' median is bad too,
  if it is the one that is far from the recording's own median.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sor_sb3.market.quote_tables import BoolArray, FloatArray, IntArray
from sor_sb3.market.replay_arrays import last_rows

NEIGHBOURS = 5
"""On each side. A run of up to three bad prints is found by neighbours; one of more needs the other venues."""
FAR_TIMES = 20.0
"""In typical spreads, or moves from quote to quote, whichever is larger: no market moves so far and back at once."""
FAR_AT_LEAST = 50e-4  # as a share of the price: news moves a quiet venue that quotes 0.1 bps wide by dozens of spreads
IMPOSSIBLE = float(np.log(1.5))
"""Half as much again or a third less: beyond any two venues of one instrument, and any move that is gone at once."""
JUMP_TO_TELL = 0.05  # of the price: a kept jump from one quote to the next that is larger is told to a person


@dataclass(frozen=True)
class Jump:
    """A mid that is far from what was before it (or after it, for a venue's first quote)."""

    venue: int
    ts: int  # ns
    mid: float
    expected: float  # the mid that it is far from


class _Quotes(NamedTuple):
    """The usable quotes of a recording, and the rows that they are among."""

    venue: IntArray  # of each quote
    ts: IntArray  # of each quote, ns
    x: FloatArray  # logarithm of the mid of each quote
    row: IntArray  # where each quote lies among the rows
    row_ts: IntArray  # of all rows
    edges: IntArray  # (K + 1,) first row of each venue
    gap_ns: int  # quotes further apart say nothing of one another


def far_quotes(
    venue: IntArray, ts: IntArray, bid: FloatArray, ask: FloatArray, max_gap_s: float
) -> tuple[BoolArray, Jump | None, Jump | None]:
    """Which rows are bad prints, bool (R,); the worst of them; and the largest kept jump, if above `JUMP_TO_TELL`.

    All arrays are (R,), sorted by venue, then by time `ts` (ns). `bid` and `ask` are NaN where the venue is not
    quoting. Quotes further apart than `max_gap_s` say nothing of one another.
    """
    row = np.flatnonzero(~np.isnan(bid))
    far = np.zeros(len(bid), dtype=np.bool_)
    if not row.size:
        return far, None, None
    spread = np.log(ask[row] / bid[row])
    x = np.log(bid[row]) + 0.5 * spread
    edges = np.searchsorted(venue, np.arange(venue[-1] + 2))
    quotes = _Quotes(venue[row], ts[row], x, row, ts, edges, int(min(max_gap_s, 9e9) * 1e9))
    away, expected, limit = _from_neighbours(quotes, spread)
    bad = away > IMPOSSIBLE
    doubtful = np.flatnonzero((away > limit) & ~bad)
    distance, n_others = _from_others(doubtful, quotes, bad)
    bad[doubtful] = (n_others == 0) | (distance > limit[doubtful])
    suspects = np.flatnonzero(~bad & (np.abs(x - np.median(x)) > 0.5 * IMPOSSIBLE))
    distance, n_others = _from_others(suspects, quotes, bad)
    bad[suspects] = (n_others > 0) & (distance > IMPOSSIBLE)
    expected = np.where(np.isnan(expected), np.median(x), expected)
    far[row] = bad
    worst = np.flatnonzero(bad)[np.argmax(np.abs(x - expected)[bad])] if bad.any() else None
    return far, None if worst is None else _jump(quotes, worst, expected[worst]), _largest_kept(quotes, ~bad)


def _from_neighbours(quotes: _Quotes, spread: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How far each quote is from its venue's neighbours, the nearer median of theirs, and what is far for the venue.

    Only quotes near a jump are looked at: what moves by less from quote to quote is far from none.
    """
    who, when, x = quotes.venue, quotes.ts, quotes.x
    n = len(x)
    away, expected, limit = np.zeros(n), np.full(n, np.nan), np.zeros(n)
    moves = np.abs(np.diff(x))
    for start, end in pairwise(np.flatnonzero(np.diff(who, prepend=-1, append=who[-1] + 1))):
        typical = max(np.median(spread[start:end]), np.median(moves[start : end - 1]) if end > start + 1 else 0.0)
        limit[start:end] = min(max(FAR_TIMES * typical, FAR_AT_LEAST), IMPOSSIBLE)
    jumps = np.flatnonzero(moves > limit[1:] / 2)
    reach = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    near = np.unique(np.clip((jumps[:, None] + np.append(reach, NEIGHBOURS + 1)).ravel(), 0, n - 1))
    at = near[:, None] + reach
    inside = (at >= 0) & (at < n)
    at = np.clip(at, 0, n - 1)
    inside &= (who[at] == who[near, None]) & (np.abs(when[at] - when[near, None]) <= quotes.gap_ns)
    values = np.where(inside, x[at], np.nan)
    medians = np.stack([_median(values[:, :NEIGHBOURS]), _median(values[:, NEIGHBOURS + 1 :])])
    distances = np.where(np.isnan(medians), np.inf, np.abs(medians - x[near]))
    nearer = np.argmin(distances, axis=0)
    found = np.min(distances, axis=0)
    away[near] = np.where(np.isfinite(found), found, 0.0)
    expected[near] = medians[nearer, np.arange(len(near))]
    return away, expected, limit


def _from_others(chosen: IntArray, quotes: _Quotes, bad: BoolArray) -> tuple[FloatArray, IntArray]:
    """Distance of quotes from the other venues' median mid, at a quote's start or end, the nearer; how many they are.

    Quotes that are `bad` are not asked.
    """
    row, who = quotes.row[chosen], quotes.venue[chosen]
    mids = np.full(len(quotes.row_ts), np.nan)
    mids[quotes.row[~bad]] = quotes.x[~bad]
    next_row = np.minimum(row + 1, quotes.edges[who + 1] - 1)
    distances, counts = [], []
    for stamps in (quotes.row_ts[row], quotes.row_ts[next_row]):
        theirs = np.full((len(chosen), len(quotes.edges) - 1), np.nan)
        for k, (at, known) in enumerate(last_rows(quotes.row_ts, quotes.edges, stamps)):
            known &= (who != k) & (stamps - quotes.row_ts[at] <= quotes.gap_ns)
            theirs[:, k] = np.where(known, mids[at], np.nan)
        counts.append(np.sum(~np.isnan(theirs), axis=1))
        distance = np.abs(_median(theirs) - quotes.x[chosen])
        distances.append(np.where(counts[-1] > 0, distance, np.inf))
    return np.minimum(*distances), np.maximum(*counts)


def _median(values: FloatArray) -> FloatArray:
    """Median of each row's numbers, NaN where there is none."""
    middle = np.full(len(values), np.nan)
    some = ~np.isnan(values).all(axis=1)
    middle[some] = np.nanmedian(values[some], axis=1)
    return middle


def _jump(quotes: _Quotes, i: int, expected: float) -> Jump:
    return Jump(int(quotes.venue[i]), int(quotes.ts[i]), float(np.exp(quotes.x[i])), float(np.exp(expected)))


def _largest_kept(quotes: _Quotes, kept: BoolArray) -> Jump | None:
    at = np.flatnonzero(kept)
    if len(at) < 2:
        return None
    together = (np.diff(quotes.venue[at]) == 0) & (np.diff(quotes.ts[at]) <= quotes.gap_ns)
    moves = np.where(together, np.abs(np.diff(quotes.x[at])), 0.0)
    i = int(np.argmax(moves))
    return _jump(quotes, at[i + 1], quotes.x[at[i]]) if moves[i] > JUMP_TO_TELL else None
