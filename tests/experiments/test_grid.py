"""Grids: cells over one set of workers, each run trained once whatever is killed, and the table of what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sor_sb3.callbacks.tracking import TRACK_VARIABLE
from sor_sb3.errors import UserError
from sor_sb3.evaluation.grids import grid_results, sentences
from sor_sb3.experiments.comparison import Comparison
from sor_sb3.experiments.config import CompareConfig, compare_config
from sor_sb3.experiments.grid import grid_config, run_grid
from sor_sb3.experiments.reopen import read_comparison
from sor_sb3.market.loading import load_market, synthetic_presets
from sor_sb3.reports.grids import grid_markdown, grid_rows
from tests.callbacks.test_tracking import fake  # noqa: F401 (a fixture)
from tests.conftest import COMMAND, Finished, run_command
from tests.experiments.test_comparison import no_leftovers, session_members, wait_for
from tests.experiments.test_final import rows
from tests.test_cli import Mistakes, call, tree

ARGUMENTS = (
    "compare --market notebook,notebook_blind --env OrderSplit-v1,VenueSelect-v1 --algos a2c,reinforce --seeds 1 "
    "--timesteps 800 --n-envs 4 --scenarios 20 --set n_steps=50 --no-gains --name grid --no-progress"
).split()
CELLS = [f"{market}_{env}-v1" for market in ("notebook", "notebook_blind") for env in ("OrderSplit", "VenueSelect")]


def finished(log_dir: Path, name: str, *arguments: Any) -> Finished:
    """A grid by the real command."""
    done = run_command(*arguments, "--log-dir", log_dir, timeout_s=900)
    assert done.returncode == 0, done.stderr
    return Finished(log_dir / name, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two markets, two envs, two algorithms; read it, do not write into it."""
    return finished(tmp_path_factory.mktemp("grid"), "grid", *ARGUMENTS, "--workers", 2)


@pytest.fixture
def mistake(tmp_path, monkeypatch, capsys) -> Mistakes:
    return Mistakes(tmp_path, monkeypatch, capsys)


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def done_tasks(folder: Path) -> list[str]:
    """Every task that was done, as often as it was."""
    return [line.split("\t")[0] for line in (folder / "tasks" / "tasks.tsv").read_text().splitlines()[1:]]


# --- what it leaves -------------------------------------------------------------------------------


def test_a_grid_leaves_every_cell_and_the_table(grid: Finished):
    results, timing = read(grid.folder / "results.json"), read(grid.folder / "timing.json")
    assert [f"{cell['market']}_{cell['env']}" for cell in results["cells"]] == CELLS
    assert results["failed"] == results["skipped"] == []
    for name in CELLS:
        assert {"results.json", "report.html", "timing.json"} <= {f.name for f in (grid.folder / name).iterdir()}
        assert len(list((grid.folder / name).glob("*/*/done.json"))) == 2
    assert timing["sessions"] == 1 and timing["workers"] == 2
    assert 0.0 < timing["training_hours"] < 2 * timing["wall_hours"] and timing["cpu_hours"] > 0.0
    table = (grid.folder / "table.md").read_text(encoding="utf-8")
    assert table.startswith("# 4 comparisons, 20 test scenarios each") and "hours in 1 sessions" in table
    assert "a2c: better than the best model-free rule on" in grid.stdout
    assert "| notebook_blind | VenueSelect-v1 | reinforce |" in table
    left = [f.name for f in (grid.folder / "tasks").iterdir() if not f.name.endswith(".session.json")]
    assert left == ["tasks.tsv"]
    assert len(done_tasks(grid.folder)) == 4 * (1 + 2 + 1)


def test_a_cell_is_what_compare_makes_alone(grid: Finished, tmp_path):
    name = CELLS[1]
    alone = ["notebook" if a.startswith("notebook,") else a for a in ARGUMENTS]
    alone = ["VenueSelect-v1" if a.startswith("OrderSplit-v1,") else a for a in alone]
    done = run_command(*alone, "--workers", 1, "--log-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    mine, single = read(grid.folder / name / "results.json"), read(tmp_path / "grid" / "results.json")
    assert "rivals" not in single
    assert {key: value for key, value in mine.items() if key != "rivals"} == single
    for run in ("a2c", "reinforce"):
        where = Path(run) / "VenueSelect-v1_1" / "evaluations.npz"
        assert (grid.folder / name / where).read_bytes() == (tmp_path / "grid" / where).read_bytes()


def test_numbers_are_those_of_the_cells(grid: Finished):
    results = read(grid.folder / "results.json")
    for cell, name in zip(results["cells"], CELLS, strict=True):
        whole = read(grid.folder / name / "results.json")
        costs = {policy["name"]: policy["cost"] for policy in whole["policies"]}
        assert cell["rivals"]["model_free"]["name"] == whole["best_rule"]  # the notebook has no planner
        assert set(cell["rivals"]) == {"model_free", "oracle"}
        assert cell["margin"] == whole["margin"]
        for algo, policy in cell["policies"].items():
            assert policy["cost"] == costs[algo] and policy["timesteps"] == 800
            assert policy["seed_costs"] == pytest.approx([costs[algo]])
            assert policy["sd_of_seeds"] is None
            found = policy["against"]["model_free"]
            against = [c for c in whole["comparisons"] if (c["policy"], c["against"]) == (algo, whole["best_rule"])]
            assert [found["difference"], found["ci95"], found["verdict"]] == [
                against[0]["difference"],
                against[0]["ci95"],
                against[0]["verdict"],
            ]


def test_the_same_command_again_does_nothing_and_a_wider_one_adds(grid: Finished, tmp_path, monkeypatch, capsys):
    import shutil

    folder = Path(shutil.copytree(grid.folder, tmp_path / "grid"))
    before = tree(folder)
    assert call(monkeypatch, *ARGUMENTS, "--log-dir", tmp_path) == 0
    after = tree(folder)
    for name in (n for n in before if n.startswith(tuple(CELLS)) or n == "results.json"):
        assert after[name][0] == before[name][0]
        assert after[name] == before[name] or name in {"results.json", *(f"{cell}/config.yaml" for cell in CELLS)}
    assert read(folder / "timing.json")["sessions"] == 2
    fewer = ["notebook" if a.startswith("notebook,") else a for a in ARGUMENTS]
    assert call(monkeypatch, *fewer, "--log-dir", tmp_path) == 0  # cells of another command stay
    assert "2 comparisons" in capsys.readouterr().out
    assert len(read(folder / "results.json")["cells"]) == 2 and (folder / CELLS[3] / "results.json").is_file()
    assert call(monkeypatch, *ARGUMENTS, "--timesteps", 900, "--log-dir", tmp_path) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


def test_final_scores_each_cell_once(grid: Finished, tmp_path, monkeypatch, capsys):
    import shutil

    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(grid.folder, tmp_path / "logs" / "grid"))
    two = ["OrderSplit-v1" if a.startswith("OrderSplit-v1,") else a for a in ARGUMENTS]
    for _ in range(2):
        assert call(monkeypatch, *two, "--log-dir", "logs", "--final", "--workers", 1) == 0
        assert "2 comparisons, 20 final scenarios each" in capsys.readouterr().out
    log = rows(folder / "final_log.tsv")
    assert [(row["market"], row["env"]) for row in log] == [
        (m, "OrderSplit-v1") for m in ("notebook", "notebook_blind")
    ]
    assert log[0]["command"].endswith("--final --workers 1")
    final, test = (read(folder / into / "results.json") for into in ("final", ""))
    assert {cell["data_split"] for cell in final["cells"]} == {"final"}
    assert {cell["data_split"] for cell in test["cells"]} == {"test"}
    assert (folder / "final" / "table.md").is_file()


# --- mistakes, and what does not fit --------------------------------------------------------------


def test_mistakes_are_one_sentence_and_leave_nothing(mistake):
    both = ("--market", "notebook,us_equity")
    assert "did you mean 'us_equity'" in mistake("compare", "--market", "notebook,us_equty")
    assert "--market is empty" in mistake("compare", "--market", ",")
    assert "--env is empty" in mistake("compare", "--envs", "")
    assert "env 'OrderSlit-v1' is unknown" in mistake("compare", *both, "--env", "OrderSplit-v1,OrderSlit-v1")
    assert "algorithm 'pp' is unknown" in mistake("compare", *both, "--algos", "pp,a2c")
    assert "no algorithm is named" in mistake("compare", *both, "--algos", ",")
    assert "gama" in mistake("compare", *both, "--algos", "a2c", "--set", "gama=1")
    assert "holds no finished comparison of this grid" in mistake("compare", *both, "--algos", "a2c", "--final")
    market = mistake.folder / "mine.yaml"
    market.write_text("name: notebook\nmodel: notebook\n", encoding="utf-8")
    assert "mine.yaml" in mistake("compare", "--markets", f"notebook,{market}")


def small(market: Any, env: str, algos: list[str], **options: Any) -> CompareConfig:
    return compare_config(market, env, algos, 1, 0, 200, 4, 5, {"n_steps": 50}, **options)


def test_what_does_not_fit_is_named_and_left_out():
    markets = [load_market("notebook"), load_market("us_equity")]
    config = grid_config(markets, ["VenueSelect-v1", "OrderPlace-v1"], ["a2c", "sac"], _for_sac)
    assert [(c.market.name, c.env, [x.algo for x in c.learners]) for c in config.cells] == [
        ("notebook", "VenueSelect-v1", ["a2c"]),
        ("us_equity", "VenueSelect-v1", ["a2c"]),
        ("us_equity", "OrderPlace-v1", ["a2c", "sac"]),
    ]
    left = {(s.market, s.env, s.algo): s.reason for s in config.skipped}
    assert set(left) == {
        ("notebook", "VenueSelect-v1", "sac"),
        ("us_equity", "VenueSelect-v1", "sac"),
        ("notebook", "OrderPlace-v1", None),
    }
    assert "publishes no traded volume" in left["notebook", "OrderPlace-v1", None]
    assert "sac" in left["us_equity", "VenueSelect-v1", "sac"]


def _for_sac(market: Any, env: str, algos: list[str]) -> CompareConfig:
    return compare_config(market, env, algos, 1, 0, 200, None, 5)


def test_two_markets_of_one_name_are_refused():
    with pytest.raises(UserError, match="two markets named notebook"):
        grid_config([load_market("notebook")] * 2, ["OrderSplit-v1"], ["a2c"], small)


def test_synthetic_presets_are_found():
    assert "us_equity" in synthetic_presets()
    assert not [name for name in synthetic_presets() if "notebook" in name or "/" in name]


def test_a_failure_stops_its_cell_alone(tmp_path, monkeypatch):
    from sor_sb3.experiments import grid_tasks
    from sor_sb3.experiments.grid import check_failures

    monkeypatch.setattr("sor_sb3.experiments.engines.run_replaced", lambda worker, *_: worker())
    config = grid_config([load_market("notebook"), load_market("notebook_blind")], ["OrderSplit-v1"], ["a2c"], small)
    with monkeypatch.context() as patch:
        real = grid_tasks.train

        def fail(run: Any, *arguments: Any, **options: Any) -> Any:
            if run.market.name == "notebook_blind":
                raise ZeroDivisionError("by zero")
            return real(run, *arguments, **options)

        patch.setattr(grid_tasks, "train", fail)
        results, _ = run_grid(config, tmp_path / "grid", 1, extras=())
    assert [cell["market"] for cell in results["cells"]] == ["notebook"]
    assert results["failed"] == [
        {"market": "notebook_blind", "env": "OrderSplit-v1", "algo": "a2c", "reason": "ZeroDivisionError: by zero"}
    ]
    with pytest.raises(Exception, match="notebook_blind OrderSplit-v1: ZeroDivisionError: by zero; "):
        check_failures(results, tmp_path)
    results, _ = run_grid(config, tmp_path / "grid", 1, extras=())
    assert len(results["cells"]) == 2 and results["failed"] == []


def test_every_run_and_every_cell_of_a_grid_is_tracked(fake, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sor_sb3.experiments.engines.run_replaced", lambda worker, *_: worker())
    monkeypatch.delenv(TRACK_VARIABLE)
    one = ["a2c" if a == "a2c,reinforce" else a for a in ARGUMENTS]
    few = ["OrderSplit-v1" if a.startswith("OrderSplit-v1,") else a for a in one]
    assert call(monkeypatch, *few, "--timesteps", 200, "--track", "fake", "--log-dir", tmp_path) == 0
    runs = {(run.identity.group, run.identity.name): run for run in fake}
    cells = ("notebook_OrderSplit-v1", "notebook_blind_OrderSplit-v1")
    assert set(runs) == {(cell, name) for cell in cells for name in (cell, "a2c/OrderSplit-v1_1")}
    for cell in cells:
        results, whole = read(tmp_path / "grid" / cell / "results.json"), runs[cell, cell]
        costs = {f"test/{policy['name']}/cost": policy["cost"] for policy in results["policies"]}
        assert costs.items() <= whole.steps[0][1].numbers.items()
        assert whole.done and {"results.json", "report.html"} <= set(whole.files["results"])
        assert "eval/cost" in runs[cell, "a2c/OrderSplit-v1_1"].tags("numbers")
    assert TRACK_VARIABLE not in os.environ


def test_a_grids_folder_is_told_from_others(grid: Finished, monkeypatch, capsys):
    with pytest.raises(UserError, match="is a grid of comparisons; give one of them, such as"):
        read_comparison(grid.folder)
    assert call(monkeypatch, "report", grid.folder / CELLS[0]) == 0


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_killed_again_and_again_each_run_is_trained_once(grid: Finished, tmp_path):
    folder, output, arguments = tmp_path / "grid", tmp_path / "output.txt", [*ARGUMENTS, "--log-dir", str(tmp_path)]

    def done() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in folder.glob("*/*/*/done.json")}

    def has(wanted: int) -> bool:
        return len(done()) >= wanted

    def is_gone(session: int) -> bool:
        return not session_members(session)

    seen: dict[Path, int] = {}
    for wanted in range(1, 8, 2):
        with output.open("wb") as file:
            process = subprocess.Popen([str(COMMAND), *arguments], stdout=file, stderr=file, start_new_session=True)
        with no_leftovers(process):
            wait_for(partial(has, wanted), f"{wanted} runs to end", 300)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wait_for(partial(is_gone, process.pid), "everything to die", 20)
        assert seen.items() <= done().items()
        seen = done()
    finished = run_command(*arguments, timeout_s=600)
    assert finished.returncode == 0, finished.stderr
    assert seen.items() <= done().items()
    assert (folder / "results.json").read_bytes() == (grid.folder / "results.json").read_bytes()
    for name in CELLS:
        assert (folder / name / "results.json").read_bytes() == (grid.folder / name / "results.json").read_bytes()
    assert read(folder / "timing.json")["sessions"] == 5
    trained = [task for task in done_tasks(folder) if task.startswith("train-")]
    assert len(trained) == len(set(trained)) <= 8


# --- the table ------------------------------------------------------------------------------------


def against(difference: float, half: float, verdict: str) -> dict[str, Any]:
    return {"difference": difference, "ci95": [difference - half, difference + half], "verdict": verdict}


def a_cell(market: str, env: str, **policies: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"market": market, "env": env, "cost_unit": "bps", "data_split": "final", "scenarios": 1000},
        "margin": 0.01,
        "rivals": {"model_free": {"name": "pro_rata"}, "planner": {"name": "planner"}},
        "policies": policies,
    }


def a_policy(cost: float, sd: float | None, **found: dict[str, Any]) -> dict[str, Any]:
    return {"cost": cost, "cost_ci95": [cost - 0.05, cost + 0.05], "sd_of_seeds": sd, "against": found}


HAND_MADE = grid_results(
    [
        a_cell(
            "m1",
            "OrderSplit-v1",
            ppo=a_policy(
                1.234,
                0.011,
                model_free=against(-0.05, 0.012, "better"),
                planner=against(0.02, 0.012, "worse"),
                planner_off=against(-0.001, 0.004, "equivalent"),
                oracle=against(0.4, 0.05, "worse"),
            ),
        ),
        a_cell(
            "m1",
            "OrderExecute-v1",
            ppo=a_policy(1.3, 0.3, model_free=against(-0.05, 0.012, "better"), oracle=against(0.4, 0.05, "worse")),
        ),
        a_cell("m2", "OrderSplit-v1", ppo=a_policy(2.0, None, model_free=against(0.05, 0.012, "worse"))),
        a_cell(
            "m2",
            "OrderExecute-v1",
            ppo=a_policy(2.0, None, model_free=against(0.0, 0.03, "no significant difference")),
        ),
    ],
    [{"market": "m3", "env": "OrderPlace-v1", "algo": None, "reason": "it cannot"}],
)
TABLE = """\
# 4 comparisons, 1,000 final scenarios each; costs paired by scenario, 95 % intervals

| market | env | algorithm | cost | sd of seeds | less best model-free rule | less planner | less planner, 50 % off \
| less oracle |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| m1 | OrderSplit-v1 | ppo | 1.23 bps | 0.011 | −0.050 [−0.062, −0.038] better (pro_rata) \
| +0.020 [0.008, 0.032] worse | −0.001 [−0.005, 0.003] equivalent | +0.40 [0.35, 0.45] worse |
| m1 | OrderExecute-v1 | ppo | 1.30 bps | 0.30 | −0.050 [−0.062, −0.038] better (pro_rata) | – | – \
| +0.40 [0.35, 0.45] worse |
| m2 | OrderSplit-v1 | ppo | 2.00 bps | – | +0.050 [0.038, 0.062] worse (pro_rata) | – | – | – |
| m2 | OrderExecute-v1 | ppo | 2.00 bps | – | 0.000 [−0.030, 0.030] no significant difference (pro_rata) | – | – | – |

- ppo: better than the best model-free rule on 2 of 4 (equivalent on 0, no significant difference on 1, worse on 1); \
nowhere worse by more than the margin: no (m2 OrderSplit-v1); an interval reaches beyond the margin on 1.
- ppo: better than the best model-free rule in at least two envs on 1 of 2 markets.
- ppo: against the planner, 50 % off, of 1: better on 0, equivalent on 1, no significant difference on 0, worse on 0.
- ppo: training seeds' sd at most a third of the gain on 1 of 4.
- left out: m3 OrderPlace-v1: it cannot
- Margins: m1 OrderSplit-v1 ±0.010 bps, m1 OrderExecute-v1 ±0.010 bps, m2 OrderSplit-v1 ±0.010 bps, \
m2 OrderExecute-v1 ±0.010 bps.
- Took 1 hour.
"""


def test_the_table():
    assert grid_markdown(HAND_MADE, "Took 1 hour.") == TABLE


def test_counts_and_cells():
    of = HAND_MADE["algorithms"]["ppo"]
    assert of["model_free"] == {"better": 2, "equivalent": 0, "no significant difference": 1, "worse": 1}
    assert (of["worse_beyond_margin"], of["not_excluded"]) == (["m2 OrderSplit-v1"], ["m2 OrderExecute-v1"])
    assert (of["markets"], of["markets_better_in_two_envs"], of["steady"]) == (2, 1, 1)
    assert len(grid_rows(HAND_MADE)[1]) == 4
    mild = grid_results([a_cell("m", "e", ppo=a_policy(1.0, None, model_free=against(0.005, 0.001, "worse")))], [])
    assert "nowhere worse by more than the margin: yes." in sentences(mild)[0]


# --- rules alone ----------------------------------------------------------------------------------

RULES_ALONE = (
    "compare --market notebook,notebook_blind --env VenueSelect-v1 --algos none --rules all --scenarios 20 "
    "--name rules --no-progress"
).split()


@pytest.fixture(scope="module")
def rules_alone(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two markets, no algorithm; read it, do not write into it."""
    return finished(tmp_path_factory.mktemp("rules"), "rules", *RULES_ALONE, "--workers", 1)


def test_every_cell_is_scored_with_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("sor_sb3.experiments.engines.run_replaced", lambda worker, *_: worker())
    few = ["standard" if a == "all" else a for a in RULES_ALONE]
    assert call(monkeypatch, *few, "--robustness", "--log-dir", tmp_path) == 0
    for market in ("notebook", "notebook_blind"):
        assert "robustness" in read(tmp_path / "rules" / f"{market}_VenueSelect-v1" / "results.json")


def test_rules_alone_are_compared_with_one_of_them(rules_alone: Finished):
    results = read(rules_alone.folder / "results.json")
    assert [cell["market"] for cell in results["cells"]] == ["notebook", "notebook_blind"]
    assert results["algorithms"] == {} and results["failed"] == results["skipped"] == []
    for cell in results["cells"]:
        config = compare_config(load_market(cell["market"]), cell["env"], [], scenarios=20, rules=["all"])
        evaluator = Comparison(config, rules_alone.folder).test_evaluator()
        evaluation = evaluator.evaluate(evaluator.policies(config.routers))
        assert cell["digest"] == config.digest() and cell["rules"]["against"] == "net_price_sweep"
        assert list(cell["rules"]["policies"]) == evaluation.names() and len(evaluation.names()) > 8
        for name, of in cell["rules"]["policies"].items():
            difference = evaluation.difference(name, "net_price_sweep")
            assert (of["cost"], of["difference"]) == (evaluation.cost(name).mean, difference.mean)
            assert of["ci95"] == difference.ci95
        left = {file.name for file in (rules_alone.folder / f"{cell['market']}_VenueSelect-v1").iterdir()}
        assert left == {"config.yaml", "results.json", "comparison.png", "timing.json"}
    table = (rules_alone.folder / "table.md").read_text(encoding="utf-8")
    assert table.startswith("# 2 comparisons, 20 test scenarios each")
    assert "## VenueSelect-v1: cost less that of net_price_sweep; * is the cheapest rule" in table
    assert table.count("\n| net_price_sweep | 0 | 0 |") == 1
    assert "net_price_sweep; * is the cheapest rule" in rules_alone.stdout


def test_the_same_command_scores_no_rule_twice(rules_alone: Finished, tmp_path, monkeypatch, capsys):
    import shutil

    folder = Path(shutil.copytree(rules_alone.folder, tmp_path / "rules"))
    shutil.rmtree(folder / "notebook_blind_VenueSelect-v1")
    assert call(monkeypatch, *RULES_ALONE, "--workers", 1, "--log-dir", tmp_path) == 0
    assert (folder / "results.json").read_bytes() == (rules_alone.folder / "results.json").read_bytes()
    assert len(done_tasks(folder)) == 2 * 2 + 2


def test_a_report_of_rules_alone_is_made_when_it_is_asked_for(tmp_path, monkeypatch, capsys):
    arguments = ["notebook" if a.startswith("notebook,") else a for a in RULES_ALONE]
    assert call(monkeypatch, *arguments, "--log-dir", tmp_path) == 0
    assert f"sor-sb3 report {tmp_path / 'rules'}" in capsys.readouterr().out
    assert not (tmp_path / "rules" / "report.html").exists()
    assert call(monkeypatch, "report", tmp_path / "rules") == 0
    assert "net_price_sweep" in (tmp_path / "rules" / "report.md").read_text(encoding="utf-8")
    assert call(monkeypatch, "explain", tmp_path / "rules", "--scenario", 10_000, "--step", 1) == 0


def test_what_is_of_algorithms_is_refused_where_there_are_none(mistake):
    of = ("compare", "--market", "notebook", "--env", "VenueSelect-v1", "--algos", "none")
    assert "--algos none trains nothing" in mistake(*of, "--timesteps", 100)
    assert "--algos none trains nothing" in mistake(*of, "--set", "n_steps=50")
    assert "is for what is trained" in mistake(*of, "--judge", "quotes.csv")


def cell_of_rules(market: str, env: str, *policies: tuple[str, float, float]) -> dict[str, Any]:
    found = {
        name: {"cost": 2.0 + d, "cost_ci95": [1.9 + d, 2.1 + d], "difference": d, "ci95": [d - half, d + half]}
        for name, d, half in policies
    }
    base = a_cell(market, env) | {"oracle": "snapshot_oracle", "rules": {"against": "sweep", "policies": found}}
    return {key: value for key, value in base.items() if key not in ("margin", "rivals")}


TABLE_OF_RULES = """\
# 3 comparisons, 1,000 final scenarios each; costs paired by scenario, 95 % intervals

## OrderSplit-v1: cost less that of sweep; * is the cheapest rule

| rule | m1, bps | m2, bps |
| --- | --- | --- |
| cost of sweep | 2.00 [1.90, 2.10] | 2.00 [1.90, 2.10] |
| snapshot_oracle | −1.00 [−1.10, −0.90] | – |
| sweep | 0 | 0 * |
| ucb1 | −0.50 [−0.60, −0.40] * | +0.50 [0.40, 0.60] |

## OrderPlace-v1: cost less that of sweep; * is the cheapest rule

| rule | m1, bps |
| --- | --- |
| cost of sweep | 2.00 [1.90, 2.10] |
| sweep | 0 * |

"""


def test_the_table_of_rules():
    sweep = ("sweep", 0.0, 0.0)
    cells = [
        cell_of_rules("m1", "OrderSplit-v1", ("snapshot_oracle", -1.0, 0.1), ("ucb1", -0.5, 0.1), sweep),
        cell_of_rules("m2", "OrderSplit-v1", sweep, ("ucb1", 0.5, 0.1)),
        cell_of_rules("m1", "OrderPlace-v1", sweep),
    ]
    assert grid_markdown(grid_results(cells, [])) == TABLE_OF_RULES
