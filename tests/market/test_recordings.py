"""Tests of `sor_sb3.market.recordings`: what a recording becomes, how it is cut, and what a user is told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sor_sb3.errors import UserError
from sor_sb3.market import recordings
from sor_sb3.market.loading import load_market
from sor_sb3.market.recording_measures import DATA_SPLIT_ORDER
from sor_sb3.market.recordings import SPACING_FLOOR_BPS, recording_for, recording_lines
from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS, ReplayMarket
from tests.market.quote_fixtures import START_NS, write_quotes, write_recording, write_table

VENUES = ("ARCA", "NASDAQ", "NYSE")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with trades, and one of three pieces (silences of 400 s) without."""
    path = tmp_path_factory.mktemp("recordings")
    write_recording(path / "quotes.parquet", trades_path=path / "trades.parquet")
    pieces = []
    for start_s, length_s in ((0, 500), (900, 900), (2200, 450)):
        for t in range(start_s, start_s + length_s + 1, 10):
            pieces += [(t, "A", 99.9, 100.0, 100.1, 200.0), (t, "B", 99.8, 300.0, 100.2, 400.0)]
    write_quotes(path / "pieces.csv.gz", pieces)
    return path


def replay(market: Any) -> ReplayMarket:
    assert isinstance(market, ReplayMarket)
    return market


# ------------------------------------------------------------------------------------------------ defaults


def test_defaults_are_measured_on_the_training_part(tmp_path: Path) -> None:
    rows: list[tuple[float, str, float, float, float, float]] = []
    for t in range(0, 1001, 10):  # 600 s of training; sizes and spreads double afterwards
        late = 2.0 if t >= 600 else 1.0
        rows += [
            (t, "A", 100 - 0.02 * late, 500.0, 100 + 0.02 * late, 246.0 * late),
            (t, "B", 100 - 0.06 * late, 500.0, 100 + 0.06 * late, 246.0 * late),
        ]
    path = write_quotes(tmp_path / "one.parquet", rows)
    market = replay(load_market(path))
    assert market.name == "one"
    assert market.venue_names == ("A", "B")
    assert (market.order.horizon_steps, market.order.step_s, market.order.side) == (20, 5.0, "buy")
    assert market.order.quantity_shares == 2500.0  # 20 half displays of 246 are 2,460: two digits
    assert market.level_profile == (1.0,)  # nothing is known of what lies behind the touch
    assert [v.latency_ms for v in market.venues] == [1.0, 1.0]
    assert [v.take_fee_bps for v in market.venues] == [0.0, 0.0]
    assert market.price_scale_bps == pytest.approx(4.0)  # between 2 and 6 bps above the mid
    assert market.response.cleanup_penalty_bps == pytest.approx(2 * 8.0)
    assert market.response.reaction_time_ms == 5.0
    assert market.quotes_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not market.has_volume


def test_options_reach_the_market(folder: Path) -> None:
    market = replay(
        load_market(
            folder / "quotes.parquet",
            venues=["NYSE", "ARCA"],
            trades_file=folder / "trades.parquet",
            take_fee_bps={"NYSE": 0.3},
            latency_ms=2.5,
            quantity_shares=700,
            horizon_steps=4,
            step_s=2.0,
            side="sell",
            max_spread_bps=50.0,
            size_multiplier=None,
        )
    )
    assert market.venue_names == ("NYSE", "ARCA")
    assert [v.take_fee_bps for v in market.venues] == [0.3, 0.0]
    assert [v.latency_ms for v in market.venues] == [2.5, 2.5]
    assert (market.order.quantity_shares, market.order.horizon_steps, market.order.step_s) == (700, 4, 2.0)
    assert (market.order.side, market.max_spread_bps, market.size_multiplier) == ("sell", 50.0, 1.0)
    assert market.has_volume
    arrays = recording_for(market, "train")
    assert arrays.rows["last"][1] == arrays.rows["first"][0]  # ARCA's rows lie before NYSE's in the recording


def test_a_market_survives_being_written_and_read(folder: Path) -> None:
    market = replay(load_market(folder / "quotes.parquet"))
    again = ReplayMarket.model_validate(market.model_dump(mode="json"))
    assert again == market
    assert len(recording_for(again, "test").window_low_s) == 1


def test_a_recording_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings._cache.clear()
    reads = Mock(wraps=recordings.recorded)
    monkeypatch.setattr(recordings, "recorded", reads)
    market = replay(load_market(folder / "quotes.parquet"))
    arrays = [recording_for(market, split) for split in DATA_SPLIT_ORDER]
    recording_lines(market)
    assert reads.call_count == 1
    assert arrays[0].time_s is arrays[2].time_s


# ------------------------------------------------------------------------------------------------- cutting


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shares=st.tuples(*[st.floats(1.0, 3.0)] * 3),
    horizon=st.integers(1, 6),
    step_s=st.floats(0.1, 2.0),
    latency_ms=st.floats(0.0, 300.0),
    file=st.sampled_from([("quotes.parquet", "trades.parquet"), ("pieces.csv.gz", None)]),
)
def test_windows_lie_in_one_segment_and_one_split(
    folder: Path, shares: Any, horizon: int, step_s: float, latency_ms: float, file: Any
) -> None:
    market = replay(
        load_market(
            folder / file[0],
            trades_file=file[1] and folder / file[1],
            time_split=shares,
            horizon_steps=horizon,
            step_s=step_s,
            latency_ms=latency_ms,
        )
    )
    segments = recordings._recording_of(market).segments
    back_s = VOLUME_LOOKBACK_STEPS * step_s if market.has_volume else 0.0
    ahead_s = horizon * step_s + 1e-3 * latency_ms
    spans = []
    for split in DATA_SPLIT_ORDER:
        arrays = recording_for(market, split)
        low, lengths = arrays.window_low_s, np.diff(arrays.window_cumulative_s)
        assert len(low) == len(lengths) > 0
        assert (lengths > 0).all()
        first, last = low - back_s, low + lengths + ahead_s
        for a, b in zip(first, last, strict=True):
            assert np.any((segments[:, 0] <= a + 1e-9) & (b <= segments[:, 1] + 1e-9))
        spans.append((first.min(), last.max()))
    assert spans[0][1] <= spans[1][0] + 1e-9
    assert spans[1][1] <= spans[2][0] + 1e-9


def test_time_is_shared_out_as_asked(folder: Path) -> None:
    market = replay(load_market(folder / "pieces.csv.gz", horizon_steps=1, step_s=1.0, latency_ms=0.0))
    starts = {split: recording_for(market, split) for split in DATA_SPLIT_ORDER}
    # 500 + 900 + 450 s: training ends at 1,110 s of them, validation at 1,387.5 s
    assert starts["train"].window_low_s == pytest.approx([0, 900])
    assert np.diff(starts["train"].window_cumulative_s) == pytest.approx([499, 609])
    assert starts["validation"].window_low_s == pytest.approx([1510])
    assert np.diff(starts["validation"].window_cumulative_s) == pytest.approx([276.5])
    assert starts["test"].window_low_s == pytest.approx([1787.5, 2200])
    assert np.diff(starts["test"].window_cumulative_s) == pytest.approx([11.5, 449])


# ---------------------------------------------------------------------------------------------------- YAML


def write_yaml(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_yaml_fills_in_what_is_left_out(folder: Path) -> None:
    path = write_yaml(folder / "bare.yaml", "model: replay\nquotes_file: quotes.parquet\n")
    bare, direct = replay(load_market(path)), replay(load_market(folder / "quotes.parquet"))
    assert bare.name == "bare"
    assert bare.model_copy(update={"name": direct.name}) == direct


def test_what_yaml_says_wins(folder: Path) -> None:
    text = """
        model: replay
        name: mine
        quotes_file: quotes.parquet
        trades_file: trades.parquet
        venues: [NYSE, {name: ARCA, take_fee_bps: 0.3, toxicity: 0.1, latency_ms: 0.2}]
        level_profile: [1, 2]
        order: {quantity_shares: 123, step_s: 2}
        response: {permanent_impact_bps_per_1000_shares: 0.1, cleanup_penalty_bps: 7}
        price_scale_bps: 3
    """
    market = replay(load_market(write_yaml(folder / "full.yaml", text)))
    nyse, arca = market.venues
    assert (nyse.name, nyse.take_fee_bps, nyse.latency_ms) == ("NYSE", 0.0, 1.0)
    assert (arca.name, arca.take_fee_bps, arca.toxicity, arca.latency_ms) == ("ARCA", 0.3, 0.1, 0.2)
    assert market.level_profile == (1.0, 2.0)
    assert (market.order.quantity_shares, market.order.horizon_steps, market.order.step_s) == (123, 20, 2.0)
    assert (market.response.cleanup_penalty_bps, market.response.reaction_time_ms) == (7.0, 5.0)
    assert (market.price_scale_bps, market.has_volume) == (3.0, True)
    assert market.quotes_file == folder / "quotes.parquet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: replay", "field 'quotes_file' is missing"),
        ("{model: replay, quotes_file: none.parquet}", "none.parquet does not exist"),
        ("{model: replay, quotes_file: quotes.parquet, sped: 1}", "field 'sped' is unknown"),
        ("{model: replay, quotes_file: quotes.parquet, venues: 3}", "field 'venues' is 3"),
        ("{model: replay, quotes_file: quotes.parquet, order: 3}", "field 'order' is 3"),
        ("{model: replay, quotes_file: quotes.parquet, venues: [NYSE, NYSE]}", "two venues are named 'NYSE'"),
        ("{model: replay, quotes_file: quotes.parquet, venues: [LSE]}", "LSE"),
        ("{model: replay, quotes_file: quotes.parquet, order: {step_s: 0}}", "field 'order.step_s' is 0"),
        ("{model: replay, quotes_file: quotes.parquet, quotes_sha256: abc}", "quotes_sha256"),
    ],
)
def test_yaml_mistakes(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_market(write_yaml(folder / "wrong.yaml", text))
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"take_fee_bps": {"NYSE": 0.3, "NSYE": 0.1}}, "'NSYE'.*did you mean 'NYSE'"),
        ({"take_fee_bps": 0.3}, "expected bps by venue"),
        ({"take_fee_bps": {"NYSE": "dear"}}, "take_fee_bps' is 'dear'"),
        ({"latency": 3}, "field 'latency' is 3"),
        ({"latency_msec": 3}, "'latency_msec'.*did you mean 'latency_ms'"),
        ({"side": "both"}, "field 'order.side' is 'both'"),
        ({"quantity_shares": -1}, "field 'order.quantity_shares' is -1"),
        ({"session_utc": ("01:00", "02:00")}, "inside the session"),
        (
            {"horizon_steps": 200},
            "too short.*validation split at most 270.0 s.*than 1,000.0 s.*horizon_steps = 200",
        ),
        ({"latency_ms": 1e6}, "too short.*latency"),
    ],
)
def test_option_mistakes(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_market(folder / "quotes.parquet", **options)
    assert "\n" not in str(error.value)


def test_sizes_must_be_known_or_assumed(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", with_sizes=False)
    with pytest.raises(UserError, match="--assumed-depth"):
        load_market(path)
    market = replay(load_market(path, assumed_depth_shares=1000))
    assert market.order.quantity_shares == 10_000
    assert (recording_for(market, "train").ask_shares == 1000).all()


def test_a_changed_recording_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", seed=1)
    market = replay(load_market(path))
    write_recording(path, seed=2)
    with pytest.raises(UserError, match=r"is not the recording that market 'q' was made from"):
        recording_for(market, "test")
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        recording_for(market, "test")


def test_changed_trades_are_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", trades_path=tmp_path / "t.parquet")
    market = replay(load_market(path, trades_file=tmp_path / "t.parquet"))
    trades = {"ts": [START_NS + 10**9], "venue": ["NYSE"], "px": [100.0], "sz": [1.0]}
    write_table(tmp_path / "t.parquet", trades)
    with pytest.raises(UserError, match=r"t.parquet is not the recording"):
        recording_for(market, "train")


# -------------------------------------------------------------------------------------------------- telling


def test_lines_say_what_was_dropped_cut_and_assumed(folder: Path) -> None:
    path = write_recording(folder / "nosizes.parquet", with_sizes=False, duration_s=3600.0)
    market = replay(load_market(path, assumed_depth_shares=500, latency_ms=2.0, take_fee_bps={"NYSE": 0.3}))
    text = "\n".join(recording_lines(market))
    assert "rows read" in text
    assert "Split train: 2024-01-02T14:35:00Z to 2024-01-02T15:10:59Z, 0.60 hours; room for 21 orders" in text
    assert "Split test:" in text
    assert "Warning: only 8 orders fit into the test part" in text
    assert "Order: buy 5,000 shares in 20 steps of 5 s, 250 shares a step." in text
    assert "median latency 2 ms at every venue; take fees ARCA 0, NASDAQ 0, NYSE 0.3 bps" in text
    assert "a child fills at its venue's touch, up to the size that is shown there, and no further" in text
    assert "Assumed depth: 500 shares" in text
    assert "vwap is left out" in text


def test_lines_count_pieces_and_name_no_missing_trades(folder: Path) -> None:
    text = "\n".join(recording_lines(replay(load_market(folder / "pieces.csv.gz", step_s=1.0))))
    assert "0.31 hours in 2 pieces" in text
    market = replay(load_market(folder / "quotes.parquet", trades_file=folder / "trades.parquet"))
    assert "vwap" not in "\n".join(recording_lines(market))


# -------------------------------------------------------------------------------------------------- levels


def write_books(path: Path, n_levels: int = 3) -> Path:
    """Two venues around 100, levels 2 bps (asks) and 3 bps (bids) apart."""
    rows = [(float(t), venue) for t in range(0, 1001, 10) for venue in ("A", "B")]
    columns: dict[str, Any] = {
        "ts": [START_NS + round(t * 1e9) for t, _ in rows],
        "venue": [venue for _, venue in rows],
    }
    for level in range(n_levels):
        number = "" if level == 0 else f"_{level + 1}"
        columns |= {
            f"bid_px{number}": [99.95 - 0.03 * level] * len(rows),
            f"bid_sz{number}": [100.0 + level] * len(rows),
            f"ask_px{number}": [100.05 + 0.02 * level] * len(rows),
            f"ask_sz{number}": [200.0 + level] * len(rows),
        }
    return write_table(path, columns)


def test_all_recorded_levels_are_replayed(tmp_path: Path) -> None:
    path = write_books(tmp_path / "books.parquet")
    buy, sell = replay(load_market(path)), replay(load_market(path, side="sell"))
    assert buy.recorded_levels == sell.recorded_levels == 3
    assert (buy.level_spacing_bps, sell.level_spacing_bps) == pytest.approx((2.0, 3.0))
    bought, sold = recording_for(buy, "train"), recording_for(sell, "train")
    np.testing.assert_allclose(bought.level_px[0], [100.07, 100.09])
    np.testing.assert_allclose(sold.level_px[0], [-99.92, -99.89])
    np.testing.assert_allclose(bought.near_level_px[0], [99.92, 99.89])
    np.testing.assert_allclose(sold.near_level_px[0], [-100.07, -100.09])
    assert (bought.level_shares[0].tolist(), sold.level_shares[0].tolist()) == ([201, 202], [101, 102])
    assert (bought.near_level_shares[0].tolist(), sold.near_level_shares[0].tolist()) == ([101, 102], [201, 202])
    assert (sold.ask_px[0], sold.bid_px[0], sold.ask_shares[0]) == (-99.95, -100.05, 100)
    said = "\n".join(recording_lines(buy))
    assert "3 levels a side in all (children go there with --market-set order.limit=sweep)" in said
    assert "order.limit" not in "\n".join(recording_lines(replay(load_market(path, {"order.limit": "sweep"}))))
    one = replay(load_market(path, {"recorded_levels": 1}))
    assert recording_for(one, "test").level_px.shape[1] == recording_for(one, "test").near_level_px.shape[1] == 0
    assert ReplayMarket.model_validate(buy.model_dump(mode="json")) == buy


def test_stated_levels_are_a_tick_apart_unless_told(folder: Path) -> None:
    market = replay(load_market(folder / "quotes.parquet"))  # ticks of 0.01 at about 100
    assert market.level_spacing_bps == pytest.approx(1.0, rel=0.01)


def test_stated_depth_stands_in_place_of_recorded_levels(tmp_path: Path) -> None:
    path = write_books(tmp_path / "books.parquet")
    market = replay(load_market(path, {"level_profile": [1, 2]}))
    assert (market.recorded_levels, market.level_spacing_bps) == (1, SPACING_FLOOR_BPS)  # its one price says nothing
    market = replay(load_market(path, {"level_profile": [1, 2], "level_spacing_bps": 3}))
    assert "levels 3 bps apart of 2 times its size" in "\n".join(recording_lines(market))
    with pytest.raises(UserError, match="set recorded_levels to 1, or take out level_profile"):
        load_market(path, {"level_profile": [1, 2], "recorded_levels": 3})
    with pytest.raises(UserError, match=r"'recorded_levels' is 4, but .*books.parquet has 3 a side"):
        load_market(path, {"recorded_levels": 4})
