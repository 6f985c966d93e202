"""Agarwal, Bartlett, Dama: how regret grows, against adversaries and chance, in volume and in rounds."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.policies.learning_rules.exponentiated import ExponentiatedGradient, IntegerGradient
from tests.policies.golden import GOLDEN

POOLS = 4


def switching(rounds: int, n: int, volume: int) -> np.ndarray:
    """The good pool, which holds all, changes every quarter; the others hold all or nothing by a coin of .3."""
    rng = np.random.default_rng(rounds)
    held = rng.random((rounds, n, POOLS)) < 0.3
    held[np.arange(rounds), :, np.arange(rounds) * POOLS // rounds] = rng.random((rounds, n)) < 0.6
    return volume * held


def coins(rounds: int, n: int, volume: int) -> np.ndarray:
    """Every pool holds all or nothing by a fair coin: what forces a regret of the square root of the rounds."""
    return volume * (np.random.default_rng(rounds).random((rounds, n, POOLS)) < 0.5)


def power_law(rounds: int, n: int, volume: int) -> np.ndarray:
    """Zero bins with power laws, as Ganchev et al. fitted them, of up to twice the volume."""
    rng, sizes = np.random.default_rng(rounds), np.arange(1, 2 * volume + 1)
    held = np.zeros((rounds, n, POOLS))
    for k, (zero_bin, power) in enumerate(zip((0.67, 0.80, 0.90, 0.96), (1.3, 1.0, 0.6, 0.25), strict=True)):
        law = sizes**-power / (sizes**-power).sum()
        drawn = sizes[np.searchsorted(np.cumsum(law), rng.random((rounds, n)) * (1 - 1e-12))]
        held[:, :, k] = np.where(rng.random((rounds, n)) < zero_bin, 0, drawn)
    return held


def best_fixed(held: np.ndarray, volume: int) -> np.ndarray:
    """What the best fixed split fills (n,): greedily by how often each further unit is filled."""
    tails = np.stack([(held >= s).sum(axis=0) for s in range(1, volume + 1)], axis=2)  # (n, K, V)
    return -np.sort(-tails.reshape(len(tails), -1), axis=1)[:, :volume].sum(axis=1)


def regret(adversary, rounds: int, volume: int = 1, n: int = 20, kind=ExponentiatedGradient) -> float:
    """Mean regret over n lives."""
    held = adversary(rounds, n, volume)
    learner = kind(POOLS, volume, rounds)
    state, filled, rng = learner.start(n), np.zeros(n), np.random.default_rng(7)
    amount, allowed = np.full(n, float(volume)), np.ones((n, POOLS), bool)
    for now in held:
        asked = learner.split(state, amount, allowed, rng)
        got = np.minimum(asked, now)
        filled += got.sum(axis=1)
        state = learner.learn(state, asked, got)
    return float((best_fixed(held, volume) - filled).mean())


def slope(regrets: list[float], rounds: list[int]) -> float:
    return float(np.polyfit(np.log(rounds), np.log(regrets), 1)[0])


@pytest.mark.parametrize("rounds", [(1000, 10_000), pytest.param((1000, 10_000, 100_000), marks=pytest.mark.slow)])
@pytest.mark.parametrize("adversary", [switching, coins])
def test_regret_grows_no_faster_than_the_square_root_of_the_rounds(adversary, rounds):
    """The proof bounds the regret by V sqrt(T ln K / 2)."""
    regrets = [regret(adversary, t, n=4 if t > 50_000 else 20) for t in rounds]
    print(adversary.__name__, regrets)
    assert all(r <= np.sqrt(t * np.log(POOLS) / 2) for r, t in zip(regrets, rounds, strict=True))
    GOLDEN["agarwal_continuous"].check(slope=slope([max(r, 1.0) for r in regrets], rounds))


def test_regret_doubles_with_the_volume():
    one, two = regret(coins, 2000, 4), regret(coins, 2000, 8)
    assert two / one == pytest.approx(2.0, rel=0.1)


def test_on_power_laws_it_comes_near_to_the_best_fixed_split():
    held = power_law(10_000, 10, 20)
    assert regret(power_law, 10_000, 20, 10) < 0.05 * best_fixed(held, 20).mean()


def test_whole_units_lose_more_but_still_learn():
    rounds = [1000, 10_000]
    regrets = [regret(coins, t, 4, kind=IntegerGradient) for t in rounds]
    GOLDEN["agarwal_integer"].check(slope=slope(regrets, rounds))
    assert regrets[1] > regret(coins, rounds[1], 4)
    held = switching(10_000, 20, 4)
    even = np.minimum(held, 1).sum() / 20
    assert best_fixed(held, 4).mean() - regret(switching, 10_000, 4, kind=IntegerGradient) > 0.9 * even


def test_rounding_is_unbiased_and_keeps_the_volume():
    learner, rng = IntegerGradient(3, 7), np.random.default_rng(0)
    state = (np.tile(np.log([0.55, 0.3, 0.15]), (20_000, 7, 1)),)
    units = learner.split(state, np.full(20_000, 7.0), np.ones((20_000, 3), bool), rng)
    assert np.all(units.sum(axis=1) == 7)
    np.testing.assert_allclose(units.mean(axis=0), [3.85, 2.1, 1.05], atol=0.02)
    plain = learner.split(state, np.full(20_000, 7.0), np.ones((20_000, 3), bool), None)
    assert plain[0].tolist() == [4, 2, 1]


def test_one_step_by_hand():
    learner = ExponentiatedGradient(2, 1, 100)
    state = learner.learn(learner.start(1), np.array([[0.5, 0.5]]), np.array([[0.5, 0.2]]))
    eta = np.sqrt(8 * np.log(2) / 100)
    expected = np.exp([eta, 0.0]) / (np.exp(eta) + 1.0)
    np.testing.assert_allclose(learner.allocation(state, np.array([1.0]))[0], expected)
