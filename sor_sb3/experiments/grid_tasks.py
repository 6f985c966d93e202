"""What a grid is made of: tasks that any process may do, each once, in an order that their needs give.

A cell's rules are scored on validation scenarios, its runs are trained, then all is scored on test scenarios; in a
finished grid cells are scored on the final ones. Files say what is done; leases say who works on what.

GRID/tasks/TASK.N          leases                    GRID/tasks/CELL.validation.pkl rules' scores, until a cell is done
GRID/tasks/TASK.failed     why a task failed         GRID/tasks/*.session.json      what each process has spent
GRID/tasks/tasks.tsv       a line a task that was done
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sor_sb3.callbacks.tracking import keep_comparison
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation
from sor_sb3.evaluation.results import system_versions
from sor_sb3.experiments.board import Board
from sor_sb3.experiments.comparison import Comparison, compare_final
from sor_sb3.experiments.config import CompareConfig, GridConfig, TrainConfig
from sor_sb3.experiments.final import FINAL_FOLDER
from sor_sb3.experiments.folder import DONE_FILE, RESULTS_FILE, TENSORBOARD_FOLDER, named_folder
from sor_sb3.experiments.leases import BEAT_S, Leases
from sor_sb3.experiments.run import check_settings, train
from sor_sb3.files import append_line, write_bytes, write_json, write_text

TASKS_FOLDER, TIMING_FILE, TASKS_FILE = "tasks", "timing.json", "tasks.tsv"
RIVALS = "rivals"  # the extra that every cell of a grid is scored with
IDLE_S = 0.5
Report = Callable[[int], None]


class LeaseLost(RuntimeError):
    """Another process took over what this one was silent about for too long."""


def cell_folder(folder: Path, config: CompareConfig) -> Path:
    """Where a grid's comparison lies: ``GRID/MARKET_ENV``."""
    return named_folder(folder, None, config.market.name, config.env)


@dataclass(frozen=True)
class Cell:
    """A comparison of a grid."""

    config: CompareConfig
    grid: Path
    extras: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """The config's."""
        return self.config.digest()

    @cached_property
    def comparison(self) -> Comparison:
        """The comparison in its folder."""
        return Comparison(self.config, cell_folder(self.grid, self.config))

    @property
    def validation_file(self) -> Path:
        """Rules' scores on validation scenarios, while the cell is worked on."""
        return self.grid / TASKS_FOLDER / f"{self.digest}.validation.pkl"

    def validation(self) -> Evaluation | None:
        """Those scores, if there are any, made by these very versions of the software."""
        try:
            versions, found = pickle.loads(self.validation_file.read_bytes())
        except (OSError, EOFError, ValueError, AttributeError, ImportError, pickle.UnpicklingError):
            return None
        return found if versions == system_versions() else None

    def results(self, final: bool = False) -> dict[str, Any] | None:
        """The content of the cell's ``results.json``, where that is of this config and has all that a grid needs."""
        folder = self.comparison.folder
        file = (folder / FINAL_FOLDER if final else folder) / RESULTS_FILE
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(file.read_text(encoding="utf-8"))
            whole = final or (folder / TIMING_FILE).is_file()
            if found["config"]["digest"] == self.digest and {*self.extras, RIVALS} <= found.keys() and whole:
                return dict(found)
        return None


@dataclass(frozen=True)
class Task:
    """One thing to do for a cell: "rules", "train", "finish" or "final". A `run` is for "train"."""

    kind: str
    cell: Cell
    run: TrainConfig | None = None

    @cached_property
    def key(self) -> str:
        """A name by content, which tells the task from all others."""
        return f"{self.kind}-{self.cell.digest if self.run is None else self.run.digest()}"

    @property
    def label(self) -> str:
        """The task in words."""
        of = f"{self.cell.config.market.name} {self.cell.config.env}"
        return f"{of} {self.kind}" if self.run is None else f"{of} {self.run.algo} seed {self.run.seed}"

    @property
    def failed_file(self) -> Path:
        """Where it stands why the task failed."""
        return self.cell.grid / TASKS_FOLDER / f"{self.key}.failed"

    def is_done(self) -> bool:
        """Whether the task's result is there."""
        comparison = self.cell.comparison
        if self.run is not None:
            return (comparison.run_folder(self.run) / DONE_FILE).is_file() and comparison.is_done(self.run)
        if self.kind == "rules":  # a finished cell needs them no more
            return self.cell.validation() is not None or self.cell.results() is not None
        return self.cell.results(self.kind == "final") is not None

    def do(self, report: Report) -> None:
        """Do it. What a comparison alone does is done by the same functions."""
        {"rules": self._rules, "train": self._train, "finish": self._finish, "final": self._final}[self.kind](report)

    def _rules(self, report: Report) -> None:
        cell = self.cell
        for run in {run.algo: run for run in cell.config.runs}.values():
            check_settings(run)
        validation = cell.comparison.score_rules_on_validation()
        write_bytes(cell.validation_file, pickle.dumps((system_versions(), validation)))
        _board(cell, validation)

    def _train(self, report: Report) -> None:
        assert self.run is not None
        comparison, validation = self.cell.comparison, self._validation()
        baselines = comparison.baselines(validation)
        train(*comparison.cleared(self.run), baselines, report=report)

    def _finish(self, report: Report) -> None:
        started, cell = time.perf_counter(), self.cell
        validation = self._validation()
        _board(cell, validation)
        results = cell.comparison.finish(validation, (*cell.extras, RIVALS))
        keep_comparison(cell.comparison.folder, results)
        seconds = time.perf_counter() - started + sum(training_seconds(cell))
        write_json(cell.comparison.folder / TIMING_FILE, {"seconds": seconds, "versions": system_versions()})
        cell.validation_file.unlink(missing_ok=True)

    def _final(self, report: Report) -> None:
        compare_final(self.cell.config, self.cell.comparison.folder, self.cell.grid, (*self.cell.extras, RIVALS))

    def _validation(self) -> Evaluation:
        return self.cell.validation() or self.cell.comparison.score_rules_on_validation()


def _board(cell: Cell, validation: Evaluation) -> None:
    comparison = cell.comparison
    board = Board(comparison.folder / TENSORBOARD_FOLDER, cell.config.market, comparison.runs)
    board.add_baselines(validation)
    board.update()


def training_seconds(cell: Cell) -> list[float]:
    """What each finished run of a cell trained for, over all its sessions."""
    found = []
    for _, folder in cell.comparison.runs:
        with suppress(OSError, ValueError, KeyError):
            found.append(float(json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))["seconds"]))
    return found


class Plan:
    """The tasks of a grid, and which of them can be done now."""

    def __init__(self, config: GridConfig, folder: Path, extras: Sequence[str] = (), final: bool = False) -> None:
        self.folder, self.final = folder, final
        self.cells = [Cell(cell, folder, tuple(extras)) for cell in config.cells]
        self.tasks: list[Task] = []
        self._needs: dict[str, list[Task]] = {}
        self._done: set[str] = set()
        for cell in self.cells:
            self._add(cell)
        order = {"finish": 0, "rules": 1, "train": 2}  # results come early, and mistakes
        self.tasks.sort(key=lambda task: order.get(task.kind, 0))

    def _add(self, cell: Cell) -> None:
        if self.final:
            self.tasks.append(Task("final", cell))
        elif cell.results() is None:
            rules, runs = Task("rules", cell), [Task("train", cell, run) for run in cell.config.runs]
            finish = Task("finish", cell)
            self.tasks += [rules, *runs, finish]
            self._needs |= {run.key: [rules] for run in runs} | {finish.key: runs}

    def is_done(self, task: Task) -> bool:
        """Whether a task is done; what was done once stays so."""
        if task.key not in self._done and task.is_done():
            self._done.add(task.key)
        return task.key in self._done

    def pending(self) -> list[Task]:
        """What is left to do: neither done, nor failed, nor in need of what failed."""
        left = [task for task in self.tasks if not self.is_done(task)]
        failed = {task.key for task in left if task.failed_file.is_file()}
        stuck = failed | {task.key for task in left if any(n.key in failed for n in self.needs(task))}
        return [t for t in left if t.key not in stuck and not any(n.key in stuck for n in self.needs(t))]

    def needs(self, task: Task) -> list[Task]:
        """What has to be done before."""
        return self._needs.get(task.key, [])

    def failures(self) -> list[dict[str, Any]]:
        """Why tasks failed, of those that are not done."""
        found = []
        for task in self.tasks:
            if not self.is_done(task) and task.failed_file.is_file():
                reason = task.failed_file.read_text(encoding="utf-8").splitlines()[0]
                of, algo = task.cell.config, task.run.algo if task.run else None
                found.append({"market": of.market.name, "env": of.env, "algo": algo, "reason": reason})
        return found


def work(plan: Plan) -> None:
    """Do tasks of a plan until none is left, beside other processes that do the same."""
    torch.set_num_threads(1)
    leases, session = Leases(plan.folder / TASKS_FOLDER), Session(plan.folder / TASKS_FOLDER, "worker")
    with beating(leases, session):
        while pending := plan.pending():
            if not any(_tried(task, plan, leases, session) for task in pending):
                session.doing("waiting")
                time.sleep(IDLE_S)


def _tried(task: Task, plan: Plan, leases: Leases, session: Session) -> bool:
    """Take a task, if it can be done and nobody else has it, and do it; whether that was so."""
    if not all(plan.is_done(need) for need in plan.needs(task)) or not leases.take(task.key):
        return False
    session.doing(task.key, task.label)
    began = time.time()

    def told(timesteps: int) -> None:
        session.timesteps = timesteps
        if not leases.is_mine(task.key):
            raise LeaseLost

    try:
        if not task.is_done():
            task.do(told)
            _note(task, plan, time.time() - began)
    except LeaseLost:
        pass
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        write_text(task.failed_file, f"{' '.join(reason.split())}\n\n{traceback.format_exc()}")
    finally:
        leases.give_back(task.key, done=plan.is_done(task))
    return True


def _note(task: Task, plan: Plan, seconds: float) -> None:
    """Add a line of a task that this process has done."""
    columns = ("task", "what", "host", "pid", "seconds")
    line = (task.key, task.label, socket.gethostname(), os.getpid(), f"{seconds:.1f}")
    append_line(plan.folder / TASKS_FOLDER / TASKS_FILE, "\t".join(map(str, line)), "\t".join(columns))


class Session:
    """What one process does and has spent, in a file of its own, which the driver reads."""

    def __init__(self, folder: Path, role: str) -> None:
        self.timesteps, self._task, self._label, self._role = 0, "", "", role
        self._started, self._begin = time.time(), time.monotonic()
        self._file = folder / f"{socket.gethostname()}_{os.getpid()}_{int(1e3 * self._started)}.session.json"
        self.beat()

    def doing(self, task: str, label: str = "") -> None:
        """Begin a task."""
        if task != self._task:
            self._task, self._label, self.timesteps = task, label, 0

    def beat(self, ended: bool = False) -> None:
        """Write down how things stand."""
        spent = {"wall_s": time.monotonic() - self._begin, "cpu_s": time.process_time()}
        doing = {"task": "" if ended else self._task, "label": self._label, "timesteps": self.timesteps}
        write_json(self._file, {"role": self._role, "started": self._started, **spent, **doing})


@contextmanager
def beating(leases: Leases | None, session: Session) -> Iterator[None]:
    """Keep leases, and write down what the process does, every `BEAT_S` seconds and at the end."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            with suppress(OSError, ValueError):
                if leases is not None:
                    leases.beat()
                session.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        session.beat(ended=True)


def sessions(folder: Path) -> list[dict[str, Any]]:
    """What every process has said of itself."""
    found = []
    for file in sorted((folder / TASKS_FOLDER).glob("*.session.json")):
        with suppress(OSError, ValueError):
            found.append(json.loads(file.read_text(encoding="utf-8")))
    return found
