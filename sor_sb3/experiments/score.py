"""Score trained runs beside every rule and the oracle on the same scenarios: the one flow of compare, evaluate, report.

The numbers are made in `evaluation`; what a report says of them is made in `reports`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.gains import gains
from sor_sb3.evaluation.results import make_results
from sor_sb3.evaluation.rivals import best_model_free, rivals, rules_apart
from sor_sb3.evaluation.robustness import robustness
from sor_sb3.experiments.config import TrainConfig
from sor_sb3.experiments.folder import RESULTS_FILE
from sor_sb3.experiments.run import load_policy, validation_evaluator
from sor_sb3.files import write_json
from sor_sb3.reports.writer import ReportWriter

Run = tuple[TrainConfig, Path]  # a trained run and its folder
Curves = dict[str, list[tuple[np.ndarray, np.ndarray]]]  # by algorithm, (timesteps, mean validation costs) a run
EXTRAS: dict[str, Callable[..., Any]] = {
    "gains": gains,
    "robustness": robustness,
    "rivals": rivals,
    "rules": rules_apart,
}
"""What results may have beside scores: where differences from the best rule come from, what becomes of them on changed
markets, how learned policies stand against a rule that is told nothing and rules that know the market, and how rules
stand against one that every market has."""


@dataclass(frozen=True)
class Scored:
    """Policies scored on test scenarios."""

    results: dict[str, Any]  # the content of ``results.json``
    evaluation: Evaluation  # what the results were made of
    validation: Evaluation  # rules and oracle on the validation scenarios, which named the best rule
    curves: Curves
    writer: ReportWriter | None  # of the report; None where child orders were not recorded

    def write_report(self, folder: Path) -> Path:
        """Write the report into `folder`; returns the page."""
        assert self.writer is not None, "score with report=True"
        return self.writer.write(folder, self.results, self.evaluation, self.curves, self._baseline_costs())

    def write_results(self, folder: Path) -> None:
        """Write ``results.json`` and figures of results and learning curves into `folder`."""
        from sor_sb3.reports.figures import comparison_figure, learning_curves_figure

        results, file = self.results, folder / "learning_curves.png"
        write_json(folder / RESULTS_FILE, results)
        comparison_figure(results, folder / "comparison.png")
        title = f"{results['market']}, {results['env']}: cost on held-out validation scenarios"
        if not self.curves:
            return
        learning_curves_figure(self.curves, self._baseline_costs(), title, results["cost_unit"], file)

    def _baseline_costs(self) -> dict[str, float]:
        return {name: float(scores.cost.mean()) for name, scores in self.validation.scores.items()}


def score_rules_on_validation(env: str, market: Any, rules: Sequence[str]) -> Evaluation:
    """Rules and oracle on the scenarios that may choose, which name the best rule."""
    evaluator = validation_evaluator(env, market)
    return evaluator.evaluate(evaluator.policies(rules))


def policies_of(runs: Sequence[Run], rules: Sequence[str], evaluator: Evaluator) -> dict[str, Any]:
    """By name: every algorithm's trained policies, one a run, then rules and oracle."""
    learned: dict[str, Any] = {}
    for config, folder in runs:
        learned.setdefault(config.algo, []).append(load_policy(config, folder, market=evaluator.market))
    return {**learned, **evaluator.policies(rules)}


def score(
    runs: Sequence[Run],
    rules: Sequence[str],
    evaluator: Evaluator,
    config: dict[str, Any],
    validation: Evaluation | None = None,
    deterministic: bool = True,
    report: bool = False,
    extras: Collection[str] = ("gains",),
) -> Scored:
    """Score runs and rules on the evaluator's scenarios. Runs of one algorithm are taken as its training seeds.

    All `runs` are of one env, and trained on one market or family; `rules` names rules and the oracle. `config` is what
    the results say of how they were made. `validation` is that of `score_rules_on_validation`, where somebody has it;
    `deterministic` policies take their mode. With `report` child orders are recorded, for `Scored.write_report`;
    `extras` are keys of `EXTRAS`, which results have too. Raises UserError: a run is not finished, or its policy does
    not fit the evaluator's market.
    """
    policies = policies_of(runs, rules, evaluator)
    writer = ReportWriter(evaluator.market, policies) if report else None
    if validation is None:
        validation = score_rules_on_validation(evaluator.env_id, evaluator.market, rules)
    evaluation = evaluator.evaluate(policies, deterministic, each=writer.add if writer else None)
    ranked = validation.names("rule")
    results = make_results(evaluation, ranked[0], config)
    for extra in extras:
        rule = best_model_free(ranked) or ranked[0] if extra == "rivals" else ranked[0]
        results[extra] = EXTRAS[extra](evaluator, evaluation, policies, rule, deterministic)
    return Scored(results, evaluation, validation, _learning_curves(runs), writer)


def _learning_curves(runs: Sequence[Run]) -> Curves:
    curves: Curves = {}
    for config, folder in runs:
        with np.load(folder / "evaluations.npz") as log:
            curves.setdefault(config.algo, []).append((log["timesteps"], -log["results"].mean(axis=1)))
    return curves
