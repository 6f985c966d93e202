"""The desk's observations are the env's, byte for byte: synthetic and recorded markets, every env, rules and ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from stable_baselines3 import PPO

from sor_sb3 import routers
from sor_sb3.algorithms.onnx_export import onnx_bytes
from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.live import (
    Arrival,
    Cancel,
    Child,
    Latency,
    ObservationBuilder,
    Post,
    Quote,
    Recorder,
    Trade,
    events_of,
)
from sor_sb3.market.loading import load_market
from tests.market.quote_fixtures import write_recording, write_table

SELECT, SPLIT, EXECUTE, PLACE = "VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"
OVERBOOKED = {"order.overbooking.most_ratio": 1.5, "order.overbooking.overfill_cost_bps": 2.0}
Actions = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live")
    table = pq.read_table(write_recording(path / "quotes.parquet", trades_path=path / "trades.parquet"))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    for level, (away, shares) in enumerate([(0.01, 200.0), (0.03, 300.0)], 2):
        columns |= {
            f"{side}_px_{level}": columns[f"{side}_px"] + sign * away for side, sign in (("bid", -1), ("ask", 1))
        }
        columns |= {f"{side}_sz_{level}": np.full(len(table), shares) for side in ("bid", "ask")}
    write_table(path / "deep.parquet", columns)
    return path


def recorded(folder: Path, **changes: Any) -> Any:
    """A recording; with `levels`, books behind the touch are assumed, with `deep` they are recorded."""
    levels, file = changes.pop("levels", False), "deep.parquet" if changes.pop("deep", False) else "quotes.parquet"
    settings: dict[str, Any] = {
        "order": {"quantity_shares": 3000, "horizon_steps": 15, "step_s": 2, "lot_shares": 100, **changes},
        "response": {"permanent_impact_bps_per_1000_shares": 0.5},
        **({"level_profile": [1, 1.5, 2]} if levels else {}),
    }
    market = load_market(folder / file, trades_file=folder / "trades.parquet")
    return type(market).model_validate(
        {**market.model_dump(), **settings, "order": {**market.order.model_dump(), **settings["order"]}}
    )


def random_actions(core: RoutingCore, seed: int = 0) -> Actions:
    """Now greedy, now patient; of those that rest, most of what is left rests."""
    rng = np.random.default_rng(seed)

    def act(rows: np.ndarray) -> np.ndarray:
        if core.env_id == SELECT:
            return rng.integers(core.market.n_venues, size=core.n)
        actions = rng.uniform(-1, 1, (core.n, *core.action_adapter.shape)).astype(np.float32)
        if core.env_id == PLACE:
            actions[:, -1] = rng.uniform(-1, -0.6, core.n)
        return actions

    return act


def named(market: Any, feature: int) -> str:
    g, f = len(MARKET_FEATURES), len(VENUE_FEATURES)
    if feature < g:
        return MARKET_FEATURES[feature]
    return f"{market.venue_names[(feature - g) // f]} {VENUE_FEATURES[(feature - g) % f]}"


def play(core: RoutingCore, actions: Actions, decisions: int, policy: Any = None, **options: Any) -> int:
    """Play episodes through builders until so many decisions are compared; how many there were.

    With a `policy`, it answers the builder's rows and the env's, and the env plays the latter's actions.
    """
    recorder, compared = Recorder(core), 0
    builders = [ObservationBuilder(core.market, core.env_id, **options) for _ in range(core.n)]
    while compared < decisions:
        heard = recorder.begin()
        while recorder.running.any():
            rows = recorder.observations
            sent = actions(rows) if policy is None else policy.predict(rows)[0]
            for m in np.flatnonzero(recorder.running).tolist():
                *events, clock = heard[m]
                for event in events:
                    builders[m].hear(event)
                assert builders[m].due_s == pytest.approx(clock.time_s, abs=1e-9)
                row = builders[m].observe(clock)
                wrong = np.flatnonzero(row.view(np.int32) != rows[m].view(np.int32))
                told = [(named(core.market, i), row[i], rows[m][i]) for i in wrong[:6].tolist()]
                assert not told, f"{core.market.name}, member {m} at {clock.time_s} s: {told}"
                action = sent[m]
                if policy is not None:
                    action, _ = policy.predict(row)
                    np.testing.assert_allclose(action, sent[m], atol=1e-6)
                builders[m].act(sent[m])
                compared += 1
            heard = recorder.step(sent)
    return compared


def begun(env: str, market: Any, n: int = 4, seed: int = 0, data_split: str = "test") -> RoutingCore:
    core = RoutingCore(env, market, n, data_split)
    core.seed(list(range(seed, seed + n)))
    return core


CASES = [
    (SPLIT, "us_equity"),
    (EXECUTE, "dark"),
    (PLACE, "tick_bound"),
    (PLACE, "us_equity"),
    (EXECUTE, "crypto"),
    (SPLIT, "fx_two_dealer"),
    (SELECT, "heldout/europe_equity"),
    (EXECUTE, "heldout/us_equity_varied"),
]


@pytest.mark.parametrize(("env", "market"), CASES)
def test_rows_are_those_of_the_env(env, market):
    core = begun(env, market)
    play(core, random_actions(core), 60)


RECORDED = [
    (EXECUTE, {}),
    (SPLIT, {"side": "sell", "waves": 2, "wave_timeout_ms": 30}),
    (PLACE, {"side": "sell"}),
    (EXECUTE, {"limit": "sweep", "deep": True}),
    (PLACE, {"limit": "sweep", "limit_offset_bps": 2.5, "deep": True, "side": "sell"}),
    (EXECUTE, {"limit": "sweep", "levels": True, "waves": 2, "wave_timeout_ms": 30}),
]


@pytest.mark.parametrize(("env", "changes"), RECORDED)
def test_rows_of_recordings_are_those_of_the_env(env, changes, folder):
    core = begun(env, recorded(folder, **changes))
    assert play(core, random_actions(core), 60) >= 60


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        (EXECUTE, {"venues.*.halts_per_hour": 200.0, "venues.*.outages_per_hour": 200.0}),
        (EXECUTE, {"venues.*.latency_ms": 1500.0, "venues.*.feed_latency_ms": 900.0}),  # answers come decisions later
        (PLACE, {**OVERBOOKED, "venues.*.latency_ms": 300.0}),
        (SPLIT, {"order.limit": "sweep", "order.limit_offset_bps": 3.0, "order_protection": False}),
        (EXECUTE, {"order.limit": "sweep", "order.synchronise_arrivals": True}),
    ],
)
def test_rows_in_hard_times(env, settings):
    core = begun(env, load_market("us_equity", settings))
    play(core, random_actions(core, 1), 60)


def test_orders_of_drawn_sizes():
    ranges = {"order.quantity_shares": [2000.0, 8000.0], "order.horizon_steps": [5, 20]}
    core = begun(EXECUTE, load_market("us_equity", {"randomise": ranges}))
    play(core, random_actions(core), 60)


@cache
def exported(env: str, market: str) -> OnnxPolicy:
    """An untrained network's policy, as good as any for equality."""
    venv = make_vec_env(env, market=market, n_envs=1, seed=0)
    return OnnxPolicy(onnx_bytes(PPO("MlpPolicy", venv, device="cpu", seed=0)))


@pytest.mark.parametrize("env", [SPLIT, EXECUTE, PLACE])
def test_onnx_answers_the_builder_as_the_env(env):
    core = begun(env, "us_equity")
    play(core, random_actions(core), 60, exported(env, "us_equity"))


@pytest.mark.slow
def test_ten_thousand_decisions(folder):
    """Synthetic and recorded scenarios, by chance and by ONNX, in every env that a desk would run."""
    compared = 0
    for seed, (env, market) in enumerate([*CASES[:5], (PLACE, "dark"), (EXECUTE, "us_equity")]):
        core = begun(env, market, n=16, seed=1000 * seed)
        compared += play(core, random_actions(core, seed), 1000)
    for env, changes in RECORDED:
        core = begun(env, recorded(folder, **changes), n=8)
        compared += play(core, random_actions(core), 500)
    for env in (SPLIT, EXECUTE, PLACE):
        core = begun(env, "us_equity", n=8, seed=50_000)
        compared += play(core, random_actions(core), 500, exported(env, "us_equity"))
    assert compared > 10_000


# --------------------------------------------------------------------------------------------- what it sends


def test_children_are_those_of_the_env():
    core = begun(EXECUTE, "us_equity", n=1)
    recorder, builder = Recorder(core), ObservationBuilder("us_equity", EXECUTE)
    heard, actions = recorder.begin()[0], random_actions(core)
    sent_before = 0
    while heard:
        for event in heard[:-1]:
            builder.hear(event)
        builder.observe(heard[-1])
        action = actions(recorder.observations)
        children = builder.act(action[0])
        heard = recorder.step(action)[0]
        sent = core.simulator.read("sent_shares")[0]
        if recorder.running[0]:
            wanted = {name: n for name, n in zip(core.market.venue_names, sent.tolist(), strict=True) if n > 0.0}
            assert {child.venue: child.shares for child in children} == pytest.approx(wanted, rel=1e-12)
        sent_before += len(children)
    assert sent_before > 10
    assert builder.due_s is None or builder.is_done or not recorder.running[0]


def test_orders_that_rest_are_posted_and_cancelled():
    core = begun(PLACE, "us_equity", n=1)
    recorder, builder = Recorder(core), ObservationBuilder("us_equity", PLACE)
    heard, k, kinds = recorder.begin()[0], core.market.n_venues, set[type]()
    for step in range(8):
        for event in heard[:-1]:
            builder.hear(event)
        builder.observe(heard[-1])
        action = np.full((1, 2 * k + 1), -1.0, dtype=np.float32)
        if step % 2 == 0:  # some rest at the first venue, then none
            action[0, k] = 0.05
        orders = builder.act(action[0])
        kinds |= {type(order) for order in orders}
        for post in (order for order in orders if isinstance(order, Post)):
            assert post.venue == core.market.venue_names[0]
            assert post.order == core.simulator.read("step")[0] + 1
            assert post.price is not None
        heard = recorder.step(action)[0]
        if not heard:
            break
    assert kinds == {Post, Cancel}


def test_a_limit_is_a_price_of_the_feed(folder):
    """A child that pays at most the touch of its venue says that very price, not one a rounding below it."""
    market = recorded(folder)
    core = begun(SPLIT, market, n=1)
    recorder, builder = Recorder(core), ObservationBuilder(market, SPLIT)
    *events, clock = recorder.begin()[0]
    asks = {event.venue: event.ask for event in events if isinstance(event, Quote)}
    for event in events:
        builder.hear(event)
    builder.observe(clock)
    children = [order for order in builder.act(np.ones(3, dtype=np.float32)) if isinstance(order, Child)]
    assert {child.venue: child.limit for child in children} == {child.venue: asks[child.venue] for child in children}


# ------------------------------------------------------------------------------- what is derived, without the env


def raw_events(market: Any, core: RoutingCore) -> tuple[list[Any], float]:
    """A recording's own rows as a desk hears them without delay, and the arrival's midpoint."""
    recording, start_s = core.simulator.recording, float(core.simulator.read("start_s")[0])
    assert recording is not None
    found: list[Any] = []
    for k, name in enumerate(market.venue_names):
        rows = recording.rows[k]
        for row in range(rows["first"], rows["last"]):
            at_s = float(recording.time_s[row]) - start_s
            bid, ask = float(recording.bid_px[row]), float(recording.ask_px[row])
            shares = float(recording.bid_shares[row]), float(recording.ask_shares[row])
            if at_s <= 60.0 and not math.isnan(ask):
                found.append(Quote(at_s, name, bid, shares[0], ask, shares[1]))
        before = before_sold = 0.0
        for row in range(rows["first_trade"], rows["last_trade"]):
            total, sold = recording.trade_cumulative_shares[row], recording.trade_cumulative_sold_shares[row]
            at_s = float(recording.trade_time_s[row]) - start_s
            if at_s <= 60.0:
                found.append(Trade(at_s, name, float(total - before), float(sold - before_sold)))
            before, before_sold = total, sold
    return sorted(found, key=lambda event: event.time_s), float(core.simulator.read("arrival_mid_px")[0])


def test_a_recording_itself_gives_the_rows_of_the_env(folder):
    """From the file's rows alone, without the recorder: volumes of before the arrival and the signal are derived."""
    market = recorded(folder, step_s=4.0)
    venues = tuple(venue.model_copy(update={"feed_latency_ms": 0.0, "latency_sigma": 0.0}) for venue in market.venues)
    market = market.model_copy(update={"venues": venues})
    core = begun(EXECUTE, market, n=1, seed=5)
    wanted = [core.reset()[0]]
    for _ in range(10):
        wanted.append(core.step(np.full((1, 4), -1.0, dtype=np.float32))[0][0])  # a pace of 0: nothing is sent
    events, mid_px = raw_events(market, core)
    builder = ObservationBuilder(market, EXECUTE, stale_after_s=1e6)
    builder.hear(Arrival(0.0, mid_px=mid_px))
    latencies = [Latency(-1e6, venue.name, venue.latency_ms) for venue in market.venues]
    for event in latencies:
        builder.hear(event)
    at = 0
    for step, row in enumerate(wanted):
        while at < len(events) and events[at].time_s <= 4.0 * step:
            builder.hear(events[at])
            at += 1
        np.testing.assert_array_equal(builder.observe(4.0 * step), row)
        builder.act(np.full(4, -1.0, dtype=np.float32))


def test_a_builder_takes_one_order_after_the_other():
    core = begun(SPLIT, "crypto", n=1)
    assert play(core, random_actions(core), 70) >= 70  # episodes of 30 decisions


def test_events_of_an_episode():
    core, router = begun(SPLIT, "us_equity", n=1), routers.make("pro_rata", market="us_equity")
    builder, decisions = ObservationBuilder("us_equity", SPLIT), 0
    for events, observation, action in events_of(core, router):
        for event in events[:-1]:
            builder.hear(event)
        np.testing.assert_array_equal(builder.observe(events[-1]), observation)
        builder.act(action)
        decisions += 1
    assert decisions >= 15
