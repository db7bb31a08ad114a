"""Owners, access times and special files, which a node has no column for, through the API."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS, errors


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume that is whole at the end."""
    with AgentFS.open(tmp_path / "v.afs") as handle:
        yield handle
        assert handle.fsck(read_data=True) == []


def test_what_nobody_set_is_that_of_whoever_looks(fs: AgentFS) -> None:
    """An ordinary file stores no owner and no access time."""
    fs.write("/a", "x")
    found = fs.stat("/a")
    assert (found.uid, found.gid, found.atime_ns) == (os.geteuid(), os.getegid(), found.mtime_ns)
    assert (found.kind, found.device, found.is_file) == ("file", 0, True)


def test_owners_are_kept_and_own_ones_cost_nothing(fs: AgentFS) -> None:
    """Chown sets both or one, through a link or not; the process's own ids are not stored."""
    fs.write("/a", "x")
    fs.symlink("a", "/link")
    fs.chown("/link", 12, 34)
    fs.chown("/link", 56, None, follow=False)
    assert (fs.stat("/a").uid, fs.stat("/a").gid) == (12, 34)
    assert (fs.lstat("/link").uid, fs.lstat("/link").gid) == (56, os.getegid())
    fs.write("/a", "other bytes")
    assert fs.stat("/a").uid == 12
    fs.chown("/a", os.geteuid(), os.getegid())
    with fs.view_for_reading() as view:
        assert view.session.execute(
            "SELECT count(*) FROM node WHERE xattrs IS NULL AND size = 11"
        ).fetchone() == (1,)
    with pytest.raises(errors.InvalidArgument):
        fs.chown("/a", 2**32)


def test_changing_the_owner_takes_set_user_id(fs: AgentFS) -> None:
    """A program does not go on running as somebody else's."""
    fs.write("/a", "x", mode=0o6755)
    fs.mkdir("/d", mode=0o6755)
    for path in ("/a", "/d"):
        fs.chown(path, 12)
    assert (fs.stat("/a").mode, fs.stat("/d").mode) == (0o755, 0o6755)


def test_special_files_keep_their_kind_and_number(fs: AgentFS) -> None:
    """FIFOs, sockets and device nodes are no files, and are copied, renamed and linked."""
    kinds = {
        "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "character": stat.S_IFCHR,
        "block": stat.S_IFBLK,
    }  # fmt: skip
    for name, bits in kinds.items():
        fs.mknod(f"/{name}", bits | 0o640, os.makedev(511, 70_000))
        found = fs.stat(f"/{name}")
        device = os.makedev(511, 70_000) if name in ("character", "block") else 0
        assert (found.kind, found.mode, found.device, found.is_file) == (name, 0o640, device, False)
    fs.copy("/fifo", "/copy")
    fs.rename("/socket", "/moved")
    fs.link("/block", "/same")
    assert [fs.stat(each).kind for each in ("/copy", "/moved", "/same")] == [
        "fifo", "socket", "block",
    ]  # fmt: skip
    fs.mknod("/plain", 0o600)
    assert fs.stat("/plain").is_file
    with pytest.raises(errors.AlreadyExists):
        fs.mknod("/plain", 0o600)
    with pytest.raises(errors.InvalidArgument):
        fs.mknod("/dir", stat.S_IFDIR | 0o700)


def test_special_files_are_left_out_on_the_host(fs: AgentFS, tmp_path: Path) -> None:
    """They are named in `skipped`, and a patch shows them as empty files."""
    fs.mkdir("/d")
    fs.mknod("/d/fifo", stat.S_IFIFO | 0o640)
    fs.write("/d/file", "x")
    totals = fs.get_tree("/d", tmp_path / "out")
    assert totals.skipped == ["/d/fifo: it is a fifo, no file"]
    assert os.listdir(tmp_path / "out") == ["file"]


def test_access_times_are_kept_and_are_no_change(fs: AgentFS) -> None:
    """A time that differs from the last change is kept; a diff and a merge do not mind it."""
    fs.write("/a", "x")
    fs.snapshot("before")
    fs.utime("/a", 5, 3)
    assert (fs.stat("/a").mtime_ns, fs.stat("/a").atime_ns) == (5, 3)
    assert list(fs.diff("before", "main")) == []
    with fs.fork("other") as other:
        other.utime("/a", 7, 1)
        fs.utime("/a", 9, 2)
        assert fs.merge("other").conflicts == ()
    assert fs.listxattr("/a") == []
    fs.symlink("a", "/link")
    fs.utime("/link", 11, 13, follow=False)
    assert (fs.lstat("/link").mtime_ns, fs.lstat("/link").atime_ns) == (11, 13)


def test_reserved_attributes_are_hidden_and_refused(fs: AgentFS) -> None:
    """No door of attributes shows or changes what begins with `agentfs.`."""
    fs.write("/a", "x")
    fs.chown("/a", 12)
    fs.setxattr("/a", "user.b", b"c")
    assert fs.listxattr("/a") == ["user.b"]
    for call in (fs.getxattr, fs.removexattr):
        with pytest.raises(errors.NoAttribute):
            call("/a", "agentfs.uid")
    with pytest.raises(errors.InvalidArgument):
        fs.setxattr("/a", "agentfs.uid", b"0")
    fs.removexattr("/a", "user.b")
    assert fs.stat("/a").uid == 12


def test_time_travel_takes_owners_back(fs: AgentFS) -> None:
    """Files and directories have the owner again that they had after a journal row."""
    fs.mkdir("/d")
    fs.write("/d/a", "x")
    row = fs.log(1)[0].seq
    fs.chown("/d", 12, 34)
    fs.chown("/d/a", 12, 34)
    then = fs.at(row)
    assert {then.stat(each).uid for each in ("/d", "/d/a")} == {os.geteuid()}
    assert {fs.stat(each).gid for each in ("/d", "/d/a")} == {34}
