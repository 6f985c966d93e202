"""Read views over a simulator's state: what a router may see, and all there is. Fields are declared in `state`.

A field reads as an array of its own, not to be written to: (N,) where it is one of orders or of the market, (N, K)
where it is one of venues; flags as bool. A view stays good: it reads the state as it is when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sor_sb3.simulator.execution import takes_orders
from sor_sb3.simulator.state import ALL_FIELDS, PUBLIC_FIELDS

if TYPE_CHECKING:
    from sor_sb3.simulator.batch import BatchSimulator


class Observed:
    """Public fields, `sor_sb3.simulator.state.PUBLIC_FIELDS`: what observations are made of. Rules get nothing else.

    Raises:
        AttributeError: there is no public field of this name.

    Example:
        >>> from sor_sb3.envs.core import RoutingCore
        >>> core = RoutingCore("OrderSplit-v1", "notebook", 2)
        >>> core.reset().shape, Observed(core.simulator).open.shape
        ((2, 67), (2, 3))
    """

    fields: ClassVar[Iterable[str]] = PUBLIC_FIELDS

    def __init__(self, simulator: BatchSimulator) -> None:
        self._simulator = simulator

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in self.fields:
            raise AttributeError(f"'{name}' is no field of {type(self).__name__}")
        return self._simulator.read(name)

    def __dir__(self) -> Iterable[str]:
        return sorted(self.fields)


class Truth(Observed):
    """Every field, hidden ones included, `sor_sb3.simulator.state.ALL_FIELDS`: for oracles and evaluation only."""

    fields: ClassVar[Iterable[str]] = ALL_FIELDS

    @property
    def takes_orders(self) -> np.ndarray:
        """Which venues execute a child that reaches them before the next decision, bool (N, K)."""
        return np.asarray(takes_orders.py_func(self, ...))
