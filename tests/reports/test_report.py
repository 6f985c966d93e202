"""Reports: complete, self-contained, readable by anybody, and only what was measured."""

from __future__ import annotations

import csv
import json
import shutil
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sor_sb3.errors import UserError
from sor_sb3.evaluation.analysis import MEASURES
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.evaluation.formats import interval
from sor_sb3.evaluation.results import make_results
from sor_sb3.evaluation.statistics import Estimate
from sor_sb3.evaluation.verdicts import REMARK, Stakes, compared
from sor_sb3.experiments.comparison import Comparison
from sor_sb3.experiments.reopen import explain_folder, read_comparison, report_folder
from sor_sb3.experiments.score import policies_of
from sor_sb3.market.loading import load_market
from sor_sb3.reports.page import render_html, render_markdown
from sor_sb3.reports.tables import print_results
from sor_sb3.reports.writer import REPORT_HTML, REPORT_JSON, REPORT_MARKDOWN, ReportWriter
from tests.conftest import Finished, run_command

RULES = ("all_in_sized", "pro_rata", "round_robin", "random", "snapshot_oracle")


class Page(HTMLParser):
    """What a browser would load, and every figure's words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.figures: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [v for k, v in found.items() if k in ("src", "href") and v and not v.startswith("#")]
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "figure":
            self.figures.append({"id": found["id"], "texts": [], "caption": "", "alt": "", "role": ""})
        if tag == "svg":
            self.figures[-1] |= {"alt": found.get("aria-label"), "role": found.get("role")}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.figures and data.strip():
            if "figcaption" in self.open:
                self.figures[-1]["caption"] += data
            elif "text" in self.open and "svg" in self.open:
                self.figures[-1]["texts"].append(data.strip())


def assert_good_page(text: str, figures: int) -> Page:
    page = Page(text)
    assert page.loads == ["data:,"]  # the icon; nothing else is loaded from anywhere
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert len(page.ids) == len(set(page.ids))
    assert len(page.figures) == figures
    units = ("bps", "%", "ms", "(decisions)", "score tau", "units", ", s", "shares", "step", "(urgency)")
    for figure in page.figures:
        assert figure["role"] == "img" and len(figure["alt"]) > 20, figure["id"]
        assert len(figure["caption"]) > 40, figure["id"]
        assert any(any(unit in words for unit in units) for words in figure["texts"]), figure["id"]
    assert "nan" not in text.lower().replace("finan", "") and "None" not in text
    return page


@pytest.fixture(scope="module")
def rules_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A report of rules alone on us_equity, where every measure has a value."""
    folder = tmp_path_factory.mktemp("rules")
    market = load_market("us_equity")
    judge = Evaluator("OrderSplit-v1", market, 40)
    policies = judge.policies(RULES)
    report = ReportWriter(market, policies)
    evaluation = judge.evaluate(policies, each=report.add)
    results = make_results(evaluation, "all_in_sized", {"digest": "0", "note": "x"})
    report.write(folder, results, evaluation, {}, {})
    return folder, evaluation


def test_compare_leaves_a_report(comparison: Finished):
    folder = comparison.folder
    text = (folder / REPORT_HTML).read_text(encoding="utf-8")
    assert_good_page(text, 13)
    data = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert data["results"] == results
    assert f"<h1>{results['headline']}</h1>" in text
    assert f"report: {folder / REPORT_HTML}" in comparison.stdout
    markdown = (folder / REPORT_MARKDOWN).read_text(encoding="utf-8")
    assert markdown.startswith(f"# notebook, OrderSplit-v1\n\n**{results['headline']}**\n")
    for policy in results["policies"]:
        assert f"| {policy['name']} |" in markdown and policy["name"] in text
    assert set(data["curves"]) == {"reinforce", "ppo"} and len(data["curves"]["ppo"]["steps"]) > 2
    assert not data["tca"] and not (folder / "tca_parents.csv").exists()  # the notebook has no prices


def test_console_html_and_markdown_hold_the_same_sentences(rules_report, tmp_path):
    folder, _ = rules_report
    data = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    results = data["results"]
    c = results["comparisons"][0]
    doubtful = compared(c["policy"], c["against"], Estimate(0.2, 0.1, 0.3, 0.05, 9.0, 0.04), 0.12, Stakes("bps", 0.001))
    results["comparisons"][0] = c | doubtful  # a verdict that Holm's correction does not leave standing
    out = StringIO()
    print_results(results, Console(file=out, width=400))
    console, html, markdown = out.getvalue(), render_html(data), render_markdown(data)
    assert REMARK in doubtful["sentence"]
    for comparison in results["comparisons"]:
        for text in (console, html, markdown):
            assert comparison["sentence"] in text
            assert f"{interval(comparison['ci95'])}: {comparison['wording']}" in text  # in the table of policies too


def test_changed_markets_have_a_table_where_they_were_scored(rules_report):
    folder, _ = rules_report
    data = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    assert 'id="robustness"' not in render_html(data) and "nobody retrained" not in render_markdown(data)
    entry = {"cost": 1.5, "difference": -0.25, "ci95": [-0.31, -0.19], "verdict": "better"}
    row = {"change": "fade × 2", "against": "pro_rata", "rule_cost": 1.75, "policies": {"ppo": entry}}
    data["results"]["robustness"] = [row]
    html, markdown = render_html(data), render_markdown(data)
    assert_good_page(html, len(Page(html).figures))
    for text in (html, markdown):
        assert "fade × 2" in text and f"{interval([-0.31, -0.19])}: better" in text


def test_every_measure_is_in_the_report(rules_report):
    folder, _ = rules_report
    text = (folder / REPORT_HTML).read_text(encoding="utf-8")
    markdown = (folder / REPORT_MARKDOWN).read_text(encoding="utf-8")
    assert_good_page(text, 13)
    for measure in MEASURES.values():
        assert measure.label in text and f"| {measure.label} | {measure.unit} |" in markdown
    for words in ("style of Rule 605", "style of Rule 606", "Does it ignore fees?", "Optimality gap", "Versions"):
        assert words in text, words


def test_the_report_says_what_was_measured(rules_report):
    folder, evaluation = rules_report
    data = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    for name, scores in evaluation.scores.items():
        assert data["distributions"][name]["mean"] == pytest.approx(float(scores.cost.mean()))
        assert data["tca"][name]["totals"]["shortfall_bps"] == pytest.approx(float(scores.cost.mean()), abs=1e-9)
        if name != "all_in_sized":
            assert data["differences"][name]["mean"] == pytest.approx(evaluation.difference(name, "all_in_sized").mean)
    assert "snapshot_oracle" not in data["audit"]  # it looks at more than it observes


def test_a_row_a_parent_order(rules_report):
    folder, evaluation = rules_report
    with (folder / "tca_parents.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RULES) * 40
    for row in rows[::17]:
        j = int(row["scenario"]) - evaluation.seed
        assert float(row["shortfall_bps"]) == pytest.approx(evaluation.scores[row["policy"]].cost[0, j], rel=1e-8)


def copied(comparison: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(comparison.folder, tmp_path / "comparison"))


def test_report_writes_the_same_again_and_touches_nothing_else(comparison: Finished, tmp_path):
    folder = copied(comparison, tmp_path)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in (REPORT_HTML, REPORT_JSON, REPORT_MARKDOWN):
        (folder / name).unlink()
    assert run_command("report", folder).returncode == 0
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_report_of_a_training_run(comparison: Finished, tmp_path):
    folder = copied(comparison, tmp_path) / "ppo" / "OrderSplit-v1_1"
    page = report_folder(folder, scenarios=30)
    assert page == folder / REPORT_HTML
    data = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    assert data["results"]["scenarios"] == 30 and list(data["curves"]) == ["ppo"]
    assert_good_page(page.read_text(encoding="utf-8"), 13)


@pytest.mark.parametrize("command", [("report",), ("explain", "--scenario", "10000")])
def test_folders_that_hold_no_finished_work_are_user_errors(command, comparison: Finished, tmp_path):
    job, *options = command
    done = run_command(job, tmp_path, *options)
    assert done.returncode == 2 and "is no run folder" in done.stderr and "Traceback" not in done.stderr
    folder = copied(comparison, tmp_path)
    (folder / "results.json").unlink()
    done = run_command(job, folder, *options)
    assert done.returncode == 2 and "the comparison is not finished" in done.stderr


# --- explain --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [10_000, 10_019, 123])
def test_explain_costs_what_the_evaluator_says(scenario, comparison: Finished):
    held = Comparison(read_comparison(comparison.folder), comparison.folder)
    inside = 10_000 <= scenario < 10_020
    judge = held.test_evaluator() if inside else Evaluator("OrderSplit-v1", held.config.market, 1, scenario)
    policies = policies_of(held.runs, held.config.routers, judge)
    cheapest = json.loads((comparison.folder / "results.json").read_text(encoding="utf-8"))["policies"]
    default = next(p["name"] for p in cheapest if p["kind"] == "learned")
    for name in (None, "reinforce", "pro_rata", "snapshot_oracle"):
        found = explain_folder(comparison.folder, scenario, name)
        scored = policies[name or default]
        cost = judge.score("x", scored[0] if isinstance(scored, list) else scored).cost[0]
        assert found.cost == cost[scenario - 10_000 if inside else 0]
        assert sum(d.cost for d in found.decisions) == pytest.approx(found.cost, abs=1e-9)


def test_explain_prints_every_step_and_writes_a_page(comparison: Finished, tmp_path):
    page = tmp_path / "order.html"
    done = run_command("explain", comparison.folder, "--scenario", 10_003, "--policy", "ppo", "--html", page)
    assert done.returncode == 0, done.stderr
    found = explain_folder(comparison.folder, 10_003, "ppo")
    assert f"costs of the 50 steps add up to {found.cost:.6f} notebook units per episode" in done.stdout
    assert all(f"Step {step}," in done.stdout for step in (1, 25, 50))
    assert_good_page(page.read_text(encoding="utf-8"), 2)
    again = run_command("explain", comparison.folder, "--scenario", 10_003, "--html", page)
    assert again.returncode == 2 and "exists; give another name" in again.stderr


def test_explain_of_a_training_run(comparison: Finished):
    found = explain_folder(comparison.folder / "ppo" / "OrderSplit-v1_2", 77)
    assert (found.policy, found.scenario) == ("ppo", 77)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": -1}, r"--scenario is -1; expected a seed of at least 0"),
        ({"scenario": 1, "policy": "pp"}, r"policy 'pp' is not in .*did you mean 'ppo'"),
        ({"scenario": 1, "policy": "ppo", "training_run": 3}, r"--training-run is 3; ppo has runs 1 to 2"),
    ],
)
def test_what_cannot_be_explained_is_a_user_error(options, message, comparison: Finished):
    with pytest.raises(UserError, match=message):
        explain_folder(comparison.folder, **options)
