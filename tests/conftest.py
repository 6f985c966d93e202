"""What several test modules share: one thread a process, and a comparison made by the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("thorough", max_examples=1000)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads torch; the commands that tests start inherit it

COMMAND = Path(sys.executable).parent / "sor-sb3"
COMPARISON = (
    "compare --market notebook --algos reinforce,ppo --seeds 2 --timesteps 2000 --n-envs 8 --scenarios 20 "
    "--set n_steps=50 --name comparison"
).split()
RUN_NAMES = (
    "reinforce/OrderSplit-v1_1",
    "reinforce/OrderSplit-v1_2",
    "ppo/OrderSplit-v1_1",
    "ppo/OrderSplit-v1_2",
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Recordings that tests read are kept in a folder that goes with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOR_SB3_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Finished:
    """A comparison that ran to its end, and what the command said."""

    folder: Path
    stdout: str
    stderr: str


def run_command(*arguments: object, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the installed ``sor-sb3`` in a process of its own."""
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two algorithms, two seeds, by the real command; read it, do not write into it."""
    log_dir = tmp_path_factory.mktemp("comparison")
    done = run_command(*COMPARISON, "--workers", 1, "--log-dir", log_dir)
    assert done.returncode == 0, done.stderr
    return Finished(log_dir / "comparison", done.stdout, done.stderr)
