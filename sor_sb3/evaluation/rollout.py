"""Play a policy over the scenarios of a batched env, one decision at a time: the one loop that everything shares.

The loop keeps no score. What a decision cost is in the env's simulator once the decision is taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.policies.normalisation import NormalizedPolicy, as_trained
from sor_sb3.simulator.views import Truth

if TYPE_CHECKING:
    from stable_baselines3.common.type_aliases import PolicyPredictor


def rollout(
    core: RoutingCore,
    policy: PolicyPredictor,
    observations: np.ndarray,
    *,
    state: Any = None,
    first_step: int = 0,
    deterministic: bool = True,
    name: str = "policy",
) -> Iterator[Decision]:
    """Yield each env step of all scenarios, after the policy has answered and before the env has stepped.

    It ends when every order is done. A decision of several waves is as many env steps.

    The caller may read the state, ask "what if" (`Decision.ask`), and take the step (`Decision.take`) to look at what
    came of it; a step that the caller does not take is taken when the next decision is asked for. A model trained under
    ``VecNormalize`` sees normalised observations, a policy that takes masks gets them where the env has them.

    Args:
        core: the batched env, at `observations`, float32 (n, D), raw.
        policy: anything with SB3's ``predict``, called `name` in messages.
        state: of a recurrent policy, where the rollout starts in the middle of episodes.
        first_step: the number of the first env step; 0 says that all episodes begin here.
        deterministic: whether a learned policy takes its mode.

    Raises:
        UserError: the policy does not fit the env, or gives an answer that the env refuses.
    """
    check_fit(core, policy, name)
    player = _Player(core, as_trained(policy), deterministic, name)
    first, truth = np.full(core.n, first_step == 0), Truth(core.simulator)
    for step in count(first_step):
        if not (truth.remaining_shares > 0.0).any():
            return
        decision = Decision(player, step, observations, state, first, *player.ask(observations, state, first))
        yield decision
        observations, state, first = decision.take(), decision.next_state, np.zeros(core.n, dtype=bool)


@dataclass
class Decision:
    """What a policy answered to the observations of all scenarios at one env step.

    Attributes:
        step: counted from 0, waves and all.
        observations: float32 (n, D), raw.
        state: of a recurrent policy, before the answer; `next_state` is that after the answer.
        first: bool (n,), whether episodes begin here.
        actions: (n, ...), the answer.
    """

    _player: _Player
    step: int
    observations: np.ndarray
    state: Any
    first: np.ndarray
    actions: np.ndarray
    next_state: Any
    _after: np.ndarray | None = None

    def ask(self, observations: np.ndarray) -> np.ndarray:
        """Actions (n, ...) that the policy would have answered to other observations (n, D) at this step."""
        return self._player.ask(observations, self.state, self.first)[0]

    def take(self) -> np.ndarray:
        """Step the env with the answer, once; the observations (n, D) after it."""
        if self._after is None:
            self._after = self._player.step(self.actions)
        return self._after


@dataclass(frozen=True)
class _Player:
    core: RoutingCore
    policy: Any
    deterministic: bool
    name: str

    def ask(self, observations: np.ndarray, state: Any, first: np.ndarray) -> tuple[np.ndarray, Any]:
        masked = self.core.action_adapter.masked and masks_wanted(self.policy)
        masks = {"action_masks": self.core.action_masks()} if masked else {}
        answer = self.policy.predict(observations, state, first, self.deterministic, **masks)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise UserError(f"policy '{self.name}' returned a {type(answer).__name__}; expected (actions, state)")
        return answer

    def step(self, actions: np.ndarray) -> np.ndarray:
        try:
            return self.core.step(actions)[0]
        except UserError as error:
            raise UserError(f"policy '{self.name}': {error}") from None


def masks_wanted(policy: Any) -> bool:
    """Whether a policy takes action masks."""
    policy = policy.model if isinstance(policy, NormalizedPolicy) else policy
    return "action_masks" in inspect.signature(policy.predict).parameters


def check_fit(core: RoutingCore, policy: Any, name: str = "policy") -> None:
    """Raise a UserError unless a policy answers, reads these observations and gives these actions, where it says so."""
    model = policy.model if isinstance(policy, NormalizedPolicy) else policy
    if not callable(getattr(model, "predict", None)):
        raise UserError(
            f"policy '{name}' is a {type(model).__name__}; expected a router's name, or something with SB3's predict"
        )
    statistics = getattr(policy, "vec_normalize", None)
    for owner, what in ((model, "observation"), (statistics, "observation"), (model, "action")):
        space, expected = getattr(owner, f"{what}_space", None), getattr(core, f"{what}_space")
        if isinstance(space, spaces.Space) and _kind_and_size(space) != _kind_and_size(expected):
            trained = " ".join(str(space).split())  # bounds may be printed over several lines
            raise UserError(
                f"policy '{name}' was trained with {what}s {trained}; expected {expected}, those of {core.env_id} in "
                f"market '{core.market.name}'"
            )


def _kind_and_size(space: spaces.Space) -> tuple[Any, ...]:
    return type(space), space.shape, getattr(space, "n", None)
