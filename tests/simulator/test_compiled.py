"""Kernels are kept for the sources that they were compiled from, and a first start says what it waits for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sor_sb3.simulator import compiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(compiled, "_FOLDER", str(tmp_path / "kernels"))
    compiled.say_what_takes_long.cache_clear()
    yield tmp_path / "kernels"
    compiled.say_what_takes_long.cache_clear()


def test_a_first_start_says_once_what_it_waits_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sor_sb3"):
        compiled.say_what_takes_long()
        compiled.say_what_takes_long()
    assert [record.getMessage() for record in caplog.records] == [
        "compiling the simulator first, which takes about a minute, once"
    ]


def test_a_second_start_says_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "simulator").mkdir(parents=True)
    (folder / "simulator" / "batch.step.nbc").touch()
    with caplog.at_level(logging.WARNING, logger="sor_sb3"):
        compiled.say_what_takes_long()
    assert not caplog.records


def test_a_folder_without_kernels_is_a_first_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()  # Numba makes it before it has compiled anything
    with caplog.at_level(logging.WARNING, logger="sor_sb3"):
        compiled.say_what_takes_long()
    assert len(caplog.records) == 1


def test_an_edit_of_any_kernel_source_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pattern in compiled._KERNEL_SOURCES:
        found = sorted(compiled._PACKAGE.glob(pattern))
        assert found, pattern
        for file in found:
            copy = tmp_path / file.relative_to(compiled._PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(compiled, "_PACKAGE", tmp_path)
    before = compiled._sources_digest()
    for file in sorted(tmp_path.rglob("*.py")):
        source = file.read_text()
        kernels = "numba" in source or "entry_point" in source or "simulator" in file.relative_to(tmp_path).parts
        file.write_text(source + "\n# edited\n")
        after = compiled._sources_digest()
        assert (after != before) if kernels else (after == before), file  # a rule without kernels recompiles nothing
        before = after


def test_every_file_with_a_kernel_is_among_the_sources() -> None:
    texts = {file: file.read_text() for file in compiled._PACKAGE.rglob("*.py")}
    with_kernels = {file for file, text in texts.items() if "njit" in text or "@entry_point" in text}
    sources = {file for pattern in compiled._KERNEL_SOURCES for file in compiled._PACKAGE.glob(pattern)}
    assert with_kernels <= sources
