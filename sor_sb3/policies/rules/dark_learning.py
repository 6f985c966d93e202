"""Routers that learn what dark pools hold: Ganchev et al., Agarwal et al., Laruelle et al. Lit venues are swept."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.censored import KaplanMeier, ZeroBinPowerLaw
from sor_sb3.policies.learning_rules.exponentiated import ExponentiatedGradient, IntegerGradient
from sor_sb3.policies.learning_rules.stochastic_split import Optimisation, Reinforcement
from sor_sb3.policies.online import Answers, OnlineRouter, along, best_all_in_bps
from sor_sb3.policies.rules.price import NetPriceSweep

UNITS_OF_A_SLICE = 20  # where the market has no lots
MOST_UNITS = 400


class _PoolRouter(OnlineRouter, NetPriceSweep):
    """`dark_share` of a slice to the dark pools, split by a learner; the rest, and what comes back, is swept by price.

    Where there is one wave what comes back is carried forward, so that in the last quarter of the horizon the pools get
    nothing. A pool is given no less than its minimum execution size. A child that is rejected says nothing of what a
    pool holds.
    """

    constants: ClassVar = {"dark_share": (0.4, 0.1, 1.0)}
    n_notes = 1
    patience: ClassVar[float] = 0.25  # share of the horizon that is left when a router of one wave stops asking

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where there is a dark pool."""
        return market.has_dark

    @abstractmethod
    def _learner(self, n_pools: int, most_units: int) -> Any:
        """What splits volume over so many pools, in units."""

    def _make_learner(self) -> None:
        order, dark = self.market.order, [getattr(venue, "dark", None) for venue in self.market.venues]
        self._pools = np.flatnonzero([pool is not None for pool in dark])
        self._least_shares = np.array([pool.min_execution_shares for pool in dark if pool is not None])
        self.unit_shares = order.lot_shares or self.market.scales[1] / UNITS_OF_A_SLICE
        most = int(min(np.ceil(order.quantity_shares / self.unit_shares), MOST_UNITS))
        self.learner = self._learner(len(self._pools), max(most, 1))

    def start(self, n: int) -> State:
        """What the learner knows at first."""
        return self.learner.start(n)

    def note(self, view: ObservationView) -> np.ndarray:
        """What a fill here saves against the best price after fees, in price scales, within [0, 1]."""
        scale_bps = self.market.scales[0]
        saved = (best_all_in_bps(view, scale_bps)[:, None] - view.fee_bps) / scale_bps
        return np.clip(saved, 0.0, 1.0)[:, :, None]

    def learn(self, learned: State, answers: Answers, view: ObservationView) -> State:
        """Hand the learner the answers of the pools, in units."""
        asked = np.where(answers.rejected, 0.0, answers.asked)[:, self._pools] / self.unit_shares
        if not (asked > 0.0).any():
            return learned
        filled = answers.filled[:, self._pools] / self.unit_shares
        heard = np.asarray((asked > 0.0).any(axis=1))
        after = self.learner.learn(learned, asked, filled, answers.noted[:, self._pools, 0])
        return tuple(np.where(along(heard, a), b, a) for a, b in zip(learned, after, strict=True))

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice, or of what came back."""
        lit = super().weights(view)
        asks = ~view.is_later
        if self.market.order.waves == 1:
            asks = asks & (view.time_left > self.patience)
        slice_shares = view.slice_shares * (view.slice_shares > 1e-6)
        units = np.floor(self.set["dark_share"] * slice_shares * asks / self.unit_shares + 1e-3)
        allowed = view.usable[:, self._pools]
        shares = self.learner.split(self._now, units, allowed, self._rng) * self.unit_shares
        few = (shares > 0.0) & (shares < self._least_shares - 1e-6)
        if few.any():
            again = self.learner.split(self._now, units, allowed & ~few, self._rng) * self.unit_shares
            shares = np.where(few.any(axis=1, keepdims=True), again * (again >= self._least_shares - 1e-6), shares)
        part = shares / np.maximum(slice_shares, 1e-6)[:, None]
        total = lit.sum(axis=1, keepdims=True)
        lit = np.divide(lit, total, out=np.zeros_like(lit), where=total > 0.0)
        weights = lit * np.maximum(1.0 - part.sum(axis=1, keepdims=True), 0.0)
        weights[:, self._pools] += part
        return weights


class GanchevPowerLaw(_PoolRouter):
    """Ganchev et al. (2009): a zero bin with a power law by maximum likelihood, allocated greedily by its tails.

    ``argmax_i T_i(v_i + 1)`` unit by unit, ``T(s) = (1 - z) tail_b(s)``; while learning, random splits in a share of
    decisions that falls. See :class:`sor_sb3.policies.learning_rules.censored.ZeroBinPowerLaw`.
    """

    name = "ganchev_power_law"

    def _learner(self, n_pools: int, most_units: int) -> ZeroBinPowerLaw:
        return ZeroBinPowerLaw(n_pools, most_units)


class GanchevKaplanMeier(_PoolRouter):
    """Ganchev et al. (2009): tails by the product limit, which assumes no law; else as `ganchev_power_law`.

    See :class:`sor_sb3.policies.learning_rules.censored.KaplanMeier`.
    """

    name = "ganchev_kaplan_meier"

    def _learner(self, n_pools: int, most_units: int) -> KaplanMeier:
        return KaplanMeier(n_pools, most_units)


class AgarwalContinuous(_PoolRouter):
    """Agarwal, Bartlett, Dama (2010): exponentiated gradient, a distribution over pools for each unit.

    ``x_{u,i} <- x_{u,i} exp(eta g_i) / Z``, g_i what a fill saves where all was filled, else 0. See
    :class:`sor_sb3.policies.learning_rules.exponentiated.ExponentiatedGradient`.
    """

    name = "agarwal_continuous"

    def _learner(self, n_pools: int, most_units: int) -> ExponentiatedGradient:
        return ExponentiatedGradient(n_pools, most_units, self.rounds)


class AgarwalInteger(_PoolRouter):
    """Agarwal, Bartlett, Dama (2010) in whole units, rounded at random while learning.

    See :class:`sor_sb3.policies.learning_rules.exponentiated.IntegerGradient`.
    """

    name = "agarwal_integer"

    def _learner(self, n_pools: int, most_units: int) -> IntegerGradient:
        return IntegerGradient(n_pools, most_units, self.rounds)


class LaruelleOptimisation(_PoolRouter):
    """Laruelle, Lehalle, Pages (2011): the gradient of what fills save, projected on the simplex of splits.

    ``r_i += gamma_n V (rho_i 1{r_i V < D_i} - mean_j rho_j 1{r_j V < D_j})``.

    The discount rho_i is what a fill saves against the best price after fees. See
    :class:`sor_sb3.policies.learning_rules.stochastic_split.Optimisation`.
    """

    name = "laruelle_optimisation"

    def _learner(self, n_pools: int, most_units: int) -> Optimisation:
        slice_units = self.market.scales[1] / self.unit_shares
        return Optimisation(n_pools, 1.0 / slice_units)


class LaruelleReinforcement(_PoolRouter):
    """Laruelle, Lehalle, Pages (2011): in proportion to what each pool has saved so far, ``r_i = I_i / sum_j I_j``.

    See :class:`sor_sb3.policies.learning_rules.stochastic_split.Reinforcement`.
    """

    name = "laruelle_reinforcement"

    def _learner(self, n_pools: int, most_units: int) -> Reinforcement:
        return Reinforcement(n_pools, self.market.scales[1] / self.unit_shares)  # a slice: shares go out in lots
