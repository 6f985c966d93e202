"""Find and read a market: a preset by name, a YAML file, or a recording of quotes. Mistakes become one sentence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.spec import (
    MarketSpec,
    NotebookMarket,
    ReplayMarket,
    SyntheticMarket,
)

QUOTE_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_KINDS: dict[str, type[SyntheticMarket] | type[NotebookMarket] | type[ReplayMarket]] = {
    "synthetic": SyntheticMarket,
    "notebook": NotebookMarket,
    "replay": ReplayMarket,
}


def preset_names() -> list[str]:
    """Names of the markets that ship with the package."""
    folder = resources.files("sor_sb3.market") / "presets"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_market(market: str | Path | MarketSpec, **replay_options: Any) -> MarketSpec:
    """Read a market.

    Args:
        market: a preset's name, the path of a YAML market file, the path of recorded quotes (.parquet, .csv,
            .csv.gz), or a specification, which is returned as it is.
        replay_options: fields of :class:`ReplayMarket` for a recording given by its path, e.g.
            ``assumed_depth_shares``, ``trades_file``, ``venues=["NYSE", "ARCA"]``.

    Raises:
        UserError: there is no such market, or its file is wrong; the message says where and what to do.
    """
    if isinstance(market, (SyntheticMarket, NotebookMarket, ReplayMarket)):
        return market
    name = str(market)
    if name.endswith(QUOTE_SUFFIXES):
        from sor_sb3.market.recordings import market_of_recording

        return market_of_recording(Path(name), **replay_options)
    if replay_options:
        raise UserError(f"market '{name}' is no recording; {', '.join(replay_options)} applies to recorded quotes only")
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"market file {path} does not exist; give a YAML file, or a preset: {_presets()}")
        return parse_market(path.read_text(encoding="utf-8", errors="replace"), str(path), path.parent)
    if name not in preset_names():
        raise UserError(
            f"market '{name}' is unknown{did_you_mean(name, preset_names())}; expected a preset ({_presets()}) or the "
            "path of a .yaml market or of .parquet, .csv or .csv.gz quotes"
        )
    text = (resources.files("sor_sb3.market") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_market(text, f"preset {name}", Path())


def _presets() -> str:
    return ", ".join(preset_names())


def parse_market(text: str, where: str, folder: Path) -> MarketSpec:
    """A specification from YAML `text`; `where` names it in messages, relative paths start at `folder`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{where} is not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{where} holds {type(data).__name__}; expected a mapping of market fields (name, order, venues)")
    kind = data.get("model", "synthetic")
    if kind not in _KINDS:
        raise UserError(f"{where}: field 'model' is {kind!r}; expected one of {', '.join(_KINDS)}")
    data.setdefault("name", Path(where).stem.removeprefix("preset "))
    if kind == "replay":
        from sor_sb3.market.recordings import complete_replay

        data = complete_replay(data, where, folder)
    return validate(_KINDS[kind], data, where)


def validate(kind: Any, data: Any, where: str) -> Any:
    """`data` as a specification of `kind`, or a UserError that names file, field, value and expectation."""
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, kind)}") from None


def explain(error: ValidationError, kind: Any) -> str:
    """The first of pydantic's complaints as one sentence, and how many more there are."""
    problems = error.errors(include_url=False)
    problem = problems[0]
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
