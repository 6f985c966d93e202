"""Commands that look at what was trained: evaluate, export, report, explain."""

from pathlib import Path
from typing import Annotated

import typer

from sor_sb3.cli.apps import app
from sor_sb3.cli.options import (
    Depth,
    Fees,
    Final,
    MarketSet,
    OtherMarket,
    Robustness,
    Scenarios,
    Session,
    SizeMultiplier,
    SplitGains,
    Trades,
    Venues,
    extras_of,
    market_of,
)
from sor_sb3.errors import UserError


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that train or compare made (LOG_DIR/ALGO/ENV_k).")],
    scenarios: Scenarios = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**62, help="Of the first scenario.")] = 10_000,
    data_split: Annotated[str, typer.Option("--data-split", "--split", help="test, validation or train.")] = "test",
    final: Final = False,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Draw actions instead of taking the mode.")] = False,
    gains: SplitGains = True,
    robustness: Robustness = False,
    market: OtherMarket = None,
    market_set: MarketSet = None,
    depth: Depth = None,
    trades: Trades = None,
    venues: Venues = None,
    session: Session = None,
    size_multiplier: SizeMultiplier = None,
    fees: Fees = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write results.json here too.")] = None,
) -> None:
    """Score trained runs beside every rule and the oracle on the same scenarios; an algorithm's runs are its seeds."""
    from sor_sb3.experiments.reopen import evaluate_runs
    from sor_sb3.files import write_json, writing
    from sor_sb3.market.settings import parse_settings
    from sor_sb3.reports.gains import print_gains, print_robustness
    from sor_sb3.reports.tables import print_results
    from sor_sb3.simulator.random import FINAL

    if output is not None and output.exists():
        raise UserError(f"--output {output} exists; give another name, or delete it")
    settings, other = parse_settings(market_set or []), None
    recording = {"assumed_depth_shares": depth, "trades_file": trades, "size_multiplier": size_multiplier}
    if market is not None:
        other = market_of(market, market_set, venues, session, fees, **recording)
    elif any(value is not None for value in (venues, session, fees, *recording.values())):
        raise UserError("options of a recording are for the one that --market names; give it, or leave them out")
    if data_split == FINAL:
        raise UserError("--data-split final is opened by --final alone, which notes in a log that it was read")
    if final and data_split != "test":
        raise UserError(f"--data-split {data_split} cannot be given with --final; leave one out")
    data_split = FINAL if final else data_split
    extras = extras_of(gains=gains, robustness=robustness)
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
    market_set: MarketSet = None,
) -> None:
    """Write a run's policy as one ONNX file; sor_sb3.OnnxPolicy.load answers from the file without torch."""
    from sor_sb3.experiments.reopen import export_run
    from sor_sb3.files import writing

    if market is None and market_set:
        raise UserError("--market-set changes the market that --market names; give it, or leave it out")
    other = None if market is None else market_of(market, market_set)
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
