"""The snapshot oracle: no rule beats it on average, and no grid beats it in a single step."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import VecNormalize

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.oracles.clairvoyant import compositions
from sor_sb3.policies.oracles.snapshot import SnapshotOracle
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, floats, venues
from tests.simulator.records import orders_of, venues_of

ENV_IDS = ("VenueSelect-v0", "OrderSplit-v0", "OrderExecute-v0")
free = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


LOTS = 40


def simplex_grid(n_venues: int, cells: int = LOTS) -> np.ndarray:
    return compositions(cells, n_venues) / cells


@st.composite
def one_step_markets(draw, walk_low: float = 0.01):
    """Two or three venues and one step of 40 lots, so that what a split costs is final: the clean-up takes the rest.

    The mid stands still: its move until the deadline is no part of a snapshot.
    """
    n = draw(st.integers(2, 3))
    quantity = draw(st.sampled_from([10.0, 300.0, 3000.0]))
    kinds = [{**draw(venues(f"V{k}")), "halts_per_hour": 0.0} for k in range(n)]
    for kind in kinds:
        kind["walk_bps"] = draw(floats(walk_low, 3))
        kind["size_shares"] = quantity * draw(floats(0.05, 2.0))
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": quantity, "horizon_steps": 1, "step_s": 1.0, "lot_shares": quantity / LOTS},
            "venues": kinds,
            "mid": {"volatility_bps_per_sqrt_s": 0.0},
            "informed": {"probability": draw(st.sampled_from([0.0, 1.0])), "window_ms": 5.0, "jump_bps": 0.0},
            "response": {
                "reaction_time_ms": draw(floats(0.1, 50)),
                "cleanup_penalty_bps": draw(floats(0, 3)),
            },
        }
    )


def best_of_grid(market: SyntheticMarket, seed: int, grid: np.ndarray) -> float:
    simulator = BatchSimulator(market, len(grid), "train")
    simulator.reset(np.full(len(grid), seed, dtype=np.uint64), np.zeros(len(grid), dtype=np.int64))
    return float(simulator.step(grid)[0].min())


def oracle_cost(market: SyntheticMarket, seed: int, env_id: str = "OrderSplit-v0") -> float:
    core = RoutingCore(env_id, market, 1)
    core.seed([seed])
    weights, _ = core.action_adapter.decode(SnapshotOracle(core).predict(core.reset())[0])
    return float(core.simulator.step(weights)[0][0])


def rounding(market: SyntheticMarket) -> float:
    """float32 actions round weights by 6e-8 of the order, which the dearest price is charged on."""
    return 1e-6 * (1.0 + max(v.offset_bps * 10 + abs(v.take_fee_bps) + v.walk_bps for v in market.venues))


@given(one_step_markets(), SEEDS)
@free
def test_no_split_on_a_grid_beats_the_oracle(market, seed):
    grid = simplex_grid(market.n_venues)
    assert oracle_cost(market, seed) <= best_of_grid(market, seed, grid) + rounding(market)


@given(one_step_markets(walk_low=0.0), SEEDS)
@free
def test_no_split_beats_the_oracle_where_books_are_flat(market, seed):
    """Books that do not walk: the cheaper venue is filled first, whatever its number."""
    flat = tuple(venue.model_copy(update={"walk_bps": 0.0}) for venue in market.venues)
    market = market.model_copy(update={"venues": flat})
    grid = simplex_grid(market.n_venues)
    assert oracle_cost(market, seed) <= best_of_grid(market, seed, grid) + rounding(market)


@pytest.mark.parametrize(("quantity", "cost"), [(90.0, 1.0), (100.0, 1.0), (150.0, 4 / 3), (200.0, 1.5)])
def test_flat_books_are_filled_cheapest_first_whatever_their_numbers(quantity, cost):
    still = {
        "latency_ms": 0.0,
        "latency_sigma": 0.0,
        "walk_bps": 0.0,
        "take_fee_bps": 0.0,
        "size_shares": 100.0,
    }
    quiet = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    for offsets in ((1.0, 2.0), (2.0, 1.0)):
        market = SyntheticMarket.model_validate(
            {
                "order": {"quantity_shares": quantity, "horizon_steps": 1, "step_s": 1.0, "lot_shares": 10.0},
                "venues": [{"name": n, "offset_bps": o, **still} for n, o in zip("AB", offsets, strict=True)],
                "quotes": quiet,
                "mid": {"volatility_bps_per_sqrt_s": 0.0},
            }
        )
        assert oracle_cost(market, 0) == pytest.approx(cost, abs=1e-5), offsets


def test_what_is_better_left_goes_where_it_does_no_harm():
    """FAR alone is cheapest, but its last shares are dearer than the clean-up.

    They must not go to NEAR, whose child would arrive first and make FAR's quote fade.
    """
    still = {"latency_sigma": 0.0, "toxicity": 3.0}
    quiet = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    far = {"name": "FAR", "take_fee_bps": 1.4, "offset_bps": 1.1, "size_shares": 134.0, "latency_ms": 2.0}
    near = {"name": "NEAR", "take_fee_bps": 0.6, "offset_bps": 6.0, "size_shares": 144.0, "latency_ms": 0.5}
    market = SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 100.0, "horizon_steps": 1, "step_s": 1.0, "lot_shares": 100.0 / LOTS},
            "venues": [{**far, **still, "walk_bps": 4.3}, {**near, **still, "walk_bps": 1.7}],
            "quotes": quiet,
            "mid": {"volatility_bps_per_sqrt_s": 0.0},
            "response": {"reaction_time_ms": 1.0, "cleanup_penalty_bps": 0.5},
        }
    )
    assert oracle_cost(market, 0) <= best_of_grid(market, 0, simplex_grid(2)) + 1e-6


def test_no_split_beats_the_oracle_in_any_of_three_hundred_markets():
    """Steep books, strong fade and a cheap clean-up, where leaving shares can be best."""
    rng, grids = np.random.default_rng(0), {2: simplex_grid(2), 3: simplex_grid(3)}
    worse = []
    for seed in range(300):
        kinds = [
            {
                "name": f"V{k}",
                "take_fee_bps": rng.uniform(-1, 3),
                "offset_bps": rng.uniform(0.1, 5),
                "size_shares": rng.uniform(5, 200),
                "latency_ms": rng.choice([0.0, 0.1, 0.5, 2.0]),
                "latency_sigma": 0.0,
                "toxicity": rng.choice([0.0, 1.0, 3.0]),
                "walk_bps": rng.uniform(0.01, 6),
            }
            for k in range(rng.integers(2, 4))
        ]
        market = SyntheticMarket.model_validate(
            {
                "order": {"quantity_shares": 100.0, "horizon_steps": 1, "step_s": 1.0, "lot_shares": 100.0 / LOTS},
                "venues": kinds,
                "mid": {"volatility_bps_per_sqrt_s": 0.0},
                "response": {"reaction_time_ms": 1.0, "cleanup_penalty_bps": rng.choice([0.0, 0.5, 3.0])},
            }
        )
        gap = oracle_cost(market, seed) - best_of_grid(market, seed, grids[market.n_venues])
        if gap > rounding(market):
            worse.append((seed, gap))
    assert not worse


@given(one_step_markets(), SEEDS)
@free
def test_no_single_venue_beats_the_oracle_of_venue_select(market, seed):
    best = best_of_grid(market, seed, np.eye(market.n_venues))
    assert oracle_cost(market, seed, "VenueSelect-v0") <= best + rounding(market)


@given(one_step_markets(), SEEDS, st.integers(0, 2))
@free
def test_a_halted_venue_is_no_trouble(market, seed, closed):
    assume(closed < market.n_venues)
    core = RoutingCore("OrderSplit-v0", market, 1)
    core.seed([seed])
    core.reset()
    venues_of(core.simulator)["open"][0, closed] = 0
    weights, _ = core.action_adapter.decode(SnapshotOracle(core).predict(np.zeros((1, 1)))[0])
    grid = simplex_grid(market.n_venues)
    simulator = BatchSimulator(market, len(grid), "train")
    simulator.reset(np.full(len(grid), seed, dtype=np.uint64), np.zeros(len(grid), dtype=np.int64))
    venues_of(simulator)["open"][:, closed] = 0
    best = simulator.step(grid)[0].min()
    assert core.simulator.step(weights)[0][0] <= best + rounding(market)


def test_the_oracle_changes_nothing_by_looking():
    core = RoutingCore("OrderSplit-v0", "us_equity", 8)
    core.seed(list(range(8)))
    rows = core.reset()
    before = orders_of(core.simulator).tobytes(), venues_of(core.simulator).tobytes()
    oracle = SnapshotOracle(core)
    first, second = oracle.predict(rows)[0], oracle.predict(rows)[0]
    assert np.array_equal(first, second)
    assert before == (orders_of(core.simulator).tobytes(), venues_of(core.simulator).tobytes())


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_oracle_is_made_from_any_of_our_faces(env_id):
    faces = [
        gym.make(f"sor_sb3:{env_id}", market="us_equity"),
        gym.make_vec(f"sor_sb3:{env_id}", num_envs=1, market="us_equity"),
        sor_sb3.make_vec_env(env_id, market="us_equity", n_envs=1),
        VecNormalize(sor_sb3.make_vec_env(env_id, market="us_equity", n_envs=1)),
    ]
    for face in faces:
        oracle = routers.make("snapshot_oracle", "us_equity", env=face)
        venv_like = isinstance(face.reset(), np.ndarray)
        rows = face.reset() if venv_like else face.reset(seed=0)[0]
        actions, _ = oracle.predict(rows)
        space = face.action_space
        inside = space.contains(actions) if not venv_like else all(space.contains(a) for a in actions)
        assert inside, type(face).__name__


# ------------------------------------------------------------------------------------------- brute force


def small_case(seed: int) -> tuple[RoutingCore, float]:
    """Two to four venues of every kind, a few lots, in the middle of an order; and the continuation price."""
    rng = np.random.default_rng(seed)
    kinds = []
    for k in range(rng.integers(2, 5)):
        dark = {
            "zero_probability": 0.3,
            "power_exponent": float(rng.choice([0.4, 1.0, 1.3])),
            "max_shares": float(rng.uniform(50, 400)),
            "min_execution_shares": float(rng.choice([0.0, 30.0])),
        }
        lit = {
            "offset_bps": rng.uniform(0.1, 5),
            "size_shares": rng.uniform(5, 200),
            "hidden_fraction": rng.choice([0, 0.5]),
        }
        kinds.append(
            {
                "name": f"V{k}",
                "take_fee_bps": rng.uniform(-1, 3),
                **({"dark": dark} if k and rng.random() < 0.3 else lit),
                "latency_ms": float(rng.choice([0.05, 0.1, 0.5, 2.0, 900.0])),
                "speed_bump_ms": float(rng.choice([0.0, 0.35])),
                "toxicity": float(rng.choice([0.0, 1.0, 3.0])),
                "walk_bps": rng.uniform(0.0, 6),
                "halts_per_hour": 600.0,
                "halt_duration_s": 0.5,
                "outages_per_hour": 600.0,
                "outage_duration_s": 0.5,
            }
        )
    lots, continuation = int(rng.integers(1, 9)), float(rng.choice([0.5, 3.0, 1e4]))
    market = SyntheticMarket.model_validate(
        {
            "order": {
                "quantity_shares": 300.0,
                "horizon_steps": 3,
                "step_s": 1.0,
                "lot_shares": 100.0 / lots,
                "limit_offset_bps": None if rng.random() < 0.7 else 1.5,
                "synchronise_arrivals": bool(rng.random() < 0.3),
            },
            "venues": kinds,
            "informed": {"probability": 0.5, "window_ms": 0.5, "jump_bps": 2.0},
            "response": {"reaction_time_ms": 1.0},
            "continuation_bps": continuation,
        }
    )
    core = RoutingCore("OrderSplit-v0", market, 1)
    core.seed([seed])
    core.reset()
    for _ in range(int(rng.integers(0, 2))):
        core.simulator.step(np.full((1, market.n_venues), 1.0 / market.n_venues))
    return core, continuation


def tried_costs(core: RoutingCore, weights: np.ndarray, continuation: float) -> np.ndarray:
    """What each of `weights` (m, K) costs by the simulator, bps x shares; what comes back at the continuation price."""
    order = orders_of(core.simulator)[0].copy()
    tried = core.simulator.branch(np.zeros(len(weights), dtype=np.int64))
    tried.step(weights)
    filled = np.where(venues_of(tried)["sent_shares"] > 0.0, venues_of(tried)["filled_shares"], 0.0)
    paid = (
        np.where(venues_of(tried)["sent_shares"] > 0.0, venues_of(tried)["fill_cost"], 0.0)
        * core.market.order.quantity_shares
    )
    return paid.sum(axis=1) + continuation * (order["slice_shares"] - filled.sum(axis=1))


def test_the_oracle_equals_brute_force_on_two_hundred_small_cases():
    worth_while = 0
    for seed in range(200):
        core, continuation = small_case(seed)
        order, lot = orders_of(core.simulator)[0], core.market.order.lot_shares
        lots = int(np.ceil(order["slice_shares"] / lot - 1e-9))
        if lots == 0:
            continue
        every = compositions(lots, core.market.n_venues) / lots
        costs = tried_costs(core, every, continuation)
        placed, _, claimed = SnapshotOracle(core).place()
        weights = placed / placed.sum(axis=1, keepdims=True)
        assert claimed[0] == pytest.approx(costs.min(), rel=1e-9, abs=1e-9), seed
        assert tried_costs(core, weights, continuation)[0] == pytest.approx(costs.min(), rel=1e-9, abs=1e-9), seed
        worth_while += costs.min() < np.median(costs) - 1.0
    assert worth_while > 100, "most cases leave nothing to choose"


# ---------------------------------------------------------------------------------------- learnability


def shortfalls(name: str, market: str, env_id: str, n: int) -> np.ndarray:
    core = RoutingCore(env_id, market, n, "test")
    core.seed(list(range(n)))
    policy = SnapshotOracle(core) if name == "snapshot_oracle" else routers.make(name, market, env_id)
    rows, done = core.reset(), np.zeros(n, dtype=bool)
    while not done.all():
        rows, _, done = core.step(policy.predict(rows)[0])
    return core.simulator.ledger()["shortfall"]


@pytest.fixture(scope="module", params=ENV_IDS[:2])
def costs(request):
    """Shortfalls of every rule and the oracle on the same test days of us_equity."""
    names = (*routers.rule_names(load_market("us_equity")), "snapshot_oracle")
    return {name: shortfalls(name, "us_equity", request.param, 2000) for name in names}


def surely_less(cheap: np.ndarray, dear: np.ndarray) -> bool:
    gap = dear - cheap
    return gap.mean() > 2.58 * gap.std(ddof=1) / np.sqrt(len(gap))


def test_no_rule_is_cheaper_than_the_oracle_on_average(costs):
    for name, cost in costs.items():
        assert name == "snapshot_oracle" or surely_less(costs["snapshot_oracle"], cost), name


def test_oracle_best_rule_naive_worst_rule_differ_by_more_than_their_intervals(costs):
    market = load_market("us_equity")
    rules = {name: cost for name, cost in costs.items() if name in routers.ROUTER_NAMES}
    ranked = sorted(rules, key=lambda name: rules[name].mean())
    best, worst, naive = ranked[0], ranked[-1], market.reference_router
    chain = [costs["snapshot_oracle"], rules[best], rules[naive], rules[worst]]
    for cheap, dear in itertools.pairwise(chain):
        assert surely_less(cheap, dear), (best, naive, worst)


def test_a_learner_has_a_margin_to_win(costs):
    """Best rule to oracle, as a share of naive to oracle."""
    best = min(cost.mean() for name, cost in costs.items() if name != "snapshot_oracle")
    oracle, naive = costs["snapshot_oracle"].mean(), costs[load_market("us_equity").reference_router].mean()
    assert (best - oracle) / (naive - oracle) > 0.05


def test_a_crumb_of_a_lot_is_placed_too():
    core = RoutingCore("OrderExecute-v0", "us_equity", 4)
    core.seed([0, 1, 2, 3])
    core.reset()
    orders_of(core.simulator)["available_shares"] = orders_of(core.simulator)["remaining_shares"] = 1e-9
    lots, pace, _ = SnapshotOracle(core).place()
    assert np.isfinite(lots).all() and np.all((pace >= 0.0) & (pace <= 1.0))
