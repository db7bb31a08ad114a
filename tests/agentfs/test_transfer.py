"""Trees of the host in and out: what is kept, what is left out, and what cannot be tricked."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS, AgentFSError, HostError


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a host directory: kind, mode, time and content of each path."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, below, names in os.walk(root):
        for name in below + names:
            path = Path(directory, name)
            info = path.lstat()
            link = path.is_symlink()
            content = os.readlink(path) if link else path.read_bytes() if name in names else None
            mode = None if link else info.st_mode
            found[str(path.relative_to(root))] = (mode, info.st_mtime_ns, content)
    return found


def make(root: Path) -> None:
    """Make a host tree with everything that a volume holds."""
    (root / "dir" / "below").mkdir(parents=True)
    (root / "dir" / "empty").mkdir()
    (root / "large").write_bytes(random.Random(1).randbytes(20_000_000))
    (root / "dir" / "small").write_text("small")
    (root / "dir" / "below" / "run.sh").write_text("#!/bin/sh\n")
    (root / "dir" / "below" / "run.sh").chmod(0o750)
    (root / "dir" / "locked").write_text("secret")
    (root / "dir" / "locked").chmod(0o400)
    (root / os.fsdecode(b"not-utf8-\xff")).write_text("raw")
    (root / "dangling").symlink_to("nowhere/at/all")
    (root / "up").symlink_to("../../../etc")
    (root / "dir" / "to-dir").symlink_to("below")
    for number, (path, below, names) in enumerate(os.walk(root, topdown=False)):
        for name in (*names, *below, "."):
            when = 1_600_000_000_123_456_789 + number * 1_000_000_007
            os.utime(Path(path, name), ns=(when, when), follow_symlinks=False)


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    """Bytes, modes, times of files, links and directories, link targets, names of raw bytes."""
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    with AgentFS.open(tmp_path / "a.afs") as fs:
        put = fs.put_tree(source, "/tree")
        got = fs.get_tree("/tree", tmp_path / "target")
        assert tree(tmp_path / "target") == tree(source)
        assert (put.skipped, put.failed) == ([], [])
        assert (put.files, put.symlinks, put.directories) == (5, 3, 4)
        assert (got.files, got.symlinks, got.directories) == (5, 3, 4)
        assert put.bytes == got.bytes
        fs.get_tree("/tree", tmp_path / "target")  # again, over what is there
        assert tree(tmp_path / "target") == tree(source)


@pytest.fixture
def removed(tmp_path: Path) -> Iterator[Path]:
    """A directory that goes away by itself: pytest's own removal recurses."""
    path = tmp_path / "removed"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


def test_a_tree_of_a_thousand_levels_goes_in_and_out(removed: Path) -> None:
    """Neither direction recurses."""
    levels = 1000
    source = removed / "source"
    source.mkdir()
    for count in range(100, levels + 1, 100):
        os.makedirs(f"{source}{'/d' * count}")
    Path(f"{source}{'/d' * levels}/file").write_text("deep")
    with AgentFS.open(removed / "a.afs") as fs:
        assert fs.put_tree(source, "/").directories == levels + 1
        assert fs.read("/d" * levels + "/file") == b"deep"
        assert fs.get_tree("/", removed / "target").files == 1
    assert Path(f"{removed}/target{'/d' * levels}/file").read_text() == "deep"


def test_a_path_too_long_for_a_volume_is_left_out_by_name(tmp_path: Path) -> None:
    """It is in `skipped`, the rest comes in, and nothing is stored that no call can reach."""
    directory = tmp_path / ("n" * 250)
    directory.mkdir()
    (directory / "kept").write_text("x")
    (directory / ("m" * 200)).write_text("y")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        above = "/" + "/".join(["d" * 250] * 31)  # 7,781 bytes
        totals = fs.put_tree(tmp_path, above, exclude=("*.afs*",))
        assert totals.files == 1
        assert any("at most 8192 bytes" in each for each in totals.skipped)
        for path, _, names in fs.walk("/"):
            for name in names:
                fs.read(f"{path}/{name}")


def test_special_files_and_the_volume_itself_are_skipped(tmp_path: Path) -> None:
    """A pipe, a socket, the volume with its log, and the system area are named in `skipped`."""
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / ".fmos").mkdir()
    (source / ".fmos" / "memory").write_text("forged")
    (source / "kept").write_text("x")
    with AgentFS.open(source / "a.afs") as fs:
        totals = fs.put_tree(source, "/")
        assert totals.files == 1
        named = sorted(Path(each.split(": ")[0]).name for each in totals.skipped)
        assert named == [".fmos", "a.afs", "a.afs-shm", "a.afs-wal", "pipe", "socket"]
        assert fs.listdir("/") == ["kept"]
    with AgentFS.open(source / "a.afs", system=True) as fs:
        assert not fs.exists("/.fmos")


def test_what_goes_out_never_follows_links_of_the_target(tmp_path: Path) -> None:
    """A link that an earlier transfer left, to a file or a directory, is replaced."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_text("host's own")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.symlink(str(outside / "file"), "/one")
        fs.symlink(str(outside / "dir"), "/two")
        fs.get_tree("/", target)
        assert (target / "two").is_symlink()
        for path in ("/one", "/two"):
            fs.remove(path)
        fs.write("/one", b"from the volume")
        fs.mkdir("/two")
        fs.write("/two/planted", b"from the volume")
        fs.get_tree("/", target)
    assert (outside / "file").read_text() == "host's own"
    assert os.listdir(outside / "dir") == []
    assert (target / "two" / "planted").read_bytes() == b"from the volume"
    assert (target / "one").read_bytes() == b"from the volume"


def test_what_goes_out_changes_no_other_name_of_a_host_file(tmp_path: Path) -> None:
    """A hard link below the target keeps its other name's bytes; a pipe there does not block."""
    other, target = tmp_path / "other", tmp_path / "target"
    other.write_text("host's own")
    target.mkdir()
    os.link(other, target / "linked")
    os.mkfifo(target / "pipe")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/linked", b"new")
        fs.write("/pipe", b"new")
        fs.get_tree("/", target)
    assert other.read_text() == "host's own"
    assert (target / "linked").read_bytes() == (target / "pipe").read_bytes() == b"new"
    assert sorted(os.listdir(target)) == ["linked", "pipe"]


def test_no_set_user_id_program_comes_out(tmp_path: Path) -> None:
    """The set-id bits stay in the volume; all others come along."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/program", b"x")
        fs.chmod("/program", 0o6755)
        fs.get_tree("/program", tmp_path / "program")
        assert fs.stat("/program").mode == 0o6755
    assert (tmp_path / "program").stat().st_mode & 0o7777 == 0o755


def test_names_cannot_lead_out_of_the_target(tmp_path: Path) -> None:
    """No call stores a name with `..` or a slash, so none can come out."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/dir")
        fs.write("/dir/../../../../up", b"x")
        fs.write("/dir/..x", b"y")
        fs.get_tree("/", tmp_path / "deep" / "target")
    assert sorted(os.listdir(tmp_path)) == ["a.afs", "deep"]
    assert sorted(os.listdir(tmp_path / "deep" / "target")) == ["dir", "up"]


def test_a_host_that_refuses_is_named(tmp_path: Path) -> None:
    """HostError carries the path, and nothing half is left beside it."""
    target = tmp_path / "target"
    (target / "file").mkdir(parents=True)
    (target / "file" / "inner").write_text("in the way")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/file", b"x")
        with pytest.raises(HostError, match="file"):
            fs.get_tree("/", target)
        assert os.listdir(target) == ["file"]
        with pytest.raises(HostError):
            fs.put_tree(tmp_path / "none", "/")


def test_a_transfer_that_fails_says_what_is_in(tmp_path: Path) -> None:
    """A file where a directory must go ends it; the batch is undone and the error says so."""
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    (source / "a").write_text("x")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/b", b"a file")
        with pytest.raises(AgentFSError) as caught:
            fs.put_tree(source, "/")
        assert "0 files" in " ".join(caught.value.__notes__)
        assert fs.listdir("/") == ["b"]


def test_a_transfer_in_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """More than one batch is undone together."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1100):
        (source / str(number)).write_text("x")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        with pytest.raises(KeyError), fs.transaction():
            assert fs.put_tree(source, "/").files == 1100
            raise KeyError
        assert fs.listdir("/") == []


def test_a_killed_transfer_leaves_whole_files_and_can_go_on(tmp_path: Path) -> None:
    """After SIGKILL between batches each file is all there or not at all; again finishes it."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1100):
        (source / f"{number:04}").write_text(str(number) * 5)
    path = tmp_path / "a.afs"
    AgentFS.open(path).close()
    process = os.fork()
    if not process:
        try:
            with AgentFS.open(path) as fs:
                fs.put_tree(source, "/", progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])
    with AgentFS.open(path) as fs:
        names = fs.listdir("/")
        assert 0 < len(names) < 1100
        assert all(fs.read(f"/{name}") == str(int(name)).encode() * 5 for name in names)
        assert fs.fsck(read_data=True) == []
        assert fs.put_tree(source, "/").files == 1100
        assert len(fs.listdir("/")) == 1100


def test_a_tree_goes_out_as_it_was_at_one_moment(tmp_path: Path) -> None:
    """What another handle writes meanwhile is not in it."""
    with AgentFS.open(tmp_path / "a.afs") as fs, AgentFS.open(tmp_path / "a.afs") as other:
        fs.write("/a", b"1")
        fs.write("/z", b"1")
        with fs.view_for_reading():
            fs.listdir("/")
            other.write("/z", b"2")
            fs.get_tree("/", tmp_path / "target")
        assert (tmp_path / "target" / "z").read_bytes() == b"1"
        assert fs.read("/z") == b"2"
