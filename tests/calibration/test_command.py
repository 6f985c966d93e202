"""``sor-sb3 calibrate`` end to end, on a small recording without any real data."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from sor_sb3 import cli
from sor_sb3.calibration import simulated
from sor_sb3.market.loading import load_market
from tests.market.quote_fixtures import write_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A quarter of an hour of quotes of two venues, and trades."""
    folder = tmp_path_factory.mktemp("recording")
    quotes, trades = folder / "quotes.parquet", folder / "trades.parquet"
    write_recording(quotes, venues=("NASDAQ", "NYSE"), duration_s=1500.0, trades_path=trades)
    return quotes, trades


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sor-sb3", "calibrate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code if isinstance(ended.value.code, int) else 0


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that ends soon."""
    for name, value in (("TRIES", 1), ("CYCLES", 1), ("LEAST_BLOCKS", 8), ("REPLICAS", 1)):
        monkeypatch.setattr(simulated, name, value)


@pytest.mark.usefixtures("quickly")
def test_a_recording_becomes_a_market_that_loads(recording, tmp_path, monkeypatch, capsys):
    quotes, trades = recording
    out, page = tmp_path / "stock.yaml", tmp_path / "stock.html"
    options = ("--trades", trades, "--block-s", 120, "--set", "venues.*.latency_ms=0.25", "--no-progress")
    assert call(monkeypatch, quotes, "--out", out, "--report", page, *options) == 0
    said = capsys.readouterr().out
    assert "informative statistics meet the recording's" in said
    market, text = load_market(out), out.read_text()
    assert market.model == "synthetic" and market.name == "stock" and market.venue_names == ("NASDAQ", "NYSE")
    assert market.quotes.tick_bps == pytest.approx(1.0, rel=0.02)
    assert market.has_volume
    assert {venue.latency_ms for venue in market.venues} == {0.25}
    assert text.count("# given") == 2 and re.search(r"take_fee_bps: 0 +# assumed", text)
    data = json.loads((tmp_path / "stock.json").read_text())
    assert len(data["rows"]) > 40 and sum(data["counts"].values()) > 20
    assert {row["verdict"] for row in data["rows"]} <= {"meet", "apart", "too wide", "uninformative", ""}
    assert all(e["low"] is None or e["low"] <= e["value"] for e in data["estimates"])
    html = page.read_text()
    assert html.count("<svg") == 3 and "quotes.size_tail" in html and "venues.NYSE.take_fee_bps" in html
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stock.html", "stock.json", "stock.yaml"]


def test_mistakes_are_one_sentence_and_leave_nothing(recording, tmp_path, monkeypatch, capsys):
    quotes, _ = recording
    out = tmp_path / "stock.yaml"
    for arguments, word in (
        ((quotes, "--out", tmp_path / "stock.json"), "ends in .yaml"),
        ((quotes, "--out", out, "--fit-share", 1.5), "--fit-share is 1.5"),
        ((quotes, "--out", out, "--block-s", 600), "expected at least 4"),
        ((quotes, "--out", out, "--block-s", 120, "--venues", "NYSE"), "fewer than two venues"),
        (("us_equity", "--out", out), "expected recorded quotes"),
        ((quotes, "--out", out, "--block-s", 120, "--set", "nonsense=1"), "has no field 'nonsense'"),
    ):
        assert call(monkeypatch, *arguments, "--no-progress") == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1 and word in error[0]
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    assert call(monkeypatch, quotes, "--out", out) == 2
    assert out.read_text() == "mine"
