"""Replay one parent order, step by step: what the router observed, sent and got, and what each venue would have cost.

The counterfactuals answer "why that venue?". From a copy of the same state the whole slice goes to one venue, and the
policy decides the later steps as before. The market's random numbers are counter-based, so the rest of the scenario is
the same market. Nothing is drawn here, and many orders are scored by the evaluator, not here.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from sor_sb3.envs.observation import Observer
from sor_sb3.evaluation.children import ChildLog, ChildRecorder
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.rollout import Decision as PolicyDecision
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.policies.protocol import Router
from sor_sb3.simulator.batch import LEDGER_PARTS
from sor_sb3.simulator.views import Truth


@dataclass(frozen=True)
class Alternative:
    """One decision's whole slice sent to each venue instead, all (K,).

    Attributes:
        filled_shares: of the slice, in this step.
        price_bps: average price of that above the mid at the decision plus fee; NaN where nothing filled.
        order_cost: what the whole order would then have cost, with the policy deciding the later steps, in cost units.
    """

    filled_shares: np.ndarray
    price_bps: np.ndarray
    order_cost: np.ndarray


@dataclass(frozen=True)
class Decision:
    """One decision of the order; arrays (K,).

    Attributes:
        step: counted from 0, at `time_s` after arrival.
        remaining_shares: to be done, of which `slice_shares` in this step by the schedule.
        mid_bps: observed mid above the arrival mid.
        open: whether a venue traded; `touch_bps` is its far touch above the mid, `fee_bps` its take fee, `shown_shares`
            what it displayed, and `observed_latency_ms` its latency, one way, as observed.
        sent_shares: what went there, of which `filled_shares` came back filled.
        price_bps: average price of what filled above the mid plus fee; NaN if nothing filled.
        latency_ms: one way, of the child order.
        cost: of the step in cost units, the sum of its `parts` in the ledger; a step's costs add up to the order's.
        alternative: the whole slice to one venue.
    """

    step: int
    time_s: float
    remaining_shares: float
    slice_shares: float
    mid_bps: float
    open: np.ndarray
    touch_bps: np.ndarray
    fee_bps: np.ndarray
    shown_shares: np.ndarray
    observed_latency_ms: np.ndarray
    sent_shares: np.ndarray
    filled_shares: np.ndarray
    price_bps: np.ndarray
    latency_ms: np.ndarray
    cost: float
    parts: dict[str, float]
    alternative: Alternative


@dataclass(frozen=True)
class Explanation:
    """A parent order of one policy in one scenario.

    Attributes:
        scenario: its seed.
        cost: of the order, the evaluator's number, in `cost_unit`; the sum of the decisions' costs and of `parts`.
        quantity_shares: of the order, of which `cleanup_shares` were swept at the deadline.
    """

    market: str
    env_id: str
    policy: str
    scenario: int
    cost_unit: str
    price_unit: str
    venue_names: tuple[str, ...]
    cost: float
    parts: dict[str, float]
    quantity_shares: float
    cleanup_shares: float
    decisions: tuple[Decision, ...]


class _Alternatives:
    """K copies of one order, one a venue: what if the whole slice had gone there?"""

    def __init__(self, evaluator: Evaluator, policy: Any, member: int) -> None:
        market = evaluator.market
        self.source, self.member = evaluator.core.simulator, member
        self.fork = Evaluator(evaluator.env_id, market, market.n_venues, 0, evaluator.data_split)
        self.fork.start()
        looks_into_core = getattr(policy, "core", None) is evaluator.core  # an oracle does
        self.policy = self.fork.policies([policy.name])[policy.name] if looks_into_core else policy

    def ask(self, decision: PolicyDecision, pace: np.ndarray | None, quantity_shares: float) -> Alternative:
        """The alternatives to a decision at the present state."""
        core = self.fork.core
        k = core.n
        sim = core.simulator = self.source.branch(np.full(k, self.member))
        core.observer = Observer(sim)
        policy = _fork_router(self.policy, self.source.n, self.member, k)
        sim.step(np.eye(k), None if pace is None else np.full(k, pace[self.member]))
        filled = np.diag(Truth(sim).filled_shares).copy()
        paid = np.diag(Truth(sim).fill_cost) * (quantity_shares / Truth(sim).cost_scale[0])
        price = np.divide(paid, filled, out=np.full(k, np.nan), where=filled > 0.0)
        state = decision.next_state  # of a recurrent policy: arrays (layers, n, hidden), else None
        if state is not None:
            state = tuple(np.repeat(part[:, self.member : self.member + 1], k, axis=1) for part in state)
        for _ in rollout(core, policy, core.observer.observe(), state=state, first_step=decision.step + 1):
            pass
        return Alternative(filled, price, sim.ledger()["shortfall"])


def _fork_router(policy: Any, n: int, member: int, times: int) -> Any:
    """A rule's copy, with whatever it remembers of `member` given to every copy; other policies keep no memory."""
    if not isinstance(policy, Router):
        return policy
    fork = copy.deepcopy(policy)
    for name, value in vars(policy).items():
        if isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == n:
            setattr(fork, name, np.repeat(value[member : member + 1], times, axis=0))
    return fork


def explain(evaluator: Evaluator, name: str, policy: Any, scenario: int) -> Explanation:
    """Replay one parent order of a policy (anything with SB3's ``predict``), to be called `name`.

    The order of seed `scenario` is run among all of the evaluator's scenarios, so that it is the evaluator's own run,
    bit for bit (a network rounds by batch size). Raises ValueError: the evaluator has no such scenario.
    """
    seeds = evaluator.scenario_seeds
    if scenario not in seeds:
        raise ValueError(f"scenario {scenario} is not among {seeds[0]} to {seeds[-1]}")
    member = seeds.index(scenario)
    core, simulator, market = evaluator.core, evaluator.core.simulator, evaluator.market
    observations = evaluator.start()
    recorder = ChildRecorder(simulator)
    alternatives = _Alternatives(evaluator, policy, member)

    def spent() -> dict[str, float]:
        ledger = simulator.ledger()
        return {part: float(ledger[part][member]) for part in LEDGER_PARTS}

    remaining, ledgers = [float(Truth(simulator).remaining_shares[member])], [spent()]
    options: list[Alternative] = []
    for decision in rollout(core, policy, observations, name=name):
        if remaining[-1] <= 0.0:
            break
        options.append(alternatives.ask(decision, core.action_adapter.decode(decision.actions)[1], remaining[0]))
        recorder.before()
        decision.take()
        recorder.after()
        remaining.append(float(Truth(simulator).remaining_shares[member]))
        ledgers.append(spent())
    log = recorder.log().select(np.array([member]))
    return Explanation(
        market=market.name,
        env_id=evaluator.env_id,
        policy=name,
        scenario=scenario,
        cost_unit=market.cost_unit,
        price_unit=market.price_unit,
        venue_names=tuple(market.venue_names),
        cost=float(log.shortfall[0]),
        parts=ledgers[-1],
        quantity_shares=remaining[0],
        cleanup_shares=float(log.cleanup_shares[0]),
        decisions=tuple(
            _decision(log, t, remaining[t], ledgers[t], ledgers[t + 1], option) for t, option in enumerate(options)
        ),
    )


def _decision(
    log: ChildLog, t: int, left_shares: float, before: dict[str, float], after: dict[str, float], option: Alternative
) -> Decision:
    mid, parts = float(log.mid_bps[0, t]), {part: after[part] - before[part] for part in before}
    as_logged = "open shown_shares observed_latency_ms sent_shares filled_shares latency_ms".split()
    return Decision(
        **{name: getattr(log, name)[0, t] for name in as_logged},
        step=t,
        time_s=t * log.step_s,
        remaining_shares=left_shares,
        slice_shares=float(log.slice_shares[0, t]),
        mid_bps=mid,
        touch_bps=log.touch_bps[0, t] - mid,
        fee_bps=log.fee_bps[0],
        price_bps=log.price_bps[0, t] - mid + log.fee_bps[0],
        cost=sum(parts.values()),
        parts=parts,
        alternative=option,
    )
