"""Train several algorithms with several seeds, score them and every rule on the same test scenarios, say who wins.

A comparison is a folder: ``LOG_DIR/NAME/`` holds its config, one run folder a training run, TensorBoard logs, and in
the end ``results.json``, figures and, where something was trained, a report. Whatever stops a comparison, the same
command continues: finished runs stay, unfinished ones continue from their last checkpoints, and the results are the
same bytes.
"""

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.results import system_versions
from sor_sb3.experiments.board import Board
from sor_sb3.experiments.config import CompareConfig, TrainConfig
from sor_sb3.experiments.final import FINAL_FOLDER, note_final
from sor_sb3.experiments.folder import (
    RESULTS_FILE,
    TENSORBOARD_FOLDER,
    claim_folder,
    held_digest,
    is_done,
    locked,
    path_component,
    release_folder,
)
from sor_sb3.experiments.run import can_resume, check_settings, train
from sor_sb3.experiments.score import Run, Scored, score, score_rules_on_validation
from sor_sb3.experiments.workers import run_jobs, usable_cores
from sor_sb3.files import write_json, writing
from sor_sb3.simulator.random import FINAL

Progress = Callable[[str, int, int], None]  # what is done, how far, of how much


class Comparison:
    """A comparison and its folder, ``LOG_DIR/NAME``. To make one is to touch nothing."""

    def __init__(self, config: CompareConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def run_folder(self, run: TrainConfig) -> Path:
        """Where a training run lives: ``ALGO/ENV_k``, k counting the algorithm's seeds from 1."""
        return self.folder / path_component(run.algo) / f"{run.env}_{self.config.seeds.index(run.seed) + 1}"

    @property
    def runs(self) -> list[Run]:
        """Every training run with its folder."""
        return [(run, self.run_folder(run)) for run in self.config.runs]

    def is_done(self, run: TrainConfig) -> bool:
        """Whether a run is finished, with this very config."""
        return is_done(self.run_folder(run), run)

    def train_all(
        self, workers: int | None = None, progress: Progress | None = None, validation: Evaluation | None = None
    ) -> None:
        """Train what is not done, each run in a process of its own, as many at once as `workers` or usable cores.

        A worker computes gap closed from `validation`, the scores of every rule and oracle, which TensorBoard shows
        beside the learners.
        """
        if not self.runs:
            return
        board = Board(self.folder / TENSORBOARD_FOLDER, self.config.market, self.runs)
        if validation is not None:
            board.add_baselines(validation)
        board.update()
        pending = [run for run in self.config.runs if not self.is_done(run)]
        if not pending:
            return
        total = sum(run.timesteps for run in pending)

        def tell(finished: int, timesteps: Sequence[int]) -> None:
            board.update()
            if progress is not None:
                steps = sum(min(done, run.timesteps) for done, run in zip(timesteps, pending, strict=True))
                progress(f"training, {finished} of {len(pending)} runs done", steps, total)

        baselines = None if validation is None else self.baselines(validation)
        run_jobs(_train_in_worker, [(*self.cleared(run), baselines) for run in pending], workers, tell)

    def cleared(self, run: TrainConfig) -> tuple[TrainConfig, Path, Path]:
        """A run, its folder and its TensorBoard folder, without leftovers of a run that cannot be resumed."""
        folder = self.run_folder(run)
        if folder.exists() and not can_resume(run, folder):
            with locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
        return run, folder, folder / TENSORBOARD_FOLDER

    def baselines(self, validation: Evaluation) -> Evaluation:
        """What gaps closed are computed from: the costs of reference rule, best rule, oracle and planner."""
        names = (self.config.market.reference_router, validation.names("rule")[0], validation.oracle, "planner")
        known = {name: validation.scores[name] for name in names if name in validation.scores}
        return replace(validation, scores={k: replace(scores, latency_ms=np.zeros(0)) for k, scores in known.items()})

    def score_rules_on_validation(self) -> Evaluation:
        """Rules and oracle on the scenarios that may choose, which name the best rule."""
        return score_rules_on_validation(self.config.env, self.config.market, self.config.routers)

    def test_evaluator(self, data_split: str = "test") -> Evaluator:
        """The test scenarios, or the final ones."""
        config = self.config
        return Evaluator(config.env, config.market, config.scenarios, config.test_seed, data_split)

    def score(
        self,
        evaluator: Evaluator,
        validation: Evaluation | None = None,
        extras: Collection[str] = ("gains",),
        report: bool = True,
        workers: int = 1,
    ) -> Scored:
        """Score everything on the evaluator's scenarios, ready for a `report` if that is wanted."""
        config = {"digest": self.config.digest(), **self.config.canonical()}
        rules = self.config.routers
        return score(self.runs, rules, evaluator, config, validation, report=report, extras=extras, workers=workers)

    def finish(
        self,
        into: Path,
        evaluator: Evaluator,
        validation: Evaluation | None = None,
        extras: Collection[str] = ("gains",),
        workers: int = 1,
    ) -> dict[str, Any]:
        """Score everything; leave results and figures in a folder and, where something was trained, the report.

        A report, of child orders, takes several times as long as all else that rules need.
        """
        scored = self.score(evaluator, validation, extras, bool(self.runs), workers)
        scored.write_results(into)
        if self.runs:
            scored.write_report(into)
        return scored.results


def _train_in_worker(
    report: Callable[[int], None], config: TrainConfig, folder: Path, tensorboard_dir: Path, baselines: Evaluation
) -> None:
    train(config, folder, tensorboard_dir, baselines, report=report)


def compare(
    config: CompareConfig,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    extras: Collection[str] = ("gains",),
) -> dict[str, Any]:
    """Run a comparison, or continue one; returns the content of its ``results.json``.

    `extras` are keys of `EXTRAS` of :mod:`~sor_sb3.experiments.score`.

    Raises UserError: the folder belongs to another config, another process works in it, or it cannot be written; and
    WorkFailed: a worker process was killed.
    """
    started = time.perf_counter()
    comparison = Comparison(config, folder)
    with writing(str(folder), folder), locked(folder):
        claim_folder(folder, config.canonical(), config.digest())
        try:
            for run in {run.algo: run for run in config.runs}.values():
                check_settings(run)
            validation = comparison.score_rules_on_validation()  # compiles the kernels before the workers need them
            comparison.train_all(workers, progress, validation)
        except Exception:
            release_folder(folder)
            raise
        evaluator = comparison.test_evaluator()
        results = comparison.finish(folder, evaluator, validation, extras, workers or usable_cores())
        write_json(folder / "timing.json", {"seconds": time.perf_counter() - started, "versions": system_versions()})
    return results


def compare_final(
    config: CompareConfig, folder: Path, log_dir: Path | None = None, extras: Collection[str] = ("gains",)
) -> dict[str, Any]:
    """Score what a finished comparison trained on the frozen final scenarios; returns the results.

    Results, figures and report go to ``FOLDER/final``; a line goes to the log of `note_final`, before anything is
    scored; `log_dir` is by default the folder above. `extras` are as in `compare`. Raises UserError: the comparison is
    not finished or is of another config, the market is a recording, another process works in the folder, or something
    cannot be written.
    """
    if not (folder / RESULTS_FILE).is_file() or held_digest(folder) != config.digest():
        said = f"{folder} holds no finished comparison of this configuration, and --final trains nothing"
        raise UserError(f"{said}; run the same command without --final first")
    comparison, into = Comparison(config, folder), folder / FINAL_FOLDER
    with writing(str(folder), folder), locked(folder):
        evaluator = comparison.test_evaluator(FINAL)
        note_final(evaluator, log_dir or folder.parent)
        return comparison.finish(into, evaluator, extras=extras)
