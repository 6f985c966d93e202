"""Every ``data convert`` of docs/your_data.md runs, on made-up files of the names that the page uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sor_sb3.cli import app
from tests.market.formats import test_captures, test_databento, test_lobster, test_tardis
from tests.market.formats.fixtures import lines, write_text

PAGE = (Path(__file__).parents[3] / "docs" / "your_data.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = re.findall(r"^\$ sor-sb3 (data convert .*)$", PAGE, re.MULTILINE)


def write_files(folder):
    for place in ("downloads", "datasets"):
        write_text(folder / place / "okex_quotes.csv.gz", lines(test_tardis.QUOTES, test_tardis.quote_rows(20)))
        prints = [("okex", "BTC-USDT", test_tardis.START_US, test_tardis.START_US, 1, "buy", 100, 1)]
        write_text(folder / place / "okex_trades.csv.gz", lines(test_tardis.TRADES, prints))
    for name, publisher in (("xnas", test_databento.XNAS), ("arcx", test_databento.ARCX)):
        file = folder / f"{name}.dbn.zst"
        test_databento.write_dbn(file, test_databento.records(20, publisher), "mbp-1", symbols=("AAPL",))
    message, orderbook = test_lobster.write_pair(folder, levels=10, n=50)
    for path in (message, orderbook):
        path.rename(path.with_name(path.name.replace("XYZ", "AMZN")))
    streams = [(10 * i, test_captures.of_stream("bookTicker", test_captures.ticker(i))) for i in range(9)]
    streams += [(100 + i, test_captures.of_stream("trade", test_captures.trade(i))) for i in range(9)]
    for place in ("spot", "usdm"):
        write_text(folder / place / "btcusdt.gz", test_captures.capture(streams))
    write_text(folder / "btcusdt.gz", test_captures.capture(test_captures.depth_capture(n=9)[0]))
    day = ("XXX", "20080104", "10:00:00")
    quotes = lines("SYMBOL,DATE,TIME,BID,OFR,BIDSIZ,OFRSIZ,MODE,EX", [(*day, 10, 11, 1, 2, 12, "N")])
    write_text(folder / "cq_20080104.csv", quotes)
    tape = lines("SYMBOL,DATE,TIME,PRICE,SIZE,G127,CORR,COND,EX", [(*day, 10, 100, 0, 0, "", "N")])
    write_text(folder / "ct_20080104.csv", tape)
    kdb = [("2020.03.29D22:00:00.1", "ABC", 1, 2, 3, 4)]
    write_text(folder / "quote.csv", lines("time,sym,bid,ask,bsize,asize", kdb))
    write_text(folder / "EURUSD-2014-05.csv", "EUR/USD,20140501 00:00:00.123,1.38678,1.38682\n")
    generic = lines("When;Where;Bid;BidSize;Ask;AskSize", [("2024-01-02 09:00:00", "A", 1, 2, 3, 4)], ";")
    write_text(folder / "quotes.txt", generic)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    arguments = shlex.split(command)
    done = CliRunner().invoke(app, [*arguments, "--no-progress"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for flag in ("--out", "--trades-out"):
        if flag in arguments:
            assert pq.read_metadata(arguments[arguments.index(flag) + 1]).num_rows > 0


def test_every_format_has_a_section_and_a_command():
    from sor_sb3.market.formats.headers import FORMAT_NAMES

    titles = set(re.split(r"[\n, ]+", " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))))
    assert set(FORMAT_NAMES) <= titles
    assert {command.split()[2] for command in COMMANDS} >= set(FORMAT_NAMES) - {"bybit"}
