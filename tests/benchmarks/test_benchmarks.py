"""Every topic of `make bench` in its smallest form, and the page that is made of them."""

from __future__ import annotations

import json
import sys
from typing import Any

import bench_decision
import bench_evaluation
import bench_grid
import bench_growth
import bench_notebook
import bench_simulator
import bench_startup
import bench_training
import measuring
import numpy as np
import pytest
import run_all
import targets
from notebook_loop import STEPS, FixedStates, NotebookEnv, NotebookLearner

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def topics() -> dict[str, dict]:
    """Results of every topic that is measured here, in as small a form as there is."""
    small = (
        (measuring, "time_once", one_run),
        (bench_simulator, "QUICK_BATCHES", (1, 8)),
        (bench_simulator, "PROCESSES", (2,)),
        (bench_training, "ALGORITHMS", {"A2C": bench_training.A2C}),
        (bench_training, "BATCH_ENVS", 16),
        (bench_evaluation, "QUICK_SCENARIOS", (20, 2)),
        (bench_notebook, "QUICK_BUDGET_S", 0.2),
        (bench_growth, "QUICK_VENUES", (2, 8)),
        (bench_growth, "QUICK_ENVS", (16, 32)),
        (bench_growth, "QUICK_HORIZONS", (2, 4)),
        (bench_growth, "N_ENVS", 16),
        (bench_decision, "POLICIES", {"PPO MlpPolicy": bench_decision.POLICIES["PPO MlpPolicy"]}),
        (bench_decision, "QUICK", bench_decision.Plan(2, {1: 20, bench_decision.MANY: 1})),
        (bench_startup, "first_steps", lambda rounds: ([18.0], [2.0])),
        (bench_grid, "compare", lambda config, folder, workers, extras: PLAYED.append((workers, config.runs))),
        (bench_grid, "run_grid", lambda grid, folder, workers, extras: PLAYED.append((workers, runs_of(grid)))),
    )
    names = ("simulator", "training", "evaluation", "notebook", "growth", "startup", "grid", "decision")
    modules = [sys.modules[f"bench_{name}"] for name in names]
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in small:
            patch.setattr(module, name, value)
        return {module.__name__: module.measure(True) for module in modules}


PLAYED: list[tuple[int, list[Any]]] = []  # workers and runs of each case of bench_grid


def runs_of(grid: Any) -> list[Any]:
    return [run for cell in grid.cells for run in cell.runs]


def one_run(case: measuring.Case, at_least_s: float) -> None:
    """In place of `time_once`: once is enough."""
    units = case.run()
    assert units > 0
    case.per_s["cpu"].append(float(units))
    case.per_s["wall"].append(float(units))


@pytest.fixture(scope="module")
def folder(topics, tmp_path_factory):
    """The topics' JSON files."""
    folder = tmp_path_factory.mktemp("bench")
    for name, results in topics.items():
        text = json.dumps(measuring.saved(sys.modules[name], results, True, measuring.machine()), allow_nan=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


# ------------------------------------------------------------------------------------------------------ topics


def test_env_steps_are_counted_and_each_batch_is_a_row(topics):
    rows = {row["case"]: row for row in topics["bench_simulator"]["rows"]}
    horizon = load_market(bench_simulator.MARKET).order.horizon_steps
    for n in (1, 8):
        assert rows[f"ours, VecEnv x {n}"]["per_s"][0] == horizon * n
        assert rows[f"ours, two threads x {n}"]["clock"] == "wall"
    assert rows["plain env, SubprocVecEnv x 2"]["clock"] == "wall"
    assert [line["n_envs"] for line in bench_simulator.by_batch(topics["bench_simulator"]["rows"])] == [1, 8]


def test_training_compares_equal_rollouts_and_batches():
    for name in ("PPO", "A2C", "REINFORCE"):
        cases = {case.name: case for case in bench_training.algorithm_cases(name, quick=False)}
        compared = [case for case in cases.values() if "to_same" in case.against]
        assert len(compared) == 2
        for case in compared:
            same = cases[case.against["to_same"]]
            assert (case.facts["rollout"], case.facts["batch"]) == (same.facts["rollout"], same.facts["batch"])
    assert next(iter(bench_training.algorithm_cases("PPO", quick=False))).facts["rollout"] == 8 * 2048


def test_training_says_so_where_sbx_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "sbx", None)
    cases, said = bench_training.sbx_cases(quick=True)
    assert not cases and "left out" in said


def test_evaluation_is_extrapolated_per_scenario(topics):
    for row in topics["bench_evaluation"]["rows"]:
        assert row["s_per_1000"][0] == pytest.approx(1000 * row["policies"] / row["per_s"][0])


def test_the_import_is_light_and_every_process_has_a_row(topics):
    assert topics["bench_startup"]["loaded"] == []
    assert len(topics["bench_startup"]["rows"]) == len(bench_startup.PROGRAMS) + 3


def test_a_grid_and_the_pool_train_as_much(topics):
    assert sorted(workers for workers, _ in PLAYED) == [1, 1, 2, 2]
    for _, runs in PLAYED:
        assert len({run.digest() for run in runs}) == topics["bench_grid"]["runs"]
        assert {run.timesteps for run in runs} == {topics["bench_grid"]["timesteps"]}
    assert [row["case"] for row in topics["bench_grid"]["rows"] if "to_one" in row] == [
        "local pool, 2 workers",
        bench_grid.TWO_WORKERS,
    ]


# ---------------------------------------------------------------------------------------------- the notebook's loop


def test_the_notebook_s_env_scores_random_and_the_optimum_as_they_are_known():
    states = FixedStates(400)
    error = states.standard_error()
    assert abs(states.random_cost() - bench_notebook.RANDOM) < 4 * error
    assert abs(states.cheapest_cost() - bench_notebook.OPTIMUM) < 4 * error


def test_both_sides_score_the_same_routers_alike(topics):
    checks = topics["bench_notebook"]["checks"]
    error = float(np.hypot(checks["standard_error"], checks["ours_standard_error"]))
    assert abs(checks["theirs_random"] - checks["ours_random"]) < 4 * error
    assert abs(checks["theirs_cheapest"] - checks["ours_cheapest"]) < 4 * error


def test_the_notebook_s_env_charges_what_it_showed():
    env = NotebookEnv(3)
    shown = env.reset()
    for step in range(1, STEPS + 1):
        spread, liquidity, latency = shown[:3], 200.0 * shown[3:6], 10.0 * shown[6:]
        shown, reward, done = env.step(1)
        assert -reward == pytest.approx(spread[1] + 0.01 * 100 / liquidity[1] + 0.001 * latency[1], abs=1e-6)
        assert done == (step == STEPS)


def test_the_notebook_s_loop_learns_with_discount_0():
    states, learner = FixedStates(50), NotebookLearner(1, gamma=0.0)
    for _ in range(150):
        learner.episode()
    assert learner.steps == 150 * STEPS
    assert states.mode_cost(learner.policy) < bench_notebook.RANDOM - 0.05


# ------------------------------------------------------------------------------------------------------ growth


@pytest.mark.parametrize("n_venues", [2, 8, 20])
def test_markets_that_grow_have_so_many_venues_and_the_same_size_in_all(n_venues):
    market = bench_growth.market_of(n_venues)
    base = load_market("us_equity")
    assert isinstance(base, SyntheticMarket)
    total = sum(venue.size_shares or 0.0 for venue in base.venues if venue.dark is None)
    assert market.n_venues == n_venues and not market.has_dark
    assert sum(venue.size_shares or 0.0 for venue in market.venues) == pytest.approx(total)


def test_the_deviation_from_a_line_is_relative_to_the_line():
    fit = bench_growth.line_through([2, 4, 8, 16], [0.5, 0.9, 1.7, 3.3])
    assert fit["a_ms"] == pytest.approx(100.0) and fit["b_ms"] == pytest.approx(200.0)
    assert fit["deviation_percent"] == pytest.approx(0.0, abs=1e-6)
    bent = bench_growth.line_through([2, 4, 8, 16, 32], [x**2 for x in (2, 4, 8, 16, 32)])
    assert bent["deviation_percent"] > 20.0


def test_growth_has_a_point_for_every_size_and_says_what_an_env_holds(topics):
    results = topics["bench_growth"]
    assert {row["x"] for row in results["rows"] if row["series"] == "venues"} == {2, 8}
    assert {row["x"] for row in results["rows"] if row["series"] == "horizon"} == {2, 4}
    assert bench_growth.with_horizon(40).order.horizon_steps == 40
    assert results["memory"][0]["bytes"] > 10 * 100


# -------------------------------------------------------------------------------------------------------- page


def test_the_page_is_rebuilt_from_the_files_with_every_row(topics, folder, tmp_path):
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(f"# By hand\n\n{run_all.BEGIN}\nold\n{run_all.END}\n\nAfter.\n", encoding="utf-8")
    run_all.rewrite(page, folder, page.parent / "images")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# By hand\n") and text.endswith("\nAfter.\n") and "\nold\n" not in text
    for name, results in topics.items():
        module = sys.modules[name]
        assert f"## {module.TITLE}\n" in text
        for sheet in module.sheets(results):
            for cells in sheet.cells():
                assert "| " + " | ".join(cells) + " |" in text
    for target in targets.TARGETS:
        assert f"| {target.what} |" in text
    for image in (page.parent / "images").glob("*.svg"):
        assert f"(images/{image.name})" in text
    assert len(list((page.parent / "images").glob("*.svg"))) == len(topics)
    assert "A quick look" in text and "python benchmarks/bench_growth.py --quick" in text
    before = {file: file.read_bytes() for file in page.parent.rglob("*.*")}
    run_all.rewrite(page, folder, page.parent / "images")
    assert {file: file.read_bytes() for file in page.parent.rglob("*.*")} == before


def test_a_page_without_markers_is_left_as_it_is(folder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# By hand\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        run_all.rewrite(page, folder, tmp_path)
    assert page.read_text() == "# By hand\n"


def test_nothing_measured_makes_a_page_that_says_so(tmp_path):
    run_all.rewrite(tmp_path / "page.md", tmp_path, tmp_path)
    assert "Nothing is measured yet" in (tmp_path / "page.md").read_text()


def test_targets_are_judged_and_what_is_not_measured_is_said(topics):
    rows_of_decision = [
        {
            "policy": policy,
            "path": path,
            "batch": batch,
            "p50_us": p50,
            "p99_us": 20.0,
            "ratio_p50": ratio,
            "ratio_p99": 20.0,
        }
        for policy, path, batch, p50, ratio in (
            ("PPO MlpPolicy", "OnnxPolicy", 1, 8.0, 40.0),
            ("A2C MlpPolicy", "OnnxPolicy", 1, 9.0, 30.0),
            ("VenuePolicy", "OnnxPolicy", 1, 14.5, 20.0),
            ("VenuePolicy", "OnnxPolicy", 1000, 900.0, 2.0),
            ("VenuePolicy", "model.predict", 1, 90.0, 1.0),
        )
    ]
    found = topics | {"bench_decision": {"rows": rows_of_decision}}
    rows = {target.what: targets.judge(target, found) for target in targets.TARGETS}
    assert rows["a decision of any policy, p50"]["measured"] == "14.5 us (VenuePolicy)"
    assert rows["a decision of MlpPolicy, p50"]["measured"] == "9 us (A2C MlpPolicy)"
    assert rows["the same to model.predict, p50"]["measured"] == "30x (A2C MlpPolicy)"
    assert rows["the same to model.predict, p50"]["met"] == rows["a decision of any policy, p50"]["met"] == "yes"
    assert rows["time to 95 %, to SB3's defaults"] == {
        "what": "time to 95 %, to SB3's defaults",
        "goal": "at least 8x",
        "measured": "not measured",
        "met": "-",
    }
    assert rows["decisions / s of a core, 1,024 envs, OrderSplit-v1, net_price_sweep"]["met"] == "-"
    assert rows["of torch and numba it loads"]["met"] == "yes"


def test_a_time_that_is_only_a_bound_is_said_to_be_one():
    lines = [{"arm": "sb3_defaults", "ratio": ">= 12.0", "ratio_value": 12.0, "seeds": 5}]
    target = next(target for target in targets.TARGETS if target.what == "time to 95 %, to SB3's defaults")
    row = targets.judge(target, {"time_to_result": {"gaps": {"mlp_ours": {"lines": lines}}}})
    assert row["met"] == "yes" and ">= 12.0" in row["measured"]


def test_a_topic_that_breaks_does_not_stop_the_others(tmp_path, monkeypatch):
    (tmp_path / "good.py").write_text("import sys; open(sys.argv[-1], 'w').write('{}')")
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    assert run_all.measure(["bad", "good"], tmp_path, quick=True) == ["bad"]
    assert (tmp_path / "good.json").is_file()
