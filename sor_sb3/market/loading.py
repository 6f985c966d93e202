"""Find and read a market: a preset by name, a YAML file, or a recording of quotes. Mistakes become one sentence."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.spec import (
    MarketSpec,
    NotebookMarket,
    ReplayMarket,
    SyntheticMarket,
)
from sor_sb3.market.validation import validate

QUOTE_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_KINDS: dict[str, type[SyntheticMarket] | type[NotebookMarket] | type[ReplayMarket]] = {
    "synthetic": SyntheticMarket,
    "notebook": NotebookMarket,
    "replay": ReplayMarket,
}


LARGEST_FILE_BYTES = 1_000_000
"""Of a YAML market; one of 256 venues takes a tenth of that."""
MOST_NODES = 100_000
"""Values in a YAML market with all aliases written out."""


class _CarefulLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is an error (PyYAML takes the last), and so are too many aliases."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The mapping that comes next, before merge keys are written out."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return node

    def get_single_node(self) -> Any:
        """The document, if what it says is not too large with all aliases written out."""
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > MOST_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"aliases stand for more than {MOST_NODES:,} values", node.start_mark
            )
        return node


def _written_out(node: Any, known: dict[int, float]) -> float:
    """How many values a node stands for; infinite if it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted
        parts = node.value if isinstance(node, yaml.SequenceNode) else (part for pair in node.value for part in pair)
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


HELDOUT = "heldout/"


def preset_names() -> list[str]:
    """Names of the markets that ship with the package; those that no default is tuned on, "heldout/...", last."""
    folder = resources.files("sor_sb3.market") / "presets"
    shipped = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    held_out = sorted(f.name.removesuffix(".yaml") for f in (folder / HELDOUT.strip("/")).iterdir())
    return shipped + [HELDOUT + name for name in held_out]


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
    suffixed = name.lower()
    if suffixed.endswith(QUOTE_SUFFIXES):
        from sor_sb3.market.recordings import market_of_recording

        return market_of_recording(Path(name), **replay_options)
    if replay_options:
        raise UserError(f"market '{name}' is no recording; {', '.join(replay_options)} applies to recorded quotes only")
    if suffixed.endswith((".yaml", ".yml")):
        path = Path(name)
        return parse_market(_read_yaml(path), str(path), path.parent)
    if name not in preset_names():
        raise UserError(
            f"market '{name}' is unknown{did_you_mean(name, preset_names())}; expected a preset ({_presets()}) or the "
            "path of a .yaml market or of .parquet, .csv or .csv.gz quotes"
        )
    text = (resources.files("sor_sb3.market") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_market(text, f"preset {name}", Path())


def _read_yaml(path: Path) -> str:
    """The text of a market file.

    Raises:
        UserError: it is not there, not to be read, too large, or not UTF-8 text.
    """
    try:
        if not path.is_file():
            raise UserError(f"market file {path} does not exist; give a YAML file, or a preset: {_presets()}")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UserError(
                f"{path} is larger than {LARGEST_FILE_BYTES / 1e6:g} MB, too large for a YAML market"
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its name and rights") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _presets() -> str:
    return ", ".join(preset_names())


def parse_market(text: str, where: str, folder: Path) -> MarketSpec:
    """A specification from YAML `text`; `where` names it in messages, relative paths start at `folder`."""
    try:
        data = yaml.load(text, _CarefulLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{where} is not valid YAML{line}: {problem}") from None
    except RecursionError:
        raise UserError(f"{where} is not valid YAML: its lists and mappings lie too deep in one another") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # from constructors of PyYAML
        raise UserError(f"{where} is not valid YAML: a value cannot be read ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{where} holds {type(data).__name__}; expected a mapping (name, order, venues)")
    kind = data.get("model", "synthetic")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{where}: field 'model' is {kind!r}; expected one of {', '.join(_KINDS)}")
    data.setdefault("name", Path(where).stem.removeprefix("preset "))
    if kind == "replay":
        from sor_sb3.market.recordings import complete_replay

        data = complete_replay(data, where, folder)
    return validate(_KINDS[kind], data, where)
