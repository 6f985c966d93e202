"""Almgren and Harts: an estimate of hidden size by venue, and a sweep that counts it with the displayed size.

A dynamic algorithm for smart order routing, StreamBase white paper, 2008. The paper's constants are not published here:
what is written below is the rule that it describes.
"""

from __future__ import annotations

import numpy as np


def estimate_hidden(
    hidden: np.ndarray,
    elapsed_s: np.ndarray,
    half_life_s: float,
    asked: np.ndarray,
    displayed: np.ndarray,
    filled: np.ndarray,
) -> np.ndarray:
    """The estimate H (n, K) after a decision: decayed, then corrected by the answers.

    ``H <- H 2^(-elapsed / half_life)``. An execution beyond the display says ``H = filled - displayed`` or, where all
    that was asked was filled, that it is at least so much. An order beyond the display that found no more says ``H =
    0``.

    Args:
        hidden: shares, (n, K).
        elapsed_s: since the estimate before, (n,).
        asked: shares of the child that was answered, (n, K); 0 where there is no answer.
        displayed: shares that were displayed when it was sent, (n, K).
        filled: shares of it, (n, K).

    >>> none = np.zeros((1, 1))
    >>> estimate_hidden(none + 80.0, np.array([60.0]), 30.0, none, none, none).tolist()
    [[20.0]]
    >>> estimate_hidden(none, np.zeros(1), 30.0, none + 300.0, none + 100.0, none + 150.0).tolist()
    [[50.0]]
    >>> estimate_hidden(none + 80.0, np.zeros(1), 30.0, none + 300.0, none + 100.0, none + 100.0).tolist()
    [[0.0]]
    """
    hidden = hidden * 0.5 ** (elapsed_s[:, None] / half_life_s)
    beyond, found = asked > displayed + 1e-6, np.maximum(filled - displayed, 0.0)
    censored = filled >= asked - 1e-3
    return np.where(beyond, np.where(censored, np.maximum(hidden, found), found), hidden)


def sweep_with_hidden(price: np.ndarray, offered: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Shares (n, K) of `volume` (n,): what is `offered` (n, K) at the lowest `price` (n, K) first, then the next.

    Venues of one price share what is wanted there in proportion to what they offer. Where all is not enough the rest is
    left: rows sum to the volume at most.

    >>> sweep_with_hidden(np.array([[2.0, 1.0, 1.0]]), np.array([[50.0, 30.0, 30.0]]), np.array([80.0])).tolist()
    [[20.0, 30.0, 30.0]]
    """
    n, n_venues = price.shape
    levels = np.where(offered > 0.0, np.round(price, 4), np.inf)
    taken, left = np.zeros((n, n_venues)), volume.astype(np.float64).copy()
    for _ in range(n_venues):
        best = levels.min(axis=1, keepdims=True)
        here = np.where((levels == best) & np.isfinite(levels), offered, 0.0)
        total = here.sum(axis=1)
        part = np.divide(np.minimum(left, total), total, out=np.zeros(n), where=total > 0.0)
        taken += here * part[:, None]
        left = left - total * part
        levels[levels == best] = np.inf
    return taken
