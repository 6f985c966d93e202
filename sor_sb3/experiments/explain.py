"""Find the policy that a folder holds and replay one of its parent orders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.evaluation.evaluator import Evaluator, standard_rules
from sor_sb3.evaluation.explain import Explanation, explain
from sor_sb3.experiments.config import TEST_SEED
from sor_sb3.experiments.folders import read_config
from sor_sb3.experiments.training import load_policy


def explain_folder(folder: Path, scenario: int, policy: str | None = None, training_run: int = 1) -> Explanation:
    """Replay one parent order of a policy in a comparison's or a training run's folder.

    Args:
        folder: that compare or train made.
        scenario: seed of the market day, of the split "test".
        policy: an algorithm of the folder, a rule or the oracle; None takes the learned policy that the comparison
            found cheapest.
        training_run: which of an algorithm's runs, counted from 1.

    Raises:
        UserError: the folder is not finished, or the scenario, the policy or the run is unknown.
    """
    if scenario < 0:
        raise UserError(f"--scenario is {scenario}; expected a seed of at least 0, such as {TEST_SEED}")
    evaluator_of, learned, rules, cheapest = _contents(folder)
    known = [*learned, *rules]
    name = policy or cheapest
    if name not in known:
        raise UserError(
            f"policy '{name}' is not in {folder}{did_you_mean(name, known)}; expected one of {', '.join(known)}"
        )
    evaluator = evaluator_of(scenario)
    if name in rules:
        return explain(evaluator, name, evaluator.policies([name])[name], scenario)
    runs = learned[name]
    if not 1 <= training_run <= len(runs):
        raise UserError(f"--training-run is {training_run}; {name} has runs 1 to {len(runs)} in {folder}")
    config, run_folder = runs[training_run - 1]
    return explain(evaluator, name, load_policy(config, run_folder), scenario)


def _contents(folder: Path) -> tuple[Any, dict[str, list[Any]], list[str], str]:
    """How to make an evaluator that holds a scenario; runs by algorithm; rules; the policy to explain by default."""
    from sor_sb3.experiments.compare import RESULTS_FILE, Comparison, read_comparison
    from sor_sb3.experiments.evaluate import run_config

    if "learners" not in read_config(folder):
        run = run_config(folder)

        def lone(scenario: int) -> Evaluator:
            return Evaluator(run.env, run.market, 1, scenario, "test")

        return lone, {run.algo: [(run, folder)]}, standard_rules(run.market), run.algo
    config = read_comparison(folder)
    results = folder / RESULTS_FILE
    if not results.is_file():
        raise UserError(f"{folder} has no {RESULTS_FILE}: the comparison is not finished; run its command again")
    comparison = Comparison(config, folder)
    learned: dict[str, list[Any]] = {}
    for run in config.runs:
        learned.setdefault(run.algo, []).append((run, comparison.run_folder(run)))
    ranked = [p["name"] for p in json.loads(results.read_text(encoding="utf-8"))["policies"]]

    def among_the_compared(scenario: int) -> Evaluator:
        """The comparison's own test days if they hold the scenario: then even a network's rounding is the same."""
        if config.test_seed <= scenario < config.test_seed + config.scenarios:
            return comparison.judge()
        return Evaluator(config.env, config.market, 1, scenario, "test")

    cheapest = next(name for name in [*ranked, *learned] if name in learned)
    return among_the_compared, learned, list(config.routers), cheapest
