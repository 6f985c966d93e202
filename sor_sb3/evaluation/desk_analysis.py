"""A desk's log and recorded quotes to numbers: the measures of :mod:`sor_sb3.evaluation.tca`, in total and by venue.

The formulas, and the registered measures, are those that score policies in this package; here prices are the log's own
and each order has its side. What the formulas leave open is in docs/tca.md. Nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.evaluation import tca
from sor_sb3.evaluation.analysis import MEASURES
from sor_sb3.evaluation.desk_log import DeskLog
from sor_sb3.evaluation.desk_quotes import SECOND_NS, DeskQuotes, best_quotes, through_shares
from sor_sb3.evaluation.desk_tables import UNKNOWN_TIME, Floats
from sor_sb3.evaluation.measures import REGISTERED, Measure
from sor_sb3.evaluation.rule_tables import rule_605_table, rule_606_table
from sor_sb3.market.quotes import QuoteRecording

HORIZONS_S = (0.1, 1.0, 5.0, 10.0, 60.0)
LATER_S = 1.0  # of the measures that take one midpoint after the fill
_ACK = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
_STALE = ("staleness_p50_ms", "staleness_p99_ms")
_VENUE_ROWS = {
    "routed_percent": Measure("share of what was sent", "%", ""),
    "executed_percent": Measure("share of what filled", "%", ""),
    "average_fill_shares": Measure("average fill of a filled child", "shares", ""),
}


def desk_measures(later_s: float = LATER_S) -> dict[str, Measure]:
    """Rows of the tables, in order: `MEASURES` where "one step later" is so many seconds, and those of venues."""
    after = f"{later_s:g} s later"
    return _VENUE_ROWS | {k: replace(m, label=m.label.replace("one step later", after)) for k, m in MEASURES.items()}


@dataclass(frozen=True)
class DeskAnalysis:
    """Transaction-cost analysis of a desk's log.

    Attributes:
        about: the counts of the log, and how much of it the quotes know.
        totals: by key of `desk_measures`; NaN where one has no value, and no key where the log cannot have it.
        venues: by key, float64 (V,), of the venues named in `venue_names`.
        parents: by key, float64 (P,), of the parents named in `parent_names`.
        horizons_s: (H,); markout_bps, realised_spread_bps and price_impact_bps (H,), share-weighted; known_percent
            (H,), of the volume whose later mid is known; venue_markout_bps (V, H).
        rule_605: rows by order size; rule_606: rows by venue.
    """

    about: dict[str, Any]
    totals: dict[str, float]
    venue_names: list[str]
    venues: dict[str, Floats]
    parent_names: list[str]
    parents: dict[str, Floats]
    horizons_s: Floats
    markout_bps: Floats
    realised_spread_bps: Floats
    price_impact_bps: Floats
    known_percent: Floats
    venue_markout_bps: Floats
    rule_605: list[dict[str, float | str]]
    rule_606: list[dict[str, float | str]]


class _Columns:
    """The log beside the quotes, as columns of children (C,) and of fills (F,)."""

    def __init__(self, log: DeskLog, quotes: DeskQuotes, later_s: float) -> None:
        self.log, self.quotes = log, quotes
        child, side = log.child, log.side
        self.mid = quotes.mid(log.sent_ns)
        bids, asks, bid_sizes, ask_sizes = quotes.touches(log.sent_ns)
        bid, ask = best_quotes(bids, asks)
        far = np.where(side > 0.0, ask, bid)
        at = np.array([quotes.place(name) for name in log.venues])[log.venue]
        sizes = np.where(side[:, None] > 0.0, ask_sizes, bid_sizes)
        shown = np.where(at >= 0, sizes[np.arange(len(at)), np.maximum(at, 0)], 0.0)
        outside = -tca.price_improvement(log.fill_px, far[child], side[child])
        through, excused = through_shares(log, quotes)
        tie, filled = tca.TIE * log.fill_px, log.of_children(log.fill_shares)
        self.fill_columns = {
            "price": log.fill_px,
            "mid": self.mid[child],
            "mid_later": quotes.mid_after(log.fill_ns, later_s),
            "bid": bid[child],
            "ask": ask[child],
            "far_quote": far[child],
            "side": side[child],
            "shares": log.fill_shares,
        }
        summed = {
            "inside_shares": np.where(outside < -tie, log.fill_shares, 0.0),
            "outside_shares": np.where(outside > tie, log.fill_shares, 0.0),
            "through_shares": through,
            "excused_shares": excused,
            "fees_dollars": log.fee,
        }
        price = tca.ratio(log.of_children(log.fill_px * log.fill_shares), filled)
        self.child_columns = {
            **{name: log.of_children(values) for name, values in summed.items()},
            "price": price,
            "mid": self.mid,
            "bid": bid,
            "ask": ask,
            "far_quote": far,
            "side": side,
            "displayed_shares": shown,
            "sent_shares": log.sent_shares,
            "filled_shares": filled,
            "shares": filled,
            "effective_bps": tca.effective_spread_bps(price, self.mid, side),
            "quoted_bps": tca.quoted_spread_bps(bid, ask),
        }
        ms = lambda ns: np.where(ns == UNKNOWN_TIME, np.nan, (ns - log.sent_ns) / 1e6)  # noqa: E731
        self.ack_ms, self.way_ms = ms(log.ack_ns), ms(log.arrival_ns)

    def registered(self, children: np.ndarray, fills: np.ndarray) -> dict[str, float]:
        """Every registered measure over some children and their fills; averages go fill by fill."""
        of_fills = {name: values[fills] for name, values in self.fill_columns.items()}
        of_children = {name: values[children] for name, values in self.child_columns.items()}
        return {
            key: float(measure.of(of_fills if measure.averaged else of_children, tca.weighted_average))
            for key, measure in REGISTERED.items()
        }


def _parents(c: _Columns) -> dict[str, Floats]:
    """Measures of every parent order, (P,)."""
    log, quotes, n = c.log, c.quotes, len(c.log.parents)
    first_sent, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, dtype=np.int64)
    np.minimum.at(first_sent, log.parent, log.sent_ns)
    np.maximum.at(last, log.parent, log.sent_ns)
    np.maximum.at(last, log.parent[log.child], log.fill_ns)
    begin = np.where(log.parent_arrival_ns == UNKNOWN_TIME, first_sent, log.parent_arrival_ns)
    end = np.where(log.parent_end_ns == UNKNOWN_TIME, last, log.parent_end_ns)
    if (wrong := np.flatnonzero((begin > first_sent) | (end < last))).size:
        said = "has children or fills before its parent_arrival_ts or after its parent_end_ts"
        raise UserError(f"parent {log.parents[wrong[0]]} {said}; correct the times, or leave them out")
    mids = np.stack([quotes.mid(ns) for ns in (begin, first_sent, end)], axis=1)
    rows = [_of_parent(c, p, mids[p], begin[p]) for p in range(n)]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _of_parent(c: _Columns, p: int, mids: Floats, begin_ns: int) -> dict[str, float]:
    log, (arrival, start, end) = c.log, mids
    children = np.flatnonzero(log.parent == p)
    fills = np.flatnonzero(log.parent[log.child] == p)
    prices, shares, side = log.fill_px[fills], log.fill_shares[fills], log.side[children[0]]
    quantity, has_fees = log.quantity_shares[p], not np.isnan(log.fee).any()
    fees = log.fee[fills] if has_fees else np.zeros(len(fills))
    order = quantity if np.isfinite(quantity) else shares.sum()
    whole = tca.implementation_shortfall(prices, shares, order or np.nan, arrival, end, side, fees.sum(), start)
    slippage = tca.arrival_slippage_bps(prices, shares, arrival, side)
    fee_bps = tca.fees_bps(fees if has_fees else np.nan * fees, prices, shares)
    sent, filled = log.sent_shares[children], c.child_columns["filled_shares"][children]
    wave = np.unique(log.sent_ns[children], return_inverse=True)[1]
    by_venue = np.bincount(log.venue[children], sent)
    seconds = (log.fill_ns[fills] - begin_ns) / SECOND_NS
    values = {
        "shortfall_bps": whole.total,
        "delay_bps": whole.delay,
        "trading_bps": whole.trading,
        "opportunity_bps": whole.opportunity if np.isfinite(quantity) else np.nan,
        "fees_of_order_bps": whole.fees if has_fees else np.nan,
        "arrival_slippage_bps": slippage,
        "fees_bps": fee_bps,
        "all_in_bps": tca.all_in_bps(slippage, fee_bps),
        "completion_percent": 100.0 * tca.completion(shares, quantity),
        "time_to_completion_s": tca.time_to_completion_s(shares, seconds, quantity) if len(fills) else np.nan,
        "reroutes": tca.reroute_count(np.bincount(wave, sent), np.bincount(wave, filled)),
        "children": len(children),
        "effective_spread_bps": tca.weighted_average(c.child_columns["effective_bps"][children], filled),
        "fill_rate_percent": 100.0 * tca.fill_rate(filled, sent),
        "herfindahl": tca.herfindahl(by_venue),
        "entropy_nats": tca.entropy_nats(by_venue),
        "arrival_mid": arrival,
        "filled_shares": shares.sum(),
    }
    return {key: float(value) for key, value in values.items()}


_NO_MEASURE = ("arrival_mid", "filled_shares")  # of a parent's row, beside its measures


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _totals(c: _Columns, parents: dict[str, Floats]) -> dict[str, float]:
    of, log = c.child_columns, c.log
    filled, child = of["filled_shares"], log.child
    classes = tca.quote_classes(of["inside_shares"], of["outside_shares"], filled)
    improvement = tca.price_improvement(log.fill_px, of["far_quote"][child], log.side[child])
    any_fill, full_fill = tca.order_fill_rates(filled, log.sent_shares)
    extra = tca.size_improvement_shares(filled - of["outside_shares"], of["displayed_shares"])
    shortfall = parents["shortfall_bps"][np.isfinite(parents["shortfall_bps"])]
    everything = slice(None)
    totals: dict[str, Any] = {
        **{key: _mean(values) for key, values in parents.items() if key not in _NO_MEASURE},
        **c.registered(everything, everything),  # type: ignore[arg-type]
        "shortfall_sd_bps": shortfall.std(ddof=1) if shortfall.size > 1 else np.nan,
        "shortfall_p95_bps": np.quantile(shortfall, 0.95) if shortfall.size else np.nan,
        "shortfall_cvar95_bps": tca.cvar(shortfall),
        "price_improvement_bps": tca.weighted_average(improvement / c.mid[child] * tca.BPS, log.fill_shares),
        "improved_percent": 100.0 * classes.improved,
        "at_quote_percent": 100.0 * classes.at_quote,
        "outside_percent": 100.0 * classes.outside,
        "size_improvement_shares": _mean(extra[filled > 0.0]),
        "any_fill_percent": 100.0 * any_fill,
        "full_fill_percent": 100.0 * full_fill,
        **dict(zip(_ACK, tca.quantiles(c.ack_ms), strict=True)),
        **dict(zip(_STALE, tca.quantiles(tca.staleness_ms(0.0, c.way_ms), (0.5, 0.99)), strict=True)),
    }
    return {key: float(value) for key, value in totals.items()}


def _venues(c: _Columns, used: np.ndarray) -> dict[str, Floats]:
    log, filled = c.log, c.child_columns["filled_shares"]
    rows = []
    for venue in used:
        children, fills = log.venue == venue, log.venue[log.child] == venue
        got, sent = filled[children], log.sent_shares[children]
        any_fill, full_fill = tca.order_fill_rates(got, sent)
        rows.append(
            {
                "routed_percent": 100.0 * sent.sum() / log.sent_shares.sum(),
                "executed_percent": 100.0 * float(tca.ratio(got.sum(), filled.sum())),
                **c.registered(children, fills),
                "any_fill_percent": 100.0 * float(any_fill),
                "full_fill_percent": 100.0 * float(full_fill),
                "average_fill_shares": _mean(got[got > 0.0]),
                "fees_bps": float(tca.fees_bps(log.fee[fills], log.fill_px[fills], log.fill_shares[fills])),
                **dict(zip(_ACK, tca.quantiles(c.ack_ms[children]).tolist(), strict=True)),
            }
        )
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _at_horizon(c: _Columns, seconds: float, used: np.ndarray) -> dict[str, Any]:
    """Markout, realised spread and impact so long after the fills; the markout by venue too."""
    log, of = c.log, c.fill_columns
    later, shares = c.quotes.mid_after(log.fill_ns, seconds), log.fill_shares
    realised = tca.realised_spread_bps(of["price"], of["mid"], later, of["side"])
    markout = tca.markout_bps(of["price"], later, of["side"])
    impact = np.where(np.isnan(realised), np.nan, tca.price_impact_bps(of["mid"], later, of["side"]))
    venue = log.venue[log.child]
    known = 100.0 * float(tca.ratio(shares[np.isfinite(markout)].sum(), shares.sum()))
    return {
        "markout_bps": tca.weighted_average(markout, shares),
        "realised_spread_bps": tca.weighted_average(realised, shares),
        "price_impact_bps": tca.weighted_average(impact, shares),
        "known_percent": known,
        "venue_markout_bps": [tca.weighted_average(markout[venue == v], shares[venue == v]) for v in used],
    }


def _rule_tables(c: _Columns, horizons_s: Floats) -> tuple[list[Any], list[Any]]:
    log, of = c.log, c.child_columns
    averaged = lambda values: tca.ratio(  # noqa: E731
        log.of_children(values * log.fill_shares), of["filled_shares"]
    )
    mids = {f"{s:g} s": averaged(c.quotes.mid_after(log.fill_ns, s)) for s in horizons_s}
    wanted = "sent_shares filled_shares price mid bid ask inside_shares outside_shares displayed_shares".split()
    to_fill_ms = averaged((log.fill_ns - log.sent_ns[log.child]) / 1e6)
    columns = {name: of[name] for name in wanted}
    table_605 = rule_605_table(**columns, mids_later=mids, time_to_execution_ms=to_fill_ms, side=log.side)
    fees = of["fees_dollars"]
    return table_605, rule_606_table(log.venue, log.venues, log.sent_shares, of["filled_shares"], fees)


def _utc(ns: Any) -> str:
    return f"{np.datetime64(int(ns), 'ns').astype('datetime64[s]')}Z"


def analyse_desk(
    log: DeskLog, recording: QuoteRecording, horizons_s: Sequence[float] = HORIZONS_S, later_s: float = LATER_S
) -> DeskAnalysis:
    """Transaction-cost analysis of a desk's child orders and fills against recorded quotes.

    Markouts and the like are taken at `horizons_s` after each fill; the registered measures that need one later
    midpoint take that of `later_s`.

    Raises:
        UserError: none of the children was sent while the quotes are known.
    """
    quotes = DeskQuotes(recording)
    known = quotes.known(log.sent_ns)
    if not known.any():
        ends = recording.origin_ns + (recording.segments[-1, 1] * SECOND_NS).astype(np.int64)
        there = f"the quotes go from {_utc(recording.origin_ns)} to {_utc(ends)}"
        sent = f"the children from {_utc(log.sent_ns.min())} to {_utc(log.sent_ns.max())}"
        raise UserError(f"no child was sent while the quotes are known: {there}, {sent}; give quotes of those days")
    with np.errstate(invalid="ignore", divide="ignore"):
        columns, used = _Columns(log, quotes, later_s), np.arange(len(log.venues))
        parents, at = _parents(columns), np.array(horizons_s, dtype=np.float64)
        rows = [_at_horizon(columns, seconds, used) for seconds in at]
        by_horizon = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        table_605, table_606 = _rule_tables(columns, at)
        return DeskAnalysis(
            about={
                **{"parents": len(log.parents), "children": log.n_children, "fills": len(log.child)},
                "sent_shares": float(log.sent_shares.sum()),
                "filled_shares": float(log.fill_shares.sum()),
                "children_without_quotes": int((~known).sum()),
                "venues_without_quotes": [name for name in log.venues if quotes.place(name) < 0],
                "has_fees": not np.isnan(log.fee).any(),
                "later_s": later_s,
            },
            totals=_totals(columns, parents),
            venue_names=log.venues,
            venues=_venues(columns, used),
            parent_names=log.parents,
            parents=parents,
            horizons_s=at,
            **{key: values.T if key == "venue_markout_bps" else values for key, values in by_horizon.items()},
            rule_605=table_605,
            rule_606=table_606,
        )
