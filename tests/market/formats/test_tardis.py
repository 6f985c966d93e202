"""tardis.dev CSV files: counts and prices against a plain reading, both clocks, snapshots, trades."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import PACKINGS, converted, lines, write_text

QUOTES = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
START_US = 1_700_000_000_000_000


def quote_rows(n, venue="okex", symbol="BTC-USDT", seed=0):
    rng = np.random.default_rng(seed)
    at = START_US + np.cumsum(rng.integers(1, 90_000, n))
    bid = np.round(30_000 + np.cumsum(rng.normal(0, 1, n)), 1)
    return [
        (
            venue,
            symbol,
            t,
            t + int(rng.integers(900, 150_000)),
            round(1 + i % 7 / 10, 3),
            f"{b + 0.1:.1f}",
            f"{b:.1f}",
            2 + i % 3,
        )
        for i, (t, b) in enumerate(zip(at.tolist(), bid.tolist(), strict=True))
    ]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("clock, column", [("local", "local_timestamp"), ("exchange", "timestamp")])
def test_quotes_equal_a_plain_reading_in_order_of_either_clock(tmp_path, packing, clock, column):
    text = lines(QUOTES, quote_rows(500))
    file = write_text(tmp_path / f"okex_quotes_2023-11-14_BTC-USDT.csv{packing}", text)
    quotes, _, summary = converted(tmp_path, "tardis", file, clock=clock)
    plain = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row[column]))
    assert [row["ts"] for row in quotes] == [int(row[column]) * 1000 for row in plain]
    for ours, theirs in (
        ("bid_px", "bid_price"),
        ("bid_sz", "bid_amount"),
        ("ask_px", "ask_price"),
        ("ask_sz", "ask_amount"),
    ):
        assert [row[ours] for row in quotes] == [float(row[theirs]) for row in plain]
    assert {row["venue"] for row in quotes} == {"okex"}
    assert (summary.tally.read, summary.venues["okex"].quotes, summary.venues["okex"].symbol) == (500, 500, "BTC-USDT")


def test_a_side_that_is_empty_is_missing_and_counted(tmp_path):
    rows = [
        ("x", "A", START_US, START_US + 5, "", "", "9.5", "2"),
        ("x", "A", START_US + 1, START_US + 6, "1", "9.7", "", ""),
    ]
    quotes, _, summary = converted(tmp_path, "tardis", write_text(tmp_path / "q.csv", lines(QUOTES, rows)))
    assert [(row["bid_px"], row["ask_px"]) for row in quotes] == [(9.5, None), (None, 9.7)]
    assert (quotes[0]["ask_sz"], quotes[1]["bid_sz"]) == (0.0, 0.0)
    assert (summary.venues["x"].no_bid, summary.venues["x"].no_ask) == (1, 1)


@pytest.mark.parametrize("levels, kept", [(5, 5), (25, 8)])
def test_snapshots_give_levels_up_to_the_loaders_eight(tmp_path, levels, kept):
    sides = [f"asks[{i}].price,asks[{i}].amount,bids[{i}].price,bids[{i}].amount" for i in range(levels)]
    book = [value for i in range(levels) for value in (100 + i, 1 + i, 99 - i, 2 + i)]
    text = lines(
        ",".join(["exchange,symbol,timestamp,local_timestamp", *sides]), [("x", "A", START_US, START_US + 7, *book)]
    )
    quotes, _, summary = converted(tmp_path, "tardis", write_text(tmp_path / "s.csv", text))
    names = ["", *(f"_{i}" for i in range(2, kept + 1))]
    assert list(quotes[0])[-1] == f"ask_sz{names[-1]}"
    for i, suffix in enumerate(names):
        row = [quotes[0][f"{name}{suffix}"] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
        assert row == [99 - i, 2 + i, 100 + i, 1 + i]
    assert (summary.levels, summary.file_levels) == (kept, levels)
    quotes, _, _ = converted(tmp_path, "tardis", tmp_path / "s.csv", levels=2)
    assert list(quotes[0])[-1] == "ask_sz_2"


def test_a_short_book_has_no_price_and_no_size_where_there_is_no_level(tmp_path):
    header = f"{QUOTES.rsplit(',', 4)[0]},asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,"
    header += "asks[1].price,asks[1].amount,bids[1].price,bids[1].amount"
    row = ("x", "A", START_US, START_US, 10, 1, 9, 1, "", "", 8, 3)
    quotes, _, _ = converted(tmp_path, "tardis", write_text(tmp_path / "s.csv", lines(header, [row])))
    assert (quotes[0]["ask_px_2"], quotes[0]["ask_sz_2"], quotes[0]["bid_px_2"], quotes[0]["bid_sz_2"]) == (
        None,
        0,
        8,
        3,
    )


def test_trades_keep_the_aggressor_and_stand_beside_quotes_of_other_files(tmp_path):
    write_text(tmp_path / "in/okex_quotes.csv.gz", lines(QUOTES, quote_rows(50)))
    rows = [
        ("okex", "BTC-USDT", START_US + i, START_US + i + 9, i, ("buy", "sell", "unknown")[i % 3], 100 + i, 0.5)
        for i in range(9)
    ]
    write_text(tmp_path / "in/okex_trades.csv.gz", lines(TRADES, rows))
    quotes, trades, summary = converted(tmp_path, "tardis", tmp_path / "in", trades=True)
    assert len(quotes) == 50
    assert [row["side"] for row in trades] == ["buy", "sell", ""] * 3
    assert [(row["ts"], row["px"], row["sz"]) for row in trades] == [
        ((START_US + i + 9) * 1000, 100 + i, 0.5) for i in range(9)
    ]
    assert (summary.files, summary.venues["okex"].trades) == (2, 9)
    _, alone, _ = converted(tmp_path, "tardis", tmp_path / "in/okex_trades.csv.gz", quotes=False, trades=True)
    assert alone == trades


def test_files_of_several_exchanges_become_venues_in_order_of_time(tmp_path):
    plain = []
    for k, venue in enumerate(("okex", "binance", "deribit")):
        for day in range(2):
            rows = quote_rows(80, venue, f"BTC{k}", seed=10 * k + day)
            rows = [(*r[:2], r[2] + day * 86_400_000_000, r[3] + day * 86_400_000_000, *r[4:]) for r in rows]
            write_text(tmp_path / f"in/{venue}_{day}.csv.gz", lines(QUOTES, rows))
            plain += rows
    quotes, _, summary = converted(tmp_path, "tardis", tmp_path / "in" / "*.csv.gz")
    assert [row["ts"] for row in quotes] == sorted(row[3] * 1000 for row in plain)
    assert {(v, c.symbol, c.quotes) for v, c in summary.venues.items()} == {
        (v, f"BTC{k}", 160) for k, v in enumerate(("okex", "binance", "deribit"))
    }


def test_inverse_contracts_become_coins(tmp_path):
    row = ("huobi-dm-swap", "BTC-USD", START_US, START_US, 50, 8000, 7999, 20)
    file = write_text(tmp_path / "q.csv", lines(QUOTES, [row]))
    quotes, _, _ = converted(tmp_path, "tardis", file, contract_multiplier=100.0, inverse=True)
    assert (quotes[0]["ask_sz"], quotes[0]["bid_sz"]) == (50 * 100 / 8000, 20 * 100 / 7999)
    assert (quotes[0]["ask_px"], quotes[0]["bid_px"]) == (8000, 7999)


@pytest.mark.parametrize(
    "name, header, words",
    [
        (
            "x.csv",
            "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
            "incremental book updates",
        ),
        ("binance_liquidations_2024.csv", TRADES, "holds liquidations"),
        ("x.csv", "exchange,symbol,timestamp,local_timestamp,funding_rate", "no column price, amount, side"),
        ("x.csv", "ts_recv,ts_event,rtype,publisher_id,instrument_id", "it looks like a file of databento"),
    ],
)
def test_other_kinds_of_files_are_refused_with_the_reason(tmp_path, name, header, words):
    file = write_text(tmp_path / name, lines(header, [["1"] * len(header.split(","))]))
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "tardis", file)


@pytest.mark.parametrize(
    "place, value, words",
    [
        (2, "soon", r"column 'timestamp', data row 3: 'soon' is not a time"),
        (2, "", r"column 'timestamp', data row 3: '' is not a time"),
        (5, "12..5", r"column 'ask_price', data row 3: '12..5' is not a number"),
        (2, "1700000000", r"column 'timestamp', data row 3: '1700000000' is not a time in us"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_row_and_column(tmp_path, place, value, words):
    rows = [list(row) for row in quote_rows(5)]
    rows[2][place] = value
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "tardis", write_text(tmp_path / "q.csv", lines(QUOTES, rows)), clock="exchange")
