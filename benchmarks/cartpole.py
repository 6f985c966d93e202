"""REINFORCE beside A2C and PPO on CartPole-v1: draws the curves and prints the table of the README of REINFORCE.

    python benchmarks/cartpole.py

Five training seeds each, 500,000 steps. A run has reached 475 when its last 100 training episodes, played by the
stochastic policy that learns, earned 475 on average. A2C and PPO have the settings of rl-baselines3-zoo. The training
seeds are 100 to 104.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

SOLVED = 475.0
FIRST_SEED = 100
ALGORITHMS = ("REINFORCE", "A2C", "PPO")
COLOURS = {"REINFORCE": "#d1495b", "A2C": "#4e8098", "PPO": "#6a994e"}


def make_model(name: str, seed: int) -> Any:
    import torch
    from stable_baselines3 import A2C, PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.utils import LinearSchedule

    from sor_sb3 import REINFORCE

    torch.set_num_threads(1)
    env = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
    common: dict[str, Any] = {"seed": seed, "device": "cpu"}
    if name == "A2C":
        return A2C("MlpPolicy", env, ent_coef=0.0, **common)
    if name == "PPO":
        return PPO(
            "MlpPolicy",
            env,
            n_steps=32,
            batch_size=256,
            gae_lambda=0.8,
            gamma=0.98,
            n_epochs=20,
            ent_coef=0.0,
            learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
            clip_range=LinearSchedule(0.2, 0.0, 1.0),
            **common,
        )
    return REINFORCE(
        "MlpPolicy",
        env,
        n_steps=512,
        gamma=0.99,
        baseline="value",
        vf_coef=0.05,
        learning_rate=LinearSchedule(1e-2, 0.0, 1.0),
        use_rms_prop=False,
        **common,
    )


class _Curve(BaseCallback):
    """Mean return of the last 100 training episodes, after each rollout in which there are as many."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        if len(returns) == 100:
            self.points.append((self.num_timesteps, float(np.mean(returns))))


def run(name: str, seed: int, timesteps: int) -> tuple[np.ndarray, float]:
    """Learning curve (n, 2) of steps and returns, and the final mean return of 100 deterministic episodes."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    model, curve = make_model(name, seed), _Curve()
    model.learn(timesteps, callback=curve)
    env = make_vec_env("CartPole-v1", n_envs=8, seed=10_000 + seed)
    final, _ = evaluate_policy(model, env, n_eval_episodes=100)
    assert isinstance(final, float)  # not a list, which single episodes would give
    return np.array(curve.points).reshape(-1, 2), final


def reached(curve: np.ndarray) -> float:
    """Steps until the curve first is at 475; infinite where it never is."""
    there = curve[curve[:, 1] >= SOLVED, 0]
    return float(there[0]) if len(there) else float("inf")


def table(runs: dict[str, list[tuple[np.ndarray, float]]]) -> str:
    lines = [
        "| algorithm | seeds that reached 475 | steps until then, median (range) | last 100 training episodes | "
        "100 deterministic episodes at the end |",
        "|---|---|---|---|---|",
    ]
    for name, results in runs.items():
        steps = sorted(reached(curve) for curve, _ in results)
        shown = [f"{s:,.0f}" if np.isfinite(s) else "never" for s in (np.median(steps), steps[0], steps[-1])]
        last = [curve[-1, 1] for curve, _ in results]
        final = [score for _, score in results]
        lines.append(
            f"| {name} | {int(np.isfinite(steps).sum())} of {len(steps)} | {shown[0]} ({shown[1]} to {shown[2]}) | "
            f"{np.mean(last):.0f} (worst seed {min(last):.0f}) | {np.mean(final):.0f} (worst seed {min(final):.0f}) |"
        )
    return "\n".join(lines)


def draw(runs: dict[str, list[tuple[np.ndarray, float]]], timesteps: int, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.0), dpi=130)
    grid = np.linspace(0, timesteps, 201)
    for name, results in runs.items():
        curves = np.stack([np.interp(grid, c[:, 0], c[:, 1], left=np.nan) for c, _ in results])
        for curve in curves:
            axes.plot(grid, curve, color=COLOURS[name], alpha=0.25, linewidth=0.8)
        axes.plot(grid, curves.mean(axis=0), color=COLOURS[name], linewidth=2.0, label=name)
    axes.axhline(SOLVED, color="grey", linestyle=":", linewidth=1.0)
    axes.text(timesteps * 0.99, SOLVED - 4, "475", ha="right", va="top", color="grey", fontsize=8)
    axes.set(xlabel="steps", ylabel="return, last 100 training episodes", ylim=(0, 510), xlim=(0, timesteps))
    axes.set_title("CartPole-v1: mean of the seeds, and each seed", fontsize=10)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algos", default=",".join(ALGORITHMS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--figure", type=Path, default=Path("docs/images/cartpole.png"))
    arguments = parser.parse_args()
    names = arguments.algos.split(",")
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = {name: [pool.submit(run, name, seed, arguments.timesteps) for seed in seeds] for name in names}
        runs = {name: [future.result() for future in mine] for name, mine in futures.items()}
    draw(runs, arguments.timesteps, arguments.figure)
    print(table(runs))


if __name__ == "__main__":
    main()
