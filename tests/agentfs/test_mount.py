"""A mounted branch: what programs see, what other doors see, and what is kept when things die."""

import ctypes
import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS, errors
from agentfs.mount import Mounted, MountError, is_ours, serve, unavailable, unmount
from agentfs.mount.errors import to_errno

needs_fuse = pytest.mark.skipif(
    unavailable() is not None or os.geteuid() != 0, reason="needs root and /dev/fuse"
)
pytestmark = needs_fuse
_NOREPLACE, _EXCHANGE = 1, 2
_PUNCH, _KEEP = 2, 1


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume."""
    with AgentFS.open(tmp_path / "v.afs") as handle:
        yield handle


@pytest.fixture
def at(fs: AgentFS, tmp_path: Path) -> Iterator[Path]:
    """The volume, mounted, and whole afterwards."""
    (tmp_path / "mount").mkdir()
    with Mounted(fs, tmp_path / "mount", cache_s=0.1) as where:
        yield Path(where)
    assert fs.fsck() == []


def until(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


def run(code: str, cwd: Path) -> str:
    """Run Python in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rename2(old: Path, new: Path, flags: int) -> int:
    """Call renameat2 and return 0 or the error's number."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags)
    return ctypes.get_errno() if failed else 0


# -- two doors, one tree -----------------------------------------------------------------------


def test_what_programs_write_is_in_the_volume_when_it_is_closed(fs: AgentFS, at: Path) -> None:
    """Files, directories and links made through the mount are those of the branch."""
    (at / "dir").mkdir()
    (at / "dir/file").write_bytes(b"x" * 10_000)
    (at / "link").symlink_to("dir/file")
    os.rename(at / "dir", at / "moved")
    assert fs.read("/moved/file") == b"x" * 10_000
    assert fs.readlink("/link") == "dir/file"
    (at / "moved/file").unlink()
    assert fs.listdir("/moved") == []
    operations = [each.operation for each in fs.journal()]
    assert operations == ["mkdir", "write", "symlink", "rename", "remove"]


def test_making_a_file_is_one_operation_with_its_bytes_and_attributes(
    fs: AgentFS, at: Path
) -> None:
    """A file that is made, written, given a mode and a time is one row when it is closed."""
    with open(at / "new", "wb") as file:
        file.write(b"text")
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.utime(file.fileno(), ns=(5, 7))
        assert (at / "new").stat().st_mtime_ns == 7
    found = fs.stat("/new")
    assert (found.mode, found.mtime_ns, found.atime_ns, found.size) == (0o600, 7, 5, 4)
    assert [each.operation for each in fs.journal()] == ["write"]


def test_changes_through_other_doors_are_seen_within_the_cache_time(fs: AgentFS, at: Path) -> None:
    """Bytes, names and attributes that were looked at follow what others commit."""
    fs.write("/seen", "old")
    assert until(lambda: (at / "seen").exists())
    assert (at / "seen").read_text() == "old"
    assert not (at / "missing").exists()
    fs.write("/seen", "new and longer")
    fs.write("/missing", "")
    assert until(lambda: (at / "seen").read_text() == "new and longer")
    assert until(lambda: (at / "missing").exists())
    fs.remove("/seen")
    fs.chmod("/missing", 0o600)
    assert until(lambda: os.listdir(at) == ["missing"])
    assert until(lambda: stat.S_IMODE((at / "missing").stat().st_mode) == 0o600)
    assert until(lambda: not (at / "seen").exists())


def test_a_restored_branch_is_seen_whole(fs: AgentFS, at: Path) -> None:
    """After a restore the mount shows the state that was restored."""
    (at / "kept").write_text("one")
    fs.snapshot("before")
    (at / "kept").write_text("two!")
    (at / "later").mkdir()
    fs.write("/later/file", "x")
    fs.snapshot("after")
    fs.restore("before")
    assert until(lambda: os.listdir(at) == ["kept"])
    assert until(lambda: (at / "kept").read_text() == "one")
    assert not (at / "later").exists()
    fs.restore("after")
    assert until(lambda: (at / "later/file").exists())


def test_the_system_area_is_not_there_for_a_plain_handle(fs: AgentFS, tmp_path: Path) -> None:
    """/.fmos is shown by a system handle's mount only."""
    with fs.on("main", system=True) as system:
        system.mkdir("/.fmos")
        for handle, names in ((fs, []), (system, [".fmos"])):
            with Mounted(handle) as where:
                assert os.listdir(where) == names
                assert os.path.exists(f"{where}/.fmos") == bool(names)
                if not names:
                    with pytest.raises(PermissionError):
                        os.mkdir(f"{where}/.fmos")


def test_a_part_and_a_past_state_can_be_mounted(fs: AgentFS) -> None:
    """`path` shows a directory; a view shows its state and refuses writes."""
    fs.mkdir("/a/b", parents=True)
    fs.write("/a/b/file", "then")
    with Mounted(fs, path="/a/b") as where:
        assert Path(where, "file").read_text() == "then"
        Path(where, "more").write_text("x")
    assert fs.read("/a/b/more") == b"x"
    fs.snapshot("then")
    fs.write("/a/b/file", "now")
    with Mounted(fs.at("then")) as where:
        assert Path(where, "a/b/file").read_text() == "then"
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(where, "a/b/file").write_text("x")
        assert caught.value.errno == errno.EROFS
    assert not os.path.exists(where)


# -- what programs use -------------------------------------------------------------------------


def test_names_that_are_not_text_round_trip(fs: AgentFS, at: Path) -> None:
    """Bytes that are not UTF-8, and newlines, come back as they were given."""
    for raw in (b"new\nline", b"caf\xe9", "日本".encode(), b" ", b"-rf"):
        with open(os.path.join(os.fsencode(at), raw), "wb") as file:
            file.write(raw)
    assert sorted(os.listdir(os.fsencode(at))) == sorted(os.fsencode(each) for each in fs.listdir())
    for name in fs.listdir():
        assert fs.read(f"/{name}") == os.fsencode(name)


def test_renames_can_be_bound_to_a_free_name_or_exchange_two(fs: AgentFS, at: Path) -> None:
    """RENAME_NOREPLACE and RENAME_EXCHANGE do what they say, also with open files."""
    (at / "a").write_text("a")
    (at / "b").mkdir()
    (at / "b/in").write_text("in")
    assert rename2(at / "a", at / "b", _NOREPLACE) == errno.EEXIST
    assert rename2(at / "a", at / "c", _NOREPLACE) == 0
    with open(at / "c", "a") as file:
        file.write("dirty")
        file.flush()
        numbers = os.stat(at / "c").st_ino, os.stat(at / "b").st_ino
        assert rename2(at / "c", at / "b", _EXCHANGE) == 0
        assert (os.stat(at / "b").st_ino, os.stat(at / "c").st_ino) == numbers
    assert fs.read("/b") == b"adirty"
    assert fs.read("/c/in") == b"in"
    assert rename2(at / "b", at / "none", _EXCHANGE) == errno.ENOENT
    assert sorted(fs.listdir()) == ["b", "c"]


def test_extended_attributes(fs: AgentFS, at: Path) -> None:
    """They are set, replaced and removed; the library's own are not shown."""
    path = at / "file"
    path.touch()
    os.chown(path, 12, 34)
    os.setxattr(path, "user.a", b"one", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"x", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"two", os.XATTR_REPLACE)
    with pytest.raises(OSError, match="No data"):
        os.setxattr(path, "user.b", b"x", os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"")
    assert os.listxattr(path) == ["user.a", "user.empty"]
    assert os.getxattr(path, "user.a") == fs.getxattr("/file", "user.a") == b"two"
    os.removexattr(path, "user.a")
    assert fs.listxattr("/file") == ["user.empty"]
    assert (fs.stat("/file").uid, fs.stat("/file").gid) == (12, 34)
    with pytest.raises(OSError, match="not permitted"):
        os.setxattr(path, "agentfs.uid", b"0")


def test_descriptors_share_what_is_not_stored_yet(at: Path) -> None:
    """A second descriptor sees bytes and size of the first one's writes before any flush."""
    with open(at / "f", "wb", buffering=0) as one, open(at / "f", "rb") as two:
        one.write(b"hello")
        assert os.fstat(two.fileno()).st_size == 5
        assert two.read() == b"hello"
        os.ftruncate(one.fileno(), 2)
        assert os.stat(at / "f").st_size == 2


def test_two_processes_append_and_none_loses_a_line(fs: AgentFS, at: Path) -> None:
    """O_APPEND writes of two processes end up one after another."""
    code = "import os\nf=os.open('log',os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n" \
        "for i in range(200): os.write(f, b'%d\\n' % os.getpid())"  # fmt: skip
    children = [subprocess.Popen([sys.executable, "-c", code], cwd=at) for _ in range(2)]
    assert [each.wait() for each in children] == [0, 0]
    lines = fs.read_text("/log").splitlines()
    assert {lines.count(str(each.pid)) for each in children} == {200}


def test_memory_maps_are_read_and_written(fs: AgentFS, at: Path) -> None:
    """A shared writable map changes the file, and others see it."""
    (at / "map").write_bytes(b"a" * 10_000)
    code = "import mmap\nwith open('map','r+b') as f, mmap.mmap(f.fileno(), 0) as m:\n" \
        " assert m[5000:5002]==b'aa'; m[5000:5005]=b'hello'; m.flush()"  # fmt: skip
    run(code, at)
    assert until(lambda: fs.read("/map", 4999, 5006) == b"ahelloa")


def test_locks_hold_between_processes(at: Path) -> None:
    """Locks by flock and fcntl of one process keep another one out."""
    code = "import fcntl,sys\nf=open('lock','w')\n" \
        "for call in (fcntl.flock, fcntl.lockf):\n" \
        " try: call(f, fcntl.LOCK_EX|fcntl.LOCK_NB); print('free')\n" \
        " except OSError: print('held')"  # fmt: skip
    with open(at / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert run(code, at).split() == ["held", "held"]
    assert run(code, at).split() == ["free", "free"]


def test_ranges_are_allocated_and_punched(fs: AgentFS, at: Path) -> None:
    """It grows a file or keeps its size, and makes holes that read as zero bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(at / "f", "w+b", buffering=0) as file:
        file.write(b"x" * 100_000)
        for mode, offset, size in ((_KEEP, 0, 200_000), (_PUNCH | _KEEP, 1000, 50_000)):
            number = ctypes.c_long(offset), ctypes.c_long(size)
            assert libc.fallocate(file.fileno(), mode, *number) == 0
        assert os.fstat(file.fileno()).st_size == 100_000
        assert os.pread(file.fileno(), 51_002, 999) == b"x" + bytes(50_000) + b"x" * 1001
        os.posix_fallocate(file.fileno(), 0, 150_000)
    assert fs.read("/f") == b"x" * 1000 + bytes(50_000) + b"x" * 49_000 + bytes(50_000)


def test_large_files_are_written_at_offsets(fs: AgentFS, at: Path) -> None:
    """Writes of over 8 MiB, holes and overwrites end up as on a disk."""
    blocks = [os.urandom(1 << 20) for _ in range(10)]
    with open(at / "big", "wb") as file:
        for block in blocks:
            file.write(block)
        file.seek(20 << 20)
        file.write(b"end")
        file.seek(3 << 19)
        file.write(b"middle")
    expected = bytearray(b"".join(blocks) + bytes(10 << 20) + b"end")
    expected[3 << 19 : (3 << 19) + 6] = b"middle"
    assert (at / "big").read_bytes() == expected == fs.read("/big")


def test_a_large_directory_is_listed_once_and_can_be_emptied_meanwhile(
    fs: AgentFS, at: Path
) -> None:
    """Each name comes once, also when names go while the listing is read."""
    fs.mkdir("/many")
    with fs.transaction():
        for index in range(6000):
            fs.write(f"/many/{index}", b"")
    assert until(lambda: (at / "many").exists())
    assert sorted(os.listdir(at / "many"), key=int) == [str(each) for each in range(6000)]
    seen: list[str] = []
    with os.scandir(at / "many") as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) % 20 == 0:
                os.unlink(entry.path)
    assert len(seen) == len(set(seen)) == 6000
    assert len(os.listdir(at / "many")) == 5700 == len(fs.listdir("/many"))


def test_inode_numbers_stay(fs: AgentFS, tmp_path: Path) -> None:
    """A number survives renames and another mount, and no two files share one."""
    with Mounted(fs) as where:
        place = Path(where)
        for name in ("a", "b", "c"):
            (place / name).touch()
        os.link(place / "a", place / "same")
        numbers = {each.name: each.stat().st_ino for each in place.iterdir()}
        (place / "b").rename(place / "moved")
        (place / "b").touch()
        assert (place / "moved").stat().st_ino == numbers["b"]
        assert (place / "b").stat().st_ino not in numbers.values()
        assert {each.name: each.inode() for each in os.scandir(where)} == {
            each.name: each.stat().st_ino for each in place.iterdir()
        }
    with Mounted(fs) as where:
        assert Path(where, "c").stat().st_ino == numbers["c"]
        assert Path(where, "a").stat().st_ino == Path(where, "same").stat().st_ino


# -- limits ------------------------------------------------------------------------------------


def test_a_quota_is_an_error_of_the_write_and_the_size_of_the_disk(tmp_path: Path) -> None:
    """Writes beyond the quota are EDQUOT, and `df` shows it."""
    with AgentFS.open(tmp_path / "v.afs", system=True) as fs, Mounted(fs) as where:
        fs.set_quota(bytes=1 << 20, files=3)
        assert until(lambda: os.statvfs(where).f_blocks == 256)
        with open(f"{where}/a", "wb", buffering=0) as file:
            file.write(bytes(1 << 19))
            with pytest.raises(OSError, match="quota") as caught:
                # A kernel short of memory sends a large write in parts: those that fit are written
                # and counted (write(2)), and the next write has the error.
                for _ in range(2):
                    file.write(bytes(1 << 20))
            assert caught.value.errno == errno.EDQUOT
        assert os.path.getsize(f"{where}/a") <= 1 << 20
        Path(where, "b").touch()
        Path(where, "c").touch()
        with pytest.raises(OSError, match="quota"):
            Path(where, "d").touch()
        assert sorted(os.listdir(where)) == ["a", "b", "c"]


def test_access_rules_bind_the_mount(tmp_path: Path) -> None:
    """What the principal may not write is EACCES, and what it may not read is not listed."""
    with AgentFS.open(tmp_path / "v.afs", system=True) as fs:
        for name in ("open", "fixed", "secret"):
            fs.mkdir(f"/{name}")
        fs.write("/fixed/file", "x")
        fs.rules.set("/fixed", "bob", "read")
        fs.rules.set("/secret", "bob", "none")
        with fs.on("main", system=False, principal="bob") as bob, Mounted(bob) as where:
            assert sorted(os.listdir(where)) == ["fixed", "open"]
            Path(where, "open/new").write_text("x")
            for path in ("fixed/file", "fixed/new"):
                with pytest.raises(PermissionError):
                    Path(where, path).write_text("y")
            with pytest.raises(PermissionError):
                os.unlink(f"{where}/fixed/file")
            assert Path(where, "fixed/file").read_text() == "x"


def test_every_failure_of_the_library_has_an_error_number() -> None:
    """No error class becomes 0, and those with a number of their own keep it."""
    waiting = [errors.AgentFSError]
    for kind in waiting:
        waiting += kind.__subclasses__()
        if kind is not errors.MergeConflict:
            assert to_errno(kind("x")) > 0
    assert to_errno(errors.VolumeFull("x")) == errno.ENOSPC
    assert to_errno(errors.HostChanged("x")) == errno.ESTALE
    assert to_errno(MemoryError()) == errno.ENOMEM


# -- mounting and dying ------------------------------------------------------------------------


def test_what_cannot_be_mounted_is_said_with_the_way_out(fs: AgentFS, tmp_path: Path) -> None:
    """A full directory, a file, a live mount and a missing volume are refused."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(MountError, match="--nonempty"), Mounted(fs, tmp_path / "full"):
        pass
    with pytest.raises(MountError, match="no directory"), Mounted(fs, tmp_path / "full/file"):
        pass
    with pytest.raises(errors.NotFound), Mounted(fs, path="/none"):
        pass
    with Mounted(fs, tmp_path / "full", nonempty=True) as where:
        assert os.listdir(where) == []
        with pytest.raises(MountError, match="already"), Mounted(fs, where):
            pass
    assert os.listdir(tmp_path / "full") == ["file"]


def test_serve_returns_when_it_is_unmounted(fs: AgentFS, tmp_path: Path) -> None:
    """The blocking call ends with the mount, and gives the signals back."""
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "m").mkdir()
    serve(fs, tmp_path / "m", ready=unmount)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not is_ours(str(tmp_path / "m"))


def test_a_mount_goes_on_after_errors(fs: AgentFS, at: Path) -> None:
    """What fails is an error for the program that asked, and the next one is answered."""
    (at / "a").write_text("x")
    fs.remove("/a")  # the mount does not know yet
    with pytest.raises(OSError, match=r"No such file|Stale"):
        os.rename(at / "a", at / "b")
    with pytest.raises(OSError, match="File name too long"):
        (at / ("x" * 300)).touch()
    (at / "c").write_text("y")
    assert fs.listdir() == ["c"]


def test_the_page_about_the_mount_is_true(tmp_path: Path) -> None:
    """The shell and Python blocks of docs/posix.md run."""
    page = Path(__file__).parents[2] / "docs/posix.md"
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "python"]
    (tmp_path / "agentfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m agentfs.cli "$@"\n')
    (tmp_path / "agentfs").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for language, block in blocks:
        command = ["bash", "-euc"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
