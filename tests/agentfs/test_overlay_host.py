"""The host tree of an overlay changes underneath, or holds what is no file: told, never mixed."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS
from agentfs.errors import HostChanged

NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A small host tree with old times."""
    root = tmp_path / "host"
    (root / "dir" / "below").mkdir(parents=True)
    for name in ("file", "other", "dir/inner", "dir/below/deep"):
        (root / name).write_text(f"old {name}\n")
        os.utime(root / name, ns=(0, 10**18))
    return root


@pytest.fixture
def fs(tmp_path: Path, host: Path) -> Iterator[AgentFS]:
    """A volume with the host tree at /p, in which only the first directory was listed."""
    with AgentFS.open(tmp_path / "a.afs") as opened:
        opened.overlay(host, "/p")
        opened.listdir("/p")
        yield opened
        assert opened.fsck(read_data=True) == []


def rewrite_in_place(path: Path) -> None:
    """Write other bytes of the same length and set the time back."""
    info = path.stat()
    with path.open("r+b") as file:
        file.write(b"NEW")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replace_by_rename(path: Path) -> None:
    """Move another file with the same length and time into its place."""
    info, beside = path.stat(), path.with_name("beside")
    beside.write_bytes(b"x" * info.st_size)
    os.utime(beside, ns=(info.st_atime_ns, info.st_mtime_ns))
    beside.rename(path)


def link_elsewhere(path: Path) -> None:
    """Put a symbolic link to another file into its place."""
    path.unlink()
    path.symlink_to("/etc/passwd")


def make_fifo(path: Path) -> None:
    """Put a FIFO into its place, on which an open for reading waits for ever."""
    path.unlink()
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    """Put a directory into its place."""
    path.unlink()
    path.mkdir()


def make_socket(path: Path) -> None:
    """Put a socket into its place."""
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten in place": rewrite_in_place,
    "replaced by a rename": replace_by_rename,
    "removed": lambda path: path.unlink(),
    "appended to": lambda path: path.open("a").write("more"),
    "truncated": lambda path: os.truncate(path, 2),
    "touched": lambda path: os.utime(path),
    "replaced by a link": link_elsewhere,
    "replaced by a FIFO": make_fifo,
    "replaced by a directory": make_directory,
    "replaced by a socket": make_socket,
}
USES: dict[str, Callable[[AgentFS], object]] = {
    "read": lambda fs: fs.read("/p/file"),
    "read a range": lambda fs: fs.read("/p/file", 1, 2),
    "append": lambda fs: fs.append("/p/file", "x"),
    "truncate": lambda fs: fs.truncate("/p/file", 1),
    "open": lambda fs: fs.open("/p/file", "rb").read(),
    "grep": lambda fs: list(fs.grep("old", "/p/file")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_host_file_is_refused(fs: AgentFS, host: Path, change: str) -> None:
    """No call mixes the content of two moments, and a refused one changes nothing."""
    CHANGES[change](host / "file")
    before = fs.log()[0].seq
    for use in USES.values():
        with pytest.raises(HostChanged, match="underneath") as caught:
            use(fs)
        assert caught.value.exit_code == 7
        assert str(host / "file") in str(caught.value)
    assert fs.log()[0].seq == before
    assert fs.read("/p/other") == b"old other\n"


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_taken_in_does_not_care_about_the_host(
    fs: AgentFS, host: Path, change: str
) -> None:
    """A file that the branch wrote, wholly or in part, is the branch's own."""
    fs.append("/p/file", "mine")
    CHANGES[change](host / "file")
    assert fs.read("/p/file") == b"old file\nmine"


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_host_file_can_still_be_replaced(fs: AgentFS, host: Path, change: str) -> None:
    """Writing the whole file, removing and renaming it need no content of the host."""
    CHANGES[change](host / "file")
    fs.chmod("/p/file", 0o600)
    fs.rename("/p/file", "/p/moved")
    fs.write("/p/moved", "new")
    assert fs.read("/p/moved") == b"new"
    fs.remove("/p/moved")
    with fs.open("/p/other", "wb") as file:
        file.write(b"x")


def test_another_mode_or_name_on_the_host_is_no_change_of_content(fs: AgentFS, host: Path) -> None:
    """A chmod or a hard link on the host changes the ctime only, and the file stays readable."""
    (host / "file").chmod(0o600)
    os.link(host / "other", host / "dir" / "second")
    assert fs.read("/p/file") == b"old file\n"
    assert fs.read("/p/other") == b"old other\n"
    assert fs.stat("/p/file").mode == 0o644


def test_content_that_was_read_before_is_compared_by_its_hash(fs: AgentFS, host: Path) -> None:
    """Bytes changed under the cover of a chmod are found by the hash of the first read."""
    assert fs.read("/p/file") == b"old file\n"
    rewrite_in_place(host / "file")
    (host / "file").chmod(0o600)
    with pytest.raises(HostChanged, match="not what was read before"):
        fs.read("/p/file")
    with pytest.raises(HostChanged, match="not what was read before"):
        fs.append("/p/file", "x")


def test_a_file_that_shrinks_while_it_is_read(fs: AgentFS, host: Path) -> None:
    """A file object whose host file is cut meanwhile fails; it never gives bytes that were not."""
    data = os.urandom(1_000_000)
    (host / "dir" / "large").write_bytes(data)
    with fs.open("/p/dir/large", "rb") as file:
        assert file.read(10) == data[:10]
        os.truncate(host / "dir" / "large", 400_000)
        with pytest.raises(HostChanged):
            file.read()
    with pytest.raises(HostChanged):
        fs.read("/p/dir/large")


def test_a_file_that_is_written_while_it_is_taken_in(fs: AgentFS, host: Path) -> None:
    """Taking a file in beside its writer gives one state of it or fails; nothing is left behind."""
    path = host / "dir" / "busy"
    path.write_bytes(bytes(4_000_000))
    fs.listdir("/p/dir")
    stop = threading.Event()

    def writer() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path.write_bytes(bytes([number % 256]) * 4_000_000)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(5):
            with pytest.raises(HostChanged):
                fs.append("/p/dir/busy", "x")
    finally:
        stop.set()
        thread.join()
    assert fs.log()[0].operation == "overlay"


def test_a_removed_directory_is_told(fs: AgentFS, host: Path) -> None:
    """A directory that was never listed and is gone, and the host directory itself being gone."""
    shutil.rmtree(host / "dir")
    for use in (
        lambda: fs.listdir("/p/dir"), lambda: fs.read("/p/dir/inner"),
        lambda: fs.write("/p/dir/new", "x"), lambda: fs.rmdir("/p/dir"),
    ):  # fmt: skip
        with pytest.raises(HostChanged, match="gone"):
            use()
    assert fs.stat("/p/dir").is_dir
    shutil.rmtree(host)
    with pytest.raises(HostChanged):
        fs.read("/p/file")
    assert fs.listdir("/p") == ["dir", "file", "other"]
    fs.remove("/p/dir", recursive=True)
    fs.remove("/p", recursive=True)
    assert fs.listdir("/") == []


def test_a_directory_replaced_by_a_link_is_not_followed(
    fs: AgentFS, host: Path, tmp_path: Path
) -> None:
    """Neither files nor directories below are reached through a link, even to the same inodes."""
    fs.listdir("/p/dir")
    elsewhere = tmp_path / "elsewhere"
    (host / "dir").rename(elsewhere)
    (host / "dir").symlink_to(elsewhere)
    (elsewhere / "below" / "secret").write_text("secret")
    for use in (lambda: fs.read("/p/dir/inner"), lambda: fs.listdir("/p/dir/below")):
        with pytest.raises(HostChanged, match="gone, or was replaced"):
            use()


def test_a_host_directory_replaced_by_another_is_told(fs: AgentFS, host: Path) -> None:
    """A new directory under an old name is not the one that was seen."""
    (host / "dir").rename(host / "old")
    shutil.copytree(host / "old", host / "dir")
    with pytest.raises(HostChanged, match="replaced"):
        fs.listdir("/p/dir")


def test_names_that_come_and_go_before_the_first_look(fs: AgentFS, host: Path) -> None:
    """A directory is what it holds when somebody first looks, and stays that."""
    (host / "dir" / "late").write_text("late")
    (host / "dir" / "inner").unlink()
    assert fs.listdir("/p/dir") == ["below", "late"]
    assert fs.stat("/p/dir").mtime_ns == (host / "dir").stat().st_mtime_ns
    (host / "dir" / "later").write_text("later")
    assert fs.listdir("/p/dir") == ["below", "late"]
    assert list(fs.host_diff()) == []


def test_what_is_no_file_is_left_out(tmp_path: Path, host: Path) -> None:
    """FIFOs, sockets and devices of the host are not in the overlay, and block nobody."""
    os.mkfifo(host / "fifo")
    (host / "socket").touch()
    make_socket(host / "socket")
    if os.geteuid() == 0:
        os.mknod(host / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with AgentFS.open(tmp_path / "b.afs") as fs:
        fs.overlay(host, "/p")
        assert fs.listdir("/p") == ["dir", "file", "other"]
        fs.write("/p/fifo", "mine")
        assert fs.read("/p/fifo") == b"mine"


def test_a_huge_sparse_file_is_read_in_parts(tmp_path: Path, host: Path) -> None:
    """Ranges of a file that no memory holds are read, and only what is asked for."""
    with (host / "huge").open("wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    with AgentFS.open(tmp_path / "b.afs") as fs:
        fs.overlay(host, "/p")
        assert fs.stat("/p/huge").size == (1 << 40) + 3
        assert fs.read("/p/huge", (1 << 40) - 1) == b"\0end"
        fs.copy("/p/huge", "/copy")
        fs.chmod("/copy", 0o600)
        fs.write("/p/huge", "small")
        assert fs.read("/copy", 1 << 40) == b"end"


def test_a_large_file_is_taken_in_as_it_is(tmp_path: Path, host: Path) -> None:
    """A file of many blocks, with a long hole, has the same bytes after its first change."""
    ends = os.urandom(9_000_001)
    with (host / "large").open("wb") as file:
        file.write(ends)
        file.seek(30_000_000)
        file.write(ends)
    expected = ends + bytes(30_000_000 - len(ends)) + ends
    with AgentFS.open(tmp_path / "b.afs") as fs:
        fs.overlay(host, "/p")
        with fs.open("/p/large", "r+b") as file:
            file.seek(20_000_000)
            file.write(b"in the hole")
        expected = expected[:20_000_000] + b"in the hole" + expected[20_000_011:]
        assert fs.read("/p/large") == expected
        assert fs.stats().chunk_bytes < 20_000_000
        assert fs.fsck(read_data=True) == []


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Be another user for a while, with an own directory to work in."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    home = Path(tempfile.mkdtemp())
    os.chown(home, NOBODY, NOBODY)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield home
    finally:
        os.seteuid(0)
        os.setegid(0)
        shutil.rmtree(home)


def test_what_the_host_refuses_is_refused_by_name() -> None:
    """Files and directories that this user may not read or enter are listed, and refused by name.

    What lies beside them is readable, and the call says what the host refused.
    """
    with as_nobody() as home:
        root = home / "host"
        for name in ("shut", "no-list", "no-enter"):
            (root / name).mkdir(parents=True)
            (root / name / "inner").write_text("inner")
        (root / "file").write_text("secret")
        (root / "open").write_text("open")
        with AgentFS.open(home / "a.afs") as fs:
            fs.overlay(root, "/p")
            for name, mode in (("file", 0), ("shut", 0), ("no-list", 0o300), ("no-enter", 0o400)):
                (root / name).chmod(mode)
            assert fs.listdir("/p") == ["file", "no-enter", "no-list", "open", "shut"]
            for use in (
                lambda: fs.read("/p/file"), lambda: fs.append("/p/file", "x"),
                lambda: fs.listdir("/p/shut"), lambda: fs.listdir("/p/no-list"),
                lambda: fs.listdir("/p/no-enter"), lambda: fs.read("/p/shut/inner"),
                lambda: fs.write("/p/no-list/new", "x"), lambda: fs.rmdir("/p/no-enter"),
            ):  # fmt: skip
                with pytest.raises(agentfs.PermissionDenied, match="the host does not let"):
                    use()
            assert fs.read("/p/open") == b"open"
            assert fs.fsck(read_data=True) == []
            (root / "shut").chmod(0o700)
            assert fs.read("/p/shut/inner") == b"inner"
            with pytest.raises(agentfs.HostError):
                fs.overlay(root / "no-list", "/q")
            for name in ("no-list", "no-enter"):
                (root / name).chmod(0o700)


def test_a_read_that_the_host_fails_is_no_change(fs: AgentFS) -> None:
    """Too many open files is an error of its own: it must not look like changed content."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(agentfs.HostError, match="Too many open files") as caught:
            fs.read("/p/file")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(caught.value, HostChanged)
    assert fs.read("/p/file") == b"old file\n"
