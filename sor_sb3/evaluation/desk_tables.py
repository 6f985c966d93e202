"""One table of a desk's log, Parquet or CSV: its columns as numbers, sides, times and names, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sor_sb3.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
UNKNOWN_TIME = int(np.iinfo(np.int64).min)
_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_SIDES = {"buy": 1, "b": 1, "1": 1, "1.0": 1, "+1": 1, "sell": -1, "s": -1, "-1": -1, "-1.0": -1}
_EARLIEST_NS = 100_000_000_000_000_000  # March 1973: a whole number below this counts s, ms or us, not ns
_EMPTY = pa.array(["", "nan", "na", "n/a", "null", "none"])


class DeskTable:
    """A file's columns as text or as they are; each asked for by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        table = _read(path)
        self._columns: dict[str, pa.ChunkedArray] = {}
        for i, name in enumerate(table.column_names):
            self._columns.setdefault(name.strip(), table.column(i))
        self._n, self._texts = table.num_rows, dict[str, list[str]]()

    def require(self, columns: Mapping[str, str]) -> None:
        """Name all the columns that are missing."""
        missing = [f"{name} ({meaning})" for name, meaning in columns.items() if name not in self._columns]
        if missing:
            has = ", ".join(self._columns)[:300] or "none"
            raise UserError(f"{self.path} lacks the columns {'; '.join(missing)}: it has {has}; rename or add them")
        if self._n == 0:
            raise UserError(f"{self.path} has columns but no rows; give a log with at least one")

    def refuse(self, column: str, row: int, value: object, expected: str) -> NoReturn:
        """Raise the sentence about one value."""
        raise UserError(f"{self.path}, column '{column}', data row {row + 1}: {value!r}; expected {expected}")

    def cell(self, column: str, row: int) -> object:
        """What the file has there."""
        return self._columns[column][row].as_py()

    def texts(self, name: str) -> list[str]:
        """A column of names, each of which must be there."""
        if name not in self._texts:
            values = ["" if v is None else str(v).strip() for v in self._columns[name].to_pylist()]
            if "" in values:
                self.refuse(name, values.index(""), "", "a name")
            self._texts[name] = values
        return self._texts[name]

    def _plain(self, name: str) -> pa.ChunkedArray:
        column = self._columns[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not _is_text(column):
            return column
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        return pc.if_else(pc.is_in(pc.utf8_lower(text), value_set=_EMPTY), pa.scalar(None, pa.string()), text)

    def numbers(self, name: str, optional: bool = False) -> Floats:
        """A column of numbers; NaN where an optional one says nothing, or is not there."""
        if name not in self._columns:
            return np.full(self._n, np.nan)
        column = self._plain(name)
        try:
            values = np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan), dtype=np.float64)
        except pa.ArrowException:
            row = _first_failure(column, pa.float64())
            self.refuse(name, row, column[row].as_py(), "a number")
        wrong = np.isinf(values) | (np.isnan(values) & (not optional))
        if wrong.any():
            row = int(np.argmax(wrong))
            self.refuse(name, row, self.cell(name, row), "a number")
        return values

    def sides(self, name: str) -> Floats:
        """+1 where the order buys, -1 where it sells."""
        words = [str(v).strip().lower() for v in self._columns[name].to_pylist()]
        values = np.array([_SIDES.get(word, 0) for word in words], dtype=np.float64)
        if (values == 0.0).any():
            row = int(np.argmax(values == 0.0))
            self.refuse(name, row, self.cell(name, row), "buy or sell, b or s, 1 or -1")
        return values

    def times(self, name: str, optional: bool = False) -> Ints:
        """UTC ns since 1970."""
        if name not in self._columns:
            return np.full(self._n, UNKNOWN_TIME)
        column = self._plain(name)
        expected = "a UTC time: int64 nanoseconds since 1970, or text such as 2024-01-02T14:35:00.123"
        if pa.types.is_null(column.type):
            column = column.cast(pa.int64())
        if _is_text(column):
            column = self._parsed(name, column, expected)
        if not (pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type)):
            raise UserError(f"{self.path}, column '{name}' has the type {column.type}; expected {expected}")
        try:
            whole = column.cast(pa.timestamp("ns", column.type.tz)) if pa.types.is_timestamp(column.type) else column
            values = np.asarray(whole.cast(pa.int64()).fill_null(UNKNOWN_TIME), dtype=np.int64)
        except pa.ArrowException:
            raise UserError(f"{self.path}, column '{name}' has times outside the years 1678 to 2262") from None
        wrong = (values < _EARLIEST_NS) & ((values != UNKNOWN_TIME) | (not optional))
        if wrong.any():
            row = int(np.argmax(wrong))
            self.refuse(name, row, self.cell(name, row), expected)
        return values

    def _parsed(self, name: str, text: pa.ChunkedArray, expected: str) -> pa.ChunkedArray:
        """Whole numbers or timestamps, as the first of them is; without an offset a time is UTC."""
        known = text.drop_null()
        if not len(known):
            return text.cast(pa.int64())
        first = str(known[0].as_py())
        zoned = first[10:].rstrip("0123456789:").endswith(("+", "-")) or first.endswith(("Z", "z"))
        kind = pa.int64() if first.isdigit() else pa.timestamp("ns", "UTC" if zoned else None)
        try:
            return text.cast(kind)
        except pa.ArrowException:
            row = _first_failure(text, kind)
            self.refuse(name, row, text[row].as_py(), f"{expected}, in the form of {first!r}")


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _first_failure(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    """The first row that cannot be cast, where there is one."""
    for row in range(len(column)):
        try:
            column.slice(row, 1).cast(kind, safe=False)
        except pa.ArrowException:
            return row
    return 0


def _read(path: Path) -> pa.Table:
    """A file's table; CSV columns are text."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise UserError(f"{path} has another suffix; expected a log in {', '.join(_SUFFIXES)}")
    try:
        if path.name.lower().endswith(".parquet"):
            return pq.read_table(path)
        with pa.input_stream(str(path)) as stream:
            head = stream.read()
        names = pa_csv.open_csv(pa.BufferReader(head)).schema.names
        texts = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        return pa_csv.read_csv(pa.BufferReader(head), convert_options=texts)
    except (pa.ArrowException, OSError) as error:
        said = " ".join((getattr(error, "strerror", None) or str(error)).split())[:200]
        raise UserError(f"{path} cannot be read as a table ({said}); expected a log of children or fills") from None
