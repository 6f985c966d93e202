"""Find and read a market: a preset by name, a YAML file, or a recording of quotes. Mistakes become one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.settings import named, with_fields
from sor_sb3.market.spec import MarketSpec, NotebookMarket, ReplayMarket, SyntheticMarket
from sor_sb3.market.validation import validate
from sor_sb3.safe_yaml import parse_yaml, read_text

QUOTE_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_KINDS: dict[str, Any] = {"synthetic": SyntheticMarket, "notebook": NotebookMarket, "replay": ReplayMarket}
HELDOUT = "heldout/"


def preset_names() -> list[str]:
    """Names of the markets that ship with the package; those that no default is tuned on, "heldout/...", last."""
    folder = resources.files("sor_sb3.market") / "presets"
    shipped = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    held_out = sorted(f.name.removesuffix(".yaml") for f in (folder / HELDOUT.strip("/")).iterdir())
    return shipped + [HELDOUT + name for name in held_out]


def synthetic_presets() -> list[str]:
    """Presets that say how the market moves: not the notebook's, nor those that no default is tuned on."""
    shipped = [name for name in preset_names() if not name.startswith(HELDOUT)]
    return [name for name in shipped if load_market(name).is_synthetic]


def load_market(
    market: str | Path | MarketSpec | Any, settings: Mapping[str, Any] | None = None, **replay_options: Any
) -> MarketSpec:
    """Read a market.

    Args:
        market: a preset's name, the path of a YAML market file, the path of recorded quotes (.parquet, .csv,
            .csv.gz), a DataFrame of the same columns (polars, pandas, Arrow), or a specification, which is returned as
            it is.
        settings: values by the dotted path of a field, such as ``{"order.step_s": 1, "venues.*.latency_ms": 2}``, in
            place of what the market says.
        replay_options: fields of :class:`ReplayMarket` for a recording given by its path, e.g.
            ``assumed_depth_shares``, ``trades_file`` (a path or a DataFrame), ``venues=["NYSE", "ARCA"]``.

    Raises:
        UserError: there is no such market, or its file is wrong; the message says where and what to do.
    """
    if isinstance(market, (SyntheticMarket, NotebookMarket, ReplayMarket)):
        return _changed(market, settings) if settings else market
    market, replay_options = _as_path(market), {key: _as_path(value) for key, value in replay_options.items()}
    name, suffixed = str(market), str(market).lower()
    if suffixed.endswith(QUOTE_SUFFIXES):
        from sor_sb3.market.recordings import market_of_recording

        return market_of_recording(Path(name), settings, **replay_options)
    if replay_options:
        raise UserError(f"market '{name}' is no recording; {', '.join(replay_options)} applies to recorded quotes only")
    presets = ", ".join(preset_names())
    if suffixed.endswith((".yaml", ".yml")):
        path = Path(name)
        if not os.path.isfile(path):  # False, too, for a name that no file can have
            raise UserError(f"market file {path} does not exist; give a YAML file, or a preset: {presets}")
        return parse_market(read_text(path), str(path), path.parent, settings)
    if name not in preset_names():
        expected = f"a preset ({presets}) or the path of a .yaml market or of .parquet, .csv or .csv.gz quotes"
        raise UserError(f"market '{name}' is unknown{did_you_mean(name, preset_names())}; expected {expected}")
    text = (resources.files("sor_sb3.market") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_market(text, f"preset {name}", Path(), settings)


def _as_path(value: Any) -> Any:
    """The path of a file with the content of a DataFrame; anything else as it is."""
    if not hasattr(value, "__arrow_c_stream__"):
        return value
    from sor_sb3.market.formats.frames import frame_file

    return frame_file(value)


def _changed(market: MarketSpec, settings: Mapping[str, Any]) -> MarketSpec:
    where, data = f"market {market.name}", market.model_dump()
    if isinstance(market, ReplayMarket):
        from sor_sb3.market.recordings import complete_replay

        return complete_replay(data, where, Path(), settings)
    return _set_and_validated(type(market), data, where, settings)


def _set_and_validated(kind: Any, data: Any, where: str, settings: Mapping[str, Any] | None) -> MarketSpec:
    settings = settings or {}
    market: MarketSpec = validate(kind, with_fields(kind, data, settings, where), named(where, settings))
    return market


def parse_market(text: str, where: str, folder: Path, settings: Mapping[str, Any] | None = None) -> MarketSpec:
    """A specification from YAML `text`, with what `settings` set.

    `where` names it in messages, relative paths start at `folder`.
    """
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise UserError(f"{where} holds {type(data).__name__}; expected a mapping (name, order, venues)")
    kind = data.get("model", "synthetic")
    if kind == "family":
        raise UserError(f"{where} is a family of markets, which only train takes; give one market")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{where}: field 'model' is {kind!r}; expected one of {', '.join(_KINDS)}")
    data.setdefault("name", Path(where).stem.removeprefix("preset "))
    if kind == "replay":
        from sor_sb3.market.recordings import complete_replay

        return complete_replay(data, where, folder, settings)
    return _set_and_validated(_KINDS[kind], data, where, settings)
