"""The planner: its dynamic programming is exact, its numbers may be off, and it beats the rules that know less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.policies.oracles.clairvoyant import compositions
from sor_sb3.policies.rules.planner import BELIEVED, _cheapest_parts, _tail_table, mistaken


def test_the_cheapest_parts_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    costs = rng.normal(size=(50, 3, 7))
    costs[rng.random(costs.shape) < 0.1] = np.inf
    costs[:, 0, :] = rng.normal(size=(50, 7))
    chosen, lowest = _cheapest_parts(costs)
    every = compositions(6, 3)
    for row in range(50):
        tried = costs[row, np.arange(3), every].sum(axis=1)
        assert lowest[row] == pytest.approx(tried.min())
        assert costs[row, np.arange(3), chosen[row]].sum() == pytest.approx(tried.min()) and chosen[row].sum() == 6


def test_a_dark_childs_mean_fill_is_the_integral_of_the_tail():
    """Flat density on [1, 100]: min(s, S) has the mean s - (s - 1)^2 / 198; checked by hand."""
    sizes, means = _tail_table(0.0, 100.0)
    for size in (0.5, 1.0, 10.0, 60.0, 100.0):
        by_hand = size - max(size - 1.0, 0.0) ** 2 / 198.0
        assert np.interp(size, sizes, means) == pytest.approx(by_hand, rel=0.01)


def test_mistaken_numbers_are_off_by_half_and_differ_from_draw_to_draw():
    market = load_market("us_equity")
    believed = [mistaken(market, draw) for draw in range(5)]
    assert believed[0] == mistaken(market, 0) and len({m.venues[0].latency_ms for m in believed}) > 1
    for path in BELIEVED:
        part, _, field = path.partition(".")
        pairs: list[tuple[Any, Any]] = [(market.response, believed[0].response)]
        if part != "response":
            pairs = list(zip(market.venues, believed[0].venues, strict=True))
        if part == "dark":
            pairs = [(a.dark, b.dark) for a, b in pairs if a.dark is not None]
        for true, wrong in pairs:
            before, after = getattr(true, field), getattr(wrong, field)
            allowed = [0.5 * before, 1.5 * before] + ([1.0] if field.endswith("probability") else [])
            assert after in allowed, path


def test_it_beats_the_rules_that_know_less_even_when_it_is_mistaken():
    market = load_market("crypto")
    policies = {"planner": "planner", "net_price_sweep": "net_price_sweep"}
    result = sor_sb3.evaluate(
        policies | {f"off {draw}": routers.make("planner", market, draw=draw) for draw in range(2)},
        market=market,
        scenarios=500,
    )
    assert result.difference("planner", "net_price_sweep").ci95_high < 0.0
    off = np.mean([result.scores[f"off {draw}"].cost for draw in range(2)], axis=0)
    saved = (result.scores["net_price_sweep"].cost - off).ravel()
    assert saved.mean() > 2.0 * saved.std() / np.sqrt(saved.size)


def test_it_is_for_markets_that_say_how_they_move():
    assert "planner" not in routers.rule_names(load_market("notebook"))
    with pytest.raises(UserError, match="synthetic"):
        routers.make("planner", "notebook")
