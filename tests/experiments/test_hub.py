"""Publishing a run and taking it in: the same actions, no pickle, a card that says how to repeat it."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
import yaml

from sor_sb3 import cli
from sor_sb3.algorithms.hyperparameters import read_hyperparameters
from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments import hub
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.reopen import evaluate_runs, run_config
from sor_sb3.experiments.run import load_policy, train
from sor_sb3.files import write_json, write_yaml
from sor_sb3.market.loading import load_market

safetensors = pytest.importorskip("safetensors.torch")
th.set_num_threads(1)

ON_POLICY = {"n_steps": 25}
OFF_POLICY = {"learning_starts": 64, "buffer_size": 1000, "batch_size": 16}
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ppo": ("ppo", "OrderSplit-v1", "notebook", {**ON_POLICY, "batch_size": 50, "n_epochs": 1}),
    "sac": ("sac", "OrderSplit-v1", "notebook", OFF_POLICY),
    "normalised": ("a2c", "VenueSelect-v1", "notebook", {**ON_POLICY, "normalize": True}),
    "priced": ("ppo", "OrderSplit-v1", "us_equity", {**ON_POLICY, "batch_size": 50, "n_epochs": 1}),
    "pace": ("reinforce", "OrderExecute-v1", "notebook", ON_POLICY),
}


def trained(folder: Path, kind: str = "ppo", market: Any = None) -> tuple[TrainConfig, Path]:
    algo, env, name, settings = KINDS[kind]
    config = train_config(algo, env, market or load_market(name), 3, 200, 4, settings)
    config = config.model_copy(update={"validation_scenarios": 4, "evaluations": 2})
    run = folder / "logs" / algo / f"{env}_1"
    train(config, run)
    return config, run


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path, Path]:
    """A run's config, its folder, and what push --dry-run writes of it; to read."""
    folder = tmp_path_factory.mktemp("published")
    config, run = trained(folder)
    return config, run, hub.write_published(run, folder / "hub", "me/ppo-OrderSplit-v1", scenarios=4)


def rows_of(config: TrainConfig) -> np.ndarray:
    return Evaluator(config.env, config.market, 32, 5, "validation").start()


def actions(policy: Any, config: TrainConfig) -> np.ndarray:
    return np.asarray(policy.predict(rows_of(config), deterministic=True)[0])


def same_actions(config: TrainConfig, run: Path, taken: Path) -> None:
    wanted = actions(load_policy(config, run), config)
    np.testing.assert_array_equal(actions(load_policy(run_config(taken), taken), config), wanted)


@pytest.mark.parametrize("kind", ["sac", "normalised", "priced", "pace"])
def test_what_is_taken_in_acts_as_what_was_published(kind, tmp_path):
    config, run = trained(tmp_path, kind)
    out = hub.write_published(run, tmp_path / "out", scenarios=4)
    taken = hub.take_in(out, tmp_path / "elsewhere", str(out))
    wanted = actions(load_policy(config, run), config)
    assert taken == tmp_path / "elsewhere" / config.algo / f"{config.env}_1"
    for best in (True, False):
        np.testing.assert_array_equal(actions(load_policy(run_config(taken), taken, best), config), wanted)
    onnx = OnnxPolicy.load(out / f"{config.algo}-{config.env}.onnx")
    np.testing.assert_allclose(onnx.predict(rows_of(config))[0], wanted, atol=1e-5)


def test_a_taken_in_run_scores_as_the_published_one(published, tmp_path):
    _, run, out = published
    taken = hub.take_in(out, tmp_path, str(out))
    before, after = (evaluate_runs([folder], 6, 77, extras=()) for folder in (run, taken))
    assert after["policies"] == before["policies"]
    assert run_config(taken) == run_config(run)


def test_the_folder_has_the_zoos_names_and_no_pickle(published):
    config, _, out = published
    stem = f"{config.algo}-{config.env}"
    names = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert names == {
        *("README.md", "config.yaml", "market.yaml", "hyperparams/ppo.yml", "args.yml", "config.yml", "env_kwargs.yml"),
        *(
            f"{stem}.safetensors",
            f"{stem}.onnx",
            "results.json",
            "comparison.png",
            "train_eval_metrics.zip",
            "done.json",
        ),
    }
    with zipfile.ZipFile(out / "train_eval_metrics.zip") as packed:
        assert packed.namelist() == ["evaluations.npz"]
        packed.extract("evaluations.npz", out.parent / "unpacked")
    with np.load(out.parent / "unpacked" / "evaluations.npz", allow_pickle=False) as log:
        assert all(log[name].dtype != object for name in log.files)
    for file in out.rglob("*.y*ml"):
        yaml.safe_load(file.read_text())  # plain: the zoo's own have Python objects
    held = safetensors.load((out / f"{stem}.safetensors").read_bytes())
    assert all(name.startswith("policy.") for name in held) and held


def test_the_same_run_is_published_as_the_same_bytes(published, tmp_path):
    _, run, out = published
    again = hub.write_published(run, tmp_path / "again", "me/ppo-OrderSplit-v1", scenarios=4)
    for file in out.rglob("*"):
        if file.is_file():
            assert (again / file.relative_to(out)).read_bytes() == file.read_bytes(), file.name


def test_the_card_says_what_it_is_and_how_to_repeat_it(published):
    config, _, out = published
    text = (out / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    data = yaml.safe_load(header)
    assert {"sor_sb3", "reinforcement-learning", "OrderSplit-v1"} <= set(data["tags"])
    results = json.loads((out / "results.json").read_text())
    cost = next(p["cost"] for p in results["policies"] if p["name"] == "ppo")
    assert float(data["model-index"][0]["results"][0]["metrics"][0]["value"]) == pytest.approx(-cost, abs=1e-4)
    for policy in results["policies"]:
        assert f"\n| {policy['name']} |" in body
    assert results["headline"] in body and config.market.digest() in body and config.digest() in body
    assert "sor-sb3 load me/ppo-OrderSplit-v1" in body
    assert "sor-sb3 train --algo ppo --env OrderSplit-v1 --market market.yaml --seed 3" in body


def test_the_command_on_the_card_is_of_the_same_config(published):
    config, run, out = published
    market = load_market(out / "market.yaml")
    given = read_hyperparameters(out / "hyperparams" / "ppo.yml", config.env, market.name)
    again = train_config("ppo", config.env, market, 3, None, None, {}, given)
    whole = again.model_copy(update={"validation_scenarios": 4, "evaluations": 2})
    assert whole.digest() == config.digest() == run_config(run).digest()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sor-sb3", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


class FakeHub:
    """The hub's client, which keeps what it is sent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, dict[str, Any]()

    def HfApi(self) -> FakeHub:
        return self

    def create_repo(self, repo: str, **options: Any) -> str:
        self.asked = {"repo": repo, **options}
        return f"https://hub/{repo}"

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.folder / repo_id)

    def snapshot_download(self, repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        if not (self.folder / repo).is_dir():
            raise RuntimeError(f"404:\n{repo} not found")
        self.asked = {"revision": revision, "patterns": allow_patterns}
        return str(self.folder / repo)


def test_push_and_load_go_through_the_hub(published, tmp_path, monkeypatch, capsys):
    config, run, _ = published
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "_hub", lambda: fake)
    out = ("--out", tmp_path / "out", "--scenarios", 4)
    assert call(monkeypatch, "push", run, "--repo", "me/x", "--private", *out) == 0
    assert "pushed: https://hub/me/x" in capsys.readouterr().out
    assert fake.asked == {"repo": "me/x", "private": True, "exist_ok": True}
    assert call(monkeypatch, "load", "me/x", "--revision", "v1", "--log-dir", tmp_path / "logs") == 0
    taken = tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"
    assert f"run: {taken}" in capsys.readouterr().out
    assert fake.asked["revision"] == "v1" and not any("pkl" in p or p == "*.zip" for p in fake.asked["patterns"])
    same_actions(config, run, taken)
    assert call(monkeypatch, "load", "me/nothing", "--log-dir", tmp_path / "none") == 2
    assert (
        "me/nothing is no folder here, and no repository that can be read (404: me/nothing" in capsys.readouterr().err
    )
    assert not (tmp_path / "none").exists()


def test_a_dry_run_sends_nothing_and_loads_again(published, tmp_path, monkeypatch, capsys):
    config, run, _ = published
    monkeypatch.setattr(hub, "_hub", lambda: pytest.fail("a dry run asks nobody"))
    assert call(monkeypatch, "push", run, "--dry-run", "--out", tmp_path / "out", "--scenarios", 4) == 0
    assert call(monkeypatch, "load", tmp_path / "out", "--log-dir", tmp_path / "logs") == 0
    taken = tmp_path / "logs" / "ppo" / "OrderSplit-v1_1"
    same_actions(config, run, taken)
    capsys.readouterr()
    assert call(monkeypatch, "push", run) == 2
    assert "--repo is missing; give a repository" in capsys.readouterr().err
    assert call(monkeypatch, "push", run, "--dry-run", "--out", tmp_path / "out") == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_the_commands_of_the_page_run(published, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "tracking_and_hub.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ sor-sb3")]
    here = [shlex.split(line)[1:] for line in lines if not any(of in line for of in ("--repo", "--track", "me/"))]
    assert [words[0] for words in here] == ["push", "load", "evaluate"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(published[1], Path("logs/ppo/OrderSplit-v1_1"))
    for words in here:
        more = [] if words[0] == "load" else ["--scenarios", "4"]
        assert call(monkeypatch, *words, *more) == 0


@pytest.fixture
def copy(published, tmp_path) -> Path:
    """A published folder that may be damaged."""
    return Path(shutil.copytree(published[2], tmp_path / "copy"))


def refused(copy: Path, said: str) -> None:
    """Taking the folder in is one sentence, and leaves nothing."""
    with pytest.raises(UserError) as error:
        hub.take_in(copy, copy.parent / "logs", str(copy))
    assert said in str(error.value)
    assert not (copy.parent / "logs").exists()


def test_damaged_and_foreign_folders_are_one_sentence(copy):
    weights = copy / "ppo-OrderSplit-v1.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:200])
    refused(copy, "no safetensors file, or a damaged one")
    held = safetensors.load(whole)
    weights.write_bytes(safetensors.save({name: tensor for name, tensor in held.items() if "bias" not in name}))
    refused(copy, "the weights are of another policy than the config's")
    weights.unlink()
    refused(copy, "has no ppo-OrderSplit-v1.safetensors")
    weights.write_bytes(whole)
    (copy / "train_eval_metrics.zip").write_bytes(b"PK")
    refused(copy, "is not whole")
    (copy / "config.yaml").unlink()
    refused(copy, "is no run folder: it has no config.yaml")


def test_somebody_elses_code_is_not_run(copy):
    config = run_config(copy).model_copy(update={"algo": "os.path:join"})
    write_yaml(copy / "config.yaml", {"digest": "x", "config": config.canonical()})
    refused(copy, "was trained by os.path:join, code that is not in this package, and is not run")


def test_what_answers_differently_is_not_published(published, tmp_path, monkeypatch):
    _, run, _ = published
    changed = lambda policy: safetensors.save(  # noqa: E731
        {f"policy.{name}": tensor * 1.5 for name, tensor in policy.policy.state_dict().items()}
    )
    monkeypatch.setattr(hub, "weights_bytes", changed)
    with pytest.raises(WorkFailed, match=r"ppo-OrderSplit-v1.safetensors does not answer as the run's policy"):
        hub.write_published(run, tmp_path / "out", scenarios=4)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_published(published, tmp_path):
    _, run, _ = published
    unfinished = tmp_path / "run"
    shutil.copytree(run, unfinished)
    (unfinished / "done.json").unlink()
    with pytest.raises(UserError, match=r"has no done.json: the run is not finished"):
        hub.write_published(unfinished, tmp_path / "out")
    write_json(unfinished / "done.json", {})
    assert not (tmp_path / "out").exists()
