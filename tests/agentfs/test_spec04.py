"""Turso AgentFS 0.4 volumes both ways, with the real package, and from hands that mean no good."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS, AlreadyExists, ForeignVolume, HostError
from agentfs.spec04 import schema

SDK = Path(__file__).with_name("spec04_sdk.py")
LARGE = bytes(range(256)) * 400
WHEN = 1_600_000_000
FILE, DIRECTORY, SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


@pytest.fixture(scope="session")
def sdk(cached_venv: Callable[..., Path]) -> Path:
    """The Python of an environment with the real agentfs-sdk."""
    return cached_venv("agentfs-sdk", "agentfs-sdk==0.6.4", "pyturso==0.4.4")


def run_sdk(python: Path, *arguments: str) -> str:
    """Run the script under the real package and return what it printed."""
    command = [str(python), str(SDK), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class Foreign:
    """An AgentFS 0.4 volume that is written row by row, so that anything can be wrong in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = sqlite3.connect(path, isolation_level=None)
        self.rows.executescript(schema.DDL + schema.OVERLAY_DDL)
        self.rows.execute("INSERT INTO fs_config VALUES ('chunk_size', '4096')")
        self.rows.execute("INSERT INTO fs_config VALUES ('schema_version', '0.4')")
        self.inode(DIRECTORY | 0o755, ino=1)

    def inode(
        self, mode: int = FILE | 0o644, size: Any = 0, ino: int | None = None, *,
        mtime: Any = WHEN, nsec: int = 0, uid: int = 0, gid: int = 0, rdev: int = 0,
    ) -> int:  # fmt: skip
        """Add an inode and return its number."""
        sql = (
            "INSERT INTO fs_inode(ino, mode, nlink, uid, gid, size, atime, mtime, ctime, rdev,"
            " mtime_nsec) VALUES (?, ?, 1, ?, ?, ?, 0, ?, 0, ?, ?) RETURNING ino"
        )
        row = (ino, mode, uid, gid, size, mtime, rdev, nsec)
        return self.rows.execute(sql, row).fetchall()[0][0]

    def name(self, name: Any, ino: Any, parent: int = 1) -> int:
        """Add a name and return what it leads to."""
        row = (name, parent, ino)
        self.rows.execute("INSERT INTO fs_dentry(name, parent_ino, ino) VALUES (?, ?, ?)", row)
        return ino

    def file(self, name: Any, data: bytes = b"", parent: int = 1, **fields: Any) -> int:
        """Add a whole file."""
        ino = self.name(name, self.inode(size=len(data), **fields), parent)
        for number, start in enumerate(range(0, len(data), 4096)):
            self.chunk(ino, number, data[start : start + 4096])
        return ino

    def chunk(self, ino: int, number: Any, data: Any) -> None:
        """Add a chunk."""
        self.rows.execute("INSERT INTO fs_data VALUES (?, ?, ?)", (ino, number, data))

    def directory(self, name: Any, parent: int = 1, **fields: Any) -> int:
        """Add a directory."""
        return self.name(name, self.inode(DIRECTORY | 0o755, **fields), parent)

    def close(self) -> Path:
        """Close it and return its path."""
        self.rows.close()
        return self.path


@contextmanager
def volume(path: Path) -> Iterator[AgentFS]:
    """A volume that is clean before and after."""
    with AgentFS.open(path / "a.afs") as fs:
        yield fs
        assert fs.fsck(read_data=True) == []


# -- with the real package ----------------------------------------------------------------------


def test_a_volume_of_the_sdk_comes_in(tmp_path: Path, sdk: Path) -> None:
    """Its files, names, keys and tool calls are here; a second import writes nothing."""
    run_sdk(sdk, "make", str(tmp_path / "s.db"))
    with volume(tmp_path) as fs:
        totals = fs.import_spec04(tmp_path / "s.db", "/old")
        assert (totals.files, totals.directories, totals.keys, totals.calls) == (3, 2, 1, 3)
        assert (totals.failed, totals.notes, totals.removed) == ([], [], [])
        assert fs.read("/old/docs/read me.txt") == b"hello\n"
        assert fs.read("/old/docs/naïve\nname") == b""
        assert fs.read("/old/large.bin") == LARGE
        assert fs.listdir("/old/empty") == []
        assert fs.kv.get("user:1") == {"name": "Ada", "tags": ["ü", None, 1.5]}
        calls = {each.id: each for each in fs.toolcalls.list()}
        assert [calls[each].status for each in (1, 2, 3)] == ["ok", "error", "running"]
        assert (calls[1].arguments, calls[1].result) == ({"query": "x"}, {"hits": 2})
        assert (calls[2].error, calls[2].duration_ns) == ("boom", 3_000_000_000)
        assert calls[2].started_ns == 1_700_000_000 * 10**9
        rows = fs.journal().__next__().seq, len(list(fs.journal()))
        again = fs.import_spec04(tmp_path / "s.db", "/old")
        assert (again.files, again.bytes, again.keys, again.calls) == (0, 0, 0, 0)
        assert rows == (1, len(list(fs.journal())))


def test_the_sdk_reads_what_goes_out(tmp_path: Path, sdk: Path) -> None:
    """It lists, stats and reads every file, the keys and the tool calls, and writes to it."""
    with volume(tmp_path) as fs:
        fs.mkdir("/d/empty", parents=True)
        fs.write("/d/run.sh", "#!/bin/sh\n", mode=0o750)
        fs.write("/d/large", LARGE)
        fs.utime("/d/large", WHEN * 10**9 + 5)
        fs.write("/none", b"")
        fs.truncate("/none", 10_000)  # a hole
        fs.link("/d/large", "/linked")
        fs.symlink("d/run.sh", "/link")
        fs.write("/a\nb ü", "x")
        fs.kv.set("k:ü", {"n": [1, None]})
        fs.toolcalls.record("search", {"q": 1}, {"r": 2}, started_ns=10**18, ended_ns=10**18)
        fs.toolcalls.record("search", None, None, "no", started_ns=10**18, ended_ns=10**18 + 10**9)
        fs.toolcalls.start("slow", {"x": 1})
        totals = fs.export_spec04("/", tmp_path / "out.db")
        assert (totals.files, totals.links, totals.symlinks, totals.directories) == (4, 1, 1, 3)
        assert (totals.keys, totals.calls, totals.failed) == (1, 3, [])
        expected = {each.path: fs.stat(each.path) for each in fs.scandir("/d")}
    seen = json.loads(run_sdk(sdk, "show", str(tmp_path / "out.db")))
    tree = seen["tree"]
    assert set(tree) == {
        "/d", "/d/empty", "/d/run.sh", "/d/large", "/none", "/linked", "/link", "/a\nb ü",
    }  # fmt: skip
    assert tree["/d/run.sh"] == [
        "0o100750", 10, expected["/d/run.sh"].mtime_ns // 10**9, 1, os.geteuid(),
        b"#!/bin/sh\n".hex(),
    ]  # fmt: skip
    assert tree["/d/large"] == tree["/linked"]
    assert tree["/linked"][1:4] == [len(LARGE), WHEN, 2]
    assert tree["/linked"][5] == LARGE.hex()
    assert tree["/none"][5] == bytes(10_000).hex()
    assert tree["/link"][0] == "0o120777"
    assert seen["keys"] == [{"key": "k:ü", "value": {"n": [1, None]}}]
    assert seen["stats"] == [["search", 2, 1, 1, 500.0]]
    assert sorted(seen["calls"]) == [
        ["error", None, None, "no"],
        ["success", {"q": 1}, {"r": 2}, None],
    ]
    with volume(tmp_path) as fs:
        assert fs.import_spec04(tmp_path / "out.db", "/back").failed == []
        assert fs.read("/back/written-by-the-sdk") == b"it works"
        assert fs.stat("/back/d/large").links == 2
        assert fs.stat("/back/d/large").mtime_ns == WHEN * 10**9 + 5
        assert fs.readlink("/back/link") == "d/run.sh"
        assert fs.stat("/back/d/run.sh").mode == 0o750
        assert len(fs.toolcalls.list()) == 3


def test_a_volume_that_the_sdk_holds_open_comes_in(tmp_path: Path, sdk: Path) -> None:
    """What only its log has is there, and the file and the folder stay as they are."""
    path = tmp_path / "there" / "s.db"
    path.parent.mkdir()
    command = [str(sdk), str(SDK), "hold", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
        assert len(before["s.db-wal"]) > len(before["s.db"])
        with volume(tmp_path) as fs:
            assert fs.import_spec04(path).failed == []
            assert fs.read("/large.bin") == LARGE
            assert fs.kv.get("user:1")["name"] == "Ada"
        assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


# -- what is kept --------------------------------------------------------------------------------


def test_everything_that_both_can_hold_survives_a_round_trip(tmp_path: Path) -> None:
    """Modes, times to the nanosecond, links, owners, special files and targets come back."""
    with volume(tmp_path) as fs:
        fs.mkdir("/d")
        fs.write("/d/file", random.Random(1).randbytes(3_000_000), mode=0o604)
        fs.chown("/d/file", 1234, 4321)
        fs.chmod("/d/file", 0o4711)
        fs.link("/d/file", "/d/other")
        fs.symlink("../x\ny", "/d/link")
        fs.mknod("/d/pipe", stat.S_IFIFO | 0o640)
        fs.mknod("/d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        for number, name in enumerate(("file", "link", "pipe", "null")):
            fs.utime(f"/d/{name}", 10**18 + number * 1_000_000_007, follow=False)
        fs.utime("/d", 5 * 10**17 + 3)
        assert fs.export_spec04("/", tmp_path / "x.db").failed == []
        assert fs.import_spec04(tmp_path / "x.db", "/back").failed == []
        for path in ("", "/d", "/d/file", "/d/other", "/d/link", "/d/pipe", "/d/null"):
            one, two = fs.lstat(path or "/"), fs.lstat(f"/back{path}")
            for field in ("kind", "mode", "size", "links", "uid", "gid", "device"):
                assert getattr(one, field) == getattr(two, field), (path, field)
            assert one.mtime_ns == two.mtime_ns or not path, path
        assert fs.read("/back/d/other") == fs.read("/d/file")
        assert fs.readlink("/back/d/link") == "../x\ny"
        rows = len(list(fs.journal()))
        again = fs.import_spec04(tmp_path / "x.db", "/back")
        assert (again.files, again.links, again.symlinks, again.unchanged) == (0, 0, 0, 5)
        assert len(list(fs.journal())) == rows


def test_a_past_state_and_a_part_go_out(tmp_path: Path) -> None:
    """A snapshot's directory is a volume of its own, with the keys of that moment."""
    with volume(tmp_path) as fs:
        fs.mkdir("/src")
        fs.write("/src/a", "old")
        fs.kv.set("k", 1)
        fs.snapshot("s")
        fs.write("/src/a", "new")
        fs.kv.set("k", 2)
        fs.at("s").export_spec04("/src", tmp_path / "x.db")
        fs.import_spec04(tmp_path / "x.db", "/back")
        assert fs.read("/back/a") == b"old"
        assert fs.kv.get("k") == 1


def test_an_import_brings_only_what_differs(tmp_path: Path) -> None:
    """Same size and time but other bytes is a difference; what only the branch has stays."""
    foreign = Foreign(tmp_path / "f.db")
    ino = foreign.file("a", b"one")
    foreign.file("b", b"two")
    with volume(tmp_path) as fs:
        fs.import_spec04(foreign.path)
        fs.write("/mine", "x")
        foreign.rows.execute("UPDATE fs_data SET data = ? WHERE ino = ?", (b"ONE", ino))
        foreign.close()
        again = fs.import_spec04(foreign.path)
        assert (again.files, again.unchanged) == (1, 1)
        assert fs.read("/a") == b"ONE"
        assert fs.read("/mine") == b"x"


def test_a_sparse_file_keeps_its_size_and_is_named(tmp_path: Path) -> None:
    """Chunks that are missing read as zeros, as a mount of AgentFS writes them."""
    foreign = Foreign(tmp_path / "f.db")
    ino = foreign.name("holes", foreign.inode(size=2**30))
    foreign.chunk(ino, 0, b"head")
    foreign.chunk(ino, 5, b"y" * 4096)
    with volume(tmp_path) as fs:
        totals = fs.import_spec04(foreign.close())
        assert totals.failed == []
        assert "not stored" in totals.notes[0]
        assert fs.stat("/holes").size == 2**30
        assert fs.read("/holes", 0, 8) == b"head\0\0\0\0"
        assert fs.read("/holes", 5 * 4096 - 1, 6 * 4096 + 1) == b"\0" + b"y" * 4096 + b"\0"
        assert fs.stats().stored_bytes < 100_000


def test_whiteouts_remove_what_is_there(tmp_path: Path) -> None:
    """A path that an overlay removed goes, with what is below; paths that lead out do nothing."""
    foreign = Foreign(tmp_path / "f.db")
    foreign.file("kept", b"new")
    paths = ("/gone", "/dir", "/never", "/kept", "/", "relative", "/../../x", "/.fmos/kv")
    foreign.rows.executemany(
        "INSERT INTO fs_whiteout(path, created_at) VALUES (?, 0)", [(each,) for each in paths]
    )
    with volume(tmp_path) as fs:
        fs.kv.set("mine", 1)
        fs.mkdir("/top/dir/below", parents=True)
        for name in ("/top/gone", "/top/dir/below/x", "/top/kept", "/x"):
            fs.write(name, "old")
        totals = fs.import_spec04(foreign.close(), "/top")
        assert totals.removed == ["/top/dir", "/top/gone"]
        assert len(totals.failed) == 3
        assert fs.listdir("/top") == ["kept"]
        assert fs.read("/top/kept") == b"new"
        assert fs.exists("/x")
        assert fs.kv.get("mine") == 1


def test_an_overlay_goes_out_as_what_it_changed(tmp_path: Path) -> None:
    """Only changes are in it, with whiteouts; brought to a copy of the base it is the branch."""
    host = tmp_path / "host"
    (host / "d" / "deep").mkdir(parents=True)
    for name in ("same", "changed", "gone", "d/in", "d/deep/x"):
        (host / name).write_text(name)
    with volume(tmp_path) as fs:
        fs.overlay(host, "/work")
        fs.write("/work/changed", "new")
        fs.remove("/work/gone")
        fs.remove("/work/d/deep", recursive=True)
        fs.write("/work/d/added", "x")
        totals = fs.export_spec04("/work", tmp_path / "delta.db")
        assert sorted(totals.removed) == ["/d/deep", "/gone"]
        rows = sqlite3.connect(tmp_path / "delta.db")
        names = {row[0] for row in rows.execute("SELECT name FROM fs_dentry")}
        assert names == {"changed", "d", "added"}
        assert dict(rows.execute("SELECT * FROM fs_overlay_config"))["base_path"] == str(host)
        assert set(rows.execute("SELECT path, parent_path FROM fs_whiteout")) == {
            ("/d/deep", "/d"), ("/gone", "/"),
        }  # fmt: skip
        rows.close()
        fs.put_tree(host, "/copy")
        fs.import_spec04(tmp_path / "delta.db", "/copy")
        for directory in ("", "/d"):
            assert fs.listdir(f"/copy{directory}") == fs.listdir(f"/work{directory}")
        assert fs.read("/copy/changed") == b"new"
        assert fs.export_spec04("/work", tmp_path / "full.db", full=True).files == 4


# -- volumes that nobody vouches for ---------------------------------------------------------------


def wrong_names(foreign: Foreign) -> int:
    """Add names that no path can have."""
    names = ("", ".", "..", "a/b", "/etc", "nul\0x", "n" * 256, ".fmos")
    for name in names:
        foreign.file(name, b"x")
    return len(names)


def wrong_inodes(foreign: Foreign) -> int:
    """Add inodes that are missing, are of no kind or have sizes and times that cannot be."""
    foreign.name("missing", 999)
    foreign.name("text", "no number")
    foreign.name("kind", foreign.inode(mode=0o777))
    foreign.name("negative", foreign.inode(size=-1))
    foreign.name("huge", foreign.inode(size=2**62))
    foreign.name("words", foreign.inode(size="many"))
    foreign.name("time", foreign.inode(mtime=2**60))
    foreign.name("link", foreign.inode(mode=SYMLINK | 0o777))
    return 8


def wrong_chunks(foreign: Foreign) -> int:
    """Add files whose chunks and sizes disagree."""
    beyond = foreign.name("beyond", foreign.inode(size=3))
    foreign.chunk(beyond, 0, b"four")
    later = foreign.name("later", foreign.inode(size=4096))
    foreign.chunk(later, 1, b"x")
    before = foreign.name("before", foreign.inode(size=4096))
    foreign.chunk(before, -1, b"x")
    wide = foreign.name("wide", foreign.inode(size=9000))
    foreign.chunk(wide, 0, bytes(5000))
    text = foreign.name("words", foreign.inode(size=5))
    foreign.chunk(text, 0, "words")
    return 5


def wrong_loops(foreign: Foreign) -> int:
    """Add a directory that is in itself, one in two places, and one that nothing leads to."""
    loop = foreign.directory("loop")
    foreign.name("again", loop, loop)
    foreign.name("up", 1, loop)
    twice = foreign.directory("once")
    foreign.name("twice", twice)
    foreign.file("lost", b"x", parent=12_345)
    foreign.inode()
    return 5


def wrong_keys_and_calls(foreign: Foreign) -> int:
    """Add keys and tool calls that are not JSON, have no such status or no such time."""
    for key, value in (("a", "{"), ("", "1"), ("b", "NaN"), ("k" * 300, "1")):
        foreign.rows.execute("INSERT INTO kv_store(key, value) VALUES (?, ?)", (key, value))
    for row in (("t", "{", "success", 1), ("t", None, "done", 1), ("t", None, "error", 2**62)):
        foreign.rows.execute(
            "INSERT INTO tool_calls(name, parameters, status, started_at) VALUES (?, ?, ?, ?)", row
        )
    return 7


@pytest.mark.parametrize(
    "spoil", [wrong_names, wrong_inodes, wrong_chunks, wrong_loops, wrong_keys_and_calls]
)
def test_what_cannot_be_right_is_left_out_by_name(
    tmp_path: Path, spoil: Callable[[Foreign], int]
) -> None:
    """Each wrong thing is one finding, all the rest comes in, and the volume stays clean."""
    foreign = Foreign(tmp_path / "f.db")
    wrong = spoil(foreign)
    foreign.file("zz-good", b"good")
    with volume(tmp_path) as fs:
        totals = fs.import_spec04(foreign.close())
        assert len(totals.failed) == wrong, totals.failed
        assert fs.read("/zz-good") == b"good"
        files = [name for _, _, names in fs.walk("/") for name in names]
        assert files == ["zz-good"]
        assert fs.kv.list() == []
        assert fs.toolcalls.list() == []


def refuse(change: str) -> Callable[[Foreign], object]:
    """Return what runs SQL on a foreign volume."""
    return lambda foreign: foreign.rows.executescript(change)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (refuse("UPDATE fs_config SET value = '0.5' WHERE key = 'schema_version'"), "'0.5'"),
        (refuse("UPDATE fs_config SET value = '-1' WHERE key = 'chunk_size'"), "chunk_size"),
        (refuse("UPDATE fs_config SET value = '9e9' WHERE key = 'chunk_size'"), "chunk_size"),
        (refuse("ALTER TABLE fs_inode DROP COLUMN mtime_nsec"), "mtime_nsec"),
        (refuse("DROP TABLE fs_data"), "no table 'fs_data'"),
        (refuse("DELETE FROM fs_inode"), "inode 1"),
        (
            refuse(
                "DROP TABLE fs_dentry; CREATE VIEW fs_dentry AS WITH RECURSIVE n(i) AS (SELECT 1"
                " UNION ALL SELECT i + 1 FROM n) SELECT i AS name, 1 AS parent_ino, 1 AS ino FROM n"
            ),
            "no ordinary table",
        ),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, spoil: Callable[[Foreign], object], reason: str
) -> None:
    """Another version, another shape or a query that never ends is one sentence."""
    foreign = Foreign(tmp_path / "f.db")
    spoil(foreign)
    with volume(tmp_path) as fs:
        with pytest.raises(ForeignVolume, match=reason):
            fs.import_spec04(foreign.close(), "/in")
        assert fs.listdir("/") == []


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """Text, a pipe, a directory, nothing at all and one of our own volumes each have a reason."""
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    with volume(tmp_path) as fs:
        with pytest.raises(ForeignVolume, match="no SQLite file"):
            fs.import_spec04(tmp_path / "text")
        for name in ("pipe", "none", "."):
            with pytest.raises(HostError):
                fs.import_spec04(tmp_path / name)
        fs.write("/x", "1")
        with pytest.raises(ForeignVolume):
            fs.import_spec04(fs.path)


def test_damaged_pages_are_an_error_of_that_file(tmp_path: Path) -> None:
    """Random bytes in its middle never look like damage of our volume."""
    foreign = Foreign(tmp_path / "f.db")
    for number in range(50):
        foreign.file(f"{number}", random.Random(number).randbytes(9000))
    raw = bytearray(foreign.close().read_bytes())
    with volume(tmp_path) as fs:
        for seed in range(25):
            chance = random.Random(seed)
            damaged = bytearray(raw)
            for _ in range(40):
                damaged[chance.randrange(4096, len(raw))] = chance.randrange(256)
            (tmp_path / "damaged.db").write_bytes(damaged)
            with suppress(ForeignVolume):
                fs.import_spec04(tmp_path / "damaged.db", f"/{seed}")


def test_a_file_that_changes_meanwhile_ends_the_import(tmp_path: Path) -> None:
    """What was read before is whole; the same call again brings in the rest."""
    foreign = Foreign(tmp_path / "f.db")
    foreign.rows.execute("BEGIN")
    for number in range(1100):
        foreign.file(f"{number:04}", str(number).encode())
    foreign.rows.execute("COMMIT")

    def meddle(_: object) -> None:
        if not done:
            done.append(foreign.file("last", b"x"))

    done: list[int] = []
    with volume(tmp_path) as fs:
        with pytest.raises(ForeignVolume, match="written to"):
            fs.import_spec04(foreign.path, progress=meddle)
        assert 900 < len(fs.listdir("/")) < 1100
        foreign.close()
        assert fs.import_spec04(foreign.path).failed == []
        assert len(fs.listdir("/")) == 1101


def test_a_killed_import_can_go_on(tmp_path: Path) -> None:
    """After SIGKILL each file is all there or not at all, and each tool call comes once."""
    foreign = Foreign(tmp_path / "f.db")
    foreign.rows.execute("BEGIN")
    for number in range(500):
        foreign.file(f"{number:04}", str(number).encode() * 2000)
        foreign.rows.execute(
            "INSERT INTO tool_calls(name, status, started_at, completed_at)"
            " VALUES ('t', 'success', 1, 1)"
        )
        foreign.rows.execute("INSERT INTO kv_store(key, value) VALUES (?, '1')", (str(number),))
    foreign.rows.execute("COMMIT")
    foreign.close()
    path = tmp_path / "a.afs"
    AgentFS.open(path).close()
    process = os.fork()
    if not process:
        try:
            with AgentFS.open(path) as fs:
                fs.import_spec04(
                    foreign.path, progress=lambda _: os.kill(os.getpid(), signal.SIGKILL)
                )
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])
    with volume(tmp_path) as fs:
        assert len(fs.listdir("/")) == 500
        assert 0 < len(fs.kv.list()) < 500
        assert fs.import_spec04(foreign.path).failed == []
        assert fs.import_spec04(foreign.path).calls == 0
        assert len(fs.toolcalls.list()) == len(fs.kv.list()) == 500


def test_a_running_call_is_finished_by_a_later_import(tmp_path: Path) -> None:
    """Copies of one volume share their calls, and what each did later comes from both."""
    foreign = Foreign(tmp_path / "f.db")
    add = "INSERT INTO tool_calls(name, status, started_at) VALUES (?, 'pending', 5)"
    foreign.rows.execute(add, ("first",))
    with volume(tmp_path) as fs:
        fs.import_spec04(foreign.path)
        foreign.rows.execute("UPDATE tool_calls SET status = 'success', completed_at = 7")
        (tmp_path / "copy.db").write_bytes(foreign.path.read_bytes())
        foreign.rows.execute(add, ("one",))
        other = sqlite3.connect(tmp_path / "copy.db", isolation_level=None)
        other.execute(add, ("two",))
        other.close()
        foreign.close()
        for path in (foreign.path, tmp_path / "copy.db"):
            assert fs.import_spec04(path).failed == []
        assert sorted(each.name for each in fs.toolcalls.list()) == ["first", "one", "two"]
        assert fs.toolcalls.get(1).duration_ns == 2 * 10**9


LOOSE = """
CREATE TABLE fs_config (key, value);
CREATE TABLE fs_inode (ino, mode, nlink, uid, gid, size, atime, mtime, ctime, rdev, atime_nsec,
    mtime_nsec, ctime_nsec);
CREATE TABLE fs_dentry (id, name, parent_ino, ino);
CREATE TABLE fs_data (ino, chunk_index, data);
CREATE TABLE fs_symlink (ino, target);
CREATE TABLE kv_store (key, value);
CREATE TABLE tool_calls (id, name, parameters, result, error, status, started_at, completed_at);
CREATE TABLE fs_whiteout (path);
"""


def test_any_value_in_any_column_is_a_finding_at_most(tmp_path: Path) -> None:
    """In tables without types, keys or uniqueness: no crash, and no damage here."""
    foreign = Foreign(tmp_path / "f.db")
    parent = foreign.directory("d")
    for number in range(6):
        foreign.file(f"f{number}", bytes(5000 * number), parent, uid=7, rdev=5)
    link = foreign.name("link", foreign.inode(mode=SYMLINK | 0o777))
    foreign.rows.execute("INSERT INTO fs_symlink VALUES (?, 'd/f1')", (link,))
    foreign.name("device", foreign.inode(mode=stat.S_IFCHR | 0o600, rdev=259))
    foreign.rows.execute("INSERT INTO kv_store(key, value) VALUES ('k', '{}')")
    foreign.rows.execute("INSERT INTO fs_whiteout(path, created_at) VALUES ('/gone', 1)")
    foreign.rows.execute(
        "INSERT INTO tool_calls(name, parameters, status, started_at) VALUES ('t', '1', 'error', 1)"
    )
    loose = sqlite3.connect(tmp_path / "loose.db", isolation_level=None)
    loose.execute("PRAGMA synchronous = OFF")
    loose.executescript(LOOSE)
    loose.execute("ATTACH ? AS given", (str(foreign.close()),))
    tables = [name for (name,) in loose.execute("SELECT name FROM main.sqlite_schema")]
    columns = {each: [row[1] for row in loose.execute(f"PRAGMA main.table_info({each})")]
               for each in tables}  # fmt: skip
    values = (
        None, 0, -1, 2**31, 2**63 - 1, -(2**63), 1.5, float("inf"), "", "text", "/",
        "../../x", b"", b"\xff\xfe", b"\0", "9" * 5000, '"\\ud800"', "[" * 5000, 0o40755,
        0o120777, 1,
    )  # fmt: skip
    chance = random.Random(4)
    with volume(tmp_path) as fs:
        done = 0
        for round_number in range(60):
            loose.execute("BEGIN")
            for each in tables:
                loose.execute(f"DELETE FROM main.{each}")
                names = ", ".join(columns[each])
                loose.execute(f"INSERT INTO main.{each}({names}) SELECT {names} FROM given.{each}")
            for _ in range(chance.randrange(1, 6)):
                table = chance.choice(tables)
                column = chance.choice(columns[table])
                rows = [row for (row,) in loose.execute(f"SELECT rowid FROM main.{table}")]
                loose.execute(
                    f"UPDATE main.{table} SET {column} = ? WHERE rowid = ?",
                    (chance.choice(values), chance.choice(rows)),
                )
            loose.execute("COMMIT")
            with suppress(ForeignVolume):
                fs.import_spec04(tmp_path / "loose.db", f"/{round_number}")
                done += 1
        loose.close()
        assert done > 30
        fs.export_spec04("/", tmp_path / "x.db")
        assert fs.import_spec04(tmp_path / "x.db", "/back").failed == []


# -- what goes out -------------------------------------------------------------------------------


def test_an_export_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    """A file, its left-over log and the volume itself are safe; nothing is left beside them."""
    with volume(tmp_path) as fs:
        fs.write("/a", "1")
        (tmp_path / "x.db").write_text("mine")
        (tmp_path / "y.db-wal").write_text("a log")
        for name in ("x.db", "y.db"):
            with pytest.raises(AlreadyExists):
                fs.export_spec04("/", tmp_path / name)
        for name in ("a.afs", "a.afs-wal", "."):
            with pytest.raises(HostError):
                fs.export_spec04("/", tmp_path / name, force=True)
        with pytest.raises(HostError, match="no-such"):
            fs.export_spec04("/", tmp_path / "no-such" / "x.db")
        with pytest.raises(FileNotFoundError):
            fs.export_spec04("/none", tmp_path / "z.db")
        assert (tmp_path / "x.db").read_text() == "mine"
        for name in ("x.db", "y.db"):
            fs.export_spec04("/", tmp_path / name, force=True)
            assert fs.import_spec04(tmp_path / name, f"/{name}").failed == []
            assert fs.read(f"/{name}/a") == b"1"
    assert sorted(os.listdir(tmp_path)) == ["a.afs", "x.db", "y.db"]


def test_names_that_agentfs_cannot_read_are_left_out_by_name(tmp_path: Path) -> None:
    """Its package ends with a crash over a name that is not UTF-8, so none goes out."""
    with volume(tmp_path) as fs:
        fs.write(os.fsdecode(b"/raw-\xff"), "x")
        fs.symlink(os.fsdecode(b"\xff"), "/link")
        fs.write("/good", "x")
        totals = fs.export_spec04("/", tmp_path / "x.db")
        assert len(totals.failed) == 2
        assert (totals.files, totals.symlinks) == (1, 0)


def test_a_file_above_the_disk_is_refused(tmp_path: Path) -> None:
    """A hole of an exabyte is an error at once, and nothing is left beside the target."""
    with volume(tmp_path) as fs:
        fs.write("/hole", "")
        fs.truncate("/hole", 2**60)
        with pytest.raises(HostError, match="less room"):
            fs.export_spec04("/", tmp_path / "x.db")
    assert sorted(os.listdir(tmp_path)) == ["a.afs"]
