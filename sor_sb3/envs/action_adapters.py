"""Actions as weights over venues and a pace: the envs differ in nothing else. `decode` is the kernels' door."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
from gymnasium import spaces

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.simulator.compiled import entry_point


@dataclass(frozen=True)
class ActionAdapter(ABC):
    """Maps a batch of actions to weights (N, K) and a pace (N,) or None, and rules' weights back to actions."""

    n_venues: int
    venue_names: tuple[str, ...] = field(default=(), compare=False)  # for messages
    most_resting_ratio: float = 1.0  # of the market's order: what weights of what rests may sum to
    env_id: ClassVar[str]
    masked: ClassVar[bool] = False
    paced: ClassVar[bool] = False
    rests: ClassVar[bool] = False  # whether orders may rest across decisions

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return (self.n_venues + self.paced,)

    @property
    def space(self) -> spaces.Space:
        """The action space."""
        return spaces.Box(-1.0, 1.0, self.shape, np.float32)

    @abstractmethod
    def decode(
        self, actions: Any, n: int | None = None, is_later: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights float64 (N, K), rows summing to 1, and pace float64 (N,), or None for what the schedule wants.

        Args:
            actions: numbers (N, ...), each action of `shape`; a single action is a batch of one where `n` is None.
            n: how many rows are expected; None takes any number.
            is_later: bool (N,), which rows are later waves of a decision, where a split may hold back what came back:
                their weights may all be 0. None: none is.

        Raises:
            UserError: the number or the length of rows, the type, or a value is not what `space` asks for.
        """

    def resting(self, actions: Any) -> np.ndarray | None:
        """What should rest where, of actions that `decode` accepts: weights (N, K), whose rows sum to 1 at most.

        They sum to `most_resting_ratio` at most where that is more.
        """
        return None

    @abstractmethod
    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """Actions (N, ...) that stand for `weights` (N, K) and, where the env lets one choose them, the others.

        These are `pace` (N,) and `resting` (N, K), what should rest where; without it nothing rests.
        """

    def of_fewer(self, actions: np.ndarray, n_venues: int) -> np.ndarray:
        """What actions (N, ...) say of the first `n_venues` venues, as actions of an env that has no others."""
        if not self.shape:
            return actions
        columns = [k + first for first in range(0, self.shape[0] - self.paced, self.n_venues) for k in range(n_venues)]
        return actions[:, [*columns, *([self.shape[0] - 1] if self.paced else [])]]

    def _rows(self, actions: Any, n: int | None) -> np.ndarray:
        rows = as_array(actions)
        if rows.dtype.kind not in "fiu":
            raise UserError(f"{self.env_id}: actions are of type {rows.dtype}; expected numbers")
        if n is None and rows.shape == self.shape:
            rows = rows[None]
        if rows.shape[1:] != self.shape or rows.ndim == 0 or (n is not None and len(rows) != n):
            count = "rows" if n is None else f"{n} row{'' if n == 1 else 's'}"
            of = f"of {self.shape[0]}" if self.shape else "of 1 venue number, without a second axis"
            raise UserError(f"{self.env_id}: actions are {rows.shape}; expected {count} {of}")
        return rows

    def _rows_of_floats(self, actions: Any, n: int | None) -> np.ndarray:
        rows = np.ascontiguousarray(self._rows(actions, n))
        return rows if rows.dtype == np.float32 else rows.astype(np.float64)  # kernels are compiled for these two

    def _venue(self, k: int) -> str:
        return f"venue {self.venue_names[k] if self.venue_names else k}"

    def _refuse(self, rows: np.ndarray, i: int) -> NoReturn:
        k = int(np.flatnonzero(~np.isfinite(rows[i]))[0])
        what = self._venue(k) if k < self.n_venues else "the pace"
        raise UserError(f"{self.env_id}: the action of row {i} for {what} is {rows[i, k]}; expected a finite number")


def as_array(actions: Any) -> np.ndarray:
    """Actions as NumPy has them; a `UserError` where rows differ in length."""
    try:
        return np.asarray(actions)
    except (ValueError, TypeError) as error:
        raise UserError(f"actions are no array of numbers ({error}); expected rows of one length") from None


@dataclass(frozen=True)
class VenueSelect(ActionAdapter):
    """``Discrete(K)``: this step's slice, in a later wave what came back, goes to one venue."""

    env_id: ClassVar[str] = "VenueSelect-v1"
    masked: ClassVar[bool] = True
    shape: ClassVar[tuple[int, ...]] = ()

    @property
    def space(self) -> spaces.Discrete:
        """The action space."""
        return spaces.Discrete(self.n_venues)

    def decode(self, actions: Any, n: int | None = None, is_later: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """One-hot weights of whole numbers (N,) in [0, K)."""
        rows = self._rows(actions, n)
        with np.errstate(invalid="ignore"):  # of a NaN, which is found to differ
            chosen = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.dtype != np.int64 and (chosen != rows).any():
            self._refuse(rows, int(np.argmax(chosen != rows)))
        weights = np.zeros((len(chosen), self.n_venues))
        wrong = _choose(chosen, weights)
        if wrong >= 0:
            self._refuse(rows, wrong)
        return weights, None

    def _refuse(self, rows: np.ndarray, i: int) -> NoReturn:
        last = self.n_venues - 1
        expected = f"a whole number from 0 ({self._venue(0)}) to {last} ({self._venue(last)})"
        raise UserError(f"{self.env_id}: the action of row {i} is {rows[i]}; expected {expected}")

    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """The venue of the largest weight; int64 (N,). The pace is the schedule's."""
        return np.argmax(weights, axis=1)


@dataclass(frozen=True)
class OrderSplit(ActionAdapter):
    """``Box(-1, 1, (K,))``: weights ``max(a, 0) / sum(max(a, 0))``; where the sum is 0, uniform in the first wave.

    In a later wave a sum of 0 holds back what came back, for the decisions to come. Every point of the simplex is
    reached, and maps to itself. Finite numbers beyond the bounds count as they are.
    """

    env_id: ClassVar[str] = "OrderSplit-v1"

    def decode(
        self, actions: Any, n: int | None = None, is_later: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Positive parts of finite numbers (N, K), normalised; with a pace of (N, K + 1)."""
        rows = self._rows_of_floats(actions, n)
        weights = np.empty((len(rows), self.n_venues))
        wrong = _normalise(rows, _NONE_LATER if is_later is None else is_later, weights)
        if wrong >= 0:
            self._refuse(rows, wrong)
        return weights, np.clip(0.5 * (rows[:, -1].astype(np.float64) + 1.0), 0.0, 1.0) if self.paced else None

    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """The weights themselves, float32 (N, K). The pace is the schedule's."""
        return np.asarray(weights, dtype=np.float32)


@dataclass(frozen=True)
class OrderExecute(OrderSplit):
    """``Box(-1, 1, (K + 1,))``: the split as in `OrderSplit`, and last how much of what is offered goes out now.

    The last component a is the pace ``(a + 1) / 2``: 1 sends all that is neither known to be filled nor in flight, and
    in a later wave all that came back in this decision.
    """

    env_id: ClassVar[str] = "OrderExecute-v1"
    paced: ClassVar[bool] = True

    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """Weights and pace as one row, float32 (N, K + 1); without a pace, all goes out."""
        pace = np.ones(len(weights)) if pace is None else pace
        return np.concatenate([weights, 2.0 * pace[:, None] - 1.0], axis=1).astype(np.float32)


ROUNDING = 1e-6  # of the sum of a row of weights that sum to 1, in float32
_NONE_LATER = np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True)
class OrderPlace(ActionAdapter):
    """``Box(-1, 1, (2 K + 1,))``: weights of what to take now, weights of what should rest where, the pace of taking.

    Both kinds of weights are ``max(a, 0) / max(1, sum(max(a, 0)))``: what they lack of 1 is held back. (Where
    `order.overbooking` is set, those of what rests sum to its `most_ratio` at most, in place of 1.) The last
    component a is the pace ``(a + 1) / 2``, the share to take now of what is neither known to be filled nor in flight.
    Resting weights are targets, in shares of that less what is taken now: the simulator posts what is missing at the
    near touch (or at the midpoint of a dark pool) and cancels what is too much, youngest first. They count in a
    decision's first wave only.
    """

    env_id: ClassVar[str] = "OrderPlace-v1"
    paced: ClassVar[bool] = True
    rests: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return (2 * self.n_venues + 1,)

    def decode(
        self, actions: Any, n: int | None = None, is_later: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights of what to take (N, K), whose rows sum to 1 at most, and the pace (N,)."""
        rows = self._rows_of_floats(actions, n)
        weights, pace = np.empty((len(rows), self.n_venues)), np.empty(len(rows))
        wrong = _read_paces(rows, pace)
        if wrong >= 0:
            self._refuse(rows, wrong)
        _at_most(rows, 0, 1.0, weights)
        return weights, pace

    def resting(self, actions: Any) -> np.ndarray:
        """Weights (N, K) of what should rest where."""
        rows = self._rows_of_floats(actions, None)
        weights = np.empty((len(rows), self.n_venues))
        _at_most(rows, self.n_venues, self.most_resting_ratio, weights)
        return weights

    def _refuse(self, rows: np.ndarray, i: int) -> NoReturn:
        k = int(np.flatnonzero(~np.isfinite(rows[i]))[0])
        what = "the pace" if k == 2 * self.n_venues else f"{self._venue(k % self.n_venues)}"
        part = "" if k == 2 * self.n_venues else (" to take at" if k < self.n_venues else " to rest at")
        raise UserError(f"{self.env_id}: the action of row {i}{part} {what} is {rows[i, k]}; expected a finite number")

    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """Take weights, resting weights and pace as one row, float32 (N, 2 K + 1); without a pace, all is taken."""
        pace = np.ones(len(weights)) if pace is None else pace
        resting = np.zeros_like(weights) if resting is None else resting
        return np.concatenate([weights, resting, 2.0 * pace[:, None] - 1.0], axis=1).astype(np.float32)


@entry_point(nogil=True)
def _read_paces(rows: Any, pace: Any) -> int:
    """Fill `pace` (N,) from the last column; returns the first row that holds a NaN or an infinity, else -1."""
    for i in range(len(rows)):
        not_finite = 0.0
        for k in range(rows.shape[1]):
            not_finite += rows[i, k] * 0.0
        if not_finite != 0.0:
            return i
        pace[i] = min(max(0.5 * (rows[i, rows.shape[1] - 1] + 1.0), 0.0), 1.0)
    return -1


@entry_point(nogil=True)
def _at_most(rows: Any, first: int, most: float, weights: Any) -> None:
    """Fill `weights` (N, K) with positive parts of `rows` from column `first` on, scaled down to a sum of `most`.

    So are sums below it by less than float32 rounds: a rule that takes all holds nothing back.
    """
    for i in range(len(weights)):
        largest, total = 1.0, 0.0  # so that sums of finite numbers are finite
        for k in range(weights.shape[1]):
            weights[i, k] = max(rows[i, first + k], 0.0)
            largest = max(largest, weights[i, k])
        for k in range(weights.shape[1]):
            total += weights[i, k] / largest
        for k in range(weights.shape[1]):
            if total > most * (1.0 - ROUNDING) / largest:
                weights[i, k] = weights[i, k] / largest / total * most


@entry_point(nogil=True)
def _normalise(rows: Any, is_later: Any, weights: Any) -> int:
    """Fill `weights` (N, K); returns the first row of `rows` that holds a NaN or an infinity, else -1."""
    n_venues = weights.shape[1]
    for i in range(len(weights)):
        total, not_finite = 0.0, 0.0
        for k in range(n_venues):
            weights[i, k] = 0.0 if rows[i, k] < 0.0 else rows[i, k]
            total += weights[i, k]
            not_finite += rows[i, k] * 0.0
        for k in range(n_venues, rows.shape[1]):
            not_finite += rows[i, k] * 0.0
        if not_finite != 0.0:
            return i
        if total == math.inf:  # of finite numbers
            largest, total = weights[i].max(), 0.0
            for k in range(n_venues):
                weights[i, k] /= largest
                total += weights[i, k]
        nothing = 0.0 if is_later.size > 0 and is_later[i] else 1.0 / n_venues
        for k in range(n_venues):
            weights[i, k] = nothing if total <= 0.0 else weights[i, k] / total
    return -1


@entry_point(nogil=True)
def _choose(chosen: Any, weights: Any) -> int:
    """Write ones into `weights` (N, K); returns the first row of `chosen` (N,) that is no venue, else -1."""
    for i in range(len(weights)):
        if chosen[i] < 0 or chosen[i] >= weights.shape[1]:
            return i
        weights[i, chosen[i]] = 1.0
    return -1


ACTION_ADAPTERS: dict[str, type[ActionAdapter]] = {
    a.env_id: a for a in (VenueSelect, OrderSplit, OrderExecute, OrderPlace)
}


FIRST_MARKET_IDS = ("VenueSelect-v0", "OrderSplit-v0", "OrderExecute-v0")


def of_the_first_market(env_id: str) -> str:
    """What to say of an env whose dynamics are gone."""
    remedy = f"take {env_id[:-1]}1, and train its models anew (docs/from_v0_to_v1.md)"
    return f"env '{env_id}' belongs to the first market, whose dynamics are gone; {remedy}"


def make_action_adapter(
    env_id: str, n_venues: int, venue_names: tuple[str, ...] = (), most_resting_ratio: float = 1.0
) -> ActionAdapter:
    """The action adapter of a registered env (`sor_sb3:` in front is allowed).

    Raises:
        UserError: no env has this name.
    """
    name = str(env_id).removeprefix("sor_sb3:")
    if name in FIRST_MARKET_IDS:
        raise UserError(of_the_first_market(name))
    if name not in ACTION_ADAPTERS:
        hint = did_you_mean(name, list(ACTION_ADAPTERS))
        raise UserError(f"env '{env_id}' is unknown{hint}; expected one of {', '.join(ACTION_ADAPTERS)}")
    return ACTION_ADAPTERS[name](n_venues, venue_names, most_resting_ratio)
