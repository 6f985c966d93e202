"""Turn pydantic's complaints about a file into one sentence that a user can act on. Reads no files."""

from __future__ import annotations

import reprlib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sor_sb3.errors import UserError, did_you_mean

_INSTEAD = {
    "venues.walk_bps": "a fill pays the levels that it takes; set quotes.level_profile and quotes.level_spacing_bps",
    "continuation_bps": "oracles find out themselves what a share that waits will cost; take it out",
    "mid": "what moves the efficient price is in 'price'; rename it",
    "informed.probability": "news comes at a rate, not by decision; set informed.news_per_s",
    "informed.window_ms": "news comes at any time, at the rate informed.news_per_s; take it out",
}
"""What replaced the fields of the first market."""


def validate(kind: Any, data: Any, where: str) -> Any:
    """`data` as a specification of `kind`, or a UserError that names file, field, value and expectation."""
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, kind)}") from None


def instead_of(path: tuple[Any, ...]) -> str | None:
    """What replaced a field of the first market; None if `path` is not that of one."""
    named = ("venues", path[-1]) if path[0] == "venues" else path
    return _INSTEAD.get(".".join(map(str, named))) or _INSTEAD.get(str(path[0]))


def explain(error: ValidationError, kind: Any) -> str:
    """The first of pydantic's complaints as one sentence, and how many more there are."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    field = ".".join(str(part) for part in problem["loc"])
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        if (instead := instead_of(problem["loc"])) is not None:
            return f"field '{field}' is of the first market: {instead}{more}"
        known = list(_model_at(kind, problem["loc"][:-1]).model_fields)
        hint = did_you_mean(str(problem["loc"][-1]), known)
        return f"field '{field}' is unknown{hint}; expected one of {', '.join(known)}{more}"
    if problem["type"] == "missing":
        return f"field '{field}' is missing; add it{more}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}{more}"
    if field == "quotes.tick_bps" and problem["input"] == 0:
        return f"field '{field}' is 0: there is always a grid; 0.01 is as good as none{more}"
    message = f"{message[0].lower() + message[1:]}; {_range_of(kind, problem['loc']) or 'change it'}"
    return f"field '{field}' is {reprlib.repr(problem['input'])}: {message}{more}"


def _range_of(kind: Any, location: tuple[Any, ...]) -> str:
    """In words, the numbers that a field takes; nothing if it is no number of a range."""
    model = _model_at(kind, location[:-1])
    if model is None or location[-1] not in model.model_fields:
        return ""
    schema = model.model_json_schema()["properties"][location[-1]]
    bounds = next((part for part in [schema, *schema.get("anyOf", [])] if "maximum" in part), None)
    if bounds is None:
        return ""
    low = f"above {bounds['exclusiveMinimum']:g}" if "exclusiveMinimum" in bounds else f"from {bounds['minimum']:g}"
    return f"expected a number {low} to {bounds['maximum']:g}"


def _model_at(kind: Any, location: tuple[Any, ...]) -> Any:
    """The (nested) model that an error location points into; None if there is none, as inside a tuple."""
    model: Any = kind
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        models = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
        if not models:
            return None
        model = models[0]
    return model
