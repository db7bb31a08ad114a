"""Opening, refusal of other files, threads, processes and kills."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS, AsyncAgentFS

WRITER = """
import sys
from agentfs import AgentFS
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
fs = AgentFS.open(path)
fs.mkdir("/shared", exist_ok=True)
print("ready", flush=True)
number = 0
while number < count or count < 0:
    fs.write(f"/shared/{name}-{number}", b"%d" % number * 3000)
    if number % 5 == 4:
        fs.rename(f"/shared/{name}-{number}", f"/shared/{name}-{number}-r")
    if number % 17 == 16:
        fs.fork(f"{name}-{number}").append("/forked", name)
    print(number, flush=True)
    number += 1
"""


def start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Start a process that writes files."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_create_and_write_one_volume_together(tmp_path: Path) -> None:
    """Three processes that open a volume that is not there all write everything."""
    path = tmp_path / "a.afs"
    running = [start(path, name, 100) for name in "abc"]
    for each in running:
        each.communicate(timeout=60)
    assert [each.returncode for each in running] == [0, 0, 0]
    with AgentFS.open(path) as fs:
        assert len(fs.listdir("/shared")) == 300
        assert fs.fsck(read_data=True) == []


def test_a_killed_writer_loses_no_acknowledged_write(tmp_path: Path) -> None:
    """After each of twenty kills every printed write is there and the volume is sound."""
    chance = random.Random(5)
    path = tmp_path / "a.afs"
    for turn in range(20):
        process = start(path, f"p{turn}", -1)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randint(2, 40))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait(timeout=5)
        process.stdout.close()
        done = max((int(each) for each in lines if each.strip().isdigit()), default=-1)
        with AgentFS.open(path) as fs:
            names = set(fs.listdir("/shared"))
            for number in range(done + 1):
                suffix = "-r" if number % 5 == 4 else ""
                assert f"p{turn}-{number}{suffix}" in names
            assert fs.fsck() == []


def test_threads_share_a_handle(tmp_path: Path) -> None:
    """Eight threads write through one handle and nothing is lost."""
    with AgentFS.open(tmp_path / "a.afs") as fs:

        def work(name: int) -> None:
            for number in range(30):
                fs.write(f"/{name}-{number}", str(number))
                assert fs.read(f"/{name}-{number}") == str(number).encode()

        threads = [threading.Thread(target=work, args=(each,)) for each in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(fs.listdir("/")) == 240
        assert fs.fsck() == []


def test_a_second_handle_sees_what_the_first_changed(tmp_path: Path) -> None:
    """Remembered directories are dropped when another connection commits."""
    with AgentFS.open(tmp_path / "a.afs") as one, AgentFS.open(tmp_path / "a.afs") as two:
        one.mkdir("/a/b", parents=True)
        two.write("/a/b/f", "1")
        one.rename("/a", "/z")
        assert not two.exists("/a/b/f")
        assert two.read("/z/b/f") == b"1"
        two.fork("x")
        one.write("/z/b/f", "2")
        assert two.on("x").read("/z/b/f") == b"1"


def test_a_forked_process_opens_its_own_connection(tmp_path: Path) -> None:
    """After os.fork both processes write through the same handle."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/parent", "1")
        child = os.fork()
        if child == 0:
            try:
                fs.write("/child", "2")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        fs.write("/after", "3")
        assert fs.listdir("/") == ["after", "child", "parent"]
        assert fs.fsck() == []


def test_a_busy_volume_gives_up_after_a_bounded_wait(tmp_path: Path) -> None:
    """A writer that never finishes costs another one its wait and a clear error."""
    with AgentFS.open(tmp_path / "a.afs") as one:
        two = AgentFS.open(tmp_path / "a.afs", busy_s=0.05)
        with one.transaction():
            with pytest.raises(agentfs.VolumeBusy):
                two.write("/f", "x")
            assert two.listdir("/") == []
        two.close()
        with pytest.raises(agentfs.VolumeClosed):
            two.read("/f")


def test_other_files_are_refused_and_not_touched(tmp_path: Path) -> None:
    """Text, another SQLite database and a newer volume stay byte for byte as they are."""
    text = tmp_path / "text"
    text.write_text("hello")
    other = tmp_path / "other.db"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE t (x)")
    database.close()
    newer = tmp_path / "newer.afs"
    AgentFS.open(newer).close()
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 99")
    database.close()
    for path, error in (
        (text, agentfs.NotAVolume),
        (other, agentfs.NotAVolume),
        (newer, agentfs.NewerFormat),
    ):
        before = path.read_bytes()
        with pytest.raises(error) as caught:
            AgentFS.open(path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == before
    with pytest.raises(agentfs.NotAVolume):
        AgentFS.open(tmp_path)
    for path in (tmp_path / "none" / "a.afs", tmp_path / "none.afs"):
        with pytest.raises(FileNotFoundError):
            AgentFS.open(path, create=False)
    with pytest.raises(agentfs.BranchNotFound):
        AgentFS.open(tmp_path / "new.afs", branch="nowhere")


def test_flipped_bytes_in_a_chunk_are_found(tmp_path: Path) -> None:
    """Verification on read and fsck both name the damaged chunk."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fs.write("/f", os.urandom(10_000))
    database = sqlite3.connect(path)
    database.execute("UPDATE chunk SET data = zeroblob(length(data))")
    database.commit()
    database.close()
    with AgentFS.open(path) as fs:
        with pytest.raises(agentfs.Corrupt):
            fs.read("/f")
        assert [each.invariant for each in fs.fsck(read_data=True)] == [6]
    with AgentFS.open(path, verify=False) as fs:
        assert fs.read("/f") == bytes(10_000)


def test_async_handles_have_the_same_calls(tmp_path: Path) -> None:
    """Calls are awaited, iterators are asynchronous, a transaction runs on one thread."""

    async def main() -> None:
        async with await AsyncAgentFS.open(tmp_path / "a.afs") as fs:
            await asyncio.gather(*(fs.write(f"/{each}", "x") for each in range(20)))
            assert len(await fs.listdir("/")) == 20
            child = await fs.fork("c")
            await child.write("/new", "y")
            assert [each.path async for each in fs.diff("main", "c")] == ["/new"]
            await fs.transaction(lambda sync: sync.write("/t", "z"))
            assert await fs.read("/t") == b"z"

    asyncio.run(main())


def test_importing_the_library_loads_nothing_heavy() -> None:
    """The import stays free of frameworks."""
    heavy = "numpy mcp pydantic rich typer torch asyncio"
    code = f"import sys, agentfs; print([m for m in {heavy.split()!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
