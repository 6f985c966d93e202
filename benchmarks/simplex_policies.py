"""Which distribution over splits learns best: a Gaussian through the env's own map, logistic-normal, or Dirichlet?

    python benchmarks/simplex_policies.py

PPO with the package's settings for the market, five training seeds of each, all scored on the same 1,000 test
scenarios; differences are paired by scenario, with intervals over training seeds and scenarios. The table goes to
docs/simplex_policies.md. Given again, the command keeps finished runs and continues stopped ones from their last
checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.statistics import verdict
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.folder import DONE_FILE
from sor_sb3.experiments.run import load_policy, train
from sor_sb3.files import write_text
from sor_sb3.market.loading import load_market

POLICIES = {
    "Gaussian through the env's map": "VenuePolicy",
    "logistic-normal": "LogisticNormalPolicy",
    "Dirichlet": "DirichletPolicy",
}
GAUSSIAN = next(iter(POLICIES))


def config_of(policy: str, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    settings = {"policy": policy}
    market = load_market(arguments.market)
    return train_config(arguments.algo, arguments.env, market, seed, arguments.timesteps, None, settings)


def run(config: TrainConfig, folder: Path) -> None:
    done = folder / DONE_FILE
    if not done.is_file() or json.loads(done.read_text(encoding="utf-8"))["digest"] != config.digest():
        train(config, folder)


def table(evaluation: Evaluation) -> str:
    unit = evaluation.market.cost_unit
    lines = [
        f"| policy | cost, {unit} (95 %) | gap closed | minus the Gaussian's, {unit} (95 %) | verdict |",
        "|---|---|---|---|---|",
    ]
    for name in [n for n in evaluation.names() if n in POLICIES]:
        cost, gap = evaluation.cost(name), evaluation.gap_closed(name)
        against, said = "", ""
        if name != GAUSSIAN:
            difference = evaluation.difference(name, GAUSSIAN)
            against = f"{difference.mean:+.4f} ({difference.ci95[0]:+.4f} to {difference.ci95[1]:+.4f})"
            said = verdict(difference)
        shown = f"{gap.mean:.1%}" if gap else ""
        lines.append(
            f"| {name} | {cost.mean:.4f} ({cost.ci95[0]:.4f} to {cost.ci95[1]:.4f}) | {shown} | {against} | {said} |"
        )
    return "\n".join(lines)


def page(evaluation: Evaluation, configs: list[TrainConfig], n_seeds: int) -> str:
    first = configs[0]
    command = (
        f"python benchmarks/simplex_policies.py --market {first.market.name} --env {first.env} --algo {first.algo} "
        f"--timesteps {first.timesteps} --seeds {n_seeds} --scenarios {evaluation.n_scenarios}"
    )
    return "\n".join(
        [
            "# Which distribution over splits learns best",
            "",
            f"{first.algo.upper()} on `{first.market.name}`, `{first.env}`: {first.timesteps:,} steps, {n_seeds} "
            f"training seeds of each policy, scored on the same {evaluation.n_scenarios:,} test scenarios; each "
            "run's best checkpoint on validation scenarios. A negative difference is cheaper. Made by",
            "",
            f"    {command}",
            "",
            table(evaluation),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--market", default="us_equity")
    parser.add_argument("--env", default="OrderSplit-v1")
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("--timesteps", type=int, default=None, help="default: the algorithm's settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log-dir", type=Path, default=Path("logs/simplex_policies"))
    parser.add_argument("--output", type=Path, default=Path("docs/simplex_policies.md"))
    arguments = parser.parse_args()
    runs = {
        name: [config_of(policy, seed, arguments) for seed in range(arguments.seeds)]
        for name, policy in POLICIES.items()
    }
    folders = {
        name: [arguments.log_dir / f"{POLICIES[name]}_{c.digest()}" / f"{c.env}_{c.seed + 1}" for c in configs]
        for name, configs in runs.items()
    }
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run, c, f) for name in runs for c, f in zip(runs[name], folders[name], strict=True)]
        for future in futures:
            future.result()
    market = load_market(arguments.market)
    evaluator = Evaluator(arguments.env, market, arguments.scenarios)
    learned = {name: [load_policy(c, f) for c, f in zip(runs[name], folders[name], strict=True)] for name in POLICIES}
    evaluation = evaluator.evaluate({**learned, **evaluator.policies([market.reference_router, market.oracle])})
    write_text(arguments.output, page(evaluation, runs[GAUSSIAN], arguments.seeds))
    print(table(evaluation))


if __name__ == "__main__":
    main()
