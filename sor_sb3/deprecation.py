"""Names of the version before, which still work for one version, with a warning. Below everything else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Say that `old` is called `new` now."""
    warnings.warn(f"'{old}' is now '{new}'; the old name goes with the next version", DeprecationWarning, stacklevel)


def renamed_arguments(**names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function take old keyword names: ``@renamed_arguments(split="data_split")``.

    Raises:
        TypeError: a call gives the old and the new name.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__} got '{old}' and '{new}', which are one argument")
                warn_renamed(old, new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
