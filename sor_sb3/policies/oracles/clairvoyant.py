"""The exact bound of a small market; :mod:`sor_sb3.evaluation.bounds` has a relaxed bound for large ones."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from sor_sb3.envs.action_adapters import OrderPlace
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.policies.protocol import Oracle
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.state import REST_FIELDS, SLOT_FIELDS, VENUE_FIELDS
from sor_sb3.simulator.views import Truth

MOST_STATES = 200_000  # of one decision; more would take minutes an episode


@lru_cache(maxsize=256)
def compositions(lots: int, venues: int) -> np.ndarray:
    """Every way to lay `lots` into `venues`, int64 (n, venues); not to be written to."""
    if venues == 1:
        return np.array([[lots]])
    rows = [np.insert(compositions(lots - here, venues - 1), 0, here, axis=1) for here in range(lots, -1, -1)]
    return np.concatenate(rows)


@lru_cache(maxsize=256)
def _lot_choices(lots: int, n_venues: int, paced: bool, may_pause: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights (m, K) of every placement and its pace (m,), negative for the schedule's; zeros hold a wave back."""
    nothing = np.zeros((1, n_venues))
    if lots == 0:
        return nothing, np.array([0.0 if paced else -1.0])
    sent = range(lots + 1) if paced else [0, lots] if may_pause else [lots]
    weights = [compositions(m, n_venues) / m if m else nothing for m in sent]
    paces = [np.full(len(w), m / lots if paced else -1.0) for w, m in zip(weights, sent, strict=True)]
    return np.concatenate(weights), np.concatenate(paces)


def _taken_alone(lots: int, n_venues: int, paced: bool, may_pause: bool) -> tuple[np.ndarray, ...]:
    weights, pace = _lot_choices(lots, n_venues, paced, may_pause)
    return weights, pace, np.zeros_like(weights)


@lru_cache(maxsize=4096)
def _resting_choices(offered: float, free: float, lot: float, n_venues: int) -> tuple[np.ndarray, ...]:
    """Weights (m, K), pace (m,) and targets (m, K) of all that can be taken and rest, of shares that are offered.

    No more is taken than is `free`; the others rest already.
    """
    nothing = np.zeros((1, n_venues))
    lots = math.ceil(offered / lot - 1e-9)
    takes, paces, rests = [], [], []
    for m in range(lots + 1):
        taken = min(m / lots * offered, free) if m else 0.0
        weights = compositions(m, n_venues) / m if m else nothing
        base = offered - taken
        resting = math.floor(base / lot + 1e-9)
        targets = compositions(resting, n_venues + 1)[:, :n_venues] * (lot / base) if resting else nothing
        takes.append(np.repeat(weights, len(targets), axis=0))
        rests.append(np.tile(targets, (len(weights), 1)))
        paces.append(np.full(len(takes[-1]), m / max(lots, 1)))
        if m and m / lots * offered >= free * (1.0 - 1e-9):
            break
    return np.concatenate(takes), np.concatenate(paces), np.concatenate(rests)


class Clairvoyant(Oracle):
    """The oracle of a whole episode: the cheapest sequence of actions through a known path, by dynamic programming.

    A state is everything that our own actions changed and the simulator reads later; states equal in every bit count as
    one. The simulator itself tries every action of every state, wave by wave, so no policy is cheaper in any scenario.
    Where orders may rest, an action is what is taken and what rests, in whole lots.

    Raises:
        UserError: actions are not finite in number (a split without `order.lot_shares`), or there are too many.
    """

    name = "clairvoyant"

    def __init__(self, core: RoutingCore) -> None:
        if not core.action_adapter.masked and core.market.order.lot_shares is None:
            what = f"router 'clairvoyant' tries every split of {core.market.name}, which needs whole lots"
            raise UserError(f"{what}: set order.lot_shares in the market, or use VenueSelect-v1")
        super().__init__(core)
        self._plans: dict[int, tuple[int, dict[Any, np.ndarray]]] = {}  # by member: the episode's key, its actions

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, ...); an episode is planned at its first decision."""
        return np.stack([self._action(i) for i in range(self.core.n)])

    def _action(self, member: int) -> Any:
        at = np.array([member])
        step, wave, key = (int(self.core.simulator.read(name, at)[0]) for name in ("step", "wave", "order_key"))
        if step == 0 and wave == 0 and self._plans.get(member, (None, {}))[0] != key:
            self._plans[member] = key, self._plan(member)
        planned_key, plan = self._plans.get(member, (None, {}))
        if planned_key != key:
            raise UserError("router 'clairvoyant' was asked in the middle of an episode; let it begin with a reset")
        return plan.get((step, wave), plan[0, 0])  # an episode that has ended takes any action

    def _choices(self, simulator: BatchSimulator) -> list[tuple[np.ndarray, ...]]:
        """For each state, weights (m, K), pace (m,), negative for the schedule's, and targets of what rests (m, K).

        All that send different children, or rest other shares; a later wave reads no targets.
        """
        n_venues, lot, truth = self.core.market.n_venues, self.core.market.order.lot_shares, Truth(simulator)
        paced, later = self.core.action_adapter.paced, truth.wave > 0
        if self.core.action_adapter.masked:
            self._refuse_many(n_venues * simulator.n)
            some = np.eye(n_venues), np.full(n_venues, -1.0), np.zeros((n_venues, n_venues))
            return [some] * simulator.n
        offered = np.where(later, truth.returned_shares, truth.available_shares)
        lots = np.ceil((offered if paced else truth.slice_shares) / lot - 1e-9).astype(int).tolist()
        if self.core.action_adapter.rests:
            resting = np.where(later, 0.0, truth.resting_shares)
            placed = np.ceil((offered + resting) / lot - 1e-9).astype(int)
            self._refuse_many(sum(math.comb(int(n) + 2 * n_venues, int(n)) for n in placed) // 4)
            states = zip(offered.tolist(), resting.tolist(), lots, later.tolist(), strict=True)
            return [
                _taken_alone(n, n_venues, True, True) if wave else _resting_choices(free + rests, free, lot, n_venues)
                for free, rests, n, wave in states
            ]
        self._refuse_many(sum(math.comb(n + n_venues - (0 if paced else 1), n) for n in lots))
        return [_taken_alone(n, n_venues, paced, bool(wave)) for n, wave in zip(lots, later, strict=True)]

    def _refuse_many(self, count: int) -> None:
        if count > MOST_STATES:
            states = f"{count} states of {self.core.market.name} at one decision"
            raise UserError(f"router 'clairvoyant' would have to try {states}; give it fewer venues, steps or lots")

    def _plan(self, member: int) -> dict[Any, np.ndarray]:
        """The cheapest actions from now to the end of the member's episode, by decision and wave."""
        frontier = self.core.simulator.branch(np.array([member]))
        cost, plans = np.zeros(1), np.zeros((1, 0), dtype=np.int64)
        best_cost, best_plan = math.inf, plans[0]
        taken: list[tuple[np.ndarray, np.ndarray]] = []  # every env step's encoded actions, and when they were taken
        while True:
            choices, truth = self._choices(frontier), Truth(frontier)
            members = np.repeat(np.arange(frontier.n), [len(pace) for _, pace, _ in choices])
            weights, pace, rest = (np.concatenate(part) for part in zip(*choices, strict=True))
            when = np.stack([truth.step, truth.wave], axis=1)[members]
            taken.append((self._encoded(weights, np.maximum(pace, 0.0), rest), when))
            branch = frontier.branch(members)
            step_cost, _, done = branch.step(weights, pace, rest=rest if self.core.action_adapter.rests else None)
            cost = cost[members] + step_cost
            plans = np.concatenate([plans[members], np.arange(len(members))[:, None]], axis=1)
            ended = np.flatnonzero(done)
            if ended.size and cost[ended].min() < best_cost:
                winner = ended[np.argmin(cost[ended])]
                best_cost, best_plan = float(cost[winner]), plans[winner]
            kept = _distinct(branch, cost, np.flatnonzero(~done))
            if not kept.size:
                break
            frontier, cost, plans = branch.branch(kept), cost[kept], plans[kept]
        chosen = zip(taken, best_plan, strict=False)
        return {tuple(when[choice].tolist()): actions[choice] for (actions, when), choice in chosen}

    def _encoded(self, weights: np.ndarray, pace: np.ndarray, rest: np.ndarray) -> np.ndarray:
        adapter = self.core.action_adapter
        return adapter.encode(weights, pace, rest) if isinstance(adapter, OrderPlace) else adapter.encode(weights, pace)


def _distinct(simulator: BatchSimulator, cost: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The cheapest of each group of `members` that have the same future under the same actions."""
    truth = Truth(simulator)
    ours = "step wave elapsed_ms remaining_shares available_shares slice_shares returned_shares permanent_bps"
    ours += " transient_bps leak_bps mark_bps observed_mid_bps printed_shares printed_fresh_shares"
    columns = [getattr(truth, name)[:, None] for name in ours.split()]
    columns.append(np.where(truth.printed_shares > 0.0, truth.printed_ms, 0.0)[:, None])
    for amount, details in (  # details without an amount are left from before
        ("child_shares", [name for name in VENUE_FIELDS if name.startswith("child_")]),
        ("taken_shares", ["taken_shares", "taken_s"]),
        ("slot_shares", list(SLOT_FIELDS)),
        ("rest_total_shares", ["rest_total_shares"]),
        ("rest_shares", list(REST_FIELDS)),
        ("rest_cancel_shares", list(REST_FIELDS)),
        ("venue_printed_shares", [name for name in VENUE_FIELDS if name.startswith("venue_printed_")]),
    ):
        counts = getattr(truth, amount) > 0.0
        columns += [np.where(counts, getattr(truth, name), 0.0) for name in details]
    key = np.ascontiguousarray(np.concatenate(columns, axis=1)[members].astype(np.float64))
    by_cost = np.argsort(cost[members], kind="stable")
    _, first = np.unique(key[by_cost].view(np.dtype((np.void, key.shape[1] * 8))).ravel(), return_index=True)
    return members[by_cost[np.sort(first)]]
