"""The comparison with a recording, the file, and the verdicts."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from sor_sb3.calibration.comparison import ComparedRow, counts, verdict_of
from sor_sb3.calibration.intervals import Estimate
from sor_sb3.calibration.market_file import market_text, notes_of
from sor_sb3.calibration.moments import moments, resampled
from sor_sb3.calibration.observed import cut_segments
from sor_sb3.calibration.simulated import value_of, with_value
from sor_sb3.calibration.statistics import STATISTICS, statistics
from sor_sb3.evaluation.path_statistics import Interval
from sor_sb3.evaluation.true_quotes import QuotePaths
from sor_sb3.market.loading import parse_market

NAN = float("nan")


@pytest.fixture(scope="module")
def paths() -> QuotePaths:
    """Three venues about a random walk, on a grid of .5 bps, in 6 blocks of 400 s."""
    rng = np.random.default_rng(0)
    mid = np.cumsum(rng.standard_normal((6, 400, 1)), axis=1)
    half = np.array([1.0, 1.5, 2.0]) * np.exp(0.4 * rng.standard_normal((6, 400, 3)))
    ask, bid = np.ceil((mid + half) / 0.5) * 0.5, np.floor((mid - half) / 0.5) * 0.5
    shares = 100.0 * rng.integers(1, 9, ask.shape)
    ask[0, :50, 2] = bid[0, :50, 2] = np.nan
    shares[0, :50, 2] = 0.0
    nothing = np.zeros(ask.shape[:2], dtype=bool)
    return QuotePaths(1.0, ("A", "B.C", "D"), ask, bid, shares, nothing, nothing)


def test_a_segment_is_cut_where_the_share_of_the_time_is_up():
    first, rest = cut_segments(np.array([[5.0, 15.0], [100.0, 110.0]]), 0.25)
    assert first.tolist() == [[5.0, 10.0]]
    assert rest.tolist() == [[10.0, 15.0], [100.0, 110.0]]
    assert len(cut_segments(np.array([[0.0, 10.0]]), 1.0)[1]) == 0


def test_there_are_more_than_twenty_statistics_and_each_has_an_interval(paths):
    found = statistics(paths)
    assert set(found) == set(STATISTICS)
    assert sum(math.isfinite(x.value) and x.low <= x.value <= x.high for x in found.values()) > 20
    assert found["excess_q90"].value > found["excess_q50"].value > 0.0
    assert abs(found["spread_between_venues"].value) < 0.2


def test_a_statistic_of_known_value(paths):
    over = np.fmin.reduce(paths.ask_bps, axis=2)[..., None]
    by_venue = np.nanmean(paths.ask_bps - over, axis=(0, 1))
    assert statistics(paths)["over_best_fixed_bps"].value == pytest.approx(by_venue.min())
    spread = np.log(paths.ask_bps - paths.bid_bps)
    sd = math.sqrt(np.mean([np.nanvar(spread[..., k]) for k in range(3)]))
    assert statistics(paths)["spread_log_sd"].value == pytest.approx(sd)


def test_moments_do_not_depend_on_the_order_of_blocks(paths):
    there, back = moments(paths), moments(resampled(paths, np.arange(6)[::-1]))
    assert there == pytest.approx(back)
    assert {"at best A", "at best B.C", "log spread D", "stale choice", "best ask unchanged"} <= set(there)


def test_a_row_without_a_narrow_recording_is_uninformative():
    narrow, wide = Interval(1.0, 0.6, 1.4), Interval(1.0, 0.4, 1.6)
    assert verdict_of(narrow, Interval(1.7, 1.3, 2.1)) == "meet"
    assert verdict_of(narrow, Interval(2.0, 1.3, 2.7)) == "too wide"
    assert verdict_of(narrow, Interval(2.0, 1.5, 2.5)) == "apart"
    assert verdict_of(wide, Interval(2.0, 1.7, 2.3)) == "uninformative"
    assert verdict_of(Interval(0.0, -0.1, 0.1), narrow) == "uninformative"
    assert verdict_of(Interval(1.0, -math.inf, math.inf), narrow) == "uninformative"
    assert verdict_of(Interval(NAN, NAN, NAN), narrow) == verdict_of(narrow, Interval(NAN, NAN, NAN)) == ""
    assert counts(()) == {"meet": 0, "apart": 0, "too wide": 0, "uninformative": 0}


def test_the_part_fitted_to_has_a_verdict_of_its_own():
    narrow = Interval(1.0, 0.6, 1.4)
    row = ComparedRow("x", STATISTICS["alone_at_best"], narrow, narrow, Interval(2.0, 1.8, 2.2), "meet")
    assert row.first_verdict == "apart" and row.verdict == "meet"


def test_venues_may_have_dots_in_their_names():
    data = {"venues": [{"name": "B.C"}, {"name": "A"}], "price": {}}
    with_value(data, "venues.B.C.offset_bps", 2.0)
    with_value(data, "price.drift_sd_bps_per_s", 0.5)
    with_value(data, "stress.duration_s", 60.0)
    assert data["venues"][0]["offset_bps"] == value_of(data, "venues.B.C.offset_bps") == 2.0
    assert value_of(data, "stress.duration_s") == 60.0


def test_the_file_says_what_stands_behind_each_number():
    venues = [
        {"name": f'{name}"', "offset_bps": 1.25, "size_shares": 300.0, "take_fee_bps": 0.3, "latency_ms": 0.2}
        for name in "AB"
    ]
    data = {
        "name": "mine",
        "model": "synthetic",
        "order": {"quantity_shares": 100.0, "horizon_steps": 4, "step_s": 5.0},
        "order_protection": True,
        "venues": venues,
        "quotes": {"tick_bps": 0.5, "size_fast_sd": 0.7},
    }
    estimates = {"quotes.size_fast_sd": Estimate("quotes.size_fast_sd", 0.7, 0.61234, 0.8, "latent")}
    notes = notes_of(data, estimates, {"venues.*.latency_ms": 0.2}, {"quotes.tick_bps"})
    text = market_text(data, notes, ["calibrated"])
    assert re.search(r"size_fast_sd: 0.7 +# 0.612 to 0.8; latent", text)
    assert text.count("# given") == 2
    assert text.count("# measured") == 1
    assert text.count("# assumed") == 7  # protection; offset, size and fee of two venues
    data["response"] = {"permanent_impact_bps_per_1000_shares": 1.5}
    long = market_text(data, {"response.permanent_impact_bps_per_1000_shares": "assumed"}, [])
    assert parse_market(long, "mine.yaml", None).response.permanent_impact_bps_per_1000_shares == 1.5
    market = parse_market(text, "mine.yaml", None)
    assert market.venue_names == ('A"', 'B"')
    assert market.order_protection and market.quotes.size_fast_sd == 0.7 and market.order.horizon_steps == 4
