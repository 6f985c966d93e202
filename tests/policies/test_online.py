"""Routers that learn from own fills: what they hear is true, what they know is in `state`, and what they hold to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import ONLINE_BLOCK, Evaluator
from sor_sb3.experiments.config import compare_config
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies import registry
from sor_sb3.policies.learning_rules.bandits import EpsilonGreedy
from sor_sb3.policies.rules.dark_learning import GanchevPowerLaw
from sor_sb3.simulator.views import Truth
from tests.policies.test_rules import hand_made

LITERATURE = tuple(registry.rule_names(load_market("us_equity"), groups=("literature",)))
LEARNERS = tuple(name for name in LITERATURE if registry._ROUTERS[name].learns)
POOLS = tuple(name for name in LEARNERS if name.startswith(("ganchev", "agarwal", "laruelle")))


def quickly(name: str, market="us_equity", env_id: str = "OrderSplit-v1", training_scenarios: int = 2, **options):
    """A router that is not tuned and learns from two scenarios."""
    constants = {what: values[0] for what, values in registry._ROUTERS[name].constants.items()}
    return routers.make(name, market, env_id, training_scenarios=training_scenarios, **constants, **options)


def test_all_of_the_issue_are_there():
    assert set(LEARNERS) == {
        "ganchev_power_law",
        "ganchev_kaplan_meier",
        "agarwal_continuous",
        "agarwal_integer",
        "laruelle_optimisation",
        "laruelle_reinforcement",
        "almgren_harts",
        "epsilon_greedy",
        "ucb1",
        "thompson",
        "linucb",
        "rise",
    }
    assert not set(LITERATURE) & set(registry.rule_names(load_market("us_equity")))


class Hears(GanchevPowerLaw):
    """Keeps what it hears, of all waves."""

    def _make_learner(self):
        super()._make_learner()
        self.heard = []

    def is_learned_from(self, view):
        return np.ones(len(view.wave), dtype=bool)

    def learn(self, learned, answers, view):
        self.heard.append(answers)
        return super().learn(learned, answers, view)


@pytest.mark.parametrize("market", ["us_equity", "dark"])
@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "VenueSelect-v1", "OrderExecute-v1"])
def test_what_it_believes_to_have_sent_and_heard_is_what_was_sent_and_filled(env_id, market):
    """Shares by venue, to float32: of every child as it goes out, and summed over the order as answers come in."""
    core = RoutingCore(env_id, market, 30, "validation")
    core.seed(list(range(30)))
    rows, truth = core.reset(), Truth(core.simulator)
    router = Hears(core.market, env_id, training_scenarios=0, online=True, dark_share=0.4)
    state, begins, filled, compared = None, np.ones(30, bool), np.zeros((30, core.market.n_venues)), 0
    lot = core.market.order.lot_shares
    for _ in range(25):
        busy, before = truth.child_shares > 0.0, truth.episode_sent_shares
        actions, state = router.predict(rows, state, begins)
        filled += router.heard[-1].filled
        heard_all = ~busy & (truth.remaining_shares > 0.0)[:, None]
        np.testing.assert_allclose(filled[heard_all], truth.episode_filled_shares[heard_all], atol=0.05)
        rows, _, done = core.step(actions)
        begins, running = np.zeros(30, bool), ~done
        sent = truth.episode_sent_shares - before
        np.testing.assert_allclose(np.where(busy, 0.0, state[0])[running], sent[running], atol=0.05)
        compared += int((sent[running] > 0.0).sum())
    assert compared > 300 and lot > 0


@pytest.mark.parametrize("name", LEARNERS)
def test_a_batch_and_single_runs_agree_once_learning_is_over(name):
    router = quickly(name)
    together = Evaluator("OrderSplit-v1", "us_equity", 4).score(name, router).cost[0]
    alone = [Evaluator("OrderSplit-v1", "us_equity", 1, 10_000 + j).score(name, router).cost[0, 0] for j in range(4)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", LEARNERS)
def test_predict_changes_nothing_but_the_state_that_it_returns(name):
    core = RoutingCore("OrderSplit-v1", "us_equity", 3)
    core.seed([0, 1, 2])
    router, rows, state, begins = quickly(name, online=True), core.reset(), None, np.ones(3, bool)
    for _ in range(4):
        kept = None if state is None else [array.copy() for array in state]
        actions, after = router.predict(rows, state, begins)
        again, _ = router.predict(rows, state, begins)
        np.testing.assert_array_equal(actions, again)
        if kept is not None:
            assert all(np.array_equal(a, b) for a, b in zip(kept, state, strict=True))
        rows, _, _ = core.step(actions)
        state, begins = after, np.zeros(3, bool)


def lived(router: Any, env_id: str, scenarios: int) -> tuple[RoutingCore, Any]:
    """The core after so many scenarios, one after another, and the state that a router has then."""
    core, state = RoutingCore(env_id, "us_equity", 1), None
    for seed in range(scenarios):
        core.seed([seed])
        rows, begins, done = core.reset(), np.ones(1, bool), np.zeros(1, bool)
        while not done[0]:
            actions, state = router.predict(rows, state, begins)
            rows, _, done = core.step(actions)
            begins = np.zeros(1, bool)
    return core, state


@pytest.mark.parametrize("name", LEARNERS)
def test_what_is_learned_follows_from_the_seed_and_lives_on_in_the_state(name):
    first, second = quickly(name), quickly(name)
    assert all(np.array_equal(a, b) for a, b in zip(first._learned, second._learned, strict=True))
    fresh = quickly(name, training_scenarios=0)
    if name != "almgren_harts":  # whose estimates end with the order
        assert any(not np.array_equal(a, b) for a, b in zip(first._learned, fresh._learned, strict=True))
    lives = quickly(name, training_scenarios=0, online=True)
    core, state = lived(lives, "OrderSplit-v1", 2)
    assert any(not np.array_equal(a, b) for a, b in zip(state[4:], fresh._learned, strict=True))
    if name == "almgren_harts":
        _, state = lives.predict(core.reset(), state, np.ones(1, bool))
        assert not state[4].any()


@pytest.mark.parametrize("name", LEARNERS)
def test_where_orders_may_rest_it_lives_the_same_life(name):
    """What was learned, and the constants that were chosen, in OrderExecute-v1 are taken in OrderPlace-v1."""
    lives = []
    for env_id in ("OrderExecute-v1", "OrderPlace-v1"):
        router = quickly(name, env_id=env_id, training_scenarios=0, online=True)
        core, state = lived(router, env_id, 3)
        lives.append([*state, core.simulator.reduced_cost(np.arange(1))])
    assert all(np.array_equal(a, b) for a, b in zip(*lives, strict=True))


@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"])
@pytest.mark.parametrize("name", LEARNERS)
def test_actions_lie_inside_the_space_in_every_env(name, env_id):
    core = RoutingCore(env_id, "us_equity", 5)
    core.seed(list(range(5)))
    rows, state, begins = core.reset(), None, np.ones(5, bool)
    router = quickly(name, env_id=env_id, training_scenarios=1)
    for _ in range(3):
        actions, state = router.predict(rows, state, begins)
        assert all(core.action_space.contains(action) for action in actions)
        one, _ = router.predict(rows[0])
        assert core.action_space.contains(one)
        rows, _, _ = core.step(actions)
        begins = np.zeros(5, bool)


@pytest.mark.parametrize("name", LEARNERS)
def test_halted_venues_get_nothing_and_where_all_are_there_is_still_an_action(name):
    market = load_market("us_equity")
    core = RoutingCore("OrderSplit-v1", market, 3)
    core.seed([0, 1, 2])
    core.reset()
    router = quickly(name)
    core.simulator.overwrite(open=0)
    assert router.predict(core.observer.observe())[0].sum(axis=1) == pytest.approx(np.ones(3))


# ----------------------------------------------------------------------------------------------------- learning


def test_the_power_law_learns_how_often_each_pool_is_dry():
    """On `dark`, whose chances of less than a lot are .72, .81, .94 and .99: zero bins of .67, .80, .90, .96 and the
    power laws below 20 shares. What was taken is gone for a while, so a little more is found dry."""
    router = quickly("ganchev_power_law", "dark", training_scenarios=60)
    zeros, _ = router.learner.fit(router._learned)
    np.testing.assert_allclose(zeros[0, :3], [0.72, 0.81, 0.94], atol=0.08)
    assert np.all(np.diff(zeros[0, :3]) > 0.0) and zeros[0, 3] > 0.9


def hidden_market(hidden_fraction: float) -> SyntheticMarket:
    """Four lit venues, 3 bps apart, of which the cheapest shows half a slice; what comes back is sent again."""
    data = hand_made(names=("A", "B", "C", "D"), waves=2).model_dump()
    data["order"] |= {"quantity_shares": 4000.0, "horizon_steps": 10, "lot_shares": 10.0}
    for k, venue in enumerate(data["venues"]):
        venue |= {"size_shares": 200.0, "offset_bps": 0.5 + 3.0 * k, "hidden_fraction": hidden_fraction}
        venue |= {"latency_ms": 0.0, "latency_sigma": 0.0, "toxicity": 0.0}
    return SyntheticMarket.model_validate(data)


def learned_on_the_way(name: str, market: str, episodes: int, lives: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each venue was chosen by the end of each episode (episodes, K), a life; and its mean reward (K,)."""
    router = quickly(name, market, training_scenarios=0, online=True)
    core, state, counts = RoutingCore("OrderSplit-v1", market, lives, "train"), None, []
    for episode in range(episodes):
        core.seed([episode * lives + i for i in range(lives)])
        rows, begins = core.reset(), np.ones(lives, bool)
        for _ in range(core.market.order.horizon_steps):
            actions, state = router.predict(rows, state, begins)
            rows, _, _ = core.step(actions)
            begins = np.zeros(lives, bool)
        counts.append(state[4].mean(axis=0))
    return np.array(counts), state[5].sum(axis=0) / state[4].sum(axis=0)


def test_regrets_of_bandits_on_a_preset_order_as_theory_says(monkeypatch):
    """crypto, whose scenarios are alike: venues that pay by the mean of what they fill, 2,320 choices in 30 lives.

    Thompson loses less than UCB1; what both lose falls, what epsilon-greedy loses goes on as its draws do.
    """
    with monkeypatch.context() as patch:
        patch.setattr(EpsilonGreedy, "epsilon", 1.0)
        gaps = learned_on_the_way("epsilon_greedy", "crypto", 12, 100)[1]
    gaps = gaps.max() - gaps
    names = ("thompson", "ucb1", "epsilon_greedy")
    regret = {name: learned_on_the_way(name, "crypto", 80, 30)[0] @ gaps for name in names}
    quarters = {name: np.diff(of[[19, 39, 59, 79]], prepend=0.0) for name, of in regret.items()}
    print(gaps, quarters)
    assert regret["thompson"][-1] < 0.6 * regret["ucb1"][-1]
    assert (np.diff(quarters["thompson"]) < 0.1).all() and (np.diff(quarters["ucb1"]) < 0.0).all()
    assert quarters["thompson"][3] < 0.5 * quarters["thompson"][0] and quarters["ucb1"][3] < 0.6 * quarters["ucb1"][0]
    drawn = EpsilonGreedy.epsilon * gaps.mean() * 20 * (load_market("crypto").order.horizon_steps - 1)
    assert 0.9 * drawn < quarters["epsilon_greedy"][3] < 1.5 * drawn


def test_almgren_harts_beats_the_display_where_size_is_hidden_and_ties_where_none_is():
    found = {}
    for hidden in (0.0, 1.5):
        market = hidden_market(hidden)
        policies = {
            "display": routers.make("almgren_harts", market, half_life_s=1e-3, probe=0.0),
            "harts": routers.make("almgren_harts", market, half_life_s=60.0, probe=0.2),
        }
        found[hidden] = sor_sb3.evaluate(policies, market=market, scenarios=200).difference("harts", "display")
    assert found[1.5].ci95_high < 0.0
    assert found[0.0].mean > found[1.5].mean and abs(found[0.0].mean) < 0.25 * abs(found[1.5].mean)


# ------------------------------------------------------------------------------------------------------- online


def test_online_goes_on_learning_from_scenario_to_scenario_and_its_interval_is_by_block():
    scenarios = ONLINE_BLOCK + 5
    options = {"training_scenarios": 0, "dark_share": 0.4}
    router = routers.make("ganchev_power_law", "us_equity", online=True, **options)
    result = sor_sb3.evaluate({"lives": router, "sweep": "net_price_sweep"}, scenarios=scenarios, online=True)
    assert np.array_equal(result.blocks, np.arange(scenarios) // ONLINE_BLOCK)
    plain = sor_sb3.evaluate({"frozen": router, "sweep": "net_price_sweep"}, scenarios=scenarios)
    np.testing.assert_array_equal(result.scores["sweep"].cost, plain.scores["sweep"].cost)
    assert result.scores["lives"].cost.shape == (1, scenarios)
    first = sor_sb3.evaluate({"lives": router}, scenarios=1, online=True).scores["lives"].cost
    np.testing.assert_array_equal(result.scores["lives"].cost[0, 0], first[0, 0])
    assert result.scores["lives"].venue_shares.sum() == pytest.approx(1.0)


# -------------------------------------------------------------------------------------------------------- making


def test_what_cannot_be_made_is_refused_in_a_sentence():
    with pytest.raises(
        UserError, match="router 'ucb1' has no option 'mis'; expected one of training_scenarios, online"
    ):
        routers.make("ucb1", "us_equity", mis=1.0)
    with pytest.raises(UserError, match="router 'ganchev_power_law' means nothing in market 'crypto'"):
        routers.make("ganchev_power_law", "crypto")
    with pytest.raises(UserError, match=r"training_scenarios is 1\.5; expected a whole number"):
        routers.make("ucb1", "us_equity", training_scenarios=1.5, miss=1.0)


def test_rules_are_chosen_by_name_or_group():
    market = load_market("us_equity")
    standard = registry.rule_names(market)
    assert registry.chosen_rules(market, "OrderSplit-v1", ["standard"]) == standard
    assert registry.chosen_rules(market, "OrderSplit-v1", ["ucb1"]) == ["ucb1", market.reference_router]
    both = registry.chosen_rules(market, "OrderSplit-v1", ["all"])
    assert set(both) == {*standard, *LITERATURE}
    paced = registry.chosen_rules(market, "OrderExecute-v1", ["twap+pro_rata", "twap"])
    assert set(paced) == {"round_robin", "twap", "twap+pro_rata"} and paced[-1] == "twap+pro_rata"
    with pytest.raises(UserError, match="rule 'twap\\+nothing' is unknown"):
        registry.chosen_rules(market, "OrderExecute-v1", ["twap+nothing"])
    assert set(registry.chosen_rules(market, "OrderSplit-v1", ["literature"])) == {*LITERATURE, "round_robin"}
    with pytest.raises(UserError, match=r"rule 'ucb2' is unknown \(did you mean 'ucb1'\?\); expected some of standard"):
        registry.chosen_rules(market, "OrderSplit-v1", ["ucb2"])
    with pytest.raises(UserError, match="rule 'vwap' means nothing in market 'notebook'"):
        registry.chosen_rules(load_market("notebook"), "OrderSplit-v1", ["vwap"])


def test_a_comparison_runs_the_rules_that_are_asked_for():
    market = load_market("us_equity")
    assert not set(compare_config(market, algos=["a2c"]).routers) & set(LITERATURE)
    routers = compare_config(market, algos=["a2c"], rules=["net_price_sweep", "literature"]).routers
    assert set(routers) == {*LITERATURE, "net_price_sweep", market.reference_router, market.oracle}
