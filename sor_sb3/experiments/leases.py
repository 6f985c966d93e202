"""Leases: which process works on which task, on one machine or on several that share a folder.

A lease is a file TASK.N, and who creates the file has the task: creation is exclusive. The holder touches it every few
seconds. A lease that nobody touches has run out, and who creates TASK.(N+1) has the task next. No lease in use is
renamed or removed, so there is nothing to race for. What a task does is not known here.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sor_sb3.files import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT_S, LEASE_S = 5.0, 30.0
_RELEASED_NS = 0  # the time of a lease that was given back


def machine() -> str:
    """What tells machines apart, also those that share a name: the running kernel's number, else the name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()


class Leases:
    """The leases of one process, in a folder; `beat` keeps them and is called every `BEAT_S` seconds.

    A lease of another machine has run out when its time stood still for `lease_s` of this process's own clock, so that
    machines' clocks need not agree. Of this machine a lease has run out when its holder's lock on the file is gone: at
    once, whatever ended the holder.
    """

    def __init__(self, folder: Path, lease_s: float = LEASE_S) -> None:
        make_folder(folder)
        self.folder, self.lease_s = folder, lease_s
        self._held: dict[str, tuple[Path, int]] = {}  # by task, the file and its open handle
        self._seen: dict[Path, tuple[int, float]] = {}  # a lease's time, and when it was first seen with that time
        self._lost: set[str] = set()
        self._guard = threading.Lock()

    def take(self, task: str) -> bool:
        """Whether this process has the task now."""
        last = self._last(task)
        if last > 0 and not self._has_run_out(self._file(task, last)):
            return False
        file = self._file(task, last + 1)
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        if fcntl is not None:
            with suppress(OSError):  # where nothing can be locked, the file's time alone says that its holder lives
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder = {"machine": machine(), "host": socket.gethostname(), "pid": os.getpid()}
        os.write(handle, json.dumps(holder).encode())  # after the lock: whoever reads this may ask for the lock
        with self._guard:
            self._held[task] = file, handle
            self._lost.discard(task)
        return True

    def is_mine(self, task: str) -> bool:
        """Whether this process still has the task: at the last beat, nobody had taken it over after a silence."""
        return task in self._held and task not in self._lost

    def beat(self) -> None:
        """Say of every lease that its holder lives."""
        with self._guard:
            for task, (file, _) in self._held.items():
                if self._last(task) != _number(file):  # taken over, or done by who took it over
                    self._lost.add(task)
                with suppress(OSError):
                    os.utime(file)

    def give_back(self, task: str, done: bool = False) -> None:
        """End a lease: others may take the task at once, or find it `done`."""
        with self._guard:
            file, handle = self._held.pop(task)
            if done:
                for lease in self.folder.glob(f"{task}.*[0-9]"):
                    lease.unlink(missing_ok=True)
            else:
                with suppress(OSError):
                    os.utime(file, ns=(_RELEASED_NS, _RELEASED_NS))
            os.close(handle)

    def _file(self, task: str, number: int) -> Path:
        return self.folder / f"{task}.{number}"

    def _last(self, task: str) -> int:
        return max(map(_number, self.folder.glob(f"{task}.*[0-9]")), default=0)

    def _has_run_out(self, file: Path) -> bool:
        try:
            time_ns, text = file.stat().st_mtime_ns, file.read_text(encoding="utf-8")
        except OSError:
            return False  # the task was just done
        if time_ns == _RELEASED_NS:
            return True
        unlocked = _is_unlocked(file) if _holder(text).get("machine") == machine() else None
        if unlocked is not None:
            return unlocked
        known, since = self._seen.get(file, (None, 0.0))
        if known != time_ns:
            self._seen[file] = time_ns, time.monotonic()
            return False
        return time.monotonic() - since > self.lease_s


def _number(file: Path) -> int:
    return int(file.suffix[1:])


def _holder(text: str) -> dict[str, Any]:
    """Who holds a lease; nothing where that is still being written."""
    with suppress(ValueError):
        holder = json.loads(text)
        if isinstance(holder, dict):
            return holder
    return {}


def _is_unlocked(file: Path) -> bool | None:
    """Whether the holder's lock on a lease of this machine is gone; None where files cannot be locked."""
    if fcntl is None:
        return None
    with suppress(OSError):
        handle = os.open(file, os.O_WRONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
    return None
