"""A PostgreSQL server for the tests that ask for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Path]:
    """A real server, of Debian's package or whatever is on the path, with its socket in a folder."""
    pytest.importorskip("psycopg")
    found = [Path(which).resolve().parent] if (which := shutil.which("initdb")) else []
    binaries = [folder for folder in (*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))) if folder.is_dir()]
    if not binaries:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="postgresql") as name:  # a short name, since it holds a socket
        options: dict[str, Any] = {"cwd": name, "check": True, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # a server refuses to be root's
            shutil.chown(name, "postgres", "postgres")
            options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        control: list[str | Path] = [binaries[0] / "pg_ctl", "-D", f"{name}/data", "-w", "-l", f"{name}/server.log"]
        create: list[str | Path] = [
            binaries[0] / "initdb",
            "-D",
            f"{name}/data",
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
        ]
        subprocess.run(create, **options)
        subprocess.run([*control, "-o", f"-k {name} -c listen_addresses= -c fsync=off", "start"], **options)
        try:
            yield Path(name)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **options)


@pytest.fixture
def postgresql(postgresql_server: Path) -> str:
    """The URL of an empty database."""
    psycopg, database = pytest.importorskip("psycopg"), f"study_{uuid4().hex}"
    with psycopg.connect(f"postgresql://postgres@/postgres?host={postgresql_server}", autocommit=True) as connection:
        connection.execute(f"create database {database}")
    return f"postgresql+psycopg://postgres@/{database}?host={postgresql_server}"
