"""The Gymnasium adapter: one routing episode at a time. No logic of its own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from sor_sb3.deprecation import renamed_arguments
from sor_sb3.envs.action_adapters import as_array
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.liquidation import make_core
from sor_sb3.market.spec import MarketSpec


class RoutingEnv(gym.Env[np.ndarray, Any]):
    """Fill a parent order over several venues; one episode is one parent order.

    ``VenueSelect-v1``: ``Discrete(K)``, the venue that takes this step's child order.
    ``OrderSplit-v1``: ``Box(-1, 1, (K,))``, weights ``max(a, 0) / sum(max(a, 0))`` over venues.
    ``OrderExecute-v1``: ``Box(-1, 1, (K + 1,))``, the same, and last the pace ``(a + 1) / 2`` of what is available.
    ``OrderPlace-v1``: ``Box(-1, 1, (2 K + 1,))``, weights of what to take now, ``max(a, 0) / max(1, sum(max(a, 0)))``,
    weights of what should rest where, likewise, and last the pace of taking.

    **Observation**: float32 (10 + 19 K,), public data and own fills (:mod:`sor_sb3.envs.observation` has the table).

    Three of its features are answers of rules, put there to save a learner the arithmetic: ``slice_excess``,
    ``best_all_in`` and ``sweep_share``, the split of ``net_price_sweep``.

    **Step**: the schedule's slice (what an even pace wants done by now, with what was missed carried forward) goes
    out as marketable immediate-or-cancel child orders. Shares that are not filled come back once the child is
    acknowledged. In ``OrderExecute-v1`` the pace says how much of what is available goes out instead. In
    ``OrderPlace-v1`` it says how much of what is available or rests does, of which no more than is available; and
    shares may rest, at the observed near touch of a lit venue or at the midpoint in a dark pool, across decisions.
    Resting weights are targets, in shares of what is neither filled, nor in flight, nor taken now, in whole lots;
    they count in first waves. What is missing is posted, what is too much is cancelled, youngest first, and what the
    near touch has left by more than ``order.repeg_ticks`` is cancelled whole; so the same action, where nothing is
    filled and no touch moves, sends nothing. A resting order is filled by what sellers bring beyond the queue before
    it, and whole where the efficient price falls through its price. Shares in a cancel are free once it is
    acknowledged; a fill may come first. The env needs a market that publishes traded volume.

    **Waves**: where the market's ``order.waves`` is above 1 and shares came back, the next step is another wave of the
    same decision, milliseconds later, and distributes those shares alone (the pace is a part of them). A later wave may
    hold back: where no weight is positive nothing is sent, and the shares are left to the decisions to come (in a first
    wave the weights are then even). ``VenueSelect-v1`` sends what came back to the venue chosen. An episode has at most
    ``horizon_steps`` times ``waves`` steps.

    **Reward**: minus the cost of the step in bps of the order: execution price against the efficient price at the
    step's begin, fees, and that price's move times what is still to be done. Undiscounted, an episode sums to minus the
    implementation shortfall (Perold 1988). With `risk_aversion` it is less that times the squared timing of each step.

    **Termination**: the order is done, or the deadline is reached and the rest is swept at a price worse than any fill
    that the episode offered. Never a truncation. The last ``info`` has ``episode_cost`` (the shortfall and its
    parts), ``slippage_bps``, ``fee_bps``, ``fill_rate`` and ``completion``.

    ``DarkPoolLiquidation-v1`` and ``LimitOrderLiquidation-v1`` are no such env: each has a market of its own with a
    known best policy (:mod:`sor_sb3.envs.liquidation`).

    Example:
        >>> import gymnasium as gym
        >>> env = gym.make("sor_sb3:OrderSplit-v1", market="notebook")
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape, env.action_space.shape
        ((67,), (3,))
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (an instance variable in Gymnasium)

    @renamed_arguments(split="data_split")
    def __init__(
        self,
        env_id: str,
        market: str | MarketSpec = "us_equity",
        data_split: str = "train",
        variance_reduction: bool = False,
        render_mode: str | None = None,
        risk_aversion: float = 0.0,
    ) -> None:
        options = {"variance_reduction": variance_reduction, "risk_aversion": risk_aversion}
        self.core: RoutingCore = make_core(env_id, market, 1, data_split, **options)
        self.observation_space = self.core.observation_space
        self.action_space = self.core.action_space
        self.render_mode = render_mode
        if self.core.action_adapter.masked:
            self.action_masks = self._action_masks

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode: number 0 of a new seed, else the next one of the seed in use."""
        super().reset(seed=seed)
        if seed is not None:
            self.core.seed([seed])
        return self.core.reset()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One decision, or one wave of it."""
        observations, rewards, done = self.core.step(as_array(action)[None])
        info = self.core.episode_infos(np.zeros(1, dtype=np.int64))[0] if done[0] else {}
        return observations[0], float(rewards[0]), bool(done[0]), False, info

    def _action_masks(self) -> np.ndarray:
        """bool (K,): venues not halted, as observed; all True where every venue is halted."""
        return self.core.action_masks()[0]
