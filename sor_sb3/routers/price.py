"""Rules that rank venues by price: best touch, touch plus fee, the whole slice's all-in price, the sweep."""

from __future__ import annotations

from typing import Any

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.routers.base import Router, cheapest


class BestPrice(Router):
    """The best displayed price, ``argmin_k offset_k``; ties to the larger displayed size. Ignores fees and size."""

    name = "best_price"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the best touch among open venues."""
        return cheapest(view.offset_bps, view.open, view.size_shares)


class AllIn(Router):
    """The best price after fees, ``argmin_k offset_k + fee_k``; ties to the larger displayed size. Ignores size."""

    name = "all_in"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the best touch plus fee among open venues."""
        return cheapest(view.offset_bps + view.fee_bps, view.open, view.size_shares)


class AllInSized(Router):
    """The one venue where the whole slice q is cheapest after fees, its displayed book walked:

    ``argmin_k  min(q, d_k)/q (offset_k + fee_k + walk_k min(q, d_k)/d_k) + (1 - min(q, d_k)/q) miss``, where what a
    venue does not show is charged `miss`, the dearest all-in price of an open venue with its whole display taken.
    """

    name = "all_in_sized"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the lowest all-in price of the whole slice."""
        return cheapest(view.slice_excess_bps, view.open, view.size_shares)


class AllInSweep(Router):
    """Take displayed sizes in order of all-in price, ties by name, until the slice is placed.

    Optimal where display is firm and books are flat; it ignores fade, latency and the walk within a display. Where
    all displays together fall short of the slice, the rest is spread in proportion.
    """

    name = "all_in_sweep"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice as the sweep places them."""
        return view.sweep_share


PRICE: tuple[Any, ...] = (BestPrice, AllIn, AllInSized, AllInSweep)
