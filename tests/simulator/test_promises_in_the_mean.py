"""The promises that hold in the mean: what latency, fade and news cost, what variance reduction leaves out, and what a
fill at rest is worth later."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.simulator.test_promises import changed

# ------------------------------------------------------------------------------------- 6. monotonicity


def shortfalls(market: SyntheticMarket, n: int, reduced: bool = False) -> np.ndarray:
    """Shortfall, or variance-reduced cost, per scenario with equal weights throughout; float64 (n,)."""
    simulator = BatchSimulator(market, n, "test")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    weights = np.full((n, market.n_venues), 1.0 / market.n_venues)
    done = np.zeros(n, dtype=bool)
    while not done.all():
        done |= simulator.step(weights)[2]
    return simulator.reduced_cost() if reduced else simulator.ledger()["shortfall"]


def paired(base: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of (other - base) and its standard error."""
    gap = other - base
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


def slower(market: SyntheticMarket, factor: float) -> SyntheticMarket:
    return changed(market, venues={"latency_ms": lambda ms: ms * factor})


def brisk_market(**parts: dict) -> SyntheticMarket:
    """Four exchanges, milliseconds away, on a clock of 50 ms: children sweep three levels without a limit."""
    still = dict.fromkeys(("size_fast_sd", "size_slow_sd"), 0.0)
    common = {"take_fee_bps": 0.0, "offset_bps": 0.3, "size_shares": 100.0, "latency_sigma": 0.2, "toxicity": 0.0}
    venues = [{"name": f"V{k}", "latency_ms": 0.5 * (k + 1), **common} for k in range(4)]
    values = {
        "order": {"quantity_shares": 4000, "horizon_steps": 10, "step_s": 0.5, "limit": "sweep"},
        "path_dt_s": 0.05,
        "venues": venues,
        "quotes": {"tick_bps": 0.5, "round_lot_shares": 100.0, "level_profile": [1.0] * 8, **still},
        "price": {"volatility_bps_per_sqrt_s": 1.0},
        "latency": {"tail_probability": 0.0},
        "response": {"reaction_time_ms": 0.5},
    }
    return changed(SyntheticMarket.model_validate(values), **parts)


NEWS: dict = {"informed": {"news_per_s": 20.0, "jump_bps": 0.4, "removed_fraction": 1.0}}
FADE: dict = {"venues": {"toxicity": 2.0}}


@pytest.mark.parametrize("cause", [NEWS, FADE], ids=["news", "fade"])
def test_latency_costs_where_flow_is_informed_or_faded(cause):
    market = brisk_market(**cause)
    base, three, ten = (shortfalls(slower(market, factor), 4000, reduced=True) for factor in (1, 3, 10))
    for quick, slow in ((base, three), (three, ten)):
        mean, error = paired(quick, slow)
        assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"


@pytest.mark.parametrize("factor", [3, 10])
def test_latency_costs_nothing_without_news_or_fade(factor):
    market = brisk_market()
    mean, error = paired(*(shortfalls(slower(market, f), 20_000, reduced=True) for f in (1, factor)))
    assert abs(mean) < 4 * error and abs(mean) < 0.02, f"{mean:.4f} +- {error:.4f}"


def test_more_fade_costs_more():
    costs = [
        shortfalls(brisk_market(venues={"toxicity": toxicity}), 2000, reduced=True) for toxicity in (0.0, 0.7, 2.0)
    ]
    for less, more in pairwise(costs):
        mean, error = paired(less, more)
        assert mean > 4 * error


def test_what_news_takes_away_costs_more_the_more_it_takes():
    removed = [{**NEWS["informed"], "removed_fraction": part} for part in (0.0, 1.0)]
    costs = [shortfalls(slower(brisk_market(informed=informed), 3.0), 4000, reduced=True) for informed in removed]
    mean, error = paired(*costs)
    assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"


# ------------------------------------------------------------------------------------ variance reduction


def noise_of(market: SyntheticMarket, n: int, follows_signal: bool, one_venue: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shortfall, and what is left out of it, per scenario (n,), under weights at random."""
    simulator = BatchSimulator(market, n, "train")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    rng, done = np.random.default_rng(1), np.zeros(n, dtype=bool)
    plain, noise = np.zeros(n), np.zeros(n)
    while not done.all():
        weights = rng.standard_exponential((n, market.n_venues)) * simulator.read("open")
        if one_venue:
            weights = (weights == weights.max(axis=1, keepdims=True)).astype(float)
        weights += 1e-12
        pace = 1.0 * (simulator.read("signal") > 0.3) if follows_signal else None
        cost, left_out, ends = simulator.step(weights / weights.sum(axis=1, keepdims=True), pace)
        plain += np.where(done, 0.0, cost)
        noise += np.where(done, 0.0, left_out)
        done |= ends
    np.testing.assert_allclose(simulator.ledger()["shortfall"], plain, atol=1e-9)
    return plain, noise


@pytest.mark.parametrize("follows_signal", [False, True], ids=["schedule", "pace by the signal"])
@pytest.mark.parametrize("name", ["us_equity", "tick_bound", "crypto", "fx_two_dealer", "dark"])
def test_variance_reduction_keeps_the_mean_and_shrinks_the_variance(name, follows_signal):
    market = load_market(name)
    plain, noise = noise_of(market, 4000, follows_signal, one_venue=name == "crypto")
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(len(noise))
    assert (plain - noise).var() < (1.0 if follows_signal or name == "crypto" else 0.5) * plain.var()


@pytest.mark.parametrize("follows_signal", [False, True], ids=["schedule", "pace by the signal"])
def test_what_variance_reduction_leaves_out_has_mean_zero_where_all_is_noise(follows_signal):
    """Drift, jumps and news in plenty, three waves, children late by ticks; a pace that ends with the drift."""
    drift = {"drift_sd_bps_per_s": 3.0, "drift_half_life_s": 10.0, "signal_correlation": 0.9}
    market = brisk_market(
        venues={"latency_ms": lambda ms: 40 * ms, "toxicity": 0.5},
        price={"jumps_per_hour": 3000.0, **drift},
        order={"waves": 3, "wave_timeout_ms": 40.0, "quantity_shares": 300.0 if follows_signal else 4000.0},
        **NEWS,
    )
    _, noise = noise_of(market, 20_000, follows_signal, one_venue=False)
    assert abs(noise.mean()) < 4.5 * noise.std() / np.sqrt(len(noise)), f"{noise.mean()} {noise.std()}"


# ------------------------------------------------------------------------------------ 9. markouts at rest

TICK_S, AT_REST, LATER_TICKS = 0.1, 60, 10  # of the clock; decisions at which something rests; 1 s


def resting_market(**parts: dict) -> SyntheticMarket:
    """Three venues with a half-spread of 3 bps that price moves of .3 bps a second do not reach; nobody is informed.

    Quotes follow at once, sellers hit whichever venue, and no order of ours is ever late.
    """
    common = {"take_fee_bps": 0.0, "offset_bps": 3.0, "size_shares": 30.0, "latency_ms": 0.0, "latency_sigma": 0.0}
    venues = [{"name": f"V{k}", "toxicity": 0.0, "quote_delay_s": 0.0, **common} for k in range(3)]
    values = {
        "order": {
            "quantity_shares": 1e6,
            "horizon_steps": AT_REST + LATER_TICKS + 1,
            "step_s": TICK_S,
            "lot_shares": 10.0,
        },
        "path_dt_s": TICK_S,
        "venues": venues,
        "quotes": {"tick_bps": 0.2, "round_lot_shares": 10.0},
        "price": {"volatility_bps_per_sqrt_s": 0.3, "drift_sd_bps_per_s": 0.0},
        "latency": {"tail_probability": 0.0},
        "informed": {"news_per_s": 0.0},
        "volume": {"shares_per_day": 200.0 * 23_400.0, "side_correlation": 0.0},
        "response": {"reaction_time_ms": 1e-3},
    }
    return changed(SyntheticMarket.model_validate(values), **parts)


def filled_at_rest(market: SyntheticMarket, n: int = 3000) -> dict[str, np.ndarray]:
    """Sums over the fills of scenarios with an order of 10 shares at every near touch, (n,) each.

    "shares"; "earned": shares x the efficient price at the fill's own time less the price paid, as the ledger has it;
    "markout": shares x the efficient price a second after the fill's tick less the one at the fill's own time.
    """
    simulator = BatchSimulator(market, n, "test")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    k, quantity = market.n_venues, market.order.quantity_shares
    nothing, target = np.zeros((n, k)), np.full((n, k), 15.0 / quantity)
    price, shares, value, spread = [], [], [], []
    for step in range(AT_REST + LATER_TICKS):
        price.append(simulator.read("price_bps"))
        paid_before = simulator.read("spread_cost")
        simulator.step(nothing, np.zeros(n), rest=target if step < AT_REST else nothing)
        if step < AT_REST:
            shares.append(simulator.read("passive_shares").sum(axis=1))
            value.append(simulator.read("passive_value_bps").sum(axis=1))
            spread.append((simulator.read("spread_cost") - paid_before) * quantity)
    price.append(simulator.read("price_bps"))
    later = np.array(price[1 + LATER_TICKS :])
    filled, earned = np.array(shares), -np.array(spread)
    markout = filled * later - (np.array(value) + earned)
    return {name: each.sum(axis=0) for name, each in (("shares", filled), ("earned", earned), ("markout", markout))}


def mean_markout(market: SyntheticMarket) -> tuple[float, float, float]:
    """A share's mean markout, its standard error over scenarios, and the half-spread that it earned; in bps."""
    fills = filled_at_rest(market)
    per_share, n = fills["shares"].mean(), len(fills["shares"])
    mean, error = fills["markout"].mean() / per_share, fills["markout"].std(ddof=1) / np.sqrt(n) / per_share
    return float(mean), float(error), float(fills["earned"].mean() / per_share)


@pytest.mark.parametrize("trade_shares", [None, 25.0], ids=["flow", "trades"])
def test_a_fill_at_rest_is_worth_the_half_spread_where_nobody_knows_more(trade_shares):
    """From the efficient price at its own time its markout is zero: 4 standard errors are .02 of the 3 bps earned."""
    mean, error, earned = mean_markout(resting_market(volume={"trade_shares": trade_shares}))
    assert 2.5 < earned < 3.5
    assert abs(mean) < 4 * error and error < 0.005 * earned, f"{mean:.4f} +- {error:.4f}"


def test_a_fill_at_rest_loses_the_more_the_more_is_known():
    """Sellers who go with the tick's move; who know of the next one as well; who go with news."""
    informed = ({"flow_foresight": 0.0}, {"flow_foresight": 0.9}, {"news_per_s": 0.5, "jump_bps": 1.0})
    together = {"side_correlation": 0.9}
    markouts = [mean_markout(resting_market(volume=together, informed=knows)) for knows in informed]
    for mean, error, _ in markouts:
        assert mean < -4 * error, f"{mean:.4f} +- {error:.4f}"
    (less, a, _), (more, b, _), _ = markouts
    assert more < less - 4 * np.hypot(a, b)


@pytest.mark.parametrize("dt_s", [0.1, 0.025])
def test_a_touch_that_falls_through_costs_what_the_price_overshoots_in_its_tick(dt_s):
    """Where prices reach what rests: a fall fills at the price's own moment, and the tick that it is seen in goes on
    beyond it by .58 of a tick's move (Broadie, Glasserman, Kou 1997), which vanishes with the clock.
    """
    near = {"offset_bps": 0.1, "size_shares": 1e5}
    market = resting_market(
        venues=near, price={"volatility_bps_per_sqrt_s": 1.0}, path_dt_s=dt_s, order={"step_s": dt_s}
    )
    mean, error, earned = mean_markout(market)
    overshoot = 0.5826 * np.sqrt(dt_s)
    assert earned < 0.03  # nearly all fall through: the queue is too long, but for orders alone at a better price
    assert abs(mean + overshoot) < 0.1 * overshoot + 4 * error, f"{mean:.4f} +- {error:.4f}"
