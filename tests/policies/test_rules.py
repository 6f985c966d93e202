"""Rules: each formula on a hand-made market, and what every router keeps to in every env."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import Observer
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, markets
from tests.simulator.records import orders_of, venues_of

MARKETS = ("notebook", "notebook_blind", "us_equity")
ENV_IDS = ("VenueSelect-v0", "OrderSplit-v0")
FEES = (0.3, -0.2, 0.1, 0.0)


def hand_made(names=("B", "A", "C", "D")) -> SyntheticMarket:
    """Four venues, 400 shares in four steps of one second; walk of 1 bps everywhere."""
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400.0, "horizon_steps": 4, "step_s": 1.0},
            "venues": [
                {
                    "name": name,
                    "take_fee_bps": fee,
                    "offset_bps": 1.0,
                    "size_shares": 100.0,
                    "latency_ms": 1.0,
                }
                for name, fee in zip(names, FEES, strict=True)
            ],
            "volume": {"shares_per_day": 1e6},
        }
    )


class Scene:
    """A market whose state the test sets; `route` asks a router what it would do."""

    def __init__(self, market: SyntheticMarket | None = None) -> None:
        self.market = market or hand_made()
        self.simulator = BatchSimulator(self.market, 1)
        self.simulator.reset(np.zeros(1, np.uint64), np.zeros(1, np.int64))
        self.venues, self.order = venues_of(self.simulator)[0], orders_of(self.simulator)[0]
        self.set(observed_offset_bps=[1, 2, 3, 4], observed_shares=[50, 60, 70, 20], open=[1, 1, 1, 1])
        self.set(recent_volume_shares=[10, 20, 30, 40])

    def set(self, **columns: list[float]) -> Scene:
        for name, values in columns.items():
            self.venues[name] = values
        return self

    def route(self, name: str, **options) -> np.ndarray:
        row = Observer(self.simulator).observe()
        return routers.make(name, self.market, **options).predict(row)[0][0]


def one_hot(k: int) -> list[float]:
    return [float(j == k) for j in range(4)]


def test_best_price_takes_the_lowest_touch_whatever_the_fee():
    assert Scene().set(observed_offset_bps=[1.0, 0.9, 0.8, 0.85]).route("best_price").tolist() == one_hot(2)


def test_best_price_breaks_ties_by_displayed_size_and_then_by_order():
    scene = Scene().set(observed_offset_bps=[1, 1, 1, 2])
    assert scene.route("best_price").tolist() == one_hot(2)
    assert scene.set(observed_shares=[70, 60, 70, 90]).route("best_price").tolist() == one_hot(0)


def test_all_in_adds_the_fee():
    scene = Scene().set(observed_offset_bps=[0.8, 1.2, 1.0, 1.01])  # all-in 1.1, 1.0, 1.1, 1.01
    assert scene.route("all_in").tolist() == one_hot(1)
    assert scene.route("best_price").tolist() == one_hot(0)


def test_all_in_sized_prices_the_whole_slice():
    """Slice 100. All-in 1.3, 1.8, 3.1, 4; a venue with all 100 beats a nearer touch with 20 of them."""
    scene = Scene().set(observed_shares=[20, 1000, 1000, 1000])
    # venue 0: .2 (1.3 + 1) + .8 miss, where miss is 4 + 1; venue 1: 1.8 + .1
    assert scene.route("all_in").tolist() == one_hot(0)
    assert scene.route("all_in_sized").tolist() == one_hot(1)
    scene.set(observed_shares=[100, 100, 100, 100])  # all can: 1.3 + 1 is least
    assert scene.route("all_in_sized").tolist() == one_hot(0)


def test_all_in_sweep_takes_displays_in_order_of_price():
    scene = Scene()  # all-in 1.3, 1.8, 3.1, 4.0; displayed 50, 60, 70, 20; slice 100
    np.testing.assert_allclose(scene.route("all_in_sweep"), [0.5, 0.5, 0.0, 0.0], atol=1e-6)
    scene.set(observed_offset_bps=[3, 2, 0.5, 0.55])  # all-in 3.3, 1.8, .6, .55
    np.testing.assert_allclose(scene.route("all_in_sweep"), [0.0, 0.1, 0.7, 0.2], atol=1e-6)


def test_all_in_sweep_breaks_ties_by_name():
    scene = Scene().set(
        observed_offset_bps=[0.7, 1.2, 0.9, 5.0], observed_shares=[100, 100, 100, 100]
    )  # A, B, C all at 1.0
    np.testing.assert_allclose(scene.route("all_in_sweep"), one_hot(1), atol=1e-6)  # A, whose number is 1


def test_all_in_sweep_spreads_what_displays_cannot_take():
    scene = Scene().set(observed_shares=[10, 20, 0, 10])
    np.testing.assert_allclose(scene.route("all_in_sweep"), [0.25, 0.5, 0.0, 0.25], atol=1e-6)


def test_pro_rata_splits_by_displayed_size():
    scene = Scene()
    np.testing.assert_allclose(scene.route("pro_rata"), [0.25, 0.3, 0.35, 0.1], atol=1e-6)
    scene.set(depleted_shares=[50, 0, 0, 0])  # what we took is not displayed
    np.testing.assert_allclose(scene.route("pro_rata"), np.array([0, 60, 70, 20]) / 150, atol=1e-6)


def test_vwap_splits_by_recent_volume():
    scene = Scene()
    np.testing.assert_allclose(scene.route("vwap"), [0.1, 0.2, 0.3, 0.4], atol=1e-6)
    scene.set(open=[1, 1, 1, 0])
    np.testing.assert_allclose(scene.route("vwap"), np.array([1, 2, 3, 0]) / 6, atol=1e-6)


def test_round_robin_takes_the_open_venues_in_turn():
    scene = Scene()
    turns = []
    for step in range(4):
        scene.order["step"] = step
        turns.append(int(np.argmax(scene.route("round_robin"))))
    assert turns == [0, 1, 2, 3]
    scene.set(open=[1, 0, 1, 1])
    turns = []
    for step in range(4):
        scene.order["step"] = step
        turns.append(int(np.argmax(scene.route("round_robin"))))
    assert turns == [0, 2, 3, 0]


def test_best_fixed_venue_stays_where_it_is():
    scene = Scene().set(open=[1, 1, 0, 1])
    assert scene.route("best_fixed_venue", venue="C").tolist() == one_hot(2)
    chosen = routers.make("best_fixed_venue", hand_made())
    assert chosen.venue == routers.make("best_fixed_venue", hand_made(), seed=5).venue
    with pytest.raises(UserError, match=r"venue 'NYS' is unknown \(did you mean 'NYSE'\?\); expected one of NASDAQ"):
        routers.make("best_fixed_venue", "us_equity", venue="NYS")


def test_best_fixed_venue_is_the_cheapest_on_training_days():
    market = hand_made()
    venues = tuple(v.model_copy(update={"take_fee_bps": 5.0 * (v.name != "C")}) for v in market.venues)
    assert routers.make("best_fixed_venue", market.model_copy(update={"venues": venues})).venue == "C"


def test_random_is_uniform_over_open_venues_and_follows_its_seed():
    market = hand_made()
    core = RoutingCore("VenueSelect-v0", market, 4000)
    core.seed(list(range(4000)))
    core.reset()
    venues_of(core.simulator)["open"] = [1, 0, 1, 1]
    rows = core.observer.observe()
    choices = routers.make("random", market, "VenueSelect-v0", seed=1).predict(rows)[0]
    counts = np.bincount(choices, minlength=4)
    assert counts[1] == 0 and np.all(np.abs(counts[[0, 2, 3]] - 4000 / 3) < 5 * np.sqrt(4000 * 2 / 9))
    split = routers.make("random", market, seed=1).predict(rows)[0]
    assert np.all(split[:, 1] == 0.0) and np.abs(split.mean(axis=0)[[0, 2, 3]] - 1 / 3).max() < 0.02
    again = [routers.make("random", market, seed=s).predict(rows)[0] for s in (1, 1, 2)]
    assert np.array_equal(again[0], again[1]) and not np.array_equal(again[0], again[2])


OPEN_MINDED = [name for name in routers.ROUTER_NAMES if name != "best_fixed_venue"]


@pytest.mark.parametrize("name", OPEN_MINDED)
def test_halted_venues_get_nothing_while_one_is_open(name):
    scene = Scene().set(open=[0, 0, 1, 0])
    assert scene.route(name).tolist() == one_hot(2)


@pytest.mark.parametrize("name", routers.ROUTER_NAMES)
def test_where_all_is_halted_or_empty_there_is_still_an_action(name):
    for state in (
        {"open": [0, 0, 0, 0]},
        {"observed_shares": [0, 0, 0, 0]},
        {"recent_volume_shares": [0, 0, 0, 0]},
    ):
        weights = Scene().set(**state).route(name)
        assert np.isfinite(weights).all() and weights.sum() == pytest.approx(1.0)


# ---------------------------------------------------------------------------------- what all keep to


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_actions_lie_inside_the_space_and_one_row_is_as_good_as_many(env_id, market):
    core = RoutingCore(env_id, market, 6)
    core.seed(list(range(6)))
    for name in routers.rule_names(core.market):
        rows = core.reset()
        router = routers.make(name, market, env_id)
        for _ in range(core.market.order.horizon_steps):
            actions, state = router.predict(rows, deterministic=True)
            assert state is None and len(actions) == 6
            assert all(core.action_space.contains(action) for action in actions), name
            lone = router.predict(rows[0])[0]
            assert core.action_space.contains(lone) and np.shape(lone) == np.shape(actions[0])
            if name != "random":
                assert np.array_equal(lone, actions[0]), name
            rows, _, _ = core.step(actions)


@given(markets(), SEEDS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_rules_run_on_any_market(market, seed):
    for env_id in ENV_IDS:
        core = RoutingCore(env_id, market, 3)
        core.seed([seed, seed ^ 1, seed ^ 2])
        rows = core.reset()
        for name in routers.rule_names(market):
            options = {"venue": market.venue_names[-1]} if name == "best_fixed_venue" else {}
            actions = routers.make(name, market, env_id, **options).predict(rows)[0]
            assert all(core.action_space.contains(action) for action in actions), name
            weights, _ = core.action_adapter.decode(actions)
            assert np.allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    "name", [n for n in routers.ROUTER_NAMES if n not in ("random", "round_robin", "best_fixed_venue")]
)
def test_the_numbers_of_venues_do_not_matter(name):
    """Venues in another order, the same names: the same weights by name (no ties here)."""
    scene, order = Scene(), [2, 0, 3, 1]
    base = scene.route(name)
    names = [scene.market.venue_names[k] for k in order]
    venues = tuple(scene.market.venues[k] for k in order)
    other = Scene(scene.market.model_copy(update={"venues": venues}))
    assert list(other.market.venue_names) == names
    for column in ("observed_offset_bps", "observed_shares", "recent_volume_shares"):
        other.set(**{column: scene.venues[column][order]})
    np.testing.assert_allclose(other.route(name), base[order], atol=1e-6)


def test_a_rule_takes_nothing_but_observations():
    """Same rows, another scenario underneath: the same actions."""
    market = load_market("us_equity")
    rows = np.asarray(RoutingCore("OrderSplit-v0", market, 5).reset())
    for name in routers.rule_names(market):
        first, second = (routers.make(name, market).predict(rows.copy())[0] for _ in range(2))
        assert np.array_equal(first, second), name


def test_rules_leave_the_observation_alone():
    rows = RoutingCore("OrderSplit-v0", "us_equity", 5).reset()
    kept = rows.copy()
    for name in routers.ROUTER_NAMES:
        routers.make(name, "us_equity").predict(rows)
        assert np.array_equal(rows, kept), name


# ------------------------------------------------------------------------------------------- making


def test_vwap_needs_volume():
    with pytest.raises(UserError, match="router 'vwap' needs traded volume and market 'notebook' has none") as caught:
        routers.make("vwap", "notebook")
    assert "\n" not in str(caught.value)
    assert "vwap" not in routers.rule_names(load_market("notebook"))
    assert "vwap" in routers.rule_names(load_market("us_equity"))


def test_an_unknown_router_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"router 'all_in_swep' is unknown \(did you mean 'all_in_sweep'\?\)"):
        sor_sb3.routers.make("all_in_swep", market="us_equity")


def test_the_oracle_asks_for_an_env():
    with pytest.raises(UserError, match="sees hidden state: give it the env"):
        routers.make("snapshot_oracle", "us_equity")


def test_options_that_a_router_does_not_know_are_refused_by_name():
    with pytest.raises((UserError, TypeError), match="venue"):
        routers.make("pro_rata", "us_equity", venue="NYSE")


def test_evaluate_policy_of_sb3_takes_a_rule():
    from stable_baselines3.common.evaluation import evaluate_policy

    venv = sor_sb3.make_vec_env("OrderSplit-v0", market="notebook", n_envs=4, seed=0)
    mean, _ = evaluate_policy(routers.make("all_in_sized", "notebook"), venv, n_eval_episodes=8)
    assert -1.9 < mean < -1.5
