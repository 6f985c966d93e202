"""Statistics of quotes against closed forms, against slow reckonings, and on quotes that were made to have them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sor_sb3.evaluation.path_statistics import (
    PATH_STATISTICS,
    autocorrelation,
    grouped,
    jackknife,
    lagged_sums,
    leader,
    mean_asymmetry,
    mean_correlation,
    mean_of,
    path_statistics,
    ratio_of,
)
from sor_sb3.evaluation.true_quotes import QuotePaths

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def the_same_numbers_whichever_tests_run() -> None:
    global RNG
    RNG = np.random.default_rng(7)


def quotes(ask: np.ndarray, bid: np.ndarray | None = None, shares: np.ndarray | None = None) -> QuotePaths:
    """Paths (n, T, K) of these asks, one second apart."""
    bid = ask - 2.0 if bid is None else bid
    shares = np.full(ask.shape, 100.0) if shares is None else shares
    gap = np.fmin.reduce(ask, axis=2) - np.fmax.reduce(bid, axis=2)
    names = tuple("ABCDEFGH"[: ask.shape[2]])
    return QuotePaths(1.0, names, ask, bid, shares, np.abs(gap) < 1e-9, gap < -1e-9)


def value(paths: QuotePaths, key: str) -> float:
    return path_statistics(paths)[key].value


# ------------------------------------------------------------------------------------------------- intervals


def test_the_jackknife_of_a_mean_is_the_t_interval():
    x = RNG.normal(3.0, 2.0, 40)
    found = jackknife(np.stack([x, np.ones(40)], axis=1), ratio_of)
    low, high = stats.t.interval(0.95, 39, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(40))
    assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high))


def test_intervals_cover_as_often_as_they_say():
    ratio_hits = quantile_hits = 0
    for _ in range(300):
        top, bottom = RNG.gamma(2.0, 1.0, 50), RNG.gamma(4.0, 1.0, 50)
        found = jackknife(np.stack([top, bottom], axis=1), ratio_of)
        ratio_hits += found.low <= 0.5 <= found.high
        sample = RNG.normal(size=(100, 30))

        def median_of(kept: np.ndarray, sample: np.ndarray = sample) -> float:
            return float(np.quantile(sample[kept], 0.5))

        median = grouped(median_of, 100)
        quantile_hits += median.low <= 0.0 <= median.high
    assert 0.90 < ratio_hits / 300 < 0.99 and 0.90 < quantile_hits / 300 < 0.99


def test_one_scenario_has_no_interval_and_nothing_known_no_value():
    one = mean_of(np.array([[1.0, 3.0]]))
    assert one.value == 2.0 and np.isinf(one.low) and np.isinf(one.high)
    assert np.isnan(mean_of(np.full((3, 2), np.nan)).value)


# ------------------------------------------------------------------------------------------------ statistics


def test_quotes_worked_by_hand():
    nan = np.nan
    # four seconds, three venues; C does not quote in the last two
    ask = np.array([[[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 4.0, nan], [3.0, 2.0, nan]]])
    bid = np.array([[[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, nan], [0.0, 2.5, nan]]])
    shares = np.array([[[100.0, 300.0, 900.0], [200.0, 100.0, 100.0], [100.0, 50.0, 0.0], [400.0, 500.0, 0.0]]])
    paths = quotes(ask, bid, shares)
    assert value(paths, "spread_bps") == pytest.approx((1 + 1 + 1) / 3)  # the crossed last one left out
    assert value(paths, "excess_bps") == pytest.approx((0 + 0 + 1 + 0 + 1 + 2 + 0 + 2 + 1 + 0) / 10)
    assert value(paths, "excess_over_half_spread") == pytest.approx(0.7 / 0.5)
    assert value(paths, "at_best") == pytest.approx(5 / 10)
    assert value(paths, "at_best_most") == pytest.approx(3 / 4) and value(paths, "at_best_least") == 0.0
    assert value(paths, "alone_at_best") == pytest.approx(3 / 4)
    assert value(paths, "crossed_percent") == pytest.approx(25.0) and value(paths, "locked_percent") == 0.0
    assert value(paths, "quote_life_s") == pytest.approx(3 / 1)  # three intervals, one change of the best ask


def test_size_at_best_is_the_largest_of_those_that_tie():
    shares = np.tile(np.array([100.0, 300.0, 900.0]), (2, 11, 1))
    ask = np.tile(np.array([1.0, 1.0, 2.0]), (2, 11, 1))
    assert value(quotes(ask, shares=shares), "size_at_best_shares") == 300.0


def test_sizes_quantiles_are_over_each_venues_own_median():
    unit = np.exp(RNG.normal(0.0, 0.8, (400, 500, 1)))
    paths = quotes(np.ones((400, 500, 2)), shares=np.concatenate([unit, 50 * unit[::-1]], axis=2))
    assert value(paths, "size_q90") == pytest.approx(np.exp(0.8 * stats.norm.ppf(0.9)), rel=0.05)
    assert value(paths, "size_q10") == pytest.approx(np.exp(0.8 * stats.norm.ppf(0.1)), rel=0.05)


@pytest.mark.parametrize("lag", [1, 5, 10])
def test_the_autocorrelation_of_an_ar1_is_its_decay_to_the_lag(lag):
    phi, n, steps = 0.9, 40, 3000
    x = np.zeros((n, steps, 2))
    x[:, 0] = RNG.normal(size=(n, 2)) / np.sqrt(1 - phi**2)
    for t in range(1, steps):
        x[:, t] = phi * x[:, t - 1] + RNG.normal(size=(n, 2))
    found = autocorrelation(100.0 * np.arange(2) + x, lag)
    assert found.value == pytest.approx(phi**lag, abs=0.02) and found.low < phi**lag < found.high + 0.01
    assert found.high - found.low < 0.05


def test_gaps_are_left_out_of_an_autocorrelation():
    x = np.cumsum(RNG.normal(size=(3, 200, 1)), axis=1)
    x[:, 50:90] = np.nan
    series = []
    for row in x[..., 0]:
        d = row - np.nanmean(row)
        series.append((d[:-1], d[1:]))
    first, second = (np.concatenate(part) for part in zip(*series, strict=True))
    both = np.isfinite(first) & np.isfinite(second)
    expected = (first * second)[both].sum() / np.sqrt((first[both] ** 2).sum() * (second[both] ** 2).sum())
    assert autocorrelation(x, 1).value == pytest.approx(expected, rel=1e-12)


def test_moves_of_a_random_walk_have_no_excess_kurtosis_no_memory_and_variance_ratio_one():
    mid = np.cumsum(RNG.normal(0.0, 0.7, (60, 3001, 1)), axis=1)
    found = path_statistics(quotes(mid + 1.0, mid - 1.0))
    assert found["volatility_bps"].value == pytest.approx(0.7, rel=0.02)
    for key, expected in (
        ("move_kurtosis", 0.0),
        ("move_autocorrelation_5s", 0.0),
        ("variance_ratio_60s", 1.0),
        ("variance_ratio_300s", 1.0),
    ):
        width = found[key].high - found[key].low
        assert found[key].value == pytest.approx(expected, abs=width) and width < 0.4, key


def test_kurtosis_and_clustering_of_a_mixture_are_its_own():
    # Scenarios are calm (sd 1) or wild (sd 3), half each: kurtosis 3 E s^4 / (E s^2)^2 - 3 = 3 x 41 / 25 - 3.
    sd = np.where(np.arange(400) % 2 == 0, 1.0, 3.0)[:, None, None]
    mid = np.cumsum(np.repeat(RNG.normal(size=(400, 400, 1)) * sd, 5, axis=1) / 5, axis=1)
    found = path_statistics(quotes(mid + 1.0, mid - 1.0))
    moves = np.diff((mid[..., 0])[:, ::5], axis=1)
    assert found["move_kurtosis"].value == pytest.approx(1.92, abs=0.1)
    size = np.abs(moves)
    assert found["move_autocorrelation_5s"].value == pytest.approx(
        np.corrcoef(size[:, :-1].ravel(), size[:, 1:].ravel())[0, 1], rel=1e-9
    )
    assert found["move_kurtosis"].value == pytest.approx((moves**4).mean() / (moves**2).mean() ** 2 - 3.0, rel=1e-9)


def test_an_ask_that_stands_still_so_often_is_unchanged_so_often():
    changes = RNG.random((50, 1000)) < 0.1
    ask = 1.0 + np.cumsum(changes, axis=1)[..., None].astype(float)
    found = path_statistics(quotes(ask))
    assert found["ask_unchanged"].value == pytest.approx(0.9**5, abs=0.01)
    assert found["quote_life_s"].value == pytest.approx(10.0, rel=0.05)


def test_a_leader_is_found_and_the_asymmetry_is_that_of_the_correlations():
    lead = np.cumsum(RNG.normal(size=(40, 2000)), axis=1)
    late = np.concatenate([lead[:, :1], lead[:, :-1]], axis=1) + 0.1 * RNG.normal(size=lead.shape)
    paths = quotes(np.stack([late, lead], axis=2) + 100.0)
    assert leader(paths) == "B"
    x = np.diff(paths.ask_bps, axis=1)
    corr = lambda a, b: (a * b).sum() / np.sqrt((x[..., 0] ** 2).sum() * (x[..., 1] ** 2).sum())  # noqa: E731
    expected = corr(x[:, :-1, 1], x[:, 1:, 0]) - corr(x[:, :-1, 0], x[:, 1:, 1])
    assert value(paths, "lead_lag_1s") == pytest.approx(abs(expected), rel=1e-9) and expected > 0.8
    together = quotes(np.stack([lead, lead], axis=2) + 100.0)
    assert value(together, "lead_lag_1s") == pytest.approx(0.0, abs=1e-12)
    assert value(together, "ask_correlation") == pytest.approx(1.0)


def test_the_mean_correlation_is_over_pairs():
    x = RNG.normal(size=(5, 300, 3))
    sums = lagged_sums(x).sum(axis=0)
    flat = x.reshape(-1, 3)
    raw = flat.T @ flat / np.sqrt(np.outer((flat**2).sum(axis=0), (flat**2).sum(axis=0)))
    assert float(mean_correlation(3)(sums)) == pytest.approx((raw[0, 1] + raw[0, 2] + raw[1, 2]) / 3)
    assert 0.0 <= float(mean_asymmetry(3)(sums)) < 0.2


def test_a_stale_choice_worked_by_hand():
    # Every five seconds A and B swap places, so that the choice of five seconds ago is always the worst of the two.
    a = np.repeat(np.tile([1.0, 3.0], 20), 5)[None]
    swaps = quotes(np.stack([a, 4.0 - a], axis=2))
    assert value(swaps, "stale_choice_loss") == pytest.approx(2.0)  # 2 lost of a saving of 1
    still = quotes(np.tile(np.array([1.0, 3.0]), (1, 100, 1)))
    assert value(still, "stale_choice_loss") == pytest.approx(0.0)


def test_one_venue_alone_has_no_figures_between_venues():
    found = path_statistics(quotes(1.0 + np.cumsum(RNG.normal(size=(4, 400, 1)), axis=1)))
    assert set(found) == set(PATH_STATISTICS)
    for key in ("ask_correlation", "lead_lag_5s", "lead_lag_1s", "stale_choice_loss"):
        assert np.isnan(found[key].value)
    assert found["alone_at_best"].value == 1.0 and found["excess_bps"].value == 0.0
