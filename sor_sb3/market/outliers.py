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

from sor_sb3.market.quote_columns import BoolArray, FloatArray, IntArray
from sor_sb3.market.replay_arrays import last_rows
from sor_sb3.market.session_hours import gap_ns

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
    """All rows of a recording, and the usable quotes of both sides among them."""

    ts: IntArray  # (R,) of all rows, ns
    x: FloatArray  # (R,) logarithm of the mid; NaN where the venue does not quote both sides
    edges: IntArray  # (K + 1,) first row of each venue
    gap_ns: int  # quotes further apart say nothing of one another

    def venue(self, row: IntArray) -> IntArray:
        """Whose rows they are."""
        return np.searchsorted(self.edges, row, side="right") - 1


class _Far(NamedTuple):
    """Rows near a jump: how far each is from its venue's neighbours, what they say, and what is far for the venue."""

    row: IntArray
    away: FloatArray
    expected: FloatArray  # the nearer median of the neighbours; NaN where there are none
    limit: FloatArray


def far_quotes(
    edges: IntArray, ts: IntArray, bid: FloatArray, ask: FloatArray, max_gap_s: float
) -> tuple[BoolArray, Jump | None, Jump | None]:
    """Which rows are bad prints, bool (R,); the worst of them; and the largest kept jump, if above `JUMP_TO_TELL`.

    Arrays are (R,), sorted by venue, then by time `ts` (ns); venue k has the rows ``edges[k]:edges[k + 1]``. `bid` and
    `ask` are NaN where the venue is not quoting that side; rows of one side are not judged. Quotes further apart than
    `max_gap_s` say nothing of one another.
    """
    bad = np.zeros(len(bid), dtype=np.bool_)
    x = np.full(len(bid), np.nan)
    quotes = _Quotes(ts, x, edges, gap_ns(max_gap_s))
    near = _join([_near_jumps(quotes, slice(first, last), bid, ask) for first, last in pairwise(edges)])
    middle = _median_of(x)
    if np.isnan(middle):
        return bad, None, None
    bad[near.row] = near.away > IMPOSSIBLE
    doubtful = np.flatnonzero((near.away > near.limit) & (near.away <= IMPOSSIBLE))
    distance, n_others = _from_others(near.row[doubtful], quotes, bad)
    bad[near.row[doubtful]] = (n_others == 0) | (distance > near.limit[doubtful])
    suspects = np.flatnonzero(~bad & (np.abs(x - middle) > 0.5 * IMPOSSIBLE))
    distance, n_others = _from_others(suspects, quotes, bad)
    bad[suspects] = (n_others > 0) & (distance > IMPOSSIBLE)
    found, worst = np.flatnonzero(bad), None
    if found.size:
        expected = np.full(len(found), np.nan)
        at = np.minimum(np.searchsorted(near.row, found), max(len(near.row) - 1, 0))
        if near.row.size:
            expected = np.where(near.row[at] == found, near.expected[at], np.nan)
        expected = np.where(np.isnan(expected), middle, expected)
        i = int(np.argmax(np.abs(x[found] - expected)))
        worst = _jump(quotes, found[i], expected[i])
    return bad, worst, _largest_kept(quotes, bad)


def _median_of(x: FloatArray) -> float:
    some = x[~np.isnan(x)]
    return float(np.median(some, overwrite_input=True)) if some.size else np.nan


def _join(parts: list[_Far]) -> _Far:
    return _Far(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _near_jumps(quotes: _Quotes, part: slice, bid: FloatArray, ask: FloatArray) -> _Far:
    """The quotes of one venue, whose rows are `part`, that are near a jump; fills in their mids.

    What moves by less than half of what is far, from quote to quote, is far from none.
    """
    row = part.start + np.flatnonzero(~np.isnan(bid[part]) & ~np.isnan(ask[part]))
    if not row.size:
        return _Far(row, *np.zeros((3, 0)))
    spread = np.log(ask[row] / bid[row])
    x, when, n = np.log(bid[row]) + 0.5 * spread, quotes.ts[row], len(row)
    quotes.x[row] = x
    moves = np.abs(np.diff(x))
    typical = max(np.median(spread), np.median(moves) if n > 1 else 0.0)
    limit = min(max(FAR_TIMES * typical, FAR_AT_LEAST), IMPOSSIBLE)
    jumps = np.flatnonzero(moves > limit / 2)
    reach = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    near = np.unique(np.clip((jumps[:, None] + np.append(reach, NEIGHBOURS + 1)).ravel(), 0, n - 1))
    at = near[:, None] + reach
    inside = (at >= 0) & (at < n)
    at = np.clip(at, 0, n - 1)
    inside &= np.abs(when[at] - when[near, None]) <= quotes.gap_ns
    values = np.where(inside, x[at], np.nan)
    medians = np.stack([row_medians(values[:, :NEIGHBOURS]), row_medians(values[:, NEIGHBOURS + 1 :])])
    distances = np.where(np.isnan(medians), np.inf, np.abs(medians - x[near]))
    found = np.min(distances, axis=0)
    expected = medians[np.argmin(distances, axis=0), np.arange(len(near))]
    return _Far(row[near], np.where(np.isfinite(found), found, 0.0), expected, np.full(len(near), limit))


def _from_others(row: IntArray, quotes: _Quotes, bad: BoolArray) -> tuple[FloatArray, IntArray]:
    """Distance of quotes from the other venues' median mid, at a quote's start or end, the nearer; how many they are.

    Quotes that are `bad` are not asked.
    """
    if not row.size:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    who = quotes.venue(row)
    next_row = np.minimum(row + 1, quotes.edges[who + 1] - 1)
    distances, counts = [], []
    for stamps in (quotes.ts[row], quotes.ts[next_row]):
        theirs = np.full((len(row), len(quotes.edges) - 1), np.nan)
        for k, (at, known) in enumerate(last_rows(quotes.ts, quotes.edges, stamps)):
            known &= (who != k) & (stamps - quotes.ts[at] <= quotes.gap_ns) & ~bad[at]
            theirs[:, k] = np.where(known, quotes.x[at], np.nan)
        counts.append(np.sum(~np.isnan(theirs), axis=1))
        distance = np.abs(row_medians(theirs) - quotes.x[row])
        distances.append(np.where(counts[-1] > 0, distance, np.inf))
    return np.minimum(*distances), np.maximum(*counts)


def row_medians(values: FloatArray) -> FloatArray:
    """Median of each row's numbers, NaN where there is none."""
    middle = np.full(len(values), np.nan)
    some = ~np.isnan(values).all(axis=1)
    middle[some] = np.nanmedian(values[some], axis=1)
    return middle


def _jump(quotes: _Quotes, row: int, expected: float) -> Jump:
    venue = int(quotes.venue(np.array([row]))[0])
    return Jump(venue, int(quotes.ts[row]), float(np.exp(quotes.x[row])), float(np.exp(expected)))


def _largest_kept(quotes: _Quotes, bad: BoolArray) -> Jump | None:
    largest, where = JUMP_TO_TELL, None
    for first, last in pairwise(quotes.edges):
        at = first + np.flatnonzero(~bad[first:last] & ~np.isnan(quotes.x[first:last]))
        if len(at) > 1:
            moves = np.where(np.diff(quotes.ts[at]) <= quotes.gap_ns, np.abs(np.diff(quotes.x[at])), 0.0)
            i = int(np.argmax(moves))
            if moves[i] > largest:
                largest, where = moves[i], (at[i + 1], quotes.x[at[i]])
    return None if where is None else _jump(quotes, *where)
