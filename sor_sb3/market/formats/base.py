"""What every format is made of: where a file is, how it is to be read, what came out, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sor_sb3.market.quote_tables import MOST_LEVELS

SIDES = ("bid_px", "bid_sz", "ask_px", "ask_sz")


def _untold(done: int) -> None:
    """Nobody asks how far the file was read."""


@dataclass
class Source:
    """A vendor's file, the venue that the user names for it (``NAME=FILE``), and who is told the bytes read."""

    path: Path
    venue: str | None = None
    tell: Callable[[int], None] = _untold


@dataclass(frozen=True)
class Options:
    """How files are to be read. What a format does not know of, it ignores.

    `columns` maps names of ours to the file's (generic). `levels` None: as many as the files have, at most 8.
    """

    symbols: tuple[str, ...] = ()
    venue: str | None = None
    clock: str = "local"  # or exchange
    levels: int | None = None
    date: str | None = None  # YYYY-MM-DD, where neither rows nor the file's name have it
    time_zone: str | None = None
    time_unit: str | None = None  # s, ms, us, ns
    time_format: str | None = None  # strftime form, of text that is no ISO time
    price_scale: float = 1.0
    size_scale: float | None = None  # None: the format's own
    contract_multiplier: float = 1.0
    inverse: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None

    @property
    def most_levels(self) -> int:
        """Levels of a side to keep."""
        return MOST_LEVELS if self.levels is None else self.levels


@dataclass
class Piece:
    """Some rows of a file.

    Quotes have ts, venue, symbol, SIDES and further levels; trades have ts, venue, symbol, px, sz, side.
    `ts` is int64 UTC ns; a missing price or size is null; `side` is buy, sell or empty.
    """

    quotes: pl.DataFrame | None = None
    trades: pl.DataFrame | None = None


@dataclass
class Tally:
    """What was read, dropped and remarked, in rows."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    def drop(self, frame: pl.DataFrame, keep: pl.Series, why: str) -> pl.DataFrame:
        """The rows to keep; counts the others."""
        keep = keep.fill_null(False)
        if keep.all():
            return frame
        self.dropped[why] += frame.height - int(keep.sum())
        return frame.filter(keep)


@dataclass(frozen=True)
class Reading:
    """An opened file: levels of its quotes (0: none), whether it has trades, and its rows piece by piece."""

    levels: int
    trades: bool
    pieces: Callable[[Tally], Iterator[Piece]]


@dataclass(frozen=True)
class Format:
    """A vendor's form.

    `open_file` reads the head of a file alone, and says in one sentence what is wrong with it. `suffixes` are those
    that are looked for in a folder. `sources` may bring files together that belong together. Where `quote_size_scale`
    is not 1, sizes of quotes have another unit than those of trades, and --size-scale is for quotes alone.
    """

    name: str
    open_file: Callable[[Source, Options], Reading]
    suffixes: tuple[str, ...] = (".csv", ".csv.gz", ".csv.zst", ".csv.zip", ".zip", ".txt", ".txt.gz")
    quote_size_scale: float = 1.0
    one_symbol: bool = False  # venues call one instrument by one name
    sources: Callable[[Sequence[Source]], list[Source]] = list
    remarks: tuple[str, ...] = ()  # printed with every summary


def level_names(level: int) -> list[str]:
    """Columns of a level; 1 is the touch.

    The names of the second are bid_px_2, bid_sz_2, ask_px_2, ask_sz_2.
    """
    return [name if level == 1 else f"{name}_{level}" for name in SIDES]
