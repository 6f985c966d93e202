"""Rules that read no quotes: random, round robin, one fixed venue. Other policies are measured from these."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router


class RandomRouter(Router):
    """A venue drawn uniformly from the usable ones or, where the env splits, weights drawn uniformly from the simplex.

    Draws depend on (seed, calls since all episodes began), and on nothing else.
    """

    name = "random"

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v1", seed: int = 0) -> None:
        super().__init__(market, env_id, seed)
        self._generator = np.random.default_rng(seed)

    def restart(self) -> None:
        """The draws start anew too, so that a rerun repeats them."""
        self._generator = np.random.default_rng(self.seed)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Exponential draws, normalised later: Dirichlet(1), whose largest weight is a uniform venue."""
        return self._generator.standard_exponential(view.open.shape) * view.usable


class RoundRobin(Router):
    """Venues in turn: decision t goes to the (t mod n)-th of the n venues that quote at t, whatever they quote.

    What comes back goes to the next one in turn.
    """

    name = "round_robin"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the venue whose turn it is, among those that quote."""
        steps = np.rint((1.0 - view.time_left) * self.market.order.horizon_steps).astype(np.int64)
        turn = (steps + view.wave) % np.maximum(view.quoted.sum(axis=1), 1)
        rank = np.cumsum(view.quoted, axis=1) - 1
        return (view.quoted & (rank == turn[:, None])).astype(np.float64)


class BestFixedVenue(Router):
    """Always the same venue: the venue whose constant use is cheapest in training scenarios, or `venue`.

    Where that venue is halted the child waits, and what comes back goes there again: a router with one connection has
    no alternative.
    """

    name = "best_fixed_venue"
    calibration_scenarios: ClassVar[int] = 256

    def __init__(
        self, market: MarketSpec, env_id: str = "OrderSplit-v1", seed: int = 0, venue: str | None = None
    ) -> None:
        super().__init__(market, env_id, seed)
        if venue is not None and venue not in market.venue_names:
            known = list(market.venue_names)
            hint = did_you_mean(venue, known)
            raise UserError(f"venue '{venue}' is unknown{hint}; expected one of {', '.join(known)}")
        self.venue = venue if venue is not None else self._cheapest_venue()
        self._index = market.venue_names.index(self.venue)

    def _cheapest_venue(self) -> str:
        costs: list[float] = []
        for one_hot in np.eye(self.market.n_venues):
            core = RoutingCore("VenueSelect-v1", self.market, self.calibration_scenarios, data_split="train")
            core.seed(list(range(core.n)))
            core.reset()
            weights = np.tile(one_hot, (core.n, 1))
            total, finished = np.zeros(core.n), np.zeros(core.n, dtype=bool)
            while not finished.all():
                cost, _, done = core.simulator.step(weights, None)
                total += np.where(finished, 0.0, cost)
                finished |= done
            costs.append(float(total.mean()))
        return self.market.venue_names[int(np.argmin(costs))]

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the venue, open or not."""
        weights = np.zeros(view.open.shape)
        weights[:, self._index] = 1.0
        return weights
