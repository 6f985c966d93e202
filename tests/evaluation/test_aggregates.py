"""rliable's aggregates: the same points as rliable (where it can be imported), intervals that keep their word."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sor_sb3.evaluation.aggregates import (
    interquartile_mean,
    normalised_scores,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from sor_sb3.evaluation.statistics import Estimate, probability_better

N_REPEATS = int(os.environ.get("CALIBRATION_REPEATS", "400"))


def rliable_module(name: str) -> Any:
    """rliable, or a skip: its own pins do not always import, and then they fail with whatever they like."""
    try:
        import importlib

        return importlib.import_module(f"rliable.{name}")
    except Exception as error:
        pytest.skip(f"rliable cannot be imported: {error}")


def two_score_matrices() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    base = rng.standard_normal(60)
    x, y = (base + 0.5 * rng.standard_normal((n, 60)) for n in (5, 4))
    x[:, :3] = y[:3, :3].mean()  # ties
    return x, y


def test_points_are_rliables() -> None:
    metrics = rliable_module("metrics")
    x, y = two_score_matrices()
    assert interquartile_mean(x).mean == pytest.approx(metrics.aggregate_iqm(x), rel=1e-12)
    assert optimality_gap(x, 0.7).mean == pytest.approx(metrics.aggregate_optimality_gap(x, 0.7), rel=1e-12)
    assert probability_of_improvement(x, y).mean == pytest.approx(metrics.probability_of_improvement(x, y), rel=1e-12)


def test_the_profile_is_rliables() -> None:
    library = rliable_module("library")
    x, _ = two_score_matrices()
    taus = np.linspace(-1, 1, 9)
    profile, _ = library.create_performance_profile({"x": x}, taus, reps=10)
    np.testing.assert_allclose([e.mean for e in performance_profile(x, taus)], profile["x"], rtol=1e-12)


def test_intervals_are_no_narrower_than_rliables_of_fixed_scenarios() -> None:
    library, metrics = rliable_module("library"), rliable_module("metrics")
    x, _ = two_score_matrices()
    _, bounds = library.get_interval_estimates(
        {"x": x}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=500, random_state=np.random.RandomState(0)
    )
    low, high = bounds["x"][:, 0]
    ours = interquartile_mean(x)
    assert low < ours.mean < high
    assert ours.ci95_high - ours.ci95_low >= high - low


# ---------------------------------------------------------------------------------------- without rliable


def test_interquartile_mean_is_scipys_trimmed_mean() -> None:
    for shape in ((1, 4), (3, 7), (5, 100)):
        scores = np.random.default_rng(0).standard_normal(shape)
        assert interquartile_mean(scores).mean == pytest.approx(stats.trim_mean(scores, 0.25, axis=None), rel=1e-12)


def test_interquartile_mean_of_one_row_has_the_trimmed_means_standard_error() -> None:
    # Tukey and McLaughlin: winsorised sd / ((1 - 2 g) sqrt(n)).
    scores = np.random.default_rng(1).standard_t(3, (1, 400))
    kept = np.sort(scores[0])[100:300]
    winsorised = np.clip(scores[0], kept[0], kept[-1])
    expected = winsorised.std(ddof=1) / (0.5 * np.sqrt(400))
    assert interquartile_mean(scores).standard_error == pytest.approx(expected, rel=1e-9)


def test_probability_of_improvement_is_mann_whitneys_u() -> None:
    x, y = two_score_matrices()
    expected = [
        stats.mannwhitneyu(a, b, method="asymptotic").statistic / (a.size * b.size)
        for a, b in zip(x.T, y.T, strict=True)
    ]
    assert probability_of_improvement(x, y).mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert probability_of_improvement(-x, -y).mean == pytest.approx(probability_better(x, y), rel=1e-12)


def test_a_policy_against_itself_is_one_half_without_doubt() -> None:
    row = np.random.default_rng(0).standard_normal((1, 30))
    estimate = probability_of_improvement(row, row.copy())
    assert (estimate.mean, estimate.ci95, estimate.p_value) == (0.5, [0.5, 0.5], 1.0)


def test_probabilities_stay_within_0_and_1() -> None:
    better = np.arange(20.0)[None] + 1.0
    worse = better - np.r_[np.ones(19), -1.0]
    assert probability_of_improvement(better, worse).ci95_high <= 1.0
    for estimate in performance_profile(better, [-1.0, 1.5, 50.0]):
        assert 0.0 <= estimate.ci95_low <= estimate.mean <= estimate.ci95_high <= 1.0


def test_normalised_scores_put_the_reference_at_0_and_the_oracle_at_1() -> None:
    rng = np.random.default_rng(0)
    reference = 5 + rng.standard_normal((1, 50))
    oracle = reference - 1 - 0.1 * rng.standard_normal((1, 50))
    for costs, mean in ((reference, 0.0), (oracle, 1.0)):
        scores = normalised_scores(costs, reference, oracle)
        assert scores is not None and scores.mean() == pytest.approx(mean, abs=1e-12)
    assert normalised_scores(reference, oracle, reference) is None


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_sd", [0.02, 1.0])
@pytest.mark.parametrize("what", ["iqm", "gap", "improvement"])
def test_intervals_cover_the_truth(n_seeds: int, seed_sd: float, what: str) -> None:
    # Symmetric scores round 0.3: so is the interquartile mean; the gap's truth comes from the normal distribution.
    sd = np.sqrt(seed_sd**2 + 1.0 + 0.25)
    z = (1.0 - 0.3) / sd
    gap = sd * (z * stats.norm.cdf(z) + stats.norm.pdf(z))
    of: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Estimate], float]] = {
        "iqm": (lambda x, y: interquartile_mean(x), 0.3),
        "gap": (lambda x, y: optimality_gap(x), gap),
        "improvement": (lambda x, y: probability_of_improvement(x, y), 0.5),
    }
    summary, truth = of[what]
    rng, misses = np.random.default_rng(7), 0
    for _ in range(N_REPEATS):
        scenario = rng.standard_normal((1, 150))
        x, y = (
            0.3 + scenario + seed_sd * rng.standard_normal((n_seeds, 1)) + 0.5 * rng.standard_normal((n_seeds, 150))
            for _ in range(2)
        )
        estimate = summary(x, y)
        misses += not estimate.ci95_low <= truth <= estimate.ci95_high
    most = 14 if what == "improvement" and n_seeds == 3 and seed_sd == 1.0 else 8  # see the function's docstring
    assert 1.5 <= 100 * misses / N_REPEATS <= most, 100 * misses / N_REPEATS
