"""Train several algorithms with several seeds, score them with every rule on the same test days, say who is better.

A comparison is a folder: ``LOG_DIR/NAME/`` holds its config, one run folder a training run, TensorBoard logs, and in
the end ``results.json`` and figures. Whatever stops it, the same command goes on: finished runs stay, unfinished ones
go on from their last checkpoint, and the results are the same bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, standard_rules
from sor_sb3.evaluation.results import make_results
from sor_sb3.experiments.config import CompareConfig, Learner, TrainConfig
from sor_sb3.experiments.folders import (
    CONFIG_FILE,
    DONE_FILE,
    claim_folder,
    read_config,
    system_versions,
    write_json,
)
from sor_sb3.experiments.training import (
    can_resume,
    check_settings,
    load_policy,
    train,
    train_config,
    validation_evaluator,
)
from sor_sb3.market.spec import MarketSpec
from sor_sb3.market.validation import validate
from sor_sb3.reports.writer import ReportWriter

RESULTS_FILE = "results.json"
Progress = Callable[[str, int, int], None]  # what is done, how far, of how much

_timesteps_done: Any = None  # in a worker: shared counters, one a run


def compare_config(
    market: MarketSpec,
    env: str = "OrderSplit-v0",
    algos: Sequence[str] = ("reinforce", "a2c", "ppo"),
    seeds: int = 5,
    first_seed: int = 0,
    timesteps: int | None = None,
    n_envs: int | None = None,
    scenarios: int = 1000,
    settings: dict[str, Any] | None = None,
) -> CompareConfig:
    """A complete config of a comparison.

    Raises:
        UserError: an algorithm is unknown or does not fit, or a number is out of range.
    """
    if not algos:
        raise UserError("no algorithm is named; give --algos, such as --algos ppo,a2c")
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}; expected at least 1")
    if scenarios < 2:
        raise UserError(f"--scenarios is {scenarios}; expected at least 2, for an interval")
    runs = [
        train_config(algo, env, market, first_seed, timesteps, n_envs, settings)
        for algo in dict.fromkeys(find_algorithm(a).name for a in algos)
    ]
    return CompareConfig(
        market=market,
        env=runs[0].env,
        learners=tuple(Learner(**run.model_dump(include=set(Learner.model_fields))) for run in runs),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        scenarios=scenarios,
        routers=tuple(standard_rules(market)),
    )


def read_comparison(folder: Path) -> CompareConfig:
    """The config of a comparison's folder, to repeat it.

    Raises:
        UserError: it is none, or its config is damaged.
    """
    data = read_config(folder)
    if "learners" not in data:
        raise UserError(f"{folder} is a single training run; give a folder that compare made")
    config: CompareConfig = validate(CompareConfig, data, str(folder / CONFIG_FILE))
    return config


def _worker_starts(counters: Any) -> None:
    global _timesteps_done
    _timesteps_done = counters
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """Wait for the command's death, however it comes, and leave nothing behind that writes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train_in_worker(
    index: int, config: TrainConfig, folder: Path, tensorboard_dir: Path, baselines: list[str]
) -> None:
    def report(timesteps: int) -> None:
        _timesteps_done[index] = timesteps

    train(config, folder, tensorboard_dir, baselines, report=report)


class Comparison:
    """A comparison in its folder.

    Args:
        config: what is compared.
        folder: ``LOG_DIR/NAME``; made, or gone on with.

    Raises:
        UserError: the folder belongs to another config.
    """

    def __init__(self, config: CompareConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        claim_folder(folder, config.canonical(), config.digest())

    def run_folder(self, run: TrainConfig) -> Path:
        """Where a training run lives: ``ALGO/ENV_k``, k counting the algorithm's seeds from 1."""
        return self.folder / run.algo.replace(":", "_") / f"{run.env}_{self.config.seeds.index(run.seed) + 1}"

    def is_done(self, run: TrainConfig) -> bool:
        """Whether a run is finished, with this very config."""
        file = self.run_folder(run) / DONE_FILE
        return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("digest") == run.digest()

    def train_all(self, workers: int | None = None, progress: Progress | None = None) -> None:
        """Train what is not done, as many runs at once as there are cores; each in a process of its own."""
        pending = [run for run in self.config.runs if not self.is_done(run)]
        if not pending:
            return
        context = multiprocessing.get_context("spawn")
        counters = context.Array("q", len(pending), lock=False)
        total = sum(run.timesteps for run in pending)
        pool = ProcessPoolExecutor(
            max_workers=min(workers or usable_cores(), len(pending)),
            mp_context=context,
            initializer=_worker_starts,
            initargs=(counters,),
        )
        try:
            with _interrupts_held():  # by the workers, which inherit it: the command ends them
                futures = [self._submit(pool, i, run) for i, run in enumerate(pending)]
            waiting: set[Future[None]] = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                if progress is not None:
                    finished = sum(f.done() for f in futures)
                    steps = sum(min(c, run.timesteps) for c, run in zip(counters, pending, strict=True))
                    progress(f"training, {finished} of {len(pending)} runs done", steps, total)
        except BaseException:
            _stop(pool)
            raise
        pool.shutdown()

    def _submit(self, pool: ProcessPoolExecutor, index: int, run: TrainConfig) -> Future[None]:
        folder = self.run_folder(run)
        tensorboard_dir = self.folder / "tensorboard" / f"{run.algo.replace(':', '_')}_seed_{run.seed}"
        if not can_resume(run, folder):
            for leftover in (folder, tensorboard_dir):  # of a run that was cut off before its first checkpoint
                shutil.rmtree(leftover, ignore_errors=True)
        baselines = [run.market.reference_router, run.market.oracle]
        return pool.submit(_train_in_worker, index, run, folder, tensorboard_dir, baselines)

    def score_rules_on_validation(self) -> Evaluation:
        """Rules and oracle on the days that may choose; also what names the best rule."""
        evaluator = validation_evaluator(self.config.env, self.config.market)
        return evaluator.evaluate(evaluator.policies(self.config.routers))

    def finish(self, validation: Evaluation) -> dict[str, Any]:
        """Score everything on test days and leave results, figures, the report and the baselines' TensorBoard runs."""
        judge = self.judge()
        evaluation, report = self._score(judge)
        results = self._results(evaluation, validation)
        write_json(self.folder / RESULTS_FILE, results)
        self._draw(results, validation)
        self._log_baselines(judge, validation)
        report.write(self.folder, results, evaluation, self.learning_curves(), _mean_costs(validation))
        return results

    def write_report(self) -> Path:
        """Score everything again, which gives the same numbers, and write the report alone; returns the page."""
        evaluation, report = self._score(self.judge())
        validation = self.score_rules_on_validation()
        results = self._results(evaluation, validation)
        return report.write(self.folder, results, evaluation, self.learning_curves(), _mean_costs(validation))

    def judge(self) -> Evaluator:
        """The test days."""
        return Evaluator(self.config.env, self.config.market, self.config.scenarios, self.config.test_seed, "test")

    def policies(self, judge: Evaluator) -> dict[str, Any]:
        """By name: every algorithm's trained policies, one a seed, then rules and oracle."""
        learned: dict[str, Any] = {}
        for run in self.config.runs:
            learned.setdefault(run.algo, []).append(load_policy(run, self.run_folder(run)))
        return {**learned, **judge.policies(self.config.routers)}

    def _score(self, judge: Evaluator) -> tuple[Evaluation, ReportWriter]:
        policies = self.policies(judge)
        report = ReportWriter(self.config.market, policies)
        return judge.evaluate(policies, each=report.add), report

    def _results(self, evaluation: Evaluation, validation: Evaluation) -> dict[str, Any]:
        config = {"digest": self.config.digest(), **self.config.canonical()}
        return make_results(evaluation, validation.names("rule")[0], config)

    def learning_curves(self) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        """By algorithm, one (timesteps, mean validation costs) a training seed."""
        curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for run in self.config.runs:
            with np.load(self.run_folder(run) / "evaluations.npz") as log:
                curves.setdefault(run.algo, []).append((log["timesteps"], -log["results"].mean(axis=1)))
        return curves

    def _draw(self, results: dict[str, Any], validation: Evaluation) -> None:
        from sor_sb3.reports.figures import comparison_figure, learning_curves_figure

        comparison_figure(results, self.folder / "comparison.png")
        learning_curves_figure(
            self.learning_curves(),
            _mean_costs(validation),
            f"{results['market']}, {results['env']}: cost on held-out validation days",
            results["cost_unit"],
            self.folder / "learning_curves.png",
        )

    def _log_baselines(self, evaluator: Evaluator, validation: Evaluation) -> None:
        """Each rule and oracle as a TensorBoard run of its own: a flat line beside the learners' curves."""
        from stable_baselines3.common.logger import configure

        from sor_sb3.callbacks.evaluation import scalars

        longest = max(run.timesteps for run in self.config.runs)
        for name, scores in validation.scores.items():
            tensorboard_dir = self.folder / "tensorboard" / name
            shutil.rmtree(tensorboard_dir, ignore_errors=True)
            logger = configure(str(tensorboard_dir), ["tensorboard"])
            gap = validation.gap_closed(name)
            for step in (0, longest // 2, longest):
                for tag, value in scalars(evaluator, scores, gap.mean if gap else None).items():
                    logger.record(tag, value)
                logger.dump(step)
            logger.close()


def _mean_costs(evaluation: Evaluation) -> dict[str, float]:
    return {name: float(scores.cost.mean()) for name, scores in evaluation.scores.items()}


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """No Ctrl-C for what is started inside; one that comes meanwhile is not lost, but comes at the end.

    Where signals cannot be held (Windows) they are ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if hasattr(signal, "pthread_sigmask"):
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now; next time they go on from their last checkpoints."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compare(
    config: CompareConfig,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a comparison, or go on with it; returns the content of its ``results.json``.

    Raises:
        UserError: the folder belongs to another config.
    """
    started = time.perf_counter()
    for run in {run.algo: run for run in config.runs}.values():
        check_settings(run)
    comparison = Comparison(config, folder)
    validation = comparison.score_rules_on_validation()  # also compiles the kernels before the workers need them
    comparison.train_all(workers, progress)
    results = comparison.finish(validation)
    write_json(folder / "timing.json", {"seconds": time.perf_counter() - started, "versions": system_versions()})
    return results
