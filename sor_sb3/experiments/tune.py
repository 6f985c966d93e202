"""Search for settings: trials of an algorithm's hyperparameters or a rule's constants, each over markets and seeds.

LOG_DIR/NAME/config.yaml  study.log  best.yml  trials.csv  report.html; runs/ while trials run.
Only validation scenarios are looked at: what is found here is judged elsewhere, on others.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.evaluation.evaluator import Evaluator, Scores
from sor_sb3.evaluation.formats import percent
from sor_sb3.evaluation.results import system_versions
from sor_sb3.experiments.config import TrainConfig, TuneConfig, digest_of
from sor_sb3.experiments.engines import check_engine, launch
from sor_sb3.experiments.folder import BEST_FILE, CONFIG_FILE, claim_folder, is_done, locked
from sor_sb3.experiments.run import check_settings, train, validation_evaluator
from sor_sb3.experiments.search_space import Choice, combinations, runs_of, size_of, space_of, with_params
from sor_sb3.experiments.study import (
    FrozenTrial,
    Search,
    Trial,
    TrialPruned,
    TrialState,
    UpdateFinishedTrialError,
)
from sor_sb3.files import write_text, writing
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.registry import find_rule, make, oracle_name, rule_names
from sor_sb3.reports.tuning import render_tuning

BLOCKS = 10  # of a run's validation scenarios: what the pruner pairs
BEHIND = 0.01  # of the gap: by how much a run must lag to be ended half-way
RUNS, JOURNAL_FILE = "runs", "study.log"
_SCALES, _CURVES, _ERROR = "scales", "curves", "error"
Progress = Callable[[str, int, int], None]


def tune(
    config: TuneConfig,
    folder: Path,
    n_trials: int,
    storage: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    engine: str = "local",
) -> dict[str, Any]:
    """Search, or go on with a search, until `n_trials` count; returns what the report says.

    `storage` is ``x.log``, a journal file, or a database URL; by default ``study.log`` in `folder`. The study in it has
    the folder's name. Several commands may work on one study, on one machine or on several that share a database. An
    `engine` starts the `workers` (:func:`~sor_sb3.experiments.engines.launch`).

    Raises UserError: the folder or the study belongs to another config, or a setting does not fit; and WorkFailed: no
    trial came to its end, or workers are killed again and again.
    """
    check_engine(engine)
    space = space_of(config)
    n_trials = int(min(n_trials, size_of(space)))
    storage = storage or str(folder / JOURNAL_FILE)
    if find_rule(config.algo) is None:
        for run in {run.market.name: run for run in runs_of(config, config.start)}.values():
            check_settings(run)
    with writing(str(folder), folder):
        search = _begin(config, folder, storage)
        search.enqueue([config.start])
        if n_trials == size_of(space):
            choices = {key: part for key, part in space.items() if isinstance(part, Choice)}
            search.enqueue(combinations(choices, config.start))

        def tell() -> None:
            if progress is not None:
                progress(f"tuning {config.algo}, {_standing(search)}", len(search.finished), n_trials)

        job = partial(_work, config, folder, storage, n_trials)
        launch(engine, job, folder.absolute(), lambda: max(n_trials - len(search.finished), 0), workers, tell)
        return _finish(config, search, folder)


def _begin(config: TuneConfig, folder: Path, storage: str) -> Search:
    """The study, ready for workers; nothing stays where it cannot begin."""
    with locked(folder, wait=True):
        held = claim_folder(folder, config.canonical(), config.digest())
        try:
            search = _search(config, folder, storage)
            if _SCALES not in search.study.user_attrs:  # compiles the kernels before the workers need them
                search.study.set_user_attr(_SCALES, [_scale(config, market) for market in config.markets])
        except Exception:
            if not held:
                for name in (CONFIG_FILE, JOURNAL_FILE):
                    (folder / name).unlink(missing_ok=True)
            raise
    return search


def _search(config: TuneConfig, folder: Path, storage: str) -> Search:
    markets = [f"{market.name} ({digest_of(market.without_prose())})" for market in config.markets]
    return Search(storage, folder.name, config.canonical() | {"markets": markets}, config.digest())


def _standing(search: Search) -> str:
    best = search.best
    return f"{len(search.finished)} trials done" + (f", best {percent(best.value, 2)} % of the gap" if best else "")


# --------------------------------------------------------------------------------------------- what a value means


def _blocks(costs: np.ndarray) -> np.ndarray:
    """Means of costs (n_scenarios,) by block of scenarios, float64 (BLOCKS,); with few scenarios, a block each."""
    return np.array([part.mean() for part in np.array_split(costs, min(BLOCKS, len(costs)))])


def _scale(config: TuneConfig, market: MarketSpec) -> dict[str, Any]:
    """What a market's costs are measured by: the reference rule's, and the gap from there to the oracle's."""
    evaluator = validation_evaluator(config.env, market, config.validation_scenarios)
    names = [market.reference_router, oracle_name(market, config.env)]
    names += [name for name in rule_names(market, config.env) if name == "planner"]
    evaluation = evaluator.evaluate(evaluator.policies(names))
    reference, end = (evaluation.scores[name].cost[0] for name in (market.reference_router, evaluation.gap_end))
    if evaluation.gap_closed(evaluation.gap_end) is None:
        said = f"market {market.name} has no gap between {market.reference_router} and {evaluation.gap_end}"
        raise UserError(f"{said} in {config.env}: there is nothing to tune on it; give another --market")
    gap = float(reference.mean() - end.mean())
    return {"reference": float(reference.mean()), "gap": gap, "blocks": _blocks(reference).tolist()}


def _closed(costs: np.ndarray, scale: dict[str, Any]) -> np.ndarray:
    """Gap closed by block (BLOCKS,), whose mean is that of the run: 0 the reference rule, 1 the oracle."""
    saved: np.ndarray = (np.array(scale["blocks"]) - _blocks(costs)) / scale["gap"]
    return saved


# --------------------------------------------------------------------------------------------- a worker and its trials


def _work(config: TuneConfig, folder: Path, storage: str, n_trials: int) -> None:
    """Take trials until there are enough."""
    search, space = _search(config, folder, storage), space_of(config)
    scales = search.study.user_attrs[_SCALES]
    while (trial := search.next_trial(space, n_trials)) is not None:
        with search.alive(trial):
            try:
                value, state = _run_trial(trial, search, config, folder, scales), TrialState.COMPLETE
            except TrialPruned:
                value, state = None, TrialState.PRUNED
            except UpdateFinishedTrialError:
                continue  # this process was silent for so long that another one took the trial over
            except ValueError as error:  # settings that do not go together, or weights that went to infinity
                if isinstance(error, OSError):
                    raise
                trial.set_user_attr(_ERROR, " ".join(str(error).split())[:500])
                value, state = None, TrialState.PRUNED
        search.study.tell(trial, value, state=state, skip_if_finished=True)
        if find_rule(config.algo) is None:
            for run in _runs_or_none(config, trial):
                shutil.rmtree(folder / RUNS / run.digest(), ignore_errors=True)


def _runs_or_none(config: TuneConfig, trial: Trial) -> list[TrainConfig]:
    try:
        return runs_of(config, trial.params)
    except UserError:
        return []


def _run_trial(trial: Trial, search: Search, config: TuneConfig, folder: Path, scales: list[dict[str, Any]]) -> float:
    """Gap closed, the mean over runs of their last policies. Raises TrialPruned."""
    best = search.best
    curves: list[list[list[float]]] = []
    values: list[float] = []
    if find_rule(config.algo) is None:
        runs = runs_of(config, trial.params)
        jobs = [partial(_trained, run, folder / RUNS / run.digest()) for run in runs]
    else:
        constants = with_params(config.hyperparameters, trial.params)
        jobs = [partial(_scored_rule, config, market, constants) for market in config.markets]
    for r, job in enumerate(jobs):
        scale = scales[r % len(config.markets)]
        ahead = best.user_attrs[_CURVES][r] if best is not None else None
        curve, costs = job(scale, ahead)
        curves.append(curve)
        trial.set_user_attr(_CURVES, curves)
        closed = _closed(costs, scale)
        values.append(float(closed.mean()))
        for block, value in enumerate(closed):
            trial.report(float(value), r * BLOCKS + block)
        if r + 1 < len(jobs) and trial.should_prune():
            raise TrialPruned
    return float(np.mean(values))


def _trained(
    run: TrainConfig, folder: Path, scale: dict[str, Any], ahead: list[list[float]] | None
) -> tuple[list[list[float]], np.ndarray]:
    """A run's curve, (share of the steps, gap closed) by evaluation, and the last policy's costs (n_scenarios,).

    A run that was stopped goes on. Raises TrialPruned: from half-way on, the run is behind where `ahead`, the best
    trial's curve of the same market and seed, was with half as many steps.
    """

    def check(timesteps: int, scores: Scores) -> None:
        share = timesteps / run.timesteps
        closed = (scale["reference"] - float(scores.cost.mean())) / scale["gap"]
        if ahead is not None and 0.5 <= share < 1.0:
            shares, values = np.array(ahead).T
            if closed < np.interp(share / 2, shares, values) - BEHIND:
                raise TrialPruned

    if not is_done(folder, run):
        train(run, folder, each=check)
    with np.load(folder / "evaluations.npz") as log:
        costs, shares = -log["results"], log["timesteps"] / run.timesteps
    closed = (scale["reference"] - costs.mean(axis=1)) / scale["gap"]
    return [[float(s), float(c)] for s, c in zip(shares, closed, strict=True)], costs[-1]


_evaluators: dict[str, Evaluator] = {}


def _scored_rule(
    config: TuneConfig, market: MarketSpec, constants: dict[str, Any], scale: dict[str, Any], ahead: Any
) -> tuple[list[list[float]], np.ndarray]:
    """The same of a rule, which does not learn."""
    if market.name not in _evaluators:
        _evaluators[market.name] = validation_evaluator(config.env, market, config.validation_scenarios)
    rule = make(config.algo, market, config.env, **constants)
    costs = _evaluators[market.name].score(config.algo, rule).cost[0]
    return [[1.0, (scale["reference"] - float(costs.mean())) / scale["gap"]]], costs


# --------------------------------------------------------------------------------------------- what is left behind


def _finish(config: TuneConfig, search: Search, folder: Path) -> dict[str, Any]:
    """Leave the best settings, the table of trials and the report."""
    best, trials = search.best, sorted(search.finished, key=lambda trial: trial.number)
    if best is None:
        said = next((t.user_attrs[_ERROR] for t in trials if _ERROR in t.user_attrs), "no trial is finished")
        raise WorkFailed(f"none of {len(trials)} trials came to its end; the first said: {said}")
    settings = with_params(config.hyperparameters, best.params)
    markets = ", ".join(market.name for market in config.markets)
    count = f"{len(config.seeds)} training seeds" if find_rule(config.algo) is None else "a rule"
    first = next((t.value for t in trials if t.params == config.start and t.state == TrialState.COMPLETE), None)
    about = (
        f"{config.algo}, {count}, {markets}: {percent(best.value, 2)} % of the gap closed on validation scenarios, "
        f"trial {best.number} of {len(trials)}; {percent(first, 2)} % with what the search began with"
    )
    text = yaml.safe_dump({config.env: settings}, sort_keys=False, width=110)
    write_text(folder / BEST_FILE, f"# Found by sor-sb3 tune: {about}.\n{text}")
    write_text(folder / "trials.csv", _table(config, trials))
    summary = {
        "algo": config.algo,
        "env": config.env,
        "markets": [market.name for market in config.markets],
        "about": about,
        "study": search.where,
        "value": best.value,
        "start": first,
        "best": best.number,
        "settings": settings,
        "space": config.space,
        "trials": [_row(config, trial) for trial in trials],
        "importance": search.importance(),
        "versions": {**system_versions(), "optuna": metadata.version("optuna")},
    }
    write_text(folder / "report.html", render_tuning(summary))
    if not search.trials(TrialState.RUNNING):
        shutil.rmtree(folder / RUNS, ignore_errors=True)
    return summary


def _row(config: TuneConfig, trial: FrozenTrial) -> dict[str, Any]:
    complete = trial.state == TrialState.COMPLETE
    return {
        "trial": trial.number,
        "state": "failed" if _ERROR in trial.user_attrs else trial.state.name.lower(),
        "gap_closed": trial.value if complete else None,
        "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
        "params": {key: trial.params[key] for key in config.space if key in trial.params},
        "runs": len(trial.user_attrs.get(_CURVES, [])),
        "error": trial.user_attrs.get(_ERROR, ""),
    }


def _table(config: TuneConfig, trials: list[FrozenTrial]) -> str:
    """The trials as CSV: a row each, a column a parameter."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", "gap_closed", "runs", "seconds", *config.space, "error"])
    for row in (_row(config, trial) for trial in trials):
        params = [row["params"].get(key) for key in config.space]
        writer.writerow(
            [row["trial"], row["state"], row["gap_closed"], row["runs"], row["seconds"], *params, row["error"]]
        )
    return out.getvalue()
