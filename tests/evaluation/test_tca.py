"""Measures worked by hand, and the identities that tie them together."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.evaluation import measures, rule_tables, tca
from sor_sb3.evaluation.measures import COLUMNS, REGISTERED, measure
from sor_sb3.evaluation.rule_tables import rule_605_table, rule_606_table

PRICES = st.floats(1.0, 500.0)
SHARES = st.floats(0.0, 1e5)
SIDES = st.sampled_from([1, -1])


def fills(n: int = 4) -> st.SearchStrategy:
    return st.tuples(st.lists(PRICES, min_size=n, max_size=n), st.lists(SHARES, min_size=n, max_size=n))


# --- implementation shortfall ---------------------------------------------------------------------


def test_shortfall_of_a_sell_worked_by_hand():
    # Sell 500, arrival mid 50.00; 200 at 49.98 and 100 at 49.95; end mid 49.90; fee $0.60; trading starts at 49.99.
    # trading: (200 x 0.01 + 100 x 0.04) / (500 x 50) = 6 / 25,000 = 2.4 bps; delay 300 x 0.01 = 3 -> 1.2 bps;
    # opportunity 200 x 0.10 = 20 -> 8 bps; fees 0.60 -> 0.24 bps.
    s = tca.implementation_shortfall([49.98, 49.95], [200, 100], 500, 50.0, 49.90, -1, 0.60, 49.99)
    for part, expected in (("trading", 2.4), ("delay", 1.2), ("opportunity", 8.0), ("fees", 0.24), ("total", 11.84)):
        assert float(getattr(s, part)) == pytest.approx(expected, abs=1e-9), part


def test_shortfall_of_nothing_filled_is_opportunity_alone():
    s = tca.implementation_shortfall([float("nan")], [0.0], 100, 10.0, 10.01)
    assert float(s.total) == float(s.opportunity) == pytest.approx(10.0)


@settings(max_examples=200, deadline=None)
@given(fills(), PRICES, PRICES, PRICES, SIDES, st.floats(-100, 100), st.floats(1.0, 1e6))
def test_shortfall_parts_add_up_to_perolds_formula(trades, arrival, end, start, side, fees, quantity):
    prices, shares = map(np.array, trades)
    s = tca.implementation_shortfall(prices, shares, quantity, arrival, end, side, fees, start)
    assert float(s.delay + s.trading + s.opportunity + s.fees) == pytest.approx(float(s.total), abs=1e-9)
    filled = shares.sum()
    whole = side * ((prices * shares).sum() - filled * arrival) + side * (quantity - filled) * (end - arrival) + fees
    size = max(abs(whole), filled * 500.0, quantity * 500.0)
    assert float(s.total) == pytest.approx(
        whole / (quantity * arrival) * 1e4, abs=1e-9 * size / (quantity * arrival) * 1e4
    )


def test_rows_are_orders_of_their_own():
    prices, shares = np.array([[10.1, 10.2], [9.9, float("nan")]]), np.array([[100, 100], [50, 0]])
    both = tca.implementation_shortfall(prices, shares, [200, 100], 10.0, [10.3, 9.8], [1, -1], [0.1, 0.2])
    for i, side in enumerate((1, -1)):
        one = tca.implementation_shortfall(
            prices[i], shares[i], [200, 100][i], 10.0, [10.3, 9.8][i], side, [0.1, 0.2][i]
        )
        assert float(both.total[i]) == pytest.approx(float(one.total), abs=1e-12)


def test_slippages_worked_by_hand():
    # 300 at 20.10 and 100 at 20.30: average 20.15. Against 20.00: 75 bps; against a VWAP of 20.05: 0.10 / 20.05.
    assert float(tca.average_price([20.10, 20.30], [300, 100])) == pytest.approx(20.15)
    assert float(tca.arrival_slippage_bps([20.10, 20.30], [300, 100], 20.0)) == pytest.approx(75.0)
    assert float(tca.arrival_slippage_bps([20.10, 20.30], [300, 100], 20.0, -1)) == pytest.approx(-75.0)
    assert float(tca.vwap_slippage_bps([20.10, 20.30], [300, 100], 20.05)) == pytest.approx(1e4 * 0.10 / 20.05)
    assert math.isnan(float(tca.arrival_slippage_bps([20.1], [0], 20.0)))


# --- spreads --------------------------------------------------------------------------------------


def test_spreads_worked_by_hand():
    # Bid 49.98, ask 50.02, a sell at 49.97; five seconds later the mid is 49.99.
    assert float(tca.quoted_spread_bps(49.98, 50.02)) == pytest.approx(8.0)
    assert float(tca.effective_spread_bps(49.97, 50.0, -1)) == pytest.approx(12.0)
    assert float(tca.realised_spread_bps(49.97, 50.0, 49.99, -1)) == pytest.approx(8.0)
    assert float(tca.price_impact_bps(50.0, 49.99, -1)) == pytest.approx(4.0)
    assert float(tca.effective_over_quoted_percent([12.0], [8.0], [100])) == pytest.approx(150.0)
    assert float(tca.markout_bps(49.97, 49.99, -1)) == pytest.approx(-1e4 * 0.02 / 49.97)
    assert float(tca.reversion_bps(49.95, 49.97, -1)) == pytest.approx(1e4 * 0.02 / 49.95)


@settings(max_examples=200, deadline=None)
@given(PRICES, PRICES, PRICES, SIDES)
def test_effective_is_realised_plus_impact_and_sides_mirror(price, mid, later, side):
    effective = float(tca.effective_spread_bps(price, mid, side))
    realised, impact = tca.realised_spread_bps(price, mid, later, side), tca.price_impact_bps(mid, later, side)
    assert float(realised + impact) == pytest.approx(effective, rel=1e-12, abs=1e-9 * 1e6)
    assert effective == -float(tca.effective_spread_bps(price, mid, -side))


def test_averages_leave_out_what_is_not_known():
    assert float(tca.weighted_average([10.0, float("nan")], [100, 900])) == 10.0
    assert math.isnan(float(tca.weighted_average([float("nan")], [100])))
    assert math.isnan(float(tca.weighted_average([5.0], [0])))


# --- quotes and fills -----------------------------------------------------------------------------


def test_improvement_and_classes_worked_by_hand():
    assert float(tca.price_improvement(49.985, 49.98, -1)) == pytest.approx(0.005)  # a sell above the bid
    c = tca.quote_classes([100, 0, 0], [0, 0, 100], [100, 300, 100])
    assert (float(c.improved), float(c.at_quote), float(c.outside)) == pytest.approx((0.2, 0.6, 0.2))
    assert tca.size_improvement_shares(700, 400) == 300.0


def test_fills_worked_by_hand():
    filled, sent, shown = [150, 0, 200, 0], [200, 100, 200, 0], [100, 300, 500, 50]
    assert float(tca.fill_rate(filled, sent)) == pytest.approx(0.7)
    any_fill, full = tca.order_fill_rates(filled, sent)
    assert (float(any_fill), float(full)) == pytest.approx((2 / 3, 1 / 3))
    one_by_one = tca.fade(filled, sent, shown)
    assert one_by_one[:3].tolist() == pytest.approx([-0.5, 1.0, 0.0])  # hidden size, a phantom, firm
    assert math.isnan(one_by_one[3])
    assert float(tca.total_fade(filled, sent, shown)) == pytest.approx(1.0 - 350 / 400)


def test_trade_throughs_worked_by_hand():
    # Of 500 shares 100 and 50 went through better quotes, all of the latter through quotes younger than a second.
    through, excused, shares = [100, 0, 50], [0, 0, 50], [100, 300, 100]
    assert float(tca.trade_through_rate(through, shares)) == pytest.approx(0.3)
    assert float(tca.unexcused_trade_through_rate(through, excused, shares)) == pytest.approx(0.2)


def test_fees_worked_by_hand():
    # 400 at $0.0030 and 100 at -$0.0020: $1.00 on 500 shares is 20 mils; on $25,000, 0.4 bps.
    fees, shares = [1.20, -0.20], [400, 100]
    assert float(tca.fees_mils(fees, shares)) == pytest.approx(20.0)
    assert float(tca.fees_bps(fees, [50.0, 50.0], shares)) == pytest.approx(0.4)


# --- time, risk, concentration --------------------------------------------------------------------


def test_latency_quantiles_and_staleness():
    values = np.arange(1.0, 101.0)
    assert tca.quantiles(values).tolist() == pytest.approx(np.quantile(values, [0.5, 0.95, 0.99]).tolist())
    assert np.isnan(tca.quantiles([])).all()
    assert tca.staleness_ms(3.0, 3.4) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("sent", "filled", "expected"),
    [
        ([100, 100], [100, 100], 0),
        ([100, 100], [50, 100], 1),
        ([100, 0, 100], [50, 0, 100], 1),  # what came back waits a step
        ([100, 100, 100], [0, 0, 0], 2),
        ([0, 0], [0, 0], 0),
    ],
)
def test_reroutes(sent, filled, expected):
    assert tca.reroute_count(sent, filled) == expected


def test_completion_and_its_time():
    assert float(tca.completion([10, 20], 40)) == 0.75
    assert float(tca.time_to_completion_s([10, 30, 0], [1.0, 2.0, 3.0], 40)) == 2.0
    assert tca.time_to_completion_s([[40, 0], [10, 0]], [1.0, 2.0], [40, 40]).tolist() == pytest.approx(
        [1.0, float("nan")], nan_ok=True
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.95]))
def test_cvar_is_rockafellar_and_uryasevs_minimum(costs, level):
    # min over a of a + E max(cost - a, 0) / (1 - level), attained at one of the costs.
    values = np.array(costs)
    at = [a + np.maximum(values - a, 0).mean() / (1 - level) for a in values]
    assert tca.cvar(values, level) == pytest.approx(min(at), abs=1e-9)


def test_cvar_refuses_a_level_that_is_none():
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        tca.cvar([1.0], 95)


def test_concentration_of_one_and_of_many():
    assert (float(tca.herfindahl([0, 5, 0])), float(tca.entropy_nats([0, 5, 0]))) == (1.0, 0.0)
    assert float(tca.herfindahl(np.ones(8))) == pytest.approx(1 / 8)
    assert float(tca.entropy_nats(np.ones(8))) == pytest.approx(math.log(8))


# --- tables ---------------------------------------------------------------------------------------


def test_rule_605_rows_worked_by_hand():
    rows = rule_605_table(
        sent_shares=[50, 200, 400, 3000],
        filled_shares=[50, 100, 300, 0],
        price=[10.01, 10.00, 10.03, float("nan")],
        mid=10.0,
        bid=9.99,
        ask=10.01,
        inside_shares=[0, 100, 0, 0],
        outside_shares=[0, 0, 300, 0],
        mids_later={"1 s": [10.0, 10.01, 10.02, 10.0]},
        displayed_shares=[100, 60, 400, 10],
        time_to_execution_ms=[1.0, 2.0, 4.0, 9.0],
    )
    assert [(r["order_size"], r["orders"]) for r in rows] == [("under 100", 1), ("100-499", 2), ("2,000-4,999", 1)]
    middle = rows[1]
    assert middle["executed_percent"] == pytest.approx(100 * 400 / 600)
    assert middle["effective_spread_bps"] == pytest.approx((0 * 100 + 60 * 300) / 400)
    assert middle["e_over_q_percent"] == pytest.approx(100 * 45 / 20)
    assert middle["realised_spread_bps 1 s"] == pytest.approx((-20 * 100 + 20 * 300) / 400)
    assert (middle["improved_percent"], middle["outside_percent"]) == pytest.approx((25.0, 75.0))
    assert middle["size_improvement_shares"] == pytest.approx((40 + 0) / 2)  # 100 inside the quote, 60 shown
    assert middle["time_to_execution_ms"] == pytest.approx(3.5)
    assert rows[2]["executed_percent"] == 0.0 and math.isnan(float(rows[2]["effective_spread_bps"]))


def test_rule_606_rows_worked_by_hand():
    rows = rule_606_table([2, 0, 2, 0], ["A", "B", "C"], [100, 300, 100, 0], [50, 300, 0, 0], [0.15, -0.06, 0, 0])
    assert [r["venue"] for r in rows] == ["A", "C", "B"]
    a, c, b = rows
    assert (a["orders"], a["shares_routed_percent"], a["fill_rate_percent"]) == pytest.approx((1, 60.0, 100.0))
    assert (c["orders"], c["average_fill_shares"], c["net_fee_dollars"]) == pytest.approx((2, 50.0, 0.15))
    assert c["net_fee_per_100_shares_cents"] == pytest.approx(30.0)
    assert a["net_fee_per_100_shares_cents"] == pytest.approx(-2.0)
    assert b["orders"] == 0 and math.isnan(float(b["fill_rate_percent"]))


def test_every_measure_has_a_worked_example():
    modules = (tca, rule_tables)
    functions = [f for m in modules for _, f in inspect.getmembers(m, inspect.isfunction) if f.__module__ == m.__name__]
    public = [f for f in functions if not f.__name__.startswith("_")]
    assert len(public) >= 28
    assert not [f.__name__ for f in public if ">>>" not in (inspect.getdoc(f) or "")]


# --- registration ---------------------------------------------------------------------------------


def test_one_decorator_puts_a_measure_into_the_tables(monkeypatch):
    monkeypatch.setattr("sor_sb3.evaluation.measures.REGISTERED", {})

    @measure("shown_percent", "children no larger than the display", "%", "high", scale=100.0)
    def shown(sent_shares, displayed_shares):
        return (sent_shares <= displayed_shares).mean(axis=-1)

    columns = {"sent_shares": np.array([[1.0, 5.0], [2.0, 2.0]]), "displayed_shares": np.full((2, 2), 2.0)}
    found = measures.REGISTERED["shown_percent"]
    assert found.of({**columns, "shares": columns["sent_shares"]}, tca.weighted_average).tolist() == [50.0, 100.0]
    with pytest.raises(ValueError, match="measure 'shown_percent': the key is taken"):
        measure("shown_percent", "again", "%", "high")(shown)
    with pytest.raises(ValueError, match=r"measure 'x': parameters \['volume'\] are no columns; columns are price"):
        measure("x", "x", "%", "")(lambda volume: volume)


def test_an_averaged_measure_is_weighted_by_filled_shares():
    columns = {name: np.array([1.0, 1.0]) for name in COLUMNS} | {
        "price": np.array([1.0001, 1.0002]),
        "shares": np.array([300.0, 100.0]),
    }
    found = REGISTERED["effective_spread_bps"].of(columns, tca.weighted_average)
    assert float(found) == pytest.approx(2 * (300 * 1 + 100 * 2) / 400)
