"""Cont and Kukanov's placement, data-driven: what sellers will bring is resampled from the scenario's own past.

Cont and Kukanov 2017, "Optimal order placement in limit order markets", Quantitative Finance 17, 21-39, section 4: the
stochastic approximation needs draws of the outflows, not their law.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.rules.cont_kukanov import ContKukanov
from sor_sb3.policies.rules.schedules import kept_volume


class ContKukanovResampled(ContKukanov):
    """As `cont_kukanov`, with outflows drawn from those that this scenario's decisions have seen.

    An observation shows an exponential average of each venue's outflow; what came since the decision before is taken
    out of it again. For a horizon of h decisions each draw adds h of these, drawn with replacement, of all venues at
    the same moments, so that venues keep their dependence. Before `least_past` are seen, outflows are exponential about
    the recent average, as in `cont_kukanov`. It keeps the last `most_past` of every scenario.
    """

    name = "cont_kukanov_resampled"
    group = "literature"
    least_past: ClassVar[int] = 5
    most_past: ClassVar[int] = 64

    def __init__(self, market: MarketSpec, env_id: str = "OrderPlace-v1", seed: int = 0, **constants: Any) -> None:
        super().__init__(market, env_id, seed, **constants)
        self._exponential = self._draws
        most_ahead = max(int(np.ceil(self.patience)), 1)
        self._moments = np.random.default_rng(seed).random((self.draws, most_ahead))
        self._kept = kept_volume(market)
        self._forget(0)

    def restart(self) -> None:
        """Forget the past."""
        super().restart()
        self._forget(0)

    def _forget(self, n: int) -> None:
        venues = self.market.n_venues
        self._past, self._seen = np.zeros((n, self.most_past, venues)), np.zeros(n, dtype=np.int64)
        self._average = np.zeros((n, venues))

    def _remember(self, view: ObservationView) -> None:
        """Add what sellers brought since the decision before; a scenario that begins has no past."""
        if len(self._seen) != len(view.time_left):
            self._forget(len(view.time_left))
        first_wave, begins = ~view.is_later, view.time_left > 1.0 - 1e-6
        self._seen[first_wave & begins] = -1
        came = np.maximum((view.outflow_shares - self._kept * self._average) / (1.0 - self._kept), 0.0)
        rows = np.flatnonzero(first_wave & (self._seen >= 0))
        self._past[rows, self._seen[rows] % self.most_past] = came[rows]
        self._seen[first_wave] += 1
        self._average[first_wave] = view.outflow_shares[first_wave]

    def _place(self, view: ObservationView) -> np.ndarray:
        self._remember(view)
        decisions = np.rint(view.time_left * self.market.order.horizon_steps)
        ahead = np.maximum(np.clip(decisions - 2.0, 0.0, self.patience), 1.0)
        placed = np.empty((len(decisions), 1 + self.market.n_venues))
        known = np.minimum(self._seen, self.most_past)
        early = known < self.least_past
        self._draws = self._exponential
        if early.any():
            placed[early] = super()._place(_rows(view, early))
        for i in np.flatnonzero(~early):
            moments = (self._moments[:, : int(ahead[i])] * known[i]).astype(np.int64)
            expected = view.outflow_shares[i] * ahead[i]
            came = self._past[i][moments].sum(axis=1)
            self._draws = np.divide(came, expected, out=np.zeros_like(came), where=expected > 0.0)
            placed[i : i + 1] = super()._place(_rows(view, slice(i, i + 1)))
        return placed


def _rows(view: ObservationView, which: Any) -> ObservationView:
    return ObservationView(**{field.name: getattr(view, field.name)[which] for field in fields(view)})
