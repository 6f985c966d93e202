"""What latency does: arrivals, children in flight, outages, late feeds, held-back children; and what all that costs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from numba import njit

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.paths import arrival_state
from tests.simulator.market_strategies import SEEDS, markets, play, policies
from tests.simulator.records import orders_of, venues_of
from tests.simulator.test_promises import N, batch, changed, free, paired, shortfalls, slower


@njit
def _looked_up(state, member, k, elapsed_ms):
    market, b = state.market[member if state.market.size > 1 else 0], member // state.market[0].block_orders
    i = member % market.block_orders
    return arrival_state(state.blocks[b], i, i * market.n_venues + k, market, state.recording, elapsed_ms)


@given(markets(), SEEDS, policies())
@free
def test_looking_a_path_up_at_the_own_latency_gives_what_is_laid_down(market, seed, policy):
    simulator, steps = play(market, batch(seed), policy)
    for s in steps[:2]:
        orders_of(simulator).put(s.orders_before)
        venues_of(simulator).put(s.venues_before)
        for i in range(N):
            for k in range(market.n_venues):
                venue = s.venues_before[i, k]
                found = _looked_up(simulator.kernel_state(), i, k, venue["latency_ms"])
                laid = [venue[n] for n in ("touch_move_bps", "arrival_size_shares", "hidden_shares")]
                np.testing.assert_allclose(found, laid, rtol=1e-9, atol=1e-9)


def slow_market(**venue) -> SyntheticMarket:
    """One quiet venue 1.4 steps away and a near one; the mid stands still."""
    still = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    common = {"take_fee_bps": 0.0, "size_shares": 1000.0, "latency_sigma": 0.0, "toxicity": 0.0, "walk_bps": 0.0}
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400, "horizon_steps": 8, "step_s": 1.0},
            "venues": [
                {"name": "FAR", "offset_bps": 1.0, "latency_ms": 1400.0, **common, **venue},
                {"name": "NEAR", "offset_bps": 2.0, "latency_ms": 1.0, **common},
            ],
            "quotes": still,
            "mid": {"volatility_bps_per_sqrt_s": 0.0},
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
    market = changed(slow_market(), order={"horizon_steps": 1})
    simulator = start(market)
    simulator.step(FAR)
    order = orders_of(simulator)[0]
    assert order["cleanup_shares"] == 400.0 and order["remaining_shares"] == 0.0


def test_an_outage_is_learned_by_a_late_rejection():
    simulator = start(slow_market(latency_ms=10.0))
    venues_of(simulator)["outage"][0, 0] = 1
    far = venues_of(simulator)[0, 0]
    assert far["open"] == 1 and far["observed_shares"] > 0.0, "nobody says so"
    simulator.step(FAR)
    assert far["filled_shares"] == 0.0 and far["ack_ms"] == 2500.0 and far["reject"] == 0.0
    simulator.step(NEAR)
    assert far["reject"] == 0.0
    simulator.step(NEAR)
    assert far["reject"] == 1.0 and far["fill_ratio"] < 1.0 and orders_of(simulator)[0]["in_flight"] == 0


def test_a_feed_says_what_was_true_when_it_left():
    market = changed(load_market("crypto"), venues={"feed_latency_ms": 300.0}, latency={"congestions_per_hour": 0.0})
    simulator = BatchSimulator(market, 200)
    simulator.reset(np.arange(200, dtype=np.uint64), np.zeros(200, np.int64))
    before = venues_of(simulator).copy()
    simulator.step(np.full((200, 5), 0.2))
    now = venues_of(simulator)
    late = before["change_at"] > 0.7  # it changed within the last 300 ms of the step
    assert 0.2 < late.mean() < 0.4
    assert np.array_equal(now["observed_offset_bps"], np.where(late, before["offset_bps"], now["offset_bps"]))
    assert np.array_equal(now["observed_shares"], np.where(late, before["quote_shares"], now["quote_shares"]))


# ---------------------------------------------------------------------------------------- what it costs


@pytest.mark.parametrize("name", ["us_equity", "crypto"])
def test_latencies_times_three_and_ten_cost_more_each_time(name):
    """With fixed weights, at each market's own latencies; 95 % intervals of the paired differences are above zero."""
    market = load_market(name)
    costs = [shortfalls(slower(market, factor), 3000) for factor in (1, 3, 10)]
    for quick, slow in pairwise(costs):
        mean, error = paired(quick, slow)
        assert mean > 1.96 * error, f"{mean:.4f} +- {error:.4f}"


def test_news_alone_makes_latency_dear_at_microseconds():
    market = changed(load_market("us_equity"), venues={"toxicity": 0.0})
    costs = [shortfalls(slower(market, factor), 6000) for factor in (1, 3, 10)]
    for quick, slow in pairwise(costs):
        mean, error = paired(quick, slow)
        assert mean > 1.96 * error, f"{mean:.4f} +- {error:.4f}"


@pytest.mark.parametrize("name", ["us_equity", "tick_bound"])
def test_arriving_together_beats_leaving_together(name):
    market = load_market(name)
    together = changed(market, order={"synchronise_arrivals": True})
    mean, error = paired(shortfalls(market, 4000), shortfalls(together, 4000))
    assert mean < -1.96 * error, f"{mean:.4f} +- {error:.4f}"


def test_chasing_the_rebate_at_a_toxic_venue_loses_to_the_sweep():
    market = load_market("us_equity")
    assert isinstance(market, SyntheticMarket)
    cheapest = min(market.venues, key=lambda venue: venue.take_fee_bps)
    assert cheapest.toxicity == max(v.toxicity for v in market.venues)
    costs = []
    for router in (
        routers.make("best_fixed_venue", market, venue=cheapest.name),
        routers.make("all_in_sweep", market),
    ):
        core = RoutingCore("OrderSplit-v0", market, 1000, "test")
        core.seed(list(range(1000)))
        rows, done = core.reset(), np.zeros(1000, dtype=bool)
        while not done.all():
            rows, _, done = core.step(router.predict(rows)[0])
        costs.append(core.simulator.ledger()["shortfall"])
    mean, error = paired(costs[1], costs[0])
    assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"
