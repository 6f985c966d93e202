"""Standard deviation and CVaR: known numbers, and intervals that hold for new scenarios and new training seeds.

The error rates here use 400 repeats a cell (standard error 1.1 points at 5 %); CALIBRATION_REPEATS sets another number.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.evaluation.risk import RISK_MEASURES, risk, risk_difference
from sor_sb3.evaluation.tca import cvar

N_REPEATS = int(os.environ.get("CALIBRATION_REPEATS", "400"))


def test_worked_by_hand():
    # 1, 2, 3: variance 2 / 2. Influences of the standard deviation: ((x - 2)^2 * 3 / 2 - 1) / 2 = 1/4, -1/2, 1/4.
    estimate = risk("sd", [[1.0, 2.0, 3.0]])
    assert estimate.mean == 1.0
    assert estimate.standard_error == pytest.approx(np.std([0.25, -0.5, 0.25], ddof=1) / np.sqrt(3))
    # The dearest 5 % of 1 to 100 are 96 to 100. Excess over the edge of 96, over 5 %: 0, ..., 20, 40, 60, 80.
    costs = np.arange(1.0, 101.0)
    estimate = risk("cvar95", costs[None, :])
    assert estimate.mean == 98.0
    influence = np.maximum(costs - 96.0, 0.0) / 0.05
    assert estimate.standard_error == pytest.approx(influence.std(ddof=1) / 10.0)


@pytest.mark.parametrize("measure", RISK_MEASURES)
def test_exact_cases(measure):
    rng = np.random.default_rng(0)
    costs, certain = rng.normal(size=(1, 40)), np.full((2, 40), 3.0)
    repeated = np.repeat(costs, 3, axis=0)
    assert risk_difference(measure, costs, costs.copy()).ci95 == [0.0, 0.0]
    assert risk(measure, repeated).mean == pytest.approx(risk(measure, costs).mean)
    assert risk_difference(measure, repeated, costs).ci95 == pytest.approx([0.0, 0.0], abs=1e-12)
    assert risk(measure, certain).ci95 == [risk(measure, certain).mean] * 2
    assert risk(measure, certain).mean == (0.0 if measure == "sd" else 3.0)
    assert risk(measure, costs[:, :1]).ci95 == [-np.inf, np.inf]
    with pytest.raises(ValueError, match="other_costs has 39"):
        risk_difference(measure, costs, costs[:, 1:])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(2, 60), st.floats(0.1, 10.0), st.floats(-5.0, 5.0), st.integers(0, 2**32 - 1))
def test_scale_and_shift(n_seeds, n_scenarios, scale, shift, seed):
    costs = np.random.default_rng(seed).normal(size=(n_seeds, n_scenarios))
    moved = scale * costs + shift
    assert risk("sd", moved).mean == pytest.approx(scale * risk("sd", costs).mean)
    assert risk("cvar95", moved).mean == pytest.approx(scale * cvar(costs) + shift)
    swapped = [risk_difference("sd", a, b) for a, b in ((costs, moved), (moved, costs))]
    assert swapped[0].mean == pytest.approx(-swapped[1].mean, abs=1e-9)
    assert swapped[0].standard_error == pytest.approx(swapped[1].standard_error, abs=1e-9)


@pytest.mark.parametrize("measure", RISK_MEASURES)
@pytest.mark.parametrize(("n_seeds", "seed_spread"), [(1, 0.0), (3, 0.5), (5, 0.5), (5, 1.0)])
def test_coverage_and_false_positives(measure, n_seeds, seed_spread):
    """Heavy-tailed scenarios, which both policies share, and a second policy of the same risk: the truth is 0."""

    def policy(rng, base):
        own = 0.5 * rng.standard_t(5, base.shape)
        seeds = (n_seeds, 1)
        cells = 0.5 * rng.standard_normal((n_seeds, base.shape[1])) + seed_spread * rng.standard_normal(seeds)
        return base + own + cells

    rng, misses = np.random.default_rng(3), 0
    for _ in range(N_REPEATS):
        base = 3.0 * rng.standard_t(5, (1, 1000))
        estimate = risk_difference(measure, policy(rng, base), policy(rng, base))
        misses += not estimate.ci95_low <= 0.0 <= estimate.ci95_high
    assert 1 <= 100 * misses / N_REPEATS <= 8
