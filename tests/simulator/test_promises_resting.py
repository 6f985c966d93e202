"""What is promised of queues alone: who stands before us, who trades with us, and what is paid for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, Step, markets, play, policies
from tests.simulator.test_promises import N, batch, changed, free
from tests.simulator.test_resting import rest_at, still_market


def one_tick_a_step(market: SyntheticMarket) -> SyntheticMarket:
    """So that the state before a step says what sellers hit in it."""
    return changed(market, order={"step_s": market.path_dt_s}, randomise={})


def before(played: BatchSimulator, step: Step) -> BatchSimulator:
    """Another simulator in the state before a step."""
    simulator = played.branch(np.arange(N))
    simulator.set_state(step.state_before)
    return simulator


def passive_shares(simulator: BatchSimulator, step: Step) -> np.ndarray:
    """What the step's actions fill at rest, by venue, of orders that are not over; (n, K)."""
    simulator.step(step.weights, step.pace, rest=step.rest)
    return simulator.read("passive_shares")[step.live]


def at_most(less: np.ndarray, more: np.ndarray, market: SyntheticMarket) -> bool:
    """Rounding apart."""
    return bool(np.all(less <= more * (1.0 + 1e-9) + 1e-12 * market.order.quantity_shares))


@given(markets(), SEEDS, policies(rests=True))
@free
def test_a_larger_queue_before_us_never_fills_us_more(market, seed, policy):
    """Before the orders that rest, and at the near touches that others will join."""
    played, steps = play(market, batch(seed), policy)
    generator, k = np.random.default_rng(policy.seed), market.n_venues
    for s in steps[::2]:
        simulator = before(played, s)
        waits = (simulator.read("rest_shares") > 0.0) & (simulator.read("rest_arrives_ms") < 0.0)
        more = generator.standard_exponential((N, k)) * generator.choice([0.0, 1.0, 100.0, 1e5], (N, k))
        longer = np.where(waits, np.repeat(more, waits.shape[1] // k, axis=1), 0.0)
        grown = generator.standard_exponential((N, k)) * generator.choice([0.0, 1.0], (N, k))
        names = ("near_fast", "near_log_shares", "next_near_log_shares")
        larger = {name: simulator.read(name) + grown for name in names}
        simulator.overwrite(rest_ahead_shares=simulator.read("rest_ahead_shares") + longer, **larger)
        assert at_most(passive_shares(simulator, s), s.venues["passive_shares"][s.live], market)


@pytest.mark.parametrize("trade_shares", [None, 70.0])
def test_of_queues_of_any_length_a_longer_one_never_fills_us_more(trade_shares):
    """The same seeds with each, some of whom cancel: nor does a longer one ever become the shorter one."""
    market = still_market(
        ahead_shares=1e4,
        sells_per_step=0.0,
        quantity_shares=200.0,
        horizon_steps=4,
        volume={"trade_shares": trade_shares},
        response={"cancel_half_life_s": 1.0},
    )
    ahead, seeds = np.tile(np.linspace(0.0, 1000.0, 300), 40), np.repeat(np.arange(40, dtype=np.uint64), 300)
    simulator = BatchSimulator(market, len(seeds), "test")
    simulator.reset(seeds, np.zeros(len(seeds), dtype=np.int64))
    rest_at(simulator, 1.0, 0.0)
    waits = simulator.read("rest_shares") > 0.0
    simulator.overwrite(rest_ahead_shares=np.where(waits, ahead[:, None], 0.0), tick_outflow_shares=[[500.0, 0.0]])
    rest_at(simulator, 1.0, 0.0)
    filled = simulator.read("episode_passive_shares")[:, 0].reshape(40, 300)
    left = np.where(waits, simulator.read("rest_ahead_shares"), 0.0).sum(axis=1).reshape(40, 300)
    assert (np.diff(filled, axis=1) <= 1e-9).all() and (np.diff(left, axis=1) >= -1e-9).all()
    assert (filled[:, 0] == 200.0).all() and (filled.min(axis=1) < 200.0).any()


@given(markets(), SEEDS, policies(rests=True))
@free
def test_a_smaller_outflow_never_fills_us_more(market, seed, policy):
    played, steps = play(market, batch(seed), policy)
    generator, shape = np.random.default_rng(policy.seed), (N, market.n_venues)
    for s in steps[::2]:
        simulator = before(played, s)
        part = generator.choice([0.0, 0.5, 1.0], shape) * generator.random(shape)
        simulator.overwrite(tick_outflow_shares=part * simulator.read("tick_outflow_shares"))
        assert at_most(passive_shares(simulator, s), s.venues["passive_shares"][s.live], market)


@given(markets(), SEEDS, policies(rests=True))
@free
def test_a_market_that_trades_less_never_fills_us_more(market, seed, policy):
    """In the first step, after which the two have other orders at rest."""
    part = np.random.default_rng(policy.seed).random()
    quieter = changed(market, volume={"shares_per_day": lambda shares: part * shares})
    step, less = (play(one, batch(seed), policy)[1][0] for one in (market, quieter))
    assert at_most(less.venues["passive_shares"], step.venues["passive_shares"], market)


@given(markets(), SEEDS, policies(rests=True))
@free
def test_fees_are_paid_on_what_traded_and_on_nothing_else(market, seed, policy):
    """And nothing trades but with sellers at the venue, or where the price falls through the order's own."""
    market = one_tick_a_step(market)
    simulator, steps = play(market, batch(seed), policy)
    take, make = simulator.read("take_fee_bps"), simulator.read("make_fee_bps")
    dark = np.array([venue.dark is not None for venue in market.venues])
    for s in steps:
        filled, passive = s.venues["filled_shares"], s.venues["passive_shares"]
        paid = (s.orders["fee_cost"] - s.orders_before["fee_cost"]) * market.order.quantity_shares
        owed = np.sum(filled * take + passive * make, axis=1)
        scale = np.sum(filled * np.abs(take) + passive * np.abs(make), axis=1) + market.order.quantity_shares
        assert np.all((np.abs(paid - owed) <= 1e-11 * scale)[s.live])
        keys = np.where(s.rests["rest_number"] > 0.0, s.rests["rest_key"], -np.inf).reshape(N, market.n_venues, -1)
        highest = s.orders["grid_bps"][:, None] + market.quotes.tick_bps * keys.max(axis=2)
        falls = s.orders_before["next_price_bps"][:, None] < highest + 1e-9
        there = np.where(dark, s.venues_before["dark_shares"] - s.venues_before["taken_shares"] - filled, 0.0)
        there = np.where(dark, there, s.venues_before["tick_outflow_shares"])
        within = passive <= np.maximum(there, 0.0) * (1.0 + 1e-9) + 1e-9
        assert np.all(within | (falls & ~dark) | ~s.live[:, None]), "filled without a seller"
