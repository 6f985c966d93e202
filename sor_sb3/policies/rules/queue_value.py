"""What a place in a queue is worth: Moallemi and Yuan's value of queue position, and a rule that rests by it.

Moallemi and Yuan 2016, "A model for queue position valuation in a limit order book", doi:10.2139/ssrn.2996221.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.rules.resting import _PostingRule
from sor_sb3.policies.tuning import tuned_constants


def traded_first(
    ahead_shares: ArrayLike, trades_per_s: ArrayLike, jumps_per_s: float, trade_shares: ArrayLike
) -> np.ndarray:
    """Chance that trades reach an order with so many shares before it, ahead of the price's next jump.

    ``r exp(-(1 - r) q / s)`` with ``r = h / (h + g)``: trades on the order's side come at the rate h, with exponential
    sizes of mean s, jumps at the rate g; a trade reaches the order once the sizes' sum passes q, after 1 + Poisson(q /
    s) of them. No order before it is cancelled.
    """
    ahead, trades, size = (np.asarray(x, dtype=np.float64) for x in (ahead_shares, trades_per_s, trade_shares))
    wins = np.divide(
        trades, trades + jumps_per_s, out=np.zeros(np.broadcast(trades, ahead, size).shape), where=trades > 0.0
    )
    return wins * np.exp(-(1.0 - wins) * ahead / size)


def execution_chance(
    ahead_shares: ArrayLike, trades_per_s: ArrayLike, jumps_per_s: float, trade_shares: ArrayLike, through: float = 0.5
) -> np.ndarray:
    """alpha(q), the chance that the order is filled: by a trade, or by the jump, which goes `through` its price."""
    by_trade = traded_first(ahead_shares, trades_per_s, jumps_per_s, trade_shares)
    return by_trade + (1.0 - by_trade) * through


def queue_value(
    earns_bps: ArrayLike,
    jump_bps: ArrayLike,
    ahead_shares: ArrayLike,
    trades_per_s: ArrayLike,
    jumps_per_s: float,
    trade_shares: ArrayLike,
    through: float = 0.5,
) -> np.ndarray:
    """``V = alpha(q) delta - beta(q)``, in bps of the order's price.

    A fill earns `earns_bps` (delta: the distance to the mid less the fee). What a jump fills loses `jump_bps` more:
    ``beta = (alpha - chance of a trade) jump``, which grows with q. Trades carry no information here.
    """
    by_trade = traded_first(ahead_shares, trades_per_s, jumps_per_s, trade_shares)
    by_jump = (1.0 - by_trade) * through
    return (by_trade + by_jump) * np.asarray(earns_bps) - by_jump * np.asarray(jump_bps)


class QueueValue(_PostingRule):
    """Rests in proportion to the value of the places in queues, where positive; sweeps what the schedule misses.

    A place is that of what rests already, else the end of what is displayed; sellers come as they recently did. Their
    trades' mean size is a market's `volume.trade_shares`, else a tenth of an even slice. How often the price jumps, and
    how far (in price scales), is tuned on validation scenarios, as is what all posting rules have.
    """

    name = "queue_value"
    group = "literature"
    constants: ClassVar = _PostingRule.constants | {"jumps_per_s": (0.05, 0.2), "jump_scales": (1.0, 3.0)}

    def __init__(self, market: MarketSpec, env_id: str = "OrderPlace-v1", seed: int = 0, **constants: Any) -> None:
        if len(constants) < len(self.constants):
            constants = tuned_constants(type(self), market, env_id) | constants
        super().__init__(market, env_id, seed, **constants)
        self.jumps_per_s, self.jump_bps = constants["jumps_per_s"], constants["jump_scales"] * market.scales[0]
        trade_shares = getattr(getattr(market, "volume", None), "trade_shares", None)
        self.trade_shares = float(trade_shares or 0.1 * market.scales[1])

    def attraction(self, view: ObservationView) -> np.ndarray:
        """The value of a place at each venue that quotes, 0 where it is negative."""
        quotes = view.open & ~view.dark & (view.near_size_shares > 0.0) & (view.outflow_shares > 0.0)
        ahead = np.where(view.resting_share > 0.0, view.queue_ahead_shares, view.near_size_shares)
        trades_per_s = view.outflow_shares / self.market.order.step_s / self.trade_shares
        earns_bps = view.near_offset_bps - view.make_fee_bps
        of = ahead, trades_per_s, self.jumps_per_s, self.trade_shares
        return np.where(quotes, np.maximum(queue_value(earns_bps, self.jump_bps, *of), 0.0), 0.0)
