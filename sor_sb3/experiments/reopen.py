"""Read back what a folder holds: score runs again, write a report again, replay one parent order, export a policy.

Nothing is trained here.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sor_sb3.algorithms.onnx_export import export_onnx
from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.evaluation.evaluator import Evaluator, standard_rules
from sor_sb3.evaluation.explain import Explanation, explain
from sor_sb3.experiments.comparison import Comparison
from sor_sb3.experiments.config import TEST_SEED, CompareConfig, TrainConfig
from sor_sb3.experiments.final import note_final
from sor_sb3.experiments.folder import RESULTS_FILE, check_finished, folder_config, locked
from sor_sb3.experiments.run import load_policy
from sor_sb3.experiments.score import Run, Scored, score
from sor_sb3.experiments.workers import usable_cores
from sor_sb3.files import writing
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.registry import ORACLE_NAMES
from sor_sb3.simulator.random import FINAL


def run_config(folder: Path) -> TrainConfig:
    """The config of a training run's folder. Raises UserError: the folder holds none, or the config is damaged."""
    config = folder_config(folder)
    if isinstance(config, CompareConfig):
        raise UserError(f"{folder} is a comparison; give its run folders, such as {folder}/ppo/{config.env}_1")
    return config


def read_comparison(folder: Path) -> CompareConfig:
    """The config of a comparison's folder, to repeat the comparison. Raises as `run_config` does."""
    config = folder_config(folder)
    if isinstance(config, TrainConfig):
        raise UserError(f"{folder} is a single training run; give a folder that compare made")
    return config


def evaluate_runs(
    folders: Sequence[Path],
    scenarios: int,
    seed: int,
    data_split: str = "test",
    deterministic: bool = True,
    settings: Mapping[str, Any] | None = None,
    extras: Collection[str] = ("gains",),
    market: MarketSpec | None = None,
) -> dict[str, Any]:
    """Content of a ``results.json``: runs of one algorithm are taken as its training seeds.

    They are scored on `market`, by default the one that they were trained on. `settings` change it, by dotted path, as
    in :func:`~sor_sb3.load_market`. A read of the data split "final" is noted first, by
    :func:`~sor_sb3.experiments.final.note_final`. `extras` are keys of `EXTRAS` of :mod:`~sor_sb3.experiments.score`.

    Raises UserError: a folder is no finished run, the runs differ in market or env, a setting is wrong, the runs'
    policies do not fit `market`, or there is none and they were trained on a family.
    """
    return _score_runs(folders, scenarios, seed, data_split, deterministic, False, settings, extras, market).results


def _score_runs(
    folders: Sequence[Path],
    scenarios: int,
    seed: int,
    data_split: str,
    deterministic: bool,
    report: bool,
    settings: Mapping[str, Any] | None = None,
    extras: Collection[str] = ("gains",),
    market: MarketSpec | None = None,
) -> Scored:
    runs = [(run_config(folder), folder) for folder in folders]
    first = runs[0][0]
    for config, folder in runs:
        if (config.market.without_prose(), config.env) != (first.market.without_prose(), first.env):
            trained = f"{folder} was trained on {config.market.name}, {config.env}"
            other = f"{folders[0]} on {first.market.name}, {first.env}"
            raise UserError(f"{trained} and {other}; compare runs of one market and env")
    for folder in folders:
        check_finished(folder)
    market = load_market(market or market_of(first, folders[0]), settings)
    evaluator = Evaluator(first.env, market, scenarios, seed, data_split)
    if data_split == FINAL:
        note_final(evaluator, folders[0].parent.parent)
    about = {"runs": [config.canonical() for config, _ in runs], "data_split": data_split, "seed": seed}
    about["market"] = market.without_prose()
    if settings:
        about["market_set"] = dict(settings)
    return score(runs, standard_rules(market, first.env), evaluator, about, None, deterministic, report, extras)


def market_of(config: TrainConfig, folder: Path) -> MarketSpec:
    """The market that a run was trained on. Raises UserError: it was trained on a family."""
    if isinstance(config.market, MarketFamily):
        scored = f"score it with: sor-sb3 evaluate {folder} --market NAME"
        raise UserError(f"{folder} was trained on the family {config.market.name}, on no single market; {scored}")
    return config.market


def report_folder(folder: Path, scenarios: int = 1000) -> Path:
    """Score again what a folder holds, which gives the same numbers, and write the report there; returns the page.

    A training run is scored on `scenarios`; a comparison keeps its own number. Raises UserError: the folder holds
    neither, is not finished or cannot be written, or another process works in it.
    """
    config = folder_config(folder)
    check_finished(folder, *((RESULTS_FILE,) if isinstance(config, CompareConfig) else ()))
    with writing(str(folder), folder), locked(folder):
        if isinstance(config, TrainConfig):
            scored = _score_runs([folder], scenarios, TEST_SEED, "test", deterministic=True, report=True)
        else:
            comparison = Comparison(config, folder)
            scored = comparison.score(comparison.test_evaluator(), workers=usable_cores())
        return scored.write_report(folder)


def explain_folder(folder: Path, scenario: int, policy: str | None = None, training_run: int = 1) -> Explanation:
    """Replay one parent order of a policy in a comparison's or a training run's folder.

    The scenario is one of the data split "test", by its seed. `policy` names an algorithm of the folder, a rule or the
    oracle; None takes the learned policy with the lowest cost. An algorithm's `training_run` counts from 1. Raises
    UserError: the folder is not finished, or the scenario, the policy or the run is unknown.
    """
    if not 0 <= scenario < 2**63:
        raise UserError(f"--scenario is {scenario}; expected a seed of at least 0, such as {TEST_SEED}")
    config = folder_config(folder)
    market = market_of(config, folder) if isinstance(config, TrainConfig) else config.market
    runs, rules, default = _contents(folder, config)
    known = list(dict.fromkeys([*(run.algo for run, _ in runs), *rules]))
    name = policy or default
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"policy '{name}' is not in {folder}{hint}; expected one of {', '.join(known)}")
    if isinstance(config, CompareConfig) and config.test_seed <= scenario < config.test_seed + config.scenarios:
        # among the comparison's own scenarios, so that even a network's rounding is the same
        evaluator = Comparison(config, folder).test_evaluator()
    else:
        evaluator = Evaluator(config.env, market, 1, scenario, "test")
    if name in rules:
        return explain(evaluator, name, evaluator.policies([name])[name], scenario)
    of = [run for run in runs if run[0].algo == name]
    if not 1 <= training_run <= len(of):
        raise UserError(f"--training-run is {training_run}; {name} has runs 1 to {len(of)} in {folder}")
    return explain(evaluator, name, load_policy(*of[training_run - 1]), scenario)


def _contents(folder: Path, config: TrainConfig | CompareConfig) -> tuple[list[Run], list[str], str]:
    """The folder's training runs, its rules and the policy that is explained by default."""
    if isinstance(config, TrainConfig):
        return [(config, folder)], standard_rules(market_of(config, folder), config.env), config.algo
    check_finished(folder, RESULTS_FILE)
    runs = Comparison(config, folder).runs
    learned = [run.algo for run, _ in runs]
    ranked = [p["name"] for p in json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))["policies"]]
    wanted = learned or [name for name in config.routers if name not in ORACLE_NAMES]
    return runs, list(config.routers), next(name for name in [*ranked, *learned] if name in wanted)


def export_run(folder: Path, out: Path | None = None, best: bool = True, market: MarketSpec | None = None) -> Path:
    """Write a finished run's policy for :class:`~sor_sb3.OnnxPolicy`, with its normalisation; returns the file.

    The policy is the one that was `best` on the run's validation scenarios, else the last. By default `out` is
    ``policy.onnx``, or ``policy_last.onnx``, in the run's folder. The file is for the venues of `market`, by default
    those that the run was trained on: of a family as many as its largest market has, where rows of fewer venues end in
    zeros. Raises UserError: the folder is no finished run, its policy cannot be exported, or `out` exists.
    """
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists; give another name, or delete it")
    config = run_config(folder)
    check_finished(folder)
    file = out or folder / ("policy.onnx" if best else "policy_last.onnx")
    of = market or config.market
    about = {"env": config.env, "market": of.name, "venues": list(of.venue_names)}
    with locked(folder) if out is None else nullcontext():
        export_onnx(load_policy(config, folder, best, market), file, about)
    return file
