"""Train REINFORCE, A2C and PPO side by side, score them with every rule on the same scenarios, and say who is better.

python scripts/compare.py --market notebook
python scripts/compare.py --market us_equity --env VenueSelect-v1 --algos ppo,maskableppo --seeds 5
"""

import argparse
import sys
from pathlib import Path

import sor_sb3
from sor_sb3.envs import ENV_IDS
from sor_sb3.experiments.comparison import compare
from sor_sb3.experiments.config import compare_config
from sor_sb3.experiments.folder import named_folder
from sor_sb3.reports.tables import print_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--market", default="us_equity", help="preset, market .yaml, or quotes .parquet/.csv")
    parser.add_argument("--env", default="OrderSplit-v1", help=", ".join(ENV_IDS))
    parser.add_argument("--algos", default="reinforce,a2c,ppo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timesteps", type=int, default=None, help="default: each algorithm's own budget")
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--log-dir", type=Path, default=Path("logs"))
    args = parser.parse_args()

    market = sor_sb3.load_market(args.market)
    config = compare_config(
        market, args.env, args.algos.split(","), args.seeds, timesteps=args.timesteps, scenarios=args.scenarios
    )
    folder = named_folder(args.log_dir, None, market.name, config.env)
    results = compare(config, folder)  # stop it at any time: the same command continues

    print_results(results)
    print(f"results, figures, models and TensorBoard logs: {folder}")


if __name__ == "__main__":
    try:
        main()
    except sor_sb3.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
