"""Registration of measures: a decorator makes a function of child orders a row of the tables. No formulas here."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
COLUMNS = {
    "price": "average fill price",
    "mid": "true midpoint at the env step",
    "mid_later": "true midpoint one step after the execution",
    "bid": "best bid at the env step",
    "ask": "best offer at the env step",
    "far_quote": "best quote that a marketable order faced at the env step",
    "inside_shares": "filled better than that, print by print",
    "outside_shares": "filled worse",
    "through_shares": "filled through a better quote elsewhere",
    "excused_shares": "of these, through quotes younger than a second only",
    "displayed_shares": "size shown at the venue",
    "sent_shares": "size of the child order",
    "filled_shares": "what filled of it",
    "shares": "filled_shares",
    "fees_dollars": "taker fees in dollars, rebates negative",
    "effective_bps": "effective spread",
    "quoted_bps": "quoted spread",
}
"""What a registered function may ask for, by its parameters' names. Prices: the arrival mid is 1, a buyer's view."""


@dataclass(frozen=True)
class Measure:
    """What a number in a table is called, its unit, whether low or high is good ("" where neither), and its formula."""

    label: str
    unit: str
    good: Literal["low", "high", ""]
    function: Callable[..., Any] | None = None
    scale: float = 1.0
    averaged: bool = False

    def of(self, columns: Mapping[str, np.ndarray], average: Callable[..., Any]) -> np.ndarray:
        """The measure over the last axis of `columns`; `average` is the share-weighted average.

        Where `columns` have no "side", prices are in a buyer's view.
        """
        assert self.function is not None
        names = inspect.signature(self.function).parameters
        values = self.function(**{name: columns[name] for name in names if name != "side" or name in columns})
        return np.asarray(self.scale * (average(values, columns["shares"]) if self.averaged else values))


REGISTERED: dict[str, Measure] = {}


def measure(
    key: str, label: str, unit: str, good: Literal["low", "high", ""], scale: float = 1.0, averaged: bool = False
) -> Callable[[F], F]:
    """Show a function in the tables, in total and by venue; its parameters are names of `COLUMNS` (and `side`).

    The key names the row, with the unit, such as "fade_percent"; people read the `label`. The unit is that of `scale`
    times the function's value. A function that is `averaged` by shares has a value for each child order. Raises
    ValueError: the key is taken, or a parameter is no column.
    """

    def register(function: F) -> F:
        unknown = inspect.signature(function).parameters.keys() - COLUMNS.keys() - {"side"}
        if key in REGISTERED or unknown:
            what = f"parameters {sorted(unknown)} are no columns" if unknown else "the key is taken"
            raise ValueError(f"measure '{key}': {what}; columns are {', '.join(COLUMNS)}")
        REGISTERED[key] = Measure(label, unit, good, function, scale, averaged)
        return function

    return register
