"""Names that become paths stay under the log directory, and one process works in a folder at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.experiments.config import compare_config
from sor_sb3.experiments.folder import locked, named_folder, path_component
from sor_sb3.experiments.run import train
from sor_sb3.experiments.workers import run_jobs
from sor_sb3.market.loading import load_market, preset_names
from tests.conftest import Finished
from tests.experiments.test_resume import cut_off, tiny
from tests.test_cli import MARKET, call, tree


def is_under(folder: Path, log_dir: Path) -> bool:
    within = os.path.relpath(folder, log_dir)
    return within != "." and not within.startswith("..")


@given(st.text(max_size=300))
@example("a/../../up")
@example("..")
@example("/etc/passwd")
@example("a\\..\\b")
@example("nul\0byte")
@example("é" * 300)
def test_whatever_a_market_is_called_the_folder_is_under_the_log_dir(name):
    log_dir = Path("logs")
    for folder in (named_folder(log_dir, None, name, "OrderSplit-v1"), log_dir / path_component(name)):
        assert is_under(folder, log_dir)
        assert all(0 < len(part.encode()) < 255 for part in folder.parts)
        assert not any(part.startswith(".") or "\0" in part or "\\" in part for part in folder.parts)


def test_names_of_presets_and_algorithms_stay_as_they_are():
    for name in preset_names():
        assert named_folder(Path("logs"), None, name, "E-v1") == Path("logs") / f"{name}_E-v1"
        assert path_component(name) == name.replace("/", "_")
    assert path_component("stable_baselines3:A2C") == "stable_baselines3_A2C"


@pytest.mark.parametrize("name", ["..", ".", "", "../up", "a/../../up", "/tmp/elsewhere", "a/../.."])
def test_a_name_that_leads_out_of_the_log_dir_is_refused(name, monkeypatch, capsys, tmp_path):
    with pytest.raises(UserError, match="is not a folder under --log-dir"):
        named_folder(tmp_path / "logs", name, "m", "E-v1")
    options = ("--market", "notebook", "--log-dir", tmp_path / "logs", "--name", name)
    assert call(monkeypatch, "compare", *options) == 2
    assert "error: --name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mine", "a/b", "with space", "a/../b"])
def test_a_name_inside_the_log_dir_is_taken(name):
    assert named_folder(Path("logs"), name, "m", "E-v1") == Path(os.path.normpath(f"logs/{name}"))


def test_a_markets_name_is_no_way_out(monkeypatch, capsys, tmp_path):
    file, log_dir = tmp_path / "up.yaml", tmp_path / "inside" / "logs"
    file.write_text(f'name: "a/../../up"\n{MARKET}', encoding="utf-8")
    assert call(monkeypatch, "markets", "show", file, "--log-dir", log_dir) == 0
    tiny_options = ("--algos", "a2c", "--seeds", 1, "--timesteps", 40, "--n-envs", 4, "--scenarios", 5)
    assert call(monkeypatch, "compare", "--market", file, *tiny_options, "--log-dir", log_dir) == 0
    assert [p.name for p in (tmp_path / "inside").iterdir()] == ["logs"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inside", "up.yaml"]
    assert (log_dir / "a" / "up_OrderSplit-v1" / "results.json").is_file()
    assert len(list((log_dir / "markets").iterdir())) == 1


# --- one process a folder -------------------------------------------------------------------------


def test_a_lock_is_exclusive_and_leaves_nothing(tmp_path):
    with locked(tmp_path / "a" / "run"), pytest.raises(UserError, match="another process works in"):
        with locked(tmp_path / "a" / "run"):
            pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    assert [p.name for p in (tmp_path / "run").rglob("*")] == ["file"]


def test_a_lock_dies_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from sor_sb3.experiments.folder import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('locked', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match="another process works in"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("job", ["compare", "report", "resume", "export"])
def test_every_command_that_writes_into_a_folder_waits_its_turn(job, comparison: Finished, monkeypatch, capsys):
    folder = comparison.folder
    run = folder / "ppo" / "OrderSplit-v1_1"
    commands = {
        "compare": ("compare", "--repeat", folder, "--name", folder.name, "--log-dir", folder.parent),
        "report": ("report", folder),
        "export": ("export", run),
    }
    before = tree(folder)
    if job == "resume":
        with locked(run), pytest.raises(UserError, match="another process works in"):
            train(compare_config(load_market("notebook"), algos=["a2c"], seeds=1).runs[0], run)
    else:
        with locked(run if job == "export" else folder):
            assert call(monkeypatch, *commands[job]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "another process works in" in errors[0]
    assert tree(folder) == before


def test_a_run_that_is_resumed_elsewhere_is_not_cleared(tmp_path):
    from sor_sb3.experiments.comparison import Comparison

    config = compare_config(load_market("notebook"), algos=["a2c"], seeds=1, timesteps=100, n_envs=4, scenarios=5)
    comparison = Comparison(config, tmp_path)
    folder = comparison.run_folder(config.runs[0])
    folder.mkdir(parents=True)
    (folder / "best_model.zip").touch()
    with locked(folder), pytest.raises(UserError, match="another process works in"):
        comparison.train_all(1)
    assert (folder / "best_model.zip").exists()


# --- workers --------------------------------------------------------------------------------------


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count(report, upto: int) -> None:
    for n in range(upto + 1):
        report(n)


def test_workers_report_and_a_killed_one_is_a_sentence():
    told: list[tuple[int, list[int]]] = []
    run_jobs(count, [(3,), (5,)], 1, lambda finished, counters: told.append((finished, list(counters))))
    assert told[-1] == (2, [3, 5])
    with pytest.raises(WorkFailed, match="a worker process was killed"):
        run_jobs(die, [()], 1)


def test_a_killed_worker_is_exit_status_1(monkeypatch, capsys, tmp_path):
    from sor_sb3.experiments import comparison

    monkeypatch.setattr(comparison, "_train_in_worker", _die_in_worker)
    options = ("--market", "notebook", "--algos", "a2c", "--seeds", 1, "--timesteps", 200, "--n-envs", 4)
    assert call(monkeypatch, "compare", *options, "--scenarios", 5, "--log-dir", tmp_path) == 1
    err = capsys.readouterr().err
    assert "error: a worker process was killed" in err and "Traceback" not in err


def _die_in_worker(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- the second of two commands --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [1, 4])
def test_the_same_comparison_twice_at_once(delay_s, tmp_path):
    from tests.conftest import COMMAND

    options = "compare --market notebook --algos a2c --seeds 1 --timesteps 60000 --n-envs 64 --scenarios 20 --workers 1"
    command = [str(COMMAND), *options.split(), "--no-progress", "--log-dir", str(tmp_path)]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(delay_s)
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if first.poll() is None:  # else the first was done before the second came
        assert second.returncode == 2 and "error: another process works in" in second.stderr
    assert first.wait(timeout=240) == 0
    assert len(list(tmp_path.rglob("a2c_seed_0/events*"))) == 1


def test_train_resume_of_a_run_in_work(tmp_path, monkeypatch, capsys):
    config = tiny(tmp_path)
    cut_off(config, tmp_path / "run")
    held = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert held["config"]["kind"] == "train"
    with locked(tmp_path / "run"):
        assert call(monkeypatch, "train", "--resume", tmp_path / "run", "--no-progress") == 2
    assert "error: another process works in" in capsys.readouterr().err
