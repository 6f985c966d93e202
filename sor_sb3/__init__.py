"""sor_sb3: smart order routing for Stable-Baselines3.

Importing this module registers the envs and little else; torch, SB3 and Numba load when they are first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sor_sb3.deprecation import warn_renamed
from sor_sb3.envs import register_envs

if TYPE_CHECKING:
    from sor_sb3 import live as live
    from sor_sb3 import routers as routers
    from sor_sb3.algorithms.onnx_export import export_onnx as export_onnx
    from sor_sb3.algorithms.onnx_policy import OnnxPolicy as OnnxPolicy
    from sor_sb3.algorithms.registry import register_algorithm as register_algorithm
    from sor_sb3.algorithms.reinforce import REINFORCE as REINFORCE
    from sor_sb3.envs.checks import check_vec_env as check_vec_env
    from sor_sb3.envs.sb3_vec_env import make_vec_env as make_vec_env
    from sor_sb3.errors import UserError as UserError
    from sor_sb3.evaluation.evaluator import evaluate as evaluate
    from sor_sb3.market.loading import load_market as load_market
    from sor_sb3.policies.registry import register_router as register_router
    from sor_sb3.zoo import register_with_rl_zoo3 as register_with_rl_zoo3

__version__ = "0.1.0"

_WHERE = {
    "OnnxPolicy": "sor_sb3.algorithms.onnx_policy",
    "REINFORCE": "sor_sb3.algorithms.reinforce",
    "UserError": "sor_sb3.errors",
    "check_vec_env": "sor_sb3.envs.checks",
    "evaluate": "sor_sb3.evaluation.evaluator",
    "export_onnx": "sor_sb3.algorithms.onnx_export",
    "load_market": "sor_sb3.market.loading",
    "make_vec_env": "sor_sb3.envs.sb3_vec_env",
    "register_algorithm": "sor_sb3.algorithms.registry",
    "register_router": "sor_sb3.policies.registry",
    "register_with_rl_zoo3": "sor_sb3.zoo",
}

__all__ = ["live", "routers", *_WHERE]

register_envs()


def __getattr__(name: str) -> Any:
    if name in ("live", "routers"):
        return import_module(f"sor_sb3.{name}")
    if name == "fast_policy":  # warns when it is called
        return import_module("sor_sb3.algorithms.onnx_export").fast_policy
    if name == "FastPolicy":
        warn_renamed("sor_sb3.FastPolicy", "sor_sb3.OnnxPolicy")
        return import_module("sor_sb3.algorithms.onnx_policy").OnnxPolicy
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sor_sb3' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
