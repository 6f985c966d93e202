"""How long one decision takes: `model.predict` against the fast path, the same policies on the same observations.

    python benchmarks/bench_decision.py [--quick]

Blocks of the two paths alternate, several rounds of them, so that a busy machine slows both; the latencies of all
rounds are pooled before quantiles are taken. Every call has another observation, a real one of `us_equity`. Torch has
one thread. Weights are untrained but for noise: arithmetic takes as long whatever they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO, SAC

import sor_sb3
from sor_sb3.algorithms.policies import LogisticNormalPolicy, MaskableVenuePolicy, VenuePolicy

MARKET = "us_equity"
SELECT, SPLIT = "VenueSelect-v0", "OrderSplit-v0"
MANY = 1000  # rows of a batch
PATHS = ("model.predict", "fast_policy")
SMALL_BUFFER = {"buffer_size": 10}
POLICIES: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "PPO MlpPolicy": (PPO, "MlpPolicy", SPLIT, {}),
    "A2C MlpPolicy": (A2C, "MlpPolicy", SPLIT, {}),
    "SAC MlpPolicy": (SAC, "MlpPolicy", SPLIT, SMALL_BUFFER),
    "DQN MlpPolicy": (DQN, "MlpPolicy", SELECT, SMALL_BUFFER),
    "VenuePolicy": (PPO, VenuePolicy, SPLIT, {}),
    "LogisticNormalPolicy": (PPO, LogisticNormalPolicy, SPLIT, {}),
    "MaskableVenuePolicy": (MaskablePPO, MaskableVenuePolicy, SELECT, {}),
}
Decide = Callable[..., Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured, by batch size: rounds, and calls of each path in a round."""

    rounds: int
    calls: dict[int, int]


QUICK, WHOLE = Plan(3, {1: 200, MANY: 5}), Plan(9, {1: 1000, MANY: 20})


def observed_rows() -> tuple[np.ndarray, np.ndarray]:
    """Observations (4 MANY, D) of random orders under way, and the masks (4 MANY, K) beside them."""
    venv = sor_sb3.make_vec_env(SELECT, market=MARKET, n_envs=MANY, seed=0)
    rng = np.random.default_rng(0)
    rows, masks = [venv.reset()], [np.stack(venv.env_method("action_masks"))]
    for _ in range(3):
        rows.append(venv.step(rng.integers(0, venv.action_space.n, MANY))[0])
        masks.append(np.stack(venv.env_method("action_masks")))
    return np.concatenate(rows), np.concatenate(masks)


def make_model(algorithm: Any, policy: Any, env: str, options: dict[str, Any]) -> Any:
    """A model whose weights are away from where they begin."""
    model = algorithm(policy, sor_sb3.make_vec_env(env, market=MARKET, n_envs=1), seed=0, device="cpu", **options)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def time_calls(decide: Decide, observations: list[np.ndarray], masks: list[np.ndarray] | None) -> np.ndarray:
    """Nanoseconds of every call."""
    taken = np.empty(len(observations))
    clock = time.perf_counter_ns
    for i, observation in enumerate(observations):
        if masks is None:
            start = clock()
            decide(observation, deterministic=True)
        else:
            mask = masks[i]
            start = clock()
            decide(observation, deterministic=True, action_masks=mask)
        taken[i] = clock() - start
    return taken


def measure_policy(name: str, rows: np.ndarray, masks: np.ndarray, plan: Plan) -> list[dict[str, Any]]:
    """Both paths of one policy, for one row and for many."""
    model = make_model(*POLICIES[name])
    paths: dict[str, Decide] = {PATHS[0]: model.predict, PATHS[1]: sor_sb3.fast_policy(model).predict}
    found = []
    for batch, calls in plan.calls.items():
        rng = np.random.default_rng(1)
        latencies: dict[str, list[np.ndarray]] = {path: [] for path in PATHS}
        for number in range(plan.rounds + 1):
            first = rng.permutation(len(rows) - batch)[:calls] if batch > 1 else rng.permutation(len(rows))[:calls]
            at = [slice(i, i + batch) if batch > 1 else i for i in first]
            observations = [rows[i] for i in at]
            beside = [masks[i] for i in at] if name.startswith("Maskable") else None
            for path in PATHS if number % 2 == 0 else PATHS[::-1]:
                taken = time_calls(paths[path], observations, beside)
                if number > 0:  # the first round warms up
                    latencies[path].append(taken)
        quantiles = {path: np.quantile(np.concatenate(latencies[path]), (0.5, 0.99)) / 1e3 for path in PATHS}
        for path in PATHS:
            (p50, p99), (base50, base99) = quantiles[path], quantiles[PATHS[0]]
            row = {"policy": name, "path": path, "batch": batch, "p50_us": float(p50), "p99_us": float(p99)}
            found.append({**row, "ratio_p50": float(base50 / p50), "ratio_p99": float(base99 / p99)})
    return found


def measure(quick: bool) -> list[dict[str, Any]]:
    """Latencies by policy, path and batch: "policy", "path", "batch", "p50_us", "p99_us", "ratio_p50", "ratio_p99".

    A ratio is how many times longer `model.predict` takes.
    """
    torch.set_num_threads(1)
    rows, masks = observed_rows()
    plan = QUICK if quick else WHOLE
    return [line for name in POLICIES for line in measure_policy(name, rows, masks, plan)]


def show(console: Console, lines: list[dict[str, Any]]) -> None:
    """Print a table."""
    shown = Table(title=f"One decision, {MARKET}, microseconds", title_justify="left")
    for column in ("policy", "path"):
        shown.add_column(column, no_wrap=True)
    for column in ("rows", "p50", "p99", "ratio, p50", "ratio, p99"):
        shown.add_column(column, justify="right")
    for line in lines:
        ratios = [f"{line[key]:.1f}" for key in ("ratio_p50", "ratio_p99")]
        latencies = [f"{line[key]:,.2f}" for key in ("p50_us", "p99_us")]
        shown.add_row(line["policy"], line["path"], str(line["batch"]), *latencies, *ratios)
    console.print(shown)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a rough look")
    show(Console(), measure(parser.parse_args().quick))


if __name__ == "__main__":
    main()
