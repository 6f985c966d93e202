"""The zoo's own command with our envs and REINFORCE; where rl_zoo3 is not installed only the refusal is tested."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import sor_sb3
from sor_sb3.errors import UserError

needs_zoo = pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="needs rl_zoo3")
ZOO = [sys.executable, "-m", "sor_sb3.zoo"]
TINY = ["--eval-freq", "-1", "--seed", "1", "-f", "logs"]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_zoo
@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "VenueSelect-v1"])
def test_reinforce_trains_and_is_watched(env_id, tmp_path):
    flags = ["--algo", "reinforce", "--env", env_id]
    said = run(
        tmp_path, *ZOO, "train", *flags, "-conf", "sor_sb3.zoo.reinforce", "-n", "320", *TINY, "-params", "n_envs:4"
    )
    assert "carried_fraction" in said
    assert (tmp_path / "logs" / "reinforce" / f"{env_id}_1" / f"{env_id}.zip").is_file()
    assert "Mean reward" in run(tmp_path, *ZOO, "enjoy", *flags, "-f", "logs", "--no-render", "-n", "60")


@needs_zoo
def test_the_zoos_own_algorithms_need_nothing_but_its_flags(tmp_path):
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "OrderSplit-v1", *TINY]
    settings = [
        "--gym-packages",
        "sor_sb3",
        "-conf",
        "sor_sb3.zoo.ppo",
        "-n",
        "80",
        "-params",
        "n_envs:4",
        "batch_size:40",
    ]
    run(tmp_path, *command, *settings, "--env-kwargs", "market:'notebook'")
    assert (tmp_path / "logs" / "ppo" / "OrderSplit-v1_1" / "OrderSplit-v1.zip").is_file()


@needs_zoo
def test_reinforce_on_an_env_that_is_not_ours(tmp_path):
    flags = ["--algo", "reinforce", "--env", "CartPole-v1", "-conf", "cartpole.yml", *TINY]
    (tmp_path / "cartpole.yml").write_text(
        "CartPole-v1: {n_timesteps: 500, policy: MlpPolicy, learning_rate: lin_0.01}\n"
    )
    run(tmp_path, *ZOO, "train", *flags)
    assert (tmp_path / "logs" / "reinforce" / "CartPole-v1_1" / "CartPole-v1.zip").is_file()


@needs_zoo
def test_reinforce_is_optimised(tmp_path):
    flags = ["--algo", "reinforce", "--env", "OrderSplit-v1", "-conf", "sor_sb3.zoo.reinforce", "-n", "200"]
    tuning = ["-optimize", "--n-trials", "2", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    run(tmp_path, *ZOO, "train", *flags, *tuning, "--n-eval-envs", "1", "-f", "logs", "-params", "n_envs:2")
    assert list((tmp_path / "logs" / "reinforce").glob("report_*"))


@needs_zoo
@pytest.mark.parametrize("algo", ["ppo", "a2c", "reinforce", "sac"])
def test_settings_are_those_of_the_package(algo):
    from sor_sb3.algorithms.hyperparameters import default_hyperparameters
    from sor_sb3.zoo import zoo_hyperparameters

    theirs = zoo_hyperparameters(algo)
    for env_id, settings in theirs.items():
        ours = default_hyperparameters(algo, env_id, "us_equity")
        assert settings["n_timesteps"] == ours["n_timesteps"]
        assert settings["policy"] == ours["policy"]
        assert settings.get("n_steps") != "episode"


def test_without_the_zoo_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(UserError, match=r"pip install 'sor-sb3\[zoo\]'"):
        sor_sb3.register_with_rl_zoo3()
