"""Text that kdb+ wrote: its times, nulls and names, two clocks, days apart from times of day."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

START_NS = int(datetime(2020, 3, 29, 22, tzinfo=UTC).timestamp()) * 10**9


def stamp(i, lag_ns=0):
    ns = i * 1_500_000_123 + lag_ns
    return f"2020.03.29D22:{ns // 60_000_000_000:02d}:{ns // 10**9 % 60:02d}.{ns % 10**9:09d}"


def ts(i, lag_ns=0):
    return START_NS + i * 1_500_000_123 + lag_ns


ROWS = [
    (stamp(i, 777), "BTCUSDT", stamp(i), ("okex", "zb")[i % 2], 5900 + i / 10, 5900.5 + i / 10, 1 + i, 2 + i)
    for i in range(60)
]
HEADER = "time,sym,exchangeTime,exchange,bid,ask,bidSize,askSize"


@pytest.mark.parametrize("separator", [",", "|", "\t"])
@pytest.mark.parametrize("clock, lag_ns", [("local", 777), ("exchange", 0)])
def test_quotes_of_both_clocks(tmp_path, separator, clock, lag_ns):
    file = write_text(tmp_path / "exchange_top.csv", lines(HEADER.replace(",", separator), ROWS, separator))
    quotes, _, summary = converted(tmp_path, "kdb", file, clock=clock)
    assert [(q["ts"], q["venue"]) for q in quotes] == [(ts(i, lag_ns), ("okex", "zb")[i % 2]) for i in range(60)]
    assert [(q["bid_px"], q["ask_px"], q["bid_sz"], q["ask_sz"]) for q in quotes] == [row[4:] for row in ROWS]
    assert summary.venues["okex"].symbol == "BTCUSDT"


@pytest.mark.parametrize("clock", ["09:30:00.123456789", "0D09:30:00.123456789", "09:30:00.123"])
@pytest.mark.parametrize("place", ["column", "name", "option"])
def test_days_apart_from_times_of_day(tmp_path, clock, place):
    row: tuple[object, ...]
    header, row = "time,sym,bid,ask,bsize,asize,ex", (clock, "`ABC", 10, 11, 100, 200, "`N")
    if place == "column":
        header, row = f"date,{header}", ("2024.01.02", *row)
    name = "quote_2024.01.02.csv" if place == "name" else "quote.csv"
    file = write_text(tmp_path / name, lines(header, [row]))
    option = {"date": "2024-01-02"} if place == "option" else {}
    quotes, _, summary = converted(tmp_path, "kdb", file, time_zone="America/New_York", **option)
    fraction = clock.rpartition(".")[2].ljust(9, "0")
    assert quotes[0]["ts"] == int(datetime(2024, 1, 2, 14, 30, tzinfo=UTC).timestamp()) * 10**9 + int(fraction)
    assert (quotes[0]["venue"], summary.venues["N"].symbol) == ("N", "ABC")


def test_nulls_and_infinities_are_missing(tmp_path):
    values = [("0n", 11, "0N", 3), (10, "0w", 2, "0N"), ("", "", "", "")]
    rows = [(stamp(i), "A", bid, ask, b, a) for i, (bid, ask, b, a) in enumerate(values)]
    quotes, _, summary = converted(
        tmp_path, "kdb", write_text(tmp_path / "q.csv", lines("time,sym,bid,ask,bsize,asize", rows))
    )
    assert [(q["bid_px"], q["ask_px"]) for q in quotes] == [(None, 11), (10, None), (None, None)]
    assert (summary.venues["kdb"].no_bid, summary.venues["kdb"].no_ask) == (2, 2)


def test_trades_with_sides(tmp_path):
    rows = [(stamp(i), "BTCUSDT", ("`buy", "sell", "")[i % 3], 5900 + i, 0.5) for i in range(6)]
    file = write_text(tmp_path / "trade.csv", lines("time,sym,side,price,size", rows))
    _, trades, _ = converted(tmp_path, "kdb", file, quotes=False, trades=True, venue="okex")
    assert [(t["ts"], t["px"], t["sz"], t["side"]) for t in trades] == [
        (ts(i), 5900 + i, 0.5, ("buy", "sell", "")[i % 3]) for i in range(6)
    ]


def test_several_symbols_ask_for_one_and_a_clock_that_is_not_there(tmp_path):
    rows = [*ROWS[:2], (stamp(3), "ETHUSDT", *ROWS[3][2:])]
    file = write_text(tmp_path / "q.csv", lines(HEADER, rows))
    with pytest.raises(UserError, match="symbol 'ETHUSDT' beside 'BTCUSDT'"):
        converted(tmp_path, "kdb", file)
    quotes, _, summary = converted(tmp_path, "kdb", file, symbols=("BTCUSDT",))
    assert (len(quotes), sum(summary.tally.dropped.values())) == (2, 1)
    file = write_text(tmp_path / "r.csv", lines("time,sym,bid,ask,bsize,asize", [(stamp(0), "A", 1, 2, 3, 4)]))
    with pytest.raises(UserError, match="no column exchangetime or"):
        converted(tmp_path, "kdb", file, clock="exchange")


def test_a_time_that_cannot_be_is_named(tmp_path):
    for wrong in ("2020.13.29D22:00:00", "2020.02.30D22:00:00", "22h", "2020.03.29D25:00:00"):
        file = write_text(
            tmp_path / "q.csv",
            lines("time,sym,bid,ask,bsize,asize", [(stamp(0), "A", 1, 2, 3, 4), (wrong, "A", 1, 2, 3, 4)]),
        )
        with pytest.raises(UserError, match=f"column 'time', data row 2: '{wrong}' is not a"):
            converted(tmp_path, "kdb", file, date="2020-03-29")
