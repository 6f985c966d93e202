"""Counter-based random numbers: each is a pure function of its key and its place in the key's stream.

Nothing here holds state. A key is a mixture of (data split, episode seed, episode number) and, for a venue, of the
venue's name; the place is (step, purpose). The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast
splittable pseudorandom number generators"): a Weyl sequence of the key through a 64-bit finaliser.
"""

from __future__ import annotations

import hashlib
from collections import namedtuple
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

from sor_sb3.simulator.compiled import entry_point

DATA_SPLITS = ("train", "validation", "test")
FINAL = "final"  # a fourth data split: frozen, scored alone, and never trained or tuned on
PLACES_PER_STEP = 16  # of a stream; a path's purposes must stay under it
RESET_PLACE = 1 << 40  # draws that open an episode lie far from those of its steps

_MASK = (1 << 64) - 1
_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_TWO_M32 = 2.0**-32
_SIGN_BIT, _LOW_32 = np.int64(31), np.int64((1 << 32) - 1)

# Normals: the quantile function, piecewise linear on 64 cells an octave of the lower tail probability, so
# that they are as exact at 6.2 standard deviations (the 32-bit limit) as in the middle (within 2e-5), without
# a branch. Entry c holds intercept and slope of the cell of probabilities whose float64 has the leading bits
# `_FIRST_CELL` + c.
_CELL_BITS = np.int64(46)  # of a float64's 52 fraction bits, those below the cell's number
_FIRST_CELL = np.int64((1023 - 33) << 6)  # the smallest probability is 2**-33


def _quantile_cells() -> np.ndarray:
    cells = np.arange(33 * 64 + 1, dtype=np.int64)
    edges = ((cells + _FIRST_CELL) << _CELL_BITS).view(np.float64)
    quantiles = ndtri(edges)
    slope = np.diff(quantiles) / np.diff(edges)
    return np.stack([quantiles[:-1] - slope * edges[:-1], slope], axis=1)


_CELLS = _quantile_cells()


@njit(inline="always")
def mix64(x: Any) -> Any:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every output bit."""
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@njit(inline="always")
def stream_at(key: Any, place: Any) -> Any:
    """The stream of `key` from `place` on, for `draw_at`."""
    return key + (np.uint64(place) + np.uint64(1)) * _WEYL


@njit(inline="always")
def draw_at(stream: Any, further: Any) -> Any:
    """64 random bits, `further` places on."""
    return mix64(stream + np.uint64(further) * _WEYL)


@njit(inline="always")
def draw_bits(key: Any, place: Any) -> Any:
    """64 random bits at `place` of the stream of `key`."""
    return mix64(stream_at(key, place))


@njit(inline="always")
def high_word(bits: Any) -> Any:
    """The upper 32 of 64 bits."""
    return bits >> _S32


@njit(inline="always")
def low_word(bits: Any) -> Any:
    """The lower 32 of 64 bits."""
    return bits & _LOW


def draw_table(*rows: str) -> Any:
    """Where numbers lie in a stream: row p names those of the high and the low word at place p, "-" for none.

    Returns a named tuple of (place, bits below the word) by name, a constant for kernels (see `uniform_at`).

    Example:
        >>> draw_table("z_mid z_drift", "- u_stress").u_stress
        (1, 0)
    """
    if len(rows) > PLACES_PER_STEP:
        raise ValueError(f"{len(rows)} places; a stream has {PLACES_PER_STEP} a step")
    places = {
        name: (place, below)
        for place, row in enumerate(rows)
        for name, below in zip(row.split(), (32, 0), strict=False)
        if name != "-"
    }
    return namedtuple("DrawTable", places)(**places)


@njit(inline="always")
def uniform(word: Any) -> float:
    """Uniform on the open interval (0, 1) from 32 bits."""
    return (np.float64(np.int64(word)) + 0.5) * _TWO_M32


@njit(inline="always")
def normal(word: Any) -> float:
    """Standard normal from 32 bits, increasing in them."""
    word = np.int64(word)
    upper = word >> _SIGN_BIT
    p = (np.float64(word ^ (_LOW_32 & -upper)) + 0.5) * _TWO_M32  # of the nearer tail
    cell = (np.float64(p).view(np.int64) >> _CELL_BITS) - _FIRST_CELL
    quantile = _CELLS[cell, 0] + _CELLS[cell, 1] * p
    return quantile * np.float64(1 - 2 * upper)


@njit
def poisson(mean: float, u: float) -> float:
    """Quantile `u` of a Poisson law; by its normal expansion where the mean is large."""
    if mean > 200.0:
        z = normal(np.int64(u * 4294967296.0))
        return max(np.floor(mean + np.sqrt(mean) * z + (z * z - 1.0) / 6.0 + 0.5), 0.0)
    k, chance = 0.0, np.exp(-mean)
    total = chance
    while u > total and k < 1e4:
        k += 1.0
        chance *= mean / k
        total += chance
    return k


@njit
def binomial(n: float, p: float, u: float) -> float:
    """Quantile `u` of a binomial law; by its normal expansion where the variance is large."""
    variance = n * p * (1.0 - p)
    if variance > 200.0:
        z = normal(np.int64(u * 4294967296.0))
        skewed = (1.0 - 2.0 * p) * (z * z - 1.0) / 6.0
        return min(max(np.floor(n * p + np.sqrt(variance) * z + skewed + 0.5), 0.0), n)
    flipped = p > 0.5  # count what is rare, so that the walk from 0 is short
    p, u = (1.0 - p, 1.0 - u) if flipped else (p, u)
    k, chance, odds = 0.0, np.exp(n * np.log1p(-p)), p / (1.0 - p)
    total = chance
    while u > total and k < n and chance > 0.0:
        chance *= odds * (n - k) / (k + 1.0)
        k += 1.0
        total += chance
    return n - k if flipped else k


@njit(inline="always")
def _word_at(stream: Any, number: Any) -> Any:
    return (draw_at(stream, number[0]) >> np.uint64(number[1])) & _LOW


@njit(inline="always")
def uniform_at(stream: Any, number: Any) -> float:
    """The uniform of a `draw_table` that `number` is, of the stream from `stream_at`."""
    return uniform(_word_at(stream, number))


@njit(inline="always")
def normal_at(stream: Any, number: Any) -> float:
    """The standard normal of a `draw_table` that `number` is, of the stream from `stream_at`."""
    return normal(_word_at(stream, number))


def name_key(name: str) -> int:
    """A 64-bit key of a venue's name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


@entry_point()
def _episode_keys(data_split: Any, seeds: Any, episodes: Any, out: Any) -> None:
    for i in range(seeds.size):
        key = mix64(data_split + _WEYL)
        key = mix64(key ^ mix64(seeds[i] + _WEYL))
        out[i] = mix64(key ^ mix64(np.uint64(episodes[i]) * _MIX_1 + _WEYL))


def episode_keys(data_split: str, seeds: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Keys of episodes: uint64 (n,), from a data split's name, episode seeds (n,) and episode numbers (n,).

    The splits' streams never meet, whatever seeds a user picks: the data split is part of the key.
    """
    out = np.empty(len(seeds), dtype=np.uint64)
    _episode_keys(np.uint64(name_key(data_split)), np.asarray(seeds, np.uint64), np.asarray(episodes, np.uint64), out)
    return out


def seed_word(seed: int) -> int:
    """Fold any Python integer into 64 bits (seeds 0 .. 2**64 - 1 keep their value)."""
    return int(seed) & _MASK
