"""Where more may rest than is left: what is filled beyond the order is sold, and every promise about shares holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.envs.core import RoutingCore
from sor_sb3.evaluation.analysis import analyse
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, markets
from tests.simulator.records import orders_of, venues_of
from tests.simulator.test_promises import N, batch, changed, free
from tests.simulator.test_resting import begin, rest_at, still_market

MOST, COST_BPS = 2.5, 1.5


def overbooked(market: SyntheticMarket, most: float = MOST, cost_bps: float = COST_BPS) -> SyntheticMarket:
    return changed(market, order={"overbooking": {"most_ratio": most, "overfill_cost_bps": cost_bps}})


def run(market: SyntheticMarket, seeds: np.ndarray, policy: int, each=lambda simulator, live: None) -> BatchSimulator:
    """Orders under random takes and targets, which depend on step and seed alone; to their ends."""
    simulator, k = BatchSimulator(market, len(seeds), "test"), market.n_venues
    simulator.reset(seeds, np.zeros(len(seeds), dtype=np.int64))
    generators = [np.random.default_rng([policy, int(seed)]) for seed in seeds]
    live = np.ones(len(seeds), dtype=bool)
    total = np.zeros(len(seeds))
    while live.any():
        take = np.stack([g.dirichlet(np.ones(k)) for g in generators])
        rest = np.stack([g.dirichlet(np.ones(k)) * market.order.most_resting_ratio * g.random() for g in generators])
        pace = np.array([g.choice([0.0, 0.1 * g.random(), g.random()]) for g in generators])
        cost, _, done = simulator.step(take, pace, rest=rest)
        total += np.where(live, cost, 0.0)
        each(simulator, live)
        live &= ~done
    ledger = simulator.ledger()
    scale = 1.0 + sum(np.abs(part) for part in ledger.values())
    assert np.all(np.abs(total - ledger["shortfall"]) < 1e-9 * scale), "steps' costs do not add up to the ledger"
    return simulator


@given(markets(), SEEDS, st.integers(0, 2**32 - 1))
@free
def test_no_share_is_lost_and_the_ledger_is_what_was_paid(market, seed, policy):
    def count(simulator: BatchSimulator, live: np.ndarray) -> None:
        read = simulator.read
        quantity = read("quantity_shares")
        done = (read("episode_filled_shares") + read("episode_passive_shares")).sum(axis=1)
        whole = done + read("remaining_shares") + read("cleanup_shares")
        assert np.all(np.abs(whole - quantity) <= 1e-9 * quantity)
        assert np.all(read("remaining_shares") >= 0.0) or (read("wave") > 0).any()
        for field in ("rest_shares", "rest_cancel_shares", "available_shares", "slice_shares", "sent_shares"):
            assert np.all(read(field) >= 0.0), field
        unfilled = (read("child_shares") - read("child_filled_shares")).sum(axis=1)
        bound = read("available_shares") + read("resting_shares") - read("overbooked_shares")
        ended = (read("remaining_shares") <= 0.0) | (read("step") >= read("horizon_steps"))
        left = read("remaining_shares") - unfilled
        assert np.all((np.abs(bound - left) <= 1e-9 * quantity) | ended | ~live)
        assert np.all(done - quantity <= (MOST - 1.0 + 1e-9) * quantity), "more rested than may"

    simulator = run(overbooked(market), batch(seed), policy, count)
    read = simulator.read
    paid = read("fill_value_bps_shares") + read("cleanup_value_bps_shares")
    ledger = simulator.ledger()
    scale = 1.0 + sum(np.abs(part) for part in ledger.values())
    shortfall = paid / read("quantity_shares") + ledger["fee"]
    assert np.all(np.abs(ledger["shortfall"] - shortfall) < 1e-9 * scale), "the ledger is not what was paid"


@given(markets(), SEEDS, st.integers(0, 2**32 - 1), st.integers(0, N - 1))
@free
def test_same_bytes_again_and_alone(market, seed, policy, i):
    market = overbooked(market)
    first, again = (run(market, batch(seed), policy) for _ in range(2))
    assert orders_of(first).tobytes() == orders_of(again).tobytes()
    assert venues_of(first).tobytes() == venues_of(again).tobytes()
    lone = run(market, batch(seed)[i : i + 1], policy)
    for part, costs in lone.ledger().items():
        assert costs[0] == first.ledger()[part][i], part


@given(markets(), SEEDS, st.integers(0, 2**32 - 1))
@free
def test_the_cost_of_overfill_is_paid_on_overfill_alone(market, seed, policy):
    cheap, dear = (run(overbooked(market, cost_bps=cost), batch(seed), policy) for cost in (1.0, 4.0))
    excess = np.maximum(-cheap.read("cleanup_shares"), 0.0) / cheap.read("quantity_shares")
    gap = dear.ledger()["shortfall"] - cheap.ledger()["shortfall"]
    scale = 1.0 + sum(np.abs(part) for part in cheap.ledger().values())
    assert np.all(np.abs(gap - 3.0 * excess) < 1e-9 * scale)


def test_what_is_filled_beyond_the_order_is_sold() -> None:
    """150 rest for an order of 100, all are bought at -.5 and 50 are sold at the efficient price less 2 bps."""
    market = still_market(ahead_shares=10.0, sells_per_step=0.0, quantity_shares=100.0, horizon_steps=3)
    simulator = begin(overbooked(market, 1.5, 2.0), 4)
    rest_at(simulator, 1.5, 0.0)
    assert simulator.read("resting_shares") == pytest.approx(150.0)
    assert simulator.read("available_shares") == pytest.approx(0.0)
    simulator.overwrite(tick_outflow_shares=np.tile([1e4, 0.0], (4, 1)))
    rest_at(simulator, 1.5, 0.0)
    price = simulator.read("price_bps")  # stands still
    ledger = simulator.ledger()
    np.testing.assert_allclose(ledger["cleanup"], 0.5 * 2.0, rtol=1e-9)
    np.testing.assert_allclose(ledger["shortfall"], 1.5 * -0.5 - 0.5 * (price - 2.0), rtol=1e-9)
    np.testing.assert_allclose(simulator.read("cleanup_shares"), -50.0, rtol=1e-9)
    assert (simulator.read("remaining_shares") == 0.0).all() and (simulator.measures()["completion"] == 1.5).all()


def test_pushing_the_price_earns_nothing_on_what_is_sold() -> None:
    """A display that leaks moves the mid, not what the excess is sold at."""
    shortfalls = []
    for leak in (0.0, 1000.0):
        response = {"display_leakage_bps_per_1000_shares": leak, "leakage_half_life_s": 1.0}
        market = still_market(
            ahead_shares=0.001, sells_per_step=0.0, quantity_shares=100.0, horizon_steps=3, response=response
        )
        simulator = begin(overbooked(market, 2.0, 2.0), 4)
        simulator.overwrite(tick_outflow_shares=np.tile([1e4, 0.0], (4, 1)))
        rest_at(simulator, 2.0, 0.0)
        shortfalls.append(simulator.ledger()["shortfall"])
    np.testing.assert_allclose(shortfalls[1], shortfalls[0], rtol=1e-9)


def test_weights_of_what_rests_may_sum_to_the_ratio() -> None:
    market = still_market(ahead_shares=1e6, sells_per_step=1e-9, quantity_shares=100.0, horizon_steps=3)
    for most, rests in ((None, 100.0), (1.5, 150.0), (4.0, 200.0)):
        core = RoutingCore("OrderPlace-v1", market if most is None else overbooked(market, most), 1)
        core.reset()
        rows, _, _ = core.step([[0.0, 0.0, 1.0, 1.0, -1.0]])
        assert core.simulator.read("resting_shares")[0] == pytest.approx(rests)
        assert rows[0, 1] == 1.0, "what is not known to be filled is the order"


class RestsAll:
    """As much as may rest, everywhere alike."""

    kind = "rule"

    def __init__(self, n_venues: int) -> None:
        self.action = np.array([*np.zeros(n_venues), *np.ones(n_venues), -1.0], dtype=np.float32)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.tile(self.action, (len(observation), 1)), state


def test_an_overfilled_order_is_analysed_as_what_it_paid() -> None:
    """The desk's measures, made from the log of fills, give the ledger's shortfall."""
    settings = {"order.overbooking.most_ratio": 5.0, "order.overbooking.overfill_cost_bps": 1.0}
    market = load_market("us_equity", settings | {"order.quantity_shares": 500, "order.lot_shares": None})
    evaluator = Evaluator("OrderPlace-v1", market, 40)
    scores = evaluator.score("rests all", RestsAll(market.n_venues), record=True)
    log = scores.children
    assert (log.cleanup_shares < 0.0).any()
    done = (log.filled_shares + log.passive_shares).sum(axis=(1, 2)) + log.cleanup_shares
    np.testing.assert_allclose(done, 500.0, rtol=1e-9)
    np.testing.assert_allclose(analyse(log).parents["shortfall_bps"], scores.cost[0], atol=1e-6)


def test_what_variance_reduction_leaves_out_has_mean_zero() -> None:
    """Where all rests, more than all, or what is too much waits to be sold."""
    market = changed(overbooked(load_market("us_equity"), 5.0), order={"quantity_shares": 1000.0, "lot_shares": None})
    simulator = run(market, np.arange(3000, dtype=np.uint64), 1)
    noise = simulator.read("noise_cost")
    assert (simulator.read("cleanup_shares") < 0.0).mean() > 0.05
    assert abs(noise.mean()) < 4.0 * noise.std() / np.sqrt(len(noise))
    plain = simulator.ledger()["shortfall"]
    assert (plain - noise).var() < plain.var()
