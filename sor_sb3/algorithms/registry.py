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

    Attributes:
        name: as the command line and a config write it; "package.module:Class" for a user's own class, whatever name
            it is registered under, so that a config means the same in every process.
        where: "package.module:Class".
        action_spaces: names of the Gymnasium spaces whose actions it can give.
        needs_masks: whether it wants an env with `action_masks`.
    """

    name: str
    where: str
    action_spaces: tuple[str, ...]
    needs_masks: bool = False

    def load(self) -> Any:
        """The class.

        Raises:
            UserError: it cannot be imported.
        """
        module, _, name = self.where.partition(":")
        try:
            return reduce(getattr, name.split("."), import_module(module))
        except ModuleNotFoundError as error:
            package = _PACKAGES.get(module.partition(".")[0])
            if package is None or error.name != module.partition(".")[0]:
                raise self._not_importable(error) from None
            raise UserError(
                f"algorithm '{self.name}' needs a package; install it with: pip install {package}"
            ) from None
        except (ImportError, AttributeError, ValueError) as error:
            raise self._not_importable(error) from None

    def _not_importable(self, error: Exception) -> UserError:
        return UserError(f"algorithm '{self.name}' cannot be imported from {self.where}: {error}")

    def fits(self, action_space: spaces.Space) -> bool:
        """Whether it can act in this space."""
        return type(action_space).__name__ in self.action_spaces


_ANY = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_PACKAGES = {"sbx": "sbx-rl"}  # modules of optional packages, by what a package manager calls them
_SB3, _CONTRIB = "stable_baselines3", "sb3_contrib"
_ALGORITHMS: dict[str, Algorithm] = {}


def _add(name: str, where: str, action_spaces: tuple[str, ...], needs_masks: bool = False) -> None:
    _ALGORITHMS[name] = Algorithm(name, where, action_spaces, needs_masks)


_add("reinforce", "sor_sb3.algorithms.reinforce:REINFORCE", _ANY)
_add("a2c", f"{_SB3}:A2C", _ANY)
_add("ppo", f"{_SB3}:PPO", _ANY)
_add("dqn", f"{_SB3}:DQN", ("Discrete",))
_add("sac", f"{_SB3}:SAC", ("Box",))
_add("td3", f"{_SB3}:TD3", ("Box",))
_add("ddpg", f"{_SB3}:DDPG", ("Box",))
_add("trpo", f"{_CONTRIB}:TRPO", _ANY)
_add("qrdqn", f"{_CONTRIB}:QRDQN", ("Discrete",))
_add("tqc", f"{_CONTRIB}:TQC", ("Box",))
_add("crossq", f"{_CONTRIB}:CrossQ", ("Box",))
_add("ars", f"{_CONTRIB}:ARS", ("Box", "Discrete"))
_add("recurrentppo", f"{_CONTRIB}:RecurrentPPO", _ANY)
_add("maskableppo", f"{_CONTRIB}:MaskablePPO", ("Discrete", "MultiDiscrete", "MultiBinary"), needs_masks=True)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def register_algorithm(
    name: str, algorithm: type | str, action_spaces: tuple[str, ...] = _ANY, needs_masks: bool = False
) -> None:
    """Make a class of your own known by a name, in this process; configs keep "package.module:Class".

    Args:
        name: what users write.
        algorithm: an SB3-like class, or "package.module:Class".
        action_spaces: names of the Gymnasium spaces that it fits.
        needs_masks: whether it wants an env with `action_masks`.

    Raises:
        UserError: the class cannot be imported by another process, or the text has no colon.
    """
    where = algorithm if isinstance(algorithm, str) else f"{algorithm.__module__}:{algorithm.__qualname__}"
    if ":" not in where or "<locals>" in where:
        raise UserError(
            f"algorithm '{name}' is {where}; expected package.module:Class, of a class at the top of a module, for "
            "training runs in processes of its own"
        )
    _ALGORITHMS[_key(name)] = Algorithm(where, where, action_spaces, needs_masks)


def algorithm_names(action_space: spaces.Space | None = None) -> list[str]:
    """Names of the registered algorithms, or of those that fit an action space."""
    return [name for name, algorithm in _ALGORITHMS.items() if action_space is None or algorithm.fits(action_space)]


def find_algorithm(name: str, action_space: spaces.Space | None = None) -> Algorithm:
    """The algorithm of a name, or of "package.module:Class".

    Raises:
        UserError: it is unknown, or does not fit `action_space`; the message lists those that do.
    """
    if ":" in name:
        algorithm = next((known for known in _ALGORITHMS.values() if known.name == name), None)
        return _fitting(algorithm or Algorithm(name, name, _ANY), name, action_space)
    key = _key(name)
    if key not in _ALGORITHMS:
        raise UserError(
            f"algorithm '{name}' is unknown{did_you_mean(key, list(_ALGORITHMS))}; expected one of "
            f"{', '.join(algorithm_names(action_space))}, or package.module:Class"
        )
    return _fitting(_ALGORITHMS[key], name, action_space)


def _fitting(algorithm: Algorithm, name: str, action_space: spaces.Space | None) -> Algorithm:
    if action_space is not None and not algorithm.fits(action_space):
        raise UserError(
            f"algorithm '{name}' does not fit the actions of this env ({action_space}); those that do: "
            f"{', '.join(algorithm_names(action_space))}"
        )
    return algorithm
