"""Reads a table of quotes or trades, Parquet or CSV, into checked NumPy columns. `cleaning` judges them."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sor_sb3.errors import UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Columns = dict[str, tuple[str, ...]]  # a column's name and what it may be called in the file

SUFFIXES = (".parquet", ".csv", ".csv.gz")
QUOTE_COLUMNS: Columns = {name: (name,) for name in ("ts", "venue", "bid_px", "bid_sz", "ask_px", "ask_sz")}
MOST_LEVELS = 8  # of a side; the first is in QUOTE_COLUMNS, further ones have a number, as in ask_px_2
TRADE_COLUMNS: Columns = {"ts": ("ts",), "venue": ("venue",), "px": ("px", "price"), "sz": ("sz", "size")}
SIDE = "side"  # of trades, where a file has it: whose marketable order it was
_SIDES = {"buy": 1.0, "b": 1.0, "1": 1.0, "1.0": 1.0, "sell": -1.0, "s": -1.0, "-1": -1.0, "-1.0": -1.0}

_EARLIEST_NS = 100_000_000_000_000_000  # March 1973: an integer below this counts s, ms or us, not ns
_EMPTY_NUMBERS = pa.array(["", "nan", "na", "n/a", "null", "none"])


class QuoteFileError(UserError):
    """A recording, or an argument about it, cannot be used; the message says what is wrong and what to do."""


@dataclass
class QuoteTable:
    """A file's columns. `code` is an index into `names` (sorted), -1 where no venue is named."""

    path: Path
    ts: IntArray
    code: IntArray
    names: list[str]
    numbers: dict[str, FloatArray]


def _read_bytes(path: Path, kind: str) -> bytes:
    try:
        if path.is_dir():
            raise QuoteFileError(f"{path} is a folder, but the {kind} file must be one file: name a file in it.")
        if not path.exists():
            raise QuoteFileError(f"{path} does not exist: check the path of the {kind} file.")
        if not path.name.lower().endswith(SUFFIXES):
            expected = f"a {kind} file must end in one of {', '.join(SUFFIXES)}"
            raise QuoteFileError(f"{path} has the suffix {path.suffix!r}, but {expected}: convert or rename it.")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise QuoteFileError(f"{path} cannot be read ({reason}): check that you may read the {kind} file.") from error
    if not content:
        raise QuoteFileError(f"{path} is empty (0 bytes): record or copy the {kind} file again.")
    return content


def read_table(path: Path, columns: Columns, kind: str) -> tuple[QuoteTable, bytes]:
    """The `columns` of a file, and its bytes; `kind` ("quote", "trade") names it in messages.

    Of quotes there may be further levels: `bid_px_2`, `bid_sz_2`, `ask_px_2`, `ask_sz_2`, and so on. Of trades there
    may be a `side`: 1 where the buyer was the aggressor, -1 where the seller was, NaN where the file does not say.

    Raises:
        QuoteFileError: the file cannot be read as a table of these columns; the message names file, column and row.
    """
    content = _read_bytes(path, kind)
    is_parquet = path.name.lower().endswith(".parquet")
    table = _parquet_table(path, content, columns) if is_parquet else _csv_table(path, content, columns)
    if table.num_rows == 0:
        raise QuoteFileError(f"{path} has columns but no rows: give a {kind} file with at least one row.")
    code, names = _venue_codes(path, table.column("venue"))
    ts = _timestamps(path, table.column("ts"))
    others = [name for name in table.column_names if name not in ("ts", "venue")]
    numbers = {name: (_sides if name == SIDE else _numbers)(path, name, table.column(name)) for name in others}
    return QuoteTable(path, ts, code, names, numbers), content


def _match_columns(path: Path, present: Sequence[str], columns: Columns) -> dict[str, str]:
    """Returns the file's own name of each column."""
    found: dict[str, str] = {}
    sides: Columns = {SIDE: (SIDE,)} if columns is TRADE_COLUMNS and SIDE in present else {}
    for name, aliases in (columns | sides | _further_levels(path, present, columns)).items():
        here = [alias for alias in aliases if alias in present]
        if not here:
            what = f"{path} has no column {' or '.join(map(repr, aliases))}"
            listed = ", ".join(present)[:300] or "none"
            hint = " (empty where sizes are not known)" if name in ("bid_sz", "ask_sz") else ""
            remedy = f"rename or add that column{hint}; needed are {', '.join(columns)}."
            raise QuoteFileError(f"{what}, but it has: {listed}: {remedy}")
        if list(present).count(here[0]) > 1:
            raise QuoteFileError(f"{path} has the column {here[0]!r} more than once: keep one of them.")
        found[name] = here[0]
    return found


def _further_levels(path: Path, present: Sequence[str], columns: Columns) -> Columns:
    """The columns of levels behind the touch that a file of quotes has."""
    found: Columns = {}
    if columns is not QUOTE_COLUMNS:
        return found
    sides = [name for name in QUOTE_COLUMNS if name not in ("ts", "venue")]
    for level in range(2, MOST_LEVELS + 1):
        names = [f"{name}_{level}" for name in sides]
        here = [name for name in names if name in present]
        if here and (len(here) < len(names) or len(found) < len(names) * (level - 2)):
            missing = next(name for n in range(2, level + 1) for s in sides if (name := f"{s}_{n}") not in present)
            what = f"{path} has the column {here[0]!r} but no {missing!r}"
            raise QuoteFileError(f"{what}: give price and size of both sides of every level, or leave the level out.")
        found |= {name: (name,) for name in here}
    return found


def _parquet_table(path: Path, content: bytes, columns: Columns) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        found = _match_columns(path, file.schema_arrow.names, columns)
        wanted = list(found.values())
        return file.read(columns=wanted).select(wanted).rename_columns(list(found))
    except (pa.ArrowException, OSError) as error:
        what = f"{path} cannot be read as a Parquet file (it begins with {content[:12]!r})"
        raise QuoteFileError(f"{what}: rename it if it is a CSV file, or write it again.") from error


def _csv_text(path: Path, content: bytes) -> str:
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            what = f"{path} cannot be unpacked with gzip ({error})"
            raise QuoteFileError(f"{what}: pack it again or, if not packed, rename it.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8 text"
        raise QuoteFileError(f"{what}: save it as UTF-8.") from error


def _csv_table(path: Path, content: bytes, columns: Columns) -> pa.Table:
    head, *rest = re.split(r"\r\n|\n|\r", _csv_text(path, content), maxsplit=1)
    try:
        present = [name.strip() for row in csv.reader([head]) for name in row]
        found = _match_columns(path, present, columns)
        body = rest[0] if rest else ""
        if not body.strip():
            return pa.table({name: pa.array([], pa.string()) for name in found})
        # Columns get names of our own, as those of unused columns may repeat.
        names = [f"{index} {name}" for index, name in enumerate(present)]
        wanted = [names[present.index(name)] for name in found.values()]
        reading = pa_csv.ReadOptions(column_names=names, use_threads=False)
        texts = pa_csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()))
        table = pa_csv.read_csv(io.BytesIO(body.encode()), read_options=reading, convert_options=texts)
    except (pa.ArrowException, csv.Error) as error:
        # Without threads pyarrow names the row, counted from 1 after the header as elsewhere in this module.
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")[:200].replace("Row #", "data row ")
        what = f"{path} is not a table with commas between its columns ({reason})"
        raise QuoteFileError(f"{what}: correct that row.") from error
    return table.rename_columns(list(found))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary encoding and without white space around text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pc.utf8_trim_whitespace(column) if _is_text(column) else column


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _bad_value(path: Path, name: str, row: int, value: object, expected: str) -> NoReturn:
    raise QuoteFileError(f"{path}, column {name!r}, data row {row + 1}: {value!r} is not {expected}.")


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    column = _plain(column)
    kind, types = column.type, pa.types
    if _is_text(column):
        empty = pc.is_in(pc.utf8_lower(column), value_set=_EMPTY_NUMBERS.cast(kind))
        column = pc.if_else(empty, pa.scalar(None, kind), column)
    elif not any(is_kind(kind) for is_kind in (types.is_floating, types.is_integer, types.is_decimal, types.is_null)):
        raise QuoteFileError(f"{path}, column {name!r} has the type {kind}: write it as numbers (float64).")
    try:
        values = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        row = _first_failure(column, pa.float64())
        _bad_value(path, name, row, column[row].as_py(), "a number: correct it, or leave it empty if unknown")
    return np.asarray(pc.fill_null(values, np.nan).to_numpy(), dtype=np.float64)


def _sides(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    """1 where the aggressor bought, -1 where it sold, NaN where nothing is said."""
    column = _plain(column)
    if not _is_text(column) and not pa.types.is_boolean(column.type):
        values = _numbers(path, name, column)
        wrong = ~(np.isnan(values) | (np.abs(values) == 1.0))
    else:
        text = pc.utf8_lower(pc.fill_null(column.cast(pa.string()), ""))
        distinct = pc.unique(text)
        empty = pc.is_in(distinct, value_set=_EMPTY_NUMBERS).to_pylist()
        of = {
            word: np.nan if none else _SIDES.get(word, 0.0)
            for word, none in zip(distinct.to_pylist(), empty, strict=True)
        }
        values = np.array([of[word] for word in text.to_pylist()], dtype=np.float64)
        wrong = values == 0.0
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "a side of the aggressor: write buy or sell, b or s, 1 or -1, or leave it empty if unknown"
        _bad_value(path, name, row, column[row].as_py(), expected)
    return values


def _first_failure(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    """Returns the first row that cannot be cast, by halving; for columns in which there is one."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowException:
            high = middle
    return low


def _timestamps(path: Path, column: pa.ChunkedArray) -> IntArray:
    """Returns UTC nanoseconds since 1970."""
    column = _plain(column)
    expected = "a UTC time: write int64 nanoseconds since 1970 or ISO text such as 2024-01-02T14:35:00.123"
    absent = pc.equal(column, "") if _is_text(column) else column.is_null()
    first_absent = pc.index(pc.fill_null(absent, True), True).as_py()
    if first_absent >= 0:
        _bad_value(path, "ts", first_absent, "", expected)
    if _is_text(column):
        column = _parse_times(path, column, expected)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
        raise QuoteFileError(f"{path}, column 'ts' has the type {kind}: write int64 nanoseconds or timestamps.")
    try:
        whole = column if pa.types.is_integer(kind) else column.cast(pa.timestamp("ns", kind.tz))
        ts = np.asarray(whole.cast(pa.int64()).to_numpy(), dtype=np.int64)
    except pa.ArrowException as error:
        raise QuoteFileError(f"{path}, column 'ts' has times outside the years 1678 to 2262: correct them.") from error
    early = ts < _EARLIEST_NS
    if early.any():
        if not pa.types.is_integer(kind):
            raise QuoteFileError(f"{path}, column 'ts' has times before March 1973: correct them.")
        row = int(np.argmax(early))
        _bad_value(path, "ts", row, int(ts[row]), "in nanoseconds since 1970: convert s, ms or us to ns")
    return ts


def _parse_times(path: Path, text: pa.ChunkedArray, expected: str) -> pa.ChunkedArray:
    """Returns int64 or timestamps; as in the first row, all integers, all without or all with an offset."""
    first = text[0].as_py()
    has_offset = re.search(r"(Z|[+-]\d{2}:?(\d{2})?)$", first[10:])
    is_number = re.fullmatch(r"[+-]?\d+", first)
    kind: pa.DataType = pa.int64() if is_number else pa.timestamp("ns", "UTC" if has_offset else None)
    try:
        return text.cast(kind)
    except pa.ArrowException:
        row = _first_failure(text, kind)
        same = "" if row == 0 else f", in the same form as {first!r} in data row 1"
        _bad_value(path, "ts", row, text[row].as_py(), expected + same)


def _venue_codes(path: Path, column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    column = _plain(column)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not _is_text(column):
        raise QuoteFileError(f"{path}, column 'venue' has the type {column.type}: write the names as text.")
    encoded = pc.fill_null(column, "").dictionary_encode().unify_dictionaries()
    found: list[str] = encoded.chunk(0).dictionary.to_pylist()
    names = sorted(name for name in found if name)
    if not names:
        raise QuoteFileError(f"{path}, column 'venue' is empty in every row: name the venue of each row.")
    place = {name: index for index, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in found], dtype=np.int64)
    return lookup[np.concatenate([np.asarray(chunk.indices) for chunk in encoded.chunks])], names


def wanted_venues(table: QuoteTable, venues: Sequence[str] | None) -> list[str]:
    """Returns the venues to keep, sorted."""
    if venues is None:
        return table.names
    chosen = {venues} if isinstance(venues, str) else set(venues)
    if not chosen:
        raise QuoteFileError(f"venues is empty: name at least one of {', '.join(table.names)}, or leave it out.")
    known, unknown = ", ".join(table.names), sorted(str(name) for name in chosen if name not in table.names)
    if unknown:
        listed = ", ".join(map(repr, unknown))
        raise QuoteFileError(f"{table.path} has no venue {listed}; it has {known}: choose among these.")
    return [name for name in table.names if name in chosen]
