"""Observations: the layout, what rules read back, finiteness, and nothing hidden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import (
    MARKET_FEATURES,
    VENUE_FEATURES,
    ObservationView,
    Observer,
)
from sor_sb3.market.loading import load_market
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, markets, policies, some_weights
from tests.simulator.records import children_of, orders_of, parameters_of, venues_of

free = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
MARKETS = ("notebook", "notebook_blind", "us_equity")


def begin(market, seed: int, n: int = 4) -> tuple[BatchSimulator, Observer]:
    simulator = BatchSimulator(market, n)
    simulator.reset(np.array([(seed + i) % 2**64 for i in range(n)], dtype=np.uint64), np.zeros(n, dtype=np.int64))
    return simulator, Observer(simulator)


@given(markets(), SEEDS, policies())
@free
def test_observations_are_finite_and_read_back_to_float32_rounding(market, seed, policy):
    simulator, observer = begin(market, seed)
    generator = np.random.default_rng(policy[0])
    fees, walks = parameters_of(simulator)["take_fee_bps"], parameters_of(simulator)["walk_bps"][0]
    for step in range(market.order.horizon_steps):
        rows = observer.observe()
        assert rows.dtype == np.float32 and np.isfinite(rows).all()
        view, venues, orders = ObservationView.of(rows, market), venues_of(simulator), orders_of(simulator)
        is_open = venues["open"] == 1
        shown = np.maximum(venues["observed_shares"] - venues["depleted_shares"], 0.0) * is_open
        even = market.order.quantity_shares / market.order.horizon_steps
        assert np.array_equal(view.open, is_open)
        np.testing.assert_allclose(view.time_left, 1.0 - step / market.order.horizon_steps, rtol=1e-6)
        known = orders["available_shares"] + orders["in_flight_shares"]
        np.testing.assert_allclose(view.remaining, known / market.order.quantity_shares, rtol=1e-6)
        np.testing.assert_allclose(
            view.in_flight_share, orders["in_flight_shares"] / market.order.quantity_shares, rtol=1e-6
        )
        assert np.array_equal(view.busy, children_of(simulator)["shares"] > 0.0)
        assert np.array_equal(view.dark, np.broadcast_to([v.dark is not None for v in market.venues], view.dark.shape))
        np.testing.assert_allclose(view.slice_shares, orders["slice_shares"], rtol=3e-6, atol=1e-6 * even)
        np.testing.assert_allclose(view.offset_bps, venues["observed_offset_bps"], rtol=1e-6)
        np.testing.assert_allclose(view.fee_bps, np.broadcast_to(fees, view.fee_bps.shape), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(view.size_shares, shown, rtol=1e-5, atol=1e-6 * even)
        latency = market.scales[2]
        np.testing.assert_allclose(view.latency_ms, venues["observed_latency_ms"], rtol=1e-5, atol=1e-6 * latency)
        np.testing.assert_allclose(view.fill_ratio, venues["fill_ratio"], rtol=1e-6)
        total = view.volume_share.sum(axis=1)
        assert np.all((np.abs(total - 1.0) < 1e-5) | (total == 0.0))
        assert np.all(view.slice_excess_bps >= 0.0) and np.all(view.slice_excess_bps.min(axis=1) == 0.0)
        check_split(view, shown, venues["observed_offset_bps"] + fees, walks, orders["slice_shares"])
        pace = None if not policy[1] else generator.random(4)
        if simulator.step(some_weights(generator, 4, market.n_venues), pace)[2].any():
            break


def check_split(view, shown, all_in, walks, slices):
    """One marginal price for all: who offers below it is full, who takes part pays it with his last share."""
    steepness = np.maximum(2.0 * walks, 1e-6)
    for i, wanted in enumerate(slices):
        shares = view.marginal_share[i] * wanted
        offered = shown[i].sum()
        assert shares.sum() == pytest.approx(min(wanted, offered), rel=1e-4, abs=1e-6)
        part = np.divide(shares, shown[i], out=np.zeros_like(shares), where=shown[i] > 0.0)
        price = (all_in[i] + steepness * part)[part > 1e-6]  # of the last share
        inside = (all_in[i] + steepness * part)[(part > 1e-6) & (part < 1.0 - 1e-6)]
        if inside.size:
            tolerance = 1e-4 * (1.0 + abs(inside.max()))
            assert np.ptp(inside) <= tolerance and price.max() <= inside.min() + tolerance
            outside = all_in[i][(part <= 1e-6) & (shown[i] > 0.0)]
            assert np.all(outside >= inside.min() - tolerance), "a cheaper venue was left out"


@given(markets(), SEEDS)
@free
def test_nothing_hidden_goes_in(market, seed):
    """True latency, move and size at arrival, and the path to come, change no bit of the observation."""
    simulator, observer = begin(market, seed)
    before = observer.observe()
    hidden = ("latency_ms", "touch_move_bps", "arrival_size_shares", "hidden_shares", "next_offset_bps", "next_shares")
    for name in (*hidden, "offset_bps", "quote_shares", "change_at"):  # the true quote is not what the feed says
        venues_of(simulator)[name] *= 1.7
    for name in (
        "next_mid_bps",
        "mid_noise_bps",
        "smooth_move_bps",
        "news_bps",
        "news_ms",
        "drift_bps_per_s",
        "leak_bps",
    ):
        orders_of(simulator)[name] += 3
    orders_of(simulator)["key"] += 3
    venues_of(simulator)["outage"] = 1 - venues_of(simulator)["outage"]
    orders_of(simulator)["stressed"] = 1 - orders_of(simulator)["stressed"]
    assert before.tobytes() == observer.observe().tobytes()


@given(markets(), SEEDS)
@free
def test_rows_are_the_members_asked_for(market, seed):
    _, observer = begin(market, seed)
    every, some = observer.observe(), observer.observe(np.array([3, 1]))
    assert np.array_equal(every[[3, 1]], some)


@pytest.mark.parametrize("market", MARKETS)
def test_typical_values_are_of_order_one(market):
    core = RoutingCore("OrderSplit-v0", market, 512)
    core.seed(list(range(512)))
    rows = [core.reset()]
    k = core.market.n_venues
    for _ in range(core.market.order.horizon_steps - 1):
        rows.append(core.step(np.zeros((512, k)))[0])
    values = np.concatenate(rows)
    assert values.shape[1] == len(MARKET_FEATURES) + k * len(VENUE_FEATURES) == core.observation_space.shape[0]
    assert np.isfinite(values).all() and np.abs(values.mean(axis=0)).max() < 5 and values.std(axis=0).max() < 5


def test_price_of_the_whole_slice_by_hand():
    """us_equity, first step: the slice of 250 shares against what is displayed, the book walked."""
    market = load_market("us_equity")
    simulator, observer = begin(market, 1, n=32)
    view, venues = ObservationView.of(observer.observe(), market), venues_of(simulator)
    for i in range(32):
        is_open = venues["open"][i] == 1
        dark = np.array([v.dark is not None for v in market.venues])
        all_in = venues["observed_offset_bps"][i] + np.array([v.take_fee_bps for v in market.venues])
        walk = np.array([0.0 if v.dark else v.walk_bps for v in market.venues])
        shown = venues["observed_shares"][i] * is_open
        miss = (all_in + walk)[is_open & ~dark].max()
        part = np.minimum(250.0 / np.maximum(shown, 1e-9), 1.0) * (shown > 0)
        filled = np.minimum(shown / 250.0, 1.0)
        price = filled * (all_in + walk * part) + (1.0 - filled) * miss
        np.testing.assert_allclose(view.slice_excess_bps[i], price - price.min(), atol=1e-5)
