"""Comparing two states: the kinds of change, and the cost of what is equal."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A fresh volume."""
    with AgentFS.open(tmp_path / "a.afs") as handle:
        yield handle


def kinds(fs: AgentFS, before: str, after: str) -> dict[str, str]:
    """Return the kind of change at each path that differs."""
    return {each.path: each.kind for each in fs.diff(before, after)}


def test_each_kind_of_change_is_told_apart(fs: AgentFS) -> None:
    """Mode and attributes are "mode", another kind of node is "type", times alone are nothing."""
    for name in ("mode", "xattr", "time", "type", "bytes"):
        fs.write(f"/{name}", "x")
    fs.mkdir("/type2")
    fs.write("/type2/below", "x")
    side = fs.fork("side")
    side.chmod("/mode", 0o600)
    side.setxattr("/xattr", "user", b"1")
    side.utime("/time", mtime_ns=1)
    side.write("/bytes", "y")
    side.remove("/type")
    side.symlink("bytes", "/type")
    side.remove("/type2", recursive=True)
    side.write("/type2", "x")
    assert kinds(fs, "main", "side") == {
        "/bytes": "modified",
        "/mode": "mode",
        "/type": "type",
        "/type2": "type",
        "/type2/below": "removed",
        "/xattr": "mode",
    }


def test_a_diff_reads_only_what_differs(fs: AgentFS) -> None:
    """With ten thousand files and three changes, a few buckets and nodes are read."""
    with fs.transaction():
        for number in range(10_000):
            fs.write(f"/{number}", "x")
    side = fs.fork("side")
    for number in (1, 2, 3):
        side.write(f"/{number}", "y")
    with fs.view_for_reading() as view:
        before = view.session.connection.status(apsw.SQLITE_DBSTATUS_CACHE_HIT)[0]
        assert len(kinds(fs, "main", "side")) == 3
        pages = view.session.connection.status(apsw.SQLITE_DBSTATUS_CACHE_HIT)[0] - before
    assert 0 < pages < 2000


@pytest.mark.parametrize("seed", range(20))
def test_directories_of_any_size_compare_by_name(fs: AgentFS, seed: int) -> None:
    """Across splits and different depths exactly the names that differ are found."""
    chance = random.Random(seed)
    names = [str(each) for each in range(chance.choice([10, 200, 600]))]
    with fs.transaction():
        for name in names:
            fs.write(f"/{name}", "x")
    side = fs.fork("side")
    expected: dict[str, str] = {}
    with side.transaction():
        for number in range(chance.choice([1, 100, 600])):
            side.write(f"/new{number}", "x")
            expected[f"/new{number}"] = "added"
        for name in chance.sample(names, 5):
            side.remove(f"/{name}")
            expected[f"/{name}"] = "removed"
    assert kinds(fs, "main", "side") == expected
