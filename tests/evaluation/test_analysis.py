"""Analyses of child-order logs: exact sums, and the same numbers as a slow reckoning, child by child."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sor_sb3.evaluation.analysis import MEASURES, _Cells, analyse
from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market
from tests.market.quote_fixtures import write_recording


def recorded(name: str, market: Any = "us_equity", env: str = "OrderSplit-v1", n: int = 12) -> tuple[Any, ChildLog]:
    scores = Evaluator(env, market, n).score(name, name, record=True)
    assert scores.children is not None
    return scores, scores.children


def hand_made() -> ChildLog:
    """One parent of 300 shares, two decisions 10 s apart, two venues; prices in bps of the arrival mid."""
    nan = float("nan")
    cells = lambda *rows: np.array([rows], dtype=np.float64)  # noqa: E731
    nothing, row = np.zeros((1, 2, 2)), lambda *values: np.array([values], dtype=np.float64)
    return ChildLog(
        sent_shares=cells([100, 50], [150, 0]),
        filled_shares=cells([100, 20], [120, 0]),
        price_bps=cells([2, 3], [5, nan]),
        passive_shares=nothing,
        passive_price_bps=np.full((1, 2, 2), nan),
        passive_ms=nothing,
        fee_bps=np.array([[0.5, -0.25]]),
        make_fee_bps=np.array([[-0.2, 0.1]]),
        open=np.array([[[True, True], [True, False]]]),
        touch_bps=cells([1, 2], [5, nan]),
        arrival_touch_bps=cells([1, 2], [5, nan]),
        inside_shares=nothing,
        outside_shares=cells([100, 20], [0, 0]),
        through_shares=cells([0, 20], [0, 0]),
        excused_shares=cells([0, 5], [0, 0]),
        shown_shares=cells([80, 500], [200, 0]),
        arrives_ms=cells([1, 2], [3, nan]),
        latency_ms=cells([1, 2], [3, 4]),
        observed_latency_ms=cells([1, 2], [3, 4]),
        ack_ms=cells([2, 4], [6, 8]),
        volume_shares=cells([900, 100], [3000, 0]),
        decision=np.array([[0, 1]]),
        wave=np.array([[0, 0]]),
        elapsed_ms=row(0, 0),
        mid_bps=row(0, 4),
        bid_bps=row(-1, 3),
        ask_bps=row(1, 5),
        permanent_bps=row(0, 0),
        transient_bps=row(0, 0),
        slice_shares=row(150, 180),
        active=np.array([[True, True]]),
        path_mid_bps=row(0, 2, 4, 6, 8),
        quantity_shares=np.array([300.0]),
        cleanup_shares=np.array([60.0]),
        cleanup_price_bps=np.array([20.0]),
        shortfall=np.array([0.0]),
        arrival_mid_px=np.array([50.0]),
        dark=np.array([[False, False]]),
        path_grid_s=5.0,
        transient_half_life_s=10.0,
        horizon_steps=np.array([2]),
        step_s=10.0,
        venue_names=("A", "B"),
    )


def test_a_parent_worked_by_hand():
    a = analyse(hand_made())
    parent = {key: float(values[0]) for key, values in a.parents.items()}
    # fills 100 x 2 + 20 x 3 + 120 x 5 = 860; clean-up 60 x 20 = 1,200; fees 100 x .5 - 20 x .25 + 120 x .5 = 105
    assert parent["trading_bps"] == pytest.approx(860 / 300)
    assert parent["cleanup_bps"] == pytest.approx(4.0)
    assert parent["fees_of_order_bps"] == pytest.approx(0.35)
    assert parent["shortfall_bps"] == pytest.approx((860 + 1200 + 105) / 300)
    assert parent["delay_bps"] == parent["opportunity_bps"] == 0.0
    assert parent["arrival_slippage_bps"] == pytest.approx(860 / 240)
    # VWAP: mid 2 with 1,000 shares, mid 6 with 3,000: 5 bps above arrival.
    assert parent["vwap_slippage_bps"] == pytest.approx((860 / 240 - 5.0) / 1.0005, abs=1e-9)
    assert parent["fees_mils"] == pytest.approx(105 / 240 * 1e-4 * 50.0 * 1e4)
    assert (parent["reroutes"], parent["children"]) == (1.0, 3.0)
    assert parent["completion_percent"] == pytest.approx(80.0)
    assert parent["fill_rate_percent"] == pytest.approx(80.0)
    assert np.isnan(parent["time_to_completion_s"])
    assert parent["herfindahl"] == pytest.approx((250 / 300) ** 2 + (50 / 300) ** 2)


def test_totals_worked_by_hand():
    t = analyse(hand_made()).totals
    # Half-spreads above the decision's mid: 2, 3 and 5 - 4 = 1; best touches 1 and 5 - 4 = 1.
    assert t["effective_spread_bps"] == pytest.approx(2 * (100 * 2 + 20 * 3 + 120 * 1) / 240, abs=2e-3)
    assert t["quoted_spread_bps"] == pytest.approx(2.0, abs=1e-3)
    assert t["price_impact_bps"] == pytest.approx(2 * 4.0, abs=4e-3)  # the mid moves 4 in each step
    assert t["realised_spread_bps"] == pytest.approx(t["effective_spread_bps"] - t["price_impact_bps"], abs=1e-9)
    assert t["at_quote_percent"] == pytest.approx(50.0)  # the 120 at the touch
    assert t["outside_percent"] == pytest.approx(50.0)
    assert t["fade_percent"] == pytest.approx(100 * (1 - 240 / (80 + 50 + 150)))
    assert t["trade_through_percent"] == pytest.approx(100 * 20 / 240)
    assert t["trade_through_old_percent"] == pytest.approx(100 * 15 / 240)
    assert (t["latency_p50_ms"], t["staleness_p50_ms"]) == pytest.approx((4.0, 2.0))
    assert (t["any_fill_percent"], t["full_fill_percent"]) == pytest.approx((100.0, 100 / 3))


def test_venues_and_rule_606_worked_by_hand():
    a = analyse(hand_made())
    assert a.venues["routed_percent"].tolist() == pytest.approx([100 * 250 / 300, 100 * 50 / 300])
    assert a.venues["fill_rate_percent"].tolist() == pytest.approx([88.0, 40.0])
    assert a.venues["average_fill_shares"].tolist() == pytest.approx([110.0, 20.0])
    assert a.venues["fees_bps"].tolist() == pytest.approx([0.5, -0.25], rel=1e-3)
    assert a.venues["fees_mils"].tolist() == pytest.approx([25.0, -12.5])
    assert [row["venue"] for row in a.rule_606] == ["A", "B"]
    assert a.rule_606[0]["net_fee_dollars"] == pytest.approx(110 * 1e-4 * 50.0)
    assert [row["order_size"] for row in a.rule_605] == ["under 100", "100-499"]


def test_how_much_of_the_volume_has_a_later_mid_is_known():
    assert analyse(hand_made()).known_percent.tolist() == pytest.approx([100.0, 100.0, 50.0])


def test_realised_spread_impact_and_markout_count_from_the_execution():
    # A child that is executed at 6 s: ten seconds later it is 16 s, and the mid is the one of 15 s, 6. Ten seconds
    # after the decision it was 4.
    nan, log = float("nan"), hand_made()
    only_first = np.array([[[100.0, 0.0], [0.0, 0.0]]])
    log = replace(
        log,
        sent_shares=only_first,
        filled_shares=only_first,
        price_bps=np.array([[[2.0, nan], [nan, nan]]]),
        arrives_ms=np.array([[[6000.0, nan], [nan, nan]]]),
    )
    a = analyse(log)
    assert a.totals["price_impact_bps"] == pytest.approx(2 * 6.0, abs=1e-9)
    assert a.totals["realised_spread_bps"] == pytest.approx(2 * (2.0 - 6.0), abs=1e-9)
    assert a.rule_605[0]["realised_spread_bps 10 s"] == pytest.approx(2 * (2.0 - 6.0), abs=1e-9)
    at_10_s = a.horizons_s.tolist().index(10.0)
    assert a.markout_bps[at_10_s] == pytest.approx((6.0 - 2.0) / 1.0002, abs=1e-9)
    assert a.rule_605[0]["effective_spread_bps"] == pytest.approx(2 * 2.0, abs=1e-9)  # against the mid at receipt


def test_the_mid_after_a_fill_is_the_last_known_one_and_our_push_is_on_it():
    log = replace(hand_made(), permanent_bps=np.array([[0.5, 0.75]]), transient_bps=np.array([[1.0, 2.0]]))
    above = lambda seconds: ((_Cells(log).mid_after_fill(seconds)[0] - 1) * 1e4).tolist()  # noqa: E731
    assert above(0.0)[0] == pytest.approx([0.0 + 1.5, 0.0 + 1.5])  # within the first env step: what its fills left
    assert above(5.0)[0] == pytest.approx([2.0 + 1.5, 2.0 + 1.5])
    assert above(10.0)[0] == pytest.approx([4.0 + 2.75, 4.0 + 2.75])  # within the second
    # The second env step ends at 20 s; then the transient part halves in ten seconds, from 20 to 20.003 s here.
    assert above(10.0)[1][0] == pytest.approx(8.0 + 0.75 + 2.0 * 2 ** (-0.0003), abs=1e-7)
    assert np.isnan(above(15.0)[1]).all() and not np.isnan(above(15.0)[0]).any()


def test_a_later_wave_is_in_the_state_of_its_decision_and_is_no_decision_of_its_own():
    log = replace(hand_made(), wave=np.array([[0, 1]]), decision=np.array([[0, 0]]))
    two = ChildLog.concatenate([log, hand_made()])
    cut = {c.name: c for c in analyse(two).states}["spread"]
    assert cut.decisions.sum() == 3  # of four env steps


def test_resting_fills_count_in_the_parents_measures_and_not_among_children():
    nan = float("nan")
    passive = np.array([[[30.0, 0.0], [0.0, 0.0]]])
    log = replace(
        hand_made(),
        passive_shares=passive,
        passive_price_bps=np.array([[[-1.0, nan], [nan, nan]]]),
        cleanup_shares=np.array([30.0]),
    )
    a, before = analyse(log), analyse(hand_made())
    # 860 of the children, 30 x -1 of the resting order, 30 x 20 swept; fees 105 and 30 x -0.2
    assert a.parents["shortfall_bps"][0] == pytest.approx((860 - 30 + 600 + 105 - 6) / 300)
    assert a.parents["completion_percent"][0] == pytest.approx(90.0)
    for key in ("effective_spread_bps", "fill_rate_percent", "e_over_q_percent"):
        assert a.totals[key] == before.totals[key]


# --- against the evaluator and a slow reckoning -----------------------------------------------------


@pytest.mark.parametrize("env", ["VenueSelect-v1", "OrderSplit-v1"])
@pytest.mark.parametrize("name", ["net_price_sweep", "dark_then_sweep", "round_robin", "random"])
def test_every_parents_shortfall_is_the_evaluators_cost(name, env):
    scores, log = recorded(name, env=env, n=30)
    p = analyse(log).parents
    np.testing.assert_allclose(p["shortfall_bps"], scores.cost[0], rtol=0, atol=1e-9)
    parts = sum(p[k] for k in ("delay_bps", "trading_bps", "cleanup_bps", "opportunity_bps", "fees_of_order_bps"))
    np.testing.assert_allclose(parts, p["shortfall_bps"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(p["fees_of_order_bps"], scores.parts["fee"][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(p["arrival_slippage_bps"], scores.measures["slippage_bps"][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(p["fill_rate_percent"], 100 * scores.measures["fill_rate"][0], rtol=1e-12)
    np.testing.assert_allclose(p["completion_percent"], 100 * scores.measures["completion"][0], rtol=1e-9)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_shortfalls_of_a_recording_too(side, tmp_path):
    path = write_recording(tmp_path / "quotes.parquet", duration_s=7200)
    market = load_market(str(path))
    market = market.model_copy(update={"order": market.order.model_copy(update={"side": side})})
    scores, log = recorded("pro_rata", market, n=20)
    np.testing.assert_allclose(analyse(log).parents["shortfall_bps"], scores.cost[0], rtol=0, atol=1e-9)


def test_effective_is_realised_plus_impact_in_total_and_at_every_venue():
    _, log = recorded("pro_rata", n=40)
    a = analyse(log)
    t, v = a.totals, a.venues
    assert t["effective_spread_bps"] == pytest.approx(t["realised_spread_bps"] + t["price_impact_bps"], abs=1e-9)
    np.testing.assert_allclose(
        v["effective_spread_bps"], v["realised_spread_bps"] + v["price_impact_bps"], rtol=0, atol=1e-9
    )


def test_totals_are_those_of_a_slow_reckoning():
    _, log = recorded("round_robin", n=15)
    t = analyse(log).totals
    effective: Any = 0.0
    quoted = filled = sent = reach = got = outside = effective
    latencies = []
    for i, s, j in np.ndindex(*log.sent_shares.shape):
        mid, q, f = 1 + log.mid_bps[i, s] / 1e4, log.sent_shares[i, s, j], log.filled_shares[i, s, j]
        sent, filled = sent + q, filled + f
        if q > 0 and log.open[i, s, j]:
            latencies.append(log.ack_ms[i, s, j])
        able = min(q, log.shown_shares[i, s, j])
        reach, got = reach + able, got + (f if able > 0 else 0)
        if f > 0:
            effective += f * 2e4 * (1 + log.price_bps[i, s, j] / 1e4 - mid) / mid
            quoted += f * (log.ask_bps[i, s] - log.bid_bps[i, s]) / (1 + (log.ask_bps[i, s] + log.bid_bps[i, s]) / 2e4)
            outside += log.outside_shares[i, s, j]
    assert t["effective_spread_bps"] == pytest.approx(effective / filled, rel=1e-9)
    assert t["e_over_q_percent"] == pytest.approx(100 * effective / quoted, rel=1e-9)
    assert t["fill_rate_percent"] == pytest.approx(100 * filled / sent, rel=1e-9)
    assert t["outside_percent"] == pytest.approx(100 * outside / filled, rel=1e-9) and outside > 0
    assert t["fade_percent"] == pytest.approx(100 * (1 - got / reach), rel=1e-9)
    assert t["latency_p99_ms"] == pytest.approx(np.quantile(latencies, 0.99), rel=1e-12)


def test_venues_add_up_to_the_total():
    _, log = recorded("pro_rata", n=20)
    a = analyse(log)
    weights = a.venues["executed_percent"] / 100
    assert a.venues["routed_percent"].sum() == pytest.approx(100) and weights.sum() == pytest.approx(1)
    for key in ("effective_spread_bps", "fees_mils", "trade_through_percent"):
        assert np.nansum(weights * a.venues[key]) == pytest.approx(a.totals[key], rel=1e-9), key


def test_every_total_is_a_measure_that_tables_know():
    _, log = recorded("pro_rata", n=4)
    assert set(analyse(log).totals) == set(MEASURES)


def test_states_hold_every_decision_once_and_shares_add_up():
    _, log = recorded("pro_rata", n=30)
    states = {cut.name: cut for cut in analyse(log).states}
    assert set(states) == {"spread", "latency", "urgency"}
    for cut in states.values():
        assert cut.decisions.sum() == (log.active & (log.wave == 0)).sum()
        np.testing.assert_allclose(cut.venue_shares.sum(axis=1), 1.0, rtol=1e-12)
    assert states["spread"].cost[-1] > states["spread"].cost[0]  # wide quotes cost more


def test_states_that_no_policy_changes_are_the_same_for_all():
    market = load_market("us_equity")  # in one wave: the next decision's observed latency is that of the last wave's
    market = market.model_copy(update={"order": market.order.model_copy(update={"waves": 1})})
    cuts = [{c.name: c for c in analyse(recorded(name, market, n=20)[1]).states} for name in ("pro_rata", "all_in")]
    for name in ("spread", "latency"):
        assert cuts[0][name].labels == cuts[1][name].labels
        np.testing.assert_array_equal(cuts[0][name].decisions, cuts[1][name].decisions)


def test_the_notebook_has_flow_and_cost_by_state_but_no_prices():
    _, log = recorded("all_in_sized", "notebook", n=20)
    a = analyse(log, priced=False, price_unit="notebook units")
    assert not a.totals and not a.parents and not a.rule_605
    assert {cut.name for cut in a.states} == {"spread", "latency"}
