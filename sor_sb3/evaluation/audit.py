"""Behaviour audit: what a policy's actions depend on, found by changing what the policy observes, with a number each.

At every decision one thing about the policy's favourite venue (of the lit ones, where a dark pool would not show it)
is changed in the simulator's public records and the policy is asked again. The number is the share of the order flow
that moves: half the sum over venues of ``|w_k - w'_k|`` (total variation distance), averaged over decisions, in per
cent. The audit does not say whether a reaction pays.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sor_sb3.envs.core import RoutingCore
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Observed, Truth

AUDIT_SCENARIOS = 100
IGNORED_BELOW_PERCENT = 1.0
SLOWER_TIMES = 10.0
WORSE_SCALES = 2.0  # price scales of the observation, about a typical half-spread each

Change = Callable[[BatchSimulator, int], None]  # change the records in place, at one venue


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a policy; percentages are means over decisions.

    Attributes:
        change: what was changed in the observation, in words.
        moved_percent: share of the flow that moved.
        venue: at which the change was made; "" where nothing was changed.
        flow_before_percent: flow to `venue` before the change; NaN where nothing was changed.
        flow_after_percent: and after the change.
        yes: whether the answer is yes; `answer` says it in words.
    """

    key: str
    question: str
    change: str
    moved_percent: float
    venue: str
    flow_before_percent: float
    flow_after_percent: float
    yes: bool
    answer: str


@dataclass(frozen=True)
class Audit:
    """What a policy's actions depend on.

    Attributes:
        findings: one a question.
        favourite: the venue that gets the most flow overall.
        flow_percent: by "unchanged", "slow" and "halted" (where the market has halts), float64 (K,): where flow goes.
    """

    findings: tuple[Finding, ...]
    favourite: str
    flow_percent: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Question:
    key: str
    what: str  # that a policy may ignore
    change: str
    apply: Change
    lit: bool = False  # whether it is about what a dark pool does not show


def _altered(*fields: str, factor: float = 1.0, addend: float = 0.0) -> Change:
    def change(simulator: BatchSimulator, venue: int) -> None:
        for field in fields:
            values = 1.0 * getattr(Truth(simulator), field)
            values[:, venue] = factor * values[:, venue] + addend
            simulator.overwrite(**{field: values})

    return change


def _hurry(simulator: BatchSimulator, venue: int) -> None:
    simulator.overwrite(slice_shares=2.0 * Observed(simulator).slice_shares)


def _questions(evaluator: Evaluator) -> list[_Question]:
    market = evaluator.market
    worse = WORSE_SCALES * market.scales[0]
    by, slower = f"{worse:.3g} {market.price_unit}", f"the favourite venue is {SLOWER_TIMES:g} times slower"
    sizes = ("observed_shares", "observed_quote_shares")
    slow, shrink = _altered("observed_latency_ms", factor=SLOWER_TIMES), _altered(*sizes, factor=0.1)
    quote, fee = _altered("observed_offset_bps", addend=worse), _altered("take_fee_bps", addend=worse)
    questions = [
        _Question("latency", "latency", slower, slow),
        _Question("price", "the price", f"the favourite lit venue quotes {by} worse", quote, True),
        _Question("size", "displayed size", "the favourite lit venue shows a tenth of its size", shrink, True),
    ]
    if not market.charges_bps:  # no fees, partial fills, schedule or halts there
        return questions
    unfilled = "none of its last children at the favourite venue filled"
    return [
        *questions,
        _Question("fees", "fees", f"the fee of the favourite venue is {by} higher", fee),
        _Question("own_fills", "its own fills", unfilled, _altered("fill_ratio", factor=0.0)),
        _Question("urgency", "how far behind the order is", "twice as many shares are to be done now", _hurry),
        _Question("halt", "halts", "the favourite venue is halted", _altered("open", factor=0.0)),
    ]


@contextmanager
def _put_back(simulator: BatchSimulator) -> Iterator[None]:
    """Undo every change that is made in the state inside."""
    kept = simulator.get_state()
    try:
        yield
    finally:
        simulator.set_state(kept)


def _weights(core: RoutingCore, actions: np.ndarray) -> np.ndarray:
    """Weights (n, K) that actions stand for: where the policy sets a pace, of what is sent now, then what is kept."""
    weights, pace = core.action_adapter.decode(actions, core.n, core.simulator.read("wave") > 0)
    return weights if pace is None else np.column_stack([weights * pace[:, None], 1.0 - pace])


def _distance(weights: np.ndarray, others: np.ndarray) -> float:
    """Mean total variation distance between rows, per cent."""
    return float(50.0 * np.abs(weights - others).sum(axis=-1).mean())


def _favourites(evaluator: Evaluator, policy: Any) -> tuple[int, int]:
    """The venue that gets the most flow overall, and the lit one that does (the first of all where none is lit)."""
    core, venues = evaluator.core, evaluator.market.venues
    flow = np.zeros(len(venues))
    for decision in rollout(core, policy, evaluator.start()):
        busy = Truth(core.simulator).remaining_shares > 0.0
        flow += _weights(core, decision.actions)[busy, : len(venues)].sum(axis=0)
    dark = np.array([getattr(venue, "dark", None) is not None for venue in venues])
    return int(np.argmax(flow)), int(np.argmax(np.where(dark, -1.0, flow)))


def audit(evaluator: Evaluator, policy: Any) -> Audit:
    """Ask what a policy's actions depend on, at every decision of the evaluator's scenarios.

    `AUDIT_SCENARIOS` scenarios are enough. The policy, with SB3's ``predict``, reads observations only (so no oracle).
    """
    (favourite, favourite_lit), questions = _favourites(evaluator, policy), _questions(evaluator)
    venue_of = {q.key: favourite_lit if q.lit else favourite for q in questions}
    core = evaluator.core
    asked: dict[str, list[np.ndarray]] = {key: [] for key in ("unchanged", "again", *venue_of)}
    for decision in rollout(core, policy, evaluator.start()):
        busy = Truth(core.simulator).remaining_shares > 0.0
        asked["unchanged"].append(_weights(core, decision.actions)[busy])
        asked["again"].append(_weights(core, decision.ask(core.observer.observe()))[busy])
        for question in questions:
            with _put_back(core.simulator):
                question.apply(core.simulator, venue_of[question.key])
                asked[question.key].append(_weights(core, decision.ask(core.observer.observe()))[busy])
    after = {key: np.concatenate(rows) for key, rows in asked.items()}
    base = after["unchanged"]
    drawn = _distance(base, after["again"])
    names = evaluator.market.venue_names
    states = {"unchanged": "unchanged", "slow": "latency", "halted": "halt"}
    flow = {state: after[key][:, : len(names)].sum(axis=0) for state, key in states.items() if key in after}
    findings = [_finding(q, base, after[q.key], venue_of[q.key], names, drawn) for q in questions]
    return Audit(
        findings=(_constancy(base, drawn), *findings),
        favourite=names[favourite],
        flow_percent={name: 100.0 * sent / max(float(sent.sum()), 1e-300) for name, sent in flow.items()},
    )


def _constancy(base: np.ndarray, drawn: float) -> Finding:
    moved, nan = _distance(base, base.mean(axis=0)), float("nan")
    constant = drawn < IGNORED_BELOW_PERCENT and moved < IGNORED_BELOW_PERCENT
    answer = "yes, constant" if constant else "no" if drawn < IGNORED_BELOW_PERCENT else "no, it draws anew"
    change = "none: each decision's split against the average split"
    return Finding("constant", "Is it constant?", change, moved, "", nan, nan, constant, answer)


def _finding(
    question: _Question, base: np.ndarray, after: np.ndarray, venue: int, names: tuple[str, ...], drawn: float
) -> Finding:
    moved = _distance(base, after)
    ignores = moved < drawn + IGNORED_BELOW_PERCENT
    before, then = (float(100.0 * weights[:, venue].mean()) for weights in (base, after))
    answer, asked = "yes, ignores it" if ignores else "no", f"Does it ignore {question.what}?"
    return Finding(question.key, asked, question.change, moved, names[venue], before, then, ignores, answer)
