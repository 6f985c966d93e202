"""Speed of the package against a plain Gymnasium env of the same market; both measured in turn, in one run.

    python benchmarks/bench_speed.py [--quick] [--out FILE.json]

Every pair is timed alternately, several times over; a ratio is taken within each round, so that a busy
machine slows both sides of it, and the median over rounds is printed with the lowest and the highest. Times
are CPU time of the process; Torch and Numba have one thread. Nothing fails on a slow machine: the figures are
the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numba
import numpy as np
import torch
from plain_env import PlainEnv
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env as make_dummy_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import sor_sb3
from sor_sb3.algorithms.hyperparameters import constructor_arguments, default_hyperparameters, policy_of

MARKET, ENV_ID = "us_equity", "OrderSplit-v0"
PLAIN_ENVS = 8
BATCHES = (1, 8, 64, 256, 1024, 4096)
LIBRARIES = ("sor-sb3", "gymnasium", "stable-baselines3", "torch", "numpy", "numba")


@dataclass
class Case:
    """Something to time: `run()` returns how many env steps it did."""

    name: str
    against: str  # name of the case that its ratio is to; its own name if it is a yardstick
    run: Callable[[], int]
    steps_per_s: list[float] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------ env steps


def step_vec_env(venv: VecEnv, steps: int) -> Callable[[], int]:
    """At least `steps` env steps with random actions drawn beforehand."""
    shape = (20, venv.num_envs, *venv.action_space.shape)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    rounds = max(1, steps // (len(actions) * venv.num_envs))
    venv.seed(0)
    venv.reset()

    def run() -> int:
        for _ in range(rounds):
            for action in actions:
                venv.step(action)
        return rounds * len(actions) * venv.num_envs

    return run


def step_env(env: gym.Env, steps: int) -> Callable[[], int]:
    """`steps` steps of a lone env, resets included."""
    shape = (steps, *env.action_space.shape)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    env.reset(seed=0)

    def run() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps

    return run


def env_cases(quick: bool) -> list[Case]:
    """Ours in several batch sizes against the plain env in a ``DummyVecEnv``, and one env against one env."""
    steps = 2_000 if quick else 10_000
    plain, lone = f"plain, DummyVecEnv x {PLAIN_ENVS}", "plain, gym.Env.step"
    cases = [
        Case(plain, plain, step_vec_env(DummyVecEnv([lambda: PlainEnv(MARKET)] * PLAIN_ENVS), steps)),
        Case(lone, lone, step_env(PlainEnv(MARKET), steps)),
    ]
    for n in BATCHES:
        venv = sor_sb3.make_vec_env(ENV_ID, market=MARKET, n_envs=n, monitor=False)
        cases.append(Case(f"ours, VecEnv x {n}", plain, step_vec_env(venv, min(200 * n, 20 * steps))))
    monitored = sor_sb3.make_vec_env(ENV_ID, market=MARKET, n_envs=1024)
    cases.append(Case("ours, VecEnv x 1024 under VecMonitor", plain, step_vec_env(monitored, 20 * steps)))
    bare = gym.make(f"sor_sb3:{ENV_ID}", market=MARKET).unwrapped
    cases.append(Case("ours, gym.Env.step", lone, step_env(bare, steps)))
    return cases


# ------------------------------------------------------------------------------------------------------ PPO


def learn(model: PPO, rollouts: int) -> Callable[[], int]:
    """Rollouts and updates, end to end."""

    def run() -> int:
        before = model.num_timesteps
        steps = rollouts * model.n_steps * model.n_envs
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before

    return run


def ppo_cases(quick: bool) -> list[Case]:
    """PPO as SB3 ships it on the plain env, the same with large batches on ours, and our shipped settings."""
    plain = f"SB3's PPO defaults, plain DummyVecEnv x {PLAIN_ENVS}"
    dummy = make_dummy_vec_env(lambda: PlainEnv(MARKET), n_envs=PLAIN_ENVS)
    # the cost of a step does not depend on the length of a rollout, so that a quick look may shorten it
    default = PPO("MlpPolicy", dummy, n_steps=256 if quick else 2048, device="cpu", seed=0)
    ours = sor_sb3.make_vec_env(ENV_ID, market=MARKET, n_envs=1024)
    large = PPO("MlpPolicy", ours, n_steps=16, batch_size=4096, n_epochs=10, device="cpu", seed=0)
    relu = {"activation_fn": torch.nn.ReLU}  # SB3's tanh is a third of its update's time on this CPU
    larger = PPO("MlpPolicy", ours, n_steps=16, batch_size=8192, n_epochs=10, device="cpu", seed=0, policy_kwargs=relu)
    shipped_settings = default_hyperparameters("ppo", ENV_ID, MARKET)
    n_envs = shipped_settings["n_envs"]
    shipped = PPO(
        policy_of(shipped_settings["policy"]),
        sor_sb3.make_vec_env(ENV_ID, market=MARKET, n_envs=n_envs),
        device="cpu",
        seed=0,
        **constructor_arguments(shipped_settings),
    )
    same_epochs = PPO(policy_of("VenuePolicy"), ours, n_steps=16, batch_size=4096, n_epochs=10, device="cpu", seed=0)
    more = 1 if quick else 4
    return [
        Case(plain, plain, learn(default, 1)),
        Case("MlpPolicy, ours x 1024, batch 4096, 10 epochs", plain, learn(large, more)),
        Case("MlpPolicy with ReLU, ours x 1024, batch 8192, 10 epochs", plain, learn(larger, more)),
        Case("VenuePolicy, ours x 1024, batch 4096, 10 epochs", plain, learn(same_epochs, more)),
        Case(
            f"shipped settings, ours x {n_envs}, {shipped.n_epochs} epochs (a PPO of other settings)",
            plain,
            learn(shipped, more),
        ),
    ]


# --------------------------------------------------------------------------------------------- measure, tell


def measure(cases: list[Case], rounds: int) -> None:
    """Time all cases in turn, `rounds` times over, after a warm-up that compiles."""
    for case in cases:
        if "PPO" not in case.name:
            case.run()
    for number in range(rounds):
        for case in cases if number % 2 == 0 else cases[::-1]:
            start = time.process_time()
            steps = case.run()
            case.steps_per_s.append(steps / (time.process_time() - start))


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    case: str
    steps_per_s: float
    against: str
    ratio: float
    ratio_low: float
    ratio_high: float


def results(cases: list[Case]) -> list[Result]:
    """Medians over rounds; ratios are taken within rounds."""
    by_name = {case.name: case for case in cases}
    table = []
    for case in cases:
        yardstick = by_name[case.against].steps_per_s
        ratios = [a / b for a, b in zip(case.steps_per_s, yardstick, strict=True)]
        median = statistics.median(case.steps_per_s)
        table.append(Result(case.name, median, case.against, statistics.median(ratios), min(ratios), max(ratios)))
    return table


def machine() -> dict[str, Any]:
    """Where this was measured."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def show(console: Console, title: str, table: list[Result]) -> None:
    """Print one table."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("case", overflow="fold")
    for column in ("steps / CPU second", "ratio", "lowest - highest"):
        shown.add_column(column, justify="right", no_wrap=True)
    for line in table:
        if line.case == line.against:
            shown.add_row(line.case, f"{line.steps_per_s:,.0f}", "1", "")
        else:
            spread = f"{line.ratio_low:.1f} - {line.ratio_high:.1f}"
            shown.add_row(line.case, f"{line.steps_per_s:,.0f}", f"{line.ratio:.1f}", spread)
    console.print(shown)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a rough look")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    console = Console()
    where = machine()
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    console.print(f"{where['cpu']}, {where['cores']} cores, load {where['load_average_1min']}; one thread")
    console.print(f"Python {where['python']}, {versions}")
    saved: dict[str, Any] = {"machine": where, "command": " ".join(sys.argv), "market": MARKET}
    quick = options.quick
    for key, title, cases, rounds in (
        ("env_steps", f"Env steps, {MARKET}, random actions", env_cases(quick), 3 if quick else 9),
        ("ppo", f"PPO end to end, {MARKET}", ppo_cases(quick), 1 if quick else 3),
    ):
        measure(cases, rounds)
        table = results(cases)
        show(console, title, table)
        saved[key] = [asdict(line) for line in table]
    if options.out is not None:
        options.out.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
        console.print(f"saved {options.out}")


if __name__ == "__main__":
    main()
