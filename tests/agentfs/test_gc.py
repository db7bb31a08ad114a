"""What gc lets go of, what it keeps, and that nobody beside it notices."""

import os
import random
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

import agentfs
from agentfs import AgentFS
from agentfs.gc import Bitmap
from agentfs.versions import FileVersion

_ROUNDS = int(os.environ.get("AGENTFS_SOAK", "0") or 0) or 1
_WRITER = """
import os, random, sys
from agentfs import AgentFS
chance = random.Random(5)
with AgentFS.open(sys.argv[1], "writer") as fs:
    print("ready", flush=True)
    for number in range(int(sys.argv[2])):
        name = f"/w{chance.randrange(20)}"
        # Few contents, so that chunks that nothing leads to are found again by their hash.
        fs.write(name, bytes([chance.randrange(6)]) * 50_000 + b"end")
        if number % 7 == 0 and fs.exists(name):
            fs.remove(name)
        if number % 31 == 0:
            fs.fork(f"f{number}").write("/x", bytes([chance.randrange(6)]) * 70_000)
            fs.delete_branch(f"f{number}")
print("done", flush=True)
"""
_COLLECTOR = """
import os, sys
from agentfs import AgentFS, gc
gc._BATCH = 40
left = int(sys.argv[2])
def die(what, count):
    global left
    left -= 1
    if left <= 0:
        os._exit(9)
with AgentFS.open(sys.argv[1]) as fs:
    fs.gc(retention=0, progress=die)
print("finished")
"""


def size(path: Path) -> int:
    """Return the bytes of the volume's files."""
    return sum(each.stat().st_size for each in path.parent.glob(path.name + "*"))


def fill(fs: AgentFS, directories: int, files: int, size: int) -> None:
    """Write directories of files with random content."""
    chance = random.Random(directories)
    with fs.transaction():
        for directory in range(directories):
            fs.mkdir(f"/d{directory}", exist_ok=True)
            for number in range(files):
                fs.write(f"/d{directory}/f{number}", chance.randbytes(chance.choice((50, size))))


def test_an_emptied_volume_gives_its_bytes_back(tmp_path: Path) -> None:
    """After everything is deleted and no history is kept, the file is small."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fill(fs, 10, 100, 30_000)
        assert size(path) > 10_000_000
        for name in fs.listdir():
            fs.remove(f"/{name}", recursive=True)
        kept = fs.gc()
        assert (kept.nodes, kept.chunks) == (0, 0)
        result = fs.gc(retention=0)
        assert result.nodes > 1000
        assert result.bytes_freed > 10_000_000
        assert result.bytes_returned > 10_000_000
        assert size(path) < 200_000
        assert fs.fsck(read_data=True) == []
        assert fs.gc(retention=0) == agentfs.GcResult(0, 0, 0, 0, 0)


def test_what_any_state_leads_to_stays(tmp_path: Path) -> None:
    """Branches, snapshots, bases of merges and open views keep what only they lead to."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fill(fs, 3, 20, 20_000)
        fs.write("/old", b"o" * 9000)
        before = fs.read("/d1/f1")
        fs.snapshot("s")
        child = fs.fork("child")
        child.write("/d1/f1", b"theirs" * 2000)
        fs.write("/d0/f0", b"ours" * 2000)
        fs.remove("/d2", recursive=True)
        view = fs.at(7)
        names = view.listdir("/d0")
        fs.gc(retention=0)
        assert fs.at("s").read("/d1/f1") == before
        assert len(fs.at("s").listdir("/d2")) == 20
        assert view.listdir("/d0") == names
        assert all(view.read(f"/d0/{name}") for name in names)
        assert len(fs.merge("child").changes) == 1
        assert fs.fsck(read_data=True) == []


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    """The dry run foretells what the run then does."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fill(fs, 3, 20, 20_000)
        fs.remove("/d1", recursive=True)
        head, stored = list(fs.journal())[-1], fs.stats().chunks
        told = fs.gc(retention=0, dry_run=True)
        assert list(fs.journal())[-1] == head
        assert fs.stats().chunks == stored
        done = fs.gc(retention=0)
        assert told.bytes_returned == 0
        assert (told.nodes, told.chunks, told.journal_rows, told.bytes_freed) == (
            done.nodes, done.chunks, done.journal_rows, done.bytes_freed,
        )  # fmt: skip
        assert told.nodes > 20


def test_views_and_versions_that_were_let_go_say_so(tmp_path: Path) -> None:
    """A view of a closed handle and an old version end with an error that names the reason."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs, AgentFS.open(path) as other:
        fs.write("/f", b"1" * 9000)
        fs.write("/f", b"2" * 9000)
        view = other.at(1)
        version = FileVersion(view, "/f")
        assert version.read(0, 2) == b"11"
        fs.gc(retention=0)
        with pytest.raises((agentfs.NotFound, agentfs.BranchNotFound), match="gc let"):
            version.read()
        with pytest.raises(agentfs.BranchNotFound, match="gc let this past state go"):
            view.read("/f")
        with pytest.raises(agentfs.NotFound, match="kept from journal row"):
            other.at(1)
        with pytest.raises(agentfs.InvalidArgument), fs.transaction():
            fs.gc()


def test_a_chunk_found_again_during_the_sweep_stays(tmp_path: Path) -> None:
    """A file written between mark and sweep keeps the old chunks that it shares."""
    path = tmp_path / "a.afs"
    data = random.Random(1).randbytes(100_000)
    with AgentFS.open(path) as fs, AgentFS.open(path) as other:
        fs.write("/f", data)
        fs.remove("/f")

        def write(what: str, _count: int) -> None:
            if what == "nodes" and not other.exists("/again"):
                other.write("/again", data)

        result = fs.gc(retention=0, progress=write)
        assert other.read("/again") == data
        assert result.nodes > 0
        assert result.chunks == 0
        assert fs.fsck(read_data=True) == []


def test_a_chunk_that_a_host_file_brings_back_during_the_sweep_stays(tmp_path: Path) -> None:
    """A version that `apply` takes in between mark and sweep keeps the old chunks it shares."""
    path, host = tmp_path / "a.afs", tmp_path / "host"
    data = random.Random(1).randbytes(100_000)
    host.mkdir()
    (host / "f").write_bytes(data)
    with AgentFS.open(path) as fs, AgentFS.open(path) as other:
        fs.overlay(host, "/host")
        old = fs.fork("old")
        fs.write("/same", data)
        fs.remove("/same")
        fs.write("/host/f", b"new")

        def take_in(what: str, _count: int) -> None:
            if what == "nodes" and (host / "f").read_bytes() == data:
                assert other.apply().conflicts == ()

        fs.gc(retention=0, progress=take_in)
        assert (host / "f").read_bytes() == b"new"
        assert old.read("/host/f") == data
        assert fs.fsck(read_data=True) == []


@pytest.mark.parametrize("seed", range(_ROUNDS))
def test_gc_beside_a_writing_process_loses_nothing(tmp_path: Path, seed: int) -> None:
    """While another process writes, forks and deletes, runs of gc never break what it has."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fs.fork("writer")
        command = [sys.executable, "-c", _WRITER, str(path), "150"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            runs = 0
            while writer.poll() is None:
                fs.gc(retention=0)
                runs += 1
                assert [each for each in fs.fsck(read_data=True) if each] == [], (seed, runs)
            assert writer.stdout.read() == "done\n"
        assert runs > 1
        fs.gc(retention=0)
        assert fs.fsck(read_data=True) == []
        assert fs.verify_journal().ok


def test_a_killed_run_is_finished_by_the_next(tmp_path: Path) -> None:
    """Whenever gc is killed the volume is whole, and the next run ends where it would have."""
    path = tmp_path / "a.afs"
    ends: set[tuple[int, int]] = set()
    with AgentFS.open(path) as fs:
        fill(fs, 2, 30, 12_000)
        fs.snapshot("s")
        fill(fs, 5, 30, 12_000)
        for name in ("/d1", "/d2", "/d3"):
            fs.remove(name, recursive=True)
        fs.fork("gone").write("/d4/f1", b"x" * 20_000)
        fs.delete_branch("gone")
    clean = path.read_bytes()
    for steps in (1, 4, 7, 10):
        path.write_bytes(clean)
        command = [sys.executable, "-c", _COLLECTOR, str(path), str(steps)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 9, (steps, run.stderr)
        with AgentFS.open(path) as fs:
            for _ in range(2):
                assert fs.fsck(read_data=True) == [], steps
                assert fs.verify_journal().ok
                assert len(fs.at("s").listdir("/d1")) == 30
                left = fs.gc(retention=0)
            assert left == agentfs.GcResult(0, 0, 0, 0, 0)
            ends.add((fs.stats().nodes, fs.stats().chunks))
    assert len(ends) == 1


def test_rows_of_extensions_can_go_with_their_node(tmp_path: Path) -> None:
    """A trigger of an upper layer on the node table drops what it keeps about a node."""
    ddl = (
        "CREATE TABLE IF NOT EXISTS ext_notes_note(node INTEGER PRIMARY KEY, text TEXT) STRICT;"
        "CREATE TRIGGER IF NOT EXISTS ext_notes_gone AFTER DELETE ON node"
        " BEGIN DELETE FROM ext_notes_note WHERE node = old.id; END"
    )
    with AgentFS.open(tmp_path / "a.afs") as fs:
        notes = fs.extension("notes", ddl)
        for path in ("/kept", "/gone"):
            with fs.transaction():
                fs.write(path, path)
                row = (fs.stat(path).node, path)
                notes.execute("INSERT INTO ext_notes_note VALUES (?, ?)", row)
        fs.remove("/gone")
        fs.gc()
        assert len(notes.query("SELECT * FROM ext_notes_note")) == 2
        fs.gc(retention=0)
        assert notes.query("SELECT text FROM ext_notes_note") == [("/kept",)]


def test_a_damaged_list_of_chunks_stops_gc(tmp_path: Path) -> None:
    """What cannot be followed could lead anywhere, so nothing is let go."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fs.write("/f", random.Random(1).randbytes(100_000))
        node = fs.stat("/f").node
        fs.remove("/f")
        fs.write("/g", random.Random(2).randbytes(100_000))
        apsw.Connection(str(path)).execute(
            "UPDATE node SET data = x'00' WHERE layout > 0 AND id <> ?", (node,)
        )
        with pytest.raises(agentfs.Corrupt):
            fs.gc(retention=0)
        assert apsw.Connection(str(path)).execute("SELECT count(*) FROM chunk").get > 2


def test_a_bitmap_is_a_set_of_numbers() -> None:
    """It grows as needed, knows what it has, and what another one lacks."""
    chance = random.Random(3)
    numbers = [chance.randrange(100_000) for _ in range(1000)]
    one, other = Bitmap(), Bitmap()
    assert [one.add(each) for each in numbers].count(True) == len(set(numbers))
    for each in numbers[:400]:
        other.add(each)
    assert all(each in one for each in numbers)
    assert 100_001 not in one
    assert list(one.without(other)) == sorted(set(numbers) - set(numbers[:400]))
    assert list(other.without(one)) == []
