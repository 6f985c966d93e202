"""Lots that join the best bid: where they join, when they are filled, and what informed flow costs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sor_sb3.evaluation.joined import JOIN_S, JOIN_STATISTICS, join_statistics, joined_orders
from sor_sb3.market.loading import load_market
from tests.evaluation.test_analysis import hand_made


def test_a_lot_filled_in_parts_is_filled_when_the_last_part_is():
    log = hand_made()  # 300 shares, decisions of 5 s
    passive = np.zeros((1, 2, 2))
    passive[0, 0, 0], passive[0, 1, 0] = 100.0, 200.0
    ms = np.array([[[4000.0, 0.0], [2500.0, 0.0]]])
    found = join_statistics(replace(log, passive_shares=passive, passive_ms=ms))
    assert set(found) == set(JOIN_STATISTICS)
    assert found["join_fill_percent"].value == pytest.approx(100.0)
    assert found["join_time_s"].value == pytest.approx(log.step_s + 2.5)
    half = join_statistics(replace(log, passive_shares=0.5 * passive, passive_ms=ms))
    assert half["join_fill_percent"].value == pytest.approx(50.0)
    assert np.isnan(half["join_time_s"].value)  # nothing whole


def test_lots_join_one_of_the_best_bids_and_take_nothing():
    market = load_market("us_equity")
    log = joined_orders(market, 40, 10_000)
    assert not log.filled_shares.any() and (log.quantity_shares == market.order.lot_shares).all()
    assert ((log.passive_shares > 0.0).any(axis=1).sum(axis=1) <= 1).all()  # each at one venue
    assert len(set((log.passive_shares > 0.0).any(axis=1).argmax(axis=1))) > 2  # ties are taken by turns
    assert log.decision.max() * log.step_s < JOIN_S
    first = log.decision == 0
    price, best = log.passive_price_bps, np.broadcast_to(log.bid_bps[:, :1, None], log.passive_price_bps.shape)
    filled = log.passive_shares > 0.0
    assert np.allclose(price[filled], best[filled], atol=1e-9) and first.any()


def test_nobody_fills_where_nothing_is_sold_and_the_price_stands_still():
    market = load_market("us_equity")
    still = market.price.model_copy(
        update={"volatility_bps_per_sqrt_s": 0.0, "drift_sd_bps_per_s": 0.0, "jumps_per_hour": 0.0}
    )
    volume = market.volume.model_copy(update={"shares_per_day": 1e-6})
    informed = market.informed.model_copy(update={"news_per_s": 0.0})
    market = market.model_copy(update={"price": still, "volume": volume, "informed": informed})
    assert join_statistics(joined_orders(market, 20, 10_000))["join_fill_percent"].value < 1e-3


@pytest.mark.parametrize("name", ["us_equity", "tick_bound"])
def test_the_more_is_known_the_worse_are_fills_at_rest(name):
    market = load_market(name)

    def markout(**informed):
        of = market.model_copy(update={"informed": market.informed.model_copy(update=informed)})
        return join_statistics(joined_orders(of, 600, 10_000))["join_markout_1s_bps"]

    nothing = markout(news_per_s=0.0, flow_foresight=0.0, flow_focus=1.0)
    news = markout(news_per_s=0.2, flow_foresight=0.0, flow_focus=1.0)
    sellers_who_know = markout(news_per_s=0.0, flow_foresight=0.85, flow_focus=12.0)
    assert nothing.low > 0.0  # part of the half-spread, since prices move
    assert nothing.low > news.high and nothing.low > sellers_who_know.high
