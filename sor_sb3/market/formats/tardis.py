"""tardis.dev CSV files: quotes (book_ticker too), book_snapshot_5 and _25, trades.

Times are microseconds of two clocks: `local_timestamp`, when the message was received, and `timestamp`, the exchange's.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.tables import TextTable, matched, open_text
from sor_sb3.market.formats.times import times

_KEYS = ("exchange", "symbol", "timestamp", "local_timestamp")
_TOUCH = ("bid_price", "bid_amount", "ask_price", "ask_amount")
_CLOCKS = {"local": "local_timestamp", "exchange": "timestamp"}


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    matched(table, "tardis", {name: (name,) for name in _KEYS})
    names = set(table.names)
    if "is_snapshot" in names:
        what = f"{source.path} holds incremental book updates, which make no quotes by themselves"
        raise UserError(f"{what}; download quotes, book_snapshot_5 or book_snapshot_25 of these days")
    if "liquidations" in source.path.name:
        raise UserError(f"{source.path} holds liquidations; expected quotes, book_snapshot_5, _25 or trades")
    if set(_TOUCH) <= names:
        sides = {1: list(_TOUCH)}
    elif "asks[0].price" in names:
        sides = {}
        while f"asks[{len(sides)}].price" in names:
            i = len(sides)
            sides[i + 1] = [f"bids[{i}].price", f"bids[{i}].amount", f"asks[{i}].price", f"asks[{i}].amount"]
        lacking = [name for four in sides.values() for name in four if name not in names]
        if lacking:
            raise UserError(f"{source.path} has no column {', '.join(lacking)}; download the file again")
    else:
        matched(table, "tardis", {name: (name,) for name in ("price", "amount", "side")})
        return Reading(0, True, lambda tally: _trades(table, options, tally))
    kept = {level: four for level, four in sides.items() if level <= options.most_levels}
    return Reading(len(sides), False, lambda tally: _quotes(table, options, kept, tally))


def _quotes(table: TextTable, options: Options, sides: dict[int, list[str]], tally: Tally) -> Iterator[Piece]:
    clock = _CLOCKS[options.clock]
    columns = {
        ours: theirs for level, four in sides.items() for ours, theirs in zip(level_names(level), four, strict=True)
    }
    for batch in table.batches(["exchange", "symbol", clock, *columns.values()]):
        tally.read += batch.frame.height
        keys = {
            "ts": times(batch, clock, "us", None),
            "venue": batch.frame["exchange"],
            "symbol": batch.frame["symbol"],
        }
        yield Piece(quotes=pl.DataFrame(keys | {ours: batch.numbers(theirs) for ours, theirs in columns.items()}))


def _trades(table: TextTable, options: Options, tally: Tally) -> Iterator[Piece]:
    clock = _CLOCKS[options.clock]
    for batch in table.batches(["exchange", "symbol", clock, "price", "amount", "side"]):
        tally.read += batch.frame.height
        keys = {
            "ts": times(batch, clock, "us", None),
            "venue": batch.frame["exchange"],
            "symbol": batch.frame["symbol"],
        }
        values = {"px": batch.numbers("price"), "sz": batch.numbers("amount"), "side": batch.sides("side")}
        yield Piece(trades=pl.DataFrame(keys | values))


FORMAT = Format(
    name="tardis",
    open_file=_open,
    remarks=("amounts of derivatives may count contracts; --contract-multiplier and --inverse make them coins",),
)
