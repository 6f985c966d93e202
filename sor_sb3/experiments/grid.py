"""Many comparisons by one command: markets x envs, a cell each, over one set of workers. Any kill is gone on from.

A cell is a comparison in a folder of its own, ``GRID/MARKET_ENV``, as `compare` makes it. ``GRID`` itself has
``results.json`` and ``table.md`` of all cells, and in ``timing.json`` what they took. Whatever stops a grid, the same
command continues; a wider one, of more markets or envs, adds cells to what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.evaluation.formats import number
from sor_sb3.evaluation.grids import grid_cell, grid_results
from sor_sb3.experiments.config import CompareConfig, GridConfig, Skipped
from sor_sb3.experiments.engines import check_engine, launch
from sor_sb3.experiments.final import FINAL_FOLDER
from sor_sb3.experiments.folder import CONFIG_FILE, RESULTS_FILE, any_config, claim_folder
from sor_sb3.experiments.grid_tasks import (
    TASKS_FOLDER,
    TIMING_FILE,
    Plan,
    Session,
    beating,
    cell_folder,
    sessions,
    training_seconds,
    work,
)
from sor_sb3.experiments.run import check_settings
from sor_sb3.files import write_json, write_text, write_yaml, writing
from sor_sb3.market.spec import MarketSpec
from sor_sb3.reports.grids import grid_markdown

TABLE_FILE = "table.md"
LOOK_S = 2.0
Progress = Callable[[str, int, int], None]


def grid_config(
    markets: Sequence[MarketSpec],
    envs: Sequence[str],
    algos: Sequence[str],
    cell: Callable[[MarketSpec, str, list[str]], CompareConfig],
) -> GridConfig:
    """A cell for each market and env, made by `cell` of those of the algorithms that fit there.

    What does not fit is left out with its reason. Raises UserError: an env is unknown; an algorithm fits nowhere, so
    that the mistake is another; or two markets share a name.
    """
    if not algos:
        raise UserError("no algorithm is named; give --algos, such as --algos ppo,a2c")
    envs = list(dict.fromkeys(make_action_adapter(env, 2).env_id for env in envs))  # an unknown one is a mistake
    names = [market.name for market in markets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--market has two markets named {', '.join(sorted(twice))}; give each a 'name' of its own")
    cells, skipped = [], []
    refused: dict[str, list[UserError]] = {algo: [] for algo in algos}
    for market in markets:
        for env in envs:
            fitting = []
            for algo in algos:
                try:
                    RoutingCore(env, market, 1)  # what the env needs of a market, and then the algorithm of the env
                    cell(market, env, [algo])
                    fitting.append(algo)
                except UserError as error:
                    refused[algo].append(error)
                    skipped.append(Skipped(market=market.name, env=env, algo=algo, reason=str(error)))
            if fitting:
                cells.append(cell(market, env, fitting))
    for errors in refused.values():
        if len(errors) == len(markets) * len(envs):
            raise errors[0]
    return GridConfig(cells=tuple(cells), skipped=tuple(_whole_cells(skipped, algos)))


def _whole_cells(skipped: Sequence[Skipped], algos: Sequence[str]) -> list[Skipped]:
    """One line for a market and env where every algorithm is left out for the same reason."""
    found: list[Skipped] = []
    for one in skipped:
        alike = [s for s in skipped if (s.market, s.env, s.reason) == (one.market, one.env, one.reason)]
        entry = one.model_copy(update={"algo": None}) if len(alike) == len(algos) > 1 else one
        if entry not in found:
            found.append(entry)
    return found


def run_grid(
    config: GridConfig,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    extras: Collection[str] = ("gains",),
    final: bool = False,
    engine: str = "local",
) -> tuple[dict[str, Any], str]:
    """Make a grid, or go on with it; returns the content of its ``results.json``, and what it took in a sentence.

    Comparisons share one set of `workers`, which an `engine` starts (:func:`~sor_sb3.experiments.engines.launch`). With
    `final` nothing is trained: cells, which must be finished, are scored on the frozen final scenarios, each once, and
    the results lie in ``GRID/final``.

    Raises UserError: a cell's folder belongs to another config or cannot be written, or with `final` a cell is not
    finished; and WorkFailed: a process was killed, or something failed, after all else was done.
    """
    into = folder / FINAL_FOLDER if final else folder
    check_engine(engine)
    with writing(str(folder), folder):
        if final:
            _check_finished(config, folder)
        else:
            _check_settings(config)
            _claim(config, folder)
        plan = Plan(config, folder.absolute(), tuple(extras), final)
        for task in plan.tasks:
            task.failed_file.unlink(missing_ok=True)  # what failed is tried again
        with beating(None, Session(folder / TASKS_FOLDER, "driver")):
            tasks = folder.absolute() / TASKS_FOLDER
            launch(engine, partial(work, plan), tasks, lambda: len(plan.pending()), workers, _looking(plan, progress))
        failures = plan.failures()
        found = [cell.results(final) for cell in plan.cells]
        skipped = [one.model_dump() for one in config.skipped]
        results = grid_results([grid_cell(of) for of in found if of is not None], skipped, failures)
        spent = _spent(plan)
        said = _spent_sentence(spent)
        write_json(into / RESULTS_FILE, results)
        write_text(into / TABLE_FILE, grid_markdown(results, said))
        write_json(folder / TIMING_FILE, spent)
    return results, said


def check_failures(results: dict[str, Any], folder: Path) -> None:
    """Raises WorkFailed: something in a grid failed."""
    if failed := results["failed"]:
        first = f"{failed[0]['market']} {failed[0]['env']}: {failed[0]['reason']}"
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise WorkFailed(f"{first}{more}; {folder / TASKS_FOLDER} has the details, and the same command tries again")


def _check_settings(config: GridConfig) -> None:
    """Raises UserError: settings fit no cell. Where they fit one, the tasks of the others say what is wrong."""
    first: UserError | None = None
    for cell in config.cells:
        try:
            for run in {run.algo: run for run in cell.runs}.values():
                check_settings(run)
            return
        except UserError as error:
            first = first or error
    assert first is not None
    raise first


def _claim(config: GridConfig, folder: Path) -> None:
    """Take the folder and that of every cell. Raises UserError: one holds something else."""
    file = folder / CONFIG_FILE
    is_new, held = not file.is_file(), {"digest": config.digest(), "config": config.canonical()}
    if is_new:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not a grid of this tool; give another --name")
        write_yaml(file, held)
    elif not isinstance(any_config(folder), GridConfig):
        raise UserError(f"{folder} holds something else than a grid; give another --name")
    for cell in config.cells:
        claim_folder(cell_folder(folder, cell), cell.canonical(), cell.digest())
    write_yaml(file, held)


def _check_finished(config: GridConfig, folder: Path) -> None:
    for cell in Plan(config, folder).cells:
        if cell.results() is None:
            said = f"{cell.comparison.folder} holds no finished comparison of this grid, and --final trains nothing"
            raise UserError(f"{said}; run the same command without --final first")


def _looking(plan: Plan, progress: Progress | None) -> Callable[[], None]:
    """Tells `progress` how a grid stands, not more often than is of use."""
    looked = [0.0]

    def look() -> None:
        if progress is not None and time.monotonic() - looked[0] > LOOK_S:
            looked[0] = time.monotonic()
            progress(*_standing(plan))

    return look


def _standing(plan: Plan) -> tuple[str, int, int]:
    """What is done, in words, and timesteps done and in all."""
    runs = [task for task in plan.tasks if task.run is not None]
    done = [task for task in runs if plan.is_done(task)]
    cells = sum(plan.is_done(task) for task in plan.tasks if task.kind in ("finish", "final"))
    of = sum(task.kind in ("finish", "final") for task in plan.tasks)
    if not runs:
        return f"{cells} of {of} cells scored", cells, of
    far = {session["task"]: session["timesteps"] for session in sessions(plan.folder)}
    steps = sum(t.run.timesteps if t in done else min(far.get(t.key, 0), t.run.timesteps) for t in runs if t.run)
    total = sum(task.run.timesteps for task in runs if task.run)
    return f"{len(done)} of {len(runs)} runs trained, {cells} of {of} cells done", steps, total


def _spent(plan: Plan) -> dict[str, Any]:
    """Hours over all sessions: of the clock, of processors, and of every training run's clock, added up."""
    found = sessions(plan.folder)
    drivers = [session for session in found if session["role"] == "driver"]
    return {
        "sessions": len(drivers),
        "wall_hours": sum(session["wall_s"] for session in drivers) / 3600.0,
        "cpu_hours": sum(session["cpu_s"] for session in found) / 3600.0,
        "training_hours": sum(sum(training_seconds(cell)) for cell in plan.cells) / 3600.0,
        "workers": len(found) - len(drivers),
    }


def _spent_sentence(spent: dict[str, Any]) -> str:
    wall, cpu, training = (number(spent[key], 2) for key in ("wall_hours", "cpu_hours", "training_hours"))
    return f"Took {wall} hours in {spent['sessions']} sessions, {cpu} processor hours; its runs {training} hours."
