"""Schedules: Almgren and Chriss's numbers, what each pace makes of an order, and schedules over any split."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator, evaluate, standard_rules
from sor_sb3.market.loading import load_market
from sor_sb3.policies.registry import GROUPS, find_rule, rule_names
from sor_sb3.policies.rules.schedules import (
    LinearImpact,
    almgren_chriss,
    almgren_chriss_holdings,
    observed_volume,
)
from tests.policies.golden import GOLDEN
from tests.policies.test_rules import hand_made

SCHEDULES = ("almgren_chriss", "twap", "vwap_curve", "pov")
PACED = ("OrderExecute-v1", "OrderPlace-v1")
# Almgren and Chriss 2001, section 4: a share at $50, 30 % a year, 5 days, 5 intervals, a spread of 1/8
PAPER = LinearImpact(volatility=0.95, temporary=2.5e-6, permanent=2.5e-7, fixed=0.0625)


def frontier(risk_aversion: float):
    return almgren_chriss(1e6, 5.0, 5, PAPER, risk_aversion)


# ------------------------------------------------------------------------------------------- the published numbers


def test_the_schedule_of_least_cost():
    even = frontier(0.0)
    np.testing.assert_allclose(even.holdings, np.linspace(1e6, 0.0, 6))
    assert even.kappa == 0.0
    assert even.standard_deviation**2 == pytest.approx(1.083e12, rel=1e-4)
    assert frontier(1e-12).expected_cost == pytest.approx(even.expected_cost, abs=0.5)


def test_the_numbers_of_the_paper():
    point = frontier(1e-6)
    GOLDEN["almgren_chriss"].check(
        even_cost=frontier(0.0).expected_cost,
        kappa=point.kappa,
        cost=point.expected_cost,
        deviation=point.standard_deviation,
        holdings=point.holdings[1:5],
    )
    assert point.holdings[0] == pytest.approx(1e6) and point.holdings[-1] == pytest.approx(0.0, abs=0.5)


def test_another_point_of_the_frontier():
    point = frontier(2e-6)
    assert point.kappa == pytest.approx(0.8463, abs=5e-5)
    assert (point.expected_cost, point.standard_deviation) == pytest.approx((1_140_715, 449_368), abs=0.5)


@given(st.floats(1e-8, 1e-5), st.integers(0, 3), st.floats(-1e4, 1e4))
def test_no_other_schedule_is_better(risk_aversion, where, shares):
    """Moving shares between two intervals does not lower mean plus risk aversion times variance."""

    def utility(holdings: np.ndarray) -> float:
        traded = -np.diff(holdings)
        cost = (
            0.5 * PAPER.permanent * 1e12
            + PAPER.fixed * 1e6
            + (PAPER.temporary - 0.5 * PAPER.permanent) * traded @ traded
        )
        return float(cost + risk_aversion * PAPER.volatility**2 * holdings[1:] @ holdings[1:])

    best = frontier(risk_aversion)
    assert utility(best.holdings) == pytest.approx(best.expected_cost + risk_aversion * best.standard_deviation**2)
    other = best.holdings.copy()
    other[1 + where] += shares
    assert utility(other) >= utility(best.holdings) * (1.0 - 1e-12)


@given(st.floats(0.0, 500.0), st.integers(1, 50))
def test_holdings_fall_to_nothing_whatever_the_urgency(kappa, intervals):
    holdings = almgren_chriss_holdings(1.0, intervals, kappa)
    assert holdings[0] == pytest.approx(1.0) and holdings[-1] == 0.0
    assert np.isfinite(holdings).all() and (np.diff(holdings) <= 1e-12).all()


def test_a_temporary_impact_that_is_too_small_is_refused():
    with pytest.raises(UserError, match=r"temporary impact is 1e-07; expected more than permanent \* horizon"):
        almgren_chriss(1e6, 5.0, 5, LinearImpact(0.95, 1e-7, 2.5e-7))


# --------------------------------------------------------------------------------------------- paces of an order


def notebook_of(steps: int):
    """A market in which all fills."""
    return load_market("notebook", {"order.horizon_steps": steps})


def holdings_of(router, market, env_id: str = "OrderExecute-v1") -> np.ndarray:
    """Share of the order that is left before each decision, and after the last."""
    core = RoutingCore(env_id, market, 1)
    core.seed([3])
    rows, left, done = core.reset(), [], False
    while not done:
        left.append(float(ObservationView.of(rows, market).remaining[0]))
        rows, _, ended = core.step(router.predict(rows)[0])
        done = bool(ended[0])
    return np.array([*left, 0.0])


def test_where_all_fills_an_order_has_the_holdings_of_the_paper():
    market, kappa = notebook_of(5), frontier(1e-6).kappa
    router = routers.make("almgren_chriss", market, "OrderExecute-v1", urgency=5 * kappa)
    np.testing.assert_allclose(1e6 * holdings_of(router, market), frontier(1e-6).holdings, atol=2.0)


def test_without_urgency_it_is_the_twap():
    market = notebook_of(8)
    lazy = routers.make("almgren_chriss", market, "OrderExecute-v1", urgency=0.0)
    even = routers.make("twap", market, "OrderExecute-v1")
    np.testing.assert_allclose(holdings_of(even, market), np.linspace(1.0, 0.0, 9), atol=1e-6)
    np.testing.assert_allclose(holdings_of(lazy, market), holdings_of(even, market), atol=1e-6)


def test_urgency_buys_earlier():
    market = notebook_of(10)
    left = [
        holdings_of(routers.make("almgren_chriss", market, "OrderExecute-v1", urgency=u), market)
        for u in (0.0, 1.0, 3.0)
    ]
    for slower, faster in itertools.pairwise(left):
        assert (faster[1:-1] < slower[1:-1]).all()
    assert left[2][2] < 0.6


def test_a_volume_curve_is_followed():
    market = hand_made()
    router = routers.make("vwap_curve", market, "OrderExecute-v1", curve=[1, 1, 3, 1, 0, 0, 1, 1])
    shares = [float(router.share(None, np.array([float(d)]))[0]) for d in (4, 3, 2, 1)]
    left = np.cumprod([1.0, *(1.0 - np.array(shares))])
    np.testing.assert_allclose(-np.diff(left), [2 / 8, 4 / 8, 0.0, 2 / 8])


def test_the_curve_of_training_scenarios_is_flat_where_orders_begin_at_any_time():
    market = load_market("us_equity")
    volume = observed_volume(market, 64)
    per_step = market.volume.shares_per_day * market.order.step_s / market.volume.day_s
    assert volume.shape == (20,) and volume.mean() == pytest.approx(per_step, rel=0.1)
    assert volume.std() < 0.3 * volume.mean()


def test_pov_takes_its_part_of_the_volume():
    market = load_market("us_equity")
    core = RoutingCore("OrderExecute-v1", market, 8)
    core.seed(list(range(8)))
    view = ObservationView.of(core.reset(), market)
    router = routers.make("pov", market, "OrderExecute-v1", rate=0.05)
    child = router.pace(view) * market.order.quantity_shares
    others = 2.0 * view.outflow_shares.sum(axis=1)
    np.testing.assert_allclose(child / (child + others), 0.05, rtol=1e-6)


def test_pov_fills_the_order_in_the_mean_volume_unless_told_otherwise():
    market = load_market("us_equity")
    router = routers.make("pov", market, "OrderExecute-v1")
    expected = observed_volume(market).sum() * router.rate / (1.0 - router.rate)
    assert expected == pytest.approx(market.order.quantity_shares)


# --------------------------------------------------------------------------------------- a schedule and a split


@pytest.mark.parametrize("env_id", PACED)
def test_every_schedule_goes_with_every_rule(env_id):
    market = load_market("us_equity", {"order.horizon_steps": 4})
    core = RoutingCore(env_id, market, 3)
    core.seed([0, 1, 2])
    rows = core.reset()
    splits = [name for name in rule_names(market, env_id, GROUPS) if name not in SCHEDULES]
    for split in splits:
        constants = {what: values[0] for what, values in find_rule(split).constants.items()}
        options = {"venue": "NYSE"} if split == "best_fixed_venue" else constants
        options = {"draw": 0, "continuation": (1.0, 0.0)} if split == "planner" else options
        made = routers.make(split, market, env_id, **options)
        alone = core.action_adapter.decode(made.predict(rows)[0])[0]
        for schedule, chosen in (("almgren_chriss", {"urgency": 2.0}), ("pov", {"rate": 0.1}), ("twap", {})):
            router = routers.make(schedule, market, env_id, split=made, **chosen)
            actions = router.predict(rows)[0]
            assert all(core.action_space.contains(action) for action in actions), (schedule, split)
            weights, pace = core.action_adapter.decode(actions)
            if schedule == "twap":
                np.testing.assert_allclose(pace, 0.25, atol=1e-6)
                np.testing.assert_allclose(weights, alone, atol=1e-6 if split != "random" else 1.0)


def test_a_schedule_is_made_by_its_name_and_the_splits():
    market = load_market("us_equity")
    for made in (
        routers.make("twap+pro_rata", market, "OrderExecute-v1"),
        routers.make("twap", market, "OrderExecute-v1", split="pro_rata"),
    ):
        assert made.name == "twap" and made.split.name == "pro_rata"
    scores = Evaluator("OrderExecute-v1", market, 20)
    result = scores.evaluate(scores.policies(["twap+pro_rata", "twap", "pro_rata"]))
    assert result.names("rule") and set(result.scores) == {"twap+pro_rata", "twap", "pro_rata"}
    assert len({float(s.cost.mean()) for s in result.scores.values()}) == 3


def test_the_sweep_of_an_even_slice_is_the_one_that_observations_hold():
    market = load_market("us_equity", {"order.synchronise_arrivals": False})
    core = RoutingCore("OrderExecute-v1", market, 64)
    core.seed(list(range(64)))
    view = ObservationView.of(core.reset(), market)
    router = routers.make("twap", market, "OrderExecute-v1")
    np.testing.assert_allclose(router._swept(view), view.sweep_share, atol=1e-5)


def test_a_large_child_is_swept_over_more_venues_than_a_small_one():
    market = load_market("us_equity")
    core = RoutingCore("OrderExecute-v1", market, 32)
    core.seed(list(range(32)))
    rows = core.reset()
    counts = [
        (
            core.action_adapter.decode(routers.make("pov", market, "OrderExecute-v1", rate=rate).predict(rows)[0])[0]
            > 1e-4
        )
        .sum(axis=1)
        .mean()
        for rate in (0.01, 0.3)
    ]
    assert counts[1] > counts[0] + 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pro_rata+twap", r"'pro_rata' is no schedule; expected one of almgren_chriss, twap, vwap_curve, pov"),
        ("twap+pov", r"'pov' is no rule that splits"),
        ("twap+pro_rat", r"'pro_rat' is no rule that splits \(did you mean 'pro_rata'\?\)"),
        ("twap+snapshot_oracle", r"'snapshot_oracle' is no rule that splits"),
        ("twap+post_and_sweep", r"'post_and_sweep' lets orders rest, which OrderExecute-v1 cannot"),
    ],
)
def test_what_cannot_be_combined_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        routers.make(name, "us_equity", "OrderExecute-v1")


@pytest.mark.parametrize("name", ["twap", "twap+pro_rata"])
@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1"])
def test_a_schedule_is_refused_where_the_env_sets_the_pace(name, env_id):
    with pytest.raises(UserError, match=f"a schedule, and {env_id} sets the pace itself; take OrderExecute-v1"):
        routers.make(name, "us_equity", env_id)
    assert not set(SCHEDULES) & set(rule_names(load_market("us_equity"), env_id, GROUPS))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("almgren_chriss", {"urgency": -1.0}, "urgency is -1.0; expected a number from 0"),
        ("almgren_chriss", {"urgency": math.nan}, "urgency is nan"),
        ("pov", {"rate": 1.0}, "rate is 1.0; expected our part of all volume, between 0 and 1"),
        ("vwap_curve", {"curve": []}, "expected a list of volumes"),
        ("vwap_curve", {"curve": [1.0, -1.0]}, "expected a list of volumes"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        routers.make(name, "us_equity", "OrderExecute-v1", **options)


@pytest.mark.parametrize("name", ["pov", "vwap_curve"])
def test_schedules_of_volume_need_volume(name):
    with pytest.raises(UserError, match=f"router '{name}' needs traded volume"):
        routers.make(name, "notebook", "OrderExecute-v1")


def test_a_comparison_runs_schedules_only_by_name():
    market = load_market("us_equity")
    for env_id in PACED:
        assert set(SCHEDULES) < set(rule_names(market, env_id, GROUPS))
        assert not set(SCHEDULES) & set(standard_rules(market, env_id))


def test_a_resting_split_rests_under_a_schedule():
    market = load_market("us_equity", {"order.horizon_steps": 6})
    split = routers.make("join_pro_rata", market, "OrderPlace-v1", patience=4, ahead=1.0)
    router = routers.make("twap", market, "OrderPlace-v1", split=split)
    result = sor_sb3.evaluate({"both": router, "split": split}, env="OrderPlace-v1", market=market, scenarios=20)
    core = RoutingCore("OrderPlace-v1", market, 4)
    core.seed([0, 1, 2, 3])
    actions = router.predict(core.reset())[0]
    assert (core.action_adapter.resting(actions).sum(axis=1) > 0.0).all()
    assert np.isfinite(result.scores["both"].cost).all()


def test_schedules_see_nothing_but_their_rows():
    market = load_market("us_equity")
    rows = np.asarray(RoutingCore("OrderExecute-v1", market, 5).reset())
    for name, options in (("almgren_chriss", {"urgency": 1.0}), ("twap", {}), ("pov", {"rate": 0.1})):
        first, second = (routers.make(name, market, "OrderExecute-v1", **options).predict(rows.copy())[0] for _ in "ab")
        assert np.array_equal(first, second), name


def test_a_faster_schedule_is_less_exposed_to_the_markets_moves():
    market = load_market("us_equity")
    paces = {u: routers.make("almgren_chriss", market, "OrderExecute-v1", urgency=u) for u in (0.0, 6.0)}
    result = evaluate({str(u): router for u, router in paces.items()}, "OrderExecute-v1", market, 300)
    timing = {name: scores.parts["timing"].std() for name, scores in result.scores.items()}
    assert timing["6.0"] < 0.8 * timing["0.0"]
