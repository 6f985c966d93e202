"""Constants of rules, chosen on validation scenarios: a learner is only as good as the best rule it is compared with.

A rule names its constants and the values to try in `constants`; the budget is that of a search for learners' settings.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from sor_sb3.envs.core import RoutingCore

if TYPE_CHECKING:
    from sor_sb3.market.spec import MarketSpec
    from sor_sb3.policies.protocol import Router

TRIALS, SCENARIOS = 20, 256
TRAINING_SCENARIOS = 50  # of a trial of a rule that learns; it has all of them once its constants are found
_chosen: dict[tuple[str, str, str], dict[str, float]] = {}


def tuned_constants(rule: type[Router], market: MarketSpec, env_id: str) -> dict[str, float]:
    """The values of `rule.constants` whose mean cost is lowest; the first ones where the rule does not fit the market.

    All combinations are tried, or `TRIALS` of them drawn without replacement, on the same `SCENARIOS` validation
    scenarios, without the mid's pure noise; a rule that learns has `TRAINING_SCENARIOS` for it. Found once a process
    for each rule, market and env.
    """
    combinations = [dict(zip(rule.constants, values, strict=True)) for values in product(*rule.constants.values())]
    if not rule.fits(market):
        return combinations[0]
    key = f"{rule.__module__}.{rule.__qualname__}", env_id, market.model_dump_json()
    if key not in _chosen:
        if len(combinations) > TRIALS:
            drawn = np.random.default_rng(0).choice(len(combinations), TRIALS, replace=False)
            combinations = [combinations[i] for i in sorted(drawn)]
        lives: dict[str, Any] = {"training_scenarios": TRAINING_SCENARIOS} if rule.learns else {}
        trials = [rule(market, env_id, 0, **constants, **lives) for constants in combinations]
        costs = [_mean_cost(router, market, env_id) for router in trials]
        _chosen[key] = combinations[int(np.argmin(costs))]
    return _chosen[key]


def _mean_cost(router: Router, market: MarketSpec, env_id: str) -> float:
    core = RoutingCore(env_id, market, SCENARIOS, data_split="validation")
    core.seed(list(range(core.n)))
    rows, costs, finished = core.reset(), np.zeros(core.n), np.zeros(core.n, dtype=bool)
    state: Any = None
    begins = np.ones(core.n, dtype=bool)
    while not finished.all():
        actions, state = router.predict(rows, state, begins)
        begins = np.zeros(core.n, dtype=bool)
        rows, _, done = core.step(actions)
        ended = np.flatnonzero(done & ~finished)
        costs[ended] = core.simulator.reduced_cost(ended)
        finished |= done
    return float(costs.mean())
