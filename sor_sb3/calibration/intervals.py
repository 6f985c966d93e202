"""Intervals of estimates: their sd over resampled blocks of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

RESAMPLES = 100


@dataclass(frozen=True)
class Estimate:
    """A parameter with its 95 % interval.

    Attributes:
        path: dotted, as `--set` takes it: ``quotes.size_fast_sd``, ``venues.NYSE.offset_bps``.
        how: how it was found, in few words.
    """

    path: str
    value: float
    low: float
    high: float
    how: str


def resampled_sd(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Standard deviation of a statistic (m,) of which blocks (int indices) it reads, by the block bootstrap.

    Blocks are drawn with replacement (Kuensch 1989, Annals of Statistics 17; blocks do not overlap: Carlstein 1986), so
    they must be longer than what is remembered. What is NaN in more than half of the resamples stays NaN.
    """
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    values = np.array([statistic(which) for which in draws])
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
        spread = np.where(known, np.square(values - mean), 0.0).sum(axis=0) / (known.sum(axis=0) - 1)
    enough = known.sum(axis=0) > resamples // 2
    return np.asarray(np.where(enough, np.sqrt(spread * n / max(n - 1, 1)), np.nan))


def log_interval(value: float, log_sd: float, n: int) -> tuple[float, float]:
    """95 % interval of a positive number whose logarithm has this sd, from n blocks; all that there is if unknown.

    >>> [round(end, 3) for end in log_interval(2.0, 0.1, 1000)]
    [1.644, 2.434]
    """
    if not np.isfinite(log_sd) or n < 2:
        return 0.0, float("inf")
    half = float(-special.stdtrit(n - 1, 0.025)) * log_sd
    return float(value * np.exp(-half)), float(value * np.exp(half))
