"""One tiny market without chance, by hand: fills, walk, fade, fees, depletion, refill, impact, clean-up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.execution import displayed_shares
from tests.simulator.records import orders_of, venues_of

E1 = math.exp(-1.0)


def quiet_market(**response):
    """NEAR: 1 bps, fee .3, 100 shares, .1 ms. FAR: 2 bps, fee -.2, 200 shares, .3 ms, fades by e in .2 ms."""
    still = dict.fromkeys(("offset_fast_sd", "offset_slow_sd", "size_fast_sd", "size_slow_sd"), 0.0)
    common = {"latency_sigma": 0.0, "refill_half_life_s": 10.0}
    near = {"name": "NEAR", "take_fee_bps": 0.3, "offset_bps": 1.0, "size_shares": 100.0, "latency_ms": 0.1}
    far = {"name": "FAR", "take_fee_bps": -0.2, "offset_bps": 2.0, "size_shares": 200.0, "latency_ms": 0.3}
    return SyntheticMarket.model_validate(
        {
            "order": {"quantity_shares": 400.0, "horizon_steps": 2, "step_s": 10.0},
            "venues": [
                {**near, **common, "toxicity": 5.0, "walk_bps": 1.0},
                {**far, **common, "toxicity": 1.0, "walk_bps": 0.5},
            ],
            "quotes": still,
            "mid": {"volatility_bps_per_sqrt_s": 0.0},
            "latency": {"tail_probability": 0.0},
            "response": {
                "reaction_time_ms": 0.2,
                "permanent_impact_bps_per_1000_shares": 4.0,
                "cleanup_penalty_bps": 2.0,
                **response,
            },
        }
    )


def begin(market=None):
    simulator = BatchSimulator(market or quiet_market(), 1)
    simulator.reset(np.zeros(1, np.uint64), np.zeros(1, np.int64))
    return simulator


def test_two_steps_by_hand():
    simulator = begin()
    order, (near, far) = orders_of(simulator)[0], venues_of(simulator)[0]
    assert order["slice_shares"] == 200.0  # 400 shares in 2 steps

    # Step 1: 120 to NEAR, which has 100; 80 to FAR, which is .2 ms late: its 200 fade to 200/e = 73.6.
    cost, noise, done = simulator.step(np.array([[0.6, 0.4]]))
    fades_to = 200.0 * E1
    assert near["filled_shares"] == pytest.approx(100.0, rel=1e-12)
    assert far["filled_shares"] == pytest.approx(fades_to, rel=1e-12)
    filled = 100.0 + fades_to
    # touch, walk, fee
    assert near["fill_cost"] == pytest.approx(100.0 * (1.0 + 1.0 + 0.3) / 400.0, rel=1e-12)
    assert far["fill_cost"] == pytest.approx(fades_to * (2.0 + 0.5 - 0.2) / 400.0, rel=1e-12)
    assert near["fill_ratio"] == pytest.approx(0.7 + 0.3 * 100.0 / 120.0)
    push = 0.004 * filled  # bps, paid on what is still to be done
    remaining = 400.0 - filled
    assert order["remaining_shares"] == pytest.approx(remaining, rel=1e-12)
    first = (100.0 * 2.3 + fades_to * 2.3 + remaining * push) / 400.0
    assert cost[0] == pytest.approx(first, rel=1e-12) and noise[0] == 0.0 and not done[0]

    # Half of what we took is back after ten seconds; what was missed is carried forward.
    assert near["depleted_shares"] == pytest.approx(50.0, rel=1e-12)
    assert far["depleted_shares"] == pytest.approx(fades_to / 2.0, rel=1e-12)
    assert displayed_shares(simulator.kernel_state().blocks[0], 0) == pytest.approx(50.0, rel=1e-12)
    assert order["slice_shares"] == pytest.approx(remaining, rel=1e-12)

    # Step 2: all that is left to NEAR, which holds 50; it is the first to be reached, so nothing fades.
    cost, _, done = simulator.step(np.array([[1.0, 0.0]]))
    assert near["filled_shares"] == pytest.approx(50.0, rel=1e-12)
    assert far["filled_shares"] == 0.0 and done[0]
    swept = remaining - 50.0
    # The dearest all-in price on offer is 2.3, at NEAR (1 + 1 + .3) as at FAR (2 + .5 - .2); and the penalty.
    second = (50.0 * 2.3 + swept * (0.004 * 50.0) + swept * 4.3) / 400.0
    assert cost[0] == pytest.approx(second, rel=1e-12)
    assert order["cleanup_shares"] == pytest.approx(swept, rel=1e-12)

    ledger = {part: float(value[0]) for part, value in simulator.ledger().items()}
    assert ledger["spread"] == pytest.approx((150.0 * 1.0 + fades_to * 2.0) / 400.0, rel=1e-12)
    assert ledger["fee"] == pytest.approx((150.0 * 0.3 - fades_to * 0.2) / 400.0, rel=1e-12)
    pushes = remaining * push + swept * 0.2
    assert ledger["impact"] == pytest.approx((150.0 + fades_to * 0.5 + pushes) / 400.0, rel=1e-12)
    assert ledger["timing"] == 0.0
    assert ledger["cleanup"] == pytest.approx(swept * 4.3 / 400.0, rel=1e-12)
    assert ledger["shortfall"] == pytest.approx(first + second, rel=1e-12)
    # The same from the tape: prices against the arrival mid, our own lasting push included.
    tape = 100.0 * 2.0 + fades_to * 2.5 + 50.0 * (2.0 + push)
    assert order["fill_value_bps_shares"] == pytest.approx(tape, rel=1e-12)
    assert order["cleanup_value_bps_shares"] == pytest.approx(swept * (4.3 + push + 0.2), rel=1e-12)


def test_fade_counts_from_the_first_child_of_ours():
    """Alone, FAR does not fade: others react to our first child, and it is the first."""
    simulator = begin()
    simulator.step(np.array([[0.0, 1.0]]))
    assert venues_of(simulator)[0]["filled_shares"][1] == pytest.approx(200.0, rel=1e-12)


def test_the_nearer_venue_never_fades_however_toxic():
    simulator = begin()
    simulator.step(np.array([[0.25, 0.75]]))
    assert venues_of(simulator)[0]["filled_shares"][0] == 50.0


def test_a_partial_fill_walks_in_proportion():
    simulator = begin()
    simulator.step(np.array([[0.25, 0.75]]))
    near = venues_of(simulator)[0][0]
    assert near["fill_cost"] * 400.0 / 50.0 == pytest.approx(1.0 + 1.0 * 50.0 / 100.0 + 0.3, rel=1e-12)


def test_pace_sends_a_share_of_the_remainder_and_may_finish_early():
    simulator = begin()
    simulator.step(np.array([[1.0, 0.0]]), np.array([0.1]))
    assert venues_of(simulator)[0]["sent_shares"][0] == 40.0 and orders_of(simulator)[0]["remaining_shares"] == 360.0
    small = quiet_market()
    small = small.model_copy(update={"order": small.order.model_copy(update={"quantity_shares": 50.0})})
    simulator = begin(small)
    _, _, done = simulator.step(np.array([[1.0, 0.0]]), np.array([1.0]))
    assert done[0] and orders_of(simulator)[0]["cleanup_shares"] == 0.0
    assert orders_of(simulator)[0]["step"] == 1


def test_a_pace_of_zero_waits_and_all_is_swept_at_the_deadline():
    simulator = begin()
    total = 0.0
    for _ in range(2):
        cost, _, done = simulator.step(np.array([[1.0, 0.0]]), np.array([0.0]))
        total += cost[0]
    assert done[0] and total == pytest.approx(4.3, rel=1e-12)
    assert simulator.ledger()["cleanup"][0] == total


def test_touches_lie_on_ticks_round_a_mid_between_two():
    data = quiet_market().model_dump()
    data["quotes"]["tick_bps"] = 1.0
    for offset, touch in ((0.1, 0.5), (0.99, 0.5), (1.01, 1.5), (2.4, 2.5)):
        data["venues"][0]["offset_bps"] = offset
        assert venues_of(begin(SyntheticMarket.model_validate(data)))[0]["offset_bps"][0] == touch
