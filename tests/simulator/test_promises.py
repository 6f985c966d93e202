"""The promises of the model, 1 to 8, as properties of random markets, orders, actions and seeds.

Half of the policies let orders rest. What is promised of queues alone is in `test_promises_resting`, what holds in the
mean in `test_promises_in_the_mean`, and what there is to learn in `tests/evaluation/test_learnability`.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_env import CounterDraws

from sor_sb3.envs.observation import Observer
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.batch import LEDGER_PARTS, BatchSimulator
from sor_sb3.simulator.reference import ReferenceMarket
from tests.simulator.market_strategies import (
    EXOGENOUS_AT_DECISIONS,
    EXOGENOUS_ORDER,
    EXOGENOUS_VENUE,
    SEEDS,
    markets,
    play,
    policies,
)
from tests.simulator.records import orders_of, venues_of

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
        if part == "randomise" or not isinstance(fields, dict):
            data[part] = fields
            continue
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
    """Sent = filled + returned + still in flight; the order = filled + in flight + resting + available, + clean-up."""
    simulator, steps = play(market, batch(seed), policy)
    every = simulator.read("quantity_shares")
    for s in steps:
        live, quantity = s.live, every[s.live]
        sent, filled = s.venues["sent_shares"][live], s.venues["filled_shares"][live]
        before, after = s.orders_before[live], s.orders[live]
        busy = s.children_before["shares"][live] > 0.0
        assert np.all(sent[busy] == 0.0), "a venue with a child in flight got another"
        most = np.where(busy, s.children_before["shares"][live], sent)
        assert np.all((filled >= 0.0) & (filled <= most * (1 + 1e-12))), "a venue filled more than was sent"
        first = before["wave"] == 0
        offered = np.where(first, before["available_shares"], before["returned_shares"])
        if s.pace is None:
            wanted = before["slice_shares"]
        elif market.order.lot_shares is None:
            bound = np.where(first, before["resting_shares"] - before["overbooked_shares"], 0.0)
            wanted = np.minimum(s.pace[live] * np.maximum(offered + bound, 0.0), offered)
        else:
            wanted = after["sent_shares"]
        assert np.all(wanted <= offered * (1 + 1e-11))
        went = np.where(busy, 0.0, s.weights[live] * wanted[:, None]).sum(axis=1)
        if market.order.lot_shares is None:
            assert np.all(np.abs(sent.sum(axis=1) - went) <= 1e-11 * went + 1e-12 * quantity)
        assert np.all(sent.sum(axis=1) <= offered * (1 + 1e-11) + 1e-12 * quantity), "sent what was not offered"
        swept = after["cleanup_shares"]
        passive = s.venues["passive_shares"][live]
        assert np.all(passive >= 0.0)
        done_now = filled.sum(axis=1) + passive.sum(axis=1) + swept
        balance = before["remaining_shares"] - done_now - after["remaining_shares"]
        assert np.all(np.abs(balance) <= 2e-12 * quantity)
        going_on = ~s.done[live]
        held = after["available_shares"] + unheard(s)[live] + after["resting_shares"] - after["overbooked_shares"]
        assert np.all((np.abs(held - after["remaining_shares"]) <= 1e-11 * quantity) | ~going_on)
        rests = s.rests["rest_shares"][live]
        assert np.all(rests >= 0.0) and np.all(s.rests["rest_cancel_shares"][live] >= 0.0)
        known = after["resting_shares"] * (1 + 1e-11) + 1e-12 * quantity
        assert np.all((rests.sum(axis=1) <= known)[going_on]), "more rests than the router knows of"
        assert np.all(after["remaining_shares"] >= 0.0)
        assert np.all(after["remaining_shares"][s.done[live]] == 0.0), "an ended episode left shares undone"
    both = [s.venues["filled_shares"] + s.venues["passive_shares"] for s in steps]
    filled = sum(np.where(s.live, shares.sum(axis=1), 0.0) for s, shares in zip(steps, both, strict=True))
    swept = sum(np.where(s.live & s.done, s.orders["cleanup_shares"], 0.0) for s in steps)
    np.testing.assert_allclose(filled + swept, every, rtol=1e-11)


@given(markets(), SEEDS, policies())
@free
def test_a_later_wave_distributes_what_came_back_and_no_more(market, seed, policy):
    """It comes while shares are back, within the decision's tick and the number of waves; the clock goes on."""
    simulator, steps = play(market, batch(seed), policy)
    sent_so_far, back = np.zeros(N), np.zeros(N)
    for s in steps:
        before, after = s.orders_before, s.orders
        first = before["wave"] == 0
        sent_so_far = np.where(first, 0.0, sent_so_far)
        later = s.live & ~first
        assert np.all(before["wave"][s.live] < market.order.waves)
        assert np.all(before["returned_shares"][later] > 0.0)
        assert np.all(before["elapsed_ms"][later] < 1e3 * market.path_dt_s)
        assert np.all(before["returned_shares"][later] <= sent_so_far[later] * (1 + 1e-12))
        assert np.all(before["slice_shares"][later] == before["returned_shares"][later])
        another = s.live & ~s.done & (after["wave"] > 0)
        lasted_ms = after["elapsed_ms"] - before["elapsed_ms"]
        assert np.all((lasted_ms >= 0.0) & (lasted_ms <= market.order.wave_timeout_ms * (1 + 1e-12)) | ~another)
        sent_so_far = sent_so_far + s.venues["sent_shares"].sum(axis=1)
        back = np.where(another, after["returned_shares"], 0.0)
        assert np.all(back <= after["available_shares"] * (1 + 1e-12) + 1e-12 * simulator.read("quantity_shares"))


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


def most_held(market: SyntheticMarket, quotes: np.ndarray) -> np.ndarray:
    """The most that a venue can display at all its levels in a tick whose quotes' logarithms of size these are."""
    profile = np.array(market.quotes.level_profile) / market.quotes.level_profile[0]
    lot = market.quotes.round_lot_shares or 0.0
    touch = np.exp(np.maximum(quotes["log_shares"], quotes["next_log_shares"])) + lot
    return touch * (1.0 + 1.5 * profile[1:].sum()) + lot * len(profile)


@given(markets(), SEEDS, policies())
@free
def test_no_venue_fills_more_than_it_holds_and_a_closed_one_nothing(market, seed, policy):
    """Where all children come within the first tick of a step, so that the state before tells what they meet."""
    quick = {"latency_ms": 0.0, "speed_bump_ms": 0.0, "hidden_fraction": 0.0, "mid_probability": 0.0}
    market = changed(market, venues=quick, order={"synchronise_arrivals": False}, randomise={})
    _, steps = play(market, batch(seed), policy)
    dark = np.array([venue.dark is not None for venue in market.venues])
    least = np.array([v.dark.min_execution_shares if v.dark else 0.0 for v in market.venues])
    for s in steps:
        filled, before = s.venues["filled_shares"][s.live], s.venues_before[s.live]
        in_pool = np.maximum(before["dark_shares"] - before["taken_shares"], 0.0)
        holds = np.where(dark, in_pool, most_held(market, before))
        assert np.all(filled <= holds * (1 + 1e-9)), "a venue filled more than it held"
        assert np.all(filled[before["open"] == 0] == 0.0), "a closed venue filled"
        assert np.all(filled[before["outage"] == 1] == 0.0), "a venue in an outage filled"
        assert np.all((filled == 0.0) | (filled >= least * (1 - 1e-9))), "a dark pool filled less than its minimum"


@given(markets(), SEEDS, policies())
@free
def test_no_child_is_filled_beyond_its_limit_or_through_a_better_quote(market, seed, policy):
    """On average, which is below the dearest share: the reference, which agrees, knows the dearest."""
    lit = np.array([venue.dark is None for venue in market.venues])
    offset = np.inf if market.order.limit_offset_bps is None else market.order.limit_offset_bps
    _, steps = play(market, batch(seed), policy)
    for s in steps:
        before, now, filled = s.venues_before, s.venues, s.venues["filled_shares"]
        mid = s.orders_before["observed_mid_bps"]
        quotes = np.where((before["observed_shares"] > 0.0) & lit, before["observed_offset_bps"], np.inf)
        for i, k in zip(*np.nonzero(s.live[:, None] & (filled > 0.0) & (now["sent_shares"] > 0.0)), strict=True):
            best = quotes[i].min()
            limit = best + offset
            if market.order.limit == "touch":
                limit = before["observed_offset_bps"][i, k] if lit[k] else best
            if market.order_protection:
                others = (np.arange(market.n_venues) != k) & (
                    now["sent_shares"][i] < before["observed_shares"][i] * (1 - 1e-9)
                )
                limit = min(limit, np.where(others, quotes[i], np.inf).min())
            price = now["fill_value_bps"][i, k] / filled[i, k]
            assert price <= limit + mid[i] + 1e-8 * (1 + abs(price))


@given(markets(), SEEDS, policies())
@free
def test_what_a_child_took_is_remembered_price_by_price(market, seed, policy):
    simulator = BatchSimulator(market, N, "test")
    simulator.reset(batch(seed), np.zeros(N, dtype=np.int64))
    assert not simulator.read("slot_shares").any() and not simulator.read("taken_shares").any()
    weights = np.random.default_rng(policy[0]).dirichlet(np.ones(market.n_venues), N)
    simulator.step(weights)
    lit = np.array([venue.dark is None for venue in market.venues])
    by_price = simulator.read("slot_shares").reshape(N, market.n_venues, -1).sum(axis=2)
    held = (by_price + simulator.read("taken_shares"))[:, lit]
    np.testing.assert_allclose(held, simulator.read("filled_shares")[:, lit], rtol=1e-9, atol=1e-9)


# --------------------------------------------------------------------------------------- 2. same bytes


@given(markets(), SEEDS, policies())
@free
def test_same_seed_same_bytes(market, seed, policy):
    (a, first), (b, second) = (play(market, batch(seed), policy) for _ in range(2))
    assert orders_of(a).tobytes() == orders_of(b).tobytes() and venues_of(a).tobytes() == venues_of(b).tobytes()
    assert all(values.tobytes() == second[-1].rests[name].tobytes() for name, values in first[-1].rests.items())
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
        pace, rest = (None if values is None else values[i : i + 1] for values in (s.pace, s.rest))
        cost, noise, done = lone.step(s.weights[i : i + 1], pace, rest=rest)
        assert (cost[0], noise[0], done[0]) == (s.cost[i], s.noise[i], s.done[i])
        assert orders_of(lone)[0].tobytes() == s.orders[i].tobytes()
        assert all(lone.read(name)[0].tobytes() == values[i].tobytes() for name, values in s.rests.items())


@given(markets(), SEEDS, policies())
@free
def test_threads_change_no_byte(market, seed, policy):
    one, two = (BatchSimulator(market, 7, "test", threads=threads) for threads in (1, 2))
    rng = np.random.default_rng(policy[0])
    for simulator in (one, two):
        simulator.reset(batch(seed, 7), np.zeros(7, dtype=np.int64))
    for _ in range(market.order.horizon_steps):
        weights, rest = rng.dirichlet(np.ones(market.n_venues), (2, 7))
        pace, rest = (rng.random(7), rest) if policy.rests else (None, None)
        costs = [simulator.step(weights, pace, rest=rest)[0].tobytes() for simulator in (one, two)]
        assert costs[0] == costs[1]
    assert orders_of(one).tobytes() == orders_of(two).tobytes() and venues_of(one).tobytes() == venues_of(two).tobytes()
    assert Observer(one).observe().tobytes() == Observer(two).observe().tobytes()


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


def at_ticks(steps: list) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Orders and venues by member and tick, as env steps begin there."""
    found: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    for s in steps:
        for i in np.flatnonzero(s.live):
            found.setdefault((int(i), int(s.orders_before["tick"][i])), (s.orders_before[i], s.venues_before[i]))
    return found


@given(markets(), SEEDS, policies(), policies())
@free
def test_the_exogenous_path_does_not_depend_on_actions(market, seed, one, other):
    first, second = (at_ticks(play(market, batch(seed), policy)[1]) for policy in (one, other))
    for key in first.keys() & second.keys():
        for name in (*EXOGENOUS_VENUE, *EXOGENOUS_AT_DECISIONS):
            assert first[key][1][name].tobytes() == second[key][1][name].tobytes(), name
        for name in EXOGENOUS_ORDER:
            assert first[key][0][name].tobytes() == second[key][0][name].tobytes(), name


def path_at_each(market: SyntheticMarket, every: int, ticks: int, seed: int) -> dict[int, list[bytes]]:
    """The exogenous state at every so many ticks, a step being so long; nobody trades."""
    order = {"step_s": every * market.path_dt_s, "horizon_steps": ticks // every}
    simulator = BatchSimulator(changed(market, order=order, randomise={}), N, "test")
    simulator.reset(batch(seed), np.zeros(N, dtype=np.int64))
    weights, found = np.full((N, market.n_venues), 1.0 / market.n_venues), {}
    per_step = {"recent_volume_shares", "recent_outflow_shares"}  # said per step of the order
    for tick in range(0, ticks, every):
        names = [name for name in (*EXOGENOUS_VENUE, *EXOGENOUS_AT_DECISIONS, *EXOGENOUS_ORDER) if name not in per_step]
        found[tick] = [simulator.read(name).tobytes() for name in names]
        if tick + every < ticks:
            simulator.step(weights, np.zeros(N))
    return found


@given(markets(), SEEDS)
@free
def test_the_path_does_not_depend_on_the_length_of_a_step(market, seed):
    """The same file and seed at one tick a step and at five: the same path, byte for byte, where both can be read."""
    fine, coarse = (path_at_each(market, every, 15, seed) for every in (1, 5))
    for tick in coarse:
        assert fine[tick] == coarse[tick], tick


@given(markets(), SEEDS)
@free
def test_the_path_does_not_depend_on_waves(market, seed):
    one, four = (path_at_each(changed(market, order={"waves": waves}), 1, 4, seed) for waves in (1, 4))
    assert one == four


@given(markets(), SEEDS, policies(), st.floats(0.01, 3))
@free
def test_no_fill_looks_ahead(market, seed, policy, factor):
    """Whatever follows the tick in which children arrive changes no fill of them, nor the wave that follows.

    And what follows a step changes no fill of what rests in it.
    """
    quick = {"latency_ms": 0.0, "speed_bump_ms": 0.0}
    market = changed(market, venues=quick, order={"synchronise_arrivals": False})
    played, steps = play(market, batch(seed), policy)
    s = steps[len(steps) // 2]
    simulator = played.branch(np.arange(N))
    simulator.set_state(s.state_before)
    for name in ("drift_bps_per_s", "log_volatility"):
        orders_of(simulator)[name] *= factor
    orders_of(simulator)["stressed"] = 1 - orders_of(simulator)["stressed"]
    states = ("offset_fast", "near_offset_fast", "offset_slow", "size_fast", "size_slow", "near_fast")
    for name in (*states, "recent_volume_shares"):
        venues_of(simulator)[name] *= factor
    simulator.step(s.weights, s.pace, rest=s.rest)
    names = ["filled_shares", "fill_value_bps"]
    if market.ticks_per_step == 1:
        names += ["passive_shares", "passive_value_bps", "passive_ms"]
    for name in names:
        assert np.array_equal(venues_of(simulator)[name][s.live], s.venues[name][s.live]), name


@given(markets(), SEEDS, policies())
@free
def test_a_fill_does_not_read_what_its_tick_brings_after_it(market, seed, policy):
    """All arrive at the tick's begin: neither its move, nor its news, nor its next quotes matter, unless at once."""
    quick = {"latency_ms": 0.0, "speed_bump_ms": 0.0, "quote_delay_s": 0.0}
    market = changed(market, venues=quick, order={"synchronise_arrivals": False, "waves": 1}, randomise={})
    simulators = [BatchSimulator(market, N, "test") for _ in range(2)]
    weights = np.random.default_rng(policy[0]).dirichlet(np.ones(market.n_venues), N)
    filled = []
    for simulator, more in zip(simulators, (0.0, 3.0), strict=True):
        simulator.reset(batch(seed), np.zeros(N, dtype=np.int64))
        orders_of(simulator)["smooth_move_bps"] += more
        orders_of(simulator)["next_price_bps"] += more
        venues_of(simulator)["next_log_shares"] += more
        venues_of(simulator)["next_ask_ticks"] += more
        simulator.step(weights)
        filled.append(venues_of(simulator)["filled_shares"])
    assert np.array_equal(*filled)


# ---------------------------------------------------------------------------------------- 4. the ledger


@given(markets(), SEEDS, policies())
@free
def test_the_ledger_adds_up_to_the_shortfall(market, seed, policy):
    """What every child, resting order and the sweep paid, against the midpoint at arrival: without the parts."""
    simulator, steps = play(market, batch(seed), policy)
    quantity = simulator.read("quantity_shares")
    fees, make_fees = simulator.read("take_fee_bps"), simulator.read("make_fee_bps")
    paid, total = np.zeros(N), np.zeros(N)
    final = steps[0].orders.copy()
    for s in steps:
        taken = s.venues["fill_value_bps"] + s.venues["filled_shares"] * fees
        made = s.venues["passive_value_bps"] + s.venues["passive_shares"] * make_fees
        paid += np.where(s.live, np.sum(taken + made, axis=1), 0.0)
        total += np.where(s.live, s.cost, 0.0)
        ended = s.live & s.done
        final[ended] = s.orders[ended]
    paid += final["cleanup_value_bps_shares"]
    ledger = {part: final[f"{part}_cost"] for part in LEDGER_PARTS}
    shortfall = np.sum(list(ledger.values()), axis=0)
    scale = np.maximum(np.sum(np.abs(list(ledger.values())), axis=0), 1.0)
    assert np.all(np.abs(shortfall - total) < 1e-9 * scale), "steps' costs do not add up to the ledger"
    assert np.all(np.abs(shortfall - paid / quantity) < 1e-9 * scale), "the ledger is not what was paid"
    values = final["fill_value_bps_shares"] + final["cleanup_value_bps_shares"] + final["fee_cost"] * quantity
    assert np.all(np.abs(values - paid) < 1e-9 * scale * quantity)


@given(markets(), SEEDS)
@free
def test_the_clean_up_is_dearer_than_any_fill_of_the_episode(market, seed):
    """Above the efficient price of the moment, which the reference knows, of every lit fill, its dearest share."""
    market = changed(market, randomise={})
    reference = ReferenceMarket(market, CounterDraws(market.venue_names, "test"))
    reference.draws.seed(seed)
    reference.begin()
    done, generator, dearest_bps = False, np.random.default_rng(seed), -np.inf
    while not done:
        *_, done = reference.execute(generator.dirichlet(np.ones(market.n_venues)))
        for fill in reference.fills_of_step:
            if not reference.dark[fill.venue]:
                dearest_bps = max(dearest_bps, fill.above_bps + reference.fee_bps[fill.venue])
    assert reference.worst_offered_bps >= dearest_bps - 1e-9 * (1.0 + abs(dearest_bps))


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
        rest = None if s.rest is None else s.rest[:, order]
        cost, _noise, done = simulator.step(s.weights[:, order], s.pace, rest=rest)
        fills = np.abs(s.venues["fill_cost"]) + np.abs(s.venues["passive_cost"])
        scale = fills.sum(axis=1) + np.abs(s.cost) + 1e-12
        assert np.all(np.abs(cost - s.cost)[s.live] <= 1e-11 * scale[s.live])
        for name in (
            "sent_shares",
            "filled_shares",
            "fill_cost",
            "passive_shares",
            "passive_cost",
            "rest_total_shares",
        ):
            found, expected = venues_of(simulator)[name][s.live], s.venues[name][:, order][s.live]
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
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
    """Quantity, lots and sizes times eight, impact a share an eighth: the same costs. (A pool holds at least 1.)"""
    if market.has_dark or any("size_shares" in path or "quantity_shares" in path for path in market.randomise):
        return
    response = market.response
    eightfold = changed(
        market,
        order={"quantity_shares": lambda q: 8 * q, "lot_shares": lambda lot: lot and 8 * lot},
        venues={"size_shares": lambda d: 8 * d},
        quotes={"round_lot_shares": lambda lot: lot and 8 * lot},
        volume={"shares_per_day": lambda v: 8 * v, "trade_shares": lambda size: size and 8 * size},
        response={
            "permanent_impact_bps_per_1000_shares": response.permanent_impact_bps_per_1000_shares / 8,
            "transient_impact_bps_per_1000_shares": response.transient_impact_bps_per_1000_shares / 8,
            "display_leakage_bps_per_1000_shares": response.display_leakage_bps_per_1000_shares / 8,
        },
    )
    (_, first), (_, second) = play(market, batch(seed), policy), play(eightfold, batch(seed), policy)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_allclose(y.cost[x.live], x.cost[x.live], rtol=1e-7, atol=1e-7)


# ------------------------------------------------------------------------------------- 6. monotonicity


@given(markets(), SEEDS, policies(), st.data())
@free
def test_a_higher_fee_is_never_cheaper(market, seed, policy, data):
    raises = data.draw(st.lists(st.floats(0, 10), min_size=market.n_venues, max_size=market.n_venues))
    venues = tuple(
        venue.model_copy(
            update={"take_fee_bps": venue.take_fee_bps + more, "make_fee_bps": venue.make_fee_bps + 0.5 * more}
        )
        for venue, more in zip(market.venues, raises, strict=True)
    )
    dear, _ = play(market.model_copy(update={"venues": venues}), batch(seed), policy)
    cheap, _ = play(market, batch(seed), policy)
    gap = dear.ledger()["shortfall"] - cheap.ledger()["shortfall"]
    scale = sum(np.abs(part) for part in dear.ledger().values())
    assert np.all(gap >= -1e-10 * (1 + scale))


# --------------------------------------------------------------------------------- 8. a fill pays its level


def firm(market: SyntheticMarket) -> SyntheticMarket:
    """Children come at once, feeds too, and nobody answers or hides at the midpoint: what is shown is there."""
    at_once = {"latency_ms": 0.0, "speed_bump_ms": 0.0, "feed_latency_ms": 0.0, "toxicity": 0.0, "mid_probability": 0.0}
    return changed(market, venues=at_once, informed={"news_per_s": 0.0}, order={"waves": 1}, randomise={})


@given(markets(), SEEDS, policies())
@free
def test_a_child_within_the_displayed_firm_size_pays_the_touch_exactly(market, seed, policy):
    """And is filled whole: its venue trades, and its limit is its own touch or better protected elsewhere."""
    market = firm(market)
    _, steps = play(market, batch(seed), policy)
    lit = np.array([venue.dark is None for venue in market.venues])
    for s in steps:
        before, now = s.venues_before, s.venues
        within = s.live[:, None] & lit & (now["sent_shares"] > 0.0) & (now["sent_shares"] <= before["observed_shares"])
        trades = within & (before["open"] == 1) & (before["outage"] == 0)
        filled = now["filled_shares"][trades]
        some = filled > 0.0
        touch, value = now["fill_touch_bps"][trades][some], now["fill_value_bps"][trades][some]
        np.testing.assert_allclose(value, filled[some] * touch, rtol=1e-12, atol=1e-12 * market.order.quantity_shares)
        push = (s.orders_before["permanent_bps"] + s.orders_before["transient_bps"])[:, None]
        heard = (before["observed_ask_bps"] + push)[trades][some]
        np.testing.assert_allclose(touch, heard, rtol=1e-12, atol=1e-12)
        if not market.order_protection and market.order.limit_offset_bps is None:
            np.testing.assert_allclose(filled, now["sent_shares"][trades], rtol=1e-12)


@given(markets(), SEEDS, policies())
@free
def test_a_child_within_the_displayed_firm_size_never_pays_more_than_the_touch(market, seed, policy):
    """Whatever rests at the midpoint, which is below the touch."""
    firm_market = firm(market)
    midpoints = {"mid_probability": 0.7, "mid_fraction": 1.0}
    _, steps = play(changed(firm_market, venues=midpoints), batch(seed), policy)
    lit = np.array([venue.dark is None for venue in market.venues])
    for s in steps:
        before, now = s.venues_before, s.venues
        within = (
            s.live[:, None] & lit & (now["sent_shares"] <= before["observed_shares"]) & (now["filled_shares"] > 0.0)
        )
        price = now["fill_value_bps"][within] / now["filled_shares"][within]
        assert np.all(price <= now["fill_touch_bps"][within] + 1e-9)
