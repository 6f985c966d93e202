"""Runs: configs, folders, training, comparisons. A config is the experiment.

The modules of the version before are importable for one version more, with a warning.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from sor_sb3.deprecation import warn_renamed

_OLD = ("compare", "evaluate", "explain", "folders", "training")
_NEW = (".files", "config", "folder", "run", "score", "reopen", "comparison")  # a name's own module before its users


class _OldModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        for new in () if name.startswith("__") else _NEW:
            module = import_module(f".{new}", __name__)
            if hasattr(module, name):
                warn_renamed(f"{self.__name__}.{name}", f"{module.__name__}.{name}")
                return getattr(module, name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


sys.modules.update({f"{__name__}.{old}": _OldModule(f"{__name__}.{old}") for old in _OLD})
