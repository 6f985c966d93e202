"""Resting orders against closed forms and queues worked by hand, run through the simulator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import poisson

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import Overbooking, SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.state import RESTS

N = 20_000


def still_market(
    *,
    ahead_shares: float,
    sells_per_step: float,
    quantity_shares: float = 1.0,
    horizon_steps: int = 1,
    step_s: float = 1.0,
    path_dt_s: float = 1.0,
    **parts: dict[str, object],
) -> SyntheticMarket:
    """Two venues whose quotes never change, one tick apart; the first has `ahead_shares` at its near touch."""
    venue = {"take_fee_bps": 0.0, "offset_bps": 1e-6, "latency_ms": 0.0, "latency_sigma": 0.0, "toxicity": 0.0}
    still = {f"{what}_{speed}_sd": 0.0 for what in ("offset", "size") for speed in ("fast", "slow")}
    volume = {"shares_per_day": 2.0 * sells_per_step / step_s, "day_s": 1.0, "curve": 0.0, "trade_shares": 1.0}
    values: dict[str, object] = {
        "order": {"quantity_shares": quantity_shares, "horizon_steps": horizon_steps, "step_s": step_s},
        "path_dt_s": path_dt_s,
        "venues": [
            {"name": "A", "size_shares": ahead_shares, "volume_share": 1.0, **venue},
            {"name": "B", "size_shares": 1000.0, "volume_share": 0.0, **venue},
        ],
        "quotes": {**still, "tick_bps": 1.0, "level_profile": [1.0]},
        "price": {"volatility_bps_per_sqrt_s": 0.0},
        "volume": volume | parts.pop("volume", {}),
        "response": {"cancel_half_life_s": 1e8} | parts.pop("response", {}),
    }
    for part, fields in parts.items():
        values[part] = {**values.get(part, {}), **fields}  # type: ignore[dict-item]
    return SyntheticMarket.model_validate(values)


def begin(market: SyntheticMarket, n: int = N) -> BatchSimulator:
    simulator = BatchSimulator(market, n, "test")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    return simulator


def rest_at(simulator: BatchSimulator, *weights: float) -> np.ndarray:
    """Step with nothing taken and these targets; costs (N,)."""
    nothing = np.zeros((simulator.n, 2))
    rest = np.tile(weights, (simulator.n, 1))
    return simulator.step(nothing, np.zeros(simulator.n), rest=rest)[0].copy()


def within(mean: np.ndarray, expected: float, errors: float = 3.5) -> bool:
    """Whether a sample's mean is near the expected one, in standard errors."""
    return abs(mean.mean() - expected) < errors * mean.std() / math.sqrt(len(mean))


@pytest.mark.parametrize(
    ("ahead", "sells", "chance"), [(10, 12, 0.6528), (50, 60, 0.8923), (100, 90, 0.1349), (2, 2, 0.3233)]
)
def test_poisson_queue(ahead: int, sells: int, chance: float) -> None:
    """Unit trades: filled by T with the chance of more than `ahead` of them. Closed form: P(Poisson >= ahead + 1)."""
    assert chance == pytest.approx(poisson.sf(ahead, sells), abs=1e-4)
    simulator = begin(still_market(ahead_shares=ahead, sells_per_step=sells, step_s=6.0))
    rest_at(simulator, 1.0, 0.0)
    assert within(simulator.read("episode_passive_shares")[:, 0], chance)


def test_pure_death_with_proportional_cancels() -> None:
    """Each order before us cancels at rate theta, trades come at rate mu: the mean time to the front is a sum.

    Lokin and Yu, Proposition 2: the time is a sum of exponentials of rates mu + theta k, k = 1 .. q; the next trade
    after it fills us.
    """
    queue, mu, theta, dt_s = 8, 0.5, 0.2, 0.05
    response = {"cancel_half_life_s": math.log(2.0) / theta}
    market = still_market(
        ahead_shares=queue,
        sells_per_step=mu,
        horizon_steps=60,
        path_dt_s=dt_s,
        response=response,
    )
    simulator = begin(market, 4000)
    filled_s = np.full(simulator.n, np.nan)
    for step in range(60):
        rest_at(simulator, 1.0, 0.0)
        new = np.isnan(filled_s) & (simulator.read("episode_passive_shares")[:, 0] > 0.5)
        filled_s[new] = step + simulator.read("passive_ms")[new, 0] / 1e3
    expected_s = sum(1.0 / (mu + theta * k) for k in range(1, queue + 1)) + 1.0 / mu
    assert np.isfinite(filled_s).mean() > 0.999
    times = np.where(np.isfinite(filled_s), filled_s, 60.0)
    assert abs(times.mean() - expected_s) < 3.5 * times.std() / math.sqrt(len(times)) + 2.0 * dt_s


def test_moallemi_yuan_fill_probability() -> None:
    """Filled before the price jumps away: by trades of exponential sizes, or whole by a jump through the price.

    alpha(q) = p + (1 - p) mu / (mu + 2 gamma) exp(-2 gamma f q / (mu + 2 gamma)), where half of the trades at rate mu
    are on our side, sizes have mean 1 / f, and jumps come at rate gamma, down with chance p (here 1/2).
    """
    mu, gamma, f, dt_s = 1.0, 0.3, 1.0 / 200.0, 0.05

    def alpha(q: float) -> float:
        return 0.5 + 0.5 * mu / (mu + 2.0 * gamma) * math.exp(-2.0 * gamma * f * q / (mu + 2.0 * gamma))

    for queue in (200.0, 1000.0):
        market = still_market(
            ahead_shares=queue,
            sells_per_step=0.5 * mu / f * dt_s,
            quantity_shares=1e-3,
            horizon_steps=400,
            step_s=dt_s,
            path_dt_s=dt_s,
            volume={"trade_shares": 1.0 / f, "trade_sizes": "exponential", "side_correlation": 0.0},
            informed={"news_per_s": gamma, "jump_bps": 50.0},
        )
        simulator = begin(market, 3000)
        filled, away = np.zeros(simulator.n, dtype=bool), np.zeros(simulator.n, dtype=bool)
        for _ in range(400):
            rest_at(simulator, 1.0, 0.0)
            filled |= (simulator.read("episode_passive_shares")[:, 0] > 0.0) & ~away
            away |= ~filled & (simulator.read("price_bps") > 20.0)
        assert within(filled.astype(float), alpha(queue), 4.0)


def test_hundred_ahead() -> None:
    """100 ahead of 50: 80 trade, 20 are left ahead; 30 trade, 10 are ours; 50 trade, the other 40 are ours."""
    market = still_market(ahead_shares=100, sells_per_step=0.0, quantity_shares=50, horizon_steps=4)
    simulator = begin(market, 1)
    expected = [(80.0, 20.0, 0.0), (30.0, 0.0, 10.0), (50.0, 0.0, 50.0)]
    for printed, ahead, filled in expected:
        simulator.overwrite(tick_outflow_shares=np.array([[printed, 0.0]]))
        rest_at(simulator, 1.0, 0.0)
        assert simulator.read("episode_passive_shares")[0, 0] == pytest.approx(filled)
        if filled < 50.0:
            assert simulator.read("rest_ahead_shares")[0, 0] == pytest.approx(ahead, abs=1e-5)


def test_cancel_may_lose_its_race() -> None:
    """A cancel that arrives half-way through the step takes what half of the outflow has left."""
    market = still_market(ahead_shares=10, sells_per_step=0.0, quantity_shares=100, horizon_steps=4)
    slow = market.venues[0].model_copy(update={"latency_ms": 500.0})
    simulator = begin(market.model_copy(update={"venues": (slow, market.venues[1])}), 1)
    rest_at(simulator, 1.0, 0.0)
    assert simulator.read("rest_ahead_shares")[0, 0] == pytest.approx(10.0)
    simulator.overwrite(tick_outflow_shares=np.array([[60.0, 0.0]]))
    rest_at(simulator, 0.0, 0.0)  # half of 60 comes first: 10 ahead, 20 of ours; 80 are cancelled
    assert simulator.read("episode_passive_shares")[0, 0] == pytest.approx(20.0)
    assert simulator.read("available_shares")[0] == pytest.approx(80.0)  # acknowledged at the step's end
    assert simulator.read("resting_shares")[0] == 0.0


def test_falls_through() -> None:
    """News below our price fills all that is left of the order, at its price, however long the queue."""
    informed = {"news_per_s": 1000.0, "jump_bps": 5.0}
    market = still_market(ahead_shares=1e6, sells_per_step=0.0, quantity_shares=100, informed=informed)
    simulator = begin(market, 200)
    rest_at(simulator, 1.0, 0.0)
    fell = simulator.read("price_bps") < -2.0
    passive = simulator.read("episode_passive_shares")[:, 0]
    assert 50 < fell.sum() < 150
    np.testing.assert_array_equal(passive[fell], 100.0)
    np.testing.assert_array_equal(passive[~fell], 0.0)
    value = simulator.read("passive_value_bps")[fell, 0] / 100.0
    np.testing.assert_allclose(value, -0.5, atol=1e-12)  # the near touch: half a tick below the midpoint


def test_constant_targets_keep_their_place() -> None:
    """The same targets again send nothing: the order waits where it is."""
    market = still_market(ahead_shares=100, sells_per_step=3.0, quantity_shares=50, horizon_steps=5)
    simulator = begin(market, 50)
    rest_at(simulator, 0.6, 0.0)
    ahead = simulator.read("rest_ahead_shares")
    for _ in range(3):
        rest_at(simulator, 0.6, 0.0)
        assert (simulator.read("rest_number").max(axis=1) == 1.0).all()
        assert (simulator.read("rest_ahead_shares") <= ahead).all()
        ahead = simulator.read("rest_ahead_shares")


def test_rebate_on_fills_only() -> None:
    """A rebate is paid for what traded, not for what rests."""
    market = still_market(ahead_shares=10, sells_per_step=0.0, quantity_shares=100, horizon_steps=3)
    paid = market.venues[0].model_copy(update={"make_fee_bps": -0.2})
    simulator = begin(market.model_copy(update={"venues": (paid, market.venues[1])}), 1)
    rest_at(simulator, 1.0, 0.0)
    assert simulator.ledger()["fee"][0] == 0.0
    simulator.overwrite(tick_outflow_shares=np.array([[40.0, 0.0]]))
    rest_at(simulator, 1.0, 0.0)
    assert simulator.ledger()["fee"][0] == pytest.approx(-0.2 * 30.0 / 100.0)


@pytest.mark.parametrize("name", ["us_equity", "dark", "crypto"])
def test_shares_are_conserved(name: str) -> None:
    """Random targets, takes and paces: what is filled, swept, in flight, resting and free is the order."""
    market = load_market(name)
    assert isinstance(market, SyntheticMarket)
    simulator, rng = begin(market, 100), np.random.default_rng(5)
    quantity, k = market.order.quantity_shares, market.n_venues
    total, done = np.zeros(100), np.zeros(100, dtype=bool)
    while not done.all():
        take, rest = rng.dirichlet(np.ones(k), 100), rng.dirichlet(np.ones(k), 100) * rng.random((100, 1))
        cost, _, ended = simulator.step(take, rng.random(100) * 0.3, rest=rest)
        total += np.where(done, 0.0, cost)
        filled = simulator.read("episode_filled_shares").sum(axis=1)
        passive = simulator.read("episode_passive_shares").sum(axis=1)
        left, swept = simulator.read("remaining_shares"), simulator.read("cleanup_shares")
        alive = ~done
        np.testing.assert_allclose((filled + passive + left + swept)[alive], quantity, rtol=1e-12)
        known = simulator.read("available_shares") + simulator.read("resting_shares")
        known += simulator.read("in_flight_shares")
        assert (known[alive & ~ended] <= quantity - passive[alive & ~ended] + 1e-6 * quantity).all()
        assert (simulator.read("rest_shares") >= 0.0).all()
        now = alive & ended
        np.testing.assert_allclose(total[now], simulator.ledger()["shortfall"][now], rtol=0.0, atol=1e-9)
        done |= ended
    assert simulator.read("rest_shares").shape == (100, k * RESTS)


def test_cont_kukanov_one_venue() -> None:
    """Post 272 and take 728 of 1,000: the mean cost is the optimum of Cont and Kukanov's program, 14.2784.

    h = .02, f = .003, r = .002, lambda_u = .026, 2,000 ahead, outflow Poisson(2,200); by exact enumeration.
    """
    market = still_market(
        ahead_shares=2000,
        sells_per_step=2200,
        quantity_shares=1000,
        quotes={"tick_bps": 0.04},
        response={"cleanup_penalty_bps": 0.003},
    )
    fees = {"take_fee_bps": 0.003, "make_fee_bps": -0.002}
    a, b = (venue.model_copy(update=fees) for venue in market.venues)
    simulator = begin(market.model_copy(update={"venues": (a, b)}))
    take, rest = np.tile([0.0, 1.0], (N, 1)), np.tile([1.0, 0.0], (N, 1))
    simulator.step(take, np.full(N, 0.728), rest=rest)
    cost = 1000.0 * simulator.ledger()["shortfall"]
    assert within(cost, 14.2784)


@pytest.mark.parametrize(
    ("queues", "rebates", "taken", "resting", "optimum"),
    [((2000, 2000), (0.002, 0.002), 497, (385, 385), 5.3966), ((2000, 1000), (0.002, 0.003), 610, (348, 286), 9.7432)],
)
def test_cont_kukanov_two_venues(queues, rebates, taken, resting, optimum) -> None:
    """Overbooked at two venues, the mean cost is the optimum of their program, by exact convolution.

    As with one venue; lambda_o = .024 for each share filled beyond the order, outflows Poisson(1.1 times the queue).
    """
    flows = 1.1 * np.array(queues)
    market = still_market(
        ahead_shares=2000,
        sells_per_step=float(flows.sum()),
        quantity_shares=1000,
        quotes={"tick_bps": 0.04},
        response={"cleanup_penalty_bps": 0.003},
    )
    venues = [
        market.venues[0].model_copy(
            update={
                "name": f"V{k}",
                "size_shares": float(queues[k]),
                "volume_share": flows[k],
                "make_fee_bps": -rebates[k],
            }
        )
        for k in range(2)
    ]
    venues.append(market.venues[1].model_copy(update={"take_fee_bps": 0.003}))
    left = 1000.0 - taken
    overbooking = Overbooking(most_ratio=sum(resting) / left, overfill_cost_bps=0.024)
    order = market.order.model_copy(update={"overbooking": overbooking})
    simulator = begin(market.model_copy(update={"venues": tuple(venues), "order": order}))
    rest = np.tile([resting[0] / left, resting[1] / left, 0.0], (N, 1))
    simulator.step(np.tile([0.0, 0.0, 1.0], (N, 1)), np.full(N, taken / 1000.0), rest=rest)
    filled = simulator.read("episode_passive_shares").sum(axis=1) + taken
    np.testing.assert_allclose(simulator.read("cleanup_shares"), 1000.0 - filled, atol=1e-6)
    assert 0.02 < (filled > 1000.5).mean() < 0.98
    assert within(1000.0 * simulator.ledger()["shortfall"], optimum, 3.0)


def test_a_display_leaks_once() -> None:
    """Of 100 shares shown 1 bp leaks, half of what is left of it a second; what goes on waiting leaks no more."""
    response = {"display_leakage_bps_per_1000_shares": 10.0, "leakage_half_life_s": 1.0}
    market = still_market(
        ahead_shares=1e6, sells_per_step=0.0, quantity_shares=100.0, horizon_steps=4, response=response
    )
    simulator = begin(market, 3)
    for pushed in (0.5, 0.75, 0.875):
        rest_at(simulator, 1.0, 0.0)
        np.testing.assert_allclose(simulator.read("permanent_bps"), pushed, rtol=1e-12)
        np.testing.assert_allclose(simulator.ledger()["impact"], pushed, rtol=1e-12)  # nothing is done
    quiet = begin(market, 3)
    quiet.step(np.tile([0.0, 1.0], (3, 1)), np.full(3, 0.5))
    assert not quiet.read("permanent_bps").any(), "what is taken shows nothing"
    closed = begin(market, 3)
    closed.overwrite(outage=np.tile([1.0, 0.0], (3, 1)))
    rest_at(closed, 1.0, 0.0)
    assert not closed.read("permanent_bps").any(), "what comes back was never shown"
