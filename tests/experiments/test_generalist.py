"""Runs on a family of markets: by the real commands, on markets of other sizes, and resumed bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.family_evaluator import FamilyEvaluator
from sor_sb3.experiments import reopen
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.run import load_policy, train, validation_rules
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.loading import load_market
from tests.experiments.test_resume import assert_same_run, cut_off
from tests.market.test_family import TINY, write_family
from tests.test_cli import call


def tiny_config(algo: str = "ppo", env_id: str = "OrderSplit-v1", **settings) -> TrainConfig:
    family = MarketFamily.model_validate({**TINY, "name": "tiny"})
    options = {"n_steps": 10, **({"batch_size": 40} if algo == "ppo" else {}), **settings}
    config = train_config(algo, env_id, family, 0, 400, 8, options)
    return config.model_copy(update={"validation_scenarios": 12, "evaluations": 3})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generalist")
    train(tiny_config(), folder)
    return folder


def test_the_command_trains_on_a_family_and_scores_on_another_market(tmp_path, monkeypatch, capsys):
    file = write_family(tmp_path)
    sizes = ("--timesteps", 160, "--n-envs", 8, "--set", "n_steps=10", "--set", "batch_size=40", "--no-progress")
    assert call(monkeypatch, "train", "--market", file, *sizes, "--log-dir", tmp_path) == 0
    folder = tmp_path / "ppo" / "OrderSplit-v1_1"
    assert f"score it with: sor-sb3 evaluate {folder} --market NAME" in capsys.readouterr().out
    for market, venues in (("dark", 5), ("us_equity", 10)):
        out = tmp_path / f"{market}.json"
        assert call(monkeypatch, "evaluate", folder, "--market", market, "--scenarios", 4, "--output", out) == 0
        results = json.loads(out.read_text(encoding="utf-8"))
        shares = {policy["name"]: policy["venue_shares"] for policy in results["policies"]}
        assert results["market"] == market and len(shares["ppo"]) == venues and "net_price_sweep" in shares
    assert call(monkeypatch, "evaluate", folder, "--scenarios", 4) == 2
    assert "was trained on the family small, on no single market; score it with" in capsys.readouterr().err


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(run, tmp_path):
    cut_off(tiny_config(), tmp_path)
    train(tiny_config(), tmp_path)
    assert_same_run(run, tmp_path)


@pytest.mark.parametrize(
    ("algo", "env_id"),
    [("a2c", "OrderPlace-v1"), ("reinforce", "OrderExecute-v1"), ("maskable_ppo", "VenueSelect-v1")],
)
def test_other_algorithms_and_envs(algo, env_id, tmp_path):
    config = tiny_config(algo, env_id, **({"batch_size": 40} if algo == "maskable_ppo" else {}))
    config = config.model_copy(update={"timesteps": 160})
    train(config, tmp_path, baselines=validation_rules(env_id, config.market))
    market = load_market("dark")
    evaluator = Evaluator(env_id, market, 3)
    assert np.isfinite(evaluator.score("it", load_policy(config, tmp_path, market=market)).cost).all()


def test_validation_is_of_many_markets_in_their_price_scales(run):
    config = tiny_config()
    evaluator = FamilyEvaluator(config.env, config.market, 12, 1, "validation")
    rows = evaluator.score("rule", "net_price_sweep")
    assert rows.cost.shape == (1, 12) and len({e.market.name for e in evaluator.evaluators}) == 12
    for k, one in enumerate(evaluator.evaluators):
        own = one.score("rule", "net_price_sweep").cost[0] / one.market.scales[0]
        np.testing.assert_array_equal(rows.cost[0, k : k + 1], own)
    learned = evaluator.score("learner", load_policy(config, run, best=True))
    with np.load(run / "evaluations.npz") as log:
        assert -log["results"].mean(axis=1).max() == pytest.approx(learned.cost.mean(), abs=1e-6)


def test_a_policy_made_for_a_market_answers_as_the_large_one_with_blank_venues(run):
    market = load_market("crypto")
    rows = Evaluator("OrderSplit-v1", market, 20).start()
    small, large = (load_policy(tiny_config(), run, market=m) for m in (market, None))
    padded = np.zeros((20, *large.observation_space.shape), np.float32)
    padded[:, : rows.shape[1]] = rows
    expected = large.predict(padded, deterministic=True)[0][:, :5]
    np.testing.assert_allclose(small.predict(rows, deterministic=True)[0], expected, atol=1e-6)


def test_exported_for_a_market_or_for_all_up_to_the_largest(run, tmp_path):
    market = load_market("crypto")
    rows = Evaluator("OrderSplit-v1", market, 20).start()
    for_it = OnnxPolicy.load(reopen.export_run(run, tmp_path / "crypto.onnx", market=market))
    for_all = OnnxPolicy.load(reopen.export_run(run, tmp_path / "all.onnx"))
    assert for_it.about["venues"] == list(market.venue_names) and for_all.n_actions == 6
    padded = np.zeros((20, for_all.n_features), np.float32)
    padded[:, : rows.shape[1]] = rows
    np.testing.assert_allclose(for_all.predict(padded)[0][:, :5], for_it.predict(rows)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "MlpPolicy"}, "policy is 'MlpPolicy' on a family; expected one that fits any number of venues"),
        ({"normalize": True}, "normalize is True on a family"),
        ({"policy_kwargs": {"marks": True}}, "policy_kwargs.marks is true on a family"),
    ],
)
def test_settings_that_are_bound_to_one_market_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        tiny_config(**settings)


def test_a_policy_with_marks_stays_with_its_venues(tmp_path):
    config = train_config("a2c", "OrderSplit-v1", load_market("dark"), 0, 40, 4, {"n_steps": 5})
    config = config.model_copy(update={"validation_scenarios": 4, "evaluations": 2})
    train(config, tmp_path)
    assert load_policy(config, tmp_path, market=load_market("crypto")).action_space.shape == (5,)  # five there, too
    with pytest.raises(
        UserError, match=r"was trained on the 5 venues of dark, and us_equity has 10; train on a family"
    ):
        load_policy(config, tmp_path, market=load_market("us_equity"))


def test_what_needs_one_market_says_so(run):
    for ask in (lambda: reopen.report_folder(run, 4), lambda: reopen.explain_folder(run, 10_000)):
        with pytest.raises(UserError, match="was trained on the family tiny, on no single market"):
            ask()
