"""Write the policy that a run left as one file for a live process. It trains and scores nothing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from sor_sb3.algorithms.translation import fast_policy
from sor_sb3.errors import UserError
from sor_sb3.experiments.folder import check_finished, locked
from sor_sb3.experiments.reopen import run_config
from sor_sb3.experiments.run import load_policy

BEST_FILE, LAST_FILE = "fast_policy.npz", "fast_policy_last.npz"


def export_run(folder: Path, out: Path | None = None, best: bool = True) -> Path:
    """Write a finished run's policy as a :class:`~sor_sb3.FastPolicy`, with its normalisation; returns the file.

    Args:
        folder: of the run.
        out: the file; by default ``fast_policy.npz``, or ``fast_policy_last.npz``, in the run's folder.
        best: the policy that was best on the run's validation scenarios; else the last.

    Raises:
        UserError: the folder is no finished run, its policy has no translation, or `out` exists.
    """
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists; give another name, or delete it")
    config = run_config(folder)
    check_finished(folder)
    file = out or folder / (BEST_FILE if best else LAST_FILE)
    with locked(folder) if out is None else nullcontext():
        fast_policy(load_policy(config, folder, best)).save(file)
    return file
