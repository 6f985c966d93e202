"""Rules that split by size: displayed (pro rata) or traded (VWAP)."""

from __future__ import annotations

from typing import Any

import numpy as np

from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.routers.base import Router


class ProRata(Router):
    """Split by displayed size, ``w_k = d_k / sum_j d_j``, over open venues, whatever they charge."""

    name = "pro_rata"

    def weights(self, view: ObservationView) -> np.ndarray:
        """Displayed sizes of open venues."""
        return view.size_shares * view.open


class Vwap(Router):
    """Split by recent traded volume, ``w_k = v_k / sum_j v_j`` (exponential average), over open venues.

    Raises:
        UserError: the market publishes no traded volume.
    """

    name = "vwap"

    def __init__(self, market: MarketSpec, env_id: str = "OrderSplit-v0", seed: int = 0) -> None:
        if not market.has_volume:
            raise UserError(
                f"router 'vwap' needs traded volume and market '{market.name}' has none; leave the router out, or give "
                "recorded quotes a trades file (--trades FILE)"
            )
        super().__init__(market, env_id, seed)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Shares of recent volume of open venues."""
        return view.volume_share * view.open


VOLUME: tuple[Any, ...] = (ProRata, Vwap)
