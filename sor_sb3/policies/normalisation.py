"""The normalisation that a trained model carries, so that the model is asked as it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sor_sb3.errors import UserError

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecNormalize


class NormalizedPolicy:
    """A model trained under ``VecNormalize``: raw observations are normalised by these statistics before it."""

    kind: ClassVar[str] = "learned"

    def __init__(self, model: Any, vec_normalize: VecNormalize) -> None:
        self.model, self.vec_normalize = model, vec_normalize

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **masks: Any,
    ) -> tuple[np.ndarray, Any]:
        """The model's actions for raw observations; the statistics stay as they are."""
        normalised = self.vec_normalize.normalize_obs(observation)
        return self.model.predict(normalised, state, episode_start, deterministic, **masks)


def normalisation_of(model: Any) -> VecNormalize | None:
    """The ``VecNormalize`` that observations of a model must pass first; None: the model takes raw observations.

    A model saved and loaded without its env carries none: give `NormalizedPolicy` the statistics then.

    Raises:
        UserError: the model's env has two layers of ``VecNormalize``, which cannot be told from one.
    """
    if isinstance(model, NormalizedPolicy):
        return model.vec_normalize if model.vec_normalize.norm_obs else None
    find = getattr(model, "get_vec_normalize_env", None)
    layer = find() if callable(find) else None
    if layer is None:
        return None
    from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_wrapper

    if unwrap_vec_wrapper(layer.venv, VecNormalize) is not None:
        raise UserError("the model's env has two layers of VecNormalize; train it under one")
    return layer if layer.norm_obs else None


def as_trained(policy: Any) -> Any:
    """The policy itself, or a model that carries statistics as a `NormalizedPolicy` of them."""
    if isinstance(policy, NormalizedPolicy):
        return policy
    statistics = normalisation_of(policy)
    return policy if statistics is None else NormalizedPolicy(policy, statistics)
