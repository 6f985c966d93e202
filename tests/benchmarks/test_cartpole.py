"""The CartPole benchmark: what counts as reached, the table, and a short run of each algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from cartpole import ALGORITHMS, draw, make_model, reached, run, table

pytestmark = pytest.mark.benchmark


def test_reached_is_the_first_time_at_475():
    curve = np.array([[100, 20.0], [200, 475.0], [300, 470.0], [400, 500.0]])
    assert reached(curve) == 200
    assert reached(curve[:1]) == np.inf
    assert reached(np.zeros((0, 2))) == np.inf


def test_table_says_how_many_reached_it_and_never_hides_one_that_did_not():
    good, bad = np.array([[100, 20.0], [200, 480.0]]), np.array([[100, 20.0], [200, 400.0]])
    lines = table({"REINFORCE": [(good, 500.0), (good, 490.0)], "A2C": [(good, 500.0), (bad, 300.0)]}).splitlines()
    assert lines[2] == "| REINFORCE | 2 of 2 | 200 (200 to 200) | 480 (worst seed 480) | 495 (worst seed 490) |"
    assert "| 1 of 2 |" in lines[3] and "to never" in lines[3] and "worst seed 300" in lines[3]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_models_are_what_they_are_called(name):
    assert type(make_model(name, 0)).__name__ == name


def test_a_short_run_is_drawn(tmp_path):
    curve, final = run("REINFORCE", 100, 12_288)
    assert curve.shape[1] == 2 and len(curve) >= 1
    assert 0 < final <= 500
    draw({"REINFORCE": [(curve, final)]}, 12_288, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
