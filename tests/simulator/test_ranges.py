"""Domain randomisation: every episode draws its market by its seed, whatever batch it is in."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market, parse_market
from sor_sb3.market.spec import ranged_paths
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
        ("order.quantity_shares: [1, 2]", "cannot be randomised"),
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
