"""Trials in a storage: whole after kills, none twice, as many as were asked for, with any number of workers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from sor_sb3.errors import UserError
from sor_sb3.experiments import study as module
from sor_sb3.experiments.search_space import Choice, Range
from sor_sb3.experiments.study import Search, open_storage, shown_storage

SPACE = {"rate": Range(1e-4, 1e-1, True), "n": Range(1, 9, False), "kind": Choice(("a", "b"))}
START = {"rate": 1e-6, "n": 3, "kind": "a"}  # a rate outside the range
CONFIG, DIGEST = {"algo": "ppo"}, "0123456789abcdef"


@pytest.fixture(params=["study.log", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def storage(request, tmp_path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else str(tmp_path / request.param)


@pytest.fixture
def journal(tmp_path) -> str:
    return str(tmp_path / "study.log")


def search(storage: str) -> Search:
    return Search(storage, "study", CONFIG, DIGEST)


def work(storage: str, n_trials: int, space: Any = SPACE, limit: int = 1000) -> list[dict[str, Any]]:
    """What one worker does: the parameters that it tried."""
    mine = search(storage)
    tried: list[dict[str, Any]] = []
    while len(tried) < limit and (trial := mine.next_trial(space, n_trials)) is not None:
        tried.append(trial.params)
        mine.study.tell(trial, float(trial.params["n"]) - abs(trial.params["rate"] - 0.01))
    return tried


def at_once(job: Any, *arguments: Any) -> None:
    """Call ``job(argument)`` for each, in threads of their own."""
    threads = [threading.Thread(target=job, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_as_many_as_asked_for_and_longer_later(journal):
    begun = search(journal)
    begun.enqueue([START])
    begun.enqueue([START])
    first = work(journal, 4)
    assert len(first) == 4 and first[0] == START
    assert work(journal, 4) == []
    assert len(work(journal, 6)) == 2
    assert [t.number for t in begun.finished] == list(range(6))
    assert all(1e-4 <= params["rate"] <= 1e-1 for params in first[1:])


def test_the_same_trials_whether_or_not_the_worker_was_stopped(tmp_path):
    straight = work(str(tmp_path / "a.log"), 14)
    stopped = [params for n in (3, 9, 14) for params in work(str(tmp_path / "b.log"), n)]
    assert straight == stopped
    assert len({params["rate"] for params in straight}) == 14


def test_workers_at_once_repeat_no_trial(storage):
    tried: list[dict[str, Any]] = []
    search(storage).enqueue([START])

    def one(_: int) -> None:
        search(storage).enqueue([START])  # as a second command does
        tried.extend(work(storage, 12, {**SPACE, "rate": Choice((1e-6, 1, 2))}))

    at_once(one, *range(3))
    assert len(tried) == 12
    assert len({tuple(sorted(params.items(), key=str)) for params in tried}) == 12
    assert len(search(storage).trials()) == 12


def test_workers_that_make_the_tables_at_once_all_open_them(tmp_path):
    for number in range(3):
        together, opened = threading.Barrier(4), list[Any]()

        def one(name: str, together: Any = together, opened: Any = opened) -> None:
            together.wait()
            opened.append(open_storage(name))

        at_once(one, *[f"sqlite:///{tmp_path / str(number)}.db"] * 4)
        assert len(opened) == 4


def test_a_queued_trial_goes_to_one_worker(storage):
    workers, space = [search(storage) for _ in range(4)], {"n": Range(1, 9, False)}
    for _ in range(10):
        workers[0].study.enqueue_trial({"n": 3})
        together, taken = threading.Barrier(4), list[int]()

        def one(mine: Search, together: Any = together, taken: Any = taken) -> None:
            together.wait()
            taken.append(mine.study.ask({"n": module._distribution(space["n"])}).number)

        at_once(one, *workers)
        assert len(set(taken)) == 4


def test_a_trial_whose_worker_died_is_tried_again_and_counts_once(storage, monkeypatch):
    dead = search(storage)
    lost = dead.next_trial(SPACE, 3)
    assert lost is not None
    assert [p for p in work(storage, 3, limit=2) if p == lost.params] == [], "it may be alive"
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    time.sleep(0.3)
    assert work(storage, 3) == [lost.params]
    states = {t.number: t.state for t in dead.study.get_trials()}
    assert states[lost.number] == TrialState.FAIL
    assert len(dead.finished) == 3
    with pytest.raises(module.UpdateFinishedTrialError):
        lost.report(1.0, 0)  # the worker that woke up learns that its trial is gone


def test_a_worker_that_is_alive_keeps_its_trial(journal, monkeypatch):
    monkeypatch.setattr(module, "LEASE_S", 0.5)
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    slow = search(journal)
    trial = slow.next_trial(SPACE, 2)
    assert trial is not None
    with slow.alive(trial):
        time.sleep(0.8)
        assert trial.params not in work(journal, 2, limit=1)
    assert slow.study.tell(trial, 1.0).state == TrialState.COMPLETE


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 400), then=st.booleans())
def test_a_journal_that_was_cut_off_anywhere_goes_on(cut, then, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "study.log"
    work(str(path), 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    if then:
        path.write_bytes(whole[:-cut] + b'{"op_code": 4, "wor')
    open_storage(str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEASE_S", 0.0)
        work(str(path), 3)
    assert len(search(str(path)).finished) == 3
    assert path.read_bytes().endswith(b"\n")


def test_a_trial_that_is_worse_on_the_same_instances_is_pruned(journal):
    it = search(journal)
    for offset, expected in ((0.0, False), (0.1, False), (-0.1, True)):
        trial = it.next_trial(SPACE, 9)
        assert trial is not None
        for step in range(10):
            trial.report(step / 7 + offset * (1 + step / 10), step)
        assert trial.should_prune() is expected
        it.study.tell(trial, 10 / 7 * 0.45 + offset)


def test_importance_names_what_matters(journal):
    it = search(journal)
    assert it.importance() == {}
    while (trial := it.next_trial(SPACE, 30)) is not None:
        it.study.tell(trial, float(trial.params["n"]))
    found = it.importance()
    assert max(found, key=lambda key: found[key]) == "n"
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_study_of_another_search_is_refused(journal):
    search(journal)
    with pytest.raises(UserError, match=r"a search with other settings \(algo differ\); give another --name"):
        Search(journal, "study", {"algo": "a2c"}, "fedcba9876543210")
    Search(journal, "another", {"algo": "a2c"}, "fedcba9876543210")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("study", "--storage is study; expected a journal file, x.log, or a database URL"),
        ("nosuchdb://host/x", "cannot be opened"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened"),
        ("{}/broken.log", "no journal of Optuna, or is damaged"),
        ("{}/folder.log", "cannot be used"),
        ("{}/file/x.log", "cannot be written"),
    ],
)
def test_storages_that_cannot_be(name, said, tmp_path):
    (tmp_path / "broken.log").write_text("hello\nworld\n", encoding="utf-8")
    (tmp_path / "folder.log").mkdir()
    Path(tmp_path / "file").touch()
    with pytest.raises(UserError, match=said):
        open_storage(name.format(tmp_path))


def test_a_password_is_not_shown():
    assert shown_storage("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown_storage("logs/x.log") == "logs/x.log"
