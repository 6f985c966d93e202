"""Trained models to fast policies: which layers each policy class of SB3, sb3-contrib and this package stands for.

Classes are taken by their exact type, since a subclass may do anything. It computes no action itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSLinearPolicy, ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.torch_layers import BatchRenorm1d
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from sor_sb3.algorithms.fast_policy import FastPolicy, Layer
from sor_sb3.algorithms.policies import (
    DirichletPolicy,
    LogisticNormalPolicy,
    MaskableVenuePolicy,
    VenuePolicy,
    VenueTrunk,
)
from sor_sb3.algorithms.sac_policy import VenueSACPolicy
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.errors import UserError
from sor_sb3.policies.normalisation import NormalizedPolicy


def fast_policy(model: Any, vec_normalize: Any = None) -> FastPolicy:
    """A compiled function that gives the actions of a trained model, without torch.

    It holds a copy of the weights and statistics of this moment: train on, and make another.

    Args:
        model: of SB3, sb3-contrib or this package, with an MLP policy or one of this package's, on rows (D,) of numbers
            and ``Box`` (A,) or ``Discrete`` actions; or a :class:`~sor_sb3.policies.normalisation.NormalizedPolicy`.
        vec_normalize: the ``VecNormalize`` that it was trained under, whose statistics are applied to observations.
            Without it observations are taken as ``model.predict`` takes them, already normalised if the model wants
            that.

    Raises:
        UserError: there is no translation for the model.
    """
    if isinstance(model, NormalizedPolicy):
        if vec_normalize is not None:
            raise UserError("vec_normalize is given twice; expected it once: this model brings its own")
        model, vec_normalize = model.model, model.vec_normalize
    policy = getattr(model, "policy", model)
    what = type(policy).__name__ if policy is model else f"{type(model).__name__} with {type(policy).__name__}"
    if type(policy) not in _TRANSLATIONS:
        raise _Untranslatable(what, "it has no translation")
    try:
        n_features = _check_spaces(policy)
        _check_extractors(policy)
        layers = [*_normalisation(vec_normalize, n_features), *_TRANSLATIONS[type(policy)](policy), _last(policy)]
        return FastPolicy(layers, n_features, isinstance(policy, MaskableActorCriticPolicy), what)
    except _Untranslatable as reason:
        raise _Untranslatable(what, reason.args[0]) from None
    except ValueError as error:
        raise UserError(f"{what} cannot be made a fast policy: {error}; train it again") from error


class _Untranslatable(UserError):
    """Says what is not covered, and what to do."""

    def __init__(self, what: str, reason: str | None = None) -> None:
        known = "an MLP policy of SB3 or sb3-contrib, or one of sor_sb3's"
        told = f"{what} cannot be made a fast policy: {reason}; expected {known}: use the model's own predict"
        super().__init__(what if reason is None else told)


def _check_spaces(policy: Any) -> int:
    observations, actions = policy.observation_space, policy.action_space
    if not isinstance(observations, spaces.Box) or len(observations.shape) != 1:
        raise _Untranslatable(f"its observations are {type(observations).__name__} {observations.shape}, not rows")
    if not isinstance(actions, spaces.Discrete) and not (isinstance(actions, spaces.Box) and len(actions.shape) == 1):
        raise _Untranslatable(f"its actions are {actions}")
    return int(observations.shape[0])


def _check_extractors(policy: nn.Module) -> None:
    for module in policy.modules():
        if isinstance(module, BaseFeaturesExtractor) and type(module) is not FlattenExtractor:
            raise _Untranslatable(f"its features extractor is {type(module).__name__}")


def _normalisation(vec_normalize: Any, n_features: int) -> list[Layer]:
    if vec_normalize is None or not vec_normalize.norm_obs:
        return []
    statistics = vec_normalize.obs_rms
    if getattr(getattr(statistics, "mean", None), "shape", None) != (n_features,):
        raise ValueError(f"vec_normalize is not of observations ({n_features},)")
    mean = np.array(statistics.mean, dtype=np.float64)
    scale = 1.0 / np.sqrt(np.asarray(statistics.var, dtype=np.float64) + vec_normalize.epsilon)
    return [_standardise(mean, scale, np.zeros(n_features), float(vec_normalize.clip_obs))]


def _standardise(mean: np.ndarray, scale: np.ndarray, shift: np.ndarray, limit: float) -> Layer:
    return Layer("standardise", {"limit": limit}, {"mean": mean, "scale": scale, "shift": shift})


def _last(policy: Any) -> Layer:
    if isinstance(policy.action_space, spaces.Discrete):
        return Layer("argmax")
    kind = "scale" if policy.squash_output else "clip"
    bounds = {name: np.array(getattr(policy.action_space, name), dtype=np.float32) for name in ("low", "high")}
    return Layer(kind, {}, bounds)


# ------------------------------------------------------------------------------------------------ torch's modules


def _numbers(tensor: th.Tensor) -> np.ndarray:
    """A float32 copy."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")


def _activation(module: nn.Module) -> dict[str, Any] | None:
    """Name and settings of an activation, in the words of `sor_sb3.algorithms.fast_policy`; None for what is none."""
    settings: dict[type, Callable[[Any], tuple[str, float, float]]] = {
        nn.Tanh: lambda m: ("tanh", 0.0, 0.0),
        nn.ReLU: lambda m: ("relu", 0.0, 0.0),
        nn.LeakyReLU: lambda m: ("leaky_relu", m.negative_slope, 0.0),
        nn.ELU: lambda m: ("elu", m.alpha, 0.0),
        nn.SiLU: lambda m: ("silu", 0.0, 0.0),
        nn.GELU: lambda m: ("gelu" if m.approximate == "none" else "gelu_tanh", 0.0, 0.0),
        nn.Sigmoid: lambda m: ("sigmoid", 0.0, 0.0),
        nn.Hardtanh: lambda m: ("hardtanh", m.min_val, m.max_val),
        nn.ReLU6: lambda m: ("hardtanh", 0.0, 6.0),
    }
    if type(module) not in settings:
        return None
    return dict(zip(("function", "a", "b"), settings[type(module)](module), strict=True))


_SQUASH = Layer("activate", {"function": "tanh", "a": 0.0, "b": 0.0})


def _modules(modules: Iterable[nn.Module]) -> list[Layer]:
    """Layers of modules that are applied in turn."""
    layers: list[Layer] = []
    for module in modules:
        activation = _activation(module)
        if activation is not None:
            layers.append(Layer("activate", activation))
        elif type(module) is nn.Linear:
            bias = th.zeros(module.out_features) if module.bias is None else module.bias
            layers.append(Layer("dense", {}, {"weight": _numbers(module.weight.T), "bias": _numbers(bias)}))
        elif type(module) is BatchRenorm1d:
            layers.append(_batch_renorm(module))
        elif type(module) is nn.Sequential:
            layers.extend(_modules(module))
        elif type(module) is not nn.Identity:
            raise _Untranslatable(f"its network has a {type(module).__name__}")
    return layers


def _batch_renorm(module: Any) -> Layer:
    """As it is once trained: running statistics."""
    mean, variance, scale, shift = (
        _numbers(tensor).astype(np.float64) for tensor in (module.ra_mean, module.ra_var, module.scale, module.bias)
    )
    if not module.affine:
        scale, shift = np.ones_like(scale), np.zeros_like(shift)
    return _standardise(mean, scale / np.sqrt(variance + module.eps), shift, float("inf"))


# ------------------------------------------------------------------------------------------------- policy classes


def _squash(policy: Any) -> list[Layer]:
    """What gSDE does to means with ``squash_output``."""
    distribution = policy.action_dist
    squashes = isinstance(distribution, StateDependentNoiseDistribution) and distribution.bijector is not None
    return [_SQUASH] if squashes else []


def _actor_critic(policy: Any) -> list[Layer]:
    return [*_modules((policy.mlp_extractor.policy_net, policy.action_net)), *_squash(policy)]


def _recurrent(policy: Any) -> list[Layer]:
    lstm = policy.lstm_actor
    if lstm.bidirectional or lstm.proj_size or lstm.batch_first:
        raise _Untranslatable("its LSTM is bidirectional, projected or has its batch first")
    return [*(_lstm_layer(lstm, k) for k in range(lstm.num_layers)), *_actor_critic(policy)]


def _lstm_layer(lstm: nn.LSTM, layer: int) -> Layer:
    weight, hidden = getattr(lstm, f"weight_ih_l{layer}"), getattr(lstm, f"weight_hh_l{layer}")
    bias = th.zeros(len(weight))
    if lstm.bias:
        bias = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
    return Layer("lstm", {}, {"weight": _numbers(th.cat((weight, hidden), dim=1).T), "bias": _numbers(bias)})


def _squashed_actor(policy: Any) -> list[Layer]:
    return [*_modules((policy.actor.latent_pi, policy.actor.mu)), _SQUASH]


def _quantiles(policy: Any) -> list[Layer]:
    """The mean over quantiles of a linear layer is a smaller linear layer."""
    *before, last = _modules((policy.quantile_net.quantile_net,))
    n_actions = int(policy.action_space.n)
    weight, bias = (last.arrays[name].astype(np.float64) for name in ("weight", "bias"))
    weight = weight.reshape(len(weight), -1, n_actions).mean(axis=1)
    bias = bias.reshape(-1, n_actions).mean(axis=0)
    return [*before, Layer("dense", {}, {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)})]


def _trunk(trunk: VenueTrunk, score: nn.Linear, pace: nn.Linear | None, suggests: bool, masked: bool) -> Layer:
    activation = _activation(trunk.activation)
    if activation is None:
        raise _Untranslatable(f"its network has a {type(trunk.activation).__name__}")
    places = {name: VENUE_FEATURES.index(feature) for name, feature in _PLACES.items()}
    settings = {
        **activation,
        "share": places["share"] if suggests else -1,
        "dark": places["dark"],
        "open": places["open"] if masked else -1,
        "time_left": MARKET_FEATURES.index("time_left"),
    }
    arrays = {
        "market": trunk.market.weight.T,
        "market_bias": trunk.market.bias,
        "venue": trunk.venue.weight.T,
        "mark": trunk.mark,
        "second": trunk.second.weight.T,
        "second_bias": trunk.second.bias,
        "pooled": trunk.pooled.weight.T,
        "score": _with_bias(score),
    }
    if pace is not None:
        arrays["pace"] = _with_bias(pace)
    return Layer("venues", settings, {name: _numbers(tensor) for name, tensor in arrays.items()})


_PLACES = {"share": "marginal_share", "dark": "dark", "open": "open"}


def _with_bias(linear: nn.Linear) -> th.Tensor:
    return th.cat((linear.weight[0], linear.bias))


def _venue_scores(policy: Any) -> Layer:
    extractor = policy.mlp_extractor
    return _trunk(extractor.actor, extractor.score, extractor.pace, True, extractor.masked)


def _venue_policy(policy: Any) -> list[Layer]:
    if isinstance(policy.action_space, spaces.Discrete):
        return [_venue_scores(policy)]
    return [_venue_scores(policy), Layer("proportions", {"n_venues": policy.n_venues}), *_squash(policy)]


def _simplex_policy(policy: Any) -> list[Layer]:
    """Both families' modes are the softmax of the scores.

    A Dirichlet's is that of concentrations ``1 + c softmax(scores)``, of which torch rounds away what is below 1e-7:
    the two differ by 1e-7 / c, which no c that training leaves makes large.
    """
    return [_venue_scores(policy), Layer("simplex", {"n_venues": policy.n_venues})]


def _venue_sac(policy: Any) -> list[Layer]:
    actor = policy.actor
    return [_trunk(actor.latent_pi, actor.mu.venue, actor.mu.pace, False, False), _SQUASH]


_TRANSLATIONS: dict[type, Callable[[Any], list[Layer]]] = {
    ActorCriticPolicy: _actor_critic,
    MaskableActorCriticPolicy: _actor_critic,
    RecurrentActorCriticPolicy: _recurrent,
    SACPolicy: _squashed_actor,
    TQCPolicy: _squashed_actor,
    CrossQPolicy: _squashed_actor,
    TD3Policy: lambda policy: _modules((policy.actor.mu,)),
    DQNPolicy: lambda policy: _modules((policy.q_net.q_net,)),
    QRDQNPolicy: _quantiles,
    ARSPolicy: lambda policy: _modules((policy.action_net,)),
    ARSLinearPolicy: lambda policy: _modules((policy.action_net,)),
    VenuePolicy: _venue_policy,
    MaskableVenuePolicy: _venue_policy,
    LogisticNormalPolicy: _simplex_policy,
    DirichletPolicy: _simplex_policy,
    VenueSACPolicy: _venue_sac,
}
