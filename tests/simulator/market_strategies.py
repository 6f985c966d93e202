"""Random synthetic markets and the small games that the property tests play in them. No assertions here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.records import children_of, orders_of, venues_of

EXOGENOUS_VENUE = (
    "offset_fast",
    "offset_slow",
    "size_fast",
    "size_slow",
    "congested",
    "next_offset_bps",
    "next_shares",
    "change_at",
    "outage",
    "open",
    "offset_bps",
    "quote_shares",
    "observed_offset_bps",
    "observed_shares",
    "observed_latency_ms",
    "recent_volume_shares",
    "latency_ms",
    "touch_move_bps",
    "arrival_size_shares",
    "hidden_shares",
)
EXOGENOUS_ORDER = (
    "mid_bps",
    "next_mid_bps",
    "mid_noise_bps",
    "smooth_move_bps",
    "news_bps",
    "news_ms",
    "drift_bps_per_s",
    "signal",
    "stressed",
    "day_position",
)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


@st.composite
def dark_pools(draw: Any) -> dict[str, Any]:
    return {
        "zero_probability": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "power_exponent": draw(st.sampled_from([-0.5, 0.4, 1.0, 1.3])),
        "max_shares": draw(floats(2, 5000)),
        "min_execution_shares": draw(st.sampled_from([0.0, 50.0])),
        "leakage_bps_per_1000_shares": draw(st.sampled_from([0.0, 1.0])),
    }


@st.composite
def venues(draw: Any, name: str, may_be_dark: bool = False) -> dict[str, Any]:
    dark = draw(dark_pools()) if may_be_dark and draw(st.booleans()) else None
    lit = {"offset_bps": draw(floats(0.05, 10)), "size_shares": draw(floats(1, 5000))}
    return {
        "name": name,
        "take_fee_bps": draw(floats(-1, 5)),
        **({"dark": dark} if dark else lit),
        "speed_bump_ms": draw(st.sampled_from([0.0, 0.35])),
        "feed_latency_ms": draw(st.sampled_from([None, 0.0, 3.0, 500.0])),
        "hidden_fraction": draw(st.sampled_from([0.0, 0.35, 2.0])),
        "outages_per_hour": draw(st.sampled_from([0.0, 3600.0])),
        "outage_duration_s": draw(floats(0.5, 100)),
        "latency_ms": draw(st.sampled_from([0.0, 0.01, 0.2, 5.0, 12.0, 300.0, 1500.0])),
        "latency_sigma": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "toxicity": draw(st.sampled_from([0.0, 0.5, 3.0])),
        "walk_bps": draw(floats(0, 3)),
        "refill_half_life_s": draw(floats(0.1, 100)),
        "volume_share": draw(floats(0, 1)),
        "halts_per_hour": draw(st.sampled_from([0.0, 10.0, 3600.0])),
        "halt_duration_s": draw(floats(0.5, 100)),
    }


@st.composite
def ranges(draw: Any, names: list[str]) -> dict[str, list[float]]:
    """What each episode draws for itself, if anything."""
    some = {
        "venues.*.take_fee_bps": [-1.0, 2.0],
        f"venues.{names[0]}.size_shares": [10.0, 1000.0],
        "informed.jump_bps": [0.0, 5.0],
        "quotes.fast_half_life_s": [1.0, 4.0],
        "mid.volatility_bps_per_sqrt_s": [0.0, 3.0],
    }
    chosen = draw(st.lists(st.sampled_from(sorted(some)), unique=True, max_size=3)) if draw(st.booleans()) else []
    return {path: some[path] for path in chosen}


@st.composite
def markets(draw: Any) -> SyntheticMarket:
    """Synthetic markets of 2 to 8 venues, lit and dark, with every feature of the model on or off."""
    n = draw(st.integers(2, 8))
    names = draw(st.permutations([f"V{k}" for k in range(n)]))
    step_s = draw(st.sampled_from([0.01, 1.0, 30.0]))
    quantity = draw(floats(1, 100_000))
    return SyntheticMarket.model_validate(
        {
            "order": {
                "quantity_shares": quantity,
                "horizon_steps": draw(st.integers(1, 7)),
                "step_s": step_s,
                "lot_shares": quantity / draw(st.integers(3, 40)) if draw(st.booleans()) else None,
                "limit_offset_bps": draw(st.sampled_from([None, None, 0.0, 1.0])),
                "synchronise_arrivals": draw(st.booleans()),
            },
            "order_protection": draw(st.sampled_from([False, False, True])),
            "randomise": draw(ranges(names)),
            "venues": [draw(venues(names[0])), *(draw(venues(name, may_be_dark=True)) for name in names[1:])],
            "quotes": {"tick_bps": draw(st.sampled_from([0.0, 1.0]))},
            "mid": {
                "volatility_bps_per_sqrt_s": draw(floats(0, 5)),
                "jumps_per_hour": draw(st.sampled_from([0.0, 600.0])),
                "drift_sd_bps_per_s": draw(st.sampled_from([0.0, 0.5])),
            },
            "stress": {"entries_per_hour": draw(st.sampled_from([0.0, 300.0]))},
            "latency": {
                "congestions_per_hour": draw(st.sampled_from([0.0, 300.0, 30_000.0])),
                "tail_probability": 0.05,
            },
            "informed": {
                "probability": draw(st.sampled_from([0.0, 0.5, 1.0])),
                "removed_fraction": draw(st.sampled_from([0.0, 0.5, 1.0])),
                "window_ms": draw(floats(0.01, 100)),
            },
            "volume": {"shares_per_day": draw(st.sampled_from([0.0, 1e7]))},
            "response": {
                "reaction_time_ms": draw(floats(0.05, 50)),
                "permanent_impact_bps_per_1000_shares": draw(st.sampled_from([0.0, 0.5])),
                "cleanup_penalty_bps": draw(floats(0, 5)),
                "outage_reject_ms": draw(st.sampled_from([1.0, 3000.0])),
            },
        }
    )


SEEDS = st.integers(0, 2**64 - 1)


@st.composite
def policies(draw: Any) -> tuple[int, bool]:
    """(seed of the weights, whether the pace is free too): arrays themselves would shrink too slowly."""
    return draw(st.integers(0, 2**32 - 1)), draw(st.booleans())


def some_weights(generator: np.random.Generator, n: int, n_venues: int) -> np.ndarray:
    """Rows of the simplex: some vertices, some on faces, some inside."""
    weights = generator.standard_exponential((n, n_venues))
    weights *= generator.random((n, n_venues)) < generator.choice([0.3, 0.7, 1.0], size=(n, 1))
    empty = weights.sum(axis=1) == 0.0
    weights[empty, 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass
class Step:
    """State before and after one decision, for every member; `live` were not done before it."""

    weights: np.ndarray
    pace: np.ndarray | None
    live: np.ndarray
    orders_before: np.ndarray
    venues_before: np.ndarray
    children_before: np.ndarray
    orders: np.ndarray
    venues: np.ndarray
    children: np.ndarray
    cost: np.ndarray
    noise: np.ndarray
    done: np.ndarray


def play(
    market: SyntheticMarket, seeds: np.ndarray, policy: tuple[int, bool], split: str = "test"
) -> tuple[BatchSimulator, list[Step]]:
    """One episode per seed under random weights (and pace), which depend on step and member alone."""
    n, steps = len(seeds), []
    generators = [np.random.default_rng([policy[0], i]) for i in range(n)]
    simulator = BatchSimulator(market, n, split)
    simulator.reset(seeds, np.zeros(n, dtype=np.int64))
    live = np.ones(n, dtype=bool)
    for _ in range(market.order.horizon_steps):
        weights = np.concatenate([some_weights(g, 1, market.n_venues) for g in generators])
        pace = np.array([g.choice([0.0, g.random(), 1.0]) for g in generators]) if policy[1] else None
        before = orders_of(simulator).copy(), venues_of(simulator).copy(), children_of(simulator).copy()
        cost, noise, done = (a.copy() for a in simulator.step(weights, pace))
        after = orders_of(simulator).copy(), venues_of(simulator).copy(), children_of(simulator).copy()
        steps.append(Step(weights, pace, live.copy(), *before, *after, cost, noise, done))
        live &= ~done
        if not live.any():
            break
    return simulator, steps
