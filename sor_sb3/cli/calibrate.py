"""The command that makes a market of a recording: calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.options import (
    Bar,
    Depth,
    Fees,
    MarketSet,
    Session,
    ShowProgress,
    SizeMultiplier,
    Trades,
    Venues,
    market_of,
)
from sor_sb3.errors import UserError


@app.command()
def calibrate(
    quotes: Annotated[
        str, typer.Argument(help="Recorded quotes, .parquet/.csv/.csv.gz, or a .yaml that replays them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Market file to write, .yaml.", dir_okay=False)],
    report: Annotated[Path | None, typer.Option("--report", help="Write a page here too.", dir_okay=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the market; default the file's.")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="What you know of the market, venues.*.latency_ms=0.2; repeat.")
    ] = None,
    fit_share: Annotated[float, typer.Option("--fit-share", help="Of the time; the rest is compared with.")] = 0.6,
    block_s: Annotated[float, typer.Option("--block-s", min=60, help="Blocks that intervals rest on.")] = 900.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    progress: ShowProgress = True,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """Fit a synthetic market to recorded quotes, with intervals, and hold it to the rest of the recording."""
    from sor_sb3.calibration.calibrate import calibrate as run_calibration
    from sor_sb3.files import write_json, write_text, writing
    from sor_sb3.market.spec import ReplayMarket
    from sor_sb3.reports.calibration import comparison_table, render_calibration
    from sor_sb3.reports.tables import wide_console

    for flag, path in (("--out", out), ("--report", report)):
        if path is not None and path.exists():
            raise UserError(f"{flag} {path} exists; give another name, or delete it")
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: expected a name that ends in .yaml")
    recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
    market = market_of(quotes, market_set, venues, session, fees, **recording)
    if not isinstance(market, ReplayMarket):
        raise UserError(f"{quotes} is a {market.model} market; expected recorded quotes")
    bar = Bar(progress)
    try:
        found = run_calibration(market, name or out.stem, given, fit_share, block_s, seed, bar)
    finally:
        bar.stop()
    with writing(f"--out {out}", out):
        write_text(out, found.text)
    if report is not None:
        with writing(f"--report {report}", report):
            write_text(report, render_calibration(found.data()))
            write_json(report.with_suffix(".json"), found.data())
    for line in found.left_out:
        typer.echo(f"{line}; name the venues with --venues to keep it out of the recording too", err=True)
    if found.rows:
        wide_console(200).print(comparison_table(found.data()))
    typer.echo(f"{found.summary()}\nmarket: {out}" + (f"\nreport: {report}" if report else ""))
    typer.echo(f"train on it with: sor-sb3 train --market {out}")
