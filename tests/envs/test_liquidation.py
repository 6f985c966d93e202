"""Envs of closed-form markets: their dynamics, what they refuse, and the three adapters."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sor_sb3
from sor_sb3.envs import LIQUIDATION_MARKETS
from sor_sb3.envs.liquidation import LiquidationCore
from sor_sb3.errors import UserError
from sor_sb3.market.liquidation import load_liquidation

DARK, LIMIT = LIQUIDATION_MARKETS
each = pytest.mark.parametrize(("env_id", "model"), LIQUIDATION_MARKETS.items())


def market_of(env_id: str, **fields):
    model = LIQUIDATION_MARKETS[env_id]
    return load_liquidation(model, model, fields)


@each
def test_it_is_an_env_of_every_adapter(env_id, model):
    env = gym.make(f"sor_sb3:{env_id}")
    rows, _ = env.reset(seed=5)
    many = gym.make_vec(f"sor_sb3:{env_id}", num_envs=3)
    assert np.array_equal(many.reset(seed=5)[0][0], rows) and rows.tolist() == [
        1.0,
        1.0,
        pytest.approx(1 / horizon(model)),
    ]
    venv = sor_sb3.make_vec_env(env_id, market=model, n_envs=3, seed=0)
    sor_sb3.check_vec_env(venv, steps=130, make_single=lambda i: gym.make(f"sor_sb3:{env_id}"))


def horizon(model: str) -> int:
    return load_liquidation(model, model).horizon_steps


@each
def test_a_scenario_does_not_depend_on_the_batch_nor_on_the_other_splits(env_id, model):
    costs = {}
    for n, split in ((1, "train"), (4, "train"), (4, "test")):
        core = LiquidationCore(env_id, model, n, split)
        core.seed(list(range(n)))
        core.reset()
        rewards = [core.step(np.zeros((n, *core.action_adapter.shape)))[1] for _ in range(horizon(model))]
        costs[n, split] = np.array(rewards)
    assert np.array_equal(costs[1, "train"][:, 0], costs[4, "train"][:, 0])
    assert not np.array_equal(costs[4, "train"], costs[4, "test"])


@given(st.floats(-1.0, 1.0), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_without_a_pool_the_cost_is_that_of_the_sales(action, seed):
    """The ledger by hand: a rate of r even paces sells r / d of what is left, and the last decision all."""
    market = market_of(DARK, dark_fills_per_s=0.0, horizon_steps=4, impact=2.0, risk=3.0, fastest=2.0)
    core = LiquidationCore(DARK, market, 1)
    core.seed([seed])
    core.reset()
    rate, left, cost, earned = 0.5 * (action + 1.0), 1.0, 0.0, 0.0
    for j in range(4):
        sold = left if j == 3 else min(2.0 * rate / (4 - j), 1.0) * left
        cost += 2.0 * sold**2 / 0.25 + 3.0 * 0.25 * 0.5 * (left**2 + (left - sold) ** 2)
        left -= sold
        _, reward, done = core.step([[action, 1.0]])
        earned += float(reward[0])
    assert done[0] and -earned == pytest.approx(cost, rel=1e-5)
    assert core.episode_infos(np.zeros(1, np.int64))[0]["cost"] == pytest.approx(cost)


def test_the_pool_fills_the_dark_share_as_often_as_it_should():
    core = LiquidationCore(DARK, DARK_MODEL, 20_000)
    core.seed(list(range(core.n)))
    core.reset()
    rows, _, _ = core.step(np.tile([-0.5, 0.2], (core.n, 1)))  # .25 * 3 / 20 is sold, .6 of the rest lies in the pool
    filled = np.isclose(rows[:, 1], 0.9625 * 0.4)
    assert np.isclose(rows[~filled, 1], 0.9625).all()
    assert filled.mean() == pytest.approx(1.0 - np.exp(-2.0 / 20), abs=0.01)


DARK_MODEL, LIMIT_MODEL = LIQUIDATION_MARKETS.values()


def test_an_offer_is_filled_as_often_as_it_should_and_earns_its_depth():
    core = LiquidationCore(LIMIT, LIMIT_MODEL, 20_000)
    core.seed(list(range(core.n)))
    core.reset()
    rows, rewards, _ = core.step(np.full((core.n, 1), -0.8))  # depth .01
    filled = np.isclose(rows[:, 1], 2 / 3)
    assert np.allclose(rewards, 0.01 * filled)
    assert filled.mean() == pytest.approx(1.0 - np.exp(-50 / 60 * np.exp(-1.0)), abs=0.01)


def test_what_is_left_at_the_end_is_sold_at_a_penalty():
    core = LiquidationCore(LIMIT, market_of(LIMIT, deepest=10.0), 2)
    core.reset()
    for _ in range(60):
        _, rewards, done = core.step(np.ones((2, 1)))  # too deep to be filled
    assert done.all() and rewards == pytest.approx([-0.009, -0.009])


@each
def test_state_can_be_put_back(env_id, model):
    core = LiquidationCore(env_id, model, 5)
    core.reset()
    action = np.zeros((5, *core.action_adapter.shape))
    core.step_and_reset(action)
    state = core.get_state()
    first = [core.step_and_reset(action)[1] for _ in range(40)]
    core.set_state(state)
    assert np.array_equal(first, [core.step_and_reset(action)[1] for _ in range(40)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"market": "us_equity"}, "market 'us_equity' is no closed-form market; expected 'dark_pool_liquidation'"),
        ({"market": "dark_pool_liquidatio"}, r"did you mean 'dark_pool_liquidation'\?"),
        ({"market": LIMIT_MODEL}, "field 'model' is 'limit_order_liquidation'; expected 'dark_pool_liquidation'"),
        ({"market": DARK_MODEL, "risk_aversion": 1.0}, "has no risk_aversion, which is of envs that route"),
        ({"market": DARK_MODEL, "variance_reduction": True}, "has no variance_reduction"),
        ({"market": DARK_MODEL, "n_envs": 8, "envs_per_scenario": 4}, "has no envs_per_scenario above 1"),
        ({"market": DARK_MODEL, "data_split": "final"}, "data_split 'final' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        sor_sb3.make_vec_env(DARK, **options)


@pytest.mark.parametrize("action", [[[0.0]], [[np.nan, 0.0]], [["a", "b"]], [[0.0, 0.0]] * 2])
def test_an_action_that_is_none_is_refused(action):
    core = LiquidationCore(DARK, DARK_MODEL, 1)
    core.reset()
    with pytest.raises(UserError, match=f"{DARK}: "):
        core.step(action)


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(UserError, match="stepped before its first reset"):
        LiquidationCore(DARK, DARK_MODEL, 1).step([[0.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: dark_pool_liquidation\nhorizon_steps: 4\n", "field 'horizon_s' is missing"),
        ("model: dark_pool_liquidation\nhorizon_steps: 0\n", "horizon_steps"),
        ("model: notebook\n", "field 'model' is 'notebook'; expected 'dark_pool_liquidation'"),
        ("- 1\n", "field 'model' is None"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_liquidation(file, DARK_MODEL)


def test_a_setting_that_is_no_field_is_refused():
    with pytest.raises(UserError, match="has no field 'impcat'"):
        market_of(DARK, impcat=1.0)
