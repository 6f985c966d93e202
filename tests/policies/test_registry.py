"""Routers by name: rules are found in their folder, a user's own class is registered, a market's names are checked."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import evaluate, standard_rules
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.market.router_names import RULE_NEEDS
from sor_sb3.policies import registry

RULES = (
    "epsilon_greedy",
    "ucb1",
    "thompson",
    "linucb",
    "rise",
    "cont_kukanov",
    "cont_kukanov_resampled",
    "ganchev_power_law",
    "ganchev_kaplan_meier",
    "agarwal_continuous",
    "agarwal_integer",
    "laruelle_optimisation",
    "laruelle_reinforcement",
    "almgren_harts",
    "random",
    "round_robin",
    "best_fixed_venue",
    "planner",
    "best_price",
    "all_in",
    "all_in_sized",
    "net_price_sweep",
    "stale_sniper",
    "queue_value",
    "post_and_sweep",
    "join_pro_rata",
    "rebate_chaser",
    "passive_only",
    "almgren_chriss",
    "twap",
    "vwap_curve",
    "pov",
    "pro_rata",
    "dark_first",
    "dark_then_sweep",
    "vwap",
)


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_ROUTERS", dict(registry._ROUTERS))


class LastVenue(routers.Router):
    def weights(self, view):
        weights = np.zeros(view.open.shape)
        weights[:, -1] = 1.0
        return weights


class OnlyPredicts:
    """No subclass of anything."""

    def __init__(self, market, env_id, seed, venue=0):
        self.n_venues, self.venue = market.n_venues, venue

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.eye(self.n_venues)[np.full(len(observation), self.venue)], state


def test_the_rules_are_found_in_their_folder_in_this_order():
    assert routers.ROUTER_NAMES == RULES
    for name in RULES:
        rule = registry._ROUTERS[name]
        env_id = "OrderPlace-v1" if rule.rests or rule.paces else "OrderSplit-v1"
        constants = {what: values[0] for what, values in registry._ROUTERS[name].constants.items()}
        options = constants | ({"training_scenarios": 0} if registry._ROUTERS[name].learns else {})
        assert routers.make(name, "us_equity", env_id, **options).name == name


def test_a_new_rule_is_one_class_in_a_file_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom sor_sb3.policies.protocol import Router\n\n"
        "class Even(Router):\n    name = 'even'\n\n"
        "    def weights(self, view):\n        return np.ones(view.open.shape)\n"
    )
    monkeypatch.setattr(registry.rules, "__path__", [*registry.rules.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_ROUTERS", registry._found_rules())
    market = load_market("notebook")
    assert "even" in routers.rule_names(market) and "even" in standard_rules(market)
    assert evaluate({"p": "even"}, market=market, scenarios=5).scores["p"].kind == "rule"
    del sys.modules["sor_sb3.policies.rules.mine"]


def test_each_rule_says_where_it_means_something():
    for preset in preset_names():
        market = load_market(preset)
        left_out = set(RULES) - set(routers.rule_names(market, "OrderPlace-v1", registry.GROUPS))
        assert ("vwap" in left_out) == ("pov" in left_out) == (not market.has_volume)
        assert ("vwap_curve" in left_out) == (not market.has_volume or market.draws_order)
        assert ("dark_first" in left_out) == (not market.has_dark)
        assert ("dark_then_sweep" in left_out) == (not market.has_dark or market.order.waves == 1)
        assert ("stale_sniper" in left_out) == (market.model == "notebook")
        assert left_out <= {name for name, needs in RULE_NEEDS.items() if needs}


def test_a_registered_rule_is_made_scored_and_compared_like_any_other():
    sor_sb3.register_router("last_venue", LastVenue)
    market = load_market("notebook")
    result = evaluate({"mine": "last_venue", "named": "best_fixed_venue"}, market=market, scenarios=20)
    assert result.scores["mine"].kind == "rule" and result.names("learned") == []
    named = routers.make("best_fixed_venue", market, venue=market.venue_names[-1])
    expected = evaluate({"named": named}, market=market, scenarios=20).scores["named"].cost
    np.testing.assert_array_equal(result.scores["mine"].cost, expected)
    assert standard_rules(market)[-2:] == ["last_venue", market.oracle]


def test_a_class_that_only_predicts_is_a_router_too():
    sor_sb3.register_router("plain", OnlyPredicts)
    made = routers.make("plain", "notebook", venue=2)
    assert evaluate({"p": made}, market="notebook", scenarios=5).scores["p"].kind == "rule"
    sor_sb3.register_router("plain", OnlyPredicts)  # again, as a notebook's cell does
    with pytest.raises(UserError, match="router 'plain' does not take these options"):
        routers.make("plain", "notebook", veneu=2)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "..", ".hidden", "two words", "line\n", None, 3])
def test_a_name_that_cannot_name_a_folder_is_refused(name):
    with pytest.raises(UserError, match="expected letters, digits"):
        sor_sb3.register_router(name, LastVenue)


@pytest.mark.parametrize("name", ["random", "pro_rata", "snapshot_oracle", "clairvoyant"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(UserError, match=f"router '{name}' is taken"):
        sor_sb3.register_router(name, LastVenue)


@pytest.mark.parametrize("router", [None, "pro_rata", int, lambda rows: rows, object()])
def test_what_is_no_class_with_predict_is_refused(router):
    with pytest.raises(UserError, match="expected a class with SB3's predict"):
        sor_sb3.register_router("mine", router)


def a_module(tmp_path, monkeypatch, text):
    (tmp_path / "rules_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rules_of_mine", raising=False)


MODULE = """import numpy as np
from sor_sb3.routers import Router

class Even(Router):
    def weights(self, view):
        return np.ones(view.open.shape)

class Unfinished(Router):
    pass
"""


def test_a_class_of_a_module_is_a_rule_by_its_path(tmp_path, monkeypatch):
    a_module(tmp_path, monkeypatch, MODULE)
    market = load_market("us_equity")
    assert registry.chosen_rules(market, "OrderSplit-v1", ["rules_of_mine:Even"])[-1] == "rules_of_mine:Even"
    monkeypatch.setattr(registry, "_ROUTERS", {k: v for k, v in registry._ROUTERS.items() if ":" not in k})
    rows = sor_sb3.make_vec_env("OrderSplit-v1", market=market, n_envs=2, seed=0).reset()
    made = routers.make("rules_of_mine:Even", market)  # in another process, which has only the name
    assert np.ptp(made.predict(rows)[0]) == 0.0
    split = routers.make("twap+rules_of_mine:Even", market, "OrderExecute-v1").split
    assert type(split) is type(made)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("rules_of_mine:Evn", "cannot be imported: AttributeError.*'Evn'"),
        ("no_such_module:Even", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        (":Even", "cannot be imported"),
        ("rules_of_mine:np", "is .*; expected a class .*, such as a subclass of sor_sb3.routers.Router"),
        ("rules_of_mine:Unfinished", "has no method weights"),
    ],
)
def test_a_path_that_leads_to_no_rule_is_refused(tmp_path, monkeypatch, name, why):
    a_module(tmp_path, monkeypatch, MODULE)
    with pytest.raises(UserError, match=f"router '{name}' {why}"):
        registry.chosen_rules(load_market("us_equity"), "OrderSplit-v1", [name])


@pytest.mark.parametrize("name", [None, 3, ["pro_rata"]])
def test_a_name_that_is_no_text_is_unknown(name):
    with pytest.raises(UserError, match=r"is unknown.*; expected one of .*, random, "):
        routers.make(name, "notebook")


def test_a_market_may_name_a_registered_router():
    sor_sb3.register_router("last_venue", LastVenue)
    market = load_market("notebook").model_copy(update={"reference_router": "last_venue"})
    names = {n: n for n in ("last_venue", "all_in", market.oracle)}
    assert evaluate(names, market=market, scenarios=10).gap_closed("all_in") is not None
