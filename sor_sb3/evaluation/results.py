"""From an evaluation to ``results.json``: what is compared with what, and the verdicts. Nothing is printed here.

A positive cost is bad; a negative difference means that `policy` is cheaper than `against`.
"""

import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from sor_sb3.evaluation.evaluator import Evaluation
from sor_sb3.evaluation.formats import interval, signed
from sor_sb3.evaluation.statistics import holm, pairing_variance_reduction, probability_better
from sor_sb3.evaluation.verdicts import compared, finite, headline

Runs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Learning curves of one algorithm: (timesteps (E,), mean validation costs (E,)) of each training seed."""


def system_versions() -> dict[str, str]:
    """Versions of what computed a result, and the machine's kind."""
    names = ("sor-sb3", "gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy", "numba")
    versions = {name: metadata.version(name) for name in names}
    return {"python": sys.version.split()[0], "platform": platform.platform(), **versions}


def policy_entry(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """One policy's measures; null where a measure has no meaning in the market."""
    scores, cost, gap = evaluation.scores[name], evaluation.cost(name), evaluation.gap_closed(name)
    shares = scores.venue_shares.mean(axis=0).tolist()
    return {
        "name": name,
        "kind": scores.kind,
        "training_seeds": scores.n_seeds if scores.kind == "learned" else None,
        "cost": cost.mean,
        "cost_ci95": finite(cost.ci95),
        "cost_parts": {part: float(values.mean()) for part, values in scores.parts.items()},
        **{measure: scores.mean(measure) for measure in scores.measures},
        "latency_ms": scores.latency_quantiles_ms(),
        "gap_closed": gap.mean if gap else None,
        "gap_closed_ci95": finite(gap.ci95) if gap else None,
        "venue_shares": dict(zip(evaluation.market.venue_names, shares, strict=True)),
    }


def beyond_oracle(evaluation: Evaluation) -> list[str]:
    """A sentence for each policy that is cheaper than the oracle, whose sight ends with a step, cheapest first."""
    if evaluation.oracle not in evaluation.scores:
        return []
    passing = [name for name in evaluation.names("learned", "rule") if evaluation.passes_oracle(name)]
    unit, oracle = evaluation.market.cost_unit, evaluation.oracle
    found = [(name, evaluation.difference(name, oracle)) for name in passing]
    return [f"{name} passes {oracle}, which is myopic: {signed(d.mean)} {unit} {interval(d.ci95)}" for name, d in found]


def make_results(evaluation: Evaluation, best_rule: str, config: dict[str, Any]) -> dict[str, Any]:
    """The content of ``results.json``: every learned policy against the best rule, the reference and each other.

    All numbers come from `evaluation`, of test scenarios; `best_rule` was the cheapest on validation scenarios, and
    `config` is what was run, as plain data.
    """
    market, learned = evaluation.market, evaluation.names("learned")
    reference = market.reference_router
    pairs = [(policy, best_rule) for policy in learned]
    if reference != best_rule and reference in evaluation.scores:
        pairs += [(policy, reference) for policy in learned]
        pairs.append((best_rule, reference))
    pairs += [(a, b) for i, a in enumerate(learned) for b in learned[i + 1 :]]
    if not learned:
        pairs = [(name, best_rule) for name in evaluation.names("rule") if name != best_rule]
    differences = [evaluation.difference(a, b) for a, b in pairs]
    corrected = holm([d.p_value for d in differences]).tolist()
    costs = {name: scores.cost for name, scores in evaluation.scores.items()}
    results = {
        "market": market.name,
        "env": evaluation.env_id,
        "scenarios": evaluation.n_scenarios,
        "cost_unit": market.cost_unit,
        "price_unit": market.price_unit,
        "best_rule": best_rule,
        "reference_rule": reference,
        "oracle": evaluation.oracle,
        "gap_end": evaluation.gap_end,
        "beyond_oracle": beyond_oracle(evaluation),
        "config": config,
        "policies": [policy_entry(evaluation, name) for name in evaluation.names()],
        "comparisons": [
            {
                **compared(a, b, found, p, market.cost_unit),
                "probability_better": probability_better(costs[a], costs[b]),
                # how many times fewer scenarios it took than with separate ones; null if the difference never varies
                "pairing_variance_reduction": finite([pairing_variance_reduction(costs[a], costs[b])])[0],
            }
            for (a, b), found, p in zip(pairs, differences, corrected, strict=True)
        ],
    }
    return results | headline(results)


def learning_curve(runs: Runs) -> dict[str, Any]:
    """Mean and range over training seeds of validation cost, at the first seed's evaluations."""
    steps = runs[0][0]
    costs = np.stack([np.interp(steps, s, c) for s, c in runs])
    low, high = costs.min(axis=0), costs.max(axis=0)
    return {"steps": steps, "mean": costs.mean(axis=0), "low": low, "high": high, "seeds": len(runs)}
