"""Price discretion against latency: the formulas, and the simulator's fills beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import evaluate
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.rules.discretion import (
    best_discretion_bps,
    discretion_bps,
    fill_chance,
    move_sd_bps,
    observed_volatility,
    shadow_price_bps,
    walking_cost_bps,
    with_discretion,
)


@given(st.floats(0.01, 0.99), st.floats(0.01, 50.0))
def test_a_discretion_fills_as_often_as_it_was_made_for(ratio, sd_bps):
    assert fill_chance(discretion_bps(ratio, sd_bps), sd_bps) == pytest.approx(ratio, abs=1e-9)


def test_fills_and_walking_cost_of_simulated_moves():
    moves = np.random.default_rng(1).normal(0.0, 2.0, 400_000)
    for discretion in (0.0, 1.0, 3.0):
        filled = moves <= discretion
        assert filled.mean() == pytest.approx(fill_chance(discretion, 2.0), abs=0.003)
        assert np.where(filled, np.maximum(moves, 0.0), 0.0).mean() == pytest.approx(
            walking_cost_bps(discretion, 2.0), abs=0.01
        )


def test_the_shadow_price_grows_with_the_root_of_latency():
    price = lambda ms: shadow_price_bps(0.9, 2.0, ms, 1e-9)  # noqa: E731
    assert price(40.0) / price(10.0) == pytest.approx(2.0, rel=1e-3)
    assert shadow_price_bps(0.9, 2.0, 10.0, 10.0) == 0.0 and shadow_price_bps(0.9, 2.0, 10.0, 5.0) > 0.0
    assert shadow_price_bps(0.95, 2.0, 10.0, 1.0) > shadow_price_bps(0.6, 2.0, 10.0, 1.0)


@given(st.floats(0.1, 1.0), st.floats(0.0, 5.0))
def test_no_other_discretion_is_cheaper(reverting, miss_cost):
    """The mean cost of all discretions, for normal moves: paid now, or less of the move and the miss cost later."""
    moves = np.linspace(-8.0, 8.0, 4001)
    density = np.exp(-0.5 * moves**2)
    best = best_discretion_bps(miss_cost, reverting)
    cost = lambda d: (np.where(moves <= d, moves, (1 - reverting) * moves + miss_cost) * density).sum()  # noqa: E731
    assert all(cost(best) <= cost(best + shift) + 1e-9 for shift in (-1.0, -0.1, 0.1, 1.0))


def test_where_moves_last_any_price_is_right():
    assert best_discretion_bps(1.0, 0.0) == math.inf


def slow_market(limit_offset_bps: float) -> SyntheticMarket:
    """Deep books without noise that follow a price of 4 bps a root second, a quarter of a second away."""
    venue = {"take_fee_bps": 0.0, "offset_bps": 5.0, "size_shares": 1e6, "latency_ms": 250.0, "latency_sigma": 0.0}
    venue |= {"feed_latency_ms": 0.0, "toxicity": 0.0}
    quiet = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    order = {"quantity_shares": 2000.0, "horizon_steps": 20, "step_s": 2.0, "limit": "sweep"}
    return SyntheticMarket.model_validate(
        {
            "order": order | {"limit_offset_bps": limit_offset_bps},
            "path_dt_s": 0.25,
            "venues": [{"name": name, **venue} for name in "AB"],
            "quotes": {**quiet, "tick_bps": 0.01, "level_profile": [1.0]},
            "price": {"volatility_bps_per_sqrt_s": 4.0},
            "latency": {"tail_probability": 0.0},
        }
    )


def test_the_simulator_fills_as_often_as_the_discretion_says():
    sd_bps = move_sd_bps(4.0, 250.0)
    rates = []
    for ratio in (0.5, 0.8, 0.95):
        market = slow_market(max(discretion_bps(ratio, sd_bps), 0.0))
        scores = evaluate({"rule": "round_robin"}, market=market, scenarios=100).scores["rule"]
        rates.append(scores.mean("fill_rate"))
    assert rates == pytest.approx([0.5, 0.8, 0.95], abs=0.06)


def test_a_market_gets_the_limit_that_its_latency_needs():
    market = slow_market(0.0)
    volatility = observed_volatility(market, 64)
    assert volatility == pytest.approx(4.0, rel=0.1)
    often = with_discretion(market, 0.9)
    assert often.order.limit == "sweep"
    assert often.order.limit_offset_bps == pytest.approx(discretion_bps(0.9, move_sd_bps(4.0, 250.0)), rel=0.1)
    assert with_discretion(market, 0.5).order.limit_offset_bps == 0.0


@pytest.mark.parametrize("ratio", [0.0, 1.0, math.nan, -1.0])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(UserError, match="expected a number between 0 and 1"):
        discretion_bps(ratio, 1.0)
    with pytest.raises(UserError, match=r"expected a number from 0.5"):
        with_discretion(load_market("us_equity"), ratio)


def test_costs_without_prices_have_no_limit():
    with pytest.raises(UserError, match="has costs and no prices"):
        with_discretion(load_market("notebook"), 0.9)
    with pytest.raises(UserError, match="expected a share from 0 to 1"):
        best_discretion_bps(1.0, 2.0)
