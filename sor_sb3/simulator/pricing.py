"""What observed books would charge for a step's shares: at one venue, and swept over the levels of all by net price.

From public data only, and in bps above the observed midpoint.

Observations hold both results; rules read them there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.simulator.book import TOLERANCE_BPS, observed_level
from sor_sb3.simulator.execution import best_observed_bps, displayed_shares
from sor_sb3.simulator.state import LANES_APART, MOST_LEVELS, lanes

OFFERS = np.dtype(  # what the lanes of a block offer
    [
        ("level_shares", "f8", (MOST_LEVELS * LANES_APART,)),  # displayed within the limit, level by level,
        ("level_bps", "f8", (MOST_LEVELS * LANES_APART,)),  # and at what all-in price
        ("n_levels", "i8", (LANES_APART,)),  # how many these are
        ("next_level", "i8", (LANES_APART,)),  # of a sweep
        *(
            (name, "f8", (LANES_APART,))
            for name in (
                "shown_shares",  # displayed at the touch
                "depth_shares",  # displayed within the limit
                "all_in_bps",  # of the touch
                "wanted_shares",
                "worst_bps",  # highest all-in price observed, which a share that is not shown is charged
                "last_bps",  # highest all-in price of the lane within the limit
                "price_bps",  # all-in, of the whole step's shares
                "next_bps",  # all-in price of `next_level`; infinite: none
                "swept_shares",
            )
        ),
    ],
    align=True,
)


class Displayed(NamedTuple):
    """Books as feeds show them, in place of a path's: of each lane the levels behind its far touch, from 1 on.

    Attributes:
        above_bps: float64 (lanes, MOST_LEVELS), how far above the touch a level lies.
        shares: float64 (lanes, MOST_LEVELS), displayed there; 0 where the book has ended.
    """

    above_bps: np.ndarray
    shares: np.ndarray


@njit(error_model="numpy")
def make_offers(
    block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, displayed: Any, offers: Any
) -> None:
    """Lay down what each lane of the orders ``i .. i + n - 1`` displays, level by level, at what all-in price.

    Levels behind the touch are `displayed`, or, where that is None, those of the path.
    """
    first, last = np.uint64(i * market.n_venues), np.uint64((i + n) * market.n_venues)
    for j in range(first, last):
        shown = displayed_shares(block, j)
        offers.shown_shares[j], offers.level_shares[j], offers.depth_shares[j] = shown, shown, shown
        offers.all_in_bps[j] = block.observed_offset_bps[j] + fixed.take_fee_bps[j]
        offers.last_bps[j], offers.level_bps[j] = offers.all_in_bps[j], offers.all_in_bps[j]
        offers.n_levels[j] = 1
    if market.sweeps == 1:
        for member in range(i, i + n):
            _add_levels(block, member, fixed, market, recording, displayed, offers)


@njit
def _add_levels(block: Any, i: int, fixed: Any, market: Any, recording: Any, displayed: Any, offers: Any) -> None:
    """Lay down the levels of one order's books that lie within the limit of a child that sweeps."""
    limit_bps = best_observed_bps(block, i, fixed, market) + market.limit_offset_bps + TOLERANCE_BPS
    spacing_bps = market.level_ticks * market.tick_bps
    for j in lanes(i, market):
        offset_bps, quotes = block.observed_offset_bps[j], block.open[j] == 1.0 and fixed.dark[j] == 0.0
        if not quotes or offset_bps > limit_bps:
            offers.n_levels[j], offers.depth_shares[j] = 0, 0.0
            continue
        for level in range(1, market.n_levels):
            above_bps, at = level * spacing_bps, level * LANES_APART + j
            if displayed is None:
                if recording is None and offset_bps + above_bps > limit_bps:
                    break
                price_bps, shares = observed_level(block, i, j, fixed, market, recording, level)
                if recording is not None and shares > 0.0:
                    above_bps = price_bps - block.observed_ask_bps[j]
                    if offset_bps + above_bps > limit_bps:
                        break
            else:
                above_bps, shares = displayed.above_bps[j, level], displayed.shares[j, level]
                if offset_bps + above_bps > limit_bps:
                    break
            offers.level_shares[at], offers.level_bps[at] = shares, offers.all_in_bps[j] + above_bps
            offers.n_levels[j] = level + 1
            if shares > 0.0:
                offers.depth_shares[j] += shares
                offers.last_bps[j] = offers.level_bps[at]


@njit(error_model="numpy")
def price_slices(block: Any, i: int, n: int, fixed: Any, market: Any, offers: Any) -> None:
    """All-in price of the whole slice of each order ``i .. i + n - 1`` at each venue, from what is displayed.

    Its levels within the limit, each at its own price; what it does not show is charged the worst all-in price
    observed at an open lit venue, within the limit. Where all children fill, the price is linear in the slice q:
    ``all_in + liquidity_cost q / shown``.
    """
    n_venues = market.n_venues
    for member in range(i, i + n):
        wanted, worst_bps = max(block.slice_shares[member], 1e-9), -math.inf
        low, high = np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)
        for j in range(low, high):
            lit = (block.open[j] == 1.0) & (fixed.dark[j] == 0.0)
            worst_bps = max(worst_bps, offers.last_bps[j] if lit else -math.inf)
        worst_bps = 0.0 if worst_bps == -math.inf else worst_bps
        for j in range(low, high):
            offers.wanted_shares[j], offers.worst_bps[j] = wanted, worst_bps
    linear, liquidity_cost = market.fills_all == 1, market.liquidity_cost
    n_levels = market.n_levels if market.sweeps == 1 else 1
    for j in range(np.uint64(i * n_venues), np.uint64((i + n) * n_venues)):
        wanted, all_in_bps = offers.wanted_shares[j], offers.all_in_bps[j]
        left, value = wanted, 0.0
        for level in range(n_levels):
            at, within = np.uint64(level * LANES_APART) + j, level < offers.n_levels[j]
            taken = min(left, offers.level_shares[at]) if within else 0.0
            value += taken * offers.level_bps[at] if within else 0.0
            left -= taken
        price_bps = (value + left * offers.worst_bps[j]) / wanted
        linear_bps = all_in_bps + liquidity_cost * wanted / offers.shown_shares[j]
        offers.price_bps[j] = linear_bps if linear else price_bps


@njit
def sweep(block: Any, first: int, last: int, wanted: float, fixed: Any, market: Any, offers: Any) -> None:
    """Take levels of the lanes from `first` up to `last` in order of all-in price until `wanted` shares are placed.

    Ties go by name. A venue with a child of ours in flight takes no other, so it is left out. `swept_shares` is what
    is taken where; where the books show too little, all that they show.
    """
    for j in range(first, last):
        offers.swept_shares[j], offers.next_level[j] = 0.0, -1
        _next_level(block, j, offers)
    left = wanted
    while left > 1e-9 * wanted:
        best = first
        for j in range(first + 1, last):
            more_bps = offers.next_bps[j] - offers.next_bps[best]
            tied = (more_bps <= TOLERANCE_BPS) & (fixed.name_rank[j] < fixed.name_rank[best])
            best = j if (more_bps < -TOLERANCE_BPS) | tied else best
        if not offers.next_bps[best] < math.inf:
            break
        taken = min(left, offers.level_shares[offers.next_level[best] * LANES_APART + best])
        offers.swept_shares[best] += taken
        left -= taken
        _next_level(block, best, offers)


@njit(inline="always")
def _next_level(block: Any, j: int, offers: Any) -> None:
    """Move lane `j` to its next level that shows something."""
    level = offers.next_level[j] + 1
    while level < offers.n_levels[j] and offers.level_shares[level * LANES_APART + j] <= 0.0:
        level += 1
    takes = level < offers.n_levels[j] and block.child_shares[j] <= 0.0
    offers.next_level[j] = level
    offers.next_bps[j] = offers.level_bps[level * LANES_APART + j] if takes else math.inf
