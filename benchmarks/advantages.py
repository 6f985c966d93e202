"""What an advantage says of a direction, by lambda: whether the critic prices what is left over.

    python benchmarks/advantages.py [--market us_equity] [--rollouts 60]

An untrained `SplitPolicy` draws splits; how far a draw lies from its mean in a direction (to dark pools, say) is set
against the advantage that the step then has. A lambda of 1 is unbiased and noisy; where a smaller one says something
else, the critic is wrong about what shares cost that are still to be filled. The critic is that of
`PairedCriticCallback`, fitted for `FITTED` rollouts before anything is counted, and the actor learns nothing.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from sor_sb3.callbacks.paired_critic import PairedCriticCallback, less_the_others
from sor_sb3.envs.observation import ObservationView
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.run import make_model, make_training_env
from sor_sb3.market.loading import load_market

LAMBDAS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0)
FITTED = 30
ENV_ID = "OrderSplit-v1"


def directions(view: ObservationView, shift: np.ndarray) -> dict[str, np.ndarray]:
    """How far draws lie from their means, (n,) each, in directions with a name; `shift` (n, K) is in weights."""
    first, later = ~view.is_later, view.is_later & (view.slice_shares > 1e-6)
    dark = (shift * view.dark).sum(axis=1)
    beside = (shift * (~view.dark & (view.sweep_share <= 0.0))).sum(axis=1)
    named = {"dark pools": dark, "lit venues that a sweep leaves out": beside}
    waves = {"first wave": first, "later waves": later}
    return {f"{name}, {wave}": moved * of for name, moved in named.items() for wave, of in waves.items()}


def advantages(buffer: Any, last_values: th.Tensor, dones: np.ndarray, gae_lambda: float, group: int) -> np.ndarray:
    """Advantages (T, n) at another lambda, less those of the others in a scenario."""
    buffer.gae_lambda = gae_lambda
    buffer.compute_returns_and_advantage(last_values, dones)
    return less_the_others(buffer.advantages, group)


def measure(market_name: str, rollouts: int) -> dict[tuple[str, float], tuple[float, float]]:
    """Mean slope and its standard error, by direction and lambda."""
    market = load_market(market_name)
    config = train_config("ppo", ENV_ID, market, 0, settings={"n_envs": 256})
    group = config.hyperparameters["envs_per_scenario"]
    model = make_model(config, make_training_env(config))
    model.set_logger(Logger(folder=None, output_formats=[]))
    _, callback = model._setup_learn(10**9, PairedCriticCallback(group))
    callback.on_training_start({}, {})
    slopes: dict[tuple[str, float], list[float]] = defaultdict(list)
    for rollout in range(FITTED + rollouts):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        if rollout < FITTED:
            continue
        buffer = model.rollout_buffer
        rows = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        with th.no_grad():
            mean = model.policy.get_distribution(th.as_tensor(rows)).distribution.mode.numpy()
            last_values = model.policy.predict_values(th.as_tensor(model._last_obs))
        moved = directions(ObservationView.of(rows, market), buffer.actions.reshape(mean.shape) - mean)
        for gae_lambda in LAMBDAS:
            found = advantages(buffer, last_values, model._last_episode_starts, gae_lambda, group).ravel()
            for name, along in moved.items():
                slopes[name, gae_lambda].append(float(found @ along / max(along @ along, 1e-12)))
    return {key: (float(np.mean(v)), float(np.std(v) / np.sqrt(len(v)))) for key, v in slopes.items()}


def main() -> None:
    """Print a table, Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--market", default="us_equity")
    parser.add_argument("--rollouts", type=int, default=60)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    found = measure(arguments.market, arguments.rollouts)
    print(f"| direction | {' | '.join(f'{value:g}' for value in LAMBDAS)} |\n|---{'|---' * len(LAMBDAS)}|")
    for name in dict.fromkeys(name for name, _ in found):
        cells = (f"{found[name, value][0]:.4f} +- {found[name, value][1]:.4f}" for value in LAMBDAS)
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
