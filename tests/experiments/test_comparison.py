"""Comparisons: what they leave, the same bytes from the same config, and going on after being stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sor_sb3.errors import UserError
from sor_sb3.experiments import comparison as module
from sor_sb3.experiments.comparison import Comparison, compare
from sor_sb3.experiments.config import compare_config
from sor_sb3.experiments.reopen import read_comparison
from sor_sb3.market.loading import load_market
from sor_sb3.routers import rule_names
from tests.conftest import COMMAND, COMPARISON, RUN_NAMES, Finished
from tests.test_cli import call, tree

LEARNERS = ("reinforce", "ppo")
NAMES = {*LEARNERS, *rule_names(load_market("notebook")), "snapshot_oracle"}


def strict_json(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def results(comparison: Finished) -> dict[str, Any]:
    return strict_json(comparison.folder / "results.json")


# --- what it leaves -------------------------------------------------------------------------------


def test_files(comparison: Finished):
    folder = comparison.folder
    for name in ("results.json", "comparison.png", "learning_curves.png", "config.yaml", "timing.json"):
        assert (folder / name).is_file(), name
    for run in RUN_NAMES:
        for name in ("best_model.zip", "OrderSplit-v1.zip", "evaluations.npz", "config.yaml", "done.json"):
            assert (folder / run / name).is_file(), (run, name)
    for name in ("comparison.png", "learning_curves.png"):
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not [p for p in folder.rglob(".*")]


def test_config_is_readable_and_complete(comparison: Finished, results: dict[str, Any]):
    held = yaml.safe_load((comparison.folder / "config.yaml").read_text(encoding="utf-8"))
    assert results["config"] == {"digest": held["digest"], **held["config"]}
    assert [learner["algo"] for learner in held["config"]["learners"]] == list(LEARNERS)
    assert held["config"]["seeds"] == [0, 1]
    assert {learner["timesteps"] for learner in held["config"]["learners"]} == {2000}
    assert {learner["hyperparameters"]["n_steps"] for learner in held["config"]["learners"]} == {50}


def test_command_prints_results_on_stdout_and_progress_on_stderr(comparison: Finished):
    assert "against the best rule" in comparison.stdout
    assert f"tensorboard --logdir {comparison.folder / 'tensorboard'}" in comparison.stdout
    assert "100 %" in comparison.stderr
    assert "Traceback" not in comparison.stderr


def is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(b is None or isinstance(b, float) for b in value)


def test_results_follow_the_schema(results: dict[str, Any]):
    assert (results["market"], results["env"], results["scenarios"]) == ("notebook", "OrderSplit-v1", 20)
    assert results["cost_unit"] == load_market("notebook").cost_unit
    assert {p["name"] for p in results["policies"]} == NAMES
    for policy in results["policies"]:
        kind = "learned" if policy["name"] in LEARNERS else "oracle" if "oracle" in policy["name"] else "rule"
        assert policy["kind"] == kind
        assert policy["training_seeds"] == (2 if kind == "learned" else None)
        assert isinstance(policy["cost"], float)
        assert is_interval(policy["cost_ci95"])
        assert set(policy["latency_ms"]) == {"p50", "p95", "p99"}
        for measure in ("slippage_bps", "fee_bps", "fill_rate"):
            assert policy[measure] is None  # no meaning in this market
        for measure in ("gap_closed", "gap_closed_from_best_rule", "sd", "cvar95"):
            assert isinstance(policy[measure], float)
            assert is_interval(policy[f"{measure}_ci95"])
    for comparison in results["comparisons"]:
        assert {comparison["policy"], comparison["against"]} <= NAMES
        assert isinstance(comparison["difference"], float)
        assert is_interval(comparison["ci95"])
        assert comparison["verdict"] in ("equivalent", "better", "worse", "no significant difference")
        assert isinstance(comparison["share"], float) and is_interval(comparison["share_ci95"])
        assert set(comparison["risk"]) == {"sd", "cvar95"}


def test_results_agree_with_each_other(results: dict[str, Any]):
    policies = {p["name"]: p for p in results["policies"]}
    assert [p["cost"] for p in results["policies"]] == sorted(p["cost"] for p in results["policies"])
    assert policies[results["reference_rule"]]["gap_closed"] == 0.0
    assert policies[results["oracle"]]["gap_closed"] == pytest.approx(1.0)
    best, won = policies[results["best_rule"]], results["could_be_won"]
    assert best["gap_closed_from_best_rule"] == 0.0
    assert policies[results["gap_end"]]["gap_closed_from_best_rule"] == pytest.approx(1.0)
    assert won == pytest.approx(best["cost"] - policies[results["gap_end"]]["cost"])
    assert results["margin"] == pytest.approx(max(0.01 * won, 1e-4))
    for c in results["comparisons"]:
        assert c["difference"] == pytest.approx(policies[c["policy"]]["cost"] - policies[c["against"]]["cost"])
        low, high = c["ci95"]
        assert low <= c["difference"] <= high
        signed = "better" if high < 0 else "worse" if low > 0 else "no significant difference"
        assert c["verdict"] == ("equivalent" if max(-low, high) < results["margin"] else signed)
        assert c["share"] == pytest.approx(-c["difference"] / won)
        if c["against"] == results["best_rule"]:
            assert c["share"] == pytest.approx(policies[c["policy"]]["gap_closed_from_best_rule"])
        for measure, risk in c["risk"].items():
            apart = policies[c["policy"]][measure] - policies[c["against"]][measure]
            assert risk["difference"] == pytest.approx(apart, abs=1e-12)
    for policy in policies.values():
        assert sum(policy["cost_parts"].values()) == pytest.approx(policy["cost"])
        assert sum(policy["venue_shares"].values()) == pytest.approx(1.0)
        low, high = policy["cost_ci95"]
        assert low <= policy["cost"] <= high


def test_learners_meet_the_best_rule_the_reference_and_each_other(results: dict[str, Any]):
    pairs = {(c["policy"], c["against"]) for c in results["comparisons"]}
    for learner in LEARNERS:
        assert (learner, results["best_rule"]) in pairs
        assert (learner, results["reference_rule"]) in pairs
    assert {("reinforce", "ppo"), ("ppo", "reinforce")} & pairs
    assert len(pairs) == len(results["comparisons"])


def test_results_say_where_differences_come_from(comparison: Finished, results: dict[str, Any]):
    differences = {c["policy"]: c["difference"] for c in results["comparisons"] if c["against"] == results["best_rule"]}
    for learner in LEARNERS:
        gain = results["gains"][learner]
        assert gain["against"] == results["best_rule"]
        assert gain["difference"] == differences[learner]
        assert sum(part["difference"] for part in gain["parts"].values()) == pytest.approx(gain["difference"])
    assert "where differences from" in comparison.stdout
    assert 'id="gains"' in (comparison.folder / "report.html").read_text(encoding="utf-8")
    assert "Where the difference from" in (comparison.folder / "report.md").read_text(encoding="utf-8")


def test_evaluate_scores_on_changed_markets(comparison: Finished, tmp_path, monkeypatch, capsys):
    file = tmp_path / "results.json"
    arguments = ("--scenarios", 20, "--robustness", "--no-gains", "--output", file)
    assert call(monkeypatch, "evaluate", *(comparison.folder / run for run in RUN_NAMES), *arguments) == 0
    results = strict_json(file)
    assert "gains" not in results
    assert [row["change"] for row in results["robustness"]] == ["as trained", "order × 0.3", "order × 3"]
    assert all(set(row["policies"]) == set(LEARNERS) for row in results["robustness"])
    printed = capsys.readouterr().out
    assert "on changed markets" in printed and "order × 3" in printed and "where differences" not in printed


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_seed_has_a_tensorboard_of_its_own(comparison: Finished):
    for run in RUN_NAMES:
        logged = scalars_of(comparison.folder / run / "tensorboard")
        steps = [step for step, _ in logged["eval/cost"]]
        assert (steps[0], steps[-1]) == (0, 2000)
        assert all(100 <= b - a < 100 + 8 or b == 2000 for a, b in pairwise(steps))  # every 5 %, in steps of 8 envs
        assert {"rollout/ep_rew_mean", "time/fps", "eval/gap_closed", "eval/gap_closed_from_best_rule"} <= set(logged)
        assert "venue_share/A" in logged


def test_a_comparison_can_be_repeated_from_its_folder(comparison: Finished):
    assert (
        read_comparison(comparison.folder).digest()
        == yaml.safe_load((comparison.folder / "config.yaml").read_text(encoding="utf-8"))["digest"]
    )


def test_models_are_the_best_of_their_curves(comparison: Finished):
    for run in RUN_NAMES:
        with np.load(comparison.folder / run / "evaluations.npz") as log:
            best = -log["results"].mean(axis=1).max()
        done = strict_json(comparison.folder / run / "done.json")
        assert done["best_validation_cost"] == pytest.approx(best)


# --- again, and otherwise -------------------------------------------------------------------------


def test_the_same_command_again_trains_nothing(comparison: Finished, monkeypatch, capsys):
    before = tree(comparison.folder)
    arguments = (*COMPARISON, "--log-dir", comparison.folder.parent)
    assert call(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("notebook, OrderSplit-v1")
    after = tree(comparison.folder)
    for run in RUN_NAMES:
        for name in (n for n in before if n.startswith(run)):
            assert after[name] == before[name]
    assert after["results.json"][0] == before["results.json"][0]


@pytest.mark.parametrize(
    "change",
    [
        ["--scenarios", "21"],
        ["--seeds", "3"],
        ["--set", "gamma=0.9"],
        ["--env", "VenueSelect-v1"],
        ["--market", "us_equity"],
    ],
    ids=lambda change: change[0],
)
def test_same_name_with_another_config_is_refused_and_nothing_changes(
    comparison: Finished, monkeypatch, capsys, change
):
    before = tree(comparison.folder)
    assert call(monkeypatch, *COMPARISON, "--log-dir", comparison.folder.parent, *change) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("comparing ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "--name" in errors[0]
    assert tree(comparison.folder) == before


def test_a_folder_of_the_version_before_is_read(comparison: Finished, tmp_path, monkeypatch, capsys):
    """That version named no kind and hashed prose, so its digests were others."""
    folder = Path(shutil.copytree(comparison.folder, tmp_path / "comparison"))
    for file in folder.rglob("config.yaml"):
        held = yaml.safe_load(file.read_text(encoding="utf-8"))
        del held["config"]["kind"]
        held["digest"] = held["digest"][::-1]
        file.write_text(yaml.safe_dump(held, sort_keys=False), encoding="utf-8")
    for file in folder.rglob("done.json"):
        done = strict_json(file)
        file.write_text(json.dumps({**done, "digest": done["digest"][::-1]}), encoding="utf-8")
    before = tree(folder)
    assert call(monkeypatch, *COMPARISON, "--log-dir", tmp_path) == 0, capsys.readouterr().err
    after = tree(folder)
    for name in (n for n in before if n.startswith(RUN_NAMES)):
        assert after[name] == before[name]
    assert (folder / "results.json").read_bytes() == (comparison.folder / "results.json").read_bytes()
    run = folder / "ppo" / "OrderSplit-v1_1"
    assert call(monkeypatch, "evaluate", run, "--scenarios", 5) == 0
    assert call(monkeypatch, "explain", run, "--scenario", 7, "--step", 1) == 0


def fail_in_worker(*_: Any) -> NoReturn:
    raise TypeError("slice indices must be integers")


def test_a_failed_comparison_does_not_hold_its_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(module, "_train_in_worker", fail_in_worker)
        compare(tiny(), tmp_path / "name", workers=1)
    assert not (tmp_path / "name").exists()
    assert compare(tiny(timesteps=120), tmp_path / "name", workers=1)["scenarios"] == 5


@pytest.mark.parametrize("call_that_fails", ["check_settings", "score_rules_on_validation"])
def test_what_can_be_checked_is_checked_before_the_folder_is_taken(call_that_fails, tmp_path, monkeypatch):
    def fail(*_: Any) -> NoReturn:
        raise UserError("no such router")

    monkeypatch.setattr(module, call_that_fails, fail)
    with pytest.raises(UserError, match="no such router"):
        compare(tiny(), tmp_path / "name", workers=1)
    assert list(tmp_path.iterdir()) == []


# --- stopped --------------------------------------------------------------------------------------


def start(log_dir: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [str(COMMAND), *COMPARISON, "--workers", "2", "--log-dir", str(log_dir)]
    with output.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, preexec_fn=_hear_interrupts)


def _hear_interrupts() -> None:
    """What a shell runs in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def session_members(leader: int) -> list[int]:
    """Living processes of a session: the command and all that it started."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(entry.name))
    return members


@contextmanager
def no_leftovers(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends what a failing test would leave running."""
    try:
        yield
    finally:
        for pid in session_members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_stopped_by_hand_then_killed_then_gone_on_with(comparison: Finished, tmp_path):
    folder, output = tmp_path / "comparison", tmp_path / "output.txt"

    process = start(tmp_path, output)
    with no_leftovers(process):
        wait_for(lambda: list(folder.glob("*/*/config.yaml")), "training to begin")
        time.sleep(0.5)  # workers are loading torch now
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to all of them
        status = process.wait(timeout=30)
        stopped = output.read_text(encoding="utf-8")
        wait_for(lambda: not session_members(process.pid), "workers to end after SIGINT", 20)
    assert status == 130
    assert "stopped; finished runs are kept in" in stopped
    assert "Traceback" not in stopped
    assert not (folder / "results.json").exists()

    process = start(tmp_path, output)
    with no_leftovers(process):
        wait_for(lambda: len(list(folder.glob("*/*/done.json"))) >= 3, "three runs to end")
        os.kill(process.pid, signal.SIGKILL)  # the command alone: its workers must notice
        process.wait()
        finished = {p: p.stat().st_mtime_ns for p in folder.glob("*/*/done.json")}
        assert not (folder / "results.json").exists()
        deadline = time.monotonic() + 20
        while session_members(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        orphans = session_members(process.pid)

    process = start(tmp_path, output)
    with no_leftovers(process):
        assert process.wait(timeout=240) == 0, output.read_text(encoding="utf-8")
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert (folder / "results.json").read_bytes() == (comparison.folder / "results.json").read_bytes()

    assert orphans == [], "workers outlive a killed command"


@pytest.mark.parametrize("when", ["score_rules_on_validation", "train_all", "finish"])
def test_stopped_at_any_time_is_status_130_and_a_sentence(when, monkeypatch, capsys, tmp_path):
    def stop(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, when, stop)
    if when == "finish":
        monkeypatch.setattr(Comparison, "train_all", lambda *_: None)
    assert call(monkeypatch, *COMPARISON, "--log-dir", tmp_path) == 130
    err = capsys.readouterr().err
    assert "stopped; finished runs are kept in" in err
    assert "Traceback" not in err


# --- configs --------------------------------------------------------------------------------------


def tiny(**changes: Any) -> Any:
    options = {"algos": ["a2c"], "seeds": 1, "timesteps": 100, "n_envs": 4, "scenarios": 5, **changes}
    return compare_config(load_market("notebook"), **options)


def test_an_algorithm_named_twice_is_trained_once():
    assert len(tiny(algos=["ppo", "ppo"]).runs) == 1
    assert len(tiny(algos=["ppo", "PPO"]).runs) == 1
    assert tiny(algos=["recurrent-ppo", "RecurrentPPO"]) == tiny(algos=["recurrentppo"])


@pytest.mark.parametrize("changes", [{"algos": []}, {"seeds": 0}, {"scenarios": 1}, {"algos": ["nonsense"]}])
def test_configs_that_cannot_be(changes):
    with pytest.raises(UserError):
        tiny(**changes)


def test_scores_are_the_same_from_other_processes(comparison: Finished, tmp_path, monkeypatch):
    opened = Comparison(read_comparison(comparison.folder), comparison.folder)
    monkeypatch.setattr("sor_sb3.experiments.score.WORTH_PROCESSES", 1)
    opened.finish(tmp_path, opened.test_evaluator(), workers=3)
    for name in ("results.json", "report.json", "tca_parents.csv"):
        mine, theirs = tmp_path / name, comparison.folder / name
        assert mine.is_file() == theirs.is_file()
        assert not mine.is_file() or mine.read_bytes() == theirs.read_bytes(), name


def test_runs_have_folders_of_their_own(tmp_path):
    config = tiny(algos=["ppo", "a2c", "stable_baselines3:A2C"], seeds=3)
    comparison = Comparison(config, tmp_path)
    folders = [comparison.run_folder(run) for run in config.runs]
    assert len(set(folders)) == 9
    assert folders[4] == tmp_path / "a2c" / "OrderSplit-v1_2"
    assert all(f.parent.parent == tmp_path for f in folders)


def test_a_run_is_done_only_with_its_own_digest(tmp_path):
    config = tiny()
    comparison = Comparison(config, tmp_path)
    run = config.runs[0]
    folder = comparison.run_folder(run)
    assert not comparison.is_done(run)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text('{"digest": "another"}', encoding="utf-8")
    assert not comparison.is_done(run)
    (folder / "done.json").write_text(json.dumps({"digest": run.digest()}), encoding="utf-8")
    assert comparison.is_done(run)


def test_a_worker_that_fails_fails_the_comparison(tmp_path, monkeypatch):
    config = tiny()
    monkeypatch.setattr(module, "_train_in_worker", sys.exit)  # takes one argument only
    with pytest.raises(TypeError):
        compare(config, tmp_path, workers=1)
    assert not (tmp_path / "results.json").exists()
