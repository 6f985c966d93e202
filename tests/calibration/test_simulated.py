"""Simulated moments move parameters to where the moments are the recorded ones."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from sor_sb3.calibration import simulated
from sor_sb3.calibration.moments import moments
from sor_sb3.calibration.simulated import fit_moments, fitted_paths, value_of, with_value
from sor_sb3.evaluation.true_quotes import simulated_quotes
from sor_sb3.market.spec import SyntheticMarket

BLOCKS, BLOCK_S = 16, 120.0


@pytest.fixture(scope="module")
def truth() -> dict:
    common = {"take_fee_bps": 0.0, "latency_ms": 0.1, "size_shares": 300.0}
    return {
        "order": {"quantity_shares": 1000.0, "horizon_steps": 4, "step_s": 5.0},
        "venues": [
            {"name": "A", "offset_bps": 1.5, "quote_delay_s": 1.0, **common},
            {"name": "B", "offset_bps": 2.5, "quote_delay_s": 4.0, **common},
        ],
        "quotes": {
            **{"tick_bps": 0.5, "round_lot_shares": 100.0, "fast_half_life_s": 2.0, "slow_half_life_s": 60.0},
            **{"size_fast_half_life_s": 3.0, "size_slow_half_life_s": 40.0, "join_probability": 0.1},
            **{"offset_fast_sd": 0.5, "offset_slow_sd": 0.3, "size_fast_sd": 0.6, "size_slow_sd": 0.4},
        },
        "price": {
            **{"volatility_bps_per_sqrt_s": 0.8, "volatility_log_sd": 0.4, "volatility_half_life_s": 60.0},
            **{"drift_sd_bps_per_s": 0.05, "jumps_per_hour": 5.0, "jump_sd_bps": 5.0},
        },
        "stress": {"entries_per_hour": 5.0, "duration_s": 240.0, "offset_factor": 1.3, "volatility_factor": 1.3},
    }


def test_a_wrong_start_comes_nearer(truth, monkeypatch):
    for name, value in (("TRIES", 2), ("CYCLES", 1), ("LEAST_BLOCKS", BLOCKS), ("REPLICAS", 1)):
        monkeypatch.setattr(simulated, name, value)
    recorded = simulated_quotes(SyntheticMarket.model_validate(truth), BLOCKS, 5, BLOCK_S, 1.0, "validation")
    data = copy.deepcopy(truth)
    for path, factor in (("venues.A.offset_bps", 2.0), ("price.volatility_bps_per_sqrt_s", 0.5)):
        with_value(data, path, factor * value_of(truth, path))
    before = moments(simulated.simulated(data, BLOCKS, recorded))
    told: list[int] = []
    fit = fit_moments(data, recorded, lambda what, done, total: told.append(done))
    for name in ("log spread A", "log volatility"):
        assert abs(fit.simulated[name] - fit.recorded[name]) < abs(before[name] - fit.recorded[name])
    assert list(fit.paths) == fitted_paths(data)
    found = fit.estimates(BLOCKS)
    assert all(e.low < e.value < e.high for e in found.values())
    assert [value_of(data, path) for path in fit.paths] == pytest.approx([e.value for e in found.values()])
    assert math.isclose(moments(recorded)["log spread B"], fit.recorded["log spread B"])
    assert told == sorted(told) and np.all(np.linalg.eigvalsh(fit.covariance) > -1e-9)
