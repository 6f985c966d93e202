"""Exponential and logarithm for the kernels: inlined, ten times cheaper in vectors, the same everywhere.

Plain IEEE multiplications and additions in a fixed order, so that results depend neither on the C library nor
on how a compiler batches them. They are for finite arguments: a market has no others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_INTO_MANTISSA = 1.5 * 2.0**52  # adding it to a float rounds that float to an integer, in the lowest bits
_LOG2_E, _LN_2 = 1.0 / math.log(2.0), math.log(2.0)
# ln 2 in two parts; the last 32 bits of the first are zero, so that n times it is exact (Cody and Waite 1980)
_LN_2_HIGH, _LN_2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_ONE_BITS = np.int64(1023 << 52)
_SQRT_HALF_BITS = np.int64(np.float64(math.sqrt(0.5)).view(np.int64))
_EXPONENT_BITS = np.int64(52)


@njit(inline="always")
def toward(before: Any, latest: Any, part: float) -> Any:
    """The moving average that was `before`, moved by a `part` of the way to what is the latest."""
    return before + part * (latest - before)


@njit(inline="always")
def exp(x: Any) -> float:
    """e**x to a relative error below 1e-13; 0 for x < -700, and not for x > 700.

    ``2**n`` times a Taylor polynomial of the rest r, which is within ln(2) / 2 of zero.
    """
    inside = max(x, -700.0)
    shifted = inside * _LOG2_E + _INTO_MANTISSA
    n = shifted - _INTO_MANTISSA
    r = (inside - n * _LN_2_HIGH) - n * _LN_2_LOW
    r2 = r * r
    low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
    middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    high = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    r4 = r2 * r2
    power = (np.float64(shifted).view(np.int64) << _EXPONENT_BITS) + _ONE_BITS
    value = (low + r4 * (middle + r4 * high)) * np.int64(power).view(np.float64)
    return value if x >= -700.0 else 0.0


@njit(inline="always")
def log(x: Any) -> float:
    """Natural logarithm of x > 0 to 1e-10: ``n ln 2 + 2 atanh((m - 1) / (m + 1))`` with m near 1."""
    bits = np.float64(x).view(np.int64) - _SQRT_HALF_BITS
    n = bits >> _EXPONENT_BITS
    m = np.int64(np.float64(x).view(np.int64) - (n << _EXPONENT_BITS)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    series = 1.0 + s2 * (1 / 3 + s2 * (1 / 5 + s2 * (1 / 7 + s2 * (1 / 9 + s2 * (1 / 11 + s2 * (1 / 13))))))
    return n * _LN_2 + 2.0 * s * series
