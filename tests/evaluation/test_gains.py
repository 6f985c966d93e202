"""Where a difference comes from: parts that add up, hybrids that are what they say, and markets that have one cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sor_sb3.envs.observation import ObservationView
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.gains import STEPS, Hybrid, gains
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.protocol import Router

US_EQUITY = load_market("us_equity")
assert isinstance(US_EQUITY, SyntheticMarket)
LIT = tuple(venue for venue in US_EQUITY.venues if venue.dark is None)


class Learned:
    """A rule that stands for a trained policy, and counts its own steps as a recurrent policy's state."""

    kind = "learned"

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.states: list[Any] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        self.states.append(state)
        return self.rule.predict(observation, None, episode_start)[0], (state or 0) + 1


def split(evaluator: Evaluator, policy: Any, rule: str) -> dict[str, Any]:
    made = evaluator.policies([policy])[policy] if isinstance(policy, str) else policy
    policies = {"p": [Learned(made), Learned(made)], **evaluator.policies([rule])}
    evaluation = evaluator.evaluate(policies)
    found = gains(evaluator, evaluation, policies, rule)["p"]
    assert found["against"] == rule
    assert found["difference"] == evaluation.difference("p", rule).mean
    assert sum(part["difference"] for part in found["parts"].values()) == pytest.approx(found["difference"], abs=1e-12)
    return found["parts"]


def excludes_zero(part: dict[str, Any]) -> bool:
    low, high = part["ci95"]
    return low > 0.0 or high < 0.0


@pytest.mark.parametrize(
    ("env", "policy", "parts"),
    [
        ("VenueSelect-v1", "best_price", {"routing", "dark_pools", "timing", "clean_up"}),
        ("OrderSplit-v1", "dark_then_sweep", {"routing", "dark_pools", "timing", "clean_up"}),
        ("OrderExecute-v1", "vwap", {"routing", "dark_pools", "timing", "clean_up"}),
        ("OrderPlace-v1", "post_and_sweep", {"routing", "dark_pools", "passive_fills", "timing", "clean_up"}),
    ],
)
def test_parts_add_up_in_every_env(env, policy, parts):
    assert set(split(Evaluator(env, US_EQUITY, 60), policy, "pro_rata")) == parts


def test_where_all_fills_at_once_all_is_routing():
    assert set(split(Evaluator("OrderSplit-v1", "notebook", 20), "all_in", "pro_rata")) == {"routing"}


@pytest.mark.parametrize("env", ["VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"])
def test_a_hybrid_of_nothing_is_the_rule_and_of_everything_the_policy(env):
    evaluator = Evaluator(env, US_EQUITY, 40)
    names = ["pro_rata", "post_and_sweep" if env == "OrderPlace-v1" else "dark_then_sweep"]
    rule, policy = evaluator.policies(names).values()
    adapter, is_dark = evaluator.core.action_adapter, np.array([v.dark is not None for v in US_EQUITY.venues])
    for taken, same in ((set(), rule), (set(STEPS), policy)):
        hybrid = Hybrid(adapter, is_dark, rule, policy, taken)
        for decision in rollout(evaluator.core, hybrid, evaluator.start()):
            expected = same.predict(decision.observations)[0]
            is_later = ObservationView.of(decision.observations, US_EQUITY).is_later
            for mine, its in zip(*(adapter.decode(a, 40, is_later) for a in (decision.actions, expected)), strict=True):
                if its is not None:
                    np.testing.assert_allclose(mine, its, atol=1e-6)
            if adapter.rests:
                np.testing.assert_allclose(adapter.resting(decision.actions), adapter.resting(expected), atol=1e-6)


def test_each_policy_in_a_hybrid_keeps_its_own_state():
    evaluator = Evaluator("OrderSplit-v1", US_EQUITY, 3)
    rule, policy = (Learned(made) for made in evaluator.policies(["pro_rata", "best_price"]).values())
    evaluator.score("h", Hybrid(evaluator.core.action_adapter, np.zeros(10, dtype=bool), rule, policy, {"routing"}))
    assert policy.states[:3] == [None, 1, 2] == rule.states[:3]


def test_dark_pools_get_what_they_save():
    parts = split(Evaluator("OrderSplit-v1", US_EQUITY, 300), "dark_then_sweep", "net_price_sweep")
    assert parts["routing"] == {"difference": 0.0, "ci95": [0.0, 0.0]}  # the same sweep of the lit venues
    assert parts["dark_pools"]["ci95"][1] < 0.0


def test_passive_fills_get_what_they_save():
    parts = split(Evaluator("OrderPlace-v1", US_EQUITY, 200), "post_and_sweep", "net_price_sweep")
    assert parts["passive_fills"]["ci95"][1] < 0.0
    assert parts["routing"] == {"difference": 0.0, "ci95": [0.0, 0.0]}


@pytest.mark.parametrize("policy", ["pro_rata", "best_price", "vwap"])
def test_without_signal_drift_and_dark_pools_timing_is_nothing(policy):
    """Policies that differ in how much comes back: what waits is as likely to get cheaper as dearer."""
    quiet = US_EQUITY.price.model_copy(update={"drift_sd_bps_per_s": 0.0, "signal_correlation": 0.0})
    market = US_EQUITY.model_copy(update={"price": quiet, "venues": LIT})
    parts = split(Evaluator("OrderSplit-v1", market, 600), policy, "net_price_sweep")
    assert excludes_zero(parts["routing"])
    assert not excludes_zero(parts["timing"])


class Waiter(Router):
    """Sends all where the price is about to rise, and nothing where it is about to fall; split as the sweep does."""

    name = "waiter"

    def weights(self, view: ObservationView) -> np.ndarray:
        return view.sweep_share

    def pace(self, view: ObservationView) -> np.ndarray:
        return np.where((view.signal > 0.0) | (view.time_left < 0.1), 1.0, 0.0)


def test_a_policy_that_gains_by_not_filling_is_seen_to_do_so():
    signal = US_EQUITY.price.model_copy(update={"drift_sd_bps_per_s": 1.0, "signal_correlation": 0.9})
    market = US_EQUITY.model_copy(update={"price": signal, "venues": LIT})
    parts = split(Evaluator("OrderExecute-v1", market, 200), Waiter(market, "OrderExecute-v1"), "net_price_sweep")
    assert parts["timing"]["ci95"][1] < 0.0
    assert abs(parts["routing"]["difference"]) < 0.1 * abs(parts["timing"]["difference"])
