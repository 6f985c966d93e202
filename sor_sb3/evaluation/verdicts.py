"""What a paired comparison shows, as data: the verdict, whether Holm's correction leaves it standing, and the words.

The words are made here, once, and kept in ``results.json``. Console, HTML, Markdown and figures print them as they are.
"""

import math
from typing import Any

from sor_sb3.evaluation.formats import interval, number, signed
from sor_sb3.evaluation.statistics import Estimate, verdict

SIGNIFICANCE = 0.05
NO_DIFFERENCE = "no significant difference"
REMARK = "not after correction for many comparisons"


def finite(values: list[float]) -> list[float | None]:
    """Numbers for JSON: None in place of what is not finite."""
    return [value if math.isfinite(value) else None for value in values]


def compared(policy: str, against: str, difference: Estimate, p_holm: float, unit: str) -> dict[str, Any]:
    """The verdict on one comparison.

    Args:
        difference: cost of `policy` minus that of `against`, paired by scenario, in `unit`.
        p_holm: p-value, corrected by Holm for all comparisons that were made together.

    Returns:
        Among others "verdict", what the comparison's own 95 % interval says; "holds_after_correction", whether `p_holm`
        agrees; "tone", "better" or "worse" where it does, else "even"; "wording", the verdict with the remark that the
        correction asks for; "sentence".
    """
    found, ci95 = verdict(difference), finite(difference.ci95)
    holds = found == NO_DIFFERENCE or p_holm < SIGNIFICANCE
    wording = found if holds else f"{found} ({REMARK})"
    numbers = f"{signed(difference.mean, 4)} {unit}, 95 % interval {interval(ci95, 4)}"
    return {
        "policy": policy,
        "against": against,
        "difference": difference.mean,
        "ci95": ci95,
        "p_value": difference.p_value,
        "p_value_holm": p_holm,
        "verdict": found,
        "holds_after_correction": holds,
        "tone": found if holds and found != NO_DIFFERENCE else "even",
        "wording": wording,
        "sentence": f"{policy} against {against}: {wording} ({numbers})",
    }


def headline(results: dict[str, Any]) -> dict[str, str]:
    """The result, content of ``results.json``, as a "headline" and its "tone" ("better", "worse" or "even").

    The headline is about the cheapest learned policy and the best rule.
    """
    unit, best, scenarios = results["cost_unit"], results["best_rule"], f"{results['scenarios']:,} unseen scenarios"
    learned = [p["name"] for p in results["policies"] if p["kind"] == "learned"]
    if not learned:
        cheapest = next(p["name"] for p in results["policies"] if p["kind"] != "oracle")
        text = f"No learned policy was compared: the cheapest rule on {scenarios} is {cheapest}."
        return {"headline": text, "tone": "even"}
    first = learned[0]
    found = next(c for c in results["comparisons"] if (c["policy"], c["against"]) == (first, best))
    amount = f"{number(abs(found['difference']))} {unit}"
    numbers = f"paired 95 % interval {interval(found['ci95'])} {unit}"
    doubt = "" if found["holds_after_correction"] else f", though {REMARK}"
    if found["verdict"] == "better":
        text = f"{first} beats the best rule, {best}, by {amount} on {scenarios}{doubt} ({numbers})."
    elif found["verdict"] == "worse":
        text = f"The best rule, {best}, beats every learned policy: the nearest, {first}, costs {amount} more on "
        text += f"{scenarios}{doubt} ({numbers})."
    else:
        text = f"No significant difference between {first}, the cheapest learned policy, and the best rule, {best}, on "
        text += f"{scenarios} ({numbers})."
    return {"headline": text, "tone": found["tone"]}


def against_best_rule(results: dict[str, Any], policy: dict[str, Any]) -> str:
    """What a table says of a policy beside the best rule: the paired difference and the verdict, or a remark."""
    if policy["name"] == results["best_rule"]:
        return "(the best rule)"
    found = with_best_rule(results, policy["name"])
    if found is not None:
        return f"{signed(found['difference'])} {interval(found['ci95'])}: {found['wording']}"
    return "(sees hidden state)" if policy["kind"] == "oracle" else ""


def with_best_rule(results: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The comparison of a policy with the best rule; None where it was not made."""
    wanted = (name, results["best_rule"])
    return next((c for c in results["comparisons"] if (c["policy"], c["against"]) == wanted), None)
