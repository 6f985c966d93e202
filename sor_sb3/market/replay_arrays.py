"""What a replay reads: recorded quotes as flat arrays, and the look-up of a time in them. No reading of files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

ROWS_OF_VENUE = np.dtype(
    [("first", "i8"), ("last", "i8"), ("first_trade", "i8"), ("last_trade", "i8")], align=True
)  # where a venue's rows lie in the flat arrays of a recording


class Recording(NamedTuple):
    """Flat arrays of recorded quotes, as a buyer sees them: of a sell mirrored. Seconds since the recording began."""

    time_s: np.ndarray
    bid_px: np.ndarray
    bid_shares: np.ndarray
    ask_px: np.ndarray
    ask_shares: np.ndarray
    level_px: np.ndarray  # (R, L - 1) asks behind the touch, rising; NaN: the book ends there
    level_shares: np.ndarray  # (R, L - 1)
    near_level_px: np.ndarray  # (R, L - 1) bids behind the touch, falling; NaN: the book ends there
    near_level_shares: np.ndarray  # (R, L - 1)
    mid_time_s: np.ndarray
    mid_px: np.ndarray
    trade_time_s: np.ndarray
    trade_cumulative_shares: np.ndarray
    trade_cumulative_sold_shares: np.ndarray  # of these, what hit the near touch
    rows: np.ndarray  # ROWS_OF_VENUE (K,)
    window_low_s: np.ndarray  # (G,) earliest start of a window in each allowed stretch
    window_cumulative_s: np.ndarray  # (G + 1,) total length of allowed starts up to each stretch


def last_rows(stamps: np.ndarray, edges: np.ndarray, times: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each venue k, whose rows are ``edges[k]:edges[k + 1]``: its last row at each time, and whether it has one."""
    for start, end in pairwise(edges):
        row = start + np.searchsorted(stamps[start:end], times, side="right") - 1
        yield row, row >= start
