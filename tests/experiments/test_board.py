"""What TensorBoard shows of a comparison, asked of the files, of a running TensorBoard, and of its page in Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sor_sb3.callbacks.tensorboard_server import running_tensorboard
from sor_sb3.evaluation.evaluator import standard_rules
from sor_sb3.experiments.board import Board
from sor_sb3.experiments.config import train_config
from sor_sb3.market.loading import load_market
from tests.conftest import Finished

BASELINES = set(standard_rules(load_market("notebook")))
LEARNERS = ("reinforce", "ppo")
LINES = BASELINES | {f"{algo}{end}" for algo in LEARNERS for end in ("", "_low", "_high")}
MOST_THAT_ARE_SELECTED = 40  # TensorBoard's time series page selects no run by itself where there are more
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def scalars_of(folder: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_each_line_is_one_run_and_the_seeds_are_elsewhere(comparison: Finished):
    board = comparison.folder / "tensorboard"
    assert {p.parent.relative_to(board).as_posix() for p in board.rglob("*tfevents*")} == LINES
    for algo in LEARNERS:
        seeds = [scalars_of(comparison.folder / algo / f"OrderSplit-v1_{k}" / "tensorboard") for k in (1, 2)]
        assert {"rollout/ep_rew_mean", "time/fps"} <= set(seeds[0])
        shown = scalars_of(board / algo)
        assert {"eval/cost", "eval/gap_closed", "eval/latency_p50_ms", "venue_share/A"} <= set(shown)
        for tag, points in shown.items():
            assert set(points) == set(seeds[0][tag])
            for step, value in points.items():
                assert value == pytest.approx(np.mean([seed[tag][step] for seed in seeds]), rel=1e-5, abs=1e-7)
        for name, end in (("low", min), ("high", max)):
            band = scalars_of(board / f"{algo}_{name}")
            expected = {step: end(seed["eval/cost"][step] for seed in seeds) for step in shown["eval/cost"]}
            assert band == {"eval/cost": pytest.approx(expected, rel=1e-5)}


def test_baselines_are_flat_lines_as_long_as_the_longest_curve(comparison: Finished):
    for name in BASELINES:
        shown = scalars_of(comparison.folder / "tensorboard" / name)
        assert {"eval/gap_closed", "eval/latency_p50_ms", "venue_share/A"} <= set(shown)
        assert list(shown["eval/cost"]) == [0, 1000, 2000]
        assert len(set(shown["eval/cost"].values())) == 1


def ask(address: str, what: str, form: dict[str, str] | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{address}data/{what}", data, timeout=20) as reply:
        return json.load(reply)


def test_a_running_tensorboard_selects_and_serves_every_line(comparison: Finished):
    wanted = json.dumps([{"plugin": "scalars", "tag": "eval/cost"}])
    with running_tensorboard(comparison.folder / "tensorboard") as address:
        for _ in range(50):
            if set(runs := ask(address, "runs")) == LINES:
                break
        assert set(runs) == LINES
        assert len(runs) <= MOST_THAT_ARE_SELECTED
        served = ask(address, "plugin/timeseries/timeSeries", {"requests": wanted})[0]["runToSeries"]
    assert set(served) == LINES
    assert all(len(series) >= 3 for series in served.values())


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_shows_learners_against_baselines_at_once(comparison: Finished, tmp_path):
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", f"--user-data-dir={tmp_path}")
    with running_tensorboard(comparison.folder / "tensorboard") as address:
        command = [CHROMIUM, *flags, "--virtual-time-budget=30000", "--dump-dom", f"{address}#timeseries"]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    cards = re.split(r"<scalar-card ", page)[1:]
    card = next(text for text in cards if 'title="eval/cost"' in text)
    listed = set(re.findall(r">\s*([\w.]+)\s*<", card))  # beside its chart, the runs that are selected
    assert listed >= LINES


def evaluations(file: Path, costs: list[float]) -> None:
    """What a run has written after so many evaluations."""
    file.parent.mkdir(parents=True, exist_ok=True)
    steps, cells = np.arange(len(costs)) * 100, np.array([[c, np.nan] for c in costs])
    np.savez(file, timesteps=steps, tags=np.array(["eval/cost", "eval/fill_rate"]), scalars=cells)


def test_the_mean_is_of_the_seeds_that_have_come_so_far(tmp_path):
    market = load_market("notebook")
    runs = [(train_config("ppo", "OrderSplit-v1", market, s, 400), tmp_path / f"run_{s}") for s in (0, 1)]
    board = Board(tmp_path / "board", market, runs)
    board.update()
    assert not (tmp_path / "board").exists()
    evaluations(tmp_path / "run_0" / "evaluations.npz", [2.0, 1.0])
    board.update()
    assert scalars_of(tmp_path / "board" / "ppo") == {"eval/cost": {0: 2.0, 100: 1.0}}
    written = set((tmp_path / "board").rglob("*tfevents*"))
    board.update()
    assert set((tmp_path / "board").rglob("*tfevents*")) == written, "nothing new came, and it was written again"
    evaluations(tmp_path / "run_1" / "evaluations.npz", [4.0])
    board.update()
    assert scalars_of(tmp_path / "board" / "ppo") == {"eval/cost": {0: 3.0, 100: 1.0}}
    assert scalars_of(tmp_path / "board" / "ppo_high") == {"eval/cost": {0: 4.0, 100: 1.0}}
    assert not written & set((tmp_path / "board").rglob("*tfevents*"))


def test_a_single_seed_has_no_range(tmp_path):
    market = load_market("notebook")
    evaluations(tmp_path / "run" / "evaluations.npz", [2.0])
    run = train_config("a2c", "OrderSplit-v1", market, 0, 400)
    board = Board(tmp_path / "board", market, [(run, tmp_path / "run")])
    board.update()
    assert [p.name for p in (tmp_path / "board").iterdir()] == ["a2c"]
