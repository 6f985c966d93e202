"""Rewards that dislike variance: what they sum to, and that the squares of timing add up to its variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sor_sb3
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.run import make_training_env
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket

SIGMA, STEP_S, STEPS = 2.0, 5.0, 10
DEEP = SyntheticMarket.model_validate(
    {  # every slice fills at once, and the price is a random walk of constant volatility
        "name": "deep",
        "order": {"quantity_shares": 1000, "horizon_steps": STEPS, "step_s": STEP_S},
        "venues": [
            {"name": n, "take_fee_bps": 0.0, "offset_bps": 0.5, "size_shares": 1e7, "latency_ms": 0.001} for n in "AB"
        ],
        "price": {"volatility_bps_per_sqrt_s": SIGMA, "signal_correlation": 0.0},
    }
)


def play(core: RoutingCore, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards summed over one episode of each member, its shortfall, and the squares of its steps' timing, summed."""
    core.seed(list(range(core.n)))
    core.reset()
    total, squares, before = np.zeros(core.n), np.zeros(core.n), np.zeros(core.n)
    running = np.full(core.n, True)
    while running.any():
        _, rewards, done = core.step(np.tile(action, (core.n, 1)))
        timing = core.simulator.ledger()["timing"]
        total, squares = total + running * rewards, squares + running * (timing - before) ** 2
        before, running = timing, running & ~done
    return total, core.simulator.ledger()["shortfall"], squares


@pytest.mark.parametrize("env", ["OrderSplit-v1", "OrderExecute-v1"])
def test_an_episode_sums_to_minus_shortfall_and_the_squares_of_its_timing(env):
    core = RoutingCore(env, "us_equity", 50, "validation", risk_aversion=0.7)
    total, shortfall, squares = play(core, np.full(core.action_space.shape, 0.5, dtype=np.float32))
    np.testing.assert_allclose(total, -shortfall - 0.7 * squares, rtol=1e-4, atol=1e-4)
    assert squares.min() > 0.0


def test_squares_sum_to_the_variance_of_almgren_and_chriss():
    """An even pace holds 1 - k/N after step k: the variance of its timing is sigma^2 tau sum (1 - k/N)^2."""
    core = RoutingCore("OrderSplit-v1", DEEP, 4000, "validation")
    _, _, squares = play(core, np.ones(2, dtype=np.float32))
    held = 1.0 - np.arange(1, STEPS + 1) / STEPS
    closed_form = SIGMA**2 * STEP_S * float(np.sum(held**2))
    error = squares.std(ddof=1) / np.sqrt(core.n)
    assert abs(squares.mean() - closed_form) < 4.0 * error
    assert error < 0.02 * closed_form
    assert core.simulator.ledger()["timing"].var() == pytest.approx(closed_form, rel=0.1)


def test_risk_aversion_makes_haste_pay():
    """Where depth is short a slow pace is cheaper; whoever dislikes variance is done at once."""
    shallow = DEEP.model_copy(
        update={
            "venues": tuple(venue.model_copy(update={"size_shares": 60.0}) for venue in DEEP.venues),
            "order": DEEP.order.model_copy(update={"limit": "sweep"}),
            "quotes": DEEP.quotes.model_copy(update={"level_spacing_bps": 1.0}),
        }
    )

    def reward(risk_aversion: float, pace: float) -> float:
        core = RoutingCore("OrderExecute-v1", shallow, 500, "validation", True, risk_aversion=risk_aversion)
        return float(play(core, np.array([1.0, 1.0, pace], dtype=np.float32))[0].mean())

    slow, fast = -0.2, 1.0
    assert reward(0.0, slow) > reward(0.0, fast)
    assert reward(1.0, slow) < reward(1.0, fast)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "much", True, None])
def test_what_is_no_risk_aversion_is_refused(value: Any):
    with pytest.raises(UserError, match=r"^risk_aversion is "):
        sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", risk_aversion=value)


def test_a_run_trains_with_it_and_is_evaluated_without():
    market = load_market("us_equity")
    config = train_config("ppo", "OrderSplit-v1", market, 0, 400, 8, {"risk_aversion": 0.5})
    assert config.hyperparameters["risk_aversion"] == 0.5
    venv = make_training_env(config)
    assert venv.get_attr("core")[0].risk_aversion == 0.5
    assert "risk_aversion" not in train_config("ppo", "OrderSplit-v1", market, 0, 400, 8).hyperparameters
    with pytest.raises(UserError, match="risk_aversion is -1"):
        train_config("ppo", "OrderSplit-v1", market, 0, 400, 8, {"risk_aversion": -1.0})
