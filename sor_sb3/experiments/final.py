"""The frozen final scenarios: every read of them leaves a line in a log, so that all can see how often they were read.

The log is ``docs/final_log.tsv`` of the checkout in which the command runs (the working folder or a parent that has the
file), where version control tracks the log; elsewhere ``final_log.tsv`` in the log folder.
"""

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.files import append_line

FINAL_FOLDER, FINAL_LOG = "final", "final_log.tsv"
COLUMNS = ("date", "commit", "market", "numbers", "env", "first_seed", "scenarios", "command")


def final_log(log_dir: Path) -> Path:
    """The log's file, which need not exist yet."""
    here = Path.cwd()
    tracked = (folder / "docs" / FINAL_LOG for folder in (here, *here.parents))
    return next((file for file in tracked if file.is_file()), log_dir / FINAL_LOG)


def note_final(evaluator: Evaluator, log_dir: Path) -> Path:
    """Add the line of one read, before the read, so that no read goes unnoted; returns the log.

    "numbers" is the digest of the market's numbers, as `market/presets/hashes.txt` has it. Raises UserError: the log
    cannot be written.
    """
    file, market = final_log(log_dir), evaluator.market
    about = (market.name, market.digest(), evaluator.env_id, evaluator.seed, evaluator.core.n)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    line = (date, _commit(file), *about, shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    append_line(file, "\t".join(" ".join(str(cell).split()) for cell in line), "\t".join(COLUMNS))
    return file


def _commit(file: Path) -> str:
    """The commit of the working folder, "+" after it where tracked files other than the log differ; "-" without git."""
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top)docs/{file.name}"]
    try:
        head, changes = (
            subprocess.run(["git", *words], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], changed)
        )
    except (OSError, subprocess.SubprocessError):
        return "-"
    return f"{head}+" if changes else head
