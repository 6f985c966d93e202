"""This package's envs, REINFORCE and policies in rl-baselines3-zoo's own command. The zoo does the training.

New algorithms must be registered inside the zoo's process, so this package starts the zoo's command::

    python -m sor_sb3.zoo train --algo reinforce --env OrderSplit-v1 -conf sor_sb3.zoo.reinforce
    python -m sor_sb3.zoo enjoy --algo reinforce --env OrderSplit-v1 --no-render

The zoo's own algorithms need only the zoo's own flags::

    rl_zoo3 train --algo ppo --env OrderSplit-v1 --gym-packages sor_sb3 -conf sor_sb3.zoo.ppo

``sor_sb3.zoo.ALGO`` are this package's tuned settings for ``us_equity``, as the zoo reads them.
"""

from __future__ import annotations

from typing import Any

import yaml

from sor_sb3.envs import ENV_IDS, LIQUIDATION_MARKETS
from sor_sb3.errors import UserError

# the zoo would pass these keys to the algorithm
_OURS_ALONE = ("variance_reduction", "envs_per_scenario", "critic_updates", "spread_power", "risk_aversion")

_CRITIC = "sor_sb3.callbacks.paired_critic.PairedCriticCallback"


def register_with_rl_zoo3() -> None:
    """Register REINFORCE (``--algo reinforce``, and for ``-optimize``) and this package's policies with the zoo.

    ``import sor_sb3`` registers the envs. A second call changes nothing.

    Raises:
        UserError: rl_zoo3 is not installed.
    """
    try:
        import rl_zoo3
        from rl_zoo3 import hyperparams_opt
    except ImportError as error:
        raise UserError(f"rl_zoo3 cannot be imported ({error}); install it with: pip install 'sor-sb3[zoo]'") from None
    from sb3_contrib import TRPO
    from stable_baselines3 import A2C, PPO, SAC

    from sor_sb3.algorithms.policies import SplitPolicy, VenuePolicy
    from sor_sb3.algorithms.reinforce import REINFORCE
    from sor_sb3.algorithms.sac_policy import VenueSACPolicy

    rl_zoo3.ALGOS["reinforce"] = REINFORCE
    hyperparams_opt.HYPERPARAMS_SAMPLER["reinforce"] = sample_reinforce_params
    hyperparams_opt.HYPERPARAMS_CONVERTER["reinforce"] = dict
    SAC.policy_aliases[VenueSACPolicy.__name__] = VenueSACPolicy
    for algorithm in (PPO, A2C, TRPO, REINFORCE):
        for policy in (VenuePolicy, SplitPolicy):
            algorithm.policy_aliases[policy.__name__] = policy


def sample_reinforce_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters of REINFORCE that the zoo's ``-optimize`` tries."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True),
        "n_steps": trial.suggest_categorical("n_steps", [20, 50, 100, 200, 500]),
        "baseline": trial.suggest_categorical("baseline", ["none", "mean", "value"]),
        "vf_coef": trial.suggest_float("vf_coef", 0.01, 1.0, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.1, log=True),
        "max_grad_norm": trial.suggest_float("max_grad_norm", 0.3, 2.0),
        "use_rms_prop": trial.suggest_categorical("use_rms_prop", [False, True]),
    }


def zoo_hyperparameters(algo: str, market: str = "us_equity") -> dict[str, dict[str, Any]]:
    """This package's settings of an algorithm by env id, as the zoo's ``-conf`` reads them."""
    register_with_rl_zoo3()
    closed_forms = LIQUIDATION_MARKETS if algo.lower() == "ppo" else ()
    return {env_id: _for_the_zoo(algo, env_id, market) for env_id in (*ENV_IDS, *closed_forms)}


def _for_the_zoo(algo: str, env_id: str, market: str) -> dict[str, Any]:
    from sor_sb3.algorithms.hyperparameters import default_hyperparameters
    from sor_sb3.market.loading import load_market

    given = default_hyperparameters(algo, env_id, market)
    settings = {k: v for k, v in given.items() if k not in _OURS_ALONE}
    if settings.get("n_steps") == "episode":
        order = load_market(market).order
        settings["n_steps"] = order.horizon_steps * order.waves
    if updates := given.get("critic_updates"):  # no two of the zoo's envs play one scenario
        settings["callback"] = [{_CRITIC: {"envs_per_scenario": 1, "updates": updates}}]
    if settings.get("baseline") == "scenario":
        settings["baseline"] = "value"
    kwargs = settings.get("policy_kwargs")
    if kwargs:  # the zoo evaluates this text, with `nn` imported
        pairs = [f"{k}=nn.{v}" if k == "activation_fn" else f"{k}={v!r}" for k, v in kwargs.items()]
        settings["policy_kwargs"] = f"dict({', '.join(pairs)})"
    return dict(yaml.safe_load(yaml.safe_dump(settings)))
