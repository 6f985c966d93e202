"""The Stable-Baselines3 ``VecEnv`` adapter of a batch of routing episodes. No logic of its own.

The adapter keeps what SB3 relies on without saying so: `sor_sb3.envs.checks` lists and proves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from sor_sb3.deprecation import renamed_arguments
from sor_sb3.envs.core import RoutingCore, whole_number
from sor_sb3.envs.family_core import FamilyCore
from sor_sb3.envs.liquidation import make_core
from sor_sb3.errors import UserError
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec


def check_envs_per_scenario(n_envs: int, envs_per_scenario: int) -> None:
    """Raise a `UserError` unless so many envs can be divided into groups that play one scenario each."""
    whole_number("n_envs", n_envs, 1)
    if whole_number("envs_per_scenario", envs_per_scenario) < 1 or n_envs % envs_per_scenario:
        expected = "expected n_envs to be a multiple of envs_per_scenario, such as 512 and 8"
        raise UserError(f"envs_per_scenario is {envs_per_scenario} and n_envs {n_envs}; {expected}")


class RoutingVecEnv(VecEnv):
    """`n_envs` routing episodes in one batch; env i equals a lone env seeded ``seed + i // envs_per_scenario``.

    Args and errors are those of :func:`make_vec_env`.
    """

    @renamed_arguments(split="data_split", envs_per_day="envs_per_scenario")
    def __init__(
        self,
        env_id: str,
        market: str | MarketSpec | MarketFamily = "us_equity",
        n_envs: int = 1,
        seed: int | None = None,
        data_split: str = "train",
        variance_reduction: bool = False,
        threads: int = 1,
        envs_per_scenario: int = 1,
        risk_aversion: float = 0.0,
    ) -> None:
        check_envs_per_scenario(n_envs, envs_per_scenario)
        in_step = envs_per_scenario > 1  # neighbours' steps correspond
        self.core: RoutingCore
        if isinstance(market, MarketFamily):  # what is asked of it here, all cores have
            args = n_envs, data_split, variance_reduction, threads, in_step, risk_aversion
            self.core = FamilyCore(env_id, market, *args, group=envs_per_scenario)  # type: ignore[assignment]
        else:
            options = {"variance_reduction": variance_reduction, "threads": threads, "every_wave": in_step}
            self.core = make_core(env_id, market, n_envs, data_split, risk_aversion=risk_aversion, **options)
        self.envs_per_scenario = envs_per_scenario
        self.render_mode: str | None = None
        self._actions: Any = None
        super().__init__(self.core.n, self.core.observation_space, self.core.action_space)
        self.core.seed(self.core.seeds[::envs_per_scenario].repeat(envs_per_scenario).tolist())
        if seed is not None:
            self.seed(seed)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seeds of the envs from the next reset on: `seed`, or one of the system's, and those that follow it."""
        seeds = super().seed(seed if seed is None else whole_number("seed", seed))
        self._seeds = [seeds[i // self.envs_per_scenario] for i in range(self.num_envs)]
        return self._seeds

    def reset(self) -> np.ndarray:
        """Begin an episode in every env; consumes seeds given since the last reset."""
        self.core.seed(list(self._seeds))
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self.core.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Do the step; where an episode ends, the next one begins at once."""
        observations, rewards, done, ended = self.core.step_and_reset(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i, (last, info) in ended.items():
            info["terminal_observation"], info["TimeLimit.truncated"] = last, False
            infos[i], self.reset_infos[i] = info, {}
        return observations, rewards, done, infos

    def get_state(self) -> dict[str, Any]:
        """What a step or a reset changes, for an exact resume."""
        return {"core": self.core.get_state(), "seeds": list(self._seeds)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave."""
        self.core.set_state(state["core"])
        self._seeds = list(state["seeds"])

    def close(self) -> None:
        """Nothing to release."""

    def _count(self, indices: int | Iterable[int] | None) -> int:
        return len(list(self._get_indices(indices)))

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Value of an attribute, once per env.

        Raises:
            AttributeError: there is none of this name.
        """
        if attr_name == "action_masks":
            if not self.core.action_adapter.masked:
                raise AttributeError("this env has no action masks: its actions are weights")
            return [lambda i=i: self.core.action_masks()[i] for i in self._get_indices(indices)]
        return [getattr(self, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute; the envs share it, so it is set for all of them."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once per env. `action_masks` answers for the whole batch at once."""
        if method_name == "action_masks":
            self.get_attr("action_masks", 0)
            masks = self.core.action_masks()
            return list(masks) if indices is None else [masks[i] for i in self._get_indices(indices)]
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in range(self._count(indices))]

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """The batch wraps no Gymnasium envs."""
        return [False] * self._count(indices)


@renamed_arguments(envs_per_day="envs_per_scenario", split="data_split")
def make_vec_env(
    env_id: str,
    market: str | MarketSpec | MarketFamily = "us_equity",
    n_envs: int = 1,
    seed: int | None = None,
    data_split: str = "train",
    variance_reduction: bool = False,
    monitor: bool = True,
    threads: int = 1,
    envs_per_scenario: int = 1,
    risk_aversion: float = 0.0,
) -> VecEnv:
    """A native SB3 ``VecEnv`` of `n_envs` parent orders.

    Args:
        env_id: "VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1" or "OrderPlace-v1"; or the env of a closed-form
            market, "DarkPoolLiquidation-v1" with market="dark_pool_liquidation", "LimitOrderLiquidation-v1" with
            market="limit_order_liquidation" (:mod:`sor_sb3.envs.liquidation`).
        market: preset name, path, or specification; or a family of markets (`sor_sb3.envs.family_core`).
        n_envs: how many.
        seed: of env 0; None draws seeds from the operating system.
        data_split: "train", "validation" or "test".
        variance_reduction: see :class:`sor_sb3.envs.core.RoutingCore`.
        monitor: whether the env lies under SB3's ``VecMonitor``.
        threads: see `RoutingCore`; more than one pays where the cores are idle and the batch is large.
        envs_per_scenario: how many neighbours play the same scenarios, each in its own way, for a baseline that takes
            the scenario's luck out (:class:`~sor_sb3.callbacks.paired_critic.PairedCriticCallback`; REINFORCE's
            ``"scenario"``). Above 1, every decision has all its waves and every order all its decisions, some with
            nothing to send, so that the steps of neighbours correspond.
        risk_aversion: of the rewards, 1 over the cost unit; see `RoutingCore`.

    Raises:
        UserError: the env, market or data split is unknown, the market is wrong, or a number does not fit.

    Example:
        >>> import sor_sb3
        >>> venv = sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0)
        >>> venv.reset().shape
        (4, 67)
    """
    args = env_id, market, n_envs, seed, data_split, variance_reduction, threads, envs_per_scenario, risk_aversion
    venv: VecEnv = RoutingVecEnv(*args)
    return VecMonitor(venv) if monitor else venv
