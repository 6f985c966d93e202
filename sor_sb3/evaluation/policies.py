"""The old place of :class:`sor_sb3.policies.normalisation.NormalizedPolicy`, for one version."""

from typing import Any

from sor_sb3.deprecation import warn_renamed
from sor_sb3.policies import normalisation


def __getattr__(name: str) -> Any:
    if name == "NormalizedPolicy":
        warn_renamed("sor_sb3.evaluation.policies.NormalizedPolicy", "sor_sb3.policies.normalisation.NormalizedPolicy")
        return normalisation.NormalizedPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
