"""Train one algorithm on one market, watch it in TensorBoard, and score it on scenarios that it has never seen.

python scripts/train.py --algo ppo --market us_equity --env OrderSplit-v1 --timesteps 600000
tensorboard --logdir logs
"""

import argparse
import sys
from pathlib import Path

import torch

import sor_sb3
from sor_sb3.envs import ENV_IDS
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.folder import new_run_folder, path_component
from sor_sb3.experiments.run import load_policy, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", default="ppo", help="reinforce, a2c, ppo, maskableppo, sac, ...")
    parser.add_argument("--market", default="us_equity", help="preset, market .yaml, or quotes .parquet/.csv")
    parser.add_argument("--env", default="OrderSplit-v1", help=", ".join(ENV_IDS))
    parser.add_argument("--timesteps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("logs"))
    args = parser.parse_args()
    torch.set_num_threads(1)  # with small networks two threads are several times slower

    market = sor_sb3.load_market(args.market)
    config = train_config(args.algo, args.env, market, args.seed, args.timesteps)
    folder = new_run_folder(args.log_dir / path_component(config.algo), config.env)

    baselines = [market.reference_router, "net_price_sweep", market.oracle]
    train(config, folder, folder / "tensorboard" / "learner", baselines, folder / "tensorboard", verbose=1)

    policies = {args.algo: load_policy(config, folder), **{name: name for name in baselines}}
    result = sor_sb3.evaluate(policies, env=config.env, market=market, scenarios=1000)
    for name in result.names():
        cost, difference = result.cost(name), result.difference(args.algo, name)
        print(f"{name:18s} {cost.mean:8.4f} {market.cost_unit}")
        print(f"    {args.algo} minus it: {difference.mean:+.4f}, 95 % interval {difference.ci95}")
    print(f"saved in {folder}")


if __name__ == "__main__":
    try:
        main()
    except sor_sb3.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
