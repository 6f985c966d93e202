"""Risk of a policy's cost beside its mean: standard deviation and CVaR, each with a 95 % interval.

Costs, blocks and the ValueErrors are those of :mod:`sor_sb3.evaluation.statistics`: float64 `(n_seeds, n_scenarios)`,
a row a training seed, positive is bad. Both measures are of all cells pooled, in the unit of the costs, and less is
better. Intervals cover new scenarios and new training seeds: each measure is linearised, cell by cell, by its influence
function (Hampel et al. 1986, "Robust Statistics", chapter 2), as the summaries of `aggregates` are. docs/statistics.md
says why there is no bootstrap.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sor_sb3.evaluation.statistics import (
    Estimate,
    FloatArray,
    checked_blocks,
    checked_costs,
    checked_pair,
    two_way_estimate,
)
from sor_sb3.evaluation.tca import cvar

CVAR_LEVEL = 0.95


def _standard_deviation(cells: FloatArray) -> tuple[float, FloatArray]:
    """Of all cells, scenarios counted less one. Influence of a cell: ``((x - mean)^2 - sd^2) / (2 sd)``."""
    n_scenarios = cells.shape[1]
    if n_scenarios == 1 or np.ptp(cells) == 0.0:
        return 0.0, np.zeros_like(cells)
    squares = (cells - cells.mean()) ** 2 * (n_scenarios / (n_scenarios - 1))
    sd = float(np.sqrt(squares.mean()))
    return sd, (squares - squares.mean()) / (2.0 * sd)


def _cvar(cells: FloatArray) -> tuple[float, FloatArray]:
    """Influence of a cell: ``edge + max(x - edge, 0) / (1 - level) - CVaR``, the edge being the value at risk."""
    tail = max(int(np.ceil(round(cells.size * (1.0 - CVAR_LEVEL), 9))), 1)
    edge = np.partition(cells, cells.size - tail, axis=None)[cells.size - tail]
    excess = np.maximum(cells - edge, 0.0) / (1.0 - CVAR_LEVEL)
    return cvar(cells, CVAR_LEVEL), excess - excess.mean()


_MEASURES: dict[str, Callable[[FloatArray], tuple[float, FloatArray]]] = {"sd": _standard_deviation, "cvar95": _cvar}
RISK_MEASURES = tuple(_MEASURES)


def risk(measure: str, costs: npt.ArrayLike, blocks: npt.ArrayLike | None = None) -> Estimate:
    """The measure "sd" (standard deviation) or "cvar95" (mean of the dearest 5 %) of costs, with its interval.

    >>> risk("sd", [[1.0, 2.0, 3.0]]).mean, risk("cvar95", [[float(x) for x in range(1, 101)]]).mean
    (1.0, 98.0)
    """
    cells = checked_costs(costs, "costs")
    value, influence = _MEASURES[measure](cells)
    block_index = checked_blocks(blocks, cells.shape[1])
    return two_way_estimate(value, influence.mean(axis=0), [influence], block_index, 0.95)


def risk_difference(
    measure: str, costs: npt.ArrayLike, other_costs: npt.ArrayLike, blocks: npt.ArrayLike | None = None
) -> Estimate:
    """The measure of `costs` minus that of `other_costs`, paired by scenario; negative is less risk.

    >>> risk_difference("sd", [[2.0, 4.0, 6.0]], [[1.0, 2.0, 3.0]]).mean
    1.0
    """
    policy, other = checked_pair(costs, other_costs)
    block_index = checked_blocks(blocks, policy.shape[1])
    if np.array_equal(policy, other):
        return two_way_estimate(0.0, None, [], block_index, 0.95)
    (value, of_policy), (other_value, of_other) = _MEASURES[measure](policy), _MEASURES[measure](other)
    columns = of_policy.mean(axis=0) - of_other.mean(axis=0)
    return two_way_estimate(value - other_value, columns, [of_policy, of_other], block_index, 0.95)
