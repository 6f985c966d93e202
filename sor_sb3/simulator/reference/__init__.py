"""The synthetic market's executable specification: one order in plain NumPy, for reading and for proof. Not for speed.

It is written from `docs/market.md` and shares no code with the kernels; given the same random numbers
(:class:`~sor_sb3.simulator.reference.path.Draws`) both agree number for number, which a test holds.
:mod:`~sor_sb3.simulator.reference.path` is the market that nobody trades in, :mod:`~sor_sb3.simulator.reference.order`
is our order in it.
"""

from sor_sb3.simulator.reference.order import ReferenceMarket
from sor_sb3.simulator.reference.path import Draws, ReferencePath

__all__ = ["Draws", "ReferenceMarket", "ReferencePath"]
