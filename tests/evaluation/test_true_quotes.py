"""True quotes: those of the simulator itself, the same path whatever the step, and those of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.errors import UserError
from sor_sb3.evaluation.true_quotes import quiet_market, quotes_at, recorded_quotes, simulated_quotes, true_path
from sor_sb3.market.loading import load_market
from sor_sb3.market.quotes import load_quotes
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.random import seed_word
from sor_sb3.simulator.views import Truth
from tests.market.quote_fixtures import write_recording


def begun(market, n: int = 4, seed: int = 3) -> BatchSimulator:
    simulator = BatchSimulator(market, n, "test")
    simulator.reset(np.array([seed_word(seed + j) for j in range(n)], dtype=np.uint64), np.zeros(n, dtype=np.int64))
    return simulator


def test_quotes_are_those_that_the_state_has():
    simulator = begun(load_market("us_equity"))
    ask, bid, shares = quotes_at(simulator, np.zeros(4))
    truth = Truth(simulator)
    lit = truth.open & ~truth.dark
    grid = simulator.read("grid_bps")[:, None]
    np.testing.assert_allclose(ask[lit], (grid + truth.tick_bps[0] * truth.ask_ticks)[lit], rtol=1e-12)
    np.testing.assert_allclose(bid[lit], (grid + truth.tick_bps[0] * truth.bid_ticks)[lit], rtol=1e-12)
    np.testing.assert_array_equal(shares[lit], truth.quote_shares[lit])
    assert np.isnan(ask[~lit]).all() and (shares[~lit] == 0.0).all()


def test_a_quiet_market_has_the_path_that_an_order_meets():
    market = load_market("us_equity")
    quiet = simulated_quotes(market, 4, seed=3, duration_s=101.0)
    path = true_path(begun(market), 1.0)
    lit = [venue.dark is None for venue in market.venues]
    np.testing.assert_array_equal(quiet.ask_bps[:, :100], path.ask_bps[:, :100, lit])
    simulator, nothing = begun(market), np.zeros((4, market.n_venues))
    for decision in range(market.order.horizon_steps):
        np.testing.assert_array_equal(quotes_at(simulator, np.zeros(4))[0], path.ask_bps[:, 5 * decision])
        simulator.step(nothing, np.zeros(4))


def test_looking_ahead_leaves_the_simulator_as_it_is():
    simulator = begun(load_market("heldout/us_equity_varied"))
    before = {name: array.copy() for name, array in simulator.get_state().items()}
    true_path(simulator, 0.5, 10.0)
    for name, array in simulator.get_state().items():
        assert array.tobytes() == before[name].tobytes()


def test_a_finer_grid_holds_the_coarser_one():
    fine, coarse = (true_path(begun(load_market("us_equity")), spacing) for spacing in (0.25, 1.0))
    assert fine.grid_s == 0.25 and coarse.grid_s == 1.0
    np.testing.assert_array_equal(fine.mid_bps[:, ::4], coarse.mid_bps)


def test_a_quiet_market_keeps_its_clock_and_its_draws():
    market = load_market("heldout/us_equity_varied")
    quiet = quiet_market(market, 60.0, 1.0)
    assert quiet.path_dt_s == market.path_dt_s and quiet.order.step_s == pytest.approx(1.0)
    assert quiet.order.horizon_steps == 60 and quiet.order.waves == 1
    assert set(quiet.randomise) == {path for path in market.randomise if not path.startswith("order.")}


def test_only_synthetic_markets_have_paths():
    with pytest.raises(UserError, match="notebook market; expected a synthetic one"):
        simulated_quotes(load_market("notebook"), 2)


def test_a_recording_is_read_at_every_second(tmp_path):
    recording = load_quotes(write_recording(tmp_path / "quotes.parquet", duration_s=7200))
    paths = recorded_quotes(recording, block_s=600.0)
    assert paths.venue_names == recording.venues and paths.ask_bps.shape[1] == 600
    for block, second, k in ((0, 0, 0), (0, 77, 1), (paths.n - 1, 599, 0)):
        rows = slice(recording.first[k], recording.first[k + 1])
        start = [s + b * 600 for s, e in recording.segments for b in range(int((e - s) / 600))][block]
        row = np.searchsorted(recording.time_s[rows], start + second, side="right") - 1
        expected = recording.ask_px[rows][row] if row >= 0 else np.nan
        assert np.exp(paths.ask_bps[block, second, k] / 1e4) == pytest.approx(expected, nan_ok=True)
    with pytest.raises(UserError, match="give a shorter one"):
        recorded_quotes(recording, block_s=1e6)
    with pytest.raises(UserError, match="'NOWHERE' is not in the recording"):
        recorded_quotes(recording, ["NOWHERE"], block_s=600.0)
