"""Training steps a second, rollouts and updates: PPO, A2C and REINFORCE on our VecEnv and on a plain env.

    python benchmarks/bench_training.py [--quick] [--out FILE.json]

CPU time of the process, one thread, compilation left out by a warm-up. A ratio is to SB3's defaults (for REINFORCE, its
constructor's) on the plain env in a DummyVecEnv x 8, and to the same policy and settings there, rollout size included.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")  # of JAX

from measuring import (
    Case,
    Column,
    Results,
    Sheet,
    alternate,
    bars,
    case_columns,
    command,
    new_chart,
    rows_of,
    save_chart,
)
from plain_env import PlainEnv
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env as make_dummy_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

import sor_sb3
from sor_sb3.algorithms.hyperparameters import complete_hyperparameters, constructor_arguments, policy_of
from sor_sb3.callbacks.paired_critic import PairedCriticCallback
from sor_sb3.market.loading import load_market

TITLE = "Training steps"
MARKET, ENV_ID = "us_equity", "OrderSplit-v1"
PLAIN_ENVS, BATCH_ENVS = 8, 1024
ALGORITHMS: dict[str, Any] = {"PPO": PPO, "A2C": A2C, "REINFORCE": sor_sb3.REINFORCE}
STEPS = {"PPO": 16, "A2C": 16, "REINFORCE": 20}  # of each of 1,024 envs a rollout; REINFORCE has whole episodes
LARGE = {"PPO": {"batch_size": 4096, "n_epochs": 10}}
QUICK_SHARE = 8  # a quick look shortens the plain env's rollouts so many times: a step costs nearly the same


def plain_env() -> VecEnv:
    """The plain env in SB3's DummyVecEnv."""
    return make_dummy_vec_env(lambda: PlainEnv(MARKET), n_envs=PLAIN_ENVS, seed=0)


def our_env(n_envs: int, envs_per_scenario: int = 1) -> VecEnv:
    """Ours, as it trains: under VecMonitor."""
    return sor_sb3.make_vec_env(
        ENV_ID, MARKET, n_envs, seed=0, variance_reduction=True, envs_per_scenario=envs_per_scenario
    )


class Watched(VecEnvWrapper):
    """Counts the CPU time that the env takes."""

    spent_s = 0.0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        before = time.process_time()
        stepped = self.venv.step_wait()
        self.spent_s += time.process_time() - before
        return stepped


def learn(model: Any, watched: Watched, facts: dict[str, Any], callback: Any = None) -> Callable[[], int]:
    """A rollout and its update; `facts` learn what share of the CPU time the env took."""

    def run() -> int:
        before, begun, watched.spent_s = model.num_timesteps, time.process_time(), 0.0
        model.learn(model.n_steps * model.n_envs, callback, reset_num_timesteps=False)
        facts["env_percent"] = 100.0 * watched.spent_s / (time.process_time() - begun)
        return int(model.num_timesteps - before)

    return run


def shipped(name: str) -> dict[str, Any]:
    """Our default settings, rollouts in steps."""
    return complete_hyperparameters(name.lower(), ENV_ID, load_market(MARKET), {})


def case(
    title: str,
    algorithm: Any,
    policy: Any,
    venv: VecEnv,
    against: dict[str, str],
    warm_up: bool = True,
    callback: Any = None,
    **settings: Any,
) -> Case:
    """A case that learns."""
    watched = Watched(venv)
    model = algorithm(policy, watched, seed=0, **settings)
    facts = {"threads": 1, "group": title.partition(",")[0], "rollout": model.n_steps * model.n_envs}
    facts["batch"] = getattr(model, "batch_size", facts["rollout"])
    timed = Case(title, lambda: 0, against, warm_up=warm_up, facts=facts)
    timed.run = learn(model, watched, timed.facts, callback)
    return timed


def plain_case(title: str, algorithm: Any, policy: Any, quick: bool, warm_up: bool = False, **settings: Any) -> Case:
    """A case on the plain env; a quick look shortens its rollouts. There is nothing that a warm-up would compile."""
    if quick and settings.get("n_steps", 0) >= 40 * QUICK_SHARE:
        settings["n_steps"] //= QUICK_SHARE
        if "batch_size" in settings:
            settings["batch_size"] = min(settings["batch_size"], settings["n_steps"] * PLAIN_ENVS)
    group = title.partition(",")[0]
    against = {} if ", defaults," in title else {"to_defaults": f"{group}, defaults, plain x {PLAIN_ENVS}"}
    return case(title, algorithm, policy, plain_env(), against, warm_up, **settings)


def algorithm_cases(name: str, quick: bool) -> list[Case]:
    """One algorithm: defaults, the same rollout, and our shipped settings, on the plain env and on ours."""
    algorithm, n_steps, large = ALGORITHMS[name], STEPS[name], LARGE.get(name, {})
    settings = shipped(name)
    n_envs, policy, arguments = settings["n_envs"], policy_of(settings["policy"]), constructor_arguments(settings)
    defaults = f"{name}, defaults, plain x {PLAIN_ENVS}"
    same = f"{name}, MlpPolicy, plain x {PLAIN_ENVS}, our rollout" + (" and batch" if large else "")
    ours = f"{name}, MlpPolicy, ours x {BATCH_ENVS}, {n_steps} steps"
    venue = f"{name}, VenuePolicy, ours x {BATCH_ENVS}, {n_steps} steps"
    same_shipped = f"{name}, as shipped, plain x {PLAIN_ENVS}, its rollout"
    ours_shipped = f"{name}, as shipped, ours x {n_envs}, {settings['n_steps']} steps"
    to = {"to_defaults": defaults}
    cpu: dict[str, Any] = {"device": "cpu"}
    big: dict[str, Any] = {**large, **cpu}
    like_big = {**big, "n_steps": n_steps * BATCH_ENVS // PLAIN_ENVS}
    like_shipped = {**arguments, **cpu, "n_steps": n_envs * settings["n_steps"] // PLAIN_ENVS}
    if settings.get("baseline") == "scenario":  # no two plain envs play one scenario
        like_shipped["baseline"] = "mean"
        arguments["rollout_buffer_kwargs"] = {"envs_per_scenario": settings["envs_per_scenario"]}
    critic = [PairedCriticCallback(n, settings.get("critic_updates", 0)) for n in (1, settings["envs_per_scenario"])]
    alone, paired = critic if settings.get("critic_updates") else (None, None)
    default_steps: dict[str, Any] = (
        {"n_steps": 2048} if name == "PPO" else {}
    )  # its default, to be shortened in a quick look
    many, few = our_env(BATCH_ENVS), our_env(n_envs, settings.get("envs_per_scenario", 1))
    return [
        plain_case(defaults, algorithm, "MlpPolicy", quick, **default_steps, **cpu),
        plain_case(same, algorithm, "MlpPolicy", quick, **like_big),
        case(ours, algorithm, "MlpPolicy", many, {**to, "to_same": same}, n_steps=n_steps, **big),
        case(venue, algorithm, policy_of("VenuePolicy"), many, to, n_steps=n_steps, **big),
        plain_case(same_shipped, algorithm, policy, quick, callback=alone, **like_shipped),
        case(
            ours_shipped, algorithm, policy, few, {**to, "to_same": same_shipped}, callback=paired, **arguments, **cpu
        ),
    ]


def sbx_cases(quick: bool) -> tuple[list[Case], str]:
    """SBX's PPO at the same rollout and epochs, and what is to be said of it."""
    try:
        import sbx
    except ImportError:
        return [], "SBX's PPO (JAX) is left out: `import sbx` does not work here (`pip install sbx-rl`)."
    defaults = f"PPO, defaults, plain x {PLAIN_ENVS}"
    small = f"PPO, SBX's MlpPolicy, plain x {PLAIN_ENVS}, batch 64"
    same = f"PPO, SBX's MlpPolicy, plain x {PLAIN_ENVS}, our rollout and batch"
    ours = f"PPO, SBX's MlpPolicy, ours x {BATCH_ENVS}, {STEPS['PPO']} steps"
    large: dict[str, Any] = LARGE["PPO"]
    against = {"to_defaults": defaults, "to_same": same}
    return [
        plain_case(small, sbx.PPO, "MlpPolicy", quick, True, n_steps=2048, batch_size=64, n_epochs=10),
        plain_case(same, sbx.PPO, "MlpPolicy", quick, True, n_steps=2048, **large),
        case(ours, sbx.PPO, "MlpPolicy", our_env(BATCH_ENVS), against, n_steps=STEPS["PPO"], **large),
    ], "SBX is JAX; its compilation is left out by the warm-up, and XLA is asked for one thread."


def measure(quick: bool) -> Results:
    """Rates and ratios of all cases."""
    cases = [each for name in ALGORITHMS for each in algorithm_cases(name, quick)]
    sbx, said = sbx_cases(quick)
    cases += sbx
    alternate(cases, 2 if quick else 5, 0.0 if quick else 0.5)
    return {"market": MARKET, "env": ENV_ID, "said": said, "rows": rows_of(cases)}


def sheets(results: Results) -> list[Sheet]:
    """One table an algorithm."""
    ratios = {"to_defaults": "times defaults on plain x 8", "to_same": "times the same settings on plain x 8"}
    what, *rest = case_columns("training steps", **ratios)
    columns = (
        what,
        Column("rollout", "steps a rollout"),
        Column("batch", "batch"),
        *rest,
        Column("env_percent", "env, % of the time"),
    )
    notes = {
        "PPO": "SB3's defaults: 2,048 steps of 8 envs, batch 64, 10 epochs. Rollouts of 16,384 steps and 10 epochs, "
        "batch 4,096, but for the shipped settings, which are a PPO of fewer epochs. " + results["said"],
        "A2C": "SB3's defaults: 5 steps of 8 envs. The same rollout is 16,384 steps.",
        "REINFORCE": "Its constructor's defaults: 100 steps of 8 envs. The same rollout is 20,480 steps, in episodes.",
    }
    title = f"on {results['market']}, {results['env']}, rollouts and updates"
    groups = dict.fromkeys(row["group"] for row in results["rows"])
    return [
        Sheet(f"{name} {title}", columns, [row for row in results["rows"] if row["group"] == name], notes.get(name, ""))
        for name in groups
    ]


def draw(results: Results, folder: Path) -> list[Path]:
    """A bar for each case, an algorithm a panel."""
    groups = list(dict.fromkeys(row["group"] for row in results["rows"]))
    figure, axes = new_chart(width=9.0, height=2.6 * len(groups), rows=len(groups))
    for axis, name in zip(axes, groups, strict=True):
        rows = [row | {"case": row["case"].partition(", ")[2]} for row in results["rows"] if row["group"] == name]
        bars(axis, rows, lambda row: row["per_s"], ("defaults", *(r["case"] for r in rows if "plain x" in r["case"])))
        axis.set_title(name, fontsize=10, loc="left")
    axes[-1].set_xlabel("training steps / CPU s, one thread")
    return [save_chart(figure, folder / "performance_training.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
