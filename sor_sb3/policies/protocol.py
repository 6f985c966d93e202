"""What every router is: a policy that nobody trained, with SB3's ``predict``. It sees observations only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec


class Router(ABC):
    """A rule that turns observations into weights over venues, and those into actions of one env.

    In ``VenueSelect-v0`` a rule that would split sends the slice to the venue of its largest weight, so every rule
    lies inside the action space of the env that it is compared in. In ``OrderExecute-v0`` it keeps the schedule's pace.

    Args:
        market: whose observations the router will read.
        env_id: whose actions it shall give.
        seed: of routers that draw; the others ignore it.
    """

    name: ClassVar[str]

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v0", seed: int = 0) -> None:
        self.market, self.env_id, self.seed = market, env_id, seed
        self.action_adapter = make_action_adapter(env_id, market.n_venues)

    @abstractmethod
    def weights(self, view: ObservationView) -> np.ndarray:
        """Non-negative weights (n, K) over venues; rows need not be normalised, a row of zeros means no preference."""

    def restart(self) -> None:  # noqa: B027 (most rules have nothing to forget)
        """Called where all episodes begin."""

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for a batch of observations (n, D), or for one (D,), as SB3's ``model.predict`` gives them."""
        if episode_start is not None and np.all(episode_start):
            self.restart()
        rows = np.asarray(observation)
        view = ObservationView.of(np.atleast_2d(rows), self.market)
        weights = np.maximum(self.weights(view), 0.0)
        for fallback in (view.quoted, view.usable, view.open, np.ones_like(view.open)):
            nowhere = weights.sum(axis=1) <= 0.0
            weights[nowhere] = fallback[nowhere]
        weights /= weights.sum(axis=1, keepdims=True)
        actions = self.action_adapter.encode(weights, view.pace)
        return (actions if rows.ndim > 1 else actions[0]), state


def cheapest(prices: np.ndarray, allowed: np.ndarray, tie_breaks: np.ndarray) -> np.ndarray:
    """One-hot (n, K) of the lowest price among the allowed; ties to the larger `tie_breaks` (n, K), then by order."""
    prices = np.where(allowed, prices, np.inf)
    best = prices.min(axis=1, keepdims=True)
    tied = allowed & (prices <= best + 1e-5 * np.maximum(np.abs(best), 1e-3))  # float32 rounding of observations
    choice = np.argmax(np.where(tied, tie_breaks, -np.inf), axis=1)
    one_hot = np.zeros_like(prices)
    one_hot[np.arange(len(prices)), choice] = 1.0
    return one_hot
