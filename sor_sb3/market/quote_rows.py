"""Quotes as rows: sorted by venue and time, one per venue and stamp. `cleaning` judges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sor_sb3.market.quote_columns import BoolArray, FloatArray, IntArray, QuoteFileError
from sor_sb3.market.quote_tables import STATUS, QuoteTable
from sor_sb3.market.session_hours import in_session, utc_text

REASONS = ("rows_live", "no_price", "self_crossed", "absurd_spread", "no_size", "far", "halted", "far_lone")
"""As `CleaningReport` has them."""
# Why a row is not a usable quote (0: it is one). ENDED rows are added by the loader.
LIVE, NO_PRICE, SELF_CROSSED, ABSURD_SPREAD, NO_SIZE, FAR, HALTED, FAR_LONE, ENDED = range(9)
NO_LEVEL = (np.nan, 0.0)  # price and size


@dataclass
class Rows:
    """Quotes sorted by venue and time, one per venue and stamp. A side without a quote has a NaN price and size 0."""

    venue: NDArray[np.int16]
    ts: IntArray
    place: NDArray[np.uint32]  # row of the file
    reason: NDArray[np.int8]  # LIVE, if at least one side is quoted, or why it is not a quote
    missing: NDArray[np.int8]  # sizes missing where the prices are good: 0, 1 or 2
    bid: FloatArray
    bid_size: FloatArray
    ask: FloatArray
    ask_size: FloatArray
    bid_levels: FloatArray  # (n, L - 1, 2) price and size of the levels behind the touch; NaN and 0 where there is none
    ask_levels: FloatArray

    def keep(self, index: IntArray | BoolArray) -> None:
        """Leave some of the rows, by index or mask. A field at a time: the rows are never in memory twice."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])

    def silence(self, index: IntArray | BoolArray) -> None:
        """Take the prices and sizes out of rows, by index or mask."""
        for side in ("bid", "ask"):
            self.silence_side(side, index)

    def silence_side(self, side: str, index: IntArray | BoolArray) -> None:
        """Take the price and the size of one side out of rows."""
        getattr(self, side)[index], getattr(self, f"{side}_size")[index] = np.nan, 0.0
        getattr(self, f"{side}_levels")[index] = NO_LEVEL

    def end(self, row: IntArray, ts: IntArray) -> None:
        """End the quotes of rows (rising) at times `ts`, each before the next row of its venue."""
        at_once = self.ts[row] == ts
        self.silence(row[at_once])
        self.reason[row[at_once]] = ENDED
        row, ts = row[~at_once], ts[~at_once]
        added: dict[str, Any] = {"venue": self.venue[row], "ts": ts, "reason": ENDED, "bid": np.nan, "ask": np.nan}
        added |= {"bid_levels": NO_LEVEL, "ask_levels": NO_LEVEL}
        for field in fields(self):
            values = getattr(self, field.name)
            setattr(self, field.name, np.insert(values, row + 1, added.get(field.name, 0), axis=0))

    def edges(self, n_venues: int) -> IntArray:
        """First row of each venue, and the end, (K + 1,)."""
        return np.searchsorted(self.venue, np.arange(n_venues + 1, dtype=np.int16))

    @property
    def live(self) -> BoolArray:
        """bool (n,): rows that are usable quotes, of at least one side."""
        return np.asarray(self.reason == LIVE, dtype=np.bool_)


def venue_numbers(table: QuoteTable, names: Sequence[str]) -> NDArray[np.int16]:
    """Returns each row's place in `names`, -1 if it is not there."""
    place = {name: k for k, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in table.names] + [-1], dtype=np.int16)  # last: code -1
    return lookup[table.code]


def select_rows(
    table: QuoteTable, names: Sequence[str], hours: tuple[int, int] | None, counts: dict[str, Any]
) -> NDArray[np.uint32]:
    """Rows of the wanted venues and hours, sorted by venue and time, of equal stamps the last."""
    venue = venue_numbers(table, names)
    inside = in_session(table.ts, hours)
    counts["rows_read"] = len(table.ts)
    counts["unknown_venue"] = int(np.sum(table.code < 0))
    counts["not_requested"] = int(np.sum((venue < 0) & (table.code >= 0)))
    counts["out_of_session"] = int(np.sum((venue >= 0) & ~inside))
    counts["out_of_order"] = int(np.sum(table.ts[1:] < table.ts[:-1]))
    chosen, n_dropped = [], 0
    for k in range(len(names)):
        rows = np.flatnonzero((venue == k) & inside).astype(np.uint32)
        ts = table.ts[rows]
        if np.any(ts[1:] < ts[:-1]):
            order = np.argsort(ts, kind="stable")  # file order within equal stamps
            rows, ts = rows[order], ts[order]
        last = np.append(ts[1:] != ts[:-1], np.ones(min(len(ts), 1), dtype=np.bool_))
        n_dropped += len(ts) - int(np.sum(last))
        chosen.append(rows[last])
    counts["duplicates"] = n_dropped
    if not any(len(rows) for rows in chosen):
        what = f"{table.path} has no row of {', '.join(names)} inside the session hours (UTC)"
        times = f"{utc_text(table.ts.min())} to {utc_text(table.ts.max())}"
        raise QuoteFileError(f"{what}; its times go from {times}: change or leave out the session.")
    return np.concatenate(chosen)


def read_rows(table: QuoteTable, place: NDArray[np.uint32], names: Sequence[str], size_multiplier: float) -> Rows:
    """The chosen rows of a table as they were recorded, a column at a time; none is judged yet."""

    at = place.astype(np.intp)  # once: NumPy would turn them anew for every column

    def column(name: str) -> FloatArray:
        values = table.numbers(name)[at]
        return values * size_multiplier if "_sz" in name else values

    reason = np.zeros(len(place), dtype=np.int8)
    if STATUS in table.columns:
        reason[table.numbers(STATUS)[at] > 0.0] = HALTED
    touch = [column(name) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
    n_levels = sum(name.startswith("ask_px") for name in table.columns)
    levels = np.empty((2, len(place), n_levels - 1, 2))
    for side, into in zip(("bid", "ask"), levels, strict=True):
        for k in range(n_levels - 1):
            into[:, k, 0], into[:, k, 1] = column(f"{side}_px_{k + 2}"), column(f"{side}_sz_{k + 2}")
    missing = np.zeros(len(place), dtype=np.int8)
    venue = venue_numbers(table, names)[at]
    return Rows(venue, table.ts[at], place, reason, missing, *touch, *levels)
