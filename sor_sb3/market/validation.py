"""Turn pydantic's complaints about a file into one sentence that a user can act on. Reads no files."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from sor_sb3.errors import UserError, did_you_mean


def validate(kind: Any, data: Any, where: str) -> Any:
    """`data` as a specification of `kind`, or a UserError that names file, field, value and expectation."""
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, kind)}") from None


def explain(error: ValidationError, kind: Any) -> str:
    """The first of pydantic's complaints as one sentence, and how many more there are."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    field = ".".join(str(part) for part in problem["loc"])
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _fields_at(kind, problem["loc"][:-1])
        hint = did_you_mean(str(problem["loc"][-1]), known)
        return f"field '{field}' is unknown{hint}; expected one of {', '.join(known)}{more}"
    if problem["type"] == "missing":
        return f"field '{field}' is missing; add it{more}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}{more}"
    return f"field '{field}' is {problem['input']!r}: {message[0].lower() + message[1:]}; change it{more}"


def _fields_at(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """Field names of the (nested) model that an error location points into."""
    model: Any = kind
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        model = annotation if hasattr(annotation, "model_fields") else arguments[0]
    return list(model.model_fields)
