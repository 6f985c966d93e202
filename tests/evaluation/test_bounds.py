"""The relaxed bound: no policy goes below it in any scenario of any market that ships; sometimes it is the optimum."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3 import routers
from sor_sb3.errors import UserError
from sor_sb3.evaluation.bounds import relaxed_bound
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.market.spec import SyntheticMarket
from tests.simulator.records import orders_of
from tests.simulator.test_promises import changed

N = 25
ENV_IDS = ("VenueSelect-v0", "OrderSplit-v0", "OrderExecute-v0")


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
    judge = Evaluator(env_id, market, N, seed=3)
    policies = judge.policies([market.oracle, *routers.rule_names(market)])
    policies.update({f"chance {seed}": Chance(judge.core.action_space, seed) for seed in range(5)})
    for policy in policies.values():
        judge.score("it", policy)
        assert np.all(judge.core.simulator.reduced_cost() >= bound - 1e-9), getattr(policy, "name", policy)


@pytest.mark.parametrize("options", [{"synchronise_arrivals": True}, {"lot_shares": 40.0}])
def test_it_holds_for_children_that_wait_or_come_late(options):
    market = changed(load_market("crypto"), order=options, venues={"latency_ms": lambda ms: 20 * ms})
    bound = relaxed_bound(market, "OrderSplit-v0", N)
    judge = Evaluator("OrderSplit-v0", market, N)
    in_flight = 0.0
    for policy in judge.policies(routers.rule_names(market)).values():
        judge.score("it", policy)
        in_flight += orders_of(judge.core.simulator)["in_flight"].sum()
        assert np.all(judge.core.simulator.reduced_cost() >= bound - 1e-9)
    assert in_flight > 0


def test_it_is_the_optimum_of_one_order_that_two_venues_share():
    """Still market, 200 shares in one step, books of 100 and 300 shares: the split at one marginal price, by hand."""
    still = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    venue = {"take_fee_bps": 0.0, "offset_bps": 1.0, "latency_ms": 0.0, "latency_sigma": 0.0, "walk_bps": 1.0}
    market = SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 200, "horizon_steps": 1, "step_s": 1},
            "venues": [{"name": "A", **venue, "size_shares": 100}, {"name": "B", **venue, "size_shares": 300}],
            "quotes": still,
            "mid": {"volatility_bps_per_sqrt_s": 0.0},
            "latency": {"tail_probability": 0.0},
        }
    )
    # f = 50 and 150, half of each book: 1 + 1 * .5 above the mid for all of it
    bound = relaxed_bound(market, "OrderSplit-v0", 1)[0]
    assert bound == pytest.approx(1.5, abs=0.02) and bound <= 1.5  # six tangents stand for the square


def test_the_notebooks_bound_is_its_optimum():
    assert relaxed_bound("notebook", "OrderSplit-v0", 2000).mean() == pytest.approx(1.7013, abs=0.01)


def test_recordings_and_limits_are_refused():
    with pytest.raises(UserError, match="without limits"):
        relaxed_bound(changed(load_market("crypto"), order={"limit_offset_bps": 1.0}), "OrderSplit-v0", 2)
