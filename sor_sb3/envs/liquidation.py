"""Envs of closed-form markets: sell a position beside a dark pool, or by resting orders alone. Plain NumPy, batched.

A row of observations is float32 (3,): share of the time that is left, share of the position that is left, and
1 / decisions to come, the share of it that an even pace sells now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from sor_sb3.envs import LIQUIDATION_MARKETS
from sor_sb3.envs.action_adapters import ActionAdapter
from sor_sb3.envs.core import EpisodeCore, RoutingCore, whole_number
from sor_sb3.errors import UserError
from sor_sb3.market.liquidation import DarkPoolLiquidation, LimitOrderLiquidation, load_liquidation
from sor_sb3.simulator.random import DATA_SPLITS, episode_keys, high_word, mix64, stream_at, uniform


@dataclass(frozen=True)
class _Parts(ActionAdapter):
    """``Box(-1, 1, (P,))``: each component a is the part ``(a + 1) / 2`` of what it may be at most."""

    parts: ClassVar[tuple[str, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return (len(self.parts),)

    def decode(self, actions: Any, n: int | None = None, is_later: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Parts float64 (N, P), from 0 to 1, of finite numbers (N, P)."""
        rows = self._rows_of_floats(actions, n).astype(np.float64)
        wrong = np.argwhere(~np.isfinite(rows))
        if wrong.size:
            i, k = wrong[0]
            what = f"the action of row {i} for the {self.parts[k]} is {rows[i, k]}"
            raise UserError(f"{self.env_id}: {what}; expected a finite number")
        return np.clip(0.5 * (rows + 1.0), 0.0, 1.0), None

    def encode(
        self, weights: np.ndarray, pace: np.ndarray | None = None, resting: np.ndarray | None = None
    ) -> np.ndarray:
        """Actions float32 (N, P) that stand for parts (N, P)."""
        return (2.0 * np.asarray(weights) - 1.0).astype(np.float32)


@dataclass(frozen=True)
class RateAndDarkShare(_Parts):
    """The rate on the primary venue, as a part of the market's `fastest`, and the dark share.

    A rate is counted in even paces: r of them sell ``r / decisions to come`` of what is left until the next decision,
    all of it at most. The dark share is the part of what is left then that lies in the pool.
    """

    env_id: ClassVar[str] = "DarkPoolLiquidation-v1"
    parts: ClassVar[tuple[str, ...]] = ("rate", "dark share")


@dataclass(frozen=True)
class Depth(_Parts):
    """How far above the mid the offer lies, as a part of the market's `deepest`."""

    env_id: ClassVar[str] = "LimitOrderLiquidation-v1"
    parts: ClassVar[tuple[str, ...]] = ("depth",)


_ACTIONS: dict[str, type[_Parts]] = {kind.env_id: kind for kind in (RateAndDarkShare, Depth)}


def is_liquidation(env_id: Any) -> bool:
    """Whether an env is one of a closed-form market (`sor_sb3:` in front is allowed)."""
    return str(env_id).removeprefix("sor_sb3:") in LIQUIDATION_MARKETS


class LiquidationCore(EpisodeCore):
    """N positions side by side; a scenario depends on (data_split, seed, episode number) and on nothing else.

    ``DarkPoolLiquidation-v1``: in a step of length dt the primary venue sells n of x evenly, which costs ``impact n^2 /
    dt``; holding costs ``risk dt (x^2 + (x - n)^2) / 2``; at its end the pool fills the dark share of x - n with the
    chance ``1 - exp(-theta dt)``. At the last decision all goes to the primary venue, whatever the action. The reward
    is minus the cost of a position of 1.
    ``LimitOrderLiquidation-v1``: the offer is filled in a step with the chance ``1 - exp(-lambda exp(-k delta) dt)``,
    which earns delta; after the last step, q lots left cost ``alpha q^2``. The reward is what is earned.

    An episode ends when nothing is left, or at the horizon. The last ``info`` has the episode's ``cost``.

    Raises:
        UserError: env, market or data split is unknown, or `n` is no whole number of at least 1.
    """

    def __init__(self, env_id: str, market: Any, n: int, data_split: str = "train") -> None:
        self.env_id = str(env_id).removeprefix("sor_sb3:")
        if data_split not in DATA_SPLITS:
            raise UserError(f"data_split '{data_split}' is unknown; expected one of {', '.join(DATA_SPLITS)}")
        self.market = load_liquidation(market, LIQUIDATION_MARKETS[self.env_id])
        self.n, self.data_split = whole_number("n_envs", n, 1), data_split
        self.action_adapter = _ACTIONS[self.env_id](1)
        self.action_space = self.action_adapter.space
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.seeds, self.episodes = np.zeros(self.n, dtype=np.uint64), np.full(self.n, -1, dtype=np.int64)
        self._keys, self._steps = np.zeros(self.n, dtype=np.uint64), np.zeros(self.n, dtype=np.int64)
        self.left, self.cost, self._begun = np.ones(self.n), np.zeros(self.n), False
        self.seed(list(np.random.SeedSequence().generate_state(self.n, np.uint64)))

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begin the next episode of members `which` (all, by default); their observations, float32 (n, 3)."""
        which = np.arange(self.n) if which is None else which
        self.episodes[which] += 1
        self._keys[which] = episode_keys(self.data_split, self.seeds[which], self.episodes[which])
        self._steps[which], self.cost[which], self._begun = 0, 0.0, True
        self.left[which] = getattr(self.market, "quantity_lots", 1.0)
        return self._observe()[which]

    def _observe(self) -> np.ndarray:
        horizon = self.market.horizon_steps
        to_come = np.maximum(horizon - self._steps, 1)
        left = self.left / getattr(self.market, "quantity_lots", 1.0)
        return np.stack([to_come / horizon, left, 1.0 / to_come], axis=1).astype(np.float32)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations (N, 3), rewards (N,) and done (N,); a member that is done stays so until its reset.

        Raises:
            UserError: the actions are refused, or no episode has begun.
        """
        parts, _ = self.action_adapter.decode(actions, self.n)
        if not self._begun:
            raise UserError(f"{self.env_id} is stepped before its first reset; call reset() first")
        drawn: Any = uniform.py_func(high_word.py_func(mix64.py_func(stream_at.py_func(self._keys, self._steps))))
        last = self._steps >= self.market.horizon_steps - 1
        if isinstance(self.market, DarkPoolLiquidation):
            cost = self._sell_beside_the_pool(self.market, parts, drawn, last)
        else:
            cost = self._offer(self.market, parts, drawn, last)
        self._steps += 1
        self.cost += cost
        done = (self.left <= 1e-12) | (self._steps >= self.market.horizon_steps)
        return self._observe(), -cost.astype(np.float32), done

    def _sell_beside_the_pool(
        self, market: DarkPoolLiquidation, parts: np.ndarray, drawn: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        dt, held = market.step_s, self.left
        to_come = np.maximum(market.horizon_steps - self._steps, 1)
        kept = held * (1.0 - np.where(last, 1.0, np.minimum(parts[:, 0] * market.fastest / to_come, 1.0)))
        fills = drawn < -np.expm1(-market.dark_fills_per_s * dt)
        self.left = np.where(fills, kept * (1.0 - parts[:, 1]), kept)
        return market.impact * (held - kept) ** 2 / dt + market.risk * dt * 0.5 * (held**2 + kept**2)

    def _offer(
        self, market: LimitOrderLiquidation, parts: np.ndarray, drawn: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        depth = market.deepest * parts[:, 0]
        rate = market.arrivals_per_s * np.exp(-market.depth_decay * depth)
        fills = (drawn < -np.expm1(-rate * market.step_s)) & (self.left > 0.0)
        self.left = self.left - fills
        return np.where(last, market.terminal_penalty * self.left**2, 0.0) - depth * fills

    def episode_infos(self, which: np.ndarray) -> list[dict[str, Any]]:
        """What finished episodes report, one dict for each of `which`."""
        return [{"cost": float(cost)} for cost in self.cost[which]]

    def get_state(self) -> dict[str, Any]:
        """What a step or a reset changes, as copies."""
        return {name: getattr(self, name).copy() for name in self._changing}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave; the next step is then the step that followed it."""
        for name in self._changing:
            setattr(self, name, state[name].copy())
        self._begun = True

    _changing: ClassVar = ("seeds", "episodes", "_keys", "_steps", "left", "cost")


def make_core(env_id: str, market: Any, n: int, data_split: str = "train", **options: Any) -> Any:
    """The batched env of an id: a :class:`LiquidationCore`, or a `RoutingCore` with these options.

    Raises:
        UserError: as theirs; or an option is given that a closed-form market's env has not.
    """
    if not is_liquidation(env_id):
        return RoutingCore(env_id, market, n, data_split, **options)
    shown = {"every_wave": "envs_per_scenario above 1"}
    for name, value in options.items():
        if value and name != "threads":
            raise UserError(f"{env_id} has no {shown.get(name, name)}, which is of envs that route; leave it out")
    return LiquidationCore(env_id, market, n, data_split)
