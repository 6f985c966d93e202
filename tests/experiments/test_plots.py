"""Figures of folders: files, words in them, intervals, and what is said of a wrong folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from sor_sb3.errors import UserError
from sor_sb3.evaluation.statistics import mean_with_interval
from sor_sb3.experiments import plots
from sor_sb3.experiments.config import GridConfig, compare_config
from sor_sb3.experiments.grid import _claim
from sor_sb3.experiments.plots import collect, learning_panels, write_plots
from sor_sb3.market.loading import load_market
from sor_sb3.reports.plots import PLOTS, Learning, curves_with_intervals
from sor_sb3.reports.plots import learning_curves as draw_learning_curves
from tests.conftest import RUN_NAMES, Finished
from tests.test_cli import call, tree

PAGE = (Path(__file__).parents[2] / "docs" / "plots.md").read_text(encoding="utf-8")


def words(svg: Path) -> str:
    """What a search in the picture finds."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def drawn(comparison: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plots") / "new"
    written, left_out = write_plots([comparison.folder], out)
    assert not left_out
    assert written == [out / f"{kind}.{suffix}" for kind in PLOTS for suffix in ("png", "svg")]
    return out


@pytest.mark.parametrize("kind", PLOTS)
def test_files_are_whole_pictures(kind, drawn):
    assert (drawn / f"{kind}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    svg = (drawn / f"{kind}.svg").read_text(encoding="utf-8")
    assert svg.rstrip().endswith("</svg>")
    assert kind.replace("_", " ") in svg  # its title
    assert not re.search(r"nan|inf\b", words(drawn / f"{kind}.svg"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("learning_curves", ["training steps (decisions)", "validation cost, notebook units", "ppo (2 seeds)"]),
        ("performance_profiles", ["runs with a higher score, %", "score tau", "reinforce"]),
        ("aggregate_bars", ["interquartile mean", "optimality gap", "P(better than the best rule)", "(the best rule)"]),
        ("cost_distributions", ["cost of a parent order, notebook units per episode", "reinforce", "snapshot_oracle"]),
    ],
)  # fmt: skip
def test_axes_are_labelled_with_units(kind, said, drawn):
    found = words(drawn / f"{kind}.svg")
    for text in said:
        assert text in found, text
    assert "notebook, OrderSplit-v1" in found


def test_verdicts_are_those_of_the_results(comparison, drawn):
    results = json.loads((comparison.folder / "results.json").read_text(encoding="utf-8"))
    for kind in ("aggregate_bars", "cost_distributions"):
        for found in results["comparisons"]:
            if found["against"] == results["best_rule"]:
                assert found["wording"] in words(drawn / f"{kind}.svg")


def test_the_same_folders_give_the_same_bytes(comparison, drawn, tmp_path):
    written, _ = write_plots([comparison.folder], tmp_path)
    for file in written:
        assert file.read_bytes() == (drawn / file.name).read_bytes(), file.name


def test_files_that_are_there_stay(comparison, tmp_path):
    (tmp_path / "aggregate_bars.svg").write_text("mine")
    with pytest.raises(UserError, match=r"aggregate_bars.svg exists; give another --out, or --replace"):
        write_plots([comparison.folder], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["aggregate_bars.svg"]
    write_plots([comparison.folder], tmp_path, ["aggregate_bars"], ["svg"], replace=True)
    assert "<svg" in (tmp_path / "aggregate_bars.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", PLOTS)
def test_a_function_a_figure(kind, comparison):
    figure = getattr(plots, kind)(str(comparison.folder), comparison.folder)  # the same folder counts once
    assert isinstance(figure, Figure)
    assert len(figure.axes) == (3 if kind == "aggregate_bars" else 1)
    assert all(axes.get_xlabel() for axes in figure.axes)


# ------------------------------------------------------------------------------------------------- which folders


def test_runs_alone_have_curves_and_no_report(comparison, tmp_path):
    runs = [comparison.folder / name for name in RUN_NAMES]
    written, left_out = write_plots(runs, tmp_path, formats=["svg"])
    assert [file.name for file in written] == ["learning_curves.svg"]
    assert len(left_out) == 3 and all("sor-sb3 report" in sentence for sentence in left_out)
    assert "ppo (2 seeds)" in words(written[0])  # runs beside each other are an algorithm's seeds


def test_a_folder_of_folders(comparison):
    above, itself = collect([comparison.folder.parent]), collect([comparison.folder])
    assert [folder for _, folder, _ in above.runs] == [folder for _, folder, _ in itself.runs]
    assert len(above.reports) == 1


def test_two_comparisons_of_one_market_share_a_panel(comparison, tmp_path):
    other = tmp_path / "again"
    shutil.copytree(comparison.folder, other)
    (panel,) = learning_panels(collect([comparison.folder, other]))
    assert set(panel.runs) == {f"{a}, {of}" for a in ("ppo", "reinforce") for of in ("comparison", "again")}
    assert len(plots.performance_profiles(comparison.folder, other).axes) == 2
    assert len(plots.aggregate_bars(comparison.folder, other).axes) == 6


WRONG: list[tuple[str, Any, str]] = [
    ("nowhere", lambda folder: None, "is no run folder: it has no config.yaml"),
    ("empty", lambda folder: folder.mkdir(), "holds no training run and no comparison; give a folder that train"),
    ("search", lambda folder: _config(folder, "kind: tune"), "config.yaml"),
    ("damaged", lambda folder: _config(folder, ":"), "is damaged"),
]


def _config(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(text)


@pytest.mark.parametrize(("name", "make", "said"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_wrong_folder_is_one_sentence(name, make, said, tmp_path, monkeypatch, capsys):
    make(tmp_path / name)
    before = tree(tmp_path)
    assert call(monkeypatch, "plot", tmp_path / name, "--out", tmp_path / "out") == 2
    message = capsys.readouterr().err.strip()
    assert said in message and "\n" not in message and str(tmp_path / name) in message
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--figures", "histograms"], "kind 'histograms' is unknown; expected one of learning_curves"),
        (["--formats", "gif"], "format 'gif' is unknown; expected one of png, svg"),
    ],
)
def test_wrong_options(options, said, comparison, monkeypatch, capsys):
    assert call(monkeypatch, "plot", comparison.folder, *options) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("report.json", "{}", "lacks aggregates, baselines, distributions, featured, results; write it again"),
        ("report.json", "{", "report.json is damaged"),
        (f"{RUN_NAMES[0]}/evaluations.npz", "x", "evaluations.npz is damaged"),
        (f"{RUN_NAMES[0]}/evaluations.npz", None, "evaluations.npz is missing"),
    ],
)
def test_damaged_files_are_named(file, text, said, comparison, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(comparison.folder, folder)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=said):
        write_plots([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_without_a_scale_are_left_out(comparison, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(comparison.folder, folder)
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (folder / "report.json").write_text(json.dumps(data | {"aggregates": None}))
    written, left_out = write_plots([folder], tmp_path / "out", formats=["svg"])
    assert [file.stem for file in written] == ["learning_curves", "cost_distributions"]
    assert all("scores have no scale" in sentence for sentence in left_out)


# ----------------------------------------------------------------------------------------------------- intervals


def test_the_market_s_own_move_is_no_part_of_the_interval():
    """Two curves that differ by a constant on scenarios that differ by much: the interval is that of the rest."""
    rng = np.random.default_rng(0)
    steps, moves = np.array([0, 100]), 50.0 * rng.normal(size=200)
    noise = rng.normal(size=(2, 3, 2, 200))
    runs = {
        label: [(steps, mean + moves + noise[of, seed]) for seed in range(3)]
        for of, (label, mean) in enumerate({"a": 1.0, "b": 2.0}.items())
    }
    found = curves_with_intervals(runs)
    raw = mean_with_interval(np.stack([costs[-1] for _, costs in runs["a"]]))
    assert found["a"]["mean"][-1] == pytest.approx(raw.mean)
    width = found["a"]["high"][-1] - found["a"]["low"][-1]
    assert width < 0.1 * (raw.ci95_high - raw.ci95_low)
    assert found["a"]["high"][-1] < found["b"]["low"][-1]


def test_seeds_evaluated_at_other_steps_are_read_between():
    runs = {"a": [(np.array([0, 10]), np.array([[4.0, 6.0], [2.0, 4.0]])), (np.array([0, 5, 10]), np.ones((3, 2)))]}
    found = curves_with_intervals(runs)
    assert found["a"]["steps"].tolist() == [0, 10]
    np.testing.assert_allclose(found["a"]["mean"], [3.0, 2.0])


def test_one_scenario_has_a_curve_without_a_band():
    found = curves_with_intervals({"a": [(np.array([0, 10]), np.array([[4.0], [2.0]]))]})
    assert found["a"]["low"].tolist() == found["a"]["mean"].tolist() == [4.0, 2.0]


def test_a_panel_a_market():
    curve = {"ppo": [(np.array([0, 10]), np.array([[4.0, 6.0], [2.0, 4.0]]))]}
    figure = draw_learning_curves([Learning(f"market {i}", "bps", curve, {"pro_rata": 3.0}) for i in range(3)])
    assert [axes.get_title() for axes in figure.axes] == ["market 0", "market 1", "market 2"]
    assert all(axes.get_ylabel() == "validation cost, bps" for axes in figure.axes)


# ------------------------------------------------------------------------------------------------------ the page


def test_commands_of_the_page_run(comparison, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(comparison.folder, "logs/us_equity_OrderSplit-v1")
    commands = re.findall(r"^\$ sor-sb3 (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert call(monkeypatch, *command.split()) == 0
    assert capsys.readouterr().out.count("figure: ") == 8 + 2
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "plots.md", "exec"), names)
    assert isinstance(names["figure"], Figure)


def test_a_grids_folder_is_its_cells_also_below_another(tmp_path):
    market = load_market("notebook")
    cells = [compare_config(market, env, ["ppo"], 1, timesteps=200) for env in ("VenueSelect-v1", "OrderSplit-v1")]
    _claim(GridConfig(cells=tuple(cells)), tmp_path / "grid")
    for given in (tmp_path / "grid", tmp_path):
        found = collect([given])
        assert {folder.name for folder in found.without_report} == {"notebook_OrderSplit-v1", "notebook_VenueSelect-v1"}
        assert {run.env for run, *_ in found.runs} == {"VenueSelect-v1", "OrderSplit-v1"}
