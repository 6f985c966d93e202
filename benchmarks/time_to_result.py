"""Time to 95 % of what a long run reaches: PPO on our VecEnv and on a plain env of the same market.

    python benchmarks/time_to_result.py [--arms A,B] [--seeds 1-5] [--budget-s S] [--folder DIR] [--out FILE.json]
    python benchmarks/time_to_result.py --summary [--out FILE.json]

Every policy is scored in one way: mean implementation shortfall of its mode on the same validation scenarios, every so
many steps. Evaluation is left out of the clock, which is CPU time, one thread. A score has been reached when two
evaluations in a row are there; the first of them counts. A file for each arm and seed holds the learning curve;
finished ones are kept, so that a killed command, given again, continues with the next. Run our arms first: the others
stop once they have reached what ours say there is to reach.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from measuring import (
    COLOURS,
    PLAIN_COLOUR,
    RESULTS_FOLDER,
    Column,
    Results,
    Sheet,
    SkippedError,
    load,
    machine,
    new_chart,
    number,
    one_thread,
    save_chart,
    saved,
    say_where,
    today,
)
from plain_env import PlainEnv
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env as make_dummy_vec_env
from stable_baselines3.common.vec_env import VecEnv

import sor_sb3
from sor_sb3.algorithms.hyperparameters import complete_hyperparameters, constructor_arguments, policy_of
from sor_sb3.callbacks.paired_critic import PairedCriticCallback
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.run import SEED_STRIDE_BITS, VALIDATION_SEED
from sor_sb3.files import write_json
from sor_sb3.market.loading import load_market

TITLE = "Time to 95 % of what a long run reaches"
MARKET, ENV_ID = "us_equity", "OrderSplit-v1"
SCENARIOS, SHARE, IN_A_ROW = 2000, 0.95, 2
PLAIN_ENVS = 8
Curve = dict[str, list[float]]  # "steps", "cpu_s" and "cost" of each evaluation
FOLDER = RESULTS_FOLDER / "time_to_result"
BUDGET_S = 1500.0

SHIPPED = complete_hyperparameters("ppo", ENV_ID, load_market(MARKET), {})
# SB3's MlpPolicy with a large batch: the best of 13 settings tried on ours, with training seed 901, which no arm uses
MLP_TUNED = SHIPPED | {
    "policy": "MlpPolicy",
    "n_timesteps": 1_500_000,
    "n_envs": 256,
    "envs_per_scenario": 1,
    "critic_updates": 0,
    "vf_coef": 0.5,
    "n_steps": 20,
    "batch_size": 1280,
    "n_epochs": 4,
    "learning_rate": "lin_2e-3",
    "clip_range": 0.2,
    "gae_lambda": 0.9,
    "policy_kwargs": {"net_arch": [64, 64], "activation_fn": "Tanh", "log_std_init": -1.5},
}
# SB3 2.9's defaults, but for the discount. Nothing in them depends on how long training is to last.
SB3_DEFAULTS: dict[str, Any] = {
    "n_timesteps": 1_000_000_000,
    "n_envs": PLAIN_ENVS,
    "policy": "MlpPolicy",
    "n_steps": 2048,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 3e-4,
    "gae_lambda": 0.95,
    "gamma": 1.0,
}


def on_plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings for 8 plain envs, each with its own scenarios: the same policy, batches and rollout size."""
    rollout = settings["n_envs"] * settings["n_steps"]
    if rollout % PLAIN_ENVS:
        raise ValueError(f"a rollout of {rollout} steps cannot be shared by {PLAIN_ENVS} envs")
    return settings | {"n_envs": PLAIN_ENVS, "n_steps": rollout // PLAIN_ENVS, "envs_per_scenario": 1}


@dataclass(frozen=True)
class Arm:
    """One way to train. `reduced`: the mid's pure noise is left out of the rewards, as our training envs do."""

    title: str
    env: Literal["ours", "plain"]
    settings: dict[str, Any]
    reduced: bool = True
    against: str = ""  # the arm on ours whose time this one's is divided by

    @property
    def every(self) -> int:
        """Steps between evaluations: a rollout."""
        return int(self.settings["n_envs"] * self.settings["n_steps"])


ARMS = {
    "venue_ours": Arm("as shipped, on ours", "ours", SHIPPED),
    "mlp_ours": Arm("MlpPolicy, large batches, on ours", "ours", MLP_TUNED),
    "venue_plain": Arm("the same as shipped, plain DummyVecEnv x 8", "plain", on_plain(SHIPPED), against="venue_ours"),
    "mlp_plain": Arm("the same MlpPolicy, plain DummyVecEnv x 8", "plain", on_plain(MLP_TUNED), against="mlp_ours"),
    "sb3_defaults": Arm(
        "SB3's defaults, plain DummyVecEnv x 8", "plain", SB3_DEFAULTS, reduced=False, against="mlp_ours"
    ),
}
GAPS = {  # by the arm that says how far one can get; the arms that are measured by it
    "mlp_ours": ("mlp_ours", "mlp_plain", "sb3_defaults", "venue_ours", "venue_plain"),
    "venue_ours": ("venue_ours", "venue_plain"),
}


# ------------------------------------------------------------------------------------------------------ training


def make_env(arm: Arm, seed: int) -> VecEnv:
    """The training env of an arm."""
    first = seed << SEED_STRIDE_BITS
    n_envs, envs_per_scenario = arm.settings["n_envs"], arm.settings.get("envs_per_scenario", 1)
    if arm.env == "ours":
        return sor_sb3.make_vec_env(
            ENV_ID, MARKET, n_envs, first, "train", arm.reduced, envs_per_scenario=envs_per_scenario
        )
    venv = make_dummy_vec_env(lambda: PlainEnv(MARKET, variance_reduction=arm.reduced), n_envs=n_envs, seed=first)
    return venv


def make_model(arm: Arm, seed: int) -> PPO:
    """The learner of an arm; its env's seeds are its own, training seeds share no scenarios."""
    venv = make_env(arm, seed)
    model = PPO(policy_of(arm.settings["policy"]), venv, seed=seed, device="cpu", **constructor_arguments(arm.settings))
    venv.seed(seed << SEED_STRIDE_BITS)
    return model


def score(evaluator: Evaluator, policy: Any) -> float:
    """Mean implementation shortfall on the validation scenarios."""
    return float(evaluator.score("learner", policy).cost.mean())


class LearningCurve(BaseCallback):
    """Scores the learner between rollouts, stops its clock meanwhile, and keeps the curve in a file."""

    def __init__(self, evaluator: Evaluator, run: dict[str, Any], file: Path, budget_s: float, goal: float | None):
        super().__init__()
        self.evaluator, self.run, self.file, self.budget_s, self.goal = evaluator, run, file, budget_s, goal
        self.curve: Curve = run["curve"]
        self.every, self.next, self.stop = run["every"], 0, False
        self.start_s = self.excluded_s = 0.0

    def _on_training_start(self) -> None:
        self.start_s = time.process_time()

    def _on_rollout_start(self) -> None:  # the update of the rollout before is done
        if self.num_timesteps >= self.next:
            self.evaluate()

    def _on_step(self) -> bool:
        return not self.stop

    def _on_training_end(self) -> None:
        if not self.stop:
            self.evaluate()

    def evaluate(self) -> None:
        """Add a point to the curve; see whether it is time to stop."""
        now = time.process_time()
        cpu_s = now - self.start_s - self.excluded_s
        self.curve["steps"].append(self.num_timesteps)
        self.curve["cpu_s"].append(round(cpu_s, 3))
        self.curve["cost"].append(score(self.evaluator, self.model))
        self.next = self.num_timesteps + self.every
        there = self.goal is not None and reached(self.curve["cost"], self.goal) is not None
        self.stop = cpu_s >= self.budget_s or there
        self.run["ended"] = "reached" if there else "budget" if self.stop else ""
        write_json(self.file, self.run)
        self.excluded_s += time.process_time() - now


def train(name: str, seed: int, folder: Path, budget_s: float, evaluator: Evaluator, goal: float | None) -> None:
    """One run, into its file."""
    arm, file = ARMS[name], folder / f"{name}_{seed}.json"
    curve: Curve = {"steps": [], "cpu_s": [], "cost": []}
    run = {"arm": name, "seed": seed, "settings": arm.settings, "every": arm.every, "budget_s": budget_s}
    run |= {"machine": machine(), "date": today(), "finished": False, "ended": "", "curve": curve}
    model = make_model(arm, seed)
    callbacks: list[BaseCallback] = [LearningCurve(evaluator, run, file, budget_s, goal)]
    if arm.settings.get("critic_updates"):
        callbacks.append(PairedCriticCallback(arm.settings["envs_per_scenario"], arm.settings["critic_updates"]))
    model.learn(arm.settings["n_timesteps"], callback=callbacks)
    run |= {"finished": True, "ended": run["ended"] or "all steps"}
    write_json(file, run)


def is_done(name: str, seed: int, folder: Path, budget_s: float, goal: float | None = None) -> bool:
    """Whether a run of these settings is in its file, and it ended by itself, or there, or was given no less time."""
    file = folder / f"{name}_{seed}.json"
    if not file.is_file():
        return False
    run = load(file)
    if run["settings"] != ARMS[name].settings or not run["finished"]:
        return False
    if run["ended"] == "reached":  # what there is to reach moves a little with every new run of ours
        return goal is not None and reached(run["curve"]["cost"], goal) is not None
    return run["ended"] != "budget" or run["budget_s"] >= budget_s


def references(evaluator: Evaluator) -> dict[str, float]:
    """Costs of the naive rule, the best rule and the oracle on the validation scenarios."""
    names = (evaluator.market.reference_router, "net_price_sweep", evaluator.market.oracle)
    return {name: score(evaluator, name) for name in names}


def run_arms(names: Sequence[str], seeds: Sequence[int], folder: Path, budget_s: float, console: Console) -> None:
    """Every run that is not there yet, our arms first."""
    evaluator = Evaluator(ENV_ID, MARKET, SCENARIOS, VALIDATION_SEED, "validation")
    if not (folder / "references.json").is_file():
        write_json(folder / "references.json", references(evaluator))
    for name in sorted(names, key=list(ARMS).index):
        for seed in seeds:
            goal = goal_of(name, folder)
            if is_done(name, seed, folder, budget_s, goal):
                continue
            train(name, seed, folder, budget_s, evaluator, goal)
            run = load(folder / f"{name}_{seed}.json")
            last = {key: values[-1] for key, values in run["curve"].items()}
            console.print(f"{name}, seed {seed}: {last}, ended by {run['ended']}", highlight=False)


# ------------------------------------------------------------------------------------------------------ what came out


def reached(costs: Sequence[float], goal: float) -> int | None:
    """Which evaluation is the first of `IN_A_ROW` that are at or below the goal."""
    for i in range(len(costs) - IN_A_ROW + 1):
        if all(cost <= goal for cost in costs[i : i + IN_A_ROW]):
            return i
    return None


@dataclass(frozen=True)
class Censored:
    """A time, or only the knowledge that it is longer."""

    value: float
    at_least: bool = False

    def text(self, digits: int) -> str:
        """ "12.3", or ">= 12.3"."""
        return f"{'>= ' if self.at_least else ''}{self.value:,.{digits}f}"


def median_of(times: Sequence[Censored]) -> Censored:
    """The median; a bound where it falls on a run that did not get there."""
    ordered = sorted(times, key=lambda t: math.inf if t.at_least else t.value)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    if any(t.at_least for t in middle):  # whoever did not get there took longer than all who did, and than it ran
        return Censored(statistics.median(t.value for t in times), at_least=True)
    return Censored(statistics.fmean(t.value for t in middle))


def ratio_of_medians(slow: Censored, fast: Censored) -> Censored | None:
    """How many times longer; nothing can be said where the fast one did not get there, or took no time."""
    if fast.at_least or fast.value <= 0.0:
        return None
    return Censored(slow.value / fast.value, slow.at_least)


def runs_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Finished runs by arm, by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ARMS:
        files = sorted(folder.glob(f"{name}_[0-9]*.json"), key=lambda f: int(f.stem.rpartition("_")[2]))
        runs = [run for run in map(load, files) if run["finished"] and run["arm"] == name]
        if runs:
            found[name] = runs
    return found


def gap_of(name: str, runs: dict[str, list[dict[str, Any]]], naive: float) -> dict[str, float] | None:
    """From where to where an arm's long runs got, and what counts as there; None before they are done."""
    mine = [run for run in runs.get(name, []) if run["ended"] == "all steps"]
    if not mine:
        return None
    end = statistics.fmean(run["curve"]["cost"][-1] for run in mine)
    start = naive if name == "mlp_ours" else statistics.fmean(run["curve"]["cost"][0] for run in mine)
    return {"start": start, "end": end, "goal": start - SHARE * (start - end)}


def goal_of(name: str, folder: Path) -> float | None:
    """The cost at which a run may stop; None for our arms, which run to their ends."""
    arm = ARMS[name]
    if not arm.against or not (folder / "references.json").is_file():
        return None
    naive = next(iter(load(folder / "references.json").values()))
    gap = gap_of(arm.against, runs_of(folder), naive)
    return None if gap is None else gap["goal"]


def time_to(curve: Curve, goal: float, key: str) -> Censored:
    """CPU seconds, or steps, until a learner got there; 0 where it was there before it learned."""
    at = reached(curve["cost"], goal)
    if at is None:
        return Censored(curve[key][-1], at_least=True)
    return Censored(curve[key][at] if at else 0.0)


def times_of(runs: Sequence[dict[str, Any]], goal: float, key: str) -> list[Censored]:
    """`time_to` of each run."""
    return [time_to(run["curve"], goal, key) for run in runs]


def line_of(name: str, runs: Sequence[dict[str, Any]], goal: float) -> dict[str, Any]:
    """What the table says of one arm."""
    cpu_s, steps = times_of(runs, goal, "cpu_s"), times_of(runs, goal, "steps")
    curves = [run["curve"] for run in runs]
    per_s = [curve["steps"][-1] / max(curve["cpu_s"][-1], 1e-9) for curve in curves]
    return {
        "case": ARMS[name].title,
        "arm": name,
        "seeds": len(runs),
        "there": sum(not t.at_least for t in cpu_s),
        "cpu_s": median_of(cpu_s).text(1),
        "each_cpu_s": ", ".join(t.text(1) for t in cpu_s),
        "steps": median_of(steps).text(0),
        "per_s": statistics.median(per_s),
        "last": statistics.fmean(curve["cost"][-1] for curve in curves),
    }


def summarise(folder: Path) -> Results:
    """Gaps, times and ratios, from the files."""
    runs = runs_of(folder)
    if not runs or not (folder / "references.json").is_file():
        raise SkippedError(f"no runs in {folder}; `make bench-learning` makes them")
    costs = load(folder / "references.json")
    naive = next(iter(costs.values()))
    results: Results = {"market": MARKET, "env": ENV_ID, "scenarios": SCENARIOS, "references": costs, "gaps": {}}
    every_run = [run for mine in runs.values() for run in mine]
    results |= {"machine": every_run[0]["machine"], "date": max(run["date"] for run in every_run)}
    results["cpus"] = sorted({run["machine"]["cpu"] for run in every_run})
    for by, members in GAPS.items():
        gap = gap_of(by, runs, naive)
        if gap is None:
            continue
        lines = []
        for name in members:
            if name in runs:
                lines.append(line_of(name, runs[name], gap["goal"]))
                slow, fast = (median_of(times_of(runs[each], gap["goal"], "cpu_s")) for each in (name, by))
                ratio = ratio_of_medians(slow, fast) if name != by and ARMS[name].against == by else None
                if ratio is not None:
                    lines[-1] |= {"ratio": ratio.text(1), "ratio_value": ratio.value}
        results["gaps"][by] = gap | {"lines": lines}
    results["curves"] = {name: [{"seed": run["seed"], **run["curve"]} for run in mine] for name, mine in runs.items()}
    return results


def sheets(results: Results) -> list[Sheet]:
    """A table for each gap."""
    columns = (
        Column("case", "PPO"),
        Column("there", "seeds that got there", lambda value: str(value)),
        Column("seeds", "of"),
        Column("cpu_s", "CPU s to 95 %, median"),
        Column("each_cpu_s", "each seed"),
        Column("steps", "steps to 95 %, median"),
        Column("ratio", "times ours"),
        Column("per_s", "training steps / CPU s"),
        Column("last", "cost at the end, bps", lambda value: number(value, 4)),
    )
    naive, best, oracle = results["references"].items()
    starts = {"mlp_ours": f"the naive rule, `{naive[0]}`", "venue_ours": "the untrained VenuePolicy, mean of seeds"}
    found = []
    for by, gap in results["gaps"].items():
        note = (
            f"From {gap['start']:.4f} bps ({starts[by]}) to {gap['end']:.4f} bps (mean of the last scores of "
            f"'{ARMS[by].title}'); 95 % of it is {gap['goal']:.4f} bps. {results['scenarios']:,} validation scenarios; "
            f"on them `{best[0]}` costs {best[1]:.4f} and `{oracle[0]}` {oracle[1]:.4f}. Evaluation is not in the "
            "clock; one thread. A run that did not get there counts as longer than it ran. Discount 1 everywhere."
        )
        if len(results["cpus"]) > 1:
            note += f" The runs were made on several machines: {', '.join(results['cpus'])}."
        what = "VenuePolicy" if by == "venue_ours" else "MlpPolicy"
        found.append(Sheet(f"To 95 % of what a long run of {what} reaches", columns, gap["lines"], note))
    return found


def draw(results: Results, folder: Path) -> list[Path]:
    """Cost against CPU seconds, a panel for each gap."""
    gaps, others = results["gaps"], [name for name in ARMS if name != "sb3_defaults"]
    colours = {**dict(zip(others, COLOURS, strict=False)), "sb3_defaults": PLAIN_COLOUR}
    figure, axes = new_chart(width=10.0, height=4.6, columns=max(len(gaps), 1))
    for axis, gap in zip(axes, gaps.values(), strict=False):
        for line in gap["lines"]:
            colour = colours[line["arm"]]
            for i, curve in enumerate(results["curves"][line["arm"]]):
                label = line["case"] if i == 0 else None
                seconds = np.maximum(curve["cpu_s"], 0.05)  # the axis is logarithmic
                axis.plot(seconds, curve["cost"], color=colour, alpha=0.8, linewidth=1.0, label=label)
        axis.axhline(gap["goal"], color="black", linestyle="--", linewidth=1, label="95 % of the gap")
        height = (gap["start"] - gap["end"]) or 1.0
        axis.set_ylim(gap["end"] - 0.1 * height, gap["start"] + 0.1 * height)
        axis.set_xscale("log")
        axis.set(xlabel="CPU seconds of training, one thread", ylabel="validation cost (bps)")
        axis.set_title(f"from {gap['start']:.3f} to {gap['end']:.3f} bps", fontsize=10)
        axis.legend(fontsize=7, frameon=False)
    figure.suptitle(f"PPO on {results['market']}, {results['env']}: each line is a training seed", fontsize=10)
    return [save_chart(figure, folder / "performance_time_to_result.svg")]


# ------------------------------------------------------------------------------------------------------ command


def measure(quick: bool) -> Results:
    """What is in the folder; training has its own command, since it takes long."""
    return summarise(FOLDER)


def seeds_of(text: str) -> list[int]:
    """ "1-5" or "1,3"."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]


def main() -> None:
    """Train what is missing; print, and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", default=",".join(ARMS), help=", ".join(ARMS))
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("1-5"), help="such as 1-5 or 1,3")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help="CPU seconds of training a run may take")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the runs' files go")
    parser.add_argument("--summary", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    names = options.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        parser.error(f"unknown arm {unknown[0]}; expected some of {', '.join(ARMS)}")
    console = Console(width=None if sys.stdout.isatty() else 150)
    one_thread()
    say_where(console, machine())
    if not options.summary:
        run_arms(names, options.seeds, options.folder, options.budget_s, console)
    try:
        results = summarise(options.folder)
    except SkippedError as reason:
        console.print(f"{TITLE}: left out, {reason}")
        return
    for sheet in sheets(results):
        sheet.print(console)
    if options.out is not None:
        made_by = results["machine"], results["date"]  # of the runs, which may be older than this summary
        write_json(options.out, saved(sys.modules[__name__], results, False, *made_by))
        console.print(f"saved {options.out}")


if __name__ == "__main__":
    main()
