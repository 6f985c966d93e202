"""Figures of any set of folders that `train` and `compare` made: one function a figure, for notebooks and commands.

    from sor_sb3.experiments import plots

    plots.learning_curves("logs/us_equity_OrderSplit-v1", "logs/ppo/OrderSplit-v1_1")

Each takes one folder or more and returns a matplotlib figure, which a notebook shows. A folder is a comparison's, a
training run's, or one that such folders lie in. All raise `UserError` in a sentence: a folder holds nothing of the
kind, or what is drawn needs a report that is not there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sor_sb3.errors import UserError
from sor_sb3.experiments.comparison import Comparison
from sor_sb3.experiments.config import CompareConfig, GridConfig, TrainConfig
from sor_sb3.experiments.folder import CONFIG_FILE, any_config, folder_config
from sor_sb3.files import make_folder, writing
from sor_sb3.reports import plots
from sor_sb3.reports.plots import PLOTS, Learning, described
from sor_sb3.reports.theme import to_png, to_svg_file
from sor_sb3.reports.writer import REPORT_JSON

EVALUATIONS, FORMATS = "evaluations.npz", ("png", "svg")
_DEPTH = 4  # of folders, below one that is neither a run nor a comparison


@dataclass(frozen=True)
class Found:
    """Training runs, each with the folder that holds its sisters, and reports of folders."""

    runs: list[tuple[TrainConfig, Path, Path]]  # config, folder, and what its curve is named after
    reports: list[dict[str, Any]]
    without_report: list[Path]


def collect(folders: Sequence[str | Path]) -> Found:
    """What there is to draw in folders.

    Raises:
        UserError: no folder is given, one holds no run and no comparison, or is a search's; a file in it is damaged.
    """
    if not folders:
        raise UserError("no folder is given; expected folders that train or compare made")
    found = Found([], [], [])
    for folder in dict.fromkeys(path.resolve() for given in folders for path in _of_a_tool(Path(given))):
        config = folder_config(folder)
        if isinstance(config, CompareConfig):
            found.runs.extend((run, where, folder) for run, where in Comparison(config, folder).runs)
        else:
            found.runs.append((config, folder, folder.parent))
        if (folder / REPORT_JSON).is_file():
            found.reports.append(_report(folder / REPORT_JSON))
        else:
            found.without_report.append(folder)
    return found


def _of_a_tool(folder: Path) -> list[Path]:
    """The folder, or the comparisons and training runs below it that belong to no other comparison."""
    if not folder.is_dir() or ((folder / CONFIG_FILE).is_file() and not isinstance(any_config(folder), GridConfig)):
        return [folder]  # whoever reads it says what is wrong
    held: list[Path] = []
    for depth in range(1, _DEPTH):
        for file in sorted(folder.glob("*/" * depth + CONFIG_FILE)):
            inside = any(above in file.parents for above in held)
            if not inside and not isinstance(any_config(file.parent), GridConfig):  # a grid's cells are looked at
                held.append(file.parent)
    found = [path for path in held if isinstance(any_config(path), TrainConfig | CompareConfig)]
    if not found:
        raise UserError(f"{folder} holds no training run and no comparison; give a folder that train or compare made")
    return found


def _report(file: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        missing = {"results", "featured", "distributions", "aggregates", "baselines"} - set(data)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); write it again: sor-sb3 report {file.parent}") from None
    if missing:
        raise UserError(f"{file} lacks {', '.join(sorted(missing))}; write it again: sor-sb3 report {file.parent}")
    return data


def _validation(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Timesteps (E,) and validation costs (E, N) of a run."""
    file = folder / EVALUATIONS
    try:
        with np.load(file) as log:
            return log["timesteps"], -log["results"]
    except FileNotFoundError:
        raise UserError(f"{file} is missing: the run has not been evaluated yet; run its command again") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} is damaged ({error}); train the run again") from None


def learning_panels(found: Found) -> list[Learning]:
    """A panel a market and env, in the order of the folders; runs of one algorithm in one folder are its seeds."""
    groups: dict[tuple[str, str, str], list[tuple[TrainConfig, Path, Path]]] = defaultdict(list)
    for run in found.runs:
        market = run[0].market
        groups[market.name, run[0].env, json.dumps(market.without_prose(), sort_keys=True, default=str)].append(run)
    panels = []
    for (market_name, env, _), runs in groups.items():
        sources = {(config.algo, source) for config, _, source in runs}
        of: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        for config, folder, source in runs:
            shared = sum(algo == config.algo for algo, _ in sources) > 1
            of[f"{config.algo}, {source.name}" if shared else config.algo].append(_validation(folder))
        reports = [r for r in found.reports if (r["results"]["market"], r["results"]["env"]) == (market_name, env)]
        baselines = reports[0]["baselines"] if reports else {}
        panels.append(Learning(f"{market_name}, {env}", str(runs[0][0].market.cost_unit), of, baselines))
    return panels


def _reports(found: Found) -> list[dict[str, Any]]:
    if found.without_report:
        folder = found.without_report[0]
        raise UserError(
            f"{folder} has no {REPORT_JSON}, of which this figure is made; write it: sor-sb3 report {folder}"
        )
    return found.reports


def learning_curves(*folders: str | Path) -> Figure:
    """Validation cost against training steps, with 95 % intervals, a panel a market and env."""
    return plots.learning_curves(learning_panels(collect(folders)))


def performance_profiles(*folders: str | Path) -> Figure:
    """Share of runs with a score above tau, with 95 % intervals, a panel a comparison."""
    return plots.performance_profiles(_reports(collect(folders)))


def aggregate_bars(*folders: str | Path) -> Figure:
    """Interquartile mean, optimality gap and chance of improvement, with 95 % intervals and verdicts."""
    return plots.aggregate_bars(_reports(collect(folders)))


def cost_distributions(*folders: str | Path) -> Figure:
    """Quantiles of the cost by policy, means with 95 % intervals, and verdicts, a panel a comparison."""
    return plots.cost_distributions(_reports(collect(folders)))


def write_plots(
    folders: Sequence[str | Path],
    out: Path,
    kinds: Sequence[str] = tuple(PLOTS),
    formats: Sequence[str] = FORMATS,
    replace: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write figures as files ``OUT/KIND.FORMAT``; returns them, and a sentence for each figure that was left out.

    A figure of reports is left out where no folder has one, or scores have no scale.

    Raises:
        UserError: a kind or a format is unknown, a file exists and `replace` is False, nothing can be drawn, `out`
            cannot be written; and as :func:`collect`.
    """
    for what, given, known in (("kind", kinds, tuple(PLOTS)), ("format", formats, FORMATS)):
        for name in given:
            if name not in known:
                raise UserError(f"{what} '{name}' is unknown; expected one of {', '.join(known)}")
    files = {kind: [out / f"{kind}.{suffix}" for suffix in dict.fromkeys(formats)] for kind in dict.fromkeys(kinds)}
    there = [file for of in files.values() for file in of if file.exists()]
    if there and not replace:
        raise UserError(f"{there[0]} exists; give another --out, or --replace to write it anew")
    found, written, left_out = collect(folders), list[Path](), list[str]()
    panels = learning_panels(found) if "learning_curves" in files else []
    for kind, of in files.items():
        try:
            drawn = PLOTS[kind](panels if kind == "learning_curves" else found.reports or _reports(found))
        except UserError as error:
            left_out.append(f"{kind} is left out: {error}")
            continue
        with writing(f"--out {out}", out):
            make_folder(out)
            for file in of:
                about = kind.replace("_", " "), described(kind, panels, found.reports)
                written.append(to_png(drawn, file) if file.suffix == ".png" else to_svg_file(drawn, file, *about))
    if not written:
        raise UserError(left_out[0])
    if found.reports and set(files) - {"learning_curves"}:
        remedy = "write it: sor-sb3 report"
        left_out += [f"{where} has no {REPORT_JSON}; {remedy} {where}" for where in found.without_report]
    return written, left_out
