"""Routers by name. The rules are the classes of the modules in ``policies/rules``: a new one is found, not listed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from importlib import import_module
from inspect import isabstract, isclass, signature
from pkgutil import iter_modules
from typing import Any

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.loading import load_market
from sor_sb3.market.router_names import register_router_name
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies import rules
from sor_sb3.policies.protocol import Router


def _found_rules() -> dict[str, type[Router]]:
    """The rules of every module in ``policies/rules``: modules by name, classes in the order of their definition."""
    found: dict[str, type[Router]] = {}
    for entry in iter_modules(rules.__path__, f"{rules.__name__}."):
        for value in vars(import_module(entry.name)).values():
            is_rule = isclass(value) and issubclass(value, Router) and not isabstract(value)
            if is_rule and value.__module__ == entry.name:
                found[value.name] = value
    return found


_ORACLES = {
    "snapshot_oracle": "snapshot:SnapshotOracle",
    "placement_oracle": "placement:PlacementOracle",
    "clairvoyant": "clairvoyant:Clairvoyant",
}
_ROUTERS: dict[str, Any] = dict(_found_rules())
ROUTER_NAMES = tuple(_ROUTERS)
for _name in ROUTER_NAMES:
    register_router_name(_name)
ORACLE_NAMES = tuple(_ORACLES)


def register_router(name: str, router: type) -> None:
    """Make a rule of your own known by a name, in this process: to `make`, `sor_sb3.evaluate` and comparisons.

    A rule is a subclass of `Router`, or a class with SB3's ``predict`` that takes (market, env_id, seed, **options).

    Raises:
        UserError: the name is taken or cannot name a folder, or the class has no ``predict``.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.\-]*", name):
        raise UserError(f"router's name is {name!r}; expected letters, digits, '_', '-' and '.', such as 'my_rule'")
    _check_class(name, router)
    taken = _ROUTERS.get(name, router)
    if name in _ORACLES or (taken.__module__, taken.__qualname__) != (router.__module__, router.__qualname__):
        raise UserError(f"router '{name}' is taken; register {router.__qualname__} by another name")
    _ROUTERS[name] = router
    register_router_name(name)


def _check_class(name: str, router: Any) -> None:
    if not isclass(router) or not callable(getattr(router, "predict", None)):
        wanted = "a class with SB3's predict, such as a subclass of sor_sb3.routers.Router"
        raise UserError(f"router '{name}' is {router!r}; expected {wanted}")
    if isabstract(router):
        raise UserError(f"router '{name}' has no method {', '.join(sorted(vars(router)['__abstractmethods__']))}")


def _import_routers(name: Any) -> None:
    """Make a class that a name has as "package.module:Class" known by that text, which every process understands.

    Raises:
        UserError: it cannot be imported, or has no ``predict``.
    """
    for part in name.split("+") if isinstance(name, str) else ():
        module, colon, attribute = part.partition(":")
        if colon and part not in _ROUTERS:
            try:
                router = getattr(import_module(module), attribute)
            except Exception as error:  # whatever a user's module may raise
                raise UserError(f"router '{part}' cannot be imported: {type(error).__name__}: {error}") from None
            _check_class(part, router)
            _ROUTERS[part] = router
            register_router_name(part)


def make(name: str, market: str | MarketSpec, env: str | Any = "OrderSplit-v1", seed: int = 0, **options: Any) -> Any:
    """A router by name.

    Args:
        name: a rule of `ROUTER_NAMES` or of `register_router`; a class of yours, "package.module:Class"; a schedule and
            the rule that splits what it sends, such as "twap+pro_rata"; or an oracle of `ORACLE_NAMES`, which needs the
            env that it looks into.
        market: whose observations the router reads.
        env: the id of the env whose actions the router gives; for an oracle the env itself (of any adapter).
        seed: of routers that draw.
        options: of the router, e.g. ``venue="NYSE"`` for `best_fixed_venue`, ``split="pro_rata"`` for schedules.

    Raises:
        UserError: the router or an option is unknown, or the market lacks what the router needs.
    """
    _import_routers(name)
    known = [*_ROUTERS, *_ORACLES]
    name, options = _with_split(name, options, market, env, seed)
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise UserError(f"router '{name}' is unknown{hint}; expected one of {', '.join(known)}")
    if name in _ORACLES:
        core = find_core(env)
        if core is None:
            raise UserError(f"router '{name}' sees hidden state: give it the env, env=venv, not a name")
        module, _, oracle = _ORACLES[name].partition(":")
        return getattr(import_module(f"sor_sb3.policies.oracles.{module}"), oracle)(core)
    router = _ROUTERS[name]
    if getattr(router, "rests", False) and not make_action_adapter(env, 2).rests:
        raise UserError(f"router '{name}' lets orders rest, which {env} cannot; take OrderPlace-v1")
    if getattr(router, "paces", False) and not make_action_adapter(env, 2).paced:
        refused = f"router '{name}' is a schedule, and {env} sets the pace itself"
        raise UserError(f"{refused}; take OrderExecute-v1 or OrderPlace-v1")
    try:
        signature(router).bind(market, env, seed, **options)
    except TypeError as error:
        raise UserError(f"router '{name}' does not take these options: {error}") from None
    return router(load_market(market), env, seed, **options)


def _with_split(name: Any, options: dict[str, Any], market: Any, env: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    """The name of a schedule and its options with the split made, of "SCHEDULE+SPLIT" or of a ``split`` by name."""
    first, plus, second = name.partition("+") if isinstance(name, str) else (name, "", "")
    split = second if plus else options.get("split")
    if not isinstance(split, str):
        return name, options
    schedules = [known for known in _ROUTERS if getattr(_ROUTERS[known], "paces", False)]
    splits = [known for known in _ROUTERS if known not in schedules]
    for part, expected in ((first, schedules), (split, splits)):
        if part not in expected:
            hint, wanted = did_you_mean(part, expected), f"expected one of {', '.join(expected)}"
            role = "schedule" if expected is schedules else "rule that splits"
            raise UserError(f"router '{name}': '{part}' is no {role}{hint}; {wanted}")
    return first, {**options, "split": make(split, market, env, seed)}


def find_rule(name: str) -> type[Router] | None:
    """The class of a rule; None where the name is not that of a `Router`."""
    router = _ROUTERS.get(name)
    return router if isclass(router) and issubclass(router, Router) else None


def oracle_name(market: MarketSpec, env_id: str) -> str:
    """The oracle of a market in an env: `market.oracle`; of snapshot and placement oracle the one that the env takes.

    Where orders may rest, that is `placement_oracle`; elsewhere `snapshot_oracle`.
    """
    if market.oracle not in ("snapshot_oracle", "placement_oracle"):
        return market.oracle
    return "placement_oracle" if make_action_adapter(env_id, market.n_venues).rests else "snapshot_oracle"


GROUPS = ("standard", "literature")


def rule_names(market: MarketSpec, env_id: str = "OrderSplit-v1", groups: Collection[str] = ("standard",)) -> list[str]:
    """Rules of these `GROUPS` that mean something in the market (`Router.fits`) and the env, registered ones last."""
    adapter = make_action_adapter(env_id, market.n_venues)

    def means_something(rule: type) -> bool:
        if not issubclass(rule, Router):
            return getattr(rule, "group", "standard") in groups
        fits_env = (adapter.rests or not rule.rests) and (adapter.paced or not rule.paces)
        return rule.group in groups and fits_env and rule.fits(market)

    return [name for name, rule in _ROUTERS.items() if means_something(rule)]


def chosen_rules(market: MarketSpec, env_id: str, wanted: Sequence[str]) -> list[str]:
    """The rules that are `wanted` by name or by group ("all" is both), and the market's reference rule.

    A schedule may say its split, "twap+pro_rata"; a rule of your own is "package.module:Class".

    Raises:
        UserError: a rule is unknown, cannot be imported, or means nothing in the market or the env.
    """
    for name in wanted:
        _import_routers(name)
    possible = rule_names(market, env_id, GROUPS)
    chosen, split = {market.reference_router}, []
    for name in wanted:
        if name in (*GROUPS, "all"):
            chosen.update(rule_names(market, env_id, GROUPS if name == "all" else (name,)))
        elif name in possible:
            chosen.add(name)
        elif name.partition("+")[0] in possible and name.partition("+")[2] in possible:
            split.append(name)
        else:
            known = [*GROUPS, "all", *possible]
            hint = did_you_mean(name, known)
            what = f"means nothing in market '{market.name}' and {env_id}" if name in _ROUTERS else f"is unknown{hint}"
            expected = f"expected some of {', '.join(known)}, or package.module:Class, with commas between"
            raise UserError(f"rule '{name}' {what}; {expected}")
    return [*(name for name in possible if name in chosen), *dict.fromkeys(split)]


def find_core(env: Any) -> Any:
    """The batched core inside an env of this package, under any wrappers; None for anything else."""
    while env is not None:
        inside = getattr(env, "__dict__", {})
        if "core" in inside:
            return inside["core"]
        env = inside.get("venv") or inside.get("env")
    return None
