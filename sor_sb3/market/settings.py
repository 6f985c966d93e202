"""Sets single fields of a market by dotted path: `order.step_s`, `venues.NYSE.latency_ms`, `venues.*.take_fee_bps`.

Paths are checked here, values where the whole market is: by its specification.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.spec import PATH_FIELDS
from sor_sb3.safe_yaml import parse_yaml

OPTION = "--market-set"
EVERY = "*"


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``path=value`` pairs by path; values are YAML (numbers, words, [1, 2]), never code.

    Raises:
        UserError: a pair has no "=", a path is given twice, or a value is no YAML.
    """
    parsed: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not path:
            raise UserError(f"{OPTION} {pair}: expected path=value, such as order.step_s=1 or venues.*.latency_ms=2")
        if path in parsed:
            raise UserError(f"{OPTION} {path} is given twice; give it once")
        try:
            parsed[path] = parse_yaml(value, "the value")
        except UserError as error:
            raise UserError(f"{OPTION} {pair}: {error}; expected a number, a word or a list") from None
    return parsed


def named(where: str, settings: Mapping[str, Any]) -> str:
    """`where` a market comes from and what was set in it: how messages name the market."""
    return where + "".join(f" {'and' if k else 'with'} {OPTION} {path}" for k, path in enumerate(settings))


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that are not of single venues, and those that are."""
    of_venues = {path: value for path, value in settings.items() if path.startswith("venues.")}
    return {path: value for path, value in settings.items() if path not in of_venues}, of_venues


def with_fields(kind: type[BaseModel], data: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> Any:
    """A copy of a market's plain `data` with the fields of `settings` set; `kind` is the specification of the market.

    Raises:
        UserError: a path names no field, or a venue that is not there.
    """
    changed = copy.deepcopy(dict(data))
    for path, value in settings.items():
        _set(kind, changed, path, value, f"{OPTION} {path}: {where}")
    return changed


def _set(model: type[BaseModel], data: dict[str, Any], path: str, value: Any, where: str, prefix: str = "") -> None:
    """Set the field at `path` below `model`; `prefix` is the path of `model` itself."""
    name, _, rest = path.partition(".")
    if name not in model.model_fields or name == "model":
        group = f"'{prefix.removesuffix('.')}'" if prefix else "the market"
        fields = [field for field in model.model_fields if field != "model"]
        hint = did_you_mean(name, fields)
        if not prefix:  # a field of a group, named without the group
            elsewhere = [known for known in _paths(model) if known.endswith(f".{path}")]
            hint = f" (did you mean '{elsewhere[0]}'?)" if elsewhere else hint
        raise UserError(f"{where} has no field '{name}' in {group}{hint}; expected one of {', '.join(fields)}")
    if not rest:
        data[name] = os.path.abspath(os.path.expanduser(value)) if name in PATH_FIELDS and value else value
    elif name == "venues":
        _set_in_venues(_group(model, name), data, rest, value, where)
    elif (group_model := _group(model, name)) is not None:
        default = model.model_fields[name].default
        if not isinstance(data.get(name), dict):
            data[name] = default.model_dump(exclude_unset=True) if isinstance(default, BaseModel) else {}
        _set(group_model, data[name], rest, value, where, f"{prefix}{name}.")
    elif isinstance(data.get(name, {}), dict) and model.model_fields[name].default_factory is dict:
        data.setdefault(name, {})[rest] = value
    else:
        raise UserError(f"{where} has no fields in '{prefix}{name}', which is one value; set {prefix}{name} itself")


def _set_in_venues(model: Any, data: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a field of one venue, or of every venue that can have the field; names of venues may hold dots."""
    venues = [{"name": venue} if isinstance(venue, str) else venue for venue in data.get("venues") or ()]
    names = [str(venue.get("name")) for venue in venues if isinstance(venue, dict)]
    if len(names) < len(venues) or not venues:
        return  # the list itself is wrong, as the specification will say
    data["venues"] = venues
    name = max((n for n in [*names, EVERY] if path.startswith(f"{n}.")), key=len, default="")
    if not name:
        wanted = path.partition(".")[0]
        what = f"{where} has no venue '{wanted}'{did_you_mean(wanted, names)}"
        if wanted in (*names, EVERY):
            what = f"{where} is a whole venue, which cannot be set"
        raise UserError(f"{what}; expected venues.NAME.FIELD with one of {', '.join(names)}, or {EVERY} for all")
    rest = path.removeprefix(f"{name}.")
    chosen = [venue for venue, own in zip(venues, names, strict=True) if name in (own, EVERY)]
    group, _, inner = rest.partition(".")
    if name == EVERY and inner and group in model.model_fields:
        chosen = [venue for venue in chosen if venue.get(group)]
        if not chosen:
            raise UserError(f"{where} has no venue with '{group}', so {rest} means nothing there; leave it out")
    for venue in chosen:
        _set(model, venue, rest, value, where, f"venues.{name}.")


def _group(model: type[BaseModel], name: str) -> Any:
    """The specification of a field that holds fields, or of the venues; None if it is one value."""
    waiting = [model.model_fields[name].annotation]
    while waiting:
        annotation: Any = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        waiting += getattr(annotation, "__args__", ())
    return None


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all fields below `model`."""
    for name in model.model_fields:
        group = _group(model, name)
        yield prefix + name
        if group is not None:
            yield from _paths(group, f"{prefix}{name}.{EVERY}." if name == "venues" else f"{prefix}{name}.")
