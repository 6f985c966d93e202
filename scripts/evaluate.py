"""Score trained runs beside the rules and the oracle, on the same test scenarios.

python scripts/evaluate.py logs/us_equity_OrderSplit-v1/ppo/OrderSplit-v1_*
"""

import argparse
import sys
from pathlib import Path

import sor_sb3
from sor_sb3.experiments.reopen import evaluate_runs
from sor_sb3.reports.tables import print_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders; runs of one algorithm are its training seeds")
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=10_000, help="of the first scenario")
    args = parser.parse_args()

    print_results(evaluate_runs(args.runs, args.scenarios, args.seed))


if __name__ == "__main__":
    try:
        main()
    except sor_sb3.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
