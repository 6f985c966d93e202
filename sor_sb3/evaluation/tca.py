"""Transaction-cost analysis: every measure as one function of prices, sizes and times, each with a worked example.

Not tied to the simulator: :mod:`sor_sb3.evaluation.children` records what a policy sent and got,
:mod:`sor_sb3.evaluation.analysis` puts the record through these functions. A function with the decorator
:func:`sor_sb3.evaluation.measures.measure` is a row of the tables.

Conventions. `side` is +1 for a buy and -1 for a sell. Prices are in any one currency unit, above 0; sizes in shares;
times and results in the unit that a name says; results whose name says none have none. bps = 1e-4. **A cost is positive
when it is bad**, except where a docstring says otherwise (markouts, improvement and reversion are positive when good,
as practitioners state them). Arguments are arrays that broadcast against each other. Where a measure sums over fills it
does so over the last axis, so that a single order is a vector ``(n_fills,)`` and many orders are rows
``(n_orders, n_fills)``; entries of 0 shares count for nothing, whatever price stands beside them. A measure without
meaning (nothing filled, nothing sent) is NaN. Prices within 1e-9 of each other, relative, are one price. Sources
in full: docs/statistics.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sor_sb3.evaluation.measures import measure

Floats = NDArray[np.float64]
BPS = 1e4
MILS_PER_DOLLAR = 1e4
TIE = 1e-9  # prices nearer than this, relative, are one price: float rounding


def _floats(*values: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)


def _sum_product(prices: Floats, shares: Floats) -> Floats:
    """Sum over the last axis of price x shares, where entries of 0 shares may have any price."""
    return np.asarray(np.where(shares == 0.0, 0.0, prices * shares).sum(axis=-1))


def _average_deviation_bps(prices: ArrayLike, shares: ArrayLike, benchmark: ArrayLike, side: ArrayLike) -> Floats:
    """``s (p_bar - b) / b x 1e4``, p_bar the average fill price. Deviations first, so that no digits are lost."""
    prices, shares, benchmark, s = _floats(prices, shares, benchmark, side)
    return s * ratio(_sum_product(prices - benchmark[..., None], shares), shares.sum(axis=-1)) / benchmark * BPS


def ratio(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """`top / bottom`, NaN where `bottom` is 0.

    >>> ratio([1.0, 1.0], [4.0, 0.0]).tolist()
    [0.25, nan]
    """
    top, bottom = _floats(top, bottom)
    return np.divide(top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan), where=bottom != 0)


def weighted_average(values: ArrayLike, shares: ArrayLike) -> Floats:
    """Share-weighted average over the last axis, as Rule 605 averages its spreads; entries that are NaN are left out.

    >>> float(weighted_average([10.0, 20.0, float("nan")], [300, 100, 50]))
    12.5
    """
    values, shares = _floats(values, shares)
    known = np.where(np.isnan(values), 0.0, shares)
    return ratio(np.where(known == 0.0, 0.0, values * known).sum(axis=-1), known.sum(axis=-1))


@dataclass(frozen=True)
class Shortfall:
    """Implementation shortfall (n_orders,) and its parts, bps of the order's value at arrival; positive is bad.

    `total` is ``delay + trading + opportunity + fees``; :func:`implementation_shortfall` says what each holds.
    """

    total: Floats
    delay: Floats
    trading: Floats
    opportunity: Floats
    fees: Floats


def implementation_shortfall(
    prices: ArrayLike,
    shares: ArrayLike,
    quantity_shares: ArrayLike,
    arrival_mid: ArrayLike,
    end_mid: ArrayLike,
    side: ArrayLike = 1,
    fees: ArrayLike = 0.0,
    start_mid: ArrayLike | None = None,
) -> Shortfall:
    """Implementation shortfall: what the order cost more than if all of it had been done at the arrival mid.

    ``IS = [s (sum q_i p_i - Qf m_0) + s (Q - Qf)(m_T - m_0) + fees] / (Q m_0) x 1e4``, with fills (q_i, p_i), Qf their
    sum, m_0 the mid at arrival and m_T at the end. Parts, each over ``Q m_0 x 1e-4``: delay ``s Qf (m_start - m_0)``,
    the mid's move before trading started, on what was filled; trading ``s (sum q_i p_i - Qf m_start)``; opportunity
    ``s (Q - Qf)(m_T - m_0)``, the mid's move on what was not filled; and fees. In bps of Q m_0. Source: Perold 1988.

    Args:
        prices: (..., n_fills); shares too. All others are (...).
        side: +1 buy, -1 sell.
        fees: in currency, paid positive, rebates negative.
        start_mid: mid when trading started; the arrival's if None, so that delay is 0.

    >>> # a buy of 1,000: trading starts at 100.02, 600 fill at 100.05 and 200 at 100.10, the mid ends at 100.20
    >>> s = implementation_shortfall([100.05, 100.10], [600, 200], 1000, 100.0, 100.20, fees=2.40, start_mid=100.02)
    >>> [round(float(x), 6) for x in (s.delay, s.trading, s.opportunity, s.fees, s.total)]
    [1.6, 3.4, 4.0, 0.24, 9.24]
    """
    prices, shares, quantity, s = _floats(prices, shares, quantity_shares, side)
    arrival, end, fees = _floats(arrival_mid, end_mid, fees)
    start = arrival if start_mid is None else np.asarray(start_mid, dtype=np.float64)
    filled = shares.sum(axis=-1)
    to_bps = BPS / (quantity * arrival)
    delay = s * filled * (start - arrival) * to_bps
    # Deviations first: prices lie near the mid, and subtracting large products would lose digits.
    trading = s * _sum_product(prices - start[..., None], shares) * to_bps
    opportunity = s * (quantity - filled) * (end - arrival) * to_bps
    fee = fees * to_bps
    return Shortfall(delay + trading + opportunity + fee, delay, trading, opportunity, fee)


def average_price(prices: ArrayLike, shares: ArrayLike) -> Floats:
    """Share-weighted average fill price, ``sum q_i p_i / sum q_i``; with a market's trades in place of fills its VWAP.

    >>> float(average_price([10.0, 11.0], [300, 100]))
    10.25
    """
    prices, shares = _floats(prices, shares)
    return ratio(_sum_product(prices, shares), shares.sum(axis=-1))


def arrival_slippage_bps(prices: ArrayLike, shares: ArrayLike, arrival_mid: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Average fill price against the arrival mid: ``s (p_bar - m_0) / m_0 x 1e4``, Perold's executed part before fees.

    >>> float(arrival_slippage_bps([100.05, 100.10], [600, 200], 100.0).round(6))
    6.25
    """
    return _average_deviation_bps(prices, shares, arrival_mid, side)


def vwap_slippage_bps(prices: ArrayLike, shares: ArrayLike, market_vwap: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Average fill price against the market's VWAP over the order's life: ``s (p_bar - VWAP) / VWAP x 1e4``.

    Source: Berkowitz, Logue and Noser 1988, "The Total Cost of Transactions on the NYSE", Journal of Finance 43(1). Say
    whether `market_vwap` holds one's own fills; ours does not.

    >>> float(vwap_slippage_bps([100.05, 100.10], [600, 200], 100.05).round(4))
    1.2494
    """
    return _average_deviation_bps(prices, shares, market_vwap, side)


@measure("quoted_spread_bps", "quoted spread", "bps", "", averaged=True)
def quoted_spread_bps(bid: ArrayLike, ask: ArrayLike) -> Floats:
    """Quoted spread: ``(ask - bid) / m x 1e4`` with ``m = (bid + ask) / 2``. Source: 17 CFR 242.600.

    >>> float(quoted_spread_bps(99.99, 100.01).round(6))
    2.0
    """
    bid, ask = _floats(bid, ask)
    return np.asarray((ask - bid) / (0.5 * (bid + ask)) * BPS)


@measure("effective_spread_bps", "effective spread", "bps", "low", averaged=True)
def effective_spread_bps(price: ArrayLike, mid: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Effective spread: ``2 s (p - m_t) / m_t x 1e4``, m_t the mid when the order was received (not when it filled).

    Average it by shares. Source: 17 CFR 242.605 ("double the amount of difference between the execution price and the
    midpoint ... at the time of order receipt").

    >>> float(effective_spread_bps(100.02, 100.0).round(6)), float(effective_spread_bps(99.98, 100.0, -1).round(6))
    (4.0, 4.0)
    """
    price, mid, s = _floats(price, mid, side)
    return np.asarray(2.0 * s * (price - mid) / mid * BPS)


@measure("realised_spread_bps", "realised spread, one step later", "bps", "low", averaged=True)
def realised_spread_bps(price: ArrayLike, mid: ArrayLike, mid_later: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Realised spread: ``2 s (p - m_{e+tau}) / m_t x 1e4``, m_{e+tau} the mid a time tau after the order was executed.

    m_t is the mid at receipt, as in the effective spread. Positive is what the liquidity provider earned. Source:
    17 CFR 242.600 and 242.605 ("at a specified interval after the time of order execution"; several horizons between
    50 ms and 5 minutes since 2024).

    >>> float(realised_spread_bps(100.02, 100.0, 100.015).round(6))
    1.0
    """
    price, mid, later, s = _floats(price, mid, mid_later, side)
    return np.asarray(2.0 * s * (price - later) / mid * BPS)


@measure("price_impact_bps", "price impact, one step later", "bps", "", averaged=True)
def price_impact_bps(mid: ArrayLike, mid_later: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Price impact: ``2 s (m_{e+tau} - m_t) / m_t x 1e4``; effective spread = realised spread + price impact.

    The later mid is that of :func:`realised_spread_bps`. Positive is a move against us. Source: Huang and Stoll 1996,
    "Dealer versus auction markets", Journal of Financial Economics 41(3).

    >>> float(price_impact_bps(100.0, 100.015).round(6))
    3.0
    """
    mid, later, s = _floats(mid, mid_later, side)
    return np.asarray(2.0 * s * (later - mid) / mid * BPS)


@measure("e_over_q_percent", "effective over quoted (E/Q)", "%", "low")
def effective_over_quoted_percent(effective_bps: ArrayLike, quoted_bps: ArrayLike, shares: ArrayLike) -> Floats:
    """E/Q: share-weighted effective over quoted spread, x 100; above 100 is worse than the quote. Source: Rule 605.

    >>> float(effective_over_quoted_percent([4.0, 2.0], [4.0, 4.0], [100, 300]))
    62.5
    """
    return 100.0 * ratio(weighted_average(effective_bps, shares), weighted_average(quoted_bps, shares))


@measure("markout_bps", "markout, one step later", "bps", "high", averaged=True)
def markout_bps(price: ArrayLike, mid_later: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Markout, the trader's view: ``s (m_{e+tau} - p) / p x 1e4``, the mid a time tau after the fill against the fill.

    **Positive is good** (the price moved our way after we traded); a taker's starts at minus the effective half-spread.
    Source: common practice, as in exchanges' and brokers' venue analyses.

    >>> float(markout_bps(100.0, 99.99).round(6)), float(markout_bps(100.0, 99.99, -1).round(6))
    (-1.0, 1.0)
    """
    price, later, s = _floats(price, mid_later, side)
    return np.asarray(s * (later - price) / price * BPS)


def reversion_bps(end_mid: ArrayLike, mid_later: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Reversion after the order is complete: ``-s (m_{T+tau} - m_T) / m_T x 1e4``.

    Positive is a price that came back, so impact that was temporary. Source: Almgren, Thum, Hauptmann and Li 2005,
    "Direct Estimation of Equity Market Impact", Risk 18(7).

    >>> float(reversion_bps(100.10, 100.08).round(4))
    1.998
    """
    end, later, s = _floats(end_mid, mid_later, side)
    return np.asarray(-s * (later - end) / end * BPS)


def price_improvement(price: ArrayLike, far_quote: ArrayLike, side: ArrayLike = 1) -> Floats:
    """Price improvement per share: ``s (far - p)``, far the best quote that a marketable order faced at receipt.

    In the prices' unit. **Positive is good**, negative is outside the quote. Source: 17 CFR 242.605.

    >>> float(price_improvement(100.004, 100.01).round(6)), float(price_improvement(99.99, 99.98, -1).round(6))
    (0.006, 0.01)
    """
    price, far, s = _floats(price, far_quote, side)
    return np.asarray(s * (far - price))


@dataclass(frozen=True)
class QuoteClasses:
    """Shares of the filled volume that were improved, at the quote, and outside it; they sum to 1."""

    improved: Floats
    at_quote: Floats
    outside: Floats


def quote_classes(inside_shares: ArrayLike, outside_shares: ArrayLike, shares: ArrayLike) -> QuoteClasses:
    """Which part of the volume was filled better than, at, and worse than the quote at receipt. Source: 17 CFR 242.605.

    Args, (..., n_fills): shares of each fill printed inside and outside the quote, and all of it.

    >>> c = quote_classes([100.0, 0.0, 0.0], [0.0, 0.0, 100.0], [100, 200, 100])
    >>> float(c.improved), float(c.at_quote), float(c.outside)
    (0.25, 0.5, 0.25)
    """
    inside, outside, shares = _floats(inside_shares, outside_shares, shares)
    improved, worse = (ratio(of.sum(axis=-1), shares.sum(axis=-1)) for of in (inside, outside))
    return QuoteClasses(improved, 1.0 - improved - worse, worse)


def size_improvement_shares(filled_at_quote_or_better_shares: ArrayLike, displayed_shares: ArrayLike) -> Floats:
    """Size improvement, **positive is good**: ``max(filled at the quote or better - shown, 0)``. Source: Rule 605.

    >>> size_improvement_shares([500, 200], [300, 300]).tolist()
    [200.0, 0.0]
    """
    filled, shown = _floats(filled_at_quote_or_better_shares, displayed_shares)
    return np.maximum(filled - shown, 0.0)


@measure("fill_rate_percent", "fill rate, shares", "%", "high", scale=100.0)
def fill_rate(filled_shares: ArrayLike, sent_shares: ArrayLike) -> Floats:
    """Share-level fill rate: ``sum filled / sum sent`` over the last axis; 1 is good. Source: Rule 606(b)(3).

    >>> float(fill_rate([80, 0, 100], [100, 100, 100]))
    0.6
    """
    filled, sent = _floats(filled_shares, sent_shares)
    return ratio(filled.sum(axis=-1), sent.sum(axis=-1))


def order_fill_rates(filled_shares: ArrayLike, sent_shares: ArrayLike) -> tuple[Floats, Floats]:
    """Order-level fill rates over the last axis: the share of orders sent that got anything, and that got everything.

    >>> [float(rate) for rate in order_fill_rates([80, 0, 100, 0], [100, 100, 100, 0])]
    [0.6666666666666666, 0.3333333333333333]
    """
    filled, sent = _floats(filled_shares, sent_shares)
    orders = (sent > 0.0).sum(axis=-1)
    any_fill = ((sent > 0.0) & (filled > 0.0)).sum(axis=-1)
    full = ((sent > 0.0) & (filled >= sent * (1.0 - TIE))).sum(axis=-1)
    return ratio(any_fill, orders), ratio(full, orders)


def fade(filled_shares: ArrayLike, sent_shares: ArrayLike, displayed_shares: ArrayLike) -> Floats:
    """Quote fade: ``1 - filled / min(sent, displayed at the decision)``, element by element.

    0 is a firm quote, 1 a phantom; below 0 more filled than was shown (hidden size). Source: common practice.

    >>> fade([60, 100, 0], [100, 100, 50], [80, 200, 0]).tolist()
    [0.25, 0.0, nan]
    """
    filled, sent, shown = _floats(filled_shares, sent_shares, displayed_shares)
    return 1.0 - ratio(filled, np.minimum(sent, shown))


@measure("fade_percent", "fade of what was displayed", "%", "low", scale=100.0)
def total_fade(filled_shares: ArrayLike, sent_shares: ArrayLike, displayed_shares: ArrayLike) -> Floats:
    """Fade of many children together, over the last axis: ``1 - sum filled / sum min(sent, displayed)``.

    As :func:`fade`, weighted by what was there to be had; children that met no display are left out.

    >>> float(total_fade([60, 100, 0], [100, 100, 50], [80, 200, 0]).round(6))
    0.111111
    """
    filled, sent, shown = _floats(filled_shares, sent_shares, displayed_shares)
    reach = np.minimum(sent, shown)
    return 1.0 - ratio(np.where(reach > 0.0, filled, 0.0).sum(axis=-1), reach.sum(axis=-1))


@measure("trade_through_percent", "volume traded through a better quote", "%", "low", scale=100.0)
def trade_through_rate(through_shares: ArrayLike, shares: ArrayLike) -> Floats:
    """Share of the volume, over the last axis, filled at a worse price than one then displayed elsewhere and not taken.

    Source: 17 CFR 242.611 (Order Protection Rule).

    >>> float(trade_through_rate([100.0, 0.0], [100, 300]))
    0.25
    """
    through, shares = _floats(through_shares, shares)
    return ratio(through.sum(axis=-1), shares.sum(axis=-1))


@measure("trade_through_old_percent", "· one that had stood for a second", "%", "low", scale=100.0)
def unexcused_trade_through_rate(through_shares: ArrayLike, excused_shares: ArrayLike, shares: ArrayLike) -> Floats:
    """As :func:`trade_through_rate`, without what the rule excuses: better quotes that were younger than a second.

    Source: 17 CFR 242.611(b)(8).

    >>> float(unexcused_trade_through_rate([100.0, 80.0], [60.0, 80.0], [100, 300]))
    0.1
    """
    through, excused, shares = _floats(through_shares, excused_shares, shares)
    return ratio((through - excused).sum(axis=-1), shares.sum(axis=-1))


@measure("fees_mils", "fees", "mils a share", "low")
def fees_mils(fees_dollars: ArrayLike, shares: ArrayLike) -> Floats:
    """Net fee per share in mils, over the last axis: ``sum fee_i / sum q_i x 1e4``; 1 mil is $0.0001 a share.

    Dollars: taker fees positive, rebates negative. Source: exchanges' price lists.

    >>> float(fees_mils([3.00, -0.20], [1000, 100]).round(4))
    25.4545
    """
    fees, shares = _floats(fees_dollars, shares)
    return ratio(fees.sum(axis=-1), shares.sum(axis=-1)) * MILS_PER_DOLLAR


def fees_bps(fees: ArrayLike, prices: ArrayLike, shares: ArrayLike) -> Floats:
    """Net fees over the value traded (not that of the parent order): ``sum fee_i / (sum q_i p_i) x 1e4``.

    >>> float(fees_bps([3.00, -0.20], [100.0, 100.0], [1000, 100]).round(6))
    0.254545
    """
    fees, prices, shares = _floats(fees, prices, shares)
    return ratio(fees.sum(axis=-1), _sum_product(prices, shares)) * BPS


def all_in_bps(slippage_bps: ArrayLike, fee_bps: ArrayLike) -> Floats:
    """All-in cost of what was executed: arrival slippage plus fees.

    >>> float(all_in_bps(6.25, 0.25))
    6.5
    """
    slippage, fee = _floats(slippage_bps, fee_bps)
    return np.asarray(slippage + fee)


def quantiles(values: ArrayLike, at: Sequence[float] = (0.5, 0.95, 0.99)) -> Floats:
    """Quantiles of all values (linear interpolation), NaN where there are none. Never report a latency's mean alone.

    >>> quantiles([1.0, 2.0, 3.0, 4.0, 5.0], (0.5, 0.95)).round(6).tolist()
    [3.0, 4.8]
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return np.quantile(known, at) if known.size else np.full(len(at), np.nan)


def staleness_ms(quote_time_ms: ArrayLike, arrival_time_ms: ArrayLike) -> Floats:
    """Age of the quote that a child acts on when it arrives: the time of the way there, and the delay of a late feed.

    >>> staleness_ms([0.0, 5.0], [0.4, 5.1]).round(6).tolist()
    [0.4, 0.1]
    """
    quote, arrival = _floats(quote_time_ms, arrival_time_ms)
    return np.asarray(arrival - quote)


def reroute_count(sent_shares: ArrayLike, filled_shares: ArrayLike) -> NDArray[np.int64]:
    """How often a parent sent again what had come back: decisions, over the last axis, that follow a short fill.

    A decision counts if it sends anything and the decision before it that sent anything filled less than it sent.
    Arguments: a parent's totals a decision, (..., n_decisions).

    >>> int(reroute_count([100, 80, 0, 50, 50], [20, 80, 0, 0, 50]))
    2
    """
    sent, filled = _floats(sent_shares, filled_shares)
    count, short = np.zeros(sent.shape[:-1], dtype=np.int64), np.zeros(sent.shape[:-1], dtype=bool)
    for decision in range(sent.shape[-1]):
        sends = sent[..., decision] > 0.0
        count += sends & short
        short = np.where(sends, filled[..., decision] < sent[..., decision] * (1.0 - TIE), short)
    return count


def completion(filled_shares: ArrayLike, quantity_shares: ArrayLike) -> Floats:
    """Share of the parent order that child orders filled (over the last axis) before the forced clean-up. 1 is good.

    >>> float(completion([600, 300], 1000))
    0.9
    """
    filled, quantity = _floats(filled_shares, quantity_shares)
    return ratio(filled.sum(axis=-1), quantity)


def time_to_completion_s(filled_shares: ArrayLike, fill_time_s: ArrayLike, quantity_shares: ArrayLike) -> Floats:
    """Time of the fill that completed the order, s after arrival; NaN if it never did. Fills in order of time.

    >>> float(time_to_completion_s([600, 300, 100], [0.0, 5.0, 10.0], 1000))
    10.0
    >>> float(time_to_completion_s([600, 300, 50], [0.0, 5.0, 10.0], 1000))
    nan
    """
    filled, times, quantity = _floats(filled_shares, fill_time_s, quantity_shares)
    complete = np.cumsum(filled, axis=-1) >= quantity[..., None] * (1.0 - TIE)
    first = np.argmax(complete, axis=-1)[..., None]
    when = np.take_along_axis(np.broadcast_to(times, filled.shape), first, axis=-1)[..., 0]
    return np.where(complete.any(axis=-1), when, np.nan)


def cvar(costs: ArrayLike, level: float = 0.95) -> float:
    """Conditional value at risk: mean of the worst `1 - level` of the costs, the cost on the edge counted in part.

    ``(1 / (n (1 - level))) x sum of the largest n (1 - level) costs``. Source: Rockafellar and Uryasev 2000.

    >>> cvar([float(x) for x in range(1, 101)])
    98.0
    >>> round(cvar([1.0, 2.0, 10.0], 0.5), 6)  # the worst 1.5 of 3: 10 and half of 2
    7.333333
    """
    worst = np.sort(np.asarray(costs, dtype=np.float64).ravel())[::-1]
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level}; 0.95 is usual")
    if not worst.size:
        return float("nan")
    tail = worst.size * (1.0 - level)
    tail = round(tail) if abs(tail - round(tail)) < 1e-9 else tail
    return float(np.clip(tail - np.arange(worst.size), 0.0, 1.0) @ worst / tail)


def _normalised(shares: ArrayLike) -> Floats:
    shares = np.asarray(shares, dtype=np.float64)
    return ratio(shares, shares.sum(axis=-1, keepdims=True))


def herfindahl(shares: ArrayLike) -> Floats:
    """Herfindahl-Hirschman index of a split: ``sum w_k^2``, w normalised; 1 is one venue, 1/K an even split over K.

    >>> float(herfindahl([50, 25, 25]))
    0.375
    """
    return np.asarray((_normalised(shares) ** 2).sum(axis=-1))


def entropy_nats(shares: ArrayLike) -> Floats:
    """Shannon entropy of a split: ``-sum w_k ln w_k``; 0 is one venue, ln K an even split over K.

    >>> round(float(entropy_nats([50, 25, 25])), 6)
    1.039721
    """
    w = _normalised(shares)
    return np.asarray(-np.where(w > 0.0, w * np.log(np.where(w > 0.0, w, 1.0)), 0.0 * w).sum(axis=-1))
