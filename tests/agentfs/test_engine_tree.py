"""Files, directories, links, names and the system area of the engine."""

import errno
import os
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume, and check its structure at the end."""
    with AgentFS.open(tmp_path / "a.afs") as handle:
        yield handle
        assert handle.fsck(read_data=True) == []


def test_write_then_read_returns_the_bytes_for_every_layout(fs: AgentFS) -> None:
    """Inline, listed and paged files read back what was written, whole and in ranges."""
    for size in (0, 1, 4096, 4097, 16384, 200_000, 3_000_000):
        data = bytes((each * 7 + each // 251) % 256 for each in range(size))
        fs.write("/f", data)
        assert fs.read("/f") == data
        assert fs.read("/f", 5000, 70_000) == data[5000:70_000]
        assert fs.stat("/f").size == size


def test_append_truncate_and_patches_change_only_what_they_say(fs: AgentFS) -> None:
    """Append, truncate and an r+b handle behave as on a host file."""
    fs.write("/f", b"a" * 20_000)
    fs.append("/f", b"b" * 20_000)
    fs.truncate("/f", 39_000)
    with fs.open("/f", "r+b") as file:
        file.seek(10)
        file.write(b"XY")
    assert fs.read("/f") == b"a" * 10 + b"XY" + b"a" * 19_988 + b"b" * 19_000
    fs.truncate("/f", 40_000)
    assert fs.read("/f")[-1000:] == bytes(1000)
    with fs.open("/log", "a") as log:
        log.write("one\n")
    with fs.open("/log") as log:
        assert log.read() == "one\n"
    with pytest.raises(agentfs.AlreadyExists):
        fs.open("/log", "x")
    with pytest.raises(agentfs.InvalidArgument):
        fs.open("/log", "rw")


def test_a_directory_with_many_entries_splits_and_shrinks(fs: AgentFS) -> None:
    """Thousands of names stay listed, found, copied on write and removable."""
    fs.mkdir("/big")
    with fs.transaction():
        for number in range(3000):
            fs.write(f"/big/n{number}", str(number))
    other = fs.fork("other")
    other.write("/big/n7", "changed")
    other.remove("/big/n8")
    assert fs.read("/big/n7") == b"7"
    assert fs.exists("/big/n8")
    assert [each.path for each in fs.diff("main", "other")] == ["/big/n7", "/big/n8"]
    assert fs.listdir("/big") == sorted(f"n{number}" for number in range(3000))
    with fs.transaction():
        for number in range(3000):
            fs.remove(f"/big/n{number}")
    fs.rmdir("/big")
    assert len(other.listdir("/big")) == 2999


def test_copies_of_one_directory_are_independent_within_a_generation(fs: AgentFS) -> None:
    """A write to a copied directory, or to its original, never shows in the other."""
    fs.mkdir("/a/deep", parents=True)
    fs.write("/a/deep/f", "old")
    fs.copy("/a", "/b")
    fs.copy("/b", "/c")
    fs.write("/b/deep/f", "new")
    fs.write("/a/deep/g", "extra")
    assert (fs.read("/a/deep/f"), fs.read("/b/deep/f"), fs.read("/c/deep/f")) == (
        b"old",
        b"new",
        b"old",
    )
    assert not fs.exists("/b/deep/g")
    assert not fs.exists("/c/deep/g")


def test_trees_of_two_thousand_levels_work(fs: AgentFS) -> None:
    """Making, copying on write, walking, comparing and merging do not depend on recursion."""
    deep = "/d" * 2000
    fs.mkdir(deep, parents=True)
    side = fs.fork("side")
    side.write(deep + "/f", "x")
    fs.write(deep + "/g", "y")
    assert len(list(fs.walk("/"))) == 2001
    assert [each.path for each in fs.merge("side").changes] == [deep + "/f"]
    assert fs.listdir(deep) == ["f", "g"]


def test_rename_follows_posix(fs: AgentFS) -> None:
    """Rename replaces files and empty directories and refuses cycles and mismatches."""
    fs.mkdir("/d/e", parents=True)
    fs.write("/d/f", "1")
    fs.write("/g", "2")
    fs.rename("/d/f", "/g")
    assert fs.read("/g") == b"1"
    assert not fs.exists("/d/f")
    with pytest.raises(agentfs.InvalidArgument):
        fs.rename("/d", "/d/e/x")
    with pytest.raises(agentfs.InvalidArgument):
        fs.copy("/d", "/d/e/x")
    with pytest.raises(agentfs.IsADirectory):
        fs.rename("/g", "/d")
    with pytest.raises(agentfs.NotADirectory):
        fs.rename("/d", "/g")
    fs.write("/d/e/f", "3")
    fs.mkdir("/n")
    with pytest.raises(agentfs.NotEmpty):
        fs.rename("/n", "/d")
    fs.rename("/d", "/n")
    assert fs.read("/n/e/f") == b"3"
    assert not fs.exists("/d/e")


def test_symbolic_links_are_followed_and_loops_end(fs: AgentFS) -> None:
    """Links resolve in the middle and at the end of a path; a loop gives ELOOP."""
    fs.mkdir("/d/e", parents=True)
    fs.write("/d/e/f", "x")
    fs.symlink("d/e", "/l")
    fs.symlink("../e/f", "/d/e/up")
    assert fs.read("/l/f") == fs.read("/d/e/up") == fs.read("/l/../l/up") == b"x"
    assert fs.readlink("/l") == "d/e"
    assert fs.lstat("/l").is_symlink
    assert fs.stat("/l").is_dir
    fs.symlink("/loop2", "/loop1")
    fs.symlink("/loop1", "/loop2")
    with pytest.raises(agentfs.TooManyLinks) as caught:
        fs.read("/loop1")
    assert caught.value.errno == errno.ELOOP
    fs.remove("/l")
    assert fs.exists("/d/e/f")


def test_bad_names_give_the_posix_errors(fs: AgentFS) -> None:
    """NUL, long names, long paths, relative paths and files used as directories are refused."""
    fs.write("/f", "x")
    fs.write("/" + "n" * 255, "x")
    fs.write("/é😀", "x")
    fs.write("/raw\udcff", "x")
    assert {"é😀", "raw\udcff"} <= set(fs.listdir("/"))
    for path, error in (
        ("/a\0b", agentfs.InvalidName),
        ("rel", agentfs.InvalidName),
        ("/" + "n" * 256, agentfs.NameTooLong),
        ("/a" * 5000, agentfs.NameTooLong),
        ("/f/g", NotADirectoryError),
        ("/missing/g", FileNotFoundError),
        ("/", IsADirectoryError),
    ):
        with pytest.raises(error):
            fs.write(path, "x")
    assert fs.read("/x/../f/.") == b"x"
    with pytest.raises(agentfs.PermissionDenied):
        fs.remove("/", recursive=True)


def test_modes_times_and_attributes_are_kept(fs: AgentFS) -> None:
    """Attributes of files and directories change without touching a snapshot."""
    fs.mkdir("/d")
    fs.write("/f", "x", mode=0o600)
    fs.snapshot("s")
    for path in ("/d", "/f"):
        fs.chmod(path, 0o700)
        fs.utime(path, 5)
        fs.setxattr(path, "user.k", b"\xff")
        assert (fs.stat(path).mode, fs.stat(path).mtime_ns) == (0o700, 5)
        assert fs.getxattr(path, "user.k") == b"\xff"
        assert fs.listxattr(path) == ["user.k"]
    assert fs.at("s").stat("/f").mode == 0o600
    assert fs.at("s").listxattr("/d") == []
    fs.removexattr("/f", "user.k")
    with pytest.raises(agentfs.NoAttribute):
        fs.getxattr("/f", "user.k")


def test_the_system_area_is_closed_to_ordinary_handles(tmp_path: Path) -> None:
    """Without `system` no door leads to /.fmos: not a path, a link, a listing or a diff."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as kernel:
        kernel.mkdir("/.fmos/memory", parents=True)
        kernel.write("/.fmos/memory/m", "secret")
        kernel.fork("quiet")
        kernel.on("quiet").write("/.fmos/memory/n", "more")
        with AgentFS.open(tmp_path / "a.afs") as fs:
            fs.symlink("/.fmos", "/door")
            fs.symlink("../.fmos/memory", "/door2")
            for path in ("/.fmos", "/x/../.fmos/memory/m", "/door/memory/m", "/door2/m"):
                with pytest.raises(PermissionError, match="belongs to the memory"):
                    fs.read(path)
            with pytest.raises(PermissionError):
                fs.rename("/.fmos", "/mine")
            assert fs.listdir("/") == ["door", "door2"]
            assert not [each for each in fs.walk("/") if "fmos" in each[0]]
            assert not list(fs.grep("secret"))
            assert not list(fs.glob("/**/m"))
            assert [each.path for each in fs.diff("main", "quiet")] == ["/door", "/door2"]
            fs.merge("quiet")
            with pytest.raises(PermissionError):
                fs.copy("/.fmos", "/mine")
        assert kernel.exists("/.fmos/memory/m")
        assert not kernel.exists("/.fmos/memory/n")


def test_walk_glob_and_grep_find_what_is_there(fs: AgentFS) -> None:
    """The searches agree on a small tree and skip binary files."""
    fs.mkdir("/src/pkg", parents=True)
    fs.write("/src/a.py", "import os\nx = 1\n")
    fs.write("/src/pkg/b.py", "import re\n")
    fs.write("/src/bin", b"import\0")
    assert [each[0] for each in fs.walk("/")] == ["/", "/src", "/src/pkg"]
    assert sorted(fs.glob("/src/**/*.py")) == ["/src/a.py", "/src/pkg/b.py"]
    assert list(fs.glob("/src/?.py")) == ["/src/a.py"]
    found = list(fs.grep(r"^import", "/src"))
    assert [(each.path, each.line) for each in found] == [("/src/a.py", 1), ("/src/pkg/b.py", 1)]


def test_host_trees_go_in_and_out_unchanged(tmp_path: Path) -> None:
    """put_tree and get_tree keep bytes, modes and links; the volume itself is skipped."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "f").write_bytes(b"x" * 50_000)
    (tree / "run").write_text("#!")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("sub/f")
    with AgentFS.open(tree / "own.afs") as fs:
        totals = fs.put_tree(tree, "/in", exclude=("*.pyc",))
        assert (totals.files, totals.directories) == (2, 2)
        assert any("own.afs" in each for each in totals.skipped)
        assert fs.read("/in/link") == b"x" * 50_000
        assert fs.stat("/in/run").mode == 0o755
        fs.get_tree("/in", tmp_path / "out")
        assert fs.fsck() == []
        with pytest.raises(agentfs.HostError):
            fs.put_tree(tmp_path / "missing", "/x")
    assert (tmp_path / "out" / "link").readlink() == Path("sub/f")
    assert (tmp_path / "out" / "run").stat().st_mode & 0o777 == 0o755


def test_last_names_are_those_of_a_sorted_listing(fs: AgentFS) -> None:
    """The last names come last first, in small and in large directories, below a name or all."""
    fs.mkdir("/d")
    for count in (0, 5, 700):
        with fs.transaction():
            for number in range(count):
                fs.write(f"/d/n{number * 7919 % 1000:03}é", b"")
        names = sorted(fs.listdir("/d"), reverse=True)
        assert fs.last_names("/d") == names
        assert fs.last_names("/d", 3) == names[:3]
        assert fs.last_names("/d", 2, before="n400") == [n for n in names if n < "n400"][:2]
    fs.write(os.fsdecode(b"/d/\xff"), b"")
    assert fs.last_names("/d", 1) == names[:1]
    assert fs.last_names("/", 5) == ["d"]


def test_reading_sees_one_state_while_others_commit(fs: AgentFS) -> None:
    """All calls inside `reading` answer from the state at its beginning."""
    fs.write("/f", b"old")
    with AgentFS.open(fs.path) as other:
        with fs.reading():
            assert fs.read("/f") == b"old"
            other.write("/f", b"new")
            assert fs.read("/f") == b"old"
        assert fs.read("/f") == b"new"
