"""A comparison and its report in a market of the user's own: 24 venues, two of them dark, some far beyond a step."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.conftest import run_command


def wide_market() -> dict:
    lit = [
        {
            "name": f"X{k}",
            "take_fee_bps": round(0.1 * k, 1),
            "offset_bps": round(1 + 0.1 * k, 1),
            "size_shares": 100 + 10 * k,
            "latency_ms": round(0.1 + 0.3 * k, 1),
            "outages_per_hour": 5,
            "hidden_fraction": 0.3,
        }
        for k in range(22)
    ]
    pool = {"zero_probability": 0.5, "power_exponent": 1, "max_shares": 100}
    dark = [{"name": n, "take_fee_bps": 0.1, "latency_ms": ms, "dark": pool} for n, ms in (("D1", 1), ("D2", 2500))]
    order = {"quantity_shares": 4000, "horizon_steps": 8, "step_s": 1, "lot_shares": 50}
    return {"order": order, "venues": lit + dark, "reference_router": "random"}


@pytest.mark.parametrize(
    ("env", "algo"),
    [
        pytest.param("OrderSplit-v1", "ppo", marks=pytest.mark.slow),
        ("OrderExecute-v1", "reinforce"),
        pytest.param("VenueSelect-v1", "maskableppo", marks=pytest.mark.slow),
    ],
)
def test_a_comparison_in_a_wide_market_ends_with_a_report(env, algo, tmp_path):
    file = tmp_path / "wide.yaml"
    file.write_text(yaml.safe_dump(wide_market()), encoding="utf-8")
    settings = "n_steps=8" if algo == "reinforce" else "batch_size=64"
    flags = f"--seeds 2 --timesteps 2000 --n-envs 16 --scenarios 30 --workers 1 --name wide --set {settings}".split()
    done = run_command("compare", "--market", file, "--env", env, "--algos", algo, *flags, "--log-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "wide" / "results.json").read_text(encoding="utf-8"))
    assert {"dark_first", "net_price_sweep", algo, "snapshot_oracle"} <= {p["name"] for p in results["policies"]}
    assert (tmp_path / "wide" / "report.html").is_file()
