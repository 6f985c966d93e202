"""Folders and files that cannot be written: one sentence, exit status 2, nothing half-written, nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.test_cli import call, tree

TINY: tuple[object, ...] = ("--market", "notebook", "--timesteps", 400, "--n-envs", 4, "--no-progress")
TRAIN: tuple[object, ...] = ("train", "--algo", "a2c", *TINY)
COMPARE: tuple[object, ...] = ("compare", "--algos", "a2c", "--seeds", 1, "--scenarios", 5, *TINY)
SHOW: tuple[object, ...] = ("markets", "show", "notebook")
Mount = Callable[[str], Path]


@pytest.fixture
def refused(monkeypatch, capsys) -> Callable[..., str]:
    """Calls a command that must be refused; returns its sentence."""

    def ask(*arguments: object) -> str:
        capsys.readouterr()
        status = call(monkeypatch, *arguments)
        err = capsys.readouterr().err
        said = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, len(said)) == (2, 1), err
        assert "Traceback" not in err
        return said[0]

    return ask


@pytest.fixture
def mount(tmp_path) -> Iterator[Mount]:
    """Mounts a disk in memory with the options given; returns the folder. Needs rights that a CI may not have."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(options: str) -> Path:
        mounted = folder.is_mount()
        command = ["mount", "-o", f"remount,{options}", folder] if mounted else ["mount", "-t", "tmpfs", "-o", options]
        done = subprocess.run(
            command if mounted else [*command, "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")
        return folder

    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    yield make
    subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.parametrize("command", [TRAIN, COMPARE, SHOW], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("log_dir", "reason"),
    [
        ("a_file/sub", "Not a directory"),
        ("dangling", "something that is not a folder has this name"),
        ("n" * 300, "File name too long"),
        ("/proc/self/x", "No such file or directory"),
    ],
    ids=["in a file", "link to nothing", "long", "proc"],
)
def test_log_dirs_that_cannot_be(command, log_dir, reason, refused, tmp_path):
    (tmp_path / "a_file").touch()
    (tmp_path / "dangling").symlink_to("/nonexistent/x")
    place = tmp_path / log_dir
    assert (
        refused(*command, "--log-dir", place) == f"error: --log-dir {place} cannot be written ({reason}); give another"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_file", "dangling"]


def test_a_name_that_is_too_long(refused, tmp_path):
    assert "(File name too long); give another" in refused(*COMPARE, "--log-dir", tmp_path / "x", "--name", "n" * 300)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_read_only(refused, mount: Mount, comparison: Finished):
    disk = mount("size=50m")
    folder = Path(shutil.copytree(comparison.folder, disk / "comparison"))
    mount("ro")
    before, run = tree(disk), folder / "ppo" / "OrderSplit-v1_1"
    for command in (TRAIN, COMPARE, SHOW):
        said = refused(*command, "--log-dir", disk / "logs")
        assert said == f"error: --log-dir {disk / 'logs'} cannot be written (Read-only file system); give another"
    page = disk / "page.html"
    commands: dict[str, tuple[object, ...]] = {
        f"--html {page}": ("explain", folder, "--scenario", 10_000, "--step", 1, "--html", page),
        f"--output {page}": ("evaluate", run, "--scenarios", 5, "--output", page),
        f"--out {run}": ("export", run),
        str(folder): ("report", folder),
        str(run): ("report", run, "--scenarios", 5),
    }
    for named, arguments in commands.items():
        assert refused(*arguments) == f"error: {named} cannot be written (Read-only file system); give another"
    assert tree(disk) == before


@pytest.mark.parametrize("size", ["8k", "200k"])
def test_a_disk_that_is_full_loses_nothing(size, refused, mount: Mount, monkeypatch, capsys):
    disk = mount(f"size={size}")
    said = refused(*TRAIN, "--log-dir", disk)
    assert said == f"error: --log-dir {disk} cannot be written (No space left on device); give another"
    assert [p for p in disk.rglob(".*")] == []
    run = disk / "a2c" / "OrderSplit-v1_1"
    assert not (run / "done.json").exists()
    assert all(p.stat().st_size for p in run.glob("*.*"))
    mount("size=50m")
    if run.exists():
        assert call(monkeypatch, "train", "--resume", run, "--no-progress") == 0, capsys.readouterr().err
    assert call(monkeypatch, *TRAIN, "--log-dir", disk) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_on_a_full_disk_goes_on_with_more_space(refused, mount: Mount, monkeypatch, capsys):
    disk = mount("size=150k")
    said = refused(*COMPARE, "--log-dir", disk)
    assert said == f"error: --log-dir {disk} cannot be written (No space left on device); give another"
    mount("size=50m")
    assert call(monkeypatch, *COMPARE, "--log-dir", disk) == 0, capsys.readouterr().err
    assert [p for p in disk.rglob(".*")] == []
