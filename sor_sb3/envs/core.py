"""The batched env that the three façades wrap: simulator, action_adapter, observer, seeds. No calls of SB3."""

from __future__ import annotations

from typing import Any

import numpy as np

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.observation import Observer, observation_space
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from sor_sb3.simulator.batch import LEDGER_PARTS, MEASURES, BatchSimulator
from sor_sb3.simulator.random import DATA_SPLITS, seed_word
from sor_sb3.simulator.views import Observed

EPISODE_COST_KEYS = ("shortfall", *LEDGER_PARTS)
EPISODE_MEASURES = MEASURES


class RoutingCore:
    """N routing episodes side by side.

    Member i runs episode 0, 1, 2, ... of its own seed; what it meets depends on (data_split, seed, episode number)
    and on nothing else, so member i of a batch equals a lone env with that seed, bit for bit.

    Args:
        env_id: which action_adapter: "VenueSelect-v0", "OrderSplit-v0" or "OrderExecute-v0".
        market: preset name, path of a market file or of recorded quotes, or a specification.
        n: how many episodes side by side.
        data_split: "train", "validation" or "test".
        variance_reduction: leave the mid's pure noise out of the rewards (never out of the ledger); its mean is zero
            whatever the actions, so expected returns do not change.
        threads: how many parts of the batch are stepped at once; the results do not depend on it.
    """

    def __init__(
        self,
        env_id: str,
        market: str | MarketSpec,
        n: int,
        data_split: str = "train",
        variance_reduction: bool = False,
        threads: int = 1,
    ) -> None:
        if data_split not in DATA_SPLITS:
            raise UserError(f"data_split '{data_split}' is unknown; expected one of {', '.join(DATA_SPLITS)}")
        self.market = load_market(market)
        self.n, self.data_split, self.variance_reduction = n, data_split, variance_reduction
        self.env_id = env_id.removeprefix("sor_sb3:")
        self.action_adapter = make_action_adapter(env_id, self.market.n_venues)
        self.simulator = BatchSimulator(self.market, n, data_split, threads)
        self.observer = Observer(self.simulator)
        self.observation_space = observation_space(self.market)
        self.action_space = self.action_adapter.space
        self.seeds = np.zeros(n, dtype=np.uint64)
        self.episodes = np.full(n, -1, dtype=np.int64)
        self.seed(list(np.random.SeedSequence().generate_state(n, np.uint64)))

    def seed(self, seeds: list[Any], which: np.ndarray | None = None) -> None:
        """Give members new seeds (None leaves a member's as it is); they take effect at the next reset."""
        for i, seed in zip(range(self.n) if which is None else which, seeds, strict=True):
            if seed is not None:
                self.seeds[i], self.episodes[i] = seed_word(seed), -1

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begin the next episode of members `which` (all, by default); their observations, float32 (n, D)."""
        which = np.arange(self.n) if which is None else which
        self.episodes[which] += 1
        self.simulator.reset(self.seeds[which], self.episodes[which], which)
        return self.observer.observe(which)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations (N, D), rewards (N,), float32 and fresh, and done (N,) bool. No reset happens here."""
        weights, pace = self.action_adapter.decode(actions)
        rows = self.observer.blank(self.n)
        cost, noise, done = self.simulator.step(weights, pace, lambda part: self.observer.write_part(part, rows))
        rewards = noise - cost if self.variance_reduction else -cost
        return rows, rewards.astype(np.float32), done.copy()

    def get_state(self) -> dict[str, Any]:
        """What changes as time goes on, as copies: seeds, episode numbers and the simulator's state."""
        return {"seeds": self.seeds.copy(), "episodes": self.episodes.copy(), "simulator": self.simulator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave; the next step is then the one that it would have been."""
        self.seeds[...], self.episodes[...] = state["seeds"], state["episodes"]
        self.simulator.set_state(state["simulator"])

    def action_masks(self) -> np.ndarray:
        """bool (N, K): venues not halted, as heard; all True where every venue is (a forced wait)."""
        masks: np.ndarray = Observed(self.simulator).open.copy()
        masks[~masks.any(axis=1)] = True
        return masks

    def episode_infos(self, which: np.ndarray) -> list[dict[str, Any]]:
        """What a finished episode reports, one dict each of `which` (see `episode_measures`)."""
        ledger, measures = self.simulator.ledger(which), self.episode_measures(which)
        columns = (*(ledger[key] for key in EPISODE_COST_KEYS), *(measures[key] for key in EPISODE_MEASURES))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [  # written out: dict(zip(...)) takes three times as long, and this is a tenth of a step
            {
                "episode_cost": {
                    "shortfall": shortfall,
                    "spread": spread,
                    "impact": impact,
                    "timing": timing,
                    "fee": fee,
                    "cleanup": cleanup,
                },
                "slippage_bps": slippage_bps,
                "fee_bps": fee_bps,
                "fill_rate": fill_rate,
                "completion": completion,
            }
            for shortfall, spread, impact, timing, fee, cleanup, slippage_bps, fee_bps, fill_rate, completion in rows
        ]

    def episode_measures(self, which: np.ndarray) -> dict[str, np.ndarray]:
        """Measures of finished episodes, float64 (n,) each (see `BatchSimulator.measures`)."""
        return self.simulator.measures(which)
