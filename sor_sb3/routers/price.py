"""Rules that rank venues by price: best touch, touch plus fee, the whole slice's all-in price, the sweep."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.routers.base import Router, cheapest


class BestPrice(Router):
    """The best displayed price, ``argmin_k offset_k``; ties to the larger displayed size. Ignores fees and size."""

    name = "best_price"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the best touch among venues that quote."""
        return cheapest(view.offset_bps, view.quoted, view.size_shares)


class AllIn(Router):
    """The best price after fees, ``argmin_k offset_k + fee_k``; ties to the larger displayed size. Ignores size."""

    name = "all_in"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the best touch plus fee among venues that quote."""
        return cheapest(view.offset_bps + view.fee_bps, view.quoted, view.size_shares)


class AllInSized(Router):
    """The one venue where the whole slice q is cheapest after fees, its displayed book walked:

    ``argmin_k  min(q, d_k)/q (offset_k + fee_k + walk_k min(q, d_k)/d_k) + (1 - min(q, d_k)/q) miss``, where what a
    venue does not show is charged `miss`, the dearest all-in price of an open venue with its whole display taken.
    """

    name = "all_in_sized"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the lowest all-in price of the whole slice."""
        return cheapest(view.slice_excess_bps, view.quoted, view.size_shares)


class AllInSweep(Router):
    """Take displayed sizes in order of all-in price, ties by name, until the slice is placed.

    Optimal where display is firm and books are flat; it ignores fade, latency and the walk within a display. Where
    all displays together fall short of the slice, the rest is spread in proportion.
    """

    name = "all_in_sweep"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice as the sweep places them."""
        return view.sweep_share * view.usable


class MarginalPrice(Router):
    """The split of displayed sizes whose last shares cost the same all-in everywhere, books walked.

    Minimises ``sum_k (offset_k + fee_k) f_k + walk_k f_k^2 / d_k`` with ``sum f = slice``, ``0 <= f <= d``: f_k is what
    venue k offers below a common marginal price, found by bisection. Optimal where display is firm and nobody answers;
    it ignores fade and latency. Where all displays together fall short of the slice, the rest is spread in proportion.
    It knows each venue's typical walk, as a router that has traded there would.
    """

    name = "marginal_price"
    bisections: ClassVar[int] = 40

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares to place at each venue."""
        walk_bps = np.array([getattr(venue, "walk_bps", 0.0) for venue in self.market.venues])
        all_in, shown = view.offset_bps + view.fee_bps, view.size_shares * view.quoted
        steepness = np.maximum(2.0 * walk_bps, 1e-6)  # a flat book, made steep enough to divide by
        low = all_in.min(axis=1) - 1.0
        high = (all_in + steepness).max(axis=1)
        for _ in range(self.bisections):
            price = 0.5 * (low + high)
            offered = shown * np.clip((price[:, None] - all_in) / steepness, 0.0, 1.0)
            enough = offered.sum(axis=1) > view.slice_shares
            high, low = np.where(enough, price, high), np.where(enough, low, price)
        return shown * np.clip((high[:, None] - all_in) / steepness, 0.0, 1.0)


PRICE: tuple[Any, ...] = (BestPrice, AllIn, AllInSized, AllInSweep, MarginalPrice)
