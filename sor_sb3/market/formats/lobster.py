"""LOBSTER files of NASDAQ: a message and an orderbook file of the same rows, 1 to 10 levels.

The day is in the file's name, times are seconds after midnight in New York, prices 1/10,000 dollars. Trades are the
executions of visible (type 4) and hidden orders (type 5); what was executed is the resting side. While the stock is
halted (type 7) nothing is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.tables import Batch, TextTable, foreign, open_text
from sor_sb3.market.formats.times import NS, date_in_name, to_utc

_PRICES_PER_DOLLAR = 10_000.0
_DUMMY = 9_999_999_999  # of a level where nothing rests, with the sign of its side
_VISIBLE, _HIDDEN, _HALT = 4, 5, 7
_HALTED, _RESUMED = -1, 1  # "prices" of type 7; 0 is the resumption of quoting alone
_MESSAGE_COLUMNS = 6


def _partner(path: Path) -> tuple[Path, Path]:
    """The message and the orderbook file that a file belongs to."""
    kind = next((word for word in ("message", "orderbook") if word in path.name), None)
    if kind is None:
        expected = "'message' or 'orderbook' in its name, as in AMZN_2012-06-21_34200000_57600000_message_10.csv"
        raise UserError(f"{path} is no file of lobster: expected {expected}; rename it as LOBSTER named it")
    other = "orderbook" if kind == "message" else "message"
    pair = {kind: path, other: path.with_name(path.name.replace(kind, other))}
    if not pair[other].exists():
        raise UserError(f"{path} has no {other} file beside it; expected {pair[other]}: put both into one folder")
    return pair["message"], pair["orderbook"]


def _pairs(sources: Sequence[Source]) -> list[Source]:
    """One source of each pair, its message file."""
    found: dict[Path, Source] = {}
    for source in sources:
        message, _ = _partner(source.path)
        found.setdefault(message, replace(source, path=message))
    return list(found.values())


def _open(source: Source, options: Options) -> Reading:
    message, orderbook = _partner(source.path)
    tables = [open_text(replace(source, path=message), ",", False), open_text(Source(orderbook), ",", False)]
    first = [open_text(table.source, ",").names for table in tables]
    for table, cells in zip(tables, (first[0][:_MESSAGE_COLUMNS], first[1]), strict=True):
        if not all(re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", cell, re.IGNORECASE) for cell in cells):
            foreign(table.path, cells, "lobster", "its first row is not of numbers alone")
    widths = len(first[0]), len(first[1])
    if widths[0] < _MESSAGE_COLUMNS or widths[0] > _MESSAGE_COLUMNS + 1:
        foreign(message, first[0], "lobster", f"expected 6 columns of messages, found {widths[0]}")
    if widths[1] % 4 or not widths[1]:
        foreign(orderbook, first[1], "lobster", f"expected 4 columns a level, found {widths[1]} in all")
    day = date_in_name(message, options.date)
    return Reading(widths[1] // 4, True, lambda tally: _rows(tables, day, source, options, tally))


def _aligned(tables: Sequence[TextTable], wanted: Sequence[Sequence[str]]) -> Iterator[tuple[Batch, Batch]]:
    """Batches of both files with the same rows."""
    message, book = (table.batches(columns) for table, columns in zip(tables, wanted, strict=True))
    held: list[Batch | None] = [next(message, None), next(book, None)]
    while held[0] is not None and held[1] is not None:
        left, right = held[0], held[1]
        rows = min(left.frame.height, right.frame.height)
        yield (
            Batch(left.path, left.frame.head(rows), left.first_row),
            Batch(right.path, right.frame.head(rows), right.first_row),
        )
        for i, stream in ((0, message), (1, book)):
            batch = (left, right)[i]
            rest = batch.frame.slice(rows)
            held[i] = Batch(batch.path, rest, batch.first_row + rows) if rest.height else next(stream, None)
    longer = held[0] or held[1]
    if longer is not None:
        shorter = tables[1 if held[0] is not None else 0].path
        what = f"{shorter} ends after row {longer.first_row - 1}, but {longer.path} goes on"
        raise UserError(f"{what}: the two must have the same rows; download both again")


def _rows(tables: Sequence[TextTable], day: str, source: Source, options: Options, tally: Tally) -> Iterator[Piece]:
    symbol = source.path.name.split("_")[0]
    levels = min(options.most_levels, len(tables[1].names) // 4)
    messages = tables[0].names[:_MESSAGE_COLUMNS]
    halted = False
    for left, right in _aligned(tables, (messages, list(islice(tables[1].names, 4 * levels)))):
        time, kind, _, size, price, direction = messages
        tally.read += left.frame.height
        kinds, prices = left.numbers(kind, pl.Int64), left.numbers(price, pl.Int64)
        left.check(kind, kinds.is_between(1, 7), "a type of message; expected 1 to 7")
        ts = _times(left, time, day, options.time_zone or "America/New_York")
        keys = {
            "ts": ts,
            "venue": pl.repeat("NASDAQ", len(ts), eager=True),
            "symbol": pl.repeat(symbol, len(ts), eager=True),
        }
        closed, halted = _halts(kinds, prices, halted)
        book = {}
        for level in range(1, levels + 1):
            ask_px, ask_sz, bid_px, bid_sz = tables[1].names[4 * level - 4 : 4 * level]
            for name, px, sz in zip(("bid", "ask"), (bid_px, ask_px), (bid_sz, ask_sz), strict=True):
                raw = right.numbers(px, pl.Int64)
                quoted = raw.is_not_null() & (raw.abs() != _DUMMY) & ~closed
                px_name, sz_name = [n for n in level_names(level) if n.startswith(name)]
                book[px_name] = right.fixed_point(px, _PRICES_PER_DOLLAR).set(~quoted, None)
                book[sz_name] = right.numbers(sz).set(~quoted, 0.0)
        if closed.any():
            tally.remarks["the stock was halted: not quoting"] += int(closed.sum())
        executed = kinds.is_in([_VISIBLE, _HIDDEN])
        resting = left.numbers(direction, pl.Int64)
        left.check(direction, resting.is_in([1, -1]) | ~executed, "a direction; expected 1 or -1")
        sides = pl.select(pl.when(resting == -1).then(pl.lit("buy")).otherwise(pl.lit("sell"))).to_series()
        prints = {"px": left.fixed_point(price, _PRICES_PER_DOLLAR), "sz": left.numbers(size), "side": sides}
        tape = pl.DataFrame(keys | prints).filter(executed)
        yield Piece(quotes=pl.DataFrame(keys | book), trades=tape)


def _times(batch: Batch, column: str, day: str, zone: str) -> pl.Series:
    """UTC nanoseconds of seconds after midnight; a double keeps a day's nanoseconds."""
    seconds = batch.numbers(column)
    batch.check(column, seconds.is_between(0.0, 86_400.0), "a time in seconds after midnight, 0 to 86400")
    midnight = pl.Series([day.replace("-", "")]).str.to_date("%Y%m%d").cast(pl.Datetime("ns")).cast(pl.Int64)[0]
    return to_utc(batch, column, (seconds * NS["s"]).round().cast(pl.Int64) + midnight, zone)


def _halts(kinds: pl.Series, prices: pl.Series, halted: bool) -> tuple[pl.Series, bool]:
    """Rows at which the stock is halted, and whether it is after the last one."""
    switch = prices.set(~((kinds == _HALT) & prices.is_in([_HALTED, _RESUMED])), None)
    state = switch.fill_null(strategy="forward").fill_null(_HALTED if halted else _RESUMED) == _HALTED
    return state, bool(state[-1])


FORMAT = Format(
    name="lobster",
    open_file=_open,
    sources=_pairs,
    suffixes=(
        "message.csv",
        *(f"{kind}_{n}.csv{p}" for kind in ("message", "orderbook") for n in range(1, 51) for p in ("", ".gz", ".zst")),
    ),
    one_symbol=True,
)
