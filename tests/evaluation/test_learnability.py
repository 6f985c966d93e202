"""Promise 10: in every market that ships there is something to learn, and how much at least."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.policies.registry import rule_names

MARGINS = {  # the least by which the oracle is below the best rule, in the market's cost unit: half of what is measured
    "us_equity": 0.35,
    "tick_bound": 0.8,
    "crypto": 0.25,
    "fx_two_dealer": 0.004,
    "dark": 0.2,
    "heldout/crypto_regional": 0.15,
    "heldout/europe_equity": 0.2,
    "heldout/us_equity_10mil": 0.3,
    "heldout/us_equity_varied": 0.2,
    "notebook": 0.005,
}
FAST = ("fx_two_dealer", "dark", "notebook")


def check_that_there_is_something_to_learn(name: str, scenarios: int) -> None:
    """Oracle < best rule < naive < worst rule, each by more than its 95 % interval; validation scenarios name them.

    In the notebook's market, where venues are alike, naive and worst are the same.
    """
    market = load_market(name)
    validation = Evaluator("OrderSplit-v1", market, scenarios, data_split="validation")
    rules = validation.evaluate(validation.policies(rule_names(market)))
    best, worst = rules.names("rule")[0], rules.names("rule")[-1]
    chain = [market.oracle, best, market.reference_router, *([worst] if name != "notebook" else [])]
    judge = Evaluator("OrderSplit-v1", market, scenarios)
    result = judge.evaluate(judge.policies(list(dict.fromkeys(chain))))
    for cheaper, dearer in pairwise(chain):
        gap = result.difference(dearer, cheaper)
        assert gap.ci95_low > 0.0, f"{name}: {dearer} - {cheaper} is {gap.mean:.4f}, interval from {gap.ci95_low:.4f}"
    assert result.difference(best, market.oracle).mean > MARGINS[name]


@pytest.mark.parametrize("name", FAST)
def test_there_is_something_to_learn(name):
    check_that_there_is_something_to_learn(name, 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", MARGINS)
def test_there_is_something_to_learn_in_every_market(name):
    check_that_there_is_something_to_learn(name, 1000)


def test_every_market_states_its_margin():
    """But the one that is meant to leave nothing."""
    assert set(MARGINS) == set(preset_names()) - {"notebook_blind"}
