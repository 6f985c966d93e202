"""Times of vendors' files as int64 UTC nanoseconds: numbers of some unit, ISO, TAQ and kdb text, zones, dates apart."""

from __future__ import annotations

import re
from datetime import date as calendar_date
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from sor_sb3.errors import UserError
from sor_sb3.market.formats.tables import Batch

NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_OF_DIGITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_DATE = r"(?P<y>\d{4})[-./]?(?P<m>\d{2})[-./]?(?P<d>\d{2})"
_CLOCK = r"(?P<H>\d{1,2}):?(?P<M>\d{2}):?(?P<S>\d{2})(?:[.,]?(?P<f>\d{1,9}))?"
_OFFSET = r"\s*(?P<z>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
_TIME = rf"^\s*`?{_DATE}[DT ]+(?:0D)?{_CLOCK}{_OFFSET}\s*$"
_EXPECTED = "a time such as 2024-01-02T14:35:00.123Z"


def unit_of(value: str) -> str | None:
    """The unit of a count since 1970 by its digits: 10 s, 13 ms, 16 us, 19 ns; None if it is none of these."""
    whole = re.fullmatch(r"(\d+)(\.\d*)?", value.strip())
    return None if whole is None else _OF_DIGITS.get(len(whole[1]))


def times(
    batch: Batch, column: str, unit: str | None, zone: str | None, date: pl.Series | str | None = None
) -> pl.Series:
    """A column of times; `date` is put before times of day.

    Args:
        batch: the rows.
        column: of counts since 1970, or of text.
        unit: of counts; None takes it from the digits of the first.
        zone: of text without an offset, such as America/New_York.
        date: YYYYMMDD, YYYY-MM-DD or YYYY.MM.DD, of all rows or a column.

    Raises:
        UserError: a value is no time, or has no zone and none is given.
    """
    text = batch.frame[column].str.strip_chars(" \"'")
    first = text[0] or ""
    if re.fullmatch(r"\d+(\.\d*)?", first) and date is None:
        return _counts(batch, column, text, unit or unit_of(first))
    if date is not None and not re.match(rf"`?{_DATE}[DT ]", first):
        text = pl.select(pl.lit(date) + pl.lit(" ") + text).to_series() if isinstance(date, str) else date + " " + text
    return _parsed(batch, column, text, zone)


def _counts(batch: Batch, column: str, text: pl.Series, unit: str | None) -> pl.Series:
    if unit is None:
        batch.bad(column, 0, "a time since 1970 in s, ms, us or ns; give --time-unit")
    whole = text.str.extract(r"^(\d+)(?:\.\d*)?$").cast(pl.Int64, strict=False)
    batch.check(column, whole.is_not_null(), f"a time in {unit} since 1970, as in the first row")
    low, high = 100_000_000 * NS["s"] // NS[unit], 9_223_000_000 * NS["s"] // NS[unit]
    batch.check(column, whole.is_between(low, high), f"a time in {unit} since 1970, from 1973 on; check --time-unit")
    total = whole * NS[unit]
    part = text.str.extract(r"\.(\d*)$").fill_null("")
    if (part != "").any():
        digits = part.str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64)  # billionths of the unit
        total += digits * NS[unit] // NS["s"]
    return total


def _parsed(batch: Batch, column: str, text: pl.Series, zone: str | None) -> pl.Series:
    parts = text.str.extract_groups(_TIME).struct.unnest()
    good = parts["y"].is_not_null()
    numbers = parts.select(pl.col("y", "m", "d", "H", "M", "S").cast(pl.Int32))
    valid = numbers.select(
        (pl.col("m").is_between(1, 12) & pl.col("d").is_between(1, 31))
        & (pl.col("H") < 24)
        & (pl.col("M") < 60)
        & (pl.col("S") < 60)
    ).to_series()
    batch.check(column, good & valid, f"{_EXPECTED} (or 20240102 09:35:00, 2024.01.02D09:35:00); give --time-format")
    day = (parts["y"] + parts["m"] + parts["d"]).str.to_date("%Y%m%d", strict=False).cast(pl.Int32).cast(pl.Int64)
    clock = numbers.select((pl.col("H") * 3600 + pl.col("M") * 60 + pl.col("S")).cast(pl.Int64)).to_series()
    fraction = parts["f"].fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
    local = (day * 86_400 + clock) * NS["s"] + fraction
    batch.check(column, local.is_not_null(), "a day of the calendar")
    offset = parts["z"]
    without = offset.is_null()
    if without.any():
        if zone is None:
            index = int(without.arg_max() or 0)
            batch.bad(column, index, "clear: it has no zone; give --time-zone, such as UTC or America/New_York")
        shifted = to_utc(batch, column, local, zone)
        if without.all():
            return shifted
        local = local.zip_with(~without, shifted)
    return local - _offset_ns(offset)


def _offset_ns(offset: pl.Series) -> pl.Series:
    def of(text: str) -> int:
        match = re.fullmatch(r"([+-])(\d{2}):?(\d{2})?", text)
        if match is None:
            return 0
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        return (minutes if match[1] == "+" else -minutes) * 60 * NS["s"]

    words = offset.fill_null("")
    known = {word: of(word) for word in words.unique()}
    return words.replace_strict(known, return_dtype=pl.Int64)


def to_utc(batch: Batch, column: str, local: pl.Series, zone: str) -> pl.Series:
    """Local int64 nanoseconds as UTC; summer time counts.

    Raises:
        UserError: the zone is unknown, or the clock showed a time twice or never.
    """
    try:
        at = local.cast(pl.Datetime("ns"))
        there = at.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    except PolarsError:
        expected = "a name such as UTC, America/New_York or Europe/London"
        raise UserError(f"time zone '{zone}' is unknown; expected {expected}") from None
    batch.check(column, there.is_not_null(), f"a time that the clock in {zone} shows once; give times with an offset")
    return there.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Int64)


def formatted(batch: Batch, column: str, form: str, zone: str | None) -> pl.Series:
    """A column of text in a strftime form, such as %m/%d/%Y %H:%M:%S%.f.

    Raises:
        UserError: a value is not in this form, or has no zone and none is given.
    """
    text = batch.frame[column].str.strip_chars(" \"'")
    try:
        parsed = text.str.to_datetime(form, time_unit="ns", strict=False)
    except PolarsError as error:
        raise UserError(f"--time-format '{form}' cannot be used ({str(error).splitlines()[0]})") from None
    batch.check(column, parsed.is_not_null(), f"a time in the form {form}; check --time-format")
    if getattr(parsed.dtype, "time_zone", None) is not None:
        return parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Int64)
    if zone is None:
        batch.bad(column, 0, "clear: it has no zone; give --time-zone, such as UTC or America/New_York")
    return to_utc(batch, column, parsed.cast(pl.Int64), zone)


def date_in_name(path: Path, given: str | None) -> str:
    """The day of a file whose rows have times of day alone: `given`, or YYYY-MM-DD, YYYY.MM.DD or YYYYMMDD in its name.

    Raises:
        UserError: there is none.
    """
    if given is not None:
        return given
    for match in re.finditer(r"(?<!\d)(\d{4})[-.]?(\d{2})[-.]?(\d{2})(?!\d)", path.name):
        try:
            return calendar_date(int(match[1]), int(match[2]), int(match[3])).isoformat()
        except ValueError:
            continue
    raise UserError(f"{path} has times of day, and no day in its rows or its name; give --date YYYY-MM-DD")
