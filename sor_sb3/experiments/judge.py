"""Train on a calibrated market and on the recording itself, and judge both on the recording's test windows, paired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scipy import special

from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.statistics import Estimate, verdict
from sor_sb3.experiments.comparison import Comparison, compare
from sor_sb3.experiments.config import CompareConfig
from sor_sb3.experiments.run import load_policy
from sor_sb3.experiments.score import score_rules_on_validation
from sor_sb3.files import write_json
from sor_sb3.market.spec import ReplayMarket

JUDGE_FILE = "judge.json"
POWER = 0.8
TRAINED_ON = ("calibrated", "recording")


def smallest_difference(found: Estimate, power: float = POWER) -> float:
    """The smallest true difference that these scenarios and seeds would show with this chance, at 5 % two-sided.

    ``(t_.975 + t_power) times the standard error`` of the paired difference (Cohen 1988, "Statistical Power Analysis").

    >>> round(smallest_difference(Estimate(0.1, -0.9, 1.1, 0.5, 1e6, 0.8)), 2)
    1.4
    """
    if not found.degrees_of_freedom > 0.0:
        return float("inf")
    quantiles = special.stdtrit(found.degrees_of_freedom, [0.975, power])
    return float(quantiles.sum() * found.standard_error)


def judged(found: Estimate, could_be_won: float, margin: float) -> str:
    """A verdict, or "cannot tell" where the smallest difference that would show exceeds all that could be won.

    Args:
        found: the paired difference; negative is cheaper.
        could_be_won: cost of the best rule less the oracle's.
        margin: the largest difference that does not matter.
    """
    word = verdict(found, margin)
    silent = word == "no significant difference" and smallest_difference(found) > could_be_won
    return "cannot tell" if silent else word


def in_order(recording: Any, venues: tuple[str, ...]) -> ReplayMarket:
    """The recording with these venues, in this order; a UserError where it is none, or has others."""
    if not isinstance(recording, ReplayMarket):
        raise UserError(f"--judge {recording.name} is a {recording.model} market; expected recorded quotes")
    if set(venues) != set(recording.venue_names):
        ours, theirs = ", ".join(venues), ", ".join(recording.venue_names)
        raise UserError(f"the market has the venues {ours} and --judge has {theirs}; name the market's with --venues")
    by_name = {venue.name: venue for venue in recording.venues}
    return recording.model_copy(update={"venues": tuple(by_name[name] for name in venues)})


def judge(
    config: CompareConfig,
    on_recording: CompareConfig,
    folder: Path,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Two comparisons, in ``FOLDER/calibrated`` and ``FOLDER/recording``, and both on the recording's test windows.

    Args:
        config: of the market that was calibrated; `on_recording` the same learners on the recording.

    Returns:
        the content of ``FOLDER/judge.json``.

    Raises:
        UserError: the venues of the two markets differ.
    """
    recording = in_order(on_recording.market, config.market.venue_names)
    on_recording = on_recording.model_copy(update={"market": recording})
    for name, of in zip(TRAINED_ON, (config, on_recording), strict=True):
        compare(of, folder / name, workers, progress, ())
    evaluator = Evaluator(config.env, recording, config.scenarios, config.test_seed, "test")
    policies: dict[str, Any] = {}
    for name, of in zip(TRAINED_ON, (config, on_recording), strict=True):
        for run, where in Comparison(of, folder / name).runs:
            model = load_policy(run, where, market=recording)
            policies.setdefault(f"{run.algo} ({name})", []).append(model)
    best = score_rules_on_validation(config.env, recording, on_recording.routers).names("rule")[0]
    evaluation = evaluator.evaluate(policies | evaluator.policies(on_recording.routers))
    data = _results(evaluation, [learner.algo for learner in config.learners], best)
    write_json(folder / JUDGE_FILE, data)
    return data


def _results(evaluation: Evaluation, algos: list[str], best: str) -> dict[str, Any]:
    won = evaluation.difference(best, evaluation.oracle)
    rows = []
    for algo in algos:
        names = [f"{algo} ({where})" for where in TRAINED_ON]
        for name, against in ((names[0], best), (names[1], best), (names[0], names[1])):
            found = evaluation.difference(name, against)
            rows.append(
                {
                    "policy": name,
                    "against": against,
                    "difference": found.mean,
                    "ci95": found.ci95 if found.degrees_of_freedom > 0.0 else None,
                    "smallest_difference": smallest_difference(found) if found.degrees_of_freedom > 0.0 else None,
                    "verdict": judged(found, won.mean, evaluation.margin(best)),
                }
            )
    return {
        "market": evaluation.market.name,
        "env": evaluation.env_id,
        "scenarios": evaluation.n_scenarios,
        "blocks": None if evaluation.blocks is None else len(set(evaluation.blocks.tolist())),
        "cost_unit": evaluation.market.cost_unit,
        "best_rule": best,
        "could_be_won": won.mean,
        "power": POWER,
        "costs": {name: evaluation.cost(name).mean for name in evaluation.names()},
        "rows": rows,
    }


def judge_lines(data: dict[str, Any]) -> list[str]:
    """What a person reads."""
    unit = data["cost_unit"]
    head = f"{data['scenarios']:,} recorded test windows of {data['market']} in {data['blocks']} blocks"
    lines = [f"{head}; the best rule is {data['best_rule']}, {data['could_be_won']:.3f} {unit} above the oracle"]
    for row in data["rows"]:
        low, high = row["ci95"] or (float("-inf"), float("inf"))
        least = "no difference" if row["smallest_difference"] is None else f"{row['smallest_difference']:.3f} {unit}"
        shown = f"{row['difference']:+.3f} {unit} [{low:.3f}, {high:.3f}]"
        power = f"these windows would show {least} or more"
        lines.append(f"{row['policy']} less {row['against']}: {shown}; {power}: {row['verdict']}")
    return lines
