"""The commands mount and unmount: in the foreground, in the background, and after kill -9."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentfs import AgentFS
from agentfs.cli.main import app
from agentfs.mount import is_ours, is_stale, unavailable, unmount

pytestmark = pytest.mark.skipif(
    unavailable() is not None or os.geteuid() != 0, reason="needs root and /dev/fuse"
)
_AGENTFS = [sys.executable, "-m", "agentfs.cli.main"]


def until(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on; what is mounted there is gone afterwards, however a test ends."""
    (tmp_path / "m").mkdir()
    yield tmp_path / "m"
    if is_ours(str(tmp_path / "m")):
        unmount(str(tmp_path / "m"), lazy=True)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A fresh volume."""
    cli("-f", tmp_path / "v.afs", "init")
    return tmp_path / "v.afs"


def cli(*arguments: str | Path, code: int = 0) -> str:
    """Call the command and return what it printed."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.stdout + result.stderr


def in_background(volume: Path, where: Path, *options: str) -> str:
    """Mount in a process that goes on, and return what the first one printed."""
    done = subprocess.run(
        [*_AGENTFS, "-f", volume, "mount", where, "--background", *options], capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_killed_mount_leaves_a_whole_volume_with_all_that_was_closed(
    volume: Path, where: Path
) -> None:
    """After kill -9 what was closed or synced is there, and no rubbish; fsck is clean."""
    told = in_background(volume, where, "--json")
    pid = int(told.split('"pid":')[1].split("}")[0])
    (where / "closed").write_text("closed")
    synced, gone = (os.open(where / each, os.O_CREAT | os.O_WRONLY) for each in ("synced", "gone"))
    os.write(synced, b"synced")
    os.fsync(synced)
    os.write(gone, b"gone")
    os.unlink(where / "gone")
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: is_stale(str(where)))
    for each in (synced, gone):
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.close(each)
    with AgentFS.open(volume) as fs:
        assert (fs.read("/closed"), fs.read("/synced")) == (b"closed", b"synced")
        assert fs.listdir() == ["closed", "synced"]
        assert fs.fsck() == []
    assert "a process that is gone" in in_background(volume, where)
    assert (where / "closed").read_text() == "closed"
    cli("unmount", where)
    assert not is_ours(str(where))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_mount_in_the_foreground_ends_cleanly(volume: Path, where: Path, number: int) -> None:
    """Ctrl-C and SIGTERM unmount, and what is in open files is stored."""
    command = [*_AGENTFS, "-f", str(volume), "mount", str(where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "unmount" in process.stdout.readline()
        (where / "a").write_text("x")
        os.kill(process.pid, number)
        assert process.wait(20) == 0
    assert not is_ours(str(where))
    with AgentFS.open(volume) as fs:
        assert fs.read("/a") == b"x"


def test_what_cannot_be_mounted_is_said_with_the_way_out(
    volume: Path, where: Path, tmp_path: Path
) -> None:
    """A missing volume, a past state with a branch, and a directory with nothing on it."""
    for options in ([], ["--background"]):
        assert "init" in cli("-f", tmp_path / "no.afs", "mount", where, *options, code=3)
    assert "exclude" in cli("-f", volume, "mount", where, "-b", "main", "--at", "@1", code=2)
    assert "did you mean 'main'" in cli("-f", volume, "mount", where, "-b", "mian", code=3)
    assert "no directory" in cli("-f", volume, "mount", tmp_path / "n", code=4)
    assert "nothing of agentfs" in cli("unmount", where, code=1)


def test_a_busy_mount_is_kept_unless_told(volume: Path, where: Path) -> None:
    """An open file keeps `unmount` from it; `--lazy` takes the directory away at once."""
    in_background(volume, where, "--read-only", "--path", "/")
    with pytest.raises(OSError, match="Read-only"):
        (where / "a").touch()
    number = os.open(where, os.O_RDONLY)
    assert "busy" in cli("unmount", where, code=4)
    assert '"directory"' in cli("unmount", where, "--lazy", "--json")
    os.close(number)
    assert not is_ours(str(where))
