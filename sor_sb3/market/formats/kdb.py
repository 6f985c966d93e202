"""Tables that kdb+ wrote as text (``csv 0: t``): quotes and trades under q's names.

Times are such as 2020.03.29D22:00:00.123456789, or days and times of day apart.

Of two times `time` is when the database received the row (local), `exchangeTime` the exchange's. q's .z.p is UTC.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.tables import Batch, TextTable, foreign, matched, open_text
from sor_sb3.market.formats.times import date_in_name, times

_TIME = ("time", "timestamp", "ts", "utc_datetime", "datetime")
_EXCHANGE_TIME = ("exchangetime", "exchtime", "exch_datetime", "exchange_time", "srctime")
_SYMBOL = ("sym", "symbol")
_VENUE = ("exchange", "ex", "exch", "venue", "src", "mkt")
_QUOTE = {
    "bid_px": ("bid", "bidprice", "bid_price", "bidpx", "bp"),
    "bid_sz": ("bsize", "bidsize", "bid_size", "bsz", "bs"),
    "ask_px": ("ask", "askprice", "ask_price", "askpx", "ap"),
    "ask_sz": ("asize", "asksize", "ask_size", "asz", "as"),
}
_TRADE = {"px": ("price", "px"), "sz": ("size", "sz", "qty", "amount", "volume")}
_SIDE = ("side",)


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    clock = {"local": _TIME, "exchange": _EXCHANGE_TIME}[options.clock]
    keys = matched(table, "kdb", {"ts": clock, "symbol": _SYMBOL})
    is_quote = table.first_of(_QUOTE["bid_px"]) is not None
    if not is_quote and table.first_of(_TRADE["px"]) is None:
        foreign(source.path, table.names, "kdb", "no column bid or price")
    values = matched(table, "kdb", _QUOTE if is_quote else _TRADE)
    others = {"venue": table.first_of(_VENUE), "date": table.first_of(("date",)), "side": table.first_of(_SIDE)}
    names = keys | values | {name: column for name, column in others.items() if column is not None}
    return Reading(int(is_quote), not is_quote, lambda tally: _pieces(table, names, options, tally))


def _pieces(table: TextTable, names: dict[str, str], options: Options, tally: Tally) -> Iterator[Piece]:
    for batch in table.batches(list(dict.fromkeys(names.values()))):
        rows = batch.frame.height
        tally.read += rows
        keys = {
            "ts": _times(batch, names, options),
            "venue": _plain(batch, names["venue"]) if "venue" in names else pl.repeat("kdb", rows, eager=True),
            "symbol": _plain(batch, names["symbol"]),
        }
        if "bid_px" in names:
            numbers = {name: batch.numbers(names[name]) for name in level_names(1)}
            yield Piece(quotes=pl.DataFrame(keys | numbers))
        else:
            sides = batch.sides(names["side"]) if "side" in names else pl.repeat("", rows, eager=True)
            yield Piece(
                trades=pl.DataFrame(keys | {n: batch.numbers(names[n]) for n in ("px", "sz")} | {"side": sides})
            )


def _plain(batch: Batch, column: str) -> pl.Series:
    return batch.frame[column].str.strip_chars(" `\"'")


def _times(batch: Batch, names: dict[str, str], options: Options) -> pl.Series:
    """Whole times, or times of day with the date of a column, of the file's name or of --date."""
    zone = options.time_zone or "UTC"
    whole = batch.frame[names["ts"]].str.contains(r"^[\s\"`]*\d{4}[.-]?\d{2}[.-]?\d{2}[DT ]|^\d{10,}(\.\d*)?$")
    if whole.all():
        return times(batch, names["ts"], options.time_unit, zone)
    date = batch.frame[names["date"]] if "date" in names else date_in_name(batch.path, options.date)
    return times(batch, names["ts"], options.time_unit, zone, date)


FORMAT = Format(
    name="kdb",
    open_file=_open,
)
