"""A run's hyperparameters in TensorBoard's HPARAMS tab, beside the charts by which runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam


def flat(hyperparameters: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Hyperparameters as TensorBoard takes them: numbers, booleans and strings; other values become strings."""
    return {key: v if isinstance(v, (bool, int, float, str)) else str(v) for key, v in hyperparameters.items()}


class HParamCallback(BaseCallback):
    """Records hyperparameters once, when training starts.

    Args:
        hyperparameters: by name, of any type.
        metrics: tags of scalars that the run logs; TensorBoard shows their last values beside the hyperparameters.
    """

    def __init__(self, hyperparameters: Mapping[str, Any], metrics: Sequence[str]) -> None:
        super().__init__()
        self.hyperparameters, self.metrics = flat(hyperparameters), tuple(metrics)

    def _on_training_start(self) -> None:
        values = HParam(self.hyperparameters, dict.fromkeys(self.metrics, 0.0))
        self.logger.record("hparams", values, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True
