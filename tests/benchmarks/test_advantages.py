"""Advantages along directions: what the page prints, at a small size."""

from __future__ import annotations

import advantages
import numpy as np
import pytest

pytestmark = pytest.mark.benchmark


def test_every_direction_has_a_slope_at_every_lambda(monkeypatch):
    monkeypatch.setattr(advantages, "FITTED", 1)
    found = advantages.measure("us_equity", 2)
    assert {value for _, value in found} == set(advantages.LAMBDAS)
    assert len(found) == 4 * len(advantages.LAMBDAS)
    assert all(np.isfinite(slope) and error >= 0.0 for slope, error in found.values())
    lit = [found["lit venues that a sweep leaves out, first wave", value][0] for value in (0.6, 0.8)]
    assert max(lit) < 0.0  # what a sweep leaves out is dearer
