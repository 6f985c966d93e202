"""A grid of comparisons, for `compare` with several markets or envs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from sor_sb3.cli.options import watched


def same_algorithms(names: Sequence[str]) -> set[str]:
    """Algorithms by the names that the package has for them."""
    from sor_sb3.algorithms.registry import find_algorithm

    return {find_algorithm(name).name for name in names}


def make_grid(
    specs: Sequence[Any],
    envs: Sequence[str],
    algos: Sequence[str],
    cell: Callable[..., Any],
    log_dir: Path,
    name: str | None,
    workers: int | None,
    progress: bool,
    extras: Sequence[str],
    final: bool,
    engine: str,
    track: str | None,
) -> None:
    """Make a grid, or go on with it, in ``LOG_DIR/NAME``; print its table. Raises WorkFailed: something failed."""
    from sor_sb3.callbacks.tracking import tracking
    from sor_sb3.experiments.final import FINAL_FOLDER
    from sor_sb3.experiments.folder import named_folder
    from sor_sb3.experiments.grid import check_failures, grid_config, run_grid
    from sor_sb3.files import writing
    from sor_sb3.reports.grids import print_grid

    config = grid_config(specs, envs, algos, cell)
    folder = named_folder(log_dir, name or "grid", "", "")
    if not final:
        runs = sum(len(of.runs) for of in config.cells)
        typer.echo(f"comparing {len(config.cells)} cells ({runs} runs), in {folder}", err=True)
    with (
        writing(f"--log-dir {log_dir}", log_dir),
        tracking(track),
        watched(progress, "finished runs", folder) as bar,
    ):
        results, spent = run_grid(config, folder, workers, bar, extras, final, engine)
    print_grid(results, spent)
    reports = "a report in each comparison's folder" if algos else "sor-sb3 report FOLDER makes a comparison's report"
    typer.echo(f"\nresults and table: {folder / FINAL_FOLDER if final else folder}; {reports}")
    check_failures(results, folder)
