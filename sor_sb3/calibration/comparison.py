"""The recording beside the calibrated market, statistic by statistic, and whether their intervals meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from sor_sb3.calibration.simulated import LEAST_BLOCKS, Data, Fit, simulated, with_value
from sor_sb3.calibration.statistics import STATISTICS, statistics
from sor_sb3.evaluation.path_statistics import Interval, Statistic
from sor_sb3.evaluation.true_quotes import QuotePaths

WIDEST = 0.5  # a recorded interval wider than this share of its value either way tells nothing
TEST_SEED = 40_000
TEST_BLOCKS = 64
DRAWS = 32  # of parameters

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

    @property
    def first_verdict(self) -> Verdict:
        """The same of the part that was fitted to, in the place of the calibrated market: what a perfect fit has."""
        return verdict_of(self.recorded, self.fitted)


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

    The calibrated interval holds the simulation's own error and what the fit leaves open: how a statistic varies over
    markets whose parameters are drawn from the fit's distribution, with the same random numbers. `data` stay as they
    are.
    """
    recorded, of_fit = statistics(rest), statistics(fitted)
    blocks = max(TEST_BLOCKS, LEAST_BLOCKS)
    found = statistics(simulated(data, blocks, rest, TEST_SEED))
    drawn = []
    for i, logs in enumerate(fit.drawn(DRAWS, TEST_SEED)):
        if progress is not None:
            progress("what the fit leaves open", i, DRAWS)
        there = statistics(simulated(_at(data, fit, logs), blocks, rest, TEST_SEED))
        drawn.append([there[key].value for key in STATISTICS])
    _at(data, fit, fit.logs)
    with np.errstate(invalid="ignore"):
        open_sd = dict(zip(STATISTICS, np.nan_to_num(np.nanstd(drawn, axis=0, ddof=1)), strict=True))
    quantile = float(-special.stdtrit(max(min(fitted.n, DRAWS) - 1, 1), 0.025))
    rows = []
    for key, statistic in STATISTICS.items():
        own = found[key]
        half = math.hypot(0.5 * (own.high - own.low), quantile * float(open_sd[key]))
        calibrated = Interval(own.value, own.value - half, own.value + half)
        verdict = verdict_of(recorded[key], calibrated)
        rows.append(ComparedRow(key, statistic, recorded[key], calibrated, of_fit[key], verdict))
    return tuple(rows)


def _at(data: Data, fit: Fit, logs: np.ndarray) -> Data:
    """The data with the fitted parameters at a point."""
    for path, log in zip(fit.paths, logs, strict=True):
        with_value(data, path, float(np.exp(log)))
    return data


def counts(rows: tuple[ComparedRow, ...]) -> dict[str, int]:
    """How many rows have each verdict."""
    return {word: sum(row.verdict == word for row in rows) for word in ("meet", "apart", "too wide", "uninformative")}
