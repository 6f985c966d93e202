"""Actions as weights over venues and a pace: the envs differ in nothing else. No cost arithmetic here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import spaces

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.simulator.compiled import entry_point


class ActionAdapter(Protocol):
    """Maps a batch of actions to weights (N, K) and a pace (N,) or None, and rules' weights back to actions."""

    masked: ClassVar[bool]

    @property
    def n_venues(self) -> int:
        """How many venues."""
        ...

    @property
    def space(self) -> spaces.Space:
        """The action space."""
        ...

    def decode(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights float64 (N, K), rows summing to 1, and pace (N,), or None for the schedule's slice."""
        ...

    def encode(self, weights: np.ndarray, pace: np.ndarray | None = None) -> np.ndarray:
        """Actions (N, ...) that stand for `weights` (N, K) and, where the env lets one choose it, `pace` (N,)."""
        ...


@dataclass(frozen=True)
class VenueSelect:
    """``Discrete(K)``: this step's slice goes to one venue."""

    n_venues: int
    masked: ClassVar[bool] = True

    @property
    def space(self) -> spaces.Discrete:
        """The action space."""
        return spaces.Discrete(self.n_venues)

    def decode(self, actions: np.ndarray) -> tuple[np.ndarray, None]:
        """One-hot weights."""
        actions = np.asarray(actions, dtype=np.int64).reshape(-1)
        weights = np.zeros((len(actions), self.n_venues))
        weights[np.arange(len(actions)), actions] = 1.0
        return weights, None

    def encode(self, weights: np.ndarray, pace: np.ndarray | None = None) -> np.ndarray:
        """The venue of the largest weight; int64 (N,). The pace is the schedule's."""
        return np.argmax(weights, axis=1)


@dataclass(frozen=True)
class OrderSplit:
    """``Box(-1, 1, (K,))``: weights ``max(a, 0) / sum(max(a, 0))``, uniform where the sum is 0.

    Every point of the simplex is reached, and maps to itself.
    """

    n_venues: int
    masked: ClassVar[bool] = False

    @property
    def space(self) -> spaces.Box:
        """The action space."""
        return spaces.Box(-1.0, 1.0, (self.n_venues,), np.float32)

    def decode(self, actions: np.ndarray) -> tuple[np.ndarray, None]:
        """Positive parts, normalised."""
        return _weights_of(_rows(actions, self.n_venues), self.n_venues), None

    def encode(self, weights: np.ndarray, pace: np.ndarray | None = None) -> np.ndarray:
        """The weights themselves, float32 (N, K). The pace is the schedule's."""
        return np.asarray(weights, dtype=np.float32)


@dataclass(frozen=True)
class OrderExecute:
    """``Box(-1, 1, (K + 1,))``: the split as in `OrderSplit`, and last how much of what is available goes out now.

    The last component a stands for the pace ``(a + 1) / 2``: -1 waits, 1 sends all that is neither known to be filled
    nor in flight.
    """

    n_venues: int
    masked: ClassVar[bool] = False

    @property
    def space(self) -> spaces.Box:
        """The action space."""
        return spaces.Box(-1.0, 1.0, (self.n_venues + 1,), np.float32)

    def decode(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positive parts, normalised, and the pace."""
        rows = _rows(actions, self.n_venues + 1)
        pace = np.clip(0.5 * (rows[:, -1].astype(np.float64) + 1.0), 0.0, 1.0)
        return _weights_of(rows, self.n_venues), pace

    def encode(self, weights: np.ndarray, pace: np.ndarray | None = None) -> np.ndarray:
        """Weights and pace as one row, float32 (N, K + 1); without a pace, all goes out."""
        pace = np.ones(len(weights)) if pace is None else pace
        return np.concatenate([weights, 2.0 * pace[:, None] - 1.0], axis=1).astype(np.float32)


def _rows(actions: np.ndarray, n: int) -> np.ndarray:
    rows = np.ascontiguousarray(actions).reshape(-1, n)
    return rows if rows.dtype == np.float32 else rows.astype(np.float64)  # the kernel is compiled for these two


@entry_point(nogil=True)
def _normalise(rows: Any, weights: Any) -> None:
    n_venues = weights.shape[1]
    for i in range(len(weights)):
        total = 0.0
        for k in range(n_venues):
            weights[i, k] = 0.0 if rows[i, k] < 0.0 else rows[i, k]  # NaN stays
            total += weights[i, k]
        for k in range(n_venues):
            weights[i, k] = 1.0 / n_venues if total <= 0.0 else weights[i, k] / total


def _weights_of(rows: np.ndarray, n_venues: int) -> np.ndarray:
    """Positive parts of the first `n_venues` columns, normalised; float64 (n, n_venues)."""
    weights = np.empty((len(rows), n_venues))
    _normalise(rows, weights)
    return weights


ACTION_ADAPTERS: dict[str, type[VenueSelect] | type[OrderSplit] | type[OrderExecute]] = {
    "VenueSelect-v0": VenueSelect,
    "OrderSplit-v0": OrderSplit,
    "OrderExecute-v0": OrderExecute,
}


def make_action_adapter(env_id: str, n_venues: int) -> ActionAdapter:
    """The action_adapter of a registered env (`sor_sb3:` in front is allowed).

    Raises:
        UserError: no env has this name.
    """
    name = env_id.removeprefix("sor_sb3:")
    if name not in ACTION_ADAPTERS:
        raise UserError(
            f"env '{env_id}' is unknown{did_you_mean(name, list(ACTION_ADAPTERS))}; "
            f"expected one of {', '.join(ACTION_ADAPTERS)}"
        )
    return ACTION_ADAPTERS[name](n_venues)
