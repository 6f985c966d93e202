"""Routing episodes in many markets at once, drawn from a family and drawn anew as episodes end. No calls of SB3.

Rows have the length of the family's largest market: those of a market with fewer venues end in zeros, and what an
action says of venues that a market lacks is not read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import RoutingCore, whole_number
from sor_sb3.envs.observation import observation_space
from sor_sb3.market.family import MarketFamily
from sor_sb3.simulator.random import seed_word

NEIGHBOURS = 16  # envs that share a market at most, if their scenarios' groups allow: fewer cost more time a step
EPISODES = 4  # that an env plays in a market before the next one is drawn


class FamilyCore:
    """What :class:`~sor_sb3.envs.core.RoutingCore` is for one market, for a family of them.

    Neighbours, up to `NEIGHBOURS` of them, share a market, which is drawn by the seed of the first and by how many the
    neighbours have had; every env plays `EPISODES` episodes in it. A scenario depends on (data_split, seed, episode
    number) and the market. Rewards are over the market's price scale, so that markets count alike; costs in infos are
    in bps.

    Args and errors are those of `RoutingCore`; `group` is how many neighbours must stay together.
    """

    def __init__(
        self,
        env_id: str,
        market: MarketFamily,
        n: int,
        data_split: str = "train",
        variance_reduction: bool = False,
        threads: int = 1,
        every_wave: bool = False,
        risk_aversion: float = 0.0,
        group: int = 1,
    ) -> None:
        self.n, self.market = whole_number("n_envs", n, 1), market
        self._make = lambda drawn, size: RoutingCore(
            env_id, drawn, size, data_split, variance_reduction, threads, every_wave, risk_aversion
        )
        self._make(market.draw(data_split, 0, 0), 1)  # refuses what is wrong now, not in the middle of training
        self.data_split = data_split
        self.action_adapter = make_action_adapter(env_id, market.n_venues, market.venue_names)
        self.env_id, self.action_space = self.action_adapter.env_id, self.action_adapter.space
        self.observation_space = observation_space(market)
        groups = self.n // group
        size = group * max(k for k in range(1, max(NEIGHBOURS // group, 1) + 1) if groups % k == 0)
        self._slots = [np.arange(first, first + size) for first in range(0, self.n, size)]
        self._cores: list[dict[int, RoutingCore]] = [{} for _ in self._slots]  # by how many markets came before
        self.seeds, self.episodes = np.zeros(self.n, dtype=np.uint64), np.full(self.n, -1, dtype=np.int64)
        self.seed(list(np.random.SeedSequence().generate_state(self.n, np.uint64)))

    def seed(self, seeds: list[Any]) -> None:
        """Give each member a new seed, None to keep its own; seeds take effect at the next reset."""
        for i, seed in enumerate(seeds):
            if seed is not None:
                self.seeds[i], self.episodes[i] = seed_word(whole_number("seed", seed)), -1

    def reset(self) -> np.ndarray:
        """Begin the next episode of every member; observations, float32 (n, D)."""
        self._cores = [{} for _ in self._slots]
        rows = np.zeros((self.n, *self.observation_space.shape), dtype=np.float32)
        for slot in range(len(self._slots)):
            self._begin(slot, self._slots[slot], rows)
        return rows

    def _begin(self, slot: int, which: np.ndarray, rows: np.ndarray) -> None:
        """The next episode of the neighbours `which` of a slot, in the next market where it is time."""
        self.episodes[which] += 1
        for turn in np.unique(self.episodes[which] // EPISODES).tolist():
            here = which[self.episodes[which] // EPISODES == turn]
            core, members = self._core(slot, turn), here - self._slots[slot][0]
            core.episodes[members] = self.episodes[here] - 1
            found = core.reset(members)
            rows[here] = 0.0
            rows[here, : found.shape[1]] = found
        playing = set((self.episodes[self._slots[slot]] // EPISODES).tolist())
        self._cores[slot] = {turn: core for turn, core in self._cores[slot].items() if turn in playing}

    def _core(self, slot: int, turn: int) -> RoutingCore:
        if turn not in self._cores[slot]:
            of = self._slots[slot]
            drawn = self.market.draw(self.data_split, int(self.seeds[of[0]]), turn)
            core = self._cores[slot][turn] = self._make(drawn, len(of))
            core.seed(self.seeds[of].tolist())
            core.reset()  # so that those whose time has not come can be stepped beside the others
        return self._cores[slot][turn]

    def step_and_reset(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, tuple[np.ndarray, dict[str, Any]]]]:
        """As `RoutingCore.step_and_reset`."""
        actions = np.asarray(actions)
        rows = np.zeros((self.n, *self.observation_space.shape), dtype=np.float32)
        rewards, done = np.empty(self.n, dtype=np.float32), np.empty(self.n, dtype=np.bool_)
        ended: dict[int, tuple[np.ndarray, dict[str, Any]]] = {}
        for slot, of in enumerate(self._slots):
            turns = self.episodes[of] // EPISODES
            for turn, core in self._cores[slot].items():
                members = np.flatnonzero(turns == turn)
                here, sent = of[members], np.zeros_like(actions[of])  # nothing for those who play elsewhere
                sent[members] = actions[here]
                found = core.step(self.action_adapter.of_fewer(sent, core.market.n_venues))
                rows[here, : found[0].shape[1]] = found[0][members]
                rewards[here], done[here] = found[1][members] / core.market.scales[0], found[2][members]
                over = members[found[2][members]]
                if over.size:
                    infos = core.episode_infos(over)
                    ended |= {int(i): (rows[i].copy(), info) for i, info in zip(of[over], infos, strict=True)}
            if done[of].any():
                self._begin(slot, of[done[of]], rows)
        return rows, rewards, done, dict(sorted(ended.items()))

    def action_masks(self) -> np.ndarray:
        """bool (N, K): as of `RoutingCore`; False for venues that a market lacks."""
        masks = np.zeros((self.n, self.market.n_venues), dtype=np.bool_)
        for slot, of in enumerate(self._slots):
            for turn, core in self._cores[slot].items():
                members = np.flatnonzero(self.episodes[of] // EPISODES == turn)
                masks[of[members], : core.market.n_venues] = core.action_masks()[members]
        return masks

    def get_state(self) -> dict[str, Any]:
        """What a step or a reset changes, as copies. Markets are drawn again when it is put back."""
        cores = [{turn: core.get_state() for turn, core in of.items()} for of in self._cores]
        return {"seeds": self.seeds.copy(), "episodes": self.episodes.copy(), "cores": cores}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave; the next step is then the step that followed it."""
        self.seeds[...], self.episodes[...] = state["seeds"], state["episodes"]
        self._cores = [{} for _ in self._slots]
        for slot, of in enumerate(state["cores"]):
            for turn, core in of.items():
                self._core(slot, turn).set_state(core)
