"""From an evaluation to ``results.json``: what is compared with what, in which words. No new numbers.

Positive cost is bad; a negative difference means that `policy` is cheaper than `against`.
"""

from __future__ import annotations

import math
from typing import Any

from sor_sb3.evaluation.evaluator import Evaluation
from sor_sb3.evaluation.statistics import (
    Estimate,
    holm,
    pairing_variance_reduction,
    probability_better,
    verdict,
)


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def policy_entry(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """One policy's measures; null where a measure has no meaning in the market."""
    scores, cost, gap = evaluation.scores[name], evaluation.cost(name), evaluation.gap_closed(name)
    return {
        "name": name,
        "kind": scores.kind,
        "training_seeds": scores.n_seeds if scores.kind == "learned" else None,
        "cost": cost.mean,
        "cost_ci95": _finite(cost.ci95),
        "cost_parts": {part: float(values.mean()) for part, values in scores.parts.items()},
        **{measure: scores.mean(measure) for measure in scores.measures},
        "latency_ms": scores.latency_quantiles_ms(),
        "gap_closed": gap.mean if gap else None,
        "gap_closed_ci95": _finite(gap.ci95) if gap else None,
        "venue_shares": dict(
            zip(evaluation.market.venue_names, scores.venue_shares.mean(axis=0).tolist(), strict=True)
        ),
    }


def comparison_entry(
    evaluation: Evaluation, policy: str, against: str, difference: Estimate, p_holm: float
) -> dict[str, Any]:
    """One paired comparison; the verdict is what its own 95 % interval says.

    `probability_better` is the chance that `policy` is the cheaper in a scenario. `pairing_variance_reduction` says how
    many times fewer scenarios it took than with separate ones; null if the difference never varies.

    `p_value_holm` corrects for the number of comparisons made here together; a verdict that it does not bear out is
    printed with a remark.
    """
    costs, others = evaluation.scores[policy].cost, evaluation.scores[against].cost
    return {
        "policy": policy,
        "against": against,
        "difference": difference.mean,
        "ci95": _finite(difference.ci95),
        "p_value": difference.p_value,
        "p_value_holm": p_holm,
        "verdict": verdict(difference),
        "probability_better": probability_better(costs, others),
        "pairing_variance_reduction": _finite([pairing_variance_reduction(costs, others)])[0],
    }


def make_results(evaluation: Evaluation, best_rule: str, config: dict[str, Any]) -> dict[str, Any]:
    """The content of ``results.json``: every learned policy against the best rule, the reference and each other.

    `best_rule` was named on validation days; all numbers here are of test days.
    """
    learned = evaluation.names("learned")
    reference = evaluation.market.reference_router
    pairs = [(policy, best_rule) for policy in learned]
    if reference != best_rule and reference in evaluation.scores:
        pairs += [(policy, reference) for policy in learned]
        pairs.append((best_rule, reference))
    pairs += [(a, b) for i, a in enumerate(learned) for b in learned[i + 1 :]]
    if not learned:
        pairs = [(name, best_rule) for name in evaluation.names("rule") if name != best_rule]
    differences = [evaluation.difference(a, b) for a, b in pairs]
    corrected = holm([d.p_value for d in differences]).tolist() if differences else []
    return {
        "market": evaluation.market.name,
        "env": evaluation.env_id,
        "scenarios": evaluation.n_scenarios,
        "cost_unit": evaluation.market.cost_unit,
        "best_rule": best_rule,
        "reference_rule": reference,
        "oracle": evaluation.market.oracle,
        "config": config,
        "policies": [policy_entry(evaluation, name) for name in evaluation.names()],
        "comparisons": [
            comparison_entry(evaluation, a, b, difference, float(p))
            for (a, b), difference, p in zip(pairs, differences, corrected, strict=True)
        ],
    }
