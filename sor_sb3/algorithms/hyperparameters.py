"""Hyperparameters: zoo-style YAML per algorithm, settings of `--set`, and one check of both. No code in values."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec
from sor_sb3.safe_yaml import parse_yaml, read_text

# ours to read; all others go to the constructor
ZOO_KEYS = "n_timesteps n_envs policy normalize envs_per_scenario critic_updates spread_power risk_aversion".split()

_OURS = {"self", "env", "policy", "seed", "verbose", "tensorboard_log", "_init_setup_model"}  # not for `--set`
_OF_ENV = {"self", "observation_space", "action_space", "lr_schedule"}  # of a policy: what the algorithm gives it
_WIDEST = 10_000  # of a network's layer, and the most layers, critics or quantiles
_RANGES: dict[tuple[float, float], str] = {  # where they are narrower, or 0 and -1 have a meaning
    (1, 10**15): "n_timesteps",
    (1, 10**5): "n_envs",
    (1, 10**6): "n_steps n_epochs",
    (1, 10**8): "buffer_size",
    (1, _WIDEST): "n_delta",
    (0, 10**9): "learning_starts cg_damping critic_updates",
    (0, 10**6): "top_quantiles_to_drop_per_net risk_aversion",
    (-1, 10**6): "gradient_steps",
    (-1, 10**9): "sde_sample_freq",
    (0, 1): "spread_power learning_rate gamma gae_lambda tau exploration_initial_eps exploration_final_eps",
    (1e-9, 1): "exploration_fraction line_search_shrinking_factor",
    (1e-30, 1): "rms_prop_eps epsilon",
    (1e-9, 1e9): "clip_range clip_range_vf target_kl max_grad_norm delta_std clip_obs clip_reward",
    (-20, 20): "log_std_init",
    (1e-6, 1e6): "concentration_init",
}
_LIMITS = {name: limits for limits, names in _RANGES.items() for name in names.split()}

_ANYTHING = "**"  # stands among the names where a constructor takes any
_Parameters = dict[str, tuple[Any, Any]]  # by name: type annotation, default


def default_hyperparameters(algo: str, env_id: str, market_name: str) -> dict[str, Any]:
    """Hyperparameters of an algorithm: its ``default``, overridden by those of ``ENV``, then of ``ENV@MARKET``.

    An algorithm without a file gets ``n_envs: 16``, ``policy: MlpPolicy`` and its own constructor's defaults.
    """
    folder = resources.files("sor_sb3.algorithms") / "hyperparams"
    file = folder / f"{algo.lower()}.yml"
    file = file if file.is_file() else folder / "others.yml"
    return _merged(parse_yaml(file.read_text(encoding="utf-8"), file.name), env_id, market_name)


def _merged(table: Mapping[str, Any], env_id: str, market_name: str) -> dict[str, Any]:
    parts = (table.get(key) or {} for key in ("default", env_id, f"{env_id}@{market_name}"))
    return {name: value for part in parts for name, value in part.items()}


def read_hyperparameters(file: Path, env_id: str, market_name: str) -> dict[str, Any]:
    """Hyperparameters from a user's YAML file of the same form, in place of the shipped ones.

    Raises:
        UserError: the file cannot be read, has another form, or has nothing for the env.
    """
    table = parse_yaml(read_text(file), str(file))
    form = f"expected settings by env, such as {env_id}: {{learning_rate: 1e-3}}"
    if not isinstance(table, dict) or not all(isinstance(part, dict | None) for part in table.values()):
        raise UserError(f"{file} holds no hyperparameters; {form}")
    values = _merged(table, env_id, market_name)
    if not values:
        raise UserError(f"{file} has nothing for {env_id}, only for {', '.join(map(str, table)) or 'nobody'}; {form}")
    return {**default_hyperparameters("others", env_id, market_name), **values}


def complete_hyperparameters(
    algo: str,
    env_id: str,
    market: MarketSpec | MarketFamily,
    settings: Mapping[str, Any],
    n_envs: int | None = None,
    timesteps: int | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All hyperparameters of a run, checked: defaults, overridden by `settings`, then by `n_envs` and `timesteps`.

    Where no `defaults` are given, those that ship with the package are looked up by `algo` (a name in the registry, or
    package.module:Class), env and the market's name.
    ``n_steps: episode`` is the longest episode: the market's horizon times its waves. Plain data; whole numbers are of
    type int: 1e2 and 100 are one run. For a family of markets the defaults are those of ``ENV@family``, and the policy
    has no marks.

    Raises:
        UserError: a key is unknown, or a value is of another type or outside its range.
    """
    is_family = isinstance(market, MarketFamily)
    name = "family" if is_family else market.name
    values = default_hyperparameters(algo, env_id, name) if defaults is None else dict(defaults)
    if settings.get("policy", values["policy"]) != values["policy"]:
        values.pop("policy_kwargs", None)  # they are the other policy's
    values.update(settings)
    values |= {key: value for key, value in (("n_envs", n_envs), ("n_timesteps", timesteps)) if value is not None}
    if values.get("n_steps") == "episode":
        values["n_steps"] = market.order.horizon_steps * market.order.waves
    values.setdefault("envs_per_scenario", 1)
    try:
        values = check_hyperparameters(find_algorithm(algo).load(), values)
    except UserError as error:
        raise UserError(f"settings of algorithm '{algo}': {error}") from None
    if is_family:
        _check_generality(values, algo)
    if "envs_per_scenario" not in settings:  # a default gives way to the number of envs
        values["envs_per_scenario"] = math.gcd(values["envs_per_scenario"], values["n_envs"])
    if values["envs_per_scenario"] == 1 and values.get("baseline") == "scenario" and "baseline" not in settings:
        values["baseline"] = "value"  # there are no others in a scenario
    return values


def _check_generality(values: dict[str, Any], algo: str) -> None:
    """Take the marks out of a policy that is trained on a family; a UserError where it cannot do without them."""
    from sor_sb3.algorithms.policies import POLICIES

    kwargs = values.get("policy_kwargs") or {}
    if values["policy"] not in POLICIES:
        expected = f"expected one that fits any number of venues: {', '.join(POLICIES)}"
        raise UserError(f"settings of algorithm '{algo}': policy is '{values['policy']}' on a family; {expected}")
    if values.get("normalize"):
        why = "on a family, whose markets have observations of their own length; set it to false"
        raise UserError(f"settings of algorithm '{algo}': normalize is {values['normalize']!r} {why}")
    if kwargs.get("marks", False):
        why = "on a family, whose venues differ from market to market; leave it out"
        raise UserError(f"settings of algorithm '{algo}': policy_kwargs.marks is true {why}")
    values["policy_kwargs"] = {**kwargs, "marks": False}


def check_hyperparameters(algorithm: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the constructor of `algorithm` (an SB3 class) takes them by its annotations and defaults.

    Raises:
        UserError: a key is unknown, or a value is of another type or outside its range.
    """
    from stable_baselines3.common.vec_env import VecNormalize

    ours: _Parameters = dict.fromkeys(("n_timesteps", "n_envs", "envs_per_scenario", "critic_updates"), (int, 1))
    ours |= {"policy": (str, ""), "normalize": (bool | dict[str, Any], False), "variance_reduction": (bool, True)}
    ours |= {"risk_aversion": (float, 0.0), "spread_power": (float, 0.0)}
    known = ours | _parameters(algorithm, _OURS)
    checked = _check_all("", values, known, str(getattr(algorithm, "__name__", algorithm)))
    if isinstance(checked.get("normalize"), dict):
        options = _parameters(VecNormalize, {"self", "venv", "gamma"})
        checked["normalize"] = _check_all("normalize.", checked["normalize"], options, "VecNormalize")
    policy = _policy_class(algorithm, checked.get("policy"))
    if checked.get("policy_kwargs") and policy is not None:
        options = _parameters(policy, _OF_ENV)
        checked["policy_kwargs"] = _check_all("policy_kwargs.", checked["policy_kwargs"], options, policy.__name__)
    frequency = checked.get("train_freq")
    if isinstance(frequency, tuple):
        checked["train_freq"] = list(frequency)
        if frequency[1] == "episode" and checked.get("n_envs", 1) > 1:
            raise UserError(f"train_freq is {list(frequency)}; expected steps, or n_envs=1 to train after episodes")
    return checked


def _parameters(owner: Any, left_out: set[str]) -> _Parameters:
    """Arguments of a constructor by name; where it takes more (``**kwargs``), those of its parents' too."""
    from stable_baselines3.common.vec_env import VecEnv

    found: _Parameters = {}
    for parent in owner.__mro__ if isinstance(owner, type) else ():
        constructor = parent.__dict__.get("__init__")
        if constructor is None or parent is object:
            continue
        try:
            hints = get_type_hints(constructor, localns={"VecEnv": VecEnv})  # SB3 imports it for types only
        except (NameError, TypeError):
            hints = {}
        signature = inspect.signature(constructor).parameters
        for name, parameter in signature.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in left_out:
                found.setdefault(name, (hints.get(name), parameter.default))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values()):
            return found
    return found | {_ANYTHING: (None, None)}


def setting_defaults(algorithm: type, policy: str) -> dict[str, Any]:
    """What can be set of an algorithm, with its constructor's default; of its policy as ``policy_kwargs.NAME``.

    Raises:
        UserError: the algorithm has no policy of that name.
    """
    found: dict[str, Any] = {"n_envs": 1, "envs_per_scenario": 1, "normalize": False, "variance_reduction": True}
    found |= {name: default for name, (_, default) in _parameters(algorithm, _OURS).items()}
    policy_class = _policy_class(algorithm, policy)
    if policy_class is not None:
        options = _parameters(policy_class, _OF_ENV)
        found |= {f"policy_kwargs.{name}": default for name, (_, default) in options.items()}
    return found


def _policy_class(algorithm: Any, name: Any) -> Any:
    """The class that a policy's name stands for; None where the algorithm does not say."""
    policy = policy_of(name)
    if not isinstance(policy, str):
        return policy
    aliases = getattr(algorithm, "policy_aliases", {policy: None})
    if policy not in aliases:
        known = [*aliases, *_own_policies()]
        raise UserError(f"policy is '{name}'{did_you_mean(policy, known)}; expected one of {', '.join(known)}")
    return aliases[policy]


def _check_all(prefix: str, values: Mapping[Any, Any], known: _Parameters, owner: str) -> dict[str, Any]:
    checked = {}
    for key, value in values.items():
        if key not in known and _ANYTHING not in known:
            hint = did_you_mean(str(key), list(known))
            raise UserError(f"{prefix}{key} is no setting of {owner}{hint}; expected one of {', '.join(sorted(known))}")
        checked[key] = _check(prefix + key, value, *known.get(key, (None, None)))
    return checked


def _check(key: str, value: Any, annotation: Any, default: Any) -> Any:
    """`value` in the type that is annotated or, without annotation, that the default has."""
    if annotation is None:
        annotation = Any if default in (None, inspect.Parameter.empty) else type(default)
        if annotation is int and isinstance(value, float) and not value.is_integer():
            annotation = float  # a default of 0 may stand for a number of any kind
    name, kinds = key.rpartition(".")[2], get_args(annotation) or (annotation,)
    takes_schedule = any(getattr(kind, "__origin__", kind) is Callable for kind in kinds)
    if takes_schedule and isinstance(value, str) and value.startswith("lin_"):
        _check_range(key, linear_schedule(value, key).start)
        return value
    if name == "activation_fn":
        _policy_argument(name, value)  # a name: the class is looked up when the network is built
        if isinstance(value, str):
            return value
    allowed = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        literal = any(isinstance(kind, str) for kind in kinds)
        if isinstance(value, bool | str) and type(value) not in kinds and Any not in kinds and not literal:
            raise ValueError  # pydantic takes true for 1, and "1" too
        fitting = TypeAdapter(annotation, config=allowed).validate_python(value)
    except (ValidationError, ValueError):
        raise UserError(f"{key} is {reprlib.repr(value)}; expected {_words(kinds)}") from None
    _check_numbers(key, fitting)
    return fitting


def _check_numbers(key: str, value: Any) -> None:
    """Every number in `value`, however deep, is finite and in its range."""
    if isinstance(value, Mapping):
        for part, inner in value.items():
            _check_numbers(f"{key}.{part}", inner)
    elif isinstance(value, list | tuple):
        if len(value) > _WIDEST:
            raise UserError(f"{key} has {len(value):,} entries; expected at most {_WIDEST:,}")
        for inner in value:
            _check_numbers(key, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(key, value)


def _check_range(key: str, value: float) -> None:
    others = (-1e9, 1e9) if isinstance(value, float) else (1, _WIDEST if "policy_kwargs" in key else 10**9)
    low, high = _LIMITS.get(key.rpartition(".")[2], others)
    if not low <= value <= high:
        raise UserError(f"{key} is {value!r}; expected a number from {low:g} to {high:g}")


def _words(kinds: tuple[Any, ...]) -> str:
    """What a user may write for these types."""
    if all(isinstance(kind, str) for kind in kinds):
        return f"one of {', '.join(kinds)}"
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    words |= {type(None): "null", Callable: "a schedule such as lin_3e-4"}
    words |= {dict: "a mapping, {}", list: "a list, {}", tuple: "a list, {}"}
    said = (words.get(getattr(kind, "__origin__", kind), "{}, which only Python can give") for kind in kinds)
    return " or ".join(text.format(kind) for text, kind in zip(said, kinds, strict=True))


def split_settings(settings: list[str], flag: str = "--set", example: str = "learning_rate=1e-3") -> dict[str, str]:
    """``key=value`` pairs of a flag, as text.

    Raises:
        UserError: a pair has no "=".
    """
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{flag} {setting}: expected key=value, such as {example}")
        pairs[key.strip()] = value
    return pairs


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``key=value`` pairs of `--set`; values are YAML (numbers, true, [64, 64], {a: 1}), never code.

    Raises:
        UserError: a pair has no "=", or its value is no YAML.
    """
    parsed: dict[str, Any] = {}
    for key, value in split_settings(settings).items():
        try:
            parsed[key] = parse_yaml(value, "the value")
        except UserError as error:
            said = f"{error}; it is not readable: expected a number, word or list"
            raise UserError(f"--set {key}={value}: {said}") from None
    return parsed


def constructor_arguments(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments for an SB3 constructor: zoo keys taken out, ``lin_3e-4`` made a schedule, activations made classes.

    Raises:
        UserError: a schedule or an activation is misspelt.
    """
    arguments = {key: value for key, value in hyperparameters.items() if key not in ZOO_KEYS}
    for key, value in arguments.items():
        if isinstance(value, str) and value.startswith("lin_"):
            arguments[key] = linear_schedule(value, key)
        elif key == "train_freq" and isinstance(value, list):
            arguments[key] = tuple(value)  # SB3 tells (2, "step") from a number by its type
    kwargs = arguments.get("policy_kwargs")
    if kwargs is not None:
        if not isinstance(kwargs, dict):
            raise UserError(f"policy_kwargs is {kwargs!r}; expected a mapping such as {{net_arch: [64, 64]}}")
        arguments["policy_kwargs"] = {key: _policy_argument(key, value) for key, value in kwargs.items()}
    return arguments


def linear_schedule(text: str, key: str) -> Any:
    """``lin_3e-4``: from that value down to 0 over the training.

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
    import torch

    activation = getattr(torch.nn, value.removeprefix("nn."), None)
    try:
        if activation is not None and activation()(torch.zeros(2, 4)).shape == (2, 4):
            return activation
    except Exception:
        pass
    raise UserError(f"policy_kwargs.activation_fn is {value!r}; expected an activation of torch.nn, such as ReLU")


def policy_of(name: Any) -> Any:
    """The policy that a YAML names: SB3's by their names, those of this package by their classes."""
    return _own_policies().get(name, name)


def _own_policies() -> dict[str, Any]:
    from sor_sb3.algorithms.policies import POLICIES
    from sor_sb3.algorithms.sac_policy import VenueSACPolicy

    return {**POLICIES, "VenueSACPolicy": VenueSACPolicy}
