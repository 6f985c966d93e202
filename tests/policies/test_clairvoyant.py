"""The clairvoyant: no policy is ever cheaper, on any scenario, and its plan costs what it says."""

from __future__ import annotations

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.oracles.clairvoyant import Clairvoyant, compositions
from sor_sb3.policies.oracles.placement import PlacementOracle
from sor_sb3.policies.oracles.snapshot import SnapshotOracle

ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1")


def small_market(**order) -> SyntheticMarket:
    """A lit venue, a dark pool and an inverted one; three decisions of two lots."""
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 600.0, "horizon_steps": 3, "step_s": 1.0, "lot_shares": 100.0, **order},
            "venues": [
                {"name": "LIT", "take_fee_bps": 0.3, "offset_bps": 1.0, "size_shares": 200, "latency_ms": 5.0},
                {"name": "INV", "take_fee_bps": -0.1, "offset_bps": 1.2, "size_shares": 100, "latency_ms": 700.0},
                {
                    "name": "MID",
                    "take_fee_bps": 0.1,
                    "latency_ms": 20.0,
                    "dark": {
                        "zero_probability": 0.5,
                        "power_exponent": 0.8,
                        "max_shares": 500,
                        "leakage_bps_per_1000_shares": 1.0,
                    },
                },
            ],
            "price": {"volatility_bps_per_sqrt_s": 1.0, "drift_sd_bps_per_s": 0.2},
            "informed": {"news_per_s": 0.5, "jump_bps": 2.0},
            "response": {
                "reaction_time_ms": 10.0,
                "permanent_impact_bps_per_1000_shares": 0.5,
                "transient_impact_bps_per_1000_shares": 1.0,
            },
        }
    )


def test_compositions_are_all_there_are():
    assert compositions(2, 2).tolist() == [[2, 0], [1, 1], [0, 2]]
    assert len(compositions(5, 4)) == 56 and np.all(compositions(5, 4).sum(axis=1) == 5)
    assert len(np.unique(compositions(5, 4), axis=0)) == 56


def played(core: RoutingCore, policy, seeds: list[int]) -> np.ndarray:
    core.seed(list(seeds))
    rows, done = core.reset(), np.zeros(core.n, dtype=bool)
    while not done.all():
        rows, _, ended = core.step(policy(rows))
        done |= ended
    return core.simulator.ledger()["shortfall"]


@pytest.mark.parametrize("waves", [1, 2])
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_no_policy_is_ever_cheaper(env_id, waves):
    few = (env_id == "OrderExecute-v1") + (waves > 1)  # these have far more choices
    market, seeds = small_market(waves=waves, quantity_shares=(600.0, 300.0, 200.0)[few]), list(range(25))
    core = RoutingCore(env_id, market, len(seeds), "test")
    clairvoyant = Clairvoyant(core)
    bound = played(core, lambda rows: clairvoyant.predict(rows)[0], seeds)
    rng = np.random.default_rng(0)
    others = {name: routers.make(name, market, env_id) for name in routers.rule_names(market)}
    others["snapshot_oracle"] = SnapshotOracle(core)
    gains = []
    for name, router in others.items():
        cost = played(core, lambda rows, r=router: r.predict(rows)[0], seeds)
        assert np.all(cost >= bound - 1e-6), name
        gains.append((cost - bound).mean())
    for _ in range(20):
        cost = played(core, lambda rows: np.stack([core.action_space.sample() for _ in rows]), seeds)
        assert np.all(cost >= bound - 1e-6)
        core.action_space.seed(int(rng.integers(1 << 31)))
    assert min(gains) > 0.01, "the bound says nothing"


@pytest.mark.parametrize("lots", [2, 3])
def test_no_policy_is_ever_cheaper_where_orders_may_rest(lots):
    """All that a few lots can do at two venues: rules, the oracle and random actions are never cheaper."""
    small = small_market(quantity_shares=100.0 * lots, horizon_steps=4 - lots // 3).model_dump()
    small["venues"] = [v | {"make_fee_bps": -0.1, "volume_share": 0.5} for v in small["venues"][:2]]
    small["volume"] = {"shares_per_day": 23_400.0 * 150.0}  # the queue and we are met in a second or two
    market, seeds = SyntheticMarket.model_validate(small), list(range(20))
    core = RoutingCore("OrderPlace-v1", market, len(seeds), "test")
    clairvoyant = Clairvoyant(core)
    bound = played(core, lambda rows: clairvoyant.predict(rows)[0], seeds)
    passive = core.simulator.read("episode_passive_shares").sum()
    assert 0.0 < passive < 100.0 * lots * len(seeds), "rests, and takes"
    rules = ("post_and_sweep", "join_pro_rata", "cont_kukanov", "passive_only", "net_price_sweep")
    others = {name: routers.make(name, market, core.env_id) for name in rules}
    others["placement_oracle"] = PlacementOracle(core)
    gains = []
    for name, router in others.items():
        cost = played(core, lambda rows, r=router: r.predict(rows)[0], seeds)
        assert np.all(cost >= bound - 1e-6), name
        gains.append((cost - bound).mean())
    generator = np.random.default_rng(0)
    for _ in range(60):
        low = generator.choice([-1.0, 0.0])
        cost = played(core, lambda rows, low=low: generator.uniform(low, 1.0, (len(rows), 5)), seeds)
        assert np.all(cost >= bound - 1e-6)
    assert min(gains) > 0.01, "the bound says nothing"


def test_the_evaluator_runs_it_by_name():
    result = sor_sb3.evaluate(
        {"clairvoyant": "clairvoyant", "net_price_sweep": "net_price_sweep"}, market=small_market(), scenarios=10
    )
    assert np.all(result.scores["clairvoyant"].cost <= result.scores["net_price_sweep"].cost + 1e-6)
    assert result.scores["clairvoyant"].kind == "oracle"


def test_a_split_without_lots_is_refused():
    with pytest.raises(UserError, match="lot_shares"):
        Clairvoyant(RoutingCore("OrderSplit-v1", small_market(lot_shares=None), 1))
    Clairvoyant(RoutingCore("VenueSelect-v1", small_market(lot_shares=None), 1))


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "OrderPlace-v1"])
def test_a_large_market_is_refused_in_a_sentence(env_id):
    market = small_market(lot_shares=1.0) if env_id == "OrderSplit-v1" else "us_equity"
    core = RoutingCore(env_id, market, 1)
    with pytest.raises(UserError, match="fewer venues, steps or lots"):
        Clairvoyant(core).predict(core.reset())


def test_it_wants_the_beginning_of_an_episode():
    core = RoutingCore("OrderSplit-v1", small_market(), 1)
    core.reset()
    rows, _, _ = core.step(np.ones((1, 3)))
    with pytest.raises(UserError, match="middle of an episode"):
        Clairvoyant(core).predict(rows)
