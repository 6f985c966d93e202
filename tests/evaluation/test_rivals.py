"""Learned policies against the rule that is told nothing, the planner, the planner that is mistaken, and the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.rivals import DRAWS, RIVALS, best_model_free, rivals
from sor_sb3.evaluation.statistics import paired_difference
from sor_sb3.market.loading import load_market, parse_market
from sor_sb3.policies.registry import ROUTER_NAMES, find_rule, make
from tests.test_cli import MARKET


class Learner:
    """A rule that says it was learned."""

    kind = "learned"

    def __init__(self, name: str, market: object) -> None:
        self.rule = make(name, market)

    def predict(self, *arguments, **options):
        return self.rule.predict(*arguments, **options)


def test_which_rules_are_told_the_markets_numbers():
    assert [name for name in ROUTER_NAMES if find_rule(name).knows_model] == ["planner"]
    assert best_model_free(["planner", "all_in", "random"]) == "all_in"
    assert best_model_free(["planner"]) is None


def test_against_every_rival(tmp_path, monkeypatch):
    market = parse_market(MARKET, "market.yaml", tmp_path)
    monkeypatch.setattr("sor_sb3.policies.rules.planner.FIT_SCENARIOS", 4)
    evaluator = Evaluator("OrderSplit-v1", market, 12)
    policies = {
        "ppo": [Learner(name, market) for name in ("random", "best_price")],
        **evaluator.policies(["all_in", "pro_rata", "planner", "snapshot_oracle"]),
    }
    evaluation = evaluator.evaluate(policies)
    found = rivals(evaluator, evaluation, policies, "all_in")
    assert list(found["rivals"]) == list(RIVALS)
    assert found["rivals"]["model_free"]["name"] == "all_in"
    assert found["margin"] == evaluation.margin("all_in")
    of = found["policies"]["ppo"]
    costs = evaluation.scores["ppo"].cost
    assert of["seed_costs"] == costs.mean(axis=1).tolist()
    assert of["sd_of_seeds"] == pytest.approx(np.std(costs.mean(axis=1), ddof=1))
    assert of["against"]["model_free"]["difference"] == evaluation.difference("ppo", "all_in").mean
    assert of["against"]["oracle"]["ci95"] == evaluation.difference("ppo", "snapshot_oracle").ci95
    off = evaluator.score("off", [make("planner", market, "OrderSplit-v1", draw=d) for d in range(DRAWS)])
    assert off.n_seeds == DRAWS
    assert of["against"]["planner_off"]["ci95"] == paired_difference(costs, off.cost).ci95
    assert found["rivals"]["planner_off"]["cost"] == off.cost.mean()
    assert "planner_off" not in evaluation.scores


def test_where_nobody_knows_the_numbers_there_is_no_planner():
    evaluator = Evaluator("OrderSplit-v1", load_market("notebook"), 6)
    policies = {"a2c": Learner("random", evaluator.market), **evaluator.policies(["all_in", "snapshot_oracle"])}
    found = rivals(evaluator, evaluator.evaluate(policies), policies, "all_in")
    assert list(found["rivals"]) == ["model_free", "oracle"]
    assert found["policies"]["a2c"]["sd_of_seeds"] is None
