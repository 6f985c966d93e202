"""Counter-based random numbers: moments, reach, independence of neighbours, and streams that never meet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import stats
from scipy.special import ndtri

from sor_sb3.simulator.random import (
    DATA_SPLITS,
    binomial,
    draw_bits,
    episode_keys,
    high_word,
    low_word,
    name_key,
    normal,
    poisson,
    seed_word,
    uniform,
)

N = 2_000_000


@njit
def _draws(key, first, count, out_high, out_low):
    for i in range(count):
        bits = draw_bits(key, first + i)
        out_high[i] = uniform(high_word(bits))
        out_low[i] = uniform(low_word(bits))


@njit
def _normals_of(words, out):
    for i in range(words.size):
        out[i] = normal(words[i])


@njit
def _first_of_keys(keys, place, out):
    for i in range(keys.size):
        out[i] = uniform(high_word(draw_bits(keys[i], place)))


def uniforms(key, first=0, count=N):
    high, low = np.empty(count), np.empty(count)
    _draws(np.uint64(key), first, count, high, low)
    return high, low


def normals(words):
    out = np.empty(len(words))
    _normals_of(np.asarray(words, dtype=np.uint64), out)
    return out


def words_of(uniform_values):
    return np.round(np.asarray(uniform_values) * 2**32 - 0.5).astype(np.uint64)


def correlation(x, y):
    return float(np.corrcoef(x, y)[0, 1])


@pytest.fixture(scope="module")
def stream():
    return uniforms(episode_keys("train", np.array([7], np.uint64), np.array([0]))[0])


def test_uniforms_have_the_moments_of_a_uniform(stream):
    for u in stream:
        assert 0.0 < u.min() < 1e-5 and 1 - 1e-5 < u.max() < 1.0
        for power in range(1, 5):
            expected, sd = 1 / (power + 1), np.sqrt(1 / (2 * power + 1) - 1 / (power + 1) ** 2)
            assert abs(np.mean(u**power) - expected) < 5 * sd / np.sqrt(N)


def test_uniforms_fill_a_thousand_bins_evenly(stream):
    for u in stream:
        counts = np.bincount((u * 1000).astype(int), minlength=1000)
        chi_square = np.sum((counts - N / 1000) ** 2) / (N / 1000)
        assert abs(chi_square - 999) < 5 * np.sqrt(2 * 999)


def test_normals_have_the_moments_of_a_normal_and_its_tails(stream):
    z = normals(words_of(stream[0]))
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_395 - 225)):
        assert abs(np.mean(z**power) - expected) < 5 * np.sqrt(variance / N)
    assert z.max() > 4.0 and z.min() < -4.0
    for bound, tail in ((3.0, 1.349898e-3), (4.0, 3.167124e-5)):
        for beyond in (np.sum(z > bound), np.sum(z < -bound)):
            assert abs(beyond - N * tail) < 5 * np.sqrt(N * tail)


def test_normal_is_the_quantile_function():
    p = np.concatenate([np.logspace(-9.5, -1, 4000), np.linspace(0.1, 0.9, 4001), 1 - np.logspace(-9, -1, 4000)])
    words = words_of(p)
    exact = ndtri((words.astype(float) + 0.5) / 2**32)
    assert np.max(np.abs(normals(words) - exact)) < 2e-4


def test_normal_is_odd_monotone_and_reaches_six_sd():
    words = np.concatenate(
        [np.arange(2000), np.linspace(2000, 2**32 - 2001, 100_000), 2**32 - 1 - np.arange(2000)[::-1]]
    )
    words = words.astype(np.uint64)
    z = normals(words)
    assert np.all(np.diff(z) >= 0.0)
    np.testing.assert_allclose(z, -normals(np.uint64(2**32 - 1) - words), atol=1e-9)
    assert z[0] < -6.0 and z[-1] > 6.0


def test_adjacent_places_and_both_words_are_uncorrelated(stream):
    high, low = stream
    bound = 5 / np.sqrt(N)
    assert abs(correlation(high, low)) < bound
    for lag in (1, 2, 8, 16):
        assert abs(correlation(high[:-lag], high[lag:])) < bound
        assert abs(correlation(high[:-lag], low[lag:])) < bound


@pytest.mark.parametrize("what", ["seeds", "episodes"])
def test_adjacent_seeds_and_episodes_are_uncorrelated(what):
    n = 100_000
    index, zero = np.arange(n + 1), np.zeros(n + 1, dtype=np.int64)
    keys = episode_keys("test", index if what == "seeds" else zero, index if what == "episodes" else zero)
    assert len(np.unique(keys)) == n + 1
    for place in (0, 1, 1 << 40):
        u = np.empty(n + 1)
        _first_of_keys(keys, place, u)
        assert abs(np.mean(u) - 0.5) < 5 * np.sqrt(1 / 12 / n)
        assert abs(correlation(u[:-1], u[1:])) < 5 / np.sqrt(n)


def test_keys_one_bit_apart_give_unrelated_draws():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    a, b = np.empty(len(keys)), np.empty(len(keys))
    _first_of_keys(keys, 3, a)
    for bit in (0, 1, 31, 32, 63):
        _first_of_keys(keys ^ np.uint64(1 << bit), 3, b)
        assert abs(correlation(a, b)) < 5 / np.sqrt(len(keys))


def test_splits_never_meet():
    seeds = np.arange(20_000, dtype=np.uint64)
    keys = {split: episode_keys(split, seeds, np.zeros(len(seeds), dtype=np.int64)) for split in DATA_SPLITS}
    assert len(np.unique(np.concatenate(list(keys.values())))) == 3 * len(seeds)
    draws = {split: np.empty(len(seeds)) for split in DATA_SPLITS}
    for split in DATA_SPLITS:
        _first_of_keys(keys[split], 0, draws[split])
    assert abs(correlation(draws["train"], draws["test"])) < 5 / np.sqrt(len(seeds))
    assert abs(correlation(draws["train"], draws["validation"])) < 5 / np.sqrt(len(seeds))


@given(st.integers(-(2**200), 2**200))
def test_any_integer_is_a_seed(seed):
    word = seed_word(seed)
    assert 0 <= word < 2**64 and word == seed % 2**64
    episode_keys("train", np.array([word], dtype=np.uint64), np.array([0]))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31), st.integers(0, 2**64 - 1), st.integers(0, 2**31))
@settings(deadline=None)
def test_an_address_is_a_pure_function_and_distinct(seed, episode, other_seed, other_episode):
    def key(s, e):
        return episode_keys("train", np.array([s], dtype=np.uint64), np.array([e]))[0]

    assert key(seed, episode) == key(seed, episode)
    if (seed, episode) != (other_seed, other_episode):
        assert key(seed, episode) != key(other_seed, other_episode)


def test_keys_are_the_same_on_every_machine_and_version():
    assert name_key("NYSE") == 0xB4245850C8D6E34A
    assert episode_keys("test", np.array([1], dtype=np.uint64), np.array([2]))[0] == 0x95DE1E6D2A293DCA


@pytest.mark.parametrize("mean", [0.3, 5.0, 150.0, 2200.0])
def test_poisson_is_the_quantile(mean: float) -> None:
    u = (np.random.default_rng(1).integers(0, 2**32, 500) + 0.5) / 2**32
    np.testing.assert_array_equal([poisson(mean, x) for x in u], stats.poisson.ppf(u, mean))


@pytest.mark.parametrize(("n", "p"), [(50.0, 0.02), (200.0, 0.3), (200.0, 0.95), (5000.0, 0.2), (8.0, 1.0), (9.0, 0.0)])
def test_binomial_is_the_quantile(n: float, p: float) -> None:
    u = (np.random.default_rng(2).integers(0, 2**32, 500) + 0.5) / 2**32
    off = 1.0 if n * p * (1.0 - p) > 200.0 else 0.0  # of the normal expansion
    np.testing.assert_allclose([binomial(n, p, x) for x in u], stats.binom.ppf(u, n, p), rtol=0.0, atol=off)


@pytest.mark.parametrize("u", [2.0**-33, 0.5, 1.0 - 2.0**-33])
@pytest.mark.parametrize("p", [1e-15, 1.0 - 1e-15])
def test_binomial_of_very_many_ends(p: float, u: float) -> None:
    n = 1e15
    assert abs(binomial(n, p, u) - n * p) < 30.0
