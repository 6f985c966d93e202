"""Cleaning that knows several venues: stale quotes and whose they are, freezes, halts, zones; clean data stay."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sor_sb3
from sor_sb3.errors import UserError
from sor_sb3.market.event_time import stale_quotes, walk
from sor_sb3.market.loading import load_market
from sor_sb3.market.quotes import QuoteFileError, load_quotes
from sor_sb3.market.recordings import recording_for, recording_lines
from sor_sb3.market.spec import ReplayMarket
from tests.market.quote_fixtures import START_NS, write_quotes, write_recording, write_table

Row = tuple[float, str, float, float, float, float]


def stuck(n: int = 1200) -> list[Row]:
    """Two venues follow a rising price; STUCK's first quote stands, and its ask is soon below their bids."""
    rows: list[Row] = [(0.0, "STUCK", 99.98, 100, 100.02, 100)]
    for t in range(n):
        mid = 100.0 + 0.001 * t
        rows += [(float(t), "A", mid - 0.02, 200, mid + 0.02, 200), (t + 0.5, "B", mid - 0.03, 300, mid + 0.03, 300)]
    return rows


def test_the_older_quote_of_a_crossed_pair_is_blamed_and_the_recording_refused(tmp_path: Path) -> None:
    path = write_quotes(tmp_path / "q.parquet", stuck())
    report = load_quotes(path).report
    (worst, share), *others = report.culprits
    assert worst == "STUCK" and not others
    assert share == report.crossed_share > 0.9
    with pytest.raises(UserError, match=r"crossed|best bid is above") as caught:
        load_market(path)
    for part in ("STUCK 9", "max_crossed_share = 5.0%", "--venues", "crossed=hide_older", "crossed=keep"):
        assert part in str(caught.value)
    kept = load_market(path, {"crossed": "keep"})
    assert "STUCK" in "\n".join(recording_lines(kept))
    assert load_market(path, {"max_crossed_share": 1.0}).crossed == "refuse"


def test_a_stale_quote_is_hidden_until_it_changes(tmp_path: Path) -> None:
    rows = [*stuck(), (600.0, "STUCK", 99.98, 100, 100.02, 100), (900.25, "STUCK", 100.88, 100, 100.92, 100)]
    path = write_quotes(tmp_path / "q.parquet", rows)
    hidden = load_quotes(path, hide_older=True)
    assert hidden.report.crossed_share_left == 0.0 < hidden.report.crossed_share
    assert hidden.report.hidden == (0, 0, 2)  # until 900.25, the repeat at 600 included, and again soon after
    first = int(hidden.first[2])
    ended = hidden.time_s[first + 1]  # A's bid of mid - 0.02 passes 100.02 at 41 s
    assert np.isnan(hidden.ask_px[first + 1]) and 40.0 <= ended <= 42.0
    assert hidden.time_s[first + 2] == 900.25 and hidden.ask_px[first + 2] == 100.92
    alone = load_quotes(write_quotes(tmp_path / "two.parquet", [row for row in rows if row[1] != "STUCK"]))
    late = hidden.mid_time_s > 950.0
    np.testing.assert_array_equal(hidden.mid_px[late], alone.mid_px[alone.mid_time_s > 950.0])


def test_hiding_makes_a_market_of_a_crossed_recording(tmp_path: Path) -> None:
    path = write_quotes(tmp_path / "q.parquet", stuck())
    costs = {}
    for crossed in ("keep", "hide_older"):
        market = load_market(path, {"crossed": crossed, "order.quantity_shares": 500})
        costs[crossed] = sor_sb3.evaluate({"best": "best_price"}, market=market, scenarios=50).cost("best").mean
    assert costs["keep"] < 0.0 < costs["hide_older"]  # the stuck ask earned money that was never there


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_nothing_is_crossed_after_hiding_and_the_newest_quote_stays(data: Any) -> None:
    k = data.draw(st.integers(2, 4))
    lengths = [data.draw(st.integers(1, 12)) for _ in range(k)]
    ts = [np.sort(data.draw(st.lists(st.integers(0, 30), min_size=n, max_size=n, unique=True))) for n in lengths]
    first = np.append(0, np.cumsum(lengths))
    stamps = np.concatenate(ts).astype(np.int64)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bid = 100.0 + rng.integers(0, 6, len(stamps))
    ask = bid + rng.integers(1, 4, len(stamps))
    place = rng.permutation(len(stamps)).astype(np.uint32)
    rows, since = stale_quotes(first, stamps, place, bid, ask)
    ends = dict(zip(rows.tolist(), since.tolist(), strict=True))
    for now in np.unique(stamps):
        live = []
        for j in range(k):
            row = first[j] + np.searchsorted(ts[j], now, side="right") - 1
            if row >= first[j] and ends.get(int(row), 1 << 60) > now:
                live.append(row)
        assert live and max(bid[live]) <= min(ask[live])
        newest = max(np.flatnonzero(stamps <= now), key=lambda row: (stamps[row], place[row]))
        assert newest in live
    whole = walk(first, stamps, stamps, place, bid, ask, np.array([[stamps.min(), stamps.max() + 1]]))
    assert int(np.sum(whole.blamed_ns)) == whole.crossed_ns <= whole.total_ns


def write_frozen(path: Path, every_s: int | None) -> Path:
    """Quotes that change every 10 s but for 1,800 s; `every_s`: as snapshots, which repeat what stands."""
    changes = [t for t in range(0, 7200, 10) if not 3000 < t < 4800]
    rows: list[Row] = []
    for t in changes if every_s is None else range(0, 7200, every_s):
        said = max(c for c in changes if c <= t)
        rows += [(float(t), v, 99.0, 100.0 + said / 10, 101.0, 100.0) for v in ("A", "B")]
    return write_quotes(path, rows)


def test_a_forward_filled_file_hides_no_freeze(tmp_path: Path) -> None:
    changes = load_quotes(write_frozen(tmp_path / "changes.parquet", None))
    filled = load_quotes(write_frozen(tmp_path / "filled.parquet", 2))
    assert changes.report.gaps == filled.report.gaps == 1
    np.testing.assert_array_equal(changes.segments[0], filled.segments[0])
    assert filled.segments[1, 0] == changes.segments[1, 0] == 4800.0
    assert filled.report.repeats > 4 * changes.report.rows_kept and changes.report.repeats == 0
    assert filled.report.venues[0].seconds_per_quote == pytest.approx(
        changes.report.venues[0].seconds_per_quote, rel=0.01
    )
    assert "repeat their venue's row before them" in "\n".join(filled.report.lines())


def test_what_never_changes_is_quiet_and_not_frozen(tmp_path: Path) -> None:
    rows: list[Row] = [(float(t), v, 99.0, 100.0, 101.0, 100.0) for t in range(0, 1200, 10) for v in ("A", "B")]
    report = load_quotes(write_quotes(tmp_path / "q.parquet", rows)).report
    assert report.still and report.gaps == 0 and report.segment_hours == pytest.approx(1190 / 3600)
    assert any("was frozen" in warning for warning in report.warnings())


def test_halts_end_quotes(tmp_path: Path) -> None:
    n = 20
    columns: dict[str, Any] = {
        "ts": [START_NS + t * 1_000_000_000 for t in range(n)] * 2,
        "venue": ["A"] * n + ["B"] * n,
        "bid_px": [99.0] * 2 * n,
        "bid_sz": [float(t) + 1 for t in range(n)] * 2,
        "ask_px": [101.0] * 2 * n,
        "ask_sz": [5.0] * 2 * n,
        "status": ["halted" if 5 <= t < 9 else "Trading" for t in range(n)] + [""] * n,
    }
    for name in ("q.parquet", "q.csv"):
        recording = load_quotes(write_table(tmp_path / name, columns))
        of_a = slice(recording.first[0], recording.first[1])
        np.testing.assert_array_equal(np.isnan(recording.ask_px[of_a]), [5 <= t < 9 for t in range(n)])
        assert recording.report.halted == 4
        assert "the venue is halted" in "\n".join(recording.report.lines())
    flags = load_quotes(write_table(tmp_path / "b.parquet", columns | {"status": [t % 20 != 7 for t in range(2 * n)]}))
    assert flags.report.halted == 2


def test_times_without_a_zone_need_one(tmp_path: Path) -> None:
    times = [f"2024-03-08 09:30:0{s}" for s in range(4)]
    columns = {
        "ts": times,
        "venue": list("ABAB"),
        "bid_px": [99.0, 99.0, 99.1, 99.1],
        "bid_sz": [1.0] * 4,
        "ask_px": [101.0] * 4,
        "ask_sz": [1.0] * 4,
    }
    path = write_table(tmp_path / "q.csv", columns)
    with pytest.raises(QuoteFileError, match="without a zone"):
        load_quotes(path)
    in_new_york = load_quotes(path, timezone="America/New_York")
    assert str(np.datetime64(in_new_york.origin_ns, "ns")).startswith("2024-03-08T14:30:00")
    typed = [np.datetime64(time.replace(" ", "T"), "ns") for time in times]
    parquet = write_table(tmp_path / "q.parquet", columns | {"ts": pa.array(typed, pa.timestamp("ns"))})
    assert load_quotes(parquet, timezone="America/New_York").origin_ns == in_new_york.origin_ns
    with pytest.raises(QuoteFileError, match=r"'Mars/Olympus', which is unknown: expected a name such as UTC"):
        load_quotes(path, timezone="Mars/Olympus")
    zoned = write_table(tmp_path / "zoned.csv", columns | {"ts": [f"2024-03-08T14:30:0{s}Z" for s in range(4)]})
    with pytest.raises(QuoteFileError, match=r"'Mars/Olympus', which is unknown"):
        load_quotes(zoned, timezone="Mars/Olympus")  # which no time needs
    twice = write_table(tmp_path / "twice.csv", columns | {"ts": [f"2024-11-03 01:30:0{s}" for s in range(4)]})
    with pytest.raises(QuoteFileError, match=r"data row 1: 2024-11-03T01:30:00.* is no one moment in America/New_York"):
        load_quotes(twice, timezone="America/New_York")


def test_units_have_a_name_and_the_order_the_size_of_what_is_shown_at_the_best(tmp_path: Path) -> None:
    rows: list[Row] = []
    for t in range(0, 1200, 5):  # B shows a thousand times as much, a tick behind
        rows += [(t, "A", 99.9, 0.02 + 0.01 * (t % 2), 100.1, 0.02), (t, "B", 99.8, 20.0, 100.2, 20.0)]
    path = write_quotes(tmp_path / "q.parquet", rows)
    market = load_market(path, {"unit": "BTC"})
    assert market.order.quantity_shares == pytest.approx(0.5 * 20 * 0.02)
    assert "buy 0.2 BTC in 20 steps of 5 s, 0.01 BTC a step" in "\n".join(recording_lines(market))
    both = [(t, v, b, 20.0 + t % 2, a, 20.0) for t, v, b, _, a, _ in rows]
    tied = write_quotes(tmp_path / "tied.parquet", [(t, v, 99.9, s, 100.1, z) for t, v, _, s, _, z in both])
    assert load_market(tied).order.quantity_shares == pytest.approx(0.5 * 20 * 40.0)


EVERY_FIELD: dict[str, Any] = {
    "name": "mine",
    "description": "a day",
    "order.side": "sell",
    "order.quantity_shares": 700.0,
    "order.horizon_steps": 10,
    "order.step_s": 2.0,
    "reference_router": "best_price",
    "oracle": "snapshot_oracle",
    "order_protection": True,
    "fees_as_of": "2024-01",
    "sources.fees": "the venues' pages",
    "venues": ["A", "B"],
    "session_utc": ["14:35", "14:54"],
    "assumed_depth_shares": 50.0,
    "recorded_levels": 1,
    "level_profile": [1.0, 2.0],
    "level_spacing_bps": 2.0,
    "size_multiplier": 100.0,
    "max_spread_bps": 400.0,
    "max_gap_s": 60.0,
    "crossed": "hide_older",
    "max_crossed_share": 0.2,
    "timezone": "UTC",
    "unit": "BTC",
    "time_split": [0.5, 0.2, 0.3],
    "latency.tail_probability": 0.1,
    "response.reaction_time_ms": 9.0,
    "volume_memory_half_life_s": 10.0,
    "price_scale_bps": 3.0,
}


def test_every_field_of_a_replay_is_set_by_its_path(tmp_path: Path) -> None:
    path = write_quotes(tmp_path / "q.parquet", [row for row in stuck() if row[1] != "STUCK"])
    not_here = {"model", "quotes_file", "quotes_sha256", "trades_file"}  # other files
    assert {key.partition(".")[0] for key in EVERY_FIELD} == set(ReplayMarket.model_fields) - not_here
    market = load_market(path, {key: value for key, value in EVERY_FIELD.items() if key != "recorded_levels"})
    for key, value in EVERY_FIELD.items():
        found: Any = market
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        expected = tuple(value) if isinstance(value, list) else value
        assert (market.venue_names if key == "venues" else found) == expected, key
    for key in ("venues.A.take_fee_bps", "venues.*.latency_ms", "venues.B.refill_half_life_s"):
        assert load_market(path, {key: 3.5}).venues[1 if ".B." in key else 0].model_dump()[key.split(".")[-1]] == 3.5


def test_a_buyer_takes_from_a_venue_that_does_not_bid(tmp_path: Path) -> None:
    rows: list[Row] = []
    for t in range(1200):
        rows += [(t, "WIDE", 99.0, 100 + t % 2, 101.0, 100.0), (t, "ASKS", float("nan"), 0, 100.2, 100.0)]
    path = write_quotes(tmp_path / "q.parquet", rows)
    market = load_market(path, {"order.quantity_shares": 100})
    arrays = recording_for(market, "test")
    assert not np.isnan(arrays.bid_px[arrays.rows[0]["first"] : arrays.rows[0]["last"]]).any()
    asks = market.venue_names.index("ASKS")
    own = slice(arrays.rows[asks]["first"], arrays.rows[asks]["last"])
    assert np.all(arrays.bid_px[own] == 99.0) and np.all(arrays.bid_shares[own] == 0.0)
    result = sor_sb3.evaluate({r: r for r in ("best_price", "round_robin")}, market=market, scenarios=20)
    assert np.isfinite(result.cost("round_robin").mean)
    assert result.cost("best_price").mean < result.cost("round_robin").mean


def test_the_arrays_of_a_clean_recording_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", duration_s=600.0)
    table = pq.read_table(path).sort_by([("venue", "ascending"), ("ts", "ascending")])
    recording = load_quotes(path)
    seconds = (table["ts"].to_numpy() - recording.origin_ns) / 1e9
    for ours, theirs in (
        (recording.time_s, seconds),
        (recording.bid_px, table["bid_px"]),
        (recording.bid_size, table["bid_sz"]),
        (recording.ask_px, table["ask_px"]),
        (recording.ask_size, table["ask_sz"]),
    ):
        assert ours.tobytes() == np.asarray(theirs, dtype=np.float64).tobytes()


GOLDEN_COSTS = {"buy": "5a79a443a944a162", "sell": "370a2f4eb321b36e"}


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_costs_on_a_clean_recording_are_those_of_before(tmp_path: Path, side: str) -> None:
    """The digests are of commit 3f1cefc, before cleaning looked at several venues and recordings were kept."""
    path = write_recording(tmp_path / "q.parquet", trades_path=tmp_path / "t.parquet")
    market = load_market(path, trades_file=tmp_path / "t.parquet", quantity_shares=2000, side=side)
    rules = ("round_robin", "best_price", "pro_rata", "snapshot_oracle")
    result = sor_sb3.evaluate({rule: rule for rule in rules}, market=market, scenarios=40)
    costs = np.stack([result.scores[rule].cost for rule in rules])
    assert hashlib.sha256(costs.tobytes()).hexdigest()[:16] == GOLDEN_COSTS[side]
