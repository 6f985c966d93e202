"""The simulator's state as tables of orders, venues and children, to be read, compared and overwritten in tests.

``venues_of(simulator)[0, 1]["open"]`` reads the state as it is then, ``venues_of(simulator)["open"][0, 1] = 0`` writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.state import ORDER_FIELDS, VENUE_FIELDS, VENUE_PARAMETER_FIELDS
from sor_sb3.simulator.views import Truth

_NAMES = {
    "orders": {name.removeprefix("order_").replace("step_shares", "sent_shares"): name for name in ORDER_FIELDS},
    "venues": {name.removeprefix("venue_"): name for name in VENUE_FIELDS if not name.startswith("child_")},
    "children": {name.removeprefix("child_"): name for name in VENUE_FIELDS if name.startswith("child_")},
    "parameters": {name: name for name in VENUE_PARAMETER_FIELDS},
}


class Column(np.ndarray):
    """A field's values; what is written to it is written to the simulator."""

    table: Table | None = None
    field = ""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if self.table is not None:
            self.table[self.field] = np.asarray(self)


class Table:
    """Orders, venues or children of a simulator, or some of them."""

    def __init__(self, simulator: BatchSimulator, kind: str, at: Any = ...) -> None:
        self.simulator, self.names, self.kind, self.at = simulator, _NAMES[kind], kind, at

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            within = key if self.at is ... else (self.at, *(key if isinstance(key, tuple) else (key,)))
            return Table(self.simulator, self.kind, within)
        values = getattr(Truth(self.simulator), self.names[key])
        if self.at is not ...:
            return values[self.at]
        column = values.copy().view(Column)
        column.table, column.field = self, key
        return column

    def __setitem__(self, key: str, values: Any) -> None:
        column = getattr(Truth(self.simulator), self.names[key]).copy()
        column[self.at] = values
        self.simulator.overwrite(**{self.names[key]: column})

    def __iter__(self) -> Iterator[Table]:
        return (self[k] for k in range(len(self[next(iter(self.names))])))

    def copy(self) -> np.ndarray:
        """A record array of the values as they are."""
        columns = {name: np.asarray(self[name]) for name in self.names}
        records = np.zeros(next(iter(columns.values())).shape, [(name, c.dtype) for name, c in columns.items()])
        for name, column in columns.items():
            records[name] = column
        return records

    def tobytes(self) -> bytes:
        return self.copy().tobytes()

    def put(self, records: np.ndarray) -> None:
        """Write back what `copy` gave."""
        for name in records.dtype.names:
            self[name] = records[name]


def orders_of(simulator: BatchSimulator) -> Table:
    return Table(simulator, "orders")


def venues_of(simulator: BatchSimulator) -> Table:
    return Table(simulator, "venues")


def children_of(simulator: BatchSimulator) -> Table:
    return Table(simulator, "children")


def parameters_of(simulator: BatchSimulator) -> Table:
    return Table(simulator, "parameters")
