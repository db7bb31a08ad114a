"""Names and paths at their limits: the POSIX error for each, as the matching Python exception."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS

Call = Callable[[AgentFS, str], Any]
LEVELS = 1000


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume with a file, a directory with something in it and links."""
    with AgentFS.open(tmp_path / "a.afs") as opened:
        opened.write("/file", b"x")
        opened.mkdir("/dir")
        opened.write("/dir/below", b"y")
        opened.symlink("nowhere", "/dangling")
        opened.symlink("/circle", "/circle")
        opened.symlink("dir", "/to-dir")
        yield opened


READS: dict[str, Call] = {
    "read": lambda fs, path: fs.read(path),
    "open": lambda fs, path: fs.open(path, "rb"),
    "listdir": lambda fs, path: fs.listdir(path),
    "scandir": lambda fs, path: fs.scandir(path),
    "stat": lambda fs, path: fs.stat(path),
    "lstat": lambda fs, path: fs.lstat(path),
    "readlink": lambda fs, path: fs.readlink(path),
    "getxattr": lambda fs, path: fs.getxattr(path, "user.a"),
    "listxattr": lambda fs, path: fs.listxattr(path),
    "grep": lambda fs, path: list(fs.grep("x", path)),
    "walk": lambda fs, path: list(fs.walk(path)),
}
CHANGES: dict[str, Call] = {
    "truncate": lambda fs, path: fs.truncate(path, 1),
    "rmdir": lambda fs, path: fs.rmdir(path),
    "remove": lambda fs, path: fs.remove(path),
    "rename": lambda fs, path: fs.rename(path, "/target"),
    "copy": lambda fs, path: fs.copy(path, "/target"),
    "chmod": lambda fs, path: fs.chmod(path, 0o600),
    "utime": lambda fs, path: fs.utime(path),
    "setxattr": lambda fs, path: fs.setxattr(path, "user.a", b""),
    "removexattr": lambda fs, path: fs.removexattr(path, "user.a"),
    "patch": lambda fs, path: fs.open(path, "r+b"),
}
MAKES: dict[str, Call] = {
    "write": lambda fs, path: fs.write(path, b""),
    "append": lambda fs, path: fs.append(path, b""),
    "create": lambda fs, path: fs.open(path, "wb"),
    "mkdir": lambda fs, path: fs.mkdir(path),
    "symlink": lambda fs, path: fs.symlink("x", path),
    "rename to": lambda fs, path: fs.rename("/file", path),
    "copy to": lambda fs, path: fs.copy("/file", path),
}
ALL = READS | CHANGES | MAKES


def refused(fs: AgentFS, call: Call, path: str, error: type[OSError], number: int) -> None:
    """The call fails with this exception and number, and the exception is typed and clear."""
    before = sorted(fs.listdir("/"))
    with pytest.raises(error) as caught:
        call(fs, path)
    assert caught.value.errno == number
    assert str(caught.value.code).startswith("fs.")  # type: ignore[attr-defined]
    assert sorted(fs.listdir("/")) == before


@pytest.mark.parametrize("name", ALL)
def test_names_that_no_call_takes(fs: AgentFS, name: str) -> None:
    """256 bytes, 8,193 bytes, NUL, a relative path, an empty one, text without bytes."""
    call = ALL[name]
    refused(fs, call, "/" + "n" * 256, OSError, errno.ENAMETOOLONG)
    refused(fs, call, "/" + "é" * 128, OSError, errno.ENAMETOOLONG)
    refused(fs, call, "/dir" + "/abcdefg" * 1024, OSError, errno.ENAMETOOLONG)
    refused(fs, call, "/a\0b", OSError, errno.EINVAL)
    refused(fs, call, "relative", OSError, errno.EINVAL)
    refused(fs, call, "", OSError, errno.EINVAL)
    refused(fs, call, "/\ud800", OSError, errno.EINVAL)


@pytest.mark.parametrize("name", READS | CHANGES)
def test_what_is_not_there(fs: AgentFS, name: str) -> None:
    """FileNotFoundError for a missing name, and for one in a missing directory."""
    call = (READS | CHANGES)[name]
    refused(fs, call, "/none", FileNotFoundError, errno.ENOENT)
    refused(fs, call, "/none/below", FileNotFoundError, errno.ENOENT)


@pytest.mark.parametrize("name", MAKES)
def test_nothing_is_made_in_a_directory_that_is_not_there(fs: AgentFS, name: str) -> None:
    """FileNotFoundError, and the directory is not made on the side."""
    refused(fs, MAKES[name], "/none/new", FileNotFoundError, errno.ENOENT)


@pytest.mark.parametrize("name", ALL)
def test_a_file_where_a_directory_is_meant(fs: AgentFS, name: str) -> None:
    """NotADirectoryError for a path through a file, however long."""
    refused(fs, ALL[name], "/file/below", NotADirectoryError, errno.ENOTDIR)
    refused(fs, ALL[name], "/file/below/more", NotADirectoryError, errno.ENOTDIR)


@pytest.mark.parametrize("name", ["listdir", "scandir", "walk", "rmdir"])
def test_a_call_for_directories_on_a_file(fs: AgentFS, name: str) -> None:
    """NotADirectoryError."""
    refused(fs, ALL[name], "/file", NotADirectoryError, errno.ENOTDIR)


@pytest.mark.parametrize("name", ["read", "open", "write", "append", "create", "truncate", "patch",
                                  "remove", "rename to", "copy to"])  # fmt: skip
def test_a_directory_where_a_file_is_meant(fs: AgentFS, name: str) -> None:
    """IsADirectoryError, also through a link and for the root."""
    refused(fs, ALL[name], "/dir", IsADirectoryError, errno.EISDIR)


@pytest.mark.parametrize("name", ["mkdir", "symlink"])
def test_what_is_there_already(fs: AgentFS, name: str) -> None:
    """FileExistsError for a file, a directory, a dangling link and the root."""
    for path in ("/file", "/dir", "/"):
        refused(fs, ALL[name], path, FileExistsError, errno.EEXIST)


NOT_FOLLOWING = {"lstat", "readlink", "remove", "rename", "rmdir", "symlink", "rename to"}


@pytest.mark.parametrize("name", [each for each in ALL if each not in NOT_FOLLOWING])
def test_a_circle_of_links(fs: AgentFS, name: str) -> None:
    """ELOOP, not an endless search."""
    refused(fs, ALL[name], "/circle", OSError, errno.ELOOP)
    refused(fs, ALL[name], "/circle/below", OSError, errno.ELOOP)


def test_directories_in_the_way(fs: AgentFS) -> None:
    """ENOTEMPTY, EINVAL and the root that stays."""
    fs.mkdir("/other")
    refused(fs, lambda fs, path: fs.rmdir(path), "/dir", OSError, errno.ENOTEMPTY)
    refused(fs, lambda fs, path: fs.rename("/other", path), "/dir", OSError, errno.ENOTEMPTY)
    fs.mkdir("/dir/in")
    refused(fs, lambda fs, path: fs.rename("/dir", path), "/dir/in/it", OSError, errno.EINVAL)
    refused(fs, lambda fs, path: fs.rename("/dir", path), "/file", NotADirectoryError,
            errno.ENOTDIR)  # fmt: skip
    for name in ("rmdir", "remove", "rename"):
        with pytest.raises(OSError, match="'/'"):
            ALL[name](fs, "/")


def test_names_that_every_call_takes(fs: AgentFS) -> None:
    """255 bytes, any unicode, surrogates for raw bytes, and what shells and SQL find special."""
    names = [
        "n" * 255, "é" * 127, "e\u0301", "é", "日本語", "🙂" * 63, " ", ". .", "...", "..a", "-rf",
        "a\nb", "a\tb", "%", "_", "*", "?", "[x]", "'; DROP TABLE node; --", '"', "\\", "\x7f",
        "\x01", "a\udcff", "CON", "a:b", "\u202e", "\ufeff", "NULL", "0",
    ]  # fmt: skip
    for name in names:
        path = f"/dir/{name}"
        fs.write(path, name.encode("utf-8", "surrogateescape"))
        fs.rename(path, "/dir/moved")
        fs.copy("/dir/moved", path)
        fs.remove("/dir/moved")
        assert fs.stat(path).size == len(name.encode("utf-8", "surrogateescape"))
    assert fs.listdir("/dir") == sorted([*names, "below"])
    for name in names:
        assert fs.read(f"/dir/{name}") == name.encode("utf-8", "surrogateescape")
    assert fs.fsck(read_data=True) == []
    fs.fork("side").remove("/dir", recursive=True)
    assert len(list(fs.diff("main", "side"))) >= 1


def test_dots_are_no_names(fs: AgentFS) -> None:
    """`.` and `..` are resolved in the text and never stored; `..` stops at the root."""
    fs.write("/dir/./new", b"1")
    fs.write("/dir/../up", b"2")
    fs.write("/../../../dir/../top", b"3")
    assert (fs.read("/dir/new"), fs.read("/up"), fs.read("/top")) == (b"1", b"2", b"3")
    for path in ("/.", "/..", "/dir/..", "/dir/."):
        assert fs.stat(path).is_dir
        with pytest.raises(FileExistsError):
            fs.mkdir(path)
    assert {".", ".."}.isdisjoint(fs.listdir("/") + fs.listdir("/dir"))


def test_a_path_of_8192_bytes(fs: AgentFS) -> None:
    """The longest path can be made and read; one more byte is ENAMETOOLONG."""
    directory = "/" + "/".join(["d" * 127] * 63)  # 8,064 bytes
    fs.mkdir(directory, parents=True)
    path = f"{directory}/{'f' * 127}"
    assert len(path) == 8192
    fs.write(path, b"deep")
    assert fs.read(path) == b"deep"
    refused(fs, lambda fs, path: fs.write(path, b""), path + "f", OSError, errno.ENAMETOOLONG)
    fs.rename(path, "/short")
    assert fs.read("/short") == b"deep"


def test_a_thousand_levels(fs: AgentFS, tmp_path: Path) -> None:
    """Everything that walks a tree goes 1,000 levels down: no recursion limit is met."""
    deep = "/d" * LEVELS
    fs.mkdir(deep, parents=True)
    fs.write(f"{deep}/file", b"needle")
    fs.snapshot("deep")
    side = fs.fork("side")
    side.write(f"{deep}/file", b"changed")
    assert [each.path for each in fs.diff("main", "side")] == [f"{deep}/file"]
    fs.merge("side")
    assert fs.read(f"{deep}/file") == b"changed"
    assert sum(1 for _ in fs.walk("/")) == LEVELS + 2
    assert [each.path for each in fs.grep("changed")] == [f"{deep}/file"]
    assert list(fs.glob("/**/file")) == ["/file", f"{deep}/file"]
    assert fs.stats().directories == LEVELS + 2
    fs.copy("/d", "/copy")
    assert fs.read(f"/copy{'/d' * (LEVELS - 1)}/file") == b"changed"
    fs.restore("deep", paths=["/d"])
    assert fs.read(f"{deep}/file") == b"needle"
    assert fs.fsck(read_data=True) == []
    fs.remove("/d", recursive=True)
    if hasattr(fs, "gc"):
        fs.gc()
    assert fs.at("deep").read(f"{deep}/file") == b"needle"
    assert fs.fsck(read_data=True) == []
