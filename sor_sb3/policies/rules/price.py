"""Rules that rank venues by price: best touch, touch plus fee, the whole slice's all-in price, the sweep."""

from __future__ import annotations

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.policies.protocol import Router, cheapest


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
        """Shares that the sweep places."""
        names = np.argsort(np.argsort(self.market.venue_names))  # alphabetical rank
        shown = view.size_shares * view.quoted
        all_in = np.round(view.offset_bps + view.fee_bps, 5)  # float32 rounding of observations
        order = np.lexsort((np.broadcast_to(names, all_in.shape), all_in), axis=1)
        sorted_shown = np.take_along_axis(shown, order, axis=1)
        before = np.cumsum(sorted_shown, axis=1) - sorted_shown
        taken = np.clip(view.slice_shares[:, None] - before, 0.0, sorted_shown)
        weights = np.empty_like(taken)
        np.put_along_axis(weights, order, taken, axis=1)
        return weights


class MarginalPrice(Router):
    """The split of displayed sizes whose last shares cost the same all-in everywhere, books walked.

    Minimises ``sum_k (offset_k + fee_k) f_k + walk_k f_k^2 / d_k`` with ``sum f = slice``, ``0 <= f <= d``; the
    observation holds the solution. Optimal where display is firm and nobody answers; it ignores fade and latency.
    Where all displays together fall short of the slice, the rest is spread in proportion.
    """

    name = "marginal_price"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice."""
        return view.marginal_share * view.quoted
