"""The replay of recorded quotes: worked by hand, mirrored, and free of look-ahead. No real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numba import njit

import sor_sb3
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator, standard_rules
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.pricing import OFFERS, make_offers, price_slices, sweep
from tests.market.quote_fixtures import START_NS, write_quotes, write_recording, write_table
from tests.simulator.records import orders_of, parameters_of, venues_of

Row = tuple[float, str, float, float, float, float]
CENTRE = 200.0  # prices are mirrored around half of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay")
    write_recording(path / "quotes.parquet", trades_path=path / "trades.parquet")
    return path


def replay(path: Path | ReplayMarket, **options: Any) -> ReplayMarket:
    market = load_market(path, **options)
    assert isinstance(market, ReplayMarket)
    return market


def begin(market: ReplayMarket, start_s: float, seed: int = 0) -> BatchSimulator:
    """One order whose window starts at `start_s` of the recording."""
    simulator = BatchSimulator(market, 1)
    windows = {"window_low_s": np.array([start_s]), "window_cumulative_s": np.zeros(2)}
    simulator.recording = simulator.recording._replace(**windows)
    simulator.reset(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.int64))
    return simulator


def random_rows(seed: int, duration_s: int = 600, begin_s: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for t in range(begin_s, begin_s + duration_s):
        for venue in ("A", "B"):
            bid = 100.0 + 0.01 * rng.integers(-6, 3)
            ask = bid + 0.01 * rng.integers(1, 6)
            size = 100.0 * rng.integers(1, 6, size=2)
            rows.append((t + float(rng.uniform(0.0, 0.99)), venue, bid, size[0], ask, size[1]))
    return rows


# ------------------------------------------------------------------------------------------ worked by hand


HAND: list[Row] = [
    (0.0, "A", 99.9, 300, 100.1, 100),
    (0.0, "B", 99.8, 100, 100.2, 200),
    (10.3, "B", 99.8, 100, 100.25, 50),  # 5 bps dearer and 150 shares less, before our child arrives at 10.5
    (10.5, "A", 100.0, 60, 100.2, 80),  # the mid moves from 100 to 100.1
    (11.2, "B", 0.0, 0, 0.0, 0),  # B stops quoting
    (12.5, "A", 100.0, 60, 100.3, 80),
    *[(float(t), "A", 100.0, 60, 100.3, 80) for t in range(100, 700, 100)],
]


@pytest.fixture
def hand(tmp_path: Path) -> ReplayMarket:
    write_quotes(tmp_path / "quotes.csv", HAND)
    trades = [(5.0, "A", 100), (9.0, "B", 40), (10.7, "A", 60)]
    write_table(
        tmp_path / "trades.csv",
        {
            "ts": [START_NS + round(t * 1e9) for t, _, _ in trades],
            "venue": [venue for _, venue, _ in trades],
            "px": [100.0] * len(trades),
            "sz": [float(size) for *_, size in trades],
        },
    )
    text = """
        model: replay
        quotes_file: quotes.csv
        trades_file: trades.csv
        order: {quantity_shares: 200, horizon_steps: 2, step_s: 1, limit: sweep}
        venues:
          - {name: A, latency_ms: 0, toxicity: 0, refill_half_life_s: 1}
          - {name: B, latency_ms: 500, latency_sigma: 0, toxicity: 0, take_fee_bps: 0.5, refill_half_life_s: 1}
        response: {cleanup_penalty_bps: 3, permanent_impact_bps_per_1000_shares: 0}
        volume_memory_half_life_s: 1
    """
    (tmp_path / "hand.yaml").write_text(text)
    return replay(tmp_path / "hand.yaml")


def test_a_replay_worked_by_hand(hand: ReplayMarket) -> None:
    sim = begin(hand, 10.0)
    order, (a, b) = orders_of(sim)[0], venues_of(sim)[0]
    assert (order["start_s"], order["arrival_mid_px"]) == (10.0, 100.0)
    assert order["signal"] == pytest.approx((400 - 300) / 700)  # more bids than offers: the price will rise
    assert (order["observed_mid_bps"], order["observed_spread_bps"]) == pytest.approx((0, 20))
    assert (order["price_bps"], order["next_price_bps"]) == pytest.approx((0, 10))
    assert [v["open"] for v in (a, b)] == [1, 1]
    assert [v["observed_offset_bps"] for v in (a, b)] == pytest.approx([10, 20])
    assert [v["observed_near_offset_bps"] for v in (a, b)] == pytest.approx([10, 20])
    assert [v["observed_shares"] for v in (a, b)] == [100, 200]
    assert [v["offset_bps"] for v in (a, b)] == pytest.approx([10, 20])
    assert [v["recent_volume_shares"] for v in (a, b)] == [10, 4]  # a step, over the last ten

    sim.step(np.array([[0.5, 0.5]]))  # 50 shares to each
    order, (a, b) = orders_of(sim)[0], venues_of(sim)[0]
    assert [v["filled_shares"] for v in (a, b)] == [50, 50]
    assert order["spread_cost"] == pytest.approx((50 * 10 + 50 * 20) / 200)
    assert order["impact_cost"] == pytest.approx(0, abs=1e-12)  # each paid the touch that it found
    assert order["fee_cost"] == pytest.approx(50 * 0.5 / 200)
    assert order["timing_cost"] == pytest.approx((50 * 5 + 100 * 10) / 200)  # B's move; the mid's, on the rest
    # the second decision, at 11 s: offsets are above the mid of now, in bps of the arrival mid
    assert (order["price_bps"], order["observed_mid_bps"], order["last_move_bps"]) == pytest.approx((10, 10, 10))
    assert [v["observed_offset_bps"] for v in (a, b)] == pytest.approx([10, 15])
    assert [v["offset_bps"] for v in (a, b)] == pytest.approx([10, 15])
    assert [v["quote_shares"] for v in (a, b)] == [80, 50]
    assert [v["observed_shares"] for v in (a, b)] == pytest.approx(
        [80, 50 * (1 - 0.5**0.5)]
    )  # A at another price; B refills
    assert [v["recent_volume_shares"] for v in (a, b)] == [0.5 * 10 + 0.5 * 60, 0.5 * 4]

    _, _, done = sim.step(np.array([[0.5, 0.5]]))
    order, (a, b) = orders_of(sim)[0], venues_of(sim)[0]
    assert done[0]
    assert [v["filled_shares"] for v in (a, b)] == [50, 0]  # B is gone at 11.5
    dearest = 25 + 0.5 - 0  # B's ask from 10.3 s on, above the mid of 100 until 10.5 s
    assert order["spread_cost"] == pytest.approx((50 * 10 + 50 * 20 + 50 * 10) / 200)
    assert order["impact_cost"] == pytest.approx(0, abs=1e-12)
    assert order["cleanup_shares"] == 50
    assert order["cleanup_cost"] == pytest.approx(50 * (dearest + 3) / 200)
    assert order["timing_cost"] == pytest.approx((50 * 5 + 100 * 10) / 200)  # the mid of 12 s is that of 11 s
    assert sim.reduced_cost()[0] == pytest.approx(sim.ledger()["shortfall"][0], abs=1e-12)  # nothing is left out


def test_a_child_takes_what_is_recorded_at_the_touch_and_no_more(hand: ReplayMarket) -> None:
    sim = begin(load_market(hand, {"order.quantity_shares": 600}), 10.0)
    sim.step(np.array([[1.0, 0.0]]))  # 300 shares for A's 100
    assert venues_of(sim)["filled_shares"][0].tolist() == [100, 0]
    sim = begin(load_market(hand, {"order.quantity_shares": 600, "order.limit": "touch"}), 10.0)
    sim.step(np.array([[0.0, 1.0]]))  # B has run away by 5 bps when the child arrives
    assert venues_of(sim)["filled_shares"][0].tolist() == [0, 0]


def test_stated_depth_lies_behind_the_touch(hand: ReplayMarket) -> None:
    deep = {"order.quantity_shares": 600, "level_profile": [1, 2, 4], "level_spacing_bps": 3}
    sim = begin(load_market(hand, deep), 10.0)
    sim.step(np.array([[0.9, 0.1]]))  # 270 of A's 100 + 200 + 400; 30 of B's 50
    order = orders_of(sim)[0]
    assert venues_of(sim)["filled_shares"][0].tolist() == pytest.approx([270, 30])
    assert order["impact_cost"] == pytest.approx(170 * 3 / 600)
    assert order["spread_cost"] == pytest.approx((270 * 10 + 30 * 20) / 600)
    limited = begin(load_market(hand, {**deep, "order.limit_offset_bps": 2}), 10.0)
    limited.step(np.array([[0.9, 0.1]]))
    assert venues_of(limited)["filled_shares"][0].tolist() == [100, 0]


def test_what_we_took_stays_taken_at_its_price_and_refills(tmp_path: Path) -> None:
    rows: list[Row] = [(0.0, "A", 99.9, 300, 100.1, 100), (0.0, "B", 99.9, 100, 100.2, 100)]
    rows += [(12.5, "A", 99.9, 300, 100.2, 100), (14.5, "A", 99.9, 300, 100.1, 100)]
    rows += [(float(t), "B", 99.9, 100, 100.2, 100) for t in range(100, 700, 100)]
    settings = {"order.quantity_shares": 800, "order.horizon_steps": 8, "order.step_s": 1, "venues.*.latency_ms": 0}
    market = load_market(write_quotes(tmp_path / "q.csv", rows), {**settings, "venues.*.refill_half_life_s": 2})
    sim = begin(replay(market), 10.0)
    left = []
    for _ in range(6):
        left.append(venues_of(sim)["observed_shares"][0, 0])
        sim.step(np.array([[1.0, 0.0] if len(left) == 1 else [0.0, 0.0]]))
    # at 10 s all; we take it; 11 s and 12 s refilled; 13 s and 14 s another price; 15 s back, refilled so far
    assert left == pytest.approx([100, 100 * (1 - 0.5**0.5), 50, 100, 100, 100 * (1 - 0.5**2.5)])


def test_a_sale_hits_the_bids(hand: ReplayMarket) -> None:
    sim = begin(replay(load_market(hand, {"order.side": "sell"})), 10.0)
    assert [v["observed_offset_bps"] for v in venues_of(sim)[0]] == pytest.approx([10, 20])
    assert [v["observed_shares"] for v in venues_of(sim)[0]] == [300, 100]
    assert orders_of(sim)["signal"][0] == pytest.approx(-(400 - 300) / 700)
    assert orders_of(sim)["next_price_bps"][0] == pytest.approx(-10)
    assert orders_of(sim)["arrival_mid_px"][0] == 100.0


def test_a_venue_without_a_quote_is_closed_and_finite(hand: ReplayMarket) -> None:
    sim = begin(hand, 11.1)
    sim.step(np.array([[0.0, 1.0]]))  # B is gone at 11.6, before the child arrives
    b = venues_of(sim)[0, 1]
    assert b["sent_shares"] == 100
    assert b["filled_shares"] == 0
    assert (b["open"], b["observed_shares"]) == (0, 0)  # at 12.1
    assert b["observed_ask_bps"] == pytest.approx(15, abs=0.02)  # as last heard
    sim = begin(hand, 50.0)  # never heard of: the dearest of the others
    assert [v["open"] for v in venues_of(sim)[0]] == [1, 0]
    assert venues_of(sim)["observed_offset_bps"][0, 1] == venues_of(sim)["observed_offset_bps"][0, 0] > 0
    assert orders_of(sim)["signal"][0] == pytest.approx((60 - 80) / 140)


def test_a_second_wave_sees_the_recording_of_its_moment(hand: ReplayMarket) -> None:
    waves = {"order.quantity_shares": 600, "order.waves": 2, "order.wave_timeout_ms": 900, "venues.A.latency_ms": 450}
    steady = {"venues.A.latency_sigma": 0, "venues.A.feed_latency_ms": 0, "venues.B.feed_latency_ms": 0}
    sim = begin(replay(load_market(hand, waves | steady)), 9.8)
    assert venues_of(sim)["observed_ask_bps"][0] == pytest.approx([10, 20])
    _, _, done = sim.step(np.array([[1.0, 0.0]]))  # 300 for A's 100; the answer comes at 10.7 s
    order, venues = orders_of(sim)[0], venues_of(sim)[0]
    assert not done[0]
    assert (order["wave"], order["returned_shares"]) == (1, 200)
    assert order["elapsed_ms"] == pytest.approx(900)
    assert venues["observed_ask_bps"] == pytest.approx([20, 25])
    assert venues["observed_shares"] == pytest.approx([80, 50])
    assert (order["observed_mid_bps"], order["mark_bps"]) == pytest.approx((10, 10))
    sim.step(np.array([[0.0, 1.0]]))  # B, at 11.2 s: gone
    assert (orders_of(sim)["step"][0], orders_of(sim)["wave"][0]) == (1, 0)
    assert venues_of(sim)["filled_shares"][0].tolist() == [0, 0]


def write_levels(path: Path) -> Path:
    """A's book has three levels at first, one of them at an odd distance, then two; B's has one."""
    none = (float("nan"), float("nan"))
    rows = [  # bid, ask, and further levels of price and size on each side
        (0.0, "A", (99.9, 300), (100.1, 100), [(99.8, 50), (99.5, 60)], [(100.15, 70), (100.4, 80)]),
        (0.0, "B", (99.8, 100), (100.2, 200), [none, none], [none, none]),
        (11.5, "A", (99.9, 300), (100.1, 100), [(99.8, 50), none], [(100.15, 90), none]),
        *((float(t), "B", (99.8, 100), (100.2, 200), [none, none], [none, none]) for t in range(100, 700, 100)),
    ]
    columns: dict[str, Any] = {
        "ts": [START_NS + round(row[0] * 1e9) for row in rows],
        "venue": [row[1] for row in rows],
    }
    for side, touch, further in (("bid", 2, 4), ("ask", 3, 5)):
        for level in range(3):
            quotes = [row[touch] if level == 0 else row[further][level - 1] for row in rows]
            number = "" if level == 0 else f"_{level + 1}"
            for k, what in enumerate(("px", "sz")):
                columns[f"{side}_{what}{number}"] = [float(quote[k]) for quote in quotes]
    return write_table(path, columns)


LEVELS = {
    "order.horizon_steps": 2,
    "order.step_s": 1,
    "order.limit": "sweep",
    "venues.*.latency_ms": 0,
    "venues.*.refill_half_life_s": 1,
    "venues.*.toxicity": 0,
}


def test_recorded_levels_are_paid_at_their_own_prices(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "levels.parquet")
    market = replay(load_market(path, LEVELS | {"order.quantity_shares": 400}))
    assert market.recorded_levels == 3
    sim = begin(market, 10.0)
    sim.step(np.array([[1.0, 0.0]]))  # 200 of A's 100 + 70 + 80
    order = orders_of(sim)[0]
    assert venues_of(sim)["filled_shares"][0].tolist() == pytest.approx([200, 0])
    assert order["spread_cost"] == pytest.approx(200 * 10 / 400)
    assert order["impact_cost"] == pytest.approx((70 * 5 + 30 * 30) / 400)
    sim.step(np.array([[1.0, 0.0]]))  # a half-life later half of what we took is back, at each price
    assert venues_of(sim)["filled_shares"][0].tolist() == pytest.approx([50 + 35 + (80 - 15), 0])
    assert orders_of(sim)["cleanup_shares"][0] == pytest.approx(50)
    assert orders_of(sim)["cleanup_cost"][0] == pytest.approx(50 * (40 + market.response.cleanup_penalty_bps) / 400)
    later = begin(market, 11.5)
    later.step(np.array([[1.0, 0.0]]))  # the third level is gone
    assert venues_of(later)["filled_shares"][0].tolist() == pytest.approx([190, 0])


def test_recorded_levels_obey_the_limit_and_mirror(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "levels.parquet")
    settings = LEVELS | {"order.quantity_shares": 400, "order.limit_offset_bps": 20}
    sim = begin(replay(load_market(path, settings)), 10.0)
    sim.step(np.array([[1.0, 0.0]]))
    assert venues_of(sim)["filled_shares"][0].tolist() == pytest.approx([170, 0])
    one = begin(replay(load_market(path, settings | {"recorded_levels": 1})), 10.0)
    one.step(np.array([[1.0, 0.0]]))
    assert venues_of(one)["filled_shares"][0].tolist() == pytest.approx([100, 0])
    settings |= {"order.side": "sell", "order.quantity_shares": 800}
    sale = begin(replay(load_market(path, settings)), 10.0)
    sale.step(np.array([[1.0, 0.0]]))  # 400 for A's 300 at 99.9, 50 at 99.8 and 60 at 99.5, which is too low
    assert venues_of(sale)["filled_shares"][0].tolist() == pytest.approx([350, 0])
    assert orders_of(sale)["impact_cost"][0] == pytest.approx(50 * 10 / 800)


def test_the_router_sees_recorded_levels(tmp_path: Path) -> None:
    market = load_market(write_levels(tmp_path / "levels.parquet"), LEVELS | {"order.quantity_shares": 600})
    core = RoutingCore("OrderSplit-v1", market, 1)
    windows = {"window_low_s": np.array([10.0]), "window_cumulative_s": np.zeros(2)}
    core.simulator.recording = core.simulator.recording._replace(**windows)
    core.seed([0])
    core.reset()
    # of 300 shares: 100 at 10 bps and 70 at 15 bps from A, then 130 of B's 200 at 20 bps, before A's third level
    offers = np.zeros(1, OFFERS)
    _price(core.simulator.kernel_state(), 300.0, offers)
    assert offers["swept_shares"][0, :2].tolist() == pytest.approx([170, 130])
    assert offers["depth_shares"][0, :2].tolist() == pytest.approx([250, 200])
    paid = 100 * 10 + 70 * 15 + 80 * 40 + 50 * 40  # the whole of it at A: what is not shown costs the dearest level
    assert offers["price_bps"][0, 0] == pytest.approx(paid / 300)


@njit
def _price(state: Any, wanted: float, offers: Any) -> None:
    block, fixed, market = state.blocks[0], state.venues[0], state.market[0]
    make_offers(block, 0, 1, fixed, market, state.recording, None, offers[0])
    price_slices(block, 0, 1, fixed, market, offers[0])
    sweep(block, 0, market.n_venues, wanted, fixed, market, offers[0])


# ------------------------------------------------------------------------------------------------ promises


def bare(market: ReplayMarket) -> ReplayMarket:
    """Nothing is stated in bps: no fee, no clean-up penalty."""
    return replay(load_market(market, {"response.cleanup_penalty_bps": 0}))


@pytest.mark.parametrize("latency_ms", [0.0, 400.0])
def test_a_purchase_is_a_sale_in_the_mirror(tmp_path: Path, latency_ms: float) -> None:
    rows = random_rows(3)
    mirrored = [(t, v, CENTRE - ask, ask_sz, CENTRE - bid, bid_sz) for t, v, bid, bid_sz, ask, ask_sz in rows]
    options = {"quantity_shares": 900, "horizon_steps": 6, "step_s": 2.0, "latency_ms": latency_ms, "crossed": "keep"}
    buy = bare(replay(write_quotes(tmp_path / "buy.parquet", rows), side="buy", **options))
    sell = bare(replay(write_quotes(tmp_path / "sell.parquet", mirrored), side="sell", **options))
    bought, sold = BatchSimulator(buy, 64), BatchSimulator(sell, 64)
    rng = np.random.default_rng(0)
    for sim in (bought, sold):
        sim.reset(np.arange(64, dtype=np.uint64), np.zeros(64, dtype=np.int64))
    for _ in range(6):
        weights = rng.dirichlet(np.ones(2), size=64)
        for sim in (bought, sold):
            sim.step(weights)
        np.testing.assert_allclose(venues_of(bought)["filled_shares"], venues_of(sold)["filled_shares"])
        np.testing.assert_allclose(orders_of(bought)["signal"], orders_of(sold)["signal"], atol=1e-12)
    # costs are in bps of the arrival mid, which the mirror moves: compare money
    for part, cost in bought.ledger().items():
        money = cost * orders_of(bought)["arrival_mid_px"]
        np.testing.assert_allclose(money, sold.ledger()[part] * orders_of(sold)["arrival_mid_px"], atol=1e-7)


@pytest.mark.parametrize("latency_ms", [0.0, 700.0])
def test_no_look_ahead(tmp_path: Path, latency_ms: float) -> None:
    """Rows after the last arrival of a step change nothing that the step fills, nor what was seen at it."""
    cut_s = 60.0
    past = [row for row in random_rows(4) if row[0] <= cut_s]
    markets = []
    for name, seed in (("one", 7), ("two", 8)):
        rows = past + [row for row in random_rows(seed) if row[0] > cut_s]
        path = write_quotes(tmp_path / f"{name}.parquet", rows)
        order = {"quantity_shares": 2000, "horizon_steps": 10, "step_s": 1.0}
        market = replay(path, latency_ms=latency_ms, crossed="keep", **order)
        venues = tuple(v.model_copy(update={"latency_sigma": 0.0}) for v in market.venues)
        markets.append(market.model_copy(update={"venues": venues, "price_scale_bps": 1.0}))
    cores = [RoutingCore("OrderSplit-v1", market, 1) for market in markets]
    start_s = cut_s - 4.8
    for core in cores:
        windows = {"window_low_s": np.array([start_s]), "window_cumulative_s": np.zeros(2)}
        core.simulator.recording = core.simulator.recording._replace(**windows)
        core.seed([0])
    seen = [core.reset() for core in cores]
    same = []
    for t in range(10):
        known = start_s + t + 1e-3 * latency_ms <= cut_s
        equal_view = np.array_equal(seen[0], seen[1])
        seen = [core.step(np.array([[0.4, 0.6]]))[0] for core in cores]
        fills = [venues_of(core.simulator).copy()[["filled_shares", "fill_cost"]].tolist() for core in cores]
        assert (equal_view and fills[0] == fills[1]) or not known, f"step {t}"
        same.append(fills[0] == fills[1])
    assert not all(same), "the rows after the cut must matter to some later step"


def test_what_is_recorded_does_not_depend_on_what_we_do(folder: Path) -> None:
    options = {"latency_ms": 20.0, "trades_file": folder / "trades.parquet"}
    market = replay(
        load_market(folder / "quotes.parquet", {"level_profile": [1, 2], "order.limit": "sweep"}, **options)
    )
    seen: list[list[np.ndarray]] = [[], []]
    for which in range(2):
        sim = BatchSimulator(market, 40)
        sim.reset(np.arange(40, dtype=np.uint64), np.zeros(40, dtype=np.int64))
        rng = np.random.default_rng(which)
        for _ in range(10):
            sim.step(rng.dirichlet(np.ones(3), size=40))
            fields = "observed_ask_bps observed_bid_bps observed_quote_shares price_bps latency_ms recent_volume_shares"
            seen[which] += [sim.read(name) for name in fields.split()]
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_of_one_equals_a_member_of_many(folder: Path) -> None:
    market = replay(folder / "quotes.parquet", trades_file=folder / "trades.parquet", latency_ms=20.0)
    many, one = BatchSimulator(market, 33, "test"), BatchSimulator(market, 1, "test")
    many.reset(np.arange(33, dtype=np.uint64), np.full(33, 2))
    one.reset(np.array([17], dtype=np.uint64), np.array([2]))
    weights = np.random.default_rng(1).dirichlet(np.ones(3), size=(20, 33))
    for t in range(20):
        many.step(weights[t])
        one.step(weights[t, 17:18])
        assert orders_of(many)[17].tobytes() == orders_of(one)[0].tobytes()
        assert venues_of(many)[17].tobytes() == venues_of(one)[0].tobytes()


def test_starts_cover_the_splits_evenly(folder: Path) -> None:
    market = replay(folder / "quotes.parquet")
    ends = {"train": 1080.0, "validation": 1350.0, "test": 1800.0}
    low = 0.0
    for split, high in ends.items():
        sim = BatchSimulator(market, 4000, split)
        sim.reset(np.arange(4000, dtype=np.uint64), np.zeros(4000, dtype=np.int64))
        start = (orders_of(sim)["start_s"] - low) / (high - 100.0 - low)
        assert -0.01 < start.min() < 0.01
        assert 0.98 < start.max() <= 1.0
        counts = np.histogram(start, bins=10, range=(0.0, 1.0))[0]
        assert np.all(np.abs(counts - 400) < 5 * 20)
        low = high


def shown_at(sim: BatchSimulator, times_s: np.ndarray) -> np.ndarray:
    """Size that each venue's recorded ask shows at times (N, K): looked up here, not by the simulator."""
    recording = sim.recording
    assert recording is not None
    shown = np.zeros_like(times_s)
    for k, rows in enumerate(recording.rows):
        own = slice(rows["first"], rows["last"])
        at = np.searchsorted(recording.time_s[own], times_s[:, k], side="right") - 1
        shown[:, k] = np.where(at < 0, 0.0, recording.ask_shares[own][at])
    return shown


def test_nothing_fills_that_is_not_recorded(folder: Path) -> None:
    """With a huge order, each venue gives no more than its display at arrival."""
    sim = BatchSimulator(replay(folder / "quotes.parquet", quantity_shares=1e7, latency_ms=50.0), 200)
    sim.reset(np.arange(200, dtype=np.uint64), np.zeros(200, dtype=np.int64))
    paid_bps_shares, fee_bps = np.zeros(200), parameters_of(sim)["take_fee_bps"]
    for _ in range(20):
        was_open, now_s = venues_of(sim)["open"], orders_of(sim)["start_s"] + 5.0 * orders_of(sim)["step"]
        shown = shown_at(sim, now_s[:, None] + 1e-3 * venues_of(sim)["latency_ms"])
        sim.step(np.full((200, 3), 1 / 3))
        assert (venues_of(sim)["filled_shares"] <= shown + 1e-9).all()
        assert (venues_of(sim)["filled_shares"][~was_open] == 0).all()
        paid_bps_shares += (venues_of(sim)["fill_cost"] * 1e7 - fee_bps * venues_of(sim)["filled_shares"]).sum(axis=1)
    assert (orders_of(sim)["cleanup_shares"] > 0).all()
    executed = 1e7 - orders_of(sim)["cleanup_shares"]
    fill_bps = paid_bps_shares / executed
    assert (orders_of(sim)["cleanup_cost"] * 1e7 / orders_of(sim)["cleanup_shares"] > fill_bps).all()


# -------------------------------------------------------------------------------------------------- faces


@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1"])
def test_gymnasium_accepts_a_replay(folder: Path, env_id: str) -> None:
    env = gym.make(f"sor_sb3:{env_id}", market=str(folder / "quotes.parquet"))
    check_env(env.unwrapped, skip_render_check=True)


def test_rules_and_oracle_run_on_every_split(folder: Path) -> None:
    market = replay(folder / "quotes.parquet", trades_file=folder / "trades.parquet", take_fee_bps={"NYSE": 0.3})
    assert "vwap" in standard_rules(market)
    for split in ("train", "validation", "test"):
        evaluator = Evaluator("OrderSplit-v1", market, 200, data_split=split)
        result = evaluator.evaluate(evaluator.policies(standard_rules(market)))
        assert result.blocks is not None
        assert all(np.isfinite(scores.cost).all() for scores in result.scores.values())
        assert result.names()[0] == "snapshot_oracle"
        assert result.difference("best_price", "round_robin").mean < 0


def test_vwap_needs_trades(folder: Path) -> None:
    market = replay(folder / "quotes.parquet")
    assert "vwap" not in standard_rules(market)
    with pytest.raises(UserError, match="--trades"):
        sor_sb3.routers.make("vwap", market)
