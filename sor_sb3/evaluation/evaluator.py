"""Score policies on the same scenarios: one env a scenario, costs aligned by scenario.

The scoring does not depend on whether a policy was learned. Figures are the business of `reports`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sor_sb3.deprecation import renamed_arguments
from sor_sb3.envs.core import RoutingCore, whole_number
from sor_sb3.errors import UserError
from sor_sb3.evaluation.children import ChildLog, ChildRecorder
from sor_sb3.evaluation.risk import RISK_MEASURES, risk, risk_difference
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.evaluation.statistics import (
    Estimate,
    equivalence_margin,
    gap_closed,
    mean_with_interval,
    paired_difference,
)
from sor_sb3.evaluation.true_quotes import TruePath
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.policies.protocol import Kind, kind_of
from sor_sb3.policies.registry import ORACLE_NAMES, chosen_rules, find_rule, make, oracle_name
from sor_sb3.simulator.random import FINAL
from sor_sb3.simulator.views import Truth

LATENCY_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
ONLINE_BLOCK = 25  # scenarios: what is learned in one is still there in the next
WINDOWS_PER_BLOCK = 5  # of a recording: dependence between neighbouring blocks must be small


@dataclass(frozen=True)
class Scores:
    """What one policy did; a row per training seed, a column per scenario.

    Attributes:
        cost: float64 (n_seeds, n_scenarios), implementation shortfall in the market's cost unit; `parts` are those of
            the ledger, same shape and unit.
        measures: "slippage_bps", "fee_bps", "fill_rate", "completion", same shape; NaN where meaningless.
        latency_ms: float64 (n_children,), decision to acknowledgement of every child order sent to an open venue
            (the notebook's latency is taken as it is).
        venue_shares: float64 (n_seeds, K), share of filled shares by venue (of sent, where the market fills all).
        env_steps: int64 (n_seeds, n_scenarios), how many env steps an episode took: its decisions, waves and all.
        children: what was sent and got, seed after seed, if it was asked for.
    """

    name: str
    kind: Kind
    cost: np.ndarray
    parts: dict[str, np.ndarray]
    measures: dict[str, np.ndarray]
    latency_ms: np.ndarray
    venue_shares: np.ndarray
    env_steps: np.ndarray
    children: ChildLog | None = None

    @property
    def n_seeds(self) -> int:
        """Number of training seeds (1 for a rule)."""
        return len(self.cost)

    def mean(self, measure: str) -> float | None:
        """Mean of a measure over seeds and scenarios; None where it has no meaning."""
        values = self.measures[measure]
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    def latency_quantiles_ms(self) -> dict[str, float | None]:
        """Quantiles of `latency_ms`; None where no child was sent."""
        if not self.latency_ms.size:
            return dict.fromkeys(LATENCY_QUANTILES)
        return {name: float(np.quantile(self.latency_ms, q)) for name, q in LATENCY_QUANTILES.items()}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Policies scored on the same scenarios. `blocks` groups scenarios that a recording makes dependent, or is None."""

    market: MarketSpec
    env_id: str
    data_split: str
    seed: int
    scores: dict[str, Scores]
    blocks: np.ndarray | None = None

    def __repr__(self) -> str:
        """Costs with their intervals, cheapest first; the arrays are in `scores`."""
        width = max(map(len, self.scores), default=0)
        head = f"{self.env_id} on {self.market.name}, {self.n_scenarios} {self.data_split} scenarios"
        costs = {name: self.cost(name) for name in self.names()}
        lines = [f"{n:{width}}  {c.mean:8.3f}  [{c.ci95_low:.3f}, {c.ci95_high:.3f}]" for n, c in costs.items()]
        return "\n".join([f"{head}; cost in {self.market.cost_unit}, 95 % interval", *lines])

    @property
    def n_scenarios(self) -> int:
        """How many scenarios each policy met."""
        return next(iter(self.scores.values())).cost.shape[1]

    def cost(self, name: str) -> Estimate:
        """Mean cost of a policy with its interval, in the market's cost unit."""
        return mean_with_interval(self.scores[name].cost, self.blocks)

    def difference(self, name: str, against: str) -> Estimate:
        """Cost of a policy minus that of another, paired by scenario; negative is cheaper."""
        return paired_difference(self.scores[name].cost, self.scores[against].cost, self.blocks)

    @property
    def oracle(self) -> str:
        """The oracle of the market in this env."""
        return oracle_name(self.market, self.env_id)

    @property
    def gap_end(self) -> str:
        """What gap closed goes to: the oracle, or the planner where that was run too and is significantly cheaper."""
        both = self.oracle in self.scores and "planner" in self.scores
        return "planner" if both and self.passes_oracle("planner") else self.oracle

    def passes_oracle(self, name: str) -> bool:
        """Whether a policy is cheaper than the oracle, which is myopic, by more than the interval."""
        return self.n_scenarios > 1 and self.difference(name, self.oracle).ci95_high < 0.0

    def gap_closed(self, name: str, start: str | None = None) -> Estimate | None:
        """Share of the way from `start` to `gap_end`; None where either was not run, or there is no way to go.

        The start is the market's reference router, unless another policy is named.
        """
        reference, end = self.scores.get(start or self.market.reference_router), self.scores.get(self.gap_end)
        if reference is None or end is None:
            return None
        return gap_closed(self.scores[name].cost, reference.cost, end.cost, self.blocks)

    def margin(self, best_rule: str) -> float:
        """The largest difference that does not matter here, in the market's cost unit."""
        end = self.scores.get(self.gap_end)
        return equivalence_margin(self.scores[best_rule].cost, None if end is None else end.cost)

    def could_be_won(self, best_rule: str) -> Estimate | None:
        """Cost of the best rule less that of `gap_end`; None where that is not significantly above 0, or not known."""
        if self.gap_end not in self.scores:
            return None
        found = self.difference(best_rule, self.gap_end)
        return found if found.ci95_low > 0.0 else None

    def risk(self, name: str) -> dict[str, Estimate]:
        """Standard deviation ("sd") and mean of the dearest 5 % ("cvar95") of a policy's cost."""
        return {measure: risk(measure, self.scores[name].cost, self.blocks) for measure in RISK_MEASURES}

    def risk_difference(self, name: str, against: str) -> dict[str, Estimate]:
        """The same of a policy minus another's, paired by scenario; negative is less risk."""
        costs, others = self.scores[name].cost, self.scores[against].cost
        return {measure: risk_difference(measure, costs, others, self.blocks) for measure in RISK_MEASURES}

    def names(self, *kinds: Kind) -> list[str]:
        """Policies of these kinds (all, by default), cheapest first."""
        chosen = [s for s in self.scores.values() if not kinds or s.kind in kinds]
        return [s.name for s in sorted(chosen, key=lambda s: float(s.cost.mean()))]


class Evaluator:
    """Scores policies on one fixed set of scenarios. Arguments and errors are those of :func:`evaluate`."""

    @renamed_arguments(split="data_split")
    def __init__(
        self,
        env: str,
        market: str | MarketSpec,
        scenarios: int,
        seed: int = 10_000,
        data_split: str = "test",
        online: bool = False,
    ) -> None:
        self.online = online
        scenarios, seed = whole_number("scenarios", scenarios, 1), whole_number("seed", seed)
        self.market, self.env_id, self.seed, self.data_split = load_market(market), env, seed, data_split
        self.core = RoutingCore(env, self.market, scenarios, data_split, final=data_split == FINAL)
        self.scenario_seeds = [seed + j for j in range(scenarios)]
        self._path: TruePath | None = None  # of the scenarios, once somebody recorded in them

    def policies(self, names: Sequence[str]) -> dict[str, Any]:
        """Rules and oracles by name, ready to be scored here."""
        options: tuple[dict[str, Any], dict[str, Any]] = {}, {"online": True}
        learns = {name: self.online and getattr(find_rule(name), "learns", False) for name in names}
        return {
            name: make(name, self.market, self if name in ORACLE_NAMES else self.env_id, **options[learns[name]])
            for name in names
        }

    def members(self, policies: Any) -> list[Any]:
        """One policy, or each training seed of one policy; those given by name are made."""
        members = list(policies) if isinstance(policies, (list, tuple)) else [policies]
        return [self.policies([p])[p] if isinstance(p, str) else p for p in members]

    def start(self) -> np.ndarray:
        """Put every scenario at its first decision; observations (n_scenarios, D)."""
        self.core.seed(list(self.scenario_seeds))
        return self.core.reset()

    def blocks(self) -> np.ndarray | None:
        """Block of each scenario, int64 (n_scenarios,): of time in a recording, of neighbours online; else None."""
        if self.online:
            return np.arange(self.core.n) // ONLINE_BLOCK
        if not isinstance(self.market, ReplayMarket):
            return None
        self.start()
        window_s = self.market.order.horizon_steps * self.market.order.step_s
        return np.floor(Truth(self.core.simulator).start_s / (WINDOWS_PER_BLOCK * window_s)).astype(np.int64)

    def score(self, name: str, policies: Any, deterministic: bool = True, record: bool = False) -> Scores:
        """Score one policy, or a list of one policy trained with several seeds; `record` keeps the child orders.

        A model trained under ``VecNormalize`` is scored with its statistics.

        Raises:
            UserError: a policy does not fit the env, or gives an answer that the env refuses.
        """
        members = self.members(policies)
        if not members:
            raise UserError(f"policy '{name}' is an empty list; expected one model for each training seed")
        runs = [self._lived(name, policy, deterministic, record) for policy in members]
        cost, parts, measures, latency, shares, env_steps, logs = zip(*runs, strict=True)
        return Scores(
            name=name,
            kind=kind_of(members[0]),
            cost=np.stack(cost),
            parts={key: np.stack([p[key] for p in parts]) for key in parts[0]},
            measures={key: np.stack([m[key] for m in measures]) for key in measures[0]},
            latency_ms=np.concatenate(latency),
            venue_shares=np.stack([filled / max(filled.sum(), 1e-12) for filled in shares]),
            env_steps=np.stack(env_steps),
            children=ChildLog.concatenate(logs) if record else None,
        )

    def _lived(self, name: str, policy: Any, deterministic: bool, record: bool) -> tuple[Any, ...]:
        """All scenarios at once or, online, of a policy that learns, one after another, its state handed on."""
        if not (self.online and getattr(policy, "learns", False)):
            return self._run(self.core, self.start(), name, policy, deterministic, record)[0]
        if record:
            raise UserError("child orders are not recorded online; score with online=False for a report")
        core = RoutingCore(self.env_id, self.market, 1, self.data_split, final=self.data_split == FINAL)
        runs: list[tuple[Any, ...]] = []
        state: Any = None
        for seed in self.scenario_seeds:
            core.seed([seed])
            run, state = self._run(core, core.reset(), name, policy, deterministic, False, state)
            runs.append(run)
        return _joined(runs)

    def _run(
        self,
        core: RoutingCore,
        observations: np.ndarray,
        name: str,
        policy: Any,
        deterministic: bool,
        record: bool,
        state: Any = None,
    ) -> tuple[tuple[Any, ...], Any]:
        """Cost, its parts, measures, latencies, filled shares, env steps, child orders if recorded; and the state."""
        truth = Truth(core.simulator)
        recorder = None
        if record:  # every policy meets the same path
            recorder = ChildRecorder(core.simulator, self._path)
            self._path = recorder.path
        latencies, env_steps = [], np.zeros(core.n, dtype=np.int64)
        for decision in rollout(core, policy, observations, state=state, deterministic=deterministic, name=name):
            was_open = truth.open
            env_steps += truth.remaining_shares > 0.0
            if recorder is not None:
                recorder.before()
            decision.take()
            state = decision.next_state
            if recorder is not None:
                recorder.after()
            latencies.append(truth.ack_ms[(truth.sent_shares > 0.0) & was_open])
        log = None if recorder is None else recorder.log()
        parts, measures = core.simulator.ledger(), core.simulator.measures(np.arange(core.n))
        filled = truth.episode_filled_shares.sum(axis=0)
        cost = parts.pop("shortfall")
        return (cost, parts, measures, np.concatenate(latencies), filled, env_steps, log), state

    def evaluate(
        self, policies: Mapping[str, Any], deterministic: bool = True, each: Callable[[Scores], None] | None = None
    ) -> Evaluation:
        """Score several policies; see :func:`evaluate`.

        `each` is called with every policy's scores, child orders recorded, which are dropped afterwards: one log at a
        time is held.
        """
        scores = {}
        for name, policy in policies.items():
            scores[name] = self.score(name, policy, deterministic, record=each is not None)
            if each is not None:
                each(scores[name])
                scores[name] = replace(scores[name], children=None)
        return Evaluation(self.market, self.env_id, self.data_split, self.seed, scores, self.blocks())


def _joined(runs: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """What runs of one scenario each found, as one run of all."""
    cost, parts, measures, latencies, filled, env_steps, _ = zip(*runs, strict=True)
    tables = [{key: np.concatenate([row[key] for row in rows]) for key in rows[0]} for rows in (parts, measures)]
    return np.concatenate(cost), *tables, np.concatenate(latencies), sum(filled), np.concatenate(env_steps), None


@renamed_arguments(split="data_split")
def evaluate(
    policies: Mapping[str, Any],
    env: str = "OrderSplit-v1",
    market: str | MarketSpec = "us_equity",
    scenarios: int = 1000,
    seed: int = 10_000,
    data_split: str = "test",
    deterministic: bool = True,
    online: bool = False,
) -> Evaluation:
    """Score policies on the same scenarios.

    Args:
        policies: by name: anything with SB3's ``predict`` (a `PolicyPredictor`), a list of models (one per training
            seed), or the name of a router ("pro_rata", "snapshot_oracle", ...). A model whose env is a
            ``VecNormalize`` is scored with those statistics; a model that was loaded without its env carries none and
            needs :class:`sor_sb3.policies.normalisation.NormalizedPolicy`. An attribute `kind` ("learned", "rule" or
            "oracle") says what a policy of your own is; without one a policy that nothing trains is a rule.
        env: "VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1" or "OrderPlace-v1".
        market: preset name, path, or specification.
        scenarios: how many parent orders.
        seed: of the first; scenario j has seed + j, the same for every policy.
        data_split: "test" by default; no scenario of it is one of "train" or "validation". "final" is a frozen block
            for the last word on a release; nothing notes that it is read here, as ``sor-sb3 evaluate --final`` does.
        deterministic: whether learned policies take their mode instead of drawing.
        online: whether routers that learn from their own fills go on learning, one scenario after another.
            Intervals are then by blocks of neighbouring scenarios.

    Raises:
        UserError: env, market, data split or a router's name is unknown, a number is not whole, a policy does not fit
            the env, or a policy gives an answer that the env refuses.

    Example:
        >>> import sor_sb3
        >>> result = sor_sb3.evaluate({"pro_rata": "pro_rata", "random": "random"}, market="notebook", scenarios=50)
        >>> result.difference("pro_rata", "random").mean < 0
        True
    """
    if not isinstance(policies, Mapping) or not policies:
        given = "empty" if isinstance(policies, Mapping) else f"a {type(policies).__name__}"
        raise UserError(f"policies is {given}; expected a mapping of at least one policy by name, as {{'ppo': model}}")
    return Evaluator(env, market, scenarios, seed, data_split, online).evaluate(policies, deterministic)


def standard_rules(
    market: MarketSpec, env_id: str = "OrderSplit-v1", wanted: Sequence[str] = ("standard",)
) -> list[str]:
    """The rules that a comparison runs in this market and env, the oracle last; see `chosen_rules` for `wanted`."""
    return [*chosen_rules(market, env_id, wanted), oracle_name(market, env_id)]
