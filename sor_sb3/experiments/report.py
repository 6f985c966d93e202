"""Write the report of a folder again."""

from __future__ import annotations

from pathlib import Path

from sor_sb3.errors import UserError
from sor_sb3.experiments.compare import RESULTS_FILE, Comparison, read_comparison
from sor_sb3.experiments.config import TEST_SEED
from sor_sb3.experiments.evaluate import evaluate_runs
from sor_sb3.experiments.folders import read_config
from sor_sb3.reports.writer import REPORT_HTML


def report_folder(folder: Path, scenarios: int = 1000) -> Path:
    """Score again what a folder holds, a comparison or a training run, and write the report into the folder.

    Args:
        folder: that compare or train made. A comparison keeps its own number of scenarios.
        scenarios: for a training run.

    Raises:
        UserError: it holds neither, or is not finished.
    """
    if "learners" not in read_config(folder):
        evaluate_runs([folder], scenarios, TEST_SEED, report_into=folder)
        return folder / REPORT_HTML
    comparison = Comparison(read_comparison(folder), folder)
    if not (folder / RESULTS_FILE).is_file():
        raise UserError(f"{folder} has no {RESULTS_FILE}: the comparison is not finished; run its command again")
    return comparison.write_report()
