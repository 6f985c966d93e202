"""Whatever a market file or a recording holds: a usable market with finite rewards, or one sentence. Never a traceback.

Each property runs with the profile's number of examples, and marked slow with 10,000 of them.
"""

from __future__ import annotations

import copy
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market, parse_market
from sor_sb3.market.spec import MarketSpec, NotebookMarket, SyntheticMarket
from sor_sb3.market.validation import validate
from tests.market.quote_fixtures import SECOND_NS, START_NS, write_recording, write_table

LONGEST_S = 10.0
MOST_STEPS = 6
ONCE = settings(deadline=None, suppress_health_check=list(HealthCheck))
OFTEN = settings(ONCE, max_examples=10_000)


def assert_finite(market: MarketSpec, env: str, seed: int) -> None:
    """Play the market with random actions; rewards are finite in float32, observations too."""
    venv = make_vec_env(env, market, 2, seed=seed)
    venv.action_space.seed(seed)
    observations = venv.reset()
    for _ in range(min(MOST_STEPS, market.order.horizon_steps + 1)):
        assert np.isfinite(observations).all()
        actions = np.stack([venv.action_space.sample() for _ in range(2)])
        observations, rewards, _, _ = venv.step(actions)
        assert rewards.dtype == np.float32 and np.isfinite(rewards).all()


def assert_sentence(error: UserError, where: str = "") -> None:
    said = str(error)
    assert said.startswith(where) and said.isprintable() and 10 < len(said) < 3000


# ------------------------------------------------------------------------------------------------ market files

VENUE = {"take_fee_bps": 0.3, "offset_bps": 1.0, "size_shares": 100.0, "latency_ms": 1.0, "quote_delay_s": 0.5}
DARK = {
    "zero_probability": 0.5,
    "power_exponent": 1.0,
    "max_shares": 500.0,
    "min_execution_shares": 10.0,
    "half_life_s": 3.0,
}
SYNTHETIC: dict[str, Any] = {
    "name": "tiny",
    "order": {
        "quantity_shares": 100.0,
        "horizon_steps": 3,
        "step_s": 1.0,
        "lot_shares": 5.0,
        "limit": "sweep",
        "limit_offset_bps": 9.0,
        "waves": 2,
        "wave_timeout_ms": 20.0,
        "repeg_ticks": 2,
    },
    "path_dt_s": 0.5,
    "venues": [
        {
            "name": "A",
            "toxicity": 1.0,
            "impact": 1.2,
            "hidden_fraction": 0.3,
            "mid_probability": 0.3,
            "mid_fraction": 1.0,
            "volume_share": 0.4,
            "make_fee_bps": -0.2,
            "refill_half_life_s": 5.0,
            **VENUE,
        },
        {
            "name": "B",
            "speed_bump_ms": 0.3,
            "feed_latency_ms": 2.0,
            "latency_sigma": 0.3,
            "outages_per_hour": 9,
            **VENUE,
        },
        {
            "name": "D",
            "take_fee_bps": 0.1,
            "latency_ms": 0.2,
            "dark": DARK,
            "halts_per_hour": 50,
            "halt_duration_s": 9.0,
        },
    ],
    "quotes": {
        "fast_half_life_s": 2.0,
        "offset_fast_sd": 0.4,
        "offset_slow_sd": 0.3,
        "size_slow_sd": 0.5,
        "size_tail": 0.5,
        "round_lot_shares": 10.0,
        "tick_bps": 1.0,
        "level_profile": [1.0, 2.0, 3.0],
        "level_spacing_bps": 2.0,
    },
    "price": {
        "volatility_bps_per_sqrt_s": 1.0,
        "volatility_log_sd": 0.5,
        "volatility_half_life_s": 60.0,
        "jumps_per_hour": 2,
        "jump_sd_bps": 5.0,
        "drift_sd_bps_per_s": 0.1,
    },
    "stress": {"entries_per_hour": 30, "offset_factor": 1.5, "size_factor": 0.5, "volatility_factor": 2.0},
    "latency": {"congestions_per_hour": 60, "congestion_factor": 3.0, "tail_probability": 0.01, "tail_factor": 20.0},
    "informed": {"news_per_s": 0.5, "jump_bps": 2.0, "removed_fraction": 0.5},
    "volume": {"shares_per_day": 1e6, "day_s": 23400.0, "curve": 0.8, "noise_sd": 0.7},
    "response": {
        "reaction_time_ms": 0.2,
        "permanent_impact_bps_per_1000_shares": 0.1,
        "transient_impact_bps_per_1000_shares": 0.5,
        "transient_half_life_s": 5.0,
        "cancel_half_life_s": 20.0,
        "cleanup_penalty_bps": 2.0,
    },
    "randomise": {"venues.*.latency_ms": [0.1, 2.0], "price.volatility_bps_per_sqrt_s": [0.5, 2.0]},
    "reference_router": "round_robin",
    "oracle": "snapshot_oracle",
    "order_protection": True,
}
NOTEBOOK: dict[str, Any] = {
    "name": "book",
    "model": "notebook",
    "order": {"quantity_shares": 100.0, "horizon_steps": 3, "step_s": 1.0},
    "venues": [{"name": "A"}, {"name": "B"}],
    "spread": [0.01, 0.05],
    "liquidity": [50.0, 200.0],
    "latency": [1.0, 10.0],
    "liquidity_cost": 0.01,
    "latency_cost": 0.001,
    "blind": True,
}
REPLAY: dict[str, Any] = {
    "name": "recorded",
    "model": "replay",
    "quotes_file": "quotes.parquet",
    "trades_file": "trades.parquet",
    "order": {"quantity_shares": 100.0, "horizon_steps": 3, "step_s": 1.0, "side": "sell"},
    "venues": [
        {"name": "A", "take_fee_bps": 0.3, "latency_ms": 1.0, "toxicity": 1.0},
        "B",
        {"name": "C", "impact": 0.5},
    ],
    "session_utc": ["14:35", "15:00"],
    "assumed_depth_shares": 100.0,
    "level_profile": [1.0, 2.0],
    "level_spacing_bps": 0.5,
    "size_multiplier": 1.0,
    "max_spread_bps": 100.0,
    "max_gap_s": 60.0,
    "time_split": [0.5, 0.25, 0.25],
    "response": {"reaction_time_ms": 1.0, "cleanup_penalty_bps": 1.0},
    "latency": {"congestion_factor": 2.0, "congestions_per_hour": 1.0},
    "price_scale_bps": 1.0,
    "volume_memory_half_life_s": 30.0,
}
LARGE = st.sampled_from([10.0**e for e in (-320, -300, -30, -12, -9, -6, 3, 5, 6, 8, 9, 12, 15, 30, 38, 300)])
EXTREMES = st.one_of(
    LARGE,
    LARGE.map(lambda x: -x),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 1, 2, 3, 0.5, 99_999, 100_000, True, None, "", "x", "1e9", [], {}, [1, 2], {"a": 1}, "A"]),
    st.text(max_size=8),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in inside for found in ((*path, key), *places(value, (*path, key)))]


@st.composite
def market_texts(draw: Any) -> str:
    """Market files with some fields changed, moved, doubled, misspelt or missing."""
    data = copy.deepcopy(draw(st.sampled_from([SYNTHETIC, SYNTHETIC, NOTEBOOK, REPLAY])))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(data)))
        parent: Any = data
        for key in path[:-1]:
            parent = parent[key]
        key, kind = path[-1], draw(st.sampled_from(["value"] * 8 + ["drop", "misspell", "double"]))
        if kind == "value":
            parent[key] = copy.deepcopy(draw(EXTREMES))
        elif kind == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            value = parent.pop(key)
            if kind == "misspell" and isinstance(parent, dict):
                parent[f"{key}s"] = value
        if not places(data):
            break
    return yaml.safe_dump(data, sort_keys=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, for markets that replay one."""
    path = tmp_path_factory.mktemp("fuzz")
    names = ("A", "B", "C")
    write_recording(path / "quotes.parquet", venues=names, duration_s=600, trades_path=path / "trades.parquet")
    recorded = load_market(path / "quotes.parquet", step_s=1.0, horizon_steps=3)
    for market in (recorded, load_market("notebook"), load_market("us_equity")):
        for env in ENV_NAMES:
            assert_finite(market, env, 0)  # compiles, once, what is timed below
    return path


def check_market(folder: Path, text: str, env: str, seed: int) -> None:
    start = time.perf_counter()
    try:
        market = parse_market(text, "my.yaml", folder)
    except UserError as error:
        assert_sentence(error)
        return
    assert_finite(market, env, seed)
    assert time.perf_counter() - start < LONGEST_S


ENV_NAMES = ["OrderSplit-v1", "VenueSelect-v1", "OrderExecute-v1"]
ENVS = st.sampled_from(ENV_NAMES)
SEEDS = st.integers(0, 2**32 - 1)


@ONCE
@given(text=market_texts(), env=ENVS, seed=SEEDS)
def test_a_market_file_is_usable_or_one_sentence(folder: Path, text: str, env: str, seed: int) -> None:
    check_market(folder, text, env, seed)


@pytest.mark.slow
@OFTEN
@given(text=market_texts(), env=ENVS, seed=SEEDS)
def test_ten_thousand_market_files_are_usable_or_one_sentence(folder: Path, text: str, env: str, seed: int) -> None:
    check_market(folder, text, env, seed)


ENDS = (1e-9, 1e-6, 0.0, 0.5, 1.0, 3.0, 10.0, 1e3, 1e5, -1e5, 1e6, 1e8, 1e9, 1e12, 1e15)


def put(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of `data` with `value` at `path`."""
    copied = copy.deepcopy(data)
    parent: Any = copied
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = int(value) if isinstance(parent[path[-1]], int) else value
    return copied


def accepted(data: dict[str, Any]) -> bool:
    try:
        validate(NotebookMarket if "model" in data else SyntheticMarket, data, "my.yaml")
    except UserError:
        return False
    return True


@cache
def accepted_ends(kind: str) -> dict[tuple[Any, ...], list[float]]:
    """For each number of a market, the values near the ends of what is accepted."""
    data = {**SYNTHETIC, "randomise": {}} if kind == "synthetic" else NOTEBOOK
    ends = {}
    for path in places(data):
        value: Any = data
        for key in path:
            value = value[key]
        if isinstance(value, int | float) and not isinstance(value, bool):
            ends[path] = [end for end in ENDS if accepted(put(data, path, end))]
    return ends


@st.composite
def extreme_markets(draw: Any) -> str:
    """Markets whose every number is near an end of its range."""
    kind = draw(st.sampled_from(["synthetic", "synthetic", "notebook"]))
    data = copy.deepcopy(SYNTHETIC if kind == "synthetic" else NOTEBOOK)
    data.pop("randomise", None)
    for path, ends in accepted_ends(kind).items():
        data = put(data, path, draw(st.sampled_from(ends)))
    data["order"]["horizon_steps"] = draw(st.integers(1, MOST_STEPS - 1))
    assume(accepted(data))  # a lot may be too small for so large an order
    return yaml.safe_dump(data)


@ONCE
@given(extreme_markets(), ENVS, SEEDS)
def test_no_accepted_market_has_a_reward_that_is_not_finite(text: str, env: str, seed: int) -> None:
    assert_finite(parse_market(text, "my.yaml", Path()), env, seed)


@pytest.mark.slow
@settings(ONCE, max_examples=1_000)
@given(extreme_markets(), ENVS, SEEDS)
def test_no_accepted_market_has_a_reward_that_is_not_finite_at_length(text: str, env: str, seed: int) -> None:
    assert_finite(parse_market(text, "my.yaml", Path()), env, seed)


@settings(ONCE, max_examples=200)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_any_text_or_bytes_as_a_market_file(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as caught:
        load_market(path)
    assert_sentence(caught.value, str(path))


# ------------------------------------------------------------------------------------------------- recordings

BAD_NUMBERS = st.sampled_from(
    [
        0.0,
        -1.0,
        float("nan"),
        float("inf"),
        -float("inf"),
        1e300,
        1e-300,
        9223372036.854775807,
        2.0**63,
        1e11,
        1e-11,
        1.0,
    ]
)
BAD_TIMES = st.sampled_from([0, -1, 2**63 - 1, -(2**63), START_NS // 10**9, START_NS, START_NS - 10**17])


def good_columns(seed: int, n: int = 240) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    mid = 100.0 * np.exp(np.cumsum(1e-5 * rng.standard_normal(n)))
    return {
        "ts": list(START_NS + np.arange(n) * SECOND_NS // 2),
        "venue": ["A", "B", "C"] * (n // 3),
        "bid_px": list(mid - 0.01),
        "bid_sz": list(100.0 * rng.integers(1, 9, n)),
        "ask_px": list(mid + 0.01),
        "ask_sz": list(100.0 * rng.integers(1, 9, n)),
    }


def spoil(columns: dict[str, Any], draw: Any) -> None:
    """One fault in some columns of a recording."""
    name = draw(st.sampled_from([*columns]))
    column = columns[name]
    n, rows = len(column), draw(st.lists(st.integers(0, len(column) - 1), min_size=1, max_size=5))
    kind = draw(
        st.sampled_from(
            ["cells", "cells", "cells", "drop", "rename", "shuffle", "repeat", "text", "scale", "all", "cut"]
        )
    )
    if kind == "drop" and len(columns) > 1:
        del columns[name]
    elif kind == "rename":
        columns[name + draw(st.text(max_size=3))] = columns.pop(name)
    elif kind == "text":
        columns[name] = [
            draw(st.sampled_from(["x", "", "1", "NYSE", "2024-01-02"])) if i in rows else str(v)
            for i, v in enumerate(column)
        ]
    elif kind == "scale" and name != "venue":
        columns[name] = [v * 1000 if isinstance(v, float) else v for v in column]
    elif kind in ("shuffle", "repeat", "cut"):
        order = (
            draw(st.permutations(range(n)))
            if kind == "shuffle"
            else [*range(n), *rows * 3]
            if kind == "repeat"
            else rows
        )
        for other, values in columns.items():
            columns[other] = [values[i] for i in order if i < len(values)]
    else:
        some = draw(BAD_TIMES if name.startswith("ts") else st.text(max_size=70) if name == "venue" else BAD_NUMBERS)
        try:
            columns[name] = [some if kind == "all" or i in rows else v for i, v in enumerate(column)]
            pa.array(columns[name])
        except (pa.ArrowException, OverflowError):
            columns[name] = column


@st.composite
def recordings(draw: Any) -> tuple[dict[str, Any], str, dict[str, Any]]:
    columns = good_columns(draw(st.integers(0, 9)))
    for _ in range(draw(st.integers(1, 3))):
        spoil(columns, draw)
    options = {
        "assumed_depth_shares": draw(st.sampled_from([None, None, 100.0, 1e300, -1])),
        "venues": draw(st.sampled_from([None, None, ["A", "B"], ["A"], ["Z"], []])),
        "session_utc": draw(st.sampled_from([None, None, ("14:35", "14:36:30"), ("1", "2")])),
        "size_multiplier": draw(st.sampled_from([None, None, 100.0, 1e9, 1e300])),
        "max_gap_s": draw(st.sampled_from([None, None, 0.1, 1e8, 1e300])),
        "take_fee_bps": draw(st.sampled_from([None, {"A": 0.3}, {"Q": 1}, {"A": 1e300}, 3])),
    }
    return columns, draw(st.sampled_from(["q.parquet", "q.csv", "q.CSV.GZ"])), options


def check_recording(folder: Path, recording: tuple[dict[str, Any], str, dict[str, Any]], env: str, seed: int) -> None:
    columns, name, options = recording
    table = {key: pa.array(values) for key, values in columns.items()}
    path = write_table(folder / name.lower(), table).rename(folder / name)
    start = time.perf_counter()
    try:
        market = load_market(path, horizon_steps=3, step_s=1.0, **options)
    except UserError as error:
        assert_sentence(error)
        return
    finally:
        assert time.perf_counter() - start < LONGEST_S
    assert_finite(market, env, seed)


@ONCE
@given(recordings(), ENVS, SEEDS)
def test_a_recording_is_usable_or_one_sentence(tmp_path: Path, recording: Any, env: str, seed: int) -> None:
    check_recording(tmp_path, recording, env, seed)


@pytest.mark.slow
@OFTEN
@given(recordings(), ENVS, SEEDS)
def test_ten_thousand_recordings_are_usable_or_one_sentence(
    tmp_path: Path, recording: Any, env: str, seed: int
) -> None:
    check_recording(tmp_path, recording, env, seed)
