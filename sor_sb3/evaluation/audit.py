"""Behaviour audit: what a policy's actions depend on, found by changing what it observes, with a number each.

It asks nothing of a policy but `predict`, so learned and unlearned ones are audited alike. It says what a policy
reacts to, not whether the reaction pays: costs are the evaluator's business.

At every decision of some scenarios one thing about the policy's favourite venue is changed in the simulator's public
records, the observation is written anew (so that features derived from others stay consistent), the policy is asked
again, and the records are put back. The number is the share of the order flow that moves: half the sum over venues of
``|w_k - w'_k|`` (total variation distance), averaged over decisions, in per cent: 0 is no reaction, 100 a wholly
different route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sor_sb3.envs.observation import observation_scales
from sor_sb3.evaluation.evaluator import Evaluator, masks_wanted
from sor_sb3.market.spec import NotebookMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Observed, Truth

AUDIT_SCENARIOS = 100
IGNORED_BELOW_PERCENT = 1.0
SLOWER_TIMES = 10.0
DEARER_SCALES = 2.0  # price scales of the observation, about a typical half-spread each

Change = Callable[[BatchSimulator, int], None]  # change the records in place, at one venue


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a policy.

    Attributes:
        key: short name.
        question: in words.
        change: what was changed in the observation.
        moved_percent: share of the flow that moved, mean over decisions.
        flow_before_percent: flow to the favourite venue, mean over decisions, before the change; NaN if it is of none.
        flow_after_percent: and after.
        answer: in words.
    """

    key: str
    question: str
    change: str
    moved_percent: float
    flow_before_percent: float
    flow_after_percent: float
    answer: str


@dataclass(frozen=True)
class Audit:
    """What a policy's actions depend on.

    Attributes:
        findings: one a question.
        favourite: the venue that gets the most flow overall.
        flow_percent: by "as it is", "slow" and "halted" (where the market has halts), float64 (K,): where flow goes.
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


def _times(simulator: BatchSimulator, field: str, venue: int, factor: float) -> None:
    values = getattr(Observed(simulator), field) * np.ones(1)
    values[:, venue] *= factor
    simulator.overwrite(**{field: values})


def _add(simulator: BatchSimulator, field: str, venue: int, addend: float) -> None:
    values = getattr(Observed(simulator), field).copy()
    values[:, venue] += addend
    simulator.overwrite(**{field: values})


def _slow(simulator: BatchSimulator, venue: int) -> None:
    _times(simulator, "observed_latency_ms", venue, SLOWER_TIMES)


def _halt(simulator: BatchSimulator, venue: int) -> None:
    _times(simulator, "open", venue, 0.0)


def _shrink(simulator: BatchSimulator, venue: int) -> None:
    for field in ("observed_shares", "depleted_shares"):
        _times(simulator, field, venue, 0.1)


def _lose_fills(simulator: BatchSimulator, venue: int) -> None:
    _times(simulator, "fill_ratio", venue, 0.0)


def _hurry(simulator: BatchSimulator, venue: int) -> None:
    simulator.overwrite(slice_shares=2.0 * Observed(simulator).slice_shares)


def _questions(evaluator: Evaluator) -> list[_Question]:
    market = evaluator.market
    dearer = DEARER_SCALES * observation_scales(market)[0]

    def quote_worse(simulator: BatchSimulator, venue: int) -> None:
        _add(simulator, "observed_offset_bps", venue, dearer)

    def raise_fee(simulator: BatchSimulator, venue: int) -> None:
        _add(simulator, "take_fee_bps", venue, dearer)

    by = f"{dearer:.3g} {'bps' if market.cost_unit == 'bps' else 'units'}"
    latency = _Question("latency", "latency", f"the favourite is {SLOWER_TIMES:g} times slower", _slow)
    price = _Question("price", "the price", f"the favourite quotes {by} worse", quote_worse)
    size = _Question("size", "displayed size", "the favourite shows a tenth of it", _shrink)
    if isinstance(market, NotebookMarket):  # no fees, partial fills, schedule or halts there
        return [latency, price, size]
    return [
        latency,
        price,
        size,
        _Question("fees", "fees", f"the favourite's fee is {by} higher", raise_fee),
        _Question("own_fills", "its own fills", "none of its last children at the favourite filled", _lose_fills),
        _Question("urgency", "how far behind it is", "twice as much is to be done now", _hurry),
        _Question("halt", "halts", "the favourite is halted", _halt),
    ]


@contextmanager
def _put_back(simulator: BatchSimulator) -> Iterator[None]:
    """Whatever is changed in the records inside is undone."""
    kept = simulator.get_state()
    try:
        yield
    finally:
        simulator.set_state(kept)


class _Asker:
    """Asks a policy for weights at the evaluator's present state, as it is or changed."""

    def __init__(self, evaluator: Evaluator, policy: Any) -> None:
        self.core, self.policy = evaluator.core, policy
        self.masked = masks_wanted(policy) and self.core.action_adapter.masked
        self.state: Any = None
        self.first = np.ones(self.core.n, dtype=bool)

    def ask(self) -> tuple[np.ndarray, Any, Any]:
        """Weights (n, K), the action they came from, and the policy's next state.

        Where the policy also sets a pace, the weights are of what it sends now and a last column (n, K + 1) is what
        it keeps for later.
        """
        masks = {"action_masks": self.core.action_masks()} if self.masked else {}
        actions, state = self.policy.predict(self.core.observer.observe(), self.state, self.first, True, **masks)
        weights, pace = self.core.action_adapter.decode(actions)
        if pace is not None:
            weights = np.column_stack([weights * pace[:, None], 1.0 - pace])
        return weights, actions, state

    def go_on(self, actions: Any, state: Any) -> None:
        """Take the step."""
        self.core.step(actions)
        self.state, self.first = state, np.zeros(self.core.n, dtype=bool)


def _percent(flow: np.ndarray) -> np.ndarray:
    """Shares of the whole, per cent; zeros where there is none."""
    return 100.0 * flow / max(float(flow.sum()), 1e-300)


def _distance(weights: np.ndarray, others: np.ndarray) -> float:
    """Mean total variation distance between rows, per cent."""
    return float(50.0 * np.abs(weights - others).sum(axis=-1).mean())


def _favourite(evaluator: Evaluator, policy: Any) -> int:
    evaluator.start()
    k = evaluator.market.n_venues
    asker, flow = _Asker(evaluator, policy), np.zeros(k)
    for _ in range(evaluator.market.order.horizon_steps):
        weights, actions, state = asker.ask()
        flow += weights[Truth(evaluator.core.simulator).remaining_shares > 0.0, :k].sum(axis=0)
        asker.go_on(actions, state)
    return int(np.argmax(flow))


def audit(evaluator: Evaluator, policy: Any) -> Audit:
    """Ask what a policy's actions depend on, at every decision of the evaluator's scenarios.

    Args:
        evaluator: the market days; `AUDIT_SCENARIOS` of them say enough.
        policy: anything with SB3's ``predict`` that looks at observations only (so no oracle).
    """
    favourite, questions = _favourite(evaluator, policy), _questions(evaluator)
    evaluator.start()
    asker, simulator = _Asker(evaluator, policy), evaluator.core.simulator
    as_is: list[np.ndarray] = []
    again: list[np.ndarray] = []
    changed: dict[str, list[np.ndarray]] = {q.key: [] for q in questions}
    for _ in range(evaluator.market.order.horizon_steps):
        weights, actions, state = asker.ask()
        busy = Truth(simulator).remaining_shares > 0.0
        as_is.append(weights[busy])
        again.append(asker.ask()[0][busy])
        for question in questions:
            with _put_back(simulator):
                question.apply(simulator, favourite)
                changed[question.key].append(asker.ask()[0][busy])
        asker.go_on(actions, state)
    base = np.concatenate(as_is)
    after = {key: np.concatenate(rows) for key, rows in changed.items()}
    drawn = _distance(base, np.concatenate(again))
    flow = {"as it is": base, "slow": after["latency"]} | ({"halted": after["halt"]} if "halt" in after else {})
    return Audit(
        findings=(_constancy(base, drawn), *(_finding(q, base, after[q.key], favourite, drawn) for q in questions)),
        favourite=evaluator.market.venue_names[favourite],
        flow_percent={name: _percent(rows[:, : evaluator.market.n_venues].sum(axis=0)) for name, rows in flow.items()},
    )


def _constancy(base: np.ndarray, drawn: float) -> Finding:
    moved = _distance(base, base.mean(axis=0))
    if drawn >= IGNORED_BELOW_PERCENT:
        answer = "no, it draws anew"
    else:
        answer = "yes, constant" if moved < IGNORED_BELOW_PERCENT else "no"
    change = "none: each decision's split against the average split"
    return Finding("constant", "Is it constant?", change, moved, float("nan"), float("nan"), answer)


def _finding(question: _Question, base: np.ndarray, after: np.ndarray, favourite: int, drawn: float) -> Finding:
    moved = _distance(base, after)
    ignores = moved < drawn + IGNORED_BELOW_PERCENT
    return Finding(
        question.key,
        f"Does it ignore {question.what}?",
        question.change,
        moved,
        float(100.0 * base[:, favourite].mean()),
        float(100.0 * after[:, favourite].mean()),
        "yes, ignores it" if ignores else "no",
    )
