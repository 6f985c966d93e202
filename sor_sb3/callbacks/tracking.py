"""Experiment trackers: everything that SB3 logs, and a run's files, in Weights & Biases, MLflow or Trackio.

A command's ``--track``, or ``SOR_SB3_TRACK`` in the environment, names the tracker; so every process of a comparison
knows the tracker, whoever starts the process. Where a tracker keeps its data is the tracker's own business, told by
its own variables: ``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``, ... TensorBoard's files are written all
the same.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch as th
from PIL import Image as Picture
from stable_baselines3.common.logger import Figure, HParam, Image, KVWriter

from sor_sb3.callbacks.trackers import Identity, Logged, Tracker, open_tracker, require_tracker
from sor_sb3.files import write_json

TRACK_VARIABLE = "SOR_SB3_TRACK"
IDENTITY_FILE = "tracking.json"  # of a run's folder: by tracker, the run's id there


def sorted_by_kind(key_values: Mapping[str, Any], key_excluded: Mapping[str, Any]) -> Logged:
    """What an SB3 logger hands its writers, except what is not for TensorBoard either. Videos are left out."""
    logged = Logged()
    for tag, value in sorted(key_values.items()):
        if "tensorboard" in (key_excluded.get(tag) or ()):
            continue
        if isinstance(value, HParam):
            logged.settings.update(value.hparam_dict)
        elif isinstance(value, str):
            logged.texts[tag] = value
        elif isinstance(value, (th.Tensor, np.ndarray)):
            logged.histograms[tag] = np.asarray(value, dtype=np.float64).ravel()
        elif isinstance(value, np.ScalarType):
            logged.numbers[tag] = float(value)  # type: ignore[arg-type]
        elif isinstance(value, Figure):
            logged.pictures[tag] = _drawn(value.figure)
        elif isinstance(value, Image):
            logged.pictures[tag] = _pictured(np.asarray(value.image), value.dataformats)
    return logged


def _drawn(figure: Any) -> Picture.Image:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, facecolor="white")
    return Picture.open(out)


def _pictured(pixels: np.ndarray, dataformats: str) -> Picture.Image:
    pixels = np.moveaxis(pixels, 0, -1) if dataformats == "CHW" else pixels
    pixels = pixels if pixels.dtype == np.uint8 else np.clip(255.0 * pixels, 0, 255).astype(np.uint8)
    return Picture.fromarray(pixels.squeeze())


class TrackerWriter(KVWriter):
    """Hands a tracker what SB3 logs; an output format like SB3's own.

    A tracker that fails in the middle of a run is left alone from then on, with one warning: a training run does not
    die with somebody else's server, and TensorBoard's files have everything.
    """

    def __init__(self, tracker: Tracker, name: str = "tracker") -> None:
        self.tracker, self.name, self._lost = tracker, name, False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Called by SB3's logger."""
        logged = sorted_by_kind(key_values, key_excluded)
        if logged.settings:
            self._do(lambda: self.tracker.configure(logged.settings))
        if logged.numbers or logged.texts or logged.histograms or logged.pictures:
            self._do(lambda: self.tracker.log(step, logged))

    def close(self) -> None:
        """Nothing to do: the run ends with `finish`."""

    def keep(self, kind: str, folder: Path, names: Sequence[str]) -> None:
        """Keep those of a folder's files that there are as one artefact."""
        files = {name: folder / name for name in names if (folder / name).is_file()}
        if files:
            self._do(lambda: self.tracker.keep(kind, files))

    def finish(self, done: bool) -> None:
        """End the run in the tracker."""
        self._do(lambda: self.tracker.finish(done))

    def _do(self, act: Callable[[], None]) -> None:
        if self._lost:
            return
        try:
            act()
        except Exception as error:  # a tracker may raise anything, and is never worth a run
            self._lost = True
            said = " ".join(str(error).split())[:200] or type(error).__name__
            kept = "the run goes on, and its TensorBoard logs have everything"
            warnings.warn(f"{self.name} failed and gets nothing more of this run ({said}); {kept}", stacklevel=2)


def _known_ids(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        held = json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
        return held if isinstance(held, dict) else {}
    return {}


@contextmanager
def tracked(folder: Path, name: str | None = None, group: str | None = None) -> Iterator[TrackerWriter | None]:
    """The run of a folder in the tracker that the environment names, open while the block runs; None without one.

    By default a training run is named as its folder, ``ALGO/ENV_k``, and grouped by LOG_DIR or the comparison above.

    Raises:
        UserError: the tracker is unknown, not installed, or cannot start.
    """
    tracker = os.environ.get(TRACK_VARIABLE)
    if not tracker:
        yield None
        return
    where, known = folder.absolute(), _known_ids(folder)
    named = name or f"{where.parent.name}/{where.name}"
    identity = Identity(named, group or where.parent.parent.name, known.get(tracker) or uuid4().hex[:8], where)
    writer, done = TrackerWriter(open_tracker(tracker, identity), tracker), False
    try:
        write_json(folder / IDENTITY_FILE, {**known, tracker: identity.id})
        yield writer
        done = True
    finally:
        writer.finish(done)


@contextmanager
def tracking(name: str | None) -> Iterator[None]:
    """Let every run that starts inside be tracked, in this process and in those that it starts.

    Raises:
        UserError: the tracker is unknown or not installed.
    """
    if name is None:
        yield
        return
    require_tracker(name)
    before = os.environ.get(TRACK_VARIABLE)
    os.environ[TRACK_VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(TRACK_VARIABLE)
        if before is not None:
            os.environ[TRACK_VARIABLE] = before


def keep_comparison(folder: Path, results: Mapping[str, Any]) -> None:
    """A finished comparison as a run of its own: each policy's test measures as numbers, and the folder's files."""
    with tracked(folder, folder.name, folder.name) as writer:
        if writer is None:
            return
        numbers = {f"test/{p['name']}/{key}": p[key] for p in results["policies"] for key in _OF_A_POLICY}
        logged = {tag: float(value) for tag, value in numbers.items() if value is not None}
        writer.write({**logged, "test/headline": results["headline"]}, {})
        writer.keep("config", folder, ["config.yaml"])
        writer.keep("results", folder, _RESULTS)
        writer.keep("figures", folder, ["comparison.png", "learning_curves.png"])


_OF_A_POLICY = ("cost", "sd", "cvar95", "gap_closed", "gap_closed_from_best_rule")
_RESULTS = ("results.json", "report.html", "report.md", "report.json", "tca_parents.csv")
