"""Policies with one small network that all venues share, and a learned vector (`mark`) that tells venues apart.

The network learns from every venue at once, so it needs far fewer samples than an MLP over the whole row. Without marks
(``marks=False``) no parameter depends on the number of venues or on their order: the policy routes in any market, and
what tells venues apart is what is observed of them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import nn

from sor_sb3.algorithms.distributions import (
    DirichletMultinomial,
    LogisticNormal,
    NormalOfPresent,
    SplitAndPace,
)
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES

RESTS_AHEAD = 0.3  # of the horizon: what VenuePolicy lets rest at first
SLICES = 20.0  # of an order, at first
DARK_PART = 1.0  # what policies suggest for a dark pool in the first wave at first, in units of the largest part


def venue_inputs(rows: th.Tensor, n_venues: int, extra: th.Tensor | None = None) -> th.Tensor:
    """Rows (n, G + K F) venue by venue: (n, K, F + E + G), its features, `extra` (n, K, E) of it, and the market's."""
    venues = rows[:, len(MARKET_FEATURES) :].reshape(len(rows), n_venues, len(VENUE_FEATURES))
    market = rows[:, : len(MARKET_FEATURES)].unsqueeze(1).expand(-1, n_venues, -1)
    return th.cat((venues, market) if extra is None else (venues, extra, market), dim=2)


def venue_mean(latents: th.Tensor, present: th.Tensor | None = None) -> th.Tensor:
    """Mean over venues, or those `present` (n, K), (n, H), of (n, K, H).

    The sum is divided last, so that the gradient is divided first.
    """
    if present is None:
        return latents.sum(dim=1) / latents.shape[1]
    weights = present.to(latents.dtype)
    return th.bmm(weights.unsqueeze(1), latents).squeeze(1) / weights.sum(dim=1, keepdim=True)


def present_venues(inputs: th.Tensor) -> th.Tensor:
    """Which venues a market has, bool (n, K), from venue inputs (n, K, F + G): a row that is longer ends in zeros.

    Where there is none, as in a blank row, all are.
    """
    present = (inputs[:, :, : len(VENUE_FEATURES)] != 0.0).any(dim=2)
    return present | ~present.any(dim=1, keepdim=True)


class QuickTanh(nn.Module):
    """tanh x as 2 sigmoid(2 x) - 1, to rounding, and x is lost; torch's own takes four times as long on a CPU."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Of the same shape."""
        return th.sigmoid(x.mul_(2.0)).mul(2.0).sub_(1.0)


class VenueTrunk(nn.Module):
    """Venue inputs (n, K, F + E + G) to venue latents (n, K, H): two layers; the second also reads the venues' mean.

    Memory traffic sets the time of a pass, so a layer is one product, and sums and ReLU are in place.
    """

    def __init__(
        self, n_venues: int, hidden: int, activation: type[nn.Module], n_extra: int = 0, marks: bool = True
    ) -> None:
        super().__init__()
        self.n_venues = n_venues
        self.market = nn.Linear(len(MARKET_FEATURES), hidden)
        self.venue = nn.Linear(len(VENUE_FEATURES) + n_extra, hidden, bias=False)
        # what tells this venue from the others
        self.mark = nn.Parameter(th.zeros(n_venues, hidden)) if marks else None
        self.second = nn.Linear(hidden, hidden)
        self.pooled = nn.Linear(hidden, hidden, bias=False)
        quick: dict[type[nn.Module], nn.Module] = {nn.ReLU: nn.ReLU(inplace=True), nn.Tanh: QuickTanh()}
        self.activation = quick.get(activation) or activation()

    def forward(self, inputs: th.Tensor, present: th.Tensor | None = None) -> th.Tensor:
        """Latents (n, K, H); the venues' mean is of those `present`."""
        first = nn.functional.linear(inputs, th.cat((self.venue.weight, self.market.weight), dim=1))
        first = self.activation(first.add_(self.market.bias if self.mark is None else self.mark + self.market.bias))
        pooled = nn.functional.linear(venue_mean(first, present), self.pooled.weight, self.second.bias)
        latent: th.Tensor = self.activation(nn.functional.linear(first, self.second.weight).add_(pooled.unsqueeze(1)))
        return latent


class _Proportions(nn.Module):
    """Logits (n, K) to means of weights, the largest of which is 1: ``exp(logit - max logit)``; a pace stays apart.

    Where orders may rest, K more logits and a level follow: what rests is the sigmoid of the level times their softmax.
    """

    # A split depends on the proportions of the means alone. Without this map all means can drift below 0, where the
    # split is even, or beyond the bounds, where every draw is clipped alike; no gradient leads back.

    def __init__(self, n_venues: int, rests: bool = False) -> None:
        super().__init__()
        self.n_venues, self.rests = n_venues, rests

    def forward(self, scores: th.Tensor) -> th.Tensor:
        logits, others = scores[:, : self.n_venues], scores[:, self.n_venues :]
        weights = th.exp(logits - logits.amax(dim=1, keepdim=True))
        if not self.rests:
            return th.cat((weights, th.tanh(others)), dim=1)
        resting, level = th.softmax(others[:, : self.n_venues], dim=1), others[:, self.n_venues : -1]
        return th.cat((weights, th.sigmoid(level) * resting, th.tanh(others[:, -1:])), dim=1)


class VenueExtractor(nn.Module):
    """SB3's ``mlp_extractor`` interface: the actor's latent is one number per venue, the critic's a pooled vector.

    With `has_pace` the actor's latent has one number more, the pace's, computed from the venues' mean latent. With
    `masked` the scores of closed venues are minus infinity. Where orders may rest (`rests`), it has K + 1 numbers
    before the pace's: each venue's score for what rests there, and the level of what rests in all.
    """

    def __init__(
        self,
        n_venues: int,
        hidden: int,
        activation: type[nn.Module],
        has_pace: bool,
        masked: bool,
        rests: bool = False,
        scheduled: bool = False,
        prior: bool = True,
        marks: bool = True,
    ) -> None:
        super().__init__()
        self.latent_dim_pi = n_venues * (1 + rests) + rests + has_pace
        self.latent_dim_vf, self.masked, self.rests, self.prior, self.marks = hidden, masked, rests, prior, marks
        self.actor = VenueTrunk(n_venues, hidden, activation, marks=marks)
        self.critic = VenueTrunk(n_venues, hidden, activation, marks=marks)
        self.score = nn.Linear(hidden, 1 + rests)
        self.pace = nn.Linear(hidden, 1 + rests) if has_pace else None
        self.log_slices = nn.Parameter(th.tensor(math.log(SLICES))) if scheduled else None
        self.critic_idle = False

    def forward(self, rows: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Latents of actor (n, K) or (n, K + 1) and critic (n, H); the latter is 0 where the critic is idle."""
        inputs = venue_inputs(rows, self.actor.n_venues)
        if self.critic_idle:
            return self.actor_latent(inputs), rows.new_zeros(len(rows), self.latent_dim_vf)
        return self.actor_latent(inputs), self.critic_latent(inputs)

    def forward_actor(self, rows: th.Tensor) -> th.Tensor:
        """Logits of venues, and the pace's score if any, (n, K) or (n, K + 1); untrained, of the split of displays."""
        return self.actor_latent(venue_inputs(rows, self.actor.n_venues))

    def forward_critic(self, rows: th.Tensor) -> th.Tensor:
        """As `critic_latent`, from rows (n, D)."""
        return self.critic_latent(venue_inputs(rows, self.critic.n_venues))

    def critic_latent(self, inputs: th.Tensor) -> th.Tensor:
        """The venues' mean latent times what is left of the order, (n, H): a share that is filled costs no more."""
        present = None if self.marks else present_venues(inputs)
        return venue_mean(self.critic(inputs, present), present) * _of_market(inputs, "remaining")

    def actor_latent(self, inputs: th.Tensor) -> th.Tensor:
        """As `forward_actor`, from venue inputs (n, K, F + G). Venues that are not there have minus infinity."""
        present = None if self.marks else present_venues(inputs)
        latent = self.actor(inputs, present)
        share, dark = _of_venues(inputs, "sweep_share"), _of_venues(inputs, "dark")
        scored = self.score(latent)
        scores = scored[:, :, 0]
        if self.prior:
            scores = scores + suggested_logits(share, _of_market(inputs, "time_left"), _of_market(inputs, "wave"), dark)
        if self.masked:
            scores = th.where(open_venues(inputs), scores, th.full_like(scores, -math.inf))
        elif present is not None:
            scores = th.where(present, scores, th.full_like(scores, -math.inf))
        if self.pace is None:
            return scores
        others = self.pace(venue_mean(latent, present))
        if not self.rests:
            others = others if self.log_slices is None else others + scheduled_pace(inputs, self.log_slices)
            return th.cat((scores, others), dim=1)
        resting = scored[:, :, 1] + posting_logits(inputs)
        resting = resting if present is None else th.where(present, resting, th.full_like(resting, -math.inf))
        return th.cat((scores, resting, others + posting_levels(inputs)), dim=1)


def leave_critic_idle(policy: BasePolicy) -> None:
    """Values beside a policy's actions are 0 from now on, where nobody reads them; ``predict_values`` gives them still.

    For REINFORCE without a critic, and critics that are fitted apart: a third of a pass. Other policies than this
    module's stay as they are.
    """
    extractor = getattr(policy, "mlp_extractor", None)
    if isinstance(extractor, VenueExtractor):
        extractor.critic_idle = True


def suggested_logits(share: th.Tensor, time_left: th.Tensor, wave: th.Tensor, dark: th.Tensor) -> th.Tensor:
    """Logits (n, K) of the split of displays that an observation holds, `share` (n, K), with dark pools tried first.

    A dark pool displays nothing. In a decision's first wave each has `DARK_PART` of the largest part, times what
    is left of the time, since what comes back is to be bought then. `dark` (n, K) says which they are; `time_left` and
    `wave` are (n, 1).
    """
    dark_part = DARK_PART * time_left * (wave < 0.5).to(share.dtype) * dark
    prior = share / share.amax(dim=1, keepdim=True).clamp(min=1e-6) + dark_part
    return th.log(prior.clamp(min=0.0) + 0.003)


def _of_venues(inputs: th.Tensor, name: str) -> th.Tensor:
    return inputs[:, :, VENUE_FEATURES.index(name)]


def _of_market(inputs: th.Tensor, name: str) -> th.Tensor:
    """(n, 1): the same number stands beside every venue."""
    return inputs[:, :1, len(VENUE_FEATURES) + MARKET_FEATURES.index(name)]


def posting_logits(inputs: th.Tensor) -> th.Tensor:
    """Logits (n, K) of where `post_and_sweep` would rest: the saving against taking, for the wait in the queue."""
    saving = _of_market(inputs, "best_all_in") + _of_venues(inputs, "near_offset") - _of_venues(inputs, "make_fee")
    rests, size = _of_venues(inputs, "resting") > 0.0, _of_venues(inputs, "near_size")
    queue = th.exp(
        th.where(rests, _of_venues(inputs, "queue_ahead"), size).clamp(max=30.0)
    )  # before us, and a slice of our own
    allowed = (_of_venues(inputs, "open") > 0.5) & (_of_venues(inputs, "dark") < 0.5) & (size > 0.0)
    outflow = th.exp(_of_venues(inputs, "outflow").clamp(min=0.0, max=30.0)) - 1.0  # features may be normalised
    score = saving.clamp(min=0.0) * outflow / queue.clamp(min=1e-6) * allowed
    return 2.0 * th.log(score / score.amax(dim=1, keepdim=True).clamp(min=1e-6) + 0.03)


def posting_levels(inputs: th.Tensor) -> th.Tensor:
    """Level of what rests and score of the pace, (n, 2), of a rule that posts what an even schedule need not take yet.

    What rests is what the schedule wants in the next three tenths of the horizon, and little near the deadline: what
    rests is filled whole where the price falls. What is taken is what an even schedule a little behind wants.
    """
    time_left = _of_market(inputs, "time_left")
    left = (_of_market(inputs, "remaining") - _of_market(inputs, "in_flight")).clamp(min=1e-6)
    late = (left - (1.1 * time_left - 0.1).clamp(min=0.0)) / left
    pace = late.clamp(min=0.004, max=0.98)
    soon = ((left - (time_left - RESTS_AHEAD).clamp(min=0.0)) / left).clamp(min=0.02, max=0.98)
    level = th.minimum(th.log(soon / (1.0 - soon)), 40.0 * (time_left - 0.125))
    return th.cat((level, 0.5 * th.log(pace / (1.0 - pace))), dim=1)


def scheduled_pace(inputs: th.Tensor, log_slices: th.Tensor) -> th.Tensor:
    """Logit (n, 1) of the pace at which the schedule's slice goes out, in a later wave all that came back.

    What is wanted is observed in even slices; `log_slices`, of how many of them an order has, is learned.
    """
    left = (_of_market(inputs, "remaining") - _of_market(inputs, "in_flight")).clamp(min=1e-6)
    pace = (th.exp(_of_market(inputs, "slice").clamp(max=20.0)) - 1.0) * th.exp(-log_slices) / left
    pace = th.where(_of_market(inputs, "wave") > 0.5, th.ones_like(pace), pace).clamp(min=0.002, max=0.98)
    return th.log(pace / (1.0 - pace))


def open_venues(inputs: th.Tensor) -> th.Tensor:
    """Which venues trade, as observed: bool (n, K), from venue inputs (n, K, F + E + G) of raw rows."""
    return inputs[:, :, VENUE_FEATURES.index("open")] > 0.5


def count_venues(observation_space: spaces.Space) -> int | None:
    """Number of venues in an observation of this package's envs; None for other spaces."""
    shape = observation_space.shape or ()
    if len(shape) != 1 or shape[0] <= len(MARKET_FEATURES):
        return None
    n_venues, rest = divmod(shape[0] - len(MARKET_FEATURES), len(VENUE_FEATURES))
    return n_venues if rest == 0 else None


def parts_of_action(
    policy: str, observation_space: spaces.Space, action_space: spaces.Space, may_rest: bool = False
) -> tuple[int, bool, bool]:
    """Number of venues in the spaces of this package's envs, and whether actions have a pace, and resting weights.

    Raises:
        ValueError: the spaces are others, or orders may rest where the policy has no head for it; the message names the
            `policy`.
    """
    if not isinstance(action_space, spaces.Box | spaces.Discrete):
        raise ValueError(f"{policy} is for this package's envs; got actions {action_space}")
    n_venues, has_weights = count_venues(observation_space), isinstance(action_space, spaces.Box)
    n_actions = int(action_space.shape[0] if isinstance(action_space, spaces.Box) else action_space.n)
    if n_venues is not None and has_weights and n_actions == 2 * n_venues + 1:
        if not may_rest:
            raise ValueError(
                f"{policy} gives no weights of what rests, as OrderPlace has; take VenuePolicy or MlpPolicy"
            )
        return n_venues, True, True
    if n_venues is None or n_actions - n_venues not in ((0, 1) if has_weights else (0,)):
        expected = f"({len(MARKET_FEATURES)} + {len(VENUE_FEATURES)} K,) for K venues"
        found = f"{observation_space.shape} and {n_actions} actions"
        raise ValueError(f"{policy} reads the observations of this package's envs, {expected}; got {found}")
    return n_venues, n_actions > n_venues, False


class _VenueNetwork:
    """Gives an SB3 actor-critic policy the venue-shared network; to be inherited before the policy."""

    scheduled: ClassVar[bool] = False  # whether an untrained pace is the schedule's
    masked: ClassVar[bool] = False  # whether the scores of closed venues are minus infinity
    may_rest: ClassVar[bool] = False  # whether the policy knows actions with weights of what rests
    action_space: spaces.Space  # this and the others: of the SB3 policy
    action_dist: Any
    action_net: Any
    activation_fn: Any
    log_std: th.Tensor
    log_std_init: float
    use_sde: bool
    optimizer_class: Any
    optimizer_kwargs: Any
    parameters: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Any,
        hidden: int = 32,
        activation_fn: type[nn.Module] = nn.ReLU,
        prior: bool = True,
        marks: bool = True,
        **kwargs: Any,
    ) -> None:
        self.prior = prior
        parts = parts_of_action(type(self).__name__, observation_space, action_space, self.may_rest)
        self.n_venues, self.has_pace, self.rests = parts
        self.hidden, self.marks = hidden, marks
        if not marks and kwargs.get("use_sde"):
            raise ValueError(f"{type(self).__name__} without marks has its own exploration: use_sde must be False")
        super().__init__(  # type: ignore[call-arg]
            observation_space, action_space, lr_schedule, activation_fn=activation_fn, **kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"hidden": self.hidden, "prior": self.prior, "marks": self.marks}
        return {**super()._get_constructor_parameters(), **own}  # type: ignore[misc]

    def _build_mlp_extractor(self) -> None:
        parts = self.n_venues, self.hidden, self.activation_fn, self.has_pace, self.masked, self.rests
        self.mlp_extractor = VenueExtractor(*parts, self.scheduled and self.has_pace, self.prior, self.marks)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        if not self.marks and isinstance(self.action_space, spaces.Box):  # one spread for all venues
            self.log_std = nn.Parameter(th.full((1 + self.rests + self.has_pace,), float(self.log_std_init)))
        self._build_actor()
        nn.init.orthogonal_(self.mlp_extractor.score.weight, gain=0.01 if self.prior else 0.0)  # 0: all venues alike
        if self.mlp_extractor.pace is not None:  # at first a twentieth of what is left, like an even schedule
            has_prior = self.rests or self.scheduled
            nn.init.orthogonal_(self.mlp_extractor.pace.weight, gain=0.01 if has_prior else 0.1)
            nn.init.constant_(self.mlp_extractor.pace.bias, 0.0 if has_prior else -1.5)
        # again, since the actor's parameters are new
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _build_actor(self) -> None:
        """The extractor has scored each venue already."""
        is_box = isinstance(self.action_space, spaces.Box)
        self.action_net = _Proportions(self.n_venues, self.rests) if is_box else nn.Identity()

    def _log_std_of_actions(self) -> th.Tensor:
        """Logarithms of the spread of each number of an action, (A,)."""
        if self.marks:
            return self.log_std
        of_venues = self.log_std[: 1 + self.rests].repeat_interleave(self.n_venues)
        return th.cat((of_venues, self.log_std[1 + self.rests :]))

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor, *args: Any) -> Any:
        if self.marks or not isinstance(self.action_space, spaces.Box):
            return super()._get_action_dist_from_latent(latent_pi, *args)  # type: ignore[misc]
        present = th.isfinite(latent_pi[:, : self.n_venues])
        others = th.ones_like(latent_pi[:, :1], dtype=th.bool)
        parts = [present] * (1 + self.rests) + [others] * self.has_pace
        means = self.action_net(latent_pi)
        distribution = self.action_dist.proba_distribution(means, self._log_std_of_actions())
        distribution.distribution = NormalOfPresent(means, distribution.distribution.stddev, th.cat(parts, dim=1))
        return distribution


class VenuePolicy(_VenueNetwork, ActorCriticPolicy):  # type: ignore[misc]
    """Actor-critic policy with a venue-shared network, for all of this package's envs.

    Splits are drawn from a Gaussian and made weights by the env's own map. Untrained it splits as displays do, and in
    ``OrderPlace-v1`` rests as `post_and_sweep` does what a schedule need not take yet. Arguments are those of SB3's
    ``ActorCriticPolicy``, of which ``net_arch`` has no meaning here, `hidden`, the width of both layers, of actor and
    critic each, `prior`: False leaves the displays out of the scores, so that an untrained policy knows nothing, and
    `marks`: without them the weights fit any number of venues (see this module's head).

    Raises:
        ValueError: the spaces are not those of this package's envs.
    """

    may_rest = True


class MaskableVenuePolicy(_VenueNetwork, MaskableActorCriticPolicy):  # type: ignore[misc]
    """`VenuePolicy` for sb3-contrib's MaskablePPO, on ``VenueSelect-v1``."""


class _ActionDistribution(Distribution):
    """:class:`SplitAndPace` as an SB3 distribution; the policy sets the distribution of its batch."""

    distribution: SplitAndPace

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> nn.Module:
        return nn.Identity()  # the policy's network scores the venues already

    def proba_distribution(self, distribution: SplitAndPace) -> _ActionDistribution:
        self.distribution = distribution
        return self

    def log_prob(self, x: th.Tensor) -> th.Tensor:
        return self.distribution.log_prob(x)

    def entropy(self) -> th.Tensor:
        return self.distribution.entropy()

    def sample(self) -> th.Tensor:
        return self.distribution.rsample()

    def mode(self) -> th.Tensor:
        return self.distribution.mode

    def actions_from_params(self, distribution: SplitAndPace, deterministic: bool = False) -> th.Tensor:
        return self.proba_distribution(distribution).get_actions(deterministic)

    def log_prob_from_params(self, distribution: SplitAndPace) -> tuple[th.Tensor, th.Tensor]:
        actions = self.actions_from_params(distribution)
        return actions, self.log_prob(actions)


class SplitPolicy(_VenueNetwork, ActorCriticPolicy):  # type: ignore[misc]
    """Weights are shares of `parts` equal parts; see :class:`.DirichletMultinomial`. A pace is logit-normal.

    For ``OrderSplit-v1`` and ``OrderExecute-v1``. Untrained it splits as displays do, at the schedule's pace. A venue
    whose halt was announced gets weight 0 exactly. Where all venues are halted the weights are uniform and nothing is
    learned from them (a forced wait). Halts are read from the observation, which must not be normalised. Arguments are
    those of `VenuePolicy`, `parts`, and `concentration`: the smaller, the more the parts of a draw stay together.
    ``log_std_init`` is of the pace alone.
    """

    scheduled = True
    masked = True
    action_dist: _ActionDistribution

    def __init__(self, *args: Any, parts: int = 10, concentration: float = 2.0, **kwargs: Any) -> None:
        self.parts, self.concentration = parts, concentration
        super().__init__(*args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"parts": self.parts, "concentration": self.concentration}
        return {**super()._get_constructor_parameters(), **own}

    def _build_actor(self) -> None:
        if not isinstance(self.action_space, spaces.Box):
            raise ValueError(f"{type(self).__name__} gives weights over venues; got actions {self.action_space}")
        if self.use_sde:
            raise ValueError(f"{type(self).__name__} has its own exploration: use_sde must be False")
        self.action_dist = _ActionDistribution()
        self.action_net = nn.Identity()
        del self.log_std
        if self.has_pace:
            self.log_std = nn.Parameter(th.full((1,), self.log_std_init))

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> _ActionDistribution:
        scores = latent_pi[:, : self.n_venues]
        is_open = th.isfinite(scores)
        scores = th.where(is_open, scores, th.zeros_like(scores))
        split = DirichletMultinomial(scores, is_open, self.parts, self.concentration)
        if not self.has_pace:
            return self.action_dist.proba_distribution(SplitAndPace(split))
        logit = latent_pi[:, self.n_venues :]
        pair = th.cat((logit, th.zeros_like(logit)), dim=1)  # its softmax is (pace, 1 - pace)
        pace = LogisticNormal(pair, self.log_std, th.ones_like(pair, dtype=th.bool))
        return self.action_dist.proba_distribution(SplitAndPace(split, pace))


POLICIES: dict[str, type[BasePolicy]] = {
    policy.__name__: policy for policy in (VenuePolicy, MaskableVenuePolicy, SplitPolicy)
}
