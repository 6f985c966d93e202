"""Rows in any order come out in order of time, rows of equal time as they came, with few rows in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sor_sb3.market.formats.spool import Spool

SCHEMA = pa.schema([("ts", pa.int64()), ("file", pa.int64()), ("n", pa.int64())])
files = st.lists(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9), max_size=4), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=files, chunk_rows=st.integers(1, 8), most_runs=st.integers(2, 4))
def test_it_is_a_stable_sort_of_each_file(tmp_path_factory, content, chunk_rows, most_runs):
    spool = Spool(tmp_path_factory.mktemp("spool"), SCHEMA, chunk_rows, most_runs)
    expected = []
    for f, pieces in enumerate(content):
        n = 0
        for piece in pieces:
            rows = [(ts, f, n + i) for i, ts in enumerate(piece)]
            n += len(rows)
            expected += rows
            spool.add(pl.DataFrame(rows, schema=["ts", "file", "n"], orient="row"))
        spool.end_file()
    made = pq.read_table(spool.finish()).to_pylist()
    assert [row["ts"] for row in made] == sorted(row[0] for row in expected)
    for f in range(len(content)):
        mine = [(row["ts"], row["n"]) for row in made if row["file"] == f]
        assert mine == sorted((ts, n) for ts, g, n in expected if g == f)
    assert spool.rows == len(expected)


def test_what_comes_in_order_is_written_once(tmp_path):
    spool = Spool(tmp_path, SCHEMA, chunk_rows=10)
    for i in range(50):
        spool.add(pl.DataFrame({"ts": [i, i], "file": [0, 0], "n": [2 * i, 2 * i + 1]}))
    spool.end_file()
    assert spool.finish().name == "run0.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_memory_is_bounded_whatever_the_size(tmp_path, order):
    """Peak memory of the command is the same for four times the rows, in order or backwards."""
    peaks = []
    for rows in (500_000, 2_000_000):
        file = tmp_path / f"{rows}.csv"
        start = 1_700_000_000_000_000
        with file.open("w") as out:
            out.write("exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n")
            for i in range(rows) if order == "forward" else range(rows, 0, -1):
                out.write(f"x,A,{start + 1000 * i},{start + 1000 * i},1,{100 + i % 100},{99 + i % 100},2\n")
        code = (
            "import resource; from pathlib import Path; from sor_sb3.market.formats.converting import convert\n"
            f"convert('tardis', [{str(file)!r}], Path({str(tmp_path / f'{rows}.parquet')!r}))\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
        made = pq.ParquetFile(tmp_path / f"{rows}.parquet")
        assert made.metadata.num_rows == rows
        ts = pq.read_table(tmp_path / f"{rows}.parquet", columns=["ts"])["ts"].to_numpy()
        assert (ts[1:] > ts[:-1]).all()
        Path(file).unlink()
    assert peaks[1] < 1.3 * peaks[0], f"kB at 0.5 and 2 million rows: {peaks}"
