"""Commands about data: convert vendors' files."""

from collections.abc import Sequence
from datetime import date as calendar_date
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.options import Bar, ShowProgress
from sor_sb3.errors import UserError
from sor_sb3.market.formats.headers import FORMAT_NAMES

data_app = typer.Typer(help="Bring vendors' files into the form that --market takes.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    """Bring vendors' files into the form that --market takes."""


@data_app.command("convert")
def data_convert(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=f"{', '.join(FORMAT_NAMES)}.")],
    paths: Annotated[list[str], typer.Argument(help="Files, folders or patterns; VENUE=FILE names its venue.")],
    out: Annotated[Path | None, typer.Option("--out", help="Quotes to write, .parquet.", dir_okay=False)] = None,
    trades_out: Annotated[
        Path | None, typer.Option("--trades-out", help="Trades to write, .parquet.", dir_okay=False)
    ] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Instrument to keep; repeat.")] = None,
    venue: Annotated[str | None, typer.Option("--venue", help="Name of the venue of all files.")] = None,
    clock: Annotated[
        Literal["local", "exchange"], typer.Option("--clock", help="Whose time, where a format has both.")
    ] = "local",
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, max=8, help="Levels of a side to keep; default all, up to 8.")
    ] = None,
    date: Annotated[str | None, typer.Option("--date", help="Day of times of day, YYYY-MM-DD.")] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="Of times without one, America/New_York.")
    ] = None,
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None, typer.Option("--time-unit", help="Of counts since 1970.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option("--time-format", help="generic: strftime form, '%m/%d/%Y %H:%M:%S%.f'.")
    ] = None,
    price_scale: Annotated[float, typer.Option("--price-scale", help="Prices are times this.")] = 1.0,
    size_scale: Annotated[float | None, typer.Option("--size-scale", help="Sizes are times this.")] = None,
    contract_multiplier: Annotated[
        float, typer.Option("--contract-multiplier", help="What a contract is worth, in units or, --inverse, in money.")
    ] = 1.0,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Contracts are of money: sizes are divided by prices.")
    ] = False,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="generic: OURS=THEIRS, bid_px=BestBid; repeat.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="generic: between columns; default found.")
    ] = None,
    progress: ShowProgress = True,
) -> None:
    """Turn a vendor's files into quotes (and trades) that --market and --trades take."""
    from sor_sb3.market.formats.base import Options
    from sor_sb3.market.formats.converting import convert

    factors = {"price_scale": price_scale, "size_scale": size_scale, "contract_multiplier": contract_multiplier}
    options = Options(
        symbols=tuple(symbols or ()),
        venue=venue,
        clock=clock,
        levels=levels,
        date=_day(date),
        time_zone=time_zone,
        time_unit=time_unit,
        time_format=time_format,
        inverse=inverse,
        columns=_pairs(column or ()),
        separator=_one_character(separator),
        **_above_zero(factors),
    )
    bar = Bar(progress)
    try:
        summary = convert(format_name, paths, out, trades_out, options, bar)
    except KeyboardInterrupt:
        bar.stop()
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    finally:
        bar.stop()
    typer.echo("\n".join(summary.lines()))
    if out is not None:
        tape = f" --trades {trades_out}" if trades_out is not None else ""
        typer.echo(f"look at it with: sor-sb3 markets check {out} --quick{tape}")


def _above_zero(factors: dict[str, float | None]) -> dict[str, Any]:
    for name, factor in factors.items():
        if factor is not None and not 0 < factor < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {factor:g}; expected a number above 0")
    return factors


def _day(text: str | None) -> str | None:
    try:
        return None if text is None else calendar_date.fromisoformat(text).isoformat()
    except ValueError:
        raise UserError(f"--date is {text}; expected a day as YYYY-MM-DD") from None


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [(text, *text.partition("=")) for text in texts]
    for text, ours, _, theirs in pairs:
        if not (ours and theirs):
            raise UserError(f"--column {text}: expected OURS=THEIRS, such as bid_px=BestBid")
    return {ours.strip(): theirs.strip() for _, ours, _, theirs in pairs}


def _one_character(text: str | None) -> str | None:
    found = None if text is None else text.replace("\\t", "\t")
    if found is not None and len(found) != 1:
        raise UserError(f"--separator is {text!r}; expected one character")
    return found
