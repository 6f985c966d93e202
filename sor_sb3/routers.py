"""The public door to :mod:`sor_sb3.policies`: ``sor_sb3.routers.make("pro_rata", market="us_equity")``."""

from sor_sb3.policies.protocol import Router, kind_of
from sor_sb3.policies.registry import ORACLE_NAMES, ROUTER_NAMES, find_core, make, register_router, rule_names

__all__ = ["ORACLE_NAMES", "ROUTER_NAMES", "Router", "find_core", "kind_of", "make", "register_router", "rule_names"]
