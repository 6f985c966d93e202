"""What recorded windows can show, and the words for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sor_sb3.errors import UserError
from sor_sb3.evaluation.statistics import Estimate, paired_difference
from sor_sb3.experiments.judge import in_order, judge_lines, judged, smallest_difference
from sor_sb3.market.loading import load_market
from sor_sb3.market.recordings import quotes_of
from tests.market.quote_fixtures import write_recording


def estimate(mean: float, error: float, df: float = 1e6) -> Estimate:
    return Estimate(mean, mean - 1.96 * error, mean + 1.96 * error, error, df, 0.5)


def test_the_smallest_difference_is_shown_as_often_as_said():
    rng = np.random.default_rng(0)
    noise, nothing = rng.standard_normal((600, 1, 40)), np.zeros((1, 40))
    true = smallest_difference(estimate(0.0, 1.0 / math.sqrt(40), 39.0))
    shown = [paired_difference(true + row, nothing).ci95_low > 0.0 for row in noise]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_few_windows_cannot_tell():
    assert judged(estimate(-0.1, 0.5), could_be_won=1.0, margin=0.01) == "cannot tell"
    assert judged(estimate(-0.1, 0.3), could_be_won=1.0, margin=0.01) == "no significant difference"
    assert judged(estimate(-1.5, 0.5), could_be_won=1.0, margin=0.01) == "better"
    assert judged(estimate(1.5, 0.5), could_be_won=1.0, margin=0.01) == "worse"
    assert judged(estimate(0.0, 0.001), could_be_won=1.0, margin=0.01) == "equivalent"
    assert smallest_difference(Estimate(0.0, -math.inf, math.inf, math.inf, 0.0, 1.0)) == math.inf


def test_lines_name_the_difference_that_would_show():
    row = {"policy": "ppo (calibrated)", "against": "best_price", "difference": -0.2, "ci95": [-0.5, 0.1]}
    row |= {"smallest_difference": 0.42, "verdict": "cannot tell"}
    data = {"scenarios": 200, "market": "xxx", "blocks": 12, "best_rule": "best_price", "could_be_won": 0.3}
    head, line = judge_lines(data | {"cost_unit": "bps", "rows": [row]})
    assert "12 blocks" in head and "0.300 bps above the oracle" in head
    power = "these windows would show 0.420 bps or more"
    assert line == f"ppo (calibrated) less best_price: -0.200 bps [-0.500, 0.100]; {power}: cannot tell"


def test_the_recordings_venues_may_stand_in_any_order(tmp_path):
    path = write_recording(tmp_path / "quotes.parquet", venues=("ARCA", "NASDAQ", "NYSE"))
    recording = load_market(path, {"venues.NYSE.take_fee_bps": 0.3})
    wanted = ("NYSE", "ARCA", "NASDAQ")
    found = in_order(recording, wanted)
    assert found.venue_names == wanted != recording.venue_names
    assert [venue.take_fee_bps for venue in found.venues] == [0.3, 0.0, 0.0]
    assert quotes_of(found) is quotes_of(recording)
    with pytest.raises(UserError, match="has the venues NYSE, BATS and --judge has ARCA, NASDAQ, NYSE"):
        in_order(recording, ("NYSE", "BATS"))
    with pytest.raises(UserError, match="is a synthetic market; expected recorded quotes"):
        in_order(load_market("us_equity"), wanted)
