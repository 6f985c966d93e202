"""The realism panel: what a desk would look at first in a market, beside what is real, with a verdict.

Figures of fills are those of one rule's children over many parent orders; figures of quotes are those of the true path
while nobody trades. Ranges and their sources are in ``realism_ranges.yaml``; nothing is tuned here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.fill_statistics import (
    FILL_STATISTICS,
    PASSIVE_STATISTICS,
    fill_statistics,
    markouts_by_venue,
    passive_statistics,
)
from sor_sb3.evaluation.joined import JOIN_STATISTICS, join_statistics, joined_orders
from sor_sb3.evaluation.path_statistics import PATH_STATISTICS, Interval, Statistic, leader, path_statistics
from sor_sb3.evaluation.true_quotes import QuotePaths, recorded_quotes, simulated_quotes
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import DarkPool, MarketSpec, ReplayMarket, SyntheticMarket
from sor_sb3.policies.registry import rule_names
from sor_sb3.safe_yaml import parse_yaml

RULE, RESTING_RULE = "net_price_sweep", "post_and_sweep"
PATH_SCENARIOS, PATH_DURATION_S = 96, 7200.0  # two hours each, so that autocorrelations at 300 s have a meaning
BLOCK_S = 1800.0  # of a recording: its scenarios
RECORDED_SCENARIOS = 200  # of a recording's replay, at most: its windows overlap
WIDE = 3.0  # a range whose high end is more than so many times its low end says why

Verdict = Literal["inside", "outside", "too wide", ""]
MARKET_FIGURES: dict[str, Statistic] = {
    "participation_percent": Statistic("parent order, share of the market's volume in its life", "%", 1),
    "dark_supply_percent": Statistic("supplied in the dark, share of lit volume", "%", 1),
}
FIGURES: dict[str, Statistic] = (
    FILL_STATISTICS | PASSIVE_STATISTICS | JOIN_STATISTICS | MARKET_FIGURES | PATH_STATISTICS
)


@dataclass(frozen=True)
class Range:
    """What is real of a figure: from `low` to `high`, by `source`; `why` where the range is wide."""

    low: float
    high: float
    source: str
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A figure of a market beside what is real.

    Attributes:
        key: of `FIGURES`, or "markout_1s_bps VENUE", which has no range.
        found: the figure with its 95 % interval over scenarios; NaN where the market has none.
        real: None where nothing is stated for the class.
        verdict: "inside" only if the interval overlaps the range and is narrower than the range; "" without a range.
    """

    key: str
    statistic: Statistic
    found: Interval
    real: Range | None
    verdict: Verdict


@dataclass(frozen=True)
class Panel:
    """The realism panel of a market: how it was made, and its rows."""

    market: str
    asset_class: str | None
    rule: str
    scenarios: int
    seed: int
    path_scenarios: int
    path_duration_s: float
    leader: str
    rows: tuple[Row, ...]

    def outside(self) -> list[Row]:
        """Rows with a range that they are not inside."""
        return [row for row in self.rows if row.verdict in ("outside", "too wide")]


# ----------------------------------------------------------------------------------------------------- ranges


@cache
def real_ranges() -> dict[str, dict[str, Range]]:
    """Ranges by class of asset and key of `FIGURES`, as committed."""
    classes = _classes()
    stated = {
        name: classes.get(of.get("like"), {"ranges": {}})["ranges"] | of["ranges"] for name, of in classes.items()
    }
    return {name: {key: Range(**real) for key, real in ranges.items()} for name, ranges in stated.items()}


@cache
def _classes() -> dict[str, Any]:
    text = (resources.files("sor_sb3.evaluation") / "realism_ranges.yaml").read_text(encoding="utf-8")
    classes: dict[str, Any] = parse_yaml(text, "realism_ranges.yaml")["classes"]
    return classes


def asset_class_of(market: MarketSpec, asset_class: str | None = None) -> str | None:
    """The class whose ranges a market is held against: the one that is given, or the one that names it; else None.

    Raises:
        UserError: there is no such class.
    """
    classes = _classes()
    if asset_class is not None and asset_class not in classes:
        known = ", ".join(classes)
        raise UserError(
            f"asset class '{asset_class}' is unknown{did_you_mean(asset_class, list(classes))}; expected {known}"
        )
    named = [name for name, of in classes.items() if market.name in of["markets"]]
    return asset_class or (named[0] if named else None)


def verdict_of(found: Interval, real: Range | None) -> Verdict:
    """Inside: the interval overlaps the range and is narrower than it; a figure without a value gets no verdict."""
    if real is None or math.isnan(found.value):
        return ""
    if found.high < real.low or found.low > real.high:
        return "outside"
    return "inside" if found.high - found.low < real.high - real.low else "too wide"


# ------------------------------------------------------------------------------------------------------ panel


def realism_panel(
    market: str | MarketSpec,
    scenarios: int = 2000,
    seed: int = 10_000,
    asset_class: str | None = None,
    path_scenarios: int = PATH_SCENARIOS,
    path_duration_s: float = PATH_DURATION_S,
) -> Panel:
    """The realism panel of a synthetic market.

    Args:
        market: preset name, path, or specification.
        scenarios: parent orders of `RULE`, of `RESTING_RULE` for fills at rest, and lots that join, whose first seed is
            `seed`; 0 leaves the figures of fills out.
        asset_class: of ``realism_ranges.yaml``; None takes the class that names the market, if any.
        path_scenarios: how many stretches of `path_duration_s` the figures of quotes come from.

    Raises:
        UserError: the market is not synthetic, or the class is unknown.
    """
    spec = load_market(market)
    if not isinstance(spec, SyntheticMarket):
        raise UserError(f"market '{spec.name}' is a {spec.model} market; expected a synthetic one")
    chosen = asset_class_of(spec, asset_class)
    paths = simulated_quotes(spec, path_scenarios, seed, path_duration_s)
    found: dict[str, Interval] = {}
    venues: dict[str, Interval] = {}
    if scenarios > 0:
        log = children_of(spec, scenarios, seed)
        found, venues = fill_statistics(log), markouts_by_venue(log)
        found |= resting_figures(spec, scenarios, seed)
    found |= market_figures(spec) | path_statistics(paths)
    ranges = real_ranges().get(chosen or "", {})
    rows = [_row(key, FIGURES[key], found[key], ranges.get(key)) for key in FIGURES if key in found]
    rows += [_row(f"markout_1s_bps {name}", _markout_of(name), value, None) for name, value in venues.items()]
    return Panel(
        market=spec.name,
        asset_class=chosen,
        rule=RULE,
        scenarios=scenarios,
        seed=seed,
        path_scenarios=path_scenarios,
        path_duration_s=path_duration_s,
        leader=leader(paths),
        rows=tuple(rows),
    )


def panel_of(market: MarketSpec, scenarios: int = 2000, asset_class: str | None = None) -> Panel | None:
    """The panel of a synthetic market, or of the quotes of a recorded one; None for the notebook, which quotes nothing.

    Raises:
        UserError: the class is unknown.
    """
    chosen = asset_class_of(market, asset_class)
    if isinstance(market, SyntheticMarket):
        return realism_panel(market, scenarios, asset_class=chosen)
    if isinstance(market, ReplayMarket):
        from sor_sb3.market.recordings import quotes_of

        quotes = quotes_of(market)
        block_s = min(BLOCK_S, float(np.diff(quotes.segments, axis=1).max()))
        paths = recorded_quotes(quotes, market.venue_names, block_s)
        resting = resting_figures(market, min(scenarios, RECORDED_SCENARIOS)) if scenarios > 0 else {}
        return recorded_panel(paths, market.name, chosen, resting)
    return None


def recorded_panel(
    paths: QuotePaths, name: str, asset_class: str | None = None, resting: Mapping[str, Interval] | None = None
) -> Panel:
    """The figures of quotes of a recording (`sor_sb3.evaluation.true_quotes.recorded_quotes`), in the same table.

    `resting` are figures of what rests in its replay, where it has trades.
    """
    ranges, found = real_ranges().get(asset_class or "", {}), dict(resting or {}) | path_statistics(paths)
    rows = tuple(_row(key, FIGURES[key], found[key], ranges.get(key)) for key in FIGURES if key in found)
    duration_s = paths.ask_bps.shape[1] * paths.grid_s
    return Panel(name, asset_class, "", 0, 0, paths.n, duration_s, leader(paths), rows)


def resting_figures(market: MarketSpec, scenarios: int, seed: int = 10_000) -> dict[str, Interval]:
    """Figures of what rests, of `RESTING_RULE` and of lots that join; none where no trades are published."""
    if RESTING_RULE not in rule_names(market, "OrderPlace-v1"):
        return {}
    found = passive_statistics(children_of(market, scenarios, seed, RESTING_RULE, "OrderPlace-v1"))
    return found | join_statistics(joined_orders(market, scenarios, seed))


def _row(key: str, statistic: Statistic, found: Interval, real: Range | None) -> Row:
    return Row(key, statistic, found, real, verdict_of(found, real))


def _markout_of(venue: str) -> Statistic:
    return replace(FIGURES["markout_1s_bps"], label=f"· of fills at {venue}")


def children_of(
    market: MarketSpec, scenarios: int, seed: int, rule: str = RULE, env: str = "OrderSplit-v1"
) -> ChildLog:
    """The child-order log of a rule."""
    log = Evaluator(env, market, scenarios, seed).score(rule, rule, record=True).children
    assert log is not None
    return log


def market_figures(market: SyntheticMarket) -> dict[str, Interval]:
    """What the specification says without a simulation; NaN where it says nothing."""
    order, volume = market.order, market.volume
    per_s = volume.shares_per_day / volume.day_s if market.has_volume else float("nan")
    share = 100.0 * order.quantity_shares / (per_s * order.step_s * order.horizon_steps)
    pools = [venue.dark for venue in market.venues if venue.dark is not None]
    supply = 100.0 * sum(supplied_per_s(pool) for pool in pools) / per_s if pools else float("nan")
    exact = lambda x: Interval(x, x, x)  # noqa: E731
    return {"participation_percent": exact(share), "dark_supply_percent": exact(supply)}


def supplied_per_s(pool: DarkPool) -> float:
    """Shares a second that a dark pool is supplied with: the rate of supplies times the mean of the power law."""
    turns_per_s, zero = math.log(2.0) / pool.half_life_s, pool.zero_probability
    rate = turns_per_s if zero == 0.0 else zero * (1.0 - zero) * turns_per_s
    return (
        rate
        * (_power_integral(1.0 - pool.power_exponent, pool.max_shares))
        / _power_integral(-pool.power_exponent, pool.max_shares)
    )


def _power_integral(exponent: float, most: float) -> float:
    """Integral of ``s ** exponent`` from 1 to `most`."""
    if abs(exponent + 1.0) < 1e-9:
        return math.log(most)
    return float(np.expm1((exponent + 1.0) * math.log(most)) / (exponent + 1.0))
