"""The training loop of the notebook that the project comes from against our REINFORCE on the same market.

    python benchmarks/bench_notebook.py [--quick] [--out FILE.json]

Steps a second, and CPU seconds to 90 % of the way from random to the optimum, by the mode of the policy on fixed
states. Evaluation is left out of the clock; two evaluations in a row must be there, and the first of them counts. One
thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    COLOURS,
    PLAIN_COLOUR,
    Case,
    Column,
    Results,
    Sheet,
    alternate,
    case_columns,
    command,
    new_chart,
    number,
    rows_of,
    save_chart,
)
from notebook_loop import GAMMA, FixedStates, NotebookLearner
from time_to_result import Curve, median_of, ratio_of_medians, reached, time_to
from torch import nn

import sor_sb3
from sor_sb3 import REINFORCE
from sor_sb3.algorithms.hyperparameters import constructor_arguments, default_hyperparameters, policy_of
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.run import SEED_STRIDE_BITS, VALIDATION_SEED
from sor_sb3.market.loading import load_market

TITLE = "The notebook's loop"
MARKET, ENV_ID = "notebook", "VenueSelect-v1"
RANDOM, OPTIMUM, SHARE = 2.2371, 1.7013, 0.90
GOAL = RANDOM - SHARE * (RANDOM - OPTIMUM)
SEEDS, BUDGET_S, QUICK_BUDGET_S = 5, 20.0, 5.0
EPISODES_SCORED, EPISODES_A_LOOK = 400, 10
THEIRS, MENDED = "the notebook's loop", "the notebook's loop, discount 0"
SHIPPED, PLAIN_NETWORK = "ours, REINFORCE as shipped", "ours, MlpPolicy [32] ReLU"
OURS = (SHIPPED, PLAIN_NETWORK)


def our_model(seed: int, shipped: bool) -> REINFORCE:
    """Our REINFORCE: as shipped, or with the notebook's network, which begins with no notion of prices."""
    settings = default_hyperparameters("reinforce", ENV_ID, MARKET)
    settings["n_steps"] = load_market(MARKET).order.horizon_steps
    policy: Any = policy_of(settings["policy"])
    if not shipped:
        policy, settings["policy_kwargs"] = "MlpPolicy", {"net_arch": [32], "activation_fn": nn.ReLU}
    n_envs, envs_per_scenario = settings["n_envs"], settings.get("envs_per_scenario", 1)
    venv = sor_sb3.make_vec_env(ENV_ID, MARKET, n_envs, variance_reduction=True, envs_per_scenario=envs_per_scenario)
    arguments = constructor_arguments(settings) | {"rollout_buffer_kwargs": {"envs_per_scenario": envs_per_scenario}}
    model = REINFORCE(policy, venv, seed=seed, device="cpu", **arguments)
    venv.seed(seed << SEED_STRIDE_BITS)
    return model


def learn_once(model: REINFORCE) -> Callable[[], int]:
    """A rollout and its update."""

    def run() -> int:
        before = model.num_timesteps
        model.learn(model.n_steps * model.n_envs, reset_num_timesteps=False)
        return int(model.num_timesteps - before)

    return run


def rates(quick: bool) -> list[dict[str, Any]]:
    """Training steps a second, in turn."""
    cases = [Case(THEIRS, NotebookLearner(0).episode)]
    cases += [Case(name, learn_once(our_model(0, name == SHIPPED)), {"to_theirs": THEIRS}) for name in OURS]
    for case in cases:
        case.facts["threads"] = 1
    alternate(cases, 3 if quick else 9, 0.1 if quick else 0.5)
    return rows_of(cases)


class Watch:
    """A clock that stands still while the learner is scored, and its learning curve."""

    def __init__(self, score: Callable[[], float], budget_s: float) -> None:
        self.score, self.budget_s = score, budget_s
        self.curve: Curve = {"steps": [], "cpu_s": [], "cost": []}
        self.start_s, self.excluded_s = time.process_time(), 0.0

    def look(self, steps: int) -> bool:
        """Add a point; whether to go on."""
        now = time.process_time()
        cpu_s = now - self.start_s - self.excluded_s
        self.curve["steps"].append(steps)
        self.curve["cpu_s"].append(round(cpu_s, 4))
        self.curve["cost"].append(self.score())
        self.excluded_s += time.process_time() - now
        return cpu_s < self.budget_s and reached(self.curve["cost"], GOAL) is None


def their_curve(seed: int, gamma: float, states: FixedStates, budget_s: float) -> Curve:
    """The notebook's loop, until it is there or its time is over."""
    learner = NotebookLearner(seed, gamma)
    watch = Watch(lambda: states.mode_cost(learner.policy), budget_s)
    while watch.look(learner.steps):
        for _ in range(EPISODES_A_LOOK):
            learner.episode()
    return watch.curve


def our_curve(seed: int, shipped: bool, evaluator: Evaluator, budget_s: float) -> Curve:
    """Ours, likewise; its learning rate falls as it would in a run of the default length."""
    from stable_baselines3.common.callbacks import BaseCallback

    model = our_model(seed, shipped)

    class Look(BaseCallback):
        def _on_training_start(self) -> None:
            self.watch = Watch(lambda: float(evaluator.score("learner", model).cost.mean()), budget_s)
            self.go_on = True

        def _on_rollout_start(self) -> None:
            self.go_on = self.watch.look(self.num_timesteps)

        def _on_step(self) -> bool:
            return self.go_on

    look = Look()
    model.learn(default_hyperparameters("reinforce", ENV_ID, MARKET)["n_timesteps"], callback=look)
    return look.watch.curve


def checks(states: FixedStates, evaluator: Evaluator) -> dict[str, float]:
    """Both sides score random and the cheapest venue alike."""
    ours = {name: evaluator.score(name, name).cost for name in ("random", "snapshot_oracle")}
    return {
        "theirs_random": states.random_cost(),
        "ours_random": float(ours["random"].mean()),
        "theirs_cheapest": states.cheapest_cost(),
        "ours_cheapest": float(ours["snapshot_oracle"].mean()),
        "standard_error": states.standard_error(),
        "ours_standard_error": float(ours["random"].std() / np.sqrt(ours["random"].size)),
    }


def line_of(name: str, curves: dict[str, list[Curve]]) -> dict[str, Any]:
    """What the table of times says of one side."""
    found = curves[name]
    seconds, steps = ([time_to(curve, GOAL, key) for curve in found] for key in ("cpu_s", "steps"))
    median = median_of(seconds)
    line = {"case": name, "seeds": len(found), "there": sum(not t.at_least for t in seconds), "cpu_s": median.text(2)}
    line |= {"steps": median_of(steps).text(0), "each_cpu_s": ", ".join(t.text(2) for t in seconds)}
    line["first"] = float(np.mean([curve["cost"][0] for curve in found]))
    for column, other in (("ratio", THEIRS), ("ratio_mended", MENDED)) if name in OURS else ():
        times = ratio_of_medians(median_of([time_to(curve, GOAL, "cpu_s") for curve in curves[other]]), median)
        line[column] = times.text(1) if times else None if median.at_least else "at once"
    return line


def measure(quick: bool) -> Results:
    """Rates, curves and times."""
    seeds, budget_s = (1, QUICK_BUDGET_S) if quick else (SEEDS, BUDGET_S)
    states = FixedStates(EPISODES_SCORED)
    evaluator = Evaluator(ENV_ID, MARKET, EPISODES_SCORED, VALIDATION_SEED, "validation")
    rows, numbers = rates(quick), range(1, seeds + 1)
    curves = {
        THEIRS: [their_curve(seed, GAMMA, states, budget_s) for seed in numbers],
        MENDED: [their_curve(seed, 0.0, states, budget_s) for seed in numbers],
        **{name: [our_curve(s, name == SHIPPED, evaluator, budget_s) for s in numbers] for name in OURS},
    }
    lines = [line_of(name, curves) for name in curves]
    return {"rows": rows, "lines": lines, "checks": checks(states, evaluator), "curves": curves, "budget_s": budget_s}


def sheets(results: Results) -> list[Sheet]:
    """Rates, and times to 90 %."""
    checked = results["checks"]
    columns = (
        Column("case", "case"),
        Column("there", "seeds that got there", lambda value: str(value)),
        Column("seeds", "of"),
        Column("cpu_s", "CPU s to 90 %, median"),
        Column("each_cpu_s", "each seed"),
        Column("steps", "steps to 90 %, median"),
        Column("ratio", "times faster than the notebook's loop"),
        Column("ratio_mended", "than it with discount 0"),
        Column("first", "cost before training", lambda value: number(value, 4)),
    )
    note = (
        f"From {RANDOM} (random) to {OPTIMUM} (optimum); 90 % of it is {GOAL:.4f}. Scores are the mode's on "
        f"{EPISODES_SCORED} episodes, each side's own. There, random costs {checked['theirs_random']:.4f} in the "
        f"notebook's env (± {checked['standard_error']:.4f}) and {checked['ours_random']:.4f} in ours "
        f"(± {checked['ours_standard_error']:.4f}), the cheapest venue {checked['theirs_cheapest']:.4f} and "
        f"{checked['ours_cheapest']:.4f}. VenuePolicy begins from the displayed prices, so it is there before it "
        f"learns; the MlpPolicy begins with no notion of them. The notebook's loop "
        "standardises the returns of an episode over its steps, where they mostly say how much time is left; with "
        f"discount 0 they say what a step cost. At most {results['budget_s']:.0f} CPU s a run."
    )
    return [
        Sheet(
            f"Training steps on {MARKET}, {ENV_ID}",
            case_columns("training steps", to_theirs="times the notebook's loop"),
            results["rows"],
        ),
        Sheet("To 90 % of the gap from random to the optimum", columns, results["lines"], note),
    ]


def draw(results: Results, folder: Path) -> list[Path]:
    """Cost against CPU seconds."""
    figure, [axes] = new_chart()
    for colour, (name, curves) in zip((PLAIN_COLOUR, *COLOURS), results["curves"].items(), strict=False):
        for i, curve in enumerate(curves):
            seconds = np.maximum(curve["cpu_s"], 0.005)  # the axis is logarithmic
            label = name if i == 0 else None
            axes.plot(seconds, curve["cost"], color=colour, marker=".", markersize=3, linewidth=1.0, label=label)
    axes.axhline(GOAL, color="black", linestyle="--", linewidth=1, label="90 % of the gap")
    axes.set_xscale("log")
    axes.set(xlabel="CPU seconds of training, one thread", ylabel="cost of an episode", ylim=(OPTIMUM - 0.02, 2.6))
    axes.set_title(f"{MARKET}, {ENV_ID}: the mode's cost while it learns", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return [save_chart(figure, folder / "performance_notebook.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
