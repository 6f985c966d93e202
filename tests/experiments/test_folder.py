"""Folders and files: exclusive numbers, whole files, and refusals that touch nothing."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sor_sb3.errors import UserError
from sor_sb3.evaluation.results import system_versions
from sor_sb3.experiments import folder as folders
from sor_sb3.experiments.config import CompareConfig, compare_config
from sor_sb3.files import write_json, write_text, write_yaml
from sor_sb3.market.loading import load_market
from tests.conftest import Finished


def test_new_run_folders_are_numbered_from_one(tmp_path):
    made = [folders.new_run_folder(tmp_path / "ppo", "OrderSplit-v1") for _ in range(2)]
    assert [f.relative_to(tmp_path).as_posix() for f in made] == [
        "ppo/OrderSplit-v1_1",
        "ppo/OrderSplit-v1_2",
    ]
    (tmp_path / "ppo" / "OrderSplit-v1_1").rmdir()
    assert folders.new_run_folder(tmp_path / "ppo", "OrderSplit-v1").name == "OrderSplit-v1_1"
    assert folders.new_run_folder(tmp_path / "ppo", "VenueSelect-v1").name == "VenueSelect-v1_1"


def test_runs_that_start_together_share_no_folder(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: folders.new_run_folder(tmp_path / "ppo", "E"), range(64)))
    assert sorted(int(f.name.removeprefix("E_")) for f in made) == list(range(1, 65))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_text(path, "half")
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}


def test_yaml_is_plain_and_in_order(tmp_path):
    write_yaml(tmp_path / "f.yaml", {"b": 1, "a": [1, 2]})
    text = (tmp_path / "f.yaml").read_text(encoding="utf-8")
    assert text.index("b:") < text.index("a:")
    assert yaml.safe_load(text) == {"b": 1, "a": [1, 2]}


def test_claim_then_claim_again(tmp_path):
    folder = tmp_path / "run"
    assert folders.claim_folder(folder, {"a": 1}, "d1") is False
    assert folders.claim_folder(folder, {"a": 1}, "d1") is True
    assert folders.read_config(folder) == {"a": 1}


@pytest.mark.parametrize("content", ["digest: d2\nconfig: {}\n", "just words", "", "a: [1, 2"])
def test_a_folder_of_another_config_is_refused(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="--name"):
        folders.claim_folder(tmp_path, {"a": 1}, "d1")
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == content


def a_comparison(**changes: Any) -> CompareConfig:
    options = {"algos": ["a2c"], "seeds": 1, "timesteps": 100, "n_envs": 4, "scenarios": 5, **changes}
    return compare_config(load_market("notebook"), **options)


def claim(folder: Path, config: CompareConfig) -> bool:
    return folders.claim_folder(folder, config.canonical(), config.digest())


def test_a_comparison_that_never_began_gives_way(tmp_path):
    assert claim(tmp_path, a_comparison()) is False
    assert claim(tmp_path, a_comparison(scenarios=6)) is False
    assert claim(tmp_path, a_comparison(scenarios=6)) is True
    (tmp_path / "a2c" / "OrderSplit-v1_1").mkdir(parents=True)
    (tmp_path / "a2c" / "OrderSplit-v1_1" / "config.yaml").touch()
    with pytest.raises(UserError, match="--name"):
        claim(tmp_path, a_comparison())


@pytest.mark.parametrize("work", [None, "done.json", "checkpoints/000000000100_steps"])
def test_a_failed_comparison_lets_go_of_its_folder_unless_there_is_work_in_it(tmp_path, work):
    claim(tmp_path, a_comparison())
    run = tmp_path / "a2c" / "OrderSplit-v1_1"
    for name in ("a2c/OrderSplit-v1_1/config.yaml", "tensorboard/a2c/events", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if work is not None:
        (run / work).mkdir(parents=True)
    folders.release_folder(tmp_path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == (["notes.txt"] if work is None else ["a2c", "config.yaml", "notes.txt", "tensorboard"])


def test_every_config_names_its_kind(comparison: Finished):
    assert folders.read_config(comparison.folder)["kind"] == "compare"
    assert folders.read_config(comparison.folder / "ppo" / "OrderSplit-v1_1")["kind"] == "train"


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="not a run of this tool"):
        folders.claim_folder(tmp_path, {"a": 1}, "d1")
    assert [f.name for f in tmp_path.iterdir()] == ["photo.jpg"]


def test_an_empty_folder_is_taken(tmp_path):
    assert folders.claim_folder(tmp_path, {"a": 1}, "d1") is False


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError):
        folders.claim_folder(tmp_path / "run", {"a": 1}, "d1")


@pytest.mark.parametrize("content", [None, "digest: d2\n", "just words", "", "a: [1, 2"])
def test_read_config_refuses_what_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml"):
        folders.read_config(tmp_path)


def test_versions_are_plain_text():
    versions = system_versions()
    assert {"python", "torch", "numpy", "stable-baselines3"} <= set(versions)
    assert all(isinstance(v, str) for v in versions.values())
