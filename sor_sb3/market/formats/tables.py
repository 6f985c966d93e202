"""Vendors' text tables: read in batches as text, turned into numbers; what is none is named by file, column and row."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Source
from sor_sb3.market.formats.headers import recognise
from sor_sb3.market.formats.inputs import opened

_BLOCK_BYTES = 4 << 20
_EMPTY = ("", "nan", "na", "n/a", "null", "none", "0n", "0nf", "0nj", "0ni", "0w", "-0w", "inf", "-inf")
_SIDES = {"buy": "buy", "b": "buy", "1": "buy", "sell": "sell", "s": "sell", "-1": "sell", "unknown": "", "n": ""}


@dataclass
class Batch:
    """Some rows of a text table; `first_row` counts from 1 after the header (from 1 where there is none)."""

    path: Path
    frame: pl.DataFrame
    first_row: int

    def bad(self, column: str, index: int, expected: str) -> NoReturn:
        """Say that a value cannot be used.

        Raises:
            UserError: always.
        """
        value = self.frame[column][index]
        raise UserError(
            f"{self.path}, column '{column}', data row {self.first_row + index}: {value!r} is not {expected}"
        )

    def check(self, column: str, good: pl.Series, expected: str) -> None:
        """Say of the first row that is not good that its value cannot be used.

        Raises:
            UserError: not all are good.
        """
        good = good.fill_null(False)
        if not good.all():
            self.bad(column, int((~good).arg_max() or 0), expected)

    def numbers(self, column: str, dtype: type[pl.DataType] = pl.Float64) -> pl.Series:
        """A column as numbers; what is empty, or how kdb and pandas write nothing, is null.

        Raises:
            UserError: a value is no number.
        """
        text = self.frame[column]
        values = text.cast(dtype, strict=False)
        if values.null_count():
            plain = text.str.strip_chars(" \t\"'").str.to_lowercase()
            empty = plain.is_in(_EMPTY)
            values = plain.set(empty, None).cast(dtype, strict=False)
            kind = "a whole number" if dtype.is_integer() else "a number"
            self.check(column, values.is_not_null() | empty, f"{kind}; correct it, or leave it empty if unknown")
        return values.set(values.is_infinite() | values.is_nan(), None) if dtype.is_float() else values

    def fixed_point(self, column: str, per_unit: float) -> pl.Series:
        """A column of whole numbers, of which `per_unit` are 1; divided as doubles are, not times the inverse.

        Raises:
            UserError: a value is no whole number.
        """
        return pl.Series(self.numbers(column, pl.Int64).to_numpy() / per_unit).fill_nan(None)

    def sides(self, column: str) -> pl.Series:
        """Whose marketable order a trade was: buy, sell, or empty where the file does not say.

        Raises:
            UserError: a value is no side.
        """
        plain = self.frame[column].str.strip_chars(" `\"'").str.to_lowercase()
        found = plain.replace_strict({**_SIDES, **dict.fromkeys(_EMPTY, "")}, default=None, return_dtype=pl.String)
        self.check(column, found.is_not_null(), "the aggressor's side; expected buy or sell, or nothing")
        return found


@dataclass(frozen=True)
class TextTable:
    """A text table whose header was read. `names` are as in the file, without spaces around."""

    source: Source
    names: list[str]
    separator: str
    has_header: bool

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.source.path

    def first_of(self, aliases: Sequence[str]) -> str | None:
        """The column with the first of these names that there is; case, and spaces for _, do not matter."""
        plain = {name.lower().replace(" ", "_"): name for name in reversed(self.names)}
        return next((plain[alias] for alias in aliases if alias in plain), None)

    def batches(self, wanted: Sequence[str], skip: Callable[[str], bool] | None = None) -> Iterator[Batch]:
        """The wanted columns as text, some thousand rows at a time, without rows of other widths that `skip` knows.

        Raises:
            UserError: a row has other columns than the header, is no text, or there is no row at all.
        """
        unique = [f"{i} {name}" for i, name in enumerate(self.names)]
        chosen = {f"{self.names.index(name)} {name}": name for name in wanted}
        first = 1
        with opened(self.source) as stream:
            if self.has_header:
                stream.readline()
            try:
                reader = pa_csv.open_csv(
                    stream,
                    pa_csv.ReadOptions(column_names=unique, use_threads=False, block_size=_BLOCK_BYTES),
                    pa_csv.ParseOptions(
                        delimiter=self.separator,
                        invalid_row_handler=lambda row: "skip" if skip is not None and skip(row.text) else "error",
                    ),
                    pa_csv.ConvertOptions(
                        include_columns=list(chosen), column_types=dict.fromkeys(chosen, pa.string())
                    ),
                )
                for batch in reader:
                    frame = pl.DataFrame(pl.from_arrow(batch))
                    frame.columns = list(chosen.values())
                    if frame.height:
                        yield Batch(self.path, frame, first)
                    first += frame.height
            except pa.ArrowException as error:
                self._say(error)
        if first == 1:
            self._no_rows()

    def _no_rows(self) -> NoReturn:
        raise UserError(f"{self.path} has a header but no rows; download or copy the file again")

    def _say(self, error: Exception) -> NoReturn:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")[:200]
        if reason.startswith("Empty CSV"):
            self._no_rows()
        if (row := re.match(r"Row #(\d+): ", reason)) is not None:
            reason = f"data row {row[1]}: {reason[row.end() :]}"
        if "UTF8" in reason:
            reason = f"not UTF-8 text; {reason}"
        what = f"{self.path} is broken ({reason})"
        raise UserError(f"{what}; download the file again, or correct that row") from error


def open_text(source: Source, separator: str | None = None, has_header: bool = True) -> TextTable:
    """Read the first line of a text table. The separator is the one that the line has most of, if it is not given.

    Raises:
        UserError: the file is empty or is no text.
    """
    path = source.path
    with opened(source) as stream:
        line = stream.readline(1 << 20)
    try:
        head = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        what = f"{path} is no text (it begins with {line[:8]!r})"
        raise UserError(f"{what}; expected a table with a header: check format and file") from None
    if not head.strip() or (not head.isprintable() and "\t" not in head):
        what = f"{path} begins with {head[:20]!r}" if head.strip() else f"{path} begins with an empty line"
        raise UserError(f"{what}; expected a table with a header: check format and file")
    cut = separator or max(",|;\t", key=head.count)
    names = [name.strip().strip("\"'") for name in next(csv.reader([head], delimiter=cut))]
    if not has_header:
        names = [f"column {i + 1}" for i in range(len(names))]
    return TextTable(source, names, cut, has_header)


def matched(table: TextTable, format_name: str, needed: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The file's name of each needed column.

    Raises:
        UserError: some are missing; all of them are named, and the vendor whose file it looks like.
    """
    found = {name: table.first_of(aliases) for name, aliases in needed.items()}
    missing = [" or ".join(needed[name]) for name, column in found.items() if column is None]
    if missing:
        foreign(table.path, table.names, format_name, f"no column {', '.join(missing)}")
    return {name: column for name, column in found.items() if column is not None}


def foreign(path: Path, header: Sequence[str], format_name: str, lacking: str) -> NoReturn:
    """Say that a file is not of the format, and of which it may be.

    Raises:
        UserError: always.
    """
    looks = recognise(list(header))
    hint = f"it looks like a file of {looks}" if looks not in (None, format_name) else "check format and file"
    listed = ", ".join(header)[:200]
    raise UserError(f"{path} is no file of {format_name}: {lacking}, but it begins with {listed}; {hint}")
