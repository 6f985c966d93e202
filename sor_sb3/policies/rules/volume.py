"""Rules that split by size: displayed (pro rata), in dark pools (dark first, dark then sweep) or traded (VWAP)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.rules.price import NetPriceSweep
from sor_sb3.policies.tuning import tuned_constants


class ProRata(Router):
    """Split by displayed size, ``w_k = d_k / sum_j d_j``, over open venues, whatever they charge."""

    name = "pro_rata"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Displayed sizes of open venues."""
        return view.size_shares * view.quoted


class DarkFirst(NetPriceSweep):
    """A part of the slice to the dark pools, by how well they filled us of late; the rest as `net_price_sweep`.

    ``w_k ~ max(fill_ratio_k, least_attention)^2`` over pools, `dark_share` of the slice together; what is not given of
    the two is tuned on validation scenarios (:func:`sor_sb3.policies.tuning.tuned_constants`). It uses one wave:
    what comes back is carried forward, so it costs time rather than money until the deadline is near: in the last
    quarter of the horizon nothing goes to the pools. Every pool keeps some weight, since a pool that gets no child
    reveals nothing (censored feedback; Ganchev et al. 2010 call this exploration).
    """

    name = "dark_first"
    constants: ClassVar = {"dark_share": (0.2, 0.05, 0.1, 0.4, 0.7, 1.0), "least_attention": (0.05, 0.2, 0.5)}
    patience: ClassVar[float] = 0.25  # share of the horizon that is left when it stops asking the pools

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderSplit-v1",
        seed: int = 0,
        dark_share: float | None = None,
        least_attention: float | None = None,
    ) -> None:
        super().__init__(market, env_id, seed)
        if dark_share is None or least_attention is None:
            tuned = tuned_constants(type(self), market, env_id)
            dark_share = tuned["dark_share"] if dark_share is None else dark_share
            least_attention = tuned["least_attention"] if least_attention is None else least_attention
        self.dark_share, self.least_attention = dark_share, least_attention
        dark = [getattr(venue, "dark", None) for venue in market.venues]
        self._least_shares = np.array([pool.min_execution_shares if pool else 0.0 for pool in dark])

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where there is a dark pool."""
        return market.has_dark

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice; in a later wave none, so that it is held back."""
        asking = ~view.is_later & (view.time_left > self.patience)
        return self._with_dark(view, self.dark_share * asking) * ~view.is_later[:, None]

    def _with_dark(self, view: ObservationView, asked: np.ndarray) -> np.ndarray:
        """Weights (n, K): the part `asked` (n,) of a slice to the pools that could execute it, the rest swept.

        A pool that is left less than its minimum execution size gets nothing.
        """
        attention = np.where(view.dark & view.usable, np.maximum(view.fill_ratio, self.least_attention) ** 2, 0.0)
        for _ in range(2):
            total = attention.sum(axis=1, keepdims=True)
            part = attention / np.maximum(total, 1e-12)
            enough = part * (asked * view.slice_shares)[:, None] >= self._least_shares
            attention = np.where(enough, attention, 0.0)
        total = attention.sum(axis=1)
        asked = np.where(total > 0.0, asked, 0.0)
        lit = super().weights(view)
        lit_total = lit.sum(axis=1, keepdims=True)
        lit = np.where(lit_total > 0.0, lit / np.maximum(lit_total, 1e-12), 0.0)
        return asked[:, None] * attention / np.maximum(total, 1e-12)[:, None] + (1.0 - asked)[:, None] * lit


class DarkThenSweep(DarkFirst):
    """Two waves: a part of the slice, or all, to the dark pools, as `dark_first`; what comes back is swept at once.

    In the first wave the rest goes as `net_price_sweep`, and in the next one, milliseconds later, what came back. So
    asking costs little but what a pool leaks. The constants are those of `dark_first`, tuned for this rule.
    """

    name = "dark_then_sweep"

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where there is a dark pool, and what it returns can be sent on in the same decision."""
        return market.has_dark_and_waves

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of the slice, or of what came back."""
        return self._with_dark(view, np.where(view.is_later, 0.0, self.dark_share))


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

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v1", seed: int = 0) -> None:
        if not self.fits(market):
            remedy = "leave the router out, or give recorded quotes a trades file (--trades FILE)"
            raise UserError(f"router 'vwap' needs traded volume and market '{market.name}' has none; {remedy}")
        super().__init__(market, env_id, seed)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of recent volume of open venues."""
        return view.volume_share * view.usable
