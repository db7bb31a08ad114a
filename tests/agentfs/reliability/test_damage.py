"""Flipped bytes, cut files and files of something else: found, named, and never a traceback."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS, AgentFSError, NotAVolume, VolumeError

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
PAGE = 4096


def make(path: Path) -> None:
    """Make a volume with every kind of page: inline, chunks, lists, buckets, history."""
    chance = random.Random(3)
    with AgentFS.open(path) as fs, fs.transaction():
        fs.write("/inline", chance.randbytes(3000))
        fs.write("/tiny", b"a few bytes")
        fs.write("/chunks", chance.randbytes(40_000))
        fs.write("/packed", b"line after line\n" * 5000)
        fs.symlink("inline", "/link")
        fs.setxattr("/tiny", "user.note", b"kept")
        fs.mkdir("/many")
        for number in range(140):
            fs.write(f"/many/{number}", b"%d" % number)
        fs.snapshot("before")
        fs.fork("side").write("/inline", chance.randbytes(3000))
        fs.remove("/many/7")


def contents(path: Path) -> dict[str, bytes | None]:
    """Return the bytes of every file of every branch and snapshot; None where reading is refused.

    An exception that is no `AgentFSError` fails the test that calls this.
    """
    found: dict[str, bytes | None] = {}
    try:
        fs = AgentFS.open(path)
    except AgentFSError:
        return found
    with fs:
        for ref in ("main", "side", "before"):
            try:
                for name in _files(fs.at(ref)):
                    found[f"{ref}:{name}"] = _read(fs.at(ref), name)
            except AgentFSError:
                continue  # the tree is damaged, which `findings` must say
    return found


def _files(view: AgentFS) -> list[str]:
    return [
        f"{directory.rstrip('/')}/{name}"
        for directory, _, names in view.walk("/")
        for name in names
        if directory == "/" or len(name) == 1  # some of /many will do
    ]


def _read(view: AgentFS, name: str) -> bytes | None:
    try:
        # What a link leads to may be gone because of a damaged name, which nothing can tell.
        return view.readlink(name).encode() if view.lstat(name).is_symlink else view.read(name)
    except AgentFSError:
        return None


def findings(path: Path) -> list[Any]:
    """Return what fsck finds, a refusal to open being a finding too."""
    try:
        with AgentFS.open(path) as fs:
            found = fs.fsck(read_data=True)
            assert all(1 <= each.invariant <= 99 and each.message for each in found)
            return list(found)
    except AgentFSError as error:
        return [error]


def flip(clean: bytes, at: int, chance: random.Random) -> bytes:
    """Return the bytes with one changed."""
    return clean[:at] + bytes([clean[at] ^ chance.randint(1, 255)]) + clean[at + 1 :]


def test_a_flipped_byte_in_any_page_is_no_surprise(
    tmp_path: Path, length: Length, record_property: Record
) -> None:
    """No damage makes a traceback; changed file bytes are refused on reading and found by fsck."""
    original, path = tmp_path / "a.afs", tmp_path / "b.afs"
    make(original)
    clean, chance = original.read_bytes(), random.Random(4)
    expected = contents(original)
    assert None not in expected.values()
    refused = 0
    for start in range(0, len(clean), PAGE):
        for _ in range(length(1, 25)):
            at = start + chance.randrange(PAGE)
            path.write_bytes(flip(clean, at, chance))
            found = findings(path)
            seen = contents(path)
            both = expected.keys() & seen.keys()
            # A name that leads to another whole file is damage of the directory, not of data.
            lies = {name for name in both if seen[name] not in (None, *expected.values())}
            assert not lies, (at, "changed bytes were given to a reader", lies)
            missing = {name for name in both if seen[name] is None}
            assert found or not missing, (at, "fsck found nothing", missing)
            refused += bool(missing)
    record_property("figures", f"{len(clean) // PAGE} pages, {length(1, 25)} flips in each")
    assert refused, "no flip hit the bytes of a file: the test tests nothing"


def test_every_flipped_data_byte_is_found(tmp_path: Path, length: Length) -> None:
    """A flip inside the stored bytes of a file, inline or chunk, is always a finding."""
    original, path = tmp_path / "a.afs", tmp_path / "b.afs"
    chance = random.Random(5)
    inline, chunked = chance.randbytes(3000), chance.randbytes(30_000)
    with AgentFS.open(original) as fs:
        fs.write("/inline", inline)
        fs.write("/chunked", chunked)
    clean = original.read_bytes()
    for data in (inline, chunked):
        # Runs that are in the file once: a second copy is what SQLite left in unused space.
        runs = [data[at : at + 32] for at in range(0, len(data) - 32, 97)]
        inside = [clean.find(each) for each in runs if clean.count(each) == 1]
        assert len(inside) > 20
        for at in chance.sample(inside, min(length(15, 300), len(inside))):
            path.write_bytes(flip(clean, at + chance.randrange(32), chance))
            assert findings(path), (at, len(data))
            with AgentFS.open(path) as fs:
                read = (_read(fs, "/inline"), _read(fs, "/chunked"))
            assert read in ((None, chunked), (inline, None))


def test_a_volume_cut_at_any_page_is_refused_or_found(tmp_path: Path) -> None:
    """A file that lost its end says so, whether at a page border or inside a page."""
    original, path = tmp_path / "a.afs", tmp_path / "b.afs"
    make(original)
    clean = original.read_bytes()
    for start in range(PAGE, len(clean), PAGE):
        for size in (start, start + 1000):
            path.write_bytes(clean[:size])
            assert findings(path), size
    for size in (1, 15, 16, 99, 100, 512, PAGE - 1):
        path.write_bytes(clean[:size])
        with pytest.raises(VolumeError):
            AgentFS.open(path)
        assert path.read_bytes() == clean[:size]


def test_an_empty_file_becomes_a_volume_only_when_that_is_wanted(tmp_path: Path) -> None:
    """`create=False` refuses a file of no bytes and leaves it; `create=True` fills it."""
    path = tmp_path / "empty.afs"
    path.touch()
    with pytest.raises(NotAVolume, match="empty"):
        AgentFS.open(path, create=False)
    assert path.read_bytes() == b""
    with AgentFS.open(path) as fs:
        fs.write("/f", b"x")
        assert fs.fsck() == []


@pytest.mark.parametrize("content", [b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000, b"text"])
def test_what_is_not_a_volume_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """Zero bytes, a false header and text are refused, and not a byte of them changes."""
    path = tmp_path / "other.afs"
    path.write_bytes(content)
    with pytest.raises(VolumeError):
        AgentFS.open(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["other.afs"]


def test_a_lost_write_ahead_log_is_a_whole_older_state(tmp_path: Path) -> None:
    """Somebody who copies only the main file of an open volume gets an older, sound state."""
    path, copy = tmp_path / "a.afs", tmp_path / "b.afs"
    with AgentFS.open(path) as fs:
        fs.write("/old", b"x")
    with AgentFS.open(path) as fs:
        fs.write("/new", b"y")
        copy.write_bytes(path.read_bytes())
    assert findings(copy) == []
    with AgentFS.open(copy) as fs:
        assert fs.listdir("/") == ["old"]


def test_a_changed_write_ahead_log_ends_at_the_change(tmp_path: Path, length: Length) -> None:
    """A flip in the log leaves a state that once was: a prefix of the operations, and sound."""
    path, copy = tmp_path / "a.afs", tmp_path / "b.afs"
    AgentFS.open(path).close()
    with AgentFS.open(path) as fs:
        for number in range(20):
            fs.write(f"/{number:02}", b"x" * 100)
        log = Path(f"{path}-wal").read_bytes()
        main = path.read_bytes()
    chance = random.Random(6)
    for _ in range(length(30, 500)):
        copy.write_bytes(main)
        Path(f"{copy}-wal").write_bytes(flip(log, chance.randrange(len(log)), chance))
        assert findings(copy) == []
        with AgentFS.open(copy) as fs:
            names = fs.listdir("/")
        assert names == [f"{number:02}" for number in range(len(names))]
        for suffix in ("-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
