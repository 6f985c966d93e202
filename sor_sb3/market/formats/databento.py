"""Databento files: DBN (Databento Binary Encoding) and its CSV; mbp-1, mbp-10, bbo-1s, bbo-1m, tbbo and trades.

A venue is a record's publisher, so files of several datasets become several venues. `ts_recv`, when Databento received
the record, is the local clock, `ts_event` the exchange's. Prices are 1e-9 units, undefined ones are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BufferedReader
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.inputs import opened
from sor_sb3.market.formats.tables import Batch, TextTable, foreign, matched, open_text
from sor_sb3.market.formats.times import times

_PRICES_PER_UNIT = 1e9
_CHUNK_BYTES = 8 << 20
_PREFIX_BYTES = 8  # of a DBN file: DBN, the version, the length of the metadata
_AGAIN = "download the file again"
_CONSOLIDATED = ("EQUS", "DBEQ", "OPRA", "CTA", "UTP")  # publishers' venues that are none
_LEVELS = {"mbp-1": 1, "mbp-10": 10, "tbbo": 1, "bbo-1s": 1, "bbo-1m": 1, "trades": 0}
_SCHEMA_OF_RTYPE = {0: "trades", 1: "mbp-1", 10: "mbp-10", 195: "bbo-1s", 196: "bbo-1m", 197: "tbbo"}
_RTYPES = {"tbbo": (1, 197)} | {name: (rtype,) for rtype, name in _SCHEMA_OF_RTYPE.items() if name != "tbbo"}
_CONSOLIDATED_RTYPES = (177, 192, 193, 194)
_SIDES = {"B": "buy", "A": "sell", "N": ""}  # of a trade: the aggressor's
_TRADE, _BAD_BOOK_FLAG = "T", 4


def _library() -> ModuleType:
    try:
        import databento_dbn
    except ImportError:
        raise UserError("reading files of databento needs the extra: pip install 'sor-sb3[databento]'") from None
    return databento_dbn


def _refuse(source: Source, schema: str) -> None:
    """Say why a schema makes no quotes of venues; nothing if it does."""
    if schema in _LEVELS:
        return
    if schema.startswith(("cmbp", "cbbo", "tcbbo")):
        reason = "whose bid and ask are of different venues; download mbp-1, mbp-10 or bbo of each dataset"
        raise UserError(f"{source.path} is of the consolidated schema {schema}, {reason}")
    reason = "orders one by one, not quotes" if schema == "mbo" else "neither quotes nor trades"
    raise UserError(f"{source.path} is of the schema {schema}, {reason}; download {', '.join(_LEVELS)}")


@cache
def _publisher(number: int) -> tuple[str, str]:
    """Dataset and venue of a publisher; the library knows their names where it prints a record."""
    dbn = _library()
    fields = dict.fromkeys(("instrument_id", "ts_event", "price", "size", "depth", "ts_recv"), 0)
    record = dbn.TradeMsg(publisher_id=number, action=dbn.Action.TRADE, side=dbn.Side.NONE, **fields)
    found = re.search(r"publisher_id=([\w.]+)\.(\w+) \(", str(record))
    return (found[1], found[2]) if found else ("", f"publisher {number}")


class _Venues:
    """Venues of publishers; those of consolidated feeds, and two datasets of one venue's quotes, are refused."""

    def __init__(self, source: Source, options: Options) -> None:
        self._path, self._named = source.path, source.venue or options.venue
        self._datasets: dict[str, str] = {}

    def of(self, publishers: pl.Series, quotes: bool) -> pl.Series:
        """Names of the venues of these rows."""
        known = {}
        for number in publishers.unique().to_list():
            dataset, venue = _publisher(number)
            known[number] = venue
            if quotes and venue in _CONSOLIDATED:
                reason = f"the consolidated feed {dataset}, whose bid and ask are of different venues"
                raise UserError(f"{self._path} has quotes of {reason}; download the datasets of the exchanges")
            if quotes and self._datasets.setdefault(venue, dataset) != dataset and not self._named:
                both = f"quotes of {venue} from {self._datasets[venue]} and {dataset}"
                raise UserError(f"{self._path} has {both}; give one of them, or name each (NAME=FILE)")
        return publishers.replace_strict(known, return_dtype=pl.String)


def _open(source: Source, options: Options) -> Reading:
    _library()
    with opened(source) as stream:
        head = stream.peek(16)[:16]
        if head[:3] == b"DBN":
            metadata, _ = _metadata(source, stream)
            return _open_binary(source, options, metadata)
    if b"DBZ" in head:
        raise UserError(f"{source.path} is of the old encoding DBZ; expected DBN: {_AGAIN}")
    return _open_csv(source, options)


# DBN


def _metadata(source: Source, stream: BufferedReader) -> tuple[Any, int]:
    """The metadata, and the version, of a DBN file; the stream stands at the first record."""
    prefix = stream.read(_PREFIX_BYTES)
    length = int.from_bytes(prefix[4:8], "little") if len(prefix) == _PREFIX_BYTES else 0
    body = stream.read(length) if length < 1 << 28 else b""
    if len(prefix) < _PREFIX_BYTES or len(body) < length:
        raise UserError(f"{source.path} is cut off in its metadata; {_AGAIN}")
    try:
        return _library().Metadata.decode(prefix + body), prefix[3]
    except Exception as error:
        raise UserError(f"{source.path} has metadata that cannot be read ({error}); {_AGAIN}") from error


def _open_binary(source: Source, options: Options, metadata: Any) -> Reading:
    if metadata.schema is None:
        raise UserError(f"{source.path} holds several schemas (a live capture); expected a file of one: {_AGAIN}")
    schema = str(metadata.schema)
    _refuse(source, schema)
    if options.clock == "exchange" and schema.startswith("bbo"):
        raise UserError(f"{source.path}: a sample of {schema} has no time of the exchange; give --clock local")
    names = {
        int(part["symbol"]): raw
        for raw, parts in metadata.mappings.items()
        for part in parts
        if part["symbol"].isdigit()
    }
    names = names if str(metadata.stype_out) == "instrument_id" else {}
    trades = not schema.startswith("bbo")
    return Reading(_LEVELS[schema], trades, lambda tally: _binary(source, options, schema, names, tally))


def _dtype(schema: str, ts_out: bool) -> np.dtype:
    dbn = _library()
    record = {"trades": dbn.TradeMsg, "mbp-10": dbn.MBP10Msg}.get(schema)
    record = record or (dbn.BBOMsg if schema.startswith("bbo") else dbn.MBP1Msg)
    fields = list(record._dtypes) + ([("ts_out", "u8")] if ts_out else [])
    return np.dtype(fields)


def _binary(source: Source, options: Options, schema: str, names: Mapping[int, str], tally: Tally) -> Iterator[Piece]:
    venues, levels = _Venues(source, options), min(options.most_levels, _LEVELS[schema])
    with opened(source) as stream:
        metadata, _ = _metadata(source, stream)
        dtype = _dtype(schema, bool(metadata.ts_out))
        for records in _records(source, stream, dtype, _RTYPES[schema], tally):
            ids = pl.Series(records["instrument_id"])
            frame = {
                "ts": records["ts_event" if options.clock == "exchange" else "ts_recv"],
                "publisher": pl.Series(records["publisher_id"]),
                "symbol": ids.cast(pl.Int64).replace_strict(names, default=ids.cast(pl.String), return_dtype=pl.String),
                "flags": records["flags"],
                "px": _priced(records["price"]),
                "sz": records["size"].astype(np.float64),
            }
            if "action" in (dtype.names or ()):
                frame |= {name: pl.Series(records[name].astype("U1")) for name in ("action", "side")}
            for level in range(levels):
                for name, field in zip(level_names(level + 1), _fields(level), strict=True):
                    frame[name] = _priced(records[field]) if "_px" in field else records[field].astype(np.float64)
            rows = pl.DataFrame(frame)
            rows = tally.drop(rows, rows["ts"] < (1 << 63) - 1, "records without a time")
            yield _piece(rows.with_columns(pl.col("ts").cast(pl.Int64)), levels, venues, tally)


def _records(
    source: Source, stream: BufferedReader, dtype: np.dtype, rtypes: Sequence[int], tally: Tally
) -> Iterator[np.ndarray]:
    """The records of the schema; system messages and the like between them are counted as dropped."""
    rest, done = b"", 0
    while chunk := stream.read(_CHUNK_BYTES):
        data = rest + chunk
        whole = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        if len(whole) and np.all(whole["length"] * 4 == dtype.itemsize) and np.isin(whole["rtype"], rtypes).all():
            records, used = whole, len(whole) * dtype.itemsize
        else:
            parts, used = _walk(source, data, dtype.itemsize, rtypes, done, tally)
            records = np.frombuffer(b"".join(parts), dtype)
        rest, done = data[used:], done + len(records)
        tally.read += len(records)
        if len(records):
            yield records
    if rest:
        raise UserError(f"{source.path} is cut off inside the record after record {done}; {_AGAIN}")
    if not done:
        raise UserError(f"{source.path} has metadata but no records; {_AGAIN}, or ask for other times or symbols")


def _walk(
    source: Source, data: bytes, size: int, rtypes: Sequence[int], done: int, tally: Tally
) -> tuple[list[bytes], int]:
    """Records of the schema among others, and how many bytes were used."""
    parts: list[bytes] = []
    at = 0
    while at + 2 <= len(data):
        length, rtype = data[at] * 4, data[at + 1]
        if length < 16:
            raise UserError(
                f"{source.path} is broken after record {done + len(parts)} (a length of {length}); {_AGAIN}"
            )
        if at + length > len(data):
            break
        if rtype in rtypes and length == size:
            parts.append(data[at : at + length])
        elif rtype in rtypes or rtype in _CONSOLIDATED_RTYPES:
            what = f"record {done + len(parts) + 1} of kind {rtype} has {length} bytes, not {size}"
            raise UserError(f"{source.path} is broken: {what}; {_AGAIN}")
        else:
            tally.read += 1
            tally.dropped["records of other kinds (system, symbols)"] += 1
        at += length
    return parts, at


def _priced(raw: np.ndarray) -> pl.Series:
    undefined = np.iinfo(np.int64).max
    return pl.Series(np.where(raw == undefined, np.nan, raw / _PRICES_PER_UNIT)).fill_nan(None)


def _fields(level: int) -> list[str]:
    """Databento's names of a level, in the order of `level_names`."""
    return [f"{name}_{level:02d}" for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]


# CSV


def _open_csv(source: Source, options: Options) -> Reading:
    table = open_text(source)
    here = set(table.names)
    matched(table, "databento", {name: (name,) for name in ("publisher_id", "instrument_id")})
    for sign, schema in (
        ("bid_pb_00", "cmbp-1 or cbbo"),
        ("order_id", "mbo"),
        ("open", "ohlcv"),
        ("ts_ref", "statistics"),
    ):
        if sign in here:
            _refuse(source, schema)
    levels = sum(f"bid_px_{level:02d}" in here for level in range(10))
    lacking = [name for level in range(levels) for name in _fields(level) if name not in here]
    lacking += [name for name in ("ts_recv", "price", "size", "side") if name not in here]
    if lacking:
        foreign(source.path, table.names, "databento", f"no column {', '.join(lacking)}")
    sampled = "action" not in here
    if options.clock == "exchange" and sampled:
        raise UserError(f"{source.path}: samples (bbo) have no time of the exchange; give --clock local")
    return Reading(levels, not sampled, lambda tally: _csv(table, source, options, levels, tally))


def _csv(table: TextTable, source: Source, options: Options, levels: int, tally: Tally) -> Iterator[Piece]:
    venues, kept = _Venues(source, options), min(options.most_levels, levels)
    clock = "ts_event" if options.clock == "exchange" else "ts_recv"
    fields = {
        name: field for level in range(kept) for name, field in zip(level_names(level + 1), _fields(level), strict=True)
    }
    optional = [name for name in ("rtype", "action", "symbol", "flags") if name in table.names]
    wanted = [clock, "publisher_id", "instrument_id", "price", "size", "side", *optional, *fields.values()]
    for batch in table.batches(wanted):
        tally.read += batch.frame.height
        timed = ~batch.frame[clock].is_in(["", str((1 << 64) - 1)])
        if not timed.all():
            batch = Batch(batch.path, tally.drop(batch.frame, timed, "records without a time"), batch.first_row)
        if "rtype" in table.names:
            kinds = batch.numbers("rtype", pl.Int64)
            expected = f"a kind of record that has quotes of one venue; download {', '.join(_LEVELS)}"
            batch.check("rtype", kinds.is_in(list(_SCHEMA_OF_RTYPE)), expected)
        frame = {
            "ts": times(batch, clock, "ns", "UTC"),
            "publisher": batch.numbers("publisher_id", pl.Int64),
            "symbol": batch.frame["symbol" if "symbol" in table.names else "instrument_id"],
            "px": _csv_price(batch, "price"),
            "sz": batch.numbers("size"),
            "flags": batch.numbers("flags", pl.Int64) if "flags" in table.names else 0,
            **{name: _csv_price(batch, f) if "_px" in f else batch.numbers(f) for name, f in fields.items()},
        }
        if "action" in table.names:
            frame |= {name: batch.frame[name] for name in ("action", "side")}
        yield _piece(pl.DataFrame(frame), kept, venues, tally)


def _csv_price(batch: Batch, column: str) -> pl.Series:
    """Decimals, or whole 1e-9 units, as the file was ordered; the largest int64 is an undefined price."""
    if batch.frame[column].str.contains(".", literal=True).any():
        return batch.numbers(column)
    undefined = batch.numbers(column, pl.Int64) == (1 << 63) - 1
    return batch.fixed_point(column, _PRICES_PER_UNIT).set(undefined.fill_null(True), None)


def _piece(rows: pl.DataFrame, levels: int, venues: _Venues, tally: Tally) -> Piece:
    """Quotes, and the trades among them, of rows of either encoding."""
    rows = rows.with_columns(venue=venues.of(rows["publisher"], quotes=bool(levels)))
    flagged = int((rows["flags"].cast(pl.Int64) & _BAD_BOOK_FLAG != 0).sum())
    if flagged:
        tally.remarks["Databento marks the book as possibly bad (flag 4); kept"] += flagged
    names = [name for level in range(1, levels + 1) for name in level_names(level)]
    quotes = rows.select("ts", "venue", "symbol", *names) if levels else None
    if "action" not in rows.columns:
        return Piece(quotes)
    trades = rows.filter(pl.col("action") == _TRADE) if levels else rows
    side = pl.col("side").replace_strict(_SIDES, default="", return_dtype=pl.String)
    return Piece(quotes, trades.select("ts", "venue", "symbol", "px", "sz", side) if trades.height else None)


FORMAT = Format(
    name="databento",
    open_file=_open,
    suffixes=(".dbn", ".dbn.zst", ".csv", ".csv.zst", ".csv.gz"),
    one_symbol=True,
)
