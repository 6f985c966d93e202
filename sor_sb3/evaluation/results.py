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
from sor_sb3.evaluation.formats import interval, measured
from sor_sb3.evaluation.statistics import (
    Estimate,
    holm,
    mean_with_interval,
    pairing_variance_reduction,
    probability_better,
)
from sor_sb3.evaluation.verdicts import Stakes, compared, finite, headline

Runs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Learning curves of one algorithm: (timesteps (E,), mean validation costs (E,)) of each training seed."""


def system_versions() -> dict[str, str]:
    """Versions of what computed a result, and the machine's kind."""
    names = ("sor-sb3", "gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy", "numba")
    versions = {name: metadata.version(name) for name in names}
    return {"python": sys.version.split()[0], "platform": platform.platform(), **versions}


def _with_interval(key: str, estimate: Estimate | None) -> dict[str, Any]:
    """A number and its interval, under `key` and `key`_ci95; nulls where there is none."""
    if estimate is None:
        return {key: None, f"{key}_ci95": None}
    return {key: estimate.mean, f"{key}_ci95": finite(estimate.ci95)}


def _measure(evaluation: Evaluation, name: str, measure: str) -> dict[str, Any]:
    """The mean of a measure; its interval where every scenario has a value."""
    scores = evaluation.scores[name]
    values = scores.measures[measure]
    if np.isfinite(values).all():
        return _with_interval(measure, mean_with_interval(values, evaluation.blocks))
    return {measure: scores.mean(measure), f"{measure}_ci95": None}


def policy_entry(evaluation: Evaluation, name: str, best_rule: str) -> dict[str, Any]:
    """One policy's measures; null where a measure has no meaning in the market.

    "sd" is the standard deviation of its cost over scenarios and training seeds, "cvar95" the mean of the dearest 5 %.
    """
    scores = evaluation.scores[name]
    shares = scores.venue_shares.mean(axis=0).tolist()
    return {
        "name": name,
        "kind": scores.kind,
        "training_seeds": scores.n_seeds if scores.kind == "learned" else None,
        **_with_interval("cost", evaluation.cost(name)),
        **{key: value for risk in evaluation.risk(name).items() for key, value in _with_interval(*risk).items()},
        "cost_parts": {part: float(values.mean()) for part, values in scores.parts.items()},
        **{key: value for m in scores.measures for key, value in _measure(evaluation, name, m).items()},
        "latency_ms": scores.latency_quantiles_ms(),
        **_with_interval("gap_closed", evaluation.gap_closed(name)),
        **_with_interval("gap_closed_from_best_rule", evaluation.gap_closed(name, best_rule)),
        "venue_shares": dict(zip(evaluation.market.venue_names, shares, strict=True)),
    }


def beyond_oracle(evaluation: Evaluation) -> list[str]:
    """A sentence for each policy that is cheaper than the oracle, whose sight ends with a step, cheapest first."""
    if evaluation.oracle not in evaluation.scores:
        return []
    passing = [name for name in evaluation.names("learned", "rule") if evaluation.passes_oracle(name)]
    unit, oracle = evaluation.market.cost_unit, evaluation.oracle
    found = [(name, evaluation.difference(name, oracle)) for name in passing]
    return [
        f"{name} passes {oracle}, which is myopic: {measured(d.mean, d.ci95, sign=True)} {unit} {interval(d.ci95)}"
        for name, d in found
    ]


def make_results(evaluation: Evaluation, best_rule: str, config: dict[str, Any]) -> dict[str, Any]:
    """The content of ``results.json``: every learned policy against the best rule, the reference and each other.

    All numbers come from `evaluation`, of test scenarios; `best_rule` was the cheapest on validation scenarios, and
    `config` is what was run, as plain data. "could_be_won" is the best rule's cost less that of the end of the gap,
    null where that is not significantly above 0; "margin" the largest difference that does not matter.
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
    could_be_won = evaluation.could_be_won(best_rule)
    won = None if could_be_won is None else could_be_won.mean
    stakes = Stakes(market.cost_unit, evaluation.margin(best_rule), won)
    results = {
        "market": market.name,
        "env": evaluation.env_id,
        "data_split": evaluation.data_split,
        "scenarios": evaluation.n_scenarios,
        "cost_unit": market.cost_unit,
        "price_unit": market.price_unit,
        "best_rule": best_rule,
        "reference_rule": reference,
        "oracle": evaluation.oracle,
        "gap_end": evaluation.gap_end,
        **_with_interval("could_be_won", could_be_won),
        "margin": stakes.margin,
        "beyond_oracle": beyond_oracle(evaluation),
        "config": config,
        "policies": [policy_entry(evaluation, name, best_rule) for name in evaluation.names()],
        "comparisons": [
            {
                **compared(a, b, found, p, stakes, evaluation.risk_difference(a, b)),
                "probability_better": probability_better(costs[a], costs[b]),
                # how many times fewer scenarios it took than with separate ones; null if the rest is rounding
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
