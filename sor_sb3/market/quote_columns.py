"""Turns the columns of a table of quotes or trades into checked NumPy arrays: numbers, sides, states, times, venues."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sor_sb3.errors import UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_SIDES = {"buy": 1.0, "b": 1.0, "1": 1.0, "1.0": 1.0, "sell": -1.0, "s": -1.0, "-1": -1.0, "-1.0": -1.0}
_STATES = {word: False for word in "trading trade open regular normal continuous t o 1 true".split()} | {
    word: True for word in "halted halt paused pause suspended suspend closed close h p c 0 false".split()
}
"""What a `status` may say, in lower case; True where nothing trades."""

_MOST_VENUES = 10_000  # names in a column that is one of venues
_EARLIEST_NS = 100_000_000_000_000_000  # March 1973: an integer below this counts s, ms or us, not ns
_EMPTY_NUMBERS = pa.array(["", "nan", "na", "n/a", "null", "none"])
_UTC_TIME = "a UTC time: write int64 nanoseconds since 1970 or ISO text such as 2024-01-02T14:35:00.123Z"


class QuoteFileError(UserError):
    """A recording, or an argument about it, cannot be used; the message says what is wrong and what to do."""


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary encoding and without white space around text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pc.utf8_trim_whitespace(column) if _is_text(column) else column


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _bad_value(path: Path, name: str, row: int, value: object, expected: str) -> NoReturn:
    raise QuoteFileError(f"{path}, column {name!r}, data row {row + 1}: {value!r} is not {expected}.")


def numbers_of(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    """Numbers, NaN where nothing is said."""
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


def sides_of(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    """1 where the aggressor bought, -1 where it sold, NaN where nothing is said."""
    column = _plain(column)
    if not _is_text(column) and not pa.types.is_boolean(column.type):
        values = numbers_of(path, name, column)
        wrong = ~(np.isnan(values) | (np.abs(values) == 1.0))
    else:
        values = _looked_up(column, _SIDES, unknown=0.0)
        wrong = values == 0.0
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "a side of the aggressor: write buy or sell, b or s, 1 or -1, or leave it empty if unknown"
        _bad_value(path, name, row, column[row].as_py(), expected)
    return values


def halted_of(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    """1 where a venue's `status` says that nothing trades there, 0 where it trades or nothing is said."""
    column = _plain(column)
    values = _looked_up(column, _STATES, unknown=-1.0)
    if (values == -1.0).any():
        row = int(np.argmax(values == -1.0))
        expected = "a status: write trading or halted (or open, closed, paused, suspended), or leave it empty"
        _bad_value(path, name, row, column[row].as_py(), expected)
    return np.asarray(values == 1.0, dtype=np.float64)


def _looked_up(column: pa.ChunkedArray, meaning: dict[str, float] | dict[str, bool], unknown: float) -> FloatArray:
    """What each word means, NaN where there is none."""
    encoded = pc.fill_null(column.cast(pa.string()), "").dictionary_encode().unify_dictionaries()
    words: list[str] = pc.utf8_lower(encoded.chunk(0).dictionary).to_pylist() if encoded.num_chunks else []
    empty = set(_EMPTY_NUMBERS.to_pylist())
    found = np.array([np.nan if word in empty else meaning.get(word, unknown) for word in words], dtype=np.float64)
    return found[np.concatenate([np.asarray(chunk.indices) for chunk in encoded.chunks])]


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


def times_of(path: Path, column: pa.ChunkedArray, timezone: str | None) -> IntArray:
    """UTC nanoseconds since 1970; times without an offset are of `timezone`, and refused without one."""
    column = _plain(column)
    absent = pc.equal(column, "") if _is_text(column) else column.is_null()
    first_absent = pc.index(pc.fill_null(absent, True), True).as_py()
    if first_absent >= 0:
        _bad_value(path, "ts", first_absent, "", _UTC_TIME)
    if _is_text(column):
        column = _parsed(path, column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
        raise QuoteFileError(f"{path}, column 'ts' has the type {kind}: write int64 nanoseconds or timestamps.")
    try:
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ns", kind.tz))
            column = column if kind.tz else _in_zone(path, column, timezone)
        ts = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    except pa.ArrowException as error:
        raise QuoteFileError(f"{path}, column 'ts' has times outside the years 1678 to 2262: correct them.") from error
    if ts.min() < _EARLIEST_NS:
        if not pa.types.is_integer(kind):
            raise QuoteFileError(f"{path}, column 'ts' has times before March 1973: correct them.")
        row = int(np.argmax(ts < _EARLIEST_NS))
        _bad_value(path, "ts", row, int(ts[row]), "in nanoseconds since 1970: convert s, ms or us to ns")
    return ts


def _parsed(path: Path, text: pa.ChunkedArray) -> pa.ChunkedArray:
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
        _bad_value(path, "ts", row, text[row].as_py(), _UTC_TIME + same)


def check_timezone(timezone: str | None) -> None:
    """Raises QuoteFileError: no zone has this name, whether or not there are times that need one."""
    try:
        if timezone is not None:
            pc.assume_timezone(pa.scalar(0, pa.timestamp("ns")), timezone, ambiguous="earliest", nonexistent="earliest")
    except pa.ArrowException as error:
        expected = "expected a name such as UTC, America/New_York or Europe/London"
        raise QuoteFileError(f"timezone is {timezone!r}, which is unknown: {expected}.") from error


def _in_zone(path: Path, local: pa.ChunkedArray, timezone: str | None) -> pa.ChunkedArray:
    if timezone is None:
        what = f"{path}, column 'ts' has local times without a zone, such as {_text(local[0])}"
        remedy = "name their zone with --market-set timezone=America/New_York (or UTC, or another), or write offsets"
        raise QuoteFileError(f"{what}: {remedy}.")
    try:
        return pc.assume_timezone(local, timezone)
    except pa.ArrowException as error:
        earlier = pc.assume_timezone(local, timezone, ambiguous="earliest", nonexistent="earliest")
        later = pc.assume_timezone(local, timezone, ambiguous="latest", nonexistent="latest")
        row = pc.index(pc.not_equal(earlier, later), True).as_py()
        what = f"{path}, column 'ts', data row {row + 1}: {_text(local[row])} is no one moment in {timezone}"
        remedy = "clocks change then: write the times in UTC or with offsets"
        raise QuoteFileError(f"{what}, as {remedy}.") from error


def _text(time: pa.Scalar) -> str:
    return str(np.datetime64(time.value, "ns").astype("datetime64[ms]"))


def venue_codes(path: Path, column: pa.ChunkedArray) -> tuple[NDArray[np.int16], list[str]]:
    """Each row's place among the names, sorted; -1 where none is named."""
    if pa.types.is_dictionary(column.type):
        encoded = column.unify_dictionaries()
    else:
        if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
            column = column.cast(pa.string())
        encoded = column.dictionary_encode().unify_dictionaries() if _is_text(column) else None
    if encoded is None or not _is_text(encoded.chunk(0).dictionary):
        raise QuoteFileError(f"{path}, column 'venue' has the type {column.type}: write the names as text.")
    found = [(name or "").strip() for name in encoded.chunk(0).dictionary.to_pylist()]
    names = sorted({name for name in found if name})
    if not names:
        raise QuoteFileError(f"{path}, column 'venue' is empty in every row: name the venue of each row.")
    if len(names) > _MOST_VENUES:
        what = f"{path}, column 'venue' has {len(names):,} names, such as {names[0]!r}"
        raise QuoteFileError(f"{what}: at most {_MOST_VENUES:,} were expected; is it the right column?")
    place = {name: index for index, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in found] + [-1], dtype=np.int16)  # last: no name
    codes = [pc.fill_null(chunk.indices, len(found)) for chunk in encoded.chunks]
    return lookup[np.concatenate([np.asarray(code) for code in codes])], names
