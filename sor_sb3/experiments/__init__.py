"""Runs: configs, folders, training, comparisons. A config is the experiment.

The modules of the version before (``compare``, ``evaluate``, ``explain``, ``folders``, ``training``) are importable for
one version more, with a warning.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from sor_sb3.deprecation import warn_renamed

_MOVED = {
    "compare": ("comparison", "config", "reopen"),
    "evaluate": ("reopen", "folder"),
    "explain": ("reopen",),
    "folders": ("folder",),
    "training": ("run", "config"),
}


class _MovedModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        old = self.__name__.rpartition(".")[2]
        for new in () if name.startswith("__") else _MOVED[old]:
            module = import_module(f"{__name__}.{new}")
            if hasattr(module, name):
                warn_renamed(f"{self.__name__}.{name}", f"{module.__name__}.{name}")
                return getattr(module, name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


for _old in _MOVED:
    sys.modules[f"{__name__}.{_old}"] = _MovedModule(f"{__name__}.{_old}")
