"""Commands about markets: list, show, check."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import markets_app
from sor_sb3.cli.options import Depth, Fees, LogDir, MarketSet, Session, SizeMultiplier, Trades, Venues, market_of


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
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
) -> None:
    """The venues of a market as a table, and a sample scenario as a picture, LOG_DIR/markets/NAME.png."""
    from sor_sb3.experiments.folder import path_component
    from sor_sb3.files import writing
    from sor_sb3.reports.markets import sample_path_figure, venues_table
    from sor_sb3.reports.tables import wide_console

    recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
    market = market_of(name, market_set, venues, session, fees, **recording)
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
    market = market_of(file, market_set, venues, session, fees, **recording)
    typer.echo(f"{file} is a usable market: {market.name}, {market.n_venues} venues, {market.model}")
    panel = None if quick else panel_of(market, scenarios, asset_class)
    if panel is not None:
        wide_console(200).print(realism_table(panel))
