"""How long it takes to start: the import, the command, and the first step with and without compiled kernels.

    python benchmarks/bench_startup.py [--quick] [--out FILE.json]

Each is a process of its own, by the wall clock; the two sides of a difference take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Column, Results, Sheet, bars, command, new_chart, number, save_chart, spread

TITLE = "Starting"
FIRST_STEP = (
    "import numpy as np, sor_sb3; venv = sor_sb3.make_vec_env('OrderSplit-v1', 'us_equity', n_envs=8, seed=0); "
    "venv.reset(); venv.step(np.ones((8, *venv.action_space.shape), dtype=np.float32))"
)
PROGRAMS = {
    "python, nothing imported": "pass",
    "import gymnasium": "import gymnasium",
    "import sor_sb3": "import sor_sb3",
    "sor-sb3 --help": "import sys; sys.argv = ['sor-sb3', '--help']; from sor_sb3.cli import main; main()",
}
HEAVY = ("torch", "numba", "stable_baselines3", "matplotlib")
EMPTY_CACHE, KEPT_KERNELS = "first step, kernels compiled", "first step, kernels loaded"


def start(program: str, **environment: str) -> float:
    """Wall seconds of a Python process."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    return time.perf_counter() - started


def loaded_by_import() -> list[str]:
    """Which heavy libraries `import sor_sb3` loads."""
    program = f"import sys, sor_sb3; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return told.stdout.split()


def first_steps(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds to the first step with an empty kernel cache, and again."""
    first, again = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            first.append(start(FIRST_STEP, NUMBA_CACHE_DIR=folder))
            again.append(start(FIRST_STEP, NUMBA_CACHE_DIR=folder))
    return first, again


def measure(quick: bool) -> Results:
    """Seconds of each program, medians of several processes."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        start(program)  # so that files are in memory and bytecode is there
    for number_ in range(3 if quick else 11):
        for name in list(PROGRAMS) if number_ % 2 == 0 else reversed(list(PROGRAMS)):
            seconds[name].append(start(PROGRAMS[name]))
    beyond = [a - b for a, b in zip(seconds["import sor_sb3"], seconds["import gymnasium"], strict=True)]
    seconds["import sor_sb3, beyond gymnasium"] = beyond
    seconds[EMPTY_CACHE], seconds[KEPT_KERNELS] = first_steps(1 if quick else 3)
    rows = [{"case": name, "s": spread(values), "processes": len(values)} for name, values in seconds.items()]
    return {"rows": rows, "loaded": loaded_by_import()}


def sheets(results: Results) -> list[Sheet]:
    """One table."""
    columns = (
        Column("case", "process"),
        Column("s", "wall s, median", lambda value: number(value, 3)),
        Column("s", "lowest - highest", lambda value: f"{value[1]:.3f} - {value[2]:.3f}"),
        Column("processes", "processes"),
    )
    loaded = ", ".join(results["loaded"]) or "none of them"
    note = (
        f"Of {', '.join(HEAVY)} `import sor_sb3` loads: {loaded}. The first step is 8 envs of us_equity, imports "
        "included, with an empty NUMBA_CACHE_DIR and with the same one again."
    )
    return [Sheet("Starting", columns, results["rows"], note)]


def draw(results: Results, folder: Path) -> list[Path]:
    """Seconds of each."""
    figure, (upper, lower) = new_chart(height=3.6, rows=2)
    first_step = [row for row in results["rows"] if row["case"] in (EMPTY_CACHE, KEPT_KERNELS)]
    rest = [row for row in results["rows"] if row not in first_step]
    bars(upper, rest, lambda row: row["s"], ("python", "import gymnasium"))
    bars(lower, first_step, lambda row: row["s"], ())
    lower.set_xlabel("wall seconds of a process")
    upper.set_title("Starting", fontsize=10)
    return [save_chart(figure, folder / "performance_startup.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
