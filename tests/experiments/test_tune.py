"""Searches for settings: what they leave, that they go on, and that they look at validation scenarios only."""

from __future__ import annotations

import csv
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from optuna.exceptions import TrialPruned

from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments import run as training
from sor_sb3.experiments import tune as module
from sor_sb3.experiments.config import TuneConfig
from sor_sb3.experiments.search_space import runs_of, tune_config
from sor_sb3.experiments.tune import tune
from sor_sb3.market.loading import load_market
from tests.conftest import run_command
from tests.experiments.test_comparison import no_leftovers, session_members, wait_for
from tests.experiments.test_resume import kill_when, start
from tests.test_cli import Mistakes, call, mistake  # noqa: F401

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
NOTEBOOK, US_EQUITY = load_market("notebook"), load_market("us_equity")
TINY = {"n_envs": 4, "n_steps": 50, "batch_size": 100, "policy": "MlpPolicy", "policy_kwargs": {}}
SPACE = ("learning_rate=1e-4..1e-1:log", "n_epochs=1|2|3")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are processes, which take seconds to start; these tests work by themselves."""

    def run(engine: Any, job: Any, folder: Any, left: Any, workers: Any, tell: Any) -> None:
        if left():
            job()
            tell()

    monkeypatch.setattr(module, "launch", run)


def tiny(**changes: Any) -> TuneConfig:
    options: dict[str, Any] = {"seeds": 2, "timesteps": 400, "settings": TINY, "space": SPACE} | changes
    config = tune_config("ppo", "VenueSelect-v1", [NOTEBOOK], **options)
    space = {key: text for key, text in config.space.items() if any(s.startswith(key + "=") for s in options["space"])}
    start = {key: config.start[key] for key in space}
    small = {"validation_scenarios": 20, "evaluations": 3}
    return config.model_copy(update={"space": space, "start": start, **small})


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_search_and_what_it_leaves(tmp_path, monkeypatch):
    splits: set[str] = set()
    begin = RoutingCore.__init__

    def note(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        splits.add(self.data_split)

    scored: list[str] = []
    score = Evaluator.score

    def noted(self: Evaluator, *arguments: Any, **options: Any) -> Any:
        scored.append(self.data_split)
        return score(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, "score", noted)
    monkeypatch.setattr(RoutingCore, "__init__", note)
    told: list[tuple[str, int, int]] = []
    config = tiny()
    found = tune(config, tmp_path / "a", 3, workers=1, progress=lambda *words: told.append(words))
    assert set(scored) == {"validation"}
    assert splits == {"train", "validation"}
    assert told[-1][1:] == (3, 3) and "% of the gap" in told[-1][0]
    files = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*")}
    assert files == {"config.yaml", "study.log", "best.yml", "trials.csv", "report.html"}

    table = rows(tmp_path / "a")
    assert [row["trial"] for row in table] == ["0", "1", "2"]
    assert float(table[0]["learning_rate"]) == config.start["learning_rate"], "the first has the defaults"
    complete = [float(row["gap_closed"]) for row in table if row["gap_closed"]]
    assert found["value"] == max(complete)
    best = yaml.safe_load((tmp_path / "a" / "best.yml").read_text(encoding="utf-8"))
    assert list(best) == ["VenueSelect-v1"]
    assert best["VenueSelect-v1"] == found["settings"]
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg ") >= 2 and "learning_rate" in page and "http" not in re.sub(r"www\.w3\.org", "", page)

    assert tune(config, tmp_path / "a", 3, workers=1)["trials"] == found["trials"], "nothing is left to do"
    for n in (1, 3):
        again = tune(config, tmp_path / "b", n, workers=1)
    assert rows(tmp_path / "b") == table, "the same trials, stopped or not, in any folder"
    assert again["value"] == found["value"]

    with pytest.raises(UserError, match="holds a run of another configuration"):
        tune(tiny(seeds=1), tmp_path / "a", 3, workers=1)
    monkeypatch.undo()
    said = call(monkeypatch, "evaluate", tmp_path / "a")
    assert said == 2


def test_best_settings_train(tmp_path, monkeypatch, capsys):
    file = tmp_path / "best.yml"
    file.write_text("# x\nVenueSelect-v1: {n_envs: 4, n_steps: 25, batch_size: 50, learning_rate: lin_0.02}\n")
    arguments = ("--market", "notebook", "--env", "VenueSelect-v1", "--log-dir", tmp_path / "logs", "--no-progress")
    trained: list[Any] = []
    monkeypatch.setattr(training, "train", lambda config, *_: trained.append(config))
    assert call(monkeypatch, "train", "--algo", "ppo", "--hyperparams", file, *arguments) == 0
    (config,) = trained
    expected = {"n_envs": 4, "n_steps": 25, "batch_size": 50, "learning_rate": "lin_0.02", "policy": "MlpPolicy"}
    assert expected.items() <= config.hyperparameters.items()
    assert "n_epochs" not in config.hyperparameters, "the file stands in place of the shipped defaults"
    assert call(monkeypatch, "compare", "--algos", "ppo", *arguments, "--hyperparams", f"a2c={file}") == 2
    assert "--hyperparams is given for a2c, which --algos does not name" in capsys.readouterr().err


def test_settings_that_cannot_be_used_are_counted_and_named(tmp_path):
    config = tiny(seeds=1, space=("learning_rate=1e-4..1e-1:log", "n_epochs=1|2"))
    bad = config.model_copy(update={"space": {"n_epochs": "1|-3|-4"}, "start": {"n_epochs": 1}})
    found = tune(bad, tmp_path / "a", 9, workers=1)
    assert [t["state"] for t in found["trials"]] == ["complete", "failed", "failed"], "and the space is exhausted"
    assert "n_epochs is -3" in rows(tmp_path / "a")[1]["error"]


def test_when_nothing_works_the_first_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", lambda *_, **__: (_ for _ in ()).throw(ValueError("weights are NaN")))
    with pytest.raises(WorkFailed, match="none of 2 trials came to its end; the first said: weights are NaN"):
        tune(tiny(), tmp_path / "a", 2, workers=1)


def test_a_run_that_lags_behind_ends_half_way(tmp_path):
    run = runs_of(tiny(), tiny().start)[0]
    scale = {"reference": 2.2, "gap": 0.5, "blocks": [2.2]}
    steps = []

    def lagging(share_of_best: float) -> bool:
        ahead = [[0.0, -9.0], [0.2, share_of_best], [1.0, share_of_best]]
        try:
            module._trained(run, tmp_path / str(share_of_best), scale, ahead)
        except TrialPruned:
            return True
        steps.append(np.load(tmp_path / str(share_of_best) / "evaluations.npz")["timesteps"][-1])
        return False

    assert lagging(50.0)
    assert not lagging(-50.0)
    assert steps == [400]


def test_rules_are_tuned_too(tmp_path):
    config = tune_config("dark_first", "OrderSplit-v1", [US_EQUITY], settings={"least_attention": 0.2})
    config = config.model_copy(update={"validation_scenarios": 20})
    found = tune(config, tmp_path / "rule", 100, workers=1)
    table = rows(tmp_path / "rule")
    assert [row["dark_share"] for row in table] == ["0.2", "0.05", "0.1", "0.4", "0.7", "1.0"]
    assert found["value"] == max(float(row["gap_closed"]) for row in table)
    best = yaml.safe_load((tmp_path / "rule" / "best.yml").read_text(encoding="utf-8"))["OrderSplit-v1"]
    assert best["least_attention"] == 0.2
    evaluator = module.validation_evaluator("OrderSplit-v1", US_EQUITY, 20)
    cost = evaluator.score("x", module.make("dark_first", US_EQUITY, **best)).cost.mean()
    scale = module._scale(config, US_EQUITY)
    assert found["value"] == pytest.approx((scale["reference"] - cost) / scale["gap"])


def test_values_of_markets_compare(tmp_path):
    config = tiny()
    scale = module._scale(config, NOTEBOOK)
    evaluator = module.validation_evaluator("VenueSelect-v1", NOTEBOOK, 20)
    ends = evaluator.evaluate(evaluator.policies([NOTEBOOK.reference_router, "snapshot_oracle"]))
    for name, closed in ((NOTEBOOK.reference_router, 0.0), ("snapshot_oracle", 1.0)):
        blocks = module._closed(ends.scores[name].cost[0], scale)
        assert blocks.shape == (10,)
        assert blocks.mean() == pytest.approx(closed)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--algo", "pppo"), "did you mean 'ppo'"),
        (("--algo", "vwap"), "rule 'vwap' has no constants to tune"),
        (("--market", "us_equty"), "did you mean 'us_equity'"),
        (("--market", ","), "--market is empty"),
        (("--space", "lerning_rate=1..2"), "did you mean 'learning_rate'"),
        (("--space", "learning_rate=7"), "learning_rate is 7"),
        (("--space", "learning_rate=1e-3..x"), "expected low..high"),
        (("--set", "gama=1"), "did you mean 'gamma'"),
        (("--engine", "spark"), "--engine is 'spark'"),
        (("--storage", "study"), "expected a journal file, x.log, or a database URL"),
        (("--storage", "nosuchdb://x"), "cannot be opened"),
        (("--name", "../x"), "is not a folder under --log-dir"),
        (("--hyperparams", "nothing.yml"), "nothing.yml cannot be read"),
    ],
)
def test_mistakes(mistake: Mistakes, flags, said):  # noqa: F811
    market = () if flags[0] == "--market" else ("--market", "us_equity")
    assert said in mistake("tune", *market, *flags)


def test_without_optuna(mistake: Mistakes, monkeypatch):  # noqa: F811
    for name in ("sor_sb3.experiments.tune", "sor_sb3.experiments.study"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "install it with: pip install 'sor-sb3[tune]'" in mistake("tune", "--market", "notebook")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "holds no hyperparameters"),
        ("learning_rate: 1", "holds no hyperparameters"),
        ("VenueSelect-v1: {gamma: 1}", "has nothing for OrderSplit-v1, only for VenueSelect-v1"),
        ("OrderSplit-v1: {gama: 1}", "did you mean 'gamma'"),
    ],
)
def test_files_of_settings_that_cannot_be(mistake: Mistakes, tmp_path, text, said):  # noqa: F811
    (tmp_path / "best.yml").write_text(text, encoding="utf-8")
    assert said in mistake("train", "--market", "notebook", "--hyperparams", tmp_path / "best.yml")


# --- the real command -----------------------------------------------------------------------------

SEARCH = (
    "tune --algo ppo --market notebook --env VenueSelect-v1 --seeds 1 --timesteps 6000 --name study --no-progress "
    "--set policy=MlpPolicy --set n_envs=16"
).split()


def numbers_and_params(folder: Path) -> list[tuple[str, ...]]:
    return [
        tuple(v for k, v in row.items() if k not in ("state", "gap_closed", "runs", "error")) for row in rows(folder)
    ]


@pytest.mark.slow
@ON_LINUX
def test_killed_and_gone_on_with(tmp_path):
    arguments = (*SEARCH, "--trials", 6, "--workers", 1, "--log-dir", tmp_path)
    folder = tmp_path / "study"
    process = start(tmp_path / "output.txt", *arguments)
    kill_when(process, lambda: len(list((folder / "runs").glob("*/done.json"))) and third(folder), "a third trial")
    with (folder / "study.log").open("ab") as file:
        file.write(b'{"op_code":7,"wor')  # and its last record was cut off
    done = run_command(*arguments, timeout_s=600)
    assert done.returncode == 0, done.stderr
    table = numbers_and_params(folder)
    assert len(table) == 6
    assert len({row[1:] for row in table}) == 6
    numbers = [int(row[0]) for row in table]
    assert numbers[-1] == 6 and len(set(range(7)) - set(numbers)) == 1, "the killed trial was tried again, as another"
    assert not (folder / "runs").exists()


def third(folder: Path) -> bool:
    log = folder / "study.log"
    return log.is_file() and log.read_bytes().count(b'"op_code":4') >= 3


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.mark.slow
@ON_LINUX
def test_two_commands_on_one_study_repeat_no_trial_whoever_is_killed(database, tmp_path):
    arguments = (*SEARCH, "--trials", 6, "--workers", 1, "--storage", database)
    first, second = (start(tmp_path / f"{name}.txt", *arguments, "--log-dir", tmp_path / name) for name in "ab")
    with no_leftovers(first), no_leftovers(second):
        kill_when(first, lambda: list((tmp_path / "a" / "study" / "runs").glob("*/config.yaml")), "a trial")
        assert second.wait(timeout=600) == 0, (tmp_path / "b.txt").read_text(encoding="utf-8")
    done = run_command(*arguments, "--log-dir", tmp_path / "a", timeout_s=600)
    assert done.returncode == 0, done.stderr
    tables = [numbers_and_params(tmp_path / name / "study") for name in "ab"]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 6
    assert len({row[1:] for row in tables[0]}) == 6
    assert {int(row[0]) for row in tables[0]} != set(range(6)), "the killed trial was tried again, as another"


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize(("engine", "worker"), [("local", "spawn_main"), ("slurm", "submitit.core._submit")])
def test_a_killed_worker_is_replaced(engine, worker, tmp_path):
    if engine == "slurm":  # where there is none, submitit's local executor
        pytest.importorskip("submitit")
    folder = tmp_path / "study"
    arguments = (*SEARCH, "--trials", 5, "--workers", 2, "--engine", engine, "--log-dir", tmp_path)
    process = start(tmp_path / "output.txt", *arguments)
    with no_leftovers(process):
        wait_for(lambda: len(list((folder / "runs").glob("*/config.yaml"))) == 2, "two trials", 300)
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text("utf-8") for pid in session_members(process.pid)}
        os.kill(next(pid for pid, command in commands.items() if worker in command), signal.SIGKILL)
        assert process.wait(timeout=600) == 0, (tmp_path / "output.txt").read_text(encoding="utf-8")
    table = numbers_and_params(folder)
    assert len(table) == len({row[1:] for row in table}) == 5
    assert {int(row[0]) for row in table} != set(range(5)), "the killed trial was tried again, as another"


@pytest.mark.slow
def test_a_spoilt_learning_rate_is_mended(tmp_path):
    spoilt = "policy=MlpPolicy learning_rate=lin_1e-6 n_epochs=1 n_envs=128 n_steps=10 gae_lambda=0.0 clip_range=0.2"
    fixed = f"{spoilt} ent_coef=0.0 envs_per_scenario=1 policy_kwargs.activation_fn=Tanh"
    search = ["--space", "learning_rate=1e-4..3e-2:log", "--space", "n_epochs=1|2|4|8", "--space", "minibatches=1|2|4"]
    flags = [word for setting in fixed.split() for word in ("--set", setting)]
    where = ("--market", "notebook", "--env", "VenueSelect-v1", "--timesteps", 120_000, "--log-dir", tmp_path)
    arguments = ("tune", "--algo", "ppo", *where, "--trials", 8, "--seeds", 1, "--name", "mended", *flags, *search)
    done = run_command(*arguments, timeout_s=3000)
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "mended")
    assert len(table) == 8
    assert float(table[0]["gap_closed"]) < 0.5
    assert max(float(row["gap_closed"]) for row in table if row["gap_closed"]) > 0.97
