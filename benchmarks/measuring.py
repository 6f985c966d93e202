"""What all benchmarks share: timing cases in turn, ratios within rounds, the machine, tables, charts, saved figures.

A topic is a module with `TITLE`, `measure(quick) -> results`, `sheets(results)` and `draw(results, folder)`. Its
results are plain data, saved as JSON, from which tables and charts are made again without measuring. Nothing fails on a
slow machine: the figures are the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads torch

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

import sor_sb3
from sor_sb3.files import write_json

Clock = Literal["cpu", "wall"]
Results = dict[str, Any]
LIBRARIES = ("sor-sb3", "gymnasium", "stable-baselines3", "torch", "numpy", "numba", "sbx-rl", "jax")
RESULTS_FOLDER = Path("logs/bench")
PACKAGE = Path(sor_sb3.__file__).resolve().parent
COLOURS = ("#1f77b4", "#d62728", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")
PLAIN_COLOUR = "#8c8c8c"
SHOWN_CLOCK = {"cpu": "CPU", "wall": "wall"}


class SkippedError(Exception):
    """A topic that cannot be measured here; its text says why."""


# ------------------------------------------------------------------------------------------------------ timing


@dataclass
class Case:
    """Something to time: `run()` does a piece of work and returns how many units of it that was.

    `against` names the case that each ratio of the row is to. A case is read by its own clock, and so is the case that
    it is compared with. `facts` go into the row as they are.
    """

    name: str
    run: Callable[[], int]
    against: dict[str, str] = field(default_factory=dict)
    clock: Clock = "cpu"
    warm_up: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    per_s: dict[Clock, list[float]] = field(default_factory=lambda: {"cpu": [], "wall": []})


def time_once(case: Case, at_least_s: float) -> None:
    """Run a case for at least so long, and note its rate by both clocks."""
    units, cpu, wall = 0, time.process_time(), time.perf_counter()
    while True:
        units += case.run()
        elapsed = time.perf_counter() - wall
        if elapsed >= at_least_s:
            break
    case.per_s["wall"].append(units / elapsed)
    case.per_s["cpu"].append(units / max(time.process_time() - cpu, 1e-9))


def alternate(cases: Sequence[Case], rounds: int, at_least_s: float) -> None:
    """Time all cases in turn, there and back, `rounds` times over, after a warm-up that compiles."""
    for case in cases:
        if case.warm_up:
            case.run()
    for number in range(rounds):
        for case in cases if number % 2 == 0 else cases[::-1]:
            time_once(case, at_least_s)


def spread(values: Iterable[float]) -> list[float]:
    """Median, lowest, highest."""
    values = list(values)
    return [statistics.median(values), min(values), max(values)]


def ratio_of(case: Case, other: Case) -> list[float]:
    """Ratios taken within rounds, by the clock of `case`: a busy machine slows both sides of one."""
    pairs = zip(case.per_s[case.clock], other.per_s[case.clock], strict=True)
    return spread(mine / theirs for mine, theirs in pairs)


def rows_of(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """A row for each case: rate per second of its clock, and its ratios, each as median, lowest, highest."""
    by_name = {case.name: case for case in cases}
    if len(by_name) < len(cases):
        raise ValueError("two cases have one name")
    return [
        {"case": case.name, "clock": case.clock, "per_s": spread(case.per_s[case.clock]), **case.facts}
        | {column: ratio_of(case, by_name[other]) for column, other in case.against.items()}
        for case in cases
    ]


# ----------------------------------------------------------------------------------------------------- machine


def one_thread() -> None:
    """Torch and Numba compute with one thread from here on."""
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the package that is measured, which need not be the one beside this file."""
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(describe, cwd=PACKAGE, capture_output=True, text=True)
    except OSError:
        return None
    return told.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Where and with what this is measured."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        "commit": _commit(),
    }


def say_where(console: Console, where: dict[str, Any]) -> None:
    """Print the machine, and whose code is measured where that is not the code beside these benchmarks."""
    console.print(machine_text(where), highlight=False)
    if PACKAGE.parent != Path(__file__).resolve().parent.parent:
        console.print(f"measures sor_sb3 as it is in {PACKAGE}", highlight=False)


def machine_text(where: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    commit = f", commit {where['commit']}" if where.get("commit") else ""
    return (
        f"{where['cpu']}, {where['cores']} cores, load {where['load_average_1min']} at the start; {where['system']}, "
        f"Python {where['python']}, {versions}{commit}"
    )


# ------------------------------------------------------------------------------------------------------ tables


def number(value: Any, digits: int = 0) -> str:
    """A number with separators; a spread as its median; a bound as it is; nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    value = value[0] if isinstance(value, (list, tuple)) else value
    return f"{value:,.{digits}f}"


def digits_of(value: float) -> int:
    """Decimals that leave about three digits."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def ratio(value: Any) -> str:
    """A ratio with its lowest and highest, "12.3 (11.8 - 12.9)"."""
    if value is None or isinstance(value, str):
        return number(value)
    if isinstance(value, (int, float)):
        return number(value, digits_of(value))
    median, low, high = (number(each, digits_of(each)) for each in value)
    return f"{median} ({low} - {high})"


@dataclass(frozen=True)
class Column:
    """A column of a table: the key of the rows, its heading, and how a value is written."""

    key: str
    heading: str
    show: Callable[[Any], str] = number


@dataclass(frozen=True)
class Sheet:
    """A table of results, ready to be printed or put on the page."""

    title: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]
    note: str = ""

    def cells(self) -> list[list[str]]:
        """The text of each row; what a row lacks is a dash."""
        return [[column.show(row.get(column.key)) for column in self.columns] for row in self.rows]

    def print(self, console: Console) -> None:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column.heading, justify="left" if i == 0 else "right", overflow="fold")
        for row in self.cells():
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """For the page."""
        lines = [f"**{self.title}**", ""]
        lines.append("| " + " | ".join(column.heading for column in self.columns) + " |")
        lines.append("|---" + "|---:" * (len(self.columns) - 1) + "|")
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.cells()]
        return "\n".join(lines + (["", self.note] if self.note else []))


def case_columns(unit: str, **ratios: str) -> tuple[Column, ...]:
    """Columns of `rows_of`: case, threads, clock, rate, and the named ratios."""
    return (
        Column("case", "case"),
        Column("threads", "threads"),
        Column("clock", "clock", lambda clock: SHOWN_CLOCK.get(clock, clock)),
        Column("per_s", f"{unit} / s", lambda value: number(value, digits_of(value[0]))),
        *(Column(key, heading, ratio) for key, heading in ratios.items()),
    )


# ------------------------------------------------------------------------------------------------------ charts


def new_chart(width: float = 8.0, height: float = 4.2, rows: int = 1, columns: int = 1) -> tuple[Any, list[Any]]:
    """A figure of fixed size in the look of the others, and its axes in a row."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", facecolor="white", squeeze=False
    )
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes.ravel().tolist()


def save_chart(figure: Any, path: Path) -> Path:
    """Write an SVG that is the same bytes for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    with plt.rc_context({"svg.hashsalt": "sor_sb3"}):
        figure.savefig(beside, format="svg", metadata={"Date": None})
    plt.close(figure)
    beside.replace(path)
    return path


def bars(
    axes: Any, rows: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], Any], plain: Sequence[str]
) -> None:
    """Horizontal bars of medians with whiskers from lowest to highest; cases that begin with a word of `plain` grey."""
    for at, row in enumerate(rows):
        median, low, high = value(row)
        colour = PLAIN_COLOUR if row["case"].startswith(tuple(plain)) else COLOURS[0]
        axes.barh(at, median, color=colour, alpha=0.85)
        axes.plot([low, high], [at, at], color="black", linewidth=1.5)
        text = number(median, digits_of(median))
        axes.annotate(text, (high, at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)


# ----------------------------------------------------------------------------------------------------- command


def today() -> str:
    """The date, as 2026-11-24."""
    return datetime.now(UTC).date().isoformat()


def saved(
    topic: ModuleType, results: Results, quick: bool, where: dict[str, Any], date: str | None = None
) -> dict[str, Any]:
    """What is written to a topic's JSON file."""
    return {
        "topic": Path(topic.__file__ or "").stem,
        "date": date or today(),
        "command": " ".join(
            ["python", f"benchmarks/{Path(topic.__file__ or '').name}", *(["--quick"] if quick else [])]
        ),
        "quick": quick,
        "machine": where,
        "results": results,
    }


def load(file: Path) -> dict[str, Any]:
    """A saved topic."""
    return json.loads(file.read_text(encoding="utf-8"))


def command(topic: ModuleType) -> None:
    """A topic's own command: measure, print and save."""
    parser = argparse.ArgumentParser(description=(topic.__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a rough look")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    where = machine()
    one_thread()
    say_where(console, where)
    try:
        results = topic.measure(options.quick)
    except SkippedError as reason:
        console.print(f"{topic.TITLE}: left out, {reason}")
        return
    for sheet in topic.sheets(results):
        sheet.print(console)
    if options.out is not None:
        write_json(options.out, saved(topic, results, options.quick, where))
        console.print(f"saved {options.out}")
