"""What a session remembers between calls never outlives a change, its own or another's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.errors import NotFound

Change = Callable[[AgentFS], object]
_CHANGES: dict[str, tuple[Change, bytes | None]] = {
    "write": (lambda fs: fs.write("/d/f", b"new"), b"new"),
    "append": (lambda fs: fs.append("/d/f", b"+"), b"old+"),
    "remove": (lambda fs: fs.remove("/d/f"), None),
    "rename away": (lambda fs: fs.rename("/d/f", "/d/g"), None),
    "rename over": (lambda fs: fs.rename("/other", "/d/f"), b"other"),
    "rename the directory": (lambda fs: fs.rename("/d", "/e"), None),
    "restore": (lambda fs: fs.restore("first"), b"first"),
    "restore a path": (lambda fs: fs.restore("first", ["/d/f"]), b"first"),
    "merge": (lambda fs: fs.merge("side"), b"side"),
    "replace by a link": (
        lambda fs: (fs.remove("/d/f"), fs.symlink("/other", "/d/f")),
        b"other",
    ),
}


def _volume(path: Path) -> AgentFS:
    fs = AgentFS.open(path)
    fs.mkdir("/d")
    fs.write("/d/f", b"first")
    fs.write("/other", b"other")
    fs.snapshot("first")
    fs.write("/d/f", b"old")
    with fs.fork("side") as side:
        side.write("/d/f", b"side")
    assert fs.read("/d/f") == b"old"
    return fs


def _content(fs: AgentFS) -> bytes | None:
    try:
        return fs.read("/d/f")
    except NotFound:
        return None


@pytest.mark.parametrize("name", _CHANGES)
@pytest.mark.parametrize("own", [True, False])
def test_a_read_sees_the_newest_commit(tmp_path: Path, name: str, own: bool) -> None:
    """A file that was read before is read anew after each kind of change by anybody."""
    change, expected = _CHANGES[name]
    with _volume(tmp_path / "a.afs") as fs, AgentFS.open(tmp_path / "a.afs") as other:
        for _ in range(2):
            assert fs.read("/d/f") == b"old"
        change(fs if own else other)
        assert _content(fs) == expected
        assert _content(other) == expected


@pytest.mark.parametrize("name", _CHANGES)
def test_an_undone_change_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    """After a rolled back transaction, inner or outer, the old content is read."""
    change, _ = _CHANGES[name]
    with _volume(tmp_path / "a.afs") as fs:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), fs.transaction():
                change(fs)
                _content(fs)
                raise ZeroDivisionError
            assert fs.read("/d/f") == b"old"
        with fs.transaction():
            with pytest.raises(ZeroDivisionError), fs.transaction():
                change(fs)
                _content(fs)
                raise ZeroDivisionError
            assert fs.read("/d/f") == b"old"
        assert fs.read("/d/f") == b"old"


def test_a_split_by_another_handle_is_seen(tmp_path: Path) -> None:
    """Names are found after another connection split the directory's buckets."""
    with _volume(tmp_path / "a.afs") as fs, AgentFS.open(tmp_path / "a.afs") as other:
        for turn in range(3):
            with other.transaction():
                for number in range(150):
                    other.write(f"/d/{turn}-{number}", b"x")
            fs.write(f"/d/mine-{turn}", b"y")
            assert fs.read(f"/d/{turn}-149") == b"x"
            assert other.read(f"/d/mine-{turn}") == b"y"
        assert len(fs.listdir("/d")) == 3 * 151 + 1
        assert fs.fsck() == []
