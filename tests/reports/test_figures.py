"""Figures are whole PNG files, whatever is missing from the numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sor_sb3.reports.figures import comparison_figure, learning_curves_figure
from tests.reports.test_tables import results_of

CURVES = {
    "ppo": [
        (np.array([0, 50, 100]), np.array([2.0, 1.5, 1.2])),
        (np.array([0, 40, 100]), np.array([2.1, 1.6, 1.1])),
    ],
    "a2c": [(np.array([0, 100]), np.array([2.2, 1.9]))],
}


def assert_png(path: Path) -> None:
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    picture = matplotlib.image.imread(path)
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.01
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("market", "learned"), [("us_equity", True), ("notebook", False)])
def test_comparison_figure(market, learned, tmp_path):
    assert_png(comparison_figure(results_of(market, learned), tmp_path / "figure.png"))


def test_comparison_figure_without_intervals(tmp_path):
    results = results_of("notebook")
    for comparison in results["comparisons"]:
        comparison["ci95"] = [None, None]
    assert_png(comparison_figure(results, tmp_path / "figure.png"))


@pytest.mark.parametrize("baselines", [{"random": 2.2, "snapshot_oracle": 1.0}, {}])
def test_learning_curves_figure(baselines, tmp_path):
    assert_png(learning_curves_figure(CURVES, baselines, "title", "bps", tmp_path / "curves.png"))


def test_no_figure_stays_open(tmp_path):
    plt.close("all")
    learning_curves_figure(CURVES, {"random": 2.2}, "title", "bps", tmp_path / "curves.png")
    assert plt.get_fignums() == []
