"""Score run folders beside every rule and the oracle, on the same days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator, standard_rules
from sor_sb3.evaluation.results import make_results
from sor_sb3.experiments.config import TrainConfig
from sor_sb3.experiments.folders import CONFIG_FILE, DONE_FILE, read_config
from sor_sb3.experiments.training import load_policy, validation_evaluator
from sor_sb3.market.validation import validate
from sor_sb3.reports.writer import ReportWriter


def run_config(folder: Path) -> TrainConfig:
    """The config of a training run's folder.

    Raises:
        UserError: it is none, or its config is damaged.
    """
    data = read_config(folder)
    if "learners" in data:
        raise UserError(f"{folder} is a comparison; give its run folders, such as {folder}/ppo/{data.get('env')}_1")
    config: TrainConfig = validate(TrainConfig, data, str(folder / CONFIG_FILE))
    return config


def check_finished(folder: Path) -> None:
    """Whether a run came to its end.

    Raises:
        UserError: it did not.
    """
    if not (folder / DONE_FILE).is_file():
        raise UserError(f"{folder} has no {DONE_FILE}: the run is not finished; run its command again")


def evaluate_runs(
    folders: Sequence[Path],
    scenarios: int,
    seed: int,
    data_split: str = "test",
    deterministic: bool = True,
    report_into: Path | None = None,
) -> dict[str, Any]:
    """Content of a ``results.json``: runs of one algorithm are taken as its training seeds.

    With `report_into` the report of it is written into that folder.

    Raises:
        UserError: a folder is no finished run, or the runs differ in market or env.
    """
    configs = [run_config(folder) for folder in folders]
    first = configs[0]
    for folder, config in zip(folders, configs, strict=True):
        if (config.market, config.env) != (first.market, first.env):
            raise UserError(
                f"{folder} was trained on {config.market.name}, {config.env} and {folders[0]} on {first.market.name}, "
                f"{first.env}; compare runs of one market and env"
            )
    for folder in folders:
        check_finished(folder)
    learned: dict[str, Any] = {}
    for folder, config in zip(folders, configs, strict=True):
        learned.setdefault(config.algo, []).append(load_policy(config, folder))
    rules = standard_rules(first.market)
    chooser = validation_evaluator(first.env, first.market)
    validation = chooser.evaluate(chooser.policies(rules))
    judge = Evaluator(first.env, first.market, scenarios, seed, data_split)
    policies = {**learned, **judge.policies(rules)}
    report = ReportWriter(first.market, policies) if report_into is not None else None
    evaluation = judge.evaluate(policies, deterministic, each=report.add if report is not None else None)
    config_of_results = {"runs": [c.canonical() for c in configs], "data_split": data_split, "seed": seed}
    results = make_results(evaluation, validation.names("rule")[0], config_of_results)
    if report is not None and report_into is not None:
        baselines = {name: float(scores.cost.mean()) for name, scores in validation.scores.items()}
        report.write(report_into, results, evaluation, _learning_curves(folders, configs), baselines)
    return results


def _learning_curves(
    folders: Sequence[Path], configs: Sequence[TrainConfig]
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """By algorithm, one (timesteps, mean validation costs) a run."""
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for folder, config in zip(folders, configs, strict=True):
        with np.load(folder / "evaluations.npz") as log:
            curves.setdefault(config.algo, []).append((log["timesteps"], -log["results"].mean(axis=1)))
    return curves
