"""Volumes of an older format version are brought to this one when they are opened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from tests.agentfs.test_encryption import EXTRA, run

from agentfs import AgentFS, AgentFSError, Corrupt, NewerFormat, connection

DOWNGRADE = (
    "DROP TABLE overlay; DROP TABLE overlay_file; PRAGMA user_version = 1;"
    " UPDATE meta SET value = 1 WHERE key = 'format_version'"
)
OPENER = """
import sys
from agentfs import AgentFS
print("ready", flush=True)
sys.stdin.readline()
with AgentFS.open(sys.argv[1], create=False) as fs:
    print(fs.read("/dir/file").decode(), flush=True)
    fs.write(f"/{sys.argv[2]}", "mine")
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A volume of version 1 with content, a fork and a snapshot."""
    path = tmp_path / "old.afs"
    with AgentFS.open(path) as fs:
        fs.mkdir("/dir")
        fs.write("/dir/file", "content")
        fs.write("/large", bytes(100_000) + b"end")
        fs.snapshot("s")
        fs.fork("b").write("/dir/file", "fork")
    downgrade(path)
    return path


def downgrade(path: Path) -> None:
    """Make a volume one of version 1."""
    database = apsw.Connection(str(path))
    database.execute(DOWNGRADE)
    database.close()


def state(path: Path) -> tuple[int, int | None, list[tuple[str, str]]]:
    """Return the version, what `meta` says of it, and the schema, without opening it as ours."""
    database = apsw.Connection(str(path))
    try:
        return (
            database.execute("PRAGMA user_version").get,
            database.execute("SELECT value FROM meta WHERE key = 'format_version'").get,
            [(row[0], " ".join(row[1].split())) for row in database.execute(
                "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")],
        )  # fmt: skip
    finally:
        database.close()


def start(path: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that opens the volume when it is told to."""
    made = subprocess.Popen(
        [sys.executable, "-c", OPENER, str(path), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def go(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_an_old_volume_is_brought_over_and_works(old: Path, tmp_path: Path) -> None:
    """It has the schema of a fresh volume, all it had before, and can have overlays."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "f").write_text("host")
    with AgentFS.open(old, create=False) as fs:
        assert fs.read("/dir/file") == b"content"
        assert fs.read("/large", 100_000) == b"end"
        assert fs.at("s").read("/dir/file") == b"content"
        assert fs.on("b").read("/dir/file") == b"fork"
        fs.overlay(tmp_path / "host", "/p")
        assert fs.read("/p/f") == b"host"
        assert fs.fsck(read_data=True) == []
        assert fs.verify_journal().ok
    AgentFS.open(tmp_path / "fresh.afs").close()
    assert state(old) == state(tmp_path / "fresh.afs")


def test_opening_again_changes_nothing(old: Path) -> None:
    """The second opening finds the newest version."""
    AgentFS.open(old).close()
    once = state(old)
    AgentFS.open(old).close()
    assert state(old) == once


def test_a_newer_volume_is_left_alone(old: Path) -> None:
    """A version that this release does not know is refused, byte for byte as it was."""
    AgentFS.open(old).close()
    database = apsw.Connection(str(old))
    database.execute(f"PRAGMA user_version = {connection.FORMAT_VERSION + 1}")
    database.close()
    before = old.read_bytes()
    with pytest.raises(NewerFormat, match=f"version {connection.FORMAT_VERSION + 1}"):
        AgentFS.open(old)
    assert old.read_bytes() == before


def test_an_old_volume_beside_a_writer(old: Path) -> None:
    """While another process holds the write lock the opening waits, and refuses in the end."""
    other = apsw.Connection(str(old))
    other.execute("BEGIN IMMEDIATE; UPDATE meta SET value = value WHERE key = 'next_node'")
    began = time.monotonic()
    with pytest.raises(AgentFSError) as caught:
        AgentFS.open(old, busy_s=0.2)
    assert (caught.value.code, time.monotonic() - began < 30) == ("volume.busy", True)
    other.execute("ROLLBACK")
    other.close()
    with AgentFS.open(old, busy_s=0.2) as fs:
        assert fs.read("/dir/file") == b"content"


def test_a_killed_migration_is_all_or_nothing(old: Path) -> None:
    """After kills around the opening the volume is of one version, whole, and opens again."""
    chance = random.Random(3)
    versions: set[int] = set()
    for _ in range(4):
        process = start(old, "killed")
        go(process)
        end = time.monotonic() + chance.uniform(0, 0.02)
        while time.monotonic() < end:
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        version, noted, schema = state(old)
        assert version == noted
        assert ("overlay" in dict(schema)) == ("overlay_file" in dict(schema)) == (version == 2)
        versions.add(version)
        with AgentFS.open(old) as fs:
            assert fs.read("/dir/file") == b"content"
            assert fs.fsck(read_data=True) == []
        downgrade(old)
    assert versions <= {1, 2}


def test_a_failing_migration_leaves_the_old_version(old: Path) -> None:
    """An error in the middle of the steps undoes those before it, and is told."""
    database = apsw.Connection(str(old))
    database.execute("CREATE TABLE overlay_file (mine TEXT)")
    database.close()
    before = state(old)
    with pytest.raises(Corrupt, match="overlay_file"):
        AgentFS.open(old)
    assert state(old) == before
    database = apsw.Connection(str(old))
    database.execute("DROP TABLE overlay_file")
    database.close()
    with AgentFS.open(old) as fs:
        assert fs.read("/dir/file") == b"content"


def test_processes_that_open_an_old_volume_at_once(old: Path) -> None:
    """One of them brings it over, and all of them work."""
    running = [start(old, f"p{number}") for number in range(3)]
    for each in running:
        go(each)
    found = [each.communicate(timeout=60)[0] for each in running]
    assert found == ["content\n"] * 3
    with AgentFS.open(old) as fs:
        assert fs.listdir("/") == ["dir", "large", "p0", "p1", "p2"]
        assert fs.fsck(read_data=True) == []


def test_an_old_encrypted_volume(cached_venv: Callable[..., Path], tmp_path: Path) -> None:
    """It is brought over with its key, and refused without it."""
    python = cached_venv("encryption", EXTRA)
    run(
        python, tmp_path / "a.afs",
        f"""
        import apsw
        with AgentFS.open(path, key="secret") as fs:
            fs.write("/f", MARKER)
        with AgentFS.open(path, key="secret") as fs:
            with fs.view_for_reading() as view:
                pass
            for each in {DOWNGRADE!r}.split(";"):
                fs._volume.session().connection.execute(each)
        refused()
        refused(key="wrong")
        (path.parent / "host").mkdir()
        (path.parent / "host" / "f").write_text("host " + MARKER)
        with AgentFS.open(path, key="secret") as fs:
            assert fs.read_text("/f") == MARKER
            fs.overlay(path.parent / "host", "/p")
            assert fs.read_text("/p/f") == "host " + MARKER
            fs.append("/p/f", "!")
            assert fs.read_text("/p/f") == "host " + MARKER + "!"
            assert fs.fsck(read_data=True) == []
        assert MARKER.encode() not in raw()
        """.replace("\n        ", "\n"),
    )  # fmt: skip
