"""OrderPlace: its actions, what they send, and that no share is lost or created whatever is asked."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.action_adapters import OrderPlace
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from tests.simulator.test_resting import still_market

ENV = "OrderPlace-v1"
VENUES = ("NYSE", "ARCA", "POOL")


# ------------------------------------------------------------------------------------------------------ actions


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_weights_and_pace_come_back_as_they_were_encoded(k, seed):
    generator = np.random.default_rng(seed)
    take, rest = (generator.dirichlet(np.ones(k + 1), size=5)[:, :k] for _ in range(2))
    pace, adapter = generator.uniform(size=5), OrderPlace(k)
    actions = adapter.encode(take, pace, rest)
    assert actions.dtype == np.float32 and actions.shape == (5, 2 * k + 1)
    assert all(row in adapter.space for row in actions)
    weights, its_pace = adapter.decode(actions)
    np.testing.assert_allclose(weights, take, atol=2e-6)
    np.testing.assert_allclose(its_pace, pace, atol=2e-7)
    np.testing.assert_allclose(adapter.resting(actions), rest, atol=2e-6)


def test_sums_below_one_hold_back_and_sums_above_are_scaled_down():
    adapter = OrderPlace(3, VENUES)
    row = [0.2, -0.7, 0.3, 0.9, 0.9, 0.0, -1.0]
    weights, pace = adapter.decode(np.array([row]))
    np.testing.assert_allclose(weights, [[0.2, 0.0, 0.3]], rtol=1e-15)
    np.testing.assert_allclose(adapter.resting(np.array([row])), [[0.5, 0.5, 0.0]], rtol=1e-15)
    assert pace.tolist() == [0.0]
    huge = np.array([[1e308, 1e308, 0.0, 0.0, 0.0, 0.0, 3.0]])
    np.testing.assert_allclose(adapter.decode(huge)[0], [[0.5, 0.5, 0.0]])
    assert adapter.decode(huge)[1].tolist() == [1.0]


def test_weights_that_float32_rounds_below_one_hold_nothing_back():
    take = np.full((1, 7), 1.0 / 7.0)
    weights, _ = OrderPlace(7).decode(OrderPlace(7).encode(take))
    assert weights.sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (1, np.nan, "to take at venue ARCA is nan"),
        (3, np.inf, "to rest at venue NYSE is inf"),
        (5, -np.inf, "to rest at venue POOL is -inf"),
        (6, np.nan, "the pace is nan"),
    ],
)
def test_what_is_no_number_is_refused_with_its_venue(at, value, what):
    actions = np.zeros((2, 7))
    actions[1, at] = value
    with pytest.raises(UserError, match=rf"{ENV}: the action of row 1 {what}; expected a finite number"):
        OrderPlace(3, VENUES).decode(actions)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(UserError, match="expected 2 rows of 7"):
        OrderPlace(3, VENUES).decode(np.zeros((2, 4)), 2)


# --------------------------------------------------------------------------------------------- what they send


def test_a_constant_action_keeps_its_place_and_sends_nothing_more():
    market = still_market(ahead_shares=5000.0, sells_per_step=20.0, quantity_shares=1000.0, horizon_steps=8)
    core = RoutingCore(ENV, market, 16)
    core.seed(list(range(16)))
    core.reset()
    action = np.tile([0.0, 0.0, 0.5, 0.25, -1.0], (16, 1))
    core.step(action)
    first = {name: core.simulator.read(name) for name in ("rest_number", "rest_shares", "rest_key")}
    ahead = core.simulator.read("rest_ahead_shares")
    assert np.array_equal(core.simulator.read("rest_total_shares"), np.tile([500.0, 250.0], (16, 1)))
    assert (ahead.max(axis=1) > 0.0).all()
    for _ in range(5):
        core.step(action)
        for name, value in first.items():
            assert np.array_equal(core.simulator.read(name), value), name
        assert not core.simulator.read("rest_cancel_shares").any()
        assert (core.simulator.read("rest_ahead_shares") <= ahead).all()
        ahead = core.simulator.read("rest_ahead_shares")


def test_a_full_target_in_float32_loses_no_lot():
    market = still_market(ahead_shares=5000.0, sells_per_step=1e-6, quantity_shares=1000.0, horizon_steps=8)
    lots = market.order.model_copy(update={"lot_shares": 10.0})
    core = RoutingCore(ENV, market.model_copy(update={"order": lots}), 1)
    core.reset()
    action = np.array([[0.0, 0.0, 0.7, 0.3, -1.0]], dtype=np.float32)
    assert float(action[0, 2]) < 0.7
    for _ in range(3):
        core.step(action)
        assert core.simulator.read("rest_total_shares")[0].tolist() == [700.0, 300.0]
        assert core.simulator.read("rest_number")[0].max() == 1.0


def test_a_smaller_target_takes_from_the_youngest_and_the_eldest_keeps_its_place():
    market = still_market(ahead_shares=5000.0, sells_per_step=1e-6, quantity_shares=1000.0, horizon_steps=8)
    core = RoutingCore(ENV, market, 1)
    core.reset()
    for weight in (0.3, 0.5, 0.3):
        core.step(np.array([[0.0, 0.0, weight, 0.0, -1.0]]))
    shares, number = core.simulator.read("rest_shares")[0], core.simulator.read("rest_number")[0]
    np.testing.assert_allclose(shares[shares > 0.0], [300.0])
    assert number[shares > 0.0].tolist() == [1.0]


@settings(deadline=None, max_examples=3)
@given(st.sampled_from(["us_equity", "dark", "crypto"]), st.integers(0, 2**32 - 1))
def test_random_actions_lose_and_create_no_share(name, seed):
    _play_and_count(name, seed, 100)


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(st.sampled_from(["us_equity", "dark", "crypto", "tick_bound"]), st.integers(0, 2**32 - 1))
def test_ten_thousand_random_actions_lose_and_create_no_share(name, seed):
    _play_and_count(name, seed, 1000)


def _play_and_count(name: str, seed: int, actions: int) -> None:
    market, generator = load_market(name), np.random.default_rng(seed)
    core, quantity = RoutingCore(ENV, market, 5), market.order.quantity_shares
    core.seed([seed + i for i in range(5)])
    core.reset()
    action = np.zeros((5, 2 * market.n_venues + 1))
    for _ in range(actions // 5):
        drawn = generator.uniform(-1.0, 1.0, action.shape) * generator.choice([1.0, 0.2])
        action = np.where(generator.uniform(size=(5, 1)) < 0.5, drawn, action)  # some orders wait in their queues
        _, _, done = core.step(action)
        read = core.simulator.read
        filled = (read("episode_filled_shares") + read("episode_passive_shares")).sum(axis=1)
        np.testing.assert_allclose(filled + read("remaining_shares") + read("cleanup_shares"), quantity, rtol=1e-9)
        unfilled = (read("child_shares") - read("child_filled_shares")).sum(axis=1)
        running = ~done
        held = read("available_shares") + unfilled + read("resting_shares")
        np.testing.assert_allclose(held[running], read("remaining_shares")[running], rtol=1e-9, atol=1e-9 * quantity)
        assert (read("rest_shares").sum(axis=1) <= read("resting_shares") + 1e-9 * quantity)[running].all()
        for field in ("rest_shares", "rest_cancel_shares", "rest_ahead_shares", "child_shares", "available_shares"):
            assert (read(field) >= 0.0).all(), field
        ledger = core.simulator.ledger()
        assert np.isfinite(ledger["shortfall"]).all()
        if done.any():
            core.reset(np.flatnonzero(done))


def test_a_lone_env_equals_a_member_of_a_batch():
    venv = sor_sb3.make_vec_env(ENV, market="us_equity", n_envs=3, seed=0)
    make_single = lambda i: gym.make(f"sor_sb3:{ENV}", market="us_equity")  # noqa: E731
    sor_sb3.check_vec_env(venv, steps=90, make_single=make_single)


@pytest.mark.parametrize("market", ["us_equity", "crypto"])
def test_rules_that_only_take_cost_what_they_cost_in_order_execute(market):
    spec = load_market(market)
    costs = {}
    for env in ("OrderExecute-v1", ENV):
        names = [name for name in routers.rule_names(spec, "OrderExecute-v1") if name != "random"]
        policies = {name: routers.make(name, spec, env) for name in names if not name.startswith("dark")}
        result = sor_sb3.evaluate(policies, env=env, market=spec, scenarios=20)
        costs[env] = {name: scores.cost for name, scores in result.scores.items()}
    for name, cost in costs[ENV].items():
        np.testing.assert_allclose(cost, costs["OrderExecute-v1"][name], rtol=0, atol=1e-9, err_msg=name)


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("env", ["VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1"])
def test_a_rule_that_posts_is_refused_where_nothing_rests(env):
    with pytest.raises(UserError, match=f"'post_and_sweep' lets orders rest, which {env} cannot; take OrderPlace-v1"):
        routers.make("post_and_sweep", "us_equity", env)
    assert "post_and_sweep" not in routers.rule_names(load_market("us_equity"), env)


def test_a_market_without_traded_volume_is_refused():
    silent = load_market("us_equity", {"volume.shares_per_day": 0})
    for market, remedy in (("notebook", "take another market"), (silent, "set volume.shares_per_day")):
        with pytest.raises(UserError, match=f"publishes no traded volume, which fills what rests; {remedy}"):
            sor_sb3.make_vec_env(ENV, market=market, n_envs=2)


def test_there_are_no_masks():
    with pytest.raises(AttributeError, match="has no action masks"):
        sor_sb3.make_vec_env(ENV, n_envs=2).env_method("action_masks")
