"""The table of simplex policies, by its own command."""

from __future__ import annotations

import sys

import pytest
import simplex_policies

pytestmark = pytest.mark.benchmark


def test_the_command_writes_its_table_and_keeps_finished_runs(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "table.md"
    small = ["--market", "notebook", "--timesteps", "1280", "--seeds", "2", "--scenarios", "20", "--workers", "1"]
    monkeypatch.setattr(
        sys, "argv", ["simplex_policies.py", *small, "--log-dir", str(tmp_path / "logs"), "--output", str(page)]
    )
    simplex_policies.main()
    text = page.read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in text
    for name in simplex_policies.POLICIES:
        assert f"| {name} |" in text
    assert "--market notebook --env OrderSplit-v1 --algo ppo --timesteps 1280 --seeds 2 --scenarios 20" in text
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "logs").rglob("done.json")}
    assert len(done) == 6
    simplex_policies.main()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "logs").rglob("done.json")} == done
    assert page.read_text(encoding="utf-8") == text
