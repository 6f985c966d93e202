"""From a child-order log to numbers: measures per parent, per venue and in total, flow and cost by market state.

The formulas are those of :mod:`sor_sb3.evaluation.tca`; here they meet the log. Nothing is drawn. The choices that the
formulas leave open, such as the time from which a markout counts, are in docs/statistics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sor_sb3.evaluation import tca
from sor_sb3.evaluation.children import MARKOUT_HORIZONS_STEPS, ChildLog
from sor_sb3.evaluation.measures import REGISTERED, Measure
from sor_sb3.evaluation.rule_tables import rule_605_table, rule_606_table

URGENCY_EDGES = (1.05, 2.0)  # this step's slice over an even one
DISTRIBUTION = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")

_OF_PARENTS: dict[str, Measure] = {
    "shortfall_bps": Measure("implementation shortfall", "bps of the order", "low"),
    "delay_bps": Measure("· delay before the first child", "bps of the order", "low"),
    "trading_bps": Measure("· trading, clean-up apart", "bps of the order", "low"),
    "cleanup_bps": Measure("· clean-up at the deadline", "bps of the order", "low"),
    "opportunity_bps": Measure("· never filled", "bps of the order", "low"),
    "fees_of_order_bps": Measure("· fees", "bps of the order", "low"),
    "shortfall_sd_bps": Measure("standard deviation of the shortfall", "bps of the order", "low"),
    "shortfall_p95_bps": Measure("95th percentile of the shortfall", "bps of the order", "low"),
    "shortfall_cvar95_bps": Measure("CVaR 95 % of the shortfall", "bps of the order", "low"),
    "arrival_slippage_bps": Measure("arrival slippage of what filled", "bps", "low"),
    "vwap_slippage_bps": Measure("slippage against VWAP", "bps", "low"),
    "fees_bps": Measure("fees", "bps of what traded", "low"),
    "all_in_bps": Measure("arrival slippage and fees", "bps", "low"),
    "completion_percent": Measure("completed before the clean-up", "%", "high"),
    "time_to_completion_s": Measure("time to completion, where complete", "s", ""),
    "reroutes": Measure("reroutes of a parent", "count", "low"),
    "children": Measure("children of a parent", "count", ""),
}
_OF_CHILDREN: dict[str, Measure] = {
    "price_improvement_bps": Measure("price improvement", "bps", "high"),
    "improved_percent": Measure("· volume better than the quote", "%", "high"),
    "at_quote_percent": Measure("· volume at the quote", "%", ""),
    "outside_percent": Measure("· volume outside the quote", "%", "low"),
    "size_improvement_shares": Measure("size improvement, a filled child", "shares", "high"),
    "any_fill_percent": Measure("children with any fill", "%", "high"),
    "full_fill_percent": Measure("children filled in full", "%", "high"),
    **{f"latency_p{p}_ms": Measure(f"latency to acknowledgement, p{p}", "ms", "low") for p in (50, 95, 99)},
    **{f"staleness_p{p}_ms": Measure(f"age of the quote at arrival, p{p}", "ms", "low") for p in (50, 99)},
    "herfindahl": Measure("concentration of the split (HHI)", "1 = one venue", ""),
    "entropy_nats": Measure("entropy of the split", "nats", ""),
}
MEASURES: dict[str, Measure] = _OF_PARENTS | REGISTERED | _OF_CHILDREN
"""Rows of the tables, in order; those between are the functions that register themselves."""


@dataclass(frozen=True)
class StateCut:
    """Decisions, waves and all, sorted into states by one quantity; a row a state.

    Attributes:
        name: "spread", "latency" or "urgency"; `title` says what that is, with the unit.
        labels: of the states.
        decisions: int (S,), how many fell in each.
        venue_shares: float64 (S, K), of the shares sent; NaN where nothing was.
        cost: float64 (S,), all-in cost of a filled share above the mid at the decision, in the market's price unit.
        fill_rate: float64 (S,), filled over sent shares.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    decisions: np.ndarray
    venue_shares: np.ndarray
    cost: np.ndarray
    fill_rate: np.ndarray


@dataclass(frozen=True)
class PolicyAnalysis:
    """Transaction-cost analysis of one policy, its training seeds pooled.

    Attributes:
        totals: by key of `MEASURES`; NaN where one has no value; empty in a market without prices.
        venues: by key, float64 (K,).
        parents: by key, float64 (n_orders,), orders seed after seed.
        horizons_s: (H,) markout horizons; markout_bps, share-weighted, positive is good, realised_spread_bps and
            price_impact_bps too.
        known_percent: (H,), share of the volume whose mid that much later is known.
        states: flow and cost by market state.
        rule_605: rows by order size, and rule_606: rows by venue.
    """

    totals: dict[str, float] = field(default_factory=dict)
    venues: dict[str, np.ndarray] = field(default_factory=dict)
    parents: dict[str, np.ndarray] = field(default_factory=dict)
    horizons_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    markout_bps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    realised_spread_bps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    price_impact_bps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    known_percent: np.ndarray = field(default_factory=lambda: np.zeros(0))
    states: tuple[StateCut, ...] = ()
    rule_605: list[dict[str, float | str]] = field(default_factory=list)
    rule_606: list[dict[str, float | str]] = field(default_factory=list)


class _Cells:
    """The log's cells as prices (arrival mid = 1), computed once; (N, T, K) unless said otherwise."""

    def __init__(self, log: ChildLog) -> None:
        self.log, self.n = log, log.n_orders
        self.filled, self.sent = log.filled_shares, log.sent_shares
        wide = lambda bps: np.broadcast_to(1.0 + bps[:, :, None] / tca.BPS, self.filled.shape)  # noqa: E731
        self.price, self.mid = 1.0 + log.price_bps / tca.BPS, wide(log.mid_bps)
        bid, ask = wide(log.bid_bps), wide(log.ask_bps)
        self.fees = np.where(self.filled > 0.0, self.filled * log.fee_bps[:, None, :], 0.0) / tca.BPS
        self.filled_s = log.decision[:, :, None] * log.step_s + log.arrives_ms / 1e3  # NaN where no child arrives
        self.columns = {
            "price": self.price,
            "mid": self.mid,
            "mid_later": self.mid_after_fill(log.step_s),
            "bid": bid,
            "ask": ask,
            "far_quote": ask,
            **{
                f"{name}_shares": getattr(log, f"{name}_shares") for name in ("inside", "outside", "through", "excused")
            },
            "displayed_shares": log.shown_shares,
            "sent_shares": self.sent,
            "filled_shares": self.filled,
            "shares": self.filled,
            "fees_dollars": self.fees * log.arrival_mid_px[:, None, None],
            "effective_bps": tca.effective_spread_bps(self.price, self.mid),
            "quoted_bps": tca.quoted_spread_bps(bid, ask),
        }

    def registered(self, shape: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
        """Every registered measure over the last axis of the columns in another shape."""
        columns = {name: shape(values) for name, values in self.columns.items()}
        return {key: measure.of(columns, tca.weighted_average) for key, measure in REGISTERED.items()}

    def mid_after_fill(self, seconds: float) -> np.ndarray:
        """The true mid so long after each child arrived; NaN where none did, or beyond the known path."""
        return np.asarray(1.0 + self.log.mid_at(self.filled_s + seconds) / tca.BPS)


def _parents(cells: _Cells) -> dict[str, np.ndarray]:
    """Measures of every parent order, (N,)."""
    log, n = cells.log, cells.n
    flat = lambda values: values.reshape(n, -1)  # noqa: E731
    both = lambda taken, passive: np.concatenate([flat(taken), flat(passive)], axis=1)  # noqa: E731
    prices = both(cells.price, 1.0 + log.passive_price_bps / tca.BPS)
    shares, one = both(cells.filled, log.passive_shares), np.ones(n)
    fees = both(cells.fees, log.passive_shares * log.make_fee_bps[:, None, :] / tca.BPS)
    start = cells.mid[np.arange(n), np.argmax(cells.sent.sum(axis=2) > 0.0, axis=1), 0]  # at the first child sent
    last = np.maximum(log.active.sum(axis=1) - 1, 0)
    end_mid = 1.0 + log.mid_at(log.end_s[np.arange(n), last]) / tca.BPS
    # The clean-up is a fill like any other, at its own price; kept apart so that it can be shown.
    cleanup_price = 1.0 + log.cleanup_price_bps[:, None] / tca.BPS
    whole = tca.implementation_shortfall(
        np.concatenate([prices, cleanup_price], axis=1),
        np.concatenate([shares, log.cleanup_shares[:, None]], axis=1),
        log.quantity_shares,
        one,
        end_mid,
        fees=fees.sum(axis=1),
        start_mid=start,
    )
    to_bps = tca.BPS / log.quantity_shares
    swept = np.where(log.cleanup_shares != 0.0, (cleanup_price[:, 0] - start) * log.cleanup_shares, 0.0) * to_bps
    done, sent = (cells.filled + log.passive_shares).sum(axis=2), cells.sent.sum(axis=2)  # (N, T)
    first_wave = log.active & (log.wave == 0)
    volumes = np.where(first_wave, log.volume_shares.sum(axis=2), 0.0)
    middle_s = (log.decision + 0.5) * log.step_s
    vwap = tca.average_price(1.0 + log.mid_at(middle_s) / tca.BPS, volumes)
    passive_s = log.decision[:, :, None] * log.step_s + log.passive_ms / 1e3
    last_s = np.fmax(
        np.where(cells.filled > 0.0, cells.filled_s, 0.0), np.where(log.passive_shares > 0.0, passive_s, 0.0)
    )
    fee_bps = tca.fees_bps(fees, prices, shares)
    slippage = tca.arrival_slippage_bps(prices, shares, one)
    return {
        "shortfall_bps": whole.total,
        "delay_bps": whole.delay,
        "trading_bps": whole.trading - swept,
        "cleanup_bps": swept,
        "opportunity_bps": whole.opportunity,
        "fees_of_order_bps": whole.fees,
        "arrival_slippage_bps": slippage,
        "vwap_slippage_bps": tca.vwap_slippage_bps(prices, shares, vwap),
        "fees_bps": fee_bps,
        "fees_mils": tca.fees_mils(fees * log.arrival_mid_px[:, None], shares),
        "all_in_bps": tca.all_in_bps(slippage, fee_bps),
        "effective_spread_bps": tca.weighted_average(flat(cells.columns["effective_bps"]), flat(cells.filled)),
        "fill_rate_percent": 100.0 * tca.fill_rate(flat(cells.filled), flat(cells.sent)),
        "completion_percent": 100.0 * tca.completion(done, log.quantity_shares),
        "time_to_completion_s": tca.time_to_completion_s(done, last_s.max(axis=2), log.quantity_shares),
        "reroutes": tca.reroute_count(sent, cells.filled.sum(axis=2)).astype(np.float64),
        "children": (cells.sent > 0.0).sum(axis=(1, 2)).astype(np.float64),
        "herfindahl": tca.herfindahl(cells.sent.sum(axis=1)),
        "entropy_nats": tca.entropy_nats(cells.sent.sum(axis=1)),
    }


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _totals(cells: _Cells, parents: dict[str, np.ndarray]) -> dict[str, float]:
    """Over all parents: means of the parents' measures, and the registered and other measures over all children."""
    names = (
        "sent_shares",
        "filled_shares",
        "price",
        "far_quote",
        "displayed_shares",
        "inside_shares",
        "outside_shares",
    )
    sent, filled, price, far, shown, inside, outside = (cells.columns[name].ravel() for name in names)
    classes = tca.quote_classes(inside, outside, filled)
    improvement, at_or_better = tca.price_improvement(price, far), filled - outside
    any_fill, full_fill = tca.order_fill_rates(filled, sent)
    reached = (sent > 0.0) & cells.log.open.ravel()
    latency = tca.quantiles(cells.log.ack_ms.ravel()[reached])
    staleness = tca.quantiles(tca.staleness_ms(0.0, cells.log.latency_ms.ravel()[reached]), (0.5, 0.99))
    shortfall = parents["shortfall_bps"]
    totals = {
        **{key: _mean(values) for key, values in parents.items()},
        **cells.registered(np.ravel),
        "shortfall_sd_bps": shortfall.std(ddof=1) if shortfall.size > 1 else np.nan,
        "shortfall_p95_bps": np.quantile(shortfall, 0.95),
        "shortfall_cvar95_bps": tca.cvar(shortfall),
        "price_improvement_bps": tca.weighted_average(improvement / cells.mid.ravel() * tca.BPS, filled),
        "improved_percent": 100.0 * classes.improved,
        "at_quote_percent": 100.0 * classes.at_quote,
        "outside_percent": 100.0 * classes.outside,
        "size_improvement_shares": _mean(tca.size_improvement_shares(at_or_better, shown)[filled > 0.0]),
        "any_fill_percent": 100.0 * any_fill,
        "full_fill_percent": 100.0 * full_fill,
        **dict(zip(_LATENCIES, latency, strict=True)),
        **dict(zip(("staleness_p50_ms", "staleness_p99_ms"), staleness, strict=True)),
    }
    return {key: float(value) for key, value in totals.items()}


def _venues(cells: _Cells) -> dict[str, np.ndarray]:
    """Per venue, (K,): the registered and other measures over the children that went there."""
    log, k = cells.log, cells.filled.shape[2]
    by_venue = lambda x: np.ascontiguousarray(np.moveaxis(x, 2, 0)).reshape(k, -1)  # noqa: E731
    sent, filled, price = by_venue(cells.sent), by_venue(cells.filled), by_venue(cells.price)
    latency = by_venue(np.where((cells.sent > 0.0) & log.open, log.ack_ms, np.nan))
    quantiles = np.array([tca.quantiles(row) for row in latency]).T
    any_fill, full_fill = tca.order_fill_rates(filled, sent)
    return {
        **cells.registered(by_venue),
        "routed_percent": 100.0 * sent.sum(axis=1) / max(sent.sum(), 1e-300),
        "executed_percent": 100.0 * filled.sum(axis=1) / max(filled.sum(), 1e-300),
        "any_fill_percent": 100.0 * any_fill,
        "full_fill_percent": 100.0 * full_fill,
        "average_fill_shares": tca.weighted_average(filled, (filled > 0.0).astype(float)),
        "fees_bps": tca.fees_bps(by_venue(cells.fees), price, filled),
        **dict(zip(_LATENCIES, quantiles, strict=True)),
    }


def _rule_tables(cells: _Cells, mids_later: dict[str, np.ndarray]) -> tuple[list[Any], list[Any]]:
    log, k = cells.log, cells.filled.shape[2]
    of = cells.sent.ravel() > 0.0
    pick = lambda x: np.broadcast_to(x, cells.sent.shape).ravel()[of]  # noqa: E731
    c = {name: pick(values) for name, values in cells.columns.items()}
    wanted = "sent_shares filled_shares price mid bid ask inside_shares outside_shares displayed_shares".split()
    table_605 = rule_605_table(
        **{name: c[name] for name in wanted},
        mids_later={name: pick(mids) for name, mids in mids_later.items()},
        time_to_execution_ms=pick(log.arrives_ms - log.elapsed_ms[:, :, None]),
    )
    venue = pick(np.arange(k)[None, None, :])
    return table_605, rule_606_table(venue, log.venue_names, c["sent_shares"], c["filled_shares"], c["fees_dollars"])


def _cut(name: str, title: str, labels: tuple[str, ...], state: np.ndarray, log: ChildLog) -> StateCut | None:
    """Flow and cost by state, (N, T) int, -1 for env steps that count nowhere; None where there is one state only."""
    present = [s for s in range(len(labels)) if (state == s).any()]
    if len(present) < 2:
        return None
    all_in = log.price_bps - log.mid_bps[:, :, None] + log.fee_bps[:, None, :]
    rows = []
    for s in present:
        of = state == s
        sent, filled = log.sent_shares[of], log.filled_shares[of]
        by_venue, cost = sent.sum(axis=0), tca.weighted_average(all_in[of].ravel(), filled.ravel())
        rate = tca.fill_rate(filled.ravel(), sent.ravel())
        rows.append(((of & (log.wave == 0)).sum(), tca.ratio(by_venue, by_venue.sum()), cost, rate))
    return StateCut(name, title, tuple(labels[s] for s in present), *map(np.array, zip(*rows, strict=True)))


def _thirds(values: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State 0, 1, 2 of each decision by thirds of the values; -1 where none is known. And the two edges."""
    known = active & np.isfinite(values)
    edges = np.quantile(values[known], (1 / 3, 2 / 3)) if known.any() else np.zeros(2)
    state = (values > edges[0]).astype(int) + (values > edges[1])
    return np.where(known, state, -1), edges


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is no NaN; NaN where nothing is known."""
    mean: np.ndarray = np.ma.masked_invalid(values).mean(axis=-1).filled(np.nan)
    return mean


def _states(log: ChildLog, price_unit: str) -> tuple[StateCut, ...]:
    """Flow and cost by spread, by latency and by urgency. The first two states do not depend on what a policy does."""
    # Rounded, since our own displacement of the mid was added and is taken off again, and touches tie on ticks.
    touch = np.round(_mean_of_known(log.touch_bps) - log.mid_bps, 9)
    latency = np.exp(_mean_of_known(np.where(log.open, np.log(np.maximum(log.observed_latency_ms, 1e-9)), np.nan)))
    decides = log.active & (log.wave == 0)
    row = np.maximum.accumulate(np.where(log.wave == 0, np.arange(log.wave.shape[1]), 0), axis=1)

    def with_waves(state: np.ndarray) -> np.ndarray:
        """Later waves are in the state of their decision."""
        return np.where(log.active, np.take_along_axis(state, row, axis=1), -1)

    cuts = []
    for name, what, unit, values in (
        ("spread", "mean far touch above the mid", price_unit, touch),
        ("latency", "typical observed latency, one way", "ms" if price_unit == "bps" else price_unit, latency),
    ):
        state, edges = _thirds(values, decides)
        low, high = (f"{e:.3g}" for e in edges)
        labels = (f"up to {low}", f"{low} to {high}", f"above {high}")
        cuts.append(_cut(name, f"{what} ({unit})", labels, with_waves(state), log))
    behind = log.slice_shares / (log.quantity_shares / log.horizon_steps)[:, None]
    state = (behind > URGENCY_EDGES[0]).astype(int) + (behind > URGENCY_EDGES[1])
    labels = ("on schedule", "up to twice", "more than twice")
    title = "this step's slice over an even slice (urgency)"
    cuts.append(_cut("urgency", title, labels, with_waves(np.where(decides, state, -1)), log))
    return tuple(cut for cut in cuts if cut is not None)


def analyse(log: ChildLog, priced: bool = True, price_unit: str = "bps") -> PolicyAnalysis:
    """Transaction-cost analysis of a policy's child orders.

    Only flow and cost by state are worked out unless fills are `priced`, with prices and fees in bps. `price_unit` is
    that of `StateCut.cost` and of the states of the spread.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        states = _states(log, price_unit)
        if not priced:
            return PolicyAnalysis(states=states)
        cells = _Cells(log)
        horizons_s = np.array([h for h in MARKOUT_HORIZONS_STEPS if h <= log.horizon_steps.max()]) * log.step_s
        mids = {f"{seconds:g} s": cells.mid_after_fill(seconds) for seconds in horizons_s}
        parents = _parents(cells)
        markouts = [_at_horizon(cells, later) for later in mids.values()]
        table_605, table_606 = _rule_tables(cells, mids)
        return PolicyAnalysis(
            totals=_totals(cells, parents),
            venues=_venues(cells),
            parents=parents,
            horizons_s=horizons_s,
            **{name: np.array([row[name] for row in markouts]) for name in markouts[0]},
            states=states,
            rule_605=table_605,
            rule_606=table_606,
        )


def _at_horizon(cells: _Cells, later: np.ndarray) -> dict[str, Any]:
    filled, realised = cells.filled.ravel(), tca.realised_spread_bps(cells.price, cells.mid, later)
    values = {
        "markout_bps": tca.markout_bps(cells.price, later),
        "realised_spread_bps": realised,
        "price_impact_bps": np.where(np.isnan(realised), np.nan, tca.price_impact_bps(cells.mid, later)),
    }
    known = 100.0 * filled[np.isfinite(values["markout_bps"].ravel())].sum() / max(filled.sum(), 1e-300)
    return {name: tca.weighted_average(x.ravel(), filled) for name, x in values.items()} | {"known_percent": known}
