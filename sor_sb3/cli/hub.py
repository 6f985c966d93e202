"""Commands for the Hugging Face hub: push, load."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.options import LogDir, OtherMarket, Scenarios, Trades
from sor_sb3.errors import UserError


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Run folder that train or compare made (LOG_DIR/ALGO/ENV_k).")],
    repo: Annotated[str | None, typer.Option("--repo", help="Repository of the hub, NAME/REPOSITORY.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder; send nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Folder to write; default FOLDER/hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    scenarios: Scenarios = 1000,
    market: OtherMarket = None,
) -> None:
    """Publish a run's best policy: weights and ONNX without pickles, config, results and a model card."""
    from sor_sb3.experiments.hub import push_folder, write_published
    from sor_sb3.files import writing
    from sor_sb3.market.loading import load_market

    if repo is None and not dry_run:
        raise UserError("--repo is missing; give a repository, such as --repo me/ppo-OrderSplit-v1, or --dry-run")
    where = out or folder / "hub"
    other = None if market is None else load_market(market)
    with writing(f"--out {where}", where):
        written = write_published(folder, where, repo, scenarios, other)
    typer.echo(f"folder: {written}\nmodel card: {written / 'README.md'}")
    if not dry_run:
        assert repo is not None
        typer.echo(f"pushed: {push_folder(written, repo, private)}")


@app.command()
def load(
    source: Annotated[str, typer.Argument(help="Repository of the hub, NAME/REPOSITORY, or a folder of push.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a repository.")] = None,
    log_dir: LogDir = Path("logs"),
    quotes: Annotated[Path | None, typer.Option("--quotes", help="The recording that it was trained on.")] = None,
    trades: Trades = None,
) -> None:
    """Take a published run in, as LOG_DIR/ALGO/ENV_k; it is then a run like any other."""
    from sor_sb3.experiments.hub import fetch_published, take_in
    from sor_sb3.files import writing

    published = fetch_published(source, revision)
    with writing(f"--log-dir {log_dir}", log_dir):
        folder = take_in(published, log_dir, source, quotes, trades)
    typer.echo(f"run: {folder}\nscore it with: sor-sb3 evaluate {folder}")
