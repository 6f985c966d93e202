"""Score policies on markets of a family: a few scenarios in each of many, costs in price scales of their market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sor_sb3.envs.core import whole_number
from sor_sb3.envs.observation import observation_space
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores
from sor_sb3.market.family import MarketFamily
from sor_sb3.policies.protocol import kind_of
from sor_sb3.policies.registry import rule_names

MARKETS = 25
_FITTED = ("planner", "best_fixed_venue")  # rules that take seconds to be fitted to a market


def family_markets(family: MarketFamily, data_split: str, seed: int, n: int = MARKETS) -> list[Any]:
    """The first `n` markets of a seed."""
    return [family.draw(data_split, seed, index) for index in range(n)]


def family_rules(family: MarketFamily, env_id: str, data_split: str, seed: int) -> list[str]:
    """Rules that mean something in each of the markets that are scored, without those that are fitted to a market.

    Nor is the oracle among them, which is fitted too.
    """
    fitting = [rule_names(market, env_id) for market in family_markets(family, data_split, seed)]
    return [name for name in fitting[0] if name not in _FITTED and all(name in names for names in fitting)]


class _InSmallerMarket:
    """A policy of a family's env in a market that may have fewer venues."""

    def __init__(self, policy: Any, family: MarketFamily, core: Any) -> None:
        self.policy, self.core, self.kind = policy, core, kind_of(policy)
        self._n_features = observation_space(family).shape[0]
        self._adapter = type(core.action_adapter)(family.n_venues)

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions of the market's own env."""
        rows = np.zeros((len(observation), self._n_features), dtype=np.float32)
        rows[:, : observation.shape[1]] = observation
        masks = {}
        if self._adapter.masked and "Maskable" in type(self.policy).__name__:
            masks["action_masks"] = np.zeros((len(rows), self._adapter.n_venues), dtype=bool)
            masks["action_masks"][:, : self.core.market.n_venues] = self.core.action_masks()
        actions, state = self.policy.predict(rows, state, episode_start, deterministic, **masks)
        return self._adapter.of_fewer(actions, self.core.market.n_venues), state


class FamilyEvaluator:
    """What an :class:`~sor_sb3.evaluation.evaluator.Evaluator` is for one market, for `MARKETS` markets of a family.

    Scenarios are spread over the markets. Arguments and errors are those of `Evaluator`.
    """

    def __init__(self, env: str, market: MarketFamily, scenarios: int, seed: int, data_split: str) -> None:
        n = min(MARKETS, whole_number("scenarios", scenarios, 1))
        self.market, self.env_id, self.seed, self.data_split = market, env, seed, data_split
        firsts = [k * scenarios // n for k in range(n + 1)]
        self.evaluators = [
            Evaluator(env, drawn, firsts[k + 1] - firsts[k], seed + firsts[k], data_split)
            for k, drawn in enumerate(family_markets(market, data_split, seed, n))
        ]

    def policies(self, names: Sequence[str]) -> dict[str, Any]:
        """Rules and oracles by name: each market has its own, made when it is scored."""
        return {name: name for name in names}

    def score(self, name: str, policies: Any, deterministic: bool = True) -> Scores:
        """Score one policy (of the family's env, or a rule's name), or a list of one trained with several seeds."""
        parts = [self._score_in(evaluator, name, policies, deterministic) for evaluator in self.evaluators]
        scales = [evaluator.market.scales[0] for evaluator in self.evaluators]
        shares = np.zeros((parts[0].n_seeds, self.market.n_venues))
        for part in parts:
            shares[:, : part.venue_shares.shape[1]] += part.venue_shares / len(parts)
        return Scores(
            name=name,
            kind=parts[0].kind,
            cost=np.hstack([part.cost / scale for part, scale in zip(parts, scales, strict=True)]),
            parts={
                key: np.hstack([part.parts[key] / scale for part, scale in zip(parts, scales, strict=True)])
                for key in parts[0].parts
            },
            measures={key: np.hstack([part.measures[key] for part in parts]) for key in parts[0].measures},
            latency_ms=np.concatenate([part.latency_ms for part in parts]),
            venue_shares=shares,
            env_steps=np.hstack([part.env_steps for part in parts]),
        )

    def _score_in(self, evaluator: Evaluator, name: str, policies: Any, deterministic: bool) -> Scores:
        members = policies if isinstance(policies, list | tuple) else [policies]
        here = [p if isinstance(p, str) else _InSmallerMarket(p, self.market, evaluator.core) for p in members]
        return evaluator.score(name, here, deterministic)

    def evaluate(self, policies: Mapping[str, Any], deterministic: bool = True) -> Evaluation:
        """Score several policies on the same scenarios."""
        scores = {name: self.score(name, policy, deterministic) for name, policy in policies.items()}
        return Evaluation(self.market, self.env_id, self.data_split, self.seed, scores)  # type: ignore[arg-type]
