"""A real Postgres server of its own for tests: on a unix socket, by a user without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """Return the folder with `initdb` and `pg_ctl`, or None where Postgres is not installed."""
    found = shutil.which("initdb")
    if found and Path(found).with_name("pg_ctl").exists():
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def serve() -> Iterator[str]:
    """Start a server in a folder of its own; yield the address of its database."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="fmos-pg-", dir="/tmp"))  # a socket's path is short
    run: dict[str, Any] = {"check": True, "capture_output": True, "cwd": folder, "timeout": 60}
    if os.getuid() == 0:  # Postgres refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        run |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    control = [str(bin_folder / "pg_ctl"), "-D", str(folder / "data"), "-w", "-s"]
    try:
        make = ["-D", folder / "data", "-U", "fmos", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([bin_folder / "initdb", *make, "--locale=C"], **run)
        settings = f"-F -c listen_addresses= -k {folder}"
        # The server keeps the pipes of who started it, so it gets a file.
        subprocess.run([*control, "-l", str(folder / "log"), "-o", settings, "start"], **run)
        try:
            yield f"postgresql://fmos@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
