"""Engines only launch: whatever starts the workers, and whatever is killed, the results are the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.experiments.engines import check_engine, launch
from sor_sb3.experiments.grid_tasks import work
from sor_sb3.experiments.workers import run_replaced
from tests.conftest import COMMAND, Finished, run_command
from tests.experiments.test_comparison import no_leftovers, session_members, wait_for
from tests.experiments.test_grid import ARGUMENTS, CELLS, done_tasks, grid, mistake  # noqa: F401 (fixtures)
from tests.experiments.test_grid_tasks import assert_each_done_once, counting
from tests.test_cli import Mistakes

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


# --- processes that are replaced ------------------------------------------------------------------


class Job:
    """Adds a byte to a file; the first `deaths` processes that do so are killed at it."""

    def __init__(self, file: Path, deaths: int = 0, error: str = "") -> None:
        self.file, self.deaths, self.error = file, deaths, error

    def __call__(self) -> None:
        with self.file.open("ab") as file:
            file.write(b".")
        if self.error:
            raise UserError(self.error)
        if self.file.stat().st_size <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_is_replaced(tmp_path):
    file = tmp_path / "calls"
    run_replaced(Job(file, deaths=2), 1, lambda: None, lambda: 1)
    assert file.stat().st_size == 3


@pytest.mark.slow
def test_processes_that_are_always_killed_end_the_command(tmp_path):
    with pytest.raises(WorkFailed, match="killed again and again"):
        run_replaced(Job(tmp_path / "calls", deaths=99), 1, lambda: None, lambda: 1)


def test_what_a_process_raises_is_raised(tmp_path):
    with pytest.raises(UserError, match="the disk is full"):
        run_replaced(Job(tmp_path / "calls", error="the disk is full"), 1, lambda: None, lambda: 1)


# --- mistakes -------------------------------------------------------------------------------------


def test_an_engine_that_is_not_there_is_said_in_a_sentence(mistake: Mistakes, monkeypatch):  # noqa: F811
    assert "expected local, ray, ray://HOST:PORT or slurm" in mistake("compare", "--engine", "spark", *two_markets())
    assert "is for a grid" in mistake("compare", "--engine", "ray")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"needs submitit; install it with: pip install 'sor-sb3\[slurm\]'"):
        check_engine("slurm")


def two_markets() -> list[str]:
    return ["--market", "notebook,notebook_blind", "--algos", "a2c"]


# --- every engine, and kills ----------------------------------------------------------------------


def assert_same_results(mine: Path, other: Path) -> None:
    for where in ("", *CELLS):
        assert (mine / where / "results.json").read_bytes() == (other / where / "results.json").read_bytes(), where
    trained = [task for task in done_tasks(mine) if task.startswith("train-")]
    assert len(trained) == len(set(trained)) <= 8


def begin(tmp_path: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [str(COMMAND), *ARGUMENTS, "--log-dir", str(tmp_path), *more]
    with (tmp_path / "output.txt").open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_a_worker_that_is_killed_at_a_task_is_replaced(engine, tmp_path):
    if engine == "slurm":  # where there is none, submitit's local executor
        pytest.importorskip("submitit")
    plan, killed = counting(tmp_path, step_s=0.03), set[int]()

    def look() -> None:
        held = {json.loads(file.read_text("utf-8") or "{}").get("pid") for file in tmp_path.glob("tasks/*.[0-9]")}
        if len(killed) < 3 and (at_work := held - killed - {None}):
            killed.add(min(at_work))
            os.kill(min(at_work), signal.SIGKILL)

    launch(engine, partial(work, plan), tmp_path, lambda: len(plan.pending()), 2, look)
    assert len(killed) == 3
    assert_each_done_once(plan, kills=3)


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of this machine, a core a node, which commands join."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        cluster.shutdown()


def workers_of(folder: Path) -> set[int]:
    """Living processes that have been workers of a grid."""
    sessions = folder.glob("tasks/*.session.json")
    return {pid for file in sessions if Path(f"/proc/{(pid := int(file.name.split('_')[-2]))}").exists()}


@pytest.mark.slow
@ON_LINUX
def test_on_ray_a_node_dies_while_its_workers_count(tmp_path, three_nodes):
    plan = counting(tmp_path, step_s=0.03)
    killed: list[Any] = []

    def look() -> None:
        if not killed and len(list(tmp_path.glob("*.done"))) >= 2:
            killed.append(three_nodes.list_all_nodes()[-1])
            three_nodes.remove_node(killed[0], allow_graceful=False)

    launch("ray", partial(work, plan), tmp_path, lambda: len(plan.pending()), None, look)
    assert killed
    assert_each_done_once(plan, kills=1)
    lines = (tmp_path / "tasks" / "tasks.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert len({line.split("\t")[3] for line in lines}) >= 3, "all nodes had a part"


@pytest.mark.slow
@ON_LINUX
def test_on_ray_a_node_dies_and_the_driver_and_two_drivers_go_on(grid: Finished, tmp_path, three_nodes):  # noqa: F811
    folder = tmp_path / "grid"

    def trained() -> int:
        return len(list(folder.glob("*/*/*/done.json")))

    driver = begin(tmp_path, "--engine", "ray")
    with no_leftovers(driver):
        wait_for(lambda: trained() >= 1, "a run to end", 600)
        three_nodes.remove_node(three_nodes.list_all_nodes()[-1], allow_graceful=False)
        wait_for(lambda: trained() >= 3, "more runs to end", 600)
        driver.kill()
        driver.wait()
    assert not (folder / "results.json").exists()
    wait_for(lambda: not workers_of(folder), "workers to end with their driver", 60)
    drivers = [begin(tmp_path, "--engine", "ray") for _ in range(2)]
    with no_leftovers(drivers[0]), no_leftovers(drivers[1]):
        for driver in drivers:
            assert driver.wait(timeout=900) == 0, (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert_same_results(folder, grid.folder)


@pytest.mark.slow
def test_on_ray_of_this_machine_what_a_job_raises_is_raised(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="the disk is full"):
        launch("ray", Job(tmp_path / "calls", error="the disk is full"), tmp_path, lambda: 1, 1, lambda: None)
    with pytest.raises(WorkFailed, match="killed again and again"):
        launch("ray", Job(tmp_path / "calls", deaths=99), tmp_path, lambda: 1, 1, lambda: None)


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_said_in_a_sentence(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"--engine ray: 127.0.0.1:1 does not answer"):
        launch("ray", Job(tmp_path / "calls"), tmp_path, lambda: 1, 1, lambda: None)


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize("engine", ["local", "slurm"])  # where there is no SLURM, submitit's local executor
def test_a_driver_is_killed_and_two_at_once_go_on(grid: Finished, tmp_path, engine):  # noqa: F811
    if engine == "slurm":
        pytest.importorskip("submitit")
    folder, options = tmp_path / "grid", ("--engine", engine, "--workers", "2")
    drivers = [begin(tmp_path, *options)]
    with no_leftovers(drivers[0]):
        wait_for(lambda: list(folder.glob("*/*/*/done.json")), "a run to end", 600)
        drivers[0].kill()
        drivers[0].wait()
        assert not (folder / "results.json").exists()
        drivers = [begin(tmp_path, *options) for _ in range(2)]
        with no_leftovers(drivers[0]), no_leftovers(drivers[1]):
            for driver in drivers:
                assert driver.wait(timeout=900) == 0, (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert_same_results(folder, grid.folder)


@pytest.mark.slow
@ON_LINUX
def test_twenty_kills_of_workers_and_drivers(grid: Finished, tmp_path):  # noqa: F811
    """Each falls on a process that holds a task, or on its driver, after as many tasks done as were drawn."""
    rng, kills, folder = random.Random(0), 0, tmp_path / "grid"

    def is_time(driver: subprocess.Popen[bytes], wanted: int) -> bool:
        tasks = folder / "tasks" / "tasks.tsv"
        done = len(done_tasks(folder)) if tasks.is_file() else 0
        return driver.poll() is not None or (done >= wanted and len(at_work(driver, folder)) > 0)

    wanted = 0
    while kills < 20:
        driver = begin(tmp_path, "--workers", "2")
        with no_leftovers(driver):
            while kills < 20 and driver.poll() is None:
                wanted += rng.choice((0, 0, 0, 1))
                wait_for(partial(is_time, driver, wanted), "a worker to have a task", 600)
                time.sleep(rng.uniform(0.0, 2.0))
                if driver.poll() == 1:  # it gave up, since nothing was done between many kills
                    assert "killed again and again" in (tmp_path / "output.txt").read_text(encoding="utf-8")
                    break
                assert driver.poll() is None, "the grid ended before the kills did"
                victims = [driver.pid] if rng.random() < 0.25 else at_work(driver, folder)
                if victims:
                    os.kill(victim := rng.choice(victims), signal.SIGKILL)
                    kills += 1
                    if victim == driver.pid:
                        driver.wait()
    done = run_command(*ARGUMENTS, "--log-dir", tmp_path, timeout_s=900)
    assert done.returncode == 0, done.stderr
    assert_same_results(folder, grid.folder)


def at_work(driver: subprocess.Popen[bytes], folder: Path) -> list[int]:
    """Living workers of a driver that hold a task."""
    members, found = session_members(driver.pid), []
    for lease in folder.glob("tasks/*.[0-9]*"):
        with suppress(OSError, ValueError):  # it is being written, or just given back
            found.append(int(json.loads(lease.read_text(encoding="utf-8"))["pid"]))
    return [pid for pid in found if pid in members]
