"""Algorithms by name: what class, and which action spaces it fits. No market knowledge, no hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any

from gymnasium import spaces

from sor_sb3.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Algorithm:
    """An algorithm that `--algo` knows.

    The name of a user's own class is "package.module:Class", whatever name it is registered under, so that a config
    means the same in every process.
    """

    name: str  # as the command line and a config write it
    where: str  # "package.module:Class"
    action_spaces: tuple[str, ...]  # names of the Gymnasium spaces whose actions it can give
    needs_masks: bool = False  # whether it wants an env with `action_masks`

    def load(self) -> Any:
        """The class.

        Raises:
            UserError: it cannot be imported.
        """
        module, _, name = self.where.partition(":")
        try:
            return reduce(getattr, name.split("."), import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            package = module.partition(".")[0]
            if isinstance(error, ModuleNotFoundError) and error.name == package and package in _PACKAGES:
                problem = f"needs a package; install it with: pip install {_PACKAGES[package]}"
            else:
                problem = f"cannot be imported from {self.where}: {error}"
            raise UserError(f"algorithm '{self.name}' {problem}") from None

    def fits(self, action_space: spaces.Space) -> bool:
        """Whether it can act in this space."""
        return type(action_space).__name__ in self.action_spaces


_ANY = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_PACKAGES = {"sbx": "sbx-rl"}  # modules of optional packages, by what a package manager calls them
_SB3, _CONTRIB = "stable_baselines3", "sb3_contrib"
_ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("reinforce", "sor_sb3.algorithms.reinforce:REINFORCE", _ANY),
        Algorithm("a2c", f"{_SB3}:A2C", _ANY),
        Algorithm("ppo", f"{_SB3}:PPO", _ANY),
        Algorithm("dqn", f"{_SB3}:DQN", ("Discrete",)),
        Algorithm("sac", f"{_SB3}:SAC", ("Box",)),
        Algorithm("td3", f"{_SB3}:TD3", ("Box",)),
        Algorithm("ddpg", f"{_SB3}:DDPG", ("Box",)),
        Algorithm("trpo", f"{_CONTRIB}:TRPO", _ANY),
        Algorithm("qrdqn", f"{_CONTRIB}:QRDQN", ("Discrete",)),
        Algorithm("tqc", f"{_CONTRIB}:TQC", ("Box",)),
        Algorithm("crossq", f"{_CONTRIB}:CrossQ", ("Box",)),
        Algorithm("ars", f"{_CONTRIB}:ARS", ("Box", "Discrete")),
        Algorithm("recurrentppo", f"{_CONTRIB}:RecurrentPPO", _ANY),
        Algorithm("maskableppo", f"{_CONTRIB}:MaskablePPO", _ANY[1:], needs_masks=True),
    )
}


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def register_algorithm(
    name: str, algorithm: type | str, action_spaces: tuple[str, ...] = _ANY, needs_masks: bool = False
) -> None:
    """Make a class of your own known by a name, in this process; configs keep "package.module:Class".

    `algorithm` is an SB3-like class or that text; `action_spaces` and `needs_masks` are as in :class:`Algorithm`.

    Raises:
        UserError: the class cannot be imported by another process, or the text has no colon.
    """
    where = algorithm if isinstance(algorithm, str) else f"{algorithm.__module__}:{algorithm.__qualname__}"
    if ":" not in where or "<locals>" in where:
        why = "for training runs in processes of its own"
        raise UserError(f"algorithm '{name}' is {where}; expected package.module:Class, at the top of a module, {why}")
    _ALGORITHMS[_key(name)] = Algorithm(where, where, action_spaces, needs_masks)


def algorithm_names(action_space: spaces.Space | None = None) -> list[str]:
    """Names of the registered algorithms, or of those that fit an action space."""
    return [name for name, algorithm in _ALGORITHMS.items() if action_space is None or algorithm.fits(action_space)]


def find_algorithm(name: str, action_space: spaces.Space | None = None) -> Algorithm:
    """The algorithm of a name, or of "package.module:Class".

    Raises:
        UserError: it is unknown, or does not fit `action_space`; the message lists those that do.
    """
    fitting = ", ".join(algorithm_names(action_space))
    if ":" in name:
        known = (algorithm for algorithm in _ALGORITHMS.values() if algorithm.name == name)
        algorithm = next(known, Algorithm(name, name, _ANY))
    elif _key(name) in _ALGORITHMS:
        algorithm = _ALGORITHMS[_key(name)]
    else:
        hint = did_you_mean(_key(name), list(_ALGORITHMS))
        raise UserError(f"algorithm '{name}' is unknown{hint}; expected one of {fitting}, or package.module:Class")
    if action_space is not None and not algorithm.fits(action_space):
        what = f"algorithm '{name}' does not fit the actions of this env ({action_space})"
        raise UserError(f"{what}; those that do: {fitting}")
    return algorithm
