"""Trackers: the common part with a fake one, and each real one, offline, holds what TensorBoard holds."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch as th
from matplotlib.figure import Figure as Drawing
from stable_baselines3.common.logger import Figure, HParam, Image, Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sor_sb3 import cli
from sor_sb3.callbacks import trackers
from sor_sb3.callbacks.trackers import Identity, Logged
from sor_sb3.callbacks.tracking import (
    IDENTITY_FILE,
    TRACK_VARIABLE,
    TrackerWriter,
    tracked,
    tracking,
)
from sor_sb3.errors import UserError
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.run import train
from sor_sb3.market.loading import load_market


class FakeTracker:
    """Remembers what it is told."""

    opened: ClassVar[list[FakeTracker]] = []

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity
        self.settings: dict[str, Any] = {}
        self.steps: list[tuple[int, Logged]] = []
        self.files: dict[str, dict[str, Path]] = {}
        self.done: bool | None = None
        FakeTracker.opened.append(self)

    def configure(self, settings: Any) -> None:
        self.settings.update(settings)

    def log(self, step: int, logged: Logged) -> None:
        self.steps.append((step, logged))

    def keep(self, kind: str, files: Any) -> None:
        self.files[kind] = dict(files)

    def finish(self, done: bool) -> None:
        self.done = done

    def tags(self, kind: str) -> set[str]:
        return {tag for _, logged in self.steps for tag in getattr(logged, kind)}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[FakeTracker]:
    """A tracker of the name "fake" that the environment names; the list of its runs."""
    monkeypatch.setattr(FakeTracker, "opened", [])
    monkeypatch.setitem(trackers.TRACKERS, "fake", FakeTracker)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name == "fake")
    monkeypatch.setenv(TRACK_VARIABLE, "fake")
    return FakeTracker.opened


def tiny_config() -> TrainConfig:
    settings = {"n_steps": 25, "batch_size": 50, "n_epochs": 1}
    config = train_config("ppo", "OrderSplit-v1", load_market("notebook"), 0, 200, 4, settings)
    return config.model_copy(update={"validation_scenarios": 4, "evaluations": 3})


def board(folder: Path) -> dict[str, set[str]]:
    """Tags of a TensorBoard folder by kind; the plugins' own settings apart."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    tags = found.Tags()
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"] if not tag.startswith("custom_scalars")}
    return {"numbers": set(tags["scalars"]), "histograms": set(tags["histograms"]), "pictures": set(tags["images"])} | {
        "texts": texts
    }


def test_a_run_is_tracked_as_tensorboard_shows_it(fake, tmp_path):
    folder = tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"
    train(tiny_config(), folder, folder / "tensorboard")
    (run,) = fake
    for kind, tags in board(folder / "tensorboard").items():
        assert run.tags(kind) == tags, kind
    assert {"eval/cost", "rollout/ep_rew_mean", "train/loss"} <= run.tags("numbers")
    assert run.tags("pictures") == {"eval_figure/cost_and_flow"}
    assert run.settings["algo"] == "ppo" and run.settings["n_steps"] == 25
    assert [step for step, logged in run.steps if "eval/cost" in logged.numbers] == [0, 100, 200]
    assert (run.identity.name, run.identity.group) == ("ppo/OrderSplit-v1_1", "logs")
    assert run.done is True
    names = {kind: set(files) for kind, files in run.files.items()}
    assert names == {
        "config": {"config.yaml", "OrderSplit-v1/args.yml", "OrderSplit-v1/config.yml"},
        "results": {"done.json", "evaluations.npz"},
        "model": {"best_model.zip", "OrderSplit-v1.zip"},
    }
    assert all(file.is_file() for files in run.files.values() for file in files.values())


def test_a_resumed_run_keeps_its_id_and_a_failed_one_says_so(fake, tmp_path):
    with pytest.raises(RuntimeError), tracked(tmp_path):
        raise RuntimeError("stopped")
    with tracked(tmp_path):
        pass
    first, second = fake
    assert (first.done, second.done) == (False, True)
    assert first.identity.id == second.identity.id == json.loads((tmp_path / IDENTITY_FILE).read_text())["fake"]


def test_every_kind_of_value_arrives_and_what_tensorboard_leaves_out_does_not():
    figure = Drawing(figsize=(1, 1))
    tracker = FakeTracker()
    logger = Logger(None, [TrackerWriter(tracker)])
    logger.record("a/number", np.float32(1.5))
    logger.record("a/whole", 3)
    logger.record("a/nan", float("nan"))
    logger.record("a/text", "word")
    logger.record("a/tensor", th.arange(4.0), exclude="stdout")
    logger.record("a/array", np.ones((2, 2)))
    logger.record("a/figure", Figure(figure, close=False))
    logger.record("a/picture", Image(np.zeros((3, 4, 5), np.uint8), "CHW"))
    logger.record("hparams", HParam({"lr": 0.1}, {"a/number": 0.0}))
    logger.record("time/total_timesteps", 7, exclude="tensorboard")
    logger.dump(9)
    ((step, logged),) = tracker.steps
    assert step == 9 and tracker.settings == {"lr": 0.1}
    assert set(logged.numbers) == {"a/number", "a/whole", "a/nan"} and logged.numbers["a/number"] == 1.5
    assert logged.texts == {"a/text": "word"}
    assert {tag: len(values) for tag, values in logged.histograms.items()} == {"a/tensor": 4, "a/array": 4}
    assert {tag: picture.size for tag, picture in logged.pictures.items()} == {
        "a/figure": (100, 100),
        "a/picture": (5, 4),
    }


def test_a_tracker_that_fails_in_the_middle_does_not_end_the_run(fake, tmp_path, monkeypatch):
    def refuse(self: FakeTracker, step: int, logged: Logged) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(FakeTracker, "log", refuse)
    folder = tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"
    with pytest.warns(UserWarning, match=r"fake failed .*\(no route to host\); the run goes on") as warned:
        model = train(tiny_config(), folder, folder / "tensorboard")
    assert model.num_timesteps == 200 and (folder / "done.json").is_file()
    assert len([w for w in warned if "fake" in str(w.message)]) == 1
    assert fake[0].files == {} and fake[0].done is None


def test_a_tracker_that_cannot_start_is_one_sentence_and_leaves_nothing(fake, tmp_path, monkeypatch):
    def refuse(identity: Identity) -> FakeTracker:
        raise RuntimeError("no key;\nlog in")

    monkeypatch.setitem(trackers.TRACKERS, "fake", refuse)
    folder = tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"
    with pytest.raises(UserError, match=r"--track fake cannot start \(no key; log in\); set fake up"):
        train(tiny_config(), folder)
    assert not (tmp_path / "logs").exists()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sor-sb3", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [("wandbb", "--track is 'wandbb' (did you mean 'wandb'?)"), ("mlflow", "pip install 'sor-sb3[mlflow]'")],
)
@pytest.mark.parametrize("job", ["train", "compare"])
def test_an_unknown_or_missing_tracker_is_one_sentence(job, name, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    logs = tmp_path / "logs"
    assert call(monkeypatch, job, "--market", "notebook", "--track", name, "--log-dir", logs) == 2
    assert said in capsys.readouterr().err
    assert not logs.exists() and TRACK_VARIABLE not in os.environ


def test_the_environment_is_as_before(monkeypatch, fake):
    with tracking("fake"):
        assert os.environ[TRACK_VARIABLE] == "fake"
    assert os.environ[TRACK_VARIABLE] == "fake"
    monkeypatch.delenv(TRACK_VARIABLE)
    with tracking("fake"):
        assert os.environ[TRACK_VARIABLE] == "fake"
    assert TRACK_VARIABLE not in os.environ


TRAIN = """
from pathlib import Path
from sor_sb3.experiments.run import train
from tests.callbacks.test_tracking import tiny_config

folder = Path("logs/ppo/OrderSplit-v1_1")
train(tiny_config(), folder, folder / "tensorboard")
"""
ROOT = Path(__file__).parents[2]


def tracked_run(name: str, tmp_path: Path, **variables: str) -> Path:
    """Train in a process of its own, tracked by a real tracker; returns the run's folder."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"could not import {name!r}")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **variables, TRACK_VARIABLE: name, "PYTHONPATH": paths}
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{name} failed" not in done.stderr, done.stderr
    return tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"


def every_tag(folder: Path) -> set[str]:
    return set().union(*board(folder / "tensorboard").values())


READ_WANDB = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2 as pb

def records(data):  # LevelDB's log: blocks of 32 KiB, in which a record may go over several parts
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7]) if left >= 7 else (0, 0)
        if left < 7 or kind == 0:
            at += left
            continue
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""

tags, config, kinds = set(), set(), set()
for data in records(open(sys.argv[1], "rb").read()):
    record = pb.Record()
    record.ParseFromString(data)
    tags |= {(*item.nested_key, item.key)[0] for item in record.history.item}  # a picture is a nested record
    config |= {item.key for of in (record.config, record.run.config) for item in of.update}
    kinds |= {record.artifact.type, record.request.log_artifact.artifact.type}
print(json.dumps([sorted(tags), sorted(config), sorted(kinds)]))
"""


def test_wandb_offline_holds_every_tag(tmp_path):
    folder = tracked_run("wandb", tmp_path, WANDB_MODE="offline")
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    done = subprocess.run([sys.executable, "-c", READ_WANDB, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tags, config, kinds = (set(found) for found in json.loads(done.stdout))
    assert every_tag(folder) <= tags
    assert {"algo", "n_steps", "seed"} <= config
    assert {"config", "results", "model"} <= kinds


def test_mlflow_in_a_local_store_holds_every_tag(tmp_path):
    database = tmp_path / "mlflow.db"
    folder = tracked_run("mlflow", tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{database}")
    with sqlite3.connect(database) as store:
        tags = {key for (key,) in store.execute("select distinct key from metrics")}
        parameters = {key for (key,) in store.execute("select key from params")}
        ((where, status),) = store.execute("select artifact_uri, status from runs").fetchall()
    root = Path(where.removeprefix("file://"))
    root = root if root.is_absolute() else tmp_path / root
    kept = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}
    for kind in ("histograms", "pictures", "texts"):
        tags |= {str(Path(name).relative_to(kind).parent) for name in kept if name.startswith(f"{kind}/")}
    assert every_tag(folder) <= tags
    assert {"algo", "n_steps", "seed"} <= parameters and status == "FINISHED"
    wanted = {"config/config.yaml", "config/OrderSplit-v1/args.yml", "results/evaluations.npz", "model/best_model.zip"}
    assert wanted <= kept


READ_TRACKIO = """
import json
from trackio.sqlite_storage import SQLiteStorage

(run,) = SQLiteStorage.get_run_records("sor_sb3")
logs = SQLiteStorage.get_logs("sor_sb3", run["name"], run_id=run["id"])
config = SQLiteStorage.get_run_config("sor_sb3", run["name"], run_id=run["id"])
print(json.dumps([sorted({tag for row in logs for tag in row}), sorted(config)]))
"""


def test_trackio_in_a_local_folder_holds_every_tag(tmp_path):
    store = tmp_path / "trackio"
    folder = tracked_run("trackio", tmp_path, TRACKIO_DIR=str(store))
    environment = {**os.environ, "TRACKIO_DIR": str(store)}
    command = [sys.executable, "-c", READ_TRACKIO]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tags, config = (set(found) for found in json.loads(done.stdout.splitlines()[-1]))
    assert every_tag(folder) <= tags
    assert {"algo", "n_steps", "seed"} <= config
    kept = [file for file in (store / "artifacts").rglob("*") if file.is_file()]
    models = {file.read_bytes() for file in kept}
    assert (folder / "best_model.zip").read_bytes() in models and (folder / "config.yaml").read_bytes() in models
