"""What is known of a Gaussian process that is seen through a rising function: rounded, in lots, cut off below.

Displayed sizes and spreads of a market are rising functions of latent Gaussian processes. Whether a value is above a
threshold is then whether the process is, whatever the function, so that correlations and quantiles need no model of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

LAGS_S = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 240, 300)
FAST_S, SLOW_S = (0.5, 20.0), (15.0, 1200.0)  # where half-lives are looked for
_HALVINGS = 40
_LEAST_SHARE = 0.02  # of a quantile that is read: what is rarer says little and is dear


def latent_correlation(above: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Correlation of two standard normals that exceed the same threshold with these probabilities (tetrachoric).

    Solves ``Phi2(a, a; rho) = both`` with ``a = Phi^-1(above)``, where ``Phi2(a, a; rho) = Phi(a) - 2 T(a,
    sqrt((1 - rho) / (1 + rho)))`` and T is Owen's (Owen 1956, Annals of Mathematical Statistics 27; Pearson 1900).

    Args:
        above: probability of one exceeding it; `both` of both. Any shape; the answer has it.

    >>> latent_correlation(np.array(0.5), np.array(1 / 3)).round(6).item()  # 1/4 + asin(rho) / (2 pi)
    0.5
    """
    a, low, high = special.ndtri(above), np.full(np.shape(both), -1.0), np.full(np.shape(both), 1.0)
    for _ in range(_HALVINGS):
        rho = 0.5 * (low + high)
        too_low = above - 2.0 * special.owens_t(a, np.sqrt((1.0 - rho) / (1.0 + rho))) < both
        low, high = np.where(too_low, rho, low), np.where(too_low, high, rho)
    return np.asarray(0.5 * (low + high))


def middle_threshold(values: np.ndarray, lot: float) -> float:
    """The border between two values, `lot` apart, that parts a sample most evenly (of continuous ones the median).

    >>> middle_threshold(np.array([100.0, 100.0, 200.0, 500.0]), 100.0)
    150.0
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan")
    if lot <= 0.0:
        return float(np.median(known))
    steps, counts = np.unique(np.rint(known / lot), return_counts=True)
    if len(steps) == 1:
        return float("nan")
    share = np.cumsum(counts)[:-1] / len(known)
    return float((steps[int(np.argmin(np.abs(share - 0.5)))] + 0.5) * lot)


def exceedances(values: np.ndarray, lot: float, lags: tuple[int, ...]) -> np.ndarray:
    """How often K series exceed their middle threshold, once and again, in each block: sums that resampling may add up.

    Args:
        values: float64 (n, T, K) in n blocks, NaN where nothing is known.
        lot: what values are whole numbers of; 0 for continuous ones.
        lags: in places of the second axis.

    Returns:
        float64 (n, 3, lags, K): pairs of known values so far apart, how many of both exceed it on average, and in how
        many pairs both do; 0 of a series that says nothing.
    """
    out = np.zeros((len(values), 3, len(lags), values.shape[2]))
    for k in range(values.shape[2]):
        threshold, known = middle_threshold(values[:, :, k], lot), np.isfinite(values[:, :, k])
        above = (values[:, :, k] > threshold) & known
        if not np.isfinite(threshold) or not _LEAST_SHARE < above.sum() / known.sum() < 1.0 - _LEAST_SHARE:
            continue
        for i, lag in enumerate(lags):
            if lag < values.shape[1]:
                early, late, pair = above[:, :-lag], above[:, lag:], known[:, lag:] & known[:, :-lag]
                out[:, 0, i, k] = pair.sum(axis=1)
                out[:, 1, i, k] = 0.5 * ((early & pair).sum(axis=1) + (late & pair).sum(axis=1))
                out[:, 2, i, k] = (early & late).sum(axis=1)
    return out


def latent_autocorrelations(counts: np.ndarray) -> np.ndarray:
    """Autocorrelations of the latent processes behind K series, mean over the series, by lag.

    Args:
        counts: of `exceedances`, (n, 3, lags, K).

    Returns:
        float64 (lags,); NaN where no series says anything.
    """
    pairs, one, both = counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(pairs > 2, latent_correlation(one / pairs, both / pairs), np.nan)
        counted = np.isfinite(found)
        return np.asarray(np.where(counted, found, 0.0).sum(axis=1) / counted.sum(axis=1))


class TwoSpeeds(NamedTuple):
    """An autocorrelation ``fast_share 2^(-t / fast) + (1 - fast_share) 2^(-t / slow)``."""

    fast_half_life_s: float
    slow_half_life_s: float
    fast_share: float


def two_speeds(correlations: np.ndarray, lags_s: np.ndarray, start: TwoSpeeds | None = None) -> TwoSpeeds:
    """The two-speed autocorrelation nearest to these in squares, as of a sum of two AR(1).

    Two components of volatility: Engle and Lee 1999. Half-lives are looked for in `FAST_S` and `SLOW_S`.

    >>> lags = np.array(LAGS_S, dtype=float)
    >>> [round(x, 3) for x in two_speeds(0.6 * 2 ** (-lags / 2) + 0.4 * 2 ** (-lags / 120), lags)]
    [2.0, 120.0, 0.6]
    """
    known = np.isfinite(correlations)
    target, lags = correlations[known], lags_s[known]

    def gap(x: np.ndarray) -> np.ndarray:
        return np.asarray(x[2] * 2.0 ** (-lags / np.exp(x[0])) + (1.0 - x[2]) * 2.0 ** (-lags / np.exp(x[1])) - target)

    low, high = np.log([FAST_S[0], SLOW_S[0]]), np.log([FAST_S[1], SLOW_S[1]])
    starts = [start] if start is not None else [TwoSpeeds(f, s, 0.6) for f in (2.0, 6.0) for s in (60.0, 300.0)]
    bounds = ([*low, 0.0], [*high, 1.0])
    found = []
    for first in starts:
        x = np.clip([*np.log(first[:2]), first.fast_share], np.add(bounds[0], 1e-6), np.subtract(bounds[1], 1e-6))
        found.append(optimize.least_squares(gap, x, bounds=bounds))
    best = min(found, key=lambda solution: float(solution.cost)).x
    return TwoSpeeds(float(np.exp(best[0])), float(np.exp(best[1])), float(best[2]))


class Law(NamedTuple):
    """Of K series the median of each, and of all the sd of the logarithm below it and above it."""

    median: np.ndarray
    log_sd_below: float
    log_sd_above: float


def quantile_law(values: np.ndarray, lot: float, floor: float = 0.0) -> Law:
    """Medians and spreads of K log-normal series whose upper half may be wider, from their quantiles.

    ``log q_k(p) = log median_k + sd_below min(z, 0) + sd_above max(z, 0)``, z the normal quantile of p: least squares
    over all series, weighted as quantiles of a normal sample are known (Mosteller 1946). Values in lots are read at the
    borders between them, where the quantile is exact. Where nothing is below a median, both sds are that above.

    Args:
        values: float64 (..., K), NaN where unknown; `lot` as in `latent_autocorrelations`.
        floor: taken off each border before the logarithm.
    """
    rows, targets, weights, k = [], [], [], values.shape[-1]
    for venue in range(k):
        sample = values[..., venue]
        borders, shares = _quantiles(sample[np.isfinite(sample)], lot)
        keep = (shares > _LEAST_SHARE) & (shares < 1.0 - _LEAST_SHARE) & (borders > floor)
        z = special.ndtri(shares[keep])
        own = np.zeros((len(z), k))
        own[:, venue] = 1.0
        rows.append(np.column_stack([own, np.minimum(z, 0.0), np.maximum(z, 0.0)]))
        targets.append(np.log(borders[keep] - floor))
        weights.append(np.exp(-0.5 * z**2) / np.sqrt(shares[keep] * (1.0 - shares[keep])))
    design, target, weight = np.concatenate(rows), np.concatenate(targets), np.concatenate(weights)
    if not design[:, k].any() or not design[:, k + 1].any():
        design = np.column_stack([design[:, :k], design[:, k] + design[:, k + 1]])
    solution = np.linalg.lstsq(design * weight[:, None], target * weight, rcond=None)[0]
    median = np.where((design[:, :k] != 0.0).any(axis=0), np.exp(solution[:k]), np.nan)
    return Law(median, max(float(solution[k]), 0.0), max(float(solution[-1]), 0.0))


def _quantiles(sample: np.ndarray, lot: float) -> tuple[np.ndarray, np.ndarray]:
    """Borders and the share of the sample below each."""
    if not len(sample):
        return np.empty(0), np.empty(0)
    if lot > 0.0:
        steps, counts = np.unique(np.rint(sample / lot), return_counts=True)
        return (steps + 0.5) * lot, np.cumsum(counts) / len(sample)
    shares = np.linspace(0.05, 0.95, 37)
    return np.quantile(sample, shares), shares
