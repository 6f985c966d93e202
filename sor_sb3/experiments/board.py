"""What TensorBoard shows of a comparison: mean and range of each algorithm's training seeds beside every baseline.

``tensorboard/`` in the comparison's folder has one run a line: ``ppo``, ``ppo_low``, ``ppo_high``, and one a rule or
oracle. TensorBoard selects none by itself where there are more than 40, so the logs of single seeds lie elsewhere, in
``ALGO/ENV_k/tensorboard``. All is made of the runs' ``evaluations.npz``, and can be made again at any time.
"""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from sor_sb3.callbacks.evaluation import cost_tag, gaps_closed, scalars
from sor_sb3.callbacks.tensorboard import layout
from sor_sb3.evaluation.evaluator import Evaluation
from sor_sb3.experiments.config import TrainConfig
from sor_sb3.experiments.folder import path_component
from sor_sb3.market.spec import MarketSpec

Points = Mapping[int, Mapping[str, float]]  # by timestep and by tag


class Board:
    """The TensorBoard folder of a comparison of training runs, given with their folders. It is emptied first."""

    def __init__(self, folder: Path, market: MarketSpec, runs: Sequence[tuple[TrainConfig, Path]]) -> None:
        self.folder, self.market = folder, market
        self._files: dict[str, list[Path]] = defaultdict(list)
        for run, where in runs:
            self._files[run.algo].append(where / "evaluations.npz")
        self._longest = max(run.timesteps for run, _ in runs)
        self._written: dict[str, Any] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def add_baselines(self, validation: Evaluation) -> None:
        """Each rule and oracle as a flat line, from its scores on validation scenarios."""
        for name, scores in validation.scores.items():
            values = scalars(self.market, scores, gaps_closed(validation, scores))
            self._write(name, dict.fromkeys((0, self._longest // 2, self._longest), values))

    def update(self) -> None:
        """Write anew the lines of algorithms that have been evaluated since the last call: cheap where none has.

        A point is the mean, the lowest and the highest of the training seeds that have come so far.
        """
        for algo, files in self._files.items():
            stamp = [file.stat().st_mtime_ns for file in files if file.is_file()]
            if stamp and stamp != self._written.get(algo):
                self._written[algo] = stamp
                self._add_learner(algo, [_points(file) for file in files if file.is_file()])

    def _add_learner(self, algo: str, seeds: Sequence[Points]) -> None:
        cost = cost_tag(self.market)
        found: dict[int, list[Mapping[str, float]]] = defaultdict(list)
        for points in seeds:
            for step, values in points.items():
                found[step].append(values)
        steps = sorted(found)
        self._write(algo, {step: _mean(found[step]) for step in steps})
        if len(self._files[algo]) > 1:
            for name, end in (("low", min), ("high", max)):
                self._write(f"{algo}_{name}", {s: {cost: end(v[cost] for v in found[s])} for s in steps})

    def _write(self, name: str, points: Points) -> None:
        """One run, in place of what it held: a board that is open takes the new points for the old ones."""
        folder = self.folder / path_component(name)
        older = list(folder.glob("*tfevents*"))
        with SummaryWriter(str(folder), purge_step=0) as writer:
            writer.add_custom_scalars(layout(self.market, cost_tag(self.market)))
            for step, values in points.items():
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)
        for file in older:
            file.unlink(missing_ok=True)


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each tag that all have: a measure may be without meaning for a seed that fills nothing."""
    tags = [tag for tag in found[0] if all(tag in values for values in found)]
    return {tag: float(np.mean([values[tag] for values in found])) for tag in tags}


def _points(file: Path) -> Points:
    """The scalars of a run's evaluations."""
    with np.load(file) as log:
        tags = log["tags"].tolist()
        return {
            step: {tag: value for tag, value in zip(tags, row, strict=True) if np.isfinite(value)}
            for step, row in zip(log["timesteps"].tolist(), log["scalars"].tolist(), strict=True)
        }
