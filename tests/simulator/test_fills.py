"""Fills worked by hand: what a child takes of a book of three levels, and what that costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from plain_env import CounterDraws

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator

SEED, FIRST, SECOND = 5, np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
REACTION_MS = 0.5


def still_market(**parts: Any) -> SyntheticMarket:
    """A shows 100 shares at each of three levels, B the same a tick further away; a tick is 1 bps. Nothing moves.

    A is 1 ms away, B 2 ms. Round lots make all levels alike: a noise of 50 to 150 % of 100 shares is one lot.
    """
    still = {f"{what}_{speed}_sd": 0.0 for what in ("offset", "size") for speed in ("fast", "slow")}
    common = {"size_shares": 100.0, "latency_sigma": 0.0, "toxicity": 0.0, "refill_half_life_s": 2.0}
    values: dict[str, Any] = {
        "order": {"quantity_shares": 1000.0, "horizon_steps": 4, "step_s": 1.0, "limit": "sweep"},
        "venues": [
            {"name": "A", "offset_bps": 0.1, "latency_ms": 1.0, "take_fee_bps": 0.3, **common},
            {"name": "B", "offset_bps": 1.1, "latency_ms": 2.0, "take_fee_bps": -0.1, **common},
        ],
        "quotes": {"tick_bps": 1.0, "round_lot_shares": 100.0, "level_profile": [1.0, 1.0, 1.0], **still},
        "price": {"volatility_bps_per_sqrt_s": 0.0},
        "latency": {"tail_probability": 0.0},
        "response": {"reaction_time_ms": REACTION_MS, "cleanup_penalty_bps": 0.0},
    }
    for name, fields in parts.pop("venue", {}).items():
        next(venue for venue in values["venues"] if venue["name"] == name).update(fields)
    for part, fields in parts.items():
        values[part] = {**values.get(part, {}), **fields} if isinstance(fields, dict) else fields
    return SyntheticMarket.model_validate(values)


def begin(market: SyntheticMarket) -> tuple[BatchSimulator, float]:
    """A simulator at its first decision, and A's far touch above the midpoint at arrival: half its spread."""
    simulator = BatchSimulator(market, 1, "test")
    simulator.reset(np.array([SEED], np.uint64), np.zeros(1, np.int64))
    touch_bps = 0.5 * float(simulator.read("ask_ticks")[0, 0] - simulator.read("bid_ticks")[0, 0])
    assert simulator.read("ask_ticks")[0, 1] == simulator.read("ask_ticks")[0, 0] + 1
    return simulator, touch_bps


def fills(simulator: BatchSimulator) -> tuple[np.ndarray, np.ndarray]:
    """Shares and average prices (bps above the midpoint at arrival) of the last env step; (2,) each."""
    filled = simulator.read("filled_shares")[0]
    return filled, simulator.read("fill_value_bps")[0] / np.maximum(filled, 1e-300)


def test_each_level_is_paid_its_own_price():
    simulator, touch = begin(still_market())
    price_bps = float(simulator.read("mark_bps")[0])  # efficient, above the midpoint: what is left is marked at it
    simulator.step(FIRST)  # 250: 100 at the touch, 100 a tick higher, 50 two ticks higher
    filled, price = fills(simulator)
    assert filled[0] == 250.0
    assert price[0] == pytest.approx((100 * touch + 100 * (touch + 1) + 50 * (touch + 2)) / 250, abs=1e-12)
    ledger = simulator.ledger()
    share = 250 / 1000
    assert ledger["fee"][0] == pytest.approx(share * 0.3, abs=1e-12)
    assert ledger["impact"][0] == pytest.approx(share * (100 * 1 + 50 * 2) / 250, abs=1e-12)
    expected = share * touch + (1 - share) * price_bps
    assert ledger["spread"][0] + ledger["timing"][0] == pytest.approx(expected, abs=1e-12)


def test_within_the_displayed_size_the_touch_is_paid_exactly():
    simulator, touch = begin(still_market())
    simulator.step(FIRST, np.array([0.1]))
    filled, price = fills(simulator)
    assert filled[0] == 100.0 and price[0] == pytest.approx(touch, abs=1e-12)
    assert simulator.ledger()["impact"][0] == 0.0


def test_a_book_ends_with_its_last_level():
    simulator, _ = begin(still_market())
    simulator.step(FIRST, np.array([0.5]))
    assert fills(simulator)[0][0] == 300.0


def test_a_limit_of_a_tick_stops_after_the_second_level():
    simulator, touch = begin(still_market(order={"limit_offset_bps": 1.0}))
    simulator.step(FIRST)
    filled, price = fills(simulator)
    assert filled[0] == 200.0 and price[0] == pytest.approx(touch + 0.5, abs=1e-12)


def test_a_limit_at_the_touch_takes_the_touch_of_its_own_venue():
    simulator, touch = begin(still_market(order={"limit": "touch"}))
    simulator.step(np.array([[0.5, 0.5]]), np.array([0.4]))
    filled, price = fills(simulator)
    assert list(filled) == [100.0, 100.0] and price == pytest.approx([touch, touch + 1], abs=1e-12)


def test_protection_lets_no_child_through_a_quote_that_is_left_elsewhere():
    """B's touch is A's second level: a tie is no worse a price, the third level is."""
    market = still_market(order_protection=True)
    simulator, touch = begin(market)
    simulator.step(FIRST)
    filled, price = fills(simulator)
    assert filled[0] == 200.0 and price[0] == pytest.approx(touch + 0.5, abs=1e-12)
    simulator, _ = begin(market)
    simulator.step(SECOND)
    assert fills(simulator)[0][1] == 0.0, "A's better quote is left"


def test_protection_lets_a_sweep_of_both_touches_go_deeper():
    market = still_market(order_protection=True)
    simulator, touch = begin(market)
    simulator.step(np.array([[0.5, 0.5]]), np.array([0.5]))  # 250 each: both displays are taken whole
    filled, price = fills(simulator)
    assert list(filled) == [250.0, 250.0]
    average = (100 * 0 + 100 * 1 + 50 * 2) / 250
    assert price == pytest.approx([touch + average, touch + 1 + average], abs=1e-12)


def test_hidden_size_at_the_touch_is_paid_the_touch():
    market = still_market(venue={"A": {"hidden_fraction": 0.5}})
    draws = CounterDraws(market.venue_names, "test")
    draws.seed(SEED)
    draws.opening()
    hidden = -0.5 * 100.0 * math.log(draws.tick(0).u_hidden[0])
    assert 1.0 < hidden < 149.0
    simulator, touch = begin(market)
    simulator.step(FIRST)
    filled, price = fills(simulator)
    second, third = 100.0, max(250.0 - 200.0 - hidden, 0.0)
    second = 250.0 - 100.0 - hidden - third
    assert filled[0] == pytest.approx(250.0, abs=1e-9)
    assert price[0] == pytest.approx(touch + (second * 1 + third * 2) / 250, abs=1e-9)
    simulator.step(FIRST, np.array([0.1]))  # what was taken of it stays taken: refilled are shares at the touch
    touch_left = 100.0 * (1.0 - 2.0 ** (-1.0 / 2.0))
    assert fills(simulator)[0][0] <= 75.0 and touch_left < 75.0


def test_size_at_the_midpoint_is_met_first():
    market = still_market(venue={"A": {"mid_probability": 1.0, "mid_fraction": 0.5}})
    draws = CounterDraws(market.venue_names, "test")
    draws.seed(SEED)
    draws.opening()
    resting = -0.5 * 100.0 * math.log(draws.tick(0).u_mid[0])
    assert 1.0 < resting < 150.0
    simulator, touch = begin(market)
    simulator.step(FIRST)
    filled, price = fills(simulator)
    left = 250.0 - resting
    worth = (
        resting * 0.0 + 100.0 * touch + min(left - 100.0, 100.0) * (touch + 1) + max(left - 200.0, 0.0) * (touch + 2)
    )
    assert filled[0] == pytest.approx(250.0, abs=1e-9)
    assert price[0] == pytest.approx(worth / 250, abs=1e-9)


def test_fade_is_of_what_was_traded_elsewhere_and_from_the_top_downwards():
    """A fills 80 after 1 ms; at 2 ms B has answered with twice 80 (1 - exp(-1 / .5)): its touch, and of its second."""
    market = still_market(venue={"B": {"toxicity": 2.0}})
    simulator, touch = begin(market)
    simulator.step(np.array([[80.0, 140.0]]) / 220.0, np.array([0.22]))
    gone = 2.0 * 80.0 * (1.0 - math.exp(-1.0 / REACTION_MS))
    assert 100.0 < gone < 200.0
    second, third = 200.0 - gone, 140.0 - (200.0 - gone)
    filled, price = fills(simulator)
    assert filled == pytest.approx([80.0, 140.0], abs=1e-9)
    assert price[1] == pytest.approx((second * (touch + 2) + third * (touch + 3)) / 140.0, abs=1e-9)


def test_nobody_answers_a_child_that_did_not_fill():
    market = still_market(venue={"B": {"toxicity": 2.0}, "A": {"outages_per_hour": 0.0}})
    simulator, touch = begin(market)
    simulator.overwrite(outage=np.array([[1.0, 0.0]]))
    simulator.step(np.array([[80.0, 140.0]]) / 220.0, np.array([0.22]))
    filled, price = fills(simulator)
    assert list(filled) == pytest.approx([0.0, 140.0])
    assert price[1] == pytest.approx(touch + 1 + 40.0 / 140.0, abs=1e-9)


def test_news_against_us_takes_the_touch_until_it_is_quoted_anew():
    """Of 100 shares 60 are gone when a child comes after the news, and none before it."""
    market = still_market(informed={"removed_fraction": 0.6})
    for news_ms, touch_left in ((0.5, 40.0), (1.5, 100.0)):
        simulator, touch = begin(market)
        simulator.overwrite(news_ms=news_ms, news_bps=0.01, u_change=0.999)
        simulator.step(FIRST, np.array([0.2]))
        filled, price = fills(simulator)
        second = min(200.0 - touch_left, 100.0)
        third = 200.0 - touch_left - second
        assert filled[0] == pytest.approx(200.0)
        assert price[0] == pytest.approx(touch + (second + 2 * third) / 200.0, abs=1e-12)


def test_what_was_taken_is_refilled_with_the_half_life_at_its_own_price():
    """A second after 100 shares were taken, 100 (1 - 2**-.5) are back; the level behind it was never touched."""
    simulator, touch = begin(still_market())
    simulator.step(FIRST, np.array([0.1]))
    back = 100.0 * (1.0 - 2.0 ** (-1.0 / 2.0))
    shown = 100.0 * (1.0 - 2.0 ** (-(1.0 - 0.001) / 2.0))  # at the decision, a millisecond before the next child comes
    assert simulator.read("observed_shares")[0, 0] == pytest.approx(shown, abs=1e-9)
    simulator.step(FIRST, np.array([100.0 / 900.0]))
    filled, price = fills(simulator)
    assert filled[0] == pytest.approx(100.0)
    assert price[0] == pytest.approx(touch + (100.0 - back) / 100.0, abs=1e-9)


def test_impact_and_its_decay_by_hand():
    """100 shares at A push by .02 for good, .05 for now, of which a second later .05 2**-.1 is left."""
    response = {
        "permanent_impact_bps_per_1000_shares": 0.1,
        "transient_impact_bps_per_1000_shares": 0.25,
        "transient_half_life_s": 10.0,
    }
    simulator, touch = begin(still_market(venue={"A": {"impact": 2.0}}, response=response))
    price_bps = float(simulator.read("mark_bps")[0])
    cost = simulator.step(FIRST, np.array([0.1]))[0][0]
    push = 0.02 + 0.05 * 2.0**-0.1
    assert simulator.read("permanent_bps")[0] + simulator.read("transient_bps")[0] == pytest.approx(push, abs=1e-12)
    assert cost == pytest.approx(0.1 * (touch + 0.3) + 0.9 * (push + price_bps), abs=1e-12)
    simulator.step(SECOND, np.array([100.0 / 900.0]))
    assert fills(simulator)[1][1] == pytest.approx(touch + 1 + push, abs=1e-12)


def test_the_clean_up_costs_the_dearest_level_that_was_offered():
    market = still_market(order={"horizon_steps": 1, "limit": "touch"})
    simulator, touch = begin(market)
    simulator.step(FIRST)
    mid_less_price = -float(simulator.read("mark_bps")[0])
    worst = touch + 1 + 2 - 0.1 + mid_less_price  # B's third level, its fee, above the efficient price
    assert simulator.read("cleanup_shares")[0] == 900.0
    assert simulator.ledger()["cleanup"][0] == pytest.approx(0.9 * worst, abs=1e-12)


# ------------------------------------------------------------------------------------------------------ waves


def test_a_second_wave_offers_what_came_back_at_the_same_moment_of_the_path():
    market = still_market(order={"waves": 2, "limit": "touch"})
    simulator, touch = begin(market)
    done = simulator.step(FIRST)[2]  # 250 sent, 100 filled, 150 back after 2 ms
    assert not done[0] and simulator.read("wave")[0] == 1 and simulator.read("tick")[0] == 0
    assert simulator.read("elapsed_ms")[0] == pytest.approx(2.0)
    assert simulator.read("returned_shares")[0] == simulator.read("slice_shares")[0] == 150.0
    simulator.step(SECOND)
    filled, price = fills(simulator)
    assert list(filled) == [0.0, 100.0] and price[1] == pytest.approx(touch + 1, abs=1e-12)
    assert simulator.read("wave")[0] == 0 and simulator.read("tick")[0] == 1
    assert simulator.read("available_shares")[0] == 800.0


def test_a_wave_waits_for_its_last_child_and_no_longer_than_its_time_out():
    for timeout_ms, until_ms, back in ((50.0, 4.0, 300.0), (3.0, 3.0, 150.0)):
        market = still_market(order={"waves": 2, "limit": "touch", "wave_timeout_ms": timeout_ms})
        simulator, _ = begin(market)
        simulator.step(np.array([[0.5, 0.5]]), np.array([0.5]))
        assert simulator.read("elapsed_ms")[0] == pytest.approx(until_ms)
        assert simulator.read("returned_shares")[0] == pytest.approx(back)
        assert simulator.read("in_flight")[0] == (0 if until_ms == 4.0 else 1)


def test_a_wave_without_returns_is_followed_by_the_next_decision():
    simulator, _ = begin(still_market(order={"waves": 4}))
    simulator.step(FIRST, np.array([0.1]))
    assert simulator.read("wave")[0] == 0 and simulator.read("tick")[0] == 1


def test_a_wave_that_sends_nothing_lets_time_run():
    simulator, _ = begin(still_market(order={"waves": 4, "limit": "touch"}))
    simulator.step(FIRST)
    assert simulator.read("wave")[0] == 1
    simulator.step(np.zeros((1, 2)))
    assert simulator.read("wave")[0] == 0 and simulator.read("step")[0] == 1
    assert simulator.read("available_shares")[0] == 900.0
