"""What a second worker is worth: a grid's throughput with two workers to that with one, beside the local pool's.

    python benchmarks/bench_grid.py [--quick] [--out FILE.json]

Runs of A2C on the notebook's two markets, as a grid and, as many runs of one market, as a single comparison. The whole
command is timed by the wall clock: processes that start, rules, training, leases, scores and reports. Only on two idle
cores is the ratio what the name says.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measuring import (
    Case,
    Column,
    Results,
    Sheet,
    alternate,
    bars,
    command,
    new_chart,
    number,
    ratio,
    rows_of,
    save_chart,
)

from sor_sb3.experiments.comparison import compare
from sor_sb3.experiments.config import CompareConfig, compare_config
from sor_sb3.experiments.grid import grid_config, run_grid
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec

TITLE = "Grids"
MARKETS, ENV_ID, ALGO = ("notebook", "notebook_blind"), "OrderSplit-v1", "a2c"
SEEDS, SCENARIOS = 4, 20  # of each market
TIMESTEPS, QUICK_TIMESTEPS = 600_000, 20_000  # of each run
TWO_WORKERS = "grid, 2 workers"


def measure(quick: bool) -> Results:
    """Rates in timesteps trained."""
    timesteps = QUICK_TIMESTEPS if quick else TIMESTEPS
    markets = [load_market(name) for name in MARKETS]

    def config(market: MarketSpec, env: str, algos: list[str], seeds: int = SEEDS) -> CompareConfig:
        return compare_config(market, env, algos, seeds, 0, timesteps, None, SCENARIOS)

    grid, single = grid_config(markets, [ENV_ID], [ALGO], config), config(markets[0], ENV_ID, [ALGO], 2 * SEEDS)

    def run_one(workers: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            compare(single, Path(folder) / "comparison", workers, extras=())
        return 2 * SEEDS * timesteps

    def run_many(workers: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            run_grid(grid, Path(folder) / "grid", workers, extras=())
        return 2 * SEEDS * timesteps

    cases = [
        Case("local pool, 1 worker", lambda: run_one(1), clock="wall", warm_up=False),
        Case("local pool, 2 workers", lambda: run_one(2), {"to_one": "local pool, 1 worker"}, "wall", False),
        Case("grid, 1 worker", lambda: run_many(1), clock="wall", warm_up=False),
        Case(TWO_WORKERS, lambda: run_many(2), {"to_one": "grid, 1 worker"}, "wall", False),
    ]
    alternate(cases, 1 if quick else 2, 0.0)
    return {"runs": 2 * SEEDS, "timesteps": timesteps, "rows": rows_of(cases)}


def sheets(results: Results) -> list[Sheet]:
    """One table."""
    note = (
        f"{results['runs']} runs of {ALGO} with {results['timesteps']:,} timesteps each, on {' and '.join(MARKETS)} "
        f"as a grid, on the first as a single comparison; {ENV_ID}. Wall time of the whole, from start to report."
    )
    columns = (
        Column("case", "case"),
        Column("per_s", "timesteps / wall s", lambda value: number(value)),
        Column("to_one", "times one worker", ratio),
    )
    return [Sheet("A grid's workers", columns, results["rows"], note)]


def draw(results: Results, folder: Path) -> list[Path]:
    """Timesteps per second."""
    figure, [axes] = new_chart(height=2.4)
    bars(axes, results["rows"], lambda row: row["per_s"], ("local pool",))
    axes.set_xlabel("timesteps trained per wall second")
    axes.set_title("A grid's workers", fontsize=10)
    return [save_chart(figure, folder / "performance_grid.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
