"""Make a trained model answer ``predict`` on raw observations, as rules do."""

from __future__ import annotations

from typing import Any

import numpy as np


class NormalizedPolicy:
    """A model trained under ``VecNormalize``, with the statistics that it was trained with applied before it."""

    def __init__(self, model: Any, vec_normalize: Any) -> None:
        self.model, self.vec_normalize = model, vec_normalize

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **masks: Any,
    ) -> tuple[np.ndarray, Any]:
        """The model's actions for raw observations."""
        normalised = self.vec_normalize.normalize_obs(observation)
        return self.model.predict(normalised, state, episode_start, deterministic, **masks)
