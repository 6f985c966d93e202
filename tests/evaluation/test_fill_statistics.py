"""Statistics of fills on a log that was made by hand, and against the analysis of a recorded one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sor_sb3.evaluation.analysis import analyse
from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.fill_statistics import (
    FILL_STATISTICS,
    fill_statistics,
    markouts_by_venue,
    passive_statistics,
)
from tests.evaluation.test_analysis import hand_made


def test_a_log_worked_by_hand():
    log = replace(hand_made(), excused_shares=np.array([[[0.0, 5.0], [0.0, 0.0]]]))
    found = {key: interval.value for key, interval in fill_statistics(log).items()}
    assert set(found) == set(FILL_STATISTICS)
    # 100 at 2 and 20 at 3 above the midpoint, 120 at 5 - 4 = 1; the spread is 2 throughout
    assert found["effective_spread_bps"] == pytest.approx(2 * (200 + 60 + 120) / 240)
    assert found["e_over_q_percent"] == pytest.approx(100 * (200 + 60 + 120) / 240)
    assert (found["outside_percent"], found["at_or_inside_percent"]) == pytest.approx((50.0, 50.0))
    assert found["inside_percent"] == 0.0
    assert found["trade_through_before_percent"] == pytest.approx(100 * 20 / 240)
    assert found["trade_through_percent"] == pytest.approx(100 * 15 / 240)
    assert found["fill_rate_percent"] == pytest.approx(80.0)
    assert found["fade_percent"] == pytest.approx(100 * (1 - 240 / (80 + 50 + 150)))
    # five seconds on the midpoint is 2 higher: 2 of the first children, and 6 of the last, whose mid was 4
    assert found["price_impact_bps"] == pytest.approx(2 * 2.0)
    assert found["markout_5s_bps"] == pytest.approx((100 * (2 - 2) + 20 * (2 - 3) + 120 * (6 - 5)) / 240)
    assert found["realised_spread_bps"] == pytest.approx(found["effective_spread_bps"] - found["price_impact_bps"])
    assert found["identity_bps"] == pytest.approx(0.0, abs=1e-9)
    by_venue = markouts_by_venue(log, 5.0)
    assert by_venue["B"].value == pytest.approx(-1.0)
    assert by_venue["A"].value == pytest.approx((0 * 100 + 1 * 120) / 220)


def test_dark_children_count_in_the_volume_but_not_in_the_lit_fill_rate_or_fade():
    log = replace(hand_made(), dark=np.array([[False, True]]))
    found = {key: interval.value for key, interval in fill_statistics(log).items()}
    assert found["fill_rate_percent"] == pytest.approx(100 * 220 / 250)
    assert found["fade_percent"] == pytest.approx(100 * (1 - 220 / (80 + 150)))
    assert found["outside_percent"] == pytest.approx(50.0)


def test_fills_at_rest_worked_by_hand():
    log = hand_made()
    passive, price = np.zeros((1, 2, 2)), np.full((1, 2, 2), np.nan)
    passive[0, 0, 0], passive[0, 1, 1] = 30.0, 60.0
    price[0, 0, 0], price[0, 1, 1] = -1.0, 3.0
    ms = np.array([[[4000.0, 0.0], [0.0, 6000.0]]])
    found = passive_statistics(replace(log, passive_shares=passive, passive_price_bps=price, passive_ms=ms))
    assert found["passive_percent"].value == pytest.approx(100 * 90 / 300)
    # after 1 s the midpoints of 5 s and (for 17 s) of 15 s: 2 and 6; after 10 s those of 14 s (10 s) and 26 s, unknown
    assert found["passive_markout_1s_bps"].value == pytest.approx((30 * (2 + 1) + 60 * (6 - 3)) / 90)
    assert found["passive_markout_10s_bps"].value == pytest.approx(4 + 1)


def test_they_agree_with_the_analysis_and_have_intervals():
    scores = Evaluator("OrderSplit-v1", "us_equity", 30).score("p", "pro_rata", record=True)
    log, found = scores.children, fill_statistics(scores.children)
    assert isinstance(log, ChildLog)
    totals = analyse(log).totals
    for key in ("e_over_q_percent", "outside_percent", "effective_spread_bps"):
        assert found[key].value == pytest.approx(totals[key], rel=2e-4), key  # one is relative to the mid, not arrival
        assert found[key].low <= found[key].value <= found[key].high
    assert found["inside_percent"].value == pytest.approx(totals["improved_percent"], rel=1e-9)
    assert found["trade_through_before_percent"].value == pytest.approx(totals["trade_through_percent"], rel=1e-9)
    assert found["identity_bps"].value < 1e-9
