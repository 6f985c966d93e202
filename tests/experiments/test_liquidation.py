"""Training in closed-form markets: the command, its folder, what it refuses, and how near PPO comes."""

from __future__ import annotations

import json

import pytest

from sor_sb3.errors import UserError
from sor_sb3.experiments.liquidation import make_liquidation_model, train_liquidation
from sor_sb3.market.liquidation import load_liquidation
from tests.test_cli import call

ENVS = {"DarkPoolLiquidation-v1": "dark_pool_liquidation", "LimitOrderLiquidation-v1": "limit_order_liquidation"}
SMALL = ("--timesteps", "320", "--n-envs", "4", "--set", "batch_size=80", "--no-progress")


@pytest.mark.parametrize("env", ENVS)
def test_the_command_trains_and_says_how_far_it_is_from_the_best(env, tmp_path, monkeypatch, capsys):
    status = call(monkeypatch, "train", "--env", env, *SMALL, "--log-dir", tmp_path, "--market-set", "horizon_steps=10")
    said = capsys.readouterr().out
    assert status == 0 and "best policy: cost" in said and "excess: " in said
    (results,) = tmp_path.glob(f"ppo/{env}_1/results.json")
    data = json.loads(results.read_text())
    assert data["market"]["model"] == ENVS[env] and data["market"]["horizon_steps"] == 10
    assert data["score"]["excess"]["mean"] > 0.0 and (results.parent / f"{env}.zip").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--market", "us_equity"), "market 'us_equity' is no closed-form market"),
        (("--trades", "x.csv"), "--trades cannot be given with --env DarkPoolLiquidation-v1"),
        (("--set", "critic_updates=3"), "critic_updates is 3, which means nothing in DarkPoolLiquidation-v1"),
        (("--market-set", "impact=-1"), "field 'impact' is -1"),
        (("--algo", "dqn"), "dqn"),
    ],
)
def test_what_means_nothing_is_said_in_a_sentence(flags, message, tmp_path, monkeypatch, capsys):
    log_dir = tmp_path / "logs"
    status = call(monkeypatch, "train", "--env", "DarkPoolLiquidation-v1", *SMALL[:4], *flags, "--log-dir", log_dir)
    said = capsys.readouterr().err
    assert status == 2 and message in said and said.count("\n") == 1
    assert not log_dir.exists()


def test_an_algorithm_without_settings_for_the_env_has_its_own_defaults():
    market = load_liquidation("dark_pool_liquidation", "dark_pool_liquidation")
    model, values = make_liquidation_model("a2c", "DarkPoolLiquidation-v1", market, n_envs=2)
    assert values["policy"] == "MlpPolicy" and model.n_steps == 5 and model.n_envs == 2
    with pytest.raises(UserError, match="batch_size is 0"):
        make_liquidation_model("ppo", "DarkPoolLiquidation-v1", market, settings={"batch_size": 0})


@pytest.mark.slow
@pytest.mark.parametrize(("env", "model"), ENVS.items())
def test_ppo_comes_within_three_percent_of_the_best_policy(env, model, tmp_path):
    score = train_liquidation(tmp_path, "ppo", env, load_liquidation(model, model))
    assert abs(score.excess.mean) < 0.03 and score.excess.ci95_high < 0.03
