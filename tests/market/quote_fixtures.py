"""Writes small synthetic recordings in the form of `sor_sb3.market.quotes`, for tests. No real data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

START_NS = 1_704_206_100_000_000_000  # 2024-01-02 14:35:00 UTC
SECOND_NS = 1_000_000_000


def write_table(path: Path, columns: Mapping[str, object]) -> Path:
    """Writes columns as `.parquet`, `.csv` or `.csv.gz`, as the name says."""
    table = pa.table(dict(columns))
    if path.name.endswith(".parquet"):
        pq.write_table(table, path)
    elif path.name.endswith(".csv.gz"):
        with pa.CompressedOutputStream(str(path), "gzip") as stream:
            pa_csv.write_csv(table, stream)
    else:
        pa_csv.write_csv(table, path)
    return path


def write_quotes(path: Path, rows: Sequence[tuple[float, str, float, float, float, float]]) -> Path:
    """Writes rows of (seconds after START_NS, venue, bid_px, bid_sz, ask_px, ask_sz)."""
    time_s, venue, bid_px, bid_sz, ask_px, ask_sz = zip(*rows, strict=True)
    return write_table(
        path,
        {
            "ts": [START_NS + round(t * SECOND_NS) for t in time_s],
            "venue": list(venue),
            "bid_px": list(map(float, bid_px)),
            "bid_sz": list(map(float, bid_sz)),
            "ask_px": list(map(float, ask_px)),
            "ask_sz": list(map(float, ask_sz)),
        },
    )


def write_recording(
    path: Path,
    *,
    seed: int = 0,
    venues: Sequence[str] = ("ARCA", "NASDAQ", "NYSE"),
    duration_s: float = 1800.0,
    updates_per_s: float = 1.0,
    price: float = 100.0,
    with_sizes: bool = True,
    trades_path: Path | None = None,
) -> Path:
    """Writes quotes of several venues around one random walk, and, if asked, trades at them.

    From 2024-01-02 14:35 UTC, ms stamps, ticks of 0.01 (or price / 10,000 if that is less). Each venue
    updates `updates_per_s` times a second on average, first at the start, and stands up to three ticks off
    the best price. Sizes are in shares (round lots), NaN without `with_sizes`. All quotes are usable; venues
    cross each other only as far as their different update times bring it about.
    """
    rng = np.random.default_rng(seed)
    tick = min(0.01, price * 1e-4)
    walk = price + tick * np.cumsum(0.5 * rng.standard_t(4, size=int(duration_s) + 2))  # one step a second
    parts = []
    for name in venues:
        n = max(2, rng.poisson(updates_per_s * duration_s))
        ms = np.unique(np.append(0, rng.integers(0, int(duration_s * 1000), size=n)))
        fair = np.round(walk[ms // 1000] / tick)
        off = 1 + rng.choice(4, size=(2, len(ms)), p=(0.5, 0.25, 0.15, 0.1))
        size = 100.0 * rng.geometric(0.4, size=off.shape) if with_sizes else np.full(off.shape, np.nan)
        bid, ask = (fair - off[0]) * tick, (fair + off[1]) * tick
        parts.append((ms, np.full(len(ms), name), bid, size[0], ask, size[1]))
    ms, venue, bid_px, bid_sz, ask_px, ask_sz = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(ms, kind="stable")
    columns = {
        "ts": START_NS + ms * 1_000_000,
        "venue": venue,
        "bid_px": np.round(bid_px, 8),
        "bid_sz": bid_sz,
        "ask_px": np.round(ask_px, 8),
        "ask_sz": ask_sz,
    }
    if trades_path is not None:
        traded = order[rng.random(len(order)) < 0.3]
        px = np.where(rng.random(len(traded)) < 0.5, columns["bid_px"][traded], columns["ask_px"][traded])
        sz = 100.0 * rng.geometric(0.5, size=len(traded))
        write_table(trades_path, {"ts": columns["ts"][traded], "venue": venue[traded], "px": px, "sz": sz})
    return write_table(path, {name: values[order] for name, values in columns.items()})
