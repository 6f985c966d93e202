"""Cuts a recording in time, and measures on its training part what a market leaves out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sor_sb3.market.quote_columns import FloatArray, QuoteFileError
from sor_sb3.market.quotes import QuoteRecording
from sor_sb3.market.replay_arrays import last_rows
from sor_sb3.market.spec import ReplayMarket

DATA_SPLIT_ORDER = ("train", "validation", "test")  # the order in time in which a recording is cut
_GRID_POINTS = 20_000


def split_segments(segments: FloatArray, shares: tuple[float, float, float]) -> dict[str, FloatArray]:
    """Start and end (n, 2), in seconds, of each data split's stretches: the segments' time, cut by `shares`."""
    before = np.append(0.0, np.cumsum(segments[:, 1] - segments[:, 0]))
    borders = before[-1] * np.append(0.0, np.cumsum(shares)) / sum(shares)
    borders[-1] = before[-1]
    cut = {}
    for data_split, low, high in zip(DATA_SPLIT_ORDER, borders[:-1], borders[1:], strict=True):
        start, end = np.maximum(before[:-1], low), np.minimum(before[1:], high)
        stretches = np.column_stack([start, end]) - before[:-1, None] + segments[:, :1]
        cut[data_split] = stretches[end > start]
    return cut


def _grid(stretches: FloatArray) -> FloatArray:
    """Times evenly over the stretches, so that medians weigh quotes by how long they stood."""
    before = np.append(0.0, np.cumsum(stretches[:, 1] - stretches[:, 0]))
    position = before[-1] * (np.arange(_GRID_POINTS) + 0.5) / _GRID_POINTS
    at = np.searchsorted(before, position, side="right") - 1
    return np.asarray(stretches[at, 0] + position - before[at], dtype=np.float64)


class Medians(NamedTuple):
    """Of the time of the training part."""

    best_shares: float  # displayed at the best far price, over all venues that are there
    far_offset_bps: float
    spread_bps: float


def medians_of(market: ReplayMarket, recording: QuoteRecording) -> Medians:
    """What is displayed, how far a far touch is from the mid, and how far the touches are apart."""
    times = _grid(split_segments(recording.segments, market.time_split)["train"])
    mid = recording.mid_px[np.searchsorted(recording.mid_time_s, times, side="right") - 1]
    buys = market.order.side == "buy"
    size = recording.ask_size if buys else recording.bid_size
    at_venues = list(last_rows(recording.time_s, recording.first, times))
    bid, ask, shares = (
        np.stack([np.where(known, values[np.maximum(row, 0)], np.nan) for row, known in at_venues])
        for values in (recording.bid_px, recording.ask_px, size)
    )
    far = ask if buys else bid
    if np.isnan(far).all():
        what = f"{market.quotes_file} has no quote of {', '.join(recording.venues)} in its first part"
        raise QuoteFileError(f"{what}, which is for training: choose other venues or another time_split")
    best = np.fmin.reduce(ask) if buys else np.fmax.reduce(bid)
    at_best = np.sum(np.where(far == best, shares, 0.0), axis=0)[~np.isnan(best)]
    offset = ask - mid if buys else mid - bid
    spread = (ask - bid) / mid * 1e4
    spread_bps = 0.0 if np.isnan(spread).all() else float(np.nanmedian(spread))
    return Medians(float(np.median(at_best)), float(np.nanmedian(offset / mid)) * 1e4, spread_bps)


def spacing_bps(market: ReplayMarket, recording: QuoteRecording, n_levels: int) -> float:
    """How far levels are apart, in the training part: the second from the touch, else the nearest prices of touches."""
    in_training = recording.time_s <= split_segments(recording.segments, market.time_split)["train"][-1, 1]
    asks, bids = (recording.ask_px, recording.ask_levels), (recording.bid_px, recording.bid_levels)
    touch, levels = (part[in_training] for part in (asks if market.order.side == "buy" else bids))
    apart = np.abs(levels[:, 0, 0] - touch) if n_levels > 1 else np.diff(np.sort(touch[~np.isnan(touch)]))
    apart = apart[apart > 1e-9 * recording.mid_px[0]]  # beyond rounding; False where a book has no second level
    return float(np.median(apart)) / recording.mid_px[0] * 1e4 if apart.size else 0.0
