"""Ganchev et al.: estimators against brute force and known laws, and the published experiment on four pools."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.policies.learning_rules.censored import (
    EXPONENTS,
    KaplanMeier,
    ZeroBinPowerLaw,
    greedy_by_tails,
    kaplan_meier_tails,
)
from tests.policies.golden import GOLDEN

ZERO_BINS, POWERS = (0.67, 0.80, 0.90, 0.96), (1.3, 1.0, 0.6, 0.25)
LARGEST, VOLUME, ROUNDS, SEEDS = 2000, 1000, 5000, 6


def true_tails() -> np.ndarray:
    """T(1), ..., T(2000) of the four pools."""
    sizes = np.arange(1, LARGEST + 1)
    laws = np.stack([(1 - z) * (sizes**-b) / (sizes**-b).sum() for z, b in zip(ZERO_BINS, POWERS, strict=True)])
    return np.cumsum(laws[:, ::-1], axis=1)[:, ::-1]


def drawn_sizes(rng: np.random.Generator) -> np.ndarray:
    """What the pools hold, (rounds, seeds, pools)."""
    u = rng.random((ROUNDS, SEEDS, 4))
    return np.stack([np.searchsorted(-true_tails()[k], -u[:, :, k], side="left") for k in range(4)], axis=2)


def filled_fraction(learner, sizes: np.ndarray, rng: np.random.Generator | None) -> float:
    """Share of the volume that is filled over all rounds; the learner plans anew ever more rarely."""
    state, all_pools, filled = learner.start(SEEDS), np.ones((SEEDS, 4), bool), 0
    volume, units = np.full(SEEDS, VOLUME), np.zeros((SEEDS, 4), np.int64)
    tails, plain = None, np.random.default_rng(0)
    for t, held in enumerate(sizes):
        if t < 100 or t % 25 == 0:
            tails = learner.tails(state)
            best = greedy_by_tails(tails, volume, all_pools)
        units = best
        if rng is not None:
            random = np.floor(VOLUME * plain.dirichlet(np.ones(4), SEEDS)).astype(np.int64)
            units = np.where(rng.random((SEEDS, 1)) < learner.explore / np.sqrt(1.0 + t / 100.0), random, best)
        got = np.minimum(units, held)
        filled += got.sum()
        state = learner.learn(state, units, got)
    return filled / (ROUNDS * SEEDS * VOLUME)


def test_the_four_pools_of_the_paper():
    """The power law fills 97 % of the ideal, and beats uniform; Kaplan-Meier that never explores is trapped."""
    tails, sizes = true_tails(), drawn_sizes(np.random.default_rng(1))
    ideal = greedy_by_tails(tails[None], np.array([VOLUME]), np.ones((1, 4), bool))
    expected = sum(tails[k, : ideal[0, k]].sum() for k in range(4)) / VOLUME
    of_ideal = np.minimum(sizes, ideal).sum() / (ROUNDS * SEEDS * VOLUME)
    uniform = np.minimum(sizes, VOLUME // 4).sum() / (ROUNDS * SEEDS * VOLUME)
    assert uniform == pytest.approx(0.0586, abs=1e-3)
    power_law = filled_fraction(ZeroBinPowerLaw(4, VOLUME), sizes, np.random.default_rng(2))
    explored = filled_fraction(KaplanMeier(4, VOLUME), sizes, np.random.default_rng(2))
    trapped = filled_fraction(KaplanMeier(4, VOLUME), sizes, None)
    print(f"{of_ideal:.4f} {uniform:.4f} power law {power_law:.4f} KM {explored:.4f} trapped {trapped:.4f}")
    GOLDEN["ganchev_power_law"].check(ideal=expected, of_ideal=power_law / of_ideal)
    assert power_law > uniform
    GOLDEN["ganchev_kaplan_meier"].check(of_even=explored / uniform, trapped=trapped / uniform)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_greedy_by_tails_is_optimal(seed, volume):
    """Against every allocation over three pools."""
    tails = -np.sort(-np.random.default_rng(seed).random((3, 12)), axis=1)
    units = greedy_by_tails(tails[None], np.array([volume]), np.ones((1, 3), bool))[0]
    value = lambda split: sum(tails[k, : split[k]].sum() for k in range(3))  # noqa: E731
    every = [s for s in product(range(volume + 1), repeat=3) if sum(s) == volume]
    assert units.sum() == volume
    assert value(units) == pytest.approx(max(value(split) for split in every))


def test_a_pool_that_is_not_allowed_gets_nothing_and_the_others_all():
    units = greedy_by_tails(np.ones((1, 3, 50)), np.array([10, 10]), np.array([[True, False, True], [False] * 3]))
    assert units.tolist() == [[5, 0, 5], [0, 0, 0]]


def test_kaplan_meier_by_hand():
    """Of 4 units: 0, 2, 4 filled; of 2 units: 2 filled. N_0 = 4, D_0 = 1; N_2 = 2, D_2 = 1."""
    learner = KaplanMeier(1, 4)
    state = learner.start(1)
    for asked, filled in ((4, 0), (4, 2), (4, 4), (2, 2)):
        state = learner.learn(state, np.array([[asked]]), np.array([[filled]]))
    np.testing.assert_allclose(kaplan_meier_tails(*state[:2])[0, 0], [0.75, 0.75, 0.375, 0.375])


@pytest.mark.parametrize(("zero_bin", "power"), [(0.67, 1.3), (0.80, 0.6), (0.5, -0.3)])
def test_the_likelihood_finds_zero_bin_and_exponent_through_censoring(zero_bin, power):
    rng, sizes = np.random.default_rng(3), np.arange(1, 201)
    law = sizes**-power / (sizes**-power).sum()
    held = np.where(rng.random(4000) < zero_bin, 0, rng.choice(sizes, 4000, p=law))
    asked = rng.integers(1, 200, 4000)
    learner = ZeroBinPowerLaw(1, 200)
    exact, censored, rounds = learner.start(1)
    filled = np.minimum(asked, held)
    np.add.at(exact, (0, 0, filled[filled < asked]), 1)
    np.add.at(censored, (0, 0, filled[filled == asked]), 1)
    zeros, exponent = learner.fit((exact, censored, rounds))
    assert zeros[0, 0] == pytest.approx(zero_bin, abs=0.03)
    assert EXPONENTS[exponent[0, 0]] == pytest.approx(power, abs=0.12)


def test_learning_leaves_the_old_state_alone_and_no_answer_teaches_nothing():
    learner = ZeroBinPowerLaw(2, 10)
    before = learner.start(1)
    after = learner.learn(before, np.array([[5, 0]]), np.array([[2, 0]]))
    assert before[0].sum() == before[1].sum() == 0 and after[0].sum() == 1 and after[0][0, 0, 2] == 1
    again = learner.learn(after, np.zeros((1, 2)), np.zeros((1, 2)))
    assert all(np.array_equal(a, b) for a, b in zip(after, again, strict=True))


def test_exploring_rounds_split_all_the_volume():
    learner, rng = KaplanMeier(3, 20, explore=1.0), np.random.default_rng(0)
    units = learner.split(learner.start(50), np.full(50, 20.0), np.ones((50, 3), bool), rng)
    assert np.all(units.sum(axis=1) == 20) and np.ptp(units[:, 0]) > 5
