"""Weights & Biases, MLflow and Trackio, each behind the same four functions; loaded when one is first wanted."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from PIL import Image as Picture

from sor_sb3.errors import UserError, did_you_mean

PROJECT = "sor_sb3"  # where the tracker's own variable names no other
_STEP = "global_step"  # what W&B's charts are drawn against: its own counter never goes back, a resumed run does
_LONGEST_PARAMETER = 6000  # characters that MLflow takes


@dataclass(frozen=True)
class Identity:
    """What a tracker is told of a run: its name, the group that it belongs to, its folder, and an id of its own.

    A run that is resumed has the same id, and goes on where it was in the tracker.
    """

    name: str
    group: str
    id: str
    folder: Path


@dataclass
class Logged:
    """What SB3 logged at one step, by tag.

    Attributes:
        numbers: finite or not; `texts`, `histograms` (arrays of values) and `pictures` too.
        settings: hyperparameters, where they are among what was logged.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: dict[str, Picture.Image] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """One run in a tracker."""

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Hyperparameters by name."""

    def log(self, step: int, logged: Logged) -> None:
        """What was logged at a step; `settings` apart."""

    def keep(self, kind: str, files: Mapping[str, Path]) -> None:
        """Files, by the names that they get there, as one artefact: "config", "results", "figures" or "model"."""

    def finish(self, done: bool) -> None:
        """The end of the run; `done` unless the run was stopped or failed."""


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


class _Alike:
    """What W&B and Trackio have in common."""

    def __init__(self, module: Any, run: Any, identity: Identity) -> None:
        self._module, self._run = module, run
        self._artefacts = f"{re.sub(r'[^A-Za-z0-9._-]', '-', identity.name)}-{identity.id}"

    def configure(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings))

    def _values(self, logged: Logged) -> dict[str, Any]:
        histograms = {tag: self._module.Histogram(_finite(values)) for tag, values in logged.histograms.items()}
        pictures = {tag: self._module.Image(picture) for tag, picture in logged.pictures.items()}
        return {**logged.numbers, **logged.texts, **histograms, **pictures}

    def keep(self, kind: str, files: Mapping[str, Path]) -> None:
        artefact = self._module.Artifact(f"{self._artefacts}-{kind}", type=kind)
        for name, file in files.items():
            artefact.add_file(str(file), name=name)
        self._run.log_artifact(artefact)


class _Wandb(_Alike):
    """Weights & Biases; its local files go into the run's folder, unless WANDB_DIR names another."""

    def __init__(self, identity: Identity) -> None:
        wandb = import_module("wandb")
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=identity.name,
            group=identity.group,
            id=identity.id,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(identity.folder)),
            settings=wandb.Settings(console="off"),
        )
        run.define_metric(_STEP)
        run.define_metric("*", step_metric=_STEP)
        super().__init__(wandb, run, identity)

    def configure(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings), allow_val_change=True)

    def log(self, step: int, logged: Logged) -> None:
        self._run.log({**self._values(logged), _STEP: step})

    def finish(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


class _Trackio(_Alike):
    """Trackio; a run is found again by its name, which therefore ends in the run's id."""

    def __init__(self, identity: Identity) -> None:
        trackio = import_module("trackio")
        project, name = os.environ.get("TRACKIO_PROJECT", PROJECT), f"{identity.name}-{identity.id}"
        with redirect_stdout(sys.stderr):
            run = trackio.init(project=project, name=name, group=identity.group, resume="allow", embed=False)
        super().__init__(trackio, run, identity)

    def log(self, step: int, logged: Logged) -> None:
        self._run.log(self._values(logged), step=step)

    def finish(self, done: bool) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()


class _MLflow:
    """MLflow; a run is found again by its tag. Histograms and texts, which MLflow has no charts for, become files."""

    def __init__(self, identity: Identity) -> None:
        mlflow = import_module("mlflow")
        self._entities, self._client = import_module("mlflow.entities"), mlflow.MlflowClient()
        of = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)).experiment_id
        found = self._client.search_runs([of], f"tags.sor_sb3_id = '{identity.id}'")
        tags = {"sor_sb3_id": identity.id, "sor_sb3_group": identity.group}
        run = found[0] if found else self._client.create_run(of, run_name=identity.name, tags=tags)
        self._id = run.info.run_id
        self._client.update_run(self._id, status="RUNNING")

    @staticmethod
    def _name(tag: str) -> str:
        """A tag in the characters that MLflow takes."""
        return re.sub(r"[^A-Za-z0-9_\-. :/]", "_", tag)

    def configure(self, settings: Mapping[str, Any]) -> None:
        pairs = [(self._name(key), str(value)[:_LONGEST_PARAMETER]) for key, value in settings.items()]
        self._client.log_batch(self._id, params=[self._entities.Param(*pair) for pair in pairs])

    def log(self, step: int, logged: Logged) -> None:
        now_ms, metric = int(1e3 * time.time()), self._entities.Metric
        numbers = [metric(self._name(tag), value, now_ms, step) for tag, value in logged.numbers.items()]
        self._client.log_batch(self._id, metrics=numbers)
        for tag, text in logged.texts.items():
            self._client.log_text(self._id, text, f"texts/{self._name(tag)}/{step:012d}.txt")
        for tag, values in logged.histograms.items():
            counts, edges = np.histogram(_finite(values), bins=64)
            held = {"counts": counts.tolist(), "edges": edges.tolist()}
            self._client.log_dict(self._id, held, f"histograms/{self._name(tag)}/{step:012d}.json")
        for tag, picture in logged.pictures.items():
            self._client.log_image(self._id, picture, f"pictures/{self._name(tag)}/{step:012d}.png")

    def keep(self, kind: str, files: Mapping[str, Path]) -> None:
        for name, file in files.items():
            within = PurePosixPath(kind) / PurePosixPath(name).parent
            self._client.log_artifact(self._id, str(file), str(within))

    def finish(self, done: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if done else "FAILED")


TRACKERS: dict[str, Callable[[Identity], Tracker]] = {"wandb": _Wandb, "mlflow": _MLflow, "trackio": _Trackio}


def require_tracker(name: str) -> None:
    """Raises UserError: there is no such tracker, or its package is not installed."""
    if name not in TRACKERS:
        expected = f"expected one of {', '.join(TRACKERS)}"
        raise UserError(f"--track is '{name}'{did_you_mean(name, list(TRACKERS))}; {expected}")
    if find_spec(name) is None:
        raise UserError(f"--track {name} needs a package; install it with: pip install 'sor-sb3[{name}]'")


def open_tracker(name: str, identity: Identity) -> Tracker:
    """Start a run in a tracker, or go on with the one of this identity.

    Raises:
        UserError: there is no such tracker, its package is not installed, or the tracker refuses to start.
    """
    require_tracker(name)
    try:
        return TRACKERS[name](identity)
    except Exception as error:  # each has exceptions of its own
        said = " ".join(str(error).split())[:300] or type(error).__name__
        remedy = f"set {name} up, or work without a connection (docs/tracking_and_hub.md), or leave --track out"
        raise UserError(f"--track {name} cannot start ({said}); {remedy}") from error
