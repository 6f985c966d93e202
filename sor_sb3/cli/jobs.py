"""Commands that train: train and tune."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.liquidation import train_in_closed_form
from sor_sb3.cli.options import (
    AnyEnv,
    Bar,
    Depth,
    Engine,
    Env,
    Fees,
    Hyperparams,
    LogDir,
    MarketOrFamily,
    MarketSet,
    NEnvs,
    Resume,
    Seed,
    Session,
    Settings,
    ShowProgress,
    SizeMultiplier,
    Timesteps,
    Track,
    Trades,
    Venues,
    market_of,
    new_run,
    refuse_beside,
    watched,
)
from sor_sb3.errors import UserError


@app.command()
def train(
    context: typer.Context,
    algo: Annotated[str, typer.Option("--algo", help="reinforce, a2c, ppo, sac, ... or package.module:Class.")] = "ppo",
    market: MarketOrFamily = "us_equity",
    env: AnyEnv = "OrderSplit-v1",
    seed: Seed = 0,
    timesteps: Timesteps = None,
    n_envs: NEnvs = None,
    log_dir: LogDir = Path("logs"),
    settings: Settings = None,
    hyperparams: Hyperparams = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Serve TensorBoard while it trains.")] = False,
    resume: Resume = None,
    track: Track = None,
    progress: ShowProgress = True,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """Train one algorithm; the run goes to LOG_DIR/ALGO/ENV_k with its TensorBoard logs."""
    from sor_sb3.envs import LIQUIDATION_MARKETS

    if env.removeprefix("sor_sb3:") in LIQUIDATION_MARKETS:
        return train_in_closed_form(context, context.params)
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters
    from sor_sb3.callbacks.tensorboard_server import running_tensorboard
    from sor_sb3.callbacks.tracking import tracking
    from sor_sb3.experiments.config import train_config
    from sor_sb3.experiments.folder import DONE_FILE, TENSORBOARD_FOLDER
    from sor_sb3.experiments.reopen import run_config
    from sor_sb3.experiments.run import check_settings, resume_point, validation_rules
    from sor_sb3.experiments.run import train as train_run
    from sor_sb3.files import writing
    from sor_sb3.market.family import load_family

    if resume is not None:
        refuse_beside(context, "--resume", {"resume", "progress", "track"})
        config = run_config(resume)
        if (resume / DONE_FILE).is_file():
            typer.echo(f"{resume} is finished already; score it with: sor-sb3 evaluate {resume}")
            return
    else:
        recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
        spec: Any = load_family(market, market_set=market_set, venues=venues, session=session, take_fee_bps=fees)
        spec = spec or market_of(market, market_set, venues, session, fees, **recording)
        defaults = read_hyperparameters(hyperparams, env, spec.name) if hyperparams else None
        config = train_config(algo, env, spec, seed, timesteps, n_envs, parse_settings(settings or []), defaults)
        check_settings(config)
    named = f"--log-dir {log_dir}" if resume is None else f"--resume {resume}"
    with writing(named, resume or log_dir), tracking(track), ExitStack() as stack:
        folder = resume or new_run(log_dir, config.algo, config.env, stack)
        what = f"{config.algo} on {config.market.name}, {config.env}, {config.timesteps} steps, in {folder}"
        typer.echo(f"training {what}{resume_point(config, folder) if resume else ''}", err=True)
        logs = folder / TENSORBOARD_FOLDER
        if tensorboard:
            typer.echo(f"TensorBoard: {stack.enter_context(running_tensorboard(logs))}", err=True)
        bar = Bar(progress)
        stack.callback(bar.stop)
        try:
            rules, total, job = validation_rules(config.env, config.market), config.timesteps, f"training {config.algo}"
            train_run(config, folder, logs / "learner", rules, logs, lambda done: bar(job, min(done, total), total))
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(f"stopped; continue with: sor-sb3 train --resume {folder}", err=True)
            raise typer.Exit(130) from None
    where = " --market NAME" if config.market.model == "family" else ""
    typer.echo(f"done; score it with: sor-sb3 evaluate {folder}{where}\nwatch it with: tensorboard --logdir {logs}")


@app.command()
def tune(
    algo: Annotated[str, typer.Option("--algo", help="Algorithm, or a rule with constants (dark_first).")] = "ppo",
    markets: Annotated[str, typer.Option("--market", help="Presets or .yaml markets, comma between.")] = "us_equity",
    env: Env = "OrderSplit-v1",
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many there are to be in all.")] = 20,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds of each trial.")] = 2,
    timesteps: Timesteps = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", help="What to search: key=low..high[:log] or key=a|b|c; repeat.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, kept; with --space too, where the search starts.")
    ] = None,
    hyperparams: Hyperparams = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="x.log or a database URL; default study.log in the folder.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Trials at once; default all cores.")] = None,
    engine: Engine = "local",
    log_dir: LogDir = Path("logs"),
    name: Annotated[
        str | None, typer.Option("--name", help="Study, and folder under the log directory; default ALGO_MARKET_ENV.")
    ] = None,
    progress: ShowProgress = True,
    market_set: MarketSet = None,
) -> None:
    """Search settings of an algorithm, or constants of a rule, on validation scenarios; the best go to best.yml."""
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters
    from sor_sb3.experiments.folder import named_folder, path_component
    from sor_sb3.experiments.search_space import tune_config
    from sor_sb3.experiments.tune import tune as run_search
    from sor_sb3.files import writing

    specs = [market_of(market.strip(), market_set) for market in markets.split(",") if market.strip()]
    if not specs:
        raise UserError("--market is empty; expected a market, or several with commas between")
    label = "_".join(spec.name for spec in specs)
    defaults = read_hyperparameters(hyperparams, env, specs[0].name if len(specs) == 1 else "") if hyperparams else None
    config = tune_config(algo, env, specs, seeds, timesteps, parse_settings(settings or []), space or (), defaults)
    folder = named_folder(log_dir, name or path_component(f"{config.algo}_{label}_{config.env}"), label, config.env)
    typer.echo(f"tuning {config.algo} on {', '.join(spec.name for spec in specs)}, {config.env}, in {folder}", err=True)
    with (
        writing(f"--log-dir {log_dir}", log_dir),
        watched(progress, "finished trials", folder) as bar,
    ):
        found = run_search(config, folder, trials, storage, workers, bar, engine)
    typer.echo(f"{found['about']}\nsettings: {folder / 'best.yml'}\nreport: {folder / 'report.html'}")
