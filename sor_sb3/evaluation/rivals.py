"""Learned policies against what a sceptic would put beside them: a rule that is told nothing, and rules that know.

"model_free" is the best rule that is not told the market's numbers, "planner" the rule that is, "planner_off" the
planner with every number 50 % off, "oracle" the market's. docs/grid.md says how the numbers are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.statistics import holm, mean_with_interval
from sor_sb3.evaluation.verdicts import Stakes, compared, finite
from sor_sb3.policies.registry import find_rule, make

RIVALS = {
    "model_free": "best model-free rule",
    "planner": "planner",
    "planner_off": "planner, 50 % off",
    "oracle": "oracle",
}
"""Rivals by key, with the words for a table."""
DRAWS = 5  # of the planner's mistakes, which an interval takes as it takes training seeds
COMMON_RULE = "net_price_sweep"  # what rules are measured against, over markets: it learns nothing and is told nothing


def best_model_free(ranked: Sequence[str]) -> str | None:
    """The first of the rules, cheapest first, that is not told the market's numbers."""
    known = {name: getattr(find_rule(name), "knows_model", False) for name in ranked}
    return next((name for name in ranked if not known[name]), None)


def rivals(
    evaluator: Evaluator, evaluation: Evaluation, policies: Mapping[str, Any], rule: str, deterministic: bool = True
) -> dict[str, Any]:
    """Every learned policy against each rival on the evaluation's scenarios: content of ``results.json``.

    Args:
        evaluator: of the scenarios that `evaluation` has scored.
        policies: those that were scored, by name.
        rule: the best rule that is not told the market's numbers, named on validation scenarios.
        deterministic: as the policies were scored; rules draw nothing anew.

    Returns:
        "rivals", by key of `RIVALS` name, cost and interval of those that the market has; "margin", of what lies
        between `rule` and the oracle; "policies", by learned policy "seed_costs" (mean cost of each training seed),
        "sd_of_seeds" (None for one seed) and "against", by rival the verdict. Costs are in the market's cost unit.
    """
    scores, names = dict(evaluation.scores), {"model_free": rule, "oracle": evaluation.oracle}
    if "planner" in scores:
        draws = [make("planner", evaluator.market, evaluator.env_id, draw=draw) for draw in range(DRAWS)]
        scores["planner_off"] = evaluator.score("planner_off", draws)
        names |= {"planner": "planner", "planner_off": "planner_off"}
    names = {key: names[key] for key in RIVALS if names.get(key) in scores}
    full = replace(evaluation, scores=scores)
    learned = [name for name in evaluation.names("learned") if name in policies]
    pairs = [(name, key) for name in learned for key in names]
    differences = [full.difference(name, names[key]) for name, key in pairs]
    won, margin = full.could_be_won(rule), full.margin(rule)
    stakes = Stakes(evaluation.market.cost_unit, margin, None if won is None else won.mean)
    corrected = holm([d.p_value for d in differences]).tolist() if pairs else []
    found: dict[str, dict[str, Any]] = {name: {} for name in learned}
    for (name, key), difference, p in zip(pairs, differences, corrected, strict=True):
        found[name][key] = compared(name, names[key], difference, p, stakes)
    return {
        "margin": margin,
        "rivals": {key: {"name": name, **_cost(full, name)} for key, name in names.items()},
        "policies": {name: {**_seeds(full, name), "against": against} for name, against in found.items()},
    }


def _cost(evaluation: Evaluation, name: str) -> dict[str, Any]:
    estimate = mean_with_interval(evaluation.scores[name].cost, evaluation.blocks)
    return {"cost": estimate.mean, "cost_ci95": finite(estimate.ci95)}


def _seeds(evaluation: Evaluation, name: str) -> dict[str, Any]:
    means = evaluation.scores[name].cost.mean(axis=1)
    sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return {"seed_costs": means.tolist(), "sd_of_seeds": sd}


def rules_apart(
    evaluator: Evaluator, evaluation: Evaluation, policies: Mapping[str, Any], rule: str, deterministic: bool = True
) -> dict[str, Any]:
    """Every rule, and the oracle, against `COMMON_RULE`, or the market's reference rule where that was not scored.

    Args are those of `rivals`. Returns "against", and "policies", cheapest first, by name "cost", "cost_ci95",
    "difference" and "ci95": its cost less that of "against", paired by scenario, in the market's cost unit.
    """
    names = evaluation.names("rule", "oracle")
    against = COMMON_RULE if COMMON_RULE in names else evaluation.market.reference_router
    found = {}
    for name in names:
        difference = evaluation.difference(name, against)
        found[name] = {**_cost(evaluation, name), "difference": difference.mean, "ci95": finite(difference.ci95)}
    return {"against": against, "policies": found}
