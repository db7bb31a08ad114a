"""Sizes: what a branch stores, shares and owns alone, and what a path takes."""

import os
from pathlib import Path

import agentfs
from agentfs import AgentFS


def test_private_bytes_are_what_deleting_frees(tmp_path: Path) -> None:
    """What a fork alone has is private, the rest is shared, and gc frees exactly the private."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/d")
        fs.write("/d/big", os.urandom(100_000))
        child = fs.fork("child")
        assert child.stats().private_bytes == 0
        assert child.stats().shared_bytes == child.stats().stored_bytes == fs.stats().stored_bytes
        child.write("/own", os.urandom(30_000))
        child.write("/inline", b"12345")
        found = child.stats()
        assert found.private_bytes > 30_005
        assert found.stored_bytes == found.shared_bytes + found.private_bytes
        assert found.logical_bytes == 130_005
        fs.delete_branch("child")
        freed = fs.gc(retention=0).bytes_freed
        assert freed == found.private_bytes


def test_every_branch_has_its_figures(tmp_path: Path) -> None:
    """On request the figures of all branches come at once, and equal each branch's own."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", b"x" * 50_000)
        fs.fork("b").write("/g", os.urandom(9000))
        fs.fork("a").remove("/f")
        found = fs.stats(every_branch=True)
        assert [each.name for each in found.per_branch] == ["a", "b", "main"]
        for each in found.per_branch:
            own = fs.on(each.name).stats()
            assert (each.logical_bytes, each.stored_bytes) == (own.logical_bytes, own.stored_bytes)
            assert (each.shared_bytes, each.private_bytes) == (own.shared_bytes, own.private_bytes)
        assert found.per_branch[1].logical_bytes == 59_000
        assert found.compression_ratio > 5
        assert found.journal_rows == 5
        assert found.file_bytes >= found.chunk_bytes


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    """Copies and equal files count their logical bytes each and their stored bytes once."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        data = os.urandom(200_000)
        fs.mkdir("/d")
        fs.write("/d/one", data)
        before = fs.stats().chunk_bytes
        fs.write("/d/two", data)
        fs.copy("/d", "/e")
        found = fs.stats()
        assert found.chunk_bytes == before
        assert found.logical_bytes == 800_000
        assert 3.9 < found.dedup_ratio <= 4
        one, both = fs.du("/d/one"), fs.du("/")
        assert (one.files, one.logical_bytes) == (1, 200_000)
        assert (both.files, both.directories, both.logical_bytes) == (4, 3, 800_000)
        assert both.stored_bytes < one.stored_bytes + 5000


def test_hard_links_count_their_bytes_once(tmp_path: Path) -> None:
    """Each name counts as a file, and the file's bytes count once."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/d")
        fs.write("/d/f", b"12345")
        fs.link("/d/f", "/d/g")
        fs.link("/d/f", "/h")
        assert (fs.stats().files, fs.stats().logical_bytes, fs.stats().directories) == (3, 5, 2)
        for path, files in (("/d", 2), ("/", 3)):
            assert (fs.du(path).files, fs.du(path).logical_bytes) == (files, 5)


def test_usage_of_a_missing_path_is_an_error(tmp_path: Path) -> None:
    """A path that leads to nothing has no size."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        try:
            fs.du("/none")
        except agentfs.NotFound:
            return
    raise AssertionError("du of a missing path returned something")
