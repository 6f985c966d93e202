"""The command that draws figures over folders: plot."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import app

FIGURES = "learning_curves,performance_profiles,aggregate_bars,cost_distributions"


@app.command()
def plot(
    folders: Annotated[list[Path], typer.Argument(help="Folders of comparisons or runs, or that such folders lie in.")],
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Where the files go.")] = Path("plots"),
    figures: Annotated[str, typer.Option("--figures", help="Which, by comma.")] = FIGURES,
    formats: Annotated[str, typer.Option("--formats", help="png, svg or both, by comma.")] = "png,svg",
    replace: Annotated[bool, typer.Option("--replace", help="Write files anew that are there.")] = False,
) -> None:
    """Draw learning curves, performance profiles, aggregate bars and cost distributions, all with intervals."""
    from sor_sb3.experiments.plots import write_plots

    kinds, suffixes = ([part.strip() for part in given.split(",")] for given in (figures, formats))
    written, left_out = write_plots(folders, out, kinds, suffixes, replace)
    for sentence in left_out:
        typer.echo(sentence, err=True)
    for file in written:
        typer.echo(f"figure: {file}")
