"""Who starts a grid's workers: this machine or SLURM. What workers do is the same: tasks of a plan, by leases.

An engine only launches, and may launch again what was killed. What is done stands in files, so it does not matter which
engine, how many workers or how many drivers there were.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.experiments.grid_tasks import TASKS_FOLDER, Plan, work
from sor_sb3.experiments.workers import KILLED, run_replaced, usable_cores

NEEDS = {"slurm": "submitit"}  # by engine, the package; the extra has the engine's name
JOB_MINUTES = 240  # of a SLURM job; one that runs out is queued again, and SBATCH_TIMELIMIT goes before this
DEATHS = 3  # of a job, with nothing done meanwhile
LOOK_S, END_S = 1.0, 60.0


@dataclass(frozen=True)
class Worker:
    """A worker as an engine starts it, perhaps on another machine that has the same folders."""

    plan: Plan
    cwd: str = field(default_factory=os.getcwd)
    argv: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))

    def __call__(self) -> None:
        """Work until nothing is left."""
        with suppress(OSError):
            os.chdir(self.cwd)
        sys.argv = list(self.argv)  # the command, which the log of final scenarios has
        work(self.plan)

    def checkpoint(self, *_: Any) -> Any:
        """What submitit starts in place of a job that was preempted or ran out of time: the same, which goes on."""
        return importlib.import_module("submitit").helpers.DelayedSubmission(self)


def check_engine(engine: str) -> None:
    """Raises UserError: the engine is unknown, or what it needs is not installed."""
    if engine not in ("local", *NEEDS):
        raise UserError(f"--engine is '{engine}'; expected local or slurm")
    try:
        importlib.import_module(NEEDS.get(engine, "os"))
    except ImportError:
        said = f"--engine {engine} needs {NEEDS[engine]}"
        raise UserError(f"{said}; install it with: pip install 'sor-sb3[{engine}]'") from None


def launch(engine: str, plan: Plan, workers: int | None, look: Callable[[], None]) -> None:
    """Have workers do what is left of a plan; `look` is called about once a second. Returns when nothing is left.

    `workers` are by default one a core of this machine; on SLURM one a task, at most 64.

    Raises WorkFailed: workers are killed again and again, and nothing is done meanwhile.
    """
    pending = len(plan.pending())
    if not pending:
        return
    worker = Worker(plan)
    if engine == "local":
        count = min(workers or usable_cores(), pending)
        run_replaced(worker, count, look, lambda: len(plan.pending()))
    else:
        _on_slurm(worker, min(workers or 64, pending), look)


def _on_slurm(worker: Worker, count: int, look: Callable[[], None]) -> None:
    """Jobs of submitit, an array; where there is no SLURM, submitit starts them on this machine."""
    submitit = importlib.import_module("submitit")
    executor = submitit.AutoExecutor(folder=worker.plan.folder / TASKS_FOLDER / "jobs", slurm_max_num_timeout=1000)
    executor.update_parameters(name="sor-sb3", timeout_min=JOB_MINUTES, cpus_per_task=1)
    with executor.batch():
        jobs = [executor.submit(worker) for _ in range(count)]
    deaths, left = 0, len(worker.plan.pending())
    try:
        while left:
            look()
            time.sleep(LOOK_S)
            before, left = left, len(worker.plan.pending())
            ended = [job for job in jobs if job.done()]
            jobs = [job for job in jobs if job not in ended]
            killed = [job for job in ended if job.exception() is not None] if left else []
            deaths = deaths + len(killed) if left == before else len(killed)
            if deaths > DEATHS * count:
                raise WorkFailed(f"{KILLED}; {worker.plan.folder / TASKS_FOLDER / 'jobs'} has the jobs' logs")
            jobs += [executor.submit(worker) for _ in killed]
        _wait_for(jobs)
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()


def _wait_for(jobs: list[Any]) -> None:
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(LOOK_S / 4.0)
