"""Puts rows that come in any order into one Parquet file in order of time, with bounded memory.

Rows are sorted over some way and appended to runs, files that are each in order; in the end the runs are merged. What
comes in order, as most vendors' files do, makes one run, which is the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK_ROWS = 1 << 17  # rows that are held back and sorted with what comes next
MOST_RUNS = 48  # files that are open at once
_ROW_GROUP = 1 << 17
_LEAST_BATCH = 1 << 11


class _Run:
    """A Parquet file that rows are appended to in order of `ts`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows, self.last = path, 0, -(1 << 63)
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema

    def append(self, frame: pl.DataFrame) -> None:
        self._writer.write_table(frame.to_arrow().cast(self._schema), row_group_size=_ROW_GROUP)
        self.rows += frame.height
        self.last = int(frame["ts"][-1])

    def close(self) -> None:
        self._writer.close()

    def batches(self, rows: int) -> Iterator[pl.DataFrame]:
        with pq.ParquetFile(self.path, buffer_size=1 << 16) as file:
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                yield pl.DataFrame(pl.from_arrow(batch))


@dataclass
class Spool:
    """Takes rows of one file after another, and leaves them in order of time in one file.

    Rows of one file with equal `ts` keep their order. At most some `CHUNK_ROWS` rows times a small number are in
    memory, and `MOST_RUNS` files are open.
    """

    folder: Path
    schema: pa.Schema
    chunk_rows: int = CHUNK_ROWS
    most_runs: int = MOST_RUNS
    _runs: list[_Run] = field(default_factory=list)
    _used: set[int] = field(default_factory=set)  # runs that hold rows of the present file
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)
    rows: int = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take some rows of the present file."""
        self._waiting.append(frame)
        self.rows += frame.height
        if sum(part.height for part in self._waiting) >= 2 * self.chunk_rows:
            ready = self._sorted()
            self._append(ready.head(-self.chunk_rows))
            self._waiting = [ready.tail(self.chunk_rows)]

    def end_file(self) -> None:
        """The next rows are of another file."""
        if any(part.height for part in self._waiting):
            self._append(self._sorted())
        self._waiting = []
        self._used = set()

    def finish(self) -> Path:
        """The file with all rows in order."""
        if not self._runs:
            self._new_run()
        if len(self._runs) > 1:
            self._merge()
        self._runs[0].close()
        return self._runs[0].path

    def close(self) -> None:
        """Close what is open; for where the conversion failed."""
        for run in self._runs:
            run.close()

    def _sorted(self) -> pl.DataFrame:
        rows = pl.concat(self._waiting)
        return rows if rows["ts"].is_sorted() else rows.sort("ts", maintain_order=True)

    def _append(self, frame: pl.DataFrame) -> None:
        """To the run that ends latest before these rows, after all runs in which rows of this file are as late."""
        first = int(frame["ts"][0])
        floor = max((i for i in self._used if self._runs[i].last >= first), default=-1)
        fitting = [i for i, run in enumerate(self._runs) if i >= floor and run.last <= first]
        if not fitting and len(self._runs) >= self.most_runs:
            self._merge()
            self._used = {0} if self._used else set()
        place = max(fitting, key=lambda i: (self._runs[i].last, i)) if fitting else self._new_run()
        self._runs[place].append(frame)
        self._used.add(place)

    def _new_run(self) -> int:
        self._runs.append(_Run(self.folder / f"run{next(self._names)}.parquet", self.schema))
        return len(self._runs) - 1

    def _merge(self) -> None:
        for run in self._runs:
            run.close()
        whole = _Run(self.folder / f"run{next(self._names)}.parquet", self.schema)
        size = max(_LEAST_BATCH, self.chunk_rows // len(self._runs))
        for frame in _in_order([run.batches(size) for run in self._runs]):
            whole.append(frame)
        for run in self._runs:
            run.path.unlink()
        self._runs = [whole]


def _in_order(streams: list[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Merge streams that are each in order of `ts`; of equal `ts` the rows of the earlier stream come first."""
    held = [next(stream, None) for stream in streams]
    going = [frame is not None for frame in held]
    while any(frame is not None for frame in held):
        ends = [int(f["ts"][-1]) for f, more in zip(held, going, strict=True) if f is not None and more]
        if not ends:
            yield pl.concat([f for f in held if f is not None]).sort("ts", maintain_order=True)
            return
        limit, taken = min(ends), []  # below it nothing can come any more
        for i, frame in enumerate(held):
            if frame is None:
                continue
            count = frame["ts"].search_sorted(limit, side="left")
            if count:
                taken.append(frame.head(count))
            rest: pl.DataFrame | None = frame.slice(count)
            if going[i] and int(frame["ts"][-1]) == limit:
                following = next(streams[i], None)
                going[i] = following is not None
                rest = pl.concat([frame.slice(count), following]) if following is not None else rest
            held[i] = rest if rest is not None and rest.height else None
        if taken:
            yield pl.concat(taken).sort("ts", maintain_order=True)
