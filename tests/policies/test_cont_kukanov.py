"""Cont and Kukanov's placement: published numbers, first-order conditions, and the rule that follows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.loading import load_market
from sor_sb3.policies.rules.cont_kukanov import PlacementCosts, allocate, allocate_to_one
from tests.policies.golden import GOLDEN

H, FEE, REBATE, UNDERFILL, OVERFILL = 0.02, 0.003, 0.002, 0.026, 0.024


def costs(*rebates: float, impact: float = 0.0) -> PlacementCosts:
    return PlacementCosts(H + FEE, H + np.array(rebates), UNDERFILL, OVERFILL, impact)


def drawn(*means: float, n: int = 40_000) -> np.ndarray:
    return np.random.default_rng(0).poisson(means, (n, len(means))).astype(float)


def test_the_numbers_of_one_venue():
    """By integer enumeration of the program, shares of 1,000 behind 2,000 where Poisson(2200) are sold."""
    market, limit = allocate_to_one(1000.0, 2000.0, costs(REBATE), poisson(2200).ppf)
    placement = allocate(1000.0, np.array([2000.0]), costs(REBATE), drawn(2200))
    GOLDEN["cont_kukanov"].check(market=market, limit=limit, cost=placement.cost)
    assert placement.market_shares == pytest.approx(market, abs=2)


def test_impact_moves_shares_to_the_market():
    given = costs(REBATE, impact=0.0005)
    assert allocate_to_one(1000.0, 2000.0, given, poisson(2200).ppf) == (731, 269)
    assert allocate(1000.0, np.array([2000.0]), given, drawn(2200)).market_shares == pytest.approx(731, abs=2)


@pytest.mark.parametrize(
    ("queues", "means", "rebates", "impact", "market", "cost"),
    [
        ((2000, 2000), (2200, 2200), (REBATE, REBATE), 0.0, 497, 5.3966),
        ((2000, 1000), (2200, 1100), (REBATE, 0.003), 0.0, 610, 9.7432),
        ((2000, 2000), (2200, 2200), (REBATE, REBATE), 0.0005, 499, 6.0077),
    ],
)
def test_two_venues_cost_what_the_exact_convolution_says(queues, means, rebates, impact, market, cost):
    """The optimum is flat in what rests (385/385 and 348/286 exactly), so its cost is compared."""
    given = costs(*rebates, impact=impact)
    placement = allocate(1000.0, np.array(queues, float), given, drawn(*means), iterations=600)
    assert placement.cost == pytest.approx(cost, rel=0.01)
    assert placement.market_shares == pytest.approx(market, abs=5)
    assert placement.market_shares + placement.limit_shares.sum() > 1000.0  # overbooked


def test_without_overbooking_the_placement_holds_the_order_and_costs_no_less():
    queues, flows = np.array([2000.0, 2000.0]), drawn(2200, 2200)
    free, held = (allocate(1000.0, queues, costs(REBATE, REBATE), flows, overbook=o) for o in (True, False))
    assert held.market_shares + held.limit_shares.sum() == pytest.approx(1000.0)
    assert held.cost >= free.cost - 1e-9


def test_nothing_is_taken_where_missing_shares_cost_less_than_taking():
    cheap = PlacementCosts(0.02, np.array([0.01, 0.01]), 0.01, 0.02)
    placement = allocate(500.0, np.array([100.0, 100.0]), cheap, drawn(300, 300))
    assert placement.market_shares == pytest.approx(0.0, abs=2.0)
    certain = allocate(500.0, np.array([1e9, 1e9]), costs(REBATE, REBATE), drawn(300, 300))
    assert certain.cost == pytest.approx(500.0 * (H + FEE), rel=0.01)  # flat: a missing share costs little more


def _slopes(shares: float, queues: Any, given: PlacementCosts, flows: Any, market: float, limits: Any) -> np.ndarray:
    """Derivatives of the mean cost from its first-order conditions, by M and each L."""
    filled = market + np.clip(flows - queues, 0.0, limits).sum(axis=1)
    short, reached = filled < shares, flows > queues + limits
    spread = given.underfill + given.overfill + given.impact
    by_market = given.taking + given.impact + given.overfill - spread * short.mean()
    over = given.overfill - given.resting_gain
    by_limit = given.impact + over * reached.mean(axis=0) - spread * (short[:, None] & reached).mean(axis=0)
    return np.array([by_market, *by_limit])


def test_first_order_conditions_hold_on_random_instances():
    """Slopes of the cost are not negative a little above the optimum and not positive a little below it.

    They are taken apart, since the cost has a kink where all that is filled is the order exactly.
    """
    generator = np.random.default_rng(1)
    for _ in range(50):
        k = int(generator.integers(2, 6))
        shares, means = generator.uniform(200, 2000), generator.uniform(200, 3000, k)
        queues = means * generator.uniform(0.3, 1.2, k)
        taking, gains = generator.uniform(0.5, 1.5), generator.uniform(0.3, 1.2, k)
        given = PlacementCosts(taking, gains, taking * generator.uniform(1.1, 3.0), generator.uniform(0.5, 2.0), 0.01)
        flows = generator.gamma(2.0, means / 2.0, (4000, k))
        placement = allocate(shares, queues, given, flows, iterations=800)
        point = np.array([placement.market_shares, *placement.limit_shares])
        aside, tolerance = 0.02 * shares, 0.02 * (given.underfill + given.overfill + given.impact)
        for at in range(1 + k):
            for sign in (1.0, -1.0):
                moved = point.copy()
                moved[at] += sign * aside
                if 0.0 <= moved[at] <= shares:
                    slope = _slopes(shares, queues, given, flows, moved[0], moved[1:])[at]
                    assert sign * slope > -tolerance


def test_the_rule_places_what_the_schedule_wants_and_rests_where_it_takes_nothing_else():
    market = load_market("us_equity")
    rule = routers.make("cont_kukanov", market, "OrderPlace-v1", patience=4, underfill=1.5)
    core = RoutingCore("OrderPlace-v1", market, 64)
    core.seed(list(range(64)))
    rows, order = core.reset(), market.order
    for _ in range(12):
        view = ObservationView.of(rows, market)
        placed = rule.placement(view)
        decisions = np.rint(view.time_left * order.horizon_steps)
        ahead = np.clip(decisions - 2, 1, 4)
        left = view.remaining - view.in_flight_share
        wanted = np.maximum(left - (decisions - ahead) / order.horizon_steps, 0.0) * order.quantity_shares
        assert (placed >= 0.0).all() and (placed.sum(axis=1) <= wanted + 1e-6).all()
        assert not placed[:, 1:][view.dark | ~view.open].any()
        weights = rule.resting(view)
        assert (weights.sum(axis=1) <= 1.0 + 1e-12).all()
        rows, _, _ = core.step(rule.predict(rows)[0])
    assert (core.simulator.read("episode_passive_shares").sum(axis=1) > 0.0).mean() > 0.9


def test_the_rule_overbooks_where_the_market_lets_it():
    """More rests in all than it wants done, up to the ratio; where too much is dear, no more than without."""
    most, sums = 2.0, {}
    for cost_bps in (None, 0.1, 1e4):
        settings: dict[str, Any] = {"order.lot_shares": None}
        if cost_bps is not None:
            settings |= {"order.overbooking.most_ratio": most, "order.overbooking.overfill_cost_bps": cost_bps}
        market = load_market("us_equity", settings)
        core = RoutingCore("OrderPlace-v1", market, 50)
        core.seed(list(range(50)))
        rule = routers.make("cont_kukanov", market, "OrderPlace-v1", patience=8, underfill=2.0)
        view = ObservationView.of(core.reset(), market)
        weights = rule.resting(view)
        assert (weights >= 0.0).all() and (weights.sum(axis=1) <= most + 1e-9).all()
        sums[cost_bps] = weights.sum(axis=1)
    assert sums[0.1].mean() > 1.1 * sums[None].mean()
    assert sums[1e4].mean() < 1.05 * sums[None].mean()
