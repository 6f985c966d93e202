"""Random synthetic markets and the small games that the property tests play in them. No assertions here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.state import REST_FIELDS
from tests.simulator.records import children_of, orders_of, venues_of

EXOGENOUS_VENUE = (
    "offset_fast",
    "offset_slow",
    "size_fast",
    "size_slow",
    "near_fast",
    "near_offset_fast",
    "congested",
    "ask_ticks",
    "bid_ticks",
    "log_shares",
    "near_log_shares",
    "next_ask_ticks",
    "next_bid_ticks",
    "next_log_shares",
    "u_change",
    "outage",
    "open",
    "dark_shares",
    "recent_volume_shares",
    "recent_outflow_shares",
    "tick_volume_shares",
    "tick_outflow_shares",
)
EXOGENOUS_AT_DECISIONS = ("offset_bps", "quote_shares", "observed_ask_bps", "observed_bid_bps", "observed_quote_shares")
EXOGENOUS_ORDER = (
    "grid_bps",
    "price_bps",
    "next_price_bps",
    "tick_noise_bps",
    "smooth_move_bps",
    "news_bps",
    "news_ms",
    "drift_bps_per_s",
    "log_volatility",
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
        "half_life_s": draw(st.sampled_from([0.05, 3.0])),
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
        "take_fee_bps": round(draw(floats(-1, 5)), 3),  # sweeps take ties by name: none should be nearly one
        "make_fee_bps": draw(floats(-2, 2)),
        **({"dark": dark} if dark else lit),
        "speed_bump_ms": draw(st.sampled_from([0.0, 0.35])),
        "feed_latency_ms": draw(st.sampled_from([None, 0.0, 3.0, 500.0])),
        "quote_delay_s": draw(st.sampled_from([0.0, 0.01, 2.0])),
        "hidden_fraction": draw(st.sampled_from([0.0, 0.35, 2.0])),
        "mid_probability": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "mid_fraction": draw(floats(0, 2)),
        "outages_per_hour": draw(st.sampled_from([0.0, 3600.0])),
        "outage_duration_s": draw(floats(0.5, 100)),
        "latency_ms": draw(st.sampled_from([0.0, 0.01, 0.2, 5.0, 12.0, 300.0, 1500.0])),
        "latency_sigma": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "toxicity": draw(st.sampled_from([0.0, 0.5, 3.0])),
        "impact": draw(st.sampled_from([0.0, 1.0, 2.5])),
        "refill_half_life_s": draw(floats(0.1, 100)),
        "volume_share": draw(floats(0, 1)),
        "halts_per_hour": draw(st.sampled_from([0.0, 10.0, 3600.0])),
        "halt_duration_s": draw(floats(0.5, 100)),
    }


@st.composite
def ranges(draw: Any, names: list[str], quantity: float) -> dict[str, list[float]]:
    """What each episode draws for itself, if anything."""
    some: dict[str, list[float]] = {
        "order.quantity_shares": [0.5 * quantity, 2.0 * quantity],
        "order.horizon_steps": [1, 5],
        "venues.*.take_fee_bps": [-1.0, 2.0],
        f"venues.{names[0]}.size_shares": [10.0, 1000.0],
        "informed.jump_bps": [0.0, 5.0],
        "quotes.fast_half_life_s": [1.0, 4.0],
        "price.volatility_bps_per_sqrt_s": [0.0, 3.0],
    }
    chosen = draw(st.lists(st.sampled_from(sorted(some)), unique=True, max_size=3)) if draw(st.booleans()) else []
    return {path: some[path] for path in chosen}


@st.composite
def orders(draw: Any) -> tuple[dict[str, Any], float]:
    """A parent order, and the clock of its market."""
    step_s, path_dt_s = draw(st.sampled_from([(0.01, 0.01), (0.03, 0.01), (1.0, 1.0), (1.0, 0.25), (3.0, 1.0)]))
    quantity, sweeps = draw(floats(1, 100_000)), draw(st.booleans())
    order = {
        "quantity_shares": quantity,
        "horizon_steps": draw(st.integers(1, 5)),
        "step_s": step_s,
        "lot_shares": quantity / draw(st.integers(3, 40)) if draw(st.booleans()) else None,
        "limit": "sweep" if sweeps else "touch",
        "limit_offset_bps": draw(st.sampled_from([None, 0.0, 1.0, 5.0])) if sweeps else None,
        "waves": draw(st.sampled_from([1, 1, 2, 4])),
        "wave_timeout_ms": path_dt_s * 1000.0 * draw(st.sampled_from([0.01, 0.3, 0.99])),
        "synchronise_arrivals": draw(st.booleans()),
        "repeg_ticks": draw(st.sampled_from([0, 1, 5])),
        "overbooking": draw(st.sampled_from([None, {"most_ratio": 1.5, "overfill_cost_bps": 2.0}])),
    }
    return order, path_dt_s


@st.composite
def quotes(draw: Any) -> dict[str, Any]:
    """How books look."""
    tick_bps = draw(st.sampled_from([0.01, 0.3, 1.0, 4.0]))
    return {
        "tick_bps": tick_bps,
        "size_tail": draw(st.sampled_from([0.0, 0.7])),
        "round_lot_shares": draw(st.sampled_from([None, 100.0])),
        "level_profile": draw(st.sampled_from([(1.0,), (2.0, 1.0, 3.0), (1.0, 1.5, 1.8, 2.0, 2.0), (1.0,) * 8])),
        "level_spacing_bps": draw(st.sampled_from([None, tick_bps, 2.2])),
        "fast_half_life_s": draw(st.sampled_from([0.05, 2.0])),
        "size_fast_half_life_s": draw(st.sampled_from([None, 0.5])),
        "sides_correlation": draw(st.sampled_from([1.0, 0.0, -0.5])),
        "join_probability": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "size_slow_half_life_s": draw(st.sampled_from([None, 30.0])),
    }


@st.composite
def markets(draw: Any) -> SyntheticMarket:
    """Synthetic markets of 2 to 8 venues, lit and dark, with every feature of the model on or off."""
    n = draw(st.integers(2, 8))
    names = draw(st.permutations([f"V{k}" for k in range(n)]))
    order, path_dt_s = draw(orders())
    return SyntheticMarket.model_validate(
        {
            "order": order,
            "path_dt_s": path_dt_s,
            "order_protection": draw(st.booleans()),
            "randomise": draw(ranges(names, order["quantity_shares"])),
            "venues": [draw(venues(names[0])), *(draw(venues(name, may_be_dark=True)) for name in names[1:])],
            "quotes": draw(quotes()),
            "price": {
                "volatility_bps_per_sqrt_s": draw(floats(0, 5)),
                "volatility_log_sd": draw(st.sampled_from([0.0, 0.8])),
                "jumps_per_hour": draw(st.sampled_from([0.0, 600.0])),
                "drift_sd_bps_per_s": draw(st.sampled_from([0.0, 0.5])),
            },
            "stress": {"entries_per_hour": draw(st.sampled_from([0.0, 300.0]))},
            "latency": {
                "congestions_per_hour": draw(st.sampled_from([0.0, 300.0, 30_000.0])),
                "tail_probability": 0.05,
            },
            "informed": {
                "news_per_s": draw(st.sampled_from([0.0, 0.5, 100.0])),
                "jump_bps": draw(st.sampled_from([0.3, 3.0])),
                "removed_fraction": draw(st.sampled_from([0.0, 0.5, 1.0])),
                "flow_foresight": draw(st.sampled_from([0.0, 0.8])),
                "flow_focus": draw(st.sampled_from([1.0, 12.0])),
            },
            "volume": {
                "shares_per_day": draw(st.sampled_from([0.0, 1e7, 1e9])),
                "side_correlation": draw(st.sampled_from([0.0, 0.9])),
                "trade_shares": draw(st.sampled_from([None, None, 70.0])),
                "trade_sizes": draw(st.sampled_from(["fixed", "exponential"])),
            },
            "response": {
                "reaction_time_ms": draw(floats(0.05, 50)),
                "permanent_impact_bps_per_1000_shares": draw(st.sampled_from([0.0, 0.5])),
                "transient_impact_bps_per_1000_shares": draw(st.sampled_from([0.0, 0.5])),
                "transient_half_life_s": draw(st.sampled_from([0.02, 5.0])),
                "cleanup_penalty_bps": draw(floats(0, 5)),
                "cancel_half_life_s": draw(st.sampled_from([0.05, 30.0])),
                "outage_reject_ms": draw(st.sampled_from([1.0, 3000.0])),
                "display_leakage_bps_per_1000_shares": draw(st.sampled_from([0.0, 0.5])),
            },
        }
    )


SEEDS = st.integers(0, 2**64 - 1)


class Policy(NamedTuple):
    """Actions at random: arrays themselves would shrink too slowly."""

    seed: int
    paced: bool  # whether the pace is free, instead of the schedule's
    rests: bool = False  # whether orders rest too; the pace is free then


@st.composite
def policies(draw: Any, rests: bool | None = None) -> Policy:
    """Policies, of which `rests` says whether their orders rest; None: some do."""
    resting = draw(st.booleans()) if rests is None else rests
    return Policy(draw(st.integers(0, 2**32 - 1)), resting or draw(st.booleans()), resting)


def some_weights(generator: np.random.Generator, n: int, n_venues: int) -> np.ndarray:
    """Rows of the simplex: some vertices, some on faces, some inside."""
    weights = generator.standard_exponential((n, n_venues))
    weights *= generator.random((n, n_venues)) < generator.choice([0.3, 0.7, 1.0], size=(n, 1))
    empty = weights.sum(axis=1) == 0.0
    weights[empty, 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass
class Step:
    """State before and after one env step, for every member; `live` were not done before it."""

    weights: np.ndarray
    pace: np.ndarray | None
    rest: np.ndarray | None
    live: np.ndarray
    state_before: dict[str, np.ndarray]
    orders_before: np.ndarray
    venues_before: np.ndarray
    children_before: np.ndarray
    orders: np.ndarray
    venues: np.ndarray
    children: np.ndarray
    rests: dict[str, np.ndarray]
    cost: np.ndarray
    noise: np.ndarray
    done: np.ndarray


def some_actions(
    generators: list[np.random.Generator], n_venues: int, policy: Policy, before: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Weights, pace and what should rest; half of the time that stays as it was `before`, so that orders get old."""
    weights = np.concatenate([some_weights(g, 1, n_venues) for g in generators])
    pace = np.array([g.choice([0.0, g.random(), 1.0]) for g in generators]) if policy.paced else None
    if not policy.rests:
        return weights, pace, None
    weights *= np.array([[g.choice([0.0, g.random(), 1.0])] for g in generators])
    pace = np.array([p * g.choice([0.2, 1.0]) for p, g in zip(pace, generators, strict=True)])
    rest = np.concatenate([some_weights(g, 1, n_venues) * g.choice([g.random(), 1.0]) for g in generators])
    stays = np.array([[g.random() < 0.5] for g in generators])
    return weights, pace, rest if before is None else np.where(stays, before, rest)


def play(
    market: SyntheticMarket, seeds: np.ndarray, policy: Policy, split: str = "test"
) -> tuple[BatchSimulator, list[Step]]:
    """One episode per seed under random actions, which depend on step and member alone."""
    n, steps, rest = len(seeds), [], None
    generators = [np.random.default_rng([policy.seed, i]) for i in range(n)]
    simulator = BatchSimulator(market, n, split)
    simulator.reset(seeds, np.zeros(n, dtype=np.int64))
    live = np.ones(n, dtype=bool)
    while live.any():
        weights, pace, rest = some_actions(generators, market.n_venues, policy, rest)
        state = simulator.get_state()
        before = orders_of(simulator).copy(), venues_of(simulator).copy(), children_of(simulator).copy()
        cost, noise, done = (a.copy() for a in simulator.step(weights, pace, rest=rest))
        after = orders_of(simulator).copy(), venues_of(simulator).copy(), children_of(simulator).copy()
        rests = {name: simulator.read(name) for name in REST_FIELDS}
        steps.append(Step(weights, pace, rest, live.copy(), state, *before, *after, rests, cost, noise, done))
        live &= ~done
    return simulator, steps
