"""The cursor over the journal: nothing missed, nothing twice, across threads and processes."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS

_WRITER = """
import sys
from agentfs import AgentFS
with AgentFS.open(sys.argv[1]) as fs:
    for number in range(int(sys.argv[3])):
        fs.write(f"/{sys.argv[2]}", str(number))
        if number % 10 == 0:
            try:
                with fs.transaction():
                    fs.write("/undone", "x")
                    raise ValueError
            except ValueError:
                pass
"""


def test_rows_of_all_processes_come_once_and_in_order(tmp_path: Path) -> None:
    """Two writing processes, two threads and a watch that is resumed halfway agree on the rows."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        commands = [[sys.executable, "-c", _WRITER, str(path), each, "40"] for each in "ab"]
        writers = [subprocess.Popen(command) for command in commands]
        threads = [
            threading.Thread(target=lambda at=each: [fs.write(f"/{at}", "t") for _ in range(40)])
            for each in "cd"
        ]
        for thread in threads:
            thread.start()
        seen: list[int] = []
        watch = fs.watch(since=0, timeout=20)
        while len(seen) < 160:
            seen.append(next(watch).seq)
            if len(seen) == 70:
                watch = fs.watch(since=watch.seq, timeout=20)
        for writer in writers:
            assert writer.wait(timeout=20) == 0
        for thread in threads:
            thread.join(timeout=20)
        assert seen == list(range(1, 161))
        assert len(list(fs.journal())) == 160


def test_a_waiting_watch_wakes_for_a_commit_of_another_thread(tmp_path: Path) -> None:
    """A row that is committed later ends the wait, and the timeout ends the iteration."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/before", "1")
        watch = fs.watch(timeout=10)
        got: list[str] = []
        reader = threading.Thread(target=lambda: got.append(next(watch).path))
        reader.start()
        fs.write("/after", "2")
        reader.join(timeout=10)
        assert got == ["/after"]
        assert list(fs.watch(timeout=0)) == []
        assert [each.path for each in fs.watch(since=0, timeout=0)] == ["/before", "/after"]


def test_a_watch_of_a_path_passes_over_the_rest(tmp_path: Path) -> None:
    """Only rows at or below the path come, and what was passed over is not read again."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/d")
        fs.write("/e", "1")
        fs.write("/d/f", "1")
        fs.rename("/d/f", "/g")
        fs.write("/e", "2")
        watch = fs.watch(since=0, path="/d", timeout=0)
        assert [each.seq for each in watch] == [1, 3, 4]
        assert watch.seq == 5
        assert [each.seq for each in fs.watch(since=0, branch="other", timeout=0)] == []


def test_stop_ends_a_watch_without_a_timeout(tmp_path: Path) -> None:
    """Another thread can end the iteration."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        watch = fs.watch()
        reader = threading.Thread(target=lambda: list(watch))
        reader.start()
        watch.stop()
        reader.join(timeout=10)
        assert not reader.is_alive()


def test_a_gap_is_an_error_and_never_passed_over(tmp_path: Path) -> None:
    """A watch that gc overtook says which rows are kept."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        for number in range(5):
            fs.write("/f", str(number))
        late, current = fs.watch(since=2, timeout=0), fs.watch(since=5, timeout=0)
        fs.gc(retention=0)
        with pytest.raises(agentfs.NotFound, match="kept from journal row 5"):
            next(late)
        assert [each.operation for each in current] == ["gc.journal"]


def test_a_watch_cannot_wait_for_its_own_transaction(tmp_path: Path) -> None:
    """Inside a transaction there is nothing to wait for, and rows could still be undone."""
    with AgentFS.open(tmp_path / "a.afs") as fs, fs.transaction():
        refused = pytest.raises(agentfs.InvalidArgument, match="transaction")
        with refused:
            fs.watch()
