"""Bandits over venues: epsilon-greedy, UCB1, Thompson sampling, LinUCB; and RISE over splits, which minds variance."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.bandits import UCB1, Bandit, EpsilonGreedy, LinUCB, Thompson
from sor_sb3.policies.learning_rules.risk_aware import Rise
from sor_sb3.policies.online import Answers, OnlineRouter, best_all_in_bps
from sor_sb3.policies.rules.price import NetPriceSweep

N_FEATURES = 6


class _BanditRouter(OnlineRouter, NetPriceSweep):
    """A slice goes to the venue that a bandit chooses; what comes back is swept as `net_price_sweep`.

    The reward of a child, within [0, 1], is ``filled share (best - all-in price + miss) / (1 + miss)`` in price scales:
    what each share saved against being missed, which costs `miss` more than the best price after fees. Both prices are
    those observed when the child went out; a dark pool's is the mid.
    """

    constants: ClassVar = {"miss": (1.0, 0.25, 4.0)}
    n_notes = 1 + N_FEATURES

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where venues bid and offer, and may fill a part."""
        return market.charges_bps

    def _make_learner(self) -> None:
        dark = [getattr(venue, "dark", None) for venue in self.market.venues]
        self._least_shares = np.array([pool.min_execution_shares if pool else 0.0 for pool in dark])
        self.learner: Any = self._learner()

    @abstractmethod
    def _learner(self) -> Bandit | Rise:
        """What chooses."""

    def start(self, n: int) -> State:
        """What the bandit knows at first."""
        return self.learner.start(n)

    def note(self, view: ObservationView) -> np.ndarray:
        """What a filled share gains, and what LinUCB sees: 1, price, size, fill ratio, rejection and latency."""
        scale_bps, _, latency_ms = self.market.scales
        price = np.where(view.dark, 0.0, view.offset_bps) + view.fee_bps
        excess = (price - best_all_in_bps(view, scale_bps)[:, None]) / scale_bps
        gain = np.clip((self.set["miss"] - excess) / (1.0 + self.set["miss"]), 0.0, 1.0)
        size = np.clip(view.size_shares / np.maximum(view.slice_shares, 1e-9)[:, None], 0.0, 1.0)
        late = np.log1p(view.latency_ms / latency_ms)
        one = np.ones_like(price)
        return np.stack([gain, one, np.clip(excess, -2.0, 2.0), size, view.fill_ratio, view.reject, late], axis=2)

    def _allowed(self, view: ObservationView) -> np.ndarray:
        """bool (n, K): venues that quote, and pools for which the slice is large enough."""
        enough = view.slice_shares[:, None] >= self._least_shares - 1e-6
        return view.quoted | (view.dark & view.usable & enough)

    def learn(self, learned: State, answers: Answers, view: ObservationView) -> State:
        """Hand the bandit the reward of the venue that has answered."""
        heard = answers.asked > 0.0
        if not heard.any():
            return learned
        arms = np.where(heard.any(axis=1), np.argmax(heard, axis=1), -1)
        return self.learner.learn(learned, arms, self._rewards(answers), answers.noted[:, :, 1:])

    def _rewards(self, answers: Answers) -> np.ndarray:
        """Gains (n,) of a share that was asked for."""
        asked = np.maximum(answers.asked.sum(axis=1), 1e-9)
        return (answers.filled * answers.noted[:, :, 0]).sum(axis=1) / asked

    def _chosen(self, view: ObservationView, allowed: np.ndarray) -> np.ndarray:
        features = self.note(view)[:, :, 1:]
        arms = self.learner.choose(self._now, allowed, features, self._rng)
        return (arms[:, None] == np.arange(self.market.n_venues)) & allowed

    def weights(self, view: ObservationView) -> np.ndarray:
        """The chosen venue, or split, in a first wave; a sweep of what came back."""
        swept = super().weights(view)
        chosen = self._chosen(view, self._allowed(view))
        return np.where((view.is_later | ~chosen.any(axis=1))[:, None], swept, chosen)


class EpsilonGreedyRouter(_BanditRouter):
    """The venue of the best mean reward; while learning, one at random with chance .1 (Auer et al. 2002)."""

    name = "epsilon_greedy"

    def _learner(self) -> EpsilonGreedy:
        return EpsilonGreedy(self.market.n_venues)


class UCB1Router(_BanditRouter):
    """``mean_k + sqrt(2 ln t / n_k)``; the mean once its learning is over (Auer, Cesa-Bianchi, Fischer 2002)."""

    name = "ucb1"

    def _learner(self) -> UCB1:
        return UCB1(self.market.n_venues)


class ThompsonRouter(_BanditRouter):
    """A draw of each venue's mean reward from its beta posterior; the posterior mean afterwards (Thompson 1933)."""

    name = "thompson"

    def _learner(self) -> Thompson:
        return Thompson(self.market.n_venues)


class LinUCBRouter(_BanditRouter):
    """``theta_k' x + alpha sqrt(x' A_k^-1 x)`` on what is observed of a venue (Li, Chu, Langford, Schapire 2010)."""

    name = "linucb"

    def _learner(self) -> LinUCB:
        return LinUCB(self.market.n_venues, N_FEATURES)


class RiseRouter(_BanditRouter):
    """Ji, Xu, Zhu (2022): explores splits by a G-optimal design, then commits to the best mean less variance.

    Splits are all of a slice at one venue, or halves at two. Its reward is the mean over the shares of a split. Where a
    venue of a split cannot be had, the best of the others is taken. See
    :class:`sor_sb3.policies.learning_rules.risk_aware.Rise`.
    """

    name = "rise"
    risk_aversion: ClassVar[float] = 0.5

    def _learner(self) -> Rise:
        n = self.market.n_venues
        pairs = [0.5 * (np.eye(n)[i] + np.eye(n)[j]) for i in range(n) for j in range(i)]
        self.splits = np.array([*np.eye(n), *pairs])
        return Rise(self.splits, self.rounds, self.risk_aversion)

    def learn(self, learned: State, answers: Answers, view: ObservationView) -> State:
        """Find which split has answered by its venues; a half of one that answered alone counts as that venue's."""
        heard = answers.asked > 0.0
        if not heard.any():
            return learned
        same = (heard[:, None, :] == (self.splits > 0.0)[None]).all(axis=2)
        return self.learner.learn(learned, np.where(same.any(axis=1), same.argmax(axis=1), -1), self._rewards(answers))

    def _chosen(self, view: ObservationView, allowed: np.ndarray) -> np.ndarray:
        fits = (allowed[:, None, :] | (self.splits == 0.0)[None]).all(axis=2)
        chosen = self.splits[self.learner.choose(self._now, fits, self._rng)]
        return chosen * fits.any(axis=1, keepdims=True)
