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
from sor_sb3.policies import registry
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.market_strategies import SEEDS, markets
from tests.simulator.records import orders_of, venues_of

MARKETS = ("notebook", "notebook_blind", "us_equity")
ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1")
FEES = (0.3, -0.2, 0.1, 0.0)


def hand_made(names=("B", "A", "C", "D"), waves: int = 2, **order) -> SyntheticMarket:
    """Four venues, 400 shares in four steps of one second and two waves; one level is shown."""
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400.0, "horizon_steps": 4, "step_s": 1.0, "waves": waves, **order},
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
        # where a venue is closed or dark nothing is displayed
        self.venues["observed_shares"] = np.asarray(self.venues["observed_shares"]) * np.asarray(self.venues["open"])
        return self

    def second_wave(self, returned: float = 100.0) -> Scene:
        """In the second wave of a decision, of whose 100 shares so many came back."""
        for name, value in {
            "wave": 1,
            "returned_shares": returned,
            "slice_shares": returned,
            "sent_shares": 100.0,
        }.items():
            self.order[name] = value
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
    # venue 0: .2 x 1.3 + .8 x 4, the worst that is shown; venue 1: 1.8
    assert scene.route("all_in").tolist() == one_hot(0)
    assert scene.route("all_in_sized").tolist() == one_hot(1)
    scene.set(observed_shares=[100, 100, 100, 100])  # all can: 1.3 is least
    assert scene.route("all_in_sized").tolist() == one_hot(0)


def test_net_price_sweep_takes_displays_in_order_of_price():
    scene = Scene()  # all-in 1.3, 1.8, 3.1, 4.0; displayed 50, 60, 70, 20; slice 100
    np.testing.assert_allclose(scene.route("net_price_sweep"), [0.5, 0.5, 0.0, 0.0], atol=1e-6)
    scene.set(observed_offset_bps=[3, 2, 0.5, 0.55])  # all-in 3.3, 1.8, .6, .55
    np.testing.assert_allclose(scene.route("net_price_sweep"), [0.0, 0.1, 0.7, 0.2], atol=1e-6)


def test_net_price_sweep_breaks_ties_by_name():
    scene = Scene().set(
        observed_offset_bps=[0.7, 1.2, 0.9, 5.0], observed_shares=[100, 100, 100, 100]
    )  # A, B, C all at 1.0
    np.testing.assert_allclose(scene.route("net_price_sweep"), one_hot(1), atol=1e-6)  # A, whose number is 1


def test_net_price_sweep_spreads_what_displays_cannot_take():
    scene = Scene().set(observed_shares=[10, 20, 0, 10])
    np.testing.assert_allclose(scene.route("net_price_sweep"), [0.25, 0.5, 0.0, 0.25], atol=1e-6)


def test_net_price_sweep_is_the_cheapest_split_where_quotes_are_firm():
    """Against every split of ten lots over three venues, priced level by level by the ledger itself."""
    venue = {"offset_bps": 2.0, "latency_ms": 0.0, "latency_sigma": 0.0, "toxicity": 0.0}
    market = SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 100, "horizon_steps": 1, "step_s": 1.0, "lot_shares": 10, "limit": "sweep"},
            "venues": [
                {"name": name, "take_fee_bps": fee, "size_shares": size, **venue}
                for name, fee, size in (("A", 0.3, 40.0), ("B", -0.4, 15.0), ("C", 0.0, 25.0))
            ],
            "quotes": {"tick_bps": 1.0, "level_profile": [1.0, 1.0, 1.0, 1.0], "round_lot_shares": 10.0},
            "price": {"volatility_bps_per_sqrt_s": 0.0},
            "response": {"cleanup_penalty_bps": 50.0},
        }
    )
    splits = np.array([(a, b, 10 - a - b) for a in range(11) for b in range(11 - a)]) / 10.0
    for seed in range(12):
        core = RoutingCore("OrderSplit-v1", market, len(splits) + 1)
        core.seed([seed] * core.n)
        rule = routers.make("net_price_sweep", market).predict(core.reset())[0][:1]
        core.step(np.concatenate([splits, rule]).astype(np.float32))
        costs = core.simulator.ledger()["shortfall"]
        assert core.simulator.measures()["completion"][-1] == 1.0
        assert costs[-1] == pytest.approx(costs.min(), abs=1e-9)
        assert np.ptp(costs) > 0.3


def test_stale_sniper_buys_what_is_offered_below_anothers_midpoint():
    scene = Scene().set(observed_near_offset_bps=[1, 1, 1, 1])  # midpoints 0, .5, 1, 1.5: below that lies venue 0's 1
    assert scene.route("stale_sniper").tolist() == one_hot(0)
    scene.set(observed_offset_bps=[1, 1.2, 3, 4])
    np.testing.assert_allclose(scene.route("stale_sniper"), np.array([50, 60, 0, 0]) / 110, atol=1e-6)
    scene.set(observed_offset_bps=[4, 3, 3.5, 4], observed_near_offset_bps=[4, 4, 4, 4])
    assert scene.route("stale_sniper").tolist() == scene.route("best_price").tolist() == one_hot(1)


def test_pro_rata_splits_by_displayed_size():
    scene = Scene()
    np.testing.assert_allclose(scene.route("pro_rata"), [0.25, 0.3, 0.35, 0.1], atol=1e-6)
    scene.set(observed_shares=[0, 60, 70, 20])  # what we took is not displayed
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
    core = RoutingCore("VenueSelect-v1", market, 4000)
    core.seed(list(range(4000)))
    core.reset()
    venues_of(core.simulator)["open"] = [1, 0, 1, 1]
    rows = core.observer.observe()
    choices = routers.make("random", market, "VenueSelect-v1", seed=1).predict(rows)[0]
    counts = np.bincount(choices, minlength=4)
    assert counts[1] == 0 and np.all(np.abs(counts[[0, 2, 3]] - 4000 / 3) < 5 * np.sqrt(4000 * 2 / 9))
    split = routers.make("random", market, seed=1).predict(rows)[0]
    assert np.all(split[:, 1] == 0.0) and np.abs(split.mean(axis=0)[[0, 2, 3]] - 1 / 3).max() < 0.02
    again = [routers.make("random", market, seed=s).predict(rows)[0] for s in (1, 1, 2)]
    assert np.array_equal(again[0], again[1]) and not np.array_equal(again[0], again[2])


# ---------------------------------------------------------------------------------------------- waves


def pools(waves: int = 2, **changes) -> SyntheticMarket:
    """Two lit venues and two dark pools, of which the second executes 30 shares at least."""
    base = hand_made(names=("A", "B", "P", "Q"), waves=waves)
    data = base.model_dump()
    for venue, least in zip(data["venues"][2:], (0.0, 30.0), strict=True):
        dark = {"zero_probability": 0.5, "power_exponent": 1.0, "max_shares": 1000.0, "min_execution_shares": least}
        venue |= {"offset_bps": None, "size_shares": None, "dark": dark}
    return SyntheticMarket.model_validate(data)


def dark_scene(**options) -> Scene:
    return Scene(pools(**options)).set(observed_offset_bps=[1, 2, 0, 0], observed_shares=[60, 60, 0, 0])


def test_round_robin_sends_what_comes_back_to_the_next_in_turn():
    assert np.argmax(Scene().second_wave().route("round_robin")) == 1


def test_a_venue_that_has_just_rejected_gets_nothing_in_the_same_decision():
    scene = Scene().set(reject=[1, 0, 0, 0])
    assert scene.route("all_in").tolist() == one_hot(0)  # of the decision before
    assert scene.second_wave().route("all_in").tolist() == [0.0] * 4
    np.testing.assert_allclose(scene.route("net_price_sweep"), [0, 1, 0, 0], atol=1e-6)


def test_a_rule_without_a_venue_left_holds_back_where_the_env_can():
    scene = Scene().second_wave().set(observed_shares=[0, 0, 0, 0])
    for name in ("best_price", "net_price_sweep", "pro_rata"):
        assert scene.route(name).tolist() == [0.0] * 4
        row = Observer(scene.simulator).observe()
        assert 0 <= routers.make(name, scene.market, "VenueSelect-v1").predict(row)[0][0] < 4


def test_in_a_later_wave_all_that_came_back_is_offered():
    scene = Scene().second_wave(40.0)
    row = Observer(scene.simulator).observe()
    assert routers.make("net_price_sweep", scene.market, "OrderExecute-v1").predict(row)[0][0, -1] == 1.0


def test_dark_then_sweep_asks_the_pools_first_and_sweeps_what_comes_back():
    scene, constants = dark_scene(), {"dark_share": 0.8, "least_attention": 0.5}
    # .8 of 100 shares: 64 and 16 by the squares of 1 and .5, but Q executes no fewer than 30
    scene.set(fill_ratio=[1, 1, 1.0, 0.1])
    np.testing.assert_allclose(scene.route("dark_then_sweep", **constants), [0.12, 0.08, 0.8, 0.0], atol=1e-6)
    scene.set(fill_ratio=[1, 1, 1.0, 1.0])
    np.testing.assert_allclose(scene.route("dark_then_sweep", **constants), [0.12, 0.08, 0.4, 0.4], atol=1e-6)
    scene.set(open=[1, 1, 0, 0])
    np.testing.assert_allclose(scene.route("dark_then_sweep", **constants), [0.6, 0.4, 0, 0], atol=1e-6)
    scene.set(open=[1, 1, 1, 1]).second_wave(70.0)
    np.testing.assert_allclose(scene.route("dark_then_sweep", **constants), np.array([60, 10, 0, 0]) / 70, atol=1e-6)


def test_dark_first_uses_one_wave():
    scene, constants = dark_scene(), {"dark_share": 0.2, "least_attention": 0.05}
    weights = scene.route("dark_first", **constants)
    np.testing.assert_allclose(weights, [0.48, 0.32, 0.2, 0.0] if weights[3] == 0 else weights, atol=1e-6)
    assert weights[2:].sum() == pytest.approx(0.2)
    assert scene.second_wave().route("dark_first", **constants).tolist() == [0.0] * 4


def test_dark_then_sweep_needs_a_pool_and_two_waves():
    for market, fits in ((pools(), True), (pools(waves=1), False), (hand_made(), False)):
        assert ("dark_then_sweep" in routers.rule_names(market)) == fits
    assert "dark_first" in routers.rule_names(pools(waves=1))


def test_constants_are_the_best_of_their_grid_on_validation_scenarios():
    """A pool that leaks twenty bps per thousand shares is asked as little as the grid allows."""
    data = pools().model_dump()
    for venue in data["venues"][2:]:
        venue["dark"]["leakage_bps_per_1000_shares"] = 20.0
    leaky = routers.make("dark_then_sweep", SyntheticMarket.model_validate(data))
    assert leaky.dark_share == min(leaky.constants["dark_share"])
    for venue in data["venues"][2:]:
        venue["dark"] |= {"leakage_bps_per_1000_shares": 0.0, "zero_probability": 0.0, "power_exponent": -3.0}
    generous = routers.make("dark_then_sweep", SyntheticMarket.model_validate(data))
    assert generous.dark_share == max(generous.constants["dark_share"])
    given = routers.make("dark_then_sweep", SyntheticMarket.model_validate(data), dark_share=0.33)
    assert given.dark_share == 0.33 and given.least_attention in given.constants["least_attention"]


# ---------------------------------------------------------------------------------------------- what all keep to


TAKERS = tuple(
    name for name, rule in registry._ROUTERS.items() if not (rule.rests or rule.paces) and rule.group == "standard"
)  # those of the literature: test_online.py
OPEN_MINDED = [name for name in TAKERS if name != "best_fixed_venue"]


def quickly(name: str, market, env_id: str = "OrderSplit-v1"):
    """A rule of such a name that is not tuned first."""
    constants = {what: values[0] for what, values in registry._ROUTERS[name].constants.items()}
    options = {"venue": market.venue_names[-1]} if name == "best_fixed_venue" else constants
    return routers.make(name, market, env_id, **options)


@pytest.mark.parametrize("name", OPEN_MINDED)
def test_halted_venues_get_nothing_while_one_is_open(name):
    scene = Scene().set(open=[0, 0, 1, 0])
    assert scene.route(name).tolist() == one_hot(2)


@pytest.mark.parametrize("name", TAKERS)
def test_where_all_is_halted_or_empty_there_is_still_an_action(name):
    for state in (
        {"open": [0, 0, 0, 0]},
        {"observed_shares": [0, 0, 0, 0]},
        {"recent_volume_shares": [0, 0, 0, 0]},
    ):
        weights = Scene().set(**state).route(name)
        assert np.isfinite(weights).all() and weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_actions_lie_inside_the_space_and_one_row_is_as_good_as_many(env_id, market):
    core = RoutingCore(env_id, market, 6)
    core.seed(list(range(6)))
    for name in routers.rule_names(core.market):
        rows = core.reset()
        router = quickly(name, core.market, env_id)
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
            actions = quickly(name, market, env_id).predict(rows)[0]
            assert all(core.action_space.contains(action) for action in actions), name
            weights, _ = core.action_adapter.decode(actions)
            assert np.allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", [n for n in TAKERS if n not in ("random", "round_robin", "best_fixed_venue")])
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
    rows = np.asarray(RoutingCore("OrderSplit-v1", market, 5).reset())
    for name in routers.rule_names(market):
        first, second = (quickly(name, market).predict(rows.copy())[0] for _ in range(2))
        assert np.array_equal(first, second), name


def test_rules_leave_the_observation_alone():
    rows = RoutingCore("OrderSplit-v1", "us_equity", 5).reset()
    kept = rows.copy()
    for name in TAKERS:
        quickly(name, load_market("us_equity")).predict(rows)
        assert np.array_equal(rows, kept), name


# ------------------------------------------------------------------------------------------- making


def test_vwap_needs_volume():
    with pytest.raises(UserError, match="router 'vwap' needs traded volume and market 'notebook' has none") as caught:
        routers.make("vwap", "notebook")
    assert "\n" not in str(caught.value)
    assert "vwap" not in routers.rule_names(load_market("notebook"))
    assert "vwap" in routers.rule_names(load_market("us_equity"))


def test_an_unknown_router_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"router 'net_price_swep' is unknown \(did you mean 'net_price_sweep'\?\)"):
        sor_sb3.routers.make("net_price_swep", market="us_equity")


def test_the_oracle_asks_for_an_env():
    with pytest.raises(UserError, match="sees hidden state: give it the env"):
        routers.make("snapshot_oracle", "us_equity")


def test_options_that_a_router_does_not_know_are_refused_by_name():
    with pytest.raises((UserError, TypeError), match="venue"):
        routers.make("pro_rata", "us_equity", venue="NYSE")


def test_evaluate_policy_of_sb3_takes_a_rule():
    from stable_baselines3.common.evaluation import evaluate_policy

    venv = sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0)
    mean, _ = evaluate_policy(routers.make("all_in_sized", "notebook"), venv, n_eval_episodes=8)
    assert -1.9 < mean < -1.5
