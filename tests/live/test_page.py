"""The page's loop runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

from stable_baselines3 import PPO

import sor_sb3

PAGE = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")


def test_the_loop_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    venv = sor_sb3.make_vec_env("OrderSplit-v1", market="us_equity", n_envs=1, seed=0)
    sor_sb3.export_onnx(PPO("MlpPolicy", venv, device="cpu", seed=0), tmp_path / "policy.onnx")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "live.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 15
    assert all(" s  Child(venue=" in line for line in lines)


def test_names_on_the_page_exist():
    from sor_sb3 import live

    for name in set(re.findall(r"`([A-Z]\w+)(?:\(|\.\w+|`)", PAGE)) - {"UserError", "ObservationView"}:
        assert hasattr(live, name), name
