"""The audit tells policies that look from policies that do not, and leaves the market as it found it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sor_sb3.envs.observation import ObservationView
from sor_sb3.evaluation.audit import _put_back, _questions, audit
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market

MARKET = load_market("us_equity")


class Looks:
    """Splits by one feature of the observation: a policy that depends on it and on nothing else."""

    def __init__(self, feature: str, sign: float = 1.0) -> None:
        self.feature, self.sign = feature, sign

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ):
        value = getattr(ObservationView.of(observation, MARKET), self.feature).astype(float)
        if value.ndim == 1:
            weights = np.ones((len(value), MARKET.n_venues))
            weights[:, 0] += value / 100.0
        else:
            weights = np.exp(self.sign * (value - value.mean(axis=1, keepdims=True)))
        return (weights / weights.max()).astype(np.float32), state


def answers(policy: Any, env: str = "OrderSplit-v1", market: Any = "us_equity") -> dict[str, tuple[str, float]]:
    evaluator = Evaluator(env, market, 20)
    found = audit(evaluator, evaluator.policies([policy])[policy] if isinstance(policy, str) else policy)
    return {f.key: (f.answer, f.moved_percent) for f in found.findings}


LOOKERS = {
    "latency": Looks("latency_ms", -5.0),
    "fees": Looks("fee_bps", -1.0),
    "own_fills": Looks("fill_ratio"),
    "halt": Looks("open"),
}


@pytest.mark.parametrize("key", LOOKERS)
def test_a_policy_that_looks_at_one_thing_heeds_it_and_ignores_the_rest(key):
    found = answers(LOOKERS[key])
    assert found[key][0] == "no" and found[key][1] > 1.0
    for other in LOOKERS:
        if other != key:
            assert found[other] == ("yes, ignores it", 0.0), other


def test_size_and_urgency_are_told_apart():
    assert answers(Looks("size_shares", 0.01))["size"][0] == "no"
    assert answers(Looks("size_shares", 0.01))["urgency"] == ("yes, ignores it", 0.0)
    assert answers(Looks("slice_shares"))["urgency"][0] == "no"
    assert answers(Looks("slice_shares"))["size"] == ("yes, ignores it", 0.0)


@pytest.mark.parametrize("env", ["VenueSelect-v1", "OrderSplit-v1"])
def test_a_constant_policy_is_called_constant_and_ignores_all(env):
    found = answers("best_fixed_venue", env)
    assert found["constant"] == ("yes, constant", 0.0)
    assert {moved for _, moved in found.values()} == {0.0}


def test_rules_are_what_their_formulas_say():
    sized = answers("all_in_sized")
    assert {key for key, (answer, _) in sized.items() if answer.startswith("yes")} == {"latency", "own_fills"}
    volume = answers("vwap")
    assert {key for key, (answer, _) in volume.items() if answer == "no"} == {"constant", "halt"}


def test_a_policy_that_draws_is_not_taken_for_one_that_looks():
    found = answers("random")
    assert found["constant"][0] == "no, it draws anew"
    assert all(found[key][0].startswith("yes") for key in ("latency", "price", "size", "fees", "own_fills"))


def test_the_notebook_is_asked_about_what_it_has():
    assert set(answers("all_in_sized", market="notebook")) == {"constant", "latency", "price", "size"}


def test_flow_moves_off_a_halted_favourite():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 20)
    found = audit(evaluator, evaluator.policies(["all_in_sized"])["all_in_sized"])
    k = MARKET.venue_names.index(found.favourite)
    for flow in found.flow_percent.values():
        assert flow.sum() == pytest.approx(100.0)
    assert found.flow_percent["unchanged"][k] > 5.0
    assert found.flow_percent["halted"][k] == 0.0


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
def test_every_change_is_seen_and_undone(market):
    evaluator = Evaluator("OrderSplit-v1", market, 5)
    before = evaluator.start()
    simulator, observer = evaluator.core.simulator, evaluator.core.observer
    for question in _questions(evaluator):
        with _put_back(simulator):
            question.apply(simulator, 0)
            if question.key != "own_fills" or market == "us_equity":
                assert (observer.observe() != before).any(), question.key
        np.testing.assert_array_equal(observer.observe(), before)


def test_audited_policies_cost_what_they_cost():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 10)
    policy = evaluator.policies(["pro_rata"])["pro_rata"]
    before = evaluator.score("p", policy).cost
    audit(evaluator, policy)
    np.testing.assert_array_equal(evaluator.score("p", policy).cost, before)


class SplitsByLitSize:
    """Sends most to the dark pools, and the rest to lit venues by displayed size."""

    def __init__(self, market: Any) -> None:
        self.market = market

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ):
        view = ObservationView.of(observation, self.market)
        lit = np.array([venue.dark is None for venue in self.market.venues])
        weights = np.where(lit, np.minimum(view.size_shares, 1000.0) / 1000.0 * 0.1, 1.0)
        return weights.astype(np.float32), state


def test_size_and_price_are_asked_at_the_favourite_lit_venue():
    market = load_market("dark")
    found = audit(Evaluator("OrderSplit-v1", market, 20), SplitsByLitSize(market))
    venues = {f.key: f.venue for f in found.findings}
    assert found.favourite != "LIT"  # a pool, which displays nothing
    assert (venues["size"], venues["price"], venues["constant"]) == ("LIT", "LIT", "")
    assert {venues[key] for key in ("latency", "fees", "own_fills", "halt")} == {found.favourite}
    size = next(f for f in found.findings if f.key == "size")
    assert size.answer == "no" and not size.yes and size.flow_after_percent < size.flow_before_percent


def test_the_answer_is_data_beside_its_words():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 10)
    for name in ("all_in_sized", "random", "best_fixed_venue"):
        for finding in audit(evaluator, evaluator.policies([name])[name]).findings:
            assert finding.yes == finding.answer.startswith("yes")
