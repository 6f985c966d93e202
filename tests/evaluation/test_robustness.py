"""Changed markets: each change changes what it says and nothing else, and policies see the units that they know."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.robustness import CHANGES, UNCHANGED, robustness
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from tests.evaluation.test_gains import Learned

BY_NAME = {change.name: change for change in CHANGES}
WORDS = {"better", "worse", "no significant difference"}


def changed(name: str, market: str | MarketSpec = "us_equity") -> Any:
    found = BY_NAME[name].applied(load_market(market))
    assert found is not None
    return found


def rows_of(market: str | MarketSpec, rule: str, policy: str, scenarios: int = 200) -> dict[str, dict[str, Any]]:
    evaluator = Evaluator("OrderSplit-v1", market, scenarios)
    made = evaluator.policies([policy, rule])
    policies = {"p": [Learned(made[policy])], rule: made[rule]}
    return {row["change"]: row for row in robustness(evaluator, evaluator.evaluate(policies), policies, rule)}


def numbers(data: Any, path: str = "") -> dict[str, Any]:
    """Every number of plain data by its path."""
    if isinstance(data, dict):
        return {k: v for key, item in data.items() for k, v in numbers(item, f"{path}.{key}").items()}
    if isinstance(data, (list, tuple)):
        return {k: v for i, item in enumerate(data) for k, v in numbers(item, f"{path}.{i}").items()}
    return {path: data}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_change_changes_what_it_says_and_nothing_else(name):
    before, after = numbers(load_market("us_equity").model_dump()), numbers(changed(name).model_dump())
    moved = {path for path in before if before[path] != after[path]}
    fields = {path.rpartition(".")[2] for path in BY_NAME[name].paths}
    assert moved and {path.rpartition(".")[2] for path in moved} <= fields
    for path in moved:
        assert after[path] == pytest.approx(BY_NAME[name].by(before[path]))


def test_ranges_are_changed_with_their_numbers():
    family = load_market("us_equity").model_copy(
        update={"randomise": {"venues.*.latency_ms": (0.1, 0.5), "order.quantity_shares": (100.0, 200.0)}}
    )
    assert changed("latency × 3", family).randomise["venues.*.latency_ms"] == pytest.approx((0.3, 1.5))
    assert changed("order × 0.3", family).randomise["order.quantity_shares"] == pytest.approx((30.0, 60.0))
    assert changed("fade × 2", family).randomise == family.randomise


def test_a_market_without_such_numbers_is_left_out():
    assert BY_NAME["no dark supply"].applied(load_market("tick_bound").model_copy(update={"venues": ()})) is None
    assert set(rows_of("notebook", "all_in", "pro_rata", 20)) == {UNCHANGED, "order × 0.3", "order × 3"}


def test_rows_are_those_of_an_evaluation_of_the_changed_market():
    rows = rows_of("us_equity", "net_price_sweep", "pro_rata")
    assert list(rows) == [UNCHANGED, *BY_NAME]
    for row in rows.values():
        policy = row["policies"]["p"]
        assert row["against"] == "net_price_sweep" and policy["verdict"] in WORDS
        assert policy["cost"] - row["rule_cost"] == pytest.approx(policy["difference"])
        assert policy["ci95"][0] <= policy["difference"] <= policy["ci95"][1]
    for name in ("order × 3", "volatility × 2"):
        again = Evaluator("OrderSplit-v1", changed(name), 200)
        assert rows[name]["rule_cost"] == pytest.approx(
            float(again.score("r", "net_price_sweep").cost.mean()), rel=1e-4
        )
    assert rows["fees + 0.1 bps"]["rule_cost"] > rows[UNCHANGED]["rule_cost"] > rows["fees − 0.1 bps"]["rule_cost"]
    assert rows["order × 3"]["rule_cost"] > rows[UNCHANGED]["rule_cost"]


def test_without_dark_supply_nothing_fills_in_the_dark():
    market = changed("no dark supply")
    scores = Evaluator("OrderSplit-v1", market, 50).score("d", "dark_first")
    is_dark = np.array([venue.dark is not None for venue in market.venues])
    assert scores.venue_shares[0, is_dark].sum() == 0.0


class Seen:
    """Keeps the first observations that are asked of it, and splits evenly."""

    kind = "learned"

    def __init__(self) -> None:
        self.first: list[np.ndarray] = []

    def predict(self, observation: Any, state: Any = None, start: Any = None, deterministic: bool = True) -> Any:
        if np.all(start):
            self.first.append(np.array(observation))
        return np.ones((len(observation), 10), dtype=np.float32), None


def test_policies_see_the_units_that_they_know():
    """A latency three times as long is seen three times as long, and an order is seen as the whole that it is."""
    evaluator, seen = Evaluator("OrderSplit-v1", "us_equity", 30), Seen()
    policies = {"p": seen, **evaluator.policies(["pro_rata"])}
    robustness(evaluator, evaluator.evaluate(policies), policies, "pro_rata")
    first = dict(zip([UNCHANGED, *BY_NAME], seen.first, strict=True))
    plain = [k for k, v in enumerate(evaluator.market.venues) if getattr(v, "speed_bump_ms", 0.0) == 0.0]
    at = [10 + 19 * k + 10 for k in plain]  # each venue's latency
    ratio = np.expm1(first["latency × 3"][:, at]) / np.expm1(first[UNCHANGED][:, at])
    np.testing.assert_allclose(ratio, 3.0, rtol=1e-4)
    for name in ("order × 0.3", "order × 3"):
        np.testing.assert_allclose(first[name][:, 1], 1.0)  # remaining
        np.testing.assert_allclose(first[name][:, 3], math.log(2.0), rtol=1e-5)  # an even slice
