"""Leases: one holder a task, whoever dies, on one machine and on several."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sor_sb3.experiments import leases as module
from sor_sb3.experiments.leases import Leases

ON_LINUX = pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="files are not locked")


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is on another machine."""
    monkeypatch.setattr(module, "machine", lambda: "another")


def test_a_task_has_one_holder_until_it_is_given_back(tmp_path):
    one, other = Leases(tmp_path), Leases(tmp_path)
    assert one.take("a") and not other.take("a") and other.take("b")
    assert one.is_mine("a") and not other.is_mine("a")
    one.give_back("a")
    assert not one.is_mine("a") and other.take("a") and not one.take("a")
    other.give_back("a", done=True)
    assert [file.name for file in tmp_path.iterdir()] == ["b.1"]


def _take_all(folder: Path, tasks: int, queue: Any, all_have: Any) -> None:
    leases = Leases(folder)
    queue.put([task for task in range(tasks) if leases.take(f"t{task}")])
    all_have.wait()  # a lease ends with its process


def test_processes_that_take_at_once_never_share(tmp_path):
    context = multiprocessing.get_context("fork")
    queue, all_have = context.Queue(), context.Event()
    processes = [context.Process(target=_take_all, args=(tmp_path, 100, queue, all_have)) for _ in range(4)]
    for process in processes:
        process.start()
    taken = [task for _ in processes for task in queue.get()]
    all_have.set()
    for process in processes:
        process.join()
    assert sorted(taken) == list(range(100))


def _take_and_die(folder: Path) -> None:
    Leases(folder).take("a")
    os._exit(9)


@ON_LINUX
def test_on_one_machine_a_dead_holders_task_is_free_at_once(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_take_and_die, args=(tmp_path,))
    process.start()
    process.join()
    one, other = Leases(tmp_path), Leases(tmp_path)
    assert one.take("a") and not other.take("a")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.1", "a.2"]


def test_elsewhere_a_lease_runs_out_when_its_time_stands_still(tmp_path, monkeypatch):
    holder = Leases(tmp_path)
    assert holder.take("a")
    os.utime(tmp_path / "a.1", (1.0, 1.0))  # a clock that is decades behind does not matter
    elsewhere(monkeypatch)
    other = Leases(tmp_path, lease_s=0.05)
    assert not other.take("a")
    time.sleep(0.1)
    holder.beat()
    assert not other.take("a") and holder.is_mine("a")  # the holder lives
    time.sleep(0.1)
    assert other.take("a")
    assert holder.is_mine("a")  # the holder does not know it yet
    holder.beat()
    assert not holder.is_mine("a") and other.is_mine("a")
    holder.give_back("a")
    assert not Leases(tmp_path, lease_s=0.05).take("a")


def test_what_was_given_back_is_free_elsewhere_at_once(tmp_path, monkeypatch):
    holder = Leases(tmp_path)
    assert holder.take("a")
    holder.give_back("a")
    elsewhere(monkeypatch)
    assert Leases(tmp_path).take("a")


def test_a_lease_that_is_being_written_is_alive(tmp_path):
    (tmp_path / "a.1").touch()
    leases = Leases(tmp_path)
    assert not leases.take("a") and not leases.take("a")


def test_a_lease_says_who_holds_it(tmp_path):
    Leases(tmp_path).take("a")
    held = json.loads((tmp_path / "a.1").read_text(encoding="utf-8"))
    assert held["pid"] == os.getpid() and held["machine"] == module.machine()
