"""Any table by flags: what is written in any form comes back (a property), and what is missing is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

UNITS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
NAMES = {"ts": "When", "venue": "Where", "bid_px": "Best Bid", "bid_sz": "B", "ask_px": "Best Ask", "ask_sz": "A"}
prices = st.one_of(st.none(), st.integers(1, 10**7))
rows_strategy = st.lists(
    st.tuples(
        st.integers(1_500_000_000, 1_900_000_000),
        st.sampled_from(["N", "Q"]),
        prices,
        st.integers(0, 9999),
        prices,
        st.integers(0, 9999),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows_strategy,
    form=st.sampled_from([*UNITS, "iso", "local", "strftime", "parquet"]),
    separator=st.sampled_from([",", ";", "|", "\t"]),
    packing=st.sampled_from(["", ".gz", ".zst"]),
)
def test_what_is_written_in_any_form_comes_back(tmp_path_factory, rows, form, separator, packing):
    folder = tmp_path_factory.mktemp("generic")
    zone = ZoneInfo("Asia/Tokyo")
    options = {"columns": NAMES, "price_scale": 0.01, "size_scale": 10.0, "contract_multiplier": 2.0}
    if form in UNITS:
        options["time_unit"] = form
    if form in ("local", "strftime"):
        options["time_zone"] = "Asia/Tokyo"
    if form == "strftime":
        options["time_format"] = "%d/%m/%Y %H:%M:%S"

    def time(second):
        if form in UNITS:
            return second * 10**9 // UNITS[form]
        at = datetime.fromtimestamp(second, UTC if form == "iso" else zone)
        return {"iso": at.isoformat(), "local": f"{at:%Y-%m-%d %H:%M:%S}", "strftime": f"{at:%d/%m/%Y %H:%M:%S}"}[form]

    if form == "parquet":
        columns = dict(zip(NAMES.values(), map(list, zip(*rows, strict=True)), strict=True))
        columns["When"] = pa.array(columns["When"], pa.timestamp("s", "UTC"))
        pq.write_table(pa.table(columns), folder / "x.parquet")
        file = folder / "x.parquet"
    else:
        cells = [["" if value is None else value for value in (time(row[0]), *row[1:])] for row in rows]
        file = write_text(folder / f"x.csv{packing}", lines(separator.join(NAMES.values()), cells, separator))
    quotes, _, summary = converted(folder, "generic", file, **options)
    expected = sorted(rows, key=lambda row: row[0])
    assert [(q["ts"], q["venue"]) for q in quotes] == [(row[0] * 10**9, row[1]) for row in expected]
    for px, sz, i in (("bid_px", "bid_sz", 2), ("ask_px", "ask_sz", 4)):
        assert [q[px] for q in quotes] == [None if row[i] is None else row[i] * 0.01 for row in expected]
        assert [q[sz] for q in quotes] == [0.0 if row[i] is None else row[i + 1] * 20.0 for row in expected]
    assert sum(count.quotes for count in summary.venues.values()) == len(rows)


def test_levels_and_columns_with_our_own_names_need_no_flag(tmp_path):
    header = "ts,venue,bid_px,bid_sz,ask_px,ask_sz,bid_px_2,bid_sz_2,ask_px_2,ask_sz_2"
    file = write_text(tmp_path / "q.csv", lines(header, [(1_700_000_000, "A", 9, 1, 10, 2, 8, 3, 11, 4)]))
    quotes, _, _ = converted(tmp_path, "generic", file)
    assert list(quotes[0].values()) == [1_700_000_000 * 10**9, "A", 9, 1, 10, 2, 8, 3, 11, 4]


def test_decimal_seconds_and_a_named_venue_without_sizes(tmp_path):
    file = write_text(tmp_path / "q.csv", lines("ts,bid_px,ask_px", [("1585440000.250", 1, 2), ("1585440000", 1, 2)]))
    quotes, _, _ = converted(tmp_path, "generic", file, venue="EBS")
    assert [(q["ts"], q["venue"], q["bid_sz"]) for q in quotes] == [
        (1585440000 * 10**9, "EBS", None),
        (1585440000250000000, "EBS", None),
    ]


def test_trades(tmp_path):
    file = write_text(
        tmp_path / "t.csv",
        lines("ts,venue,p,q,side", [(1_700_000_000_123, "A", 10, 5, 1), (1_700_000_000_124, "A", 10, 5, -1)]),
    )
    _, trades, _ = converted(tmp_path, "generic", file, quotes=False, trades=True, columns={"px": "p", "sz": "q"})
    assert [(t["ts"], t["side"]) for t in trades] == [
        (1_700_000_000_123 * 10**6, "buy"),
        (1_700_000_000_124 * 10**6, "sell"),
    ]


def test_local_times_without_a_zone_ask_for_one(tmp_path):
    file = write_text(tmp_path / "q.csv", lines("ts,bid_px,ask_px", [("2024-01-02 09:30:00", 1, 2)]))
    with pytest.raises(
        UserError, match="data row 1: '2024-01-02 09:30:00' is not clear: it has no zone; give --time-zone"
    ):
        converted(tmp_path, "generic", file)
    with pytest.raises(UserError, match="time zone 'New York' is unknown"):
        converted(tmp_path, "generic", file, time_zone="New York")


@pytest.mark.parametrize("clock", ["2023-11-05 01:30:00", "2023-03-12 02:30:00"])
def test_times_that_the_clock_showed_twice_or_never_are_named(tmp_path, clock):
    file = write_text(tmp_path / "q.csv", lines("ts,bid_px,ask_px", [(clock, 1, 2)]))
    with pytest.raises(UserError, match="is not a time that the clock in America/New_York shows once"):
        converted(tmp_path, "generic", file, time_zone="America/New_York")


@pytest.mark.parametrize("columns, words", [
    ({"bid": "b"}, r"there is no 'bid' \(did you mean 'bid_sz'\?\)"),
    ({"bid_px": "nope"}, "has no column bid_px=nope, but ts, b, a"),
    ({"bid_px": "b"}, r"no column for ask_px \(give --column ask_px=NAME\)"),
    ({}, "no column for px, sz"),
])  # fmt: skip
def test_columns_that_are_not_there_are_all_named(tmp_path, columns, words):
    file = write_text(tmp_path / "q.csv", lines("ts,b,a", [(1_700_000_000, 1, 2)]))
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "generic", file, columns=columns)


@pytest.mark.parametrize(
    "value, words", [("12345", "give --time-unit"), ("0000000000", "from 1973 on; check --time-unit")]
)
def test_counts_that_are_no_time_are_named(tmp_path, value, words):
    file = write_text(tmp_path / "q.csv", lines("ts,bid_px,ask_px", [(value, 1, 2)]))
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "generic", file)


@pytest.mark.parametrize("cut", [30, 400, -20])
def test_a_parquet_file_that_is_cut_off_is_named(tmp_path, cut):
    whole = tmp_path / "whole.parquet"
    pq.write_table(
        pa.table(
            {
                "ts": [1_700_000_000 + i for i in range(500)],
                "bid_px": [1.0 * i for i in range(500)],
                "ask_px": [2.0] * 500,
            }
        ),
        whole,
    )
    file = tmp_path / "cut.parquet"
    file.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cut\.parquet cannot be read as a Parquet file"):
        converted(tmp_path, "generic", file)
