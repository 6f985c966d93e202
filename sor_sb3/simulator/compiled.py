"""How the kernels are compiled and kept: once for each state of this package's sources. No market logic.

Numba stamps a cached kernel by its own file and does not notice an edit in a kernel that it calls, so that an upgraded
package could go on running old code. Here only entry points are cached, in a folder named after the sources of all
kernels; what they call is compiled into them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit

_numba_config: Any = numba.config  # its attributes are made at run time
_PACKAGE = Path(__file__).resolve().parent.parent
_KERNEL_SOURCES = (
    "market/*.py",
    "simulator/**/*.py",
    "envs/*.py",
    "live/*.py",
    "policies/oracles/*.py",
    "policies/rules/*.py",
    "evaluation/*.py",
)


def _sources_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for pattern in _KERNEL_SOURCES:
        for file in sorted(_PACKAGE.glob(pattern)):
            source = file.read_bytes()
            if b"numba" in source or b"entry_point" in source or file.is_relative_to(_PACKAGE / "simulator"):
                digest.update(source)  # a rule or a measure without kernels changes none
    return digest.hexdigest()[:16]


def _cache_folder() -> str:
    """A folder for compiled kernels: the user's NUMBA_CACHE_DIR, else beside the sources, else the user's cache."""
    chosen = _numba_config.CACHE_DIR
    beside = _PACKAGE / "__pycache__"
    if chosen:
        base = Path(chosen)
    elif os.access(beside if beside.exists() else _PACKAGE, os.W_OK):
        base = beside
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if not os.access(base if base.exists() else base.parent, os.W_OK):
            base = Path(tempfile.gettempdir())
    return str(base / "sor_sb3_kernels" / _sources_digest())


_FOLDER = _cache_folder()


@cache
def say_what_takes_long() -> None:
    """Log, once a process, what a first start waits for; nothing where kernels of these very sources are kept."""
    if not any(Path(_FOLDER).rglob("*.nbc")):
        logging.getLogger("sor_sb3").warning("compiling the simulator first, which takes about a minute, once")


def entry_point(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel that Python calls, and keep it on disk until any kernel's source changes."""

    def compile_it(function: Callable[..., Any]) -> Callable[..., Any]:
        before = _numba_config.CACHE_DIR
        _numba_config.CACHE_DIR = _FOLDER
        try:
            return njit(cache=True, **options)(function)
        finally:
            _numba_config.CACHE_DIR = before

    return compile_it
