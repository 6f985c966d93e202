"""Reads a table of quotes or trades, Parquet or CSV, into checked NumPy columns. `cleaning` judges them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sor_sb3.market.formats import recognise
from sor_sb3.market.quote_columns import BoolArray as BoolArray
from sor_sb3.market.quote_columns import FloatArray as FloatArray
from sor_sb3.market.quote_columns import IntArray as IntArray
from sor_sb3.market.quote_columns import QuoteFileError as QuoteFileError
from sor_sb3.market.quote_columns import check_timezone, halted_of, numbers_of, sides_of, times_of, venue_codes

Columns = dict[str, tuple[str, ...]]  # a column's name and what it may be called in the file

SUFFIXES = (".parquet", ".csv", ".csv.gz")
QUOTE_COLUMNS: Columns = {name: (name,) for name in ("ts", "venue", "bid_px", "bid_sz", "ask_px", "ask_sz")}
MOST_LEVELS = 8  # of a side; the first is in QUOTE_COLUMNS, further ones have a number, as in ask_px_2
TRADE_COLUMNS: Columns = {"ts": ("ts",), "venue": ("venue",), "px": ("px", "price"), "sz": ("sz", "size")}
SIDE = "side"  # of trades, where a file has it: whose marketable order it was
STATUS = "status"  # of quotes, where a file has it: whether the venue trades
_BLOCK = 1 << 22  # bytes that are read at once


@dataclass
class QuoteTable:
    """A file's columns; `code` is an index into `names` (sorted), -1 where no venue is named.

    Numbers are read when they are asked for, a column at a time: a large file is never in memory as a whole.
    """

    path: Path
    ts: IntArray
    code: NDArray[np.int16]
    names: list[str]
    columns: tuple[str, ...]  # those of numbers
    read: Callable[[str], pa.ChunkedArray]

    def numbers(self, name: str) -> FloatArray:
        """A column (n,): NaN where nothing is said."""
        kind = {SIDE: sides_of, STATUS: halted_of}.get(name, numbers_of)
        return kind(self.path, name, self.read(name))


def _opened(path: Path, kind: str) -> pa.NativeFile:
    try:
        if path.is_dir():
            raise QuoteFileError(f"{path} is a folder, but the {kind} file must be one file: name a file in it.")
        if not path.exists():
            raise QuoteFileError(f"{path} does not exist: check the path of the {kind} file.")
        if not path.name.lower().endswith(SUFFIXES):
            expected = f"a {kind} file must end in one of {', '.join(SUFFIXES)}"
            raise QuoteFileError(f"{path} has the suffix {path.suffix!r}, but {expected}: convert or rename it.")
        file = pa.OSFile(str(path))
    except OSError as error:
        reason = error.strerror or error
        raise QuoteFileError(f"{path} cannot be read ({reason}): check that you may read the {kind} file.") from error
    if not file.size():
        raise QuoteFileError(f"{path} is empty (0 bytes): record or copy the {kind} file again.")
    return file


def add_digest(path: Path, kind: str, digest: Any) -> None:
    """Put the bytes of a file into a `digest` of hashlib.

    Raises:
        QuoteFileError: the file cannot be read, is empty, or has another suffix than those of tables.
    """
    with _opened(path, kind) as file:
        while block := file.read(_BLOCK):
            digest.update(block)


def read_table(path: Path, columns: Columns, kind: str, timezone: str | None = None) -> QuoteTable:
    """The `columns` of a file; `kind` ("quote", "trade") names it in messages. Times without a zone are of `timezone`.

    Of quotes there may be further levels: `bid_px_2`, `bid_sz_2`, `ask_px_2`, `ask_sz_2`, and so on; and a `status`: 1
    where it says that the venue is halted, else 0. Of trades there may be a `side`: 1 where the buyer was the
    aggressor, -1 where the seller was, NaN where the file does not say.

    Raises:
        QuoteFileError: the file cannot be read as a table of these columns; the message names file, column and row.
    """
    check_timezone(timezone)
    file = _opened(path, kind)
    is_parquet = path.name.lower().endswith(".parquet")
    found, n_rows, read = (_parquet if is_parquet else _csv)(path, file, columns)
    if n_rows == 0:
        raise QuoteFileError(f"{path} has columns but no rows: give a {kind} file with at least one row.")
    code, names = venue_codes(path, read("venue"))
    ts = times_of(path, read("ts"), timezone)
    return QuoteTable(path, ts, code, names, tuple(name for name in found if name not in ("ts", "venue")), read)


def _match_columns(path: Path, present: Sequence[str], columns: Columns) -> dict[str, str]:
    """Returns the file's own name of each column."""
    optional = SIDE if columns is TRADE_COLUMNS else STATUS
    missing = [aliases for aliases in columns.values() if not set(aliases) & set(present)]
    if missing:
        raise QuoteFileError(_missing_text(path, present, columns, missing))
    known = columns | ({optional: (optional,)} if optional in present else {})
    found: dict[str, str] = {}
    for name, aliases in (known | _further_levels(path, present, columns)).items():
        found[name] = next(alias for alias in aliases if alias in present)
        if list(present).count(found[name]) > 1:
            raise QuoteFileError(f"{path} has the column {found[name]!r} more than once: keep one of them.")
    return found


def _missing_text(path: Path, present: Sequence[str], columns: Columns, missing: Sequence[tuple[str, ...]]) -> str:
    named = [" or ".join(map(repr, aliases)) for aliases in missing]
    what = f"{path} has no column {', '.join(named)}"
    listed = ", ".join(present)[:300] or "none"
    if (vendor := recognise(present)) is not None:
        out = "trades.parquet" if columns is TRADE_COLUMNS else "quotes.parquet"
        remedy = f"they are those of {vendor}; convert the file with: sor-sb3 data convert {vendor} {path} --out {out}"
        return f"{what}, but it has: {listed}: {remedy}."
    each = "that column" if len(missing) == 1 else "those columns"
    hint = " (sizes empty where they are not known)" if {("bid_sz",), ("ask_sz",)} & set(missing) else ""
    return f"{what}, but it has: {listed}: rename or add {each}{hint}; needed are {', '.join(columns)}."


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


Source = tuple[dict[str, str], int, Callable[[str], pa.ChunkedArray]]  # columns, rows, and how to read a column


def _parquet(path: Path, file: pa.NativeFile, columns: Columns) -> Source:
    try:
        begins = file.read(12)
        file.seek(0)
        schema = pq.read_schema(file)
        found = _match_columns(path, schema.names, columns)
        file.seek(0)
        is_text = schema.field(found["venue"]).type in (pa.string(), pa.large_string())
        opened = pq.ParquetFile(file, read_dictionary=[found["venue"]] if is_text else None)
    except (pa.ArrowException, OSError) as error:
        what = f"{path} cannot be read as a Parquet file (it begins with {begins!r})"
        raise QuoteFileError(f"{what}: rename it if it is a CSV file, or write it again.") from error

    def read(name: str) -> pa.ChunkedArray:
        try:
            return opened.read(columns=[found[name]]).column(0)
        except (pa.ArrowException, OSError) as error:
            what = f"{path}, column {found[name]!r} cannot be read ({str(error).splitlines()[0][:200]})"
            raise QuoteFileError(f"{what}: the file is cut or damaged; write or copy it again.") from error

    return found, opened.metadata.num_rows, read


def _csv_bytes(path: Path, content: bytes) -> bytes:
    """The text of a file, unpacked and without a mark at its beginning; checked to be UTF-8."""
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            what = f"{path} cannot be unpacked with gzip ({error})"
            raise QuoteFileError(f"{what}: pack it again or, if not packed, rename it.") from error
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        for at in range(0, len(content) + 1, _BLOCK):
            decoder.decode(content[at : at + _BLOCK], final=at + _BLOCK > len(content))
    except UnicodeDecodeError as error:
        where = at + error.start - (len(error.object) - len(content[at : at + _BLOCK]))
        line = content.count(b"\n", 0, where) + 1
        what = f"{path}, line {line}: the byte 0x{content[where]:02x} is not UTF-8 text"
        raise QuoteFileError(f"{what}: save it as UTF-8.") from error
    return content.removeprefix(codecs.BOM_UTF8)


def _csv(path: Path, file: pa.NativeFile, columns: Columns) -> Source:
    content = _csv_bytes(path, file.read())
    file.close()
    end = re.search(rb"\r\n|\n|\r", content)
    head, body = (content, b"") if end is None else (content[: end.start()], memoryview(content)[end.end() :])
    try:
        present = [name.strip() for row in csv.reader([head.decode()]) for name in row]
        found = _match_columns(path, present, columns)
        if not bytes(body[:_BLOCK]).strip() and not bytes(body).strip():
            return found, 0, lambda name: pa.chunked_array([], pa.string())
        # Columns get names of our own, as those of unused columns may repeat.
        names = [f"{index} {name}" for index, name in enumerate(present)]
        wanted = [names[present.index(name)] for name in found.values()]
        reading = pa_csv.ReadOptions(column_names=names, use_threads=False)
        texts = pa_csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()))
        source = io.BytesIO(body)
        del content, body
        table = pa_csv.read_csv(source, read_options=reading, convert_options=texts).rename_columns(list(found))
    except (pa.ArrowException, csv.Error) as error:
        # Without threads pyarrow names the row, counted from 1 after the header as elsewhere in this module.
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")[:200].replace("Row #", "data row ")
        what = f"{path} is not a table with commas between its columns ({reason})"
        raise QuoteFileError(f"{what}: correct that row.") from error
    return found, table.num_rows, table.column


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
