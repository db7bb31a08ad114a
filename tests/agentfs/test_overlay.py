"""Overlays: every call on a host tree that was not copied, which never changes by it."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.agentfs.hosttree import seen

import agentfs
from agentfs import AgentFS, AsyncAgentFS, InvalidArgument, NotEmpty, NotFound, ReadOnly
from agentfs.errors import HostChanged
from agentfs.fsspec import AgentFileSystem
from agentfs.types import Change

BIG = bytes(range(256)) * 4000
NOT_UTF8 = os.fsdecode(b"not utf-8 \xff\xfe")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A host tree with a bit of everything; no test may change it through agentfs."""
    root = tmp_path / "host"
    (root / "src" / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "readme.txt").write_text("one\ntwo\nthree\n")
    (root / "big.bin").write_bytes(BIG)
    (root / "none").write_bytes(b"")
    (root / "src" / "main.py").write_text("print('hello')\n")
    (root / "src" / "deep" / "er" / "x.txt").write_text("deep\n")
    (root / "full" / "file").write_text("full\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    (root / "src" / "link").symlink_to("main.py")
    (root / "up").symlink_to("src/deep")
    (root / "dangling").symlink_to("nowhere")
    (root / "absolute").symlink_to("/etc/hostname")
    (root / "outside").symlink_to("../../../../../../../../etc")
    (root / NOT_UTF8).write_text("odd\n")
    (root / "new\nline").write_text("line\n")
    before = seen(root)
    yield root
    assert seen(root) == before


@pytest.fixture
def fs(tmp_path: Path, host: Path) -> Iterator[AgentFS]:
    """A volume with the host tree at /p; it ends as a sound one."""
    with AgentFS.open(tmp_path / "a.afs") as opened:
        opened.overlay(host, "/p")
        yield opened
        assert opened.fsck(read_data=True) == []
        assert opened.verify_journal().ok


def changed(found: Iterator[Change]) -> list[tuple[str, str]]:
    """Return the kinds and paths of changes."""
    return [(each.kind, each.path) for each in found]


def stored(fs: AgentFS) -> int:
    """Return how many bytes of content the volume has taken in."""
    return fs.stats().chunk_bytes


# -- reading --------------------------------------------------------------------------------------


def test_reading_calls_agree_with_the_host(fs: AgentFS, host: Path) -> None:
    """Names, kinds, sizes, modes, times, bytes and link targets are the host's."""
    for directory, below, names in os.walk(host):
        here = "/p" + directory[len(str(host)) :]
        assert fs.listdir(here) == sorted(below + names)
        assert (
            fs.last_names(here, 2)
            == [each for each in sorted(below + names, reverse=True) if "\udcff" not in each][:2]
        )
        for entry in fs.scandir(here):
            real = os.lstat(os.path.join(directory, entry.name))
            assert fs.lstat(entry.path) == entry.stat
            assert entry.stat.mtime_ns == real.st_mtime_ns
            if stat.S_ISLNK(real.st_mode):
                target = os.readlink(os.path.join(directory, entry.name))
                assert (entry.stat.kind, fs.readlink(entry.path)) == ("symlink", target)
                continue
            assert entry.stat.mode == stat.S_IMODE(real.st_mode)
            assert entry.stat.is_dir == stat.S_ISDIR(real.st_mode)
            if entry.stat.is_file:
                assert entry.stat.size == real.st_size
                assert fs.read(entry.path) == Path(directory, entry.name).read_bytes()


def test_nothing_is_copied_by_reading(fs: AgentFS) -> None:
    """Reading every byte stores none of it."""
    assert fs.read("/p/big.bin") == BIG
    with fs.open("/p/big.bin", "rb") as file:
        assert file.read() == BIG
    assert list(fs.grep("hello", "/p"))
    assert stored(fs) == 0


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (5, 10), (1_000_000, None), (1_023_999, 9_999_999), (9, 3)]
)
def test_ranges_are_those_of_the_host_file(fs: AgentFS, start: int, stop: int | None) -> None:
    """A range is cut as Python cuts bytes, also past the end."""
    assert fs.read("/p/big.bin", start, stop) == BIG[start:stop]


def test_open_files_read_seek_and_tell(fs: AgentFS) -> None:
    """A file object seeks from all three places and reads lines of text."""
    with fs.open("/p/big.bin", "rb") as file:
        assert file.seek(-10, io.SEEK_END) == len(BIG) - 10
        assert file.read() == BIG[-10:]
        assert file.seek(256) == 256
        assert file.read(3) == b"\0\1\2"
        assert file.seek(2, io.SEEK_CUR) == 261 == file.tell()
    with fs.open("/p/readme.txt") as text:
        assert list(text) == ["one\n", "two\n", "three\n"]


def test_searching_goes_through_the_overlay(fs: AgentFS) -> None:
    """Walk, glob and grep enter directories that nobody has looked into."""
    assert list(fs.glob("/p/**/x.txt")) == ["/p/src/deep/er/x.txt"]
    assert list(fs.glob("/p/src/*.py")) == ["/p/src/main.py"]
    assert [(each.path, each.line) for each in fs.grep("deep", "/p")] == [
        ("/p/src/deep/er/x.txt", 1)
    ]
    assert ("/p/src", ["deep"], ["link", "main.py"]) in list(fs.walk("/p"))


def test_symbolic_links_of_the_host_stay_inside_the_volume(fs: AgentFS) -> None:
    """A link leads to what its text means in the volume, and never out of it."""
    assert fs.listdir("/p/up") == ["er"]
    assert fs.read("/p/up/er/x.txt") == b"deep\n"
    assert fs.read("/p/src/link") == b"print('hello')\n"
    for path in ("/p/dangling", "/p/absolute", "/p/outside/passwd"):
        assert not fs.exists(path)
        with pytest.raises(NotFound):
            fs.read(path)
    assert fs.readlink("/p/absolute") == "/etc/hostname"


# -- changing -------------------------------------------------------------------------------------


def test_writing_modes_change_the_volume_only(fs: AgentFS) -> None:
    """Each way of writing a host-backed file does what it does to any file."""
    fs.write("/p/none", b"filled")
    fs.append("/p/readme.txt", "four\n")
    fs.truncate("/p/big.bin", 300)
    with fs.open("/p/src/main.py", "r+b") as file:
        file.seek(7)
        file.write(b"HELLO")
    with fs.open("/p/src/deep/er/x.txt", "a") as text:
        text.write("more\n")
    with fs.open("/p/full/file", "w+b") as file:
        file.write(b"new")
        file.seek(0)
        assert file.read() == b"new"
    with pytest.raises(agentfs.AlreadyExists):
        fs.open("/p/run.sh", "xb")
    assert fs.read("/p/none") == b"filled"
    assert fs.read("/p/readme.txt") == b"one\ntwo\nthree\nfour\n"
    assert fs.read("/p/big.bin") == BIG[:300]
    assert fs.read("/p/src/main.py") == b"print('HELLO')\n"
    assert fs.read("/p/src/link") == b"print('HELLO')\n"
    assert fs.read("/p/src/deep/er/x.txt") == b"deep\nmore\n"
    assert fs.read("/p/full/file") == b"new"
    assert changed(fs.host_diff()) == [
        ("modified", each)
        for each in ["/p/big.bin", "/p/full/file", "/p/none", "/p/readme.txt",
                     "/p/src/deep/er/x.txt", "/p/src/main.py"]
    ]  # fmt: skip


def test_writing_inside_a_large_file_keeps_the_rest(fs: AgentFS) -> None:
    """Patches in the middle, past the end and through a handle that was reading leave the rest."""
    with fs.open("/p/big.bin", "r+b") as file:
        assert file.read(4) == BIG[:4]
        file.seek(500_000)
        file.write(b"in the middle")
        file.seek(len(BIG) + 5)
        file.write(b"!")
    expected = BIG[:500_000] + b"in the middle" + BIG[500_013:] + b"\0\0\0\0\0!"
    assert fs.read("/p/big.bin") == expected


def test_modes_and_executable_bits_survive_a_write(fs: AgentFS) -> None:
    """A rewritten host file keeps its permission bits."""
    fs.write("/p/run.sh", "#!/bin/bash\n")
    assert fs.stat("/p/run.sh").mode == 0o750


def test_attributes_change_without_taking_content_in(fs: AgentFS, host: Path) -> None:
    """Mode, times, owner and extended attributes of files and directories copy no content."""
    for path in ("/p/big.bin", "/p/src"):
        fs.chmod(path, 0o700)
        fs.utime(path, mtime_ns=5)
        fs.setxattr(path, "user.a", b"1")
        fs.chown(path, 77, 78)
        found = fs.stat(path)
        assert (found.mode, found.mtime_ns, found.uid, found.gid) == (0o700, 5, 77, 78)
        assert fs.listxattr(path) == ["user.a"]
        assert fs.getxattr(path, "user.a") == b"1"
    assert fs.read("/p/big.bin") == BIG
    assert fs.listdir("/p/src") == sorted(os.listdir(host / "src"))
    assert stored(fs) == 0
    assert changed(fs.host_diff()) == [("mode", "/p/big.bin"), ("mode", "/p/src")]
    fs.removexattr("/p/src", "user.a")


def test_names_are_made_and_removed(fs: AgentFS) -> None:
    """Files, directories and links come and go beside those of the host."""
    fs.mkdir("/p/src/new/below", parents=True)
    fs.write("/p/src/new/below/file", "x")
    fs.symlink("../readme.txt", "/p/src/to")
    fs.remove("/p/up")
    fs.remove("/p/readme.txt")
    fs.rmdir("/p/empty")
    assert fs.listdir("/p/src") == ["deep", "link", "main.py", "new", "to"]
    assert not fs.exists("/p/src/to")
    assert not fs.exists("/p/empty")
    assert changed(fs.host_diff()) == [
        ("removed", "/p/empty"), ("removed", "/p/readme.txt"), ("added", "/p/src/new"),
        ("added", "/p/src/new/below"), ("added", "/p/src/new/below/file"),
        ("added", "/p/src/to"), ("removed", "/p/up"),
    ]  # fmt: skip


def test_directories_nobody_listed_are_removed_as_what_they_are(fs: AgentFS) -> None:
    """`rmdir` and a rename over a directory look into it first."""
    with pytest.raises(NotEmpty):
        fs.rmdir("/p/full")
    fs.mkdir("/p/mine")
    with pytest.raises(NotEmpty):
        fs.rename("/p/mine", "/p/src/deep")
    with pytest.raises(NotEmpty):
        fs.copy("/p/mine", "/p/src/deep")
    fs.rename("/p/mine", "/p/empty")
    fs.remove("/p/src", recursive=True)
    assert not fs.exists("/p/src")
    assert fs.read("/p/full/file") == b"full\n"


def test_renames_inside_and_out_of_the_overlay(fs: AgentFS) -> None:
    """Files and directories move with what is below them, without their content."""
    fs.rename("/p/big.bin", "/moved.bin")
    fs.rename("/p/src/deep", "/out")
    fs.rename("/p/full", "/p/src/fuller")
    fs.write("/in", "in")
    fs.rename("/in", "/p/empty/in")
    assert fs.read("/moved.bin") == BIG
    assert fs.read("/out/er/x.txt") == b"deep\n"
    assert fs.read("/p/src/fuller/file") == b"full\n"
    assert fs.listdir("/p/src") == ["fuller", "link", "main.py"]
    assert stored(fs) == 0
    fs.write("/out/er/x.txt", "changed")
    assert fs.read("/out/er/x.txt") == b"changed"


def test_copies_of_overlay_directories_are_independent(fs: AgentFS) -> None:
    """A copied directory costs a row, and neither side sees the other's changes."""
    nodes = fs.stats().nodes
    fs.copy("/p/src", "/copy")
    assert fs.stats().nodes <= nodes + 30  # what must be listed on the way, and two directories
    fs.write("/copy/main.py", "copy")
    fs.write("/p/src/deep/er/x.txt", "original")
    assert fs.read("/p/src/main.py") == b"print('hello')\n"
    assert fs.read("/copy/deep/er/x.txt") == b"deep\n"


def test_hard_links_to_host_files(fs: AgentFS) -> None:
    """Names of a host file see each other's writes; its content is taken in by the first."""
    fs.link("/p/readme.txt", "/p/src/second")
    fs.link("/p/src/second", "/third")
    assert [fs.stat(each).links for each in ("/p/readme.txt", "/p/src/second", "/third")] == [3] * 3
    assert stored(fs) == 0
    assert fs.read("/third") == b"one\ntwo\nthree\n"
    fs.append("/third", "four\n")
    assert fs.read("/p/readme.txt") == b"one\ntwo\nthree\nfour\n"
    fs.remove("/p/readme.txt")
    assert fs.stat("/third").links == 2


def test_odd_names_are_written_and_found_again(fs: AgentFS) -> None:
    """Names that are not UTF-8 or hold newlines are names like others."""
    for name in (NOT_UTF8, "new\nline"):
        fs.append(f"/p/{name}", "more")
        fs.rename(f"/p/{name}", f"/p/{name}2")
        assert fs.read(f"/p/{name}2").endswith(b"\nmore")
        assert name not in fs.listdir("/p")


# -- time, branches -------------------------------------------------------------------------------


def test_forks_share_the_base_and_nothing_else(fs: AgentFS) -> None:
    """What a fork changes is its own, and the fork can be thrown away."""
    fork = fs.fork("try")
    fork.write("/p/readme.txt", "fork")
    fork.remove("/p/src", recursive=True)
    assert fs.read("/p/readme.txt") == b"one\ntwo\nthree\n"
    assert changed(fs.diff("main", "try", "/p/readme.txt")) == [("modified", "/p/readme.txt")]
    assert ("removed", "/p/src/deep/er/x.txt") in changed(fs.diff("main", "try"))
    assert [each.at for each in fork.overlays()] == ["/p"]
    fs.delete_branch("try")
    assert changed(fs.host_diff()) == []


def test_snapshots_restores_and_past_states(fs: AgentFS) -> None:
    """States before and after the overlay was made come back, whole or path by path."""
    made = fs.log()[0].seq
    none = fs.log()[-1].seq - 1
    fs.snapshot("clean")
    fs.write("/p/readme.txt", "changed")
    fs.remove("/p/src", recursive=True)
    wrecked = fs.log()[0]
    assert not fs.at(none).exists("/p")
    assert fs.at(made).read("/p/src/deep/er/x.txt") == b"deep\n"
    assert fs.at(f"ns:{wrecked.time_ns}").read("/p/readme.txt") == b"changed"
    with pytest.raises(ReadOnly):
        fs.at("clean").write("/p/readme.txt", "no")
    fs.restore("clean", paths=["/p/src"])
    assert fs.read("/p/src/deep/er/x.txt") == b"deep\n"
    assert fs.read("/p/readme.txt") == b"changed"
    fs.restore("clean")
    assert changed(fs.host_diff()) == []
    fs.restore(none)
    assert fs.overlays() == []
    fs.restore("clean")
    assert fs.read("/p/readme.txt") == b"one\ntwo\nthree\n"


def test_merge_of_forks_that_changed_overlay_files(fs: AgentFS) -> None:
    """Different files merge; of one text the lines do, and the base comes from the host."""
    one, two = fs.fork("one"), fs.fork("two")
    one.write("/p/readme.txt", "ONE\ntwo\nthree\n")
    one.write("/p/src/main.py", "one")
    two.write("/p/readme.txt", "one\ntwo\nTHREE\n")
    two.remove("/p/full", recursive=True)
    two.write("/p/src/deep/new", "two")
    fs.merge("one")
    fs.merge("two")
    assert fs.read("/p/readme.txt") == b"ONE\ntwo\nTHREE\n"
    assert fs.read("/p/src/main.py") == b"one"
    assert fs.read("/p/src/deep/new") == b"two"
    assert not fs.exists("/p/full")


def test_merge_conflicts_on_overlay_files(fs: AgentFS) -> None:
    """Both sides' changes of one line, and a removal against a change below, are conflicts."""
    fork = fs.fork("other")
    fork.write("/p/readme.txt", "fork\ntwo\nthree\n")
    fork.write("/p/src/deep/er/x.txt", "fork")
    fs.write("/p/readme.txt", "main\ntwo\nthree\n")
    fs.remove("/p/src", recursive=True)
    with pytest.raises(agentfs.MergeConflict) as caught:
        fs.merge("other")
    assert [(each.path, each.kind) for each in caught.value.conflicts] == [
        ("/p/readme.txt", "content"), ("/p/src", "delete/modify")
    ]  # fmt: skip
    fs.merge("other", "theirs")
    assert fs.read("/p/src/deep/er/x.txt") == b"fork"
    assert fs.read("/p/src/main.py") == b"print('hello')\n"


def test_a_merge_whose_base_changed_on_the_host(tmp_path: Path) -> None:
    """Where the lines of the base are needed and the host has others now, nothing is merged."""
    root = tmp_path / "changing"
    root.mkdir()
    (root / "file").write_text("one\ntwo\nthree\n")
    with AgentFS.open(tmp_path / "m.afs") as fs:
        fs.overlay(root, "/p")
        fork = fs.fork("other")
        fs.write("/p/file", "ONE\ntwo\nthree\n")
        fork.write("/p/file", "one\ntwo\nTHREE\n")
        (root / "file").write_text("another\n")
        before = fs.log()[0].seq
        with pytest.raises((HostChanged, agentfs.MergeConflict)):
            fs.merge("other")
        assert (fs.log()[0].seq, fs.read("/p/file")) == (before, b"ONE\ntwo\nthree\n")
        assert fs.fsck(read_data=True) == []


def test_an_attribute_and_the_content_merge_on_their_own(fs: AgentFS) -> None:
    """A mode that one side set and a content that the other wrote both count."""
    fork = fs.fork("other")
    fork.chmod("/p/readme.txt", 0o600)
    fs.write("/p/readme.txt", "main")
    fs.merge("other")
    assert (fs.read("/p/readme.txt"), fs.stat("/p/readme.txt").mode) == (b"main", 0o600)


@pytest.mark.parametrize("size", [5, 70_000, 9_000_000])
def test_readers_go_on_while_another_branch_is_applied(tmp_path: Path, size: int) -> None:
    """Open files and open reads have what they began with, though the host has another file now."""
    root, old = tmp_path / "applied", os.urandom(size)
    root.mkdir()
    (root / "file").write_bytes(old)
    with AgentFS.open(tmp_path / "x.afs") as fs:
        fs.overlay(root, "/p")
        fork = fs.fork("other")
        fork.write("/p/file", "new")
        with fs.open("/p/file", "rb") as file, fs.reading(), ThreadPoolExecutor(1) as pool:
            assert file.read(2) == old[:2]
            assert fs.read("/p/file", 1, 3) == old[1:3]
            assert len(pool.submit(fork.apply).result(60).changes) == 1
            assert (root / "file").read_text() == "new"
            assert fs.read("/p/file") == old
            assert fs.read("/p/file", 2, 4) == old[2:4]
            fs.get_tree("/p/file", tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == old
            assert file.read() == old[2:]
        with fs.open("/p/file", "r+b") as file:
            file.write(b"!")
        assert fs.read("/p/file") == b"!" + old[1:]
        assert fs.fsck(read_data=True) == []


# -- the rest of the engine -----------------------------------------------------------------------


def test_keys_belong_to_the_branch_as_ever(fs: AgentFS) -> None:
    """Keys beside an overlay follow forks and restores."""
    fs.kv.set("a", 1)
    fork = fs.fork("x")
    fork.kv.set("a", 2)
    assert (fs.kv.get("a"), fork.kv.get("a")) == (1, 2)
    assert changed(fs.host_diff()) == []


def test_gc_lets_go_of_no_base(fs: AgentFS) -> None:
    """After a collection that keeps no history everything can still be read and compared."""
    fs.fork("gone").remove("/p/src", recursive=True)
    fs.write("/p/readme.txt", "x" * 10_000)
    fs.write("/p/readme.txt", "y")
    fs.delete_branch("gone")
    fs.gc(retention=0)
    assert fs.fsck(read_data=True) == []
    assert fs.read("/p/src/deep/er/x.txt") == b"deep\n"
    assert changed(fs.host_diff()) == [("modified", "/p/readme.txt")]
    fs.remove("/p", recursive=True)
    fs.gc(retention=0)
    assert fs.listdir("/") == []


def test_rules_guard_overlay_paths(tmp_path: Path, host: Path) -> None:
    """A principal reads and writes only where a rule lets it, listed before or not."""
    with AgentFS.open(tmp_path / "r.afs", system=True) as fs:
        fs.overlay(host, "/p")
        fs.rules.set("/p/src", "agent", "none")
        fs.rules.set("/p", "agent", "read")
        agent = fs.on("main", system=False, principal="agent")
        assert "src" not in agent.listdir("/p")
        assert agent.read("/p/readme.txt") == b"one\ntwo\nthree\n"
        for refused in (
            lambda: agent.listdir("/p/src"), lambda: agent.read("/p/src/deep/er/x.txt"),
            lambda: agent.write("/p/readme.txt", "x"), lambda: agent.read("/p/src/link"),
        ):  # fmt: skip
            with pytest.raises(agentfs.PermissionDenied):
                refused()
        assert all("src" not in each for each, _, _ in agent.walk("/p"))
        fs.rules.set("/", "agent", "read")
        with pytest.raises(agentfs.PermissionDenied):
            agent.overlay(host, "/q")
        assert [each.at for each in fs.overlays()] == ["/p"]


def test_the_fsspec_driver_reads_and_writes_an_overlay(fs: AgentFS) -> None:
    """The driver finds host files, reads ranges and writes the volume's side."""
    driver = AgentFileSystem(volume=fs.path)
    assert driver.cat("/p/readme.txt") == b"one\ntwo\nthree\n"
    assert driver.cat_file("/p/big.bin", 256, 260) == b"\0\1\2\3"
    assert {"/p/src/deep/er/x.txt", "/p/src/main.py"} <= set(driver.find("/p/src"))
    driver.pipe("/p/src/main.py", b"driver")
    assert fs.read("/p/src/main.py") == b"driver"
    driver.agentfs.close()


def test_the_async_class_works_on_an_overlay(tmp_path: Path, host: Path) -> None:
    """Many tasks list and read one overlay at once."""

    async def main() -> None:
        async with AsyncAgentFS.open(tmp_path / "b.afs") as fs:
            made = await fs.overlay(host, "/p")
            assert await fs.overlays() == [made]
            found = await asyncio.gather(*(fs.read("/p/src/deep/er/x.txt") for _ in range(20)))
            assert set(found) == {b"deep\n"}
            await fs.write("/p/new", "x")
            assert [each.path async for each in fs.host_diff()] == ["/p/new"]

    asyncio.run(main())


def test_trees_are_brought_out_and_in(fs: AgentFS, host: Path, tmp_path: Path) -> None:
    """`get_tree` and `export_tree` copy what the host has; `put_tree` merges into the overlay."""
    fs.get_tree("/p", tmp_path / "got")
    names = {each.relative_to(host) for each in host.rglob("*")}
    assert {each.relative_to(tmp_path / "got") for each in (tmp_path / "got").rglob("*")} == names
    assert (tmp_path / "got" / "big.bin").read_bytes() == BIG
    (tmp_path / "out").mkdir()
    fs.export_tree("/p/src", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "er" / "x.txt").read_text() == "deep\n"
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "put").write_text("put")
    fs.put_tree(tmp_path / "more", "/p/src")
    assert fs.listdir("/p/src/deep") == ["er", "put"]
    assert fs.import_tree(host, "/p")[0] == []


def test_an_undone_transaction_leaves_the_overlay_as_it_was(fs: AgentFS) -> None:
    """Directories that are first listed in a transaction can be listed again after it failed."""
    with pytest.raises(RuntimeError), fs.transaction():
        assert fs.listdir("/p/src/deep") == ["er"]
        fs.write("/p/src/deep/new", "x")
        raise RuntimeError
    assert fs.listdir("/p/src/deep") == ["er"]
    assert fs.read("/p/src/deep/er/x.txt") == b"deep\n"
    with pytest.raises(RuntimeError), fs.transaction():
        with pytest.raises(RuntimeError), fs.transaction():
            assert fs.listdir("/p/full") == ["file"]
            raise RuntimeError
        assert fs.read("/p/full/file") == b"full\n"
        raise RuntimeError
    assert changed(fs.host_diff()) == []


# -- where an overlay may be ----------------------------------------------------------------------


def test_the_root_is_laid_over_beside_the_servers_state(tmp_path: Path, host: Path) -> None:
    """At / the host's names stand beside `/.fmos`, which stays the volume's own."""
    root = tmp_path / "root"
    shutil.copytree(host, root, symlinks=True)
    (root / ".fmos").mkdir()
    (root / ".fmos" / "theirs").write_text("x")
    with AgentFS.open(tmp_path / "a.afs", system=True) as fs:
        fs.mkdir("/.fmos/memory", parents=True)
        fs.write("/.fmos/memory/mine", "state")
        agent = fs.on("main", system=False)
        fs.overlay(root)
        assert agent.listdir("/") == sorted(set(os.listdir(root)) - {".fmos"})
        assert fs.read("/.fmos/memory/mine") == b"state"
        assert agent.read("/src/deep/er/x.txt") == b"deep\n"
        assert list(agent.host_diff()) == []
        assert list(fs.host_diff()) == []
        agent.write("/src/main.py", "x")
        assert changed(agent.host_diff("/")) == [("modified", "/src/main.py")]
        assert agent.at(agent.log()[-1].seq).listdir("/") == []
        assert fs.fsck(read_data=True) == []


def test_a_path_below_a_missing_one_is_made(tmp_path: Path, host: Path) -> None:
    """The directories above an overlay are made, and an empty one takes it."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.overlay(host, "/a/b/c")
        assert fs.read("/a/b/c/full/file") == b"full\n"
        fs.mkdir("/d")
        fs.overlay(host, "/d")
        assert [each.at for each in fs.overlays()] == ["/a/b/c", "/d"]
        with pytest.raises(InvalidArgument, match="several"):
            list(fs.host_diff())
        fs.write("/d/none", "x")
        assert list(fs.host_diff("/a/b/c")) == []
        assert changed(fs.host_diff("/d")) == [("modified", "/d/none")]
        assert fs.fsck(read_data=True) == []


def test_refused_places(fs: AgentFS, host: Path, tmp_path: Path) -> None:
    """Overlays in overlays, over files, over full directories and of no directory are refused."""
    fs.mkdir("/used")
    fs.write("/used/file", "x")
    fs.symlink("/p/empty", "/way")
    for at in ("/p", "/p/empty", "/p/src/new", "/", "/used", "/used/file", "/way"):
        with pytest.raises(agentfs.AgentFSError) as caught:
            fs.overlay(host, at)
        assert caught.value.code in ("fs.already_exists", "fs.not_a_directory"), at
    for wrong in (host / "readme.txt", tmp_path / "nowhere", host / "dangling"):
        with pytest.raises(agentfs.HostError):
            fs.overlay(wrong, "/q")
    assert not fs.exists("/q")
    assert len(fs.overlays()) == 1


def test_one_host_directory_under_two_branches(fs: AgentFS, host: Path) -> None:
    """Two branches that lay over the same directory each have their own overlay of it."""
    other = fs.fork("other", "@0")
    other.overlay(host, "/q")
    assert [each.at for each in fs.overlays()] == ["/p"]
    assert [each.at for each in other.overlays()] == ["/q"]
    other.write("/q/none", "x")
    assert fs.read("/p/none") == b""


def test_the_volume_inside_the_overlaid_directory_is_left_out(tmp_path: Path) -> None:
    """The volume's own files are no part of the tree, and other volumes are plain files."""
    root = tmp_path / "host"
    (root / ".fmos").mkdir(parents=True)
    (root / "file").write_text("x")
    with AgentFS.open(root / "other.afs") as other:
        other.overlay(root, "/p")
        other.write("/in", "other")
        assert other.listdir("/p") == ["file"]
    with AgentFS.open(root / "own.afs") as fs:
        fs.overlay(root, "/p")
        assert fs.listdir("/p") == ["file", "other.afs"]
        assert fs.read("/p/other.afs") == (root / "other.afs").read_bytes()
        fs.get_tree("/p/other.afs", tmp_path / "copy.afs")
    with AgentFS.open(tmp_path / "copy.afs") as copy:
        assert copy.read("/in") == b"other"


def test_an_overlay_of_the_hosts_root(tmp_path: Path) -> None:
    """The whole host can be laid under a branch, and only what is asked for is read."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.overlay("/", "/host")
        assert {"etc", "proc", "usr"} <= set(fs.listdir("/host"))
        assert fs.read("/host/etc/passwd") == Path("/etc/passwd").read_bytes()
        assert fs.stats().nodes < 5000


def test_overlay_names_of_the_library_are_hidden(fs: AgentFS) -> None:
    """The hidden base is no branch to anybody, and its attribute no attribute."""
    assert [each.name for each in fs.branches()] == ["main"]
    assert fs.listxattr("/p") == []
    base = "\x1eoverlay 1"
    for refused in (
        lambda: fs.on(base), lambda: fs.fork(base), lambda: fs.delete_branch(base),
        lambda: fs.restore(base), lambda: fs.merge(base), lambda: fs.at(base),
        lambda: fs.set_default_branch(base),
    ):  # fmt: skip
        with pytest.raises(agentfs.AgentFSError):
            refused()


def test_a_host_directory_with_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """The overlay of such a directory is made, listed and compared."""
    root = tmp_path / NOT_UTF8
    root.mkdir()
    (root / "file").write_text("x")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        made: Any = fs.overlay(root, f"/{NOT_UTF8}")
        assert fs.overlays() == [made]
        assert (made.host, fs.read(f"/{NOT_UTF8}/file")) == (str(root), b"x")
        assert fs.fsck(read_data=True) == []


def test_sizes_count_what_nobody_has_listed(fs: AgentFS, host: Path) -> None:
    """`du` and `stats` count the whole tree, also where it was not listed before."""
    files = [each for each in host.rglob("*") if each.is_file() and not each.is_symlink()]
    used = fs.du("/p")
    assert (used.files, used.logical_bytes) == (
        len(files), sum(each.stat().st_size for each in files)
    )  # fmt: skip
    assert fs.du("/p/src/deep").files == 1
    assert fs.stats().files == len(files)
    assert fs.du("/").files == len(files)


def test_sizes_inside_one_read_count_what_it_lists(fs: AgentFS) -> None:
    """`du` in an open read counts directories that are first listed in it."""
    with fs.reading():
        first = fs.du("/p/src")
        assert (first.files, first.directories, first.symlinks) == (2, 3, 1)
    assert fs.du("/p/src") == first


def test_checking_needs_no_host(tmp_path: Path) -> None:
    """`fsck`, `verify` and `gc` work while the host directory is away, also with hard links."""
    host = tmp_path / "host"
    (host / "src").mkdir(parents=True)
    (host / "readme.txt").write_text("x")
    fs = AgentFS.open(tmp_path / "c.afs")
    fs.overlay(host, "/p")
    fs.read("/p/readme.txt")
    fs.link("/p/readme.txt", "/second")
    fs.fork("other").write("/p/readme.txt", "x")
    host.rename(tmp_path / "away")
    try:
        assert fs.fsck(read_data=True) == []
        assert fs.verify() == []
        fs.gc(retention=0)
        assert fs.at("main").listdir("/p") == sorted(os.listdir(tmp_path / "away"))
    finally:
        fs.close()


@pytest.mark.parametrize("first", ["quota", "overlay"])
def test_quotas_count_the_overlay(tmp_path: Path, host: Path, first: str) -> None:
    """A limit counts what the host tree has, whichever came first, and stays right."""
    with AgentFS.open(tmp_path / "q.afs", system=True) as fs:
        steps: list[Callable[[], object]] = [
            lambda: fs.set_quota(bytes=len(BIG) + 1000, files=100),
            lambda: fs.overlay(host, "/p"),
        ]
        for each in steps if first == "quota" else steps[::-1]:
            each()
        files = [each for each in host.rglob("*") if each.is_file() and not each.is_symlink()]
        assert fs.quota().used_bytes == sum(each.stat().st_size for each in files)
        fs.write("/p/src/main.py", "short")
        fs.remove("/p/full", recursive=True)
        with pytest.raises(agentfs.QuotaExceeded):
            fs.write("/p/more", bytes(2000))
        assert fs.fork("x").quota() == fs.quota()
        assert fs.fsck() == []


def test_an_overlay_inside_another_through_a_link_is_refused(fs: AgentFS, host: Path) -> None:
    """The place of an overlay is where its path leads, not what it says."""
    fs.mkdir("/beside")
    fs.symlink("/p", "/way")
    with pytest.raises(agentfs.AlreadyExists):
        fs.overlay(host, "/way/empty")
    fs.symlink("/beside", "/other")
    made = fs.overlay(host, "/other/q")
    assert made.at == "/beside/q"
    with pytest.raises(agentfs.AlreadyExists):
        fs.overlay(host, "/beside/q/empty")


def test_cutting_a_huge_host_file_reads_what_is_left_only(tmp_path: Path) -> None:
    """A truncation takes in the bytes before the cut, not the whole file."""
    root = tmp_path / "huge"
    root.mkdir()
    with (root / "file").open("wb") as file:
        file.write(b"begin")
        file.truncate(1 << 42)
    with AgentFS.open(tmp_path / "d.afs") as fs:
        fs.overlay(root, "/p")
        fs.copy("/p/file", "/copy")
        fs.truncate("/p/file", 3)
        assert fs.read("/p/file") == b"beg"
        fs.truncate("/copy", 0)
        assert fs.read("/copy") == b""


def test_a_remembered_directory_that_another_process_replaced(tmp_path: Path) -> None:
    """What a session remembers of an unlisted directory does not hide what is there now."""
    root = tmp_path / "gone"
    (root / "dir").mkdir(parents=True)
    with AgentFS.open(tmp_path / "e.afs") as one, AgentFS.open(tmp_path / "e.afs") as other:
        one.overlay(root, "/p")
        with one.reading():
            assert one.stat("/p").is_dir
        one.chmod("/p", 0o755)
        (root / "dir").rmdir()
        with pytest.raises(agentfs.AgentFSError):
            one.read("/p/dir/file")
        other.remove("/p/dir", recursive=True)
        other.mkdir("/p/dir")
        other.write("/p/dir/file", "now")
        assert one.read("/p/dir/file") == b"now"
