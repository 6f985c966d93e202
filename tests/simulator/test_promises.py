"""The promises of the model, 1 to 7, as properties of random markets, orders, weights and seeds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sor_sb3.envs.observation import Observer
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import LEDGER_PARTS, BatchSimulator
from tests.simulator.market_strategies import (
    EXOGENOUS_ORDER,
    EXOGENOUS_VENUE,
    SEEDS,
    markets,
    play,
    policies,
)
from tests.simulator.records import children_of, orders_of, parameters_of, venues_of

free = settings(  # as many examples as the profile says: 100, or 1,000 with --hypothesis-profile=thorough
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
N = 5


def batch(seed: int, n: int = N) -> np.ndarray:
    return np.array([(seed + i) % 2**64 for i in range(n)], dtype=np.uint64)


def changed(market: SyntheticMarket, **parts: dict) -> SyntheticMarket:
    """The market with fields of its parts, or of all its venues, replaced; a callable maps the old value."""
    data = market.model_dump()
    for part, fields in parts.items():
        for target in data["venues"] if part == "venues" else [data[part]]:
            for name, value in fields.items():
                target[name] = value(target[name]) if callable(value) else value
    return SyntheticMarket.model_validate(data)


# ------------------------------------------------------------------------------------------- 1. shares


def unheard(step) -> np.ndarray:
    """Shares of children in flight that are not filled, after a step; (N,)."""
    in_flight = step.children["shares"] > 0.0
    return np.where(in_flight, step.children["shares"] - step.children["filled_shares"], 0.0).sum(axis=1)


@given(markets(), SEEDS, policies())
@free
def test_shares_are_conserved(market, seed, policy):
    """Sent = filled + returned + still in flight; the order = filled + in flight + available, + clean-up at the end."""
    _simulator, steps = play(market, batch(seed), policy)
    quantity = market.order.quantity_shares
    for s in steps:
        live = s.live
        sent, filled = s.venues["sent_shares"][live], s.venues["filled_shares"][live]
        before, after = s.orders_before[live], s.orders[live]
        busy = s.children_before["shares"][live] > 0.0
        assert np.all(sent[busy] == 0.0), "a venue with a child in flight got another"
        most = np.where(busy, s.children_before["shares"][live], sent)
        assert np.all((filled >= 0.0) & (filled <= most * (1 + 1e-12))), "a venue filled more than was sent"
        if s.pace is None:
            wanted = before["slice_shares"]
        elif market.order.lot_shares is None:
            wanted = s.pace[live] * before["available_shares"]
        else:
            wanted = after["sent_shares"]
            assert np.all(wanted <= before["available_shares"] * (1 + 1e-12))
        went = np.where(busy, 0.0, s.weights[live] * wanted[:, None]).sum(axis=1)
        if market.order.lot_shares is None:
            np.testing.assert_allclose(sent.sum(axis=1), went, rtol=1e-11, atol=1e-12 * quantity)
        assert np.all(sent.sum(axis=1) <= before["available_shares"] * (1 + 1e-11)), "sent what was not available"
        swept = after["cleanup_shares"]
        balance = before["remaining_shares"] - filled.sum(axis=1) - swept - after["remaining_shares"]
        np.testing.assert_allclose(balance, 0.0, atol=2e-12 * quantity)
        going_on = ~s.done[live]
        np.testing.assert_allclose(
            (after["available_shares"] + unheard(s)[live])[going_on],
            after["remaining_shares"][going_on],
            atol=1e-11 * quantity,
        )
        assert np.all(after["remaining_shares"] >= 0.0)
        assert np.all(after["remaining_shares"][s.done[live]] == 0.0), "an ended episode left shares undone"
    ended = steps[-1]
    filled = sum(np.where(s.live, s.venues["filled_shares"].sum(axis=1), 0.0) for s in steps)
    swept = sum(np.where(s.live & s.done, s.orders["cleanup_shares"], 0.0) for s in steps)
    np.testing.assert_allclose(filled + swept, quantity, rtol=1e-11)
    assert np.all(ended.done[ended.live])


@given(markets(), SEEDS, policies())
@free
def test_lots_are_whole(market, seed, policy):
    lot = market.order.lot_shares
    if lot is None:
        return
    _, steps = play(market, batch(seed), policy)
    for s in steps:
        wanted = s.orders["sent_shares"]
        lots = np.ceil(wanted / lot - 1e-9)
        with np.errstate(invalid="ignore", divide="ignore"):
            counts = np.where(wanted[:, None] > 0, s.venues["sent_shares"] * (lots / wanted)[:, None], 0.0)
        np.testing.assert_allclose(counts[s.live], np.rint(counts[s.live]), atol=1e-6)


@given(markets(), SEEDS, policies())
@free
def test_no_venue_fills_more_than_it_holds_and_a_closed_one_nothing(market, seed, policy):
    _, steps = play(market, batch(seed), policy)
    for s in steps:
        filled = s.venues["filled_shares"][s.live]
        before = s.venues_before[s.live]
        shown = np.maximum(before["quote_shares"], before["next_shares"])  # whichever is in force on arrival
        holds = np.maximum(shown + before["hidden_shares"] - before["depleted_shares"], 0.0)
        assert np.all(filled <= holds * (1 + 1e-12)), "a venue filled more than it held"
        assert np.all(filled[before["open"] == 0] == 0.0), "a closed venue filled"
        assert np.all(filled[before["outage"] == 1] == 0.0), "a venue in an outage filled"
        dark = np.array([v.dark.min_execution_shares if v.dark else 0.0 for v in market.venues])
        assert np.all((filled == 0.0) | (filled >= dark * (1 - 1e-9))), "a dark pool filled less than its minimum"


@given(markets(), SEEDS, policies())
@free
def test_no_child_is_filled_beyond_its_limit(market, seed, policy):
    """Neither its last share beyond the best price heard plus the offset, nor through a better quote left untaken."""
    offset = np.inf if market.order.limit_offset_bps is None else market.order.limit_offset_bps
    if not market.order_protection and offset == np.inf:
        return
    lit = np.array([venue.dark is None for venue in market.venues])
    walks = np.array([0.0 if venue.dark else venue.walk_bps for venue in market.venues])
    simulator, steps = play(market, batch(seed), policy)
    fees = np.broadcast_to(parameters_of(simulator)["take_fee_bps"], (N, market.n_venues))
    quantity = market.order.quantity_shares
    for s in steps:
        before, now, filled = s.venues_before, s.venues, s.venues["filled_shares"]
        shown = np.maximum(before["observed_shares"] - before["depleted_shares"], 0.0) * (before["open"] == 1) * lit
        quotes = np.where(shown > 0.0, before["observed_offset_bps"], np.inf)
        new = s.live[:, None] & (filled > 0.0) & (now["sent_shares"] > 0.0)  # sent at this very decision
        for i, k in zip(*np.nonzero(new), strict=True):
            price = now["fill_cost"][i, k] * quantity / filled[i, k] - fees[i, k]  # average
            touch = before["offset_bps"][i, k] + (
                0.0 if market.order.synchronise_arrivals else before["touch_move_bps"][i, k]
            )
            last = price if market.order.synchronise_arrivals else touch + 2 * (price - touch)
            limit = quotes[i].min() + offset
            if market.order_protection:
                others = (np.arange(market.n_venues) != k) & (now["sent_shares"][i] < shown[i] * (1 - 1e-9))
                limit = min(limit, np.where(others, quotes[i], np.inf).min())
            assert last <= limit + 1e-6 * (1 + abs(limit)) if np.isfinite(limit) else True, (walks[k], last, limit)


@given(markets(), SEEDS, policies())
@free
def test_what_we_took_stays_taken_and_refills_with_the_half_life(market, seed, policy):
    _, steps = play(market, batch(seed), policy)
    half_lives = np.array([venue.refill_half_life_s for venue in market.venues])
    decay = 0.5 ** (market.order.step_s / half_lives)
    expected = np.zeros((N, market.n_venues))
    for s in steps:
        np.testing.assert_allclose(s.venues_before["depleted_shares"][s.live], expected[s.live], rtol=1e-9, atol=1e-9)
        expected = (expected + s.venues["filled_shares"]) * decay


# --------------------------------------------------------------------------------------- 2. same bytes


@given(markets(), SEEDS, policies())
@free
def test_same_seed_same_bytes(market, seed, policy):
    (a, first), (b, second) = (play(market, batch(seed), policy) for _ in range(2))
    assert orders_of(a).tobytes() == orders_of(b).tobytes() and venues_of(a).tobytes() == venues_of(b).tobytes()
    for x, y in zip(first, second, strict=True):
        assert x.cost.tobytes() == y.cost.tobytes() and x.noise.tobytes() == y.noise.tobytes()


@given(markets(), SEEDS, policies(), st.integers(0, N - 1))
@free
def test_a_member_of_a_batch_equals_a_lone_order(market, seed, policy, i):
    _, together = play(market, batch(seed), policy)
    lone = BatchSimulator(market, 1, "test")
    lone.reset(batch(seed)[i : i + 1], np.zeros(1, dtype=np.int64))
    for s in together:
        if not s.live[i]:
            break
        assert venues_of(lone)[0].tobytes() == s.venues_before[i].tobytes()
        cost, noise, done = lone.step(s.weights[i : i + 1], None if s.pace is None else s.pace[i : i + 1])
        assert (cost[0], noise[0], done[0]) == (s.cost[i], s.noise[i], s.done[i])
        assert orders_of(lone)[0].tobytes() == s.orders[i].tobytes()


@given(markets(), SEEDS)
@free
def test_resetting_some_members_leaves_the_others_alone(market, seed):
    simulator = BatchSimulator(market, 4)
    simulator.reset(batch(seed, 4), np.zeros(4, dtype=np.int64))
    before = orders_of(simulator).copy(), venues_of(simulator).copy()
    which = np.array([2, 0])
    simulator.reset(batch(seed, 4)[which], np.ones(2, dtype=np.int64), which)
    kept = [1, 3]
    assert orders_of(simulator)[kept].tobytes() == before[0][kept].tobytes()
    assert venues_of(simulator)[kept].tobytes() == before[1][kept].tobytes()
    fresh = BatchSimulator(market, 2)
    fresh.reset(batch(seed, 4)[which], np.ones(2, dtype=np.int64))
    assert venues_of(simulator)[which].tobytes() == venues_of(fresh).tobytes(), "a used member differs from a fresh one"
    assert orders_of(simulator)[which].tobytes() == orders_of(fresh).tobytes()


# ------------------------------------------------------------------------- 3. and 7. path, no look-ahead


@given(markets(), SEEDS, policies(), policies())
@free
def test_the_exogenous_path_does_not_depend_on_actions(market, seed, one, other):
    _, first = play(market, batch(seed), one)
    _, second = play(market, batch(seed), other)
    for x, y in zip(first, second, strict=False):
        both = x.live & y.live
        for name in EXOGENOUS_VENUE:
            assert np.array_equal(x.venues_before[name][both], y.venues_before[name][both]), name
        for name in EXOGENOUS_ORDER:
            assert np.array_equal(x.orders_before[name][both], y.orders_before[name][both]), name


@given(markets(), SEEDS, policies(), st.floats(-1e3, 1e3), st.floats(0.01, 100))
@free
def test_no_fill_looks_ahead(market, seed, policy, move, factor):
    """Whatever the path does after the arrival of a child, in this step or later, changes no fill of it.

    Children that are held back look the path up themselves: see the test of `arrival_state`.
    """
    market = changed(market, order={"synchronise_arrivals": False})
    played, steps = play(market, batch(seed), policy)
    s = steps[len(steps) // 2]
    if np.any(s.children_before["shares"] > 0.0):
        return
    simulator = played.branch(np.arange(N))
    orders_of(simulator).put(s.orders_before)
    venues_of(simulator).put(s.venues_before)
    children_of(simulator).put(s.children_before)
    orders_of(simulator)["next_mid_bps"] += move
    orders_of(simulator)["mid_noise_bps"] -= move
    orders_of(simulator)["drift_bps_per_s"] += move
    orders_of(simulator)["smooth_move_bps"] += move
    orders_of(simulator)["news_ms"] *= factor
    orders_of(simulator)["stressed"] = 1 - orders_of(simulator)["stressed"]
    orders_of(simulator)["key"] += np.uint64(12345)
    venues_of(simulator)["key"] += np.uint64(12345)
    for name in ("next_offset_bps", "next_shares", "offset_fast", "size_slow", "recent_volume_shares"):
        venues_of(simulator)[name] *= factor
    simulator.step(s.weights, s.pace)
    for name in ("filled_shares", "fill_cost", "depleted_shares"):
        assert np.array_equal(venues_of(simulator)[name][s.live], s.venues[name][s.live]), name


# ---------------------------------------------------------------------------------------- 4. the ledger


@given(markets(), SEEDS, policies())
@free
def test_the_ledger_adds_up_to_the_shortfall(market, seed, policy):
    """What every child and the sweep paid, against the arrival mid: the definition, without the ledger's parts."""
    _simulator, steps = play(market, batch(seed), policy)
    quantity = market.order.quantity_shares
    paid, total = np.zeros(N), np.zeros(N)
    final = steps[0].orders.copy()
    for s in steps:
        filled = s.venues["filled_shares"]
        level = (s.orders_before["mid_bps"] + s.orders_before["displacement_bps"])[:, None]
        step_paid = np.sum(s.venues["fill_cost"] * quantity + filled * level, axis=1)
        paid += np.where(s.live, step_paid, 0.0)
        total += np.where(s.live, s.cost, 0.0)
        swept = s.live & s.done
        final[swept] = s.orders[swept]
    paid += final["cleanup_value_bps_shares"]
    ledger = {part: final[f"{part}_cost"] for part in LEDGER_PARTS}
    shortfall = np.sum(list(ledger.values()), axis=0)
    scale = np.maximum(np.sum(np.abs(list(ledger.values())), axis=0), 1.0)
    assert np.all(np.abs(shortfall - total) < 1e-9 * scale), "steps' costs do not add up to the ledger"
    assert np.all(np.abs(shortfall - paid / quantity) < 1e-9 * scale), "the ledger is not what was paid"
    assert np.all(
        np.abs(final["fill_value_bps_shares"] + final["cleanup_value_bps_shares"] + final["fee_cost"] * quantity - paid)
        < 1e-9 * scale * quantity
    )


@given(markets(), SEEDS, policies())
@free
def test_the_clean_up_is_dearer_than_any_fill_of_the_episode(market, seed, policy):
    _simulator, steps = play(market, batch(seed), policy)
    dearest = np.full(N, -np.inf)
    quantity = market.order.quantity_shares
    for s in steps:
        filled = s.venues["filled_shares"]
        with np.errstate(invalid="ignore", divide="ignore"):
            all_in = np.where(filled > 0.0, s.venues["fill_cost"] * quantity / filled, -np.inf)
        dearest = np.where(s.live, np.maximum(dearest, all_in.max(axis=1)), dearest)
        swept = s.live & s.done & (s.orders["cleanup_shares"] > 1e-9 * quantity)
        price = s.orders["cleanup_cost"][swept] * quantity / s.orders["cleanup_shares"][swept]
        assert np.all(price >= dearest[swept] - 1e-9 * np.abs(price)), "the sweep was cheaper than a fill"


# ------------------------------------------------------------------------------ 5. names, order and side


@given(markets(), SEEDS, policies(), st.data())
@free
def test_permuting_venues_permutes_the_results(market, seed, policy, data):
    order = np.array(data.draw(st.permutations(range(market.n_venues))))
    shuffled = market.model_copy(update={"venues": tuple(market.venues[k] for k in order)})
    _, steps = play(market, batch(seed), policy)
    simulator = BatchSimulator(shuffled, N, "test")
    simulator.reset(batch(seed), np.zeros(N, dtype=np.int64))
    for s in steps:
        cost, _noise, done = simulator.step(s.weights[:, order], s.pace)
        scale = np.abs(s.venues["fill_cost"]).sum(axis=1) + np.abs(s.cost) + 1e-12
        assert np.all(np.abs(cost - s.cost)[s.live] <= 1e-11 * scale[s.live])
        for name in ("sent_shares", "filled_shares", "fill_cost"):
            np.testing.assert_allclose(
                venues_of(simulator)[name][s.live], s.venues[name][:, order][s.live], rtol=1e-11, atol=1e-11
            )
        assert np.array_equal(done[s.live], s.done[s.live])


@given(markets(), SEEDS, policies())
@free
def test_buys_and_sells_are_mirror_images(market, seed, policy):
    sell = changed(market, order={"side": "sell"})
    (a, first), (b, second) = play(market, batch(seed), policy), play(sell, batch(seed), policy)
    assert orders_of(a).tobytes() == orders_of(b).tobytes() and venues_of(a).tobytes() == venues_of(b).tobytes()
    assert all(x.cost.tobytes() == y.cost.tobytes() for x, y in zip(first, second, strict=True))


@given(markets(), SEEDS, policies())
@free
def test_the_unit_of_shares_does_not_matter(market, seed, policy):
    """Quantity, lots and sizes times ten: the same costs, where impact is per share a tenth. (A pool's least is 1.)"""
    if market.has_dark or any("size_shares" in path for path in market.randomise):
        return
    impact = market.response.permanent_impact_bps_per_1000_shares
    tenfold = changed(
        market,
        order={"quantity_shares": lambda q: 10 * q, "lot_shares": lambda lot: lot and 10 * lot},
        venues={"size_shares": lambda d: 10 * d},
        response={"permanent_impact_bps_per_1000_shares": impact / 10},
    )
    (_, first), (_, second) = play(market, batch(seed), policy), play(tenfold, batch(seed), policy)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_allclose(y.cost[x.live], x.cost[x.live], rtol=1e-7, atol=1e-7)


# ------------------------------------------------------------------------------------- 6. monotonicity


@given(markets(), SEEDS, policies(), st.data())
@free
def test_a_higher_fee_is_never_cheaper(market, seed, policy, data):
    raises = data.draw(st.lists(st.floats(0, 10), min_size=market.n_venues, max_size=market.n_venues))
    venues = tuple(
        venue.model_copy(update={"take_fee_bps": venue.take_fee_bps + more})
        for venue, more in zip(market.venues, raises, strict=True)
    )
    dear, _ = play(market.model_copy(update={"venues": venues}), batch(seed), policy)
    cheap, _ = play(market, batch(seed), policy)
    gap = dear.ledger()["shortfall"] - cheap.ledger()["shortfall"]
    scale = sum(np.abs(part) for part in dear.ledger().values())
    assert np.all(gap >= -1e-10 * (1 + scale))


def shortfalls(market: SyntheticMarket, n: int, reduced: bool = False) -> np.ndarray:
    """Shortfall, or variance-reduced cost, per scenario with equal weights throughout; float64 (n,)."""
    simulator = BatchSimulator(market, n, "test")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    weights = np.full((n, market.n_venues), 1.0 / market.n_venues)
    done = np.zeros(n, dtype=bool)
    while not done.all():
        done = simulator.step(weights)[2]
    return simulator.reduced_cost() if reduced else simulator.ledger()["shortfall"]


def paired(base: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of (other - base) and its standard error."""
    gap = other - base
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


def slower(market: SyntheticMarket, factor: float) -> SyntheticMarket:
    return changed(market, venues={"latency_ms": lambda ms: ms * factor})


NO_NEWS: dict = {"informed": {"probability": 0.0}}
NO_FADE: dict = {"venues": {"toxicity": 0.0}}


@pytest.mark.parametrize("kind", ["both", "news only", "fade only"])
def test_latency_costs_where_flow_is_informed_or_faded(kind):
    us_equity = load_market("us_equity")
    market = changed(us_equity, **({} if kind == "both" else NO_FADE if kind == "news only" else NO_NEWS))
    base, three, ten = (shortfalls(slower(market, factor), 3000) for factor in (1, 3, 10))
    for quick, slow in ((base, three), (three, ten)):
        mean, error = paired(quick, slow)
        if kind == "news only" and slow is ten:  # all children already come after the news: nothing more to lose
            assert mean > -4 * error
        else:
            assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"


@pytest.mark.parametrize("factor", [3, 10])
def test_latency_costs_nothing_without_news_or_fade(factor):
    market = changed(load_market("us_equity"), **NO_NEWS, **NO_FADE)
    mean, error = paired(shortfalls(market, 5000), shortfalls(slower(market, factor), 5000))
    assert abs(mean) < 4 * error and abs(mean) < 0.01, f"{mean:.4f} +- {error:.4f}"


def test_even_a_fifth_of_a_step_costs_nothing_without_news_or_fade():
    """The sharp form: latencies of 200 ms in steps of a second, touches that refill between steps.

    Where they do not, a late child may meet the quote that the next one meets too, and that costs a little.
    """
    market = changed(
        load_market("us_equity"),
        **NO_NEWS,
        order={"step_s": 1.0, "quantity_shares": 1000.0},
        latency={"tail_probability": 0.0},
        venues={"toxicity": 0.0, "latency_ms": 200.0, "halts_per_hour": 0.0, "refill_half_life_s": 0.01},
    )
    quiet = {"speed_bump_ms": 0.0, "outages_per_hour": 0.0}
    market = changed(market, venues=quiet, latency={"congestions_per_hour": 0.0})  # all answers come within the step
    mean, error = paired(shortfalls(slower(market, 0.0), 20_000), shortfalls(market, 20_000))
    assert abs(mean) < 4 * error, f"{mean:.4f} +- {error:.4f}"


def test_more_fade_costs_more():
    market = load_market("us_equity")
    costs = [shortfalls(changed(market, venues={"toxicity": lambda t, f=f: t * f}), 2000) for f in (0, 1, 3)]
    for less, more in pairwise(costs):
        mean, error = paired(less, more)
        assert mean > 4 * error


def test_more_news_costs_more():
    """In variance-reduced cost, whose mean is the shortfall's: news moves the mid far more than it costs."""
    market = load_market("us_equity")
    costs = [shortfalls(changed(market, informed={"probability": p}), 4000, reduced=True) for p in (0.0, 1.0)]
    mean, error = paired(*costs)
    assert mean > 4 * error, f"{mean:.4f} +- {error:.4f}"


# ------------------------------------------------------------------------------------ variance reduction


@pytest.mark.parametrize(("one_venue", "news", "ratio"), [(False, True, 0.8), (True, True, 0.8), (False, False, 0.2)])
def test_variance_reduction_keeps_the_mean_and_shrinks_the_variance(one_venue, news, ratio):
    """What is left is mostly news and drift: a router may run from the one and see the other coming."""
    market = changed(load_market("us_equity"), **({} if news else NO_NEWS))
    n = 20_000
    simulator = BatchSimulator(market, n, "train")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    rng = np.random.default_rng(1)
    plain, reduced = np.zeros(n), np.zeros(n)
    for _ in range(market.order.horizon_steps):
        weights = rng.standard_exponential((n, market.n_venues)) * (venues_of(simulator)["open"] == 1)
        if one_venue:
            weights = (weights == weights.max(axis=1, keepdims=True)).astype(float)
        weights += 1e-12
        cost, noise, _ = simulator.step(weights / weights.sum(axis=1, keepdims=True))
        plain += cost
        reduced += cost - noise
    mean, error = paired(plain, reduced)
    assert abs(mean) < 4 * error
    assert reduced.var() < ratio * plain.var()
    np.testing.assert_allclose(simulator.ledger()["shortfall"], plain, atol=1e-9)


def test_what_variance_reduction_leaves_out_has_mean_zero_at_every_step():
    """Whatever the inventory: the noise is left out times the shares that stay, which never read it."""
    market = changed(
        load_market("us_equity"),
        mid={"jumps_per_hour": 300.0, "volatility_bps_per_sqrt_s": 3.0},
        order={"quantity_shares": 20_000.0},
    )
    n = 20_000
    simulator = BatchSimulator(market, n, "train")
    simulator.reset(np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))
    weights = np.full((n, market.n_venues), 1.0 / market.n_venues)
    for _ in range(market.order.horizon_steps):
        _, noise, done = simulator.step(weights)
        if done.all():
            break
        assert abs(noise.mean()) < 4.5 * noise.std() / np.sqrt(n)


@given(markets(), SEEDS, policies())
@free
def test_threads_change_no_byte(market, seed, policy):
    one, two = (BatchSimulator(market, 7, "test", threads=threads) for threads in (1, 2))
    rng = np.random.default_rng(policy[0])
    for simulator in (one, two):
        simulator.reset(batch(seed, 7), np.zeros(7, dtype=np.int64))
    for _ in range(market.order.horizon_steps):
        weights = rng.dirichlet(np.ones(market.n_venues), 7)
        costs = [simulator.step(weights)[0].tobytes() for simulator in (one, two)]
        assert costs[0] == costs[1]
    assert orders_of(one).tobytes() == orders_of(two).tobytes() and venues_of(one).tobytes() == venues_of(two).tobytes()
    assert Observer(one).observe().tobytes() == Observer(two).observe().tobytes()
