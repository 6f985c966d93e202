"""Families of markets: what is drawn anew for every market of a family, and how. Data, as :mod:`sor_sb3.market.spec`.

A family's markets differ in everything that it has ranges for, the number of venues too; each is a market like any
other. `randomise`, inside one market, draws numbers by episode and keeps the venues.
"""

from __future__ import annotations

import math
import os
import zlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import (
    PROSE_FIELDS,
    OrderSpec,
    PositiveWeight,
    SyntheticMarket,
    Weight,
    _Spec,
    check_ranges,
)
from sor_sb3.market.validation import explain, validate
from sor_sb3.safe_yaml import parse_yaml, read_text

FAMILIES = "families/"
MOST_VENUES = 64  # of a drawn market: every row of observations is as long as that of the largest market
_TRIED = 8  # markets that are drawn when a family is read, so that what cannot be is said before training
_KINDS = ("lit", "dark")

WholeRange = tuple[Annotated[int, Field(ge=0, le=MOST_VENUES)], Annotated[int, Field(ge=0, le=MOST_VENUES)]]


def _base(value: Any) -> Any:
    """A base market given by a preset's name."""
    try:
        return load_market(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from None


class MarketGroup(_Spec):
    """Markets that are alike: a base market, whose numbers hold where nothing is drawn, and ranges.

    A market has `n_venues` venues, of which `dark_pools` are dark (fewer, where it has fewer). Each is a copy of one of
    the base's venues of its kind. A range [low, high] belongs to the dotted path of a number: of the market, as
    ``informed.news_per_s``, or of each venue of a kind by itself, as ``lit.latency_ms`` or
    ``dark.dark.zero_probability``. Whole numbers are equally likely; where `low` is above 0, logarithms are, since what
    is small differs by factors; else numbers. `fade_in_all` is the range of the sum of the venues' `toxicity`, to which
    that is scaled, and `displayed_slices` that of the sum of lit venues' `size_shares`, in even slices. An even slice
    has as many shares as the base's, whatever the horizon: another number of them is another unit, no other market.
    """

    base: Annotated[SyntheticMarket, BeforeValidator(_base)]
    weight: PositiveWeight = 1.0  # how often a market is of this group, beside the others' weights
    n_venues: WholeRange = (2, 12)
    dark_pools: WholeRange = (0, 0)
    fade_in_all: tuple[Weight, Weight] | None = None
    displayed_slices: tuple[Weight, Weight] | None = None
    draw: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> MarketGroup:
        for field, least in (("n_venues", 2), ("dark_pools", 0)):
            low, high = getattr(self, field)
            if not least <= low <= high:
                raise ValueError(f"{field} is [{low}, {high}]; expected at least {least}, and the lower end first")
        if self.dark_pools[1] and not self.base.has_dark:
            raise ValueError(f"dark_pools is {list(self.dark_pools)} and '{self.base.name}' has none to copy; take 0")
        if self.base.randomise:
            raise ValueError(f"base '{self.base.name}' is random itself ('randomise'); give the ranges in 'draw'")
        for field in ("fade_in_all", "displayed_slices"):
            ends = getattr(self, field)
            if ends is not None and not 0.0 < ends[0] <= ends[1]:
                raise ValueError(f"{field} is {list(ends)}; expected numbers above 0, the lower end first")
        if "order.quantity_shares" in self.draw:
            remedy = "set displayed_slices, since sizes count in slices"
            raise ValueError(f"draw.order.quantity_shares: a slice is as large as that of the base; {remedy}")
        ranges: dict[str, tuple[float, float]] = {}
        for path, ends in self.draw.items():
            kind, _, field = path.partition(".")
            of_kind = [venue.name for venue in self._templates(kind)] if kind in _KINDS else []
            if kind == "venues" or (kind in _KINDS and not of_kind):
                what = f"draw.{path}: '{self.base.name}' has no {kind} venue" if of_kind else f"draw.{path}"
                raise ValueError(f"{what}; expected lit.FIELD or dark.FIELD of a kind that the base has")
            ranges |= {f"venues.{name}.{field}": ends for name in of_kind} or {path: ends}
        try:
            check_ranges(self.base.model_copy(update={"randomise": ranges}))
        except ValueError as error:
            raise ValueError(str(error).replace("randomise.", "draw.", 1)) from None
        return self

    def _templates(self, kind: str) -> list[Any]:
        return [venue for venue in self.base.venues if (venue.dark is not None) == (kind == "dark")]

    def market(self, name: str, rng: np.random.Generator) -> SyntheticMarket:
        """One market, drawn by `rng`."""
        data = self.base.model_dump(exclude=PROSE_FIELDS)
        n_venues = int(rng.integers(*self.n_venues, endpoint=True))
        n_dark = min(int(rng.integers(*self.dark_pools, endpoint=True)), n_venues - 1)
        venues = []
        for k in range(n_venues):
            kind = "dark" if k >= n_venues - n_dark else "lit"
            templates = self._templates(kind)
            venue = templates[int(rng.integers(len(templates)))].model_dump() | {"name": f"VENUE-{k + 1}"}
            self._draw_into(venue, kind, rng)
            venues.append(venue)
        self._draw_into(data, "", rng)
        slice_shares = self.base.order.quantity_shares / self.base.order.horizon_steps
        data["order"]["quantity_shares"] = slice_shares * data["order"]["horizon_steps"]
        scaled = ("toxicity", 1.0, self.fade_in_all), ("size_shares", slice_shares, self.displayed_slices)
        for field, unit, ends in scaled:
            if ends is not None:
                factor = unit * _between(*ends, rng) / max(sum(venue[field] or 0.0 for venue in venues), 1e-9)
                venues = [venue | ({field: venue[field] * factor} if venue[field] else {}) for venue in venues]
        return SyntheticMarket.model_validate({**data, "name": name, "venues": venues})

    def _draw_into(self, data: dict[str, Any], kind: str, rng: np.random.Generator) -> None:
        for path, ends in self.draw.items():
            *groups, field = path.split(".")
            if (groups[0] if groups[:1] and groups[0] in _KINDS else "") != kind:
                continue
            target = data
            for group in groups[1:] if kind else groups:
                target = target[group]
            is_whole = isinstance(target[field], int)
            whole = int(rng.integers(int(ends[0]), int(ends[1]), endpoint=True)) if is_whole else 0
            target[field] = whole if is_whole else _between(*ends, rng)


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    if low <= 0.0:
        return float(rng.uniform(low, high))
    return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)


class MarketFamily(_Spec):
    """Groups of markets, from which markets are drawn: what a policy is trained on that shall route anywhere.

    What it has in common with a market is what the largest one of its markets has: so many venues, so long an order.
    """

    cost_unit: ClassVar[str] = "price scales"  # a cost over its market's typical all-in price, `scales[0]`
    charges_bps: ClassVar[bool] = True
    reference_router: ClassVar[str] = "round_robin"
    oracle: ClassVar[str] = "snapshot_oracle"

    model: Literal["family"]
    name: Annotated[str, Field(min_length=1, max_length=150)] = "unnamed"
    description: str = ""
    groups: Annotated[tuple[MarketGroup, ...], Field(min_length=1, max_length=64)]
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> MarketFamily:
        for index in range(_TRIED):
            try:
                self.draw("train", 0, index)
            except ValidationError as error:
                what = explain(error, SyntheticMarket)
                raise ValueError(f"a market that was drawn cannot be: {what}; change the ranges") from None
        return self

    def draw(self, data_split: str, seed: int, index: int) -> SyntheticMarket:
        """Market number `index` of a seed: the same each time, and of another data split another one.

        Raises:
            ValidationError: the numbers drawn do not fit each other.
        """
        rng = np.random.default_rng((zlib.crc32(data_split.encode()), seed, index))
        weights = np.array([group.weight for group in self.groups])
        group = self.groups[int(rng.choice(len(self.groups), p=weights / weights.sum()))]
        return group.market(f"{self.name} {data_split} {seed} {index}", rng)

    @property
    def n_venues(self) -> int:
        """How many venues the largest market may have."""
        return max(group.n_venues[1] for group in self.groups)

    @property
    def venue_names(self) -> tuple[str, ...]:
        """What the largest market's venues are called."""
        return tuple(f"VENUE-{k + 1}" for k in range(self.n_venues))

    @property
    def order(self) -> OrderSpec:
        """The order that takes the most env steps."""

        def longest(group: MarketGroup) -> OrderSpec:
            ends = group.draw.get("order.horizon_steps", (0, group.base.order.horizon_steps))
            return group.base.order.model_copy(update={"horizon_steps": int(ends[1])})

        return max(map(longest, self.groups), key=lambda order: order.horizon_steps * order.waves)

    def without_prose(self) -> dict[str, Any]:
        """The family as plain data (as JSON would hold it) without texts: what a hash of it should cover."""
        data = self.model_dump(mode="json", exclude=PROSE_FIELDS)
        for group, kept in zip(self.groups, data["groups"], strict=True):
            kept["base"] = group.base.without_prose()
        return data


def family_names() -> list[str]:
    """Names of the families that ship with the package, "families/..."."""
    folder = resources.files("sor_sb3.market") / "presets" / FAMILIES.strip("/")
    return sorted(FAMILIES + file.name.removesuffix(".yaml") for file in folder.iterdir())


def load_family(name: str, **flags: Any) -> MarketFamily | None:
    """A family of markets by its name or file (``model: family``); None where `name` is anything else.

    Raises:
        UserError: its file is wrong, there is no such family, or some of `flags`, which change a market, are given.
    """
    text, where = _text(name)
    data = parse_yaml(text, where) if text else None
    if not isinstance(data, dict) or data.get("model") != "family":
        return None
    given = [f"--{flag.replace('_', '-')}" for flag, value in flags.items() if value]
    if given:
        raise UserError(f"{where} is a family of markets, which takes no {given[0]}; change its file instead")
    data.setdefault("name", Path(where).stem)
    family: MarketFamily = validate(MarketFamily, data, where)
    return family


def _text(name: str) -> tuple[str, str]:
    """The text of a family or market given by name or file, and what messages call it; "" where there is none."""
    if name in family_names():
        file = resources.files("sor_sb3.market") / "presets" / f"{name}.yaml"
        return file.read_text(encoding="utf-8"), f"family {name}"
    if name.startswith(FAMILIES) and not os.path.exists(name):
        hint = did_you_mean(name, family_names())
        raise UserError(f"family '{name}' is unknown{hint}; expected one of {', '.join(family_names())}")
    is_file = name.lower().endswith((".yaml", ".yml")) and os.path.isfile(name)
    return (read_text(Path(name)) if is_file else ""), name
