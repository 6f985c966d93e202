"""Writing files: the old file or the new one, a sentence where a file cannot be written, and no leftovers."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sor_sb3.errors import UserError
from sor_sb3.files import WriteError, make_folder, write_bytes, write_text, writing


def failing(number: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def everything(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "one\n")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert everything(tmp_path) == ["a", "a/b", "a/b/file.txt"]


def test_two_machines_whose_processes_have_one_number_write_beside_one_another(tmp_path):
    """As containers do that share a disk: each process is the first that writes there, and both have one pid."""
    code = "import os; os.getpid = lambda: 7; from sor_sb3.files import name_beside; print(name_beside())"
    names = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)]
    assert all(name.startswith(".") and name.endswith(".tmp\n") for name in names) and names[0] != names[1]


@pytest.mark.parametrize("call", ["os.replace", "pathlib.Path.write_bytes", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EIO])
def test_a_write_that_fails_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, call, number):
    monkeypatch.setattr(call, failing(number))
    path = tmp_path / "a" / "b" / "file.txt"
    with pytest.raises(UserError) as said:
        write_text(path, "text")
    assert os.strerror(number) in str(said.value) and " cannot be written (" in str(said.value)
    assert "\n" not in str(said.value)
    assert everything(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    with pytest.raises(UserError, match="No space left on device"):
        write_text(path, "new")
    assert (everything(tmp_path), path.read_text(encoding="utf-8")) == (["file.txt"], "old")


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\); give another"):
        write_bytes(tmp_path / "folder", b"")
    assert everything(tmp_path) == ["folder"]


def test_a_name_as_long_as_the_system_allows(tmp_path):
    write_text(tmp_path / ("n" * 255), "fits")
    with pytest.raises(UserError, match="File name too long"):
        write_text(tmp_path / ("n" * 256), "does not")
    assert len(everything(tmp_path)) == 1


@pytest.mark.parametrize("what", ["file", "link to nothing", "in a file", "long"])
def test_folders_that_cannot_be_made(tmp_path, what):
    place = tmp_path / "there"
    if what == "link to nothing":
        place.symlink_to(tmp_path / "no" / "such")
    elif what != "long":
        place.touch()
    folder = {"in a file": place / "sub" / "sub", "long": tmp_path / "new" / ("n" * 300)}.get(what, place)
    before = everything(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        make_folder(folder)
    assert everything(tmp_path) == before


def test_what_the_user_named_is_what_is_said(tmp_path):
    for error in (OSError(errno.ENOSPC, "No space"), PermissionError(errno.EACCES, "No space", str(tmp_path / "x"))):
        with pytest.raises(UserError, match=r"^--log-dir logs cannot be written \(No space\); give another$"):
            with writing("--log-dir logs", tmp_path):
                raise error
    with pytest.raises(UserError, match=r"^--log-dir logs cannot be written \(Is a directory\); give another$"):
        with writing("--log-dir logs", tmp_path):
            write_bytes(tmp_path, b"")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone", "/elsewhere/quotes.csv"), ChildProcessError(), UserError("no")]
)
def test_other_failures_pass_through(tmp_path, error):
    with pytest.raises(type(error)) as found, writing("--log-dir logs", tmp_path):
        raise error
    assert found.value is error


def test_the_error_comes_whole_from_another_process(tmp_path):
    with pytest.raises(WriteError) as found:
        write_bytes(tmp_path, b"")
    again = pickle.loads(pickle.dumps(found.value))
    assert (str(again), again.reason) == (str(found.value), "Is a directory")


def test_a_thread_that_cannot_write_is_silent_and_others_are_not(tmp_path, capsys):
    def fail(error: Exception) -> None:
        def run() -> None:
            raise error

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    before = threading.excepthook
    heard: list[threading.ExceptHookArgs] = []
    try:
        threading.excepthook = heard.append
        with writing("--log-dir logs", tmp_path):
            fail(OSError(errno.ENOSPC, "No space", "/tensorboard/events"))
            fail(PermissionError(errno.EACCES, "No", str(tmp_path / "x")))
            fail(ValueError("a fault"))
    finally:
        threading.excepthook = before
    assert [failure.exc_type for failure in heard] == [ValueError]
