"""How fast the env steps: our batches against a plain Gymnasium env of the same market.

    python benchmarks/bench_simulator.py [--quick] [--out FILE.json]

Random actions, drawn beforehand, or those of rules, recorded beforehand; whole episodes, resets included. Cases with
one thread are read by the CPU clock of the process, those with threads or processes, and what they are compared with,
by the wall clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from measuring import (
    COLOURS,
    PLAIN_COLOUR,
    Case,
    Clock,
    Column,
    Results,
    Sheet,
    alternate,
    case_columns,
    command,
    new_chart,
    number,
    ratio,
    rows_of,
    save_chart,
)
from numba import njit
from plain_env import PlainEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor

import sor_sb3
from sor_sb3.market.loading import load_market
from sor_sb3.policies.registry import make
from sor_sb3.simulator.batch import BatchSimulator

TITLE = "Env steps"
MARKET, ENV_ID = "us_equity", "OrderSplit-v1"
BATCHES = (1, 8, 64, 256, 1024, 4096, 16_384)
QUICK_BATCHES = (1, 8, 1024)
PROCESSES = (2, 8)
DECISIONS = (
    ("OrderSplit-v1", "net_price_sweep"),
    ("OrderSplit-v1", ""),
    ("OrderPlace-v1", "post_and_sweep"),
    ("OrderPlace-v1", ""),
)
DECISION_ENVS = 1024
PLAIN, PLAIN_ENV = "plain env, DummyVecEnv x 8", "plain env, gym.Env.step"
ONE_LOOP, TWO_LOOPS = "a loop that only computes, one thread", "the same loop on each of two threads"
LOOP_TURNS = 20_000_000


def random_actions(space: gym.Space, *first: int) -> np.ndarray:
    """Uniform in [-1, 1], float32 (*first, *action)."""
    assert space.shape is not None
    return np.random.default_rng(0).uniform(-1.0, 1.0, (*first, *space.shape)).astype(np.float32)


def step_vec_env(venv: VecEnv) -> Callable[[], int]:
    """A horizon's worth of steps of every env, with random actions drawn beforehand."""
    horizon = load_market(MARKET).order.horizon_steps
    actions = random_actions(venv.action_space, horizon, venv.num_envs)
    venv.seed(0)
    venv.reset()
    return play(venv, actions)


def recorded_actions(venv: VecEnv, env_id: str, rule: str) -> np.ndarray:
    """What a rule does over a horizon's worth of steps of every env, float32 (steps, n, action)."""
    router, actions = make(rule, MARKET, env_id), []
    venv.seed(0)
    observations = venv.reset()
    for _ in range(load_market(MARKET).order.horizon_steps):
        action = np.array(router.predict(observations)[0])
        actions.append(action)
        observations = venv.step(action)[0]
    return np.stack(actions)


def decision_cases(n: int) -> list[Case]:
    """What a decision costs where children, waves and resting orders are those of a rule, or random, in a batch of n.

    A decision takes one env step or, where shares came back, several; `decisions` is their number an env step.
    """
    cases = []
    for env_id, rule in DECISIONS:
        venv = sor_sb3.make_vec_env(env_id, MARKET, n_envs=n, monitor=False)
        horizon = load_market(MARKET).order.horizon_steps
        actions = recorded_actions(venv, env_id, rule) if rule else random_actions(venv.action_space, horizon, n)
        venv.seed(0)
        venv.reset()
        waves = []
        for action in actions:
            waves.append(venv.core.simulator.read("wave"))
            venv.step(action)
        facts = {"n_envs": n, "threads": 1, "decisions": float(np.mean(np.array(waves) == 0))}
        cases.append(Case(f"{env_id}, {rule or 'random'}", play(venv, actions), facts=facts))
    return cases


def play(venv: VecEnv, actions: np.ndarray) -> Callable[[], int]:
    """Steps of every env with these actions (steps, n, ...); counts env steps."""

    def run() -> int:
        for action in actions:
            venv.step(action)
        return actions.shape[0] * venv.num_envs

    return run


def step_env(env: gym.Env, steps: int) -> Callable[[], int]:
    """`steps` steps of a lone env, resets included."""
    actions = random_actions(env.action_space, steps)
    env.reset(seed=0)

    def run() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps

    return run


def step_kernel(n: int) -> Callable[[], int]:
    """A horizon's worth of steps of the simulator alone: no observation, no info; ended members begin anew at once."""
    market = load_market(MARKET)
    simulator = BatchSimulator(market, n, "train")
    seeds, episodes = np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64)
    weights = np.random.default_rng(0).random((market.order.horizon_steps, n, market.n_venues))
    weights /= weights.sum(axis=2, keepdims=True)
    simulator.reset(seeds, episodes)

    def run() -> int:
        for weight in weights:
            _, _, done = simulator.step(weight)
            ended = np.flatnonzero(done)
            if len(ended):
                episodes[ended] += 1
                simulator.reset(seeds[ended], episodes[ended], ended)
        return len(weights) * n

    return run


@njit(nogil=True)
def _compute(turns: int) -> float:
    x = 0.5
    for _ in range(turns):
        x = 3.7 * x * (1.0 - x)
    return x


def compute_cases(turns: int) -> list[Case]:
    """What two threads can give at the most here: virtual cores may share one core."""
    pool = ThreadPoolExecutor(2)

    def one() -> int:
        _compute(turns)
        return turns

    def two() -> int:
        return sum(pool.map(lambda _: one(), range(2)))

    return [
        Case(ONE_LOOP, one, clock="wall", facts={"threads": 1}),
        Case(TWO_LOOPS, two, {"to_one_thread": ONE_LOOP}, "wall", facts={"threads": 2}),
    ]


def plain_cases() -> list[Case]:
    """The plain env by itself and in SB3's two VecEnvs; the package's lone env."""
    lone = gym.make(f"sor_sb3:{ENV_ID}", market=MARKET).unwrapped
    cases = [
        Case(PLAIN, step_vec_env(DummyVecEnv([lambda: PlainEnv(MARKET)] * 8)), {}, facts={"threads": 1}),
        Case(PLAIN_ENV, step_env(PlainEnv(MARKET), 20), {"to_plain": PLAIN}, facts={"threads": 1}),
        Case("ours, gym.Env.step", step_env(lone, 20), {"to_plain": PLAIN, "to_env": PLAIN_ENV}, facts={"threads": 1}),
    ]
    for n in PROCESSES:
        venv = SubprocVecEnv([lambda: PlainEnv(MARKET)] * n)
        facts = {"threads": f"{n} processes"}
        cases.append(
            Case(f"plain env, SubprocVecEnv x {n}", step_vec_env(venv), {"to_plain": PLAIN}, "wall", facts=facts)
        )
        cases[-1].facts["close"] = venv.close
    return cases


def batch_cases(n: int) -> list[Case]:
    """Ours in a batch of n: one thread and two, under VecMonitor, and the kernel alone."""

    def case(what: str, run: Callable[[], int], against: str, clock: Clock = "cpu", threads: int = 1) -> Case:
        ratio_to = {"to_plain": PLAIN} | ({"to_one_thread": against} if against else {})
        return Case(f"{what} x {n}", run, ratio_to, clock, facts={"n_envs": n, "what": what, "threads": threads})

    one, two = (sor_sb3.make_vec_env(ENV_ID, MARKET, n_envs=n, monitor=False, threads=t) for t in (1, 2))
    step_one = step_vec_env(one)
    return [
        case("ours, VecEnv", step_one, ""),
        case("ours, two threads", step_vec_env(two), f"ours, VecEnv x {n}", "wall", 2),
        case("ours, VecMonitor", step_vec_env(VecMonitor(one)), ""),
        case("kernel alone", step_kernel(n), ""),
    ]


def measure(quick: bool) -> Results:
    """Rates and ratios of all cases."""
    batches = QUICK_BATCHES if quick else BATCHES
    cases = [*plain_cases(), *compute_cases(LOOP_TURNS // (10 if quick else 1))]
    for n in batches:
        cases += batch_cases(n)
    decisions = decision_cases(DECISION_ENVS)
    cases += decisions
    closers = [case.facts.pop("close") for case in cases if "close" in case.facts]
    try:
        alternate(cases, 3 if quick else 9, 0.05 if quick else 0.25)
    finally:
        for close in closers:
            close()
    rows = rows_of(cases)
    names = {case.name for case in decisions}
    ticks = int(BatchSimulator(load_market(MARKET), 1).read("ticks_per_step")[0])
    made = [row for row in rows if row["case"] in names]
    for row in made:
        row["decisions_per_s"] = [rate * row["decisions"] for rate in row["per_s"]]
        row["ticks_per_s"] = [rate * ticks for rate in row["decisions_per_s"]]
    return {"market": MARKET, "env": ENV_ID, "rows": [row for row in rows if row not in made], "decisions": made}


def by_batch(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each batch size, from the rows of its cases."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "n_envs" in row:
            line = found.setdefault(row["n_envs"], {"n_envs": row["n_envs"]})
            line[row["what"]] = row["per_s"]
            line[f"{row['what']} to_plain"] = row["to_plain"]
            line |= {"two to one": row["to_one_thread"]} if "to_one_thread" in row else {}
    return list(found.values())


def sheets(results: Results) -> list[Sheet]:
    """One table by batch size, and one of what it is compared with."""
    columns = (
        Column("n_envs", "envs"),
        Column("ours, VecEnv", "VecEnv, steps / s"),
        Column("ours, VecEnv to_plain", "times plain DummyVecEnv x 8", ratio),
        Column("ours, VecMonitor", "under VecMonitor"),
        Column("kernel alone", "kernel alone"),
        Column("ours, two threads", "VecEnv, two threads"),
        Column("two to one", "two threads to one", ratio),
    )
    note = (
        "Steps a second, medians; ratios within rounds, lowest and highest in brackets. One thread by the CPU clock, "
        "two threads and their ratio by the wall clock. The kernel alone restarts ended members at once, as the VecEnv "
        "does, and writes no observations."
    )
    others = [row for row in results["rows"] if "n_envs" not in row]
    loop_note = (
        "The loop's unit is a turn: what two threads give a loop that shares nothing is the most that two can give."
    )
    ratios = {
        "to_plain": "times plain DummyVecEnv x 8",
        "to_env": "times plain gym.Env.step",
        "to_one_thread": "two threads to one",
    }
    decision_columns = (
        Column("case", "env and actions"),
        Column("per_s", "env steps / s"),
        Column("decisions_per_s", "decisions / s"),
        Column("ticks_per_s", "path ticks / s"),
    )
    decision_note = (
        f"{DECISION_ENVS:,} envs, one thread by the CPU clock, observations and resets included. A decision is one env "
        "step, or several waves of it; the path moves by whole ticks, once a decision. Random actions send children to "
        "every venue in every wave."
    )
    return [
        Sheet(f"Decisions, {results['market']}", decision_columns, results["decisions"], decision_note),
        Sheet(
            f"Ours, {results['env']} of {results['market']}, by batch size", columns, by_batch(results["rows"]), note
        ),
        Sheet("What it is compared with", case_columns("steps", **ratios), others, loop_note),
    ]


def draw(results: Results, folder: Path) -> list[Path]:
    """Steps a second against the batch size."""
    figure, [axes] = new_chart()
    lines = by_batch(results["rows"])
    names = {"kernel alone": "kernel alone, one thread", "ours, VecEnv": "VecEnv, one thread"}
    names |= {"ours, VecMonitor": "VecEnv under VecMonitor, one thread", "ours, two threads": "VecEnv, two threads"}
    for colour, (key, label) in zip(COLOURS, names.items(), strict=False):
        points = [(line["n_envs"], *line[key]) for line in lines]
        n, median, low, high = zip(*points, strict=True)
        axes.plot(n, median, marker="o", markersize=4, color=colour, label=label)
        axes.fill_between(n, low, high, color=colour, alpha=0.15, linewidth=0)
    for row in results["rows"]:
        if row["case"] in (PLAIN, "plain env, SubprocVecEnv x 8"):
            style = "--" if row["case"] == PLAIN else ":"
            axes.axhline(row["per_s"][0], color=PLAIN_COLOUR, linestyle=style, label=row["case"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([line["n_envs"] for line in lines], [number(line["n_envs"]) for line in lines])
    axes.minorticks_off()
    axes.set(xlabel="envs in the batch", ylabel="env steps / s")
    axes.set_title(f"{results['market']}, {results['env']}: env steps a second", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return [save_chart(figure, folder / "performance_simulator.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
