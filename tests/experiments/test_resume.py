"""Runs that are killed: the same command, or `train --resume`, ends with the bytes of a run that was not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.save_util import load_from_zip_file

from sor_sb3.callbacks.checkpoint import checkpoints, is_whole, latest_checkpoint
from sor_sb3.experiments import run as training
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.run import can_resume, resume_point, train
from sor_sb3.market.loading import load_market
from tests.conftest import COMMAND, COMPARISON, RUN_NAMES, Finished, run_command
from tests.experiments.test_comparison import no_leftovers, session_members, wait_for
from tests.test_cli import call

th.set_num_threads(1)

STEPS, ENVS = 8_000, 8


def start(output: Path, *arguments: object) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen([str(COMMAND), *map(str, arguments)], stdout=file, stderr=file, start_new_session=True)


def kill_when(process: subprocess.Popen[bytes], condition: Any, what: str) -> None:
    """Kill a command and all that it started, with a signal that nothing can catch."""
    with no_leftovers(process):
        wait_for(lambda: condition() or process.poll() is not None, what)
        assert process.poll() is None, f"the command ended before {what}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not session_members(process.pid), "everything to die", 20)


def assert_same_model(one: Path, other: Path) -> None:
    loaded: list[Any] = [load_from_zip_file(file, device="cpu") for file in (one, other)]
    (data, mine, _), (others_data, theirs, _) = loaded
    assert data["num_timesteps"] == others_data["num_timesteps"]
    assert data["_n_updates"] == others_data["_n_updates"]
    np.testing.assert_array_equal(data["_last_obs"], others_data["_last_obs"])
    for key, tensor in mine["policy"].items():
        assert th.equal(tensor, theirs["policy"][key]), key
    for key, state in mine["policy.optimizer"]["state"].items():
        for name, value in state.items():
            assert th.equal(th.as_tensor(value), th.as_tensor(theirs["policy.optimizer"]["state"][key][name])), name


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("OrderSplit-v1.zip", "best_model.zip"):
        assert_same_model(one / name, other / name)
    with np.load(one / "evaluations.npz") as mine, np.load(other / "evaluations.npz") as theirs:
        for key in mine.keys() - {"tags", "scalars"}:  # gap closed is among them where baselines were given
            np.testing.assert_array_equal(mine[key], theirs[key])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("algo", "market"),
    [
        pytest.param("ppo", "us_equity", marks=pytest.mark.slow),
        ("ppo", "notebook"),
        ("a2c", "notebook"),
        ("reinforce", "notebook"),
    ],
)
def test_killed_in_training_and_resumed(algo, market, tmp_path):
    config = train_config(algo, "OrderSplit-v1", load_market(market), 4, STEPS, ENVS)
    train(config, tmp_path / "straight")

    arguments = ("train", "--algo", algo, "--market", market, "--seed", 4, "--timesteps", STEPS, "--n-envs", ENVS)
    process = start(tmp_path / "output.txt", *arguments, "--log-dir", tmp_path / "logs", "--no-progress")
    folder = tmp_path / "logs" / algo / "OrderSplit-v1_1"
    kept = folder / "checkpoints"
    kill_when(process, lambda: len([c for c in checkpoints(kept) if is_whole(c)]) >= 2, "two checkpoints")
    assert not (folder / "done.json").exists()
    newest, before = checkpoints(kept)
    if algo == "a2c":  # and the disk was full, too
        state = (newest / "state.pkl").read_bytes()
        (newest / "state.pkl").write_bytes(state[: len(state) // 2])
        assert latest_checkpoint(kept) == before
    expected = before if algo == "a2c" else newest

    resumed = run_command("train", "--resume", folder, "--no-progress")
    assert resumed.returncode == 0, resumed.stderr
    assert f"from step {int(expected.name.partition('_')[0])}" in resumed.stderr
    assert_same_run(tmp_path / "straight", folder)
    assert not kept.exists()


def test_a_finished_run_is_left_alone(comparison: Finished, monkeypatch, capsys):
    assert call(monkeypatch, "train", "--resume", comparison.folder / RUN_NAMES[0]) == 0
    captured = capsys.readouterr()
    assert "finished already" in captured.out
    assert captured.err == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_comparison_goes_on_from_the_checkpoints_of_its_runs(comparison: Finished, tmp_path):
    arguments = (*COMPARISON, "--workers", 1, "--log-dir", tmp_path)
    run = tmp_path / "comparison" / "ppo" / "OrderSplit-v1_1"
    process = start(tmp_path / "output.txt", *arguments)
    kill_when(process, lambda: latest_checkpoint(run / "checkpoints"), "a checkpoint of PPO")
    board = run / "tensorboard"
    before = set(board.iterdir())
    assert before
    done = run_command(*arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "comparison" / "results.json").read_bytes() == (comparison.folder / "results.json").read_bytes()
    assert_same_run(comparison.folder / "ppo" / "OrderSplit-v1_1", run)
    assert before < set(board.iterdir()), "the run was not resumed: its TensorBoard folder was made anew"


def tiny(tmp_path: Path, **settings: Any) -> Any:
    return train_config(
        "a2c", "OrderSplit-v1", load_market("notebook"), 0, 400, 4, {"n_steps": 25, **settings}
    ).model_copy(update={"validation_scenarios": 4, "evaluations": 3})


class Cut(Exception):
    """Training was cut off."""


def cut_off(config: Any, folder: Path) -> None:
    def report(timesteps: int) -> None:
        if timesteps >= 200:
            raise Cut

    with pytest.raises(Cut):
        train(config, folder, report=report)


def test_a_run_without_a_whole_checkpoint_starts_over(tmp_path, monkeypatch, capsys):
    config = tiny(tmp_path)
    straight = train(config, tmp_path / "straight")
    folder = tmp_path / "cut"
    cut_off(config, folder)
    assert can_resume(config, folder)
    assert resume_point(config, folder).startswith(", from step 1")
    for checkpoint in checkpoints(folder / "checkpoints"):
        (checkpoint / "digest.json").unlink()
    assert not can_resume(config, folder)
    assert call(monkeypatch, "train", "--resume", folder, "--no-progress") == 0
    assert "from the start: the run has no whole checkpoint" in capsys.readouterr().err
    assert_same_run(tmp_path / "straight", folder)
    assert straight.num_timesteps == 400


def test_a_checkpoint_of_another_config_is_not_used(tmp_path):
    cut_off(tiny(tmp_path), tmp_path)
    assert not can_resume(tiny(tmp_path, learning_rate=0.1), tmp_path)


def test_other_versions_are_refused_in_one_sentence(tmp_path, monkeypatch, capsys):
    cut_off(tiny(tmp_path), tmp_path)
    monkeypatch.setattr(training, "system_versions", lambda: {"torch": "0.1"})
    assert call(monkeypatch, "train", "--resume", tmp_path, "--no-progress") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "(here 0.1)" in error and "delete" in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--algo", "ppo"], "--algo cannot be given with --resume"),
        (["--set", "gamma=0.9"], "--set cannot be given with --resume"),
        (["--assumed-depth", "100"], "--assumed-depth cannot be given with --resume"),
        ([], "is no run folder"),
    ],
)
def test_resuming_what_cannot_be(flags, said, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "train", "--resume", tmp_path, *flags) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stop)
    assert call(monkeypatch, "train", "--market", "notebook", "--algo", "a2c", "--log-dir", tmp_path) == 130
    folder = tmp_path / "a2c" / "OrderSplit-v1_1"
    assert f"continue with: sor-sb3 train --resume {folder}" in capsys.readouterr().err
