"""Turns vendors' files into quotes (and trades) that the loader reads, beside their place and then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import polars as pl
import pyarrow as pa

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.files import WriteError, make_folder, remove_empty
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.headers import FORMAT_NAMES
from sor_sb3.market.formats.inputs import find_sources
from sor_sb3.market.formats.spool import Spool

Progress = Callable[[str, int, int], None]
_TRADE_SCHEMA = pa.schema(
    [("ts", pa.int64()), ("venue", pa.string()), ("px", pa.float64()), ("sz", pa.float64()), ("side", pa.string())]
)


def format_named(name: str) -> Format:
    """The format of this name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMAT_NAMES:
        hint = did_you_mean(name, list(FORMAT_NAMES))
        raise UserError(f"format '{name}' is unknown{hint}; expected one of {', '.join(FORMAT_NAMES)}")
    found: Format = import_module(f"sor_sb3.market.formats.{name}").FORMAT
    return found


@dataclass
class VenueCount:
    """What was written of one venue."""

    symbol: str = ""
    quotes: int = 0
    no_bid: int = 0
    no_ask: int = 0
    trades: int = 0
    first_ns: int = (1 << 63) - 1
    last_ns: int = 0

    def see(self, ts: pl.Series) -> None:
        """Widen the time by these rows."""
        self.first_ns = min(self.first_ns, int(ts.min()))  # type: ignore[arg-type]
        self.last_ns = max(self.last_ns, int(ts.max()))  # type: ignore[arg-type]


@dataclass
class Summary:
    """What a conversion read, wrote and dropped, and why."""

    format: Format
    files: int = 0
    levels: int = 1
    file_levels: int = 1
    size_scale: float = 1.0
    tally: Tally = field(default_factory=Tally)
    venues: dict[str, VenueCount] = field(default_factory=dict)
    written: list[tuple[Path, int, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """To a person, a line each."""
        files = f"{self.files} file{'s' if self.files > 1 else ''}"
        said = [f"{self.format.name}: read {files}, {self.tally.read:,} rows"]
        for name, count in sorted(self.venues.items()):
            sided = [f"{n:,} without {what}" for n, what in ((count.no_bid, "a bid"), (count.no_ask, "an ask")) if n]
            sides = f" ({', '.join(sided)})" if sided else ""
            quotes = f"{count.quotes:,} quotes{sides}, {count.trades:,} trades"
            symbol = f" ({count.symbol})" if count.symbol else ""
            said.append(f"  {name}{symbol}: {quotes}, {_utc(count.first_ns)} to {_utc(count.last_ns)} UTC")
        said += [f"dropped {n:,} rows: {why}" for why, n in sorted(self.tally.dropped.items())]
        said += [f"note: {what} ({n:,} rows)" for what, n in sorted(self.tally.remarks.items())]
        if self.file_levels > self.levels:
            said.append(f"note: the files have {self.file_levels} levels of a side; {self.levels} are kept")
        if self.size_scale != 1.0:
            said.append(f"note: sizes of quotes are times {self.size_scale:g}; --size-scale sets another factor")
        said += [f"note: {remark}" for remark in self.format.remarks]
        return said + [f"wrote {rows:,} {kind} to {path}" for path, rows, kind in self.written]


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def convert(
    format_name: str,
    paths: Sequence[str],
    out: Path | None,
    trades_out: Path | None = None,
    options: Options | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Summary:
    """Read vendors' files and write quotes, and trades if asked, in order of time.

    Args:
        format_name: one of `FORMAT_NAMES`.
        paths: files, folders or patterns, each with ``NAME=`` before it where it is to have another venue.
        out: Parquet file to write quotes to; None if trades alone are wanted.
        trades_out: the same for trades.
        options: how files are read.
        progress: told what is read, and bytes of how many.

    Raises:
        UserError: a file or an option cannot be used. Nothing is left behind.
    """
    options = options or Options()
    form = format_named(format_name)
    for path, flag in ((out, "--out"), (trades_out, "--trades-out")):
        _check_output(path, flag)
    if out is None and trades_out is None:
        raise UserError("there is nothing to write; give --out quotes.parquet, --trades-out trades.parquet or both")
    if out == trades_out:
        raise UserError(f"--out and --trades-out are both {out}; give two names")
    sources = form.sources(find_sources(paths, form.suffixes))
    readings = [form.open_file(source, options) for source in sources]
    _check_kinds(form, sources, readings, out, trades_out)
    work = _Work(form, options, readings, out, trades_out)
    try:
        work.run(sources, progress)
    except BaseException as error:
        work.undo()
        if isinstance(error, OSError) and not isinstance(error, UserError):
            named = " and ".join(str(path) for path in (out, trades_out) if path is not None)
            raise WriteError(f"{named} cannot be written ({error.strerror or error}); give another") from error
        raise
    return work.summary


def _check_output(path: Path | None, flag: str) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".parquet":
        raise UserError(f"{flag} {path}: expected a name that ends in .parquet")
    if os.path.lexists(path):
        raise UserError(f"{flag} {path} exists; give another name, or delete it")


def _check_kinds(
    form: Format, sources: list[Source], readings: list[Reading], out: Path | None, trades_out: Path | None
) -> None:
    """Files must have what is to be written."""
    if out is not None and not any(reading.levels for reading in readings):
        what = f"{sources[0].path} holds trades of {form.name} and no quotes"
        raise UserError(f"{what}; leave out --out and give --trades-out, or give files of quotes too")
    if trades_out is not None and not any(reading.trades for reading in readings):
        what = f"{sources[0].path} holds quotes of {form.name} and no trades"
        raise UserError(f"{what}; leave out --trades-out, or give files of trades too")


class _Work:
    """One conversion: counts what it reads, and keeps what it writes in two spools."""

    def __init__(
        self, form: Format, options: Options, readings: list[Reading], out: Path | None, trades_out: Path | None
    ) -> None:
        scale = form.quote_size_scale if options.size_scale is None else options.size_scale
        file_levels = max(reading.levels for reading in readings)
        self.form, self.options, self.readings = form, options, readings
        self.summary = Summary(form, len(readings), min(file_levels, options.most_levels), file_levels, scale)
        self.columns = [name for level in range(1, self.summary.levels + 1) for name in level_names(level)]
        self.out, self.trades_out = out, trades_out
        self.quotes: Spool | None = None
        self.trades: Spool | None = None
        self.made: list[Path] = []  # folders that were missing
        self.beside: list[Path] = []  # folders of work, each in the folder of a result

    def run(self, sources: list[Source], progress: Progress) -> None:
        """Read all files, then put the results into their places."""
        if self.out is not None:
            plain = [("ts", pa.int64()), ("venue", pa.string()), *((name, pa.float64()) for name in self.columns)]
            self.quotes = Spool(self._folder(self.out), pa.schema(plain))
        if self.trades_out is not None:
            self.trades = Spool(self._folder(self.trades_out), _TRADE_SCHEMA)
        sizes = [source.path.stat().st_size for source in sources]
        for place, (source, reading) in enumerate(zip(sources, self.readings, strict=True)):
            before, what, total = sum(sizes[:place]), f"reading {source.path.name}", max(sum(sizes), 1)
            source.tell = lambda done, b=before, w=what, t=total: progress(w, min(b + done, t), t)  # type: ignore[misc]
            for piece in reading.pieces(self.summary.tally):
                self._take(source, piece)
            for spool in (self.quotes, self.trades):
                if spool is not None:
                    spool.end_file()
        self._put()

    def undo(self) -> None:
        """Leave nothing of what was written."""
        for spool in (self.quotes, self.trades):
            if spool is not None:
                with suppress(Exception):
                    spool.close()
        for path, _, _ in self.summary.written:
            path.unlink(missing_ok=True)
        self._tidy()
        remove_empty(self.made)

    def _tidy(self) -> None:
        for folder in self.beside:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, result: Path) -> Path:
        """A new folder for work, in the folder of the result."""
        parent = result.absolute().parent
        self.made = make_folder(parent) + self.made
        self.beside.append(parent / f".{result.name}.{os.getpid()}.tmp")
        self.beside[-1].mkdir()
        return self.beside[-1]

    def _put(self) -> None:
        places = [
            (s, p, k) for s, p, k in ((self.quotes, self.out, "quotes"), (self.trades, self.trades_out, "trades"))
        ]
        for spool, path, kind in places:
            if spool is not None and path is not None and not spool.rows:
                dropped = "; ".join(f"{n:,} {why}" for why, n in sorted(self.summary.tally.dropped.items()))
                reason = f"dropped: {dropped}" if dropped else f"they hold no {kind}"
                what = (
                    f"no {kind} were found in {self.summary.files} files, {self.summary.tally.read:,} rows ({reason})"
                )
                raise UserError(f"{what}; check the files, --symbol and --date")
        finished = [(s.finish(), p, s.rows, k) for s, p, k in places if s is not None and p is not None]
        for made, path, rows, kind in finished:
            os.replace(made, path)
            self.summary.written.append((path, rows, kind))
        self._tidy()

    def _take(self, source: Source, piece: Piece) -> None:
        tally = self.summary.tally
        if piece.quotes is not None and self.quotes is not None:
            quotes = self._own(source, self._chosen(piece.quotes))
            if quotes.height:
                quotes = self._scaled_quotes(quotes)
                self._count(quotes, trades=False)
                self.quotes.add(quotes.select("ts", "venue", *self.columns))
        elif piece.quotes is not None:
            tally.remarks["quotes are there too; --out writes them"] += piece.quotes.height
        if piece.trades is not None and self.trades is not None:
            trades = self._own(source, self._chosen(piece.trades))
            if trades.height:
                trades = self._scaled_trades(trades)
                self._count(trades, trades=True)
                self.trades.add(trades.select(_TRADE_SCHEMA.names))
        elif piece.trades is not None:
            tally.remarks["trades are there too; --trades-out writes them"] += piece.trades.height

    def _chosen(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of the wanted symbols."""
        if not self.options.symbols:
            return frame
        keep = frame["symbol"].is_in(list(self.options.symbols))
        return self.summary.tally.drop(frame, keep, "of other symbols than --symbol")

    def _own(self, source: Source, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows with the venue that the user named; a venue has one symbol."""
        venue = source.venue or self.options.venue
        if venue is not None:
            frame = frame.with_columns(venue=pl.lit(venue))
        for name, symbol in frame.select("venue", "symbol").unique().sort("venue", "symbol").iter_rows():
            known = self.summary.venues.setdefault(name, VenueCount(symbol))
            others = (
                [count.symbol for count in self.summary.venues.values()] if self.form.one_symbol else [known.symbol]
            )
            for other in others:
                if other != symbol:
                    what = f"{source.path} has the symbol '{symbol}' beside '{other}' of the same conversion"
                    raise UserError(f"{what}; a market has one instrument: choose with --symbol")
        return frame

    def _scaled_quotes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """All levels, in our units; what has no price has no size."""
        missing = [pl.lit(None, pl.Float64).alias(name) for name in self.columns if name not in frame.columns]
        frame = frame.with_columns(missing)
        changes = []
        for name in self.columns:
            if "_px" in name:
                continue
            px = pl.col(name.replace("_sz", "_px"))
            size = pl.col(name) * (self.summary.size_scale * self.options.contract_multiplier)
            size = size / (px * self.options.price_scale) if self.options.inverse else size
            changes.append(pl.when(px.is_null()).then(0.0).otherwise(size).alias(name))
        prices = [pl.col(name) * self.options.price_scale for name in self.columns if "_px" in name]
        return frame.with_columns(changes).with_columns(prices)

    def _scaled_trades(self, frame: pl.DataFrame) -> pl.DataFrame:
        of_quotes_alone = self.form.quote_size_scale != 1.0
        scale = 1.0 if of_quotes_alone or self.options.size_scale is None else self.options.size_scale
        frame = frame.with_columns(px=pl.col("px") * self.options.price_scale)
        size = pl.col("sz") * (scale * self.options.contract_multiplier)
        return frame.with_columns(sz=size / pl.col("px") if self.options.inverse else size)

    def _count(self, frame: pl.DataFrame, trades: bool) -> None:
        for (name,), rows in frame.group_by("venue"):
            count = self.summary.venues[str(name)]
            count.see(rows["ts"])
            if trades:
                count.trades += rows.height
                continue
            count.quotes += rows.height
            count.no_bid += rows["bid_px"].null_count()
            count.no_ask += rows["ask_px"].null_count()
