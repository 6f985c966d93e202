"""What a recording says, on a grid: quotes and trades in blocks of time, and the part that a market is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sor_sb3.calibration.moments import resampled
from sor_sb3.calibration.quote_estimators import grid_step, price_tick
from sor_sb3.errors import UserError
from sor_sb3.evaluation.true_quotes import QuotePaths, recorded_quotes
from sor_sb3.market.cleaning import parse_session
from sor_sb3.market.quotes import QuoteRecording

GRID_S = 1.0  # the slowest clock that a market may have; half a day of quotes stamped to the second is common
FEWEST_BLOCKS = 4
FEWEST_QUOTES, LEAST_LIVE, LEAST_BEST = 200, 0.5, 0.05  # of a venue that can be calibrated: rows, and shares of time
DAY_S = 86_400.0
FINEST_TICK_BPS = 0.01  # as good as none


@dataclass(frozen=True)
class Observed:
    """Quotes and trades of K venues in n blocks of T grid times.

    Attributes:
        tick_bps: of the price grid, at the median price; `lot_shares` 0 where sizes have none.
        volume: float64 (n, T, K), printed from each grid time to the next, or None without trades; `sold` of them hit
            the bid.
        position: (n,) of each block's middle in the trading day, 0 to 1; the day has `day_s`.
    """

    paths: QuotePaths
    tick_bps: float
    lot_shares: float
    volume: np.ndarray | None
    sold: np.ndarray | None
    position: np.ndarray
    day_s: float

    @property
    def n(self) -> int:
        """How many blocks."""
        return self.paths.n

    @property
    def mid_bps(self) -> np.ndarray:
        """Midpoint of the best quotes, (n, T)."""
        return 0.5 * (np.fmin.reduce(self.paths.ask_bps, axis=2) + np.fmax.reduce(self.paths.bid_bps, axis=2))

    def take(self, which: np.ndarray) -> Observed:
        """Some of the blocks, by index."""
        volume, sold = (None if part is None else part[which] for part in (self.volume, self.sold))
        return replace(
            self, paths=resampled(self.paths, which), volume=volume, sold=sold, position=self.position[which]
        )


def cut_segments(segments: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The first `share` of the segments' time, and the rest.

    >>> first, rest = cut_segments(np.array([[0.0, 10.0], [20.0, 30.0]]), 0.6)
    >>> first.tolist(), rest.tolist()
    ([[0.0, 10.0], [20.0, 22.0]], [[22.0, 30.0]])
    """
    before = np.append(0.0, np.cumsum(segments[:, 1] - segments[:, 0]))
    border = share * before[-1] + segments[:, 0] - before[:-1]
    first = np.column_stack([segments[:, 0], np.minimum(segments[:, 1], border)])
    rest = np.column_stack([np.maximum(segments[:, 0], border), segments[:, 1]])
    return first[first[:, 1] > first[:, 0]], rest[rest[:, 1] > rest[:, 0]]


def observe(
    recording: QuoteRecording,
    segments: np.ndarray,
    venues: Sequence[str],
    block_s: float,
    session: tuple[str, str] | None = None,
) -> Observed:
    """The quotes and trades of some venues in blocks of some segments.

    Raises:
        UserError: the segments hold fewer than `FEWEST_BLOCKS` blocks.
    """
    starts = np.array([s + b * block_s for s, e in segments for b in range(int((e - s) / block_s))])
    if len(starts) < FEWEST_BLOCKS:
        hours = float((segments[:, 1] - segments[:, 0]).sum()) / 3600.0
        what = f"a part of the recording, {hours:.2f} hours, holds {len(starts)} blocks of {block_s:g} s"
        raise UserError(f"{what}; expected at least {FEWEST_BLOCKS}: record more, or give a shorter --block-s")
    paths = recorded_quotes(replace(recording, segments=segments), venues, block_s, GRID_S)
    at = np.array([recording.venues.index(name) for name in venues])
    rows = np.concatenate([np.arange(recording.first[k], recording.first[k + 1]) for k in at])
    price = float(np.nanmedian(recording.ask_px[rows]))
    tick = price_tick(recording.ask_px[rows])
    volume = sold = None
    if recording.trade_first is not None:
        volume, sold = _printed(recording, at, starts, paths.ask_bps.shape)
    day_start_s, day_s = _day(recording, session)
    middle = (recording.origin_ns / 1e9 + starts + 0.5 * block_s - day_start_s) % DAY_S
    return Observed(
        paths=paths,
        tick_bps=max(1e4 * tick / price, FINEST_TICK_BPS),
        lot_shares=grid_step(recording.ask_size[rows]),
        volume=volume,
        sold=sold,
        position=np.clip(middle / day_s, 0.0, 1.0),
        day_s=day_s,
    )


def _printed(
    recording: QuoteRecording, venues: np.ndarray, starts: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Volume of each grid step, and what of it hit the bid."""
    assert recording.trade_first is not None and recording.trade_time_s is not None
    out, steps = np.zeros((2, *shape)), shape[1]
    for k, venue in enumerate(venues):
        mine = slice(recording.trade_first[venue], recording.trade_first[venue + 1])
        times = recording.trade_time_s[mine]
        block = np.searchsorted(starts, times, side="right") - 1
        step = np.floor((times - starts[np.maximum(block, 0)]) / GRID_S).astype(np.int64)
        keep = (block >= 0) & (step < steps)
        sums = recording.trade_cumulative_size, recording.trade_cumulative_sold
        for into, total in zip(out, sums, strict=True):
            assert total is not None
            np.add.at(into[..., k], (block[keep], step[keep]), np.diff(total[mine], prepend=0.0)[keep])
    return out[0], out[1]


def _day(recording: QuoteRecording, session: tuple[str, str] | None) -> tuple[float, float]:
    """When in UTC the trading day begins and how long it is: the session, or what is recorded of a day."""
    hours = parse_session(session)
    if hours is not None:
        return hours[0] / 1e9, hours[1] / 1e9
    first_s = recording.origin_ns / 1e9 + float(recording.segments[0, 0])
    length_s = float(recording.segments[-1, 1] - recording.segments[0, 0])
    return first_s % DAY_S, min(length_s, DAY_S)


def fit_for_use(recording: QuoteRecording, segments: np.ndarray, block_s: float) -> tuple[list[str], list[str]]:
    """Venues that quote enough to be calibrated, and a line on each of the others."""
    paths = recorded_quotes(replace(recording, segments=segments), None, block_s, GRID_S)
    best_ask, best_bid = np.fmin.reduce(paths.ask_bps, axis=2), np.fmax.reduce(paths.bid_bps, axis=2)
    kept, left_out = [], []
    for k, name in enumerate(recording.venues):
        live = float(np.isfinite(paths.ask_bps[..., k]).mean())
        best = ((paths.ask_bps[..., k] <= best_ask) | (paths.bid_bps[..., k] >= best_bid)).mean()
        quotes = int(recording.first[k + 1] - recording.first[k])
        if quotes >= FEWEST_QUOTES and live >= LEAST_LIVE and best >= LEAST_BEST:
            kept.append(name)
        else:
            seen = f"{quotes:,} quotes, live {live:.0%} and at a best quote {best:.0%} of the time"
            left_out.append(f"{name} is left out: {seen}")
    if len(kept) < 2:
        why = "; ".join(left_out)
        raise UserError(f"fewer than two venues quote enough to be calibrated ({why}); record more, or other venues")
    return kept, left_out
