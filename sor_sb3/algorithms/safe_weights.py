"""A trained policy's weights and normalisation in one safetensors file: numbers alone, nothing that runs when read.

SB3's own files are pickles, which may run anything when somebody else's are opened. What the numbers belong to, the
algorithm and its policy, is built anew from a run's config.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th

from sor_sb3.errors import UserError
from sor_sb3.policies.normalisation import NormalizedPolicy

INSTALL = "pip install 'sor-sb3[hub]'"
_POLICY, _STATISTICS = "policy.", "vecnormalize."
_RUNNING = ("obs_rms", "ret_rms")
_MOMENTS = ("mean", "var", "count")


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserError(f"safetensors cannot be imported ({error}); install it with: {INSTALL}") from None
    return safetensors.torch


def weights_bytes(policy: Any) -> bytes:
    """The content of a safetensors file of a trained model, or of a model with its `NormalizedPolicy`.

    Raises:
        UserError: safetensors is not installed, or the model has parameters outside its policy's.
    """
    normalised = isinstance(policy, NormalizedPolicy)
    model = policy.model if normalised else policy
    held = {_POLICY + key: value.detach().cpu().clone() for key, value in model.policy.state_dict().items()}
    for name in _RUNNING if normalised else ():
        moments = getattr(policy.vec_normalize, name, None)
        for part in _MOMENTS if moments is not None else ():
            value = np.atleast_1d(np.asarray(getattr(moments, part), dtype=np.float64))
            held[f"{_STATISTICS}{name}.{part}"] = th.from_numpy(value.copy())
    return bytes(_safetensors().save({name: tensor.contiguous() for name, tensor in held.items()}))


def set_weights(model: Any, content: bytes) -> None:
    """Give a model, built from the same config, the weights of a file, and its env's ``VecNormalize`` the statistics.

    Raises:
        UserError: safetensors is not installed, the content is none of its files, or the weights are another model's.
    """
    safetensors = _safetensors()
    try:
        held = safetensors.load(content)
    except Exception as error:  # safetensors has an exception of its own, and raises others
        raise UserError(f"the weights are no safetensors file, or a damaged one ({error}); get them again") from None
    weights = {name.removeprefix(_POLICY): tensor for name, tensor in held.items() if name.startswith(_POLICY)}
    try:
        model.policy.load_state_dict(weights)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"the weights are of another policy than the config's ({said}); get both again") from None
    normalize = model.get_vec_normalize_env()
    for name in _RUNNING:
        moments = getattr(normalize, name, None)
        for part in _MOMENTS if moments is not None else ():
            key = f"{_STATISTICS}{name}.{part}"
            if key not in held:
                raise UserError(f"the weights have no {key}, which the config's normalisation needs; get both again")
            value = held[key].numpy()
            setattr(moments, part, float(value[0]) if np.ndim(getattr(moments, part)) == 0 else value.copy())
