"""How a volume becomes an allocation: projected on the simplex, in proportion, in whole units."""

from __future__ import annotations

import numpy as np


def to_simplex(points: np.ndarray) -> np.ndarray:
    """The nearest points (n, K) of the simplex, in Euclidean distance.

    Held, Wolfe, Crowder (1974): subtract the one number that makes the positive parts sum to 1.

    >>> to_simplex(np.array([[0.5, 0.5], [2.0, 0.0], [0.6, 0.8]])).round(3).tolist()
    [[0.5, 0.5], [1.0, 0.0], [0.4, 0.6]]
    """
    ordered = -np.sort(-points, axis=1)
    excess = (np.cumsum(ordered, axis=1) - 1.0) / np.arange(1, points.shape[1] + 1)
    kept = np.maximum((ordered > excess).sum(axis=1), 1) - 1
    return np.maximum(points - excess[np.arange(len(points)), kept][:, None], 0.0)


def in_proportion(volume: np.ndarray, weights: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The `volume` (n,) split over allowed venues (n, K) by weights; evenly where these are all 0."""
    weights = weights * allowed
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0.0, weights, allowed)
    total = weights.sum(axis=1, keepdims=True)
    return volume[:, None] * np.divide(weights, total, out=np.zeros_like(weights, dtype=float), where=total > 0.0)


def whole_units(shares: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Whole numbers (n, K) that sum to `volume` (n,), by largest remainders of `shares`, ties to the first venue.

    Remainders are compared to nine decimals.
    """
    whole = np.floor(shares + 1e-9)
    left = np.rint(volume - whole.sum(axis=1))
    rank = np.argsort(np.argsort(np.round(whole - shares, 9), axis=1, kind="stable"), axis=1, kind="stable")
    return (whole + (rank < left[:, None])).astype(np.int64)
