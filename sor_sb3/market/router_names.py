"""Names of rules and oracles that a market may refer to, and what each needs. `policies/registry.py` adds others."""

from __future__ import annotations

from typing import Any

from sor_sb3.errors import did_you_mean

_RULES = "random round_robin best_fixed_venue best_price all_in all_in_sized net_price_sweep pro_rata"
RULE_NEEDS = dict.fromkeys(_RULES.split(), "") | {
    "stale_sniper": "charges_bps",
    "planner": "is_synthetic",
    "dark_first": "has_dark",
    "dark_then_sweep": "has_dark_and_waves",
    "vwap": "has_volume",
    **dict.fromkeys("ganchev_power_law ganchev_kaplan_meier agarwal_continuous agarwal_integer".split(), "has_dark"),
    **dict.fromkeys(("laruelle_optimisation", "laruelle_reinforcement"), "has_dark"),
    **dict.fromkeys("almgren_harts epsilon_greedy ucb1 thompson linucb rise".split(), "charges_bps"),
    **dict.fromkeys(("post_and_sweep", "join_pro_rata", "rebate_chaser", "passive_only", "cont_kukanov"), "has_volume"),
    **dict.fromkeys(("cont_kukanov_resampled", "queue_value", "pov"), "has_volume"),
    **dict.fromkeys(("almgren_chriss", "twap"), ""),
    "vwap_curve": "has_volume_and_horizon",
}
"""Rules by name, each with the property of a market that it needs; "" where it needs nothing."""
ORACLE_NEEDS: dict[str, str] = {"snapshot_oracle": "", "placement_oracle": "has_volume", "clairvoyant": "has_lots"}
"""Oracles by name, each with the property of a market that it needs."""

_REMEDIES = {
    "charges_bps": "take another market than the notebook's",
    "is_synthetic": "take a synthetic market",
    "has_dark": "add a venue with 'dark: {...}'",
    "has_dark_and_waves": "add a venue with 'dark: {...}', and set order.waves to 2",
    "has_volume": "set volume.shares_per_day, or trades_file for a recording",
    "has_volume_and_horizon": "publish traded volume, and draw nothing of the order",
    "has_lots": "set order.lot_shares",
}


def register_router_name(name: str, needs: str = "", oracle: bool = False) -> None:
    """Let markets name a router of your own as `reference_router`, or as `oracle`; what is known stays as it is.

    `needs` is "charges_bps", "has_dark", "has_dark_and_waves", "has_volume", "has_lots", or "" where the router works
    in every market.
    """
    (ORACLE_NEEDS if oracle else RULE_NEEDS).setdefault(name, needs)


def check_router_names(market: Any) -> None:
    """Refuse a market whose `reference_router` or `oracle` nobody knows, or that lacks what it needs.

    Raises:
        ValueError: it names the field, the value and what would do.
    """
    for field, known in (("reference_router", RULE_NEEDS), ("oracle", ORACLE_NEEDS)):
        name = getattr(market, field)
        if name not in known:
            hint = did_you_mean(name, list(known))
            raise ValueError(f"field '{field}' is '{name}'{hint}; expected one of {', '.join(known)}")
        if known[name] and not getattr(market, known[name]):
            raise ValueError(f"field '{field}' is '{name}', which this market cannot have; {_REMEDIES[known[name]]}")
