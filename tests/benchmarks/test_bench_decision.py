"""The benchmark of one decision: what it hands back."""

from __future__ import annotations

import bench_decision
import pytest
from rich.console import Console

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("name", ["DQN MlpPolicy", "MaskableVenuePolicy"])
def test_it_measures_both_paths(name, monkeypatch, capsys):
    monkeypatch.setattr(bench_decision, "POLICIES", {name: bench_decision.POLICIES[name]})
    monkeypatch.setattr(bench_decision, "QUICK", bench_decision.Plan(2, {1: 30, bench_decision.MANY: 1}))
    results = bench_decision.measure(quick=True)
    lines = results["rows"]
    assert [(line["policy"], line["path"], line["batch"]) for line in lines] == [
        (name, path, batch) for batch in (1, bench_decision.MANY) for path in bench_decision.PATHS
    ]
    for line in lines:
        assert set(line) == {"policy", "path", "batch", "p50_us", "p99_us", "ratio_p50", "ratio_p99"}
        assert 0.0 < line["p50_us"] <= line["p99_us"]
    assert [line["ratio_p50"] for line in lines if line["path"] == "model.predict"] == [1.0, 1.0]
    for sheet in bench_decision.sheets(results):
        sheet.print(Console(width=120))
    assert "OnnxPolicy" in capsys.readouterr().out
