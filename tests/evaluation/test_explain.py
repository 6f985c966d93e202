"""Explanations: exact costs, and counterfactuals that are what would have happened."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO

from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.explain import Child, Explanation, explain
from sor_sb3.market.loading import load_market
from sor_sb3.reports.explanations import headline
from sor_sb3.routers import make
from tests.market.quote_fixtures import write_recording

FIRST, N = 500, 6


def ppo(env_id: str, market: str = "us_equity") -> PPO:
    return PPO(VenuePolicy, RoutingVecEnv(env_id, market, 2), n_steps=8, batch_size=16, seed=0, device="cpu")


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1"])
@pytest.mark.parametrize("who", ["ppo", "net_price_sweep", "random", "round_robin", "snapshot_oracle"])
def test_costs_add_up_to_the_evaluators_number(who, env_id, market):
    evaluator = Evaluator(env_id, market, N, FIRST)
    policy = ppo(env_id, market) if who == "ppo" else evaluator.policies([who])[who]
    costs = evaluator.score(who, policy).cost[0]
    for j in (0, N - 1):
        found = explain(evaluator, who, policy, FIRST + j)
        assert found.cost == costs[j]
        assert sum(d.cost for d in found.decisions) == pytest.approx(found.cost, abs=1e-9)
        assert sum(found.parts.values()) == pytest.approx(found.cost, abs=1e-9)
        filled = sum(float(d.filled_shares.sum()) for d in found.decisions)
        assert filled + found.cleanup_shares == pytest.approx(found.quantity_shares)


def by_hand(child: Child) -> list[tuple[float, float]]:
    """What a child takes, shares and price, as somebody works it out who has the page and nothing else."""
    left, fade, took = child.sent_shares, child.fade_shares, []
    offers = [(child.mid_bps, child.mid_shares)] if child.mid_shares > 0.0 else []
    for level, (price, shown) in enumerate(zip(child.price_bps, child.displayed_shares, strict=True)):
        gone = min(fade, shown)
        fade -= gone
        offers.append((price, shown - gone + (child.hidden_shares if level == 0 else 0.0)))
    for price, shares in offers:
        if price <= child.limit_bps + 1e-9 and min(left, shares) > 0.0:
            took.append((min(left, shares), price))
            left -= took[-1][0]
    return took if sum(q for q, _ in took) >= child.least_shares * (1 - 1e-9) else []


def check_by_hand(e: Explanation) -> int:
    """Fills, prices and the ledger's cost of every env step from what the page shows; how many prints there are."""
    prints, quantity = 0, e.quantity_shares
    for t, d in enumerate(e.decisions):
        cost = quantity * d.mark_bps if t == 0 else 0.0
        for child in d.children:
            assert child.status in ("", "closed", "rejected")
            took = [] if child.status else by_hand(child)
            filled, value = sum(q for q, _ in took), sum(q * p for q, p in took)
            assert filled == pytest.approx(d.filled_shares[child.venue], abs=1e-9)
            if filled > 0:
                paid = d.price_bps[child.venue] - d.fee_bps[child.venue] + d.mid_bps
                assert value / filled == pytest.approx(paid, abs=1e-9)
            cost += value + filled * (d.fee_bps[child.venue] - d.mark_bps)
            prints += len(took)
        last = t + 1 == len(e.decisions)
        remaining = e.cleanup_shares if last else e.decisions[t + 1].remaining_shares
        cost += remaining * (d.next_mark_bps - d.mark_bps) + (quantity * d.parts["cleanup"] if last else 0.0)
        assert cost / quantity == pytest.approx(d.cost, abs=1e-9)
    return prints


@pytest.mark.parametrize(
    ("market", "who"), [("us_equity", "round_robin"), ("dark", "dark_then_sweep"), ("crypto", "pro_rata")]
)
def test_every_fill_can_be_worked_out_by_hand_and_is_the_ledgers(market, who):
    evaluator = Evaluator("OrderSplit-v1", market, 3, FIRST)
    policy = evaluator.policies([who])[who]
    found = [explain(evaluator, who, policy, FIRST + j) for j in range(3)]
    assert sum(check_by_hand(e) for e in found) > 50
    if market == "dark":
        assert any(d.wave == 1 for e in found for d in e.decisions)


def test_a_sweep_pays_level_by_level_and_by_hand():
    market = load_market("us_equity")
    order = market.order.model_copy(update={"limit": "sweep", "limit_offset_bps": 3.0, "quantity_shares": 60_000})
    market = market.model_copy(update={"order": order, "order_protection": False})
    evaluator = Evaluator("OrderSplit-v1", market, 2, FIRST)
    found = explain(evaluator, "pro_rata", evaluator.policies(["pro_rata"])["pro_rata"], FIRST)
    check_by_hand(found)
    assert any(len(child.print_shares) > 2 for d in found.decisions for child in d.children)


def test_a_recording_too(tmp_path):
    evaluator = Evaluator("OrderSplit-v1", str(write_recording(tmp_path / "quotes.parquet", duration_s=7200)), 3)
    policy = evaluator.policies(["pro_rata"])["pro_rata"]
    found = explain(evaluator, "pro_rata", policy, 10_001)
    assert found.cost == evaluator.score("p", policy).cost[0, 1]


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
def test_the_venue_that_was_chosen_costs_what_the_order_cost(market):
    evaluator = Evaluator("VenueSelect-v1", market, N, FIRST)
    found = explain(evaluator, "all_in", evaluator.policies(["all_in"])["all_in"], FIRST + 2)
    for d in found.decisions:
        chosen = int(np.argmax(d.sent_shares))
        assert d.alternative.order_cost[chosen] == pytest.approx(found.cost, abs=1e-9)
        assert d.alternative.filled_shares[chosen] == d.filled_shares[chosen]
        if d.filled_shares[chosen] > 0:
            assert d.alternative.price_bps[chosen] == pytest.approx(d.price_bps[chosen], abs=1e-9)


def test_an_alternative_is_what_happens_to_one_who_takes_it():
    # A router that leaves all_in's way at one step, and is run for real.
    evaluator = Evaluator("VenueSelect-v1", "us_equity", N, FIRST)
    rule = make("all_in", evaluator.market, "VenueSelect-v1")
    found = explain(evaluator, "all_in", rule, FIRST + 1)

    class Detour:
        def __init__(self, step: int, venue: int) -> None:
            self.step, self.venue, self.calls = step, venue, 0

        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            actions, _ = rule.predict(observation)
            if self.calls == self.step:
                actions = np.full_like(actions, self.venue)
            self.calls += 1
            return actions, state

    for step, venue in ((0, 3), (7, 0), (19, 7)):
        cost = evaluator.score("detour", Detour(step, venue)).cost[0, 1]
        assert found.decisions[step].alternative.order_cost[venue] == pytest.approx(cost, abs=1e-9)


def test_explaining_changes_nothing():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", N, FIRST)
    policy = evaluator.policies(["random"])["random"]
    before = evaluator.score("p", policy).cost
    explain(evaluator, "p", policy, FIRST)
    np.testing.assert_array_equal(evaluator.score("p", policy).cost, before)


def test_an_unknown_scenario_is_named():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", N, FIRST)
    with pytest.raises(ValueError, match=r"scenario 7 is not among 500 to 505"):
        explain(evaluator, "p", evaluator.policies(["pro_rata"])["pro_rata"], 7)


def test_the_headline_counts_decisions_that_one_venue_would_have_made_cheaper():
    evaluator = Evaluator("VenueSelect-v1", "notebook", N, FIRST)
    found = explain(evaluator, "random", evaluator.policies(["random"])["random"], FIRST)
    n = sum(min(d.alternative.order_cost) < found.cost - 1e-9 for d in found.decisions)
    assert 0 < n and f"in {n} of {len(found.decisions)} decisions one venue" in headline(found)
