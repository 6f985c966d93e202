"""The recording beside the calibrated market, statistic by statistic, and whether their intervals meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from sor_sb3.calibration.simulated import LEAST_BLOCKS, STEP, Data, Fit, simulated, with_value
from sor_sb3.calibration.statistics import STATISTICS, statistics
from sor_sb3.evaluation.path_statistics import Interval, Statistic
from sor_sb3.evaluation.true_quotes import QuotePaths

WIDEST = 0.5  # a recorded interval wider than this share of its value either way tells nothing
TEST_SEED = 40_000
TEST_BLOCKS = 64

Verdict = Literal["meet", "apart", "too wide", "uninformative", ""]


@dataclass(frozen=True)
class ComparedRow:
    """A statistic of the recording's rest and of the calibrated market.

    Attributes:
        fitted: of the part that the market was fitted to, without a verdict.
        verdict: "meet" or "apart", of the two intervals; "too wide" where they meet since the calibrated one is wider
            than `WIDEST` of the recorded value either way, "uninformative" where the recorded one is; "" where either
            has no value.
    """

    key: str
    statistic: Statistic
    recorded: Interval
    calibrated: Interval
    fitted: Interval
    verdict: Verdict


def verdict_of(recorded: Interval, calibrated: Interval) -> Verdict:
    """Whether two intervals meet, if the recorded one says anything.

    >>> verdict_of(Interval(1.0, 0.8, 1.2), Interval(1.3, 1.15, 1.45))
    'meet'
    >>> verdict_of(Interval(1.0, 0.4, 1.6), Interval(1.3, 1.2, 1.4))
    'uninformative'
    """
    if math.isnan(recorded.value) or math.isnan(calibrated.value):
        return ""
    if not 0.5 * (recorded.high - recorded.low) <= WIDEST * abs(recorded.value):
        return "uninformative"
    if not (recorded.low <= calibrated.high and calibrated.low <= recorded.high):
        return "apart"
    return "meet" if 0.5 * (calibrated.high - calibrated.low) <= WIDEST * abs(recorded.value) else "too wide"


def compare(
    data: Data, fit: Fit, fitted: QuotePaths, rest: QuotePaths, progress: Callable[[str, int, int], None] | None = None
) -> tuple[ComparedRow, ...]:
    """The statistics of the recording's rest beside those of the calibrated market.

    The calibrated interval holds the simulation's own error and what the fit leaves open, ``g' C g`` with the gradient
    g of a statistic in the logarithms of the parameters and their covariance C.
    """
    blocks = max(TEST_BLOCKS, LEAST_BLOCKS)
    recorded, of_fit = statistics(rest), statistics(fitted)
    found = statistics(simulated(data, blocks, rest, TEST_SEED))
    gradient = _gradient(data, fit, blocks, rest, found, progress)
    quantile = float(-special.stdtrit(max(fitted.n - 1, 1), 0.025))
    rows = []
    for key, statistic in STATISTICS.items():
        own, slope = found[key], gradient[key]
        open_half = quantile * math.sqrt(max(float(slope @ fit.covariance @ slope), 0.0))
        half = math.hypot(0.5 * (own.high - own.low), open_half)
        calibrated = Interval(own.value, own.value - half, own.value + half)
        verdict = verdict_of(recorded[key], calibrated)
        rows.append(ComparedRow(key, statistic, recorded[key], calibrated, of_fit[key], verdict))
    return tuple(rows)


def _gradient(
    data: Data, fit: Fit, blocks: int, like: QuotePaths, found: dict[str, Interval], progress: Any
) -> dict[str, np.ndarray]:
    """Of every statistic, in the logarithms of the fitted parameters; 0 where it has none. `data` stay as they are."""
    out = {key: np.zeros(len(fit.paths)) for key in found}
    for i, (path, log) in enumerate(zip(fit.paths, fit.logs, strict=True)):
        if progress is not None:
            progress("what the fit leaves open", i, len(fit.paths))
        with_value(data, path, float(np.exp(log + STEP)))
        there = statistics(simulated(data, blocks, like, TEST_SEED))
        with_value(data, path, float(np.exp(log)))
        for key, slope in out.items():
            change = (there[key].value - found[key].value) / STEP
            slope[i] = change if math.isfinite(change) else 0.0
    return out


def counts(rows: tuple[ComparedRow, ...]) -> dict[str, int]:
    """How many rows have each verdict."""
    return {word: sum(row.verdict == word for row in rows) for word in ("meet", "apart", "too wide", "uninformative")}
