"""The command that analyses a desk's own log: tca."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.options import Depth, Session, SizeMultiplier
from sor_sb3.errors import UserError


def _horizons(text: str) -> list[float]:
    try:
        found = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        found = []
    if not found or not all(0.0 <= seconds < 1e6 for seconds in found):
        raise UserError(f"--horizons is '{text}'; expected seconds with commas between, such as 0.1,1,10")
    return found


@app.command()
def tca(
    fills: Annotated[Path, typer.Argument(help="Fills, .parquet or .csv; with their children's columns, or beside:")],
    quotes: Annotated[Path, typer.Option("--quotes", help="Recorded quotes of the same time, .parquet or .csv.")],
    children: Annotated[Path | None, typer.Option("--children", help="Child orders, where they are a table.")] = None,
    out: Annotated[Path | None, typer.Option("--out", file_okay=False, help="Write the report here.")] = None,
    horizons: Annotated[str, typer.Option("--horizons", help="Of markouts, seconds.")] = "0.1,1,5,10,60",
    later: Annotated[float, typer.Option("--later", min=0.0, help="Seconds to the realised spread's mid.")] = 1.0,
    session: Session = None,
    depth: Depth = None,
    size_multiplier: SizeMultiplier = None,
) -> None:
    """Transaction-cost analysis of a desk's own child orders and fills against recorded quotes; docs/tca.md."""
    from sor_sb3.evaluation.desk_analysis import analyse_desk
    from sor_sb3.evaluation.desk_log import read_desk_log
    from sor_sb3.files import writing
    from sor_sb3.market.quotes import load_quotes
    from sor_sb3.reports.desk import print_desk, write_desk_report

    if out is not None and out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out} exists and is not empty; give another folder, or empty it")
    at = _horizons(horizons)
    log = read_desk_log(fills, children)
    hours = None if session is None else tuple(time.strip() for time in session.split("-", 1))
    multiplier = 1.0 if size_multiplier is None else size_multiplier
    recording = load_quotes(quotes, session=hours, assumed_depth_shares=depth, size_multiplier=multiplier)  # type: ignore[arg-type]
    analysis = analyse_desk(log, recording, at, later)
    print_desk(analysis)
    if out is not None:
        files = {"fills": fills.name, **({} if children is None else {"children": children.name})}
        with writing(f"--out {out}", out):
            page = write_desk_report(analysis, {**files, "quotes": quotes.name}, out)
        typer.echo(f"report: {page}")
