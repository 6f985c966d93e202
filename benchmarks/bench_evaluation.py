"""How long it takes to evaluate ten policies on 1,000 scenarios, and one policy the way SB3 does it.

    python benchmarks/bench_evaluation.py [--quick] [--out FILE.json]

Six untrained networks and four routers; a trained network takes as long as one that is not. SB3's `evaluate_policy`
runs a few scenarios of the plain env in a DummyVecEnv x 8; its time for 1,000 is extrapolated from its rate. One
thread, CPU time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from measuring import (
    Case,
    Column,
    Results,
    Sheet,
    alternate,
    bars,
    command,
    new_chart,
    number,
    ratio,
    rows_of,
    save_chart,
)
from plain_env import PlainEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env as make_dummy_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.reports.writer import ReportWriter

TITLE = "Evaluation"
ENV_ID, MARKET = "OrderSplit-v1", "us_equity"
ROUTERS = ("all_in_sized", "pro_rata", "round_robin", "snapshot_oracle")
NETWORKS = 6
SCENARIOS, QUICK_SCENARIOS = (1000, 24), (200, 8)  # ours, SB3's way
SB3_WAY = "SB3's evaluate_policy, plain DummyVecEnv x 8, a network"


def measure(quick: bool) -> Results:
    """Rates in scenarios played by one policy."""
    scenarios, sb3_scenarios = QUICK_SCENARIOS if quick else SCENARIOS
    evaluator = Evaluator(ENV_ID, MARKET, scenarios)
    venv = RoutingVecEnv(ENV_ID, MARKET, 2)
    networks = {f"network {i}": PPO(VenuePolicy, venv, seed=i, device="cpu") for i in range(NETWORKS)}
    policies: dict[str, Any] = {**networks, **evaluator.policies(ROUTERS)}
    network = networks["network 0"]
    plain = make_dummy_vec_env(lambda: PlainEnv(MARKET), n_envs=8, seed=0)

    def run(costs_too: bool) -> int:
        each = ReportWriter(evaluator.market, policies).add if costs_too else None
        evaluator.evaluate(policies, each=each)
        return len(policies) * scenarios

    def run_one() -> int:
        evaluator.score("network", network)
        return scenarios

    def run_sb3() -> int:
        evaluate_policy(network, plain, n_eval_episodes=sb3_scenarios)
        return sb3_scenarios

    all_ten = f"ours, {len(policies)} policies"
    cases = [
        Case(SB3_WAY, run_sb3, facts={"policies": 1}),
        Case("ours, a network", run_one, {"to_sb3": SB3_WAY}, facts={"policies": 1}),
        Case(all_ten, lambda: run(False), {"to_sb3": SB3_WAY}, facts={"policies": len(policies)}),
        Case(f"{all_ten} with cost analysis", lambda: run(True), facts={"policies": len(policies)}),
    ]
    alternate(cases, 2 if quick else 5, 0.0)
    rows = rows_of(cases)
    for row in rows:
        row["s_per_1000"] = [1000 * row["policies"] / row["per_s"][i] for i in (0, 2, 1)]
    return {"market": MARKET, "env": ENV_ID, "scenarios": scenarios, "sb3_scenarios": sb3_scenarios, "rows": rows}


def sheets(results: Results) -> list[Sheet]:
    """One table."""
    columns = (
        Column("case", "case"),
        Column("policies", "policies"),
        Column("per_s", "policy-scenarios / CPU s"),
        Column("s_per_1000", "CPU s for 1,000 scenarios", lambda value: number(value, 2)),
        Column("to_sb3", "times SB3's way", ratio),
    )
    note = (
        f"Ours measured on {results['scenarios']:,} scenarios, SB3's way on {results['sb3_scenarios']}, its time for "
        f"1,000 extrapolated. The ten are {NETWORKS} networks (VenuePolicy) and {', '.join(ROUTERS)}, the last of "
        "which searches for the best split of every step. One thread."
    )
    return [Sheet(f"Evaluation on {results['market']}, {results['env']}", columns, results["rows"], note)]


def draw(results: Results, folder: Path) -> list[Path]:
    """Seconds for 1,000 scenarios."""
    figure, [axes] = new_chart(height=2.6)
    bars(axes, results["rows"], lambda row: row["s_per_1000"], ("SB3",))
    axes.set_xlabel("CPU seconds for 1,000 scenarios, one thread")
    axes.set_title(f"Evaluation on {results['market']}, {results['env']}", fontsize=10)
    return [save_chart(figure, folder / "performance_evaluation.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
