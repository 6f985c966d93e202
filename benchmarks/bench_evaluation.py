"""How long it takes to evaluate ten policies on 1,000 scenarios of us_equity, with and without the cost analysis.

    python benchmarks/bench_evaluation.py

Six untrained networks and four routers, one thread; wall and CPU seconds. A trained network takes as long as one that
is not.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import torch
from stable_baselines3 import PPO

from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.report import ReportWriter

ENV, MARKET, SCENARIOS = "OrderSplit-v0", "us_equity", 1000


def main() -> None:
    torch.set_num_threads(1)
    evaluator = Evaluator(ENV, MARKET, SCENARIOS)
    networks = {f"network {i}": PPO(VenuePolicy, RoutingVecEnv(ENV, MARKET, 2), seed=i, device="cpu") for i in range(6)}
    routers = evaluator.policies(["all_in_sized", "pro_rata", "round_robin", "snapshot_oracle"])
    policies = {**networks, **routers}
    evaluator.score("warm-up", "pro_rata")  # compiles, once
    for name, each in (("scores", None), ("scores and cost analysis", ReportWriter(evaluator.market, policies).take)):
        wall, cpu = time.perf_counter(), time.process_time()
        evaluator.evaluate(policies, each=each)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{len(policies)} policies x {SCENARIOS} scenarios, {name}: {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
