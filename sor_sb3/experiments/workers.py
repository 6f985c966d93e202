"""Run jobs in processes of their own, as many at once as there are cores; the processes end with the command.

What a job does is not known here.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection
from operator import setitem
from typing import Any

from sor_sb3.errors import WorkFailed

KILLED = "workers are killed again and again, perhaps for lack of memory; the same command continues"
DEATHS = 3  # of a worker, with nothing done meanwhile

_counters: Any = None  # in a worker: shared counters, one a job


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    job: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    workers: int | None = None,
    progress: Callable[[int, Sequence[int]], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> list[Any]:
    """What ``job(report, *arguments[i])`` returns for every i, each in a worker process; ``report(n)`` sets counter i.

    The job is a function at the top of a module; `arguments` and results are pickled. `workers` run at once, by default
    one a usable core. This process does `meanwhile` what it is given to do; then `progress` is called twice a second
    with the number of finished jobs and the counters. What a job raises first is raised here, and all others are ended.
    Raises WorkFailed: a worker process was killed.
    """
    context = multiprocessing.get_context("spawn")
    counters = context.Array("q", len(arguments), lock=False)
    pool = ProcessPoolExecutor(min(workers or usable_cores(), len(arguments)), context, _start_worker, (counters,))
    try:
        with _interrupts_held():  # workers inherit it: the command ends them
            futures = [pool.submit(_call, job, i, of) for i, of in enumerate(arguments)]
        if meanwhile is not None:
            meanwhile()
        waiting: set[Future[Any]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if progress is not None:
                progress(sum(f.done() for f in futures), list(counters))
    except BaseException as error:
        _stop(pool)
        if isinstance(error, BrokenProcessPool):
            said = "a worker process was killed, perhaps for lack of memory; the same command continues"
            raise WorkFailed(f"{said}, with --workers 1 in less memory") from error
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def _call(job: Callable[..., Any], index: int, arguments: tuple[Any, ...]) -> Any:
    return job(partial(setitem, _counters, index), *arguments)


def _start_worker(counters: Any) -> None:
    global _counters
    _counters = counters
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """Leave no process behind that writes, however the command ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """No Ctrl-C for what is started inside. One that comes meanwhile is not lost: it takes effect at the end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, whose processes inherit no such thing
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now. The next command continues from their last checkpoints."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def run_replaced(job: Callable[[], None], count: int, look: Callable[[], None], left: Callable[[], int]) -> None:
    """Have `count` processes call ``job()`` until all have returned; a killed one is replaced while any is `left`.

    The job is pickled. `look` is called twice a second. What a job raises first is raised here, and all others are
    ended. Raises WorkFailed: processes are killed again and again while `left` stays what it is.
    """
    context = multiprocessing.get_context("spawn")
    errors: Any = context.SimpleQueue()

    def started() -> Any:
        process = context.Process(target=_do, args=(job, errors), daemon=True)
        with _interrupts_held():
            process.start()
        return process

    processes, deaths, still = [started() for _ in range(count)], 0, left()
    try:
        while processes:
            connection.wait([process.sentinel for process in processes], timeout=0.5)
            look()
            ended = [process for process in processes if process.exitcode is not None]
            if not errors.empty():
                raise errors.get()
            if not ended:
                continue
            killed = sum(process.exitcode != 0 for process in ended)
            before, still = still, left()
            deaths = killed + (deaths if still == before else 0)
            if still and deaths > DEATHS * count:
                raise WorkFailed(f"{KILLED}, with --workers 1 in less memory")
            processes = [process for process in processes if process not in ended]
            processes += [started() for _ in range(killed if still else 0)]
    finally:
        for process in processes:
            process.kill()


def _do(job: Callable[[], None], errors: Any) -> None:
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    try:
        job()
    except Exception as error:
        errors.put(error)
        sys.exit(1)
