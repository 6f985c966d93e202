"""The ``sor-sb3`` command: parse, call the package, print.

Exit status: 0 done, 1 the work failed, 2 the user can mend it, 130 interrupted.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sor_sb3.envs import ENV_IDS
from sor_sb3.errors import UserError, WorkFailed

app = typer.Typer(
    name="sor-sb3",
    help="Smart order routing: train routers, compare them with the industry's, watch it in TensorBoard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
markets_app = typer.Typer(help="List, show and check markets.", no_args_is_help=True)
app.add_typer(markets_app, name="markets")

Market = Annotated[str, typer.Option("--market", help="Preset, market .yaml, or quotes .parquet/.csv/.csv.gz.")]
MarketOrFamily = Annotated[
    str, typer.Option("--market", help="Preset, market .yaml, quotes .parquet/.csv/.csv.gz, or a family of markets.")
]
OtherMarket = Annotated[
    str | None, typer.Option("--market", help="Another market than the run's: preset, .yaml or recorded quotes.")
]
Env = Annotated[str, typer.Option("--env", help=f"{', '.join(ENV_IDS)}.")]
NEnvs = Annotated[int | None, typer.Option("--n-envs", min=1, help="Parent orders simulated side by side.")]
Timesteps = Annotated[int | None, typer.Option("--timesteps", min=1, help="Decisions to train on.")]
Scenarios = Annotated[int, typer.Option("--scenarios", min=2, help="Held-out test scenarios.")]
LogDir = Annotated[Path, typer.Option("--log-dir", file_okay=False, help="Where run folders go.")]
Name = Annotated[str | None, typer.Option("--name", help="Folder under the log directory; default MARKET_ENV.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of training.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Hyperparameter key=value; repeat for more.")]
Hyperparams = Annotated[
    Path | None, typer.Option("--hyperparams", help="YAML by env, as tune writes it, in place of the defaults.")
]
Resume = Annotated[Path | None, typer.Option("--resume", help="Folder of a stopped run; continues it, bit for bit.")]
Repeat = Annotated[Path | None, typer.Option("--repeat", help="Folder of a comparison to repeat exactly, with --name.")]
Final = Annotated[
    bool,
    typer.Option("--final", help="Score on the frozen final scenarios; a line goes to docs/final_log.tsv."),
]
ShowProgress = Annotated[bool, typer.Option("--progress/--no-progress", help="Progress bar.")]
Depth = Annotated[float | None, typer.Option("--assumed-depth", help="Recorded quotes without sizes: shares shown.")]
Trades = Annotated[Path | None, typer.Option("--trades", help="Recorded trades, for volumes.")]
Venues = Annotated[str | None, typer.Option("--venues", help="Venues of a recording to use, NYSE,ARCA.")]
Session = Annotated[str | None, typer.Option("--session", help="Hours of a recording to use, UTC, 14:35-21:00.")]
SizeMultiplier = Annotated[float | None, typer.Option("--size-multiplier", help="Shares per recorded size unit.")]
SplitGains = Annotated[bool, typer.Option("--gains/--no-gains", help="Say where differences from a rule come from.")]
MarketSet = Annotated[
    list[str] | None,
    typer.Option("--market-set", help="Any field of the market, order.step_s=1 or venues.*.latency_ms=2; repeat."),
]
Fees = Annotated[list[str] | None, typer.Option("--take-fee-bps", help="Recorded venue's fee, NYSE=0.3; repeat.")]


def _market(
    market: str,
    settings: list[str] | None = None,
    venues: str | None = None,
    session: str | None = None,
    fees: list[str] | None = None,
    **options: Any,
) -> Any:
    """The market that the flags name, read with `options` of a recording. What was dropped from it is printed."""
    from sor_sb3.market.loading import load_market
    from sor_sb3.market.settings import parse_settings

    if venues:
        options["venues"] = [venue.strip() for venue in venues.split(",")]
    if session is not None:
        options["session_utc"] = tuple(time.strip() for time in session.split("-", 1))
        if len(options["session_utc"]) != 2:
            raise UserError(f"--session {session}: expected two UTC times, such as 14:35-21:00")
    try:
        pairs = [fee.partition("=") for fee in fees or ()]
        options["take_fee_bps"] = {venue.strip(): float(bps) for venue, _, bps in pairs} or None
    except ValueError:
        raise UserError(f"--take-fee-bps {' '.join(fees or ())}: expected VENUE=BPS, such as NYSE=0.3") from None
    given = {key: value for key, value in options.items() if value is not None}
    loaded = load_market(market, parse_settings(settings or []), **given)
    if loaded.model == "replay":
        from sor_sb3.market.recordings import recording_lines

        typer.echo("\n".join(recording_lines(loaded)), err=True)
    return loaded


class _Bar:
    """A progress bar on a terminal; a line for each tenth elsewhere; nothing if switched off."""

    def __init__(self, wanted: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._lines, self._told = wanted and not console.is_terminal, -1
        self._bar = Progress(*columns, console=console, transient=True, disable=not wanted or self._lines)
        self._task = self._bar.add_task("starting", total=None)
        self._bar.start()
        self.stop = self._bar.stop

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=what, completed=done, total=total)
        if self._lines and 10 * done // total != self._told:
            self._told = 10 * done // total
            typer.echo(f"{what}; {100 * done // total} %", err=True)


def _refuse_beside(context: typer.Context, flag: str, allowed: set[str]) -> None:
    """Flags that mean nothing beside `flag` are refused, rather than read and forgotten."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise UserError(f"{option.opts[0]} cannot be given with {flag}: the run's own settings hold")


def _new_run(log_dir: Path, algo: str, env: str, stack: ExitStack) -> Path:
    """A new folder ``LOG_DIR/ALGO/ENV_k``, which goes again if nothing comes to lie in the folder."""
    from sor_sb3.experiments.folder import new_run_folder, path_component
    from sor_sb3.files import make_folder, remove_empty

    parent = log_dir / path_component(algo)
    made = make_folder(parent)
    folder = new_run_folder(parent, env)
    stack.callback(remove_empty, [folder, *made])
    return folder


@contextmanager
def _watched(progress: bool, kept: str, folder: Path) -> Iterator[_Bar]:
    """A progress bar; Ctrl-C ends the command with status 130, and says what is kept and how to go on."""
    bar = _Bar(progress)
    try:
        yield bar
    except KeyboardInterrupt:
        bar.stop()
        typer.echo(f"stopped; {kept} are kept in {folder}, and the same command continues", err=True)
        raise typer.Exit(130) from None
    finally:
        bar.stop()


@app.command()
def train(
    context: typer.Context,
    algo: Annotated[str, typer.Option("--algo", help="reinforce, a2c, ppo, sac, ... or package.module:Class.")] = "ppo",
    market: MarketOrFamily = "us_equity",
    env: Env = "OrderSplit-v1",
    seed: Seed = 0,
    timesteps: Timesteps = None,
    n_envs: NEnvs = None,
    log_dir: LogDir = Path("logs"),
    settings: Settings = None,
    hyperparams: Hyperparams = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Serve TensorBoard while it trains.")] = False,
    resume: Resume = None,
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
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters
    from sor_sb3.callbacks.tensorboard_server import running_tensorboard
    from sor_sb3.experiments.config import train_config
    from sor_sb3.experiments.folder import DONE_FILE, TENSORBOARD_FOLDER
    from sor_sb3.experiments.reopen import run_config
    from sor_sb3.experiments.run import check_settings, resume_point, validation_rules
    from sor_sb3.experiments.run import train as train_run
    from sor_sb3.files import writing
    from sor_sb3.market.family import load_family

    if resume is not None:
        _refuse_beside(context, "--resume", {"resume", "progress"})
        config = run_config(resume)
        if (resume / DONE_FILE).is_file():
            typer.echo(f"{resume} is finished already; score it with: sor-sb3 evaluate {resume}")
            return
    else:
        recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
        spec: Any = load_family(market, market_set=market_set, venues=venues, session=session, take_fee_bps=fees)
        spec = spec or _market(market, market_set, venues, session, fees, **recording)
        defaults = read_hyperparameters(hyperparams, env, spec.name) if hyperparams else None
        config = train_config(algo, env, spec, seed, timesteps, n_envs, parse_settings(settings or []), defaults)
        check_settings(config)
    named = f"--log-dir {log_dir}" if resume is None else f"--resume {resume}"
    with writing(named, resume or log_dir), ExitStack() as stack:
        folder = resume or _new_run(log_dir, config.algo, config.env, stack)
        what = f"{config.algo} on {config.market.name}, {config.env}, {config.timesteps} steps, in {folder}"
        typer.echo(f"training {what}{resume_point(config, folder) if resume else ''}", err=True)
        logs = folder / TENSORBOARD_FOLDER
        if tensorboard:
            typer.echo(f"TensorBoard: {stack.enter_context(running_tensorboard(logs))}", err=True)
        bar = _Bar(progress)
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
def compare(
    context: typer.Context,
    market: Market = "us_equity",
    env: Env = "OrderSplit-v1",
    algos: Annotated[str, typer.Option("--algos", help="Algorithms, comma between.")] = "reinforce,a2c,ppo",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds of each algorithm.")] = 5,
    timesteps: Timesteps = None,
    n_envs: NEnvs = None,
    scenarios: Scenarios = 1000,
    log_dir: LogDir = Path("logs"),
    name: Name = None,
    repeat: Repeat = None,
    final: Final = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at once; default all cores.")] = None,
    settings: Settings = None,
    hyperparams: Annotated[list[str] | None, typer.Option("--hyperparams", help="ALGO=FILE; repeat.")] = None,
    progress: ShowProgress = True,
    gains: SplitGains = True,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """Train several algorithms, score them with every rule on the same test scenarios, print who is better.

    With --final nothing is trained: a finished comparison is scored on the frozen final scenarios.
    """
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters, split_settings
    from sor_sb3.experiments.comparison import compare as run_comparison
    from sor_sb3.experiments.comparison import compare_final
    from sor_sb3.experiments.config import compare_config
    from sor_sb3.experiments.final import FINAL_FOLDER
    from sor_sb3.experiments.folder import TENSORBOARD_FOLDER, named_folder
    from sor_sb3.experiments.reopen import read_comparison
    from sor_sb3.files import writing
    from sor_sb3.reports.gains import print_gains
    from sor_sb3.reports.tables import print_results

    if repeat is not None:
        _refuse_beside(context, "--repeat", {"repeat", "name", "log_dir", "workers", "progress", "final", "gains"})
        config = read_comparison(repeat)
    else:
        recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
        spec = _market(market, market_set, venues, session, fees, **recording)
        chosen = [a.strip() for a in algos.split(",") if a.strip()]
        files = split_settings(hyperparams or [], "--hyperparams", "ppo=best.yml")
        defaults = {algo: read_hyperparameters(Path(file), env, spec.name) for algo, file in files.items()}
        given = parse_settings(settings or [])
        config = compare_config(spec, env, chosen, seeds, 0, timesteps, n_envs, scenarios, given, defaults)
    folder = named_folder(log_dir, name, config.market.name, config.env)
    if final:
        with writing(f"--log-dir {log_dir}", log_dir):
            print_results(compare_final(config, folder))
        typer.echo(f"\nresults, figures and report: {folder / FINAL_FOLDER}")
        return
    learners = ", ".join(learner.algo for learner in config.learners)
    what = f"{learners} ({len(config.runs)} runs) on {config.market.name}, {config.env}"
    typer.echo(f"comparing {what}, in {folder}", err=True)
    with (
        writing(f"--log-dir {log_dir}", log_dir),
        _watched(progress, "finished runs", folder) as bar,
    ):
        results = run_comparison(config, folder, workers, bar, ("gains",) if gains else ())
    print_results(results)
    print_gains(results)
    typer.echo(f"\nresults and figures: {folder}\nreport: {folder / 'report.html'}")
    typer.echo(f"watch it with: tensorboard --logdir {folder / TENSORBOARD_FOLDER}")


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

    specs = [_market(market.strip(), market_set) for market in markets.split(",") if market.strip()]
    if not specs:
        raise UserError("--market is empty; expected a market, or several with commas between")
    label = "_".join(spec.name for spec in specs)
    defaults = read_hyperparameters(hyperparams, env, specs[0].name if len(specs) == 1 else "") if hyperparams else None
    config = tune_config(algo, env, specs, seeds, timesteps, parse_settings(settings or []), space or (), defaults)
    folder = named_folder(log_dir, name or path_component(f"{config.algo}_{label}_{config.env}"), label, config.env)
    typer.echo(f"tuning {config.algo} on {', '.join(spec.name for spec in specs)}, {config.env}, in {folder}", err=True)
    with (
        writing(f"--log-dir {log_dir}", log_dir),
        _watched(progress, "finished trials", folder) as bar,
    ):
        found = run_search(config, folder, trials, storage, workers, bar)
    typer.echo(f"{found['about']}\nsettings: {folder / 'best.yml'}\nreport: {folder / 'report.html'}")


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that train or compare made (LOG_DIR/ALGO/ENV_k).")],
    scenarios: Scenarios = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**62, help="Of the first scenario.")] = 10_000,
    data_split: Annotated[str, typer.Option("--data-split", "--split", help="test, validation or train.")] = "test",
    final: Final = False,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Draw actions instead of taking the mode.")] = False,
    gains: SplitGains = True,
    robustness: Annotated[bool, typer.Option("--robustness", help="On changed markets too.")] = False,
    market: OtherMarket = None,
    market_set: MarketSet = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write results.json here too.")] = None,
) -> None:
    """Score trained runs beside every rule and the oracle on the same scenarios; an algorithm's runs are its seeds."""
    from sor_sb3.experiments.reopen import evaluate_runs
    from sor_sb3.files import write_json, writing
    from sor_sb3.market.loading import load_market
    from sor_sb3.market.settings import parse_settings
    from sor_sb3.reports.gains import print_gains, print_robustness
    from sor_sb3.reports.tables import print_results
    from sor_sb3.simulator.random import FINAL

    if output is not None and output.exists():
        raise UserError(f"--output {output} exists; give another name, or delete it")
    settings, other = parse_settings(market_set or []), None if market is None else load_market(market)
    if data_split == FINAL:
        raise UserError("--data-split final is opened by --final alone, which notes in a log that it was read")
    if final and data_split != "test":
        raise UserError(f"--data-split {data_split} cannot be given with --final; leave one out")
    data_split = FINAL if final else data_split
    extras = [name for name, wanted in (("gains", gains), ("robustness", robustness)) if wanted]
    results = evaluate_runs(runs, scenarios, seed, data_split, not stochastic, settings, extras, other)
    if output is not None:
        with writing(f"--output {output}", output):
            write_json(output, results)
    print_results(results)
    print_gains(results)
    print_robustness(results)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Run folder that train or compare made (LOG_DIR/ALGO/ENV_k).")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write, .onnx.", dir_okay=False)] = None,
    last: Annotated[bool, typer.Option("--last", help="The last policy, not the best on validation.")] = False,
    market: OtherMarket = None,
) -> None:
    """Write a run's policy as one ONNX file; sor_sb3.OnnxPolicy.load answers from the file without torch."""
    from sor_sb3.experiments.reopen import export_run
    from sor_sb3.files import writing
    from sor_sb3.market.loading import load_market

    other = None if market is None else load_market(market)
    with writing(f"--out {out or folder}", out or folder):
        typer.echo(f"ONNX policy: {export_run(folder, out, not last, other)}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, or of a training run.")],
    scenarios: Annotated[int, typer.Option("--scenarios", min=2, help="Test scenarios, for a training run.")] = 1000,
) -> None:
    """Write report.html, report.md, report.json and tca_parents.csv into a folder that compare or train made."""
    from sor_sb3.experiments.reopen import report_folder

    typer.echo(f"report: {report_folder(folder, scenarios)}")


@app.command()
def explain(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, or of a training run.")],
    scenario: Annotated[int, typer.Option("--scenario", help="Seed of the scenario, such as 10000.")],
    policy: Annotated[str | None, typer.Option("--policy", help="Algorithm, rule or oracle; default the best.")] = None,
    training_run: Annotated[int, typer.Option("--training-run", min=1, help="Which run of an algorithm.")] = 1,
    step: Annotated[int | None, typer.Option("--step", min=1, help="Print this step alone.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page here too.", dir_okay=False)] = None,
) -> None:
    """Replay one parent order: what the router saw, sent and got, and what each venue would have cost."""
    from sor_sb3.experiments.reopen import explain_folder
    from sor_sb3.files import write_text, writing
    from sor_sb3.reports.explanations import print_explanation, render_explanation

    if html is not None and html.exists():
        raise UserError(f"--html {html} exists; give another name, or delete it")
    found = explain_folder(folder, scenario, policy, training_run)
    if step is not None and step > found.n_steps:
        raise UserError(f"--step is {step}; this order has steps 1 to {found.n_steps}")
    if html is not None:
        with writing(f"--html {html}", html):
            write_text(html, render_explanation(found))
        typer.echo(f"page: {html}", err=True)
    print_explanation(found, step=step)


@markets_app.command("list")
def markets_list() -> None:
    """Names of the presets, one a line, with descriptions."""
    from sor_sb3.market.loading import load_market, preset_names

    for name in preset_names():
        typer.echo(f"{name:26s} {load_market(name).description}")


@markets_app.command("show")
def markets_show(
    name: Annotated[str, typer.Argument(help="Preset, .yaml file or recorded quotes.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sample scenario.")] = 0,
    log_dir: LogDir = Path("logs"),
    market_set: MarketSet = None,
) -> None:
    """The venues of a market as a table, and a sample scenario as a picture, LOG_DIR/markets/NAME.png."""
    from sor_sb3.experiments.folder import path_component
    from sor_sb3.files import writing
    from sor_sb3.reports.markets import sample_path_figure, venues_table
    from sor_sb3.reports.tables import wide_console

    market = _market(name, market_set)
    wide_console(200).print(venues_table(market))
    figure = log_dir / "markets" / f"{path_component(market.name)}.png"
    with writing(f"--log-dir {log_dir}", log_dir):
        sample_path_figure(market, figure, seed)
    typer.echo(f"a sample scenario: {figure}")


@markets_app.command("check")
def markets_check(
    file: Annotated[str, typer.Argument(help="Preset, .yaml market or recorded quotes.")],
    quick: Annotated[bool, typer.Option("--quick", help="Say only whether it can be used.")] = False,
    scenarios: Annotated[int, typer.Option("--scenarios", min=2, help="Parent orders that figures come from.")] = 2000,
    asset_class: Annotated[str | None, typer.Option("--asset-class", help="Whose real ranges to hold it to.")] = None,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """Read a market, say whether it can be used, and show its figures beside what is real."""
    from sor_sb3.evaluation.realism import panel_of
    from sor_sb3.reports.realism import realism_table
    from sor_sb3.reports.tables import wide_console

    recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
    market = _market(file, market_set, venues, session, fees, **recording)
    typer.echo(f"{file} is a usable market: {market.name}, {market.n_venues} venues, {market.model}")
    panel = None if quick else panel_of(market, scenarios, asset_class)
    if panel is not None:
        wide_console(200).print(realism_table(panel))


def main() -> None:
    """Entry point: a mistake that the user can mend is one sentence and exit status 2; failed work is 1."""
    try:
        app()
    except (UserError, WorkFailed) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)


if __name__ == "__main__":
    main()
