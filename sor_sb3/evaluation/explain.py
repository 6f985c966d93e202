"""Replay one parent order, wave by wave: what the router observed, sent and got, and what each venue would have cost.

Each child comes with the book that it found, so that its fill can be worked out by hand: it takes what rests at the
midpoint, then level by level what is displayed, less the fade (from the top downwards), at the first level with what is
hidden there, in order of price and up to its limit. A step's cost in units of the order is ``sum over fills of filled x
(price + fee - mark) + remaining after it x (next mark - mark)``, over the quantity; the first step has the mark, the
efficient price above the arrival midpoint, on top, and the last the clean-up.

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
class Child:
    """One child and the book that it found on arrival; prices in bps above the arrival mid, our own push included.

    Attributes:
        venue: its index; it `arrives_ms` after the decision with `sent_shares` and a limit of `limit_bps`.
        fade_shares: displayed size that had left by then because we were filled elsewhere.
        least_shares: the venue's minimum execution.
        mid_bps: the midpoint, with `mid_shares` resting there unseen (in a dark pool: all it holds).
        price_bps: float64 (L,), of the levels, with `displayed_shares` (L,) before the fade.
        hidden_shares: behind the first level.
        print_bps: float64 (P,), prices of what was taken, `print_shares` (P,) each.
        filled_shares: as the ledger has it.
        status: "", or why nothing was executed: "closed", "rejected"; or "late", for a child whose tick was not the
            decision's, so that the book is not the one that it found.
    """

    venue: int
    sent_shares: float
    arrives_ms: float
    limit_bps: float
    fade_shares: float
    least_shares: float
    mid_bps: float
    mid_shares: float
    price_bps: np.ndarray
    displayed_shares: np.ndarray
    hidden_shares: float
    print_bps: np.ndarray
    print_shares: np.ndarray
    filled_shares: float
    status: str


@dataclass(frozen=True)
class Decision:
    """One env step of the order, a decision or a later wave of it; arrays (K,).

    Attributes:
        step: the decision, counted from 0, `wave` of it too; `time_s` after arrival.
        remaining_shares: to be done, of which `slice_shares` in this step by the schedule, or came back before it.
        mid_bps: true midpoint above the arrival mid.
        mark_bps: efficient price above the arrival mid, and `next_mark_bps` that at the next env step.
        children: those that arrived in this env step.
        open: whether a venue traded; `touch_bps` is its far touch above the mid, `fee_bps` its take fee, `shown_shares`
            what it displayed, and `observed_latency_ms` its latency, one way, as observed.
        sent_shares: what went there, of which `filled_shares` came back filled.
        price_bps: average price of what filled above the mid plus fee; NaN if nothing filled.
        latency_ms: one way, of the child order.
        cost: of the step in cost units, the sum of its `parts` in the ledger; a step's costs add up to the order's.
        alternative: the whole slice to one venue.
    """

    step: int
    wave: int
    time_s: float
    remaining_shares: float
    slice_shares: float
    mid_bps: float
    mark_bps: float
    next_mark_bps: float
    children: tuple[Child, ...]
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
        size_unit: what sizes count, "shares" or "BTC".
        quantity_shares: of the order, of which `cleanup_shares` were swept at the deadline.
    """

    market: str
    env_id: str
    policy: str
    scenario: int
    cost_unit: str
    price_unit: str
    size_unit: str
    venue_names: tuple[str, ...]
    cost: float
    parts: dict[str, float]
    quantity_shares: float
    cleanup_shares: float
    decisions: tuple[Decision, ...]

    @property
    def n_steps(self) -> int:
        """How many decisions the order took, waves apart."""
        return self.decisions[-1].step + 1


class _Alternatives:
    """K copies of one order, one a venue: what if the whole slice had gone there?"""

    def __init__(self, evaluator: Evaluator, policy: Any, member: int) -> None:
        market = evaluator.market
        self.source_core, self.source, self.member = evaluator.core, evaluator.core.simulator, member
        self.fork = Evaluator(evaluator.env_id, market, market.n_venues, 0, evaluator.data_split)
        self.fork.start()
        looks_into_core = getattr(policy, "core", None) is evaluator.core  # an oracle does
        self.policy = self.fork.policies([policy.name])[policy.name] if looks_into_core else policy

    def ask(self, decision: PolicyDecision, mid_bps: float) -> Alternative:
        """The alternatives to a decision at the present state, where the true midpoint is `mid_bps`."""
        source = self.source_core
        _, pace = source.action_adapter.decode(decision.actions, source.n, self.source.read("wave") > 0)
        resting = source.action_adapter.resting(decision.actions)
        core = self.fork.core
        k = core.n
        sim = core.simulator = self.source.branch(np.full(k, self.member))
        core.observer = Observer(sim)
        policy = _fork_router(self.policy, self.source.n, self.member, k)
        own = lambda rows: None if rows is None else np.repeat(rows[self.member : self.member + 1], k, axis=0)  # noqa: E731
        sim.step(np.eye(k), own(pace), rest=own(resting))
        truth, priced = Truth(sim), self.fork.market.charges_bps
        filled = np.diag(truth.filled_shares).copy()
        paid = np.diag(truth.fill_value_bps if priced else truth.fill_cost * truth.quantity_shares[0])
        price = np.divide(paid, filled, out=np.full(k, np.nan), where=filled > 0.0)
        price = price + np.diag(truth.take_fee_bps) - mid_bps if priced else price / truth.cost_scale[0]
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

    def mark() -> float:
        truth = Truth(simulator)
        return float((truth.mark_bps + truth.permanent_bps + truth.transient_bps)[member])

    remaining, ledgers, marks = [float(Truth(simulator).remaining_shares[member])], [spent()], [mark()]
    options: list[Alternative] = []
    children: list[tuple[Child, ...]] = []
    for decision in rollout(core, policy, observations, name=name):
        if remaining[-1] <= 0.0:
            break
        recorder.before()
        options.append(alternatives.ask(decision, recorder.mid_bps(member)))
        decision.take()
        recorder.after()
        children.append(_children(recorder, member) if market.charges_bps else ())
        remaining.append(float(Truth(simulator).remaining_shares[member]))
        ledgers.append(spent())
        marks.append(mark())
    log = recorder.log().select(np.array([member]))
    return Explanation(
        market=market.name,
        env_id=evaluator.env_id,
        policy=name,
        scenario=scenario,
        cost_unit=market.cost_unit,
        price_unit=market.price_unit,
        size_unit=getattr(market, "unit", "shares"),
        venue_names=tuple(market.venue_names),
        cost=float(log.shortfall[0]),
        parts=ledgers[-1],
        quantity_shares=remaining[0],
        cleanup_shares=float(log.cleanup_shares[0]),
        decisions=tuple(
            _decision(log, t, remaining[t], (ledgers[t], ledgers[t + 1]), (marks[t], marks[t + 1]), children[t], option)
            for t, option in enumerate(options)
        ),
    )


def _children(recorder: ChildRecorder, member: int) -> tuple[Child, ...]:
    """The children of a member that arrived in the env step just taken."""
    terms, prints, push = recorder.terms, recorder.prints, recorder.push_bps[member]
    found, arrived = [], recorder.arrived(member)
    for k in np.flatnonzero(arrived):
        book, shares = recorder.books.books[member, k], prints.shares[member, k]
        levels, taken = int(book["n_levels"]), shares > 0.0
        found.append(
            Child(
                venue=int(k),
                sent_shares=float(terms.sent_shares[member, k]),
                arrives_ms=float(recorder.arrives_ms[member, k]),
                limit_bps=float(terms.limit_bps[member, k]) + push,
                fade_shares=float(terms.fade_shares[member, k]),
                least_shares=float(terms.least_shares[member, k]),
                mid_bps=float(book["mid_bps"]) + push,
                mid_shares=float(book["mid_shares"]),
                price_bps=book["price_bps"][:levels] + push,
                displayed_shares=book["shares"][:levels].copy(),
                hidden_shares=float(book["hidden_shares"]),
                print_bps=prints.price_bps[member, k][taken] + push,
                print_shares=shares[taken],
                filled_shares=float(shares.sum()),
                status=recorder.status(member, int(k)),
            )
        )
    return tuple(found)


def _decision(
    log: ChildLog,
    t: int,
    left_shares: float,
    ledgers: tuple[dict[str, float], dict[str, float]],
    marks: tuple[float, float],
    children: tuple[Child, ...],
    option: Alternative,
) -> Decision:
    before, after = ledgers
    mid, parts = float(log.mid_bps[0, t]), {part: after[part] - before[part] for part in before}
    as_logged = "open shown_shares observed_latency_ms sent_shares filled_shares latency_ms".split()
    return Decision(
        **{name: getattr(log, name)[0, t] for name in as_logged},
        step=int(log.decision[0, t]),
        wave=int(log.wave[0, t]),
        time_s=float(log.time_s[0, t]),
        remaining_shares=left_shares,
        slice_shares=float(log.slice_shares[0, t]),
        mid_bps=mid,
        mark_bps=marks[0],
        next_mark_bps=marks[1],
        children=children,
        touch_bps=log.touch_bps[0, t] - mid,
        fee_bps=log.fee_bps[0],
        price_bps=log.price_bps[0, t] - mid + log.fee_bps[0],
        cost=sum(parts.values()),
        parts=parts,
        alternative=option,
    )
