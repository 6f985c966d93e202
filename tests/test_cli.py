"""The ``sor-sb3`` command: what it leaves, and that a mistake is one sentence, status 2, nothing written."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from sor_sb3 import cli
from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.envs import ENV_IDS
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.reopen import run_config
from sor_sb3.experiments.run import load_policy
from sor_sb3.market.loading import load_market, preset_names
from tests.conftest import Finished, run_command
from tests.market.quote_fixtures import write_recording, write_table

TINY = ("--timesteps", "200", "--n-envs", "4", "--set", "n_steps=50", "--no-progress")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit status of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sor-sb3", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def tree(folder: Path) -> dict[str, Any]:
    """Every file below, with its content's hash and time."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in files
    }


class Mistakes:
    """Calls the command where nothing may be written, and returns its one sentence."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = tmp_path, monkeypatch, capsys
        self.log_dir = tmp_path / "logs"

    def __call__(self, job: str, *arguments: object) -> str:
        if job in ("train", "compare", "tune"):
            arguments = (*arguments, "--log-dir", self.log_dir)
        self.capsys.readouterr()
        status = call(self.monkeypatch, job, *arguments)
        err = self.capsys.readouterr().err
        said = [line for line in err.splitlines() if not line.startswith(("training ", "comparing ", "tuning "))]
        assert "Traceback" not in err
        assert len(said) == 1, err
        assert said[0].startswith("error: "), err
        assert status == 2
        assert not self.log_dir.exists() or list(self.log_dir.rglob("*")) == []
        return said[0]


@pytest.fixture
def mistake(tmp_path, monkeypatch, capsys) -> Mistakes:
    return Mistakes(tmp_path, monkeypatch, capsys)


MARKET = """
order: {quantity_shares: 1000, horizon_steps: 5, step_s: 1}
venues:
  - {name: A, take_fee_bps: 0.3, offset_bps: 1, size_shares: 500, latency_ms: 0.2}
  - {name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 400, latency_ms: 0.3}
"""


def market_file(folder: Path, text: str) -> Path:
    path = folder / "market.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- a market that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize("job", ["train", "compare"])
def test_unknown_market(mistake, job):
    assert "did you mean 'us_equity'" in mistake(job, "--market", "us_equty")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("latency_ms: 0.2", "latency_msec: 0.2", ["venues.0.latency_msec", "did you mean 'latency_ms'"]),
        ("latency_ms: 0.2", "latency_ms: -1", ["venues.0.latency_ms", "-1", "greater than or equal to 0"]),
        ("horizon_steps: 5", "horizon_steps: many", ["order.horizon_steps", "many"]),
        ("quantity_shares: 1000, ", "", ["order.quantity_shares", "missing"]),
        ("name: B", "name: A", ["two venues are named 'A'"]),
        ("order:", "order: [", ["not valid YAML", "line"]),
    ],
)
def test_market_file_with_a_mistake(mistake, old, new, words):
    path = market_file(mistake.folder, MARKET.replace(old, new, 1))
    said = mistake("train", "--market", path)
    assert str(path) in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("job", [("markets", "check"), ("train", "--market"), ("compare", "--market")])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reference_router: roundrobin", ["'roundrobin'", "did you mean 'round_robin'"]),
        ("oracle: orcale", ["'orcale'", "snapshot_oracle"]),
        ("reference_router: vwap", ["'vwap'", "shares_per_day"]),
        ("oracle: clairvoyant", ["'clairvoyant'", "lot_shares"]),
    ],
)
def test_market_file_with_a_router_that_cannot_be(mistake, job, line, words):
    path = market_file(mistake.folder, MARKET + line)
    said = mistake(*job, path)
    assert str(path) in said
    for word in words:
        assert word in said


MERGED = MARKET.replace("- {name: A,", "- &lit {name: A,").replace(
    "{name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 400,", "{<<: *lit, name: B,"
)


@pytest.mark.parametrize("name", ["market.yaml", "MARKET.YAML", "market.Yml"])
def test_market_file_with_merge_keys_and_any_case_of_suffix_is_usable(name, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_text(MERGED, encoding="utf-8")
    assert call(monkeypatch, "markets", "check", "--quick", tmp_path / name) == 0
    assert "is a usable market: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["QUOTES.CSV", "QUOTES.PARQUET", "Quotes.Csv.Gz"])
def test_quotes_with_a_suffix_in_capitals_are_usable(name, tmp_path, monkeypatch, capsys):
    write_recording(tmp_path / name.lower()).rename(tmp_path / name)
    assert call(monkeypatch, "markets", "check", "--quick", tmp_path / name) == 0
    assert "is a usable market: " in capsys.readouterr().out


def test_bad_prints_are_counted_and_the_worst_is_named(tmp_path, monkeypatch, capsys):
    table = pq.read_table(write_recording(tmp_path / "good.parquet"))
    row = table["venue"].to_pylist().index("NYSE", 600)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    for name in ("bid_px", "ask_px"):
        columns[name][row] *= 100.0
    path = write_table(tmp_path / "quotes.parquet", columns)
    assert call(monkeypatch, "markets", "check", "--quick", path) == 0
    said = next(line for line in capsys.readouterr().err.splitlines() if "is far from the venue's quotes" in line)
    assert "the worst: NYSE at 2024-01-02T14:" in said and said.endswith(": 1.")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n"])
def test_market_file_that_is_no_mapping(mistake, text):
    path = market_file(mistake.folder, text)
    assert str(path) in mistake("markets", "check", path)


def test_market_file_that_is_not_there(mistake):
    assert "does not exist" in mistake("train", "--market", "no_such.yaml")


def test_quotes_with_a_missing_column(mistake):
    whole = write_recording(mistake.folder / "whole.parquet", duration_s=60)
    path = mistake.folder / "quotes.parquet"
    pq.write_table(pq.read_table(whole).drop_columns(["ask_px"]), path)
    said = mistake("train", "--market", path)
    assert str(path) in said
    assert "ask_px" in said


@pytest.mark.parametrize("name", ["quotes.parquet", "quotes.csv", "quotes.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"these are words, and no table\n"], ids=["empty", "words"])
def test_quotes_that_are_no_table(mistake, name, content):
    path = mistake.folder / name
    path.write_bytes(content)
    assert str(path) in mistake("train", "--market", path)


def test_quotes_without_rows(mistake):
    columns = {n: pa.array([], pa.float64()) for n in ("bid_px", "bid_sz", "ask_px", "ask_sz")}
    path = mistake.folder / "quotes.parquet"
    write_table(path, {"ts": pa.array([], pa.int64()), "venue": pa.array([], pa.string()), **columns})
    assert str(path) in mistake("train", "--market", path)


def test_quotes_that_are_not_there(mistake):
    assert "no_such.parquet" in mistake("train", "--market", "no_such.parquet")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--session", "14:35"], "--session"),
        (["--take-fee-bps", "NYSE"], "--take-fee-bps"),
        (["--take-fee-bps", "NYSE=cheap"], "--take-fee-bps"),
        (["--take-fee-bps", "NYZE=0.3"], "NYSE"),
        (["--venues", "NYZE,ARCA"], "NYSE"),
    ],
)
def test_options_of_a_recording(mistake, options, word):
    path = write_recording(mistake.folder / "quotes.parquet", duration_s=7200)
    assert word in mistake("train", "--market", path, *options)


def test_options_of_a_recording_for_another_market(mistake):
    assert "recorded quotes only" in mistake("train", "--market", "notebook", "--assumed-depth", 100)


def test_a_recording_can_be_trained_on(tmp_path, monkeypatch, capsys):
    path = write_recording(tmp_path / "quotes.parquet", duration_s=7200)
    options = ["--market", path, "--algo", "a2c", "--log-dir", tmp_path / "logs"]
    assert call(monkeypatch, "train", *options, "--take-fee-bps", "NYSE=0.3", *TINY) == 0
    config = yaml.safe_load((tmp_path / "logs/a2c/OrderSplit-v1_1/config.yaml").read_text(encoding="utf-8"))["config"]
    assert {v["name"]: v["take_fee_bps"] for v in config["market"]["venues"]}["NYSE"] == 0.3
    assert "Traceback" not in capsys.readouterr().err


# --- --market-set ---------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [("train", "--market"), ("compare", "--market"), ("markets", "check")])
@pytest.mark.parametrize("source", ["notebook", "yaml", "recording"])
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("order.horizn_steps=3", ["has no field 'horizn_steps' in 'order'", "did you mean 'horizon_steps'"]),
        ("order.horizon_steps=0", ["field 'order.horizon_steps' is 0", "greater than or equal to 1"]),
        ("order.horizon_steps", ["expected path=value"]),
        ("venues.Z.name=Q", ["no venue 'Z'"]),
    ],
)
def test_what_cannot_be_set_in_a_market(mistake, job, source, setting, words):
    markets = {
        "notebook": lambda: "notebook",
        "yaml": lambda: market_file(mistake.folder, MARKET),
        "recording": lambda: write_recording(mistake.folder / "quotes.parquet"),
    }
    said = mistake(*job, markets[source](), "--market-set", setting)
    assert "--market-set" in said
    for word in words:
        assert word in said


def test_a_market_is_checked_with_what_is_set(tmp_path, monkeypatch, capsys):
    path = write_recording(tmp_path / "quotes.parquet", with_sizes=False)
    check = ("markets", "check", "--quick", path)
    assert call(monkeypatch, *check) == 2
    assert "--assumed-depth" in capsys.readouterr().err
    options = ("--assumed-depth", 1000, "--venues", "NYSE,ARCA", "--take-fee-bps", "NYSE=0.3")
    sets = ("--market-set", "order.horizon_steps=4", "--market-set", "order.side=sell", "--market-set", "max_gap_s=60")
    assert call(monkeypatch, *check, *options, *sets, "--market-set", "venues.*.latency_ms=7") == 0
    printed = capsys.readouterr()
    assert "2 venues, replay" in printed.out
    assert "Order: sell 2,000 shares in 4 steps of 5 s, 500 shares a step." in printed.err
    assert "median latency 7 ms at every venue; take fees NYSE 0.3, ARCA 0 bps" in printed.err
    assert "gaps longer than 60 s" in printed.err


def test_a_check_shows_figures_beside_what_is_real(tmp_path, monkeypatch, capsys):
    path = write_recording(tmp_path / "quotes.parquet", duration_s=3600)
    assert call(monkeypatch, "markets", "check", path) == 0
    assert "realism" in capsys.readouterr().out
    assert call(monkeypatch, "markets", "check", "notebook") == 0
    assert "realism" not in capsys.readouterr().out
    assert call(monkeypatch, "markets", "check", path, "--asset-class", "us_equty") == 2
    assert "did you mean" in capsys.readouterr().err


def test_what_is_set_belongs_to_the_run(tmp_path, monkeypatch, capsys):
    options = ("--market", "notebook", "--algo", "a2c", "--log-dir", tmp_path, *TINY, "--market-set", "name=other")
    assert call(monkeypatch, "train", *options, "--market-set", "order.horizon_steps=25") == 0
    run = tmp_path / "a2c" / "OrderSplit-v1_1"
    config = run_config(run)
    assert (config.market.name, config.market.order.horizon_steps) == ("other", 25)
    with np.load(run / "evaluations.npz") as log:
        assert (log["ep_lengths"] == 25).all()
    plain = train_config("a2c", "OrderSplit-v1", load_market("notebook"), 0)
    other = train_config("a2c", "OrderSplit-v1", load_market("notebook", {"order.horizon_steps": 25}), 0)
    assert plain.digest() != other.digest()
    capsys.readouterr()
    assert call(monkeypatch, "train", "--resume", run, "--market-set", "order.horizon_steps=25") == 2
    assert "--market-set cannot be given with --resume" in capsys.readouterr().err
    for output, setting in (("as.json", "order.horizon_steps=25"), ("longer.json", "order.horizon_steps=50")):
        wanted = ("--scenarios", 5, "--output", tmp_path / output, "--market-set", setting)
        assert call(monkeypatch, "evaluate", run, *wanted) == 0
    found = [json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("as.json", "longer.json")]
    assert found[1]["config"]["market_set"] == {"order.horizon_steps": 50}
    costs = [next(p["cost"] for p in results["policies"] if p["name"] == "a2c") for results in found]
    assert costs[0] != costs[1]


def test_a_comparison_is_repeated_as_it_was(mistake, comparison: Finished):
    said = mistake("compare", "--repeat", comparison.folder, "--name", "again", "--market-set", "name=other")
    assert "--market-set cannot be given with --repeat" in said


# --- an algorithm, env or setting that cannot be --------------------------------------------------


@pytest.mark.parametrize("job", ["train --algo", "compare --algos"])
@pytest.mark.parametrize(
    ("algo", "env", "fitting", "unfit"),
    [
        ("dqn", "OrderSplit-v1", ["ppo", "sac", "td3"], "qrdqn"),
        ("sac", "VenueSelect-v1", ["ppo", "dqn", "maskableppo"], "td3"),
    ],
)
def test_algorithm_that_does_not_fit(mistake, job, algo, env, fitting, unfit):
    job, option = job.split()
    said = mistake(job, option, algo, "--env", env, "--market", "notebook")
    listed = said.split("those that do: ")[1].split(", ")
    assert set(fitting) <= set(listed)
    assert unfit not in listed


def test_unknown_algorithm(mistake):
    assert "did you mean 'reinforce'" in mistake("train", "--algo", "reinfroce", "--market", "notebook")
    assert "algorithm" in mistake("compare", "--algos", "ppo,nonsense", "--market", "notebook")


def test_no_algorithm(mistake):
    assert "--algos" in mistake("compare", "--algos", " , ", "--market", "notebook")
    assert "did you mean 'ucb1'" in mistake("compare", "--rules", "pro_rata,ucb2", "--market", "us_equity")
    assert "means nothing in market 'notebook'" in mistake("compare", "--rules", "vwap", "--market", "notebook")


def test_algorithm_of_a_module_that_is_not_there(mistake):
    assert "no_such_module" in mistake("train", "--algo", "no_such_module:PPO", "--market", "notebook")


def test_unknown_env(mistake):
    for job in ("train", "compare"):
        assert "did you mean 'OrderSplit-v1'" in mistake(job, "--env", "OrderSplt-v1", "--market", "notebook")


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("gamma", "key=value"),
        ("=1", "key=value"),
        ("gamma=[1, 2", "not readable"),
        ("gama=0.9", "gama"),
        ("learning_rate=lin_fast", "lin_fast"),
        ("policy=NoPolicy", "NoPolicy"),
        ("policy_kwargs=3", "policy_kwargs"),
        ("policy_kwargs={activation_fn: Relu}", "Relu"),
        ("n_envs=0", "n_envs"),
        ("n_timesteps=1.5", "n_timesteps"),
        ("n_steps=many", "settings"),
        ("gamma=lin_0.9", "gamma is 'lin_0.9'; expected a number"),
        ("learning_rate=inf", "learning_rate is 'inf'; expected a number"),
        ("learning_rate=.nan", "learning_rate is nan; expected a number"),
        ("normalize={foo: 1}", "normalize.foo is no setting of VecNormalize"),
        ("batch_size=-64", "batch_size is -64; expected a number from 1"),
        ("batch_size=64.5", "batch_size is 64.5; expected a whole number"),
        ("policy_kwargs={hiden: 8}", "did you mean 'hidden'?"),
        ("n_epochs=[1]", "n_epochs is [1]; expected a whole number"),
    ],
)
def test_setting_that_cannot_be(mistake, setting, word):
    assert word in mistake("train", "--set", setting, "--market", "notebook", "--no-progress")


@pytest.mark.parametrize("setting", ["batch_size=1e2", "n_epochs=2.0", "n_steps=5e1"])
def test_whole_numbers_may_be_written_as_decimals(setting, tmp_path, monkeypatch, capsys):
    options = (*TINY[:-1], "--market", "notebook", "--algo", "ppo", "--log-dir", tmp_path, "--no-progress")
    assert call(monkeypatch, "train", *options, "--set", setting) == 0
    key, _, value = setting.partition("=")
    assert run_config(tmp_path / "ppo" / "OrderSplit-v1_1").hyperparameters[key] == int(float(value))


def test_setting_that_cannot_be_in_a_comparison(mistake):
    options = ("--algos", "ppo", "--seeds", 1, "--set", "gama=0.9", "--market", "notebook", "--no-progress")
    assert "gama" in mistake("compare", *options)


@pytest.mark.parametrize(
    "options",
    [
        ("train", "--timesteps", "0"),
        ("train", "--timesteps", "-5"),
        ("train", "--timesteps", "many"),
        ("train", "--n-envs", "0"),
        ("train", "--seed", "-1"),
        ("train", "--no-such-flag"),
        ("compare", "--seeds", "0"),
        ("compare", "--scenarios", "1"),
        ("compare", "--workers", "0"),
        ("evaluate",),
        ("no-such-job",),
    ],
)
def test_usage_errors(options, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *options) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", ["train", "compare"])
def test_log_dir_that_is_a_file(job, tmp_path, monkeypatch, capsys):
    (tmp_path / "logs").touch()
    options = ("--market", "notebook", "--log-dir", tmp_path / "logs", "--no-progress")
    assert call(monkeypatch, job, *options) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "logs").read_bytes() == b""


# --- evaluate -------------------------------------------------------------------------------------


def test_evaluate_what_is_no_run(mistake):
    assert "no run folder" in mistake("evaluate", mistake.folder)
    assert "no run folder" in mistake("evaluate", mistake.folder / "not there")


def test_evaluate_a_comparison(mistake, comparison: Finished):
    assert "give its run folders" in mistake("evaluate", comparison.folder)


@pytest.mark.parametrize("content", ["a: [1, 2", "words", "config: {algo: ppo}\n"])
def test_evaluate_a_damaged_config(mistake, content):
    (mistake.folder / "config.yaml").write_text(content, encoding="utf-8")
    assert "config.yaml" in mistake("evaluate", mistake.folder)


@pytest.mark.parametrize("missing", [["done.json"], ["done.json", "best_model.zip", "OrderSplit-v1.zip"]])
def test_evaluate_an_unfinished_run(mistake, comparison: Finished, missing):
    run = mistake.folder / "run"
    shutil.copytree(comparison.folder / "ppo" / "OrderSplit-v1_1", run)
    for name in missing:
        (run / name).unlink()
    assert "not finished" in mistake("evaluate", run, "--scenarios", 5)


def test_evaluate_refuses_to_mix_markets(mistake, comparison: Finished):
    run, other = comparison.folder / "ppo" / "OrderSplit-v1_1", mistake.folder / "other"
    held = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    held["config"]["market"]["liquidity_cost"] = 0.02
    other.mkdir()
    (other / "config.yaml").write_text(yaml.safe_dump(held), encoding="utf-8")
    said = mistake("evaluate", run, other)
    assert str(run) in said
    assert str(other) in said


def test_evaluate_does_not_overwrite(mistake, comparison: Finished):
    output = mistake.folder / "results.json"
    output.write_text("mine", encoding="utf-8")
    assert "exists" in mistake("evaluate", comparison.folder / "ppo" / "OrderSplit-v1_1", "--output", output)
    assert output.read_text(encoding="utf-8") == "mine"


def test_evaluate_unknown_split(mistake, comparison: Finished):
    assert "data_split 'tset'" in mistake(
        "evaluate", comparison.folder / "ppo" / "OrderSplit-v1_1", "--data-split", "tset"
    )


def test_evaluate_agrees_with_the_comparison(comparison: Finished, tmp_path, monkeypatch, capsys):
    runs = [comparison.folder / algo / f"OrderSplit-v1_{k}" for algo in ("reinforce", "ppo") for k in (1, 2)]
    before = tree(comparison.folder)
    assert call(monkeypatch, "evaluate", *runs, "--scenarios", 20, "--output", tmp_path / "out.json") == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    compared = json.loads((comparison.folder / "results.json").read_text(encoding="utf-8"))
    assert results["policies"] == compared["policies"]
    assert results["comparisons"] == compared["comparisons"]
    for policy in results["policies"]:
        assert policy["name"] in printed
    assert tree(comparison.folder) == before


def test_evaluate_other_days_and_stochastic(comparison: Finished, tmp_path, monkeypatch, capsys):
    run = comparison.folder / "ppo" / "OrderSplit-v1_1"
    costs = {}
    asked: dict[str, list[object]] = {
        "test": [],
        "again": [],
        "validation": ["--data-split", "validation"],
        "seed": ["--seed", 5],
        "drawn": ["--stochastic"],
        "drawn again": ["--stochastic"],
    }
    for name, options in asked.items():
        output = tmp_path / f"{name}.json"
        assert call(monkeypatch, "evaluate", run, "--scenarios", 5, "--output", output, *options) == 0
        policies = json.loads(output.read_text(encoding="utf-8"))["policies"]
        costs[name] = next(p["cost"] for p in policies if p["name"] == "ppo")
    assert costs["test"] == costs["again"]
    assert costs["drawn"] == costs["drawn again"]
    assert len(set(costs.values())) == 4


# --- export ---------------------------------------------------------------------------------------


def test_export_writes_the_policy_that_evaluate_scores(comparison: Finished, tmp_path, monkeypatch, capsys):
    run, file = tmp_path / "run", tmp_path / "router.onnx"
    shutil.copytree(comparison.folder / "ppo" / "OrderSplit-v1_1", run)
    before = tree(run)
    assert call(monkeypatch, "export", run, "--out", file) == 0
    assert str(file) in capsys.readouterr().out
    assert tree(run) == before
    model = load_policy(run_config(run), run)
    rows = np.random.default_rng(0).normal(size=(20, *model.observation_space.shape)).astype(np.float32)
    policy = OnnxPolicy.load(file)
    assert (policy.about["env"], policy.about["market"]) == ("OrderSplit-v1", "notebook")
    assert policy.about["inputs"]["observation"]["features"][-1].split(".")[0] == policy.about["venues"][-1]
    actions = policy.predict(rows)[0]
    np.testing.assert_allclose(actions, model.predict(rows, deterministic=True)[0], rtol=0, atol=1e-6)
    for options, name in (((), "policy.onnx"), (("--last",), "policy_last.onnx")):
        assert call(monkeypatch, "export", run, *options) == 0
        assert set(tree(run)) - set(before) >= {name}
    last = load_policy(run_config(run), run, best=False).predict(rows, deterministic=True)[0]
    np.testing.assert_allclose(OnnxPolicy.load(run / "policy_last.onnx").predict(rows)[0], last, rtol=0, atol=1e-6)


def test_export_what_cannot_be(mistake, comparison: Finished):
    assert "no run folder" in mistake("export", mistake.folder / "not there")
    assert "give its run folders" in mistake("export", comparison.folder)
    run, file = mistake.folder / "run", mistake.folder / "mine.onnx"
    shutil.copytree(comparison.folder / "ppo" / "OrderSplit-v1_1", run)
    file.write_text("mine", encoding="utf-8")
    assert "exists" in mistake("export", run, "--out", file)
    assert file.read_text(encoding="utf-8") == "mine"
    assert "cannot be written" in mistake("export", run, "--out", file / "policy.onnx")
    (run / "best_model.zip").write_bytes(b"no model")
    assert "cannot be read" in mistake("export", run)
    (run / "done.json").unlink()
    assert "not finished" in mistake("export", run)
    assert not (run / "policy.onnx").exists()


# --- train ----------------------------------------------------------------------------------------


def test_train_leaves_numbered_runs(tmp_path, monkeypatch, capsys):
    options = (
        "--market",
        "notebook",
        "--algo",
        "PPO",
        "--log-dir",
        tmp_path,
        *TINY,
        "--set",
        "batch_size=200",
    )
    for k in (1, 2):
        assert call(monkeypatch, "train", *options, "--seed", k) == 0
        out = capsys.readouterr().out
        assert f"OrderSplit-v1_{k}" in out
        run = tmp_path / "ppo" / f"OrderSplit-v1_{k}"
        for name in ("best_model.zip", "OrderSplit-v1.zip", "evaluations.npz", "config.yaml", "done.json"):
            assert (run / name).is_file()
        held = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        assert held["config"]["seed"] == k
        assert held["digest"] == json.loads((run / "done.json").read_text(encoding="utf-8"))["digest"]
        assert held["config"]["hyperparameters"]["batch_size"] == 200
        assert {p.name for p in (run / "tensorboard").iterdir()} >= {"learner", "random", "snapshot_oracle"}
        with np.load(run / "evaluations.npz") as log:
            assert log["results"].shape == (len(log["timesteps"]), 500)
    assert sorted(p.name for p in (tmp_path / "ppo").iterdir()) == ["OrderSplit-v1_1", "OrderSplit-v1_2"]


def test_train_stopped_by_hand(tmp_path, monkeypatch, capsys):
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sor_sb3.experiments.run.train", stopped)
    assert call(monkeypatch, "train", "--market", "notebook", "--log-dir", tmp_path) == 130
    assert "Traceback" not in capsys.readouterr().err


# --- the rest -------------------------------------------------------------------------------------


def test_markets_are_listed_shown_and_checked(tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "markets", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert call(monkeypatch, "markets", "show", "us_equity") == 0
    assert "NASDAQ" in capsys.readouterr().out
    assert call(monkeypatch, "markets", "check", "--quick", market_file(tmp_path, MARKET)) == 0
    assert "2 venues" in capsys.readouterr().out


def test_the_process_ends_with_status_and_sentence(tmp_path):
    done = run_command("train", "--market", "us_equty", "--log-dir", tmp_path / "logs")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: market 'us_equty' is unknown")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("command", [("train",), ("compare",), "scripts/train.py", "scripts/compare.py"], ids=str)
def test_help_names_every_env(command, monkeypatch, capsys):
    if isinstance(command, tuple):
        monkeypatch.setenv("COLUMNS", "200")
        assert call(monkeypatch, *command, "--help") == 0
        said = capsys.readouterr().out
    else:
        script = Path(__file__).parents[1] / command
        done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
        said = done.stdout
    for env_id in ENV_IDS:
        assert env_id in said


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "sor_sb3.cli", "markets", "list"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "us_equity" in done.stdout


def test_classes_of_a_users_own_are_found_where_the_command_is_given(tmp_path, monkeypatch, capsys):
    """As with `python -m`: the console script's own path has its folder, not the user's."""
    (tmp_path / "rules_beside_me.py").write_text("Even = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert call(monkeypatch, "compare", "--rules", "rules_beside_me:Even", "--log-dir", tmp_path / "logs") == 2
    assert "router 'rules_beside_me:Even' is 3; expected a class with SB3's predict" in capsys.readouterr().err
