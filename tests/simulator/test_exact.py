"""Numbers that are known exactly: the notebook's costs of chance and of foresight."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.policies.oracles.snapshot import SnapshotOracle
from sor_sb3.routers import make, rule_names

RANDOM = 50 * (0.03 + math.log(4) / 150 + 0.0055)  # 2.2371
OPTIMUM = 1.7013


def costs(market: str, router: str, n: int, env_id: str = "OrderSplit-v1", first: int = 0) -> np.ndarray:
    """Shortfall per scenario; float64 (n,)."""
    core = RoutingCore(env_id, market, n, "test")
    core.seed(list(range(first, first + n)))
    observations = core.reset()
    policy = SnapshotOracle(core) if router == "snapshot_oracle" else make(router, market, env_id, seed=first)
    done = np.zeros(n, dtype=bool)
    while not done.all():
        observations, _, done = core.step(policy.predict(observations)[0])
    return core.simulator.ledger()["shortfall"]


def within(values: np.ndarray, expected: float, errors: float = 4.0) -> bool:
    return abs(values.mean() - expected) < errors * values.std(ddof=1) / math.sqrt(len(values))


def one_venue_distribution() -> tuple[np.ndarray, np.ndarray]:
    """P(c <= x) of one venue's step cost c = U(.01, .05) + 1 / U(50, 200) + .001 U(1, 10), on a fine grid."""
    grid = np.linspace(0.0, 0.08, 40_001)

    def liquidity_below(x: np.ndarray) -> np.ndarray:  # P(1 / L <= x), L uniform on (50, 200)
        return np.clip((200.0 - 1.0 / np.maximum(x, 1e-12)) / 150.0, 0.0, 1.0)

    def integral(x: np.ndarray) -> np.ndarray:  # of `liquidity_below` from 0 to x
        y = np.clip(x, 0.005, 0.02)
        inside = (200.0 * y - np.log(y) - (200.0 * 0.005 - math.log(0.005))) / 150.0
        return inside + np.maximum(x - 0.02, 0.0)

    nodes, weights = np.polynomial.legendre.leggauss(64)  # over latency, the spread being integrated exactly
    distribution = np.zeros_like(grid)
    for node, weight in zip(nodes, weights, strict=True):
        left = grid - 0.001 * (5.5 + 4.5 * node)
        distribution += 0.5 * weight * (integral(left - 0.01) - integral(left - 0.05)) / 0.04
    assert np.all(np.diff(liquidity_below(grid)) >= 0.0)
    return grid, distribution


def test_the_optimum_by_quadrature():
    """E min of three independent costs is the integral of (1 - F)^3."""
    grid, distribution = one_venue_distribution()
    mean = np.trapezoid(1.0 - distribution, grid)
    assert 50 * mean == pytest.approx(RANDOM, abs=1e-6)
    assert 50 * np.trapezoid((1.0 - distribution) ** 3, grid) == pytest.approx(OPTIMUM, abs=1e-4)


def test_the_mean_by_adaptive_quadrature():
    liquidity, _ = quad(lambda x: 1.0 / x / 150.0, 50.0, 200.0)
    assert 50 * (0.03 + liquidity + 0.0055) == pytest.approx(RANDOM, abs=1e-12)
    assert pytest.approx(2.2371, abs=5e-5) == RANDOM


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "VenueSelect-v1"])
def test_random_costs_what_it_must(env_id):
    assert within(costs("notebook", "random", 4000, env_id), RANDOM)


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "VenueSelect-v1"])
def test_the_oracle_costs_the_optimum(env_id):
    assert within(costs("notebook", "snapshot_oracle", 4000, env_id), OPTIMUM)


def test_routers_that_look_beat_chance_in_the_notebook_and_none_beats_the_optimum():
    oracle = costs("notebook", "snapshot_oracle", 1000)
    for name in rule_names(load_market("notebook")):
        rule = costs("notebook", name, 1000)
        assert np.all(rule >= oracle - 1e-6), name
    assert costs("notebook", "all_in_sized", 1000).mean() < 0.8 * RANDOM


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "VenueSelect-v1"])
def test_nothing_can_be_learned_from_the_blind_notebook(env_id):
    for i, name in enumerate(rule_names(load_market("notebook_blind"), env_id)):
        assert within(costs("notebook_blind", name, 3000, env_id, first=10_000 * i), RANDOM), name
