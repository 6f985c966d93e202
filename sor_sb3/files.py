"""Write files whole, and say in one sentence where a file cannot be written. Below everything but the errors."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from sor_sb3.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class WriteError(UserError, OSError):
    """A file or folder that cannot be written; `reason` is the system's word for why."""

    reason: str = ""


def _write_error(what: str, cause: OSError) -> WriteError:
    reason = cause.reason if isinstance(cause, WriteError) else cause.strerror or str(cause)
    if isinstance(cause, FileExistsError):
        reason = "something that is not a folder has this name"
    error = WriteError(f"{what} cannot be written ({reason}); give another")
    error.reason = reason
    return error


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were missing, deepest first. On failure none of them stays.

    Raises:
        WriteError: the folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remove_empty(missing)
        raise _write_error(str(folder), error) from error
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders that are empty, in the order given."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def name_beside(ending: str = "tmp") -> str:
    """A hidden name that no other process uses, nor one of another machine on the same disk: containers share pids."""
    return f".{uuid4().hex}.{ending}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename the file: a kill or a full disk leaves the old file or the new one.

    The file's folder is made where it is missing.

    Raises:
        WriteError: the file cannot be written. Nothing new stays.
    """
    made = make_folder(path.parent)
    beside = path.parent / name_beside()
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        remove_empty(made)
        raise _write_error(str(path), error) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """`write_bytes` of indented JSON (NaN is refused)."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, line: str, header: str) -> None:
    """Add a line of text to a file, all of it or nothing, safely beside other processes.

    A file that is new or empty begins with the `header`.

    Raises:
        WriteError: the file cannot be written. What it held stays.
    """
    made = make_folder(path.parent)
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            os.lseek(handle, max(size - 1, 0), os.SEEK_SET)
            before = f"{header}\n" if size == 0 else "" if os.read(handle, 1) == b"\n" else "\n"
            data = f"{before}{line}\n".encode()
            if os.write(handle, data) < len(data):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        remove_empty(made)
        raise _write_error(str(path), error) from error


def write_yaml(path: Path, data: Any) -> None:
    """`write_bytes` of a plain YAML mapping, in the order given."""
    write_text(path, yaml.safe_dump(data, sort_keys=False, width=110))


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Say of every write in `folder` that fails ``WHAT cannot be written (REASON); give another``.

    WHAT is the user's word for the folder, such as ``--log-dir logs``. Failures elsewhere pass through as they are. A
    thread that fails to write, as TensorBoard's on a full disk, prints nothing: the block's own next write fails.

    Raises:
        WriteError: a write failed.
    """
    hook = threading.excepthook

    def quiet_hook(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and _concerns(failure.exc_value, folder)):
            hook(failure)

    threading.excepthook = quiet_hook
    try:
        yield
    except OSError as error:
        if not _concerns(error, folder):
            raise
        raise _write_error(what, error) from error
    finally:
        threading.excepthook = hook


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is of the folder, of something in the folder or of a parent, or of a disk."""
    if isinstance(error, WriteError) or error.errno in _DISK_ERRORS:
        return True
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return False
    named, here = Path(os.path.abspath(os.fsdecode(error.filename))), Path(os.path.abspath(folder))
    return named.is_relative_to(here) or here.is_relative_to(named)
