"""The value of a place in a queue: published figures, the race simulated, its shape; the rule that rests by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import standard_rules
from sor_sb3.market.loading import load_market
from sor_sb3.policies.registry import GROUPS, rule_names
from sor_sb3.policies.rules.queue_value import execution_chance, queue_value, traded_first
from tests.policies.golden import GOLDEN

# trades at a rate of 1, half of them on the order's side, of 200 shares on average; jumps at .3, of which .4 go through
OF = {"trades_per_s": 0.5, "jumps_per_s": 0.3, "trade_shares": 200.0}
CONSTANTS = {"patience": 4, "ahead": 1.0, "jumps_per_s": 0.05, "jump_scales": 1.0}


def test_the_chances_of_execution():
    GOLDEN["queue_value"].check(chances=execution_chance([0, 200, 1000], through=0.4, **OF))


def test_the_race_between_trades_and_a_jump():
    rng, n, ahead = np.random.default_rng(0), 40_000, 300.0
    jump_at = rng.exponential(1.0 / 0.3, n)
    time, eaten, won = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
    for _ in range(60):
        time += rng.exponential(2.0, n)
        eaten += rng.exponential(200.0, n)
        won |= (eaten > ahead) & (time < jump_at)
    assert won.mean() == pytest.approx(float(traded_first(ahead, **OF)), abs=0.01)


@given(st.floats(0.0, 5000.0), st.floats(0.0, 5000.0), st.floats(0.1, 5.0), st.floats(0.0, 10.0))
def test_a_place_further_back_is_filled_less_and_is_worth_no_more(first, second, earns, jump):
    front, back = sorted((first, second))
    assert execution_chance(back, **OF) <= execution_chance(front, **OF) + 1e-12
    if jump >= earns:
        assert queue_value(earns, jump, back, **OF) <= queue_value(earns, jump, front, **OF) + 1e-12


def test_at_the_end_of_a_long_queue_only_jumps_fill():
    assert execution_chance(1e9, through=0.4, **OF) == pytest.approx(0.4)
    assert queue_value(1.0, 3.0, 1e9, through=0.4, **OF) == pytest.approx(0.4 * (1.0 - 3.0))
    assert traded_first(0.0, 0.0, 0.3, 200.0) == 0.0


def test_a_queue_without_jumps_is_always_traded():
    assert queue_value(0.7, 5.0, 1000.0, 0.5, 0.0, 200.0) == pytest.approx(0.7)


def test_the_rule_rests_where_a_place_is_worth_most():
    market = load_market("us_equity")
    core = RoutingCore("OrderPlace-v1", market, 32)
    core.seed(list(range(32)))
    rows = core.reset()
    view = ObservationView.of(rows, market)
    rule = routers.make("queue_value", market, "OrderPlace-v1", **CONSTANTS)
    worth = rule.attraction(view)
    assert (worth >= 0.0).all() and worth.any() and not worth[view.dark].any()
    resting = core.action_adapter.resting(rule.predict(rows)[0])
    some = worth.sum(axis=1) > 0.0
    shares = resting[some] / np.maximum(resting[some].sum(axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(shares, worth[some] / worth[some].sum(axis=1, keepdims=True), atol=1e-5)


def test_the_rule_is_run_by_name_where_orders_may_rest():
    market = load_market("us_equity")
    assert "queue_value" in rule_names(market, "OrderPlace-v1", GROUPS)
    assert "queue_value" not in standard_rules(market, "OrderPlace-v1")
    with pytest.raises(UserError, match="'queue_value' lets orders rest, which OrderSplit-v1 cannot"):
        routers.make("queue_value", market)
