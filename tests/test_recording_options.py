"""The options of a recording are the same at every command, and a crossed recording says who is to blame."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.market.quote_fixtures import write_quotes, write_recording
from tests.market.test_cleaning import stuck
from tests.test_cli import call

PAGE = (Path(__file__).parents[1] / "docs" / "cleaning.md").read_text(encoding="utf-8")


def test_a_crossed_recording_is_refused_with_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_quotes(tmp_path / "quotes.parquet", stuck())
    check = ("markets", "check", "--quick", path)
    assert call(monkeypatch, *check) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "STUCK 9" in said
    for advice in re.findall(r"--market-set (crossed=\w+)", said):
        assert call(monkeypatch, *check, "--market-set", advice) == 0
    assert call(monkeypatch, *check, "--venues", "A,B") == 0
    assert "hidden until they changed: 1 (STUCK 1)" in capsys.readouterr().err


def test_markets_show_takes_the_options_of_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recording(tmp_path / "quotes.parquet", with_sizes=False)
    options = (
        "--assumed-depth",
        100,
        "--venues",
        "NYSE,ARCA",
        "--session",
        "14:35-15:04",
        "--take-fee-bps",
        "NYSE=0.3",
    )
    show = ("markets", "show", path, "--log-dir", tmp_path)
    assert call(monkeypatch, *show, *options, "--market-set", "unit=lots") == 0
    out = capsys.readouterr().out
    assert "NASDAQ" not in out and "lots in 20 steps" in out


def test_evaluate_takes_them_for_the_market_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "evaluate", tmp_path, "--assumed-depth", 100) == 2
    assert "--market" in capsys.readouterr().err
    path = write_recording(tmp_path / "quotes.parquet", with_sizes=False)
    assert call(monkeypatch, "evaluate", tmp_path, "--market", path, "--assumed-depth", 100, "--scenarios", 2) == 2
    assert "run" in capsys.readouterr().err  # the recording is read, the folder is no run


def test_the_pages_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = PAGE[PAGE.index("$ sor-sb3 markets check quotes.parquet") :].split("```")[0].replace("\\\n", " ")
    words = re.findall(r"'([^']*)'|(\S+)", command.removeprefix("$ sor-sb3 "))
    write_recording(tmp_path / "quotes.parquet")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *[quoted or plain for quoted, plain in words]) == 0
    assert "usable market" in capsys.readouterr().out
