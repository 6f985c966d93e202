"""Write files whole, and say in one sentence where a file cannot be written. Below everything but the errors.

Nothing is read here.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sor_sb3.errors import UserError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}  # these often name no file
_number = itertools.count()


class WriteError(UserError, OSError):
    """A file or folder that cannot be written; `reason` is the system's word for why."""

    reason: str = ""


def _write_error(what: str, reason: str) -> WriteError:
    error = WriteError(f"{what} cannot be written ({reason}); give another")
    error.reason = reason
    return error


def _reason(error: OSError) -> str:
    if isinstance(error, WriteError):
        return error.reason
    if isinstance(error, FileExistsError):
        return "something that is not a folder has this name"
    return error.strerror or str(error)


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
        raise _write_error(str(folder), _reason(error)) from error
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders that are empty, in the order given."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename the file: a kill or a full disk leaves the old file or the new one.

    Args:
        path: of the file; its folder is made where it is missing.
        data: the whole content.

    Raises:
        WriteError: the file cannot be written. Nothing new stays.
    """
    made = make_folder(path.parent)
    beside = path.parent / f".{os.getpid()}.{next(_number)}.tmp"
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        remove_empty(made)
        raise _write_error(str(path), _reason(error)) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text.

    Raises:
        WriteError: the file cannot be written. Nothing new stays.
    """
    write_bytes(path, text.encode())


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Say of every write in `folder` that fails ``WHAT cannot be written (REASON); give another``.

    Args:
        what: the user's word for it, such as ``--log-dir logs``.
        folder: where the block writes. Failures elsewhere pass through as they are.

    Raises:
        WriteError: a write failed.
    """
    try:
        yield
    except OSError as error:
        if not (isinstance(error, WriteError) or _concerns(error, folder)):
            raise
        raise _write_error(what, _reason(error)) from error


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is of the folder, of something in the folder or of a parent, or of a whole disk."""
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return error.errno in _DISK_ERRORS
    named, here = Path(os.path.abspath(os.fsdecode(error.filename))), Path(os.path.abspath(folder))
    return named.is_relative_to(here) or here.is_relative_to(named)
