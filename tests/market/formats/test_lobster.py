"""LOBSTER pairs against a plain reading: New York's day, levels, dummies, types of messages, halts."""

from __future__ import annotations

import csv
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

NAME = "XYZ_{day}_34200000_57600000_{kind}_{levels}.csv"


def write_pair(folder, day="2012-06-21", levels=2, n=400, seed=0, packing="", change=None):
    rng = np.random.default_rng(seed)
    at = 34_200 + np.cumsum(rng.integers(1, 10**9, n)) / 1e9
    mid = 1_000_000 + 100 * np.cumsum(rng.integers(-2, 3, n))
    messages, book = [], []
    for i in range(n):
        kind = int(rng.choice([1, 2, 3, 4, 5, 6]))
        messages.append(
            [f"{at[i]:.9f}", kind, 1000 + i, int(rng.integers(1, 500)), int(mid[i]) - 100, int(rng.choice([1, -1]))]
        )
        row = []
        for level in range(levels):
            row += [int(mid[i]) + 100 * (level + 1), 100 + level, int(mid[i]) - 100 * (level + 1), 200 + level]
        book.append(row)
    if change is not None:
        change(messages, book)
    paths = [folder / (NAME.format(day=day, kind=kind, levels=levels) + packing) for kind in ("message", "orderbook")]
    for path, rows in zip(paths, (messages, book), strict=True):
        write_text(path, lines(None, rows))
    return paths


@pytest.mark.parametrize("day, utc_hour", [("2012-06-21", 13), ("2012-01-20", 14)])
@pytest.mark.parametrize("levels", [1, 5, 10])
def test_a_pair_equals_a_plain_reading_in_new_york_time(tmp_path, day, utc_hour, levels):
    message, orderbook = write_pair(tmp_path / "in", day, levels)
    quotes, trades, summary = converted(tmp_path, "lobster", message, trades=True)
    midnight = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 10**9
    plain = list(csv.reader(message.open()))
    books = list(csv.reader(orderbook.open()))
    ts = [midnight + int(row[0].split(".")[0]) * 10**9 + int(row[0].split(".")[1]) for row in plain]
    assert [row["ts"] for row in quotes] == ts
    assert datetime.fromtimestamp(ts[0] / 1e9, ZoneInfo("UTC")).hour == utc_hour
    for level in range(min(levels, 8)):
        suffix = "" if level == 0 else f"_{level + 1}"
        names = [f"{name}{suffix}" for name in ("ask_px", "ask_sz", "bid_px", "bid_sz")]
        expected = [
            [int(v) / (10_000 if i % 2 == 0 else 1) for i, v in enumerate(b[4 * level : 4 * level + 4])] for b in books
        ]
        assert [[row[name] for name in names] for row in quotes] == expected
    executed = [
        (t, int(r[4]) / 10_000, int(r[3]), "buy" if r[5] == "-1" else "sell")
        for t, r in zip(ts, plain, strict=True)
        if r[1] in "45"
    ]
    assert [(row["ts"], row["px"], row["sz"], row["side"]) for row in trades] == executed
    count = summary.venues["NASDAQ"]
    assert (count.symbol, count.quotes, count.trades, summary.file_levels) == ("XYZ", 400, len(executed), levels)


@pytest.mark.parametrize("given", ["message", "orderbook", "folder", "both"])
def test_either_file_the_folder_or_both_name_the_pair_once(tmp_path, given):
    message, orderbook = write_pair(tmp_path / "in", n=20)
    named = {"message": [message], "orderbook": [orderbook], "folder": [tmp_path / "in"], "both": [message, orderbook]}
    quotes, _, summary = converted(tmp_path, "lobster", *named[given])
    assert (len(quotes), summary.files, summary.tally.read) == (20, 1, 20)


def test_packed_pairs_of_several_days_follow_each_other(tmp_path):
    for day in ("2012-06-22", "2012-06-21"):
        write_pair(tmp_path / "in", day, n=30, packing=".gz")
    quotes, _, summary = converted(tmp_path, "lobster", tmp_path / "in")
    ts = [row["ts"] for row in quotes]
    assert (len(ts), summary.files) == (60, 2)
    assert ts == sorted(ts)


def test_dummy_prices_of_empty_levels_are_missing(tmp_path):
    def change(messages, book):
        book[3][:4] = [9_999_999_999, 0, -9_999_999_999, 0]
        book[4][4:6] = [9_999_999_999, 0]

    message, _ = write_pair(tmp_path / "in", n=6, change=change)
    quotes, _, summary = converted(tmp_path, "lobster", message)
    assert [quotes[3][name] for name in ("ask_px", "ask_sz", "bid_px", "bid_sz")] == [None, 0, None, 0]
    assert (quotes[4]["ask_px_2"], quotes[4]["ask_sz_2"]) == (None, 0)
    assert quotes[4]["ask_px"] is not None
    assert (summary.venues["NASDAQ"].no_bid, summary.venues["NASDAQ"].no_ask) == (1, 1)


def test_nothing_is_quoted_while_the_stock_is_halted(tmp_path):
    def change(messages, book):
        messages[2][1:] = [7, 0, 0, -1, -1]  # halted
        messages[4][1:] = [7, 0, 0, 0, -1]  # quoting again, not trading
        messages[6][1:] = [7, 0, 0, 1, -1]  # trading again

    message, _ = write_pair(tmp_path / "in", n=9, change=change)
    quotes, trades, summary = converted(tmp_path, "lobster", message, trades=True)
    assert [row["ask_px"] is None for row in quotes] == [False, False, True, True, True, True, False, False, False]
    assert summary.tally.remarks["the stock was halted: not quoting"] == 4
    assert all(row["px"] > 1 for row in trades)


def test_a_seventh_column_of_messages_is_ignored_and_a_venue_can_be_named(tmp_path):
    message, _ = write_pair(tmp_path / "in", n=5, change=lambda messages, book: [m.append("null") for m in messages])
    quotes, _, _ = converted(tmp_path, "lobster", f"ISLAND={message}")
    assert {row["venue"] for row in quotes} == {"ISLAND"}


def test_rows_that_do_not_match_are_refused(tmp_path):
    message, _ = write_pair(tmp_path / "in", n=30, change=lambda messages, book: book.pop())
    with pytest.raises(UserError, match=r"orderbook_2.csv ends after row 29, but .*message_2.csv goes on"):
        converted(tmp_path, "lobster", message)


def test_a_file_alone_is_refused(tmp_path):
    message, orderbook = write_pair(tmp_path / "in", n=3)
    orderbook.unlink()
    with pytest.raises(UserError, match="has no orderbook file beside it"):
        converted(tmp_path, "lobster", message)


def test_a_name_without_a_day_asks_for_one(tmp_path):
    for path in write_pair(tmp_path / "in", n=3):
        path.rename(path.with_name(f"{path.name.split('_')[-2]}_2.csv"))
    with pytest.raises(UserError, match="give --date"):
        converted(tmp_path, "lobster", tmp_path / "in" / "message_2.csv")
    quotes, _, _ = converted(tmp_path, "lobster", tmp_path / "in" / "message_2.csv", date="2012-06-21")
    assert quotes[0]["ts"] // 10**9 // 86_400 * 86_400 == datetime(2012, 6, 21, tzinfo=ZoneInfo("UTC")).timestamp()


@pytest.mark.parametrize(
    "place, value, words",
    [
        (0, "90000.5", "a time in seconds after midnight"),
        (1, "9", "a type of message"),
        (4, "12x", "a whole number"),
        (5, "3", "a direction"),
    ],
)
def test_a_message_that_cannot_be_is_named(tmp_path, place, value, words):
    def change(messages, book):
        messages[7][1] = 4
        messages[7][place] = value

    message, _ = write_pair(tmp_path / "in", n=9, change=change)
    with pytest.raises(UserError, match=rf"column '.*', data row 8: '{value}' is not {words}"):
        converted(tmp_path, "lobster", message)


def test_a_table_with_a_header_is_no_lobster_file(tmp_path):
    for path in write_pair(tmp_path / "in", n=3):
        path.write_text("exchange,symbol,timestamp,local_timestamp\n1,2,3,4\n")
    with pytest.raises(UserError, match="it looks like a file of tardis"):
        converted(tmp_path, "lobster", tmp_path / "in")
