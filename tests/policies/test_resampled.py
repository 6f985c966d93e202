"""Cont and Kukanov with outflows of the scenario's own past: what it remembers, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.evaluation.evaluator import evaluate, standard_rules
from sor_sb3.market.loading import load_market
from sor_sb3.policies.registry import GROUPS, rule_names

ENV = "OrderPlace-v1"
CONSTANTS = {"patience": 4, "underfill": 2.0}


def rule_of(market, name: str = "cont_kukanov_resampled"):
    return routers.make(name, market, ENV, **CONSTANTS)


def played(rule, market, n: int, steps: int):
    """Rows, views and actions of the first env steps."""
    core = RoutingCore(ENV, market, n)
    core.seed(list(range(n)))
    rows, found = core.reset(), []
    for step in range(steps):
        actions = rule.predict(rows, episode_start=np.full(n, step == 0))[0]
        found.append((rows, ObservationView.of(rows, market), actions))
        rows, _, _ = core.step(actions)
    return found


def test_it_remembers_what_sellers_brought_between_decisions():
    market = load_market("us_equity", {"order.waves": 1})
    rule = rule_of(market)
    views = [view for _, view, _ in played(rule, market, 4, 6)]
    kept = 0.5 ** (market.order.step_s / market.volume.memory_half_life_s)
    assert (rule._seen == 5).all()
    for j in range(5):
        came = (views[j + 1].outflow_shares - kept * views[j].outflow_shares) / (1.0 - kept)
        np.testing.assert_allclose(rule._past[:, j], np.maximum(came, 0.0), rtol=1e-9)


def test_before_it_has_a_past_it_is_cont_kukanov():
    market = load_market("us_equity")
    plain = rule_of(market, "cont_kukanov")
    rows, _, actions = played(rule_of(market), market, 3, 1)[0]
    assert np.array_equal(actions, plain.predict(rows)[0])


def test_one_scenario_is_routed_as_among_many():
    market = load_market("us_equity", {"order.horizon_steps": 9, "order.waves": 1})
    many, lone = played(rule_of(market), market, 3, 8), played(rule_of(market), market, 1, 8)
    for (_, _, actions), (_, _, alone) in zip(many, lone, strict=True):
        assert np.array_equal(actions[:1], alone)


def test_a_second_run_forgets_the_first():
    market = load_market("us_equity", {"order.horizon_steps": 9})
    rule = rule_of(market)
    first, second = ([actions for _, _, actions in played(rule, market, 2, 8)] for _ in "ab")
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_more_rests_where_sellers_came():
    """The same recent average, another past: a venue that sellers never came to gets nothing to rest."""
    market = load_market("us_equity", {"order.waves": 1})
    rule = rule_of(market)
    view = played(rule, market, 1, 8)[-1][1]
    before = rule._past.copy()
    came = {}
    for name, past in (("much", before * 0.0 + 5e4), ("none", before * 0.0)):
        rule._past, rule._seen, rule._average = past, np.array([20]), view.outflow_shares / rule._kept
        came[name] = rule._place(replace(view))[0, 1:].sum()
    assert came["much"] > 0.0 and came["none"] < 0.05 * came["much"]


@pytest.mark.parametrize("market", ["us_equity", "crypto"])
def test_it_plays_whole_orders(market):
    spec = load_market(market, {"order.horizon_steps": 9})
    both = {"resampled": rule_of(spec), "plain": rule_of(spec, "cont_kukanov")}
    scores = evaluate(both, ENV, spec, 10).scores
    assert np.isfinite(scores["resampled"].cost).all()
    assert not np.array_equal(scores["resampled"].cost, scores["plain"].cost)
    assert scores["resampled"].mean("completion") == pytest.approx(scores["plain"].mean("completion"), abs=0.1)


def test_it_is_run_by_name():
    market = load_market("us_equity")
    assert "cont_kukanov_resampled" in rule_names(market, ENV, GROUPS)
    assert "cont_kukanov_resampled" not in standard_rules(market, ENV)
