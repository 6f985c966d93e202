"""Who sees what: observations hold public fields only, and of policies only oracles reach hidden state."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies import registry
from sor_sb3.simulator.state import ALL_FIELDS, ORDER_FIELDS, PUBLIC_FIELDS, VENUE_FIELDS, VENUE_PARAMETER_FIELDS

PACKAGE = Path(sor_sb3.__file__).parent
SEEING = (("policies", "oracles"), ("live", "recorder.py"))  # the recorder plays a desk in the simulator
DOORS_TO_ALL = {"Truth", "ALL_FIELDS", "kernel_state", "read", "overwrite", "branch"}
# of the quote that a feed shows, from which the levels behind its touch follow; and what we took, which we know
OF_THE_OBSERVED_BOOK = {"observed_ask_bps", "observed_quote_shares", "observed_tick", "grid_bps", "tick", "venue_key"}
OF_THE_OBSERVED_BOOK |= {"refill_half_life_s", "name_rank", "slots_used"}
HIDDEN = sorted((ORDER_FIELDS | VENUE_FIELDS | VENUE_PARAMETER_FIELDS).keys() - PUBLIC_FIELDS.keys())


def words(file: Path) -> set[str]:
    """Names and attributes that a source uses, and what it imports, strings and comments left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
    return found


def test_of_policies_only_oracles_reach_hidden_state():
    rules = [file for room in ("", "rules", "learning_rules") for file in (PACKAGE / "policies" / room).glob("*.py")]
    assert len(rules) > 6
    for file in rules:
        assert not words(file) & DOORS_TO_ALL, file
    for name in ("clairvoyant", "snapshot"):
        assert words(PACKAGE / "policies" / "oracles" / f"{name}.py") & DOORS_TO_ALL, "the test looks for other words"


def test_beside_oracles_only_evaluation_and_its_reports_ask_for_the_truth():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts
        if room[0] not in ("simulator", "evaluation", "reports") and room[:2] not in SEEING:
            assert "Truth" not in words(file) and "ALL_FIELDS" not in words(file), file


def in_depth(market: str) -> MarketSpec:
    """The market with children that sweep: observations then read the levels behind the touch."""
    spec = load_market(market)
    if not spec.charges_bps:
        return spec
    return spec.model_copy(update={"order": spec.order.model_copy(update={"limit": "sweep", "limit_offset_bps": 3.0})})


def quickly(name: str, market: MarketSpec, env_id: str) -> routers.Router:
    """A rule that is not tuned, and learns from one scenario where it learns."""
    rule = registry.find_rule(name)
    options = {what: values[0] for what, values in rule.constants.items()}
    options |= {"training_scenarios": 1, "online": True} if rule.learns else {}
    options |= {"venue": market.venue_names[0]} if name == "best_fixed_venue" else {}
    options |= {"continuation": (1.0, 0.0)} if name == "planner" else {}
    return routers.make(name, market, env_id, **options)


@pytest.mark.parametrize("market", ["us_equity", "dark"])
@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "OrderPlace-v1"])
def test_no_rule_decides_otherwise_where_hidden_state_is_scrambled(env_id, market):
    """All hidden fields are overwritten between observing and deciding, and put back before the env steps."""
    core, tried = RoutingCore(env_id, market, 6), []
    for name in registry.rule_names(core.market, env_id, registry.GROUPS):
        rule = registry.find_rule(name)
        if env_id == "OrderPlace-v1" and not (rule.rests or rule.paces):
            continue  # decides as in the other env
        tried.append(name)
        core.seed(list(range(6)))
        states: list[Any] = [None, None]
        rows, begins = core.reset(), np.ones(6, bool)
        plain, scrambled = (quickly(name, core.market, env_id) for _ in range(2))
        for step in range(4):
            expected, states[0] = plain.predict(rows, states[0], begins)
            kept = core.simulator.get_state()
            core.simulator.overwrite(**dict.fromkeys(HIDDEN, 7 + step))
            actions, states[1] = scrambled.predict(rows, states[1], begins)
            core.simulator.set_state(kept)
            assert np.array_equal(actions, expected), name
            rows, _, _ = core.step(expected)
            begins = np.zeros(6, bool)
    assert {"OrderSplit-v1": "linucb", "OrderPlace-v1": "almgren_chriss"}[env_id] in tried


@pytest.mark.parametrize("market", ["us_equity", "crypto", "dark", "notebook", "heldout/us_equity_varied"])
def test_no_hidden_field_changes_an_observation(market):
    assert set(HIDDEN) < set(ALL_FIELDS) and len(HIDDEN) > 40
    core = RoutingCore("OrderSplit-v1", in_depth(market), 20)
    core.seed(list(range(20)))
    core.reset()
    rng = np.random.default_rng(0)
    for _ in range(3):
        core.step(rng.uniform(-1.0, 1.0, (20, core.market.n_venues)))
    before, state = core.observer.observe().tobytes(), core.simulator.get_state()
    for name in sorted(set(HIDDEN) - OF_THE_OBSERVED_BOOK):
        core.simulator.overwrite(**{name: 3})
        assert core.observer.observe().tobytes() == before, f"{name} is hidden and changes an observation"
        core.simulator.set_state(state)
    core.simulator.overwrite(signal=3)
    assert core.observer.observe().tobytes() != before
