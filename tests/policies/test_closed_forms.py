"""Kratz and Schoeneborn, Cartea and Jaimungal: printed figures, the programmes' limits, and that nothing is better."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.evaluation.liquidation import best_policy, score_liquidation
from sor_sb3.market.liquidation import load_liquidation
from sor_sb3.policies.protocol import kind_of
from sor_sb3.policies.rules import cartea_jaimungal, kratz_schoeneborn

POOL, OFFERS = "dark_pool_liquidation", "limit_order_liquidation"
UNIT = (1.0, 1.0, 1.0)  # T, Lambda, a
OFFERED = (60.0, 50.0 / 60.0, 100.0, 0.001)  # tau, lambda, k, alpha


def market_of(model: str, **fields):
    return load_liquidation(model, model, fields)


# ---------------------------------------------------------------------------------------- beside a dark pool


@pytest.mark.parametrize(
    ("dark_fills", "cost", "holdings"),
    [
        (0.0, 1.3130, (0.6997, 0.4434, 0.2150)),
        (2.0, 0.5919, (0.8434, 0.6539, 0.3949)),
        (5.0, 0.2174, (0.9405, 0.8506, 0.6432)),
    ],
)
def test_the_cost_and_the_holdings_beside_a_pool(dark_fills, cost, holdings):
    assert kratz_schoeneborn.cost_of_position(*UNIT, dark_fills) == pytest.approx(cost, abs=5e-5)
    times = np.array([0.25, 0.5, 0.75])
    np.testing.assert_allclose(kratz_schoeneborn.holdings_until_filled(times, *UNIT, dark_fills), holdings, atol=5e-5)


def test_the_cost_solves_the_riccati_equation():
    step = 1e-5
    for time_left in (0.05, 0.3, 1.0, 4.0):
        at = lambda t: kratz_schoeneborn.cost_of_position(t, 2.0, 3.0, 1.5)  # noqa: E731
        slope = (at(time_left + step) - at(time_left - step)) / (2 * step)
        value = at(time_left)
        assert slope == pytest.approx(-(value**2 / 2.0 + 1.5 * value - 3.0), rel=1e-4, abs=1e-6)


def test_the_programme_beside_a_pool_meets_the_formula():
    market = market_of(POOL, horizon_steps=400)
    costs, sales = kratz_schoeneborn.programme(market)
    assert costs[0] == pytest.approx(0.5919, rel=0.005)
    left = np.cumprod(1.0 - sales)[[99, 199, 299]]
    np.testing.assert_allclose(left, (0.8434, 0.6539, 0.3949), rtol=0.005)
    coarse = [kratz_schoeneborn.programme(market_of(POOL, horizon_steps=n))[0][0] - 0.59189 for n in (100, 200, 400)]
    assert coarse[0] / coarse[1] == pytest.approx(2.0, abs=0.1) and coarse[1] / coarse[2] == pytest.approx(2.0, abs=0.1)


def test_more_dark_liquidity_is_slower_primary_trading_and_cheaper():
    costs, sales = zip(
        *(kratz_schoeneborn.programme(market_of(POOL, dark_fills_per_s=x)) for x in (0.0, 1.0, 4.0)), strict=True
    )
    assert costs[0][0] > costs[1][0] > costs[2][0]
    assert (sales[0][:-1] > sales[1][:-1]).all() and (sales[1][:-1] > sales[2][:-1]).all()


def test_a_rate_that_the_env_has_not_is_not_chosen():
    costs, sales = kratz_schoeneborn.programme(market_of(POOL, fastest=0.5))
    to_come = 20 - np.arange(20)
    assert (sales[:-1] == 0.5 / to_come[:-1]).all() and sales[-1] == 1.0
    assert costs[0] > kratz_schoeneborn.programme(market_of(POOL))[0][0]


# ---------------------------------------------------------------------------------------- by resting orders alone


@pytest.mark.parametrize(("lots", "depth"), [(1, 0.03960), (2, 0.03268), (3, 0.02864), (5, 0.02356)])
def test_the_best_depths(lots, depth):
    assert cartea_jaimungal.best_depth(lots, *OFFERED) == pytest.approx(depth, abs=5e-6)


@pytest.mark.parametrize(("lots", "value"), [(1, 0.02960), (2, 0.05228), (3, 0.07093)])
def test_the_values_of_lots(lots, value):
    assert cartea_jaimungal.value_of_lots(lots, *OFFERED) == pytest.approx(value, abs=5e-6)


def test_the_programme_of_offers_meets_the_formula():
    values, depths = cartea_jaimungal.programme(market_of(OFFERS, horizon_steps=600))
    assert values[0, 1:] == pytest.approx((0.02960, 0.05228, 0.07093), rel=0.005)
    assert depths[0, 1:] == pytest.approx((0.03960, 0.03268, 0.02864), rel=0.005)
    assert abs(values[0, 3] - 0.070926) < abs(cartea_jaimungal.programme(market_of(OFFERS))[0][0, 3] - 0.070926)


def test_the_depths_of_the_programme_are_the_best_of_a_grid():
    market = market_of(OFFERS, horizon_steps=6)
    values, depths = cartea_jaimungal.programme(market)
    grid = np.linspace(0.0, market.deepest, 20_001)
    chance = -np.expm1(-market.arrivals_per_s * market.step_s * np.exp(-market.depth_decay * grid))
    for j in range(6):
        for q in (1, 2, 3):
            tried = values[j + 1, q] + chance * (grid - values[j + 1, q] + values[j + 1, q - 1])
            assert values[j, q] >= tried.max() - 1e-12
            assert depths[j, q] == pytest.approx(grid[tried.argmax()], abs=1e-5)


def test_a_depth_that_the_env_has_not_is_not_chosen():
    _, depths = cartea_jaimungal.programme(market_of(OFFERS, deepest=0.02))
    assert depths.max() == 0.02 and (depths[0, 1:] == 0.02).all()
    _, urgent = cartea_jaimungal.programme(market_of(OFFERS, terminal_penalty=1.0))
    assert urgent[-1, 3] == 0.0


# ---------------------------------------------------------------------------------------- the policies in their envs


@pytest.mark.parametrize(("env", "model"), [("DarkPoolLiquidation-v1", POOL), ("LimitOrderLiquidation-v1", OFFERS)])
def test_the_best_policy_costs_what_the_programme_says_and_others_more(env, model):
    market = market_of(model)
    best = best_policy(market)
    assert kind_of(best) == "rule"
    own = score_liquidation(best, env, market, scenarios=6000)
    assert own.excess.mean == 0.0 and own.cost.ci95_low < own.optimal_cost < own.cost.ci95_high

    class Shifted:
        def __init__(self, shift: float) -> None:
            self.shift = shift

        def predict(self, rows, deterministic=True):
            return np.clip(best.predict(rows)[0] + self.shift, -1.0, 1.0), None

    for shift in (-0.25, 0.25):
        assert score_liquidation(Shifted(shift), env, market, scenarios=6000).excess.ci95_low > 0.0
