"""The child-order log against the simulator's own books, and against orders traced one by one."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.evaluation.children import REFERENCE_PRICE, ChildLog, ChildRecorder, take_fees_bps
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.market.loading import load_market
from sor_sb3.simulator.views import Truth
from tests.market.quote_fixtures import write_recording

NAMES = ("all_in_sized", "pro_rata", "round_robin", "random")


def recorded(name: str, market: object = "us_equity", env: str = "OrderSplit-v1", n: int = 12) -> tuple:
    evaluator = Evaluator(env, market, n)
    scores = evaluator.score(name, name, record=True)
    assert scores.children is not None
    return evaluator, scores, scores.children


@pytest.mark.parametrize("env", ["VenueSelect-v1", "OrderSplit-v1"])
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


def test_prints_are_those_of_the_ledger_and_nothing_is_filled_below_the_touch_but_at_the_midpoint():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 12)
    observations, recorder = evaluator.start(), ChildRecorder(evaluator.core.simulator)
    prints = 0
    policy = evaluator.policies(["pro_rata"])["pro_rata"]
    for decision in rollout(evaluator.core, policy, observations):
        recorder.before()
        decision.take()
        recorder.after()
        found = recorder.prints
        filled = np.where(recorder._steps[-1]["active"][:, None], Truth(evaluator.core.simulator).filled_shares, 0.0)
        np.testing.assert_allclose(found.filled_shares, filled, rtol=1e-9, atol=1e-9)
        value = np.nansum(found.shares * found.price_bps, axis=2) + filled * recorder.push_bps[:, None]
        paid = np.where(filled > 0.0, Truth(evaluator.core.simulator).fill_value_bps, 0.0)
        np.testing.assert_allclose(value, paid, rtol=1e-9, atol=1e-6)
        levels = found.price_bps[..., 1:]
        assert not (levels < recorder.books.books["touch_bps"][..., None] - 1e-9).any()
        prints += int((found.shares > 0.0).sum())
    assert prints > 500


def test_rows_are_env_steps_with_their_decision_and_wave():
    _, _, log = recorded("dark_then_sweep")
    assert log.wave.max() == 1
    for i in range(log.n_orders):
        steps = [(int(d), int(w)) for d, w, a in zip(log.decision[i], log.wave[i], log.active[i], strict=True) if a]
        assert steps == sorted(set(steps)) and steps[0] == (0, 0)
    later = log.active & (log.wave > 0)
    assert (log.elapsed_ms[later] > 0.0).all() and (log.elapsed_ms[log.wave == 0] == 0.0).all()
    ends = log.end_s[:, :-1][later[:, 1:]]
    np.testing.assert_array_equal(ends, log.time_s[:, 1:][later[:, 1:]])


def test_the_true_midpoint_begins_at_the_arrival_price_and_is_that_of_the_path():
    _, _, log = recorded("all_in_sized")
    assert (log.mid_bps[:, 0] == 0).all() and np.isfinite(log.mid_bps[log.active]).all()
    first = log.active & (log.wave == 0)
    before = np.concatenate([np.zeros((log.n_orders, 1)), (log.permanent_bps + log.transient_bps)[:, :-1]], axis=1)
    at = np.round(log.time_s / log.path_grid_s).astype(int)
    path = np.take_along_axis(log.path_mid_bps, np.minimum(at, log.path_mid_bps.shape[1] - 1), axis=1)
    np.testing.assert_allclose((log.mid_bps - before)[first], path[first], rtol=0, atol=1e-9)


def test_with_protection_nearly_nothing_trades_through_and_without_it_much_does():
    through = {}
    for protected in (True, False):
        market = load_market("us_equity")
        order = market.order.model_copy(update={"limit": "sweep", "limit_offset_bps": 20.0})
        market = market.model_copy(update={"order_protection": protected, "order": order})
        _, _, log = recorded("round_robin", market, n=40)
        through[protected] = log.through_shares.sum() / log.filled_shares.sum()
        assert (log.excused_shares <= log.through_shares + 1e-9).all()
    assert through[True] < 0.01 and through[False] > 0.2


def test_recording_changes_no_score_and_is_dropped_after_each():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 10)
    plain = evaluator.evaluate(evaluator.policies(NAMES))
    seen: list[ChildLog] = []
    told = evaluator.evaluate(evaluator.policies(NAMES), each=lambda scores: seen.append(scores.children))
    assert len(seen) == len(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(plain.scores[name].cost, told.scores[name].cost)
        np.testing.assert_array_equal(plain.scores[name].latency_ms, told.scores[name].latency_ms)
        assert told.scores[name].children is plain.scores[name].children is None


def test_seeds_follow_each_other_in_one_log():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 6)
    both = evaluator.score("x", ["all_in_sized", "pro_rata"], record=True).children
    two = [evaluator.score(name, name, record=True).children for name in ("all_in_sized", "pro_rata")]
    assert both.n_orders == 12
    for i, one in enumerate(two):
        part = both.select(slice(6 * i, 6 * i + 6))
        steps = one.active.shape[1]  # the other may have more
        np.testing.assert_array_equal(part.price_bps[:, :steps], one.price_bps)
        np.testing.assert_array_equal(part.mid_bps[:, :steps], one.mid_bps)
        assert not part.active[:, steps:].any() and np.isnan(part.price_bps[:, steps:]).all()
        assert part.venue_names == one.venue_names


def test_an_order_done_early_is_logged_no_further():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 4)
    evaluator.start()
    simulator = evaluator.core.simulator
    recorder = ChildRecorder(simulator)
    weights = np.full((4, simulator.market.n_venues), 1 / simulator.market.n_venues)
    for _ in range(20):  # all at once, so that some are done early
        recorder.before()
        simulator.step(weights, np.ones(4))
        recorder.after()
    log = recorder.log()
    done = ~log.active
    assert done.any()
    assert (log.sent_shares[done] == 0).all() and (log.filled_shares[done] == 0).all()
    assert np.isnan(log.mid_bps[done]).all() and np.isfinite(log.mid_bps[log.active]).all()


def test_prices_of_a_recording_come_with_its_arrival_mid(tmp_path):
    _, _, log = recorded("all_in_sized", str(write_recording(tmp_path / "quotes.parquet", duration_s=7200)), n=5)
    assert (log.arrival_mid_px != REFERENCE_PRICE).all() and (log.arrival_mid_px > 0).all()
    assert (recorded("all_in_sized", n=2)[2].arrival_mid_px == REFERENCE_PRICE).all()


def test_fees_are_read_per_member_wherever_they_are_kept():
    simulator = Evaluator("OrderSplit-v1", "us_equity", 3).core.simulator
    shared = take_fees_bps(simulator)
    assert shared.shape == (3, 10) and (shared == shared[0]).all()
    drawn = Evaluator("OrderSplit-v1", "heldout/us_equity_varied", 3)
    drawn.start()
    assert len(np.unique(take_fees_bps(drawn.core.simulator))) == 21
