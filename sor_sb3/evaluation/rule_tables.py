"""Tables of child orders in the style of Rule 605 (execution quality) and Rule 606 (routing); not filings.

Every number is a measure of :mod:`sor_sb3.evaluation.tca`, whose conventions hold here too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sor_sb3.evaluation import tca

ORDER_SIZE_EDGES = (0.0, 100.0, 500.0, 2000.0, 5000.0, np.inf)
ORDER_SIZE_NAMES = ("under 100", "100-499", "500-1,999", "2,000-4,999", "5,000 and more")
_LATER = "mid later: "


def rule_605_table(
    sent_shares: ArrayLike,
    filled_shares: ArrayLike,
    price: ArrayLike,
    mid: ArrayLike,
    bid: ArrayLike,
    ask: ArrayLike,
    inside_shares: ArrayLike,
    outside_shares: ArrayLike,
    mids_later: Mapping[str, ArrayLike],
    displayed_shares: ArrayLike,
    time_to_execution_ms: ArrayLike,
    side: ArrayLike = 1,
) -> list[dict[str, float | str]]:
    """Execution quality in the style of Rule 605: a row per order size, share-weighted. One row an order in.

    Marketable orders only (all of ours are). Not a filing: sizes in shares rather than notional, one security, and
    child orders stand for covered orders. Source: 17 CFR 242.605(a)(1) as amended 2024.

    Args, (n_orders,): shares sent and filled; the average `price` of each order's fills, NaN if none; `mid` of the best
    quotes at receipt, `bid` and `ask`; shares printed inside and outside them; `mids_later` by horizon's name, that
    long after execution, NaN where unknown; size shown at the venue at receipt; receipt to execution in ms; `side` +1
    or -1.

    Returns:
        Rows of "order_size", the number of "orders", "shares" sent, and averages, named with their units;
        "size_improvement_shares" is a mean over executed orders.

    >>> row = rule_605_table([200, 300], [200, 150], [100.01, 100.02], 100.0, 99.99, 100.01, [0, 0], [0, 150],
    ...     {"1 s": [100.005, 100.0]}, [100, 400], [0.2, 0.4])[0]
    >>> row["order_size"], row["orders"], row["executed_percent"]
    ('100-499', 2, 70.0)
    >>> [round(float(row[k]), 4) for k in ("effective_spread_bps", "e_over_q_percent", "realised_spread_bps 1 s")]
    [2.8571, 142.8571, 2.2857]
    """
    orders = {
        **{"sent": sent_shares, "filled": filled_shares, "price": price, "mid": mid, "bid": bid, "ask": ask},
        **{
            "inside": inside_shares,
            "outside": outside_shares,
            "shown": displayed_shares,
            "time_ms": time_to_execution_ms,
        },
        "side": side,
        **{f"{_LATER}{name}": later for name, later in mids_later.items()},
    }
    columns = {name: np.broadcast_to(x, np.shape(sent_shares)).astype(np.float64) for name, x in orders.items()}
    sent, rows = columns["sent"], []
    for name, low, high in zip(ORDER_SIZE_NAMES, ORDER_SIZE_EDGES[:-1], ORDER_SIZE_EDGES[1:], strict=True):
        of = (sent > 0.0) & (sent >= low) & (sent < high)
        if of.any():
            rows.append(_rule_605_row(name, {key: values[of] for key, values in columns.items()}))
    return rows


def _rule_605_row(order_size: str, o: dict[str, np.ndarray]) -> dict[str, float | str]:
    weight = o["filled"]
    effective = tca.effective_spread_bps(o["price"], o["mid"], o["side"])
    quoted = tca.quoted_spread_bps(o["bid"], o["ask"])
    classes = tca.quote_classes(o["inside"], o["outside"], weight)
    extra = tca.size_improvement_shares(weight - o["outside"], o["shown"])[weight > 0.0]
    average = lambda values: float(tca.weighted_average(values, weight))  # noqa: E731
    realised = lambda mid_later: tca.realised_spread_bps(o["price"], o["mid"], mid_later, o["side"])  # noqa: E731
    later = [name for name in o if name.startswith(_LATER)]
    return {
        "order_size": order_size,
        "orders": len(weight),
        "shares": float(o["sent"].sum()),
        "executed_percent": 100.0 * float(tca.fill_rate(weight, o["sent"])),
        "quoted_spread_bps": average(quoted),
        "effective_spread_bps": average(effective),
        "e_over_q_percent": float(tca.effective_over_quoted_percent(effective, quoted, weight)),
        **{f"realised_spread_bps {name.removeprefix(_LATER)}": average(realised(o[name])) for name in later},
        **{f"{name}_percent": 100.0 * float(share) for name, share in vars(classes).items()},
        "size_improvement_shares": float(extra.mean() if extra.size else np.nan),
        "time_to_execution_ms": average(o["time_ms"]),
    }


def rule_606_table(
    venue: ArrayLike, venue_names: Sequence[str], sent_shares: ArrayLike, filled_shares: ArrayLike, fees: ArrayLike
) -> list[dict[str, float | str]]:
    """Order routing in the style of Rule 606(b)(3): a row per venue, the most routed first. One entry an order in.

    All orders are marketable limit orders, immediate or cancel, so the rule's columns for other types are left out.
    Source: 17 CFR 242.606(b)(3).

    Args, (n_orders,): index into the `venue_names`; shares sent and filled; net fee in dollars, rebates negative.

    Returns:
        Rows of "venue", the number of "orders", and sums and averages, named with their units.

    >>> rows = rule_606_table([0, 1, 1], ["NEAR", "FAR"], [100, 200, 100], [100, 0, 50], [0.30, 0.0, -0.01])
    >>> [(r["venue"], r["shares_routed_percent"], round(float(r["fill_rate_percent"]), 4)) for r in rows]
    [('FAR', 75.0, 16.6667), ('NEAR', 25.0, 100.0)]
    >>> [round(float(r["net_fee_per_100_shares_cents"]), 4) for r in rows]
    [-2.0, 30.0]
    """
    index = np.asarray(venue, dtype=np.int64)
    sent, filled, paid = (np.asarray(x, dtype=np.float64) for x in (sent_shares, filled_shares, fees))
    count = lambda which, weights=None: np.bincount(index[which], weights, minlength=len(venue_names))  # noqa: E731
    orders, filled_orders = count(sent > 0.0), count(filled > 0.0)
    routed, executed, net = (count(slice(None), values) for values in (sent, filled, paid))
    share = lambda values: 100.0 * tca.ratio(values, values.sum())  # noqa: E731
    columns = {
        "orders_percent": share(orders),
        "shares_routed": routed,
        "shares_routed_percent": share(routed),
        "shares_executed": executed,
        "shares_executed_percent": share(executed),
        "fill_rate_percent": 100.0 * tca.ratio(executed, routed),
        "average_fill_shares": tca.ratio(executed, filled_orders),
        "net_fee_dollars": net,
        "net_fee_per_100_shares_cents": 100.0 * 100.0 * tca.ratio(net, executed),
    }
    return [
        {"venue": venue_names[k], "orders": int(orders[k]), **{name: float(x[k]) for name, x in columns.items()}}
        for k in np.argsort(-routed, kind="stable")
    ]
