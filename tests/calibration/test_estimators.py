"""Closed forms give back the parameters of simulated data, and golden numbers of worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.calibration import price_estimators as price
from sor_sb3.calibration import quote_estimators as quote
from sor_sb3.calibration import trade_estimators as trade
from sor_sb3.calibration.intervals import log_interval, resampled_sd
from sor_sb3.calibration.latent import (
    LAGS_S,
    exceedances,
    latent_autocorrelations,
    latent_correlation,
    middle_threshold,
    quantile_law,
    two_speeds,
)


def ar1(rng: np.random.Generator, shape: tuple[int, int, int], half_life: float) -> np.ndarray:
    """Stationary AR(1) series of sd 1, along the second axis."""
    decay = 2.0 ** (-1.0 / half_life)
    out, shocks = np.empty(shape), rng.standard_normal(shape)
    out[:, 0] = shocks[:, 0]
    for t in range(1, shape[1]):
        out[:, t] = decay * out[:, t - 1] + math.sqrt(1.0 - decay**2) * shocks[:, t]
    return out


@pytest.fixture(scope="module")
def sizes() -> np.ndarray:
    """Sizes of three venues in lots of 100: medians 300, 150, 900; sds .6 (half-life 2) and .45 (120); tail .7."""
    rng = np.random.default_rng(1)
    x = 0.6 * ar1(rng, (12, 1500, 3), 2.0) + 0.45 * ar1(rng, (12, 1500, 3), 120.0)
    shares = np.array([300.0, 150.0, 900.0]) * np.exp(np.where(x > 0.0, 1.7 * x, x))
    return np.maximum(np.floor(shares / 100.0 + 0.5), 1.0) * 100.0


@given(rho=st.floats(-0.95, 0.95), above=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_the_latent_correlation_is_the_one_that_gives_these_probabilities(rho, above):
    from scipy.stats import multivariate_normal, norm

    a = norm.ppf(above)
    both = multivariate_normal.cdf([a, a], cov=[[1.0, rho], [rho, 1.0]])
    assert latent_correlation(np.array(above), np.array(both)) == pytest.approx(rho, abs=4e-3)


def test_a_threshold_lies_between_two_lots():
    assert middle_threshold(np.array([100.0, 200.0, 200.0, 300.0, np.nan]), 100.0) in (150.0, 250.0)
    assert np.isnan(middle_threshold(np.array([100.0, 100.0]), 100.0))
    assert middle_threshold(np.array([1.0, 2.0, 4.0]), 0.0) == 2.0


def test_lots_and_tails_do_not_hide_the_law_of_sizes(sizes):
    law = quantile_law(sizes, 100.0)
    sd = math.hypot(0.6, 0.45)
    assert law.median == pytest.approx([300.0, 150.0, 900.0], rel=0.12)
    assert law.log_sd_below == pytest.approx(sd, rel=0.12)
    assert law.log_sd_above == pytest.approx(1.7 * sd, rel=0.12)


def test_lots_and_tails_do_not_hide_the_memory_of_sizes(sizes):
    speeds = quote.speeds(quote.seen_again(sizes, 100.0, 1.0), 1.0, sizes.shape[1])
    assert speeds.fast_half_life_s == pytest.approx(2.0, rel=0.15)
    assert speeds.slow_half_life_s == pytest.approx(120.0, rel=0.5)
    assert speeds.fast_share == pytest.approx(0.36 / (0.36 + 0.2025), abs=0.08)


def test_where_nothing_is_below_a_median_there_is_one_spread():
    rng = np.random.default_rng(2)
    shares = np.maximum(np.floor(0.6 * np.exp(rng.standard_normal((1, 20_000, 2))) + 0.5), 1.0)
    law = quantile_law(shares, 1.0)
    assert law.log_sd_below == law.log_sd_above == pytest.approx(1.0, rel=0.1)


def test_two_speeds_of_one_speed():
    lags = np.array(LAGS_S, dtype=float)
    found = two_speeds(2.0 ** (-lags / 5.0), lags)
    fitted = found.fast_share * 2.0 ** (-lags / found.fast_half_life_s)
    fitted += (1.0 - found.fast_share) * 2.0 ** (-lags / found.slow_half_life_s)
    assert np.abs(fitted - 2.0 ** (-lags / 5.0)).max() < 0.01


def test_gaps_leave_correlations_as_they_are():
    rng = np.random.default_rng(3)
    x = ar1(rng, (20, 800, 2), 4.0)
    gappy = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    whole, holed = (latent_autocorrelations(exceedances(values, 0.0, (1, 4))) for values in (x, gappy))
    assert whole == pytest.approx([2**-0.25, 0.5], abs=0.03)
    assert holed == pytest.approx(whole, abs=0.03)


def test_offsets_of_quotes_rounded_outwards():
    rng = np.random.default_rng(4)
    half = np.array([0.8, 3.0]) * np.exp(0.5 * rng.standard_normal((1, 20_000, 2)))
    centre = 100.0 * rng.random((1, 20_000, 1))
    spread = np.ceil((centre + half) / 0.5) * 0.5 - np.floor((centre - half) / 0.5) * 0.5
    medians, sd = quote.offsets(spread, 0.5)
    assert medians == pytest.approx([0.8, 3.0], rel=0.06)
    assert sd == pytest.approx(0.5, rel=0.1)


def test_delays_of_quotes_that_are_made_anew_at_random_times():
    rng = np.random.default_rng(5)
    delays = np.array([0.5, 3.0, 20.0])
    anew = rng.random((10, 2000, 3)) < 1.0 - np.exp(-1.0 / delays)
    version = np.cumsum(anew, axis=1).astype(float)
    assert quote.quote_delays(version, version - 1.0, 1.0) == pytest.approx(delays, rel=0.1)


@given(st.lists(st.integers(1, 400), min_size=5, max_size=40), st.sampled_from([0.01, 0.05, 100.0]))
def test_a_grid_explains_its_values(places, step):
    found = quote.grid_step(np.array(places) * step)
    assert found == pytest.approx(step * math.gcd(*places), rel=1e-6) or found >= step * 0.999


def test_volatility_and_its_clusters():
    rng = np.random.default_rng(6)
    x = ar1(rng, (60, 720, 1), 24.0)[..., 0]  # half-life 24 moves of 5 s
    moves = 2.0 * math.sqrt(5.0) * np.exp(0.5 * x - 0.25) * rng.standard_normal(x.shape)
    found = price.volatility_clusters(moves, 5.0)
    assert price.volatility_bps(moves, 5.0) == pytest.approx(2.0, rel=0.03)
    assert found.log_sd == pytest.approx(0.5, rel=0.1)
    assert found.half_life_s == pytest.approx(120.0, rel=0.3)


def test_jumps_stand_out_and_calm_markets_have_none():
    rng = np.random.default_rng(7)
    moves = rng.standard_normal((10, 500))
    assert price.jumps(moves, 5.0).per_hour < 0.5
    moves[:, 250] = 15.0
    found = price.jumps(moves, 5.0)
    assert found.sd_bps == pytest.approx(15.0, rel=0.05)
    assert found.per_hour == pytest.approx(3600.0 / (439 * 5.0), rel=0.1)


def test_trades_of_exponential_sizes_and_noisy_flow():
    rng = np.random.default_rng(8)
    counts = rng.poisson(0.5, (5, 4000, 2))
    volume = np.array([[rng.gamma(np.maximum(c, 1e-12), 200.0) for c in block] for block in counts]) * (counts > 0)
    assert trade.is_quiet(volume)
    assert trade.trade_shares(volume) == pytest.approx(200.0, rel=0.1)
    noise = np.exp(0.7 * rng.standard_normal((5, 4000, 3)) - 0.245) * np.array([5.0, 3.0, 2.0])
    assert not trade.is_quiet(noise)
    assert trade.volume_noise_sd(noise) == pytest.approx(0.7, rel=0.05)
    assert trade.venue_shares(noise) == pytest.approx([0.5, 0.3, 0.2], rel=0.03)
    assert trade.shares_per_day(noise, 1.0, 23_400.0) == pytest.approx(10.0 * 23_400.0, rel=0.03)


def test_who_trades_knows_of_this_and_the_next_move():
    rng = np.random.default_rng(9)
    z, unseen = rng.standard_normal((2, 6, 20_000))
    moves = np.concatenate([np.zeros((6, 1)), 0.6 * z[:, :-1]], axis=1) + 0.8 * unseen  # f = .6 of the next is z
    lead = 0.7 * np.tanh(moves + 2.0 * 0.6 * z)
    mid = np.concatenate([np.zeros((6, 1)), np.cumsum(moves, axis=1)], axis=1)[:, :-1]
    assert trade.flow_foresight(lead, mid, 1.0, 0.7) == pytest.approx(0.6, abs=0.05)
    plain = 0.7 * np.tanh(moves)
    assert trade.side_correlation(plain, mid, 1.0) == pytest.approx(0.7, abs=0.02)


def test_what_stays_of_a_print_and_what_decays():
    rng = np.random.default_rng(10)
    bought = 1000.0 * rng.standard_normal((8, 4000))
    kernel = 0.2 + 0.5 * 2.0 ** (-np.arange(1, 3001) / 5.0)
    mid = np.array([np.concatenate([[0.0], np.convolve(b / 1000.0, kernel)[: len(b) - 1]]) for b in bought])
    found = trade.impact(bought, mid, 1.0)
    assert found.permanent_bps_per_1000 == pytest.approx(0.2, abs=0.08)
    assert found.transient_bps_per_1000 == pytest.approx(0.5 * 2.0**-0.2, abs=0.1)
    assert found.half_life_s == pytest.approx(5.0, rel=0.6)


def test_a_display_that_comes_back():
    shown = np.full((40, 400, 1), 500.0)
    taken = np.zeros_like(shown)
    taken[:, 100] = 500.0
    after = np.arange(1, 300)
    shown[:, 101:] = 500.0 * (1.0 - 2.0 ** (-after / 6.0))[None, :, None]
    assert trade.refill_half_life_s(shown, taken, 1.0) == pytest.approx(6.0, rel=0.05)
    assert np.isnan(trade.refill_half_life_s(shown, np.zeros_like(shown), 1.0))


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(11)
    blocks = rng.standard_normal(50)
    sd = resampled_sd(lambda which: np.array([blocks[which].mean(), np.nan]), 50, resamples=800)
    assert sd[0] == pytest.approx(blocks.std(ddof=1) / math.sqrt(50), rel=0.1)
    assert np.isnan(sd[1])
    assert log_interval(2.0, float("nan"), 50) == (0.0, math.inf)
