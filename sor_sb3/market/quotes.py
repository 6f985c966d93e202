"""Loads recorded quotes of several venues (and, if given, trades) into NumPy arrays that a simulator replays.

It does not step through time, fill orders or know about reinforcement learning: it reads, cleans and counts.

The file is a table with the columns `ts, venue, bid_px, bid_sz, ask_px, ask_sz`; a row is that venue's quote
from `ts` (UTC) until its next row. What is not a usable quote stays as a row without prices, so that the quote
before it ends there. Whatever is dropped or changed is counted in `CleaningReport`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SUFFIXES = (".parquet", ".csv", ".csv.gz")
QUOTE_COLUMNS = {name: (name,) for name in ("ts", "venue", "bid_px", "bid_sz", "ask_px", "ask_sz")}
TRADE_COLUMNS = {"ts": ("ts",), "venue": ("venue",), "px": ("px", "price"), "sz": ("sz", "size")}

DEFAULT_MAX_SPREAD_BPS = 500.0
"""Wider than any quote of an active venue in the recordings looked at (226 bps), narrower than stubs (20,000)."""
DEFAULT_MAX_GAP_S = 300.0
"""Twice the longest silence of a quiet FX night (145 s); closed hours and outages are longer."""

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
_EARLIEST_NS = 100_000_000_000_000_000  # March 1973: an integer below this counts s, ms or us, not ns
_EMPTY_NUMBERS = pa.array(["", "nan", "na", "n/a", "null", "none"])


class QuoteFileError(ValueError):
    """A recording, or an argument about it, cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class VenueSummary:
    """One venue of a recording. `live_share` and `best_ask_share` are shares of the time inside segments."""

    name: str
    rows: int
    live_rows: int
    live_share: float
    best_ask_share: float  # at the best ask, ties included
    median_spread_bps: float  # over live rows


@dataclass(frozen=True)
class CleaningReport:
    """What the loader read, dropped and changed.

    `rows_read = unknown_venue + not_requested + out_of_session + duplicates + of_dropped_venues + rows_kept`, and
    `rows_kept = rows_live + no_price + self_crossed + absurd_spread + no_size`. Shares are of the time inside
    segments.
    """

    file: str
    rows_read: int
    unknown_venue: int  # the venue's name is empty
    not_requested: int  # of venues left out by `venues`
    out_of_session: int
    duplicates: int  # a later row of the same venue has the same stamp
    of_dropped_venues: int
    rows_kept: int
    rows_live: int
    no_price: int  # a price is missing, zero, negative or infinite
    self_crossed: int  # the venue's bid is above its own ask
    absurd_spread: int  # wider than max_spread_bps
    no_size: int  # a size is zero, negative, infinite, or missing and not filled
    self_locked: int  # live: the venue's bid equals its own ask
    sizes_missing: int  # bid and ask sizes that were missing in otherwise usable rows
    sizes_filled: int  # of them, those set to assumed_depth_shares
    resets: int  # rows added: a quote from before a gap or a closed session is ended at the next start
    out_of_order: int  # rows read whose stamp is before the row above; they are sorted
    max_spread_bps: float
    max_gap_s: float
    sessions: int  # sessions with data; 1 if no session hours were given
    gaps: int  # silences longer than max_gap_s inside a session
    longest_silence_s: float  # between live rows of any venue, inside a session
    segments: int
    segment_hours: float
    crossed_moments: int  # runs of time with the best bid above the best ask
    locked_moments: int  # runs of time with the best bid equal to the best ask
    crossed_share: float
    locked_share: float
    no_live_share: float
    dropped_venues: tuple[tuple[str, str], ...]  # (name, why)
    venues: tuple[VenueSummary, ...]
    trades_read: int = 0
    trades_kept: int = 0

    @property
    def not_quoting(self) -> int:
        """Kept rows in which the venue is not quoting."""
        return self.rows_kept - self.rows_live

    def lines(self) -> list[str]:
        """Says to a person what was kept, dropped and changed, and why; counts of zero are left out."""
        head = (
            f"{self.file}: {self.rows_read:,} rows read, {self.rows_kept:,} kept: {self.rows_live:,} usable quotes "
            f"and {self.not_quoting:,} moments at which a venue stops quoting."
        )
        lines = [head, *self._dropped_lines(), *self._not_quoting_lines(), *self._market_lines()]
        for venue in self.venues:
            lines.append(
                f"Venue {venue.name}: {venue.live_rows:,} usable quotes, quoting {venue.live_share:.1%} of the time, "
                f"at the best ask {venue.best_ask_share:.1%}, median spread {venue.median_spread_bps:.2f} bps."
            )
        if self.trades_read:
            lines.append(
                f"Trades: {self.trades_read:,} read, {self.trades_kept:,} kept (of the recording's venues and "
                f"session, with a price and a size above 0)."
            )
        if len(self.venues) == 1:
            lines.append(
                f"Warning: {self.venues[0].name} is the only venue, so there is nothing to route between; "
                f"the consolidated market is that venue."
            )
        return lines

    def _dropped_lines(self) -> list[str]:
        counted = [
            (self.unknown_venue, "dropped: no venue is named"),
            (self.not_requested, "dropped: of venues that were not asked for"),
            (self.out_of_session, "dropped: outside the session hours"),
            (
                self.duplicates,
                "dropped: a later row of the same venue has the same time stamp, and it counts",
            ),
            (self.out_of_order, "were not in order of time; they have been sorted"),
        ]
        lines = [f"{count:,} rows {why}." for count, why in counted if count]
        return lines + [f"Venue {name} dropped: {why}." for name, why in self.dropped_venues]

    def _not_quoting_lines(self) -> list[str]:
        counted = [
            (self.no_price, "a price is missing, zero or negative"),
            (self.self_crossed, "the venue's bid is above its own ask"),
            (self.absurd_spread, f"the spread is wider than {self.max_spread_bps:g} bps"),
            (self.no_size, "a size is missing, zero or negative"),
        ]
        lines = [f"{count:,} rows mean 'not quoting': {why}." for count, why in counted if count]
        if self.self_locked:
            lines.append(f"{self.self_locked:,} rows have a bid equal to the venue's own ask; they are used.")
        if self.sizes_filled:
            lines.append(f"{self.sizes_filled:,} missing sizes were set to the assumed depth.")
        elif self.sizes_missing:
            lines.append(f"{self.sizes_missing:,} sizes are missing; --assumed-depth SHARES would fill them.")
        if self.resets:
            lines.append(
                f"{self.resets:,} quotes were ended because they were older than a gap or a closed session."
            )
        return lines

    def _market_lines(self) -> list[str]:
        lines = [
            f"{self.segments} segment(s) of continuous trading, {self.segment_hours:.2f} hours in "
            f"{self.sessions} session(s); {self.gaps} gap(s) longer than {self.max_gap_s:g} s; longest silence "
            f"inside a session {self.longest_silence_s:.1f} s.",
            f"Best bid above best ask (crossed) {self.crossed_share:.1%} of the time in {self.crossed_moments:,} "
            f"moments, equal (locked) {self.locked_share:.1%} in {self.locked_moments:,}; the mid stays their average.",
        ]
        if self.no_live_share > 0:
            lines.append(
                f"No venue quotes {self.no_live_share:.1%} of the time; the last mid is carried there."
            )
        return lines


@dataclass(frozen=True, eq=False)
class QuoteRecording:
    """Quotes of K venues as arrays; treat them as read-only.

    Venue k's rows are `[first[k], first[k + 1])`, strictly increasing in time. At time t its quote is the last row
    with `time_s <= t`; before its first row it does not quote. A row in which it does not quote has NaN prices and
    sizes of 0. Likewise `mid_px` at t is the last one with `mid_time_s <= t`.
    """

    venues: tuple[str, ...]  # K names, sorted
    origin_ns: int  # UTC nanoseconds since 1970 of time 0
    first: IntArray  # (K + 1,)
    time_s: FloatArray  # (R,) since origin_ns
    bid_px: FloatArray  # (R,)
    bid_size: FloatArray  # (R,) shares
    ask_px: FloatArray  # (R,)
    ask_size: FloatArray  # (R,) shares
    mid_time_s: FloatArray  # (M,) strictly increasing, one per change
    mid_px: FloatArray  # (M,) (best bid + best ask) / 2 over live venues, else the last one
    segments: (
        FloatArray  # (G, 2) start and end seconds of continuous trading; mid_px exists from each start on
    )
    trade_first: IntArray | None  # (K + 1,)
    trade_time_s: FloatArray | None  # (T,) increasing within a venue, stamps may repeat
    trade_cumulative_size: FloatArray | None  # (T,) shares of the venue traded up to and with this trade
    report: CleaningReport
    sha256: str  # of the quote file's bytes followed by the trade file's (`cat quotes trades | sha256sum`)


def load_quotes(
    path: str | PathLike[str],
    *,
    venues: Sequence[str] | None = None,
    assumed_depth_shares: float | None = None,
    trades: str | PathLike[str] | None = None,
    session: tuple[str, str] | None = None,
    max_spread_bps: float = DEFAULT_MAX_SPREAD_BPS,
    max_gap_s: float = DEFAULT_MAX_GAP_S,
    size_multiplier: float = 1.0,
) -> QuoteRecording:
    """Loads a `.parquet`, `.csv` or `.csv.gz` recording.

    Args:
        path: columns `ts, venue, bid_px, bid_sz, ask_px, ask_sz`; `ts` in UTC as int64 ns, a timestamp type or ISO
            text (without an offset it is UTC). Rows may be in any order; equal stamps count in file order.
        venues: the venues to keep; None keeps all that have a usable quote.
        assumed_depth_shares: stands in for missing (NaN, empty) sizes. Sizes of 0 mean "not quoting".
        trades: columns `ts, venue, px` or `price`, `sz` or `size` (shares).
        session: UTC hours kept on each day, such as `("14:35", "21:00")`; may pass midnight. A venue counts from
            its first quote inside the session on.
        max_spread_bps: a venue's quote with a wider spread, relative to its mid, means "not quoting".
        max_gap_s: a longer time without a usable quote of any venue splits a segment.
        size_multiplier: shares per unit of `bid_sz` and `ask_sz` (100 for round lots); not for trades or the
            assumed depth.

    Raises:
        QuoteFileError: a file or an argument cannot be used.
    """
    _check_positive("assumed_depth_shares", assumed_depth_shares)
    _check_positive("max_spread_bps", max_spread_bps)
    _check_positive("max_gap_s", max_gap_s)
    _check_positive("size_multiplier", size_multiplier)
    hours = _parse_session(session)
    quote_path = Path(path)
    content = _read_bytes(quote_path, "quote")
    digest = hashlib.sha256(content)
    table = _read_table(quote_path, content, QUOTE_COLUMNS, "quote")
    wanted = _wanted_venues(table, venues)
    loader = _Loader(table, wanted, venues is not None, hours, max_spread_bps, max_gap_s)
    loader.select()
    loader.clean(assumed_depth_shares, size_multiplier)
    loader.drop_dead_venues()
    loader.segment()
    tape: _Tape | None = None
    if trades is not None:
        trade_content = _read_bytes(Path(trades), "trade")
        digest.update(trade_content)
        tape = _trade_tape(_read_table(Path(trades), trade_content, TRADE_COLUMNS, "trade"), loader)
    return loader.recording(tape, digest.hexdigest())


# ---------------------------------------------------------------------------------------------- arguments


def _check_positive(name: str, value: float | None) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value <= 0:
        raise QuoteFileError(
            f"{name} is {value!r}, but must be a number above 0: correct it or leave it out."
        )


def _parse_session(session: tuple[str, str] | None) -> tuple[int, int] | None:
    """Returns (start, length) in nanoseconds, the start since midnight UTC."""
    if session is None:
        return None
    if isinstance(session, str) or len(session) != 2:
        raise QuoteFileError(
            f"session is {session!r}, but must be two UTC times such as ('14:35', '21:00'): a start and an end."
        )
    start, end = (_parse_clock(value) for value in session)
    length = _DAY_NS if end - start == _DAY_NS else (end - start) % _DAY_NS
    if length == 0:
        raise QuoteFileError(
            f"session starts and ends at {session[0]}, which keeps nothing: give two different times, or none."
        )
    return start, length


def _parse_clock(value: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", value) if isinstance(value, str) else None
    if match is not None:
        hour, minute, second = (int(part or 0) for part in match.groups())
        if minute < 60 and second < 60 and (hour < 24 or (hour, minute, second) == (24, 0, 0)):
            return (hour * 3600 + minute * 60 + second) * _SECOND_NS
    raise QuoteFileError(
        f"session has the time {value!r}, but must have UTC times from '00:00' to '24:00' as HH:MM or HH:MM:SS "
        f"(in YAML put them in quotes)."
    )


# ------------------------------------------------------------------------------------------------ reading


@dataclass
class _Table:
    """A file's columns as arrays. `code` is an index into `names`, -1 where no venue is named."""

    path: Path
    ts: IntArray
    code: IntArray
    names: list[str]  # sorted
    numbers: dict[str, FloatArray]


def _read_bytes(path: Path, kind: str) -> bytes:
    if path.is_dir():
        raise QuoteFileError(
            f"{path} is a folder, but the {kind} file must be one file: name a file inside it."
        )
    if not path.exists():
        raise QuoteFileError(f"{path} does not exist: check the path of the {kind} file.")
    if not path.name.lower().endswith(SUFFIXES):
        raise QuoteFileError(
            f"{path} has a name that ends in {path.suffix or 'no suffix'!r}, but a {kind} file must end in one of "
            f"{', '.join(SUFFIXES)}: convert or rename it."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise QuoteFileError(
            f"{path} cannot be read ({error.strerror or error}): check that you may read the {kind} file."
        ) from error
    if not content:
        raise QuoteFileError(f"{path} is empty (0 bytes): record or copy the {kind} file again.")
    return content


def _read_table(path: Path, content: bytes, columns: dict[str, tuple[str, ...]], kind: str) -> _Table:
    is_parquet = path.name.lower().endswith(".parquet")
    table = _parquet_table(path, content, columns) if is_parquet else _csv_table(path, content, columns)
    if table.num_rows == 0:
        raise QuoteFileError(f"{path} has columns but no rows: a {kind} file needs at least one {kind}.")
    code, names = _venue_codes(path, table.column("venue"))
    return _Table(
        path=path,
        ts=_timestamps(path, table.column("ts")),
        code=code,
        names=names,
        numbers={
            name: _numbers(path, name, table.column(name)) for name in columns if name not in ("ts", "venue")
        },
    )


def _match_columns(path: Path, present: Sequence[str], columns: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Returns the file's own name of each column."""
    found: dict[str, str] = {}
    for name, aliases in columns.items():
        here = [alias for alias in aliases if alias in present]
        if not here:
            listed = ", ".join(present) if present else "none"
            hint = " (leave it empty where sizes are not known)" if name in ("bid_sz", "ask_sz") else ""
            raise QuoteFileError(
                f"{path} has no column {' or '.join(map(repr, aliases))}; it has: {listed}: rename or add the "
                f"column{hint}, so that there are {', '.join(columns)}."
            )
        if list(present).count(here[0]) > 1:
            raise QuoteFileError(f"{path} has the column {here[0]!r} more than once: keep one of them.")
        found[name] = here[0]
    return found


def _parquet_table(path: Path, content: bytes, columns: dict[str, tuple[str, ...]]) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        found = _match_columns(path, file.schema_arrow.names, columns)
        return (
            file.read(columns=list(found.values())).select(list(found.values())).rename_columns(list(found))
        )
    except (pa.ArrowException, OSError) as error:
        raise QuoteFileError(
            f"{path} is named .parquet but cannot be read as a Parquet file (it begins with {content[:12]!r}): rename "
            f"it if it is a .csv, or write it again."
        ) from error


def _csv_table(path: Path, content: bytes, columns: dict[str, tuple[str, ...]]) -> pa.Table:
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise QuoteFileError(
                f"{path} is named .gz but cannot be unpacked with gzip: rename it if it is not packed, or pack it again."
            ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise QuoteFileError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8 text: save the CSV as UTF-8."
        ) from error
    head, _, body = text.partition("\n")
    present = [name.strip() for row in csv.reader([head.rstrip("\r")]) for name in row]
    found = _match_columns(path, present, columns)
    if not body.strip():
        return pa.table({name: pa.array([], pa.string()) for name in found})
    # Own names for the columns: repeated names of unused columns would otherwise collide.
    names = [f"{index} {name}" for index, name in enumerate(present)]
    chosen = [names[present.index(name)] for name in found.values()]
    try:
        table = pa_csv.read_csv(
            io.BytesIO(body.encode()),
            read_options=pa_csv.ReadOptions(column_names=names),
            convert_options=pa_csv.ConvertOptions(
                include_columns=chosen, column_types={name: pa.string() for name in chosen}
            ),
        )
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise QuoteFileError(
            f"{path} is not a table of {len(present)} columns separated by commas ({reason}): correct that row."
        ) from error
    return table.rename_columns(list(found))


def _is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _bad_value(path: Path, name: str, row: int, value: object, expected: str) -> NoReturn:
    raise QuoteFileError(f"{path}, column {name!r}, data row {row + 1}: {value!r} is not {expected}.")


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if _is_text(column):
        text = pc.utf8_trim_whitespace(column)
        empty = pc.is_in(pc.utf8_lower(text), value_set=_EMPTY_NUMBERS.cast(text.type))
        column = pc.if_else(empty, pa.scalar(None, text.type), text)
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise QuoteFileError(f"{path}, column {name!r} has the type {kind}, but must be numbers (float64).")
    try:
        values = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        row = _first_failure(column, pa.float64())
        _bad_value(
            path, name, row, column[row].as_py(), "a number (leave it empty where the venue does not quote)"
        )
    return np.asarray(pc.fill_null(values, np.nan).to_numpy(), dtype=np.float64)


def _first_failure(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    """Returns the first row that cannot be cast, by halving; only called where one exists."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(kind, safe=not pa.types.is_floating(kind))
            low = middle
        except pa.ArrowException:
            high = middle
    return low


def _timestamps(path: Path, column: pa.ChunkedArray) -> IntArray:
    """Returns UTC nanoseconds since 1970, int64."""
    expected = "a UTC time: write int64 nanoseconds since 1970 or ISO text such as 2024-01-02T14:35:00.123"
    if _is_text(column):
        column = pc.utf8_trim_whitespace(column)
    if column.null_count or (_is_text(column) and pc.any(pc.equal(column, "")).as_py()):
        missing = pc.fill_null(pc.equal(column, ""), True) if _is_text(column) else column.is_null()
        row = int(np.flatnonzero(missing.to_numpy())[0])
        _bad_value(path, "ts", row, "", expected)
    is_integer = pa.types.is_integer(column.type)
    if _is_text(column):
        column, is_integer = _parse_times(path, column, expected)
    elif not is_integer and not pa.types.is_timestamp(column.type):
        raise QuoteFileError(
            f"{path}, column 'ts' has the type {column.type}, but must be int64 ns or timestamps."
        )
    try:
        column = column.cast(pa.int64() if is_integer else pa.timestamp("ns")).cast(pa.int64())
    except pa.ArrowException as error:
        raise QuoteFileError(
            f"{path}, column 'ts' goes beyond the years 1678-2262: correct the times."
        ) from error
    ts = np.asarray(column.to_numpy(), dtype=np.int64)
    early = np.flatnonzero(ts < _EARLIEST_NS) if is_integer else np.zeros(0, np.int64)
    if early.size:
        row = int(early[0])
        _bad_value(path, "ts", row, int(ts[row]), "in nanoseconds since 1970: multiply s, ms or us up to ns")
    return ts


def _parse_times(path: Path, text: pa.ChunkedArray, expected: str) -> tuple[pa.ChunkedArray, bool]:
    """Returns the times and whether they are plain integers. Text is all integers, all naive or all with offset."""
    first = text[0].as_py()
    kind: pa.DataType = pa.timestamp("ns")
    if re.fullmatch(r"[+-]?\d+", first):
        kind = pa.int64()
    elif re.search(r"(Z|[+-]\d{2}:?(\d{2})?)$", first[10:]):
        kind = pa.timestamp("ns", "UTC")
    try:
        column = text.cast(kind)
    except pa.ArrowException:
        row = _first_failure(text, kind)
        same = "" if row == 0 else f", in the same form as {first!r} in data row 1"
        _bad_value(path, "ts", row, text[row].as_py(), expected + same)
    return column, pa.types.is_integer(kind)


def _venue_codes(path: Path, column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not _is_text(column):
        raise QuoteFileError(f"{path}, column 'venue' has the type {column.type}, but must be names (text).")
    text = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    encoded = text.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # pyarrow returns one for large columns
        encoded = encoded.unify_dictionaries().combine_chunks()
    found: list[str] = encoded.dictionary.to_pylist()
    names = sorted(name for name in found if name)
    place = {name: index for index, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in found], dtype=np.int64)
    return lookup[np.asarray(encoded.indices, dtype=np.int64)], names


def _wanted_venues(table: _Table, venues: Sequence[str] | None) -> list[int]:
    """Returns the indices of the requested venues in `table.names`, in order of name."""
    if not table.names:
        raise QuoteFileError(
            f"{table.path}, column 'venue' is empty in every row: name the venue of each quote."
        )
    if venues is None:
        return list(range(len(table.names)))
    chosen = {venues} if isinstance(venues, str) else set(venues)
    if not chosen:
        raise QuoteFileError(
            f"venues is empty: name at least one of {', '.join(table.names)}, or leave it out."
        )
    unknown = sorted(str(name) for name in chosen if name not in table.names)
    if unknown:
        raise QuoteFileError(
            f"{table.path} has no venue {', '.join(map(repr, unknown))}; it has: {', '.join(table.names)}: choose "
            f"among these."
        )
    return [index for index, name in enumerate(table.names) if name in chosen]


# ----------------------------------------------------------------------------------------------- cleaning


def _in_session(ts: IntArray, hours: tuple[int, int] | None) -> BoolArray:
    if hours is None:
        return np.ones(len(ts), dtype=np.bool_)
    return np.asarray((ts - hours[0]) % _DAY_NS < hours[1], dtype=np.bool_)


def _session_number(ts: IntArray, hours: tuple[int, int] | None) -> IntArray:
    return np.zeros_like(ts) if hours is None else (ts - hours[0]) // _DAY_NS


class _Loader:
    """The steps of cleaning, in order: select, clean, drop_dead_venues, segment, recording."""

    def __init__(
        self,
        table: _Table,
        wanted: list[int],
        requested: bool,
        hours: tuple[int, int] | None,
        max_spread_bps: float,
        max_gap_s: float,
    ) -> None:
        self.table = table
        self.path = table.path
        self.names = [table.names[index] for index in wanted]
        self.wanted = wanted
        self.requested = requested
        self.hours = hours
        self.max_spread_bps = max_spread_bps
        self.max_gap_s = max_gap_s
        self.counts: dict[str, Any] = {
            "file": self.path.name,
            "rows_read": len(table.ts),
            "max_spread_bps": max_spread_bps,
            "max_gap_s": max_gap_s,
        }

    def select(self) -> None:
        """Keeps the wanted venues and hours, sorts by venue and time, and the last row of equal stamps."""
        table = self.table
        number = np.full(len(table.names) + 1, -1, dtype=np.int64)  # the last is for code -1
        number[self.wanted] = np.arange(len(self.wanted))
        venue = number[table.code]
        inside = _in_session(table.ts, self.hours)
        keep = np.flatnonzero((venue >= 0) & inside)
        self.counts["unknown_venue"] = int(np.sum(table.code < 0))
        self.counts["not_requested"] = int(np.sum((venue < 0) & (table.code >= 0)))
        self.counts["out_of_session"] = int(np.sum((venue >= 0) & ~inside))
        self.counts["out_of_order"] = int(np.sum(np.diff(table.ts) < 0))
        if keep.size == 0:
            raise QuoteFileError(
                f"{self.path} has no row of {', '.join(self.names)} inside the session hours (UTC); its times go from "
                f"{_utc(table.ts.min())} to {_utc(table.ts.max())}: change or leave out the session."
            )
        rows = keep[np.lexsort((table.ts[keep], venue[keep]))]  # stable: file order within equal stamps
        venue, ts = venue[rows], table.ts[rows]
        last = np.append((np.diff(venue) != 0) | (np.diff(ts) != 0), True)
        self.counts["duplicates"] = int(np.sum(~last))
        self.venue, self.ts = venue[last], ts[last]
        self.columns = {name: values[rows[last]] for name, values in table.numbers.items()}

    def clean(self, assumed_depth_shares: float | None, size_multiplier: float) -> None:
        """Decides which rows are live, and fills missing sizes."""
        bid, ask = self.columns["bid_px"], self.columns["ask_px"]
        with np.errstate(invalid="ignore", over="ignore"):
            priced = np.isfinite(bid) & np.isfinite(ask) & (bid > 0) & (ask > 0)
            crossed = priced & (bid > ask)
            absurd = priced & ((ask - bid) > self.max_spread_bps * 1e-4 * 0.5 * (ask + bid))
        good_price = priced & ~crossed & ~absurd
        sizes: list[FloatArray] = []
        missing = np.zeros(len(bid), dtype=np.int64)
        for name in ("bid_sz", "ask_sz"):
            size = self.columns[name] * size_multiplier
            gone = np.isnan(size)
            missing += gone
            sizes.append(size if assumed_depth_shares is None else np.where(gone, assumed_depth_shares, size))
        if assumed_depth_shares is None and np.any(good_price) and np.all(missing[good_price] > 0):
            raise QuoteFileError(
                f"{self.path}, columns 'bid_sz' and 'ask_sz' are empty: give the number of shares to assume at each "
                f"quote with --assumed-depth SHARES (assumed_depth_shares), or record the sizes."
            )
        sized = np.isfinite(sizes[0]) & np.isfinite(sizes[1]) & (sizes[0] > 0) & (sizes[1] > 0)
        self.live = good_price & sized
        self.reasons = {
            "no_price": ~priced,
            "self_crossed": crossed,
            "absurd_spread": absurd,
            "no_size": good_price & ~sized,
        }
        self.missing = np.where(good_price, missing, 0)
        self.filled = assumed_depth_shares is not None
        self.bid, self.ask = np.where(self.live, bid, np.nan), np.where(self.live, ask, np.nan)
        self.bid_size, self.ask_size = (np.where(self.live, size, 0.0) for size in sizes)

    def drop_dead_venues(self) -> None:
        """Takes out venues without a usable quote, or refuses if one of them was asked for."""
        rows = np.bincount(self.venue, minlength=len(self.names))
        alive = np.bincount(self.venue[self.live], minlength=len(self.names)) > 0
        dead = [(self.names[k], self._why_dead(k, int(rows[k]))) for k in np.flatnonzero(~alive)]
        if dead and (self.requested or not alive.any()):
            listed = "; ".join(f"{name}: {why}" for name, why in dead)
            raise QuoteFileError(
                f"{self.path} has no usable quote of {'a requested venue' if alive.any() else 'any venue'} ({listed}): "
                f"choose other venues or hours, or correct the file."
            )
        keep = alive[self.venue]
        self.counts["dropped_venues"] = tuple(dead)
        self.counts["of_dropped_venues"] = int(np.sum(~keep))
        self.names = [name for name, is_alive in zip(self.names, alive, strict=True) if is_alive]
        self.venue = (np.cumsum(alive) - 1)[self.venue[keep]]
        for name in ("ts", "live", "missing", "bid", "ask", "bid_size", "ask_size"):
            setattr(self, name, getattr(self, name)[keep])
        self.counts |= {name: int(np.sum(mask[keep])) for name, mask in self.reasons.items()}
        self.counts["rows_kept"] = len(self.ts)
        self.counts["rows_live"] = int(np.sum(self.live))
        self.counts["self_locked"] = int(np.sum(self.live & (self.bid == self.ask)))
        self.counts["sizes_missing"] = int(np.sum(self.missing))
        self.counts["sizes_filled"] = int(np.sum(self.missing)) if self.filled else 0

    def _why_dead(self, k: int, rows: int) -> str:
        if rows == 0:
            return "no row in the session hours"
        words = {
            "no_price": "without a price",
            "self_crossed": "with the bid above the ask",
            "absurd_spread": f"wider than max_spread_bps = {self.max_spread_bps:g}",
            "no_size": "without a size" + ("" if self.filled else ", see --assumed-depth"),
        }
        counted = {name: int(np.sum(mask[self.venue == k])) for name, mask in self.reasons.items()}
        return f"of {rows:,} rows " + ", ".join(f"{n:,} {words[name]}" for name, n in counted.items() if n)

    def segment(self) -> None:
        """Splits the time at closed hours and gaps, and ends quotes that are older than the last split."""
        times = np.unique(self.ts[self.live])
        sessions = _session_number(times, self.hours)
        step = np.diff(times)
        closed = np.diff(sessions) != 0
        gap = ~closed & (step > self.max_gap_s * _SECOND_NS)
        split = closed | gap
        starts, ends = times[np.append(True, split)], times[np.append(split, True)]
        self.counts["sessions"] = len(np.unique(sessions))
        self.counts["gaps"] = int(np.sum(gap))
        self.counts["longest_silence_s"] = float(step[~closed].max(initial=0)) / _SECOND_NS
        self.origin_ns = int(starts[0])
        long = ends > starts
        if not long.any():
            raise QuoteFileError(
                f"{self.path} has no two usable quotes at different times within max_gap_s = {self.max_gap_s:g} s of "
                f"each other, so there is nothing to replay: record more quotes or raise max_gap_s."
            )
        self.starts, self.ends = starts[long], ends[long]
        self._end_old_quotes(starts[1:])
        self.first = np.searchsorted(self.venue, np.arange(len(self.names) + 1)).astype(np.int64)

    def _end_old_quotes(self, starts: IntArray) -> None:
        """Adds a "not quoting" row at each start to every venue still live from before and not renewed there."""
        venues: list[IntArray] = []
        stamps: list[IntArray] = []
        for k in range(len(self.names)):
            mine = np.flatnonzero(self.venue == k)
            before = np.searchsorted(self.ts[mine], starts, side="right") - 1
            row = mine[np.maximum(before, 0)]
            # A venue that stays silent over two splits needs its row only once; more do no harm.
            stale = starts[(before >= 0) & self.live[row] & (self.ts[row] < starts)]
            venues.append(np.full(len(stale), k, dtype=np.int64))
            stamps.append(stale)
        added = sum(map(len, stamps))
        self.counts["resets"] = added
        if not added:
            return
        self.venue = np.concatenate([self.venue, *venues])
        self.ts = np.concatenate([self.ts, *stamps])
        order = np.lexsort((self.ts, self.venue))
        self.venue, self.ts = self.venue[order], self.ts[order]
        self.live = np.append(self.live, np.zeros(added, dtype=np.bool_))[order]
        for name, value in (("bid", np.nan), ("ask", np.nan), ("bid_size", 0.0), ("ask_size", 0.0)):
            setattr(self, name, np.append(getattr(self, name), np.full(added, value))[order])

    def seconds(self, ts: IntArray) -> FloatArray:
        """Seconds since the recording's origin."""
        return (ts - self.origin_ns) / np.float64(_SECOND_NS)

    def recording(self, tape: _Tape | None, sha256: str) -> QuoteRecording:
        """Puts the arrays and the report together."""
        time_s = self.seconds(self.ts)
        segments = np.ascontiguousarray(np.column_stack([self.seconds(self.starts), self.seconds(self.ends)]))
        market = _consolidate(self.first, time_s, self.bid, self.ask, segments)
        mid_time_s, mid_px = _mid_changes(market)
        counts = self.counts | market.counts
        counts["segments"] = len(segments)
        counts["segment_hours"] = float(np.sum(segments[:, 1] - segments[:, 0])) / 3600.0
        counts["venues"] = self._venue_summaries(market)
        if tape is not None:
            counts |= {"trades_read": tape.rows_read, "trades_kept": len(tape.time_s)}
        return QuoteRecording(
            venues=tuple(self.names),
            origin_ns=self.origin_ns,
            first=self.first,
            time_s=time_s,
            bid_px=self.bid,
            bid_size=self.bid_size,
            ask_px=self.ask,
            ask_size=self.ask_size,
            mid_time_s=mid_time_s,
            mid_px=mid_px,
            segments=segments,
            trade_first=None if tape is None else tape.first,
            trade_time_s=None if tape is None else tape.time_s,
            trade_cumulative_size=None if tape is None else tape.cumulative_size,
            report=CleaningReport(**counts),
            sha256=sha256,
        )

    def _venue_summaries(self, market: _Market) -> tuple[VenueSummary, ...]:
        summaries = []
        for k, name in enumerate(self.names):
            rows = slice(self.first[k], self.first[k + 1])
            live = self.live[rows]
            bid, ask = self.bid[rows][live], self.ask[rows][live]
            summaries.append(
                VenueSummary(
                    name=name,
                    rows=len(live),
                    live_rows=int(np.sum(live)),
                    live_share=market.live_share[k],
                    best_ask_share=market.best_ask_share[k],
                    median_spread_bps=float(np.median((ask - bid) / (0.5 * (ask + bid)))) * 1e4,
                )
            )
        return tuple(summaries)


def _utc(ts: np.int64) -> str:
    return f"{np.datetime64(int(ts), 'ns').astype('datetime64[s]')}Z"


# --------------------------------------------------------------------------------------- consolidated market


@dataclass
class _Market:
    """Best bid and ask over live venues at each time at which any venue changes; NaN where none is live."""

    time_s: FloatArray
    best_bid: FloatArray
    best_ask: FloatArray
    live_share: list[float]
    best_ask_share: list[float]
    counts: dict[str, float | int]


def _consolidate(
    first: IntArray, time_s: FloatArray, bid: FloatArray, ask: FloatArray, segments: FloatArray
) -> _Market:
    times = np.unique(time_s)
    best_bid, best_ask = np.full(len(times), np.nan), np.full(len(times), np.nan)
    asks: list[FloatArray] = []
    for k in range(len(first) - 1):
        rows = slice(first[k], first[k + 1])
        at = np.searchsorted(time_s[rows], times, side="right") - 1
        best_bid = np.fmax(best_bid, np.where(at >= 0, bid[rows][at], np.nan))
        asks.append(np.where(at >= 0, ask[rows][at], np.nan))
        best_ask = np.fmin(best_ask, asks[-1])
    # Segments begin and end at rows, so an interval between two times is wholly inside one or outside.
    place = np.searchsorted(segments[:, 0], times[:-1], side="right") - 1
    inside = (place >= 0) & (times[1:] <= segments[np.maximum(place, 0), 1])
    span = np.append(np.where(inside, np.diff(times), 0.0), 0.0)
    total = float(np.sum(span))
    counts: dict[str, float | int] = {"no_live_share": float(np.sum(span[np.isnan(best_bid)])) / total}
    for name, state in (("crossed", best_bid > best_ask), ("locked", best_bid == best_ask)):
        begins = state & (span > 0) & ~np.append(False, state[:-1] & (span[:-1] > 0))
        counts[f"{name}_moments"] = int(np.sum(begins))
        counts[f"{name}_share"] = float(np.sum(span[state])) / total
    return _Market(
        time_s=times,
        best_bid=best_bid,
        best_ask=best_ask,
        live_share=[float(np.sum(span[~np.isnan(a)])) / total for a in asks],
        best_ask_share=[float(np.sum(span[a == best_ask])) / total for a in asks],
        counts=counts,
    )


def _mid_changes(market: _Market) -> tuple[FloatArray, FloatArray]:
    mid = 0.5 * (market.best_bid + market.best_ask)
    live = ~np.isnan(mid)
    times, mid = market.time_s[live], mid[live]  # leaving out NaN carries the last mid
    change = np.append(True, mid[1:] != mid[:-1])
    return times[change], mid[change]


# ------------------------------------------------------------------------------------------------- trades


@dataclass
class _Tape:
    rows_read: int
    first: IntArray
    time_s: FloatArray
    cumulative_size: FloatArray


def _trade_tape(table: _Table, loader: _Loader) -> _Tape:
    place = {name: k for k, name in enumerate(loader.names)}
    number = np.array([place.get(name, -1) for name in table.names] + [-1], dtype=np.int64)
    venue, px, sz = number[table.code], table.numbers["px"], table.numbers["sz"]
    good = np.isfinite(px) & (px > 0) & np.isfinite(sz) & (sz > 0)
    keep = np.flatnonzero(good & (venue >= 0) & _in_session(table.ts, loader.hours))
    ts = table.ts[keep]
    if not np.any((ts >= loader.starts[0]) & (ts <= loader.ends[-1])):
        raise QuoteFileError(
            f"{table.path} has no trade of {', '.join(loader.names)} between {_utc(loader.starts[0])} and "
            f"{_utc(loader.ends[-1])}, the time of the quotes; its venues are {', '.join(table.names) or 'not named'} "
            f"and its times {_utc(table.ts.min())} to {_utc(table.ts.max())}: give the trades of the same days and "
            f"venues, or none."
        )
    rows = keep[np.lexsort((ts, venue[keep]))]
    first = np.searchsorted(venue[rows], np.arange(len(loader.names) + 1)).astype(np.int64)
    total = np.append(0.0, np.cumsum(sz[rows]))
    before = np.repeat(total[first[:-1]], np.diff(first))
    return _Tape(len(table.ts), first, loader.seconds(table.ts[rows]), total[1:] - before)
