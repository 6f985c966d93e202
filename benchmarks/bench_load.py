"""How long a recording takes to be read and cleaned, and its peak memory: without the cache, for the first, and after.

    python benchmarks/bench_load.py [--rows 2000000] [--folder DIR] [--out FILE.json]

The recording is synthetic: 8 venues over 5 days, Parquet. Each way is a process of its own; the peak is that of the
process with all it imports, and of memory that is its own (mapped files apart). `--package DIR` measures the package of
another checkout, in the ways that it has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VENUES = ("ARCA", "BATS", "BYX", "EDGA", "EDGX", "IEX", "NASDAQ", "NYSE")
DAYS, START_NS, CHUNK = 5, 1_704_205_800_000_000_000, 1 << 20
LOAD = """
import json, resource, sys, time
import numpy, numba, pyarrow
before_s, before_cpu_s = time.perf_counter(), time.process_time()
{load}
wall_s, cpu_s = time.perf_counter() - before_s, time.process_time() - before_cpu_s
status = dict(line.split(":", 1) for line in open("/proc/self/status")) if sys.platform == "linux" else {{}}
own = int(status.get("RssAnon", "0 kB").split()[0]) / 1e6
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps(dict(wall_s=wall_s, cpu_s=cpu_s, peak_gb=peak, kept_gb=own)))
"""
PLAIN = "from sor_sb3.market.quotes import load_quotes\nrecording = load_quotes({path!r})"
CACHED = (
    "from pathlib import Path\nfrom sor_sb3.market.recording_cache import recorded\n"
    "options = dict(session=None, assumed_depth_shares=None, max_spread_bps=500.0, max_gap_s=300.0, "
    "size_multiplier=1.0, timezone=None, hide_older=False)\n"
    "recording = recorded(Path({path!r}), None, None, **options)"
)


def write_recording(path: Path, n_rows: int, seed: int = 0) -> None:
    """Quotes of 8 venues around one random walk, in the order of time, a chunk at a time."""
    rng, day_ns, hours_ns = np.random.default_rng(seed), 86_400 * 10**9, int(6.5 * 3600 * 1e9)
    numbers = [(name, pa.float64()) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
    kinds = [("ts", pa.int64()), ("venue", pa.string()), *numbers]
    mid, step_ns = 100.0, DAYS * hours_ns / n_rows
    with pq.ParquetWriter(path, pa.schema(kinds)) as writer:
        for start in range(0, n_rows, CHUNK):
            n = min(CHUNK, n_rows - start)
            at = ((start + np.arange(n)) * step_ns).astype(np.int64)
            walk = mid * np.exp(np.cumsum(rng.normal(0.0, 2e-6, n)))
            mid, fair = walk[-1], np.round(walk / 0.01)
            off, size = rng.integers(1, 4, (2, n)), 100.0 * rng.geometric(0.3, (2, n))
            columns = [
                pa.array(START_NS + at // hours_ns * day_ns + at % hours_ns),
                pa.array(np.array(VENUES)[rng.integers(0, len(VENUES), n)], pa.string()),
                pa.array(np.round((fair - off[0]) * 0.01, 2)),
                pa.array(size[0]),
                pa.array(np.round((fair + off[1]) * 0.01, 2)),
                pa.array(size[1]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, names=[name for name, _ in kinds]))


def measured(load: str, package: Path, cache: str) -> dict[str, float] | None:
    """Seconds and GB of a process that loads; None where the package has not this way."""
    environment = {**os.environ, "PYTHONPATH": str(package), "SOR_SB3_CACHE": cache}
    program = [sys.executable, "-c", LOAD.format(load=load)]
    done = subprocess.run(program, env=environment, cwd=package, capture_output=True, text=True, check=False)
    if "No module named 'sor_sb3.market.recording_cache'" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, and print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, help="where the recording and the cache go; default a temporary one")
    parser.add_argument("--package", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--out", type=Path, help="write the figures here too, as JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path, cache = Path(folder) / "quotes.parquet", str(Path(folder) / "cache")
        write_recording(path, chosen.rows)
        small = Path(folder) / "small.parquet"
        write_recording(small, 10_000)
        measured(PLAIN.format(path=str(small)), chosen.package, "")  # compiles what is compiled
        ways = {"without cache": (PLAIN, ""), "first time": (CACHED, cache), "each worker after": (CACHED, cache)}
        print(f"{chosen.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB Parquet, package {chosen.package}")
        found = {}
        for name, (load, where) in ways.items():
            row = found[name] = measured(load.format(path=str(path)), chosen.package, where)
            if row is None:
                print(f"{name:18s} not in this package")
                continue
            times = f"{row['wall_s']:7.2f} s wall {row['cpu_s']:7.2f} s CPU"
            memory = f"{row['peak_gb']:6.2f} GB peak {row['kept_gb']:6.2f} GB of its own after"
            print(f"{name:18s} {times} {memory}", flush=True)
        if chosen.out is not None:
            chosen.out.write_text(json.dumps({"rows": chosen.rows, "ways": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
