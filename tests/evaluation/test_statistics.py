"""What an interval must promise: known numbers, exact ties, no dependence on order, and honest error rates.

The error rates here use 400 repeats a cell (standard error 1.1 points at 5 %). Set CALIBRATION_REPEATS to
use more.
"""

import os
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sor_sb3.evaluation.statistics import (
    Estimate,
    equivalence_margin,
    gap_closed,
    holm,
    mean_with_interval,
    paired_difference,
    pairing_variance_reduction,
    probability_better,
    verdict,
)

N_REPEATS = int(os.environ.get("CALIBRATION_REPEATS", "400"))


def learned_costs(
    rng: np.random.Generator, base: np.ndarray, n_seeds: int, seed_variance_ratio: float, interaction: float
) -> np.ndarray:
    """A policy that shares the scenarios `base` and adds its own heavy-tailed scenario effect (once).

    The scenario effect and the interaction together add 1 / n_scenarios to the variance of the mean,
    the seeds `seed_variance_ratio / n_scenarios`.
    """
    n_scenarios = base.shape[1]
    scenario = np.sqrt((1 - interaction) / 3) * rng.standard_t(3, (1, n_scenarios))
    cell = np.sqrt(interaction * n_seeds) * rng.standard_normal((n_seeds, n_scenarios))
    seed = np.sqrt(seed_variance_ratio * n_seeds / n_scenarios) * rng.standard_normal((n_seeds, 1))
    return base + scenario + cell + seed


def miss_rate_percent(one_repeat: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    rng = np.random.default_rng(2024)
    misses = 0
    for _ in range(N_REPEATS):
        estimate = one_repeat(rng)
        misses += not estimate.ci95_low <= truth <= estimate.ci95_high
        assert (estimate.p_value < 0.05) == (not estimate.ci95_low <= 0 <= estimate.ci95_high)
    return 100 * misses / N_REPEATS


# ---------------------------------------------------------------------------------------- golden numbers


def test_two_seeds_two_scenarios_worked_by_hand() -> None:
    # Seed means 1 and 3: s^2 = 2, over 2 seeds V_seed = 1. Scenario means 0 and 4: s^2 = 8, over 2
    # scenarios 4. Residuals after rows and columns are +-1: MS = 4 / 1, over 4 cells V_interaction = 1.
    # V = 1 + (4 - 1) = 4. Both terms have one degree of freedom, so t' = t(0.975, 1) = 12.706.
    estimate = mean_with_interval([[0.0, 2.0], [0.0, 6.0]])
    assert estimate.mean == 2.0
    assert estimate.standard_error == pytest.approx(2.0)
    assert estimate.degrees_of_freedom == pytest.approx(1.0)
    assert estimate.ci95 == pytest.approx([2 - 25.4124, 2 + 25.4124], abs=1e-3)
    assert estimate.p_value == pytest.approx(0.5)  # P(|Cauchy| > 1)


def test_cochran_critical_value_worked_by_hand() -> None:
    # 3 seeds with means -1, 0, 1 and no interaction: V_seed = 1 / 3. 4 scenarios at -3, -1, 1, 3:
    # s^2 = 20 / 3, V_scenario = 5 / 3. V = 2, weights 1/6 and 5/6, t(2) = 4.3027, t(3) = 3.1824.
    costs = np.array([[-1.0], [0.0], [1.0]]) + np.array([-3.0, -1.0, 1.0, 3.0])
    estimate = mean_with_interval(costs)
    half = (4.302653 / 6 + 5 * 3.182446 / 6) * np.sqrt(2)
    assert estimate.ci95 == pytest.approx([-half, half], abs=1e-5)
    assert 2 < estimate.degrees_of_freedom < 3
    t_quantile = stats.t.ppf(0.975, estimate.degrees_of_freedom)
    assert t_quantile * estimate.standard_error == pytest.approx(half, abs=1e-5)


def test_learned_against_learned_worked_by_hand() -> None:
    # Both without interaction and with equal scenarios: only the seeds' means count, as in Welch's test.
    scenarios = np.linspace(-50.0, 50.0, 21)
    seeds, other_seeds = np.array([1.0, 2.0, 6.0]), np.array([0.0, 0.5, 0.1, 0.4])
    estimate = paired_difference(seeds[:, None] + scenarios, other_seeds[:, None] + scenarios)
    welch = stats.ttest_ind(seeds, other_seeds, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert estimate.mean == pytest.approx(2.75)
    assert estimate.p_value == pytest.approx(welch.pvalue)
    assert estimate.ci95 == pytest.approx([interval.low, interval.high])


def test_blocks_worked_by_hand() -> None:
    # Differences 1, 1 | 2, 2 | 6, 6: as if three scenarios, s^2 = 7, over 3 blocks, 2 degrees of freedom.
    difference = np.array([[1.0, 1, 2, 2, 6, 6]])
    estimate = paired_difference(difference, np.zeros((1, 6)), blocks=np.array([7, 7, 3, 3, 9, 9]))
    assert estimate.mean == 3.0
    assert estimate.standard_error == pytest.approx(np.sqrt(7 / 3))
    assert estimate.degrees_of_freedom == pytest.approx(2)


def test_unequal_blocks_count_for_fewer() -> None:
    costs = np.array([[1.0, 2.0, 3.0, 5.0]])
    estimate = mean_with_interval(costs, blocks=np.array([0, 0, 1, 2]))
    assert estimate.degrees_of_freedom == pytest.approx(16 / 6 - 1)
    # Deviations -1.75, -0.75 | 0.25 | 2.25 sum to -2.5, 0.25, 2.25; 8/3 blocks give the factor 8/5.
    assert estimate.standard_error == pytest.approx(np.sqrt((6.25 + 0.0625 + 5.0625) * 1.6) / 4)


def test_rule_against_rule_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    costs, other = rng.normal(size=(1, 40)), rng.normal(0.2, 1, size=(1, 40))
    reference = stats.ttest_rel(costs[0], other[0])
    for confidence in (0.8, 0.95, 0.99):
        estimate = paired_difference(costs, other, confidence=confidence)
        interval = reference.confidence_interval(confidence)
        assert estimate.mean == pytest.approx((costs - other).mean())
        assert estimate.ci95 == pytest.approx([interval.low, interval.high])
        assert estimate.p_value == pytest.approx(reference.pvalue)
        assert estimate.degrees_of_freedom == pytest.approx(39)
        assert estimate.standard_error == pytest.approx((costs - other).std(ddof=1) / np.sqrt(40))


def test_a_rule_repeated_as_seeds_is_the_rule() -> None:
    rng = np.random.default_rng(4)
    costs, other = rng.normal(size=(1, 30)), rng.normal(size=(1, 30))
    alone, repeated = paired_difference(costs, other), paired_difference(np.repeat(costs, 3, axis=0), other)
    assert repeated.ci95 == pytest.approx(alone.ci95)
    assert repeated.p_value == pytest.approx(alone.p_value)


def test_blocks_of_one_scenario_change_nothing() -> None:
    costs = np.random.default_rng(5).normal(size=(4, 25))
    assert mean_with_interval(costs, blocks=np.arange(25)[::-1]).ci95 == pytest.approx(mean_with_interval(costs).ci95)


@pytest.mark.parametrize("edge", [0.3, 3.0, 30.0])
def test_p_value_is_where_the_interval_touches_zero(edge: float) -> None:
    rng = np.random.default_rng(6)
    costs = edge + 0.1 * rng.normal(size=(3, 1)) + rng.normal(size=(1, 50)) + rng.normal(size=(3, 50))
    p_value = mean_with_interval(costs).p_value
    at_p_value = mean_with_interval(costs, confidence=1 - p_value)
    assert 1e-6 < p_value < 0.9
    assert at_p_value.ci95_low == pytest.approx(0, abs=1e-6 * edge)


# ------------------------------------------------------------------------------------------- exact cases


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (5, 30)])
def test_a_policy_against_itself_is_exactly_zero(shape: tuple[int, int]) -> None:
    costs = np.random.default_rng(0).normal(size=shape)
    assert paired_difference(costs, costs.copy()) == Estimate(0.0, 0.0, 0.0, 0.0, shape[1] - 1.0, 1.0)


def test_seeds_that_all_equal_the_rule_differ_by_exactly_zero() -> None:
    rule = np.random.default_rng(0).normal(size=(1, 50)) / 3
    estimate = paired_difference(np.repeat(rule, 7, axis=0), rule)
    assert (estimate.mean, estimate.ci95, estimate.p_value) == (0.0, [0.0, 0.0], 1.0)


def test_a_constant_edge_is_certain() -> None:
    estimate = paired_difference(np.full((1, 5), 2.0), np.full((1, 5), 3.0))
    assert (estimate.ci95, estimate.p_value, verdict(estimate)) == ([-1.0, -1.0], 0.0, "better")


@pytest.mark.parametrize("n_seeds", [1, 4])
def test_one_scenario_or_one_block_gives_an_infinite_interval(n_seeds: int) -> None:
    costs = np.arange(n_seeds * 6, dtype=float).reshape(n_seeds, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimates = [
            mean_with_interval(costs[:, :1]),
            paired_difference(costs[:, :1], np.array([[9.0]])),
            mean_with_interval(costs, blocks=np.zeros(6, dtype=int)),
        ]
    for estimate in estimates:
        assert estimate.ci95 == [-np.inf, np.inf]
        assert np.isfinite(estimate.mean)
        assert (estimate.p_value, verdict(estimate)) == (1.0, "no significant difference")


def test_one_block_that_is_nearly_everything_gives_an_infinite_interval() -> None:
    blocks = np.repeat([0, 1], [1, 4999])
    estimate = mean_with_interval(np.random.default_rng(1).normal(size=(3, 5000)), blocks)
    assert (estimate.ci95, estimate.p_value) == ([-np.inf, np.inf], 1.0)


def test_an_overwhelming_difference_has_a_tiny_p_value() -> None:
    rng = np.random.default_rng(1)
    costs = rng.normal(size=(1, 1000)) + 1e-6 * rng.normal(size=(3, 1000)) + 1e-9 * rng.normal(size=(3, 1))
    estimate = paired_difference(costs + 1e9, np.zeros((1, 1000)))
    assert 0 <= estimate.p_value < 1e-8 and verdict(estimate) == "worse"


# --------------------------------------------------------------------------------------------- invariance

cost_arrays = st.tuples(
    st.integers(1, 4), st.integers(1, 4), st.integers(2, 12), st.integers(0, 2**32 - 1), st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(cost_arrays)
def test_order_and_shift_do_not_matter_and_swapping_flips_the_sign(case: tuple) -> None:
    n_seeds, n_other, n_scenarios, seed, rounded = case
    rng = np.random.default_rng(seed)
    costs, other = rng.normal(size=(n_seeds, n_scenarios)), rng.normal(size=(n_other, n_scenarios))
    if rounded:  # many ties
        costs, other = costs.round(), other.round()
    blocks = rng.integers(0, 5, n_scenarios)
    columns, rows = rng.permutation(n_scenarios), rng.permutation(n_seeds)
    plain = paired_difference(costs, other, blocks)
    permuted = paired_difference(costs[rows][:, columns], other[:, columns], blocks[columns] * 3 + 1)
    shifted = paired_difference(costs + 8.0, other + 8.0, blocks)
    swapped = paired_difference(other, costs, blocks)
    assert plain.p_value <= 1 and plain.p_value >= 0
    for same in (permuted, shifted):
        assert same.mean == pytest.approx(plain.mean, abs=1e-9)
        assert same.standard_error == pytest.approx(plain.standard_error, abs=1e-9)
    assert [-swapped.ci95_high, -swapped.ci95_low] == pytest.approx(plain.ci95, abs=1e-6, rel=1e-6)
    assert probability_better(costs, other) + probability_better(other, costs) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8), st.randoms())
def test_holm_raises_p_values_keeps_their_order_and_ignores_position(p_values: list, random: object) -> None:
    adjusted = holm(p_values)
    assert np.all(adjusted >= np.array(p_values)) and np.all(adjusted <= 1)
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)
    assert holm(p_values[::-1]) == pytest.approx(adjusted[::-1])


# -------------------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize("interaction", [0.1, 0.9])
@pytest.mark.parametrize("seed_variance_ratio", [0.0, 0.3, 3.0, 30.0])
def test_null_rejections_of_learned_against_rule(n_seeds: int, interaction: float, seed_variance_ratio: float) -> None:
    def one_repeat(rng: np.random.Generator) -> Estimate:
        base = 3 * rng.standard_normal((1, 200))
        return paired_difference(learned_costs(rng, base, n_seeds, seed_variance_ratio, interaction), base)

    assert 2 <= miss_rate_percent(one_repeat, truth=0.0) <= 8


@pytest.mark.parametrize("n_seeds", [(3, 3), (3, 5), (10, 10)])
@pytest.mark.parametrize(("seed_variance_ratio", "edge"), [(0.0, 0.0), (1.0, -0.4), (30.0, 0.0)])
def test_coverage_of_learned_against_learned(n_seeds: tuple[int, int], seed_variance_ratio: float, edge: float) -> None:
    def one_repeat(rng: np.random.Generator) -> Estimate:
        base = 3 * rng.standard_normal((1, 200))
        policies = [learned_costs(rng, base, n, seed_variance_ratio, 0.5) for n in n_seeds]
        return paired_difference(policies[0] + edge, policies[1])

    assert 2 <= miss_rate_percent(one_repeat, truth=edge) <= 8


@pytest.mark.parametrize("against_learned", [False, True])
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_variance_ratio", [0.05, 20.0])
@pytest.mark.parametrize("edge", [0.0, -0.5])
def test_false_positives_and_coverage_with_seed_variance_small_and_dominant(
    against_learned: bool, n_seeds: int, seed_variance_ratio: float, edge: float
) -> None:
    def one_repeat(rng: np.random.Generator) -> Estimate:
        base = 3 * rng.standard_normal((1, 200))
        policy, other = (learned_costs(rng, base, n_seeds, seed_variance_ratio, 0.5) for _ in range(2))
        return paired_difference(policy + edge, other if against_learned else base)

    assert 2 <= miss_rate_percent(one_repeat, truth=edge) <= 8


@pytest.mark.parametrize("n_blocks", [20, 50])
@pytest.mark.parametrize("n_seeds", [1, 3, 10])
@pytest.mark.parametrize("seed_variance_ratio", [0.0, 1.0, 30.0])
def test_coverage_with_blocks_of_dependent_scenarios(n_blocks: int, n_seeds: int, seed_variance_ratio: float) -> None:
    # Every scenario of a block is nearly the same day; block sizes differ fourfold.
    labels = np.repeat(np.arange(n_blocks), np.where(np.arange(n_blocks) % 2, 3, 12))

    def one_repeat(rng: np.random.Generator) -> Estimate:
        base = 3 * rng.standard_normal((1, labels.size))
        days = learned_costs(rng, np.zeros((1, n_blocks)), n_seeds, seed_variance_ratio if n_seeds > 1 else 0, 0.3)
        costs = base + 1.0 + days[:, labels] + 0.3 * rng.standard_normal((n_seeds, labels.size))
        return paired_difference(costs, base, labels)

    assert 2 <= miss_rate_percent(one_repeat, truth=1.0) <= 8


def test_ignoring_blocks_would_reject_far_too_often() -> None:
    labels = np.repeat(np.arange(30), 10)

    def one_repeat(rng: np.random.Generator) -> Estimate:
        return mean_with_interval(rng.standard_normal((1, 30))[:, labels])

    assert miss_rate_percent(one_repeat, truth=0.0) > 40


@pytest.mark.parametrize("n_seeds", [1, 3, 10])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_coverage_of_the_gap_closed(n_seeds: int, share: float) -> None:
    def one_repeat(rng: np.random.Generator) -> Estimate:
        reference = 3 * rng.standard_normal((1, 200))
        saving = 1 + rng.standard_normal((1, 200))
        policy = learned_costs(rng, reference - share * saving, n_seeds, float(n_seeds > 1), 0.5)
        estimate = gap_closed(policy, reference, reference - saving)
        assert estimate is not None
        return estimate

    assert 2 <= miss_rate_percent(one_repeat, truth=share) <= 8


# -------------------------------------------------------------------------------------------- gap closed


def test_gap_closed_worked_by_hand() -> None:
    # Savings of the oracle 1, 2, 3 (mean 2), of the policy 1, 1, 1 (mean 1): g = 1/2. Linearised
    # (1 - s / 2) / 2 = 1/4, 0, -1/4: s^2 = 1/16, over 3 scenarios; 2 degrees of freedom.
    reference, saving = np.array([[10.0, 20.0, 30.0]]), np.array([[1.0, 2.0, 3.0]])
    estimate = gap_closed(reference - 1.0, reference, reference - saving)
    assert estimate is None  # the oracle's saving, 2 +- 4.303 * 0.577, is not significantly above 0
    many = np.tile(saving, 4)
    reference = np.tile(reference, 4)
    estimate = gap_closed(reference - 1.0, reference, reference - many)
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.standard_error == pytest.approx(np.sqrt(8 / 16 / 11 / 12))
    assert estimate.degrees_of_freedom == pytest.approx(11)


def test_gap_closed_by_the_oracle_is_one_and_by_the_reference_zero() -> None:
    rng = np.random.default_rng(8)
    reference, oracle = rng.normal(3, 1, (1, 60)), rng.normal(0, 1, (1, 60))
    by_oracle, by_reference = (gap_closed(policy, reference, oracle) for policy in (oracle, reference))
    assert by_oracle is not None and by_reference is not None
    assert by_oracle.ci95 == pytest.approx([1, 1]) and by_oracle.p_value < 1e-100
    assert (by_reference.ci95, by_reference.p_value) == ([0, 0], 1)


def test_gap_closed_counts_the_seeds_of_a_learned_reference() -> None:
    rng = np.random.default_rng(9)
    day = rng.normal(0, 1, (1, 100))
    reference = day + 5 + rng.normal(0, 1, (4, 1)) + rng.normal(0, 0.1, (4, 100))
    policy, oracle = day + rng.normal(3, 0.1, (1, 100)), day + rng.normal(0, 0.1, (1, 100))
    against_seeds = gap_closed(policy, reference, oracle)
    against_average = gap_closed(policy, reference.mean(axis=0, keepdims=True), oracle)
    assert against_seeds is not None and against_average is not None
    assert against_seeds.mean == pytest.approx(against_average.mean)
    assert against_seeds.standard_error > 5 * against_average.standard_error


# --------------------------------------------------------------------------------------------- the others


def test_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert verdict(Estimate(-1, -2, -0.1, 0.5, 9, 0.03)) == "better"
    assert verdict(Estimate(1, 0.1, 2, 0.5, 9, 0.03)) == "worse"
    assert verdict(Estimate(-1, -2, 0.0, 0.5, 9, 0.05)) == "no significant difference"


def test_holm_worked_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last rises to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0


@pytest.mark.parametrize("p_values", [[0.1, 1.2], [-0.1], [np.nan]])
def test_holm_refuses_what_is_no_probability(p_values: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(p_values)


def test_probability_better_counts_every_pair_of_seeds() -> None:
    # Scenario 0: 1 and 3 against 2, 3: wins 1<2, 1<3, tie 3=3. Scenario 1: all four lose.
    assert probability_better([[1.0, 9], [3, 9]], [[2.0, 8], [3, 8]]) == pytest.approx(2.5 / 8)


def test_pairing_variance_reduction_worked_by_hand() -> None:
    # Variances 1 and 4 unpaired; the differences 0, 1, 2 (1, 2, 3 against 1, 3, 5) have variance 1.
    assert pairing_variance_reduction([[1.0, 2, 3]], [[1.0, 3, 5]]) == pytest.approx(5)
    assert pairing_variance_reduction([[1.0, 2, 3]], [[2.0, 3, 4]]) == np.inf
    assert pairing_variance_reduction([[1.0, 1]], [[2.0, 2]]) == 1
    assert pairing_variance_reduction([[1.0]], [[2.0]]) == 1


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("compare", [paired_difference, probability_better, pairing_variance_reduction])
def test_errors_name_what_is_wrong(compare: Callable) -> None:
    good = np.zeros((2, 5))
    with pytest.raises(ValueError, match=r"costs has 5 scenarios but other_costs has 6"):
        compare(good, np.zeros((1, 6)))
    bad = good.copy()
    bad[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"other_costs must be finite.*nan at seed row 1, scenario column 3"):
        compare(good, bad)
    with pytest.raises(ValueError, match=r"\(n_seeds, n_scenarios\)"):
        compare(np.zeros(5), good)
    with pytest.raises(ValueError, match=r"\(n_seeds, n_scenarios\)"):
        compare(np.zeros((0, 5)), good)


def test_errors_of_blocks_confidence_and_gap() -> None:
    costs = np.arange(5.0)[None, :]
    with pytest.raises(ValueError, match="5 scenarios"):
        mean_with_interval(costs, blocks=np.zeros(4, dtype=int))
    with pytest.raises(ValueError, match="integers"):
        mean_with_interval(costs, blocks=np.zeros(5))
    with pytest.raises(ValueError, match="confidence"):
        mean_with_interval(costs, confidence=95)
    with pytest.raises(ValueError, match="oracle_costs has 4"):
        gap_closed(costs, costs, costs[:, :4])


# ------------------------------------------------------------------------------------------ equivalence


def test_the_margin_is_one_percent_of_what_lies_between_best_rule_and_oracle() -> None:
    best, oracle = np.array([[3.0, 2.0]]), np.array([[1.5, 1.5]])
    assert equivalence_margin(best, oracle) == pytest.approx(0.01)
    assert equivalence_margin(best, best - 1e-3) == 1e-4  # the floor
    assert equivalence_margin(best, best + 1.0) == 1e-4  # an oracle above the best rule leaves the floor
    assert equivalence_margin(best, None) == 1e-4


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.009, 0.009, "equivalent"),
        (-0.009, -0.001, "equivalent"),  # goes before "better"
        (0.001, 0.009, "equivalent"),  # and before "worse"
        (-0.02, -0.001, "better"),
        (0.001, 0.02, "worse"),
        (-0.02, 0.001, "no significant difference"),
        (-0.001, 0.01, "no significant difference"),  # the edge is not inside
        (0.0, 0.0, "equivalent"),
        (-np.inf, np.inf, "no significant difference"),
    ],
)
def test_an_interval_inside_the_margin_is_equivalent(low: float, high: float, expected: str) -> None:
    assert verdict(Estimate((low + high) / 2 if low > -np.inf else 0.0, low, high, 0.01, 9, 0.5), 0.01) == expected


@pytest.mark.parametrize("n_seeds", [1, 3, 10])
@pytest.mark.parametrize("seed_variance_ratio", [0.0, 1.0, 30.0])
def test_policies_that_differ_by_the_margin_are_seldom_equivalent(n_seeds: int, seed_variance_ratio: float) -> None:
    """Two one-sided tests: at the edge of the margin "equivalent" is wrong at most 2.5 % of the time."""
    rng, wrong, margin = np.random.default_rng(11), 0, 0.4
    for _ in range(N_REPEATS):
        base = 3 * rng.standard_normal((1, 200))
        ratio = seed_variance_ratio if n_seeds > 1 else 0.0
        costs = learned_costs(rng, base, n_seeds, ratio, 0.5) + margin
        wrong += verdict(paired_difference(costs, base), margin) == "equivalent"
    assert 100 * wrong / N_REPEATS <= 5


def test_policies_that_do_not_differ_are_found_equivalent() -> None:
    rng, right = np.random.default_rng(12), 0
    for _ in range(100):
        base = 3 * rng.standard_normal((1, 200))
        right += verdict(paired_difference(learned_costs(rng, base, 3, 0.3, 0.5), base), 0.8) == "equivalent"
    assert right > 90


def test_a_variance_reduction_of_rounding_noise_is_no_number() -> None:
    rng = np.random.default_rng(13)
    rule = 3 * rng.standard_normal((1, 500))
    rounded = rule + 1e-7 * rng.standard_normal((2, 500))  # a float32 policy that does what the rule does
    assert pairing_variance_reduction(rounded, rule) == np.inf
    assert 100 < pairing_variance_reduction(rule + 0.1 * rng.standard_normal((1, 500)), rule) < 1e6
