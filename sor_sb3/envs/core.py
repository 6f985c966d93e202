"""The batched env that the three adapters wrap: simulator, action adapter, observer, seeds. No calls of SB3."""

from __future__ import annotations

from abc import ABC, abstractmethod
from operator import index
from typing import Any

import numpy as np
from gymnasium import spaces

from sor_sb3.envs.action_adapters import ActionAdapter, make_action_adapter
from sor_sb3.envs.observation import Observer, observation_space
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.simulator.batch import LEDGER_PARTS, MEASURES, BatchSimulator
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.random import DATA_SPLITS, FINAL, seed_word
from sor_sb3.simulator.views import Observed

_VOLUME_REMEDIES = {
    "synthetic": "set volume.shares_per_day and venues' volume_share",
    "replay": "give recorded quotes a trades file (--trades FILE)",
    "notebook": "take another market",
}
LARGEST_RISK_AVERSION = 1e6
LARGEST_REWARD = 1e30  # in size: sums of rewards over an episode, and their differences, stay finite in float32


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an integer; a `UserError` where it is none, or below `least`."""
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        at_least = "" if least is None else f" of at least {least}"
        raise UserError(f"{name} is {value!r}; expected a whole number{at_least}")
    return number


@entry_point(nogil=True)
def _write_rewards(cost: Any, noise: Any, variance_reduction: bool, rewards: Any) -> int:
    """Fill `rewards` (N,); returns the first row whose reward is no number or too large, else -1."""
    for i in range(len(rewards)):
        reward = noise[i] - cost[i] if variance_reduction else -cost[i]
        if not abs(reward) < LARGEST_REWARD:
            return i
        rewards[i] = reward
    return -1


FINAL_REFUSED = (
    "the final scenarios are never trained, tuned or chosen on; open them with --final of evaluate or compare, or with "
    "sor_sb3.evaluate(..., data_split='final')"
)


class EpisodeCore(ABC):
    """A batch of episodes: what the three adapters ask of any env. Member i runs episode 0, 1, 2, ... of its own seed.

    Attributes:
        n: how many members; `seeds`, uint64 (n,), and `episodes`, int64 (n,), are theirs.
        observation_space: of one row; `action_space` of one action, which `action_adapter` reads.
    """

    env_id: str
    market: Any
    n: int
    seeds: np.ndarray
    episodes: np.ndarray
    observation_space: spaces.Box
    action_space: spaces.Space
    action_adapter: ActionAdapter

    def seed(self, seeds: list[Any]) -> None:
        """Give each member a new seed, None to keep its own; seeds take effect at the next reset.

        Raises:
            UserError: there is not one seed a member, or a seed is no whole number.
        """
        if len(seeds) != self.n:
            raise UserError(f"{len(seeds)} seeds are given; expected {self.n}, one for each env")
        words = [None if seed is None else seed_word(whole_number("seed", seed)) for seed in seeds]
        for i, word in enumerate(words):
            if word is not None:
                self.seeds[i], self.episodes[i] = word, -1

    @abstractmethod
    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begin the next episode of members `which` (all, by default); their observations, float32 (n, D)."""

    @abstractmethod
    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations (N, D), rewards (N,), float32 and fresh, and done (N,) bool. No reset happens here."""

    @abstractmethod
    def episode_infos(self, which: np.ndarray) -> list[dict[str, Any]]:
        """What finished episodes report, one dict for each of `which`."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """What a step or a reset changes, as copies."""

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave; the next step is then the step that followed it."""

    def action_masks(self) -> np.ndarray:
        """Which actions are allowed, bool (N, K), of envs whose `action_adapter` is masked."""
        raise NotImplementedError

    def step_and_reset(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, tuple[np.ndarray, dict[str, Any]]]]:
        """`step`, and the next episode of each member whose episode ended: what vectorised envs do.

        Returns:
            Observations (N, D), those of new episodes among them, rewards (N,) and done (N,) as of `step`, and by
            member that ended the last observation (D,) of its episode, a copy, and its info.
        """
        observations, rewards, done = self.step(actions)
        ended = np.flatnonzero(done)
        if not ended.size:
            return observations, rewards, done, {}
        last = observations[ended]  # fancy indexing copies
        found = dict(zip(ended.tolist(), zip(last, self.episode_infos(ended), strict=True), strict=True))
        observations[ended] = self.reset(ended)
        return observations, rewards, done, found


class RoutingCore(EpisodeCore):
    """N routing episodes side by side. Member i runs episode 0, 1, 2, ... of its own seed.

    A step is a decision's first wave or a later one: an episode has at most `horizon_steps` times `waves` of them.

    The scenario of an episode depends on (data_split, seed, episode number) and on nothing else, so member i of a batch
    equals a lone env with that seed, bit for bit.

    Args are those of :func:`~sor_sb3.envs.sb3_vec_env.make_vec_env`. `variance_reduction` leaves the mid's pure noise
    out of the rewards (never out of the ledger): the noise has mean zero whatever the actions, so expected returns do
    not change. `risk_aversion`, in 1 over the cost unit, takes so many times the square of the ledger's timing of each
    step from its reward: of a martingale the squares of increments sum in expectation to the variance, so an episode's
    reward is minus the shortfall and `risk_aversion` times the variance of its timing (the objective of Almgren and
    Chriss 2001). `threads` is how many parts of the batch are stepped at once; the results do not depend on it. With
    `every_wave` later waves come even where nothing came back, so that all episodes have equally many steps. The data
    split "final" is for who scores policies, and says `final`.

    Raises:
        UserError: env, market or data split is unknown, the final scenarios are not to be had, `n` or `threads` is no
            whole number of at least 1, or `risk_aversion` no number from 0 to 1e6.
    """

    def __init__(
        self,
        env_id: str,
        market: str | MarketSpec,
        n: int,
        data_split: str = "train",
        variance_reduction: bool = False,
        threads: int = 1,
        every_wave: bool = False,
        risk_aversion: float = 0.0,
        final: bool = False,
    ) -> None:
        if data_split == FINAL and not final:
            raise UserError(FINAL_REFUSED)
        if data_split not in (*DATA_SPLITS, FINAL):
            raise UserError(f"data_split '{data_split}' is unknown; expected one of {', '.join(DATA_SPLITS)}")
        n, threads = whole_number("n_envs", n, 1), whole_number("threads", threads, 1)
        is_number = isinstance(risk_aversion, (int, float)) and not isinstance(risk_aversion, bool)
        if not is_number or not 0 <= risk_aversion <= LARGEST_RISK_AVERSION:
            raise UserError(f"risk_aversion is {risk_aversion!r}; expected a number from 0, for none, to 1e6")
        self.risk_aversion = float(risk_aversion)
        self.market = load_market(market)
        if data_split == FINAL and isinstance(self.market, ReplayMarket):
            taken = "all its time is cut into train, validation and test"
            raise UserError(
                f"market '{self.market.name}' is a recording, {taken}: it has no final scenarios; take test"
            )
        self.n, self.data_split, self.variance_reduction = n, data_split, variance_reduction
        self.action_adapter = make_action_adapter(
            env_id, self.market.n_venues, self.market.venue_names, self.market.order.most_resting_ratio
        )
        self.env_id = self.action_adapter.env_id
        if self.action_adapter.rests and not self.market.has_volume:
            lacks = f"market '{self.market.name}' publishes no traded volume, which fills what rests"
            raise UserError(f"{self.env_id}: {lacks}; {_VOLUME_REMEDIES[self.market.model]}, or take another env")
        self.simulator = BatchSimulator(self.market, n, data_split, threads, every_wave)
        self.observer = Observer(self.simulator)
        self._begun = False
        self.observation_space = observation_space(self.market)
        self.action_space = self.action_adapter.space
        self.seeds = np.zeros(n, dtype=np.uint64)
        self.episodes = np.full(n, -1, dtype=np.int64)
        self.seed(list(np.random.SeedSequence().generate_state(n, np.uint64)))

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begin the next episode of members `which` (all, by default); their observations, float32 (n, D)."""
        which = np.arange(self.n) if which is None else which
        self.episodes[which] += 1
        self._begun = True
        self.simulator.reset(self.seeds[which], self.episodes[which], which)
        return self.observer.observe(which)

    def _is_later(self) -> np.ndarray | None:
        """bool (N,): members in a later wave of their decision; None where the market has one wave."""
        return self.simulator.read("wave") > 0 if self.market.order.waves > 1 else None

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations (N, D), rewards (N,), float32 and fresh, and done (N,) bool. No reset happens here.

        Args:
            actions: numbers (N, ...), as `action_space` says of each.

        Raises:
            UserError: the actions are refused (`ActionAdapter.decode`), no episode has begun, or the market's numbers
                are so large that a reward's size passes `LARGEST_REWARD`.
        """
        weights, pace = self.action_adapter.decode(actions, self.n, self._is_later())
        if not self._begun:
            raise UserError(f"{self.env_id} is stepped before its first reset; call reset() first")
        timing = self.simulator.read("timing_cost") if self.risk_aversion else None
        rows = self.observer.blank(self.n)
        cost, noise, done = self.simulator.step(
            weights, pace, lambda part: self.observer.write_part(part, rows), self.action_adapter.resting(actions)
        )
        if timing is not None:
            cost = cost + self.risk_aversion * (self.simulator.read("timing_cost") - timing) ** 2
        rewards = np.empty(self.n, dtype=np.float32)
        wrong = _write_rewards(cost, noise, self.variance_reduction, rewards)
        if wrong >= 0:
            what = f"the cost of row {wrong} is {cost[wrong]:g} {self.market.cost_unit}"
            remedy = "make the market's prices, fees, moves or penalties smaller"
            expected = f"expected less than {LARGEST_REWARD:g}: {remedy}"
            raise UserError(f"{self.env_id} in market '{self.market.name}': {what}; {expected}")
        return rows, rewards, done.copy()

    def get_state(self) -> dict[str, Any]:
        """What a step or a reset changes, as copies: seeds, episode numbers and the simulator's state."""
        return {"seeds": self.seeds.copy(), "episodes": self.episodes.copy(), "simulator": self.simulator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave; the next step is then the step that followed it."""
        self.seeds[...], self.episodes[...] = state["seeds"], state["episodes"]
        self.simulator.set_state(state["simulator"])
        self._begun = True

    def action_masks(self) -> np.ndarray:
        """bool (N, K): venues not halted, as observed; all True where every venue is halted (a forced wait)."""
        masks: np.ndarray = Observed(self.simulator).open.copy()
        masks[~masks.any(axis=1)] = True
        return masks

    def episode_infos(self, which: np.ndarray) -> list[dict[str, Any]]:
        """What finished episodes report, one dict for each of `which` (see `BatchSimulator.measures`)."""
        ledger, measures = self.simulator.results(which)
        costs = [  # keys are written out: dict(zip(...)) takes three times as long, and this is a tenth of a step
            {"shortfall": total, "spread": spread, "impact": impact, "timing": timing, "fee": fee, "cleanup": cleanup}
            for total, spread, impact, timing, fee, cleanup in _rows(ledger, ("shortfall", *LEDGER_PARTS))
        ]
        return [
            {"episode_cost": cost, "slippage_bps": slippage, "fee_bps": fee, "fill_rate": filled, "completion": done}
            for cost, (slippage, fee, filled, done) in zip(costs, _rows(measures, MEASURES), strict=True)
        ]


def _rows(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> zip[tuple[float, ...]]:
    return zip(*(columns[name].tolist() for name in names), strict=True)
