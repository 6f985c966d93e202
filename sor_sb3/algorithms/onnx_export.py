"""Trained models to ONNX files, for `sor_sb3.algorithms.onnx_policy` or ONNX Runtime in any other language."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSLinearPolicy, ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn
from torch.nn import functional as F

from sor_sb3.algorithms.onnx_policy import FORMAT, INSTALL, OnnxPolicy, sealed
from sor_sb3.algorithms.policies import (
    POLICIES,
    SplitPolicy,
    VenueTrunk,
    count_venues,
    scheduled_pace,
    suggested_logits,
)
from sor_sb3.algorithms.sac_policy import VenueSACPolicy
from sor_sb3.deprecation import warn_renamed
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.errors import UserError
from sor_sb3.files import write_bytes
from sor_sb3.policies.normalisation import NormalizedPolicy, normalisation_of

_OPSET = 17
_FORBIDDEN = -1e8  # sb3-contrib's score of a masked action; as an exponent it is 0
_KNOWN_MODULES = ("torch.nn.", "stable_baselines3.", "sb3_contrib.", "sor_sb3.")


def export_onnx(model: Any, file: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write the most likely actions of a trained model, from raw observations, as one ONNX file.

    The file holds the weights and the normalisation of this moment. Names, shapes, types and meaning of its inputs and
    outputs are in its metadata, as JSON: see `OnnxPolicy.about`.

    Args:
        model: of SB3, sb3-contrib or this package, with an MLP or LSTM policy or one of this package's, on rows (D,) of
            numbers and ``Box`` (A,) or ``Discrete`` actions. The ``VecNormalize`` of its env, or of a
            :class:`~sor_sb3.policies.normalisation.NormalizedPolicy`, goes into the file.
        file: to write.
        about: further metadata; "venues", a list of names, also names the features.

    Raises:
        UserError: the model cannot be exported, "venues" are too many or too few, the file cannot be written, or
            ``onnx`` is not installed.
    """
    write_bytes(Path(file), onnx_bytes(model, about))


def fast_policy(model: Any, vec_normalize: Any = None) -> OnnxPolicy:
    """Old name, for one version: `export_onnx` and `OnnxPolicy.load`, without the file."""
    warn_renamed("sor_sb3.fast_policy(model)", "sor_sb3.export_onnx(model, file) and sor_sb3.OnnxPolicy.load(file)")
    return OnnxPolicy(onnx_bytes(model if vec_normalize is None else NormalizedPolicy(model, vec_normalize)))


def onnx_bytes(model: Any, about: Mapping[str, Any] | None = None) -> bytes:
    """The content of the file that `export_onnx` writes.

    Raises:
        UserError: the model cannot be exported, or ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"onnx cannot be imported ({error}); install it with: {INSTALL}") from None
    statistics = normalisation_of(model)
    model = model.model if isinstance(model, NormalizedPolicy) else model
    policy = getattr(model, "policy", model)
    source = type(policy).__name__ if policy is model else f"{type(model).__name__} with {type(policy).__name__}"
    reason = _reason_against(policy, statistics)
    if reason is not None:
        expected = "expected an MLP or LSTM policy of SB3 or sb3-contrib, or one of sor_sb3's"
        raise UserError(f"{source} cannot be exported: {reason}; {expected}: use the model's own predict")
    policy.set_training_mode(False)
    inputs, outputs = _interface(policy, (about or {}).get("venues"))
    held = onnx.load_from_string(_traced(_Decision(policy, statistics).to(policy.device), inputs, outputs))
    known = {"source": source, "normalised": statistics is not None, "inputs": inputs, "outputs": outputs}
    metadata = {key: json.dumps(value) for key, value in {**known, **(about or {})}.items()}
    onnx.helper.set_model_props(held, {"format": FORMAT, **metadata})
    return sealed(held.SerializeToString(deterministic=True))


def _reason_against(policy: Any, statistics: Any) -> str | None:
    """Why a policy cannot be exported; None where it can. A subclass may do anything: only exact types are known."""
    if type(policy) not in _SCORES and type(policy) is not RecurrentActorCriticPolicy:
        return "this class of policy has no export"
    observations, actions = policy.observation_space, policy.action_space
    if not isinstance(observations, spaces.Box) or len(observations.shape) != 1:
        return f"its observations are {type(observations).__name__} {observations.shape}, not rows"
    if not isinstance(actions, spaces.Discrete) and not (isinstance(actions, spaces.Box) and len(actions.shape) == 1):
        return f"its actions are {actions}"
    if statistics is not None and statistics.observation_space.shape != observations.shape:
        return f"its VecNormalize is of observations {statistics.observation_space.shape}, not {observations.shape}"
    for module in policy.modules():
        if not type(module).__module__.startswith(_KNOWN_MODULES):
            return f"its network has a {type(module).__name__}"
    for name, parameter in policy.named_parameters():
        if not th.isfinite(parameter).all():
            return f"its weight {name} is not finite"
    lstm = policy.lstm_actor if isinstance(policy, RecurrentActorCriticPolicy) else None
    if lstm is not None and (lstm.bidirectional or lstm.proj_size or lstm.batch_first):
        return "its LSTM is bidirectional, projected or has its batch first"
    return None


_Tensors = dict[str, dict[str, Any]]


def _tensor(shape: list[Any], kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"shape": shape, "type": kind, "meaning": meaning, **more}


def _interface(policy: Any, venues: list[str] | None) -> tuple[_Tensors, _Tensors]:
    """Name, shape, type and meaning of every input, in the order of `_Decision.forward`, and of every output."""
    space: Any = policy.action_space
    observation = _tensor(["batch", policy.observation_space.shape[0]], "float32", "raw observations, one a row")
    n_venues = count_venues(policy.observation_space)
    if n_venues is not None:
        names = venues or [f"venue_{k}" for k in range(n_venues)]
        if len(names) != n_venues:
            raise UserError(f"about names {len(names)} venues; expected {n_venues}, as many as an observation has")
        features = [f"{name}.{feature}" for name in names for feature in VENUE_FEATURES]
        observation["features"] = [*MARKET_FEATURES, *features]
    if isinstance(space, spaces.Discrete):
        action = _tensor(["batch"], "int64", "index of the chosen action", n_actions=int(space.n))
    else:
        n_actions, bounds = space.shape[0], {name: getattr(space, name).tolist() for name in ("low", "high")}
        meaning = "what the env's step takes, each number from its low to its high"
        action = _tensor(["batch", n_actions], "float32", meaning, n_actions=n_actions, **bounds)
    inputs, outputs = {"observation": observation}, {"action": action}
    if isinstance(policy, MaskableActorCriticPolicy):
        inputs["action_masks"] = _tensor(["batch", int(space.n)], "bool", "True where an action is allowed")
    if isinstance(policy, RecurrentActorCriticPolicy):
        state = [policy.lstm_actor.num_layers, "batch", policy.lstm_actor.hidden_size]
        for name in ("hidden_state", "cell_state"):
            inputs[name] = _tensor(state, "float32", f"next_{name} of the decision before; zeros at first")
            outputs[f"next_{name}"] = _tensor(state, "float32", f"{name} of the next decision")
        meaning = "True where an episode begins, and the state is forgotten"
        inputs["episode_start"] = _tensor(["batch"], "bool", meaning)
    return inputs, outputs


def _traced(decision: nn.Module, inputs: _Tensors, outputs: _Tensors) -> bytes:
    device = next(decision.buffers()).device
    examples = tuple(
        th.ones([3 if size == "batch" else size for size in held["shape"]], device=device).to(getattr(th, held["type"]))
        for held in inputs.values()
    )
    axes = {name: {held["shape"].index("batch"): "batch"} for name, held in {**inputs, **outputs}.items()}
    file = BytesIO()
    with warnings.catch_warnings():
        # The other exporter of torch (dynamo=True) needs onnxscript, and a second for each model.
        warnings.simplefilter("ignore")
        names = {"input_names": list(inputs), "output_names": list(outputs), "dynamic_axes": axes}
        th.onnx.export(decision.eval(), examples, file, dynamo=False, opset_version=_OPSET, **names)  # type: ignore
    return file.getvalue()


class _Decision(nn.Module):
    """Raw observations, and what else a policy takes, to the actions that the env's step takes."""

    mean: th.Tensor
    scale: th.Tensor
    low: th.Tensor
    high: th.Tensor

    def __init__(self, policy: Any, statistics: Any) -> None:
        super().__init__()
        self.policy, self.is_discrete = policy, isinstance(policy.action_space, spaces.Discrete)
        self.limit = None if statistics is None else float(statistics.clip_obs)
        # in float64, as VecNormalize computes: a feature that never varies has a large scale
        if statistics is not None:
            self.register_buffer("mean", th.as_tensor(statistics.obs_rms.mean, dtype=th.float64))
            variance = th.as_tensor(statistics.obs_rms.var, dtype=th.float64)
            self.register_buffer("scale", (variance + statistics.epsilon).rsqrt())
        bounds = (0, 0) if self.is_discrete else (policy.action_space.low, policy.action_space.high)
        low, high = np.unique(bounds[0]).tolist(), np.unique(bounds[1]).tolist()
        self.box = (low[0], high[0]) if len(low) == len(high) == 1 else None  # the same bounds for every number
        self.register_buffer("low", th.as_tensor(bounds[0], dtype=th.float32))
        self.register_buffer("high", th.as_tensor(bounds[1], dtype=th.float32))

    def forward(self, rows: th.Tensor, *others: th.Tensor) -> Any:
        if self.limit is not None:
            rows = ((rows.double() - self.mean) * self.scale).clamp(-self.limit, self.limit).float()
        if isinstance(self.policy, RecurrentActorCriticPolicy):
            hidden, cell, starts = others
            kept = th.logical_not(starts).float().reshape(1, -1, 1)
            features, state = self.policy.lstm_actor(rows.unsqueeze(0), (kept * hidden, kept * cell))
            return (self._action(_actor_critic_head(self.policy, features.squeeze(0))), *state)
        scores = _SCORES[type(self.policy)](self.policy, rows)
        if isinstance(self.policy, MaskableActorCriticPolicy):
            scores = th.where(others[0], scores, th.full_like(scores, _FORBIDDEN))
        return self._action(scores)

    def _action(self, scores: th.Tensor) -> th.Tensor:
        if self.is_discrete:
            return scores.argmax(dim=1)
        is_bounded = self.policy.squash_output or hasattr(self.policy, "n_venues")  # to [-1, 1] already
        if is_bounded and self.box == (-1.0, 1.0):
            return scores
        if not self.policy.squash_output:
            return th.minimum(th.maximum(scores, self.low), self.high) if self.box is None else scores.clamp(*self.box)
        return self.low + 0.5 * (scores + 1.0) * (self.high - self.low)


def _squashed(policy: Any, means: th.Tensor) -> th.Tensor:
    distribution = policy.action_dist  # of gSDE with ``squash_output``
    squashes = isinstance(distribution, StateDependentNoiseDistribution) and distribution.bijector is not None
    return th.tanh(means) if squashes else means


def _actor_critic_head(policy: Any, features: th.Tensor) -> th.Tensor:
    return _squashed(policy, policy.action_net(policy.mlp_extractor.forward_actor(features)))


def _quantile_means(policy: Any, rows: th.Tensor) -> Any:
    quantiles = policy.quantile_net.quantile_net(rows)
    return quantiles.reshape(-1, policy.n_quantiles, int(policy.action_space.n)).mean(dim=1)


def _venue_latents(trunk: VenueTrunk, rows: th.Tensor) -> Any:
    """Latents (n K, H) of rows (n, G + K F): `VenueTrunk` in few operators, of which each takes 0.3 microseconds."""
    # A product, a sum and an activation are one operator where all are matrices: a venue of an observation is a row.
    assert trunk.mark is not None, "policies without marks are exported by their own modules"
    k, hidden = trunk.mark.shape
    market, venues = rows[:, : len(MARKET_FEATURES)], rows[:, len(MARKET_FEATURES) :]
    marks = (trunk.mark + trunk.market.bias).reshape(-1)
    of_market = F.linear(market, trunk.market.weight.repeat(k, 1), marks).reshape(-1, hidden)
    venues = venues.reshape(-1, len(VENUE_FEATURES))
    first = trunk.activation(th.addmm(of_market, venues, trunk.venue.weight.T))
    pooled = F.linear(first.reshape(-1, k * hidden), trunk.pooled.weight.repeat(1, k) / k, trunk.second.bias)
    return trunk.activation(th.addmm(pooled.repeat(1, k).reshape(-1, hidden), first, trunk.second.weight.T))


def _head(venue: nn.Linear, pace: nn.Linear | None, latents: th.Tensor, k: int) -> tuple[th.Tensor, th.Tensor | None]:
    """Scores (n, K) of latents (n K, H), and the pace's (n, 1) if there is one."""
    scores = venue(latents).reshape(-1, k)
    if pace is None:
        return scores, None
    return scores, F.linear(latents.reshape(-1, k * latents.shape[1]), pace.weight.repeat(1, k) / k, pace.bias)


def _venue_scores(policy: Any, rows: th.Tensor) -> tuple[th.Tensor, th.Tensor | None, th.Tensor]:
    """Scores (n, K) of venues, the pace's (n, 1) if there is one, and which venues are open, bool (n, K)."""
    extractor, k = policy.mlp_extractor, policy.n_venues
    scores, pace = _head(extractor.score, extractor.pace, _venue_latents(extractor.actor, rows), k)
    share, dark, is_open = (
        rows[:, [len(MARKET_FEATURES) + venue * len(VENUE_FEATURES) + VENUE_FEATURES.index(name) for venue in range(k)]]
        for name in ("sweep_share", "dark", "open")
    )
    if pace is not None and policy.scheduled:
        market = rows[:, : len(MARKET_FEATURES)].unsqueeze(1)
        inputs = F.pad(market, (len(VENUE_FEATURES), 0))  # one venue of zeros: only the market's features are read
        pace = pace + scheduled_pace(inputs, policy.mlp_extractor.log_slices)
    if policy.prior:
        time_left, wave = (rows[:, [MARKET_FEATURES.index(name)]] for name in ("time_left", "wave"))
        scores = scores + suggested_logits(share, time_left, wave, dark)
    return scores, pace, is_open > 0.5


def _actor_latent(policy: Any, rows: th.Tensor) -> Any:
    """A policy's scores by its own modules: of as many rows as there are, which `venue_inputs` would fix."""
    market, k = rows[:, : len(MARKET_FEATURES)].unsqueeze(1), policy.n_venues
    venues = rows[:, len(MARKET_FEATURES) :].reshape(-1, k, len(VENUE_FEATURES))
    return policy.mlp_extractor.actor_latent(th.cat((venues, market.expand(-1, k, -1)), dim=2))


def _venue_policy(policy: Any, rows: th.Tensor) -> th.Tensor:
    if policy.rests or not policy.marks:
        return _squashed(policy, policy.action_net(_actor_latent(policy, rows)))
    scores, pace, _ = _venue_scores(policy, rows)
    if isinstance(policy.action_space, spaces.Discrete):
        return scores
    means = th.exp(scores - scores.amax(dim=1, keepdim=True))
    return _squashed(policy, means if pace is None else th.cat((means, th.tanh(pace)), dim=1))


def _split_policy(policy: Any, rows: th.Tensor) -> th.Tensor:
    """The mode is the softmax of the scores of open venues; the pace's is that of (score, 0)."""
    if policy.marks:
        scores, pace, is_open = _venue_scores(policy, rows)
    else:
        latent, k = _actor_latent(policy, rows), policy.n_venues
        scores, pace = latent[:, :k], latent[:, k:] if policy.has_pace else None
        is_open = rows[:, len(MARKET_FEATURES) :].reshape(-1, k, len(VENUE_FEATURES))
        is_open = is_open[:, :, VENUE_FEATURES.index("open")] > 0.5
    weights = th.softmax(th.where(is_open, scores, th.full_like(scores, _FORBIDDEN)), dim=1)
    return weights if pace is None else th.cat((weights, th.tanh(pace / 2)), dim=1)


def _venue_sac(policy: Any, rows: th.Tensor) -> th.Tensor:
    actor = policy.actor
    scores, pace = _head(actor.mu.venue, actor.mu.pace, _venue_latents(actor.latent_pi, rows), policy.n_venues)
    return th.tanh(scores if pace is None else th.cat((scores, pace), dim=1))


def _squashed_actor(policy: Any, rows: th.Tensor) -> th.Tensor:
    return th.tanh(policy.actor.mu(policy.actor.latent_pi(rows)))


_SCORES: dict[type, Callable[[Any, th.Tensor], th.Tensor]] = {  # means of actions, or what is the best action's largest
    ActorCriticPolicy: _actor_critic_head,
    MaskableActorCriticPolicy: _actor_critic_head,
    SACPolicy: _squashed_actor,
    TQCPolicy: _squashed_actor,
    CrossQPolicy: _squashed_actor,
    TD3Policy: lambda policy, rows: policy.actor.mu(rows),
    DQNPolicy: lambda policy, rows: policy.q_net.q_net(rows),
    QRDQNPolicy: _quantile_means,
    ARSPolicy: lambda policy, rows: policy.action_net(rows),
    ARSLinearPolicy: lambda policy, rows: policy.action_net(rows),
    VenueSACPolicy: _venue_sac,
    **{policy: _split_policy if policy is SplitPolicy else _venue_policy for policy in POLICIES.values()},
}
