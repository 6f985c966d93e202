"""Score trained runs beside every rule and the oracle on the same scenarios: the one flow of compare, evaluate, report.

The numbers are made in `evaluation`; what a report says of them is made in `reports`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sor_sb3.evaluation.analysis import PolicyAnalysis
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores
from sor_sb3.evaluation.gains import gains
from sor_sb3.evaluation.results import make_results
from sor_sb3.evaluation.rivals import best_model_free, rivals, rules_apart
from sor_sb3.evaluation.robustness import robustness
from sor_sb3.experiments.config import TrainConfig
from sor_sb3.experiments.folder import RESULTS_FILE
from sor_sb3.experiments.run import load_policy, validation_evaluator
from sor_sb3.experiments.workers import run_jobs
from sor_sb3.files import write_json
from sor_sb3.reports.writer import ReportWriter

Run = tuple[TrainConfig, Path]  # a trained run and its folder
Curves = dict[str, list[tuple[np.ndarray, np.ndarray]]]  # by algorithm, (timesteps, mean validation costs) a run
WORTH_PROCESSES = 2000  # scenarios of all runs: with fewer, processes take longer to start than they save
MOST_SCORERS = 3  # processes beside this one: each holds the child orders of an algorithm's runs
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
    workers: int = 1,
) -> Scored:
    """Score runs and rules on the evaluator's scenarios. Runs of one algorithm are taken as its training seeds.

    All `runs` are of one env, and trained on one market or family; `rules` names rules and the oracle. `config` is what
    the results say of how they were made. `validation` is that of `score_rules_on_validation`, where somebody has it;
    `deterministic` policies take their mode. With `report` child orders are recorded, for `Scored.write_report`;
    `extras` are keys of `EXTRAS`, which results have too. With `workers` above 1 what was trained is scored in other
    processes, while this one scores the rules. Raises UserError: a run is not finished, or its policy does not fit the
    evaluator's market.
    """
    policies = policies_of(runs, rules, evaluator)
    writer = ReportWriter(evaluator.market, policies) if report else None
    if validation is None:
        validation = score_rules_on_validation(evaluator.env_id, evaluator.market, rules)
    evaluation = _evaluate(runs, policies, evaluator, deterministic, writer, workers)
    ranked = validation.names("rule")
    results = make_results(evaluation, ranked[0], config)
    for extra in extras:
        rule = best_model_free(ranked) or ranked[0] if extra == "rivals" else ranked[0]
        results[extra] = EXTRAS[extra](evaluator, evaluation, policies, rule, deterministic)
    return Scored(results, evaluation, validation, _learning_curves(runs), writer)


def _evaluate(
    runs: Sequence[Run],
    policies: dict[str, Any],
    evaluator: Evaluator,
    deterministic: bool,
    writer: ReportWriter | None,
    workers: int,
) -> Evaluation:
    """Scores of all `policies`, in their order, and the writer's analyses of them."""
    each, n = writer.add if writer else None, len(evaluator.scenario_seeds)
    by_algorithm: dict[str, list[Run]] = {}
    for run in runs:
        by_algorithm.setdefault(run[0].algo, []).append(run)
    if workers == 1 or len(runs) * n < WORTH_PROCESSES or evaluator.online:
        return evaluator.evaluate(policies, deterministic, each)
    scenarios = (evaluator.env_id, evaluator.market, n, evaluator.seed, evaluator.data_split)
    jobs = [(of, scenarios, deterministic, writer is not None) for of in by_algorithm.values()]
    others: list[Evaluation] = []

    def score_others() -> None:
        rules = {name: policy for name, policy in policies.items() if name not in by_algorithm}
        others.append(evaluator.evaluate(rules, deterministic, each))

    found = run_jobs(_score_learned, jobs, min(workers - 1, MOST_SCORERS), meanwhile=score_others)
    scores = others[0].scores | {of.name: of for of, _ in found}
    if writer is not None:
        writer.analyses |= {of.name: analysis for of, analysis in found}
    return replace(others[0], scores={name: scores[name] for name in policies})


def _score_learned(
    _: Any, runs: Sequence[Run], scenarios: tuple[Any, ...], deterministic: bool, report: bool
) -> tuple[Scores, PolicyAnalysis | None]:
    """Scores of one algorithm's runs and, for a report, the analysis of its child orders."""
    torch.set_num_threads(1)
    evaluator = Evaluator(*scenarios)
    policies = policies_of(runs, (), evaluator)
    writer = ReportWriter(evaluator.market, policies) if report else None
    evaluation = evaluator.evaluate(policies, deterministic, writer.add if writer else None)
    [scores] = evaluation.scores.values()
    return scores, writer.analyses[scores.name] if writer else None


def _learning_curves(runs: Sequence[Run]) -> Curves:
    curves: Curves = {}
    for config, folder in runs:
        with np.load(folder / "evaluations.npz") as log:
            curves.setdefault(config.algo, []).append((log["timesteps"], -log["results"].mean(axis=1)))
    return curves
