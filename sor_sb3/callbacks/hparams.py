"""A run's hyperparameters in TensorBoard's HPARAMS tab, beside the charts by which runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam


class HParamCallback(BaseCallback):
    """Records hyperparameters once, when training starts.

    Args:
        hyperparameters: by name; what is no number, boolean or string is shown as ``str`` has it.
        metrics: tags of scalars that the run logs; TensorBoard shows their last values beside the hyperparameters.
    """

    def __init__(self, hyperparameters: Mapping[str, Any], metrics: Sequence[str]) -> None:
        super().__init__()
        simple = {key: v if isinstance(v, (int, float, str)) else str(v) for key, v in hyperparameters.items()}
        self.values = HParam(simple, dict.fromkeys(metrics, 0.0))

    def _on_training_start(self) -> None:
        self.logger.record("hparams", self.values, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True
