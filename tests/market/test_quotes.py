"""Tests of `sor_sb3.market.quotes`: what is kept, what is dropped, and what a user is told."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sor_sb3.market.quotes import QuoteFileError, QuoteRecording, load_quotes
from tests.market.quote_fixtures import SECOND_NS, START_NS, write_quotes, write_recording, write_table

ARRAYS = ("first", "time_s", "bid_px", "bid_size", "ask_px", "ask_size", "mid_time_s", "mid_px", "segments")
HEADER = "ts,venue,bid_px,bid_sz,ask_px,ask_sz\n"
NAN = float("nan")


def rows_of(recording: QuoteRecording, venue: str) -> slice:
    k = recording.venues.index(venue)
    return slice(int(recording.first[k]), int(recording.first[k + 1]))


def quote_at(recording: QuoteRecording, venue: str, time_s: float) -> tuple[float, float, float, float]:
    rows = rows_of(recording, venue)
    at = int(np.searchsorted(recording.time_s[rows], time_s, side="right")) - 1
    if at < 0:
        return NAN, 0.0, NAN, 0.0
    arrays = (recording.bid_px, recording.bid_size, recording.ask_px, recording.ask_size)
    bid_px, bid_size, ask_px, ask_size = (float(array[rows][at]) for array in arrays)
    return bid_px, bid_size, ask_px, ask_size


def mid_at(recording: QuoteRecording, time_s: float) -> float:
    return float(recording.mid_px[np.searchsorted(recording.mid_time_s, time_s, side="right") - 1])


def write_csv(path: Path, body: str, header: str = HEADER) -> Path:
    path.write_text(header + body)
    return path


def line(time_s: float = 0.0, venue: str = "A", quote: str = "99,100,101,100") -> str:
    return f"{START_NS + round(time_s * SECOND_NS)},{venue},{quote}\n"


def good_columns(n: int = 4) -> dict[str, Any]:
    ts = START_NS + np.arange(n) * SECOND_NS
    return {
        "ts": ts,
        "venue": ["A", "B"] * (n // 2),
        "bid_px": np.full(n, 99.0),
        "bid_sz": np.full(n, 100.0),
        "ask_px": np.full(n, 101.0),
        "ask_sz": np.full(n, 200.0),
    }


# ---------------------------------------------------------------------------------------------- what is kept


def test_arrays_of_a_small_recording(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [
            (0, "B", 99, 1, 101, 2),
            (0.5, "A", 100, 3, 102, 4),
            (2, "B", 98, 5, 101, 6),
            (3, "A", 99, 1, 102, 1),
        ],
    )
    recording = load_quotes(path)
    assert recording.venues == ("A", "B")
    assert recording.origin_ns == START_NS
    np.testing.assert_array_equal(recording.first, [0, 2, 4])
    np.testing.assert_array_equal(recording.time_s, [0.5, 3.0, 0.0, 2.0])
    np.testing.assert_array_equal(recording.bid_px, [100, 99, 99, 98])
    np.testing.assert_array_equal(recording.bid_size, [3, 1, 1, 5])
    np.testing.assert_array_equal(recording.ask_px, [102, 102, 101, 101])
    np.testing.assert_array_equal(recording.ask_size, [4, 1, 2, 6])
    # Nothing changes at 2 s: the best bid is A's 100 before and after.
    np.testing.assert_array_equal(recording.mid_time_s, [0.0, 0.5, 3.0])
    np.testing.assert_array_equal(recording.mid_px, [100.0, 100.5, 100.0])
    np.testing.assert_array_equal(recording.segments, [[0.0, 3.0]])
    assert recording.trade_first is None and recording.trade_time_s is None
    assert recording.trade_cumulative_size is None
    assert recording.first.dtype == np.int64
    assert all(getattr(recording, name).flags.c_contiguous for name in ARRAYS)
    assert all(getattr(recording, name).dtype == np.float64 for name in ARRAYS[1:])


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_csv_gives_the_same_as_parquet(tmp_path: Path, suffix: str) -> None:
    expected = load_quotes(write_recording(tmp_path / "q.parquet"))
    recording = load_quotes(write_recording(tmp_path / f"q.{suffix}"))
    assert recording.venues == expected.venues and recording.origin_ns == expected.origin_ns
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(recording, name), getattr(expected, name))


def _timestamp_forms() -> list[Any]:
    times = [dt.datetime(2024, 1, 2, 14, 35, s, 250_000 * (s % 4)) for s in range(4)]
    ns = [START_NS + s * SECOND_NS + 250_000_000 * (s % 4) for s in range(4)]
    forms: dict[str, Any] = {
        "int64": ns,
        "integer text": [str(value) for value in ns],
        "us with zone": pa.array(times, pa.timestamp("us", "UTC")),
        "ns in New York": pa.array(times, pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns", "America/New_York")),
        "ISO with a space": [value.isoformat(" ") + "Z" for value in times],
        "ISO Z": [value.isoformat() + "Z" for value in times],
        "ISO offset": [(value + dt.timedelta(hours=2)).isoformat() + "+02:00" for value in times],
    }
    return [pytest.param(value, id=name) for name, value in forms.items()]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("ts", _timestamp_forms())
def test_forms_of_time(tmp_path: Path, ts: Any, suffix: str) -> None:
    if suffix == "csv" and isinstance(ts, pa.Array) and ts.type.tz == "America/New_York":
        ts = ts.cast(pa.timestamp("ns", "UTC"))  # how a CSV would hold it
    recording = load_quotes(write_table(tmp_path / f"q.{suffix}", good_columns() | {"ts": ts}))
    assert recording.origin_ns == START_NS
    np.testing.assert_allclose(recording.time_s, [0.0, 2.5, 1.25, 3.75], atol=1e-12)


@pytest.mark.parametrize(
    "venue",
    [
        pa.array(["A", "B", "A", "B"]).dictionary_encode(),
        pa.array(["A", "B ", " A", "B"], pa.large_string()),
    ],
)
def test_forms_of_venue_and_numbers(tmp_path: Path, venue: Any) -> None:
    columns = good_columns() | {
        "venue": venue,
        "bid_px": pa.array([99, 99, 99, 99], pa.int32()),
        "ask_px": pa.array(["101", " 101.0", "101", "1.01e2"]),
    }
    recording = load_quotes(write_table(tmp_path / "q.parquet", columns))
    assert recording.venues == ("A", "B")
    np.testing.assert_array_equal(recording.ask_px, [101.0] * 4)


def test_csv_with_bom_spaces_more_columns_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    text = "venue, ts ,bid_px,bid_sz,ask_px,ask_sz,note,note\r\n"
    for second in range(2):
        text += f"A,{START_NS + second * SECOND_NS},99,100,101,100,x,é\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    recording = load_quotes(path)
    np.testing.assert_array_equal(recording.time_s, [0.0, 1.0])


def test_unsorted_rows_are_sorted_and_the_last_of_equal_stamps_counts(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(5, "A", 97, 1, 103, 1), (0, "A", 99, 1, 101, 1), (5, "A", 98, 2, 102, 2), (5, "B", 90, 1, 110, 1)],
    )
    recording = load_quotes(path, max_spread_bps=5000)
    np.testing.assert_array_equal(recording.time_s, [0.0, 5.0, 5.0])
    assert quote_at(recording, "A", 5.0) == (98.0, 2.0, 102.0, 2.0)
    assert (recording.report.duplicates, recording.report.out_of_order) == (1, 1)
    text = "\n".join(recording.report.lines())
    assert "same time stamp" in text and "sorted by time" in text


def test_requested_venues_and_unnamed_ones(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "q.csv",
        line(0, "A") + line(0, "B") + line(0, "C") + line(1, "C") + line(1, "") + line(1, "A"),
    )
    recording = load_quotes(path, venues=["C", "A", "A"])
    assert recording.venues == ("A", "C")
    report = recording.report
    assert (report.rows_read, report.not_requested, report.unknown_venue, report.rows_kept) == (6, 1, 1, 4)
    assert load_quotes(path, venues="A").venues == ("A",)


def test_a_single_venue_is_allowed_with_a_warning(tmp_path: Path) -> None:
    recording = load_quotes(write_recording(tmp_path / "q.parquet", venues=("NYSE",)))
    assert recording.venues == ("NYSE",)
    assert any("only venue" in warning for warning in recording.report.warnings())


# ------------------------------------------------------------------------------------------ what is no quote


@pytest.mark.parametrize(
    ("quote", "counter"),
    [
        ((0, 1, -101, 1), "no_price"),
        ((NAN, 1, float("inf"), 1), "no_price"),
        ((0.01, 1, 199_999.99, 1), "absurd_spread"),
        ((101, 1, 100.99, 1), "self_crossed"),
        ((99, 0, 101, -5), "no_size"),
        ((99, 1, 101, NAN), "no_size"),
        ((99, float("inf"), 101, 0), "no_size"),
        ((0, 0, 103.6, 1), "far_lone"),
    ],
)
def test_an_unusable_row_ends_the_quote_before_it(
    tmp_path: Path, quote: tuple[float, float, float, float], counter: str
) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(0, "A", 99, 1, 101, 1), (0, "B", 98, 1, 102, 1), (1, "A", *quote), (2, "A", 99, 1, 101, 1)],
    )
    recording = load_quotes(path)
    assert quote_at(recording, "A", 0.9) == (99.0, 1.0, 101.0, 1.0)
    np.testing.assert_array_equal(quote_at(recording, "A", 1.5), (NAN, 0.0, NAN, 0.0))
    assert quote_at(recording, "A", 2.0) == (99.0, 1.0, 101.0, 1.0)
    assert mid_at(recording, 1.5) == 100.0
    report = recording.report
    assert getattr(report, counter) == report.not_quoting == 1
    assert (report.rows_kept, report.rows_live) == (4, 3)
    assert report.venues[0].live_share == pytest.approx(0.5)
    assert any("'not quoting'" in text for text in report.lines())


@pytest.mark.parametrize(
    ("quote", "side", "counter"),
    [
        ((0, 1, 101, 1), "ask", "only_asks"),
        ((NAN, NAN, 101, 1), "ask", "only_asks"),
        ((99, 0, 101, 1), "ask", "only_asks"),
        ((99, 1, -101, 1), "bid", "only_bids"),
        ((99, 1, float("inf"), 1), "bid", "only_bids"),
        ((99, 1, 101, -5), "bid", "only_bids"),
    ],
)
def test_a_venue_with_one_side_quotes_that_side(
    tmp_path: Path, quote: tuple[float, float, float, float], side: str, counter: str
) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(0, "A", 99, 1, 101, 1), (0, "B", 98, 1, 102, 1), (1, "A", *quote), (2, "A", 99, 1, 101, 1)],
    )
    recording = load_quotes(path)
    expected = (NAN, 0.0, 101.0, 1.0) if side == "ask" else (99.0, 1.0, NAN, 0.0)
    np.testing.assert_array_equal(quote_at(recording, "A", 1.5), expected)
    assert mid_at(recording, 1.5) == (99.5 if side == "ask" else 100.5)  # the other side is B's
    assert (getattr(recording.report, counter), recording.report.not_quoting) == (1, 0)
    assert recording.report.venues[0].live_share == 1.0


def test_a_venue_of_asks_alone_is_kept_where_the_others_have_a_mid(tmp_path: Path) -> None:
    rows: list[tuple[float, str, float, float, float, float]]
    rows = [(float(t), "B", 98, 1, 102, 1 + t % 2) for t in range(10)]
    rows += [(float(t), "A", NAN, NAN, 101, 1) for t in range(10)]
    recording = load_quotes(write_quotes(tmp_path / "q.parquet", rows))
    assert recording.venues == ("A", "B")
    assert recording.report.venues[0].best_ask_share == 1.0
    assert "never both sides at once" in "\n".join(recording.report.lines())
    only = write_quotes(tmp_path / "only.parquet", [row for row in rows if row[1] == "A"])
    with pytest.raises(QuoteFileError, match="10 of one side, with no market of two sides near"):
        load_quotes(only)


def test_a_quote_locked_in_itself_is_used_and_counted(tmp_path: Path) -> None:
    path = write_quotes(tmp_path / "q.parquet", [(0, "A", 100, 1, 100, 1), (1, "A", 99, 1, 101, 1)])
    recording = load_quotes(path)
    assert quote_at(recording, "A", 0.5) == (100.0, 1.0, 100.0, 1.0)
    assert (recording.report.self_locked, recording.report.not_quoting) == (1, 0)
    assert recording.report.locked_share == 1.0


def test_max_spread_bps_is_relative_to_the_mid(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(0, "A", 99, 1, 101, 1), (1, "A", 98.9, 1, 101.1, 1), (2, "A", 99, 1, 101, 1)],
    )
    assert load_quotes(path, max_spread_bps=201).report.absurd_spread == 1
    assert load_quotes(path, max_spread_bps=221).report.absurd_spread == 0


def test_a_venue_without_a_usable_quote_is_dropped_and_explained(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(0, "A", 0, 1, 0, 1), (0, "B", 99, 1, 101, 1), (1, "B", 99, 1, 101, 1), (1, "C", 101, 1, 99, 1)],
    )
    recording = load_quotes(path)
    assert recording.venues == ("B",)
    assert recording.report.dropped_venues == (
        ("A", "of 1 rows 1 without a price"),
        ("C", "of 1 rows 1 with the bid above the ask"),
    )
    assert (recording.report.of_dropped_venues, recording.report.not_quoting) == (2, 0)


# ------------------------------------------------------------------------------------------------------ sizes


def test_missing_sizes_are_filled_with_the_assumed_depth(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.csv", with_sizes=False, duration_s=60.0)
    recording = load_quotes(path, assumed_depth_shares=300.0, size_multiplier=100.0)
    assert np.all(recording.bid_size == 300.0) and np.all(recording.ask_size == 300.0)
    assert recording.report.sizes_filled == 2 * len(recording.time_s)


def test_partly_missing_sizes(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [
            (0, "A", 99, NAN, 101, 2),
            (1, "A", 99, 3, 101, 4),
            (2, "A", 99, 0, 101, NAN),
            (3, "A", 99, 3, 101, 4),
        ],
    )
    filled = load_quotes(path, assumed_depth_shares=500.0, size_multiplier=100.0)
    assert quote_at(filled, "A", 0.0) == (99.0, 500.0, 101.0, 200.0)
    assert quote_at(filled, "A", 1.0) == (99.0, 300.0, 101.0, 400.0)
    assert filled.report.only_asks == 1  # a size of 0 is not a missing one
    unfilled = load_quotes(path)
    assert (unfilled.report.no_size, unfilled.report.sizes_missing, unfilled.report.sizes_filled) == (2, 2, 0)
    assert any("--assumed-depth" in text for text in unfilled.report.lines())


# ------------------------------------------------------------------------------------- segments and sessions


def two_days(path: Path) -> Path:
    day = 86_400.0
    return write_quotes(
        path,
        [
            (-600, "A", 99, 1, 101, 1),  # 14:25
            (0, "A", 99, 2, 101, 1),  # 14:35
            (30, "B", 98, 1, 102, 1),
            (60, "A", 97, 1, 103, 1),
            (day, "B", 109, 1, 111, 1),
            (day + 20, "A", 108, 1, 112, 1),
            (day + 50, "B", 107, 1, 113, 1),
        ],
    )


def test_session_hours_split_days(tmp_path: Path) -> None:
    recording = load_quotes(
        two_days(tmp_path / "q.parquet"), session=("14:35", "14:36:01"), max_gap_s=1e9, max_spread_bps=700
    )
    np.testing.assert_array_equal(recording.segments, [[0.0, 60.0], [86_400.0, 86_450.0]])
    assert (recording.report.sessions, recording.report.gaps, recording.report.out_of_session) == (2, 0, 1)
    assert recording.report.longest_silence_s == 30.0


def test_a_gap_splits_and_ends_old_quotes(tmp_path: Path) -> None:
    recording = load_quotes(two_days(tmp_path / "q.parquet"), max_gap_s=120.0, max_spread_bps=700)
    assert recording.report.sessions == 1 and recording.report.gaps == 2
    # The lone quote at 14:25 makes no segment.
    np.testing.assert_array_equal(recording.segments, [[600.0, 660.0], [87_000.0, 87_050.0]])
    # A's quote of the first day is not there on the second until A quotes again; B renews at its start.
    np.testing.assert_array_equal(quote_at(recording, "A", 87_000.0), (NAN, 0.0, NAN, 0.0))
    assert quote_at(recording, "A", 87_020.0)[0] == 108.0
    assert quote_at(recording, "B", 87_000.0)[0] == 109.0
    assert mid_at(recording, 87_000.0) == 110.0
    assert recording.report.resets == 1
    assert recording.report.crossed_share == 0.0
    for k in range(2):
        assert np.all(np.diff(recording.time_s[recording.first[k] : recording.first[k + 1]]) > 0)


def test_an_old_quote_is_ended_once_over_several_gaps(tmp_path: Path) -> None:
    rows = [(1000.0 * i + j, "B", 99, 1 + j, 101, 1) for i in range(4) for j in range(2)]
    rows += [(1000.0, "A", 99, 1, 101, 1)]  # renewed at the second start, stale at the third
    recording = load_quotes(write_quotes(tmp_path / "q.parquet", rows), max_gap_s=100.0)
    assert len(recording.segments) == 4
    np.testing.assert_array_equal(recording.time_s[rows_of(recording, "A")], [1000.0, 2000.0])
    np.testing.assert_array_equal(np.isnan(recording.bid_px[rows_of(recording, "A")]), [False, True])


def test_updates_without_a_usable_quote_do_not_bridge_a_gap(tmp_path: Path) -> None:
    rows = [
        (0, "A", 99, 1, 101, 1),
        (10, "A", 99, 1, 101, 1),
        (1000, "A", 99, 1, 101, 1),
        (1010, "A", 99, 1, 101, 1),
    ]
    rows += [(t, "A", 0, 0, 0, 0) for t in range(20, 1000, 20)]
    recording = load_quotes(write_quotes(tmp_path / "q.parquet", rows), max_gap_s=100.0)
    np.testing.assert_array_equal(recording.segments, [[0.0, 10.0], [1000.0, 1010.0]])


@pytest.mark.parametrize(
    ("session", "kept"),
    [
        (("00:00", "24:00"), 4),
        (("23:00", "01:00"), 2),  # over midnight
        (("14:35", "14:35:01"), 1),
        (("9:00", "23:30:00"), 2),
    ],
)
def test_session_forms(tmp_path: Path, session: tuple[str, str], kept: int) -> None:
    # 14:35:00, 15:35, 23:50, 00:10
    rows = [(t, "A", 99, 1, 101, 1) for t in (0, 3600, 33_300, 34_500)]
    path = write_quotes(tmp_path / "q.parquet", rows)
    if kept == 1:
        with pytest.raises(QuoteFileError, match="nothing to replay"):
            load_quotes(path, session=session, max_gap_s=1e6)
        return
    recording = load_quotes(path, session=session, max_gap_s=1e6)
    assert len(recording.time_s) - recording.report.resets == kept


# -------------------------------------------------------------------------------------- consolidated market


def test_crossed_and_locked_moments(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [
            (0, "A", 100, 1, 101, 1),
            (0, "B", 99, 1, 102, 1),
            (2, "B", 101, 1, 103, 1),  # locks with A
            (3, "B", 101.5, 1, 103, 1),  # crosses A
            (5, "A", 100, 2, 101, 2),  # still crossed: the same moment
            (6, "B", 100, 1, 103, 1),
            (9, "B", 101.5, 1, 103, 1),
            (10, "A", 101, 1, 103, 1),
        ],
    )
    report = load_quotes(path).report
    assert (report.locked_moments, report.crossed_moments) == (1, 2)
    assert report.locked_share == pytest.approx(0.1)
    assert report.crossed_share == pytest.approx(0.4)
    assert mid_at(load_quotes(path), 4.0) == (101.5 + 101.0) / 2
    assert any("crossed 40.0%" in warning for warning in report.warnings())


def test_the_mid_is_carried_where_no_venue_is_live(tmp_path: Path) -> None:
    path = write_quotes(
        tmp_path / "q.parquet",
        [(-5, "A", 0, 0, 0, 0), (0, "A", 99, 1, 101, 1), (4, "A", 0, 0, 0, 0), (8, "A", 100, 1, 102, 1)],
    )
    recording = load_quotes(path)
    np.testing.assert_array_equal(recording.mid_time_s, [0.0, 8.0])
    np.testing.assert_array_equal(recording.mid_px, [100.0, 101.0])
    assert recording.time_s[0] == -5.0  # before the first usable quote
    np.testing.assert_array_equal(recording.segments, [[0.0, 8.0]])
    assert recording.report.no_live_share == pytest.approx(0.5)


def naive(rows: list[tuple[float, str, float, float, float, float]], names: list[str]) -> Callable[[float], Any]:
    """Plain-Python best bid, best ask at a time; the quote of a venue is its last row."""

    def at(time_s: float) -> tuple[float, float]:
        quotes = {}
        for when, name, bid, bid_sz, ask, ask_sz in sorted(rows, key=lambda row: row[0]):
            if when <= time_s:
                spread_bps = (ask - bid) / (0.5 * (ask + bid)) * 1e4 if ask + bid > 0 else NAN
                live = bid > 0 and ask >= bid and bid_sz > 0 and ask_sz > 0 and spread_bps <= 1000
                lone = (bid > 0 and bid_sz > 0) != (ask > 0 and ask_sz > 0)
                if lone:
                    quotes[name] = (bid, NAN) if bid > 0 and bid_sz > 0 else (NAN, ask)
                else:
                    quotes[name] = (bid, ask) if live else (NAN, NAN)
        sides = np.array([quotes.get(name, (NAN, NAN)) for name in names])
        bids, asks = (side[~np.isnan(side)] for side in sides.T)
        return (bids.max() if bids.size else NAN), (asks.min() if asks.size else NAN)

    return at


@pytest.mark.parametrize("seed", range(5))
def test_against_a_plain_python_replay(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(-1.0, venue, 100.0, 1.0, 101.0, 1.0) for venue in "ABC"]
    for _ in range(117):
        bid = rng.choice([0.0, 98.5, 99.0, 100.0, 101.0])
        ask = rng.choice([0.0, 100.0, 101.0, 102.0, 103.0])
        size = rng.choice([0.0, 1.0, 2.0], p=[0.1, 0.5, 0.4])
        rows.append((float(rng.integers(0, 60)), str(rng.choice(["A", "B", "C"])), bid, size, ask, 1.0))
    recording = load_quotes(write_quotes(tmp_path / "q.parquet", rows), max_spread_bps=1000)
    report = recording.report
    assert report.rows_read == 120 == report.duplicates + report.rows_kept
    why = ("no_price", "self_crossed", "absurd_spread", "no_size", "far", "halted", "far_lone")
    assert report.not_quoting == sum(getattr(report, name) for name in why)
    assert report.far_lone == 0
    origin = (recording.origin_ns - START_NS) / SECOND_NS
    best = naive(rows, ["A", "B", "C"])
    start, end = recording.segments[0]
    seconds = np.arange(start, end)
    quotes = [best(origin + second) for second in seconds]
    mid = NAN
    for second, (bid, ask) in zip(seconds, quotes, strict=True):
        mid = mid if np.isnan(bid + ask) else 0.5 * (bid + ask)
        assert mid_at(recording, second) == mid
        for side, best_of_side in ((0, bid), (2, ask)):
            prices = [quote_at(recording, name, second)[side] for name in recording.venues]
            assert np.isnan(best_of_side) == bool(np.all(np.isnan(prices)))
    assert report.crossed_share == pytest.approx(np.mean([bid > ask for bid, ask in quotes]))
    assert report.locked_share == pytest.approx(np.mean([bid == ask for bid, ask in quotes]))
    assert report.no_live_share == pytest.approx(np.mean([np.isnan(bid + ask) for bid, ask in quotes]))


def test_warns_of_stub_and_stale_venues(tmp_path: Path) -> None:
    rows = [(float(t), "A", 99.99, 1, 100.01, 1 + t % 2) for t in range(300)]
    rows += [(0.0, "STALE", 99.99, 1, 100.01, 1), (299.0, "STALE", 99.99, 1, 100.01, 2)]
    rows += [(float(t), "STUB", 98.0, 1, 102.0, 1 + t % 2) for t in range(0, 300, 5)]
    warnings = load_quotes(write_quotes(tmp_path / "q.parquet", rows)).report.warnings()
    assert [("STUB" in text, "STALE" in text) for text in warnings] == [(False, True), (True, False)]


# ----------------------------------------------------------------------------------------------------- trades


@pytest.mark.parametrize(("px", "sz"), [("px", "sz"), ("price", "size")])
def test_trades_are_cumulative_per_venue(tmp_path: Path, px: str, sz: str) -> None:
    quotes = write_quotes(tmp_path / "q.parquet", [(t, v, 99, 1, 101, 1) for t in (0, 10) for v in "ABC"])
    trades = write_table(
        tmp_path / "t.csv",
        {
            "ts": [START_NS + round(t * SECOND_NS) for t in (3, 1, 3, 2, 4, 5, 6, 7)],
            "venue": ["A", "A", "A", "C", "C", "OTHER", "A", "C"],
            px: [100.0, 100, 100, 100, 100, 100, 0, 100],
            sz: [5.0, 7, 11, 2, 3, 1, 1, NAN],
            "cond": ["@"] * 8,
        },
    )
    recording = load_quotes(quotes, trades=trades, size_multiplier=100.0)
    np.testing.assert_array_equal(recording.trade_first, [0, 3, 3, 5])
    np.testing.assert_array_equal(recording.trade_time_s, [1, 3, 3, 2, 4])
    np.testing.assert_array_equal(recording.trade_cumulative_size, [7, 12, 23, 2, 5])
    assert (recording.report.trades_read, recording.report.trades_kept) == (8, 5)
    assert any(text.startswith("Trades: 8 read, 5 kept") for text in recording.report.lines())


def write_sided(folder: Path, name: str, px: float, side: object) -> tuple[Path, Path]:
    """Quotes of 99 to 101, and four trades of 1, 2, 4 and 8 shares with their sides; a file of text where CSV is."""
    quotes = write_quotes(folder / "q.parquet", [(t, v, 99, 1, 101, 1) for t in (0, 10) for v in "AB"])
    ts = [START_NS + round(t * SECOND_NS) for t in (1, 2, 3, 4)]
    columns = {"ts": ts, "venue": ["A"] * 4, "px": [px] * 4, "sz": [1.0, 2.0, 4.0, 8.0], "side": side}
    return quotes, write_table(folder / name, columns)


@pytest.mark.parametrize(
    "side",
    [
        ["sell", "Buy", None, "SELL"],
        ["s", " B ", "nan", "S"],
        ["-1", "1.0", "", "-1.0"],
        [-1, 1, None, -1],
        [-1.0, 1.0, NAN, -1.0],
    ],
)
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_given_side_wins_and_the_quote_rule_says_the_rest(tmp_path: Path, name: str, side: list[Any]) -> None:
    """All trade above the midpoint, so that the quote rule alone would find no seller."""
    quotes, trades = write_sided(tmp_path, name, 100.5, side)
    recording = load_quotes(quotes, trades=trades)
    assert recording.trade_cumulative_size is not None and recording.trade_cumulative_sold is not None
    np.testing.assert_array_equal(recording.trade_cumulative_size, [1, 3, 7, 15])
    np.testing.assert_array_equal(recording.trade_cumulative_sold, [1, 1, 1, 9])
    said = [line for line in recording.report.lines() if line.startswith("Trades:")]
    assert "; 3 say their side, the quote rule that of the others." in said[0]


def test_an_unknown_side_is_what_the_quote_rule_says(tmp_path: Path) -> None:
    quotes, trades = write_sided(tmp_path, "t.csv", 99.5, [1, None, 1, None])
    below = load_quotes(quotes, trades=trades)
    assert below.trade_cumulative_sold is not None
    np.testing.assert_array_equal(below.trade_cumulative_sold, [0, 2, 2, 10])
    for side, words in ((["b"] * 4, "all say their side"), ([None] * 4, "the quote rule says their side")):
        quotes, trades = write_sided(tmp_path, "t.csv", 99.5, pa.array(side, pa.string()))
        assert f"; {words}." in "".join(load_quotes(quotes, trades=trades).report.lines())


def test_trades_outside_the_session_do_not_count(tmp_path: Path) -> None:
    trades = tmp_path / "t.parquet"
    quotes = write_recording(tmp_path / "q.parquet", trades_path=trades)
    whole = load_quotes(quotes, trades=trades)
    part = load_quotes(quotes, trades=trades, session=("14:40", "14:50"))
    assert whole.trade_time_s is not None and part.trade_time_s is not None
    assert part.trade_time_s.max() < 600.0 < whole.trade_time_s.max()
    assert part.report.trades_read == whole.report.trades_read == whole.report.trades_kept


def test_sha256_is_of_the_files(tmp_path: Path) -> None:
    trades = tmp_path / "t.csv"
    quotes = write_recording(tmp_path / "q.csv.gz", duration_s=30.0, trades_path=trades)
    content = quotes.read_bytes()
    assert load_quotes(quotes).sha256 == hashlib.sha256(content).hexdigest()
    both = hashlib.sha256(content + trades.read_bytes()).hexdigest()
    assert load_quotes(quotes, trades=trades).sha256 == both


# ----------------------------------------------------------------------------------------------------- errors


def _text_as_parquet(folder: Path) -> Path:
    return write_csv(folder / "bad.parquet", line())


def _parquet_without(column: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        columns = good_columns()
        del columns[column]
        return write_table(folder / "bad.parquet", columns)

    return write


def _parquet_with(**columns: Any) -> Callable[[Path], Path]:
    return lambda folder: write_table(folder / "bad.parquet", good_columns() | columns)


def _csv_with(body: str, header: str = HEADER) -> Callable[[Path], Path]:
    return lambda folder: write_csv(folder / "bad.csv", body, header)


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _folder(folder: Path) -> Path:
    (folder / "bad.parquet").mkdir()
    return folder / "bad.parquet"


def _cut_parquet(folder: Path) -> Path:
    whole = write_table(folder / "whole.parquet", good_columns()).read_bytes()
    (folder / "bad.parquet").write_bytes(whole[: len(whole) // 2])
    return folder / "bad.parquet"


GOOD_LINES = line(0) + line(1)
BAD_FILES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing": (lambda folder: folder / "bad.csv", ["does not exist", "check the path"]),
    "folder": (_folder, ["is a folder"]),
    "empty": (_bytes("bad.csv", b""), ["empty (0 bytes)"]),
    "unknown suffix": (_bytes("bad.xlsx", b"x"), ["'.xlsx'", ".parquet, .csv, .csv.gz"]),
    "no suffix": (_bytes("bad", b"x"), ["''", ".parquet, .csv, .csv.gz"]),
    "header only, CSV": (_csv_with(""), ["no rows"]),
    "header only, Parquet": (lambda folder: write_table(folder / "bad.parquet", _no_rows()), ["no rows"]),
    "text as Parquet": (_text_as_parquet, ["Parquet", "rename", "ts,venue"]),
    "not gzip": (_bytes("bad.csv.gz", HEADER.encode()), ["gzip", "rename"]),
    "cut gzip": (_bytes("bad.csv.gz", gzip.compress(HEADER.encode() * 99)[:-9]), ["gzip"]),
    "not UTF-8": (_bytes("bad.csv", (HEADER + line()).encode() + b"1,\xe9"), ["line 3", "0xe9", "UTF-8"]),
    "missing column": (_parquet_without("ask_px"), ["'ask_px'", "it has: ts, venue, bid_px, bid_sz, ask_sz"]),
    "missing sizes column": (_parquet_without("bid_sz"), ["'bid_sz'", "empty where they are not known"]),
    "missing CSV column": (
        _csv_with(GOOD_LINES, "ts,venue,b,bid_sz,ask_px,ask_sz\n"),
        ["'bid_px'", "ts, venue, b,"],  # and only that one
    ),
    "repeated column": (_csv_with("", "ts,ts,venue,bid_px,bid_sz,ask_px,ask_sz\n"), ["'ts' more than once"]),
    "semicolons": (_csv_with("", HEADER.replace(",", ";")), ["no column 'ts', 'venue', 'bid_px'", "ts;venue"]),
    "all columns missing": (
        _csv_with("1,2,3\n", "time,exchange,ask_px\n"),
        ["no column 'ts', 'venue', 'bid_px', 'bid_sz', 'ask_sz'", "those columns"],
    ),
    "a vendor's header": (
        _csv_with("", "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"),
        ["those of tardis", "sor-sb3 data convert tardis", "--out quotes.parquet"],
    ),
    "local time": (_csv_with("2024-01-02T14:35:00,A,1,1,2,1\n"), ["14:35:00", "--market-set timezone=", "or UTC"]),
    "local timestamps": (_parquet_with(ts=pa.array([1704206100000] * 4, pa.timestamp("ms"))), ["without a zone"]),
    "bad status": (
        _parquet_with(status=["trading", "trading", "napping", ""]),
        ["'status'", "data row 3", "'napping'"],
    ),
    "cut Parquet": (_cut_parquet, ["Parquet", "write it again"]),
    "ragged": (_csv_with(GOOD_LINES + "1,2,3\n" + line(2)), ["data row 3: Expected 6 columns, got 3"]),
    "NUL header": (_bytes("bad.csv", b'"ts' + b"x" * 200_000), ["commas"]),
    "word in a price": (
        _csv_with(line() + line(1, "A", "99,1,n.a.,1")),
        ["'ask_px'", "data row 2", "'n.a.'"],
    ),
    "word in a size": (
        _parquet_with(bid_sz=["1", "2", "x", "y"]),
        ["'bid_sz'", "data row 3", "'x'", "number"],
    ),
    "boolean price": (_parquet_with(bid_px=[True] * 4), ["'bid_px'", "bool", "float64"]),
    "numbers as venues": (_parquet_with(venue=[0.5] * 4), ["'venue'", "double"]),
    "no venue named": (_parquet_with(venue=["", " ", None, ""]), ["'venue'", "empty in every row"]),
    "bad time": (
        _csv_with(line() + "yesterday,A,1,1,2,1\n"),
        ["'ts'", "data row 2", "'yesterday'", "same form"],
    ),
    "bad first time": (_csv_with("noon,A,1,1,2,1\n"), ["data row 1", "'noon'", "ISO"]),
    "empty time": (_csv_with(line() + ",A,1,1,2,1\n"), ["'ts'", "data row 2", "''"]),
    "null time": (_parquet_with(ts=pa.array([START_NS, None, 3, 4])), ["'ts'", "data row 2"]),
    "mixed times": (
        _csv_with("2024-01-02T14:35:00Z,A,1,1,2,1\n2024-01-02T14:35:01,A,1,1,2,1\n"),
        ["data row 2", "'2024-01-02T14:35:00Z'"],
    ),
    "milliseconds": (_parquet_with(ts=[1_704_206_100_000] * 4), ["1704206100000", "nanoseconds"]),
    "float time": (_parquet_with(ts=[1.7e18] * 4), ["'ts'", "double", "int64"]),
    "far time": (_parquet_with(ts=pa.array([2**60] * 4, pa.timestamp("us"))), ["1678 to 2262"]),
    "no sizes": (_parquet_with(bid_sz=[NAN] * 4, ask_sz=[None] * 4), ["--assumed-depth SHARES", "'bid_sz'"]),
    "nothing live": (
        _parquet_with(bid_px=[0.0, 102.0, NAN, 0.01]),
        ["any venue", "A: of 2 rows 2 of one side", "B: of 2 rows 1 with the bid above the ask, 1 wider"],
    ),
    "one time only": (_parquet_with(ts=[START_NS] * 4), ["nothing to replay", "max_gap_s"]),
}


def _no_rows() -> dict[str, Any]:
    kinds = [pa.int64(), pa.string(), *[pa.float64()] * 4]
    return {name: pa.array([], kind) for name, kind in zip(good_columns(), kinds, strict=True)}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_explained(tmp_path: Path, case: str) -> None:
    write, expected = BAD_FILES[case]
    path = write(tmp_path)
    with pytest.raises(QuoteFileError) as caught:
        load_quotes(path)
    message = str(caught.value)
    assert all(part in message for part in [str(path), *expected]), message
    assert "\n" not in message and message.endswith(".") and len(message) < 700


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"venues": ["A", "XETRA"]}, ["'XETRA'", "it has A, B"]),
        ({"venues": []}, ["venues is empty", "A, B"]),
        ({"assumed_depth_shares": 0}, ["assumed_depth_shares is 0", "above 0"]),
        ({"assumed_depth_shares": "many"}, ["assumed_depth_shares is 'many'"]),
        ({"max_spread_bps": -1.0}, ["max_spread_bps is -1.0"]),
        ({"max_gap_s": NAN}, ["max_gap_s is nan"]),
        ({"size_multiplier": float("inf")}, ["size_multiplier is inf"]),
        ({"session": ("14:35", 875)}, ["875", "in YAML put them in quotes"]),
        ({"session": ("14:75", "21:00")}, ["'14:75'", "HH:MM"]),
        ({"session": ("14:00", "24:01")}, ["'24:01'"]),
        ({"session": ("14:35",)}, ["a start and an end"]),
        ({"session": "14:35-21:00"}, ["a start and an end"]),
        ({"session": ("14:35", "14:35")}, ["keeps nothing"]),
        ({"session": ("03:00", "04:00")}, ["no row of A, B", "2024-01-02T14:35:00Z"]),
    ],
)
def test_a_bad_argument_is_explained(tmp_path: Path, arguments: dict[str, Any], expected: list[str]) -> None:
    path = write_table(tmp_path / "q.parquet", good_columns())
    with pytest.raises(QuoteFileError) as caught:
        load_quotes(path, **arguments)
    assert all(part in str(caught.value) for part in expected), str(caught.value)


def test_a_requested_venue_that_never_quotes_is_refused(tmp_path: Path) -> None:
    columns = good_columns() | {"bid_sz": [100.0, NAN, 100.0, NAN]}
    path = write_table(tmp_path / "q.parquet", columns)
    assert load_quotes(path).venues == ("A",)
    with pytest.raises(QuoteFileError, match=r"some of the venues.*B: of 2 rows 2 without a size.*--assumed-depth"):
        load_quotes(path, venues=["A", "B"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"price": None, "px": None}, ["'px' or 'price'", "it has: ts, venue, sz"]),
        ({"venue": ["X", "Y"]}, ["no trade of A, B", "its venues are X, Y"]),
        ({"ts": [START_NS + 86_400 * SECOND_NS] * 2}, ["no trade", "2024-01-03T14:35:00Z", "same days"]),
        ({"px": ["1", "one"]}, ["'px'", "data row 2", "'one'"]),
        ({"side": ["buy", "bid"]}, ["'side', data row 2: 'bid' is not a side", "buy or sell, b or s, 1 or -1"]),
        ({"side": [0, 1]}, ["'side', data row 1: 0 is not a side", "leave it empty if unknown"]),
        ({"side": [True, False]}, ["'side', data row 1: True is not a side"]),
    ],
)
def test_bad_trades_are_explained(tmp_path: Path, columns: dict[str, Any], expected: list[str]) -> None:
    quotes = write_table(tmp_path / "q.parquet", good_columns())
    good = {"ts": [START_NS, START_NS + 1], "venue": ["A", "B"], "px": [1.0, 2.0], "sz": [1.0, 2.0]}
    merged = {name: values for name, values in (good | columns).items() if values is not None}
    trades = write_table(tmp_path / "t.parquet", merged)
    with pytest.raises(QuoteFileError) as caught:
        load_quotes(quotes, trades=trades)
    assert all(part in str(caught.value) for part in [str(trades), *expected]), str(caught.value)


def test_missing_trades_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(QuoteFileError, match="path of the trade file"):
        load_quotes(write_table(tmp_path / "q.parquet", good_columns()), trades=tmp_path / "t.parquet")


# ------------------------------------------------------------------------------------------------------ speed


def test_a_day_of_quotes_loads_fast(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", duration_s=36_000.0, updates_per_s=2.0)  # 210,000 rows
    start = time.perf_counter()
    recording = load_quotes(path)
    assert time.perf_counter() - start < 5.0  # about 0.3 s on an idle core
    assert len(recording.time_s) > 200_000


# -------------------------------------------------------------------------------------------------- levels


def write_book(path: Path, drop: tuple[str, ...] = (), **columns: list[float]) -> Path:
    """One venue's book of three levels a side, three rows."""
    book = {
        "ts": [START_NS + k * SECOND_NS for k in range(3)],
        "venue": ["A"] * 3,
        "bid_px": [99.9, 99.9, 99.9],
        "bid_sz": [1.0, 1.0, 1.0],
        "ask_px": [100.1, 100.1, 99.0],  # the last row is no quote
        "ask_sz": [2.0, 2.0, 2.0],
        "bid_px_2": [99.8, 99.9, 99.8],  # the second row's second level is no worse than the touch
        "bid_sz_2": [3.0, 3.0, 3.0],
        "ask_px_2": [100.2, 100.2, 100.2],
        "ask_sz_2": [4.0, float("nan"), 4.0],
        "bid_px_3": [99.7, 99.7, 99.7],
        "bid_sz_3": [5.0, 5.0, 5.0],
        "ask_px_3": [100.4, 100.4, 100.4],
        "ask_sz_3": [6.0, 6.0, 6.0],
    }
    return write_table(path, {name: values for name, values in (book | columns).items() if name not in drop})


@pytest.mark.parametrize("name", ["book.parquet", "book.csv.gz"])
def test_levels_are_read_and_a_book_ends_where_it_is_broken(tmp_path: Path, name: str) -> None:
    loaded = load_quotes(write_book(tmp_path / name), size_multiplier=100.0)
    nan = float("nan")
    np.testing.assert_array_equal(loaded.bid_levels[:, :, 0], [[99.8, 99.7], [nan, nan], [nan, nan]])
    np.testing.assert_array_equal(loaded.bid_levels[:, :, 1], [[300, 500], [0, 0], [0, 0]])
    np.testing.assert_array_equal(loaded.ask_levels[:, :, 0], [[100.2, 100.4], [nan, nan], [nan, nan]])
    np.testing.assert_array_equal(loaded.ask_levels[:, :, 1], [[400, 600], [0, 0], [0, 0]])
    assert (loaded.report.levels, loaded.report.levels_missing) == (3, 4)
    assert "Levels: 3 a side; 4 are empty" in "\n".join(loaded.report.lines())
    assumed = load_quotes(tmp_path / name, assumed_depth_shares=7.0)
    np.testing.assert_array_equal(assumed.ask_levels[1], [[100.2, 7.0], [100.4, 6.0]])


def test_a_recording_of_one_level_has_none_behind_it(tmp_path: Path) -> None:
    loaded = load_quotes(write_recording(tmp_path / "q.parquet", duration_s=60))
    assert loaded.ask_levels.shape == (len(loaded.time_s), 0, 2)
    assert loaded.report.levels == 1
    assert not any(line.startswith("Levels") for line in loaded.report.lines())


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (("ask_sz_2",), "has the column 'bid_px_2' but no 'ask_sz_2'"),
        (("bid_px_2", "bid_sz_2", "ask_px_2", "ask_sz_2"), "has the column 'bid_px_3' but no 'bid_px_2'"),
    ],
)
def test_levels_must_be_whole(tmp_path: Path, drop: tuple[str, ...], message: str) -> None:
    with pytest.raises(QuoteFileError, match=message):
        load_quotes(write_book(tmp_path / "book.parquet", drop))
