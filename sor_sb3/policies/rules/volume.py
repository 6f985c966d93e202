"""Rules that split by size: displayed (pro rata), resting in the dark (dark first) or traded (VWAP)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.rules.price import MarginalPrice


class ProRata(Router):
    """Split by displayed size, ``w_k = d_k / sum_j d_j``, over open venues, whatever they charge."""

    name = "pro_rata"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Displayed sizes of open venues."""
        return view.size_shares * view.quoted


class DarkFirst(MarginalPrice):
    """A fifth of the slice to the dark pools, by how well they filled us of late; the rest at the marginal price.

    ``w_k ~ max(fill_ratio_k, 0.05)^2`` over pools. Shares that a pool returns are carried forward, so they cost time
    rather than money until the deadline is near: in the last quarter of the horizon nothing goes to the pools. Every
    pool keeps some weight, since a pool that gets no child reveals nothing (censored feedback; Ganchev et al. 2010 call
    this exploration). Where all pools have a child in flight the rule is `marginal_price`.
    """

    name = "dark_first"
    dark_share: ClassVar[float] = 0.2
    least_attention: ClassVar[float] = 0.05

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where there is a dark pool."""
        return market.has_dark

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice."""
        dark = view.dark & view.usable
        attention = np.where(dark, np.maximum(view.fill_ratio, self.least_attention) ** 2, 0.0)
        total = attention.sum(axis=1, keepdims=True)
        asked = np.where((total > 0.0) & (view.time_left > 0.25)[:, None], self.dark_share, 0.0)
        lit = super().weights(view)
        lit_total = lit.sum(axis=1, keepdims=True)
        lit = np.where(lit_total > 0.0, lit / np.maximum(lit_total, 1e-12), 0.0)
        return asked * attention / np.maximum(total, 1e-12) + (1.0 - asked) * lit


class Vwap(Router):
    """Split by recent traded volume, ``w_k = v_k / sum_j v_j`` (exponential average), over open venues.

    Raises:
        UserError: the market publishes no traded volume.
    """

    name = "vwap"

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where traded volume is published."""
        return market.has_volume

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v0", seed: int = 0) -> None:
        if not self.fits(market):
            remedy = "leave the router out, or give recorded quotes a trades file (--trades FILE)"
            raise UserError(f"router 'vwap' needs traded volume and market '{market.name}' has none; {remedy}")
        super().__init__(market, env_id, seed)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of recent volume of open venues."""
        return view.volume_share * view.usable
