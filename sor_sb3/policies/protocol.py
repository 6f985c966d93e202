"""What every policy of this package is: something with SB3's ``predict``, and a kind.

The protocol is ``stable_baselines3.common.type_aliases.PolicyPredictor``. `Router` is the base class of rules, which
see observations only; `Oracle` that of bounds, which see hidden state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec

Kind = Literal["learned", "rule", "oracle"]


def kind_of(policy: Any) -> Kind:
    """What a policy is: its attribute `kind`, else "learned" for a model that can be trained, else "rule".

    Raises:
        UserError: the policy's `kind` is none of these words.
    """
    kind = getattr(policy, "kind", None)
    if kind is None:  # SB3's algorithms have `learn`, its policies are torch modules
        return "learned" if hasattr(policy, "learn") or hasattr(policy, "state_dict") else "rule"
    if kind not in get_args(Kind):
        raise UserError(f"kind of {type(policy).__name__} is {kind!r}; expected one of {', '.join(get_args(Kind))}")
    return kind


class Policy(ABC):
    """SB3's ``predict`` for what is not trained."""

    name: ClassVar[str]
    kind: ClassVar[Kind]

    @abstractmethod
    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, ...) for observations (N, D)."""

    def restart(self) -> None:  # noqa: B027 (most have nothing to forget)
        """Called where all episodes begin."""

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for a batch of observations (N, D), or for one (D,), as SB3's ``model.predict`` gives them."""
        if episode_start is not None and np.all(episode_start):
            self.restart()
        rows = np.asarray(observation)
        actions = self.actions(np.atleast_2d(rows))
        return (actions if rows.ndim > 1 else actions[0]), state


class Router(Policy):
    """A rule that turns observations into weights over venues, and those into actions of one env.

    In ``VenueSelect-v1`` a rule that would split sends the slice to the venue of its largest weight, so every rule
    lies inside the action space of the env that it is compared in. In ``OrderExecute-v1`` it keeps the schedule's pace.
    A router reads the observations of `market` and gives the actions of `env_id`; routers that draw have a `seed`.

    In a later wave of a decision a rule reads the quotes anew and sends what came back by its own weights, but nothing
    to a venue that has just rejected; where no weight is left it holds the shares back (``VenueSelect-v1`` cannot).
    """

    kind = "rule"
    constants: ClassVar[dict[str, tuple[float, ...]]] = {}  # options, each with values that `tuned_constants` may try
    group: ClassVar[str] = "standard"  # of these every comparison has all; those of "literature" are asked for
    learns: ClassVar[bool] = False  # whether the rule learns from its own fills

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v1", seed: int = 0) -> None:
        self.market, self.env_id, self.seed = market, env_id, seed
        self.action_adapter = make_action_adapter(env_id, market.n_venues)

    rests: ClassVar[bool] = False  # whether the rule needs an env in which orders may rest
    paces: ClassVar[bool] = False  # whether it is a schedule, which needs an env that leaves the pace to the policy
    knows_model: ClassVar[bool] = False  # whether the rule is told the market's numbers, which a desk would estimate

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Whether the rule means something in a market. A comparison leaves out the rules that do not."""
        return True

    @abstractmethod
    def weights(self, view: ObservationView) -> np.ndarray:
        """Non-negative weights (n, K) over venues; rows need not be normalised, a row of zeros means no preference."""

    def pace(self, view: ObservationView) -> np.ndarray:
        """Share (n,) of what is offered that goes out now, for envs that let one choose it: the schedule's."""
        return view.pace

    def resting(self, view: ObservationView) -> np.ndarray | None:
        """What should rest where, weights (n, K) whose rows sum to 1 at most, for ``OrderPlace-v1``: nothing."""
        return None

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, ...) that stand for `weights`.

        Where a row has none, for an even split of what can take some; in a later wave, for holding back.
        """
        return self.answer(ObservationView.of(observations, self.market))

    def answer(self, view: ObservationView) -> np.ndarray:
        """The same for observations that were read."""
        weights = np.maximum(self.weights(view), 0.0)
        weights[view.is_later[:, None] & (view.reject == 1.0)] = 0.0
        must_send = ~view.is_later | self.action_adapter.masked
        for fallback in (view.quoted, view.usable, view.open, np.ones_like(view.open)):
            nowhere = (weights.sum(axis=1) <= 0.0) & must_send
            weights[nowhere] = fallback[nowhere]
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0.0)
        resting = self.resting(view) if self.action_adapter.rests else None
        return self.action_adapter.encode(weights, self.pace(view), resting)


class Oracle(Policy):
    """A bound: reads its own env's hidden state, not observations, and acts for all members of that env at once."""

    kind = "oracle"

    def __init__(self, core: RoutingCore) -> None:
        self.core = core


def cheapest(prices: np.ndarray, allowed: np.ndarray, tie_breaks: np.ndarray) -> np.ndarray:
    """One-hot (n, K) of the lowest price among the allowed; ties to the larger `tie_breaks` (n, K), then by order.

    A row without an allowed venue is all zeros.
    """
    prices = np.where(allowed, prices, np.inf)
    best = prices.min(axis=1, keepdims=True)
    tied = allowed & (prices <= best + 1e-5 * np.maximum(np.abs(best), 1e-3))  # float32 rounding of observations
    choice = np.argmax(np.where(tied, tie_breaks, -np.inf), axis=1)
    one_hot = np.zeros_like(prices)
    one_hot[np.arange(len(prices)), choice] = allowed.any(axis=1)
    return one_hot
