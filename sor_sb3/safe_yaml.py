"""Reads YAML that people write: bounded, without code, one sentence for what is wrong. Below all but errors."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sor_sb3.errors import UserError

LARGEST_FILE_BYTES = 1_000_000  # of a file; a market of 256 venues takes a tenth of that
MOST_NODES = 100_000  # in a document, with all aliases written out


class _CarefulLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is an error (PyYAML takes the last), and so are too many aliases."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The mapping that comes next, before merge keys are written out."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def get_single_node(self) -> Any:
        """The document, if what it says is not too large with all aliases written out."""
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > MOST_NODES:
            problem = f"it has more than {MOST_NODES:,} values, with aliases written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
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


_CarefulLoader.add_implicit_resolver(  # YAML 1.2's numbers, such as 1e-3, which YAML 1.1 reads as words
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        UserError: it cannot be read, is too large, or is no UTF-8 text.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UserError(f"{path} is larger than {LARGEST_FILE_BYTES / 1e6:g} MB, too large for YAML")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its name and rights") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def parse_yaml(text: str, where: str) -> Any:
    """The document in `text`; `where` names it in messages.

    Raises:
        UserError: it is not valid YAML, a key is given twice, or it is too large with all aliases written out.
    """
    try:
        return yaml.load(text, _CarefulLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{where} is not valid YAML{line}: {problem}") from None
    except RecursionError:
        raise UserError(f"{where} is not valid YAML: its lists and mappings lie too deep in one another") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # from constructors of PyYAML
        raise UserError(f"{where} is not valid YAML: a value cannot be read ({error})") from None
