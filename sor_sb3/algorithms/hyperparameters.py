"""Default hyperparameters: zoo-style YAML per algorithm, read safely. Values only; nothing is evaluated as code."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from sor_sb3.errors import UserError

# ours to read; all others go to the constructor
ZOO_KEYS = ("n_timesteps", "n_envs", "policy", "normalize", "envs_per_scenario")


def default_hyperparameters(algo: str, env_id: str, market_name: str) -> dict[str, Any]:
    """Hyperparameters of an algorithm: its `default`, overridden by those of the env, then of env and market.

    The YAML's top-level keys are ``default``, ``ENV`` and ``ENV@MARKET``. An algorithm without a file gets
    ``n_envs: 16``, ``policy: MlpPolicy`` and its own constructor's defaults.
    """
    folder = resources.files("sor_sb3.algorithms") / "hyperparams"
    file = folder / f"{algo.lower()}.yml"
    if not file.is_file():
        file = folder / "others.yml"
    table = yaml.safe_load(file.read_text(encoding="utf-8"))
    merged: dict[str, Any] = {}
    for key in ("default", env_id, f"{env_id}@{market_name}"):
        merged.update(table.get(key) or {})
    return merged


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``key=value`` pairs of `--set`; values are YAML (numbers, true, [64, 64], {a: 1}), never code.

    Raises:
        UserError: a pair has no "=", or its value is no YAML.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected key=value, such as learning_rate=1e-3")
        try:
            parsed[key.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"--set {setting}: the value is not readable; expected a number, word or list") from None
    return parsed


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a word; make it the number that the user means."""
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_number(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def constructor_arguments(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments for an SB3 constructor: zoo keys taken out, ``lin_3e-4`` made a schedule, activations made classes.

    Raises:
        UserError: a schedule or an activation is misspelt.
    """
    arguments = {key: _number(value) for key, value in hyperparameters.items() if key not in ZOO_KEYS}
    for key, value in arguments.items():
        if isinstance(value, str) and value.startswith("lin_"):
            arguments[key] = linear_schedule(value, key)
    kwargs = arguments.get("policy_kwargs")
    if kwargs is not None:
        if not isinstance(kwargs, dict):
            raise UserError(f"policy_kwargs is {kwargs!r}; expected a mapping such as {{net_arch: [64, 64]}}")
        arguments["policy_kwargs"] = {key: _policy_argument(key, value) for key, value in kwargs.items()}
    return arguments


def linear_schedule(text: str, key: str) -> Any:
    """``lin_3e-4``: from that value down to 0 as training goes on.

    Raises:
        UserError: what follows "lin_" is no number.
    """
    from stable_baselines3.common.utils import LinearSchedule

    try:
        return LinearSchedule(float(text.removeprefix("lin_")), 0.0, 1.0)
    except ValueError:
        raise UserError(f"{key} is {text!r}; expected a number, or lin_ and a number, such as lin_3e-4") from None


def _policy_argument(key: str, value: Any) -> Any:
    if key != "activation_fn" or not isinstance(value, str):
        return value
    from torch import nn

    name = value.removeprefix("nn.")
    if not isinstance(getattr(nn, name, None), type):
        raise UserError(f"policy_kwargs.activation_fn is {value!r}; expected a class of torch.nn, such as ReLU")
    return getattr(nn, name)


def policy_of(name: Any) -> Any:
    """The policy that a YAML names: SB3's by their names, those of this package by their classes."""
    from sor_sb3.algorithms.policies import POLICIES

    if name == "VenueSACPolicy":
        from sor_sb3.algorithms.sac_policy import VenueSACPolicy

        return VenueSACPolicy
    return POLICIES.get(name, name)
