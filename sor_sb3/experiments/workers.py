"""Run jobs in processes of their own, as many at once as there are cores; the processes end with the command.

What a job does is not known here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from sor_sb3.errors import WorkFailed

Report = Callable[[int], None]
_counters: Any = None  # in a worker: shared counters, one a job


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    job: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    workers: int | None = None,
    progress: Callable[[int, Sequence[int]], None] | None = None,
) -> None:
    """Call ``job(report, *arguments[i])`` for every i, each in a worker process; ``report(n)`` sets counter i to n.

    Args:
        job: a function at the top of a module.
        arguments: of each call; they are pickled.
        workers: how many at once; None takes one a usable core.
        progress: called twice a second with the number of finished jobs and the counters.

    Raises:
        WorkFailed: a worker process was killed.
        Exception: what a job raised first; all others are ended.
    """
    context = multiprocessing.get_context("spawn")
    counters = context.Array("q", len(arguments), lock=False)
    pool = ProcessPoolExecutor(
        max_workers=min(workers or usable_cores(), len(arguments)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(counters,),
    )
    try:
        with _interrupts_held():  # workers inherit it: the command ends them
            futures = [pool.submit(_call, job, i, of) for i, of in enumerate(arguments)]
        waiting: set[Future[None]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if progress is not None:
                progress(sum(f.done() for f in futures), list(counters))
    except BaseException as error:
        _stop(pool)
        if isinstance(error, BrokenProcessPool):
            raise WorkFailed(
                "a training process was killed, perhaps for lack of memory; the same command continues, with "
                "--workers 1 in less memory"
            ) from error
        raise
    pool.shutdown()


def _call(job: Callable[..., None], index: int, arguments: tuple[Any, ...]) -> None:
    def report(done: int) -> None:
        _counters[index] = done

    job(report, *arguments)


def _start_worker(counters: Any) -> None:
    global _counters
    _counters = counters
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """Wait until the command has ended, for whatever reason, and leave no process behind that writes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """No Ctrl-C for what is started inside. One that comes meanwhile is not lost: it takes effect at the end.

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
    """End the workers now. The next command continues from their last checkpoints."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
