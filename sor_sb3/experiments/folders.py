"""Folders under ``logs/``: files written beside and renamed, numbers taken by exclusive creation, configs kept."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from sor_sb3.errors import UserError
from sor_sb3.evaluation.results import system_versions as system_versions

CONFIG_FILE, DONE_FILE = "config.yaml", "done.json"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_json(path: Path, data: Any) -> None:
    """`write_text` of indented JSON (NaN is refused)."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, data: Any) -> None:
    """`write_text` of a plain YAML mapping, in the order given."""
    write_text(path, yaml.safe_dump(data, sort_keys=False, width=110))


def new_run_folder(parent: Path, env_id: str) -> Path:
    """Create ``parent/ENV_k`` with the lowest free k >= 1, safely beside other processes that do the same."""
    parent.mkdir(parents=True, exist_ok=True)
    k = 1
    while True:
        try:
            folder = parent / f"{env_id}_{k}"
            folder.mkdir()
            return folder
        except FileExistsError:
            k += 1


def _read_yaml(file: Path) -> Any:
    """What a YAML file holds; None where it is not readable."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def held_digest(folder: Path) -> str | None:
    """Digest of the config that a folder holds; None where it holds none that is readable."""
    file = folder / CONFIG_FILE
    held = _read_yaml(file) if file.is_file() else None
    return held.get("digest") if isinstance(held, dict) else None


def claim_folder(folder: Path, config: dict[str, Any], digest: str) -> bool:
    """Take `folder` for a config. True if it holds earlier work of the same config, which goes on.

    Raises:
        UserError: it belongs to another config, or holds something else; nothing is touched.
    """
    file = folder / CONFIG_FILE
    if file.is_file():
        held = held_digest(folder)
        if held != digest:
            raise UserError(
                f"{folder} holds a run of another configuration ({held}; this one is {digest}); give another "
                "--name, or delete the folder"
            )
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a run of this tool; give another --name")
    write_yaml(file, {"digest": digest, "config": config})
    return False


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run folder holds.

    Raises:
        UserError: there is none, or it is not readable.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{folder} is no run folder: it has no {CONFIG_FILE}; give a folder that train or compare made")
    data = _read_yaml(file)
    if not isinstance(data, dict) or "config" not in data:
        raise UserError(f"{file} is damaged: it has no field 'config'; restore it, or train again")
    return data["config"]
