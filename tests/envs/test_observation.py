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
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.book import observed_level
from sor_sb3.simulator.compiled import entry_point
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


@entry_point()
def _levels(state, prices, shares):
    n_venues, per_block = state.market[0].n_venues, state.market[0].block_orders
    drawn = state.market.size > 1
    for member in range(len(prices)):
        b, i = member // per_block, member % per_block
        block, fixed, market = state.blocks[b], state.venues[b if drawn else 0], state.market[member if drawn else 0]
        for k in range(n_venues):
            j = i * n_venues + k
            for level in range(market.n_levels):
                if block.open[j] == 1.0 and fixed.dark[j] == 0.0:
                    price_bps, left = observed_level(block, i, j, fixed, market, state.recording, level)
                    prices[member, k, level] = price_bps - block.observed_ask_bps[j] + block.observed_offset_bps[j]
                    shares[member, k, level] = left


def books_of(simulator):
    """What is displayed: prices above the observed midpoint and shares, (n, K, levels), beyond a child's limit too."""
    shape = (simulator.n, simulator.market.n_venues, int(simulator.read("n_levels")[0]))
    prices, shares = np.full(shape, np.inf), np.zeros(shape)
    _levels(simulator.kernel_state(), prices, shares)
    return prices, shares


def check_prices(view, simulator, live):
    """Both answers of rules, by sorting and by brute arithmetic."""
    market, (prices, shares) = simulator.market, books_of(simulator)
    fees = parameters_of(simulator)["take_fee_bps"]
    names = np.argsort(np.argsort(market.venue_names))
    if market.order.limit == "touch":
        shares[:, :, 1:] = 0.0
    else:
        offset = np.inf if market.order.limit_offset_bps is None else market.order.limit_offset_bps
        best = np.where(shares[:, :, 0] > 0.0, prices[:, :, 0], np.inf).min(axis=1)
        shares[prices > (best + offset)[:, None, None] + 1e-9] = 0.0
    depth = shares.sum(axis=2)
    np.testing.assert_allclose(view.depth_shares[live], depth[live], rtol=1e-5, atol=1e-6 * market.scales[1])
    for i in np.flatnonzero(live):
        wanted = simulator.read("slice_shares")[i]
        net = prices[i] + fees[i][:, None]
        levels = sorted((round(net[k, level], 8), names[k], k, level) for k, level in np.argwhere(shares[i] > 0.0))
        left, swept = wanted, np.zeros(len(names))
        for _, _, k, level in levels:
            if not view.busy[i, k]:
                taken = min(left, shares[i, k, level])
                swept[k] += taken
                left -= taken
        np.testing.assert_allclose(view.sweep_share[i] * wanted, swept, rtol=1e-5, atol=1e-5 * max(wanted, 1e-9))
        quotes = view.open[i] & ~view.dark[i]
        touches = np.where(quotes, simulator.read("observed_offset_bps")[i] + fees[i], -np.inf)
        worst = max(touches.max(), max((price for price, *_ in levels), default=-np.inf)) if quotes.any() else 0.0
        each = np.full(len(names), worst)
        wanted = max(wanted, 1e-9)  # of no shares: the price of the first
        for k in range(len(names)):
            taken = np.diff(np.minimum(np.cumsum(shares[i, k]), wanted), prepend=0.0)
            paid = np.where(taken > 0.0, taken * np.where(np.isfinite(net[k]), net[k], 0.0), 0.0).sum()
            each[k] = (paid + (wanted - taken.sum()) * worst) / wanted
        np.testing.assert_allclose(view.slice_excess_bps[i], each - each.min(), rtol=1e-4, atol=1e-4 * (1 + abs(worst)))


@given(markets(), SEEDS, policies())
@free
def test_observations_are_finite_and_read_back_to_float32_rounding(market, seed, policy):
    simulator, observer = begin(market, seed)
    generator = np.random.default_rng(policy[0])
    fees, even = parameters_of(simulator)["take_fee_bps"], market.order.quantity_shares / market.order.horizon_steps
    live = np.ones(4, dtype=bool)
    while live.any():
        rows = observer.observe()
        assert rows.dtype == np.float32 and np.isfinite(rows).all()
        view, venues, orders = ObservationView.of(rows, market), venues_of(simulator), orders_of(simulator)
        assert np.array_equal(view.open, venues["open"] == 1)
        decisions = simulator.read("horizon_steps") - orders["step"]
        np.testing.assert_allclose(view.time_left, decisions / market.order.horizon_steps, atol=1e-6)
        known = orders["available_shares"] + orders["in_flight_shares"]
        np.testing.assert_allclose(view.remaining, known / market.order.quantity_shares, rtol=1e-6)
        np.testing.assert_allclose(
            view.in_flight_share, orders["in_flight_shares"] / market.order.quantity_shares, rtol=1e-6
        )
        assert np.array_equal(view.wave, orders["wave"])
        returned = np.divide(orders["returned_shares"], orders["sent_shares"], out=np.zeros(4), where=view.is_later)
        np.testing.assert_allclose(view.returned, np.minimum(returned, 1.0), atol=1e-6)
        assert np.all((view.returned > 0.0) == view.is_later), "a wave without shares"
        np.testing.assert_allclose(view.spread_bps, orders["observed_spread_bps"], rtol=1e-6, atol=1e-9)
        assert np.array_equal(view.busy, children_of(simulator)["shares"] > 0.0)
        assert np.array_equal(view.dark, np.broadcast_to([v.dark is not None for v in market.venues], view.dark.shape))
        np.testing.assert_allclose(view.slice_shares, orders["slice_shares"], rtol=3e-6, atol=1e-6 * even)
        np.testing.assert_allclose(view.offset_bps, venues["observed_offset_bps"], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(view.near_offset_bps, venues["observed_near_offset_bps"], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(view.fee_bps, np.broadcast_to(fees, view.fee_bps.shape), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(view.size_shares, venues["observed_shares"], rtol=1e-5, atol=1e-6 * even)
        latency = market.scales[2]
        np.testing.assert_allclose(view.latency_ms, venues["observed_latency_ms"], rtol=1e-5, atol=1e-6 * latency)
        np.testing.assert_allclose(view.fill_ratio, venues["fill_ratio"], rtol=1e-6)
        total = view.volume_share.sum(axis=1)
        assert np.all((np.abs(total - 1.0) < 1e-5) | (total == 0.0))
        assert np.all(view.slice_excess_bps >= 0.0) and np.all(view.slice_excess_bps.min(axis=1) == 0.0)
        check_prices(view, simulator, live)
        pace = None if not policy[1] else generator.random(4)
        live &= ~simulator.step(some_weights(generator, 4, market.n_venues), pace)[2]


@given(markets(), SEEDS)
@free
def test_nothing_hidden_goes_in(market, seed):
    """True quotes, latencies and what the path is about to do change no bit of the observation."""
    simulator, observer = begin(market, seed)
    before = observer.observe()
    hidden = "latency_ms offset_bps quote_shares next_ask_ticks next_log_shares u_change dark_shares tick_volume_shares"
    for name in hidden.split():
        venues_of(simulator)[name] *= 1.7
    hidden = (
        "next_price_bps tick_noise_bps smooth_move_bps news_bps news_ms drift_bps_per_s leak_bps log_volatility key"
    )
    for name in hidden.split():
        orders_of(simulator)[name] += 3
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
    core = RoutingCore("OrderSplit-v1", market, 512)
    core.seed(list(range(512)))
    rows = [core.reset()]
    k = core.market.n_venues
    for _ in range(core.market.order.horizon_steps - 1):
        rows.append(core.step(np.zeros((512, k)))[0])
    values = np.concatenate(rows)
    assert values.shape[1] == len(MARKET_FEATURES) + k * len(VENUE_FEATURES) == core.observation_space.shape[0]
    assert np.isfinite(values).all() and np.abs(values.mean(axis=0)).max() < 5 and values.std(axis=0).max() < 5


def two_levels(**order) -> SyntheticMarket:
    """Two venues on a grid of 1 bps, each with as much behind the touch as at it, half to three halves of it."""
    venue = {"offset_bps": 1.0, "size_shares": 100.0, "latency_ms": 1.0}
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400.0, "horizon_steps": 4, "step_s": 1.0, **order},
            "venues": [{"name": "A", "take_fee_bps": 0.3, **venue}, {"name": "B", "take_fee_bps": -0.1, **venue}],
            "quotes": {"tick_bps": 1.0, "level_profile": [1.0, 1.0]},
        }
    )


def test_a_sweep_by_hand():
    """A asks 1 (60 shares), 2 (30 to 90); B 1.5 (30), 2.5. All-in: A 1.3, 2.3; B 1.4, 2.4. The slice is 100."""
    for limit, offset, expected in (
        ("touch", None, [0.6, 0.3]),  # both touches, and 10 shares find no room
        ("sweep", 0.4, [0.6, 0.0]),  # B's touch is beyond the limit
        ("sweep", 0.5, [0.6, 0.3]),
        ("sweep", 1.0, [0.7, 0.3]),  # A's second level at 2
        ("sweep", None, [0.7, 0.3]),
    ):
        market = two_levels(limit=limit, limit_offset_bps=offset)
        simulator, observer = begin(market, 1, n=1)
        quotes = venues_of(simulator)
        quotes["observed_offset_bps"], quotes["observed_quote_shares"] = [[1.0, 1.5]], [[60.0, 30.0]]
        quotes["observed_shares"] = [[60.0, 30.0]]
        view = ObservationView.of(observer.observe(), market)
        np.testing.assert_allclose(view.sweep_share[0], expected, atol=1e-6)
        if limit == "touch":  # 100 at A: 60 at 1.3, 40 at the worst price shown, 1.4; at B: 30 at 1.4 and 70 at 1.4
            np.testing.assert_allclose(view.slice_excess_bps[0], [0.0, 1.4 - (0.6 * 1.3 + 0.4 * 1.4)], atol=1e-6)
            np.testing.assert_allclose(view.depth_shares, view.size_shares)
        if (limit, offset) == ("sweep", None):
            behind = view.depth_shares[0] - [60.0, 30.0]
            assert np.all((behind >= [29.0, 14.0]) & (behind <= [91.0, 46.0]))


def test_a_venue_with_a_child_in_flight_is_not_swept():
    market = two_levels()
    simulator, observer = begin(market, 1, n=1)
    children_of(simulator)["shares"] = [[5.0, 0.0]]
    orders_of(simulator)["in_flight"] = 1
    view = ObservationView.of(observer.observe(), market)
    assert view.sweep_share[0, 0] == 0.0 and view.sweep_share[0, 1] > 0.0


def test_a_touch_that_we_took_whole_does_not_hide_the_levels_behind_it():
    market = two_levels(limit="sweep")
    simulator, observer = begin(market, 3, n=1)
    all_in_a = np.array([[1.0, 0.0]])
    before = ObservationView.of(observer.observe(), market)
    simulator.overwrite(slice_shares=before.size_shares[0, 0])
    orders_of(simulator)["available_shares"] = before.size_shares[0, 0]
    simulator.overwrite(next_ask_ticks=simulator.read("ask_ticks"), next_log_shares=simulator.read("log_shares"))
    simulator.step(all_in_a)
    _, shares = books_of(simulator)
    assert shares.shape == (1, 2, 2) and shares[0, 0, 1] > 0.0
