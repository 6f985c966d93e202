"""Closed-form estimators of what a venue quotes: ticks, lots, offsets, how often a quote is made anew.

Arrays of quotes are float64 (n, T, K): n blocks of T times, K venues; NaN where a venue does not quote.
"""

from __future__ import annotations

import numpy as np

from sor_sb3.calibration.latent import (
    LAGS_S,
    TwoSpeeds,
    exceedances,
    latent_autocorrelations,
    quantile_law,
    two_speeds,
)

COMMON = 0.98  # share of values that a grid must explain; the rest are odd lots and mended prices


def grid_step(values: np.ndarray, digits: int = 6) -> float:
    """The largest step that `COMMON` of all values are whole multiples of; 0 where there is none, as of sizes in coins.

    The greatest common divisor of the commonest values, read to so many decimal digits.

    >>> grid_step(np.array([10.01, 10.03, 10.02, 10.05] * 50))
    0.01
    >>> grid_step(np.array([200.0, 300.0, 700.0] * 99 + [37.0])), grid_step(np.array([0.1234567, 0.31, 2.7182818]))
    (100.0, 0.0)
    """
    known = values[np.isfinite(values) & (values > 0.0)]
    whole, counts = np.unique(np.rint(known * 10.0**digits).astype(np.int64), return_counts=True)
    if not len(whole):
        return 0.0
    order = np.argsort(-counts, kind="stable")
    common = whole[order][: int(np.searchsorted(np.cumsum(counts[order]), COMMON * counts.sum())) + 1]
    step = int(np.gcd.reduce(common))
    return step / 10.0**digits if step > 1 else 0.0


def price_tick(prices: np.ndarray, digits: int = 6) -> float:
    """The tick of recorded prices, in their currency: the greatest common divisor of `COMMON` of their differences."""
    known = prices[np.isfinite(prices)]
    return grid_step(np.abs(np.diff(known)), digits)


def offsets(spread_bps: np.ndarray, tick_bps: float) -> tuple[np.ndarray, float]:
    """Median offset of each venue's quote from the efficient price, bps (K,), and the sd of its logarithm.

    A quote at ``e -+ h`` rounded outwards to ticks has a spread of ``2 h`` and a tick on average. So the offset is half
    of what a spread's quantile is above a tick; :func:`sor_sb3.calibration.latent.quantile_law` has the fit.
    """
    law = quantile_law(spread_bps, tick_bps, tick_bps)
    return 0.5 * law.median, 0.5 * (law.log_sd_below + law.log_sd_above)


def quote_delays(ask: np.ndarray, bid: np.ndarray, grid_s: float, tolerance: float = 1e-6) -> np.ndarray:
    """Mean time until a quote is made anew, s (K,): ``-dt / log(1 - c)``, c the share of steps in which it changes.

    A quote is made anew as events of a Poisson process come, and then nearly always at another price; c is the mean of
    both sides' shares.
    """
    share = np.zeros(ask.shape[2])
    for side in (ask, bid):
        change = np.diff(side, axis=1)
        known = np.isfinite(change)
        share += 0.5 * (known & (np.abs(change) > tolerance)).sum(axis=(0, 1)) / np.maximum(known.sum(axis=(0, 1)), 1)
    return np.asarray(-grid_s / np.log1p(-np.clip(share, 1e-4, 1.0 - 1e-4)))


def seen_again(values: np.ndarray, step: float, grid_s: float) -> np.ndarray:
    """What :func:`speeds` reads of sizes in lots of `step`, or of spreads in ticks: counts, block by block."""
    return exceedances(values, step, tuple(lag for lag, _ in _lags(grid_s, values.shape[1])))


def speeds(counts: np.ndarray, grid_s: float, places: int, start: TwoSpeeds | None = None) -> TwoSpeeds:
    """Both half-lives of what venues show, and the fast part's share of its variance in logarithms.

    Of spreads they are rough: rounding to ticks makes them look faster, and quotes that stand make them look slower.

    Args:
        counts: of `seen_again`, over blocks of so many `places` of the grid.
    """
    lags_s = np.array([lag_s for _, lag_s in _lags(grid_s, places)])
    return two_speeds(latent_autocorrelations(counts), lags_s, start)


def _lags(grid_s: float, places: int) -> list[tuple[int, float]]:
    """Lags in places of the grid, and in seconds."""
    lags = [round(lag / grid_s) for lag in LAGS_S]
    return [(lag, lag * grid_s) for lag in lags if 1 <= lag < places]
