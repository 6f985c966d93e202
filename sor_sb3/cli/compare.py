"""The command that compares: one comparison, a grid of them, or a recording as judge."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.grids import make_grid, same_algorithms
from sor_sb3.cli.options import (
    Depth,
    Engine,
    Envs,
    Fees,
    Final,
    LogDir,
    Markets,
    MarketSet,
    Name,
    NEnvs,
    Repeat,
    Robustness,
    Rules,
    Scenarios,
    Session,
    Settings,
    ShowProgress,
    SizeMultiplier,
    SplitGains,
    Timesteps,
    Track,
    Trades,
    Venues,
    extras_of,
    listed,
    market_names,
    market_of,
    refuse_beside,
    watched,
)
from sor_sb3.errors import UserError


@app.command()
def compare(
    context: typer.Context,
    market: Markets = "us_equity",
    env: Envs = "OrderSplit-v1",
    algos: Annotated[
        str, typer.Option("--algos", help="Algorithms, comma between; none: rules alone.")
    ] = "reinforce,a2c,ppo",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds of each algorithm.")] = 5,
    timesteps: Timesteps = None,
    n_envs: NEnvs = None,
    scenarios: Scenarios = 1000,
    log_dir: LogDir = Path("logs"),
    name: Name = None,
    repeat: Repeat = None,
    final: Final = False,
    judge: Annotated[
        str | None,
        typer.Option("--judge", help="Quotes that --market was calibrated on: train on both, score on these."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at once; default all cores.")] = None,
    settings: Settings = None,
    hyperparams: Annotated[list[str] | None, typer.Option("--hyperparams", help="ALGO=FILE; repeat.")] = None,
    rules: Rules = "standard",
    track: Track = None,
    engine: Engine = "local",
    progress: ShowProgress = True,
    gains: SplitGains = True,
    robustness: Robustness = False,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """Train several algorithms, score them with every rule on the same test scenarios, print who is better.

    Several markets or envs, with commas between, make a grid: a comparison each, over one set of workers, and a table.
    With --final nothing is trained: a finished comparison or grid is scored on the frozen final scenarios. With --judge
    the options of a recording are of the quotes to judge on.
    """
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters, split_settings
    from sor_sb3.experiments.config import CompareConfig, compare_config
    from sor_sb3.experiments.folder import named_folder
    from sor_sb3.experiments.reopen import read_comparison

    extras = extras_of(gains=gains, robustness=robustness)
    if repeat is not None:
        refuse_beside(
            context,
            "--repeat",
            {"repeat", "name", "log_dir", "workers", "progress", "final", "gains", "robustness", "track"},
        )
        config = read_comparison(repeat)
    else:
        recording: dict[str, Any] = {
            "assumed_depth_shares": depth,
            "trades_file": trades,
            "size_multiplier": size_multiplier,
        }
        of_recording = (market_set, venues, session, fees)
        if judge is None:
            specs = [market_of(one, *of_recording, **recording) for one in market_names(market)]
        else:  # the options are of the recording that judges
            specs = [market_of(one) for one in market_names(market)]
        envs, chosen = listed("--env", env), [a.strip() for a in algos.split(",") if a.strip()]
        if not chosen:
            raise UserError("no algorithm is named; give --algos, such as --algos ppo,a2c, or none for rules alone")
        chosen = [] if chosen == ["none"] else chosen
        files = split_settings(hyperparams or [], "--hyperparams", "ppo=best.yml")
        given = parse_settings(settings or [])
        wanted = [name.strip() for name in rules.split(",") if name.strip()]

        def cell(spec: Any, env: str, of: list[str]) -> CompareConfig:
            left_out = same_algorithms(chosen) - same_algorithms(of)
            used = {algo: file for algo, file in files.items() if not same_algorithms([algo]) & left_out}
            defaults = {algo: read_hyperparameters(Path(file), env, spec.name) for algo, file in used.items()}
            return compare_config(spec, env, of, seeds, 0, timesteps, n_envs, scenarios, given, defaults, wanted)

        if len(specs) * len(envs) > 1:
            if judge is not None:
                raise UserError(f"--judge {judge} is for one market and env; give one of each")
            make_grid(specs, envs, chosen, cell, log_dir, name, workers, progress, extras, final, engine, track)
            return
        if engine != "local":
            raise UserError(f"--engine {engine} is for a grid; give several markets or envs, with commas between")
        config = cell(specs[0], envs[0], chosen)
        if judge is not None and not chosen:
            raise UserError(f"--judge {judge} is for what is trained; name algorithms with --algos")
        if judge is not None:
            beside = cell(market_of(judge, *of_recording, **recording), envs[0], chosen)
            _judge(config, beside, named_folder(log_dir, name, config.market.name, config.env), workers, progress)
            return
    folder = named_folder(log_dir, name, config.market.name, config.env)
    if final:
        _score_final(config, folder)
    else:
        _compare(config, folder, workers, progress, extras, track)


def _score_final(config: Any, folder: Path) -> None:
    """Score a finished comparison on the frozen scenarios."""
    from sor_sb3.experiments.comparison import compare_final
    from sor_sb3.experiments.final import FINAL_FOLDER
    from sor_sb3.files import writing
    from sor_sb3.reports.tables import print_results

    with writing(f"--log-dir {folder.parent}", folder.parent):
        print_results(compare_final(config, folder))
    made = "results, figures and report" if config.learners else "results and figures"
    typer.echo(f"\n{made}: {folder / FINAL_FOLDER}")


def _compare(
    config: Any, folder: Path, workers: int | None, progress: bool, extras: Collection[str], track: str | None
) -> None:
    """Train, score and print one comparison, or go on with it."""
    from sor_sb3.callbacks.tracking import keep_comparison, tracking
    from sor_sb3.experiments.comparison import compare as run_comparison
    from sor_sb3.experiments.folder import TENSORBOARD_FOLDER
    from sor_sb3.files import writing
    from sor_sb3.reports.gains import print_gains, print_robustness
    from sor_sb3.reports.tables import print_results

    learners = ", ".join(learner.algo for learner in config.learners) or "rules"
    what = f"{learners} ({len(config.runs)} runs) on {config.market.name}, {config.env}"
    typer.echo(f"comparing {what}, in {folder}", err=True)
    with (
        writing(f"--log-dir {folder.parent}", folder.parent),
        tracking(track),
        watched(progress, "finished runs", folder) as bar,
    ):
        results = run_comparison(config, folder, workers, bar, extras)
        keep_comparison(folder, results)
    print_results(results)
    print_gains(results)
    print_robustness(results)
    typer.echo(f"\nresults and figures: {folder}")
    if not config.learners:
        typer.echo(f"a report is made by: sor-sb3 report {folder}")
        return
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo(f"watch it with: tensorboard --logdir {folder / TENSORBOARD_FOLDER}")


def _judge(config: Any, on_recording: Any, folder: Path, workers: int | None, progress: bool) -> None:
    """Train on the calibrated market and on the recording, and score both on the recording."""
    from sor_sb3.experiments.judge import JUDGE_FILE, judge, judge_lines
    from sor_sb3.files import writing

    with writing(f"--log-dir {folder.parent}", folder), watched(progress, "finished runs", folder) as bar:
        found = judge(config, on_recording, folder, workers, bar)
    typer.echo("\n".join([*judge_lines(found), f"results: {folder / JUDGE_FILE}"]))
