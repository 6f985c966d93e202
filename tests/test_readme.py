"""The README's commands and Python screen run as written, in their order, at a small budget."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from sor_sb3 import cli
from sor_sb3.experiments.config import TrainConfig, TuneConfig
from sor_sb3.experiments.run import validation_evaluator
from tests.market.quote_fixtures import write_recording

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ").partition("  #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
SMALL = {  # a later option replaces an earlier one
    "train": "--timesteps 400 --n-envs 4 --no-progress",
    "compare": "--timesteps 400 --n-envs 4 --seeds 1 --scenarios 20 --workers 1 --no-progress",
    "tune": "--trials 2 --seeds 1 --timesteps 400 --workers 1 --no-progress",
    "evaluate": "--scenarios 20",
    "markets check": "--scenarios 20",
}
SMALL_PYTHON = {r"learn\([\d_]+": "learn(5120", r"scenarios=\d+": "scenarios=20"}


def run(*words: str) -> None:
    """Run ``sor-sb3`` in this process; it must end with status 0. A comparison that names no algorithms has one."""
    if words[0] == "compare" and "--algos" not in words:
        words = (*words, "--algos", "a2c")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        job = " ".join(words[: 2 if words[0] == "markets" else 1])
        patch.setattr(sys, "argv", ["sor-sb3", *words, *shlex.split(SMALL.get(job, ""))])
        cli.main()
    assert not ended.value.code


@pytest.fixture(scope="module", autouse=True)
def few_validations() -> Iterator[None]:
    """Runs look at their validation scenarios twice, and at few: most of a short run's time goes there."""
    configs = (TrainConfig, TuneConfig)
    with pytest.MonkeyPatch.context() as patch:
        for config in configs:
            patch.setattr(config.model_fields["validation_scenarios"], "default", 20)
            patch.setattr(config.model_fields["evaluations"], "default", 2)
            config.model_rebuild(force=True)
        patch.setattr(validation_evaluator, "__defaults__", (20,))
        yield
    for config in configs:
        config.model_rebuild(force=True)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands find the files that they name, and what `make compare` leaves."""
    folder = tmp_path_factory.mktemp("readme")
    write_recording(folder / "quotes.parquet", trades_path=folder / "trades.parquet")
    lines = re.findall(r"sor-sb3 (compare.*?) \$\(ARGS\)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(lines) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in lines:
            run(*shlex.split(line))
    return folder


def test_there_are_commands():
    assert {"make compare", "make test"} <= set(COMMANDS)
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    program, *words = shlex.split(command)
    if words[0] == "compare" and any("," in word for word in words):
        pytest.skip("workers of a grid do not have this test's budgets; tests/experiments/test_grid.py runs one")
    match Path(program).name:
        case "sor-sb3":
            run(*words)
        case "make":
            subprocess.run(["make", "--dry-run", "-C", str(ROOT), *words], check=True, capture_output=True)
        case "tensorboard":
            done = subprocess.run(
                [sys.executable, "-m", "tensorboard.main", *words, "--inspect"], capture_output=True, text=True
            )
            assert done.returncode == 0 and "eval/cost" in done.stdout
        case "rl_zoo3" | "python":
            if find_spec("rl_zoo3") is None:
                pytest.skip("rl_zoo3 is not installed")
            start = [sys.executable, "-m", "rl_zoo3.cli"] if program == "rl_zoo3" else [sys.executable]
            subprocess.run([*start, *words, "-n", "400"], check=True, capture_output=True)
        case _:
            pytest.fail(f"nobody checks '{command}'")


def test_the_python_screen_runs(workplace, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    text = code[1]
    for pattern, small in SMALL_PYTHON.items():
        text, n = re.subn(pattern, small, text)
        assert n == 1, pattern
    monkeypatch.chdir(workplace)
    exec(compile(text, "README.md", "exec"), {})
    assert "95 % interval" in capsys.readouterr().out


def test_scripts_run_one_after_the_other(tmp_path):
    """They train, compare, and score the run that the first one left."""
    for words in (
        "train.py --market notebook --timesteps 400",
        "compare.py --market notebook --algos a2c --seeds 1 --timesteps 400 --scenarios 20",
        "evaluate.py logs/ppo/OrderSplit-v1_1 --scenarios 20",
    ):
        script, *arguments = words.split()
        subprocess.run([sys.executable, ROOT / "scripts" / script, *arguments], check=True, cwd=tmp_path)
