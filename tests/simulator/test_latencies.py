"""What latency does: arrivals, children in flight, outages, late feeds, held-back children; and what all that costs."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, markets, play, policies
from tests.simulator.records import orders_of, venues_of
from tests.simulator.test_promises import batch, changed, free
from tests.simulator.test_promises_in_the_mean import FADE, brisk_market, paired, shortfalls, slower


@given(markets(), SEEDS, policies())
@free
def test_a_child_arrives_after_its_latency_and_is_answered_after_as_long_again(market, seed, policy):
    """Unless an outage or a hold makes it later; the speed bump is on the way in alone."""
    market = changed(market, order={"synchronise_arrivals": False})
    _, steps = play(market, batch(seed), policy)
    bump_ms = np.array([venue.speed_bump_ms for venue in market.venues])
    for s in steps:
        new = s.live[:, None] & (s.venues["sent_shares"] > 0.0)
        latency_ms, answer_ms = s.venues_before["latency_ms"], s.venues["ack_ms"]
        assert np.all(latency_ms >= bump_ms)
        expected_ms = 2.0 * latency_ms - bump_ms
        on_time = new & (s.venues_before["outage"] == 0)
        ends = s.live & ~s.done & (s.orders["wave"] == 0)  # the whole decision has passed
        if market.path_dt_s == market.order.step_s:
            np.testing.assert_allclose(answer_ms[on_time], expected_ms[on_time], rtol=1e-12, atol=1e-9)
        assert np.all(answer_ms[new] >= expected_ms[new] * (1 - 1e-12) - 1e-9)
        left_ms = 1e3 * market.order.step_s - s.orders_before["elapsed_ms"]
        heard = new & ends[:, None] & (answer_ms <= left_ms[:, None] * (1 - 1e-9))
        assert np.all(s.children["shares"][heard] == 0.0), "an answer that was due is not heard"
        unheard = new & ends[:, None] & (answer_ms > left_ms[:, None] * (1 + 1e-9))
        assert np.all(s.children["shares"][unheard] == s.venues["sent_shares"][unheard]), "an answer came too early"


def slow_market(**venue) -> SyntheticMarket:
    """One quiet venue 1.4 steps away and a near one; nothing moves."""
    still = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    common = {"take_fee_bps": 0.0, "size_shares": 1000.0, "latency_sigma": 0.0, "toxicity": 0.0}
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400, "horizon_steps": 8, "step_s": 1.0},
            "path_dt_s": 0.5,
            "venues": [
                {"name": "FAR", "offset_bps": 1.0, "latency_ms": 1400.0, **common, **venue},
                {"name": "NEAR", "offset_bps": 2.0, "latency_ms": 1.0, **common},
            ],
            "quotes": still,
            "price": {"volatility_bps_per_sqrt_s": 0.0},
            "latency": {"tail_probability": 0.0},
            "response": {"outage_reject_ms": 2500.0},
        }
    )


def start(market) -> BatchSimulator:
    simulator = BatchSimulator(market, 1)
    simulator.reset(np.zeros(1, np.uint64), np.zeros(1, np.int64))
    return simulator


FAR, NEAR = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])


def test_a_child_in_flight_by_hand():
    simulator = start(slow_market())
    order, far, near = orders_of(simulator)[0], venues_of(simulator)[0, 0], venues_of(simulator)[0, 1]
    simulator.step(FAR)  # 50 shares leave at 0 s, arrive at 1.4 s, are acknowledged at 2.8 s
    assert (order["in_flight"], order["in_flight_shares"], order["available_shares"]) == (1, 50.0, 350.0)
    assert far["filled_shares"] == 0.0 and far["ack_ms"] == 2800.0
    simulator.step(np.array([[0.5, 0.5]]))  # 50 more are due: FAR is busy, so half of them wait
    assert far["sent_shares"] == 0.0 and near["filled_shares"] == 25.0
    assert far["filled_shares"] == 50.0, "it arrives in this step"
    assert order["remaining_shares"] == 325.0 and order["available_shares"] == 325.0
    assert order["in_flight_shares"] == 50.0, "nobody has heard"
    simulator.step(NEAR)  # the schedule wants 150 by now: 25 have been heard of, and 50 are on their way
    assert near["filled_shares"] == 75.0 and order["in_flight"] == 0 and far["fill_ratio"] == 1.0
    simulator.step(FAR)
    assert far["sent_shares"] == 50.0, "it takes children again"


def test_a_child_that_would_arrive_after_the_deadline_is_cleaned_up():
    simulator = start(changed(slow_market(), order={"horizon_steps": 1}))
    simulator.step(FAR)
    order = orders_of(simulator)[0]
    assert order["cleanup_shares"] == 400.0 and order["remaining_shares"] == 0.0 and order["in_flight"] == 0


def test_an_outage_is_learned_by_a_late_rejection():
    simulator = start(slow_market(latency_ms=10.0))
    venues_of(simulator)["outage"][0, 0] = 1
    far = venues_of(simulator)[0, 0]
    assert far["open"] == 1 and far["observed_shares"] > 0.0, "nobody says so"
    simulator.step(FAR)
    assert far["filled_shares"] == 0.0 and far["ack_ms"] == 2510.0 and far["reject"] == 0.0
    simulator.step(NEAR)
    assert far["reject"] == 0.0
    simulator.step(NEAR)
    assert far["reject"] == 1.0 and far["fill_ratio"] < 1.0 and orders_of(simulator)[0]["in_flight"] == 0


def test_what_a_venue_is_on_arrival_counts():
    """Of two children on the way one finds its venue closed, and comes back after the usual time."""
    simulator = start(slow_market())
    simulator.step(FAR)
    venues_of(simulator)["open"][0, 0] = 0
    far = venues_of(simulator)[0, 0]
    simulator.step(NEAR)
    assert far["filled_shares"] == 0.0 and orders_of(simulator)[0]["in_flight"] == 1
    simulator.step(NEAR)
    assert orders_of(simulator)[0]["in_flight"] == 0 and far["reject"] == 0.0 and far["fill_ratio"] < 1.0


def test_a_feed_says_what_was_true_when_it_left():
    """Quotes change at times that are even over a tick of a second: three in ten are heard too late."""
    market = changed(load_market("crypto"), venues={"feed_latency_ms": 300.0}, latency={"congestions_per_hour": 0.0})
    late, venue = changed(market, order={"step_s": market.path_dt_s}, price={"volatility_bps_per_sqrt_s": 0.0}), 0.3
    late = changed(late, price={"drift_sd_bps_per_s": 0.0, "jumps_per_hour": 0.0}, informed={"news_per_s": 0.0})
    simulator = BatchSimulator(late, 400)
    simulator.reset(np.arange(400, dtype=np.uint64), np.zeros(400, np.int64))
    before = venues_of(simulator).copy()
    simulator.step(np.full((400, 5), 0.2))
    now = venues_of(simulator)
    stale = before["u_change"] > 1.0 - venue / late.path_dt_s  # the price stands still, so that no quote waits for it
    assert 0.2 < stale.mean() < 0.4
    old = np.exp(before["log_shares"])
    np.testing.assert_allclose(now["observed_quote_shares"][stale], old[stale], rtol=1e-9)
    np.testing.assert_allclose(now["observed_quote_shares"][~stale], now["quote_shares"][~stale], rtol=1e-9)
    assert not np.allclose(now["observed_quote_shares"][stale], now["quote_shares"][stale])


def test_in_a_later_wave_fast_feeds_have_news_and_slow_ones_have_not():
    market = changed(brisk_market(), order={"waves": 2, "wave_timeout_ms": 45.0, "limit": "touch"})
    market = changed(market, venues={"feed_latency_ms": 0.0, "latency_ms": 20.0}, quotes={"size_fast_sd": 1.0})
    shown = []
    for feed_ms in (0.0, 5000.0):
        simulator = BatchSimulator(changed(market, venues={"feed_latency_ms": feed_ms}), 300, "test")
        simulator.reset(np.arange(300, dtype=np.uint64), np.zeros(300, np.int64))
        before = simulator.read("observed_ask_bps")
        simulator.step(np.tile([1.0, 0.0, 0.0, 0.0], (300, 1)))
        later = simulator.read("wave") == 1
        assert later.sum() > 30
        shown.append(np.mean(simulator.read("observed_ask_bps")[later] != before[later]))
    assert shown[0] > 0.05 and shown[1] == 0.0


# ---------------------------------------------------------------------------------------- what it costs


def test_arriving_together_beats_leaving_together_where_venues_answer():
    """Venues at different distances: the farther ones have not answered yet."""
    apart = brisk_market(venues={"latency_sigma": 0.0, **FADE["venues"]})
    together = changed(apart, order={"synchronise_arrivals": True})
    mean, error = paired(*(shortfalls(market, 6000, reduced=True) for market in (apart, together)))
    assert mean < -4 * error, f"{mean:.4f} +- {error:.4f}"


def test_latencies_times_ten_cost_more():
    """With fixed weights, at the preset's own latencies; the 95 % interval of the paired difference is above zero."""
    market = load_market("us_equity")
    mean, error = paired(*(shortfalls(slower(market, factor), 4000, reduced=True) for factor in (1, 10)))
    assert mean > 1.96 * error, f"{mean:.4f} +- {error:.4f}"


def test_chasing_the_rebate_at_a_toxic_venue_loses_to_the_sweep():
    market = load_market("us_equity")
    assert isinstance(market, SyntheticMarket)
    cheapest = min(market.venues, key=lambda venue: venue.take_fee_bps)
    costs = []
    for router in (
        routers.make("best_fixed_venue", market, venue=cheapest.name),
        routers.make("net_price_sweep", market),
    ):
        core = RoutingCore("OrderSplit-v1", market, 1000, "test")
        core.seed(list(range(1000)))
        rows, done = core.reset(), np.zeros(1000, dtype=bool)
        while not done.all():
            rows, _, ended = core.step(router.predict(rows)[0])
            done |= ended
        costs.append(core.simulator.ledger()["shortfall"])
    mean, error = paired(costs[1], costs[0])
    assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"
