"""What each child of an env step took where: a fill print by print, worked out from the books that it found.

The ledger knows a fill's shares and value. Here the same rules are applied once more, in plain NumPy and from what a
page can show, so that a print has a price of its own and a reader can do a fill by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sor_sb3.simulator.book import TOLERANCE_BPS
from sor_sb3.simulator.state import MOST_LEVELS


@dataclass(frozen=True)
class Terms:
    """What decides a child's fill besides its book, float64 (n, K) each.

    Attributes:
        sent_shares: of the child; 0 for none.
        limit_bps: the highest price, in the terms of the book.
        fade_shares: displayed size that has left since others saw our fills elsewhere.
        least_shares: the venue's minimum execution.
    """

    sent_shares: np.ndarray
    limit_bps: np.ndarray
    fade_shares: np.ndarray
    least_shares: np.ndarray


@dataclass(frozen=True)
class Prints:
    """Prints of children: at the midpoint, then level by level, displayed and hidden size together.

    Attributes:
        price_bps: float64 (n, K, 1 + levels).
        shares: the same.
    """

    price_bps: np.ndarray
    shares: np.ndarray

    @property
    def filled_shares(self) -> np.ndarray:
        """Of each child, (n, K)."""
        return np.asarray(self.shares.sum(axis=2))


def faded(shares: np.ndarray, fade_shares: np.ndarray) -> np.ndarray:
    """Displayed sizes (..., levels) that are left when `fade_shares` (...) leave from the top downwards.

    >>> faded(np.array([300.0, 200.0, 100.0]), np.array(350.0)).tolist()
    [0.0, 150.0, 100.0]
    """
    gone = np.clip(fade_shares[..., None] - (np.cumsum(shares, axis=-1) - shares), 0.0, shares)
    return np.asarray(shares - gone)


def prints_of(books: np.ndarray, terms: Terms) -> Prints:
    """The prints of children that find these books, LADDER (n, K)."""
    limit, sent = terms.limit_bps + TOLERANCE_BPS, terms.sent_shares
    price = np.concatenate([books["mid_bps"][..., None], books["price_bps"]], axis=2)
    there = np.arange(MOST_LEVELS) < books["n_levels"][..., None]
    held = faded(np.where(there, books["shares"], 0.0), terms.fade_shares)
    held[..., 0] += np.where(there[..., 0], books["hidden_shares"], 0.0)
    held = np.concatenate([books["mid_shares"][..., None], held], axis=2)
    held = np.where(price <= limit[..., None], held, 0.0)
    before = np.cumsum(held, axis=2) - held
    taken = np.clip(sent[..., None] - before, 0.0, held)
    enough = taken.sum(axis=2) >= terms.least_shares * (1.0 - 1e-9)
    return Prints(price, np.where(enough[..., None], taken, 0.0))


def fade_shares_of(
    toxicity: np.ndarray, arrives_ms: np.ndarray, fills: list[tuple[np.ndarray, np.ndarray]], reaction_ms: np.ndarray
) -> np.ndarray:
    """Shares (n, K) that leave each venue before our child arrives there, since we were filled elsewhere.

    ``toxicity_k sum over fills elsewhere of filled (1 - exp(-(t_k - t) / reaction time))``, over fills before t_k.

    Args:
        toxicity: float64 (n, K); `arrives_ms` t_k, NaN for no child.
        fills: of this decision so far: when (n, K), NaN for none, and how many shares (n, K).
        reaction_ms: float64 (n,).
    """
    seen = np.zeros(arrives_ms.shape)
    elsewhere = ~np.eye(arrives_ms.shape[1], dtype=bool)
    for at_ms, filled in fills:
        of = np.flatnonzero(np.isfinite(at_ms).any(axis=1))
        lag = arrives_ms[of][:, :, None] - at_ms[of][:, None, :]
        earlier = (lag > 0.0) & elsewhere
        known = -np.expm1(-np.where(earlier, lag, 0.0) / reaction_ms[of][:, None, None])
        seen[of] += np.where(earlier, known * filled[of][:, None, :], 0.0).sum(axis=2)
    return np.asarray(toxicity * seen)
