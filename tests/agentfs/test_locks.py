"""A second connection of a process leaves the first one its locks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agentfs import AgentFS
from fmos.config import Home
from fmos.storage.database import Database

pytestmark = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="this system does not tell of locks in /proc/locks"
)


def _locks(path: Path) -> set[str]:
    """Return the kinds and ranges of the locks that this process holds on a file."""
    inode = str(path.stat().st_ino)
    found: set[str] = set()
    for line in Path("/proc/locks").read_text("ascii").splitlines():
        fields = line.split()
        if fields[4] == str(os.getpid()) and fields[5].rpartition(":")[2] == inode:
            found.add(" ".join([fields[3], *fields[6:]]))
    return found


def _in_a_thread(action: object) -> None:
    thread = threading.Thread(target=action)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_a_second_connection_keeps_the_locks_of_a_volume(tmp_path: Path) -> None:
    """Without its lock on the file, another process could take away the log that is in use."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.write("/a", b"1")
        held = _locks(tmp_path / "v.afs")
        assert held
        with AgentFS.open(tmp_path / "v.afs") as again:
            assert again.read("/a") == b"1"
        _in_a_thread(lambda: fs.read("/a"))
        assert held <= _locks(tmp_path / "v.afs")


def test_a_second_connection_keeps_the_locks_of_kernel_db(tmp_path: Path) -> None:
    """The same holds for the kernel's own database."""
    path = Home.open(tmp_path / "home").kernel_db
    database = Database(path)
    held = _locks(path)
    assert held
    _in_a_thread(lambda: database.query("SELECT count(*) FROM component"))
    Database(path).close()
    assert held <= _locks(path)
    database.close()
