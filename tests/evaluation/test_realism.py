"""The realism panel: what is inside, what the ranges say for themselves, and figures that follow from a market."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sor_sb3.errors import UserError
from sor_sb3.evaluation import realism
from sor_sb3.evaluation.path_statistics import Interval
from sor_sb3.evaluation.realism import (
    FIGURES,
    WIDE,
    Range,
    asset_class_of,
    market_figures,
    real_ranges,
    realism_panel,
    recorded_panel,
    supplied_per_s,
    verdict_of,
)
from sor_sb3.evaluation.true_quotes import recorded_quotes, simulated_quotes
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.market.quotes import load_quotes
from sor_sb3.market.spec import DarkPool
from sor_sb3.reports.realism import realism_table
from sor_sb3.simulator.views import Truth
from tests.evaluation.test_true_quotes import begun
from tests.market.quote_fixtures import write_recording

REAL = Range(1.0, 3.0, "a book")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((2.0, 1.9, 2.1), "inside"),
        ((0.9, 0.7, 1.1), "inside"),  # the interval overlaps
        ((0.9, 0.8, 0.99), "outside"),
        ((3.5, 3.01, 4.0), "outside"),
        ((2.0, 0.9, 3.0), "too wide"),
        ((2.0, -math.inf, math.inf), "too wide"),
        ((math.nan, math.nan, math.nan), ""),
    ],
)
def test_inside_only_if_the_interval_overlaps_and_is_narrower_than_the_range(found, verdict):
    assert verdict_of(Interval(*found), REAL) == verdict
    assert verdict_of(Interval(*found), None) == ""


def test_every_range_has_a_source_and_says_why_it_is_wide():
    for name, ranges in real_ranges().items():
        for key, real in ranges.items():
            assert key in FIGURES, f"{name}: {key}"
            assert real.low < real.high and real.source, f"{name}: {key}"
            if real.low <= 0.0 or real.high > WIDE * real.low * (1 + 1e-9):
                assert real.why, f"{name}: {key} is wide and does not say why"


def test_a_class_like_another_takes_over_its_ranges_but_those_that_it_states():
    ranges = real_ranges()
    half, whole = ranges["us_equity_half_tick"], ranges["us_equity"]
    assert half.keys() == whole.keys()
    assert {key for key in half if half[key] != whole[key]} == {"spread_bps"}


def test_every_synthetic_preset_has_a_class_and_no_market_has_two():
    listed = [name for of in realism._classes().values() for name in of["markets"]]
    assert len(listed) == len(set(listed))
    for name in preset_names():
        market = load_market(name)
        if market.model == "synthetic":
            assert asset_class_of(market) is not None, name


def test_a_class_is_chosen_or_known_by_the_markets_name():
    market = load_market("us_equity")
    assert asset_class_of(market) == "us_equity" and asset_class_of(market, "fx") == "fx"
    assert asset_class_of(market.model_copy(update={"name": "mine"})) is None
    with pytest.raises(UserError, match="asset class 'us_equty' is unknown"):
        asset_class_of(market, "us_equty")


def test_only_synthetic_markets_have_a_panel():
    with pytest.raises(UserError, match="notebook market; expected a synthetic one"):
        realism_panel("notebook", 2)


def test_the_order_as_a_share_of_the_markets_volume():
    market = load_market("us_equity")
    volume = market.volume.model_copy(update={"shares_per_day": 23_400_000.0, "day_s": 23_400.0})
    order = market.order.model_copy(update={"quantity_shares": 5000.0, "horizon_steps": 20, "step_s": 5.0})
    found = market_figures(market.model_copy(update={"volume": volume, "order": order}))
    assert found["participation_percent"].value == pytest.approx(5.0)  # 5,000 of 1,000 a second in 100 s


@pytest.mark.parametrize("zero", [0.0, 0.6, 0.9])
def test_what_a_dark_pool_is_supplied_with_is_what_the_simulator_supplies(zero):
    pool = DarkPool(zero_probability=zero, half_life_s=4.0, power_exponent=0.7, max_shares=500)
    market = load_market("dark")
    order = market.order.model_copy(update={"horizon_steps": 4000, "step_s": market.path_dt_s, "waves": 1})
    venues = tuple(v if v.dark is None else v.model_copy(update={"dark": pool}) for v in market.venues)
    simulator = begun(market.model_copy(update={"order": order, "venues": venues}), 16)
    nothing, truth, supplied = np.zeros((16, market.n_venues)), Truth(simulator), 0.0
    before, ticks = truth.dark_shares, 2000
    for _ in range(ticks):
        simulator.step(nothing, np.zeros(16))
        now = truth.dark_shares
        supplied += now[(now > 0.0) & (now != before)].sum()
        before = now
    pools = sum(venue.dark is not None for venue in market.venues)
    rate = supplied / (16 * ticks * market.path_dt_s * pools)
    # in ticks, a pool that turns twice within one is seen once: (1 - exp(-r dt)) / (r dt) of the rate
    turn = math.log(2.0) / 4.0 * market.path_dt_s
    assert rate == pytest.approx(supplied_per_s(pool) * -math.expm1(-turn) / turn, rel=0.05)


def test_a_panel_has_its_rows_with_verdicts_and_prints():
    panel = realism_panel("us_equity", 20, path_scenarios=3, path_duration_s=700.0)
    assert [row.key for row in panel.rows if not row.key.startswith("markout_1s_bps ")] == list(FIGURES)
    assert panel.asset_class == "us_equity" and panel.leader in load_market("us_equity").venue_names
    ranged = {row.key for row in panel.rows if row.real is not None}
    assert ranged == set(real_ranges()["us_equity"])
    assert all(row.verdict for row in panel.rows if row.real is not None)
    assert set(panel.outside()) == {row for row in panel.rows if row.verdict in ("outside", "too wide")}
    assert realism_table(panel).row_count == len(panel.rows)
    again = realism_panel("us_equity", 20, path_scenarios=3, path_duration_s=700.0)
    assert [row.found for row in again.rows] == [row.found for row in panel.rows] or any(
        math.isnan(row.found.value) for row in panel.rows
    )


def test_without_fills_or_a_class_a_panel_is_shorter_and_has_no_verdicts():
    market = load_market("us_equity").model_copy(update={"name": "mine"})
    panel = realism_panel(market, 0, path_scenarios=2, path_duration_s=700.0)
    assert panel.asset_class is None and not any(row.verdict for row in panel.rows)
    assert "e_over_q_percent" not in {row.key for row in panel.rows}


def test_a_recording_stands_in_the_same_table(tmp_path):
    recording = load_quotes(write_recording(tmp_path / "quotes.parquet", duration_s=7200))
    panel = recorded_panel(recorded_quotes(recording, block_s=900.0), "a recording", "us_equity")
    synthetic = realism_panel("us_equity", 0, path_scenarios=2, path_duration_s=700.0)
    keys = {row.key for row in panel.rows}
    assert keys <= {row.key for row in synthetic.rows} and "ask_unchanged" in keys
    assert realism_table(panel).row_count == len(panel.rows)


def test_locked_and_crossed_moments_are_looked_for_within_ticks():
    # With slow venues, news that lasts and a slow reaction, quotes cross inside ticks; at their ends they never do.
    market = load_market("us_equity")
    slow = tuple(v if v.dark else v.model_copy(update={"quote_delay_s": 5.0}) for v in market.venues)
    response = market.response.model_copy(update={"reaction_time_ms": 300.0})
    price = market.price.model_copy(update={"volatility_bps_per_sqrt_s": 3.0})
    market = market.model_copy(update={"venues": slow, "response": response, "price": price})
    paths = simulated_quotes(market, 4, duration_s=600.0)
    assert paths.crossed.mean() > 0.02
    gap = np.fmin.reduce(paths.ask_bps, axis=2) - np.fmax.reduce(paths.bid_bps, axis=2)
    assert (gap < -1e-9).mean() < 0.5 * paths.crossed.mean()
