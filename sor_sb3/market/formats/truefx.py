"""TrueFX files: pair, time (GMT), bid and ask without sizes, or time, bid and ask under a header."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally
from sor_sb3.market.formats.tables import TextTable, foreign, open_text
from sor_sb3.market.formats.times import times


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    header = [name.lower() for name in table.names]
    if {"timestamp", "bid", "ask"} <= set(header):
        by_name = dict(zip(header, table.names, strict=True))
        columns = {name: by_name[name] for name in ("timestamp", "bid", "ask")}
        pair = by_name.get("pair") or by_name.get("symbol")
    elif len(header) == 4 and re.fullmatch(r"[a-z]{3}/?[a-z]{3}", header[0]):
        table = open_text(source, has_header=False)
        pair, *rest = table.names
        columns = dict(zip(("timestamp", "bid", "ask"), rest, strict=True))
    else:
        foreign(source.path, table.names, "truefx", "expected timestamp,bid,ask or rows such as EUR/USD,TIME,BID,ASK")
    return Reading(1, False, lambda tally: _quotes(table, columns, pair, options, tally))


def _quotes(
    table: TextTable, columns: dict[str, str], pair: str | None, options: Options, tally: Tally
) -> Iterator[Piece]:
    for batch in table.batches([*columns.values(), *([pair] if pair else [])]):
        rows = batch.frame.height
        tally.read += rows
        quotes = {
            "ts": times(batch, columns["timestamp"], options.time_unit, options.time_zone or "UTC"),
            "venue": pl.repeat("truefx", rows, eager=True),
            "symbol": batch.frame[pair] if pair else pl.repeat("", rows, eager=True),
            "bid_px": batch.numbers(columns["bid"]),
            "bid_sz": pl.repeat(None, rows, dtype=pl.Float64, eager=True),
            "ask_px": batch.numbers(columns["ask"]),
            "ask_sz": pl.repeat(None, rows, dtype=pl.Float64, eager=True),
        }
        yield Piece(quotes=pl.DataFrame(quotes))


FORMAT = Format(
    name="truefx",
    open_file=_open,
    remarks=("there are no sizes; what reads the quotes needs --assumed-depth",),
)
