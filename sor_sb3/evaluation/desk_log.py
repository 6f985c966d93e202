"""A desk's own log of child orders and fills, read from tables into checked arrays. No measure is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.evaluation.desk_tables import UNKNOWN_TIME, DeskTable, Floats, Ints

CHILD_COLUMNS = {
    "parent_id": "the parent order that the child belongs to",
    "child_id": "the child order's own name, once in the log",
    "side": "buy or sell (b, s, 1, -1)",
    "venue": "where the child went, as the quotes name the venue",
    "sent_ts": "UTC time at which the child left",
    "quantity": "shares sent",
}
OPTIONAL_CHILD_COLUMNS = {
    "limit_px": "the worst price that the child may pay",
    "arrival_ts": "UTC time at which the child reached the venue",
    "ack_ts": "UTC time at which the venue's answer was back",
    "parent_quantity": "shares of the parent order; without them what filled counts as the order",
    "parent_arrival_ts": "UTC time at which the desk got the parent order; else the first child's sent_ts",
    "parent_end_ts": "UTC time at which the desk was done; else the parent's last sent_ts or fill_ts",
}
FILL_COLUMNS = {
    "child_id": "the child order that filled",
    "fill_ts": "UTC time of the execution",
    "fill_px": "price of the execution",
    "fill_shares": "shares of the execution",
}
OPTIONAL_FILL_COLUMNS = {"fee": "what was paid for the execution, in the prices' currency; a rebate is negative"}

TIE = 1e-9  # relative: float rounding


@dataclass(frozen=True)
class DeskLog:
    """C child orders of P parents with F fills. Times are UTC ns since 1970, `UNKNOWN_TIME` where nobody says.

    Attributes:
        parents: names of the parents, in the log's order; `venues` those of venues, sorted.
        parent: int (C,), index of a child's parent; `venue` that of its venue.
        side: float64 (C,), +1 buy, -1 sell; all children of a parent have the same.
        sent_ns: int64 (C,), and `arrival_ns`, `ack_ns`.
        sent_shares: float64 (C,).
        limit_px: float64 (C,), NaN where there is none.
        quantity_shares: float64 (P,), NaN where nobody says; `parent_arrival_ns` and `parent_end_ns` int64 (P,).
        child: int (F,), index of a fill's child; fills are in order of time.
        fill_ns: int64 (F,); `fill_px`, `fill_shares` float64.
        fee: float64 (F,), in the prices' currency; NaN throughout where the log has no fees.
    """

    parents: list[str]
    venues: list[str]
    parent: Ints
    venue: Ints
    side: Floats
    sent_ns: Ints
    arrival_ns: Ints
    ack_ns: Ints
    sent_shares: Floats
    limit_px: Floats
    quantity_shares: Floats
    parent_arrival_ns: Ints
    parent_end_ns: Ints
    child: Ints
    fill_ns: Ints
    fill_px: Floats
    fill_shares: Floats
    fee: Floats

    @property
    def n_children(self) -> int:
        """How many child orders."""
        return len(self.parent)

    def of_children(self, values: Floats) -> Floats:
        """Sums over the fills of each child, (C,), of values (F,)."""
        return np.asarray(np.bincount(self.child, values, minlength=self.n_children), dtype=np.float64)


def read_desk_log(fills: Path, children: Path | None = None) -> DeskLog:
    """Read a log of two tables, or of one in which every row of a fill also names its child's columns.

    In one table a child without a fill is a row whose `fill_ts`, `fill_px` and `fill_shares` are empty. The columns are
    `CHILD_COLUMNS`, `FILL_COLUMNS` and what is optional of both; others are not read.

    Raises:
        UserError: a table cannot be read, columns are missing (all are named), or a value cannot be; one sentence with
            file, column, row and what was expected.
    """
    table = DeskTable(fills)
    of_children = table if children is None else DeskTable(children)
    of_children.require(CHILD_COLUMNS if children is not None else {**CHILD_COLUMNS, **FILL_COLUMNS})
    if children is not None:
        table.require(FILL_COLUMNS)
    ids = of_children.texts("child_id")
    first, place = _places(ids)
    if children is not None and len(first) < len(ids):
        row = next(row for row, name in enumerate(ids) if first[place[name]] != row)
        of_children.refuse("child_id", row, ids[row], "a new one: each child order has one row")
    rows = np.array(first, dtype=np.int64)
    parents = _parents(of_children, rows)
    venues = [of_children.texts("venue")[row] for row in rows]
    names = sorted(set(venues))
    log = {
        "parents": parents.pop("names"),
        "venues": names,
        "venue": np.searchsorted(np.array(names), np.array(venues)).astype(np.int64),
        **{f"{name}_ns": of_children.times(f"{name}_ts", optional=name != "sent")[rows] for name in _TIMES},
        "sent_shares": of_children.numbers("quantity")[rows],
        "limit_px": of_children.numbers("limit_px", optional=True)[rows],
        **parents,
        **_fills(table, place, one_table=children is None),
    }
    checked = DeskLog(**log)
    _check(checked, of_children, table, ids, rows)
    return checked


_TIMES = ("sent", "arrival", "ack")


def _places(ids: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """First row of each name, in order, and each name's place among these."""
    place: dict[str, int] = {}
    first: list[int] = []
    for row, name in enumerate(ids):
        if name not in place:
            place[name] = len(first)
            first.append(row)
    return first, place


def _parents(table: DeskTable, rows: Ints) -> dict[str, Any]:
    """Arrays by parent; a UserError where children of one parent do not agree about it."""
    ids = [table.texts("parent_id")[row] for row in rows]
    first, place = _places(ids)
    parent = np.array([place[name] for name in ids], dtype=np.int64)
    side = table.sides("side")[rows]
    held = {
        "side": side,
        "parent_quantity": table.numbers("parent_quantity", optional=True)[rows],
        "parent_arrival_ts": table.times("parent_arrival_ts", optional=True)[rows],
        "parent_end_ts": table.times("parent_end_ts", optional=True)[rows],
    }
    for column, values in held.items():
        of_first = values[first][parent]
        differs = (values != of_first) & ~(np.isnan(values.astype(float)) & np.isnan(of_first.astype(float)))
        if differs.any():
            row = int(np.argmax(differs))
            what = f"what the first child of parent {ids[row]} says"
            table.refuse(column, int(rows[row]), table.cell(column, int(rows[row])), what)
    return {
        "names": list(place),
        "parent": parent,
        "side": side,
        "quantity_shares": held["parent_quantity"][first],
        "parent_arrival_ns": held["parent_arrival_ts"][first],
        "parent_end_ns": held["parent_end_ts"][first],
    }


def _fills(table: DeskTable, place: Mapping[str, int], one_table: bool) -> dict[str, Any]:
    ids, shares = table.texts("child_id"), table.numbers("fill_shares", optional=one_table)
    rows = np.flatnonzero(~np.isnan(shares)) if one_table else np.arange(len(ids))
    stranger = next((row for row in rows if ids[row] not in place), None)
    if stranger is not None:
        table.refuse("child_id", int(stranger), ids[stranger], "a child order of the table of children")
    when = table.times("fill_ts", optional=one_table)
    if (missing := rows[when[rows] == UNKNOWN_TIME]).size:
        table.refuse("fill_ts", int(missing[0]), "", "the time of this fill")
    rows = rows[np.argsort(when[rows], kind="stable")]
    fees = table.numbers("fee", optional=True)[rows]
    if np.isnan(fees).any() and not np.isnan(fees).all():
        row = int(rows[np.argmax(np.isnan(fees))])
        table.refuse("fee", row, "", "a number in every row of a fill: write 0 where there is no fee")
    return {
        "child": np.array([place[ids[row]] for row in rows], dtype=np.int64),
        "fill_ns": when[rows],
        "fill_px": table.numbers("fill_px", optional=one_table)[rows],
        "fill_shares": shares[rows],
        "fee": fees,
    }


def _check(log: DeskLog, children: DeskTable, fills: DeskTable, ids: Sequence[str], rows: Ints) -> None:
    """What no log can hold: sizes and prices of 0, fills before their child left, more filled than sent."""
    for column, values in (("quantity", log.sent_shares), ("limit_px", log.limit_px)):
        if (wrong := np.flatnonzero(~(values > 0.0) & ~((column == "limit_px") & np.isnan(values)))).size:
            row = int(rows[wrong[0]])
            children.refuse(column, row, children.cell(column, row), "a number above 0")
    names = [ids[row] for row in rows]
    for column, values in (("fill_px", log.fill_px), ("fill_shares", log.fill_shares)):
        if (wrong := np.flatnonzero(~(values > 0.0))).size:
            what = f"child {names[log.child[wrong[0]]]} has a {column} of {values[wrong[0]]:g}; expected one above 0"
            raise UserError(f"{fills.path}: {what}")
    sent, limit, side = log.sent_ns[log.child], log.limit_px[log.child], log.side[log.child]
    if (early := np.flatnonzero(log.fill_ns < sent)).size:
        name, by_s = names[log.child[early[0]]], float(sent[early[0]] - log.fill_ns[early[0]]) / 1e9
        expected = "expected at or after it: are both clocks in UTC?"
        raise UserError(f"{fills.path}: child {name} has a fill {by_s:g} s before its sent_ts; {expected}")
    for name, times in (("arrival_ts", log.arrival_ns), ("ack_ts", log.ack_ns)):
        if (early := np.flatnonzero((times != UNKNOWN_TIME) & (times < log.sent_ns))).size:
            raise UserError(f"{children.path}: child {names[early[0]]} has an {name} before its sent_ts; correct it")
    with np.errstate(invalid="ignore"):
        worse = np.flatnonzero(side * (log.fill_px - limit) > TIE * limit)
    if worse.size:
        at = f"a fill at {log.fill_px[worse[0]]:g}, worse than its limit_px {limit[worse[0]]:g}"
        raise UserError(f"{fills.path}: child {names[log.child[worse[0]]]} has {at}; is the side right?")
    filled = log.of_children(log.fill_shares)
    if (over := np.flatnonzero(filled > log.sent_shares * (1.0 + TIE))).size:
        what = f"child {names[over[0]]} filled {filled[over[0]]:g} shares of the {log.sent_shares[over[0]]:g} sent"
        raise UserError(f"{fills.path}: {what}; is a fill in the log twice?")
    by_parent = np.bincount(log.parent, filled, minlength=len(log.parents))
    with np.errstate(invalid="ignore"):
        over = np.flatnonzero(by_parent > log.quantity_shares * (1.0 + TIE))
    if over.size:
        what = f"parent {log.parents[over[0]]} filled {by_parent[over[0]]:g} shares"
        raise UserError(f"{children.path}: {what} of a parent_quantity of {log.quantity_shares[over[0]]:g}; correct it")
