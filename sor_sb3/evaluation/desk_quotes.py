"""Recorded quotes at the times of a desk's orders: best quotes, sizes, midpoints. No measure is computed here."""

from __future__ import annotations

import numpy as np

from sor_sb3.evaluation.desk_log import TIE, DeskLog
from sor_sb3.evaluation.desk_tables import UNKNOWN_TIME, Floats, Ints
from sor_sb3.market.quotes import QuoteRecording
from sor_sb3.market.replay_arrays import last_rows

EXCEPTION_S = 1.0  # a better quote is protected once it has stood so long (Rule 611(b)(8))
SECOND_NS = 1_000_000_000


class DeskQuotes:
    """A recording, asked at UTC times in ns (n,). Outside the recording's segments nothing is known: NaN."""

    def __init__(self, recording: QuoteRecording) -> None:
        self.recording = recording
        self._place = {name: k for k, name in enumerate(recording.venues)}

    def place(self, name: str) -> int:
        """A venue's index in the recording; -1 where it has no quotes there, as a dark pool."""
        return self._place.get(name, -1)

    def _seconds(self, ns: Ints) -> Floats:
        known = ns != UNKNOWN_TIME
        return np.where(known, (np.where(known, ns, 0) - self.recording.origin_ns) / np.float64(SECOND_NS), np.nan)

    def known(self, ns: Ints) -> np.ndarray:
        """Whether the times lie in a segment, bool (n,)."""
        time_s, segments = np.nan_to_num(self._seconds(ns), nan=-np.inf), self.recording.segments
        place = np.searchsorted(segments[:, 0], time_s, side="right") - 1
        return np.asarray((place >= 0) & (time_s <= segments[np.maximum(place, 0), 1]))

    def mid(self, ns: Ints) -> Floats:
        """(best bid + best ask) / 2 in force, as the recording has it."""
        r, known = self.recording, self.known(ns)
        time_s = np.where(known, self._seconds(ns), r.mid_time_s[0])
        row = np.searchsorted(r.mid_time_s, time_s, side="right") - 1
        return np.where(known & (row >= 0), r.mid_px[np.maximum(row, 0)], np.nan)

    def mid_after(self, ns: Ints, seconds: float) -> Floats:
        """The midpoint so long after times."""
        later = np.where(ns == UNKNOWN_TIME, UNKNOWN_TIME, ns + round(seconds * SECOND_NS))
        return self.mid(later)

    def touches(self, ns: Ints) -> tuple[Floats, Floats, Floats, Floats]:
        """Bid, ask, bid size and ask size of each of the recording's venues in force, (n, K) each; no quote: NaN, 0."""
        r, known = self.recording, self.known(ns)
        time_s = np.where(known, self._seconds(ns), -np.inf)
        columns: list[list[Floats]] = [[], [], [], []]
        for row, there in last_rows(r.time_s, r.first, time_s):
            of, has = np.where(there, row, 0), there & known
            sources = (r.bid_px, r.ask_px, r.bid_size, r.ask_size)
            for into, source, nothing in zip(columns, sources, (np.nan, np.nan, 0.0, 0.0), strict=True):
                into.append(np.where(has, source[of], nothing))
        bid, ask, bid_size, ask_size = (np.stack(of, axis=1) for of in columns)
        return bid, ask, bid_size, ask_size

    def stood(self, ns: Ints, side: Floats) -> Floats:
        """The far price that each venue has been at, or better, all through the last second, (n, K).

        For a buy (side 1) the highest ask, for a sell the lowest bid; infinitely bad where it did not quote for a part
        of that second.
        """
        r, end = self.recording, self._seconds(ns)
        begin = end - EXCEPTION_S
        found = np.empty((len(ns), len(r.venues)))
        for k, (first, last) in enumerate(zip(r.first[:-1], r.first[1:], strict=True)):
            of = r.time_s[first:last]
            low, high = (np.searchsorted(of, np.nan_to_num(t, nan=-np.inf), side="right") - 1 for t in (begin, end))
            for name, which, sign in (("ask_px", side > 0.0, 1.0), ("bid_px", side < 0.0, -1.0)):
                price = sign * getattr(r, name)[first:last]
                price = np.append(np.where(np.isnan(price), np.inf, price), np.inf)
                spans = np.stack([np.maximum(low, 0), high + 1], axis=1)[which]
                if len(spans):
                    worst = np.maximum.reduceat(price, spans.ravel())[::2]
                    found[which, k] = sign * np.where(low[which] < 0, np.inf, worst)
        return found


def best_quotes(bid: Floats, ask: Floats) -> tuple[Floats, Floats]:
    """Best bid and best ask over venues, (n,), of quotes (n, K); NaN where nobody quotes."""
    return np.fmax.reduce(bid, axis=1), np.fmin.reduce(ask, axis=1)


def through_shares(log: DeskLog, quotes: DeskQuotes) -> tuple[Floats, Floats]:
    """Shares of each fill (F,) at a worse price than one displayed elsewhere then, and of these what is excused.

    A quote elsewhere does not count where a child of the same parent, sent at the same time, was to take it whole: all
    that it displayed when they were sent, or all that it does at the fill.
    A fill is excused where every better quote was younger than a second (17 CFR 242.611(b)(8)).
    """
    if not len(log.child):
        return np.zeros(0), np.zeros(0)
    side, at = log.side[log.child], np.array([quotes.place(name) for name in log.venues])[log.venue]
    bid, ask, bid_size, ask_size = quotes.touches(log.fill_ns)
    far, shown = np.where(side[:, None] > 0, ask, bid), np.where(side[:, None] > 0, ask_size, bid_size)
    _, _, bid_size, ask_size = quotes.touches(log.sent_ns)
    then = np.where(log.side[:, None] > 0, ask_size, bid_size)[log.child]
    whole = np.minimum(shown, np.where(then > 0.0, then, np.inf))
    taken = _sent_together(log, at, len(quotes.recording.venues))[log.child] >= np.maximum(whole, 1e-300) * (1.0 - TIE)
    counts = (np.arange(far.shape[1]) != at[log.child][:, None]) & (shown > 0.0) & ~taken
    gain = side[:, None] * (log.fill_px[:, None] - far)
    better = counts & (gain > TIE * log.fill_px[:, None])
    stood = quotes.stood(log.fill_ns, side)
    old = side[:, None] * (log.fill_px[:, None] - stood) > TIE * log.fill_px[:, None]
    through = better.any(axis=1)
    excused = through & ~(better & old).any(axis=1)
    return np.where(through, log.fill_shares, 0.0), np.where(excused, log.fill_shares, 0.0)


def _sent_together(log: DeskLog, at: Ints, n_venues: int) -> Floats:
    """Shares that a child's parent sent to each of the recording's venues at the same time as the child, (C, K)."""
    waves, wave = np.unique(np.stack([log.parent, log.sent_ns], axis=1), axis=0, return_inverse=True)
    sent = np.zeros((len(waves), n_venues))
    lit = at >= 0
    np.add.at(sent, (wave[lit], at[lit]), log.sent_shares[lit])
    return np.asarray(sent[wave])
