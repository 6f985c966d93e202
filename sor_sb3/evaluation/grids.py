"""A grid's results, from those of its comparisons: a cell a market and env, and what can be counted over cells.

Nothing is scored here, and no number is made that a comparison's ``results.json`` does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sor_sb3.evaluation.formats import significant
from sor_sb3.evaluation.rivals import RIVALS
from sor_sb3.evaluation.verdicts import EQUIVALENT, NO_DIFFERENCE

_OF_CELL = "market env data_split scenarios cost_unit best_rule reference_rule oracle gap_end could_be_won headline"
_OF_POLICY = "training_seeds cost cost_ci95 sd sd_ci95 cvar95 cvar95_ci95 gap_closed gap_closed_ci95"


def grid_cell(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a grid keeps of a comparison: the content of its ``results.json``.

    That was scored with the extra "rivals", or of rules alone with "rules".
    """
    common = {**{key: results[key] for key in _OF_CELL.split()}, "digest": results["config"]["digest"]}
    if "rules" in results:
        return {**common, "policies": {}, "rules": results["rules"]}
    rivals = results["rivals"]
    found = rivals["policies"]
    of = {policy["name"]: policy for policy in results["policies"]}
    steps = {learner["algo"]: learner["timesteps"] for learner in results["config"]["learners"]}
    return {
        **common,
        "margin": rivals["margin"],
        "rivals": rivals["rivals"],
        "policies": {
            name: {"timesteps": steps[name], **{key: of[name][key] for key in _OF_POLICY.split()}, **found[name]}
            for name in steps
        },
    }


def grid_results(
    cells: Sequence[Mapping[str, Any]], skipped: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Content of a grid's ``results.json``: `cells` of `grid_cell`, and by algorithm what they add up to.

    `skipped` says of each market, env and algorithm (None: of all) why it was left out, `failed` what went wrong.
    """
    algos = dict.fromkeys(name for cell in cells for name in cell["policies"])
    return {
        "kind": "grid",
        "cells": list(cells),
        "skipped": list(skipped),
        "failed": list(failed),
        "algorithms": {algo: _counted([cell for cell in cells if algo in cell["policies"]], algo) for algo in algos},
    }


def _counted(cells: Sequence[Mapping[str, Any]], algo: str) -> dict[str, Any]:
    """How an algorithm fares over cells: counts, and names of the cells where it does badly."""
    against = {cell_name(cell): cell["policies"][algo]["against"]["model_free"] for cell in cells}
    margins = {cell_name(cell): cell["margin"] for cell in cells}
    envs: dict[str, int] = dict.fromkeys((cell["market"] for cell in cells), 0)
    for cell in cells:
        envs[cell["market"]] += against[cell_name(cell)]["verdict"] == "better"
    beyond = [
        name for name, found in against.items() if found["verdict"] == "worse" and found["difference"] > margins[name]
    ]
    reach = [name for name, found in against.items() if name not in beyond and _reaches(found, margins[name])]
    off = [of["planner_off"]["verdict"] for cell in cells if "planner_off" in (of := cell["policies"][algo]["against"])]
    return {
        "cells": len(cells),
        "model_free": _verdicts([found["verdict"] for found in against.values()]),
        "worse_beyond_margin": beyond,
        "not_excluded": reach,
        "markets": len(envs),
        "markets_better_in_two_envs": sum(count >= 2 for count in envs.values()),
        "planner_off": {"cells": len(off), **_verdicts(off)},
        "steady": sum(_is_steady(cell["policies"][algo]) for cell in cells),
    }


def _verdicts(found: Sequence[str]) -> dict[str, int]:
    return {verdict: found.count(verdict) for verdict in ("better", EQUIVALENT, NO_DIFFERENCE, "worse")}


def _reaches(found: Mapping[str, Any], margin: float) -> bool:
    """Whether the interval leaves it open that the policy is worse by more than the margin."""
    high = found["ci95"][1]
    return high is None or high > margin


def _is_steady(policy: Mapping[str, Any]) -> bool:
    """Whether training seeds differ by a third of the gain at most."""
    gain, sd = -policy["against"]["model_free"]["difference"], policy["sd_of_seeds"]
    return sd is not None and 0.0 < gain and sd <= gain / 3.0


def cell_name(cell: Mapping[str, Any]) -> str:
    """A cell in words."""
    return f"{cell['market']} {cell['env']}"


def sentences(results: Mapping[str, Any]) -> list[str]:
    """What the cells add up to, algorithm by algorithm, and what was left out."""
    said = []
    for algo, of in results["algorithms"].items():
        found, beyond, reach = of["model_free"], of["worse_beyond_margin"], of["not_excluded"]
        counts = f"better than the {RIVALS['model_free']} on {found['better']} of {of['cells']}"
        others = f"equivalent on {found[EQUIVALENT]}, {NO_DIFFERENCE} on {found[NO_DIFFERENCE]}, worse on"
        nowhere = f"no ({', '.join(beyond)})" if beyond else "yes"
        nowhere += f"; an interval reaches beyond the margin on {len(reach)}" if reach else ""
        said.append(f"{algo}: {counts} ({others} {found['worse']}); nowhere worse by more than the margin: {nowhere}.")
        if len({cell["env"] for cell in results["cells"]}) > 1:
            better = f"{of['markets_better_in_two_envs']} of {of['markets']} markets"
            said.append(f"{algo}: better than the {RIVALS['model_free']} in at least two envs on {better}.")
        if (off := of["planner_off"])["cells"]:
            counts = f"better on {off['better']}, equivalent on {off[EQUIVALENT]}, {NO_DIFFERENCE} on"
            said.append(
                f"{algo}: against the {RIVALS['planner_off']}, of {off['cells']}: {counts} {off[NO_DIFFERENCE]}, "
                f"worse on {off['worse']}."
            )
        said.append(f"{algo}: training seeds' sd at most a third of the gain on {of['steady']} of {of['cells']}.")
    said += [f"left out: {_of(skipped)}: {skipped['reason']}" for skipped in results["skipped"]]
    return said + [f"failed: {_of(failed)}: {failed['reason']}" for failed in results["failed"]]


def _of(entry: Mapping[str, Any]) -> str:
    return f"{cell_name(entry)}, {entry['algo']}" if entry["algo"] else cell_name(entry)


def margins_sentence(results: Mapping[str, Any]) -> str:
    """What differences are too little to matter, cell by cell."""
    shown = [f"{cell_name(c)} ±{significant(c['margin'])} {c['cost_unit']}" for c in results["cells"] if "margin" in c]
    return f"Margins: {', '.join(shown)}." if shown else ""
