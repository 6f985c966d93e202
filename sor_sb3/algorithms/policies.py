"""A policy network that treats venues alike: one small network shared by all of them, and a learned mark for each.

What is learned from one venue serves the others, so it needs far fewer samples than a plain MLP over the whole row.
Works with every on-policy SB3 algorithm through ``policy_kwargs``; the simulator knows nothing of it.
"""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES


class _VenueTrunk(nn.Module):
    """Rows (n, G + K F) to venue latents (n, K, H): two layers, the second of which also sees the venues' mean."""

    def __init__(self, n_venues: int, hidden: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.n_venues = n_venues
        self.market = nn.Linear(len(MARKET_FEATURES), hidden)
        self.venue = nn.Linear(len(VENUE_FEATURES), hidden, bias=False)
        self.mark = nn.Parameter(th.zeros(n_venues, hidden))  # what distinguishes this venue from its equals
        self.second = nn.Linear(hidden, hidden)
        self.pooled = nn.Linear(hidden, hidden, bias=False)
        self.activation = activation()

    def forward(self, rows: th.Tensor) -> th.Tensor:
        market = self.market(rows[:, : len(MARKET_FEATURES)]).unsqueeze(1)
        venues = rows[:, len(MARKET_FEATURES) :].reshape(len(rows), self.n_venues, len(VENUE_FEATURES))
        latent = self.activation(self.venue(venues) + market + self.mark)
        return self.activation(self.second(latent) + self.pooled(latent.mean(dim=1)).unsqueeze(1))


class _Proportions(nn.Module):
    """Logits (n, K) to means of weights, the largest of which is 1: ``exp(logit - max logit)``.

    Only proportions matter to a split. Left free, all means can drift below 0 together, where the split is even
    whatever they are, or beyond the bounds, where every draw is clipped alike; no gradient leads back.
    """

    def forward(self, logits: th.Tensor) -> th.Tensor:
        return th.exp(logits - logits.amax(dim=1, keepdim=True))


class VenueExtractor(nn.Module):
    """SB3's ``mlp_extractor`` interface: the actor's latent is one number per venue, the critic's a pooled vector."""

    def __init__(self, n_venues: int, hidden: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = n_venues, hidden
        self.actor = _VenueTrunk(n_venues, hidden, activation)
        self.critic = _VenueTrunk(n_venues, hidden, activation)
        self.score = nn.Linear(hidden, 1)

    def forward(self, rows: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Latents of actor (n, K) and critic (n, H)."""
        return self.forward_actor(rows), self.forward_critic(rows)

    def forward_actor(self, rows: th.Tensor) -> th.Tensor:
        """Logits of the venues' weights, (n, K): what an untrained router would send, times what was learned.

        That is the split of displays that the observation holds and, while there is time, a tenth of its largest part
        to each dark pool, for which no display speaks.
        """
        venues = rows[:, len(MARKET_FEATURES) :].reshape(len(rows), self.latent_dim_pi, len(VENUE_FEATURES))
        split = venues[:, :, VENUE_FEATURES.index("marginal_share")]
        dark = venues[:, :, VENUE_FEATURES.index("dark")]
        time_left = rows[:, MARKET_FEATURES.index("time_left")].unsqueeze(1)
        prior = split / split.amax(dim=1, keepdim=True).clamp(min=1e-6) + 0.1 * time_left * dark
        return th.log(prior.clamp(min=0.0) + 0.01) + self.score(self.actor(rows)).squeeze(-1)

    def forward_critic(self, rows: th.Tensor) -> th.Tensor:
        """The venues' mean latent, (n, H)."""
        return self.critic(rows).mean(dim=1)


class VenuePolicy(ActorCriticPolicy):
    """Actor-critic policy with a venue-shared network, for ``VenueSelect-v0`` and ``OrderSplit-v0``.

    Args:
        hidden: width of both layers, of actor and critic each.
        activation_fn: between the layers.

    Other arguments are those of SB3's ``ActorCriticPolicy``; ``net_arch`` has no meaning here.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Any,
        hidden: int = 32,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        self.hidden = hidden
        if isinstance(action_space, spaces.Discrete):
            self.n_venues = int(action_space.n)
        elif isinstance(action_space, spaces.Box):
            self.n_venues = int(action_space.shape[0])
        else:
            raise ValueError(f"VenuePolicy is for VenueSelect-v0 and OrderSplit-v0; got actions {action_space}")
        expected = len(MARKET_FEATURES) + self.n_venues * len(VENUE_FEATURES)
        if observation_space.shape != (expected,):
            raise ValueError(
                f"VenuePolicy reads the observations of this package's envs, ({expected},) for {self.n_venues} venues; "
                f"got {observation_space.shape}"
            )
        super().__init__(observation_space, action_space, lr_schedule, activation_fn=activation_fn, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "hidden": self.hidden}

    def _build_mlp_extractor(self) -> None:
        extractor = VenueExtractor(self.n_venues, self.hidden, self.activation_fn)
        self.mlp_extractor = extractor  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        # The extractor has scored each venue already.
        self.action_net = _Proportions() if isinstance(self.action_space, spaces.Box) else nn.Identity()
        assert isinstance(self.mlp_extractor, VenueExtractor)
        nn.init.orthogonal_(self.mlp_extractor.score.weight, gain=0.1)
        self.optimizer = self.optimizer_class(  # again, since `action_net` is no longer the one it was made with
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )
