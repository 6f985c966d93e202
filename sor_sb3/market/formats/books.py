"""A book that is kept from updates by price, and a collector of rows, for captures of JSON messages."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Piece, Source, level_names
from sor_sb3.market.formats.inputs import opened
from sor_sb3.market.formats.times import NS, unit_of

PIECE_ROWS = 1 << 15
_LONGEST_LINE = 1 << 24
PEEKED_MESSAGES = 5_000


class BookSide:
    """Sizes by price of one side, best first; a size of 0 takes the price out."""

    def __init__(self, sign: int) -> None:
        self._sign = sign  # 1 for asks, -1 for bids
        self._keys: list[float] = []  # prices times sign, increasing
        self._sizes: dict[float, float] = {}

    def clear(self) -> None:
        """Nothing rests."""
        self._keys.clear()
        self._sizes.clear()

    def update(self, changes: Iterable[Any]) -> None:
        """Set sizes at prices, pairs of numbers or of text."""
        for price, size, *_ in changes:
            key, shares = self._sign * float(price), float(size)
            if shares == 0.0:
                if self._sizes.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._sizes:
                    insort(self._keys, key)
                self._sizes[key] = shares

    def best(self, levels: int) -> list[tuple[float | None, float]]:
        """Price and size of the best levels; None and 0 where there is none."""
        keys = self._keys[:levels]
        found: list[tuple[float | None, float]] = [(self._sign * key, self._sizes[key]) for key in keys]
        return found + [(None, 0.0)] * (levels - len(keys))


class Book:
    """Both sides, and the number of the last update."""

    def __init__(self) -> None:
        self.bids, self.asks = BookSide(-1), BookSide(1)
        self.last_update: int | None = None
        self.from_snapshot = False

    def replace(self, bids: Iterable[Any], asks: Iterable[Any]) -> None:
        """Forget what was, take a snapshot."""
        self.clear()
        self.update(bids, asks)
        self.from_snapshot = True

    def clear(self) -> None:
        """Forget what was."""
        self.bids.clear()
        self.asks.clear()
        self.from_snapshot = False

    def update(self, bids: Iterable[Any], asks: Iterable[Any]) -> None:
        """Set sizes at prices."""
        self.bids.update(bids)
        self.asks.update(asks)

    def row(self, levels: int) -> list[float | None]:
        """Values of `level_names` of the levels, one after another."""
        sides = zip(self.bids.best(levels), self.asks.best(levels), strict=True)
        return [value for bid, ask in sides for value in (*bid, *ask)]


class Rows:
    """Gathers rows one by one, and hands them on in pieces."""

    def __init__(self, venue: str, levels: int) -> None:
        names = [name for level in range(1, levels + 1) for name in level_names(level)]
        self._quote_schema = {"ts": pl.Int64, "symbol": pl.String} | dict.fromkeys(names, pl.Float64)
        self._trade_schema = {
            "ts": pl.Int64,
            "symbol": pl.String,
            "px": pl.Float64,
            "sz": pl.Float64,
            "side": pl.String,
        }
        self._venue = pl.lit(venue).alias("venue")
        self.quotes: list[tuple[Any, ...]] = []
        self.trades: list[tuple[Any, ...]] = []

    def full(self) -> bool:
        """Whether it is time to hand on."""
        return len(self.quotes) + len(self.trades) >= PIECE_ROWS

    def hand_on(self) -> Piece:
        """What was gathered; nothing is left."""
        made: list[pl.DataFrame | None] = []
        for rows, schema in ((self.quotes, self._quote_schema), (self.trades, self._trade_schema)):
            frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(self._venue) if rows else None
            made.append(frame)
        self.quotes, self.trades = [], []
        return Piece(*made)


def messages(source: Source) -> Iterator[tuple[int, int | None, Any]]:
    """Row, local time in ns (None where the line has none) and message of each line, ``{...}`` or ``TIME {...}``.

    Raises:
        UserError: a line is no message.
    """
    with opened(source) as stream:
        for row, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b""), 1):
            text = line.strip()
            if not text:
                continue
            stamp, local = b"", None
            if text[:1].isdigit():
                stamp, _, text = text.partition(b" ")
                local = epoch_ns(stamp.decode(errors="replace"))
            try:
                if stamp and local is None:
                    raise ValueError
                message = json.loads(text)
            except ValueError:
                what = f"{source.path}, row {row}: {line[:40].decode(errors='replace').strip()!r} is not"
                hint = "a message such as TIME {...}" if row == 1 else "a whole message (the file may be cut off)"
                raise UserError(f"{what} {hint}; check the format, or take this row out") from None
            yield row, local, message


def epoch_ns(value: object) -> int | None:
    """Nanoseconds of a count since 1970 whose digits say its unit; None if it is no such count."""
    text = str(value)
    unit = unit_of(text)
    return int(text) * NS[unit] if unit is not None and text.isdigit() else None


def garbled(source: Source, row: int, kind: str, error: Exception) -> UserError:
    """What to raise where a message lacks a field or has no number in it."""
    reason = f"has no {error}" if isinstance(error, KeyError) else f"has a value that cannot be read ({error})"
    return UserError(f"{source.path}, row {row}: the {kind} message {reason}; take this row out, or record again")
