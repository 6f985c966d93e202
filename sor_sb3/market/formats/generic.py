"""Tables of any vendor: the user names columns, units, zone and scales by flags. Text of any separator, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.formats.base import SIDES, Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.tables import Batch, TextTable, foreign, open_text
from sor_sb3.market.formats.times import date_in_name, formatted, times
from sor_sb3.market.quote_tables import MOST_LEVELS

_QUOTES = [name for level in range(1, MOST_LEVELS + 1) for name in level_names(level)]
_KEYS = ("ts", "venue", "symbol", "date")
_TRADES = ("px", "sz", "side")
KNOWN = (*_KEYS, *_QUOTES, *_TRADES)
_PARQUET = b"PAR1"


def _open(source: Source, options: Options) -> Reading:
    for name in options.columns:
        if name not in KNOWN:
            hint = did_you_mean(name, list(KNOWN))
            raise UserError(
                f"--column {name}={options.columns[name]}: there is no '{name}'{hint}; expected {_expected()}"
            )
    with source.path.open("rb") as file:
        is_parquet = file.read(4) == _PARQUET
    table = _ParquetTable(source) if is_parquet else open_text(source, options.separator)
    here = table.names
    names = {name: options.columns.get(name, name) for name in KNOWN}
    lacking = [f"{name}={column}" for name, column in options.columns.items() if column not in here]
    if lacking:
        what = f"{source.path} has no column {', '.join(lacking)}, but {', '.join(here)[:200]}"
        raise UserError(f"{what}; correct --column{'' if options.separator else ' or give --separator'}")
    names = {name: column for name, column in names.items() if column in here}
    is_quote = "bid_px" in names or "ask_px" in names
    needed = {"ts", "bid_px", "ask_px"} if is_quote else {"ts", "px", "sz"}
    missing = sorted(needed - set(names))
    if missing:
        lacking_text = f"no column for {', '.join(missing)} (give --column {missing[0]}=NAME)"
        foreign(source.path, here, "generic", lacking_text)
    levels = sum(f"{side}_px" in names for side in ("bid",)) if is_quote else 0
    while levels and {f"bid_px_{levels + 1}", f"ask_px_{levels + 1}"} <= set(names):
        levels += 1
    return Reading(levels, not is_quote, lambda tally: _pieces(table, names, levels, options, tally))


def _expected() -> str:
    return f"{', '.join(_KEYS)}, {', '.join(SIDES)}, bid_px_2 and so on, or {', '.join(_TRADES)}"


class _ParquetTable:
    """A Parquet file read as text, so that what is wrong in it is said as of a text file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        with self._file() as file:
            self.names: list[str] = file.schema_arrow.names

    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.source.path)
        except (pa.ArrowException, OSError) as error:
            what = f"{self.source.path} cannot be read as a Parquet file ({str(error).splitlines()[0]})"
            raise UserError(f"{what}; write or copy it again") from error

    def batches(self, wanted: list[str]) -> Iterator[Batch]:
        """The wanted columns as text; times with a zone keep it."""
        first = 1
        with self._file() as file:
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(columns=wanted, use_threads=False):
                frame = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
                texts = [_text(frame[name]).alias(name) for name in wanted]
                yield Batch(self.source.path, pl.DataFrame(texts), first)
                first += frame.height
                self.source.tell(int(self.source.path.stat().st_size * first / total))
        if first == 1:
            raise UserError(f"{self.source.path} has columns but no rows; write or copy it again")


def _text(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime):
        offset = "+00:00" if column.dtype.time_zone else ""
        at = column.dt.convert_time_zone("UTC") if offset else column
        return at.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.9f{offset}").fill_null("")
    return column.cast(pl.String).fill_null("")


def _pieces(
    table: TextTable | _ParquetTable, names: Mapping[str, str], levels: int, options: Options, tally: Tally
) -> Iterator[Piece]:
    kept = [name for level in range(1, min(levels, options.most_levels) + 1) for name in level_names(level)]
    used = [name for name in (*_KEYS, *(kept or _TRADES)) if name in names]
    for batch in table.batches(list(dict.fromkeys(names[name] for name in used))):
        rows = batch.frame.height
        tally.read += rows
        keys = {
            "ts": _times(batch, names, options),
            "venue": _plain(batch, names, "venue", options.venue or "generic"),
            "symbol": _plain(batch, names, "symbol", ""),
        }
        nothing = pl.repeat(None, rows, dtype=pl.Float64, eager=True)
        if kept:
            numbers = {name: batch.numbers(names[name]) if name in names else nothing for name in kept}
            yield Piece(quotes=pl.DataFrame(keys | numbers))
            continue
        sides = batch.sides(names["side"]) if "side" in names else pl.repeat("", rows, eager=True)
        yield Piece(trades=pl.DataFrame(keys | {n: batch.numbers(names[n]) for n in ("px", "sz")} | {"side": sides}))


def _plain(batch: Batch, names: Mapping[str, str], name: str, otherwise: str) -> pl.Series:
    if name not in names:
        return pl.repeat(otherwise, batch.frame.height, eager=True)
    values = batch.frame[names[name]].str.strip_chars(" \"'")
    if name == "venue":
        batch.check(names[name], values != "", "a venue; name it, or leave the column out and give --venue")
    return values


def _times(batch: Batch, names: Mapping[str, str], options: Options) -> pl.Series:
    column = names["ts"]
    if options.time_format is not None:
        return formatted(batch, column, options.time_format, options.time_zone)
    date: pl.Series | str | None = None
    if batch.frame[column].str.contains(r"^\s*(0D)?\d{1,2}:\d{2}:\d{2}").all():
        date = batch.frame[names["date"]] if "date" in names else date_in_name(batch.path, options.date)
    return times(batch, column, options.time_unit, options.time_zone, date)


FORMAT = Format(
    name="generic",
    open_file=_open,
    suffixes=(".csv", ".csv.gz", ".csv.zst", ".csv.zip", ".txt", ".txt.gz", ".tsv", ".tsv.gz", ".parquet"),
)
