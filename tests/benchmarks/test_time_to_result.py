"""Time to 95 %: what counts as reached, censoring, equal settings, and a small run that goes on where it was."""

from __future__ import annotations

import json

import pytest
import time_to_result as ttr
from rich.console import Console
from time_to_result import Censored

pytestmark = pytest.mark.benchmark


def curve(*costs: float) -> dict[str, list[float]]:
    return {
        "cost": list(costs),
        "steps": [100.0 * i for i in range(len(costs))],
        "cpu_s": [2.0 * i for i in range(len(costs))],
    }


def run(*costs: float, ended: str = "reached") -> dict:
    return {"curve": curve(*costs), "ended": ended}


def test_a_lucky_dip_does_not_count():
    assert ttr.reached([3.0, 1.0, 2.0, 1.0, 1.0, 2.0], 1.5) == 3
    assert ttr.reached([3.0, 2.0, 1.0], 1.5) is None
    assert ttr.reached([1.0, 1.0], 1.5) == 0
    assert ttr.reached([], 1.5) is None


def test_the_time_is_that_of_the_first_of_two_in_a_row():
    dips = curve(3.0, 1.0, 2.0, 1.0, 1.0)
    assert ttr.time_to(dips, 1.5, "cpu_s") == Censored(6.0)
    assert ttr.time_to(dips, 1.5, "steps") == Censored(300.0)
    assert ttr.time_to(dips, 0.5, "cpu_s") == Censored(8.0, at_least=True)
    assert ttr.time_to({**curve(1.0, 1.0), "cpu_s": [0.01, 2.0]}, 1.5, "cpu_s") == Censored(0.0)


def test_medians_say_when_they_are_bounds():
    there, not_there = [Censored(3.0), Censored(1.0), Censored(2.0)], Censored(9.0, at_least=True)
    assert ttr.median_of(there) == Censored(2.0)
    assert ttr.median_of([*there, not_there, not_there]) == Censored(3.0)
    assert ttr.median_of([*there[:2], not_there, not_there, not_there]) == Censored(9.0, at_least=True)
    assert ttr.median_of([Censored(1.0), Censored(2.0)]) == Censored(1.5)
    assert Censored(1234.56, at_least=True).text(1) == ">= 1,234.6"


def test_ratios_carry_the_bound_of_the_slow_one_and_need_a_fast_one():
    assert ttr.ratio_of_medians(Censored(10.0), Censored(2.0)) == Censored(5.0)
    assert ttr.ratio_of_medians(Censored(10.0, at_least=True), Censored(2.0)) == Censored(5.0, at_least=True)
    assert ttr.ratio_of_medians(Censored(10.0), Censored(2.0, at_least=True)) is None
    assert ttr.ratio_of_medians(Censored(10.0), Censored(0.0)) is None


def test_gaps_go_from_the_naive_rule_or_the_untrained_network_to_the_mean_of_the_ends():
    runs = {
        "mlp_ours": [run(5.0, 2.0, ended="all steps"), run(6.0, 1.0, ended="all steps"), run(5.0, 0.0, ended="budget")],
        "venue_ours": [run(2.0, 1.0, ended="all steps")],
    }
    assert ttr.gap_of("mlp_ours", runs, naive=3.5) == pytest.approx({"start": 3.5, "end": 1.5, "goal": 1.6})
    assert ttr.gap_of("venue_ours", runs, naive=3.5) == pytest.approx({"start": 2.0, "end": 1.0, "goal": 1.05})
    assert ttr.gap_of("mlp_ours", {}, naive=3.5) is None


@pytest.mark.parametrize(("ours", "plain"), [("venue_ours", "venue_plain"), ("mlp_ours", "mlp_plain")])
def test_equally_tuned_means_the_same_policy_batches_and_rollout(ours, plain):
    mine, theirs = ttr.ARMS[ours], ttr.ARMS[plain]
    assert mine.every == theirs.every and mine.reduced and theirs.reduced and theirs.against == ours
    different = {key for key in mine.settings if mine.settings[key] != theirs.settings[key]}
    assert different <= {"n_envs", "n_steps", "envs_per_scenario"} and theirs.settings["n_envs"] == ttr.PLAIN_ENVS


def test_sb3_s_defaults_are_sb3_s_but_for_the_discount():
    import inspect

    from stable_baselines3 import PPO

    defaults = {name: p.default for name, p in inspect.signature(PPO.__init__).parameters.items()}
    settings = ttr.ARMS["sb3_defaults"].settings
    for key in ("learning_rate", "n_steps", "batch_size", "n_epochs", "gae_lambda"):
        assert settings[key] == defaults[key]
    assert {arm.settings["gamma"] for arm in ttr.ARMS.values()} == {1.0}
    assert not ttr.ARMS["sb3_defaults"].reduced


@pytest.fixture
def small_arms(monkeypatch):
    """Three arms that are done in a second."""
    small = {**ttr.MLP_TUNED, "n_timesteps": 600, "n_envs": 10, "n_steps": 20, "batch_size": 100}
    plain = {**small, "n_envs": 8, "n_steps": 25, "n_timesteps": 10_000}
    monkeypatch.setitem(ttr.ARMS, "mlp_ours", ttr.Arm("ours", "ours", small))
    monkeypatch.setitem(ttr.ARMS, "venue_ours", ttr.Arm("venue", "ours", {**small, "n_timesteps": 200}))
    monkeypatch.setitem(ttr.ARMS, "mlp_plain", ttr.Arm("plain", "plain", plain, against="mlp_ours"))
    monkeypatch.setattr(ttr, "SCENARIOS", 10)


def test_a_killed_command_goes_on_and_plain_arms_stop_where_there_is_nothing_left(small_arms, tmp_path, capsys):
    names, console = ["mlp_plain", "mlp_ours", "venue_ours"], Console()
    ttr.run_arms(["mlp_ours"], [1], tmp_path, 60.0, console)
    first = (tmp_path / "mlp_ours_1.json").read_bytes()
    ttr.run_arms(names, [1, 2], tmp_path, 0.4, console)
    assert (tmp_path / "mlp_ours_1.json").read_bytes() == first
    ours, plain = (json.loads((tmp_path / f"{name}_2.json").read_text()) for name in ("mlp_ours", "mlp_plain"))
    assert ours["curve"]["steps"] == [0, 200, 400, 600] and ours["ended"] == "all steps"
    assert plain["ended"] in ("budget", "reached") and plain["curve"]["steps"][-1] < 10_000
    results = ttr.summarise(tmp_path)
    lines = {line["arm"]: line for line in results["gaps"]["mlp_ours"]["lines"]}
    assert lines["mlp_ours"]["seeds"] == lines["mlp_plain"]["seeds"] == 2
    text = "\n".join(sheet.markdown() for sheet in ttr.sheets(results))
    assert "| ours |" in text and "| plain |" in text and "`round_robin`" in text
    [chart] = ttr.draw(results, tmp_path)
    assert chart.read_bytes().startswith(b"<?xml")


def test_a_run_that_was_given_too_little_time_is_done_again_with_more(tmp_path):
    found = {"settings": ttr.ARMS["mlp_plain"].settings, "finished": True, "ended": "budget", "budget_s": 10.0}
    (tmp_path / "mlp_plain_3.json").write_text(json.dumps(found))
    assert ttr.is_done("mlp_plain", 3, tmp_path, 10.0)
    assert not ttr.is_done("mlp_plain", 3, tmp_path, 20.0)
    (tmp_path / "mlp_plain_3.json").write_text(json.dumps(found | {"settings": {}}))
    assert not ttr.is_done("mlp_plain", 3, tmp_path, 10.0)


def test_a_run_that_stopped_at_a_nearer_goal_is_done_again(tmp_path):
    found = {"settings": ttr.ARMS["mlp_plain"].settings, "finished": True, "ended": "reached", "budget_s": 10.0}
    (tmp_path / "mlp_plain_3.json").write_text(json.dumps(found | {"curve": curve(3.0, 1.0, 1.0)}))
    assert ttr.is_done("mlp_plain", 3, tmp_path, 10.0, goal=1.0)
    assert not ttr.is_done("mlp_plain", 3, tmp_path, 10.0, goal=0.9)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(ttr.SkippedError, match="make bench-learning"):
        ttr.summarise(tmp_path)


def test_seeds_are_read():
    assert ttr.seeds_of("1-3") == [1, 2, 3] and ttr.seeds_of("2,5") == [2, 5]
