"""Is there something to learn in every market that ships? One table: oracle, rules, and what a trained PPO closes.

    python benchmarks/learnability.py [--seeds 3] [--scenarios 1000] [--timesteps N] [--markets us_equity,...]
                                      [--log-dir logs/learnability] [--out docs/learnability.md]

For each preset: a comparison of PPO with every rule and the oracle on the same test scenarios (`sor-sb3 compare`, which
continues if it was cut off), and the relaxed bound with how loose it is. Validation scenarios name the best rule.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.evaluation.bounds import bounded_cost, relaxed_bound
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.comparison import compare
from sor_sb3.experiments.config import compare_config
from sor_sb3.market.loading import load_market, preset_names

ENV, LEARNER = "OrderSplit-v1", "ppo"
BOUND_SCENARIOS = 200


@dataclass(frozen=True)
class Row:
    """What the table says of one market; costs in its own unit."""

    market: str
    oracle: str
    best: str
    naive: str
    worst: str
    oracle_below_best: str
    best_below_naive: str
    naive_below_worst: str
    learner: str
    learner_below_best: str
    bound: str
    passes: str


def shown(policy: dict[str, Any]) -> str:
    return f"`{policy['name']}` {policy['cost']:.3f}"


def measure(name: str, seeds: int, scenarios: int, timesteps: int | None, log_dir: Path) -> Row:
    """Compare in one market, and read the chain oracle < best rule < naive < worst rule off the same test scenarios."""
    market = load_market(name)
    config = compare_config(market, ENV, [LEARNER], seeds, timesteps=timesteps, scenarios=scenarios)
    results = compare(config, log_dir / name.replace("/", "_"))
    policies = {p["name"]: p for p in results["policies"]}
    rules = [p for p in results["policies"] if p["kind"] == "rule"]
    best, naive, worst = results["best_rule"], results["reference_rule"], rules[-1]["name"]
    judge = Evaluator(ENV, market, scenarios, config.test_seed, "test")
    chain = judge.evaluate(judge.policies(list(dict.fromkeys([market.oracle, best, naive, worst]))))
    steps = [chain.difference(a, b) for a, b in ((best, market.oracle), (naive, best), (worst, naive))]
    against = next(c for c in results["comparisons"] if (c["policy"], c["against"]) == (LEARNER, best))
    learner = policies[LEARNER]
    closed = learner["gap_closed"]
    chain_holds = all(step.ci95_low > 0.0 for step in steps[: 2 if naive == worst else 3])
    low, high = against["ci95"]
    return Row(
        market=name,
        oracle=shown(policies[market.oracle]),
        best=shown(policies[best]),
        naive=shown(policies[naive]),
        worst=shown(policies[worst]),
        oracle_below_best=interval(steps[0]),
        best_below_naive=interval(steps[1]),
        naive_below_worst="the same rule" if naive == worst else interval(steps[2]),
        learner="-" if closed is None else f"{100 * closed:.1f} %",
        learner_below_best=f"{-against['difference']:.3f} [{-high:.3f}, {-low:.3f}]: {against['verdict']}",
        bound=looseness(name, best),
        passes="yes" if chain_holds else "no",
    )


def interval(difference: Any) -> str:
    return f"{difference.mean:.3f} [{difference.ci95_low:.3f}, {difference.ci95_high:.3f}]"


def looseness(name: str, best: str) -> str:
    """The relaxed bound, and by how much the oracle's and the best rule's bounded cost is above it."""
    market = load_market(name)
    judge = Evaluator(ENV, market, BOUND_SCENARIOS)
    bound = relaxed_bound(market, ENV, BOUND_SCENARIOS, judge.seed)
    above = []
    for called, policy in judge.policies([market.oracle, best]).items():
        cost = bounded_cost(judge.core, policy, judge.scenario_seeds)
        if np.any(cost < bound - 1e-9):
            raise RuntimeError(f"{called} went below the relaxed bound of {name}")
        above.append(float((cost - bound).mean()))
    return f"{bound.mean():.3f}; oracle {above[0]:.3f}, best rule {above[1]:.3f} above it"


def table(rows: list[Row], arguments: argparse.Namespace) -> str:
    columns = {
        "market": "market",
        "oracle": "oracle",
        "best": "best rule",
        "naive": "naive rule",
        "worst": "worst rule",
        "oracle_below_best": "best rule - oracle",
        "best_below_naive": "naive - best rule",
        "naive_below_worst": "worst - naive",
        "learner": "gap closed by PPO",
        "learner_below_best": "best rule - PPO",
        "bound": "relaxed bound",
        "passes": "each step sure",
    }
    lines = [
        "# Something to learn in every market",
        "",
        f"Made by `python benchmarks/learnability.py --markets {arguments.markets}`:",
        f"{ENV}, {arguments.scenarios} test scenarios that no policy has seen,",
        f"PPO with {arguments.seeds} training seeds and its default settings"
        + (f", {arguments.timesteps} steps" if arguments.timesteps else "")
        + ". Costs in bps (the notebooks' in their own",
        "unit); differences are paired by scenario, with 95 % intervals; gap closed goes from naive rule to oracle.",
        f"The relaxed bound is a mean over {BOUND_SCENARIOS} scenarios; how far costs are above it is measured on the",
        "cost that it bounds (`sor_sb3.evaluation.bounds`). `notebook_blind` is",
        "meant to leave nothing: everything is drawn anew between observation and charge.",
        "",
        "| " + " | ".join(columns.values()) + " |",
        "|" + "---|" * len(columns),
    ]
    lines += ["| " + " | ".join(str(getattr(row, key)) for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--timesteps", type=int, default=None, help="of PPO; the default is each market's own")
    parser.add_argument("--markets", default=",".join(preset_names()))
    parser.add_argument("--log-dir", type=Path, default=Path("logs/learnability"))
    parser.add_argument("--out", type=Path, default=Path("docs/learnability.md"))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.markets.split(","):
        rows.append(measure(name, arguments.seeds, arguments.scenarios, arguments.timesteps, arguments.log_dir))
        print(rows[-1], flush=True)
        arguments.out.write_text(table(rows, arguments), encoding="utf-8")


if __name__ == "__main__":
    main()
