"""Train an algorithm in a closed-form market and hold it against the best policy: one run, one folder.

FOLDER/ENV.zip, the last policy, and results.json, what it was trained with and how it scores.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from sor_sb3.algorithms.hyperparameters import (
    complete_hyperparameters,
    constructor_arguments,
    default_hyperparameters,
    policy_of,
)
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.callbacks.checkpoint import write_policy
from sor_sb3.envs.liquidation import LiquidationCore
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.liquidation import LiquidationScore, score_liquidation
from sor_sb3.experiments.folder import RESULTS_FILE
from sor_sb3.experiments.run import SEED_STRIDE_BITS
from sor_sb3.files import write_json
from sor_sb3.market.liquidation import LiquidationMarket

_OF_ROUTING = ("critic_updates", "normalize", "risk_aversion")  # settings that mean nothing here


class _Progress(BaseCallback):
    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._report(self.num_timesteps)


def make_liquidation_model(
    algo: str,
    env: str,
    market: LiquidationMarket,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    n_envs: int | None = None,
    timesteps: int | None = None,
    defaults: dict[str, Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """An algorithm of SB3 in a closed-form market's env, and its hyperparameters; arguments as of `train_config`.

    Where no `defaults` are given and none ship for the env, they are the constructor's own.

    Raises:
        UserError: the algorithm does not fit the env, or a setting is wrong or means nothing here.
    """
    core = LiquidationCore(env, market, 1)
    found = find_algorithm(algo, core.action_space)
    names = core.env_id, market.name
    if defaults is None and default_hyperparameters(found.name, *names) == default_hyperparameters(found.name, "", ""):
        defaults = default_hyperparameters("others", *names)  # what ships for the algorithm is of envs that route
    values = complete_hyperparameters(found.name, core.env_id, market, settings or {}, n_envs, timesteps, defaults)  # type: ignore[arg-type]
    values.pop("variance_reduction", None)
    for name in _OF_ROUTING:
        if values.get(name):
            raise UserError(f"{name} is {values[name]!r}, which means nothing in {core.env_id}; set it to 0 or false")
    venv = make_vec_env(
        core.env_id,
        market,
        values["n_envs"],
        seed=seed << SEED_STRIDE_BITS,
        envs_per_scenario=values.get("envs_per_scenario", 1),
    )
    policy, arguments = policy_of(values["policy"]), constructor_arguments(values)
    arguments.setdefault("device", "cpu")
    try:
        return found.load()(policy, venv, seed=seed, **arguments), values
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(f"algorithm '{found.name}' refuses its settings: {error}; change them with --set") from error


def train_liquidation(
    folder: Path,
    algo: str,
    env: str,
    market: LiquidationMarket,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> LiquidationScore:
    """Train, score on test scenarios, and leave policy and results in `folder`.

    `report` is called with the timesteps done and their total; `settings` are those of `make_liquidation_model`.
    """
    torch.set_num_threads(1)
    model, values = make_liquidation_model(algo, env, market, seed, **settings)
    total = values["n_timesteps"]
    model.learn(total, callback=None if report is None else _Progress(lambda done: report(min(done, total), total)))
    score = score_liquidation(model, env, market)
    write_policy(model, folder / f"{env.removeprefix('sor_sb3:')}.zip", folder / "vecnormalize.pkl")
    about = {
        "algo": algo,
        "env": env,
        "market": market.model_dump(mode="json"),
        "seed": seed,
        "hyperparameters": values,
    }
    write_json(folder / RESULTS_FILE, {"kind": "liquidation", **about, "score": asdict(score)})
    return score
