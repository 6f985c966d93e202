"""What several commands share: their options, the market that flags name, the progress bar."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sor_sb3.envs import ENV_IDS, LIQUIDATION_MARKETS
from sor_sb3.errors import UserError

Market = Annotated[str, typer.Option("--market", help="Preset, market .yaml, or quotes .parquet/.csv/.csv.gz.")]
Markets = Annotated[
    str,
    typer.Option(
        "--market",
        "--markets",
        help="Preset, market .yaml, or quotes .parquet/.csv/.csv.gz; several, comma between; synthetic: all presets.",
    ),
]
MarketOrFamily = Annotated[
    str, typer.Option("--market", help="Preset, market .yaml, quotes .parquet/.csv/.csv.gz, or a family of markets.")
]
OtherMarket = Annotated[
    str | None, typer.Option("--market", help="Another market than the run's: preset, .yaml or recorded quotes.")
]
Env = Annotated[str, typer.Option("--env", help=f"{', '.join(ENV_IDS)}.")]
AnyEnv = Annotated[str, typer.Option("--env", help=f"{', '.join((*ENV_IDS, *LIQUIDATION_MARKETS))}.")]
Envs = Annotated[str, typer.Option("--env", "--envs", help=f"{', '.join(ENV_IDS)}; several, comma between.")]
NEnvs = Annotated[int | None, typer.Option("--n-envs", min=1, help="Parent orders simulated side by side.")]
Timesteps = Annotated[int | None, typer.Option("--timesteps", min=1, help="Decisions to train on.")]
Scenarios = Annotated[int, typer.Option("--scenarios", min=2, help="Held-out test scenarios.")]
LogDir = Annotated[Path, typer.Option("--log-dir", file_okay=False, help="Where run folders go.")]
Name = Annotated[str | None, typer.Option("--name", help="Folder under the log directory; default MARKET_ENV.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of training.")]
Rules = Annotated[
    str, typer.Option("--rules", help="Rules to compare with: standard, literature, all, or names; comma between.")
]
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
Robustness = Annotated[bool, typer.Option("--robustness", help="Score on changed markets too, nobody retrained.")]
MarketSet = Annotated[
    list[str] | None,
    typer.Option("--market-set", help="Any field of the market, order.step_s=1 or venues.*.latency_ms=2; repeat."),
]
Track = Annotated[
    str | None, typer.Option("--track", help="wandb, mlflow or trackio: log everything there too, and the files.")
]
Engine = Annotated[str, typer.Option("--engine", help="Who starts the workers: local, ray, ray://HOST:PORT or slurm.")]
Fees = Annotated[list[str] | None, typer.Option("--take-fee-bps", help="Recorded venue's fee, NYSE=0.3; repeat.")]


def listed(flag: str, text: str) -> list[str]:
    """What a flag lists with commas between, each once. Raises UserError: nothing."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise UserError(f"{flag} is empty; give one, or several with commas between")
    return found


def market_names(text: str) -> list[str]:
    """Markets by name or path; "synthetic" stands for every synthetic preset. A file's own name may hold commas."""
    from sor_sb3.market.loading import synthetic_presets

    if Path(text).is_file():
        return [text]
    each = [synthetic_presets() if name == "synthetic" else [name] for name in listed("--market", text)]
    return list(dict.fromkeys(name for names in each for name in names))


def market_of(
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


class Bar:
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
        """Show that `done` of `total` are done, `what` being the job."""
        self._bar.update(self._task, description=what, completed=done, total=total)
        if self._lines and 10 * done // total != self._told:
            self._told = 10 * done // total
            typer.echo(f"{what}; {100 * done // total} %", err=True)


def extras_of(**wanted: bool) -> tuple[str, ...]:
    """Names of what is wanted beside the costs."""
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def refuse_beside(
    context: typer.Context, flag: str, allowed: set[str], why: str = "the run's own settings hold"
) -> None:
    """Flags that mean nothing beside `flag` are refused, rather than read and forgotten."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise UserError(f"{option.opts[0]} cannot be given with {flag}: {why}")


def new_run(log_dir: Path, algo: str, env: str, stack: ExitStack) -> Path:
    """A new folder ``LOG_DIR/ALGO/ENV_k``, which goes again if nothing comes to lie in the folder."""
    from sor_sb3.experiments.folder import new_run_folder, path_component
    from sor_sb3.files import make_folder, remove_empty

    parent = log_dir / path_component(algo)
    made = make_folder(parent)
    folder = new_run_folder(parent, env)
    stack.callback(remove_empty, [folder, *made])
    return folder


@contextmanager
def watched(progress: bool, kept: str, folder: Path) -> Iterator[Bar]:
    """A progress bar; Ctrl-C ends the command with status 130, and says what is kept and how to go on."""
    bar = Bar(progress)
    try:
        yield bar
    except KeyboardInterrupt:
        bar.stop()
        typer.echo(f"stopped; {kept} are kept in {folder}, and the same command continues", err=True)
        raise typer.Exit(130) from None
    finally:
        bar.stop()
