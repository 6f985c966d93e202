"""How long one decision takes: `model.predict` against ONNX Runtime, the same policies on the same observations.

    python benchmarks/bench_decision.py [--quick] [--out FILE.json]

Blocks of the two paths alternate, several rounds of them, so that a busy machine slows both; the latencies of all
rounds are pooled before quantiles are taken. Every call has another observation, a real one of `us_equity`. Torch has
one thread. Weights are untrained but for noise: arithmetic takes as long whatever they are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import COLOURS, PLAIN_COLOUR, Column, Results, Sheet, command, new_chart, number, save_chart
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO, SAC

import sor_sb3
from sor_sb3.algorithms.onnx_export import onnx_bytes
from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.algorithms.policies import MaskableVenuePolicy, SplitPolicy, VenuePolicy

TITLE = "One decision"
MARKET = "us_equity"
SELECT, SPLIT = "VenueSelect-v1", "OrderSplit-v1"
MANY = 1000  # rows of a batch
PATHS = ("model.predict", "OnnxPolicy")
SMALL_BUFFER = {"buffer_size": 10}
POLICIES: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "PPO MlpPolicy": (PPO, "MlpPolicy", SPLIT, {}),
    "A2C MlpPolicy": (A2C, "MlpPolicy", SPLIT, {}),
    "SAC MlpPolicy": (SAC, "MlpPolicy", SPLIT, SMALL_BUFFER),
    "DQN MlpPolicy": (DQN, "MlpPolicy", SELECT, SMALL_BUFFER),
    "VenuePolicy": (PPO, VenuePolicy, SPLIT, {}),
    "SplitPolicy": (PPO, SplitPolicy, SPLIT, {}),
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
    paths: dict[str, Decide] = {PATHS[0]: model.predict, PATHS[1]: OnnxPolicy(onnx_bytes(model)).predict}
    found = []
    for batch, calls in plan.calls.items():
        rng = np.random.default_rng(1)
        latencies: dict[str, list[np.ndarray]] = {path: [] for path in PATHS}
        for turn in range(plan.rounds + 1):
            first = rng.permutation(len(rows) - batch)[:calls] if batch > 1 else rng.permutation(len(rows))[:calls]
            at = [slice(i, i + batch) if batch > 1 else i for i in first]
            observations = [rows[i] for i in at]
            beside = [masks[i] for i in at] if name.startswith("Maskable") else None
            for path in PATHS if turn % 2 == 0 else PATHS[::-1]:
                taken = time_calls(paths[path], observations, beside)
                if turn > 0:  # the first round warms up
                    latencies[path].append(taken)
        quantiles = {path: np.quantile(np.concatenate(latencies[path]), (0.5, 0.99)) / 1e3 for path in PATHS}
        for path in PATHS:
            (p50, p99), (base50, base99) = quantiles[path], quantiles[PATHS[0]]
            row = {"policy": name, "path": path, "batch": batch, "p50_us": float(p50), "p99_us": float(p99)}
            found.append({**row, "ratio_p50": float(base50 / p50), "ratio_p99": float(base99 / p99)})
    return found


def measure(quick: bool) -> Results:
    """Microseconds of a decision by policy, path and batch; a ratio is how many times longer `model.predict` takes."""
    rows, masks = observed_rows()
    plan = QUICK if quick else WHOLE
    return {"rows": [line for name in POLICIES for line in measure_policy(name, rows, masks, plan)]}


def sheets(results: Results) -> list[Sheet]:
    """One table."""
    columns = (
        Column("policy", "policy"),
        Column("path", "path", str),
        Column("batch", "batch"),
        Column("p50_us", "p50, us", lambda value: number(value, 1)),
        Column("p99_us", "p99, us", lambda value: number(value, 1)),
        Column("ratio_p50", "times model.predict, p50", lambda value: number(value, 1)),
        Column("ratio_p99", "p99", lambda value: number(value, 1)),
    )
    return [Sheet("One decision, one thread", columns, results["rows"])]


def draw(results: Results, folder: Path) -> list[Path]:
    """p50 as bars and p99 as whiskers of single decisions."""
    rows = [row for row in results["rows"] if row["batch"] == 1]
    figure, [axes] = new_chart(height=max(2.4, 0.35 * len(rows) + 1.0))
    for at, row in enumerate(rows):
        colour = PLAIN_COLOUR if row["path"] == "model.predict" else COLOURS[0]
        axes.barh(at, row["p50_us"], color=colour, alpha=0.85)
        axes.plot([row["p50_us"], row["p99_us"]], [at, at], color="black", linewidth=1.5)
        text = f"{row['p50_us']:.1f} / {row['p99_us']:.1f}"
        axes.annotate(text, (row["p99_us"], at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['policy']}, {row['path']}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("microseconds of one decision: p50 as bar, p99 as whisker")
    axes.set_title("One decision, one thread", fontsize=10)
    return [save_chart(figure, folder / "performance_decision.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
