"""What a risk-averse router gives up in mean cost for less variance: PPO with several `risk_aversion`s beside rules.

    python benchmarks/frontier.py [--market us_equity] [--seeds 1] [--out docs/images/frontier_us_equity.svg]

`OrderExecute-v1`, the package's settings; last policies, mean and standard deviation of the cost on 1,000 validation
scenarios from seed 50,000 on, price noise and all. Prints the table that docs/gains.md shows, and draws the figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measuring import new_chart, one_thread, save_chart
from stable_baselines3.common.callbacks import CallbackList

from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.risk import risk
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.run import learning_callbacks, make_model, make_training_env
from sor_sb3.market.loading import load_market
from sor_sb3.routers import make

ENV, SCENARIOS, FIRST_SEED = "OrderExecute-v1", 1000, 50_000
AVERSIONS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)  # 1 / bps
RULES = ("net_price_sweep", "dark_then_sweep", "planner", "twap+pro_rata")
SPLIT, URGENCIES = "dark_then_sweep", (2.0, 3.0, 4.0)  # of Almgren and Chriss's schedule


def trained(market: str, aversion: float, seed: int) -> object:
    """The last policy of PPO with the package's settings and one risk aversion."""
    config = train_config("ppo", ENV, load_market(market), seed, settings={"risk_aversion": aversion})
    model = make_model(config, make_training_env(config))
    model.learn(config.timesteps, callback=CallbackList(list(learning_callbacks(config))))
    return model


def row_of(name: str, costs: np.ndarray) -> tuple[str, float, float]:
    """Prints a row of the table: mean, standard deviation, and mean of the dearest 5 %."""
    deviation, tail = risk("sd", costs), risk("cvar95", costs)
    print(f"| {name} | {costs.mean():.2f} | {deviation.mean:.2f} | {tail.mean:.2f} |", flush=True)
    return name, float(deviation.mean), float(costs.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--market", default="us_equity")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds from 0 on")
    parser.add_argument("--out", type=Path, default=Path("docs/images/frontier_us_equity.svg"))
    arguments = parser.parse_args()
    one_thread()
    evaluator = Evaluator(ENV, arguments.market, SCENARIOS, FIRST_SEED, "validation")
    print("| policy | mean cost, bps | standard deviation | mean of the dearest 5 % |\n|---|---|---|---|")
    rules = [row_of(name, evaluator.score(name, name).cost) for name in RULES]
    for urgency in URGENCIES:
        rule, name = make("almgren_chriss", arguments.market, ENV, split=SPLIT, urgency=urgency), f"urgency {urgency:g}"
        rules.append(row_of(f"almgren_chriss+{SPLIT}, {name}", evaluator.score(name, rule).cost))
    learned = []
    for aversion in AVERSIONS:
        members = [trained(arguments.market, aversion, seed) for seed in range(arguments.seeds)]
        learned.append(row_of(f"PPO, {aversion:g} / bps", evaluator.score("ppo", members).cost))
    draw(rules, learned, arguments.out)


def draw(rules: list[tuple[str, float, float]], learned: list[tuple[str, float, float]], out: Path) -> None:
    """Mean costs over standard deviations, of (name, standard deviation, mean)."""
    figure, (axes,) = new_chart(7.0, 4.5)
    axes.plot([x for _, x, _ in learned], [y for _, _, y in learned], "o-", label="PPO, by risk aversion")
    axes.plot([x for _, x, _ in rules], [y for _, _, y in rules], "s", color="0.4", label="rules")
    for name, x, y in [*learned, *rules]:
        shown = name.removeprefix("PPO, ").replace(f"almgren_chriss+{SPLIT}, ", "almgren_chriss, ")
        axes.annotate(shown, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set(xlabel="standard deviation of the cost, bps", ylabel="mean cost, bps")
    axes.legend(frameon=False)
    save_chart(figure, out)


if __name__ == "__main__":
    main()
