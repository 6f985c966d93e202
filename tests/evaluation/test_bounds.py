"""The relaxed bound: no policy goes below it in any scenario of any market that ships; sometimes it is the optimum."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.evaluation.bounds import bounded_cost, relaxed_bound
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.oracles.snapshot import Continuation, SnapshotOracle
from sor_sb3.simulator.views import Truth
from tests.simulator.test_promises import changed

N = 15
ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1")


class Chance:
    """Actions drawn from the whole space, vertices and corners included."""

    name = "chance"

    def __init__(self, space, seed: int) -> None:
        self.space, self.rng = space, np.random.default_rng(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if hasattr(self.space, "n"):
            return self.rng.integers(self.space.n, size=len(observation)), state
        actions = self.rng.uniform(-1, 1, (len(observation), *self.space.shape))
        corners = self.rng.random(actions.shape) < 0.3
        return np.where(corners, np.sign(actions), actions).astype(np.float32), state


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("name", preset_names())
def test_no_policy_goes_below_it(name, env_id):
    market = load_market(name)
    bound = relaxed_bound(market, env_id, N, seed=3)
    core, seeds = RoutingCore(env_id, market, N, "test"), list(range(3, 3 + N))
    policies = {rule: routers.make(rule, market, env_id) for rule in routers.rule_names(market)}
    policies["oracle"] = SnapshotOracle(core, Continuation(2.0 * market.scales[0]))
    policies |= {f"chance {seed}": Chance(core.action_space, seed) for seed in range(3)}
    for called, policy in policies.items():
        assert np.all(bounded_cost(core, policy, seeds) >= bound - 1e-9), called


@pytest.mark.parametrize("options", [{"synchronise_arrivals": True}, {"lot_shares": 0.05}, {"waves": 3}])
def test_it_holds_for_children_that_wait_or_come_late(options):
    market = changed(load_market("crypto"), order=options, venues={"latency_ms": lambda ms: 20 * ms})
    bound = relaxed_bound(market, "OrderSplit-v1", N)
    core, seeds = RoutingCore("OrderSplit-v1", market, N, "test"), list(range(10_000, 10_000 + N))
    for rule in routers.rule_names(market):
        assert np.all(bounded_cost(core, routers.make(rule, market), seeds) >= bound - 1e-9), rule
    core.reset()
    while Truth(core.simulator).step.max() < 3:
        core.step(np.ones((N, market.n_venues)))
    assert Truth(core.simulator).in_flight.sum() > 0, "no child is late"


def still_market(**order) -> SyntheticMarket:
    """Two venues that never move, 100 and 300 shares at 1 bps and as much a tick behind, for 500 shares in one step."""
    still = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    venue = {"take_fee_bps": 0.0, "offset_bps": 1.0, "latency_ms": 0.0, "latency_sigma": 0.0}
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 500, "horizon_steps": 1, "step_s": 1, "limit": "sweep", **order},
            "venues": [{"name": "A", **venue, "size_shares": 100}, {"name": "B", **venue, "size_shares": 300}],
            "quotes": still | {"tick_bps": 1.0, "level_profile": (1.0, 1.0)},
            "price": {"volatility_bps_per_sqrt_s": 0.0},
            "latency": {"tail_probability": 0.0},
        }
    )


def test_it_is_the_optimum_of_one_order_that_two_venues_share():
    """By hand: 400 shares at the touch and at least 50, 150 at the most, of the 100 that are left a tick behind it."""
    bound = relaxed_bound(still_market(), "OrderSplit-v1", 20)
    core = RoutingCore("OrderSplit-v1", still_market(lot_shares=5.0), 20, "test")
    oracle = SnapshotOracle(core, Continuation())
    cost = bounded_cost(core, oracle, list(range(10_000, 10_020)))
    touch = Truth(core.simulator).offset_bps.min(axis=1)  # the venues stand on the same grid
    np.testing.assert_allclose(bound, (400 * touch + 100 * (touch + 1.0)) / 500, atol=1e-5)
    np.testing.assert_allclose(cost, bound, atol=1e-5)


def test_what_it_bounds_is_the_shortfall_in_the_mean():
    """What the bounded cost leaves out has mean 0, children that ride on the noise included."""
    market = changed(load_market("us_equity"), order={"horizon_steps": 5, "quantity_shares": 1250.0})
    core = RoutingCore("OrderSplit-v1", market, 20_000, "test")
    cost = bounded_cost(core, routers.make("round_robin", market), list(range(20_000)))
    left_out = core.simulator.ledger()["shortfall"] - cost
    error = left_out.std() / np.sqrt(left_out.size)
    assert abs(left_out.mean()) < 3.0 * error
    assert left_out.std() > 0.5, "nothing is left out"


def test_the_notebooks_bound_is_its_optimum():
    assert relaxed_bound("notebook", "OrderSplit-v1", 2000).mean() == pytest.approx(1.7013, abs=0.01)


def test_what_rests_is_refused():
    with pytest.raises(UserError, match="lets orders rest"):
        relaxed_bound("us_equity", "OrderPlace-v1", 2)
