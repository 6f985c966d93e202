"""Closed-form estimators of what is traded, and of what follows a trade.

Volumes are float64 (n, T, K), shares that K venues print in T ticks of n blocks; `sold` of them hit the bid. Midpoints
are (n, T), bps, at the beginning of each tick.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

IMPACT_S = (1, 5, 10, 20, 60)  # after a print
REFILL_S = (1, 2, 3, 5, 10, 20, 30)
LARGE = 0.5  # a print that takes so much of what was displayed is one that a refill follows
FEWEST_EVENTS = 30
QUIET = 0.05  # a market with more venue-ticks without a print than this has trades rather than a noisy flow
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def shares_per_day(volume: np.ndarray, tick_s: float, day_s: float) -> float:
    """Mean volume of all venues in a trading day."""
    return float(volume.sum() / (volume.shape[0] * volume.shape[1] * tick_s) * day_s)


def venue_shares(volume: np.ndarray) -> np.ndarray:
    """Each venue's share of the volume, (K,)."""
    by_venue = volume.sum(axis=(0, 1))
    return np.asarray(by_venue / max(by_venue.sum(), 1e-12))


def day_curve(volume: np.ndarray, position: np.ndarray) -> float:
    """Curvature c of the day's volume, ``m (1 + c (x^2 - 1/3))`` with x from -1 to 1 over the day: least squares.

    Args:
        volume: (n,) mean of each block; `position` (n,) of its middle in the day, 0 to 1.

    >>> place = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    >>> round(day_curve(3.0 * (1.0 + 0.8 * ((2.0 * place - 1.0) ** 2 - 1.0 / 3.0)), place), 6)
    0.8
    """
    shape = np.square(2.0 * position - 1.0) - 1.0 / 3.0
    level, slope = np.linalg.lstsq(np.column_stack([np.ones(len(shape)), shape]), volume, rcond=None)[0]
    return float(np.clip(slope / level, 0.0, 1.5)) if level > 0.0 else 0.0


def is_quiet(volume: np.ndarray) -> bool:
    """Whether venues often print nothing in a tick, so that single trades matter."""
    return bool((volume == 0.0).mean() > QUIET)


def trade_shares(volume: np.ndarray) -> float:
    """Mean size of trades that come as a Poisson process with exponential sizes: half the index of dispersion.

    Of a compound Poisson sum with exponential sizes of mean m the variance is ``2 m`` times the mean (Cox and Isham
    1980, "Point Processes"). Trades that come in bursts count as one.
    """
    total = volume.sum(axis=2)
    return float(0.5 * total.var() / total.mean())


def volume_noise_sd(volume: np.ndarray) -> float:
    """Sd s of independent log-normal noise of mean 1 on each venue's flow, from the variance of all volume together.

    ``Var / mean^2 = sum w_k^2 (exp(s^2) - 1)``, w_k the venues' shares.
    """
    total, parts = volume.sum(axis=2), np.square(venue_shares(volume)).sum()
    return math.sqrt(math.log1p(float(total.var() / total.mean() ** 2 / parts)))


def buyers_lead(volume: np.ndarray, sold: np.ndarray) -> np.ndarray:
    """Buyers' less sellers' part of each tick's volume, (n, T), in [-1, 1]; NaN where nothing is traded."""
    total = volume.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0.0, 1.0 - 2.0 * sold.sum(axis=2) / total, np.nan))


def side_correlation(lead: np.ndarray, mid_bps: np.ndarray, tick_sd_bps: float) -> float:
    """How far who trades goes with the price's move meanwhile: least squares of `lead` on ``tanh(move / sd)``."""
    along = np.tanh(np.diff(mid_bps, axis=1) / tick_sd_bps)
    now = lead[:, :-1]
    known = np.isfinite(now) & np.isfinite(along)
    return float(np.clip((now[known] * along[known]).sum() / np.square(along[known]).sum(), 0.0, 1.0))


def flow_foresight(lead: np.ndarray, mid_bps: np.ndarray, tick_sd_bps: float, correlation: float) -> float:
    """Correlation f of who trades with the *next* tick's move.

    In the model ``lead = correlation tanh(m + 2 f z)`` with m the tick's own move and ``f z`` part of the next one, in
    sds, so that ``E[lead next] = correlation f E[z tanh(m + 2 f z)]``: solved for f.
    """
    moves = np.diff(mid_bps, axis=1) / tick_sd_bps
    now, following = lead[:, :-2], moves[:, 1:]
    known = np.isfinite(now) & np.isfinite(following)
    if correlation <= 0.0 or not known.any():
        return 0.0
    target = float((now[known] * following[known]).mean()) / correlation
    low, high = 0.0, 0.95
    for _ in range(40):
        f = 0.5 * (low + high)
        inner = np.tanh(_NODES[:, None] + 2.0 * f * _NODES) @ (_WEIGHTS * _NODES) @ _WEIGHTS
        low, high = (f, high) if f * inner < target else (low, f)
    return f


class Impact(NamedTuple):
    """How far 1,000 shares bought move the midpoint: for good, and beyond that at first, with its half-life."""

    permanent_bps_per_1000: float
    transient_bps_per_1000: float
    half_life_s: float


def impact_slopes(bought: np.ndarray, mid_bps: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Slopes of the midpoint's move on the signed volume of its first tick (n, T), bps per 1,000 shares, by steps."""
    out = np.full(len(steps), np.nan)
    for i, step in enumerate(steps):
        if step < mid_bps.shape[1]:
            moves, signed = mid_bps[:, step:] - mid_bps[:, :-step], bought[:, :-step] / 1000.0
            known = np.isfinite(moves) & np.isfinite(signed)
            scale = float(np.square(signed[known]).sum())
            out[i] = float((moves[known] * signed[known]).sum()) / scale if scale > 0.0 else np.nan
    return out


def impact(bought: np.ndarray, mid_bps: np.ndarray, tick_s: float) -> Impact:
    """Kyle's slope (Kyle 1985, Econometrica 53) after 60 s is what stays, what is above it before decays.

    Where trades follow moves of others, the slopes hold that too: an upper bound.
    """
    slopes = impact_slopes(bought, mid_bps, tuple(max(round(s / tick_s), 1) for s in IMPACT_S))
    if not np.isfinite(slopes).all():
        return Impact(0.0, 0.0, 10.0)
    permanent = max(float(slopes[-1]), 0.0)
    above = slopes[:-1] - permanent
    if above[0] <= 0.0:
        return Impact(permanent, 0.0, 10.0)
    falls = np.flatnonzero(above > 0.0)
    if len(falls) < 2:
        return Impact(permanent, float(above[0]), 1.0)
    slope = np.polyfit(np.array(IMPACT_S)[:-1][falls], np.log2(above[falls]), 1)[0]
    return Impact(permanent, float(above[0]), float(np.clip(-1.0 / min(slope, -1e-3), 1.0, 60.0)))


def refill_half_life_s(shown: np.ndarray, taken: np.ndarray, tick_s: float) -> float:
    """Half-life in which a display comes back after prints that took at least `LARGE` of it; NaN where none shows.

    What is missing ``1 - R(s)``, R the mean display s after the print over that before it, falls as ``2^(-s / half
    life)``: least squares on its logarithm (resiliency: Degryse, de Jong, van Ravenswaaij, Wuyts 2005).

    Args:
        shown: (n, T, K) displayed at the beginning of each tick, `taken` printed against it in the tick.
    """
    events = (taken >= LARGE * shown) & (shown > 0.0)
    missing = np.full(len(REFILL_S), np.nan)
    for i, seconds in enumerate(REFILL_S):
        step = max(round(seconds / tick_s), 1)
        if step < shown.shape[1]:
            of = events[:, :-step] & (shown[:, step:] > 0.0)
            if of.sum() >= FEWEST_EVENTS:
                missing[i] = 1.0 - float(shown[:, step:][of].sum() / shown[:, :-step][of].sum())
    known = np.isfinite(missing) & (missing > 0.02)
    if known.sum() < 3:
        return float("nan")
    slope = np.polyfit(np.array(REFILL_S)[known], np.log2(missing[known]), 1)[0]
    return float(np.clip(-1.0 / slope, 0.5, 300.0)) if slope < 0.0 else float("nan")
