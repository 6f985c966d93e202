"""Distributions over the simplex of open venues, over a pace, and over actions of markets of any size. No networks.

A point of the simplex over the K' open venues of a row is a vector of positive weights that sum to 1; a closed venue's
weight is exactly 0. With one open venue the weight is 1; with none every weight is 1/K (a forced wait). In both cases
nothing is random, and log-probability, entropy and divergence are 0.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch as th
from torch.distributions import Distribution, Normal, kl_divergence, register_kl

_SMALLEST = 1e-30  # of a weight whose logarithm is taken; float32 ends at 1e-38
_SMALLEST_ALPHA = 1e-6  # of a Dirichlet: below, a float32 gamma is 0
_PACE_EDGE = 1e-6  # a pace of a float32 action is kept this far from 0 and 1


class SimplexDistribution(Distribution):
    """What both families share: which venues are open, bool (n, K), and rows in which nothing is random."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, open_venues: th.Tensor) -> None:
        self.open = open_venues
        self.n_open = open_venues.sum(dim=-1)
        self.is_random = self.n_open > 1
        super().__init__(open_venues.shape[:-1], open_venues.shape[-1:], validate_args=False)

    def _zero_where_closed(self, values: th.Tensor) -> th.Tensor:
        return th.where(self.open, values, th.zeros_like(values))

    def _zero_where_certain(self, values: th.Tensor) -> th.Tensor:
        return th.where(self.is_random, values, th.zeros_like(values))

    def _softmax(self, logits: th.Tensor) -> th.Tensor:
        """Weights (n, K): softmax over open venues; uniform where none is."""
        all_closed = (self.n_open == 0).unsqueeze(-1)
        logits = th.where(self.open, logits, th.full_like(logits, -math.inf))
        return th.softmax(th.where(all_closed, th.zeros_like(logits), logits), dim=-1)

    def _log_weights(self, weights: th.Tensor) -> th.Tensor:
        """Logarithms (n, K); 0 where closed."""
        return self._zero_where_closed(weights).clamp(min=_SMALLEST).log() * self.open


class LogisticNormal(SimplexDistribution):
    r"""Softmax of independent Gaussians over the open venues, :math:`w = softmax(z)`, :math:`z_k \sim N(m_k, s_k^2)`.

    Adding one number to all of z changes no weight, so z is integrated along that line. With :math:`p_k = s_k^{-2}`,
    :math:`P = \sum p_k`, :math:`d_k = \log w_k - m_k` and K' open venues the density of the log-ratios
    :math:`(\log w_k/w_1)_{k \ge 2}`, which is Gaussian, is

    .. math:: \log p(w) = -\tfrac12 \Big(\sum p_k d_k^2 - \tfrac1P (\sum p_k d_k)^2\Big)
        - \tfrac12 \sum \log s_k^2 - \tfrac12 \log P - \tfrac{K'-1}{2} \log 2\pi ,

    the same whichever venue is the reference. `log_prob` and `entropy` are with respect to these log-ratios, in which
    both are closed forms; :meth:`log_prob_simplex` is with respect to the Lebesgue measure of the simplex. The two
    differ by :math:`-\sum \log w_k`, which no parameter enters: gradients and PPO's ratios are the same.

    Aitchison and Shen (1980), Logistic-normal distributions: some properties and uses, Biometrika 67, 261-272.

    Arguments are m, float (n, K); the logarithm of s, float (K,) or (n, K); and which venues are open, bool (n, K).
    """

    def __init__(self, mean: th.Tensor, log_std: th.Tensor, open_venues: th.Tensor) -> None:
        super().__init__(open_venues)
        self.mean_logits = self._zero_where_closed(mean)
        self.log_std = self._zero_where_closed(log_std.expand_as(mean))
        self.precision = self._zero_where_closed(th.exp(-2 * self.log_std))
        self.total_precision = th.where(self.n_open > 0, self.precision.sum(dim=-1), th.ones_like(mean[..., 0]))

    def rsample(self, sample_shape: Any = ()) -> th.Tensor:
        """Weights (n, K), differentiable."""
        shape = self._extended_shape(th.Size(sample_shape))
        noise = th.randn(shape, dtype=self.mean_logits.dtype, device=self.mean_logits.device)
        return self._softmax(self.mean_logits + noise * self.log_std.exp())

    @property
    def mode(self) -> th.Tensor:
        """Softmax of the means, the mode of the log-ratios; (n, K)."""
        return self._softmax(self.mean_logits)

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """Log density (n,) of weights (n, K), with respect to log-ratios."""
        d = self._log_weights(value) - self.mean_logits
        weighted = (self.precision * d).sum(dim=-1)
        square = (self.precision * d * d).sum(dim=-1) - weighted**2 / self.total_precision
        return self._zero_where_certain(-0.5 * square - self._half_log_det())

    def log_prob_simplex(self, value: th.Tensor) -> th.Tensor:
        """Log density (n,) of weights (n, K), with respect to the Lebesgue measure of the simplex."""
        return self.log_prob(value) - self._zero_where_certain(self._log_weights(value).sum(dim=-1))

    def entropy(self) -> th.Tensor:
        """Differential entropy (n,) of the log-ratios."""
        return self._zero_where_certain(self._half_log_det() + 0.5 * (self.n_open - 1))

    def _half_log_det(self) -> th.Tensor:
        """Half the log-determinant of the log-ratios' covariance, with its 2 pi."""
        log_det = self.log_std.sum(dim=-1) + 0.5 * self.total_precision.log()
        return log_det + 0.5 * math.log(2 * math.pi) * (self.n_open - 1)


class DirichletMultinomial(SimplexDistribution):
    r"""Shares of equal `parts`: chances :math:`p \sim Dirichlet(c\,m)`, and each part goes to a venue drawn from p.

    m is the softmax of the logits over open venues, and c the concentration. The mean is m whatever `parts` and c are,
    so that a cost which is linear in the weights has the mean of m's, and a venue with little chance is rarely tried at
    all, where noise added to weights and cut off at 0 sends something everywhere. The smaller c, the more the parts
    stay together: near 0 all go to one venue, and as c grows they become independent. With
    :math:`n_k` parts to venue k, of N, the probability of a sequence of draws is

    .. math:: \log p = \log\Gamma(c) - \log\Gamma(c + N) + \sum_k \log\Gamma(n_k + c m_k) - \log\Gamma(c m_k) ,

    which differs from that of the counts by what no parameter enters. Mosimann (1962), On the compound multinomial
    distribution, the multivariate beta-distribution, and correlations among proportions, Biometrika 49, 65-82.

    Arguments are the logits, float (n, K), which venues are open, bool (n, K), the number of parts and c.
    """

    has_rsample = False

    def __init__(self, logits: th.Tensor, open_venues: th.Tensor, parts: int, concentration: float) -> None:
        super().__init__(open_venues)
        self.parts, self.concentration = parts, concentration
        self.share = self._softmax(logits)

    @property
    def _alpha(self) -> th.Tensor:
        return (self.concentration * self.share).clamp(min=_SMALLEST_ALPHA)

    def sample(self, sample_shape: Any = ()) -> th.Tensor:
        """Weights (n, K), multiples of 1 / parts."""
        with th.no_grad():
            shape = self._extended_shape(th.Size(sample_shape))
            alpha = self._alpha.expand(shape).reshape(-1, shape[-1])
            uniform = th.rand_like(alpha).clamp(min=_SMALLEST)
            logs = th._standard_gamma(alpha + 1.0).log() + uniform.log() / alpha  # of gammas, which would underflow
            chances = self._softmax(logs.reshape(shape)).reshape(-1, shape[-1])
            drawn = th.multinomial(chances, self.parts, replacement=True)
            each = th.full_like(drawn, 1.0 / self.parts, dtype=alpha.dtype)
            weights = th.zeros_like(alpha).scatter_add_(1, drawn, each).reshape(shape)
            return th.where(self.is_random.unsqueeze(-1), weights, self.share)

    rsample = sample

    @property
    def mean(self) -> th.Tensor:
        """Mean weights (n, K)."""
        return self.share

    @property
    def mode(self) -> th.Tensor:
        """The mean weights (n, K), which is what a trained policy plays."""
        return self.share

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """Log-probability (n,) of a sequence of draws with weights (n, K)."""
        counts, alpha = th.round(value * self.parts), self._alpha
        each = self._zero_where_closed(th.lgamma(counts + alpha) - th.lgamma(alpha)).sum(dim=-1)
        total = math.lgamma(self.concentration) - math.lgamma(self.concentration + self.parts)
        return self._zero_where_certain(each + total)

    def entropy(self) -> th.Tensor:
        """Entropy (n,) of independent parts, the most that a sequence of draws with this mean can have."""
        return self._zero_where_certain(-self.parts * (self.share * self._log_weights(self.share)).sum(dim=-1))


@register_kl(LogisticNormal, LogisticNormal)
def _kl_logistic_normal(p: LogisticNormal, q: LogisticNormal) -> th.Tensor:
    gap, variance = p.mean_logits - q.mean_logits, th.exp(2 * p.log_std)
    one = (q.precision * (gap**2 + variance)).sum(dim=-1)
    other = ((q.precision * gap).sum(dim=-1) ** 2 + (q.precision**2 * variance).sum(dim=-1)) / q.total_precision
    return p._zero_where_certain(0.5 * (one - other - (p.n_open - 1)) + q._half_log_det() - p._half_log_det())


class NormalOfPresent(Normal):
    """Independent normals (n, A) of which only those `present`, bool (n, A), are random; the others are 0."""

    def __init__(self, loc: th.Tensor, scale: th.Tensor, present: th.Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.present = present

    def rsample(self, sample_shape: Any = ()) -> th.Tensor:
        """Actions (n, A), differentiable."""
        return super().rsample(sample_shape) * self.present

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """Log densities (n, A), 0 where nothing is random."""
        return super().log_prob(value) * self.present

    def entropy(self) -> th.Tensor:
        """Entropies (n, A), 0 where nothing is random."""
        return super().entropy() * self.present


@register_kl(NormalOfPresent, NormalOfPresent)
def _kl_of_present(p: NormalOfPresent, q: NormalOfPresent) -> th.Tensor:
    return kl_divergence(Normal(p.loc, p.scale), Normal(q.loc, q.scale)) * p.present


class SplitAndPace(Distribution):
    """Weights over venues and, where there is one, an independent pace in (0, 1): the first weight of a pair.

    Actions are (n, K) weights, or (n, K + 1) with ``2 pace - 1`` last.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, split: SimplexDistribution, pace: SimplexDistribution | None = None) -> None:
        self.split, self.pace = split, pace
        n_actions = split.event_shape[0] + (pace is not None)
        super().__init__(split.batch_shape, th.Size([n_actions]), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> th.Tensor:
        """Actions (n, K) or (n, K + 1), differentiable."""
        weights = self.split.rsample(sample_shape)
        return weights if self.pace is None else self._join(weights, self.pace.rsample(sample_shape))

    @property
    def mode(self) -> th.Tensor:
        """Most likely actions."""
        return self.split.mode if self.pace is None else self._join(self.split.mode, self.pace.mode)

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """Log density (n,) of actions: the sum of that of weights and that of the pace."""
        if self.pace is None:
            return self.split.log_prob(value)
        pace = ((value[..., -1] + 1) / 2).clamp(_PACE_EDGE, 1 - _PACE_EDGE)
        pair = th.stack((pace, 1 - pace), dim=-1)
        return self.split.log_prob(value[..., :-1]) + self.pace.log_prob(pair)

    def entropy(self) -> th.Tensor:
        """Entropy (n,), of weights and pace together."""
        return self.split.entropy() + (0 if self.pace is None else self.pace.entropy())

    @staticmethod
    def _join(weights: th.Tensor, pair: th.Tensor) -> th.Tensor:
        return th.cat((weights, 2 * pair[..., :1] - 1), dim=-1)


@register_kl(DirichletMultinomial, DirichletMultinomial)
def _kl_dirichlet_multinomial(p: DirichletMultinomial, q: DirichletMultinomial) -> th.Tensor:
    """Divergence of the Dirichlets that parts are drawn from: at least that of the parts."""
    a, b = p._alpha, q._alpha
    each = th.lgamma(b) - th.lgamma(a) + (a - b) * (th.digamma(a) - th.digamma(th.tensor(p.concentration)))
    return p._zero_where_certain(p._zero_where_closed(each).sum(dim=-1))


@register_kl(SplitAndPace, SplitAndPace)
def _kl_split_and_pace(p: SplitAndPace, q: SplitAndPace) -> th.Tensor:
    divergence = th.distributions.kl_divergence(p.split, q.split)
    if p.pace is None or q.pace is None:
        return divergence
    return divergence + th.distributions.kl_divergence(p.pace, q.pace)
