"""Rules that rank venues by price: best touch, touch plus fee, the whole slice's all-in price, the sweep; a sniper."""

from __future__ import annotations

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
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
    """The one venue where the whole slice is cheapest after fees, its displayed levels taken one by one.

    Levels count up to the limit of a child; what a venue does not show there is charged the worst all-in price that is
    shown anywhere. The observation holds the price.
    """

    name = "all_in_sized"

    def weights(self, view: ObservationView) -> np.ndarray:
        """One-hot of the lowest all-in price of the whole slice."""
        return cheapest(view.slice_excess_bps, view.quoted, view.size_shares)


class NetPriceSweep(Router):
    """Take displayed levels in order of all-in price, ties by name, until the slice is placed.

    Levels count up to the limit of a child: the touch alone, or all within the market's `limit_offset_bps` of the best
    touch. The observation holds the result. Optimal where quotes are firm and fees are the only difference; it ignores
    fade, latency and what nobody sees. Where all levels together fall short of the slice, the rest is spread in
    proportion.
    """

    name = "net_price_sweep"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice."""
        return view.sweep_share * view.usable


class StaleSniper(BestPrice):
    """Buys what is offered below the observed midpoint of another venue, by size; else as `best_price`.

    In ``OrderExecute-v1`` it takes all that is offered so, and keeps the schedule's pace otherwise. A check of markets
    rather than a router: where quotes are realistic it gains nothing over `best_price`, since an offer that the price
    has passed is gone before a child arrives.
    """

    name = "stale_sniper"

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where venues bid and offer."""
        return market.charges_bps

    def _stale(self, view: ObservationView) -> np.ndarray:
        """Shares (n, K) offered below the midpoint of another venue that quotes."""
        middle = np.where(view.quoted, 0.5 * (view.offset_bps - view.near_offset_bps), -np.inf)
        below = view.offset_bps < middle.max(axis=1, keepdims=True) - 1e-6  # rounding of observations
        return view.size_shares * (view.quoted & below)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Sizes offered too cheaply, where there are any."""
        stale = self._stale(view)
        return np.where(stale.any(axis=1, keepdims=True), stale, super().weights(view))

    def pace(self, view: ObservationView) -> np.ndarray:
        """All that is offered too cheaply, or the schedule's pace if that is more."""
        available = (view.remaining - view.in_flight_share) * self.market.order.quantity_shares
        offered = np.where(view.is_later, view.slice_shares, available)
        wanted = self._stale(view).sum(axis=1)
        return np.clip(np.divide(wanted, offered, out=np.zeros_like(wanted), where=offered > 0), view.pace, 1.0)
