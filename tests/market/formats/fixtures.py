"""Writes vendors' files by hand, made up in their form, and reads what the conversion made of them. No real data."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sor_sb3.market.formats.base import Options
from sor_sb3.market.formats.converting import Summary, convert

PACKINGS = ("", ".gz", ".zst", ".zip")


def write_text(path: Path, text: str | bytes) -> Path:
    """Write a file, packed as its name says."""
    data = text.encode() if isinstance(text, str) else text
    if path.name.endswith(".gz"):
        data = gzip.compress(data)
    elif path.name.endswith(".zst"):
        data = pa.compress(data, codec="zstd", asbytes=True)
    elif path.name.endswith(".zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.csv", data)
        data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lines(header: str | None, rows: Iterable[Sequence[Any]], separator: str = ",") -> str:
    """A text table."""
    head = [header] if header is not None else []
    return "\n".join([*head, *(separator.join(map(str, row)) for row in rows)]) + "\n"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file; NaN and missing are None."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]


def converted(
    folder: Path, format_name: str, *paths: object, quotes: bool = True, trades: bool = False, **options: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Summary]:
    """Quotes, trades and the summary of a conversion into a fresh folder below `folder`."""
    made = folder / f"out{len(list(folder.glob('out*')))}"
    out = made / "quotes.parquet" if quotes else None
    trades_out = made / "trades.parquet" if trades else None
    summary = convert(format_name, [str(path) for path in paths], out, trades_out, Options(**options))
    written = {out, trades_out} - {None}
    assert set(made.iterdir()) == written, "nothing but the results is left"
    return rows_of(out) if out else [], rows_of(trades_out) if trades_out else [], summary
