"""Policies on markets that differ from the one they were trained on, without retraining, beside a rule.

Scenarios are the same. Observations keep the units of the market that policies know, since neither policy nor rule is
told of the change; what is asked of them, the order, is an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sor_sb3.envs.observation import Observer
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores
from sor_sb3.evaluation.statistics import mean_with_interval, paired_difference, verdict
from sor_sb3.evaluation.verdicts import finite
from sor_sb3.market.spec import MarketSpec


@dataclass(frozen=True)
class Change:
    """A change of a market: `by` maps each number at `paths` ("venues.latency_ms" is every venue's) to another."""

    name: str
    paths: tuple[str, ...]
    by: Callable[[float], float]

    @property
    def is_of_order(self) -> bool:
        """Whether the order is changed, of which policies are told."""
        return self.paths[0].startswith("order.")

    def applied(self, market: MarketSpec) -> MarketSpec | None:
        """The changed market, the ranges that it draws numbers from too; None where it has no such number."""
        data, found = market.model_dump(), False
        for path in self.paths:
            group, *inner, field = path.split(".")
            owners: Any = data.get(group) or {}
            for owner in owners if group == "venues" else [owners]:
                for part in inner:
                    owner = owner.get(part) or {}
                if owner and owner.get(field) is not None:
                    owner[field], found = self.by(owner[field]), True
        for where, ends in data.get("randomise", {}).items():
            parts = where.split(".")
            if ".".join([parts[0], *parts[2:]] if parts[0] == "venues" else parts) in self.paths:
                data["randomise"][where] = tuple(sorted(map(self.by, ends)))
        return type(market).model_validate(data) if found else None


def _times(factor: float) -> Callable[[float], float]:
    return lambda value: factor * value


def _plus(amount: float) -> Callable[[float], float]:
    return lambda value: value + amount


_FEES = ("venues.take_fee_bps", "venues.make_fee_bps")
CHANGES = (
    Change("latency × 3", ("venues.latency_ms", "venues.feed_latency_ms"), _times(3.0)),
    Change("fees + 0.1 bps", _FEES, _plus(0.1)),
    Change("fees − 0.1 bps", _FEES, _plus(-0.1)),
    Change("fade × 2", ("venues.toxicity",), _times(2.0)),
    Change("no dark supply", ("venues.dark.zero_probability",), lambda _: 1.0),
    Change("volatility × 2", ("price.volatility_bps_per_sqrt_s",), _times(2.0)),
    Change("order × 0.3", ("order.quantity_shares",), _times(0.3)),
    Change("order × 3", ("order.quantity_shares",), _times(3.0)),
)
UNCHANGED = "as trained"


def robustness(
    evaluator: Evaluator, evaluation: Evaluation, policies: Mapping[str, Any], rule: str, deterministic: bool = True
) -> list[dict[str, Any]]:
    """Learned policies and `rule` on the market and on each change of it: content of ``results.json``.

    Args are those of :func:`sor_sb3.evaluation.gains.gains`. Returns, first of the market as it is and then of each of
    `CHANGES` that means something in it, "change", "against" (the rule), "rule_cost", and by learned policy "cost",
    and "difference", "ci95" and "verdict" of its cost less the rule's, paired by scenario. Verdicts have the margin of
    the market as it is.
    """
    learned = [name for name in evaluation.names("learned") if name in policies]
    rows = [_row(UNCHANGED, evaluation.scores, learned, rule, evaluation)]
    for change in CHANGES:
        market = change.applied(evaluator.market)
        if market is None:
            continue
        changed = Evaluator(evaluator.env_id, market, evaluation.n_scenarios, evaluator.seed, evaluator.data_split)
        knows = changed if change.is_of_order else evaluator
        changed.core.observer = Observer(changed.core.simulator, knows.market)
        chosen = {**{name: policies[name] for name in learned}, **knows.policies([rule])}
        scores = {name: changed.score(name, policy, deterministic) for name, policy in chosen.items()}
        rows.append(_row(change.name, scores, learned, rule, evaluation))
    return rows


def _row(
    change: str, scores: Mapping[str, Scores], learned: list[str], rule: str, evaluation: Evaluation
) -> dict[str, Any]:
    found = {}
    for name in learned:
        difference = paired_difference(scores[name].cost, scores[rule].cost, evaluation.blocks)
        cost = mean_with_interval(scores[name].cost, evaluation.blocks).mean
        found[name] = {"cost": cost, "difference": difference.mean, "ci95": finite(difference.ci95)}
        found[name]["verdict"] = verdict(difference, evaluation.margin(rule))
    rule_cost = mean_with_interval(scores[rule].cost, evaluation.blocks).mean
    return {"change": change, "against": rule, "rule_cost": rule_cost, "policies": found}
