"""Routers: policies that nobody trained, and the oracle. ``make(name, market=...)`` builds one with ``.predict``."""

from __future__ import annotations

from typing import Any

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.rules.naive import NAIVE
from sor_sb3.policies.rules.price import PRICE
from sor_sb3.policies.rules.volume import VOLUME

__all__ = ["ORACLE_NAMES", "ROUTER_NAMES", "Router", "make", "rule_names"]

_ROUTERS: dict[str, type[Router]] = {router.name: router for router in (*NAIVE, *PRICE, *VOLUME)}
ROUTER_NAMES = tuple(_ROUTERS)
ORACLE_NAMES = ("snapshot_oracle", "clairvoyant")


def make(name: str, market: str | MarketSpec, env: str | Any = "OrderSplit-v0", seed: int = 0, **options: Any) -> Any:
    """A router by name.

    Args:
        name: one of `ROUTER_NAMES`, or an oracle of `ORACLE_NAMES`, which needs the env it shall look into.
        market: whose observations it will read.
        env: the id of the env whose actions it shall give; for an oracle the env itself (any of our three façades).
        seed: of routers that draw.
        options: of the router, e.g. ``venue="NYSE"`` for `best_fixed_venue`.

    Raises:
        UserError: no such router, or the market lacks what it needs.
    """
    if name in ORACLE_NAMES:
        from sor_sb3.policies.oracles.clairvoyant import Clairvoyant
        from sor_sb3.policies.oracles.snapshot import SnapshotOracle

        core = find_core(env)
        if core is None:
            raise UserError(f"router '{name}' sees hidden state: give it the env, env=venv, not a name")
        return SnapshotOracle(core) if name == SnapshotOracle.name else Clairvoyant(core)
    if name not in _ROUTERS:
        known = [*ROUTER_NAMES, *ORACLE_NAMES]
        raise UserError(f"router '{name}' is unknown{did_you_mean(name, known)}; expected one of {', '.join(known)}")
    return _ROUTERS[name](load_market(market), env, seed, **options)


def rule_names(market: MarketSpec) -> list[str]:
    """Rules that mean something in the market: `vwap` needs published volume, `dark_first` a dark pool."""
    left_out = {name for name, has in (("vwap", market.has_volume), ("dark_first", market.has_dark)) if not has}
    return [name for name in ROUTER_NAMES if name not in left_out]


def find_core(env: Any) -> Any:
    """The batched core inside an env of ours, under any wrappers; None for anything else."""
    while env is not None and not isinstance(env, str):
        if "core" in getattr(env, "__dict__", {}):
            return env.core
        inner = getattr(env, "__dict__", {})
        env = inner.get("venv") or inner.get("env")
    return None
