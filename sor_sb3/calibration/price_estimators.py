"""Closed-form estimators of the efficient price from midpoints: volatility, its clusters, jumps.

Midpoints are float64 (n, T), bps, in n blocks; NaN where unknown. Moves are taken over spans that do not overlap.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize

SPAN_S = 5.0
CLUSTER_LAGS = (1, 2, 3, 6, 12, 24, 36)  # in spans
HALF_LIFE_S = (10.0, 3600.0)
LOCAL_SPANS = 60  # over which the local volatility of the jump test is taken
FALSE_JUMP = 0.01  # chance of a false alarm in the whole sample


def moves_of(mid_bps: np.ndarray, grid_s: float, span_s: float = SPAN_S) -> np.ndarray:
    """Moves over consecutive spans, (n, spans)."""
    return np.asarray(np.diff(mid_bps[:, :: max(round(span_s / grid_s), 1)], axis=1))


def volatility_bps(moves: np.ndarray, span_s: float) -> float:
    """Root mean square of moves over the square root of their span, bps per sqrt(s).

    >>> volatility_bps(np.array([[2.0, -2.0, np.nan, 2.0]]), 4.0)
    1.0
    """
    return float(np.sqrt(np.nanmean(np.square(moves)) / span_s))


class Clusters(NamedTuple):
    """Log-normal volatility: the sd of its logarithm and the half-life of its memory."""

    log_sd: float
    half_life_s: float


def abs_products(moves: np.ndarray, lags: tuple[int, ...] = CLUSTER_LAGS) -> np.ndarray:
    """``log(E |r_t| |r_{t+l}| / (E |r|)^2)`` by lag: of log-normal volatility the autocovariance of its logarithm."""
    size = np.abs(moves)
    mean = np.nanmean(size)
    out = np.full(len(lags), np.nan)
    for i, lag in enumerate(lags):
        if lag < moves.shape[1] - 1:
            out[i] = np.log(np.nanmean(size[:, lag:] * size[:, :-lag]) / mean**2)
    return out


def volatility_clusters(moves: np.ndarray, span_s: float) -> Clusters:
    """Log-normal volatility from how absolute moves go together.

    With ``r = sigma z``, log sigma a Gaussian AR(1) of sd s, ``E|r_t||r_{t+l}| / (E|r|)^2 = exp(s^2 2^(-l / h))``
    (Taylor 1986, "Modelling Financial Time Series", chapter 3): least squares over `CLUSTER_LAGS`.
    """
    found = abs_products(moves)
    known = np.isfinite(found)
    lags_s, target = np.array(CLUSTER_LAGS)[known] * span_s, found[known]

    def fitted(log_half_life: float) -> tuple[float, float]:
        shape = 2.0 ** (-lags_s / math.exp(log_half_life))
        variance = max(float(shape @ target / (shape @ shape)), 0.0)
        return float(np.square(variance * shape - target).sum()), variance

    bounds = (math.log(HALF_LIFE_S[0]), math.log(HALF_LIFE_S[1]))
    best = optimize.minimize_scalar(lambda x: fitted(x)[0], bounds=bounds, method="bounded").x
    return Clusters(math.sqrt(fitted(best)[1]), math.exp(best))


class Jumps(NamedTuple):
    """Jumps that stand out, a lower bound: their rate, and the root mean square of their size."""

    per_hour: float
    sd_bps: float


def jumps(moves: np.ndarray, span_s: float) -> Jumps:
    """Moves too large for the volatility around them (Lee and Mykland 2008, Review of Financial Studies 21).

    A move is a jump where ``|r| / s > c + b x``: s is the root of the mean bipower of the `LOCAL_SPANS` moves before it
    (Barndorff-Nielsen and Shephard 2004), x the quantile of the Gumbel law that leaves `FALSE_JUMP`.

    >>> calm = np.where(np.arange(400) % 2, 1.0, -1.0)[None]
    >>> calm[0, 300] = 30.0
    >>> found = jumps(calm, 9.0)
    >>> round(found.per_hour, 6), found.sd_bps
    (1.179941, 30.0)
    """
    size = np.abs(moves)
    pairs = np.where(np.isfinite(size[:, 1:] * size[:, :-1]), size[:, 1:] * size[:, :-1], 0.0)
    total = np.concatenate([np.zeros((len(size), 1)), np.cumsum(pairs, axis=1)], axis=1)
    window = min(LOCAL_SPANS, size.shape[1] // 2)
    tested = size[:, window + 1 :]
    local = np.sqrt(np.pi / 2.0 * (total[:, window : window + tested.shape[1]] - total[:, : tested.shape[1]]) / window)
    n = max(int(np.isfinite(tested).sum()), 3)
    root, scale = math.sqrt(2.0 * math.log(n)), math.sqrt(2.0 / math.pi)
    centre = root / scale - (math.log(math.pi) + math.log(math.log(n))) / (2.0 * scale * root)
    limit = centre - math.log(-math.log(1.0 - FALSE_JUMP)) / (scale * root)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = tested[(tested / local > scale * limit) & (local > 0.0)]
    hours = n * span_s / 3600.0
    return Jumps(len(found) / hours, float(np.sqrt(np.mean(found**2))) if len(found) else 0.0)
