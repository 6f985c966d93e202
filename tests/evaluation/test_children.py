"""The child-order log against the simulator's own books, and against orders traced one by one."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.evaluation.children import REFERENCE_PRICE, ChildLog, ChildRecorder, take_fees_bps
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.simulator.views import Truth
from tests.market.quote_fixtures import write_recording

NAMES = ("all_in_sized", "pro_rata", "round_robin", "random")


def recorded(name: str, market: object = "us_equity", env: str = "OrderSplit-v0", n: int = 12) -> tuple:
    evaluator = Evaluator(env, market, n)
    scores = evaluator.score(name, name, record=True)
    assert scores.children is not None
    return evaluator, scores, scores.children


@pytest.mark.parametrize("env", ["VenueSelect-v0", "OrderSplit-v0"])
@pytest.mark.parametrize("name", NAMES)
def test_shares_are_conserved_and_agree_with_the_simulators_totals(name, env):
    evaluator, _, log = recorded(name, env=env)
    truth = Truth(evaluator.core.simulator)
    np.testing.assert_allclose(log.sent_shares.sum(axis=1), truth.episode_sent_shares, rtol=1e-12)
    np.testing.assert_allclose(log.filled_shares.sum(axis=1), truth.episode_filled_shares, rtol=1e-12)
    np.testing.assert_allclose(log.filled_shares.sum(axis=(1, 2)) + log.cleanup_shares, log.quantity_shares, rtol=1e-12)
    assert (np.isfinite(log.price_bps) == (log.filled_shares > 0)).all()
    assert (log.shown_shares[~log.open] == 0).all() and np.isnan(log.touch_bps[~log.open]).all()


@pytest.mark.parametrize("name", NAMES)
def test_prices_and_fees_add_up_to_the_ledger(name):
    evaluator, scores, log = recorded(name)
    truth = Truth(evaluator.core.simulator)
    value = np.where(log.filled_shares > 0, log.filled_shares * log.price_bps, 0).sum(axis=(1, 2))
    np.testing.assert_allclose(value, truth.fill_value_bps_shares, rtol=1e-9, atol=1e-6)
    fees = (log.filled_shares * log.fee_bps[:, None]).sum(axis=(1, 2)) / log.quantity_shares
    np.testing.assert_allclose(fees, scores.parts["fee"][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(log.shortfall, scores.cost[0])


def test_mids_link_the_steps_and_prices_lie_above_the_touch():
    _, _, log = recorded("all_in_sized")
    assert (log.mid_bps[:, 0] == 0).all() and np.isfinite(log.mid_bps).all()
    filled = log.filled_shares > 0
    arrival_touch = log.touch_bps + log.touch_move_bps
    assert (log.price_bps[filled] >= arrival_touch[filled] - 1e-9).all()


def test_recording_changes_no_score_and_is_dropped_after_each():
    evaluator = Evaluator("OrderSplit-v0", "us_equity", 10)
    plain = evaluator.evaluate(evaluator.policies(NAMES))
    seen: list[ChildLog] = []
    told = evaluator.evaluate(evaluator.policies(NAMES), each=lambda scores: seen.append(scores.children))
    assert len(seen) == len(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(plain.scores[name].cost, told.scores[name].cost)
        np.testing.assert_array_equal(plain.scores[name].latency_ms, told.scores[name].latency_ms)
        assert told.scores[name].children is plain.scores[name].children is None


def test_seeds_follow_each_other_in_one_log():
    evaluator = Evaluator("OrderSplit-v0", "us_equity", 6)
    both = evaluator.score("x", ["all_in_sized", "pro_rata"], record=True).children
    two = [evaluator.score(name, name, record=True).children for name in ("all_in_sized", "pro_rata")]
    assert both.n_orders == 12
    for i, one in enumerate(two):
        part = both.select(slice(6 * i, 6 * i + 6))
        np.testing.assert_array_equal(part.price_bps, one.price_bps)
        np.testing.assert_array_equal(part.mid_bps, one.mid_bps)
        assert part.venue_names == one.venue_names


def test_an_order_done_early_is_logged_no_further():
    evaluator = Evaluator("OrderSplit-v0", "us_equity", 4)
    evaluator.start()
    simulator = evaluator.core.simulator
    recorder = ChildRecorder(simulator)
    weights = np.full((4, simulator.market.n_venues), 1 / simulator.market.n_venues)
    for _ in range(20):
        recorder.before()
        simulator.step(weights, np.ones(4))
        recorder.after()
    log = recorder.log()
    done = ~log.active
    assert done.any()
    assert (log.sent_shares[done] == 0).all() and (log.filled_shares[done] == 0).all()
    assert np.isnan(log.mid_bps[:, 1:][done]).all() and np.isfinite(log.mid_bps[:, 1:][log.active]).all()


def test_prices_of_a_recording_come_with_its_arrival_mid(tmp_path):
    _, _, log = recorded("all_in_sized", str(write_recording(tmp_path / "quotes.parquet", duration_s=7200)), n=5)
    assert (log.arrival_mid_px != REFERENCE_PRICE).all() and (log.arrival_mid_px > 0).all()
    assert (recorded("all_in_sized", n=2)[2].arrival_mid_px == REFERENCE_PRICE).all()


def test_fees_are_read_per_member_wherever_they_are_kept():
    simulator = Evaluator("OrderSplit-v0", "us_equity", 3).core.simulator
    shared = take_fees_bps(simulator)
    assert shared.shape == (3, 10) and (shared == shared[0]).all()
    drawn = Evaluator("OrderSplit-v0", "heldout/us_equity_varied", 3)
    drawn.start()
    assert len(np.unique(take_fees_bps(drawn.core.simulator))) == 21
