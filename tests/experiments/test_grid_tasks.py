"""Workers on one plan: each task is done once, in the order of needs, whoever is killed and whenever."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sor_sb3.experiments import grid_tasks as module
from sor_sb3.experiments.config import GridConfig
from sor_sb3.experiments.grid_tasks import Plan, work
from sor_sb3.files import append_line, write_text
from tests.experiments.test_grid import done_tasks

fcntl = pytest.importorskip("fcntl")
STEPS, KILLS = 40, 20


@dataclass(frozen=True)
class Counting:
    """A task that counts, with a checkpoint after each step; it fails where another process is at it."""

    folder: Path
    key: str
    need: Path | None = None
    step_s: float = 0.002

    @property
    def label(self) -> str:
        return self.key

    @property
    def failed_file(self) -> Path:
        return self.folder / f"{self.key}.failed"

    @property
    def done_file(self) -> Path:
        return self.folder / f"{self.key}.done"

    def is_done(self) -> bool:
        return self.done_file.is_file()

    def do(self, report: Any) -> None:
        assert self.need is None or self.need.is_file()
        checkpoint = self.folder / f"{self.key}.checkpoint"
        with (self.folder / f"{self.key}.at_work").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            count = int(checkpoint.read_text()) if checkpoint.is_file() else 0
            while count < STEPS:
                time.sleep(self.step_s)
                count += 1
                write_text(checkpoint, str(count))
                report(count)
            write_text(self.done_file, str(count))
        append_line(self.folder / "done.tsv", self.key, "task")


def counting(folder: Path, step_s: float = 0.002) -> Plan:
    """A plan of 32 such tasks, half of which need the other half."""
    plan = Plan(GridConfig.model_construct(cells=(), skipped=()), folder)
    first = [Counting(folder, f"first-{i}", None, step_s) for i in range(16)]
    then = [Counting(folder, f"then-{i}", task.done_file, step_s) for i, task in enumerate(first)]
    plan.tasks = [*then, *first]  # type: ignore[list-item]
    plan._needs = {b.key: [a] for a, b in zip(first, then, strict=True)}  # type: ignore[list-item]
    return plan


def assert_each_done_once(plan: Plan, kills: int) -> None:
    assert not list(plan.folder.glob("*.failed"))
    assert {task.done_file.read_text() for task in plan.tasks} == {str(STEPS)}  # type: ignore[attr-defined]
    noted = (plan.folder / "done.tsv").read_text().splitlines()[1:]
    for lines in (noted, done_tasks(plan.folder)):  # a kill may come between the deed and the note of it
        assert len(lines) == len(set(lines)) >= len(plan.tasks) - kills


@pytest.mark.parametrize("seed", range(3))
def test_twenty_kills_of_workers_lose_nothing_and_repeat_nothing(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IDLE_S", 0.02)
    # three seconds and more of work, for kills that take less than two
    plan, rng, context = (
        counting(tmp_path, step_s=12.0 / 32 / STEPS),
        random.Random(seed),
        multiprocessing.get_context("fork"),
    )

    def started() -> Any:
        process = context.Process(target=work, args=(plan,), daemon=True)
        process.start()
        return process

    workers = [started() for _ in range(4)]
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.0, 0.06))
        assert plan.pending(), "the work ended before the kills did"
        victim = rng.randrange(4)
        os.kill(workers[victim].pid, signal.SIGKILL)
        workers[victim] = started()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert_each_done_once(plan, KILLS)
