"""Domain randomisation: every episode draws its market by its seed, whatever batch it is in."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.evaluation.analysis import analyse
from sor_sb3.evaluation.bounds import bounded_cost, relaxed_bound
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market, parse_market
from sor_sb3.market.spec import ranged_paths
from sor_sb3.policies import registry as routers
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.records import orders_of, parameters_of, venues_of
from tests.simulator.test_promises import changed

NAME = "heldout/us_equity_varied"


def begun(n: int, episode: int = 0) -> BatchSimulator:
    simulator = BatchSimulator(load_market(NAME), n, "test")
    simulator.reset(np.arange(n, dtype=np.uint64), np.full(n, episode))
    return simulator


def test_episodes_draw_within_the_ranges_and_differ():
    simulator = begun(500)
    fees = parameters_of(simulator)["take_fee_bps"]
    assert fees.shape == (500, 7) and fees.min() >= -0.1 and fees.max() <= 0.3
    assert abs(fees.mean() - 0.1) < 0.01 and abs(np.corrcoef(fees[:, 0], fees[:, 1])[0, 1]) < 0.15
    assert len(np.unique(simulator.parameters.market["news_probability"])) == 500
    assert np.ptp(parameters_of(simulator)["impact"][:, 0]) == 0.0, "what has no range is the same for all"
    assert not np.array_equal(begun(500, episode=1).parameters.venues["take_fee_bps"], fees)


def test_a_member_of_a_batch_is_a_lone_episode():
    together, lone = begun(6), BatchSimulator(load_market(NAME), 1, "test")
    lone.reset(np.array([4], dtype=np.uint64), np.zeros(1, np.int64))
    weights = np.full((6, 7), 1 / 7)
    for _ in range(5):
        assert venues_of(lone)[0].tobytes() == venues_of(together)[4].tobytes()
        a, b = together.step(weights)[0][4], lone.step(weights[:1])[0][0]
        assert a == b
    assert orders_of(lone)[0].tobytes() == orders_of(together)[4].tobytes()


def test_a_range_of_one_point_is_that_market():
    plain = load_market("us_equity")
    fixed = changed(plain)
    jump_bps = plain.informed.jump_bps
    ranges = {"venues.NYSE.take_fee_bps": (0.3, 0.3), "informed.jump_bps": (jump_bps, jump_bps)}
    pinned = fixed.model_copy(update={"randomise": ranges})
    a, b = BatchSimulator(plain, 3), BatchSimulator(pinned, 3)
    for simulator in (a, b):
        simulator.reset(np.arange(3, dtype=np.uint64), np.zeros(3, np.int64))
        for _ in range(4):
            simulator.step(np.full((3, plain.n_venues), 1 / plain.n_venues))
    assert orders_of(a).tobytes() == orders_of(b).tobytes() and venues_of(a).tobytes() == venues_of(b).tobytes()


def test_a_star_names_every_venue():
    paths = ranged_paths(load_market(NAME))
    assert ("venues", "V3", "take_fee_bps") in paths and ("venues", "*", "take_fee_bps") not in paths
    assert ("venues", "POOL", "dark", "zero_probability") in paths


TEXT = """
order: {quantity_shares: 400, horizon_steps: 4, step_s: 1}
venues:
  - {name: A, take_fee_bps: 0.3, offset_bps: 1, size_shares: 100, latency_ms: 1}
  - {name: B, take_fee_bps: 0.3, offset_bps: 1, size_shares: 100, latency_ms: 1}
randomise: {%s}
"""


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("venues.A.take_fee: [0, 1]", "no 'take_fee'"),
        ("venues.C.take_fee_bps: [0, 1]", "no 'C'"),
        ("order.step_s: [1, 2]", "'order.step_s' cannot be randomised; expected order.quantity_shares, order.horizon"),
        ("order.quantity_shares: [0, 2]", "0.0 is not allowed"),
        ("order.horizon_steps: [1, 2.5]", "2.5 is not allowed (Input should be a valid integer"),
        ("venues.*.latency_ms: [3, 1]", "lower end first"),
        ("informed.removed_fraction: [0.5, 1.5]", "1.5 is not allowed"),
        ("informed.probability: [0.1, 0.5]", "set informed.news_per_s"),
        ("venues.A.name: [0, 1]", "only numbers"),
        ("venues.A.latency_ms.real: [0, 1]", "no 'real'"),
    ],
)
def test_a_wrong_range_is_one_sentence(entry, said, tmp_path):
    with pytest.raises(UserError) as error:
        parse_market(TEXT % entry, "market.yaml", tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_size_at_the_midpoint_may_be_drawn_where_there_is_none_as_a_rule(tmp_path):
    market = parse_market(TEXT % "venues.A.mid_probability: [0, 1]", "market.yaml", tmp_path)
    simulator = BatchSimulator(market, 50)
    simulator.reset(np.arange(50, dtype=np.uint64), np.zeros(50, np.int64))
    assert simulator.read("has_mid").all()
    simulator.step(np.tile([1.0, 0.0], (50, 1)))
    assert (simulator.read("taken_shares")[:, 0] > 0.0).any(), "children met it"


# ----------------------------------------------------------------------------- an order of drawn size and horizon

ORDERS = {"randomise.order.quantity_shares": [500, 4000], "randomise.order.horizon_steps": [3, 7]}


def test_an_order_is_drawn_and_is_that_order():
    """Sizes and whole horizons lie evenly within their ranges; each order costs what it does in a market of its own."""
    market = load_market("us_equity", ORDERS)
    simulator = BatchSimulator(market, 2000, "test")
    simulator.reset(np.arange(2000, dtype=np.uint64), np.zeros(2000, np.int64))
    quantity, horizon = simulator.read("quantity_shares"), simulator.read("horizon_steps")
    assert 500.0 <= quantity.min() and quantity.max() <= 4000.0 and abs(quantity.mean() - 2250.0) < 100.0
    assert np.bincount(horizon).tolist()[:3] == [0, 0, 0] and np.bincount(horizon)[3:].min() > 330
    own = {"quantity_shares": quantity[7], "horizon_steps": int(horizon[7])}
    lone = BatchSimulator(changed(load_market("us_equity"), order=own), 1, "test")
    lone.reset(np.array([7], dtype=np.uint64), np.zeros(1, np.int64))
    rng = np.random.default_rng(1)
    for _ in range(horizon[7]):
        weights, rest = rng.dirichlet(np.ones(market.n_venues), 2)
        costs, _, ends = simulator.step(
            np.tile(weights, (2000, 1)), np.full(2000, 0.2), rest=np.tile(0.5 * rest, (2000, 1))
        )
        cost, _, end = lone.step(weights[None], np.array([0.2]), rest=0.5 * rest[None])
        assert costs[7] == cost[0] and ends[7] == end[0]
    assert orders_of(lone)[0].tobytes() == orders_of(simulator)[7].tobytes()
    measures, own_measures = simulator.measures(), lone.measures()
    assert all(measures[name][7] == own_measures[name][0] for name in measures)


def test_what_is_left_can_be_read_from_an_observation():
    """In units of the typical order: shares, decisions, what the schedule wants now, and what it does in a decision."""
    market = load_market("us_equity", ORDERS | {"order.waves": 1})
    core = RoutingCore("OrderSplit-v1", market, 50)
    core.seed(list(range(50)))
    rows, order = core.reset(), market.order
    read = core.simulator.read
    for step in range(2):
        view = ObservationView.of(rows, market)
        np.testing.assert_allclose(view.remaining * order.quantity_shares, read("remaining_shares"), rtol=1e-5)
        np.testing.assert_allclose(view.slice_shares, read("slice_shares"), rtol=1e-5)
        np.testing.assert_allclose(view.time_left * order.horizon_steps, read("horizon_steps") - step, rtol=1e-5)
        even = read("quantity_shares") / read("horizon_steps")
        np.testing.assert_allclose(order.quantity_shares / view.even_slices, even, rtol=1e-4)
        rows = core.step(np.ones((50, market.n_venues)))[0]
    plain = load_market("us_equity")
    view = ObservationView.of(RoutingCore("OrderSplit-v1", plain, 1).reset(), plain)
    assert view.even_slices[0] == plain.order.horizon_steps and view.schedule_left[0] == 1.0


@pytest.mark.parametrize("env", ["OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"])
def test_drawn_orders_are_evaluated_and_analysed(env):
    """Each in bps of its own size, to its own deadline."""
    market = load_market("us_equity", ORDERS)
    evaluator = Evaluator(env, market, 40, data_split="test")
    scores = evaluator.score("net_price_sweep", "net_price_sweep", record=True)
    simulator = evaluator.core.simulator
    quantity, horizon = simulator.read("quantity_shares"), simulator.read("horizon_steps")
    log = scores.children
    np.testing.assert_array_equal(log.quantity_shares, quantity)
    np.testing.assert_array_equal(log.horizon_steps, horizon)
    done = (log.filled_shares + log.passive_shares).sum(axis=(1, 2)) + log.cleanup_shares
    np.testing.assert_allclose(done, quantity, rtol=1e-9)
    np.testing.assert_allclose(sum(part[0] for part in scores.parts.values()), scores.cost[0], atol=1e-9)
    last = np.where(log.active, log.decision, -1).max(axis=1)
    assert (last == horizon - 1).mean() > 0.9 and (last < horizon).all()
    shortfall = analyse(log).parents["shortfall_bps"]
    np.testing.assert_allclose(shortfall, scores.cost[0], atol=1e-6)


@pytest.mark.parametrize(("env", "name"), [("OrderExecute-v1", "pro_rata"), ("OrderPlace-v1", "join_pro_rata")])
def test_rules_do_what_they_would_do_if_the_order_were_the_typical_one(env, name):
    """Decision by decision: the schedule and the pace are the order's own."""
    market = load_market("us_equity", ORDERS)
    options = {"patience": 1, "ahead": 1.0} if name == "join_pro_rata" else {}
    rule, core = routers.make(name, market, env, **options), RoutingCore(env, market, 4, "test")
    core.seed([0, 1, 2, 3])
    rows = core.reset()
    quantity, horizon = core.simulator.read("quantity_shares"), core.simulator.read("horizon_steps")
    for i in range(4):
        own = changed(
            load_market("us_equity"), order={"quantity_shares": quantity[i], "horizon_steps": int(horizon[i])}
        )
        alone, its_rule = RoutingCore(env, own, 1, "test"), routers.make(name, own, env, **options)
        alone.seed([i])
        own_rows = alone.reset()
        core.seed([0, 1, 2, 3])
        rows, done, compared = core.reset(), False, 0
        while not done:
            action, expected = rule.actions(rows), its_rule.actions(own_rows)
            if own_rows[0, 3] > 0.0 and own_rows[0, 4] == 0.0:  # what the schedule wants says what an even slice is
                np.testing.assert_allclose(action[i], expected[0], atol=2e-3)
                compared += 1
            own_rows, _, ends = alone.step(expected)
            rows, _, _ = core.step(np.tile(expected, (4, 1)))
            done = bool(ends[0])
        assert compared >= 2


def test_no_policy_passes_the_bound_of_drawn_orders():
    market = load_market("us_equity", ORDERS)
    bounds = relaxed_bound(market, "OrderSplit-v1", 6)
    core = RoutingCore("OrderSplit-v1", market, 6, "test")
    costs = bounded_cost(core, routers.make("net_price_sweep", market), list(range(10_000, 10_006)))
    assert (costs >= bounds).all()
