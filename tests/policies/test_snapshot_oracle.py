"""The snapshot oracle: it equals the best of all placements of a wave, and no rule beats it on average."""

from __future__ import annotations

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.oracles.clairvoyant import compositions
from sor_sb3.policies.oracles.snapshot import Continuation, SnapshotOracle, fitted_continuation, place
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

SPLIT, SELECT, EXECUTE = (make_action_adapter(f"{name}-v0", 2) for name in ("OrderSplit", "VenueSelect", "OrderExecute"))


def random_market(rng: np.random.Generator, steps: int = 1, **order) -> SyntheticMarket:
    """Two to four venues and two to six lots, with anything that can happen to a child."""
    n_venues, lots = int(rng.integers(2, 5)), int(rng.integers(2, 7))
    bps = float(rng.choice([0.01, 0.5, 1.0]))
    venues = []
    for k in range(n_venues):
        venue = {
            "name": f"V{k}",
            "take_fee_bps": float(rng.choice([-0.3, 0.0, 0.3, 0.3])),
            "latency_ms": float(rng.choice([0.0, 0.1, 0.1, 0.3, 1.0])),
            "latency_sigma": float(rng.choice([0.0, 0.3])),
            "toxicity": float(rng.choice([0.0, 0.3, 1.0, 2.0])),
            "impact": float(rng.uniform(0.0, 2.0)),
            "outages_per_hour": float(rng.choice([0.0, 20.0])),
            "speed_bump_ms": float(rng.choice([0.0, 0.35])),
        }
        if k > 0 and rng.random() < 0.3:
            venue["dark"] = {
                "zero_probability": 0.3,
                "power_exponent": 0.5,
                "max_shares": 400.0,
                "min_execution_shares": float(rng.choice([0.0, 90.0])),
                "leakage_bps_per_1000_shares": float(rng.choice([0.0, 2.0])),
            }
        else:
            venue |= {
                "offset_bps": float(rng.uniform(0.3, 2.0)),
                "size_shares": float(rng.uniform(40.0, 300.0)),
                "hidden_fraction": float(rng.choice([0.0, 0.5])),
                "mid_probability": float(rng.choice([0.0, 0.5])),
                "quote_delay_s": float(rng.choice([0.0, 1.0])),
                "halts_per_hour": float(rng.choice([0.0, 10.0])),
            }
        venues.append(venue)
    sweeps = bool(rng.random() < 0.6)
    parent = {
        "quantity_shares": 100.0 * lots * steps,
        "horizon_steps": steps,
        "step_s": 1.0,
        "lot_shares": 100.0,
        "limit": "sweep" if sweeps else "touch",
        "limit_offset_bps": float(rng.uniform(0.0, 3.0)) if sweeps and rng.random() < 0.5 else None,
        "synchronise_arrivals": bool(rng.random() < 0.25),
    }
    return SyntheticMarket.model_validate(
        {
            "order": parent | order,
            "venues": venues,
            "order_protection": bool(rng.random() < 0.5),
            "quotes": {
                "tick_bps": bps,
                "level_spacing_bps": max(bps, 0.5),
                "round_lot_shares": 100.0 if rng.random() < 0.5 else None,
                "level_profile": (1.0, 1.5, 2.0)[: int(rng.integers(1, 4))],
            },
            "price": {"drift_sd_bps_per_s": 0.2},
            "informed": {"news_per_s": float(rng.choice([0.0, 1.0])), "jump_bps": 2.0},
            "response": {
                "reaction_time_ms": 0.2,
                "permanent_impact_bps_per_1000_shares": 0.5,
                "transient_impact_bps_per_1000_shares": 2.0,
            },
        }
    )


def begun(market: SyntheticMarket, seed: int, steps: int) -> BatchSimulator:
    """One order of a market, some decisions on, with random children in flight and books depleted."""
    simulator, rng = BatchSimulator(market, 1), np.random.default_rng(seed)
    simulator.reset(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.int64))
    for _ in range(steps):
        simulator.step(rng.dirichlet(np.full(market.n_venues, 0.5))[None])
    return simulator


def all_placements(lots: int, n_venues: int, paced: bool) -> tuple[np.ndarray, np.ndarray]:
    sent = range(lots + 1) if paced else [lots]
    rows = [compositions(m, n_venues) for m in sent]
    pace = np.concatenate([np.full(len(r), m / lots) for r, m in zip(rows, sent, strict=True)])
    every = np.concatenate(rows).astype(float)
    return every / np.maximum(every.sum(axis=1, keepdims=True), 1.0), pace


def gap(market: SyntheticMarket, simulator: BatchSimulator, adapter) -> float:
    """By how much the oracle's last decision is dearer than the best of all, as the simulator charges them, in bps."""
    truth = Truth(simulator)
    wanted = truth.available_shares[0] if adapter.paced else truth.slice_shares[0]
    lots = int(np.ceil(wanted / market.order.lot_shares - 1e-9))
    if lots == 0:
        return 0.0
    weights, pace = all_placements(lots, market.n_venues, adapter.paced)
    if adapter.masked:
        weights, pace = np.eye(market.n_venues), np.ones(market.n_venues)
    cost, _, done = simulator.branch(np.zeros(len(weights), dtype=int)).step(weights, pace if adapter.paced else None)
    assert done.all()
    chosen, its_pace, _ = place(simulator, adapter, Continuation())
    branch = simulator.branch(np.zeros(1, dtype=int))
    its_weights = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    its_cost = branch.step(its_weights, its_pace if adapter.paced else None)[0]
    return float(its_cost[0] - cost.min())


@pytest.mark.parametrize("adapter", [SPLIT, SELECT, EXECUTE], ids=lambda a: a.env_id)
def test_it_is_the_best_of_all_placements_at_the_first_and_last_decision(adapter):
    """One decision: 300 random markets. Ties apart, the search finds what brute force finds."""
    rng = np.random.default_rng(5)
    gaps = np.array([gap(m, begun(m, seed, 0), adapter) for seed in range(300) for m in [random_market(rng)]])
    assert gaps.min() > -1e-9, "brute force does not try what the oracle does"
    print(adapter.env_id, (gaps > 1e-9).sum(), gaps.max(), gaps.mean())
    assert np.all(gaps < 1e-9)
