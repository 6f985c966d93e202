"""Addressed randomness: every number is a pure function of its key and its place in the key's stream.

Nothing here holds state. A key is a mixture of (split, episode seed, episode number) and, for a venue, of the
venue's name; the place is (step, purpose). The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast
splittable pseudorandom number generators"): a Weyl sequence of the key through a 64-bit finaliser.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

SPLITS = ("train", "validation", "test")

_MASK = (1 << 64) - 1
_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_TWO_M32 = 2.0**-32

# Normals: linear interpolation of the quantile function on a grid of 2^-11, and the exact tail formula
# beyond it, so that they reach to 6.2 standard deviations (the 32-bit limit).
_CELLS = 2048
_TAIL_CELLS = 24
_GRID = np.arange(_CELLS + 1) / _CELLS
_GRID[0], _GRID[-1] = 1e-12, 1 - 1e-12  # never read: the tails have their own formula
_QUANTILES = ndtri(_GRID)


@njit(cache=True, inline="always")
def mix64(x: Any) -> Any:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every output bit."""
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@njit(cache=True, inline="always")
def draw_bits(key: Any, place: Any) -> Any:
    """64 random bits at `place` of the stream of `key`."""
    return mix64(key + (np.uint64(place) + np.uint64(1)) * _WEYL)


@njit(cache=True, inline="always")
def high_word(bits: Any) -> Any:
    """The upper 32 of 64 bits."""
    return bits >> _S32


@njit(cache=True, inline="always")
def low_word(bits: Any) -> Any:
    """The lower 32 of 64 bits."""
    return bits & _LOW


@njit(cache=True, inline="always")
def uniform(word: Any) -> float:
    """Uniform on the open interval (0, 1) from 32 bits."""
    return (np.float64(np.int64(word)) + 0.5) * _TWO_M32


@njit(cache=True)
def _tail_quantile(p: float) -> float:
    """Normal quantile for p < 0.02 (Acklam's lower-tail rational approximation, relative error < 1.2e-9)."""
    q = math.sqrt(-2.0 * math.log(p))
    top = (
        (((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e00) * q - 2.549732539343734e00)
        * q
        + 4.374664141464968e00
    ) * q + 2.938163982698783e00
    bottom = (
        ((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e00) * q + 3.754408661907416e00
    ) * q + 1.0
    return top / bottom


@njit(cache=True, inline="always")
def normal(word: Any) -> float:
    """Standard normal from 32 bits."""
    position = uniform(word) * _CELLS
    cell = np.int64(position)
    if _TAIL_CELLS <= cell < _CELLS - _TAIL_CELLS:
        low = _QUANTILES[cell]
        return low + (position - cell) * (_QUANTILES[cell + 1] - low)
    if cell < _TAIL_CELLS:
        return _tail_quantile(uniform(word))
    return -_tail_quantile(1.0 - uniform(word))


def name_key(name: str) -> int:
    """A 64-bit key of a venue's name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


@njit(cache=True)
def _episode_keys(split: Any, seeds: Any, episodes: Any, out: Any) -> None:
    for i in range(seeds.size):
        key = mix64(split + _WEYL)
        key = mix64(key ^ mix64(seeds[i] + _WEYL))
        out[i] = mix64(key ^ mix64(np.uint64(episodes[i]) * _MIX_1 + _WEYL))


def episode_keys(split: str, seeds: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Keys of episodes: uint64 (n,), from a split's name, episode seeds (n,) and episode numbers (n,).

    The splits' streams never meet, whatever seeds a user picks: the split is part of the key.
    """
    out = np.empty(len(seeds), dtype=np.uint64)
    _episode_keys(np.uint64(name_key(split)), np.asarray(seeds, np.uint64), np.asarray(episodes, np.uint64), out)
    return out


def seed_word(seed: int) -> int:
    """Fold any Python integer into 64 bits (seeds 0 .. 2**64 - 1 keep their value)."""
    return int(seed) & _MASK
