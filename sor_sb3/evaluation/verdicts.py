"""What a paired comparison shows, as data: the verdict, whether Holm's correction leaves it standing, and the words.

The words are made here, once, and kept in ``results.json``. Console, HTML, Markdown and figures print them as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sor_sb3.evaluation.formats import interval, measured, significant
from sor_sb3.evaluation.statistics import Estimate, verdict

SIGNIFICANCE = 0.05
NO_DIFFERENCE, EQUIVALENT = "no significant difference", "equivalent"
REMARK = "not after correction for many comparisons"
RISK_WORDS = {"sd": "standard deviation", "cvar95": "CVaR"}
RISK_SHORT = {"sd": "sd", "cvar95": "CVaR"}


@dataclass(frozen=True)
class Stakes:
    """What there is to win in a market, and what is too little to matter, in the `unit` of its costs.

    `could_be_won` is the best rule's cost less the oracle's; None where that is not significantly above 0. `margin` is
    the largest difference that does not matter.
    """

    unit: str
    margin: float
    could_be_won: float | None = None

    def share(self, difference: Estimate) -> dict[str, Any]:
        """How much of what could be won a difference saves, with its interval; what could be won is taken as known."""
        if self.could_be_won is None:
            return {"share": None, "share_ci95": None}
        low, high = (-bound / self.could_be_won for bound in reversed(difference.ci95))
        return {"share": -difference.mean / self.could_be_won, "share_ci95": finite([low, high])}


def finite(values: list[float]) -> list[float | None]:
    """Numbers for JSON: None in place of what is not finite."""
    return [value if math.isfinite(value) else None for value in values]


def compared(
    policy: str,
    against: str,
    difference: Estimate,
    p_holm: float,
    stakes: Stakes,
    risk: Mapping[str, Estimate] | None = None,
) -> dict[str, Any]:
    """The verdict on one comparison.

    Args:
        difference: cost of `policy` minus that of `against`, paired by scenario, in the unit of the `stakes`.
        p_holm: p-value, corrected by Holm for all comparisons that were made together.
        risk: the same of measures of risk, by their keys in `RISK_WORDS`.

    Returns:
        Among others "verdict", what the comparison's own 95 % interval says; "share", how much was saved of what could
        be won; "holds_after_correction", whether `p_holm` agrees; "tone", "better" or "worse" where it does, else
        "even"; "wording", the verdict with the share and the remark that the correction asks for; "risk", difference,
        interval and verdict of each measure; "sentence".
    """
    found, ci95, unit = verdict(difference, stakes.margin), finite(difference.ci95), stakes.unit
    even, share = found in (NO_DIFFERENCE, EQUIVALENT), stakes.share(difference)
    holds = even or p_holm < SIGNIFICANCE
    wording = found if even else f"{found}{_of_what_could_be_won(share)}"
    wording = wording if holds else f"{wording} ({REMARK})"
    numbers = f"{measured(difference.mean, ci95, sign=True)} {unit}, 95 % interval {interval(ci95)}"
    if found == EQUIVALENT:
        numbers += f", within ±{significant(stakes.margin)}"
    risks = {measure: _risk(d, stakes.margin) for measure, d in (risk or {}).items()}
    told = "".join(f"; {RISK_WORDS[measure]} {_risk_words(r)}" for measure, r in risks.items())
    return {
        "policy": policy,
        "against": against,
        "difference": difference.mean,
        "ci95": ci95,
        "p_value": difference.p_value,
        "p_value_holm": p_holm,
        "verdict": found,
        **share,
        "holds_after_correction": holds,
        "tone": "even" if even or not holds else found,
        "wording": wording,
        "risk": risks,
        "sentence": f"{policy} against {against}: {wording} ({numbers}){told}",
    }


def _of_what_could_be_won(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return ""
    part, ci95 = abs(share["share"]), share["share_ci95"]
    if part < 2.0:
        return f", {measured(part, ci95, 100.0)} % of what could be won"
    return f", {measured(part, ci95)} times what could be won"


def _risk(difference: Estimate, margin: float) -> dict[str, Any]:
    ci95, found = finite(difference.ci95), verdict(difference, margin)
    return {"difference": difference.mean, "ci95": ci95, "p_value": difference.p_value, "verdict": found}


def _risk_words(risk: Mapping[str, Any]) -> str:
    """A difference of risk with its interval, and "better" or "worse" where the verdict is that."""
    said = f": {risk['verdict']}" if risk["verdict"] in ("better", "worse") else ""
    return f"{measured(risk['difference'], risk['ci95'], sign=True)} {interval(risk['ci95'])}{said}"


def headline(results: dict[str, Any]) -> dict[str, str]:
    """The result, content of ``results.json``, as a "headline" and its "tone" ("better", "worse" or "even").

    The headline is about the cheapest learned policy and the best rule: which is better, by how much of what could be
    won, and at what risk. Where the policy is at more risk than the rule, the headline says so and is never "better".
    """
    best, scenarios = results["best_rule"], f"{results['scenarios']:,} unseen scenarios"
    learned = [p["name"] for p in results["policies"] if p["kind"] == "learned"]
    if not learned:
        cheapest = next(p["name"] for p in results["policies"] if p["kind"] != "oracle")
        text = f"No learned policy was compared: the cheapest rule on {scenarios} is {cheapest}."
        return {"headline": text, "tone": "even"}
    of = {c["policy"]: c for c in results["comparisons"] if c["against"] == best}
    first, found = learned[0], of[learned[0]]
    riskier = {measure: r for measure, r in found["risk"].items() if r["verdict"] == "worse"}
    text = _first_sentence(results, found, scenarios) + _risk_sentence(riskier, best, results["cost_unit"])
    others = [f"{name} is {_standing(of[name])}" for name in learned if name != first and name in of]
    if others:
        text += f" Against the same rule {_listed(others)}."
    return {"headline": text, "tone": "even" if riskier and found["tone"] == "better" else found["tone"]}


def _first_sentence(results: dict[str, Any], found: dict[str, Any], scenarios: str) -> str:
    first, best, unit, ci95 = found["policy"], found["against"], results["cost_unit"], found["ci95"]
    amount = f"{measured(abs(found['difference']), ci95)} {unit}{_of_what_could_be_won(found)}"
    amount += "," if found["share"] is not None else ""
    numbers = f"paired 95 % interval {interval(ci95)} {unit}"
    doubt = "" if found["holds_after_correction"] else f", though {REMARK}"
    if found["verdict"] == "better":
        return f"{first} beats the best rule, {best}, by {amount} on {scenarios}{doubt} ({numbers})."
    if found["verdict"] == "worse":
        text = f"No learned policy beats the best rule, {best}: the nearest, {first}, is worse by {amount} on"
        text += f" {scenarios}"
        return f"{text}{doubt} ({numbers})."
    if found["verdict"] == EQUIVALENT:
        text = f"{first}, the cheapest learned policy, and the best rule, {best}, are equivalent on {scenarios}: they"
        return f"{text} differ by less than {significant(results['margin'])} {unit} ({numbers})."
    text = f"No significant difference between {first}, the cheapest learned policy, and the best rule, {best}, on "
    return f"{text}{scenarios} ({numbers})."


def _risk_sentence(riskier: Mapping[str, Any], best: str, unit: str) -> str:
    """What a policy costs in risk; nothing where it is at no more risk than the rule."""
    names = {"sd": "the standard deviation of its cost", "cvar95": "the mean of its dearest 5 % of orders (CVaR)"}
    parts = [
        f"{names[measure]} is {measured(r['difference'], r['ci95'])} {unit} above that of {best} {interval(r['ci95'])}"
        for measure, r in riskier.items()
    ]
    return f" It takes more risk: {_listed(parts)}." if parts else ""


def _standing(comparison: Mapping[str, Any]) -> str:
    said = {NO_DIFFERENCE: "not significantly different"}.get(comparison["verdict"], comparison["verdict"])
    return said if comparison["holds_after_correction"] else f"{said} ({REMARK})"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def stakes_sentence(results: dict[str, Any]) -> str:
    """From where to where the gaps go, what there is to win, and what is too little to matter."""
    best, end, unit = results["best_rule"], results["gap_end"], results["cost_unit"]
    won, ci95 = results["could_be_won"], results["could_be_won_ci95"]
    known = "nothing significant" if won is None else f"{measured(won, ci95)} {unit} {interval(ci95)}"
    return (
        f"The best rule, named on validation scenarios, is {best}. Gap closed goes from {results['reference_rule']}, "
        f"and from the best rule, to {end}. What could be won, from {best} to {end}, is {known}; differences within "
        f"±{significant(results['margin'])} {unit} do not matter."
    )


def against_best_rule(results: dict[str, Any], policy: dict[str, Any]) -> str:
    """What a table says of a policy beside the best rule: the paired difference and the verdict, or a remark.

    Risk that is significantly less or more is part of it.
    """
    if policy["name"] == results["best_rule"]:
        return "(the best rule)"
    found = with_best_rule(results, policy["name"])
    if found is not None:
        difference = f"{measured(found['difference'], found['ci95'], sign=True)} {interval(found['ci95'])}"
        shown = {m: r for m, r in found["risk"].items() if r["verdict"] in ("better", "worse")}
        risks = "".join(f"; {RISK_SHORT[measure]} {_risk_words(r)}" for measure, r in shown.items())
        return f"{difference}: {found['wording']}{risks}"
    return "(sees hidden state)" if policy["kind"] == "oracle" else ""


def with_best_rule(results: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The comparison of a policy with the best rule; None where it was not made."""
    wanted = (name, results["best_rule"])
    return next((c for c in results["comparisons"] if (c["policy"], c["against"]) == wanted), None)
