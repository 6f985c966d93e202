"""Folders under ``logs/``: names that stay inside, numbers taken by exclusive creation, one process at a time.

What a folder holds beyond its config is the business of the modules that wrote it.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from sor_sb3.errors import UserError
from sor_sb3.experiments.config import CompareConfig, GridConfig, TrainConfig, TuneConfig
from sor_sb3.files import make_folder, remove_empty, write_yaml
from sor_sb3.market.validation import validate

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG_FILE, DONE_FILE, RESULTS_FILE = "config.yaml", "done.json", "results.json"
BEST_FILE = "best.yml"
CHECKPOINT_FOLDER, TENSORBOARD_FOLDER = "checkpoints", "tensorboard"
_LONGEST_BYTES = 180  # of a name that becomes a part of a path; systems allow 255


def path_component(name: str) -> str:
    """A name as one part of a path: whatever may lead elsewhere or is no file's name becomes ``_``."""
    safe = re.sub(r"[^\w. +=@,-]", "_", name).strip(" ")
    safe = re.sub(r"^\.", "_", safe).encode()[:_LONGEST_BYTES].decode(errors="ignore")
    return safe or "_"


def named_folder(log_dir: Path, name: str | None, market: str, env: str) -> Path:
    """The folder of a comparison: `name`, or by default the market's and the env's; always under `log_dir`.

    A market's name may group markets by one "/", as ``heldout/crypto_regional``; every part is made safe. Raises
    UserError: a `name` that the user gave leads out of `log_dir`.
    """
    if name is None:
        parts = [part for part in f"{market}_{env}".split("/") if part not in ("", ".", "..")]
        return log_dir.joinpath(*map(path_component, parts))
    within = os.path.relpath(log_dir / name, log_dir)
    if within == os.curdir or within.split(os.sep)[0] == os.pardir:
        raise UserError(f"--name '{name}' is not a folder under --log-dir; give a name without '..' and without '/'")
    return log_dir / within


def new_run_folder(parent: Path, env_id: str) -> Path:
    """Create ``parent/ENV_k`` with the lowest free k >= 1, safely beside other processes that do the same."""
    make_folder(parent)
    k = 1
    while True:
        folder = parent / f"{env_id}_{k}"
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
        k += 1


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes from working in a folder, which is made where it is missing and dropped if left empty.

    With `wait`, what another process does there is waited for.

    The lock is on the folder itself, so that no file is left, and ends with the process, whatever ends the process.
    Where the system cannot lock a folder (Windows, some network disks), nothing is locked. Raises UserError: another
    process works in the folder, or the folder cannot be made.
    """
    with ExitStack() as stack:
        made = make_folder(folder)
        if fcntl is not None:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    said = f"another process works in {folder}; wait until that process has ended"
                    raise UserError(f"{said}, or give another folder") from None
        stack.callback(remove_empty, made)  # while the folder is still locked
        yield


def claim_folder(folder: Path, config: dict[str, Any], digest: str) -> bool:
    """Take `folder` for a config. True if it holds earlier work of the same config.

    A comparison that was ended before its first run began holds nothing, and gives way to another config. Raises
    UserError: the folder belongs to another config, or holds something else; nothing is touched.
    """
    if (folder / CONFIG_FILE).is_file():
        held = held_digest(folder)
        if held == digest:
            return True
        if not isinstance(_whole_config(folder), CompareConfig) or any(folder.glob(f"*/*/{CONFIG_FILE}")):
            raise UserError(
                f"{folder} holds a run of another configuration ({held}; this one is {digest}); give another "
                "--name, or delete the folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a run of this tool; give another --name")
    write_yaml(folder / CONFIG_FILE, {"digest": digest, "config": config})
    return False


def release_folder(folder: Path) -> None:
    """Give a comparison's folder up after a failure, if no run in it is finished or has a checkpoint.

    The corrected command may have other settings, and so another digest. Files that others put there stay.
    """
    runs = [file.parent for file in folder.glob(f"*/*/{CONFIG_FILE}")]
    if any((run / DONE_FILE).exists() or any(run.glob(f"{CHECKPOINT_FOLDER}/*_steps")) for run in runs):
        return
    for run in runs:
        shutil.rmtree(run, ignore_errors=True)
        remove_empty([run.parent])
    shutil.rmtree(folder / TENSORBOARD_FOLDER, ignore_errors=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)


def _held(folder: Path) -> dict[str, Any]:
    """What a folder's ``config.yaml`` holds; nothing where the file is missing or not readable."""
    try:
        data = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}
    return data if isinstance(data, dict) else {}


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a folder holds, as plain data; a UserError where there is none or it is not readable."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{folder} is no run folder: it has no {CONFIG_FILE}; give a folder that train or compare made")
    config = _held(folder).get("config")
    if not isinstance(config, dict):
        raise UserError(f"{file} is damaged: it has no field 'config'; restore it, or train again")
    return config


Config = TrainConfig | CompareConfig | TuneConfig | GridConfig
_KINDS: dict[str, Any] = {"train": TrainConfig, "compare": CompareConfig, "tune": TuneConfig, "grid": GridConfig}


def any_config(folder: Path) -> Config:
    """The config of a folder: a run's, a comparison's, a search's or a grid's. The version before wrote no `kind`.

    Raises UserError: there is none, or the config is damaged.
    """
    data = read_config(folder)
    kind = data.get("kind", "compare" if "learners" in data else "train")
    config: Config = validate(_KINDS.get(str(kind), TrainConfig), data, str(folder / CONFIG_FILE))
    return config


def folder_config(folder: Path) -> TrainConfig | CompareConfig:
    """The config of a training run's or a comparison's folder; raises as `any_config`, and for other folders."""
    config = any_config(folder)
    if isinstance(config, GridConfig):
        first = named_folder(folder, None, config.cells[0].market.name, config.cells[0].env)
        raise UserError(f"{folder} is a grid of comparisons; give one of them, such as {first}")
    if isinstance(config, TuneConfig):
        raise UserError(f"{folder} is a search for settings; train with them: --hyperparams {folder / BEST_FILE}")
    return config


def _whole_config(folder: Path) -> Config | None:
    with suppress(UserError):
        return any_config(folder)
    return None


def held_digest(folder: Path) -> str | None:
    """Digest of the config that a folder holds, computed again, since the version before hashed prose too."""
    config = _whole_config(folder)
    return _held(folder).get("digest") if config is None else config.digest()


def is_done(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the finished run of this very config."""
    try:
        done = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    digest = config.digest()
    return done == digest or (done == _held(folder).get("digest") and held_digest(folder) == digest)


def check_finished(folder: Path, file: str = DONE_FILE) -> None:
    """Whether a run, or with ``results.json`` a comparison, came to its end. Raises UserError: it did not."""
    if not (folder / file).is_file():
        what = "comparison" if file == RESULTS_FILE else "run"
        raise UserError(f"{folder} has no {file}: the {what} is not finished; run its command again")
