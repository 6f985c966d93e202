"""Agarwal, Bartlett, Dama: exponentiated gradient for dark pools whose liquidity an adversary may choose.

Each unit of volume has a distribution over pools. What pool i gets of V units is ``v_i = sum_{u<=V} x_{u,i}``, and
each of these distributions follows the gradient of what is filled, ``x_{u,i} <- x_{u,i} exp(eta g_i) / Z`` with ``g_i
= 1`` where all of v_i was filled, else 0. Against the best fixed allocation the regret is of order ``V sqrt(T ln K)``,
which no algorithm betters, and of order T^(2/3) in whole units. Optimal allocation strategies for the dark pool
problem, AISTATS 2010, PMLR 9, 9-16, arXiv:1003.2245.
"""

from __future__ import annotations

import numpy as np

from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.allocations import in_proportion, whole_units


class ExponentiatedGradient:
    """Continuous allocations. Of `rounds` T the rate is ``eta = sqrt(8 ln K / T)``.

    `most_units` is the largest volume, in units; a volume between two whole numbers takes a part of its last unit.
    """

    def __init__(self, n_pools: int, most_units: int = 1, rounds: int = 5000) -> None:
        self.n_pools, self.most_units, self.rounds = n_pools, most_units, rounds
        self.rate = np.sqrt(8.0 * np.log(max(n_pools, 2)) / rounds)

    def start(self, n: int) -> State:
        """Uniform distributions: logarithms of weights (n, U, K)."""
        return (np.zeros((n, self.most_units, self.n_pools)),)

    def allocation(self, state: State, volume: np.ndarray) -> np.ndarray:
        """``v_i`` (n, K) of `volume` (n,) units."""
        weights = np.exp(state[0] - state[0].max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        beyond = np.maximum(volume - self.most_units, 0.0)  # as the last unit
        return (self._part(volume)[:, :, None] * weights).sum(axis=1) + beyond[:, None] * weights[:, -1]

    def _part(self, volume: np.ndarray) -> np.ndarray:
        """How much (n, U) of each unit is in the volume (n,)."""
        return np.clip(volume[:, None] - np.arange(self.most_units), 0.0, 1.0)

    def split(
        self, state: State, volume: np.ndarray, allowed: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """The allocation (n, K), in proportion over pools that are allowed."""
        return in_proportion(volume, self.allocation(state, volume), allowed)

    def learn(self, state: State, asked: np.ndarray, filled: np.ndarray, worth: np.ndarray | None = None) -> State:
        """A step along the gradient at what was asked and filled (n, K); `worth` (n, K) in [0, 1] of a share filled."""
        gradient = (asked > 0.0) & (filled >= asked * (1.0 - 1e-6))
        return self._step(state, asked, gradient * (1.0 if worth is None else worth))

    def _step(self, state: State, asked: np.ndarray, gradient: np.ndarray) -> State:
        units = np.ceil(self._part(asked.sum(axis=1)))
        logarithms = state[0] + self.rate * units[:, :, None] * gradient[:, None, :]
        return (logarithms - logarithms.max(axis=2, keepdims=True),)


class IntegerGradient(ExponentiatedGradient):
    """Whole units. The allocation is rounded up or down at random so that its mean is the continuous one.

    A pool that got ``floor(v_i) + 1``, which happens with chance ``f_i = v_i - floor(v_i)``, says whether one more is
    filled than the floor: ``g_i = 1{all filled} / (f_i + gamma)``, 0 elsewhere, is a gradient of the mean fill whose
    error and variance ``gamma = T^(-1/3)`` bounds (implicit exploration, Neu 2015; the paper's own rounds of
    exploration have the same order). The rate is ``eta = sqrt(ln K / K) T^(-2/3)``.
    """

    def __init__(self, n_pools: int, most_units: int = 1, rounds: int = 5000) -> None:
        super().__init__(n_pools, most_units, rounds)
        self.rate, self.gamma = np.sqrt(np.log(max(n_pools, 2)) / n_pools) * rounds ** (-2 / 3), rounds ** (-1 / 3)

    def split(
        self, state: State, volume: np.ndarray, allowed: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """Whole units (n, K); without a generator by largest remainders."""
        volume = np.floor(volume + 1e-6)
        shares = in_proportion(volume, self.allocation(state, volume), allowed)
        if rng is None:
            return whole_units(shares, volume * allowed.any(axis=1))
        # systematic rounding: the running sum passes whole numbers, shifted by one uniform draw
        passed = np.floor(np.cumsum(shares, axis=1) + rng.random((len(volume), 1)) - 1e-9)
        return np.diff(passed, axis=1, prepend=0.0).astype(np.int64)

    def learn(self, state: State, asked: np.ndarray, filled: np.ndarray, worth: np.ndarray | None = None) -> State:
        """A step along the estimated gradient."""
        volume = asked.sum(axis=1)
        shares = self.allocation(state, volume)
        floor = np.floor(shares + 1e-9)
        up = asked > floor + 0.5
        chance = np.where(up, np.clip(shares - floor, 0.0, 1.0), 1.0)
        gradient = (up & (filled >= asked * (1.0 - 1e-6))) / (chance + self.gamma)
        return self._step(state, asked, gradient * (1.0 if worth is None else worth))
