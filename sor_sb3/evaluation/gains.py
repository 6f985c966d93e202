"""Where a policy's difference from a rule comes from, in parts that add up.

The same scenarios are played by hybrids of the two, in a fixed order: each takes one more thing from the policy, the
last one is the policy. What a step changes is the part's, but for two lines of the ledger, which are what it costs that
shares were not done at once. docs/gains.md has the order and the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.action_adapters import ActionAdapter
from sor_sb3.envs.observation import MARKET_FEATURES
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator
from sor_sb3.evaluation.rollout import masks_wanted
from sor_sb3.evaluation.statistics import Estimate, paired_difference
from sor_sb3.evaluation.verdicts import finite
from sor_sb3.policies.normalisation import as_trained
from sor_sb3.policies.protocol import Kind

STEPS = ("routing", "dark_pools", "passive_fills", "timing")
"""What hybrids take from the policy, in this order."""
PARTS = {
    "routing": "routing",
    "dark_pools": "dark pools",
    "passive_fills": "passive fills",
    "timing": "timing",
    "clean_up": "clean-up",
}
"""Parts of a difference, with the words for a table."""
_WAVE = MARKET_FEATURES.index("wave")


class Hybrid:
    """A policy that decides some things of every action, and a rule that decides the others.

    `taken` are those of `STEPS` that the policy decides: "routing", how what goes to lit venues is split;
    "dark_pools", which share goes to which pool, and what rests there; "passive_fills", what rests at lit venues;
    "timing", the pace, and what is held back. `is_dark` is bool (K,). Both read the hybrid's own observations.
    """

    kind: ClassVar[Kind] = "learned"

    def __init__(self, adapter: ActionAdapter, is_dark: np.ndarray, rule: Any, policy: Any, taken: set[str]) -> None:
        self.adapter, self.is_dark, self.taken = adapter, is_dark, taken
        self.rule, self.policy = as_trained(rule), as_trained(policy)

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Actions for a batch of observations (N, D), and the states of both."""
        rows, answers, states = np.asarray(observation), [], []
        is_later: np.ndarray = np.rint(rows[:, _WAVE]) > 0
        for of, its_state in zip((self.rule, self.policy), state or (None, None), strict=True):
            masks = {"action_masks": action_masks} if action_masks is not None and masks_wanted(of) else {}
            actions, its_state = of.predict(rows, its_state, episode_start, deterministic, **masks)
            answers.append((*self.adapter.decode(actions, len(rows), is_later), self.adapter.resting(actions)))
            states.append(its_state)

        def source(part: str) -> Any:
            return answers[part in self.taken]

        directions = [_directions(weights) for weights, _, _ in answers]
        empty = [direction.sum(axis=1) == 0.0 for direction in directions]
        directions = [np.where(empty[i][:, None], directions[1 - i], directions[i]) for i in (0, 1)]
        mixed = _mixed(directions["routing" in self.taken], directions["dark_pools" in self.taken], self.is_dark)
        weights, pace, _ = source("timing")
        resting = source("passive_fills")[2]
        if resting is not None:
            resting = np.where(self.is_dark, source("dark_pools")[2], resting)
        return self.adapter.encode(mixed * weights.sum(axis=1, keepdims=True), pace, resting), tuple(states)


def _directions(weights: np.ndarray) -> np.ndarray:
    """Weights (n, K) scaled so that rows sum to 1; rows of zeros stay."""
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0.0)


def _mixed(routing: np.ndarray, dark: np.ndarray, is_dark: np.ndarray) -> np.ndarray:
    """What `dark` (n, K) sends to dark pools, and the rest as `routing` (n, K) splits it over lit venues.

    Where `routing` has nothing at lit venues, as `dark` does.
    """
    lit = np.where(is_dark, 0.0, routing)
    lit = np.where(lit.any(axis=1, keepdims=True), lit, np.where(is_dark, 0.0, dark))
    pools = np.where(is_dark, dark, 0.0)
    return pools + (1.0 - pools.sum(axis=1, keepdims=True)) * _directions(lit)


def gains(
    evaluator: Evaluator, evaluation: Evaluation, policies: Mapping[str, Any], rule: str, deterministic: bool = True
) -> dict[str, dict[str, Any]]:
    """By learned policy, its cost less that of `rule`, and the same split into parts: content of ``results.json``.

    Args:
        evaluator: of the scenarios that `evaluation` has scored.
        policies: by name; a policy, or a list of one policy's training seeds.
        rule: the name of the best rule, scored too.

    Returns:
        By policy "against", "difference", "ci95", and "parts": by name of `PARTS`, those that the market and the env
        have, "difference" and "ci95". Negative is cheaper; differences of the parts sum to the policy's, to rounding.
    """
    learned = [name for name in evaluation.names("learned") if name in policies]
    return {name: _split(evaluator, evaluation, name, policies[name], rule, deterministic) for name in learned}


def _split(
    evaluator: Evaluator, evaluation: Evaluation, name: str, policy: Any, rule: str, deterministic: bool
) -> dict[str, Any]:
    market, adapter = evaluator.market, evaluator.core.action_adapter
    is_dark = np.array([getattr(venue, "dark", None) is not None for venue in market.venues])
    exists = {"dark_pools": market.has_dark, "passive_fills": adapter.rests, "timing": adapter.paced}
    steps, members = [step for step in STEPS if exists.get(step, True)], evaluator.members(policy)
    before, taken = evaluation.scores[rule], set[str]()
    waits = market.has_partial_fills  # else everything is done at once
    cost = evaluation.scores[name].cost
    parts = {part: np.zeros_like(cost) for part in [*steps, *(["timing", "clean_up"] if waits else [])]}
    opponent = evaluator.policies([rule])[rule]
    for step in steps:
        taken.add(step)
        if step == steps[-1]:
            after = evaluation.scores[name]
        else:
            hybrids = [Hybrid(adapter, is_dark, opponent, member, set(taken)) for member in members]
            after = evaluator.score(f"{name} with {rule}", hybrids, deterministic)
        parts[step] += after.cost - before.cost
        for part, line in (("timing", "timing"), ("clean_up", "cleanup")) if waits else ():
            if (step, part) != ("passive_fills", "timing"):
                change = after.parts[line] - before.parts[line]
                parts[part] += change
                parts[step] -= change
        before = after
    nothing = np.zeros((1, evaluation.n_scenarios))
    found = {part: paired_difference(parts[part], nothing, evaluation.blocks) for part in PARTS if part in parts}
    whole = _entry(evaluation.difference(name, rule))
    return {"against": rule, **whole, "parts": {part: _entry(estimate) for part, estimate in found.items()}}


def _entry(estimate: Estimate) -> dict[str, Any]:
    return {"difference": estimate.mean, "ci95": finite(estimate.ci95)}
