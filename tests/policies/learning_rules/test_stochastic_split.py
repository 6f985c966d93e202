"""Laruelle, Lehalle, Pages: the shortage setting, where optimisation finds the optimum and reinforcement does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.policies.learning_rules.allocations import to_simplex
from sor_sb3.policies.learning_rules.stochastic_split import Optimisation, Reinforcement
from tests.policies.golden import GOLDEN

DISCOUNTS = np.array([0.01, 0.03, 0.05])
MEANS = np.array([1.0, 2.0, 3.0])  # of what pools hold; the volume's is 1.5 times their sum: a shortage
LIVES = 8


def log_normal(rng: np.random.Generator, mean: np.ndarray | float, shape: tuple[int, ...]) -> np.ndarray:
    """Of variance 1."""
    variance = np.log1p(1.0 / np.square(mean))
    return np.exp(np.log(mean) - 0.5 * variance + np.sqrt(variance) * rng.standard_normal(shape))


def drawn(rounds: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (rounds, n) and what the pools hold (rounds, n, 3)."""
    rng = np.random.default_rng(seed)
    return log_normal(rng, 9.0, (rounds, n)), log_normal(rng, MEANS, (rounds, n, 3))


def reduction(split: np.ndarray, volume: np.ndarray, held: np.ndarray) -> float:
    """Mean cost reduction of a split (3,)."""
    return float((DISCOUNTS * np.minimum(split * volume[..., None], held)).sum(axis=-1).mean())


def oracle(volume: np.ndarray, held: np.ndarray) -> float:
    """Who knows what the pools hold takes the largest discounts first."""
    left, total = volume.copy(), 0.0
    for k in (2, 1, 0):
        taken = np.minimum(left, held[..., k])
        left, total = left - taken, total + DISCOUNTS[k] * taken.mean()
    return float(total)


VOLUME, HELD = (x[:, 0] for x in drawn(400_000, 1, 99))
ORACLE = oracle(VOLUME, HELD)


def ratio(split: np.ndarray) -> float:
    return reduction(split, VOLUME, HELD) / ORACLE


def learned(learner, rounds: int) -> np.ndarray:
    """Splits (lives, 3) after so many rounds."""
    state = learner.start(LIVES)
    allowed = np.ones((LIVES, 3), bool)
    for volume, held in zip(*drawn(rounds, LIVES, 3), strict=True):
        asked = learner.split(state, volume, allowed, None)
        state = learner.learn(state, asked, np.minimum(asked, held), np.broadcast_to(DISCOUNTS, (LIVES, 3)))
    return learner.share(state)


def test_the_golden_numbers_of_the_setting():
    """What the oracle saves, and what the optimum, an even split and the fixed point of reinforcement have of it."""
    assert pytest.approx(0.21860, abs=3e-4) == ORACLE
    best, wrong = (GOLDEN[f"laruelle_{name}"].numbers for name in ("optimisation", "reinforcement"))
    assert ratio(np.array(best["split"].value)) == pytest.approx(best["share"].value, abs=1e-3)
    assert ratio(np.full(3, 1 / 3)) == pytest.approx(0.8921, abs=1e-3)
    assert ratio(np.array([0.0, 0.2567, 0.7433])) == pytest.approx(wrong["share"].value, abs=1e-3)


ROUNDS = pytest.mark.parametrize("rounds", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])


@ROUNDS
def test_optimisation_reaches_the_optimum_from_an_even_split(rounds):
    splits = learned(Optimisation(3), rounds)
    for split in splits:
        GOLDEN["laruelle_optimisation"].check(share=ratio(split))
    GOLDEN["laruelle_optimisation"].check(split=splits.mean(axis=0))


@ROUNDS
def test_reinforcement_converges_to_the_wrong_point_as_published(rounds):
    splits = learned(Reinforcement(3), rounds)
    for split in splits:
        GOLDEN["laruelle_reinforcement"].check(share=ratio(split), first=split[0])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_the_projection_is_the_nearest_point_of_the_simplex(point):
    x = to_simplex(np.array([point]))[0]
    assert x.sum() == pytest.approx(1.0) and np.all(x >= 0.0)
    others = np.random.default_rng(0).dirichlet(np.ones(3), 500)
    assert np.all(((x - point) ** 2).sum() <= ((others - point) ** 2).sum(axis=1) + 1e-9)
