"""Laruelle, Lehalle, Pages: the split over pools as a stochastic algorithm on the simplex.

Pool i gives a discount rho_i and executes ``min(r_i V, D_i)``; ``sum_i rho_i E min(r_i V, D_i)`` is to be largest over
splits r. Optimal split of orders across liquidity pools: a stochastic algorithm approach, SIAM J. Financial
Mathematics 2 (2011) 1042-1076, doi:10.1137/090780596, arXiv:0910.1166.
"""

from __future__ import annotations

import numpy as np

from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.allocations import in_proportion, to_simplex


class _Split:
    def __init__(self, n_pools: int) -> None:
        self.n_pools = n_pools

    def share(self, state: State) -> np.ndarray:
        """The split r (n, K)."""
        return state[0]

    def split(
        self, state: State, volume: np.ndarray, allowed: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """``r V`` (n, K), in proportion over pools that are allowed."""
        return in_proportion(volume, self.share(state), allowed)


class Optimisation(_Split):
    """The gradient, projected: ``r_i += gamma_n V (rho_i 1{r_i V < D_i} - mean_j rho_j 1{r_j V < D_j})``.

    Lagrange's condition of the optimum is that ``E V rho_i 1{r_i V < D_i}`` is the same for all pools that get any.
    All of ``r_i V`` being filled is what the indicator says, so that no hidden size is needed. ``gamma_n = step
    n^-3/4``.
    """

    def __init__(self, n_pools: int, step: float = 1.0) -> None:
        super().__init__(n_pools)
        self.step = step

    def start(self, n: int) -> State:
        """An even split (n, K), and rounds (n,)."""
        return np.full((n, self.n_pools), 1.0 / self.n_pools), np.zeros(n)

    def learn(self, state: State, asked: np.ndarray, filled: np.ndarray, worth: np.ndarray | None = None) -> State:
        """One step, from what was asked and filled (n, K) and discounts `worth` (n, K); 1 where none is given."""
        volume, rounds = asked.sum(axis=1), state[1] + 1.0
        gain = (filled >= asked * (1.0 - 1e-6)) * (1.0 if worth is None else worth)
        move = (self.step * rounds**-0.75 * volume)[:, None] * (gain - gain.mean(axis=1, keepdims=True))
        return to_simplex(state[0] + move), rounds


class Reinforcement(_Split):
    """In proportion to what was gained so far, ``I_i += rho_i min(r_i V, D_i)``, ``r_i = I_i / sum_j I_j``.

    It converges faster than `Optimisation` but, where a pool is short of V, to another point than the optimum. `prior`
    is what each pool has gained before the first round.
    """

    def __init__(self, n_pools: int, prior: float = 1e-3) -> None:
        super().__init__(n_pools)
        self.prior = prior

    def start(self, n: int) -> State:
        """Gains (n, K): the prior."""
        return (np.full((n, self.n_pools), self.prior),)

    def share(self, state: State) -> np.ndarray:
        """``I_i / sum_j I_j``."""
        return state[0] / state[0].sum(axis=1, keepdims=True)

    def learn(self, state: State, asked: np.ndarray, filled: np.ndarray, worth: np.ndarray | None = None) -> State:
        """Add what was filled (n, K) times the discounts `worth` (n, K)."""
        return (state[0] + filled * (1.0 if worth is None else worth),)
