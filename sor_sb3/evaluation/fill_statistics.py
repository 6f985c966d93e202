"""Statistics of a rule's fills for the realism panel, each with an interval over scenarios."""

from __future__ import annotations

from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.path_statistics import Interval, Statistic

FILL_STATISTICS: dict[str, Statistic] = {
    "markout_1s_bps": Statistic("markout of our fills after 1 s", "bps"),
}


def fill_statistics(log: ChildLog) -> dict[str, Interval]:
    """Every statistic of `FILL_STATISTICS`, by key."""
    raise NotImplementedError


def markouts_by_venue(log: ChildLog) -> dict[str, Interval]:
    """Markout after 1 s by venue."""
    raise NotImplementedError
