"""What observed quotes would charge for a step's shares: at one venue, and split over all at one marginal price.

From public data only, and in bps above the mid.

Observations hold both results; rules read them there, and an oracle may ask for the split of what it knows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.execution import displayed_shares
from sor_sb3.simulator.state import LANES_APART

FLAT_BPS = 1e-6  # a book that does not walk counts as this steep, so that its offer is a number

OFFERS = np.dtype(  # what the lanes of a block offer
    [
        (name, "f8", (LANES_APART,))
        for name in (
            "shown_shares",
            "first_bps",  # all-in price of the first share; infinite where nothing is shown
            "last_bps",  # marginal all-in price of the last
            "per_bps_shares",  # offered for each bps between
            "wanted_shares",
            "miss_bps",  # what is charged for a share that is not shown
            "price_bps",  # all-in, of the whole step's shares
        )
    ],
    align=True,
)


@njit(error_model="numpy")
def make_offers(block: Any, fixed: Any, first: int, last: int, offers: Any) -> None:
    """What each lane from `first` up to `last` shows, at what all-in prices."""
    for j in range(np.uint64(first), np.uint64(last)):
        shown = displayed_shares(block, j)
        all_in_bps = block.observed_offset_bps[j] + fixed.take_fee_bps[j]
        steepness_bps = max(2.0 * fixed.walk_bps[j], FLAT_BPS)
        offers.shown_shares[j] = shown
        offers.first_bps[j] = all_in_bps if shown > 0.0 else math.inf
        offers.last_bps[j] = all_in_bps + steepness_bps if shown > 0.0 else math.inf
        offers.per_bps_shares[j] = shown / steepness_bps


@njit(error_model="numpy")
def price_slices(block: Any, i: int, n: int, fixed: Any, market: Any, offers: Any) -> None:
    """All-in price of the whole slice of each order ``i .. i + n - 1`` at each venue, from what is displayed.

    ``min(q, d)/q (all_in + walk min(q, d)/d) + (1 - min(q, d)/q) miss``: what a venue does not show is charged `miss`,
    the highest all-in price of an open lit venue with its whole display taken. Where all children fill, the price is
    that of the whole slice, ``all_in + liquidity_cost q/d``.
    """
    n_venues = market.n_venues
    for member in range(i, i + n):
        wanted, miss_bps = max(block.slice_shares[member], 1e-9), -math.inf
        low, high = np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)
        for j in range(low, high):
            top_bps = block.observed_offset_bps[j] + fixed.take_fee_bps[j] + fixed.walk_bps[j]
            miss_bps = max(miss_bps, top_bps if (block.open[j] == 1.0) & (fixed.dark[j] == 0.0) else -math.inf)
        miss_bps = 0.0 if miss_bps == -math.inf else miss_bps
        for j in range(low, high):
            offers.wanted_shares[j], offers.miss_bps[j] = wanted, miss_bps
    linear, liquidity_cost = market.fills_all == 1, market.liquidity_cost
    for j in range(np.uint64(i * n_venues), np.uint64((i + n) * n_venues)):
        all_in_bps = block.observed_offset_bps[j] + fixed.take_fee_bps[j]
        shown, wanted = offers.shown_shares[j], offers.wanted_shares[j]
        part, taken = min(shown / wanted, 1.0), min(wanted / shown, 1.0)
        price_bps = part * (all_in_bps + fixed.walk_bps[j] * taken) + (1.0 - part) * offers.miss_bps[j]
        offers.price_bps[j] = all_in_bps + liquidity_cost * wanted / shown if linear else price_bps


@njit(error_model="numpy")
def marginal_price_bps(wanted: float, first: int, last: int, offers: Any) -> float:
    """The all-in price at which lanes from `first` up to `last` offer `wanted` shares; where they fall short, the last.

    At the marginal price p a lane offers ``d min((p - first) / (last - first), 1)`` of its display d. p is found by
    walking up the offers' corners, of which there are at most two a lane: so it minimises the cost of `wanted` shares.
    """
    offered, slope, price, corner = 0.0, 0.0, -math.inf, math.inf
    low, high = np.uint64(first), np.uint64(last)
    for j in range(low, high):
        corner = min(corner, offers.first_bps[j])
    for _ in range(2 * (last - first)):
        if not corner < math.inf:
            break
        if slope > 0.0:
            if offered + slope * (corner - price) >= wanted:
                return price + (wanted - offered) / slope
            offered += slope * (corner - price)
        price, slope, corner = corner, 0.0, math.inf
        for j in range(low, high):
            begins, ends = offers.first_bps[j], offers.last_bps[j]
            slope += offers.per_bps_shares[j] if (begins <= price) & (ends > price) else 0.0
            corner = min(corner, begins if begins > price else math.inf)
            corner = min(corner, ends if ends > price else math.inf)
    return price


@njit(inline="always")
def offered_at(price_bps: float, j: Any, offers: Any) -> float:
    """Shares that lane `j` offers at a marginal all-in price."""
    shown = offers.shown_shares[j]
    part = (price_bps - offers.first_bps[j]) * offers.per_bps_shares[j]
    return min(max(part, 0.0), shown) if shown > 0.0 else 0.0
