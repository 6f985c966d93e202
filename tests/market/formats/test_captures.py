"""Captures of Binance and Bybit against a book kept by hand; archives; what streams hold beside quotes and trades."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import PACKINGS, converted, lines, write_text

START_MS = 1_700_000_000_000


def capture(messages, stamped=True, unit=1_000_000):
    """Lines of (ms after the start, message)."""
    rows = [f"{(START_MS + t) * unit + 7 if unit > 1 else START_MS + t} " if stamped else "" for t, _ in messages]
    return (
        "\n".join(
            row + json.dumps(message, separators=(",", ":")) for row, (_, message) in zip(rows, messages, strict=True)
        )
        + "\n"
    )


def of_stream(name, data):
    return {"stream": f"btcusdt@{name}", "data": data}


def ticker(i, spot=True):
    data = {
        "u": i,
        "s": "BTCUSDT",
        "b": f"{100 + i / 10:.2f}",
        "B": f"{1 + i}",
        "a": f"{100.1 + i / 10:.2f}",
        "A": f"{2 + i}",
    }
    return data if spot else data | {"e": "bookTicker", "T": START_MS + 10 * i, "E": START_MS + 10 * i + 1}


def trade(i, event="trade", **changed):
    about = {
        "e": event,
        "E": START_MS + i,
        "T": START_MS + i - 1,
        "s": "BTCUSDT",
        "t": i,
        "p": f"{100 + i}",
        "q": "0.5",
        "m": i % 2 == 0,
    }
    return about | changed


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("unit", [1_000_000, 1000, 1])
def test_binance_tickers_and_trades_equal_what_was_sent(tmp_path, packing, wrapped, unit):
    messages = [(10 * i, of_stream("bookTicker", ticker(i)) if wrapped else ticker(i)) for i in range(40)]
    messages += [(400 + i, of_stream("trade", trade(i)) if wrapped else trade(i)) for i in range(10)]
    messages.append((500, {"result": None, "id": 1}))
    file = write_text(
        tmp_path / f"btcusdt.gz{packing}" if packing else tmp_path / "btcusdt.dat", capture(messages, unit=unit)
    )
    quotes, trades, summary = converted(tmp_path, "binance", file, trades=True)
    late = 7 * 10**6 // unit if unit > 1 else 0
    assert [(q["ts"] - late) // 10**6 - START_MS for q in quotes] == [10 * i for i in range(40)]
    for i, q in enumerate(quotes):
        assert [q[n] for n in ("bid_px", "bid_sz", "ask_px", "ask_sz")] == [float(ticker(i)[n]) for n in "bBaA"]
    assert [(t["px"], t["sz"], t["side"]) for t in trades] == [
        (100 + i, 0.5, "sell" if i % 2 == 0 else "buy") for i in range(10)
    ]
    assert summary.tally.dropped == {"messages of other kinds": 1}
    assert (summary.venues["binance"].symbol, summary.tally.read) == ("BTCUSDT", 51)


def test_the_clock_of_the_exchange_where_messages_have_it(tmp_path):
    futures = write_text(
        tmp_path / "f.dat", capture([(10 * i, of_stream("bookTicker", ticker(i, spot=False))) for i in range(5)])
    )
    quotes, _, _ = converted(tmp_path, "binance", futures, clock="exchange")
    assert [q["ts"] for q in quotes] == [(START_MS + 10 * i) * 10**6 for i in range(5)]
    bare = write_text(tmp_path / "g.json", capture([(0, ticker(i, spot=False)) for i in range(5)], stamped=False))
    assert converted(tmp_path, "binance", bare)[0] == quotes
    spot = write_text(tmp_path / "s.dat", capture([(0, ticker(0))]))
    with pytest.raises(UserError, match="row 1: the message has no time of the exchange"):
        converted(tmp_path, "binance", spot, clock="exchange")


def test_captures_of_several_markets_are_venues_apart(tmp_path):
    for name in ("spot", "usdm"):
        write_text(tmp_path / f"{name}.gz", capture([(10 * i, of_stream("bookTicker", ticker(i))) for i in range(20)]))
    quotes, _, summary = converted(tmp_path, "binance", f"SPOT={tmp_path / 'spot.gz'}", f"USDM={tmp_path / 'usdm.gz'}")
    assert {venue: count.quotes for venue, count in summary.venues.items()} == {"SPOT": 20, "USDM": 20}
    assert [q["ts"] for q in quotes] == sorted(q["ts"] for q in quotes)


def test_aggregate_trades_are_left_out_beside_single_ones_and_funds_always(tmp_path):
    both = [
        (0, of_stream("trade", trade(1))),
        (1, of_stream("aggTrade", trade(1, "aggTrade"))),
        (2, of_stream("trade", trade(2, X="ADL"))),
    ]
    _, trades, summary = converted(
        tmp_path, "binance", write_text(tmp_path / "a.dat", capture(both)), quotes=False, trades=True
    )
    assert [t["px"] for t in trades] == [101]
    assert sum(summary.tally.dropped.values()) == 2
    _, trades, _ = converted(
        tmp_path, "binance", write_text(tmp_path / "b.dat", capture(both[1:2])), quotes=False, trades=True
    )
    assert [t["px"] for t in trades] == [101]


def depth_capture(seed=0, n=200, gap_at=None):
    """A snapshot and differences, and the touch and second level after each, kept in plain dicts."""
    rng = np.random.default_rng(seed)
    bids = {100 - k / 10: 1.0 + k for k in range(20)}
    asks = {100.1 + k / 10: 2.0 + k for k in range(20)}
    bids, asks = ({round(p, 1): s for p, s in side.items()} for side in (bids, asks))
    snapshot = {
        "lastUpdateId": 50,
        "bids": [[str(p), str(s)] for p, s in bids.items()],
        "asks": [[str(p), str(s)] for p, s in asks.items()],
    }
    old = {"e": "depthUpdate", "E": START_MS, "s": "BTCUSDT", "U": 40, "u": 49, "pu": 39, "b": [["50", "9"]], "a": []}
    messages, seen = [(0, snapshot), (1, of_stream("depth@0ms", old))], [touch(bids, asks)]
    last = 50
    for i in range(n):
        changes = []
        for side in (bids, asks):
            price = float(rng.choice(sorted(side)))
            size = float(rng.integers(0, 4)) if len(side) > 5 else 3.0
            side.pop(price) if size == 0 else side.__setitem__(price, size)
            changes.append([[str(price), str(size)]])
        skip = 5 if i == gap_at else 1
        data = {
            "e": "depthUpdate",
            "E": START_MS + i,
            "s": "BTCUSDT",
            "U": last + skip,
            "u": last + skip + 2,
            "pu": last if skip == 1 else last + 4,
        }
        messages.append((2 + i, of_stream("depth@0ms", data | {"b": changes[0], "a": changes[1]})))
        last += skip + 2
        seen.append(touch(bids, asks))
    return messages, seen


def touch(bids, asks):
    best_bids, best_asks = sorted(bids, reverse=True)[:2], sorted(asks)[:2]
    return [(b, bids[b], a, asks[a]) for b, a in zip(best_bids, best_asks, strict=True)]


def levels_of(quote):
    return [
        tuple(quote[f"{name}{suffix}"] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")) for suffix in ("", "_2")
    ]


def test_a_book_of_differences_equals_one_kept_by_hand(tmp_path):
    messages, seen = depth_capture()
    quotes, _, summary = converted(tmp_path, "binance", write_text(tmp_path / "d.dat", capture(messages)), levels=2)
    assert [levels_of(q) for q in quotes] == seen
    assert summary.tally.dropped == {"updates from before the snapshot": 1}
    assert not summary.tally.remarks


def test_missing_updates_begin_the_book_anew_and_are_told(tmp_path):
    messages, _ = depth_capture(gap_at=100)
    quotes, _, summary = converted(tmp_path, "binance", write_text(tmp_path / "d.dat", capture(messages)), levels=2)
    assert summary.tally.remarks["updates are missing before this one: the book begins anew"] == 1
    assert summary.tally.remarks["books without a snapshot show only prices that changed since"] == 100
    assert quotes[101]["bid_px_2"] is None


def test_tickers_win_over_books_unless_levels_are_asked_for(tmp_path):
    messages, seen = depth_capture(n=20)
    messages += [(100 + i, of_stream("bookTicker", ticker(i))) for i in range(5)]
    file = write_text(tmp_path / "d.dat", capture(messages))
    quotes, _, summary = converted(tmp_path, "binance", file)
    assert (len(quotes), summary.levels) == (5, 1)
    assert sum(summary.tally.dropped.values()) == 22
    quotes, _, _ = converted(tmp_path, "binance", file, levels=2)
    assert [levels_of(q) for q in quotes] == seen


def test_partial_books_are_whole_books(tmp_path):
    book = {"bids": [["9.9", "1"], ["9.8", "2"]], "asks": [["10", "3"], ["10.1", "4"]]}
    spot = {"stream": "btcusdt@depth5@100ms", "data": {"lastUpdateId": 1, **book}}
    futures = {
        "stream": "btcusdt@depth5",
        "data": {
            "e": "depthUpdate",
            "T": START_MS,
            "s": "BTCUSDT",
            "U": 1,
            "u": 9,
            "pu": 0,
            "b": book["bids"],
            "a": book["asks"],
        },
    }
    file = write_text(tmp_path / "d.dat", capture([(0, spot), (1, futures)]))
    quotes, _, _ = converted(tmp_path, "binance", file, levels=2)
    assert [levels_of(q) for q in quotes] == [[(9.9, 1, 10, 3), (9.8, 2, 10.1, 4)]] * 2


@pytest.mark.parametrize("header", [True, False])
def test_binance_archive(tmp_path, header):
    text = lines(
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
        [(i, 100 + i, 1, 101 + i, 2, START_MS + i, START_MS + i + 1) for i in range(9)],
    )
    quotes, _, summary = converted(
        tmp_path, "binance", write_text(tmp_path / "BTCUSDT-bookTicker-2023-11-14.zip", text)
    )
    assert [(q["ts"], q["bid_px"]) for q in quotes] == [((START_MS + i) * 10**6, 100 + i) for i in range(9)]
    assert summary.venues["binance"].symbol == "BTCUSDT"
    names = "id,price,qty,quote_qty,time,is_buyer_maker" if header else None
    rows = [
        (i, 100 + i, 0.5, 9, (START_MS + i) * 1000, "true" if i % 2 else "false", *([] if header else ["True"]))
        for i in range(9)
    ]
    _, trades, _ = converted(
        tmp_path, "binance", write_text(tmp_path / "BTCUSDT-trades.csv", lines(names, rows)), quotes=False, trades=True
    )
    assert [(t["ts"], t["px"], t["side"]) for t in trades] == [
        ((START_MS + i) * 10**6, 100 + i, "sell" if i % 2 else "buy") for i in range(9)
    ]


@pytest.mark.parametrize("between", [["9"], ["1", "2"]])
@pytest.mark.parametrize("after", [[], ["True"]])
def test_binance_archive_of_either_trades_without_a_header(tmp_path, between, after):
    rows = [(i, 100 + i, 0.5, *between, START_MS + i, "False", *after) for i in range(3)]
    file = write_text(tmp_path / "BTCUSDT-trades.csv", lines(None, rows))
    _, trades, summary = converted(tmp_path, "binance", file, quotes=False, trades=True)
    assert [(t["ts"], t["px"], t["sz"], t["side"]) for t in trades] == [
        ((START_MS + i) * 10**6, 100 + i, 0.5, "buy") for i in range(3)
    ]
    assert summary.tally.read == 3


# Bybit


def bybit_book(depth, bids, asks, t, kind="delta", u=9):
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": 1}
    return {
        "topic": f"orderbook.{depth}.BTCUSDT",
        "type": kind,
        "ts": START_MS + t + 1,
        "data": data,
        "cts": START_MS + t,
    }


def test_bybit_books_and_trades(tmp_path):
    prints = [
        {"T": START_MS + 3, "s": "BTCUSDT", "S": side, "v": "0.25", "p": "100.5", "i": "x", "BT": block}
        for side, block in (("Buy", False), ("Sell", False), ("Buy", True))
    ]
    messages = [
        (0, {"success": True, "op": "subscribe"}),
        (1, bybit_book(50, [["1", "1"]], [], 0)),  # before its snapshot
        (2, bybit_book(50, [["100", "1"], ["99", "2"]], [["101", "3"], ["102", "4"]], 1, "snapshot")),
        (3, bybit_book(50, [["100", "0"]], [["100.5", "5"]], 2)),
        (4, {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": START_MS + 3, "data": prints}),
        (5, bybit_book(50, [["98", "7"]], [["103", "1"]], 5, u=1)),  # the service began anew
        (6, {"topic": "tickers.BTCUSDT", "data": {}}),
    ]
    file = write_text(tmp_path / "bybit.gz", capture(messages))
    quotes, trades, summary = converted(tmp_path, "bybit", file, trades=True, levels=2)
    assert [levels_of(q) for q in quotes] == [
        [(100, 1, 101, 3), (99, 2, 102, 4)],
        [(99, 2, 100.5, 5), (None, 0, 101, 3)],
        [(98, 7, 103, 1), (None, 0, None, 0)],
    ]
    assert [(t["px"], t["sz"], t["side"]) for t in trades] == [(100.5, 0.25, "buy"), (100.5, 0.25, "sell")]
    assert summary.tally.dropped == {
        "messages of other kinds": 2, "changes of a book before its snapshot": 1, "block trades, not of the book": 1
    }  # fmt: skip
    exchange, tape, _ = converted(tmp_path, "bybit", file, trades=True, clock="exchange")
    assert [(q["ts"] // 10**6 - START_MS) for q in exchange] == [1, 2, 5]
    assert [(t["ts"] // 10**6 - START_MS) for t in tape] == [3, 3]


def test_bybit_takes_the_shallowest_book_that_is_deep_enough(tmp_path):
    one = bybit_book(1, [["100", "1"]], [["101", "1"]], 0, "snapshot")
    deep = bybit_book(50, [["100", "1"], ["99", "1"]], [["101", "1"], ["102", "2"]], 0, "snapshot")
    file = write_text(tmp_path / "b.dat", capture([(0, one), (1, deep)], stamped=False))
    assert list(converted(tmp_path, "bybit", file, levels=1)[0][0]) == [
        "ts",
        "venue",
        "bid_px",
        "bid_sz",
        "ask_px",
        "ask_sz",
    ]
    quotes, _, summary = converted(tmp_path, "bybit", file, levels=2)
    assert levels_of(quotes[0])[1] == (99, 1, 102, 2)
    assert summary.tally.dropped == {"books of other depths than 50": 1}


def test_bybit_archive_of_trades(tmp_path):
    rows = [
        (f"{START_MS // 1000}.{i:04d}", "BTCUSDT", "Sell" if i % 2 else "Buy", 0.1 + i, 100 + i, "PlusTick", "id")
        for i in range(9)
    ]
    text = lines("timestamp,symbol,side,size,price,tickDirection,trdMatchID", rows)
    _, trades, _ = converted(
        tmp_path, "bybit", write_text(tmp_path / "BTCUSDT2023-11-14.csv.gz", text), quotes=False, trades=True
    )
    assert [(t["ts"], t["px"], t["sz"]) for t in trades] == [
        (START_MS * 10**6 + i * 100_000, 100 + i, 0.1 + i) for i in range(9)
    ]


# What is wrong


@pytest.mark.parametrize("change, words", [
    (lambda text: text[:-30], r"row 20: .* is not a whole message \(the file may be cut off\)"),
    (lambda text: text.replace('"B":"5"', '"B":"five"'), r"row 5: the ticker message has a value that cannot be read"),
    (lambda text: text.replace('"B":"5"', '"B":null'), r"row 5: the ticker message has a value that cannot be read"),
    (lambda text: text.replace("17000", "x17000", 1), r"is no file of binance"),
    (lambda text: '{"a":1}\n', "no message of quotes or trades"),
])  # fmt: skip
def test_a_capture_that_is_wrong_is_named(tmp_path, change, words):
    text = capture([(10 * i, of_stream("bookTicker", ticker(i))) for i in range(20)])
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "binance", write_text(tmp_path / "x.dat", change(text)))


def test_captures_of_the_other_exchange_are_recognised(tmp_path):
    file = write_text(tmp_path / "b.dat", capture([(0, bybit_book(1, [["100", "1"]], [], 0, "snapshot"))]))
    with pytest.raises(UserError, match="it looks like a file of bybit"):
        converted(tmp_path, "binance", file)
    file = write_text(tmp_path / "a.dat", capture([(0, of_stream("bookTicker", ticker(0)))]))
    with pytest.raises(UserError, match="it looks like a file of binance"):
        converted(tmp_path, "bybit", file)
