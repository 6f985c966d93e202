"""Collect every number of a report into ``report.json`` and write the report. Nothing is drawn or scored here.

``FOLDER/report.json  report.html  report.md  tca_parents.csv``; the last has a row a parent order.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.evaluation.aggregates import (
    interquartile_mean,
    normalised_scores,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from sor_sb3.evaluation.analysis import DISTRIBUTION, MEASURES, PolicyAnalysis, analyse
from sor_sb3.evaluation.audit import AUDIT_SCENARIOS, Audit, audit
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores
from sor_sb3.evaluation.results import Runs, learning_curve, system_versions
from sor_sb3.evaluation.risk import RISK_MEASURES, risk
from sor_sb3.evaluation.statistics import Estimate
from sor_sb3.files import write_text
from sor_sb3.market.spec import MarketSpec
from sor_sb3.reports.figures import Data, kinds_of
from sor_sb3.reports.page import render_html, render_markdown

REPORT_JSON, REPORT_HTML, REPORT_MARKDOWN, PARENTS_CSV = "report.json", "report.html", "report.md", "tca_parents.csv"
PROFILE_TAUS = np.linspace(-2.0, 4.0, 49)
AUDIT_SEED = 20_000

Curves = Mapping[str, Runs]


class ReportWriter:
    """Takes the scores of policies while these are evaluated, and writes the report when all are scored.

    The policies, by name, are what was scored in the market: a policy, or a list of one policy's training seeds. The
    audit asks them.
    """

    def __init__(self, market: MarketSpec, policies: Mapping[str, Any]) -> None:
        self.market, self.policies = market, policies
        self.analyses: dict[str, PolicyAnalysis] = {}

    def add(self, scores: Scores) -> None:
        """Analyse a policy's child orders; hand it to `Evaluator.evaluate`."""
        assert scores.children is not None
        self.analyses[scores.name] = analyse(scores.children, self.market.charges_bps, self.market.price_unit)

    def write(
        self, folder: Path, results: Data, evaluation: Evaluation, curves: Curves, baselines: Mapping[str, float]
    ) -> Path:
        """Write the report of `results`, made of `evaluation`, into `folder`; returns the page.

        `curves` are those of `Runs` by algorithm; `baselines` the validation costs of rules and oracles.
        """
        data = report_data(results, evaluation, self.analyses, self._audits(evaluation, results), curves, baselines)
        write_text(folder / REPORT_JSON, json.dumps(data, indent=2, allow_nan=False) + "\n")
        write_text(folder / REPORT_MARKDOWN, render_markdown(data))
        write_text(folder / REPORT_HTML, render_html(data))
        if any(a.parents for a in self.analyses.values()):
            write_text(folder / PARENTS_CSV, _parents_csv(evaluation, self.analyses))
        return folder / REPORT_HTML

    def _audits(self, evaluation: Evaluation, results: dict[str, Any]) -> dict[str, list[Audit]]:
        """Of every learned policy, each training seed, and of the best rule and the reference."""
        evaluator = Evaluator(evaluation.env_id, self.market, AUDIT_SCENARIOS, AUDIT_SEED, evaluation.data_split)
        wanted = [*evaluation.names("learned"), results["best_rule"], results["reference_rule"]]
        members = {name: evaluator.members(self.policies[name]) for name in wanted if name in self.policies}
        return {name: [audit(evaluator, member) for member in of] for name, of in members.items()}


def report_data(
    results: Data,
    evaluation: Evaluation,
    analyses: Mapping[str, PolicyAnalysis],
    audits: Mapping[str, Sequence[Audit]],
    curves: Curves,
    baselines: Mapping[str, float],
) -> Data:
    """Every number of the report, as plain data; null where one has no value."""
    best, names = results["best_rule"], [p["name"] for p in results["policies"]]
    costs = {name: evaluation.scores[name].cost for name in names}
    return plain(
        {
            "results": results,
            "featured": _featured(results),
            "venues": list(evaluation.market.venue_names),
            "description": evaluation.market.description,
            "data_split": evaluation.data_split,
            "first_seed": evaluation.seed,
            "order": evaluation.market.order.model_dump(),
            "blocks": None if evaluation.blocks is None else len(np.unique(evaluation.blocks)),
            "differences": {name: _estimate(evaluation.difference(name, best)) for name in names},
            "distributions": {name: _distribution(cost) for name, cost in costs.items()},
            "difference_distributions": {n: _distribution(c - costs[best][0]) for n, c in costs.items() if n != best},
            "aggregates": _aggregates(evaluation, best),
            "curves": {name: learning_curve(runs) for name, runs in curves.items()},
            "baselines": dict(baselines),
            "states": {name: [vars(cut) for cut in analyses[name].states] for name in names},
            "measures": {key: [m.label, m.unit, m.good] for key, m in MEASURES.items()},
            "tca": {
                name: {key: value for key, value in vars(analyses[name]).items() if key not in ("parents", "states")}
                for name in names
                if analyses[name].totals
            },
            "audit": {name: _audit(list(of)) for name, of in audits.items()},
            "versions": system_versions(),
        }
    )


def _featured(results: Data) -> list[str]:
    """Policies that the detailed figures and tables show: the learned, the best rule, the reference, the oracle."""
    kinds = kinds_of(results)
    learned = [name for name, kind in kinds.items() if kind == "learned"]
    rest = (results["best_rule"], results["reference_rule"], results["oracle"])
    return [name for name in dict.fromkeys([*learned, *rest]) if name in kinds]


def plain(value: Any) -> Any:
    """Arrays and NumPy numbers as lists and floats; what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "low": estimate.ci95_low, "high": estimate.ci95_high}


def _distribution(costs: np.ndarray) -> dict[str, float]:
    named = {f"p{round(100 * q)}": np.quantile(costs, q) for q in DISTRIBUTION}
    risks = {measure: risk(measure, costs).mean for measure in RISK_MEASURES}
    return {**named, "mean": float(costs.mean()), **risks}


def _aggregates(evaluation: Evaluation, best_rule: str) -> Data | None:
    """rliable's four, of scores on which the reference has mean 0 and the oracle 1; None without such a scale."""
    scores, blocks = evaluation.scores, evaluation.blocks
    reference, oracle = scores.get(evaluation.market.reference_router), scores.get(evaluation.gap_end)
    if reference is None or oracle is None:
        return None
    normalised = {n: normalised_scores(s.cost, reference.cost, oracle.cost) for n, s in scores.items()}
    of = {name: cells for name, cells in normalised.items() if cells is not None}  # all of them, or none
    if not of:
        return None

    def summary(name: str) -> Data:
        cells, better = of[name], None
        if name != best_rule:
            better = _estimate(probability_of_improvement(cells, of[best_rule], blocks))
        iqm, gap = interquartile_mean(cells, blocks), optimality_gap(cells, 1.0, blocks)
        return {"iqm": _estimate(iqm), "optimality_gap": _estimate(gap), "improvement": better}

    profiles = {name: performance_profile(cells, PROFILE_TAUS, blocks) for name, cells in of.items()}
    return {
        "policies": {name: summary(name) for name in evaluation.names()},
        "taus": PROFILE_TAUS,
        "profiles": {name: [_estimate(e) for e in profile] for name, profile in profiles.items()},
    }


def _audit(members: Sequence[Audit]) -> Data:
    """One policy's audit: means over its training seeds, and how many of the seeds answer yes."""
    findings = []
    for of in zip(*(m.findings for m in members), strict=True):
        first, yes = of[0], sum(f.yes for f in of)
        answer = "yes" if yes == len(of) else "no" if yes == 0 else f"{yes} of {len(of)} seeds do"
        numbers = ("moved_percent", "flow_before_percent", "flow_after_percent")
        findings.append(
            {
                **{"key": first.key, "question": first.question, "change": first.change, "venue": first.venue},
                **{name: float(np.mean([getattr(f, name) for f in of])) for name in numbers},
                **{"yes": yes == len(of), "answer": first.answer if len(of) == 1 else answer},
            }
        )
    return {
        **{"findings": findings, "favourite": members[0].favourite, "seeds": len(members)},
        "flow_percent": members[0].flow_percent,
    }


def _parents_csv(evaluation: Evaluation, analyses: Mapping[str, PolicyAnalysis]) -> str:
    """A row a parent order: policy, training seed (counted from 1), scenario seed, every measure of it."""
    out = io.StringIO()
    keys = list(next(a.parents for a in analyses.values() if a.parents))
    out.write(",".join(["policy", "training_run", "scenario", *keys]) + "\n")
    n = evaluation.n_scenarios
    for name, analysis in analyses.items():
        columns = [analysis.parents[key].tolist() for key in keys]
        for i, row in enumerate(zip(*columns, strict=True)):
            cells = ["" if math.isnan(v) else f"{v:.10g}" for v in row]
            out.write(",".join([name, str(i // n + 1), str(evaluation.seed + i % n), *cells]) + "\n")
    return out.getvalue()
