"""Almgren and Harts: sweep displayed and estimated hidden size, learned within the order."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.allocations import in_proportion
from sor_sb3.policies.learning_rules.hidden_size import estimate_hidden, sweep_with_hidden
from sor_sb3.policies.online import Answers, OnlineRouter


class AlmgrenHarts(OnlineRouter):
    """Almgren and Harts (2008): displayed plus estimated hidden size, greedily by price after fees.

    A venue's estimate H is what the last child filled beyond the display; it halves every `half_life_s` and is 0 after
    a child that asked for more than the display and found no more. A dark pool displays nothing and its price is the
    mid. Each venue is asked for ``display + max(H, probe)``, `probe` being a share of an even slice, since what is
    never asked for is never found. What all of that cannot take is spread by displayed size. H lives as long as the
    order. See :func:`sor_sb3.policies.learning_rules.hidden_size.estimate_hidden`.
    """

    name = "almgren_harts"
    constants: ClassVar = {"half_life_s": (30.0, 10.0, 120.0), "probe": (0.1, 0.0, 0.3)}
    n_notes = 1
    within_episode = True

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where venues bid and offer."""
        return market.charges_bps

    def _make_learner(self) -> None:
        dark = [getattr(venue, "dark", None) for venue in self.market.venues]
        self._least_shares = np.array([pool.min_execution_shares if pool else 0.0 for pool in dark])

    def start(self, n: int) -> State:
        """Nothing hidden anywhere (n, K)."""
        return (np.zeros((n, self.market.n_venues)),)

    def note(self, view: ObservationView) -> np.ndarray:
        """Displayed sizes."""
        return (view.size_shares * view.quoted)[:, :, None]

    def is_learned_from(self, view: ObservationView) -> np.ndarray:
        """Every child is."""
        return np.ones(len(view.wave), dtype=bool)

    def learn(self, learned: State, answers: Answers, view: ObservationView) -> State:
        """Decay the estimates by the time of a decision, and correct them by the answers."""
        elapsed_s = np.where(view.is_later, 0.0, self.market.order.step_s)
        asked = np.where(answers.rejected, 0.0, answers.asked)
        seen = asked, answers.noted[:, :, 0], answers.filled
        return (estimate_hidden(learned[0], elapsed_s, self.set["half_life_s"], *seen),)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice."""
        displayed = view.size_shares * view.quoted
        takes = view.quoted | (view.dark & view.usable)
        probe_shares = self.set["probe"] * self.market.scales[1]
        offered = (displayed + np.maximum(self._now[0], probe_shares)) * takes
        price = np.where(view.dark, view.fee_bps, view.offset_bps + view.fee_bps)
        for _ in range(2):
            taken = sweep_with_hidden(price, offered, view.slice_shares)
            few = view.dark & (taken < self._least_shares - 1e-6)
            offered = np.where(few, 0.0, offered)
        left = np.maximum(view.slice_shares - taken.sum(axis=1), 0.0)
        return taken * ~few + in_proportion(left, displayed, view.quoted)
