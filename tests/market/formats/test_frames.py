"""A DataFrame goes where a path goes, and gives the same market."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from tests.market.quote_fixtures import write_recording


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_recording(tmp_path / "q.parquet", trades_path=tmp_path / "t.parquet"), tmp_path / "t.parquet"


def about(market):
    return market.model_dump(exclude={"name", "quotes_file", "trades_file", "quotes_sha256"})


@pytest.mark.parametrize("library", ["polars", "arrow", "pandas"])
def test_a_frame_gives_the_market_of_its_file(files, library):
    quotes, trades = (pq.read_table(file) for file in files)
    if library == "pandas":
        pytest.importorskip("pandas")
    as_frame = {"polars": pl.DataFrame, "arrow": lambda table: table, "pandas": lambda table: table.to_pandas()}[
        library
    ]
    from_frame = load_market(as_frame(quotes), trades_file=as_frame(trades))
    assert about(from_frame) == about(load_market(files[0], trades_file=files[1]))
    again = load_market(as_frame(quotes), trades_file=as_frame(trades))
    assert again == from_frame
    assert len(list(from_frame.quotes_file.parent.iterdir())) == 2


def test_a_pandas_index_of_times_is_a_column(files):
    pytest.importorskip("pandas")
    frame = pq.read_table(files[0]).to_pandas().set_index("ts")
    assert about(load_market(frame)) == about(load_market(files[0]))


def test_a_frame_without_the_columns_says_so(files):
    with pytest.raises(UserError, match="has no column"):
        load_market(pa.table({"ts": [1], "price": [2.0]}))
