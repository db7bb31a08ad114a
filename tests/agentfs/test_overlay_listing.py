"""Directories of an overlay are listed on first use: beside reads, writers, threads, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentfs import AgentFS, Corrupt, VolumeBusy

ODD = [os.fsdecode(b"\xff\xfe odd"), "new\nline", "é", "e\u0301", " ", "-rf", "a" * 255]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host tree with directories around the size at which names are split; nobody changes it."""
    root = tmp_path_factory.mktemp("listing") / "host"
    for count in (0, 1, 96, 97, 128, 129, 5000):
        here = root / f"d{count}"
        (here / "sub").mkdir(parents=True) if count > 1 else here.mkdir(parents=True)
        for number in range(count - (count > 1)):
            (here / f"f{number:04}").touch()
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "b" / "c" / "file").write_text("deep")
    (root / "odd").mkdir()
    for name in ODD:
        (root / "odd" / name).write_text("odd")
    return root


@pytest.fixture
def fs(tmp_path: Path, host: Path) -> Iterator[AgentFS]:
    """A volume with the host tree at /p."""
    with AgentFS.open(tmp_path / "a.afs") as opened:
        opened.overlay(host, "/p")
        yield opened
        assert opened.fsck(read_data=True) == []


def everything(fs: AgentFS, path: str) -> dict[str, tuple[object, ...]]:
    """Return what every call says about a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, below, names in fs.walk(path):
        entries = fs.scandir(directory)
        assert [each.name for each in entries] == sorted(below + names) == fs.listdir(directory)
        entries = [*entries[:60], *entries[-20:]]
        assert [each for each in fs.last_names(directory) if each.isprintable()] == [
            each for each in sorted(below + names, reverse=True) if each.isprintable()
        ]
        for entry in entries:
            assert fs.lstat(entry.path) == entry.stat
            assert fs.exists(entry.path)
            content = fs.read(entry.path) if entry.stat.is_file else b""
            found[entry.path] = (entry.stat, content)
    return found


READS: dict[str, Callable[[AgentFS], object]] = {
    "scandir": lambda fs: fs.scandir("/p/d129"),
    "listdir": lambda fs: fs.listdir("/p/d129"),
    "last names": lambda fs: fs.last_names("/p/d129", 3),
    "last names before": lambda fs: fs.last_names("/p/d5000", 3, "f0100"),
    "stat": lambda fs: fs.stat("/p/a/b/c/file"),
    "missing": lambda fs: fs.exists("/p/a/b/nothing"),
    "read": lambda fs: fs.read("/p/a/b/c/file"),
    "glob": lambda fs: list(fs.glob("/p/a/**")),
    "grep": lambda fs: list(fs.grep("deep", "/p/a")),
    "fork diff": lambda fs: list(fs.diff("main", "other")),
    "host diff": lambda fs: list(fs.on("other").host_diff()),
}


@pytest.mark.parametrize("count", [0, 1, 96, 97, 128, 129, 5000])
def test_directories_of_all_sizes(fs: AgentFS, count: int) -> None:
    """Names are found, one by one and all together, in an open read and after it."""
    path = f"/p/d{count}"
    with fs.reading():
        inside = everything(fs, path)
        assert len(fs.listdir(path)) == count
        assert not fs.exists(f"{path}/missing")
    assert everything(fs, path) == inside
    fork = fs.fork("other")
    fork.write(f"{path}/new", "x")
    assert len(fork.listdir(path)) == count + 1
    assert len(fs.listdir(path)) == count
    if count > 1:
        fork.remove(f"{path}/f0000")
        fork.write(f"{path}/sub/below", "x")
        assert len(list(fs.diff("main", "other"))) == 3


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("inside", [True, False])
def test_each_call_is_the_same_first_in_a_read_and_after(
    fs: AgentFS, call: str, inside: bool
) -> None:
    """What a call says when it is the first to list directories, it says for ever."""
    other = fs.fork("other")
    other.write("/p/a/b/new", "x")
    other.remove("/p/d129", recursive=True)
    if inside:
        with fs.reading():
            first = READS[call](fs)
            assert READS[call](fs) == first
    else:
        first = READS[call](fs)
    assert READS[call](fs) == first
    with AgentFS.open(fs.path) as again:
        assert READS[call](again) == first


def test_odd_names_in_an_open_read(fs: AgentFS) -> None:
    """Names that are not UTF-8, or look alike, are different names also while they are unseen."""
    with fs.reading():
        assert fs.listdir("/p/odd") == sorted(ODD)
        assert {fs.read(f"/p/odd/{each}") for each in ODD} == {b"odd"}
        assert fs.last_names("/p/odd", 1) == ["é"]
    assert fs.listdir("/p/odd") == sorted(ODD)
    assert fs.last_names("/p/odd", 1) == ["é"]


def test_a_view_lists_for_everybody(fs: AgentFS) -> None:
    """A read-only view fills directories in, and the branch has the same nodes."""
    fs.snapshot("s")
    with fs.at("s") as view:
        seen = [each.stat.node for each in view.scandir("/p/a")]
        assert view.read("/p/a/b/c/file") == b"deep"
    assert [each.stat.node for each in fs.scandir("/p/a")] == seen


def test_a_read_sees_what_another_thread_listed_meanwhile(fs: AgentFS) -> None:
    """An open read goes on below directories that others listed after it began, at any depth."""
    with fs.reading():
        fs.exists("/p")
        with ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(everything, fs, "/p/a").result(60)
        assert everything(fs, "/p/a") == theirs
        assert fs.read("/p/a/b/c/file") == b"deep"


def test_what_is_removed_meanwhile_stays_in_an_open_read(fs: AgentFS) -> None:
    """A read that lists a directory which another thread removed sees it as it was."""
    with fs.reading():
        fs.exists("/p")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fs.remove, "/p/a", True).result(60)
        assert fs.read("/p/a/b/c/file") == b"deep"
    assert not fs.exists("/p/a")


def test_a_removed_and_collected_directory_is_told(fs: AgentFS) -> None:
    """A read cannot list a directory any more that gc took meanwhile, and says so."""
    with fs.reading():
        fs.exists("/p")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fs.remove, "/p", True).result(60)
            system = fs.on("main", system=True)
            pool.submit(system.remove, "/.fmos/overlays", True).result(60)
            pool.submit(fs.gc, 0).result(60)
        with pytest.raises(Corrupt, match="node"):
            fs.listdir("/p/a")


def test_threads_that_list_at_once_agree(fs: AgentFS) -> None:
    """Four threads that walk a tree which nobody listed get the same nodes, without an error."""
    begin = threading.Barrier(4)

    def work(_: int) -> list[tuple[str, int]]:
        begin.wait(10)
        return [
            (entry.path, entry.stat.node)
            for directory, _, _ in fs.walk("/p")
            for entry in fs.scandir(directory)
        ]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert all(each == found[0] for each in found)


WALKER = """
import json, sys
from agentfs import AgentFS
with AgentFS.open(sys.argv[1]) as fs:
    print("ready", flush=True)
    sys.stdin.readline()
    found = {}
    for directory, _, _ in fs.walk("/p"):
        for entry in fs.scandir(directory):
            found[entry.path] = entry.stat.node
    print(json.dumps(found))
"""


def test_processes_that_list_at_once_agree(fs: AgentFS) -> None:
    """Three processes that walk a tree which nobody listed get the same nodes."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WALKER, str(fs.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    found = [json.loads(each.communicate(timeout=60)[0]) for each in running]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 5000


def test_a_first_listing_waits_for_a_long_write(fs: AgentFS) -> None:
    """While a thread has a transaction, others read what is listed, and wait to list the rest."""
    fs.read("/p/a/b/c/file")
    begun, end = threading.Event(), threading.Event()

    def writer() -> None:
        with fs.transaction():
            fs.write("/p/a/new", "x")
            begun.set()
            end.wait(30)

    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(writer)
        assert begun.wait(10)
        assert fs.read("/p/a/b/c/file") == b"deep"
        waiting = pool.submit(fs.listdir, "/p/d129")
        assert fs.listdir("/p/a") == ["b"]
        assert not waiting.done()
        end.set()
        held.result(30)
        assert len(waiting.result(30)) == 129


def test_a_first_listing_beside_a_stuck_writer_is_busy(tmp_path: Path, host: Path) -> None:
    """Who cannot wait longer gets the usual error, and can read on."""
    begun, end = threading.Event(), threading.Event()
    with AgentFS.open(tmp_path / "b.afs", busy_s=0.1) as fs:
        fs.overlay(host, "/p")
        fs.listdir("/p")

        def writer() -> None:
            with fs.transaction():
                fs.write("/new", "x")
                begun.set()
                end.wait(30)

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(writer)
            assert begun.wait(10)
            with pytest.raises(VolumeBusy):
                fs.listdir("/p/a")
            assert "a" in fs.listdir("/p")
            end.set()
            held.result(30)
        assert fs.listdir("/p/a") == ["b"]


def test_listing_inside_a_transaction_is_part_of_it(fs: AgentFS) -> None:
    """What a transaction lists is undone with it, and a savepoint's with the savepoint."""
    with fs.transaction():
        with pytest.raises(RuntimeError), fs.transaction():
            assert len(fs.listdir("/p/d5000")) == 5000
            fs.write("/p/d5000/new", "x")
            raise RuntimeError
        assert len(fs.listdir("/p/d5000")) == 5000
        assert fs.read("/p/a/b/c/file") == b"deep"
    with pytest.raises(RuntimeError), fs.transaction():
        fs.fork("other").write("/p/d129/new", "x")
        raise RuntimeError
    assert len(fs.listdir("/p/d129")) == 129


def test_listing_after_a_fork_of_the_process(fs: AgentFS) -> None:
    """A child process lists with connections of its own, and the parent sees what it listed."""
    with fs.reading():
        fs.listdir("/p/d1")
    child = os.fork()
    if not child:
        try:
            os._exit(0 if len(fs.listdir("/p/d129")) == 129 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert len(fs.listdir("/p/d129")) == 129
    with fs.reading():
        assert fs.listdir("/p/a/b/c") == ["file"]


def test_comparing_a_listed_with_an_unlisted_tree(fs: AgentFS, host: Path) -> None:
    """Two overlays of one directory differ in nothing, whichever of them was listed first."""
    fs.overlay(host, "/q")
    list(fs.walk("/p/a"))
    with fs.reading():
        first, second = (everything(fs, each) for each in ("/p/d129", "/q/d129"))
    assert [path.removeprefix("/p") for path in first] == [
        path.removeprefix("/q") for path in second
    ]
    other = fs.fork("other")
    other.rename("/q/a", "/q/moved")
    other.rename("/p/a", "/q/a")
    with fs.reading():
        kinds = {(each.kind, each.path) for each in fs.diff("main", "other")}
    assert ("removed", "/p/a/b/c/file") in kinds
    assert ("added", "/q/moved/b/c/file") in kinds
    assert not {path for _, path in kinds if path.startswith("/q/a/")}
