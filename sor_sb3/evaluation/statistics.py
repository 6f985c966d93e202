"""Paired statistics that say how far a policy's cost is known, given few training seeds and shared scenarios.

No policy is run and nothing is drawn here: every function takes arrays of costs and returns numbers.

Data. `costs` is float64 `(n_seeds, n_scenarios)`: a row is one training seed, a column is one scenario (one seeded
parent order, the same for every policy). A rule or an oracle has one row. Costs may be in any unit; positive is bad,
and every mean, bound and standard error comes back in the same unit. `blocks` is int `(n_scenarios,)`, the time block
of each scenario, or None if scenarios are independent; `confidence` is the interval's nominal coverage. Every function
raises ValueError where costs are not two-dimensional, empty or not finite, where two policies' numbers of scenarios
differ, and where blocks have the wrong length or type.

The model of the intervals, and why blocks must be long: docs/statistics.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Verdict = Literal["equivalent", "better", "worse", "no significant difference"]

SMALLEST_P_VALUE = 1e-100
"""Where seeds and scenarios both count, a p-value is not worked out below this, which is reported instead."""

MARGIN_SHARE, SMALLEST_MARGIN = 0.01, 1e-4
"""The margin of a market: a share of what lies between its best rule and its oracle, and at least so much."""

LARGEST_VARIANCE_REDUCTION = 1e6
"""Beyond it the paired differences are a thousandth of the costs' own and mostly rounding: taken as no variance."""


@dataclass(frozen=True)
class Estimate:
    """A mean and what is known about it, in the unit of the costs it came from.

    Attributes:
        ci95_low: lower bound of the two-sided interval, at 95 % unless another `confidence` was asked for.
        ci95_high: upper bound. Both bounds are infinite when there are fewer than two scenarios, or fewer than two
            blocks' worth of them: nothing then says how far scenarios differ.
        degrees_of_freedom: those of the Student's t whose quantile, times `standard_error`, is half the interval; 0
            when the interval is infinite.
        p_value: two-sided, for a true mean of 0; below `1 - confidence` exactly when the interval leaves out 0.
    """

    mean: float
    ci95_low: float
    ci95_high: float
    standard_error: float
    degrees_of_freedom: float
    p_value: float

    @property
    def ci95(self) -> list[float]:
        """The interval as `[low, high]`, ready for JSON."""
        return [self.ci95_low, self.ci95_high]


def mean_with_interval(costs: npt.ArrayLike, blocks: npt.ArrayLike | None = None, confidence: float = 0.95) -> Estimate:
    """Mean cost over seeds and scenarios, with an interval for new seeds *and* new scenarios.

    With one row the interval covers new scenarios only: right for a rule, and for a learned policy a statement about
    that one trained network, not about the algorithm.

    >>> mean_with_interval([[1.0, 2.0, 3.0]]).mean
    2.0
    """
    policy = checked_costs(costs, "costs")
    block_index = checked_blocks(blocks, policy.shape[1])
    return two_way_estimate(float(policy.mean()), policy.mean(axis=0), [policy], block_index, confidence)


def paired_difference(
    costs: npt.ArrayLike, other_costs: npt.ArrayLike, blocks: npt.ArrayLike | None = None, confidence: float = 0.95
) -> Estimate:
    """Mean of `costs - other_costs`, paired by scenario; negative means `costs` is the cheaper policy.

    Either side may be a rule (one row) or learned (a row per training seed). Seeds of the two sides are taken as
    independent, even when the same seed numbers trained both. A learned policy given with one row is treated as a rule:
    the interval then covers scenarios only, not retraining. Rule against rule without blocks is the paired t-test
    (`scipy.stats.ttest_rel`). Equal arrays are one policy compared with itself: the difference is exactly 0, its
    interval [0, 0], its p-value 1.

    >>> paired_difference([[1.0, 2.0, 3.0]], [[2.0, 3.0, 4.0]]).mean
    -1.0
    """
    policy, other = checked_pair(costs, other_costs)
    block_index = checked_blocks(blocks, policy.shape[1])
    if np.array_equal(policy, other):
        return two_way_estimate(0.0, None, [], block_index, confidence)
    # Differencing cell by cell before averaging makes ties exact zeros instead of rounding noise.
    sides = [policy - other[0], other - other[0]]
    columns = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    return two_way_estimate(float(columns.mean()), columns, sides, block_index, confidence)


def equivalence_margin(best_rule_costs: npt.ArrayLike, oracle_costs: npt.ArrayLike | None) -> float:
    """The largest difference that does not matter in a market, in the unit of the costs.

    1 % of the mean cost of the best rule less that of the oracle, and at least 1e-4: what an oracle that is not below
    the best rule, or is not known, leaves.

    >>> equivalence_margin([[3.0, 2.0]], [[2.0, 1.0]]), equivalence_margin([[1.0, 2.0]], None)
    (0.01, 0.0001)
    """
    if oracle_costs is None:
        return SMALLEST_MARGIN
    best, oracle = checked_pair(best_rule_costs, oracle_costs, "oracle_costs")
    return max(MARGIN_SHARE * float(best.mean() - oracle.mean()), SMALLEST_MARGIN)


def verdict(estimate: Estimate, margin: float = 0.0) -> Verdict:
    """What a paired difference, this policy minus the other, shows.

    "equivalent" if the whole interval lies inside `margin` either way: two one-sided tests (Schuirmann 1987), at 2.5 %
    each with a 95 % interval. Otherwise cheaper is "better" if the interval leaves out 0.
    """
    if -margin < estimate.ci95_low and estimate.ci95_high < margin:
        return "equivalent"
    if estimate.ci95_high < 0:
        return "better"
    return "worse" if estimate.ci95_low > 0 else "no significant difference"


def gap_closed(
    costs: npt.ArrayLike,
    reference_costs: npt.ArrayLike,
    oracle_costs: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
) -> Estimate | None:
    """Share of the way from a reference to an oracle, without unit: 0 is the reference, 1 the oracle, below 0 is worse.

    `(C_reference - C_policy) / (C_reference - C_oracle)`, each C a mean over seeds and scenarios. The 95 % interval is
    the delta method's: the ratio g is linearised, cell by cell, to `(reference - policy - g (reference - oracle)) /
    (C_reference - C_oracle)`, whose mean is 0 and whose standard error is g's (Cochran 1977, "Sampling Techniques",
    section 6.4). It is only as good as the denominator is sure: where the denominator's interval is not wholly above 0
    there is no gap to close and the answer is None, and just above that the interval is rough.
    """
    policy, reference = checked_pair(costs, reference_costs, "reference_costs")
    _, oracle = checked_pair(costs, oracle_costs, "oracle_costs")
    block_index = checked_blocks(blocks, policy.shape[1])
    if not paired_difference(reference, oracle, block_index).ci95_low > 0:
        return None
    if np.array_equal(policy, reference):
        return two_way_estimate(0.0, None, [], block_index, 0.95)
    baseline = reference[0]
    policy, reference, oracle = policy - baseline, reference - baseline, oracle - baseline
    policy_saving = reference.mean(axis=0) - policy.mean(axis=0)
    oracle_saving = reference.mean(axis=0) - oracle.mean(axis=0)
    gap = oracle_saving.mean()
    share = policy_saving.mean() / gap
    columns = (policy_saving - share * oracle_saving) / gap
    sides = [policy / gap, reference * ((1 - share) / gap), oracle * (share / gap)]
    return two_way_estimate(float(share), columns, sides, block_index, 0.95)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for having asked several questions (Holm 1979; family-wise error, any dependence).

    `p_values` are float64 (n_comparisons,), the adjusted ones in the same order. Raises ValueError: not one-dimensional
    or a value outside 0 to 1.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1:
        raise ValueError(f"p_values must have shape (n_comparisons,), not {raw.shape}.")
    if not np.all((raw >= 0) & (raw <= 1)):
        raise ValueError(f"p_values must all lie between 0 and 1, but they are {raw.tolist()}.")
    order = np.argsort(raw, kind="stable")
    stepped = raw[order] * np.arange(raw.size, 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def probability_better(costs: npt.ArrayLike, other_costs: npt.ArrayLike) -> float:
    """Share of (seed, scenario) pairs in which `costs` is the lower; a tie counts one half.

    Two learned policies are compared seed against every seed, in each scenario. 0.5 is no difference.

    >>> probability_better([[1.0, 2.0, 3.0, 4.0]], [[2.0, 2.0, 2.0, 2.0]])
    0.375
    """
    policy, other = checked_pair(costs, other_costs)
    return float((0.5 + 0.5 * np.sign(other - policy[:, None, :])).mean())


def pairing_variance_reduction(costs: npt.ArrayLike, other_costs: npt.ArrayLike) -> float:
    """How many times fewer scenarios a paired comparison needs than one with separate scenarios.

    The variance over scenarios of the unpaired difference, `var(costs) + var(other_costs)`, over that of the paired
    difference, `var(costs - other_costs)`, each of seed-averaged costs. 1 is no gain; common random numbers (Glasserman
    2003, "Monte Carlo Methods in Financial Engineering", section 4) aim above. Infinite if the paired difference never
    varies by more than rounding, 1 if nothing varies at all (as with a single scenario).
    """
    policy, other = checked_pair(costs, other_costs)
    if policy.shape[1] == 1:
        return 1.0
    paired = ((policy - other[0]).mean(axis=0) - (other - other[0]).mean(axis=0)).var(ddof=1)
    unpaired = policy.mean(axis=0).var(ddof=1) + other.mean(axis=0).var(ddof=1)
    if unpaired >= paired * LARGEST_VARIANCE_REDUCTION:
        return 1.0 if unpaired == 0 else float("inf")
    return float(unpaired / paired)


def two_way_estimate(
    mean: float, columns: FloatArray | None, sides: Sequence[FloatArray], block_index: IntArray, confidence: float
) -> Estimate:
    """Interval of a mean, which need not be that of `columns` (a linearised ratio's is 0), at this `confidence`.

    `columns` (n_scenarios,) are totals by scenario, None where the mean is known without error; seed noise comes from
    `sides` (n_seeds, n_scenarios), one a policy, of more than one row. `block_index` counts from 0.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}; 0.95 is usual.")
    scenario_df = _effective_blocks(block_index) - 1
    certain = Estimate(mean, mean, mean, 0.0, scenario_df, 1.0 if mean == 0 else 0.0)
    if columns is None:
        return certain
    if scenario_df < 1:
        return Estimate(mean, -np.inf, np.inf, np.inf, 0.0, 1.0)
    terms = [_seed_terms(side, block_index) for side in sides if side.shape[0] > 1]
    seed_variance = sum(term for term, _, _ in terms)
    welch_df = seed_variance**2 / sum(term**2 / df for term, _, df in terms) if seed_variance > 0 else 1.0
    interaction_variance = sum(interaction for _, interaction, _ in terms)
    column_variance = _block_square_sum(columns - columns.mean(), block_index) / columns.size**2
    scenario_variance = max(0.0, column_variance - interaction_variance)
    variance = seed_variance + scenario_variance
    standard_error = float(np.sqrt(variance))
    if standard_error == 0:
        return certain
    cochran = _Cochran(seed_variance / variance, welch_df, scenario_df)
    half_width = cochran.critical_value(1 - confidence) * standard_error
    return Estimate(
        mean=mean,
        ci95_low=mean - half_width,
        ci95_high=mean + half_width,
        standard_error=standard_error,
        degrees_of_freedom=cochran.degrees_of_freedom(1 - confidence),
        p_value=cochran.p_value(abs(mean) / standard_error),
    )


@dataclass(frozen=True)
class _Cochran:
    """Cochran's reference distribution: its quantile is two Student quantiles, weighted by their shares of variance."""

    seed_share: float
    seed_df: float
    scenario_df: float

    def critical_value(self, p: float) -> float:
        """What `|mean| / standard_error` exceeds with probability p (both sides together) under the null."""
        seed_t, scenario_t = _student_quantile(self.seed_df, p), _student_quantile(self.scenario_df, p)
        return self.seed_share * seed_t + (1 - self.seed_share) * scenario_t

    def p_value(self, t_statistic: float) -> float:
        """Two-sided p-value: the p whose critical value is `t_statistic` (>= 0)."""
        # It lies between the two Students' own p-values, since the quantile lies between theirs.
        low, high = sorted(float(2 * special.stdtr(df, -t_statistic)) for df in (self.seed_df, self.scenario_df))
        if high <= SMALLEST_P_VALUE:
            return high
        low_log, high_log = np.log(max(low, SMALLEST_P_VALUE)), np.log(high)
        return float(np.exp(_root(lambda log_p: self.critical_value(np.exp(log_p)) - t_statistic, low_log, high_log)))

    def degrees_of_freedom(self, p: float) -> float:
        """Degrees of freedom of the one Student's t that has the same critical value at p."""
        low, high = sorted((self.seed_df, self.scenario_df))
        goal = self.critical_value(p)
        return 1 / _root(lambda inverse: _student_quantile(1 / inverse, p) - goal, 1 / high, 1 / low)


def _student_quantile(degrees_of_freedom: float, p: float) -> float:
    """Two-sided quantile; `scipy.special` because `scipy.stats.t` does the same fifty times slower."""
    return float(-special.stdtrit(degrees_of_freedom, p / 2))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Zero of a monotone function, or the end of the bracket nearest to one that rounding put outside."""
    at_low, at_high = function(low), function(high)
    if at_low * at_high >= 0:
        return low if abs(at_low) <= abs(at_high) else high
    return float(optimize.brentq(function, low, high, xtol=1e-13))


def _seed_terms(side: FloatArray, block_index: IntArray) -> tuple[float, float, float]:
    """Variance of a policy's mean between its (at least two) seeds, the interaction in it, and the former's df."""
    n_seeds, n_scenarios = side.shape
    seed_means = side.mean(axis=1)
    residuals = side - seed_means[:, None] - side.mean(axis=0) + seed_means.mean()
    residual_squares = sum(_block_square_sum(row, block_index) for row in residuals)
    interaction_variance = residual_squares / ((n_seeds - 1) * n_seeds * n_scenarios**2)
    return float(seed_means.var(ddof=1)) / n_seeds, interaction_variance, n_seeds - 1.0


def _block_square_sum(deviations: FloatArray, block_index: IntArray) -> float:
    """Sum over blocks of the squared within-block sum, times `n_blocks / (n_blocks - 1)`, n_blocks effective."""
    block_sums = np.bincount(block_index, weights=deviations)
    n_blocks = _effective_blocks(block_index)
    return float(block_sums @ block_sums) * n_blocks / (n_blocks - 1)


def _effective_blocks(block_index: IntArray) -> float:
    """Number of blocks of one size that would weigh alike: `n_scenarios^2 / sum(block size^2)`."""
    sizes = np.bincount(block_index)
    return block_index.size**2 / int(sizes @ sizes)


def checked_costs(costs: npt.ArrayLike, name: str) -> FloatArray:
    """`costs` as float64 (n_seeds, n_scenarios), or a ValueError that says what is wrong with them."""
    checked = np.asarray(costs, dtype=np.float64)
    if checked.ndim != 2 or checked.size == 0:
        raise ValueError(
            f"{name} must have shape (n_seeds, n_scenarios) with at least one of each, not {checked.shape}; "
            "give a rule's costs as one row, costs[None, :]."
        )
    finite = np.isfinite(checked)
    if not finite.all():
        seed, scenario = np.argwhere(~finite)[0]
        raise ValueError(
            f"{name} must be finite, but {int((~finite).sum())} of {checked.size} values are not, "
            f"the first being {checked[seed, scenario]} at seed row {seed}, scenario column {scenario}."
        )
    return checked


def checked_pair(
    costs: npt.ArrayLike, other_costs: npt.ArrayLike, other_name: str = "other_costs"
) -> tuple[FloatArray, FloatArray]:
    """Both policies' costs, checked one by one and against each other."""
    policy, other = checked_costs(costs, "costs"), checked_costs(other_costs, other_name)
    if policy.shape[1] != other.shape[1]:
        raise ValueError(
            f"costs has {policy.shape[1]} scenarios but {other_name} has {other.shape[1]}; a paired comparison needs "
            "the same scenarios in the same order."
        )
    return policy, other


def checked_blocks(blocks: npt.ArrayLike | None, n_scenarios: int) -> IntArray:
    """Blocks renumbered 0 to n_blocks - 1, int64 (n_scenarios,); None makes every scenario its own block."""
    if blocks is None:
        return np.arange(n_scenarios, dtype=np.int64)
    labels = np.asarray(blocks)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"blocks must be integers, not {labels.dtype}.")
    if labels.shape != (n_scenarios,):
        raise ValueError(f"blocks has shape {labels.shape} but there are {n_scenarios} scenarios.")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
