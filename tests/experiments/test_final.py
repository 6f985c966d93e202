"""The frozen final scenarios: in no other split, opened by --final alone, and never without a line in the log."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator, evaluate
from sor_sb3.experiments.comparison import compare_final
from sor_sb3.experiments.final import COLUMNS, FINAL_LOG, note_final
from sor_sb3.experiments.reopen import read_comparison
from sor_sb3.market.loading import load_market
from sor_sb3.simulator.random import DATA_SPLITS, FINAL
from tests.conftest import COMPARISON, Finished
from tests.market.quote_fixtures import write_recording
from tests.test_cli import Mistakes, call, tree

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mistake(tmp_path, monkeypatch, capsys) -> Mistakes:
    monkeypatch.chdir(tmp_path)  # else a line would go to the checkout's own log
    return Mistakes(tmp_path, monkeypatch, capsys)


def rows(log: Path) -> list[dict[str, str]]:
    header, *lines = log.read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == list(COLUMNS)
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]


def test_final_scenarios_are_none_of_the_others():
    costs = {s: evaluate({"p": "all_in"}, market="notebook", scenarios=40, data_split=s) for s in (*DATA_SPLITS, FINAL)}
    drawn = [cost for e in costs.values() for cost in e.scores["p"].cost[0].tolist()]
    assert len(set(drawn)) == 4 * 40
    again = evaluate({"p": "all_in"}, market="notebook", scenarios=40, data_split=FINAL)
    np.testing.assert_array_equal(again.scores["p"].cost, costs[FINAL].scores["p"].cost)


def test_nothing_trains_or_chooses_on_final_scenarios():
    from sor_sb3.callbacks.evaluation import RoutingEvalCallback

    with pytest.raises(UserError, match="never trained, tuned or chosen on"):
        make_vec_env("OrderSplit-v1", market="notebook", data_split=FINAL)
    with pytest.raises(UserError, match="open them with --final"):
        RoutingEvalCallback(Evaluator("OrderSplit-v1", "notebook", 4, data_split=FINAL), 100)


def test_a_recording_has_no_final_scenarios(tmp_path):
    market = load_market(str(write_recording(tmp_path / "quotes.parquet")))
    with pytest.raises(UserError, match="all its time is cut into train, validation and test: it has no final"):
        Evaluator("OrderSplit-v1", market, 4, data_split=FINAL)


def test_commands_refuse_final_scenarios_in_a_sentence(mistake, comparison: Finished):
    run = comparison.folder / "ppo" / "OrderSplit-v1_1"
    assert "is opened by --final alone" in mistake("evaluate", run, "--data-split", "final")
    assert "cannot be given with --final" in mistake("evaluate", run, "--final", "--data-split", "train")
    assert "--final trains nothing; run the same command without --final" in mistake("compare", "--final")
    assert call(mistake.monkeypatch, "train", "--final") == 2
    assert call(mistake.monkeypatch, "train", "--data-split", "final") == 2
    assert list(mistake.folder.rglob(FINAL_LOG)) == []


def test_evaluate_final_scores_and_notes(comparison: Finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    log = tmp_path / "docs" / FINAL_LOG  # a checkout's own log
    log.touch()
    run, out = comparison.folder / "ppo" / "OrderSplit-v1_1", tmp_path / "out.json"
    for _ in range(2):
        assert call(monkeypatch, "evaluate", run, "--final", "--scenarios", 7, "--output", out) == 0
        results = json.loads(out.read_text(encoding="utf-8"))
        out.unlink()
    assert (results["data_split"], results["scenarios"]) == ("final", 7)
    assert "7 final scenarios" in capsys.readouterr().out
    first, second = rows(log)
    market = load_market("notebook")
    assert (first["market"], first["numbers"], first["env"]) == ("notebook", market.digest(), "OrderSplit-v1")
    assert (first["scenarios"], first["first_seed"], first["commit"]) == ("7", "10000", "-")
    assert first["command"] == f"sor-sb3 evaluate {run} --final --scenarios 7 --output {out}"
    assert second["command"] == first["command"] and second["date"] >= first["date"]


def test_compare_final_scores_a_finished_comparison(comparison: Finished, tmp_path, monkeypatch, capsys):
    import shutil

    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(comparison.folder, tmp_path / "logs" / "comparison"))
    before = tree(folder)
    assert call(monkeypatch, *COMPARISON, "--log-dir", "logs", "--final") == 0
    assert "20 final scenarios" in capsys.readouterr().out
    final = {path: found for path, found in tree(folder).items() if path.startswith("final/")}
    assert tree(folder) == before | final
    assert {"final/results.json", "final/report.html", "final/comparison.png"} <= set(final)
    test, held = (json.loads((folder / f / "results.json").read_text(encoding="utf-8")) for f in ("", "final"))
    assert test["data_split"] == "test" and held["data_split"] == "final" and held["best_rule"] == test["best_rule"]
    assert {p["name"] for p in held["policies"]} == {p["name"] for p in test["policies"]}
    assert not {p["cost"] for p in held["policies"]} & {p["cost"] for p in test["policies"]}
    assert len(rows(tmp_path / "logs" / FINAL_LOG)) == 1  # no checkout here: the log folder has it
    other = read_comparison(folder).model_copy(update={"scenarios": 21})
    with pytest.raises(UserError, match="holds no finished comparison of this configuration"):
        compare_final(other, folder)


def test_a_log_that_cannot_be_written_opens_nothing(comparison: Finished, tmp_path, monkeypatch, mistake):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / FINAL_LOG).write_text("mine", encoding="utf-8")
    monkeypatch.setattr("os.write", lambda handle, data: 3)
    said = mistake("evaluate", comparison.folder / "ppo" / "OrderSplit-v1_1", "--final", "--scenarios", 5)
    assert f"{FINAL_LOG} cannot be written" in said
    assert (tmp_path / "docs" / FINAL_LOG).read_text(encoding="utf-8") == "mine"


def _note(folder: Path, times: int) -> None:
    evaluator = Evaluator("OrderSplit-v1", "notebook", 2, data_split=FINAL)
    for _ in range(times):
        note_final(evaluator, folder)


def test_processes_that_write_at_once_lose_no_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workers = [multiprocessing.get_context("fork").Process(target=_note, args=(tmp_path, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert len(rows(tmp_path / FINAL_LOG)) == 30


def test_the_commit_stands_in_the_line(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / FINAL_LOG).touch()
    (tmp_path / "code.py").write_text("a", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head, log = git("rev-parse", "--short=12", "HEAD"), tmp_path / "docs" / FINAL_LOG
    _note(tmp_path, 2)  # that the log itself has changed does not count
    (tmp_path / "code.py").write_text("b", encoding="utf-8")
    _note(tmp_path, 1)
    assert [row["commit"] for row in rows(log)] == [head, head, f"{head}+"]


def test_the_checkouts_log_is_whole():
    for row in rows(ROOT / "docs" / FINAL_LOG):
        assert all(row.values())
