"""Loads recorded quotes of several venues (and, if given, trades) into NumPy arrays that a simulator replays.

It does not step through time, fill orders or know about reinforcement learning: it reads, cleans and counts.

The file is a table with the columns `ts, venue, bid_px, bid_sz, ask_px, ask_sz`; a row is that venue's quote
from `ts` (UTC) until its next row. What is not a usable quote stays as a row without prices, so that the
quote before it ends there. Whatever is dropped or changed is counted in `CleaningReport`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

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
TRADE_COLUMNS: Columns = {"ts": ("ts",), "venue": ("venue",), "px": ("px", "price"), "sz": ("sz", "size")}

DEFAULT_MAX_SPREAD_BPS = 500.0
"""Above every quote of the active venues in the recordings looked at (226 bps), below stubs (20,000 bps)."""
DEFAULT_MAX_GAP_S = 300.0
"""Twice the longest silence of a quiet FX night (145 s); closed hours and outages are longer."""

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
_EARLIEST_NS = 100_000_000_000_000_000  # March 1973: an integer below this counts s, ms or us, not ns
_EMPTY_NUMBERS = pa.array(["", "nan", "na", "n/a", "null", "none"])

# Why a row is not a usable quote (0: it is one). RESET rows are added by the loader.
_LIVE, _NO_PRICE, _SELF_CROSSED, _ABSURD_SPREAD, _NO_SIZE, _RESET = range(6)


class QuoteFileError(UserError):
    """A recording, or an argument about it, cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class VenueSummary:
    """One venue of a recording; shares are of the time inside segments."""

    name: str
    rows: int
    live_rows: int
    live_share: float
    best_ask_share: float  # at the best ask, ties included
    median_spread_bps: float  # over live rows
    seconds_per_quote: float  # time live / live rows


@dataclass(frozen=True)
class CleaningReport:
    """What the loader read, dropped and changed.

    Every row read is in one of `unknown_venue, not_requested, out_of_session, duplicates, of_dropped_venues,
    rows_kept`; every row kept in one of `rows_live, no_price, self_crossed, absurd_spread, no_size`. Shares
    are of the time inside segments.
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
    sizes_missing: int  # bid and ask sizes missing in rows with good prices
    sizes_filled: int  # of them, those set to assumed_depth_shares
    resets: int  # rows added: a quote from before a gap or a closed session is ended at the next start
    out_of_order: int  # rows read whose stamp is before that of the row above; they are sorted
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
            f"{self.file}: {self.rows_read:,} rows read, {self.rows_kept:,} kept: {self.rows_live:,} usable "
            f"quotes and {self.not_quoting:,} rows in which a venue is not quoting."
        )
        lines = [head, *self._dropped_lines(), *self._not_quoting_lines(), *self._market_lines()]
        for venue in self.venues:
            lines.append(
                f"Venue {venue.name}: {venue.live_rows:,} usable quotes, quoting {venue.live_share:.1%} of "
                f"the time, at the best ask {venue.best_ask_share:.1%}, median spread "
                f"{venue.median_spread_bps:.2f} bps; a quote lasts {venue.seconds_per_quote:.2f} s on "
                f"average."
            )
        if self.trades_read:
            lines.append(
                f"Trades: {self.trades_read:,} read, {self.trades_kept:,} kept (of these venues and session "
                f"hours, with a price and a size above 0)."
            )
        return lines + self.warnings()

    def warnings(self) -> list[str]:
        """Says what in the data may mislead whoever replays it."""
        lines = []
        if len(self.venues) == 1:
            lines.append(
                f"Warning: {self.venues[0].name} is the only venue, so there is nothing to route between and "
                f"the consolidated market is that venue."
            )
        tightest = min(venue.median_spread_bps for venue in self.venues)
        fastest = min(venue.seconds_per_quote for venue in self.venues)
        for venue in self.venues:
            if venue.median_spread_bps > 20 * max(tightest, 0.5):
                lines.append(
                    f"Warning: the median spread of {venue.name}, {venue.median_spread_bps:.0f} bps, is far "
                    f"from the tightest venue's {tightest:.2f} bps: its quotes look like stubs; leave it out "
                    f"with venues or lower max_spread_bps."
                )
            if venue.seconds_per_quote > 100 * fastest:
                lines.append(
                    f"Warning: a quote of {venue.name} lasts {venue.seconds_per_quote:.0f} s on average, of "
                    f"the fastest venue {fastest:.2f} s: it is often stale; leave it out with venues."
                )
        if self.crossed_share > 0.02:
            lines.append(
                f"Warning: the consolidated market is crossed {self.crossed_share:.1%} of the time, which "
                f"real markets are not: some venues' quotes are stale or the recording is thinned, so gains "
                f"from routing come out too large."
            )
        return lines

    def _dropped_lines(self) -> list[str]:
        counted = [
            (self.unknown_venue, "dropped: no venue is named"),
            (self.not_requested, "dropped: of venues that were not asked for"),
            (self.out_of_session, "dropped: outside the session hours"),
            (
                self.duplicates,
                "dropped: a later row of the same venue has the same time stamp and replaces it",
            ),
            (self.out_of_order, "are earlier than the row above them; the rows were sorted by time"),
        ]
        lines = [f"Rows {why}: {count:,}." for count, why in counted if count]
        return lines + [f"Venue {name} dropped: {why}." for name, why in self.dropped_venues]

    def _not_quoting_lines(self) -> list[str]:
        counted = [
            (self.no_price, "a price is missing, zero or negative"),
            (self.self_crossed, "the venue's bid is above its own ask"),
            (self.absurd_spread, f"the spread is wider than {self.max_spread_bps:g} bps"),
            (self.no_size, "a size is missing, zero or negative"),
        ]
        lines = [f"Rows taken as 'not quoting', as {why}: {count:,}." for count, why in counted if count]
        if self.self_locked:
            lines.append(f"Rows used although the bid equals the venue's own ask: {self.self_locked:,}.")
        if self.sizes_filled:
            lines.append(f"Missing sizes set to the assumed depth: {self.sizes_filled:,}.")
        elif self.sizes_missing:
            lines.append(f"Missing sizes: {self.sizes_missing:,}; --assumed-depth SHARES would fill them.")
        if self.resets:
            lines.append(f"Quotes ended because they were older than a gap or a closed session: {self.resets:,}.")
        return lines

    def _market_lines(self) -> list[str]:
        lines = [
            f"Segments of continuous trading: {self.segments}, {self.segment_hours:.2f} hours; sessions: "
            f"{self.sessions}; gaps longer than {self.max_gap_s:g} s: {self.gaps}; longest silence inside a "
            f"session: {self.longest_silence_s:.1f} s.",
            f"Best bid above best ask (crossed): {self.crossed_share:.1%} of the time, "
            f"{self.crossed_moments:,} moments; equal (locked): {self.locked_share:.1%}, "
            f"{self.locked_moments:,} moments; the mid is still their average.",
        ]
        if self.no_live_share > 0:
            lines.append(f"No venue quotes {self.no_live_share:.1%} of the time; the last mid is carried there.")
        return lines


@dataclass(frozen=True, eq=False)
class QuoteRecording:
    """Quotes of K venues as arrays; treat them as read-only.

    Venue k's rows are `[first[k], first[k + 1])`, strictly increasing in time. At time t its quote is the
    last row with `time_s <= t`; before its first row it does not quote. A row in which it does not quote has
    NaN prices and sizes of 0. Likewise the mid at t is the last one with `mid_time_s <= t`. Time 0 is the
    first usable quote; rows without a quote and trades may be before it.
    """

    venues: tuple[str, ...]  # K names, sorted
    origin_ns: int  # time 0 in UTC nanoseconds since 1970
    first: IntArray  # (K + 1,)
    time_s: FloatArray  # (R,) since origin_ns
    bid_px: FloatArray  # (R,)
    bid_size: FloatArray  # (R,) shares
    ask_px: FloatArray  # (R,)
    ask_size: FloatArray  # (R,) shares
    mid_time_s: FloatArray  # (M,) strictly increasing, one per change
    mid_px: FloatArray  # (M,) (best bid + best ask) / 2 over live venues, else the last one
    segments: FloatArray  # (G, 2) start and end seconds of continuous trading; the mid exists throughout
    trade_first: IntArray | None  # (K + 1,)
    trade_time_s: FloatArray | None  # (T,) increasing within a venue, stamps may repeat
    trade_cumulative_size: FloatArray | None  # (T,) shares the venue has traded up to and with this trade
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

    A row does not quote where a price or size is zero, negative or missing, the venue's bid is above its own
    ask, or its spread is absurd; a bid equal to the ask is a quote. A quote never outlives its segment.

    Args:
        path: columns `ts, venue, bid_px, bid_sz, ask_px, ask_sz`; `ts` in UTC as int64 ns, a timestamp type
            or ISO text (without an offset it is UTC). Rows may be in any order; of equal stamps the last
            counts.
        venues: the venues to keep; None keeps all that have a usable quote.
        assumed_depth_shares: stands in for missing (NaN, empty) sizes, not for sizes of 0.
        trades: columns `ts, venue, px` or `price`, `sz` or `size` (shares).
        session: UTC hours kept on each day, such as `("14:35", "21:00")`; may pass midnight. A venue counts
            from its first quote inside the session on.
        max_spread_bps: a quote with a wider spread, relative to its own mid, is absurd.
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
    counts: dict[str, Any] = {
        "file": quote_path.name,
        "max_spread_bps": max_spread_bps,
        "max_gap_s": max_gap_s,
    }

    chosen, venue = _select(table, wanted, hours, counts)
    rows = _judge(chosen, venue, max_spread_bps, assumed_depth_shares, size_multiplier)
    names, rows = _drop_dead_venues(quote_path, wanted, rows, venues is not None, counts)
    _count_rows(rows, assumed_depth_shares is not None, counts)
    runs = _runs(quote_path, rows, hours, max_gap_s, counts)
    rows = _end_old_quotes(rows, len(names), runs[1:, 0], counts)
    tape, trade_content = _read_trades(trades, names, hours, runs, counts)
    digest.update(trade_content)
    return _recording(names, rows, runs, tape, counts, digest.hexdigest())


# ---------------------------------------------------------------------------------------------- arguments


def _check_positive(name: str, value: float | None) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value <= 0:
        raise QuoteFileError(f"{name} is {value!r}, but must be a number above 0: correct it or leave it out.")


def _parse_session(session: tuple[str, str] | None) -> tuple[int, int] | None:
    """Returns (start since midnight UTC, length) in nanoseconds."""
    if session is None:
        return None
    if isinstance(session, str) or len(session) != 2:
        raise QuoteFileError(
            f"session is {session!r}, but must be a start and an end in UTC: write ('14:35', '21:00')."
        )
    start, end = (_parse_clock(value) for value in session)
    length = _DAY_NS if end - start == _DAY_NS else (end - start) % _DAY_NS
    if length == 0:
        raise QuoteFileError(
            f"session starts and ends at {session[0]}, which keeps nothing: give two different times or none."
        )
    return start, length


def _parse_clock(value: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", value) if isinstance(value, str) else None
    if match is not None:
        hour, minute, second = (int(part or 0) for part in match.groups())
        if minute < 60 and second < 60 and (hour < 24 or (hour, minute, second) == (24, 0, 0)):
            return (hour * 3600 + minute * 60 + second) * _SECOND_NS
    raise QuoteFileError(
        f"session has the time {value!r}, but must have UTC times from '00:00' to '24:00': write HH:MM or "
        f"HH:MM:SS (in YAML put them in quotes)."
    )


# ------------------------------------------------------------------------------------------------ reading


@dataclass
class _Table:
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
            raise QuoteFileError(
                f"{path} has the suffix {path.suffix!r}, but a {kind} file must end in one of "
                f"{', '.join(SUFFIXES)}: convert or rename it."
            )
        content = path.read_bytes()
    except OSError as error:
        raise QuoteFileError(
            f"{path} cannot be read ({error.strerror or error}): check that you may read the {kind} file."
        ) from error
    if not content:
        raise QuoteFileError(f"{path} is empty (0 bytes): record or copy the {kind} file again.")
    return content


def _read_table(path: Path, content: bytes, columns: Columns, kind: str) -> _Table:
    is_parquet = path.name.lower().endswith(".parquet")
    table = _parquet_table(path, content, columns) if is_parquet else _csv_table(path, content, columns)
    if table.num_rows == 0:
        raise QuoteFileError(f"{path} has columns but no rows: give a {kind} file with at least one row.")
    code, names = _venue_codes(path, table.column("venue"))
    numeric = [name for name in columns if name not in ("ts", "venue")]
    return _Table(
        path=path,
        ts=_timestamps(path, table.column("ts")),
        code=code,
        names=names,
        numbers={name: _numbers(path, name, table.column(name)) for name in numeric},
    )


def _match_columns(path: Path, present: Sequence[str], columns: Columns) -> dict[str, str]:
    """Returns the file's own name of each column."""
    found: dict[str, str] = {}
    for name, aliases in columns.items():
        here = [alias for alias in aliases if alias in present]
        if not here:
            listed = ", ".join(present)
            hint = " (empty where sizes are not known)" if name in ("bid_sz", "ask_sz") else ""
            raise QuoteFileError(
                f"{path} has no column {' or '.join(map(repr, aliases))}, but it has: "
                f"{listed[:300] or 'none'}: rename or add that column{hint}; needed are {', '.join(columns)}."
            )
        if list(present).count(here[0]) > 1:
            raise QuoteFileError(f"{path} has the column {here[0]!r} more than once: keep one of them.")
        found[name] = here[0]
    return found


def _parquet_table(path: Path, content: bytes, columns: Columns) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        found = _match_columns(path, file.schema_arrow.names, columns)
        wanted = list(found.values())
        return file.read(columns=wanted).select(wanted).rename_columns(list(found))
    except (pa.ArrowException, OSError) as error:
        raise QuoteFileError(
            f"{path} cannot be read as a Parquet file (it begins with {content[:12]!r}): rename it if it is "
            f"a CSV file, or write it again."
        ) from error


def _csv_text(path: Path, content: bytes) -> str:
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise QuoteFileError(
                f"{path} cannot be unpacked with gzip ({error}): pack it again or, if not packed, rename it."
            ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise QuoteFileError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8 text: save it as UTF-8."
        ) from error


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
        types = {name: pa.string() for name in wanted}
        table = pa_csv.read_csv(
            io.BytesIO(body.encode()),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=False),
            convert_options=pa_csv.ConvertOptions(include_columns=wanted, column_types=types),
        )
    except (pa.ArrowException, csv.Error) as error:
        # Without threads pyarrow names the row, counted from 1 after the header as elsewhere in this module.
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")[:200].replace("Row #", "data row ")
        raise QuoteFileError(
            f"{path} is not a table with commas between its columns ({reason}): correct that row."
        ) from error
    return table.rename_columns(list(found))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undoes dictionary encoding and the white space around text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pc.utf8_trim_whitespace(column) if _is_text(column) else column


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _bad_value(path: Path, name: str, row: int, value: object, expected: str) -> NoReturn:
    raise QuoteFileError(f"{path}, column {name!r}, data row {row + 1}: {value!r} is not {expected}.")


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    column = _plain(column)
    kind = column.type
    if _is_text(column):
        empty = pc.is_in(pc.utf8_lower(column), value_set=_EMPTY_NUMBERS.cast(kind))
        column = pc.if_else(empty, pa.scalar(None, kind), column)
    elif not (
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise QuoteFileError(f"{path}, column {name!r} has the type {kind}: write it as numbers (float64).")
    try:
        values = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        row = _first_failure(column, pa.float64())
        _bad_value(path, name, row, column[row].as_py(), "a number: correct it, or leave it empty if unknown")
    return np.asarray(pc.fill_null(values, np.nan).to_numpy(), dtype=np.float64)


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
    absent_rows = np.flatnonzero(pc.fill_null(absent, True).to_numpy())
    if absent_rows.size:
        _bad_value(path, "ts", int(absent_rows[0]), "", expected)
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
    early = np.flatnonzero((ts < _EARLIEST_NS) & pa.types.is_integer(kind))
    if early.size:
        row = int(early[0])
        _bad_value(path, "ts", row, int(ts[row]), "in nanoseconds since 1970: convert s, ms or us to ns")
    return ts


def _parse_times(path: Path, text: pa.ChunkedArray, expected: str) -> pa.ChunkedArray:
    """Returns int64 or timestamps; as in the first row, all integers, all without or all with an offset."""
    first = text[0].as_py()
    kind: pa.DataType = pa.timestamp("ns")
    if re.fullmatch(r"[+-]?\d+", first):
        kind = pa.int64()
    elif re.search(r"(Z|[+-]\d{2}:?(\d{2})?)$", first[10:]):
        kind = pa.timestamp("ns", "UTC")
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


def _wanted_venues(table: _Table, venues: Sequence[str] | None) -> list[str]:
    """Returns the venues to keep, sorted."""
    if venues is None:
        return table.names
    chosen = {venues} if isinstance(venues, str) else set(venues)
    if not chosen:
        raise QuoteFileError(f"venues is empty: name at least one of {', '.join(table.names)}, or leave it out.")
    unknown = sorted(str(name) for name in chosen if name not in table.names)
    if unknown:
        raise QuoteFileError(
            f"{table.path} has no venue {', '.join(map(repr, unknown))}; it has {', '.join(table.names)}: "
            f"choose among these."
        )
    return [name for name in table.names if name in chosen]


# ----------------------------------------------------------------------------------------------- cleaning


@dataclass
class _Rows:
    """Quotes sorted by venue and time, one per venue and stamp."""

    venue: IntArray
    ts: IntArray
    reason: IntArray  # _LIVE, or why it is not a quote
    missing: IntArray  # sizes missing where the prices are good: 0, 1 or 2
    bid: FloatArray
    bid_size: FloatArray
    ask: FloatArray
    ask_size: FloatArray

    def take(self, index: IntArray | BoolArray) -> _Rows:
        return _Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @property
    def live(self) -> BoolArray:
        return np.asarray(self.reason == _LIVE, dtype=np.bool_)


def _in_session(ts: IntArray, hours: tuple[int, int] | None) -> BoolArray:
    if hours is None:
        return np.ones(len(ts), dtype=np.bool_)
    return np.asarray((ts - hours[0]) % _DAY_NS < hours[1], dtype=np.bool_)


def _utc(ts: np.int64) -> str:
    return f"{np.datetime64(int(ts), 'ns').astype('datetime64[s]')}Z"


def _venue_numbers(table: _Table, names: Sequence[str]) -> IntArray:
    """Returns each row's place in `names`, -1 if it is not there."""
    place = {name: k for k, name in enumerate(names)}
    lookup = np.array([place.get(name, -1) for name in table.names] + [-1], dtype=np.int64)  # last: code -1
    return lookup[table.code]


def _select(
    table: _Table, names: Sequence[str], hours: tuple[int, int] | None, counts: dict[str, Any]
) -> tuple[_Table, IntArray]:
    """Keeps the wanted venues and hours, sorted by venue and time; of equal stamps the last row."""
    venue = _venue_numbers(table, names)
    inside = _in_session(table.ts, hours)
    keep = np.flatnonzero((venue >= 0) & inside)
    counts["rows_read"] = len(table.ts)
    counts["unknown_venue"] = int(np.sum(table.code < 0))
    counts["not_requested"] = int(np.sum((venue < 0) & (table.code >= 0)))
    counts["out_of_session"] = int(np.sum((venue >= 0) & ~inside))
    counts["out_of_order"] = int(np.sum(np.diff(table.ts) < 0))
    if keep.size == 0:
        raise QuoteFileError(
            f"{table.path} has no row of {', '.join(names)} inside the session hours (UTC); its times go "
            f"from {_utc(table.ts.min())} to {_utc(table.ts.max())}: change or leave out the session."
        )
    order = keep[np.lexsort((table.ts[keep], venue[keep]))]  # stable: file order within equal stamps
    last = np.append((np.diff(venue[order]) != 0) | (np.diff(table.ts[order]) != 0), True)
    counts["duplicates"] = int(np.sum(~last))
    order = order[last]
    numbers = {name: values[order] for name, values in table.numbers.items()}
    return _Table(table.path, table.ts[order], table.code[order], table.names, numbers), venue[order]


def _judge(
    table: _Table,
    venue: IntArray,
    max_spread_bps: float,
    assumed_depth_shares: float | None,
    size_multiplier: float,
) -> _Rows:
    """Decides which rows are quotes, and fills missing sizes."""
    bid, ask = table.numbers["bid_px"], table.numbers["ask_px"]
    reason = np.zeros(len(bid), dtype=np.int64)
    missing = np.zeros(len(bid), dtype=np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        reason[(ask - bid) > max_spread_bps * 1e-4 * 0.5 * (ask + bid)] = _ABSURD_SPREAD
        reason[bid > ask] = _SELF_CROSSED
    reason[~(np.isfinite(bid) & np.isfinite(ask) & (bid > 0) & (ask > 0))] = _NO_PRICE
    good = reason == _LIVE
    sizes: dict[str, FloatArray] = {}
    for name in ("bid_sz", "ask_sz"):
        size = table.numbers[name] * size_multiplier
        gone = np.isnan(size)
        missing += gone & good
        if assumed_depth_shares is not None:
            size = np.where(gone, assumed_depth_shares, size)
        reason[good & ~(np.isfinite(size) & (size > 0))] = _NO_SIZE
        sizes[name] = size
    if assumed_depth_shares is None and good.any() and np.all(missing[good] > 0):
        raise QuoteFileError(
            f"{table.path} has no row with a size in both 'bid_sz' and 'ask_sz' (NaN or empty): give the "
            f"number of shares to assume at each quote with --assumed-depth SHARES, or record the sizes."
        )
    live = reason == _LIVE
    return _Rows(
        venue=venue,
        ts=table.ts,
        reason=reason,
        missing=missing,
        bid=np.where(live, bid, np.nan),
        bid_size=np.where(live, sizes["bid_sz"], 0.0),
        ask=np.where(live, ask, np.nan),
        ask_size=np.where(live, sizes["ask_sz"], 0.0),
    )


def _drop_dead_venues(
    path: Path, names: list[str], rows: _Rows, requested: bool, counts: dict[str, Any]
) -> tuple[list[str], _Rows]:
    """Takes out venues without a usable quote, or refuses if one of them was asked for."""
    alive = np.bincount(rows.venue[rows.live], minlength=len(names)) > 0
    dead = [(name, _why_dead(rows.take(rows.venue == k))) for k, name in enumerate(names) if not alive[k]]
    if dead and (requested or not alive.any()):
        listed = "; ".join(f"{name}: {why}" for name, why in dead)
        whose = "some of the venues asked for" if alive.any() else "any venue"
        raise QuoteFileError(
            f"{path} has no usable quote of {whose} ({listed}): choose other venues, hours or limits, or "
            f"correct the file."
        )
    keep = alive[rows.venue]
    counts["dropped_venues"] = tuple(dead)
    counts["of_dropped_venues"] = int(np.sum(~keep))
    rows = rows.take(keep)
    rows.venue = (np.cumsum(alive) - 1)[rows.venue]
    return [name for k, name in enumerate(names) if alive[k]], rows


def _why_dead(rows: _Rows) -> str:
    if not len(rows.ts):
        return "no row in the session hours"
    words = {
        _NO_PRICE: "without a price",
        _SELF_CROSSED: "with the bid above the ask",
        _ABSURD_SPREAD: "wider than max_spread_bps",
        _NO_SIZE: "without a size" + (" (--assumed-depth SHARES would fill it)" if rows.missing.any() else ""),
    }
    counted = {reason: int(np.sum(rows.reason == reason)) for reason in words}
    return f"of {len(rows.ts):,} rows " + ", ".join(f"{n:,} {words[why]}" for why, n in counted.items() if n)


def _count_rows(rows: _Rows, filled: bool, counts: dict[str, Any]) -> None:
    by_reason = np.bincount(rows.reason, minlength=_RESET)
    counts["rows_kept"] = len(rows.ts)
    counts["rows_live"] = int(by_reason[_LIVE])
    counts["no_price"] = int(by_reason[_NO_PRICE])
    counts["self_crossed"] = int(by_reason[_SELF_CROSSED])
    counts["absurd_spread"] = int(by_reason[_ABSURD_SPREAD])
    counts["no_size"] = int(by_reason[_NO_SIZE])
    counts["self_locked"] = int(np.sum(rows.bid == rows.ask))
    counts["sizes_missing"] = int(np.sum(rows.missing))
    counts["sizes_filled"] = counts["sizes_missing"] if filled else 0


def _runs(path: Path, rows: _Rows, hours: tuple[int, int] | None, max_gap_s: float, counts: dict[str, Any]) -> IntArray:
    """Returns the first and last usable quote (ns) of each run without closed hours and gaps, (runs, 2)."""
    times = np.unique(rows.ts[rows.live])
    sessions = np.zeros_like(times) if hours is None else (times - hours[0]) // _DAY_NS
    step = np.diff(times)
    closed = np.diff(sessions) != 0
    gap = ~closed & (step > max_gap_s * _SECOND_NS)
    split = closed | gap
    runs = np.column_stack([times[np.append(True, split)], times[np.append(split, True)]])
    counts["sessions"] = len(np.unique(sessions))
    counts["gaps"] = int(np.sum(gap))
    counts["longest_silence_s"] = float(step[~closed].max(initial=0)) / _SECOND_NS
    if not np.any(runs[:, 1] > runs[:, 0]):
        raise QuoteFileError(
            f"{path} has no two usable quotes at different times within max_gap_s = {max_gap_s:g} s of each "
            f"other, so there is nothing to replay: record more quotes or raise max_gap_s."
        )
    return runs


def _end_old_quotes(rows: _Rows, n_venues: int, starts: IntArray, counts: dict[str, Any]) -> _Rows:
    """Ends the quotes that a run would inherit: adds a row without quote to such a venue at its start."""
    edges = np.searchsorted(rows.venue, np.arange(n_venues + 1))
    venues: list[IntArray] = []
    stamps: list[IntArray] = []
    for k in range(n_venues):
        at = edges[k] + np.searchsorted(rows.ts[edges[k] : edges[k + 1]], starts, side="right") - 1
        quoted = at >= edges[k]
        inherits = np.flatnonzero(quoted & rows.live[at] & (rows.ts[at] < starts))
        # A quote that would outlive several starts is ended at the first of them.
        stale = starts[inherits[np.unique(at[inherits], return_index=True)[1]]]
        venues.append(np.full(len(stale), k, dtype=np.int64))
        stamps.append(stale)
    venue, ts = np.concatenate(venues), np.concatenate(stamps)
    n = len(ts)
    counts["resets"] = n
    merged = _Rows(
        venue=np.append(rows.venue, venue),
        ts=np.append(rows.ts, ts),
        reason=np.append(rows.reason, np.full(n, _RESET)),
        missing=np.append(rows.missing, np.zeros(n, dtype=np.int64)),
        bid=np.append(rows.bid, np.full(n, np.nan)),
        bid_size=np.append(rows.bid_size, np.zeros(n)),
        ask=np.append(rows.ask, np.full(n, np.nan)),
        ask_size=np.append(rows.ask_size, np.zeros(n)),
    )
    return merged.take(np.lexsort((merged.ts, merged.venue)))


def _recording(
    names: list[str], rows: _Rows, runs: IntArray, tape: _Tape | None, counts: dict[str, Any], sha256: str
) -> QuoteRecording:
    """Puts the arrays and the report together."""
    origin_ns = int(runs[0, 0])
    first = np.searchsorted(rows.venue, np.arange(len(names) + 1)).astype(np.int64)
    time_s = _seconds(rows.ts, origin_ns)
    segments = _seconds(runs[runs[:, 1] > runs[:, 0]], origin_ns)
    market = _consolidate(first, time_s, rows, segments, counts)
    mid_time_s, mid_px = _mid_changes(market)
    counts["segments"] = len(segments)
    counts["segment_hours"] = float(np.sum(segments[:, 1] - segments[:, 0])) / 3600.0
    counts["venues"] = _venue_summaries(names, first, rows, market)
    return QuoteRecording(
        venues=tuple(names),
        origin_ns=origin_ns,
        first=first,
        time_s=time_s,
        bid_px=rows.bid,
        bid_size=rows.bid_size,
        ask_px=rows.ask,
        ask_size=rows.ask_size,
        mid_time_s=mid_time_s,
        mid_px=mid_px,
        segments=segments,
        trade_first=None if tape is None else tape.first,
        trade_time_s=None if tape is None else _seconds(tape.ts, origin_ns),
        trade_cumulative_size=None if tape is None else tape.cumulative_size,
        report=CleaningReport(**counts),
        sha256=sha256,
    )


def _seconds(ts: IntArray, origin_ns: int) -> FloatArray:
    return np.ascontiguousarray((ts - origin_ns) / np.float64(_SECOND_NS))


# --------------------------------------------------------------------------------------- consolidated market


@dataclass
class _Market:
    """Best bid and ask over live venues at each time at which any venue changes; NaN where none is live."""

    time_s: FloatArray
    best_bid: FloatArray
    best_ask: FloatArray
    total_s: float  # inside segments
    live_s: list[float]  # per venue
    best_ask_s: list[float]  # per venue


def _consolidate(
    first: IntArray, time_s: FloatArray, rows: _Rows, segments: FloatArray, counts: dict[str, Any]
) -> _Market:
    times = np.unique(time_s)
    best_bid, best_ask = np.full(len(times), np.nan), np.full(len(times), np.nan)
    asks: list[FloatArray] = []
    for start, end in pairwise(first):
        at = start + np.searchsorted(time_s[start:end], times, side="right") - 1
        best_bid = np.fmax(best_bid, np.where(at >= start, rows.bid[at], np.nan))
        asks.append(np.where(at >= start, rows.ask[at], np.nan))
        best_ask = np.fmin(best_ask, asks[-1])
    # Segments begin and end at rows, so the time between two rows is wholly inside a segment or outside.
    place = np.searchsorted(segments[:, 0], times[:-1], side="right") - 1
    inside = (place >= 0) & (times[1:] <= segments[np.maximum(place, 0), 1])
    span = np.append(np.where(inside, np.diff(times), 0.0), 0.0)
    total = float(np.sum(span))
    counts["no_live_share"] = float(np.sum(span[np.isnan(best_bid)])) / total
    for name, state in (("crossed", best_bid > best_ask), ("locked", best_bid == best_ask)):
        state &= span > 0
        counts[f"{name}_moments"] = int(np.sum(state[1:] & ~state[:-1])) + int(state[0])
        counts[f"{name}_share"] = float(np.sum(span[state])) / total
    return _Market(
        time_s=times,
        best_bid=best_bid,
        best_ask=best_ask,
        total_s=total,
        live_s=[float(np.sum(span[~np.isnan(ask)])) for ask in asks],
        best_ask_s=[float(np.sum(span[ask == best_ask])) for ask in asks],
    )


def _mid_changes(market: _Market) -> tuple[FloatArray, FloatArray]:
    mid = 0.5 * (market.best_bid + market.best_ask)
    live = ~np.isnan(mid)
    times, mid = market.time_s[live], mid[live]  # leaving out NaN carries the last mid
    change = np.append(True, mid[1:] != mid[:-1])
    return times[change], mid[change]


def _venue_summaries(names: list[str], first: IntArray, rows: _Rows, market: _Market) -> tuple[VenueSummary, ...]:
    summaries = []
    for k, name in enumerate(names):
        mine = slice(first[k], first[k + 1])
        live = rows.live[mine]
        bid, ask = rows.bid[mine][live], rows.ask[mine][live]
        summaries.append(
            VenueSummary(
                name=name,
                rows=len(live),
                live_rows=len(bid),
                live_share=market.live_s[k] / market.total_s,
                best_ask_share=market.best_ask_s[k] / market.total_s,
                median_spread_bps=float(np.median((ask - bid) / (0.5 * (ask + bid)))) * 1e4,
                seconds_per_quote=market.live_s[k] / len(bid),
            )
        )
    return tuple(summaries)


# ------------------------------------------------------------------------------------------------- trades


@dataclass
class _Tape:
    ts: IntArray
    first: IntArray
    cumulative_size: FloatArray


def _read_trades(
    path: str | PathLike[str] | None,
    names: list[str],
    hours: tuple[int, int] | None,
    runs: IntArray,
    counts: dict[str, Any],
) -> tuple[_Tape | None, bytes]:
    """Returns the trades and the content of their file, if there is one."""
    if path is None:
        return None, b""
    content = _read_bytes(Path(path), "trade")
    return _tape(_read_table(Path(path), content, TRADE_COLUMNS, "trade"), names, hours, runs, counts), content


def _tape(
    table: _Table,
    names: list[str],
    hours: tuple[int, int] | None,
    runs: IntArray,
    counts: dict[str, Any],
) -> _Tape:
    venue = _venue_numbers(table, names)
    px, sz = table.numbers["px"], table.numbers["sz"]
    good = np.isfinite(px) & (px > 0) & np.isfinite(sz) & (sz > 0)
    keep = np.flatnonzero(good & (venue >= 0) & _in_session(table.ts, hours))
    start, end = runs[0, 0], runs[-1, 1]
    if not np.any((table.ts[keep] >= start) & (table.ts[keep] <= end)):
        raise QuoteFileError(
            f"{table.path} has no trade of {', '.join(names)} from {_utc(start)} to {_utc(end)}, the time of "
            f"the quotes; its venues are {', '.join(table.names)} and its times go from "
            f"{_utc(table.ts.min())} to {_utc(table.ts.max())}: give the trades of the same days and venues."
        )
    rows = keep[np.lexsort((table.ts[keep], venue[keep]))]
    first = np.searchsorted(venue[rows], np.arange(len(names) + 1)).astype(np.int64)
    total = np.append(0.0, np.cumsum(sz[rows]))
    counts |= {"trades_read": len(table.ts), "trades_kept": len(rows)}
    return _Tape(table.ts[rows], first, total[1:] - np.repeat(total[first[:-1]], np.diff(first)))
