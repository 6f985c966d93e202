"""Bybit: captures of its streams orderbook.DEPTH and publicTrade, its archive's order books, and CSV files of trades.

A line is one JSON message, with the local time before it or without; `cts` or `ts` is the exchange's time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally
from sor_sb3.market.formats.books import PEEKED_MESSAGES, Book, Rows, epoch_ns, garbled, messages
from sor_sb3.market.formats.tables import TextTable, foreign, matched, open_text
from sor_sb3.market.formats.times import times

_VENUE = "bybit"
_TRADES = {"ts": ("timestamp",), "symbol": ("symbol",), "px": ("price",), "sz": ("size",), "side": ("side",)}


def _topic(message: Any) -> tuple[str, int]:
    """Kind of a message and, of books, its depth."""
    topic = str(message.get("topic", "")) if isinstance(message, dict) else ""
    kind, _, rest = topic.partition(".")
    depth = rest.partition(".")[0]
    return kind, int(depth) if kind == "orderbook" and depth.isdigit() else 0


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    if not re.match(r"\s*(\d{10,19}\s*)?\{", ",".join(table.names)):
        names = matched(table, "bybit", _TRADES)
        return Reading(0, True, lambda tally: _archive(table, names, options, tally))
    topics = {_topic(message) for _, _, message in islice(messages(source), PEEKED_MESSAGES)}
    depths = sorted(depth for kind, depth in topics if kind == "orderbook")
    trades = any(kind == "publicTrade" for kind, _ in topics)
    if not depths and not trades:
        lacking = f"no topic orderbook or publicTrade in its first {PEEKED_MESSAGES} messages"
        foreign(source.path, table.names, "bybit", lacking)
    depth = next((d for d in depths if d >= options.most_levels), depths[-1]) if depths else 0
    levels = min(depth, options.most_levels)
    return Reading(levels, trades, lambda tally: _capture(source, options, depth, levels, tally))


def _capture(source: Source, options: Options, depth: int, levels: int, tally: Tally) -> Iterator[Piece]:
    rows, books = Rows(_VENUE, max(levels, 1)), dict[str, Book]()
    for row, local, message in messages(source):
        tally.read += 1
        kind, own_depth = _topic(message)
        try:
            if kind == "publicTrade":
                _take_trades(rows, source, options, row, local, message, tally)
            elif kind == "orderbook" and own_depth == depth:
                _take_book(rows, books, levels, _time(source, options, row, local, message), message, tally)
            else:
                other = f"books of other depths than {depth}" if kind == "orderbook" else "messages of other kinds"
                tally.dropped[other] += 1
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise garbled(source, row, kind, error) from error
        if rows.full():
            yield rows.hand_on()
    yield rows.hand_on()


def _time(source: Source, options: Options, row: int, local: int | None, message: dict[str, Any]) -> int:
    if options.clock == "local" and local is not None:
        return local
    exchange = epoch_ns(message.get("cts", message.get("ts")))
    if exchange is None:
        raise UserError(f"{source.path}, row {row}: the message has no time ts or cts; take this row out")
    return exchange


def _take_book(
    rows: Rows, books: dict[str, Book], levels: int, time: int, message: dict[str, Any], tally: Tally
) -> None:
    data = message["data"]
    symbol = str(data["s"])
    book = books.setdefault(symbol, Book())
    bids, asks = data.get("b", ()), data.get("a", ())
    if message.get("type") == "snapshot" or data.get("u") == 1:  # u is 1 where the service began anew
        book.replace(bids, asks)
    elif not book.from_snapshot:
        tally.dropped["changes of a book before its snapshot"] += 1
        return
    else:
        book.update(bids, asks)
    rows.quotes.append((time, symbol, *book.row(levels)))


def _take_trades(
    rows: Rows, source: Source, options: Options, row: int, local: int | None, message: dict[str, Any], tally: Tally
) -> None:
    for trade in message["data"]:
        if trade.get("BT"):
            tally.dropped["block trades, not of the book"] += 1
            continue
        stamp = local if options.clock == "local" and local is not None else epoch_ns(trade["T"])
        if stamp is None:
            raise UserError(f"{source.path}, row {row}: the trade has no time T; take this row out")
        side = {"Buy": "buy", "Sell": "sell"}[trade["S"]]
        rows.trades.append((stamp, str(trade["s"]), float(trade["p"]), float(trade["v"]), side))


def _archive(table: TextTable, names: dict[str, str], options: Options, tally: Tally) -> Iterator[Piece]:
    for batch in table.batches(list(names.values())):
        tally.read += batch.frame.height
        rows = pl.DataFrame(
            {
                "ts": times(batch, names["ts"], options.time_unit, None),
                "symbol": batch.frame[names["symbol"]],
                "px": batch.numbers(names["px"]),
                "sz": batch.numbers(names["sz"]),
                "side": batch.sides(names["side"]),
            }
        )
        yield Piece(trades=rows.with_columns(venue=pl.lit(_VENUE)))


FORMAT = Format(
    name="bybit",
    open_file=_open,
    suffixes=(".gz", ".zst", ".dat", ".json", ".jsonl", ".data", ".txt", ".csv", ".zip"),
)
