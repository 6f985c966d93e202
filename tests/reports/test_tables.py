"""Console tables say every name and every verdict, and print nothing but what ``results.json`` holds."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.evaluation.evaluator import evaluate, standard_rules
from sor_sb3.evaluation.formats import measured
from sor_sb3.evaluation.results import make_results
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.reports.markets import venues_table
from sor_sb3.reports.tables import print_results


class Constant:
    """A learner's stand-in: equal weights, so neither a rule nor an oracle."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        n_venues = (observation.shape[1] - len(MARKET_FEATURES)) // len(VENUE_FEATURES)
        return np.ones((len(observation), n_venues), np.float32), state


def results_of(market: str, learned: bool = True) -> dict[str, Any]:
    names = standard_rules(load_market(market))
    policies: dict[str, Any] = dict(zip(names, names, strict=True))
    if learned:
        policies = {"equal": [Constant(), Constant()], "even": Constant(), **policies}
    evaluation = evaluate(policies, market=market, scenarios=30)
    return make_results(evaluation, "best_price", {})


@pytest.mark.parametrize("market", ["notebook", "us_equity"])
@pytest.mark.parametrize("learned", [True, False])
def test_every_policy_and_verdict_is_printed(market, learned, capsys):
    results = results_of(market, learned)
    print_results(results)
    text = capsys.readouterr().out
    for policy in results["policies"]:
        assert policy["name"] in text
        for key in ("cost", "sd", "cvar95"):
            assert measured(policy[key], policy[f"{key}_ci95"]) in text
    for comparison in results["comparisons"]:
        assert comparison["sentence"] in text
    against_best = [c for c in results["comparisons"] if c["against"] == results["best_rule"]]
    assert text.count("(the best rule)") == 1
    for comparison in against_best:
        assert measured(comparison["difference"], comparison["ci95"], sign=True) in text
        assert text.count(comparison["verdict"]) >= 2
    assert "from the best" in text and "What could be won" in text
    assert ("slippage" in text) == (market == "us_equity")
    assert "nan" not in text
    assert "[/]" not in text


def test_a_console_that_is_given_is_used(capsys):
    out = StringIO()
    print_results(results_of("notebook"), Console(file=out, width=200))
    assert "equal" in out.getvalue()
    assert capsys.readouterr().out == ""


def test_one_sentence_a_comparison():
    for c in results_of("notebook")["comparisons"]:
        assert c["sentence"].startswith(f"{c['policy']} against {c['against']}: {c['wording']} (")
        assert c["wording"].startswith(c["verdict"])


def test_two_scenarios_print_without_an_interval(capsys):
    results = results_of("notebook")
    for comparison in results["comparisons"]:
        comparison["ci95"] = [None, None]
    results["policies"][0]["gap_closed"] = results["policies"][0]["gap_closed_ci95"] = None
    print_results(results)
    assert "[–, –]" in capsys.readouterr().out


@pytest.mark.parametrize("name", preset_names())
def test_venues_table_names_every_venue(name, capsys):
    market = load_market(name)
    Console(width=200).print(venues_table(market))
    text = capsys.readouterr().out
    for venue in market.venue_names:
        assert f" {venue} " in text
