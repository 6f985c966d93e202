"""Waves of a decision as env steps: what came back goes out again at once, or is held back."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec

ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1")
N = 64


def of_waves(waves: int) -> MarketSpec:
    market = load_market("us_equity")
    return market.model_copy(update={"order": market.order.model_copy(update={"waves": waves})})


def to_one_venue(core: RoutingCore, venue: int = 5) -> np.ndarray:
    """Actions that send all to one venue: more than it shows, so that shares come back."""
    return core.action_adapter.encode(np.tile(np.eye(core.market.n_venues)[venue], (core.n, 1)))


def begun(env_id: str, waves: int = 2) -> tuple[RoutingCore, np.ndarray]:
    """A core after a first wave, and who is in the second."""
    core = RoutingCore(env_id, of_waves(waves), N)
    core.seed(list(range(N)))
    core.reset()
    rows, _, _ = core.step(to_one_venue(core))
    later = ObservationView.of(rows, core.market).is_later
    assert later.sum() > N / 2
    return core, later


def nothing(core: RoutingCore) -> np.ndarray:
    rows = np.full((core.n, *core.action_adapter.shape), -0.5, np.float32)
    if core.action_adapter.paced:
        rows[:, -1] = 1.0
    return rows


@pytest.mark.parametrize("env_id", ENV_IDS[1:])
def test_no_positive_weight_is_an_even_split_in_the_first_wave_and_holds_back_in_a_later_one(env_id):
    core, later = begun(env_id)
    before, returned = core.simulator.read("step"), core.simulator.read("returned_shares")
    core.step(nothing(core))
    sent = core.simulator.read("step_shares")
    assert np.all(sent[later] == 0.0) and np.all(sent[~later] > 0.0) and np.all(returned[later] > 0.0)
    assert np.all(core.simulator.read("step")[later] == before[later] + 1), "a wave that sends nothing is the last"
    if not core.action_adapter.paced:
        assert np.all(core.simulator.read("slice_shares")[later] > 250.0), "what was held back is behind the schedule"


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_later_wave_sends_what_came_back_and_no_more(env_id):
    core, later = begun(env_id)
    returned = core.simulator.read("returned_shares")
    core.step(to_one_venue(core, 0))
    sent = core.simulator.read("sent_shares")
    np.testing.assert_allclose(sent[later, 0], returned[later], rtol=1e-12)
    assert np.all(sent[later, 1:] == 0.0)


def test_a_pace_is_a_part_of_what_came_back():
    core, later = begun("OrderExecute-v1")
    returned = core.simulator.read("returned_shares")
    actions = to_one_venue(core, 0)
    actions[:, -1] = 0.0  # half
    core.step(actions)
    lot = core.market.order.lot_shares
    assert np.all(np.abs(core.simulator.read("step_shares")[later] - returned[later] / 2) <= lot / 2 + 1e-9)


@pytest.mark.parametrize("waves", [1, 2, 3])
def test_an_episode_has_at_most_a_step_for_each_wave_of_each_decision(waves):
    core = RoutingCore("OrderSplit-v1", of_waves(waves), N)
    core.seed(list(range(N)))
    core.reset()
    steps, most = np.zeros(N, int), 20 * waves
    running = np.ones(N, dtype=bool)
    while running.any():
        steps += running
        assert steps.max() <= most
        rows, _, done = core.step(to_one_venue(core))
        assert ObservationView.of(rows, core.market).wave.max() < waves
        running &= ~done
    assert steps.min() >= 20 and (steps.max() > 20) == (waves > 1)


def test_waves_cost_what_the_ledger_says():
    core = RoutingCore("OrderSplit-v1", of_waves(3), N)
    core.seed(list(range(N)))
    core.reset()
    total, running, rng = np.zeros(N), np.ones(N, dtype=bool), np.random.default_rng(0)
    while running.any():
        _, rewards, done = core.step(rng.uniform(-1, 1, (N, core.market.n_venues)).astype(np.float32))
        total += rewards * running
        running &= ~done
    ledger = core.simulator.ledger()
    np.testing.assert_allclose(total, -ledger["shortfall"], atol=1e-4)
    parts = sum(value for part, value in ledger.items() if part != "shortfall")
    np.testing.assert_allclose(parts, ledger["shortfall"], atol=1e-9)
