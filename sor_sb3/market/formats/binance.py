"""Binance: captures of its streams, one JSON message a line with the local time before it, and files of its archive.

Streams: bookTicker, depth (kept as a book from snapshots and differences, or partial ones), trade and aggTrade, wrapped
({"stream": ..., "data": ...}) or plain. Archive (CSV): bookTicker, trades, aggTrades.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally
from sor_sb3.market.formats.books import PEEKED_MESSAGES, Book, Rows, epoch_ns, garbled, messages
from sor_sb3.market.formats.tables import TextTable, foreign, open_text
from sor_sb3.market.formats.times import times

_VENUE = "binance"
_PARTIAL = re.compile(r"@depth(5|10|20)(@|$)")


def _unwrapped(message: Any) -> tuple[str, dict[str, Any]]:
    """Name of the stream, where it is told, and the message in it."""
    if not isinstance(message, dict):
        return "", {}
    data = message.get("data", message)
    return str(message.get("stream", "")), data if isinstance(data, dict) else {}


def _symbol(stream: str, data: dict[str, Any]) -> str:
    """The symbol of a message; a snapshot that was asked for names none."""
    return str(data.get("s") or stream.partition("@")[0]).upper()


def _kind(stream: str, data: dict[str, Any]) -> str:
    """Ticker, depth (differences), book (a whole one), trade, aggTrade or other."""
    event = data.get("e", "")
    if event in ("trade", "aggTrade"):
        return str(event)
    if ("lastUpdateId" in data and "bids" in data) or _PARTIAL.search(stream):
        return "book"
    if event == "depthUpdate":
        return "depth"
    if event == "bookTicker" or (not event and {"u", "b", "B", "a", "A"} <= set(data)):
        return "ticker"
    return "other"


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    if not re.match(r"\s*(\d{10,19}\s*)?\{", ",".join(table.names)):
        return _open_csv(source, options, table)
    peeked = [_unwrapped(message) for _, _, message in islice(messages(source), PEEKED_MESSAGES)]
    kinds = {_kind(stream, data) for stream, data in peeked}
    if not kinds & {"ticker", "depth", "book", "trade", "aggTrade"}:
        foreign(source.path, table.names, "binance", f"no message of quotes or trades in its first {PEEKED_MESSAGES}")
    books = bool(kinds & {"depth", "book"})
    deep = books and (options.most_levels > 1 if options.levels is not None else "ticker" not in kinds)
    levels = (options.most_levels if deep else 1) if books or "ticker" in kinds else 0
    reader = _Capture(source, options, levels, deep, single_trades="trade" in kinds)
    reader.symbol = next((symbol for symbol in itertools.starmap(_symbol, peeked) if symbol), "")
    return Reading(levels, bool(kinds & {"trade", "aggTrade"}), reader.pieces)


@dataclass
class _Capture:
    """Reads a capture; quotes come from the books if `deep`, else from the tickers."""

    source: Source
    options: Options
    levels: int
    deep: bool
    single_trades: bool
    books: dict[str, Book] = field(default_factory=dict)
    symbol: str = ""

    def pieces(self, tally: Tally) -> Iterator[Piece]:
        rows = Rows(_VENUE, max(self.levels, 1))
        self.books = {}
        for row, local, message in messages(self.source):
            tally.read += 1
            stream, data = _unwrapped(message)
            kind = _kind(stream, data)
            if kind == "other":
                tally.dropped["messages of other kinds"] += 1
                continue
            self.symbol = _symbol(stream, data) or self.symbol
            try:
                self._take(rows, kind, row, local, stream, data, tally)
            except (KeyError, TypeError, ValueError) as error:
                if isinstance(error, UserError):
                    raise
                raise garbled(self.source, row, kind, error) from error
            if rows.full():
                yield rows.hand_on()
        yield rows.hand_on()

    def _time(self, row: int, local: int | None, data: dict[str, Any]) -> int:
        own = data.get("T", data.get("E"))
        if self.options.clock == "local" and local is not None:
            return local
        exchange = epoch_ns(own) if own is not None else None
        if exchange is None:
            missing = "the exchange" if self.options.clock == "exchange" else "its receipt or of the exchange"
            raise UserError(
                f"{self.source.path}, row {row}: the message has no time of {missing}; try the other --clock"
            )
        return exchange

    def _take(
        self, rows: Rows, kind: str, row: int, local: int | None, stream: str, data: dict[str, Any], tally: Tally
    ) -> None:
        if kind in ("trade", "aggTrade"):
            if kind == "aggTrade" and self.single_trades:
                tally.dropped["aggregate trades, as single ones are there"] += 1
            elif data.get("X", "MARKET") != "MARKET":
                tally.dropped["trades of liquidation funds, not of the book"] += 1
            else:
                side = "sell" if data["m"] else "buy"  # m: the buyer was the maker
                time = self._time(row, local, data)
                rows.trades.append((time, self.symbol, float(data["p"]), float(data["q"]), side))
        elif kind == "ticker":
            if self.deep:
                tally.dropped["tickers, as the books are taken"] += 1
                return
            touch = [float(data[name]) for name in ("b", "B", "a", "A")]
            rows.quotes.append((self._time(row, local, data), self.symbol, *touch))
        elif not self.deep:
            tally.dropped["updates of books, as the tickers are taken; --levels 8 takes the books"] += 1
        else:
            book = self.books.setdefault(self.symbol, Book())
            if self._changed(book, kind, data, tally):
                rows.quotes.append((self._time(row, local, data), self.symbol, *book.row(self.levels)))

    def _changed(self, book: Book, kind: str, data: dict[str, Any], tally: Tally) -> bool:
        """Take a message into the book; False if it is older than the snapshot."""
        if kind == "book":
            bids, asks = (data["bids"], data["asks"]) if "bids" in data else (data["b"], data["a"])
            book.replace(bids, asks)
            book.last_update = int(data.get("lastUpdateId", data.get("u", 0)))
            return True
        first, last, before = int(data["U"]), int(data["u"]), data.get("pu")
        known = book.last_update
        if known is not None and last <= known:
            tally.dropped["updates from before the snapshot"] += 1
            return False
        joined = known is None or first <= known + 1 or before == known
        if not joined:
            tally.remarks["updates are missing before this one: the book begins anew"] += 1
            book.clear()
        if not book.from_snapshot:
            tally.remarks["books without a snapshot show only prices that changed since"] += 1
        book.update(data["b"], data["a"])
        book.last_update = last
        return True


# Archive

_TICKER = {"bid_px": "best_bid_price", "bid_sz": "best_bid_qty", "ask_px": "best_ask_price", "ask_sz": "best_ask_qty"}
_CLOCK = ("transaction_time", "event_time", "time", "transact_time")


def _open_csv(source: Source, options: Options, table: TextTable) -> Reading:
    flags = [i for i, cell in enumerate(table.names) if cell.lower() in ("true", "false")]
    if flags and flags[0] > 3:  # trades or aggTrades without a header: number, price, size, ..., time, maker
        table, maker = open_text(source, has_header=False), flags[0]
        columns = {
            "px": table.names[1],
            "sz": table.names[2],
            "ts": table.names[maker - 1],
            "maker": table.names[maker],
        }
        return Reading(0, True, lambda tally: _archive(table, columns, source, options, tally))
    found = {"ts": table.first_of(_CLOCK)}
    if table.first_of(("best_bid_price",)) is not None:
        found |= {name: table.first_of((column,)) for name, column in _TICKER.items()}
    else:
        aliases = {"px": ("price",), "sz": ("qty", "quantity"), "maker": ("is_buyer_maker",)}
        found |= {name: table.first_of(words) for name, words in aliases.items()}
    lacking = [name for name, column in found.items() if column is None]
    if lacking:
        foreign(source.path, table.names, "binance", f"no messages, and no column for {', '.join(lacking)}")
    columns = {name: column for name, column in found.items() if column is not None}
    quotes = "bid_px" in columns
    return Reading(int(quotes), not quotes, lambda tally: _archive(table, columns, source, options, tally))


def _archive(
    table: TextTable, columns: dict[str, str], source: Source, options: Options, tally: Tally
) -> Iterator[Piece]:
    symbol = re.split(r"[-_.]", source.path.name)[0]
    for batch in table.batches(list(columns.values())):
        tally.read += batch.frame.height
        keys = {"ts": times(batch, columns["ts"], options.time_unit, None)}
        numbers = {name: batch.numbers(column) for name, column in columns.items() if name not in ("ts", "maker")}
        rows = pl.DataFrame(keys | numbers).with_columns(venue=pl.lit(_VENUE), symbol=pl.lit(symbol))
        if "maker" not in columns:
            yield Piece(quotes=rows)
            continue
        maker = batch.frame[columns["maker"]].str.to_lowercase()
        batch.check(
            columns["maker"], maker.is_in(["true", "false"]), "whether the buyer was the maker; expected true or false"
        )
        side = maker.replace_strict({"true": "sell", "false": "buy"}, return_dtype=pl.String)
        yield Piece(trades=rows.with_columns(side=side))


FORMAT = Format(
    name="binance",
    open_file=_open,
    suffixes=(".gz", ".zst", ".dat", ".json", ".jsonl", ".txt", ".csv", ".zip"),
    remarks=("spot and futures have the same name in the files; NAME=FILE makes them venues apart",),
)
