"""What a search may try: ranges and choices by key, the shipped ones in ``search_spaces.yml``, others by `--space`.

A key is dotted where settings are nested (``policy_kwargs.hidden``). Nothing is drawn here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from itertools import product
from typing import Any

from gymnasium import spaces

from sor_sb3.algorithms.hyperparameters import (
    complete_hyperparameters,
    default_hyperparameters,
    setting_defaults,
    split_settings,
)
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.experiments.config import TrainConfig, TuneConfig
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.registry import GROUPS, ROUTER_NAMES, find_rule, rule_names
from sor_sb3.safe_yaml import parse_yaml

MINIBATCHES = "minibatches"  # our key: how many minibatches a rollout makes
_FORM = "expected low..high, low..high:log or a|b|c, such as learning_rate=1e-4..1e-2:log"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, even in their logarithm if `log`; whole ones where both ends are."""

    low: float
    high: float
    log: bool

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all, when they are checked."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """Values without an order. A list or a mapping is kept as its JSON text."""

    ends: tuple[Any, ...]


def parse_choices(key: str, text: str) -> Range | Choice:
    """What `--space` says of a key.

    Raises:
        UserError: it is no range and no choice.
    """
    said = f"--space {key}={text}: {_FORM}"
    if ".." not in text:
        values = [parse_yaml(part, f"--space {key}") for part in text.split("|")]
        if any(part.strip() == "" for part in text.split("|")):
            raise UserError(said)
        return Choice(tuple(json.dumps(v) if isinstance(v, list | dict) else v for v in values))
    ends, colon, scale = text.partition(":")
    low, high = (parse_yaml(end, f"--space {key}") for end in ends.split("..", 1))
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or (colon and scale.strip() != "log") or not math.isfinite(low) or not math.isfinite(high):
        raise UserError(said)
    if not low < high or (colon and low <= 0):
        raise UserError(f"--space {key}={text}: expected low below high" + (", and above 0 for log" if colon else ""))
    return Range(low, high, bool(colon))


def space_of(config: TuneConfig) -> dict[str, Range | Choice]:
    """What the search of a config may try."""
    return {key: parse_choices(key, text) for key, text in config.space.items()}


def size_of(space: Mapping[str, Range | Choice]) -> float:
    """How many combinations there are; infinite with a range."""
    parts = (len(c.ends) if isinstance(c, Choice) else math.inf for c in space.values())
    return math.prod(parts)


def combinations(space: Mapping[str, Choice], start: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations of a space without ranges, `start` first."""
    found = [dict(zip(space, values, strict=True)) for values in product(*(choice.ends for choice in space.values()))]
    return sorted(found, key=lambda combination: combination != dict(start))


def with_params(hyperparameters: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """`hyperparameters` with what a trial drew; numbers are rounded to three digits, ``lin_x`` stays a schedule."""
    values: dict[str, Any] = deepcopy(dict(hyperparameters))
    for key, value in params.items():
        if key == MINIBATCHES:
            continue
        *parents, name = key.split(".")
        inside = values
        for parent in parents:
            inside = inside.setdefault(parent, {})
        before = inside.get(name)
        inside[name] = _setting(value)
        if isinstance(before, str) and before.startswith("lin_"):
            inside[name] = f"lin_{inside[name]:g}"
    if MINIBATCHES in params:
        values["batch_size"] = max(_rollout(values) // params[MINIBATCHES], 2)
    return values


def _rollout(values: Mapping[str, Any]) -> int:
    """Steps of a rollout; a UserError where their number depends on the market."""
    if not isinstance(values["n_steps"], int):
        why = f"n_steps is {values['n_steps']}, which differs by market"
        raise UserError(
            f"--space {MINIBATCHES}: {why}; give it a number, such as --set n_steps=40, or search batch_size"
        )
    return int(values["n_envs"] * values["n_steps"])


def _setting(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.3g}")
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


def runs_of(config: TuneConfig, params: Mapping[str, Any]) -> list[TrainConfig]:
    """The training runs of a trial: every market with the first seed, then with the next.

    Raises:
        UserError: the settings do not go together.
    """
    values = with_params(config.hyperparameters, params)
    runs = []
    for seed in config.seeds:
        for market in config.markets:
            complete = complete_hyperparameters(config.algo, config.env, market, {}, defaults=values)
            runs.append(
                TrainConfig(
                    algo=config.algo,
                    timesteps=complete["n_timesteps"],
                    variance_reduction=complete.pop("variance_reduction", True),
                    hyperparameters=complete,
                    env=config.env,
                    market=market,
                    seed=seed,
                    validation_scenarios=config.validation_scenarios,
                    evaluations=config.evaluations,
                )
            )
    return runs


def tune_config(
    algo: str,
    env: str,
    markets: Sequence[MarketSpec],
    seeds: int = 2,
    timesteps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    space: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> TuneConfig:
    """A complete config of a search.

    The first trial has the `defaults`, by default those that ship for the env (where one market is given, for that
    market), with `settings` in their place. A key of `settings` is not searched, unless `space` names it: then it is
    where the search starts. `algo` may be a rule with constants, which are then searched.

    Raises:
        UserError: the env, the algorithm or a key is unknown, a value is out of range, or a rule has no constants.
    """
    names = [market.name for market in markets]
    if len(set(names)) < len(names):
        raise UserError(f"--market names {', '.join(names)}; expected each market once")
    chosen = split_settings(list(space), "--space", "learning_rate=1e-4..1e-2:log")
    for key, text in chosen.items():
        parse_choices(key, text)
    rule = find_rule(algo)
    if rule is not None or algo in ROUTER_NAMES:
        return _of_rule(algo, rule, env, markets, chosen, settings or {})
    return _of_learner(algo, env, markets, seeds, timesteps, settings or {}, chosen, defaults)


def _of_rule(
    name: str,
    rule: type[Router] | None,
    env: str,
    markets: Sequence[MarketSpec],
    chosen: Mapping[str, str],
    settings: Mapping[str, Any],
) -> TuneConfig:
    if rule is None or not rule.constants:
        with_constants = [
            n for n in rule_names(markets[0], env, GROUPS) if (r := find_rule(n)) is not None and r.constants
        ]
        raise UserError(f"rule '{name}' has no constants to tune; those that have: {', '.join(with_constants) or '–'}")
    for market in markets:
        if name not in rule_names(market, env, GROUPS):
            raise UserError(f"rule '{name}' means nothing on {market.name} in {env}: it needs another market or env")
    known = list(rule.constants)
    for key in (*chosen, *settings):
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{key} is no constant of rule '{name}'{hint}; expected one of {', '.join(known)}")
    start = {key: settings.get(key, values[0]) for key, values in rule.constants.items()}
    space = {key: "|".join(str(v) for v in values) for key, values in rule.constants.items() if key not in settings}
    space = _with_start(space | dict(chosen), start)
    fixed = {key: value for key, value in start.items() if key not in space}
    return _config(name, env, markets, 1, fixed, space, {key: start[key] for key in space})


def _of_learner(
    algo: str,
    env: str,
    markets: Sequence[MarketSpec],
    seeds: int,
    timesteps: int | None,
    settings: Mapping[str, Any],
    chosen: Mapping[str, str],
    defaults: Mapping[str, Any] | None,
) -> TuneConfig:
    action_space = make_action_adapter(env, markets[0].n_venues).space
    algorithm = find_algorithm(algo, action_space)
    if defaults is None:
        defaults = default_hyperparameters(algorithm.name, env, markets[0].name if len(markets) == 1 else "")
    if settings.get("policy", defaults["policy"]) != defaults["policy"]:
        defaults = {key: value for key, value in defaults.items() if key != "policy_kwargs"}
    top = {key: value for key, value in settings.items() if "." not in key}
    nested = {key: value for key, value in settings.items() if "." in key}
    values = with_params({**defaults, **top, **({"n_timesteps": timesteps} if timesteps else {})}, nested)
    for market in markets:  # names are checked before the space is: a misspelt one has its own sentence
        complete_hyperparameters(algorithm.name, env, market, {}, defaults=values)
    known = setting_defaults(algorithm.load(), values["policy"])
    if "batch_size" in known and isinstance(values.get("n_steps"), int):
        known[MINIBATCHES] = 1
    space = {
        key: text
        for key, text in _shipped(algorithm.name).items()
        if key in known and key not in settings and (key != MINIBATCHES or "batch_size" not in {*settings, *chosen})
    }
    if not isinstance(action_space, spaces.Box):
        space.pop("policy_kwargs.log_std_init", None)
    space |= chosen
    start = {key: _start(key, values, known) for key in space}
    start = {key: value for key, value in start.items() if value is not None}
    config = _config(algorithm.name, env, markets, seeds, values, _with_start(space, start), start)
    check_space(config, chosen)
    return config


def _shipped(algo: str) -> dict[str, str]:
    file = resources.files("sor_sb3.experiments") / "search_spaces.yml"
    table = parse_yaml(file.read_text(encoding="utf-8"), file.name)
    return {key: str(text) for key, text in table.get(algo, table["default"]).items()}


def _start(key: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Where the search of a key begins; None where that is no plain value."""
    if key == MINIBATCHES:
        rollout, batch = _rollout(values), values.get("batch_size") or known["batch_size"]
        return rollout // batch if rollout % batch == 0 else None
    inside: Any = values
    for part in key.split("."):
        inside = inside.get(part) if isinstance(inside, Mapping) else None
    value = known.get(key) if inside is None else inside
    if isinstance(value, str) and value.startswith("lin_"):
        return float(value.removeprefix("lin_"))
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, type):  # activations are classes in constructors, names in settings
        return value.__name__
    return value if isinstance(value, bool | int | float | str) else None


def _with_start(space: Mapping[str, str], start: Mapping[str, Any]) -> dict[str, str]:
    """The space, in whose choices the start is."""
    complete = dict(space)
    for key, text in space.items():
        choices = parse_choices(key, text)
        if isinstance(choices, Choice) and key in start and start[key] not in choices.ends:
            complete[key] = f"{text}|{start[key] if isinstance(start[key], str) else json.dumps(start[key])}"
    return complete


def _config(
    algo: str,
    env: str,
    markets: Sequence[MarketSpec],
    seeds: int,
    hyperparameters: dict[str, Any],
    space: dict[str, str],
    start: dict[str, Any],
) -> TuneConfig:
    """The config, if a search can begin from it."""
    if not space:
        raise UserError("nothing is left to search: --set fixes every key; free one with --space key=low..high")
    config = TuneConfig(
        algo=algo,
        env=env.removeprefix("sor_sb3:"),  # type: ignore[arg-type]
        markets=tuple(markets),
        seeds=tuple(range(seeds)),
        hyperparameters=hyperparameters,
        space=space,
        start=start,
    )
    return config


def check_space(config: TuneConfig, keys: Collection[str]) -> None:
    """Whether the ends of these keys' choices can be set.

    Raises:
        UserError: a key is no setting, or an end is out of its range.
    """
    for key in keys:
        choices = parse_choices(key, config.space[key])
        if key == MINIBATCHES and not all(isinstance(end, int) and end > 0 for end in choices.ends):
            raise UserError(f"--space {key}={config.space[key]}: expected whole numbers of at least 1")
        for end in choices.ends:
            values = with_params(config.hyperparameters, {key: end})
            complete_hyperparameters(config.algo, config.env, config.markets[0], {}, defaults=values)
