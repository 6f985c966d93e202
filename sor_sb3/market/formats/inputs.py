"""Finds a vendor's files and opens them: packed or not, one, several, a folder or a pattern."""

from __future__ import annotations

import glob
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Source

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_AGAIN = "download or copy the file again"


def find_sources(paths: Sequence[str], suffixes: Sequence[str]) -> list[Source]:
    """Files that are named, lie in a named folder (with one of the suffixes), or fit a pattern, in this order.

    Before each there may be ``NAME=``, the venue of these files.

    Raises:
        UserError: there is no such file, or nothing fits.
    """
    found: dict[Path, Source] = {}
    for text in paths:
        venue, rest = _named(text)
        for path in _files(rest, suffixes):
            found.setdefault(path, Source(path, venue))
    return list(found.values())


def _named(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    if equals and name and "/" not in name and not Path(text).exists() and not glob.glob(text):
        return name, rest
    return None, text


def _files(text: str, suffixes: Sequence[str]) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
        fitting = [p for p in inside if p.name.lower().endswith(tuple(suffixes))]
        if not fitting:
            expected = f"no file that ends in {', '.join(suffixes)}"
            raise UserError(f"folder {path} has {expected} ({len(inside)} files in all); name the files instead")
        return fitting
    if path.exists():
        return [path]
    matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
    if not matches:
        pattern = any(c in text for c in "*?[")
        what = f"no file fits {text}" if pattern else f"{text} does not exist"
        raise UserError(f"{what}; expected files, a folder or a pattern, NAME= before it to name the venue")
    return matches


class _Metered(io.RawIOBase):
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        self._file, self._tell = file, tell

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: object) -> int:
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._tell(self._file.tell())
        return int(count)


@contextmanager
def opened(source: Source) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked if it is gzip, zstd or a zip of one file, whatever its name is.

    Raises:
        UserError: the file is empty, cannot be read, or what is packed is broken or cut off.
    """
    path = source.path
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if not head:
                raise UserError(f"{path} is empty (0 bytes); {_AGAIN}")
            file.seek(0)
            packing = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)
            metered: io.BufferedReader = io.BufferedReader(_Metered(file, source.tell), 1 << 18)
            if packing == "zip":
                with _only_member(path, metered) as member:
                    yield io.BufferedReader(member, 1 << 18)
            elif packing:
                native = pa.CompressedInputStream(pa.PythonFile(metered, mode="r"), packing)
                yield io.BufferedReader(_Unpacked(native, path, packing), 1 << 18)
            else:
                yield metered
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked with zip ({error}); {_AGAIN}") from error
    except OSError as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); check the path and that you may read it") from error


class _Unpacked(io.RawIOBase):
    """Reads from Arrow's unpacking, and says which file was broken."""

    def __init__(self, native: pa.NativeFile, path: Path, packing: str) -> None:
        self._native, self._path, self._packing = native, path, packing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._native.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            what = f"{self._path} cannot be unpacked with {self._packing} ({reason}): it is broken or cut off"
            raise UserError(f"{what}; {_AGAIN}") from error
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _only_member(path: Path, file: BinaryIO) -> Iterator[io.RawIOBase]:
    with zipfile.ZipFile(file) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        if len(members) != 1:
            raise UserError(f"{path} is a zip of {len(members)} files; expected one: unpack it, and name the files")
        if members[0].flag_bits & 1:
            raise UserError(f"{path} is a zip with a password; unpack it, and name the file")
        with archive.open(members[0]) as member:
            yield cast(io.RawIOBase, member)
