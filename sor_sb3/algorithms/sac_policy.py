"""The venue-shared network for SAC: an actor that scores each venue, critics that read what each venue is sent."""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from sor_sb3.algorithms.policies import VenueTrunk, parts_of_action, venue_inputs, venue_mean


class _Head(nn.Module):
    """Venue latents (n, K, H) to one number a venue, (n, K), and one more for the pace if there is one, (n, K + 1)."""

    def __init__(self, hidden: int, has_pace: bool) -> None:
        super().__init__()
        self.venue = nn.Linear(hidden, 1)
        self.pace = nn.Linear(hidden, 1) if has_pace else None

    def forward(self, latent: th.Tensor) -> th.Tensor:
        venues = self.venue(latent).squeeze(-1)
        return venues if self.pace is None else th.cat((venues, self.pace(venue_mean(latent))), dim=1)


class _RowTrunk(VenueTrunk):
    """A `VenueTrunk` that takes rows (n, G + K F)."""

    def forward(self, rows: th.Tensor, present: th.Tensor | None = None) -> th.Tensor:
        """Latents (n, K, H)."""
        return super().forward(venue_inputs(rows, self.n_venues), present)


class _VenueValue(nn.Module):
    """Rows and actions side by side, (n, G + K F + A), to a value (n, 1); each venue reads its action and its share."""

    def __init__(self, n_venues: int, hidden: int, activation: type[nn.Module], has_pace: bool) -> None:
        super().__init__()
        self.n_venues, self.n_actions = n_venues, n_venues + has_pace
        self.trunk = VenueTrunk(n_venues, hidden, activation, n_extra=2 + has_pace)
        self.value = nn.Linear(hidden, 1)

    def forward(self, rows_and_actions: th.Tensor) -> th.Tensor:
        rows, actions = rows_and_actions[:, : -self.n_actions], rows_and_actions[:, -self.n_actions :]
        weights = actions[:, : self.n_venues]
        positive = weights.clamp(min=0.0)
        share = positive / positive.sum(dim=1, keepdim=True).clamp(min=1e-6)
        paces = actions[:, self.n_venues :].unsqueeze(1).expand(-1, self.n_venues, -1)
        extra = th.cat((weights.unsqueeze(-1), share.unsqueeze(-1), paces), dim=2)
        value: th.Tensor = self.value(venue_mean(self.trunk(venue_inputs(rows, self.n_venues, extra))))
        return value


class VenueSACPolicy(SACPolicy):
    """SAC's policy with a venue-shared network, for ``OrderSplit-v1`` and ``OrderExecute-v1``.

    Arguments are those of SB3's ``SACPolicy``, of which ``net_arch`` has no meaning here, and `hidden`, the width of
    both layers, of actor and critics each.

    Raises:
        ValueError: the spaces are not those of this package's envs.
    """

    action_space: spaces.Box

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Any,
        hidden: int = 32,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        self.n_venues, self.has_pace, _ = parts_of_action("VenueSACPolicy", observation_space, action_space)
        if kwargs.get("use_sde"):
            raise ValueError("VenueSACPolicy has no state-dependent exploration: use_sde must be False")
        self.hidden = hidden
        kwargs["net_arch"] = [1]  # of SB3's own layers, which are replaced
        super().__init__(observation_space, action_space, lr_schedule, activation_fn=activation_fn, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden": self.hidden}

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """An actor that computes mean and spread from each venue's latent."""
        actor = super().make_actor(features_extractor)
        actor.latent_pi = _RowTrunk(self.n_venues, self.hidden, self.activation_fn)  # type: ignore[assignment]
        actor.mu = _Head(self.hidden, self.has_pace)
        actor.log_std = _Head(self.hidden, self.has_pace)  # type: ignore[assignment]
        return actor.to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Critics that read what each venue is sent."""
        critic = super().make_critic(features_extractor)
        for i in range(critic.n_critics):
            value = _VenueValue(self.n_venues, self.hidden, self.activation_fn, self.has_pace)
            setattr(critic, f"qf{i}", value)
            critic.q_networks[i] = value
        return critic.to(self.device)
