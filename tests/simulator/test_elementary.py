"""The kernels' own exp and log: as good as libm's where the market needs them, and safe beyond."""

import math

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp, log


@njit
def _apply_exp(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


@njit
def _apply_log(x, out):
    for i in range(x.size):
        out[i] = log(x[i])


def test_exp_is_libms_to_rounding():
    x = np.concatenate([np.linspace(-700, 700, 200_001), np.random.default_rng(0).normal(0, 3, 100_000)])
    out = np.empty_like(x)
    _apply_exp(x, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=1e-13)


def test_exp_of_very_negative_numbers_is_zero_not_garbage():
    x = np.array([-701.0, -1e4, -1e300, -math.inf])
    out = np.empty_like(x)
    _apply_exp(x, out)
    assert np.all(out == 0.0)


def test_log_is_libms_to_rounding():
    x = np.concatenate([np.geomspace(1e-6, 1e12, 200_001), 1 + np.linspace(0, 1, 100_001)])
    out = np.empty_like(x)
    _apply_log(x, out)
    np.testing.assert_allclose(out, np.log(x), rtol=1e-11, atol=1e-12)
