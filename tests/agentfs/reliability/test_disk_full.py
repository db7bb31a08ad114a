"""A disk without room and files that may not be written: clear errors, and nothing is lost."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS, VolumeDenied, VolumeFull

LIMIT = 400_000


def in_a_child(body: Callable[[], None]) -> None:
    """Run something that changes the process in a process of its own."""
    process = os.fork()
    if not process:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(process, 0)[1] == 0


def fill(fs: AgentFS) -> dict[str, bytes]:
    """Write until there is no room; return what was acknowledged."""
    written: dict[str, bytes] = {}
    with pytest.raises(VolumeFull) as caught:
        for number in range(1000):
            data = os.urandom(20_000)
            fs.write(f"/{number}", data)
            written[f"/{number}"] = data
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC
    return written


def assert_whole(fs: AgentFS, written: dict[str, bytes]) -> None:
    """All that was acknowledged is there, nothing else, and the volume is sound."""
    assert {f"/{name}": fs.read(f"/{name}") for name in fs.listdir("/")} == written
    assert fs.fsck(read_data=True) == []
    assert fs.verify_journal().ok


def use_up(path: Path, make_room: Callable[[], Any]) -> None:
    """Fill a volume, look at it, make room, go on."""
    large = os.urandom(3_000_000)
    with AgentFS.open(path) as fs:
        written = fill(fs)
        assert written
        assert_whole(fs, written)
        refused: list[Callable[[], Any]] = [
            lambda: fs.write("/large", large),
            lambda: fs.append("/0", large),
            lambda: whole(fs, large),
        ]
        for each in refused:
            with pytest.raises(VolumeFull):
                each()
            assert_whole(fs, written)
        with AgentFS.open(path) as second:
            assert_whole(second, written)
    make_room()
    with AgentFS.open(path) as fs:
        assert_whole(fs, written)
        fs.write("/large", large)
        fs.fork("side").write("/new", b"x")
        assert_whole(fs, {**written, "/large": large})


def whole(fs: AgentFS, large: bytes) -> None:
    """Do something small and something too large in one transaction."""
    with fs.transaction():
        fs.rename("/0", "/moved")
        fs.write("/large", large)


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[], Any]]:
    """Mount a disk of one mebibyte; yields what makes it larger."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; the test with a size limit runs anyway")
    try:
        yield lambda: subprocess.run(
            ["mount", "-o", "remount,size=32m", str(place)], check=True, capture_output=True
        )
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """On a disk of 1 MiB: ENOSPC, whole operations, readable, and going on when there is room."""
    with small_disk(tmp_path / "disk") as make_room:
        use_up(tmp_path / "disk" / "a.afs", make_room)


def test_a_volume_is_refused_where_not_even_its_first_page_fits(tmp_path: Path) -> None:
    """Creation on a full disk says so, and works in the same place when there is room."""
    with small_disk(tmp_path / "disk") as make_room:
        ballast = tmp_path / "disk" / "ballast"
        with pytest.raises(OSError, match="No space"), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(VolumeFull):
            AgentFS.open(tmp_path / "disk" / "a.afs")
        make_room()
        with AgentFS.open(tmp_path / "disk" / "a.afs") as fs:
            fs.write("/f", b"x")
            assert fs.fsck() == []


def test_a_limit_on_file_size_is_the_same_error(tmp_path: Path) -> None:
    """RLIMIT_FSIZE (EFBIG, as from a quota) is VolumeFull too, not damage."""

    def body() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, most))
        use_up(
            tmp_path / "a.afs",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )

    in_a_child(body)


def without_rights(body: Callable[[Path], None]) -> None:
    """Run a body as a user whom file modes bind, in a directory of that user's."""
    place = Path(tempfile.mkdtemp(prefix="agentfs-rights-"))
    user = 65534 if os.getuid() == 0 else os.getuid()
    try:
        os.chown(place, user, -1)

        def run() -> None:
            if os.getuid() == 0:
                os.setgroups([])
                os.setuid(user)
            body(place)

        in_a_child(run)
    finally:
        shutil.rmtree(place)


def make(path: Path) -> None:
    """Make a volume with one file."""
    with AgentFS.open(path) as fs:
        fs.write("/f", b"kept")


def test_a_read_only_file_is_refused_by_name() -> None:
    """VolumeDenied names the file, nothing is written, and it opens again with the right back."""

    def body(place: Path) -> None:
        path = place / "a.afs"
        make(path)
        before = path.read_bytes()
        path.chmod(0o400)
        with pytest.raises(VolumeDenied, match=r"a\.afs") as caught:
            AgentFS.open(path)
        assert isinstance(caught.value, PermissionError)
        path.chmod(0)
        with pytest.raises(VolumeDenied):
            AgentFS.open(path)
        path.chmod(0o600)
        assert path.read_bytes() == before
        with AgentFS.open(path) as fs:
            assert fs.read("/f") == b"kept"

    without_rights(body)


def test_a_read_only_directory_is_refused_by_name() -> None:
    """Neither an old volume nor a new one is opened where no write-ahead log can be made."""

    def body(place: Path) -> None:
        make(place / "a.afs")
        place.chmod(0o500)
        for name in ("a.afs", "new.afs"):
            with pytest.raises(VolumeDenied, match=name):
                AgentFS.open(place / name)
        assert os.listdir(place) == ["a.afs"]
        place.chmod(0o700)
        with AgentFS.open(place / "a.afs") as fs:
            assert fs.read("/f") == b"kept"

    without_rights(body)


def test_a_volume_belongs_to_its_owner_only(tmp_path: Path) -> None:
    """The file is made with mode 0600, and so are its companions."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", b"x")
        assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
