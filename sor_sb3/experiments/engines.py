"""Who starts the workers of a grid or a search: this machine, Ray or SLURM. What workers do is not known here.

An engine only launches, and may launch again what was killed. What is done stands in files, so it does not matter which
engine, how many workers or how many drivers there were.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.experiments.workers import KILLED, run_replaced, usable_cores

RAY_ADDRESS = "ray://"
NEEDS = {"ray": "ray", "slurm": "submitit"}  # by engine, the package and extra
JOB_MINUTES = 240  # of a SLURM job; one that runs out is queued again, and SBATCH_TIMELIMIT goes before this
DEATHS = 3  # of a job, with nothing done meanwhile
LOOK_S, END_S, CONNECT_S = 1.0, 60.0, 20.0


def _own_variables() -> dict[str, str]:
    """The package's settings of the environment, such as the tracker, which Ray's workers do not inherit."""
    return {name: value for name, value in os.environ.items() if name.startswith("SOR_SB3_")}


@dataclass(frozen=True)
class Worker:
    """A job as an engine starts it, perhaps on another machine that has the same folders."""

    job: Callable[[], None]
    cwd: str = field(default_factory=os.getcwd)
    argv: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    variables: dict[str, str] = field(default_factory=_own_variables)

    def __call__(self) -> None:
        """Work until nothing is left."""
        with suppress(OSError):
            os.chdir(self.cwd)
        os.environ.update(self.variables)
        sys.argv = list(self.argv)  # the command, which the log of final scenarios has
        self.job()

    def checkpoint(self, *_: Any) -> Any:
        """What submitit starts in place of a job that was preempted or ran out of time: the same, which goes on."""
        return importlib.import_module("submitit").helpers.DelayedSubmission(self)


def check_engine(engine: str) -> None:
    """Raises UserError: the engine is unknown, or what it needs is not installed."""
    name = "ray" if engine.startswith(RAY_ADDRESS) else engine
    if name not in ("local", *NEEDS):
        raise UserError(f"--engine is '{engine}'; expected local, ray, {RAY_ADDRESS}HOST:PORT or slurm")
    try:
        importlib.import_module(NEEDS.get(name, "os"))
    except ImportError:
        said = f"--engine {engine} needs {NEEDS[name]}"
        raise UserError(f"{said}; install it with: pip install 'sor-sb3[{name}]'") from None


def launch(
    engine: str,
    job: Callable[[], None],
    folder: Path,
    left: Callable[[], int],
    workers: int | None,
    look: Callable[[], None],
) -> None:
    """Have workers call ``job()``, which is pickled and does what is `left`, until nothing is. A dead one is replaced.

    `workers` are by default one a core, of this machine or of Ray's cluster; on SLURM 64; never more than what is left.
    `look` is called about once a second. Logs of SLURM's jobs go to `folder`.

    Raises WorkFailed: workers are killed again and again, and `left` stays what it is.
    """
    pending = left()
    if not pending:
        return
    worker = Worker(job)
    if engine == "local":
        run_replaced(worker, min(workers or usable_cores(), pending), look, left)
    elif engine == "slurm":
        _on_slurm(worker, folder / "jobs", min(workers or 64, pending), look, left)
    else:
        _on_ray(engine if engine.startswith(RAY_ADDRESS) else None, worker, workers, look, left)


def _on_ray(
    address: str | None, worker: Worker, workers: int | None, look: Callable[[], None], left: Callable[[], int]
) -> None:
    """Tasks of Ray Core."""
    ray = importlib.import_module("ray")
    joined = address or os.environ.get("RAY_ADDRESS")
    own = {} if joined else {"num_cpus": workers or usable_cores(), "include_dashboard": False}
    try:
        _reach(joined or "")
        ray.init(address=joined or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"--engine ray: {joined or 'a cluster on this machine'} does not answer ({why[0]})") from None
    try:
        task = ray.remote(num_cpus=1, max_retries=0)(_call)  # a task whose machine dies is replaced here
        count = min(workers or int(ray.cluster_resources().get("CPU", 1)), left())
        jobs = [task.remote(worker).future() for _ in range(count)]
        _replaced(jobs, lambda: task.remote(worker).future(), look, left, "Ray's logs say more")
    finally:
        ray.shutdown()  # with which tasks of this command end


def _reach(address: str) -> None:
    """Raises OSError: nobody listens at HOST:PORT, which Ray itself takes many minutes to say."""
    host, _, port = address.removeprefix(RAY_ADDRESS).rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _call(worker: Worker) -> None:
    worker()


def _on_slurm(worker: Worker, logs: Path, count: int, look: Callable[[], None], left: Callable[[], int]) -> None:
    """Jobs of submitit, an array; where there is no SLURM, submitit starts them on this machine."""
    submitit = importlib.import_module("submitit")
    executor = submitit.AutoExecutor(folder=logs, slurm_max_num_timeout=1000)
    executor.update_parameters(name="sor-sb3", timeout_min=JOB_MINUTES, cpus_per_task=1)
    with executor.batch():
        jobs = [executor.submit(worker) for _ in range(count)]
    try:
        _replaced(jobs, lambda: executor.submit(worker), look, left, f"{logs} has the jobs' logs")
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()


def _replaced(
    jobs: list[Any], submit: Callable[[], Any], look: Callable[[], None], left: Callable[[], int], logs: str
) -> None:
    """Wait until nothing is left and the jobs have ended, and put another in place of each that died."""
    count, deaths, still = len(jobs), 0, left()
    while still and jobs:
        look()
        time.sleep(LOOK_S)
        before, still = still, left()
        ended = [job for job in jobs if job.done()]
        for job in ended:
            jobs.remove(job)
        errors = [error for job in ended if (error := job.exception()) is not None] if still else []
        for error in errors:
            if isinstance(cause := getattr(error, "cause", None), Exception):  # what the job itself raised, from Ray
                raise cause
        deaths = len(errors) + (deaths if still == before else 0)
        if deaths > DEATHS * count:
            raise WorkFailed(f"{KILLED}; {logs}")
        jobs += [submit() for _ in errors]
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(LOOK_S / 4.0)
