"""Write the policy that a run left as one ONNX file for a live process. Nothing is trained or scored here."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from sor_sb3.algorithms.onnx_export import export_onnx
from sor_sb3.errors import UserError
from sor_sb3.experiments.folder import check_finished, locked
from sor_sb3.experiments.reopen import run_config
from sor_sb3.experiments.run import load_policy

BEST_FILE, LAST_FILE = "policy.onnx", "policy_last.onnx"


def export_run(folder: Path, out: Path | None = None, best: bool = True) -> Path:
    """Write a finished run's policy for :class:`~sor_sb3.OnnxPolicy`, with its normalisation; returns the file.

    Args:
        folder: of the run.
        out: the file; by default ``policy.onnx``, or ``policy_last.onnx``, in the run's folder.
        best: the policy that was best on the run's validation scenarios; else the last.

    Raises:
        UserError: the folder is no finished run, its policy cannot be exported, or `out` exists.
    """
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists; give another name, or delete it")
    config = run_config(folder)
    check_finished(folder)
    file = out or folder / (BEST_FILE if best else LAST_FILE)
    about = {"env": config.env, "market": config.market.name, "venues": list(config.market.venue_names)}
    with locked(folder) if out is None else nullcontext():
        export_onnx(load_policy(config, folder, best), file, about)
    return file
