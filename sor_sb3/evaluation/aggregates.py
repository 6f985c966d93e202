"""Robust summaries of scores over training seeds and scenarios: rliable's four, with intervals that hold for few seeds.

Point estimates: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS),
with training seeds for runs and scenarios for tasks. Intervals: each summary is linearised, cell by cell (its influence
function, or Hajek's projection), for the two-way interval of :mod:`sor_sb3.evaluation.statistics`; docs/statistics.md.

Scores are float64 `(n_seeds, n_scenarios)`, **higher is better**; :func:`normalised_scores` makes them from costs.
`blocks` and the ValueErrors are those of :mod:`sor_sb3.evaluation.statistics`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sor_sb3.evaluation.statistics import (
    Estimate,
    FloatArray,
    checked_blocks,
    checked_costs,
    checked_pair,
    mean_with_interval,
    paired_difference,
    two_way_estimate,
)

TRIMMED_EACH_SIDE = 0.25


def normalised_scores(
    costs: npt.ArrayLike, reference_costs: npt.ArrayLike, oracle_costs: npt.ArrayLike
) -> FloatArray | None:
    """Costs as scores on which the reference has mean 0 and the oracle mean 1: ``(reference_j - cost_ij) / gap``.

    The gap is one number, the mean of ``reference - oracle``, so that no scenario is divided by its own small gap.

    Args:
        costs: float64 (n_seeds, n_scenarios), any unit, lower is better.
        reference_costs: float64 (1, n_scenarios), a rule's row; `oracle_costs` too.

    Returns:
        Scores without unit, float64 (n_seeds, n_scenarios), or None if the oracle is not significantly cheaper than
        the reference, so that there is no gap to measure in.

    >>> normalised_scores([[3.0, 2.0, 2.5]], [[4.0, 5.0, 4.5]], [[2.0, 2.9, 2.6]]).round(2).tolist()
    [[0.5, 1.5, 1.0]]
    """
    policy, reference = checked_pair(costs, reference_costs)
    _, oracle = checked_pair(costs, oracle_costs)
    saving = paired_difference(reference, oracle)
    if not saving.ci95_low > 0:
        return None
    return (reference.mean(axis=0) - policy) / saving.mean


def interquartile_mean(scores: npt.ArrayLike, blocks: npt.ArrayLike | None = None) -> Estimate:
    """Mean of the middle half of all cells, seeds and scenarios pooled (a 25 % trimmed mean), in the unit of `scores`.

    The influence of a cell is its winsorised deviation over one half.

    >>> interquartile_mean([[0.0, 1.0, 2.0, 99.0]]).mean
    1.5
    """
    cells = checked_costs(scores, "scores")
    block_index = checked_blocks(blocks, cells.shape[1])
    order = np.sort(cells, axis=None)
    cut = int(TRIMMED_EACH_SIDE * order.size)
    kept = order[cut : order.size - cut]
    winsorised = np.clip(cells, kept[0], kept[-1])
    influence = (winsorised - winsorised.mean()) / (1.0 - 2.0 * TRIMMED_EACH_SIDE)
    return two_way_estimate(float(kept.mean()), influence.mean(axis=0), [influence], block_index, 0.95)


def optimality_gap(scores: npt.ArrayLike, target: float = 1.0, blocks: npt.ArrayLike | None = None) -> Estimate:
    """By how much scores fall short of a target, on average: ``target - mean(min(score, target))``; 0 is best.

    A scenario that exceeds the target makes up for none that falls short. A target of 1 is the oracle's mean, for
    normalised scores.

    >>> optimality_gap([[0.5, 1.5, 0.7]]).mean.__round__(6)
    0.266667
    """
    return mean_with_interval(target - np.minimum(checked_costs(scores, "scores"), target), blocks)


def performance_profile(
    scores: npt.ArrayLike, taus: Sequence[float] | FloatArray, blocks: npt.ArrayLike | None = None
) -> list[Estimate]:
    """Share of all cells with a score above each tau: a survival function, one estimate a tau, within 0 and 1.

    The `taus` are in the unit of `scores`.

    >>> [e.mean for e in performance_profile([[0.2, 0.6, 0.9, 1.2]], [0.0, 0.5, 1.0])]
    [1.0, 0.75, 0.25]
    """
    cells = checked_costs(scores, "scores")
    return [_within_0_and_1(mean_with_interval((cells > tau).astype(np.float64), blocks)) for tau in taus]


def probability_of_improvement(
    scores: npt.ArrayLike, other_scores: npt.ArrayLike, blocks: npt.ArrayLike | None = None
) -> Estimate:
    """Chance that a run of one policy beats a run of another in a scenario; a tie counts one half, within 0 and 1.

    The mean over scenarios of ``P(X > Y) + P(X = Y) / 2``, every seed against every seed (Mann and Whitney's U over
    its largest value). With ``-costs`` its mean is :func:`sor_sb3.evaluation.statistics.probability_better`. The
    estimate's `p_value` is of the hypothesis of no difference, 0.5.

    >>> probability_of_improvement([[1.0, 2.0, 3.0, 4.0]], [[2.0, 2.0, 2.0, 2.0]]).mean
    0.625
    """
    x, y = checked_pair(scores, other_scores)
    block_index = checked_blocks(blocks, x.shape[1])
    wins = np.sign(x[:, None, :] - y[None, :, :]) / 2.0  # (n_seeds, n_other_seeds, n_scenarios)
    of_x, of_y = wins.mean(axis=1), -wins.mean(axis=0)  # each run's own part, Hajek's projection
    excess = of_x.mean(axis=0)
    columns, sides = (excess, [of_x, of_y]) if wins.any() else (None, [])  # nothing but ties is known without error
    estimate = two_way_estimate(float(excess.mean()), columns, sides, block_index, 0.95)
    moved = {name: getattr(estimate, name) + 0.5 for name in ("mean", "ci95_low", "ci95_high")}
    return _within_0_and_1(replace(estimate, **moved))


def _within_0_and_1(estimate: Estimate) -> Estimate:
    """The interval of a probability, cut at 0 and 1."""
    return replace(estimate, ci95_low=max(estimate.ci95_low, 0.0), ci95_high=min(estimate.ci95_high, 1.0))
