"""The benchmark of routers: what it hands back."""

from __future__ import annotations

import bench_routers
import pytest
from rich.console import Console

pytestmark = pytest.mark.benchmark


def test_it_times_every_router_and_its_warm_up_apart(monkeypatch, capsys):
    monkeypatch.setattr(bench_routers, "QUICK_SCENARIOS", 4)
    results = bench_routers.measure(quick=True)
    names = [row["router"] for row in results["rows"]]
    assert {"pro_rata", "ganchev_power_law", "rise", "post_and_sweep", "pov", "snapshot_oracle"} <= set(names)
    assert all(row["s"] > 0.0 and row["warm_up_s"] >= 0.0 for row in results["rows"])
    rules = [row["s"] for row in results["rows"] if row["group"] != "oracle"]
    assert results["together_s"] == pytest.approx(sum(rules))
    bench_routers.sheets(results)[0].print(Console(width=120))
    assert "All rules together" in capsys.readouterr().out
