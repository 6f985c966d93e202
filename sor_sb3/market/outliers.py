"""Finds quotes that no market made: bad prints far from the venue's own neighbours and from the other venues.

It compares mids on a logarithmic scale and changes nothing; :mod:`sor_sb3.market.cleaning` ends the quotes found here.

- A quote is *far from its neighbours* where its mid is further than `FAR_TIMES` typical spreads or moves of its venue,
  and than `FAR_AT_LEAST`, from the median of the venue's five quotes before it and of the five after it. A jump that
  the venue's next quotes confirm is therefore kept. So is one that the other venues' median mid confirms, when the
  quote begins or when it ends. In a recording of one venue the neighbours decide alone.
- A quote more than `IMPOSSIBLE` from its neighbours is bad whatever others say: feeds fail at all venues together.
- A longer run of bad prints confirms itself. A quote more than `IMPOSSIBLE` from the other venues' median is bad too,
  if it is the one that is far from the recording's own median.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sor_sb3.market.quote_tables import BoolArray, FloatArray, IntArray

NEIGHBOURS = 5
"""On each side. A run of up to three bad prints is found by neighbours; one of more needs the other venues."""
FAR_TIMES = 20.0
"""In typical spreads, or moves from quote to quote, whichever is larger: no market moves so far and back at once."""
FAR_AT_LEAST = 50e-4
"""As a share of the price: news moves a quiet venue that quotes 0.1 bps wide by dozens of spreads."""
IMPOSSIBLE = float(np.log(1.5))
"""Half as much again or a third less: beyond any two venues of one instrument, and any move that is gone at once."""
JUMP_TO_TELL = 0.05
"""Of the price: a kept jump from one quote to the next that is larger is told to a person."""


@dataclass(frozen=True)
class Jump:
    """A mid that is far from what was before it (or after it, for a venue's first quote)."""

    venue: int
    ts: int  # ns
    mid: float
    expected: float  # the mid that it is far from

    @property
    def size(self) -> float:
        """On the logarithmic scale."""
        return float(abs(np.log(self.mid / self.expected)))


def far_quotes(
    venue: IntArray, ts: IntArray, bid: FloatArray, ask: FloatArray, max_gap_s: float
) -> tuple[BoolArray, Jump | None, Jump | None]:
    """Which rows are bad prints.

    Args:
        venue: of each row (R,), sorted; rows of a venue are sorted by time.
        ts: of each row, ns.
        bid: of each row; NaN where the venue is not quoting.
        ask: of each row; NaN where the venue is not quoting.
        max_gap_s: quotes further apart say nothing of one another.

    Returns:
        Bool (R,); the worst of these rows; and the largest jump that was kept, if it is above `JUMP_TO_TELL`.
    """
    live = np.flatnonzero(~np.isnan(bid))
    far = np.zeros(len(bid), dtype=np.bool_)
    if not live.size:
        return far, None, None
    gap_ns = int(min(max_gap_s, 9e9) * 1e9)
    who, when, x = venue[live], ts[live], np.log(bid[live]) + 0.5 * np.log(ask[live] / bid[live])
    edges = np.searchsorted(venue, np.arange(venue[-1] + 2))
    away, expected, limit = _from_neighbours(who, when, x, np.log(ask[live] / bid[live]), gap_ns)
    bad = away > IMPOSSIBLE
    doubtful = np.flatnonzero((away > limit) & ~bad)

    def others(rows: IntArray) -> tuple[FloatArray, IntArray]:
        """How far `rows` are from the other venues' median mid, and how many of them quote."""
        mids = np.full(len(bid), np.nan)
        mids[live[~bad]] = x[~bad]
        return _from_others(rows, live, who, when, x, mids, ts, edges, gap_ns)

    distance, n_others = others(doubtful)
    bad[doubtful] = (n_others == 0) | (distance > limit[doubtful])
    suspects = np.flatnonzero(~bad & (np.abs(x - np.median(x)) > 0.5 * IMPOSSIBLE))
    distance, n_others = others(suspects)
    bad[suspects] = (n_others > 0) & (distance > IMPOSSIBLE)
    expected = np.where(np.isnan(expected), np.median(x), expected)
    far[live] = bad
    return far, _worst(np.flatnonzero(bad), who, when, x, expected), _largest_kept(~bad, who, when, x, gap_ns)


def _from_neighbours(
    who: IntArray, when: IntArray, x: FloatArray, spread: FloatArray, gap_ns: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How far each quote is from its venue's neighbours, the nearer median of theirs, and what is far for the venue.

    Only quotes near a jump are looked at: what moves by less from quote to quote is far from none.
    """
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
    inside &= (who[at] == who[near, None]) & (np.abs(when[at] - when[near, None]) <= gap_ns)
    values = np.where(inside, x[at], np.nan)
    medians = np.stack([_median(values[:, :NEIGHBOURS]), _median(values[:, NEIGHBOURS + 1 :])])
    distances = np.where(np.isnan(medians), np.inf, np.abs(medians - x[near]))
    nearer = np.argmin(distances, axis=0)
    found = np.min(distances, axis=0)
    away[near] = np.where(np.isfinite(found), found, 0.0)
    expected[near] = medians[nearer, np.arange(len(near))]
    return away, expected, limit


def _from_others(
    rows: IntArray,
    live: IntArray,
    who: IntArray,
    when: IntArray,
    x: FloatArray,
    mids: FloatArray,
    ts: IntArray,
    edges: IntArray,
    gap_ns: int,
) -> tuple[FloatArray, IntArray]:
    """Distance of quotes from the other venues' median mid, at a quote's start or end, the nearer; how many they are.

    `mids` (R,) of all rows is NaN where a venue is not quoting or is not believed; `edges` are the venues' first rows.
    """
    next_row = np.minimum(live[rows] + 1, edges[who[rows] + 1] - 1)
    distances, counts = [], []
    for stamps in (when[rows], ts[next_row]):
        theirs = np.full((len(rows), len(edges) - 1), np.nan)
        for k, (start, end) in enumerate(pairwise(edges)):
            if start == end:
                continue
            at = start + np.searchsorted(ts[start:end], stamps, side="right") - 1
            known = (at >= start) & (who[rows] != k) & (stamps - ts[np.maximum(at, start)] <= gap_ns)
            theirs[:, k] = np.where(known, mids[np.maximum(at, start)], np.nan)
        counts.append(np.sum(~np.isnan(theirs), axis=1))
        distance = np.abs(_median(theirs) - x[rows])
        distances.append(np.where(counts[-1] > 0, distance, np.inf))
    return np.minimum(*distances), np.maximum(*counts)


def _median(values: FloatArray) -> FloatArray:
    """Median of each row's numbers, NaN where there is none."""
    middle = np.full(len(values), np.nan)
    some = ~np.isnan(values).all(axis=1)
    middle[some] = np.nanmedian(values[some], axis=1)
    return middle


def _worst(rows: IntArray, who: IntArray, when: IntArray, x: FloatArray, expected: FloatArray) -> Jump | None:
    if not rows.size:
        return None
    i = rows[np.argmax(np.abs(x[rows] - expected[rows]))]
    return Jump(int(who[i]), int(when[i]), float(np.exp(x[i])), float(np.exp(expected[i])))


def _largest_kept(kept: BoolArray, who: IntArray, when: IntArray, x: FloatArray, gap_ns: int) -> Jump | None:
    who, when, x = who[kept], when[kept], x[kept]
    if len(x) < 2:
        return None
    together = (np.diff(who) == 0) & (np.diff(when) <= gap_ns)
    moves = np.where(together, np.abs(np.diff(x)), 0.0)
    i = int(np.argmax(moves)) + 1
    jump = Jump(int(who[i]), int(when[i]), float(np.exp(x[i])), float(np.exp(x[i - 1])))
    return jump if moves[i - 1] > JUMP_TO_TELL else None
