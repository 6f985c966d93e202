"""Keeps cleaned recordings as .npy files, so that every other process maps them instead of cleaning a file again.

A recording lies in a folder of its own under `cache_folder()`, named by the content of its files, by the options that
change the result and by the loader's sources. A folder is written beside its place and renamed: two processes that
clean the same file both get a whole one. What was not used for `KEPT_DAYS` is removed when another is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.files import make_folder, name_beside, write_text
from sor_sb3.market.cleaning_report import CleaningReport, VenueSummary
from sor_sb3.market.quote_tables import add_digest
from sor_sb3.market.quotes import QuoteRecording, load_quotes

VARIABLE = "SOR_SB3_CACHE"
"""The environment's name of a folder to keep recordings in, in place of the user's cache; empty: nothing is kept."""
KEPT_DAYS = 30
_SOURCES = (
    "cleaning event_time outliers quote_columns quote_rows quote_tables quotes replay_arrays session_hours".split()
)
_ABOUT = "recording.json"  # what is no array; written last


def cache_folder() -> Path | None:
    """Where cleaned recordings are kept; None if they are not to be."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) / "recordings" if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    with suppress(RuntimeError):  # there is no home
        return (Path(base) if base else Path.home() / ".cache") / "sor_sb3" / "recordings"
    return None


def recorded(quotes: Path, trades: Path | None, venues: tuple[str, ...] | None, **options: Any) -> QuoteRecording:
    """What `load_quotes` says of these files; its arrays are mapped from files where they could be kept.

    Raises:
        QuoteFileError: as `load_quotes`.
    """
    folder = cache_folder()
    if folder is None:
        return load_quotes(quotes, trades=trades, venues=venues, **options)
    sha256 = _content_sha256(quotes, trades, folder)
    found = _opened(folder, _key(sha256, venues, options))
    if found is None:
        found = load_quotes(quotes, trades=trades, venues=venues, **options)
        key = _key(found.sha256, venues, options)  # of what was read, in case the file has just changed
        with suppress(OSError):
            _keep(found, folder, key)
            if venues is None:  # the same recording, asked for by the names of its venues
                write_text(folder / f"{_key(found.sha256, found.venues, options)}.to", key)
            _remove_unused(folder)
            found = _opened(folder, key) or found
    return replace(found, report=replace(found.report, file=quotes.name))


def derived(recording: QuoteRecording, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array that is made of a recording's: kept beside them, where they are, and mapped as they are."""
    if recording.folder is None:
        return make()
    path = recording.folder / f"{name}.npy"
    if not path.is_file():
        values = make()
        try:
            beside = recording.folder / name_beside("npy")
            np.save(beside, values)
            os.replace(beside, path)
        except OSError:
            return values
    return _mapped(path)


def _key(sha256: str, venues: tuple[str, ...] | None, options: Mapping[str, Any]) -> str:
    text = json.dumps([_sources_digest(), sha256, venues, sorted(options.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _sources_digest() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _content_sha256(quotes: Path, trades: Path | None, folder: Path) -> str:
    """SHA-256 of the files' bytes, which is kept too: read again only where a file's time or size has changed."""
    paths = [path for path in (quotes, trades) if path is not None]
    memo = folder / f"{hashlib.sha256(repr([os.path.abspath(path) for path in paths]).encode()).hexdigest()[:32]}.sha"
    digest, before = hashlib.sha256(), _states(paths)
    with suppress(OSError, ValueError, KeyError):
        known = json.loads(memo.read_text())
        if known["files"] == before:
            return str(known["sha256"])
    for path, kind in zip(paths, ("quote", "trade"), strict=False):
        add_digest(path, kind, digest)
    if before == _states(paths):
        with suppress(OSError):
            write_text(memo, json.dumps({"files": before, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def _states(paths: list[Path]) -> list[list[int]] | None:
    with suppress(OSError):
        return [[s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino] for s in map(os.stat, paths)]
    return None  # reading will say what is wrong


def _keep(recording: QuoteRecording, folder: Path, key: str) -> None:
    """Write a recording's folder. Raises OSError: it cannot be written, and nothing of it stays."""
    beside = folder / name_beside()
    make_folder(beside)
    try:
        about: dict[str, Any] = {"report": asdict(recording.report)}
        for field in fields(recording):
            value = getattr(recording, field.name)
            if isinstance(value, np.ndarray):
                # Prices and sizes of levels lie apart, as whoever replays them wants them.
                laid_out = np.ascontiguousarray(np.moveaxis(value, -1, 0)) if value.ndim == 3 else value
                np.save(beside / f"{field.name}.npy", laid_out)
            elif field.name not in ("report", "folder"):
                about[field.name] = value
        write_text(beside / _ABOUT, json.dumps(about))
        if _opened(folder, key) is None:  # else another process was faster
            shutil.rmtree(folder / key, ignore_errors=True)  # damaged
            with suppress(OSError):
                beside.rename(folder / key)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _opened(folder: Path, key: str) -> QuoteRecording | None:
    """The recording that is kept under a key; None if there is none, or it is damaged."""
    place = folder / key
    try:
        place = place if place.is_dir() else folder / place.with_suffix(".to").read_text()
        about = json.loads((place / _ABOUT).read_text())
        report = about.pop("report")
        report["venues"] = tuple(VenueSummary(**venue) for venue in report["venues"])
        report |= {name: tuple(map(tuple, report[name])) for name in ("dropped_venues", "culprits")}
        report["hidden"], about["venues"] = tuple(report["hidden"]), tuple(about["venues"])
        arrays: dict[str, Any] = {path.stem: _mapped(path) for path in place.glob("[!.]*.npy")}
        known = {field.name for field in fields(QuoteRecording)}
        arrays = {name: np.moveaxis(a, 0, -1) if a.ndim == 3 else a for name, a in arrays.items() if name in known}
        with suppress(OSError):  # it may be another user's
            os.utime(place / _ABOUT)  # when it was last used
        return QuoteRecording(**about, **arrays, report=CleaningReport(**report), folder=place)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _mapped(path: Path) -> np.ndarray:
    """An array of a file, read when it is looked at; what is written to it stays in this process."""
    try:
        return np.asarray(np.load(path, mmap_mode="c"))
    except ValueError:  # nothing cannot be mapped
        return np.asarray(np.load(path))


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 86_400
    for path in folder.iterdir():
        with suppress(OSError):
            if (path / _ABOUT if path.is_dir() and not path.name.startswith(".") else path).stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
