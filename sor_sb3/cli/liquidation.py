"""What ``train`` does in the env of a closed-form market."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from sor_sb3.cli.options import Bar, new_run, refuse_beside

_TAKEN = {"algo", "market", "env", "seed", "timesteps", "n_envs", "log_dir", "settings", "hyperparams", "progress"}


def train_in_closed_form(context: typer.Context, given: dict[str, Any]) -> None:
    """Train one algorithm, print how far it is from the best policy; `given` are the arguments of ``train``."""
    from sor_sb3.algorithms.hyperparameters import parse_settings, read_hyperparameters
    from sor_sb3.envs import LIQUIDATION_MARKETS
    from sor_sb3.experiments.liquidation import make_liquidation_model, train_liquidation
    from sor_sb3.files import writing
    from sor_sb3.market.liquidation import load_liquidation
    from sor_sb3.market.settings import parse_settings as parse_market_settings

    env, algo, seed = given["env"].removeprefix("sor_sb3:"), given["algo"], given["seed"]
    refuse_beside(context, f"--env {env}", _TAKEN | {"market_set"}, "it is of envs that route")
    model, source = LIQUIDATION_MARKETS[env], context.get_parameter_source("market")
    market_name = given["market"] if source is not None and source.name == "COMMANDLINE" else model
    market = load_liquidation(market_name, model, parse_market_settings(given["market_set"] or []))
    file = given["hyperparams"]
    settings = {
        "settings": parse_settings(given["settings"] or []),
        "n_envs": given["n_envs"],
        "timesteps": given["timesteps"],
        "defaults": read_hyperparameters(file, env, market.name) if file else None,
    }
    make_liquidation_model(algo, env, market, seed, **settings)  # a wrong setting is said before a folder is made
    log_dir: Path = given["log_dir"]
    with writing(f"--log-dir {log_dir}", log_dir), ExitStack() as stack:
        folder = new_run(log_dir, algo, env, stack)
        typer.echo(f"training {algo} on {market.name}, {env}, in {folder}", err=True)
        bar = Bar(given["progress"])
        stack.callback(bar.stop)
        try:
            score = train_liquidation(
                folder, algo, env, market, seed, lambda *at: bar(f"training {algo}", *at), **settings
            )
        except KeyboardInterrupt:
            bar.stop()
            typer.echo("stopped; nothing is kept, train again", err=True)
            raise typer.Exit(130) from None
    cost, excess = score.cost, [100.0 * value for value in (score.excess.mean, *score.excess.ci95)]
    typer.echo(f"{algo}: cost {cost.mean:.5f}, 95 % interval {cost.ci95_low:.5f} to {cost.ci95_high:.5f}")
    typer.echo(f"best policy: cost {score.optimal_cost:.5f}, by dynamic programming")
    typer.echo(f"excess: {excess[0]:.2f} %, 95 % interval {excess[1]:.2f} to {excess[2]:.2f} (paired)")
    typer.echo(f"results and policy: {folder}")
