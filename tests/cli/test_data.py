"""``sor-sb3 data convert`` end to end: vendors' files in, a market that can be used out; mistakes in one sentence."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from sor_sb3 import cli
from tests.market.formats.fixtures import lines, rows_of, write_text

START_US = int(datetime(2024, 1, 2, 14, 35, tzinfo=UTC).timestamp()) * 10**6


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process: status, what it said, what it complained of."""

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["sor-sb3", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


def tardis_day(folder, venue, seed, n=900):
    rng = np.random.default_rng(seed)
    at = (START_US + np.cumsum(rng.integers(1, 4_000_000, n))).tolist()
    bid = np.round(100 + np.cumsum(rng.normal(0, 0.01, n)), 2)
    header = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"
    rows = [
        (venue, "ABC", t, t + 900, 300, f"{b + 0.02:.2f}", f"{b:.2f}", 200)
        for t, b in zip(at, bid.tolist(), strict=True)
    ]
    write_text(folder / f"{venue}_quotes.csv.gz", lines(header, rows))
    prints = [
        (venue, "ABC", t, t + 900, i, "buy", f"{b + 0.02:.2f}", 100)
        for i, (t, b) in enumerate(zip(at, bid.tolist(), strict=True))
    ]
    write_text(
        folder / f"{venue}_trades.csv.gz",
        lines("exchange,symbol,timestamp,local_timestamp,id,side,price,amount", prints[::5]),
    )
    return n, len(prints[::5])


def test_a_folder_becomes_a_market_that_can_be_used(command, tmp_path):
    counts = [tardis_day(tmp_path / "in", venue, seed) for seed, venue in enumerate(("one", "two"))]
    quotes, trades = tmp_path / "out/q.parquet", tmp_path / "out/t.parquet"
    status, out, err = command("data", "convert", "tardis", tmp_path / "in", "--out", quotes, "--trades-out", trades)
    assert status == 0, err
    assert "100 %" in err
    assert len(rows_of(quotes)) == sum(n for n, _ in counts)
    assert len(rows_of(trades)) == sum(n for _, n in counts)
    assert out.splitlines()[0] == "tardis: read 4 files, 2,160 rows"
    assert "  one (ABC): 900 quotes, 180 trades, 2024-01-02 14:35:0" in out
    assert f"look at it with: sor-sb3 markets check {quotes} --quick --trades {trades}" in out
    status, out, err = command(
        "markets", "check", quotes, "--quick", "--trades", trades, "--market-set", "crossed=keep"
    )  # the two venues were drawn apart and cross
    assert status == 0, err
    assert "is a usable market" in out


def test_flags_of_a_generic_table(command, tmp_path):
    rows = [(f"01/02/2024 09:{35 + i}:00.5", "N", 10_000 + i, 3, 10_002 + i, 4) for i in range(9)]
    file = write_text(tmp_path / "x.txt", lines("When;Where;B;BS;A;AS", rows, ";"))
    ours = ("ts", "venue", "bid_px", "bid_sz", "ask_px", "ask_sz")
    theirs = ("When", "Where", "B", "BS", "A", "AS")
    columns = [f"--column={name}={column}" for name, column in zip(ours, theirs, strict=True)]
    times = ("--time-format", "%m/%d/%Y %H:%M:%S%.f", "--time-zone", "America/New_York")
    scales = ("--price-scale", "0.01", "--size-scale", "100", "--separator", ";", "--no-progress")
    out = tmp_path / "q.parquet"
    status, _, err = command("data", "convert", "generic", file, "--out", out, *columns, *times, *scales)
    assert (status, err) == (0, "")
    made = rows_of(tmp_path / "q.parquet")
    assert [row["ts"] for row in made] == [(START_US + 60_000_000 * i) * 1000 + 500_000_000 for i in range(9)]
    assert made[0]["bid_px"] == pytest.approx(100.0)
    assert made[0]["ask_sz"] == 400


@pytest.mark.parametrize("arguments, words", [
    (["tardis", "nowhere.csv", "--out", "q.parquet"], "nowhere.csv does not exist"),
    (["tardy", "x.csv", "--out", "q.parquet"], "format 'tardy' is unknown (did you mean 'tardis'?)"),
    (["tardis", "x.csv"], "there is nothing to write"),
    (["tardis", "x.csv", "--out", "q.parquet", "--date", "2024-13-01"], "--date is 2024-13-01"),
    (["tardis", "x.csv", "--out", "q.parquet", "--price-scale", "0"], "--price-scale is 0"),
    (["generic", "x.csv", "--out", "q.parquet", "--column", "bid"], "--column bid: expected OURS=THEIRS"),
    (["generic", "x.csv", "--out", "q.parquet", "--separator", "::"], "--separator is '::'"),
    (["tardis", "x.csv", "--out", "q.parquet"], "no column exchange, symbol, timestamp, local_timestamp"),
])  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_nothing(command, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "x.csv", "a,b\n1,2\n")
    status, out, err = command("data", "convert", *arguments, "--no-progress")
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_ctrl_c_leaves_nothing(command, tmp_path, monkeypatch):
    tardis_day(tmp_path / "in", "one", 0)
    monkeypatch.setattr(
        "sor_sb3.market.formats.spool.Spool.finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    status, _, err = command("data", "convert", "tardis", tmp_path / "in", "--out", tmp_path / "new" / "q.parquet")
    assert status == 130
    assert "stopped; nothing was written" in err
    assert not (tmp_path / "new").exists()
