"""A volume that is opened for reading only: it is read as it is, and never changed or made."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.errors import VolumeDenied, VolumeNotFound

DDL = """
CREATE TABLE IF NOT EXISTS ext_notes_note(id INTEGER PRIMARY KEY, text TEXT) STRICT;
CREATE INDEX IF NOT EXISTS ext_notes_text ON ext_notes_note(text);
CREATE VIRTUAL TABLE IF NOT EXISTS ext_notes_words USING fts5(text);
"""


def test_it_reads_and_does_not_write(tmp_path: Path) -> None:
    """Content, journal and branches are read; every way to change something is refused."""
    path = tmp_path / "volume.afs"
    with AgentFS.open(path) as fs:
        fs.write("/a", b"one")
        fs.fork("other")
    before = path.read_bytes()
    with AgentFS.open(path, read_only=True, system=True) as fs:
        other = fs.on("other")
        assert (fs.read_only, other.read_only, other.read("/a")) == (True, True, b"one")
        assert fs.verify_journal().ok
        for change in (
            lambda: fs.write("/b", b"two"),
            lambda: other.remove("/a"),
            lambda: fs.record("some.event", {}),
            lambda: fs.snapshot("now"),
            lambda: fs.gc(),
        ):
            with pytest.raises(VolumeDenied, match="opened for reading only"):
                change()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["volume.afs"]


def test_it_is_not_made(tmp_path: Path) -> None:
    """A volume that is not there stays so, also where `create` says nothing."""
    path = tmp_path / "volume.afs"
    with pytest.raises(VolumeNotFound):
        AgentFS.open(path, read_only=True)
    assert not path.exists()


def test_tables_that_are_not_there_are_empty(tmp_path: Path) -> None:
    """An upper layer finds its tables: those that it made, and empty ones for the rest."""
    path = tmp_path / "volume.afs"
    AgentFS.open(path).close()
    before = path.read_bytes()
    for _ in range(2):
        with AgentFS.open(path, read_only=True) as fs:
            notes = fs.extension("notes", DDL)
            with fs.reading():
                assert notes.query("SELECT * FROM ext_notes_note") == []
            assert notes.query("SELECT * FROM ext_notes_words WHERE text MATCH 'x'") == []
    assert path.read_bytes() == before
    with AgentFS.open(path) as fs, fs.transaction():
        fs.extension("notes", DDL).execute("INSERT INTO ext_notes_note VALUES (1, 'x')")
    more = DDL + "CREATE TABLE IF NOT EXISTS ext_notes_tag(id INTEGER PRIMARY KEY) STRICT;"
    with AgentFS.open(path, read_only=True) as fs:
        notes = fs.extension("notes", more)
        assert notes.query("SELECT text FROM ext_notes_note") == [("x",)]
        assert notes.query("SELECT * FROM ext_notes_tag") == []


def test_what_is_written_meanwhile_is_seen(tmp_path: Path) -> None:
    """The state is that of each call, as for any reader beside a writer."""
    path = tmp_path / "volume.afs"
    with AgentFS.open(path) as writer, AgentFS.open(path, read_only=True) as reader:
        for text in (b"one", b"two"):
            writer.write("/a", text)
            assert reader.read("/a") == text
