"""The placement oracle: it equals the best of all placements of a decision, and no rule beats it on average."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Scores, standard_rules
from sor_sb3.evaluation.results import beyond_oracle
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.oracles import placement
from sor_sb3.policies.oracles.clairvoyant import compositions
from sor_sb3.policies.oracles.placement import Patience, PlacementOracle, fitted_patience, plan, prospect
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

ENV = "OrderPlace-v1"
LOT = 100.0
_SLOW = [
    ("us_equity", 0.2),
    ("us_equity", 1.0),
    ("us_equity", 3.0),
    ("crypto", 3.0),
    ("dark", 1.0),
    ("tick_bound", 1.0),
]


def random_market(rng: np.random.Generator, steps: int = 1) -> SyntheticMarket:
    """Two or three venues, one perhaps dark, and two to four lots; queues short enough that what rests may fill."""
    venues = []
    for k in range(int(rng.integers(2, 4))):
        venue = {
            "name": f"V{k}",
            "take_fee_bps": float(rng.choice([-0.3, 0.0, 0.3])),
            "make_fee_bps": float(rng.choice([-0.2, 0.0, 0.3])),
            "latency_ms": float(rng.choice([0.1, 0.3, 50.0])),
            "toxicity": float(rng.choice([0.0, 0.3, 1.0])),
            "impact": float(rng.uniform(0.0, 2.0)),
        }
        if k > 0 and rng.random() < 0.25:
            venue["dark"] = {"zero_probability": 0.3, "power_exponent": 0.5, "max_shares": 400.0}
        else:
            venue |= {
                "offset_bps": float(rng.uniform(0.3, 2.0)),
                "size_shares": float(rng.uniform(40.0, 300.0)),
                "hidden_fraction": float(rng.choice([0.0, 0.5])),
                "mid_probability": float(rng.choice([0.0, 0.5])),
                "quote_delay_s": float(rng.choice([0.0, 1.0])),
                "halts_per_hour": float(rng.choice([0.0, 10.0])),
                "volume_share": float(rng.uniform(0.2, 1.0)),
            }
        venues.append(venue)
    lots = int(rng.integers(2, 5))
    return SyntheticMarket.model_validate(
        {
            "order": {
                "quantity_shares": LOT * lots * steps,
                "horizon_steps": steps,
                "step_s": 3.0,
                "lot_shares": LOT,
                "limit": str(rng.choice(["touch", "sweep"])),
            },
            "venues": venues,
            "order_protection": bool(rng.random() < 0.5),
            "quotes": {
                "tick_bps": float(rng.choice([0.5, 1.0])),
                "round_lot_shares": 100.0,
                "level_profile": (1.0, 1.5),
            },
            "price": {"volatility_bps_per_sqrt_s": 1.0},
            "informed": {"news_per_s": float(rng.choice([0.0, 0.3])), "jump_bps": 2.0},
            "volume": {"shares_per_day": 150.0 * 23400, "day_s": 23400, "noise_sd": 0.7, "side_correlation": 0.9},
            "response": {
                "reaction_time_ms": 0.2,
                "permanent_impact_bps_per_1000_shares": 0.5,
                "transient_impact_bps_per_1000_shares": 2.0,
                "cancel_half_life_s": 5.0,
            },
        }
    )


def begun(market: SyntheticMarket, seed: int) -> BatchSimulator:
    simulator = BatchSimulator(market, 1)
    simulator.reset(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.int64))
    return simulator


def cheapest_of_all(simulator: BatchSimulator) -> tuple[float, int]:
    """Lowest cost of the last decision over every placement in lots: what to take, to post, and where to cancel."""
    market, truth = simulator.market, Truth(simulator)
    n_venues, available = market.n_venues, truth.available_shares[0]
    kept, lots = prospect(simulator).kept_shares[0], int(np.ceil(available / LOT - 1e-9))
    lot = available / max(lots, 1)
    rows = compositions(lots, 2 * n_venues + 1)[:, :-1].astype(float)
    takes, pace, rest = [], [], []
    stays = [range(1, 2 if shares <= 0.0 else -1, 1 if shares <= 0.0 else -1) for shares in kept]
    for stay, row in product(product(*stays), rows):
        taken = row[:n_venues].sum()
        offered = available + truth.resting_shares[0]
        takes.append(row[:n_venues] / max(taken, 1.0))
        pace.append(taken * lot / offered)
        wanted = kept * stay
        whole = np.where(row[n_venues:] > 0, np.ceil(wanted / LOT - 1e-6), np.floor(wanted / LOT + 1e-6))
        rest.append((whole + row[n_venues:]) * LOT / max(offered - taken * lot, 1e-9))
    rests = np.array(rest)
    rests /= np.maximum(rests.sum(axis=1, keepdims=True), 1.0)  # as the action adapter does
    branch = simulator.branch(np.zeros(len(rest), dtype=int))
    cost, _, done = branch.step(np.array(takes), np.array(pace), rest=rests)
    assert done.all()
    return float(cost.min()), len(rest)


def chosen_cost(simulator: BatchSimulator) -> tuple[float, bool]:
    takes, pace, rests = plan(simulator, Patience())
    branch = simulator.branch(np.zeros(1, dtype=int))
    cost = float(branch.step(takes, pace, rest=rests)[0][0])
    return cost, bool(Truth(branch).passive_shares.sum() > 0.0)


def test_it_is_the_best_of_all_placements_of_one_decision():
    """One decision in each of 300 random markets; what it takes and what it posts are weighed together."""
    rng, gaps, passive, tried = np.random.default_rng(5), [], 0, 0
    for seed in range(300):
        simulator = begun(random_market(rng), seed)
        best, n = cheapest_of_all(simulator)
        cost, rests = chosen_cost(simulator)
        gaps.append(cost - best)
        passive, tried = passive + rests, tried + n
    assert min(gaps) > -1e-9, "brute force does not try what the oracle does"
    assert passive > 100 and tried > 20_000
    assert np.mean(np.array(gaps) > 1e-9) < 0.02
    assert np.mean(gaps) < 0.005


def test_it_is_the_best_of_all_placements_where_orders_rest_already():
    """The second of two decisions, after a random first: orders in their queues or in flight, which may be cancelled.

    What rests is then no whole lot. The search misses fewer than 1 in 12 (it sizes takes in equal parts of what is
    free, posts in whole lots), by little.
    """
    rng, gaps, resting = np.random.default_rng(6), [], 0
    for seed in range(300):
        market = random_market(rng, 2)
        simulator = begun(market, seed)
        rest = rng.dirichlet(np.full(market.n_venues, 0.5))[None] * 0.6
        simulator.step(rng.dirichlet(np.full(market.n_venues, 0.5))[None], np.array([0.3]), rest=rest)
        if not Truth(simulator).available_shares[0] > 0.0:
            continue
        resting += bool(Truth(simulator).resting[0])
        gaps.append(chosen_cost(simulator)[0] - cheapest_of_all(simulator)[0])
    assert min(gaps) > -1e-9
    assert resting > 50
    assert np.mean(np.array(gaps) > 1e-9) < 0.08
    assert np.mean(gaps) < 0.03


@pytest.mark.parametrize(
    ("name", "scale"),
    [("crypto", 0.2), *(pytest.param(n, s, marks=pytest.mark.slow) for n, s in _SLOW)],
)
def test_no_rule_beats_it_at_any_size(name, scale):
    market = load_market(name)
    order = market.order.model_copy(update={"quantity_shares": scale * market.order.quantity_shares})
    market = market.model_copy(update={"order": order})
    names = standard_rules(market, ENV)
    assert names[-1] == "placement_oracle"
    result = sor_sb3.evaluate({n: n for n in names}, env=ENV, market=market, scenarios=100)
    for rule in names[:-1]:
        assert result.difference(rule, "placement_oracle").ci95_high > 0.0, rule
    assert result.gap_end == "placement_oracle" and result.gap_closed("placement_oracle").mean == pytest.approx(1.0)


def test_its_patience_is_fitted_once_and_always_the_same():
    market = random_market(np.random.default_rng(3), 4)
    first = fitted_patience(market)
    assert fitted_patience(market) is first
    placement._FITTED.clear()
    assert fitted_patience(market) == first


def test_it_changes_nothing_by_looking():
    core = RoutingCore(ENV, "us_equity", 8)
    core.seed(list(range(8)))
    rows = core.reset()
    oracle = PlacementOracle(core, Patience(0.0, 0.1, 0.5))
    for _ in range(3):
        before = core.get_state()["simulator"]
        first, second = oracle.predict(rows)[0], oracle.predict(rows)[0]
        np.testing.assert_array_equal(first, second)
        after = core.get_state()["simulator"]
        assert all(before[part].tobytes() == after[part].tobytes() for part in before)
        rows = core.step(first)[0]


def test_what_it_knows_of_the_coming_step_comes_true():
    """Fills of what rests, and the price at the end, are those that the simulator then deals out."""
    core = RoutingCore(ENV, "us_equity", 32)
    core.seed(list(range(32)))
    rows, rule = core.reset(), routers.make("post_and_sweep", "us_equity", ENV, patience=4, ahead=0.15, venues=4)
    for _ in range(6):
        rows = core.step(rule.predict(rows)[0])[0]
    truth, known = Truth(core.simulator), prospect(core.simulator)
    step, first = truth.step, truth.wave == 0
    assert (known.kept_fill > 0.0).any() and (known.new_fill > 0.0).any()
    offered = np.maximum(truth.available_shares + truth.resting_shares, 1e-9)[:, None]
    core.simulator.step(np.zeros((32, 10)), np.zeros(32), rest=known.kept_shares / offered)
    moved = first & (truth.step == step + 1)
    np.testing.assert_allclose(truth.passive_shares[moved], known.kept_fill[moved], atol=1e-9)


def test_it_is_for_envs_in_which_orders_rest_and_every_market_names_it_there():
    market = load_market("crypto")
    with pytest.raises(UserError, match="'placement_oracle' rests orders, which OrderSplit-v1 cannot"):
        PlacementOracle(RoutingCore("OrderSplit-v1", market, 1))
    named = market.model_copy(update={"oracle": "placement_oracle"})
    for each in (market, named):
        assert standard_rules(each, ENV)[-1] == "placement_oracle"
        assert standard_rules(each, "OrderSplit-v1")[-1] == "snapshot_oracle"
    assert standard_rules(market.model_copy(update={"oracle": "clairvoyant"}), ENV)[-1] == "clairvoyant"


def test_a_policy_that_passes_the_oracle_is_named_and_a_planner_that_does_ends_the_gap():
    rng = np.random.default_rng(0)
    market, common = load_market("us_equity"), rng.normal(size=(1, 200))

    def scores(name: str, mean: float) -> Scores:
        cost = common + mean + 0.1 * rng.normal(size=(1, 200))
        kind = "oracle" if "oracle" in name else "rule"
        return Scores(name, kind, cost, {}, {}, np.zeros(0), np.zeros((1, 10)), np.zeros((1, 200), np.int64))

    costs = {"round_robin": 3.0, "post_and_sweep": 1.5, "planner": 2.0, "placement_oracle": 1.0}
    run = {name: scores(name, mean) for name, mean in costs.items()}
    result = Evaluation(market, ENV, "test", 0, run)
    assert result.gap_end == "placement_oracle" and not beyond_oracle(result)
    run |= {"post_and_sweep": scores("post_and_sweep", 0.5), "planner": scores("planner", 0.8)}
    result = Evaluation(market, ENV, "test", 0, run)
    assert result.gap_end == "planner" and result.gap_closed("planner").mean == pytest.approx(1.0)
    first, second = beyond_oracle(result)
    assert first.startswith("post_and_sweep passes placement_oracle, which is myopic: −0.4")
    assert second.startswith("planner passes placement_oracle")
