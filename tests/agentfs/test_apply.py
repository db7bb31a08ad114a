"""Applying a branch to its host directory: every kind of change, guarded path by path."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.agentfs.hosttree import seen
from tests.agentfs.reliability.test_disk_full import in_a_child, small_disk, without_rights

from agentfs import AgentFS, NotFound, ReadOnly, hostwrite
from agentfs.errors import AgentFSError, HostChanged, HostError, InvalidArgument
from agentfs.types import Applied

NOT_UTF8 = os.fsdecode(b"odd \xff\xfe")
LONG = "n" * 255
OLD_NS = 10**18


def lay(root: Path) -> None:
    """Make a host tree with a bit of everything and old times."""
    for name in ("dir/below", "empty", "full", "many"):
        (root / name).mkdir(parents=True)
    (root / "file").write_text("old file\n")
    (root / "other").write_text("old other\n")
    (root / "dir" / "inner").write_text("old inner\n")
    (root / "dir" / "below" / "deep").write_text("old deep\n")
    (root / "full" / "a").write_text("full a\n")
    (root / "full" / "b").write_text("full b\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    (root / "link").symlink_to("file")
    (root / NOT_UTF8).write_text("odd\n")
    (root / "new\nline").write_text("line\n")
    for number in range(8):
        (root / "many" / str(number)).write_text(f"{number}\n")
    for each in root.rglob("*"):
        if not each.is_symlink():
            os.utime(each, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host tree; what is beside it must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("canary\n")
    (tmp_path / "host").mkdir()
    lay(tmp_path / "host")
    return tmp_path / "host"


@pytest.fixture(params=["/", "/p"])
def at(request: pytest.FixtureRequest) -> str:
    """The place of the overlay."""
    return request.param


@contextmanager
def over(host: Path, at: str = "/p") -> Iterator[AgentFS]:
    """Open a volume over a host tree; it and what is outside end as they should."""
    outside = seen(host.parent / "outside")
    with AgentFS.open(host.parent / "a.afs") as opened:
        opened.overlay(host, at)
        yield opened
        assert opened.fsck(read_data=True) == []
        assert opened.verify_journal().ok
    assert seen(host.parent / "outside") == outside
    assert leftovers(host) == []


@pytest.fixture
def fs(host: Path, at: str) -> Iterator[AgentFS]:
    """A volume over the host tree."""
    with over(host, at) as opened:
        yield opened


def leftovers(root: Path) -> list[str]:
    """Return the temporary files of apply below a directory."""
    return [
        os.path.join(where, each)
        for where, _, names in os.walk(root)
        for each in names
        if hostwrite.is_own(each)
    ]


def of_host(root: Path) -> dict[str, tuple[object, ...]]:
    """Return kinds, modes and content below a host directory."""
    found: dict[str, tuple[object, ...]] = {}
    for path, (mode, *_, content) in seen(root).items():
        assert isinstance(mode, int)
        kind = stat.S_IFMT(mode)
        bits = 0 if kind == stat.S_IFLNK else mode & 0o777
        found[path[len(str(root)) :].lstrip("/")] = (kind, bits, content)
    found.pop("")
    return found


def of_branch(fs: AgentFS) -> dict[str, tuple[object, ...]]:
    """Return the same of the branch's overlay."""
    at = fs.overlays()[0].at
    found: dict[str, tuple[object, ...]] = {}
    waiting = [at]
    while waiting:
        for entry in fs.scandir(waiting.pop()):
            name, mode = entry.path[len(at) :].lstrip("/"), entry.stat.mode & 0o777
            if entry.stat.is_dir:
                found[name] = (stat.S_IFDIR, mode, None)
                waiting.append(entry.path)
            elif entry.stat.kind == "symlink":
                found[name] = (stat.S_IFLNK, 0, fs.readlink(entry.path))
            else:
                found[name] = (stat.S_IFREG, mode, fs.read(entry.path))
    return found


def applied(fs: AgentFS, host: Path, *paths: str) -> Applied:
    """Apply without conflicts, as the dry run said; then host and branch agree."""
    said = fs.apply(paths or None, dry_run=True)
    result = fs.apply(paths or None)
    assert result.conflicts == ()
    assert [(each.kind, each.path) for each in result.changes] == [
        (each.kind, each.path) for each in said.changes
    ]
    if not paths:
        assert list(fs.host_diff()) == []
        assert fs.host_status() == []
        assert of_host(host) == of_branch(fs)
        assert fs.apply().changes == ()
    return result


def kinds(result: Applied, at: str) -> dict[str, str]:
    """Return the kind of each applied change by its path in the overlay."""
    return {each.path[len(at) :].lstrip("/"): each.kind for each in result.changes}


def conflicts(result: Applied, at: str) -> dict[str, str]:
    """Return the reason of each conflict by its path in the overlay."""
    return {each.path[len(at) :].lstrip("/"): each.reason for each in result.conflicts}


def put(fs: AgentFS, path: str, data: str) -> None:
    """Write a file and make the directories above it."""
    fs.mkdir(os.path.dirname(path), parents=True, exist_ok=True)
    fs.write(path, data)


class Paths:
    """Names paths of an overlay shortly."""

    def __init__(self, at: str) -> None:
        """Begin at an overlay's place."""
        self.at = at.rstrip("/")

    def __truediv__(self, path: str) -> str:
        """Return the path in the volume."""
        return f"{self.at}/{path}"


@pytest.fixture
def p(at: str) -> Paths:
    """The paths of the overlay."""
    return Paths(at)


# -- every kind of change -------------------------------------------------------------------------


def test_changes_of_every_kind_are_written(fs: AgentFS, host: Path, p: Paths, at: str) -> None:
    """Files, directories and links come, change and go, and nothing else is touched."""
    before = seen(host)
    fs.write(p / "file", "new file\n")
    put(fs, p / "dir/new/deeper/still", "made")
    fs.mkdir(p / "hollow/inside", parents=True)
    fs.symlink("dir/inner", p / "to")
    fs.remove(p / "link")
    fs.symlink("other", p / "link")
    fs.remove(p / "full", recursive=True)
    fs.remove(p / "new\nline")
    fs.append(p / NOT_UTF8, "more")
    fs.write(p / LONG, "long")
    fs.chmod(p / "run.sh", 0o700)
    fs.chmod(p / "empty", 0o711)
    fs.write(p / "nothing", b"")
    fs.truncate(p / "other", 0)
    found = kinds(applied(fs, host), at)
    assert found == {
        "file": "modified", "dir/new": "added", "dir/new/deeper": "added",
        "dir/new/deeper/still": "added", "hollow": "added", "hollow/inside": "added",
        "to": "added", "link": "modified", "full": "removed", "full/a": "removed",
        "full/b": "removed", "new\nline": "removed", NOT_UTF8: "modified", LONG: "added",
        "run.sh": "mode", "empty": "mode", "nothing": "added", "other": "modified",
    }  # fmt: skip
    after = seen(host)
    for name in ("dir/inner", "dir/below", "dir/below/deep", "many", "many/3"):
        assert after[str(host / name)] == before[str(host / name)], name


@pytest.mark.parametrize("new", ["file", "directory", "symlink"])
@pytest.mark.parametrize("old", ["file", "full", "link"])
def test_a_path_becomes_another_kind(
    fs: AgentFS, host: Path, p: Paths, at: str, old: str, new: str
) -> None:
    """A file, a full directory and a link each become each other kind."""
    fs.remove(p / old, recursive=True)
    if new == "file":
        fs.write(p / old, "it is a file")
    elif new == "symlink":
        fs.symlink("dir", p / old)
    else:
        put(fs, p / f"{old}/x/y", "below")
    same = {("file", "file"): "modified", ("link", "symlink"): "modified"}
    found = kinds(applied(fs, host), at)
    if (old, new) != ("full", "directory"):
        assert found[old] == same.get((old, new), "type")
    else:
        assert found == {"full/a": "removed", "full/b": "removed", "full/x": "added",
                         "full/x/y": "added"}  # fmt: skip


def test_a_directory_replaced_by_one_with_other_names(fs: AgentFS, host: Path, p: Paths) -> None:
    """What a new directory of the same name does not have goes."""
    fs.remove(p / "full", recursive=True)
    put(fs, p / "full/c", "c")
    applied(fs, host)
    assert os.listdir(host / "full") == ["c"]


def test_renames_swaps_and_cycles(fs: AgentFS, host: Path, p: Paths) -> None:
    """Contents change places although each is read from the host that is being written."""
    for names in (("file", "other"), ("many/1", "many/2", "many/3"), ("dir", "full")):
        fs.rename(p / names[0], p / "aside")
        for target, source in itertools.pairwise(names):
            fs.rename(p / source, p / target)
        fs.rename(p / "aside", p / names[-1])
    expected = of_branch(fs)
    applied(fs, host)
    assert of_host(host) == expected
    assert (host / "file").read_text() == "old other\n"
    assert (host / "many" / "3").read_text() == "1\n"
    assert (host / "full" / "below" / "deep").read_text() == "old deep\n"


def test_a_directory_nobody_listed_moves(host: Path) -> None:
    """A rename of a whole tree that was never looked into is written file by file."""
    for number in range(300):
        place = host / "tree" / str(number % 7) / str(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{number}\n")
    with over(host) as fs:
        fs.rename("/p/tree", "/p/dir/moved")
        expected = {
            f"dir/moved{name[4:]}": value
            for name, value in of_host(host).items()
            if name.startswith("tree")
        }
        applied(fs, host)
        assert {k: v for k, v in of_host(host).items() if k.startswith("dir/moved")} == expected
        assert not (host / "tree").exists()


def test_a_copied_file_is_independent_afterwards(fs: AgentFS, host: Path, p: Paths) -> None:
    """Copies, too, are on the host what they were in the branch, and stay readable there."""
    fs.copy(p / "file", p / "copy")
    fs.copy(p / "dir", p / "dir2")
    applied(fs, host)
    (host / "file").write_text("changed by the host\n")
    assert fs.read(p / "copy") == b"old file\n"
    assert [each.path for each in fs.host_status()] == [p / "file"]


def test_hard_links_of_the_branch_become_files(fs: AgentFS, host: Path, p: Paths) -> None:
    """Each name gets the content, and later writes through one reach both again."""
    fs.link(p / "file", p / "dir/second")
    fs.append(p / "dir/second", "more\n")
    applied(fs, host)
    assert (host / "file").read_bytes() == (host / "dir/second").read_bytes()
    fs.append(p / "file", "again\n")
    assert len(applied(fs, host).changes) == 2
    fs.remove(p / "file")
    applied(fs, host)


def test_host_hard_links_are_parted_where_one_changes(host: Path) -> None:
    """A name with a second one on the host is replaced alone, as in the branch."""
    os.link(host / "file", host / "twin")
    with over(host) as fs:
        fs.write("/p/file", "new\n")
        applied(fs, host)
        assert (host / "twin").read_text() == "old file\n"


def test_modes_and_times_are_the_branchs(fs: AgentFS, host: Path, p: Paths) -> None:
    """Permission bits and the time of a written file are kept; set-user-id is not."""
    fs.write(p / "file", "new", mode=0o640)
    fs.utime(p / "file", mtime_ns=1_234_567_890_123_456_789)
    fs.write(p / "suid", "#!", mode=0o6755)
    fs.write(p / "private", "x", mode=0o600)
    fs.write(p / "closed", "x", mode=0)
    fs.chmod(p / "run.sh", 0o4755)
    fs.mkdir(p / "sealed")
    fs.write(p / "sealed/in", "x")
    fs.chmod(p / "sealed", 0o555)
    fs.chmod(p / "dir", 0o500)
    fs.write(p / "dir/late", "x")
    applied(fs, host)
    info = (host / "file").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o640, 1_234_567_890_123_456_789)
    modes = {each: stat.S_IMODE((host / each).stat().st_mode) for each in os.listdir(host)}
    assert (modes["suid"], modes["run.sh"], modes["closed"]) == (0o755, 0o755, 0)
    assert (modes["sealed"], modes["dir"], modes["private"]) == (0o555, 0o500, 0o600)


def test_read_only_directories_for_a_plain_user() -> None:
    """New directories of mode 0555 and such that get it are filled first, those it leaves after."""

    def body(place: Path) -> None:
        root = place / "host"
        root.mkdir()
        lay(root)
        (root / "full").chmod(0o555)
        (root / "many").chmod(0o555)
        (root / "run.sh").chmod(0)
        with AgentFS.open(place / "a.afs") as fs:
            fs.overlay(root, "/p")
            fs.mkdir("/p/sealed")
            fs.write("/p/sealed/in", "x")
            fs.chmod("/p/sealed", 0o555)
            fs.write("/p/dir/late", "x")
            fs.chmod("/p/dir", 0o555)
            fs.chmod("/p/full", 0o755)
            fs.write("/p/full/c", "c")
            fs.chmod("/p/run.sh", 0o755)
            applied(fs, root)
            fs.write("/p/many/new", "x")
            result = fs.apply()
            assert conflicts(result, "/p") == {"many/new": "Permission denied"}
        for each in ("sealed", "dir", "many"):
            (root / each).chmod(0o755)

    without_rights(body)


def test_owner_and_attributes_of_a_replaced_file_stay(host: Path) -> None:
    """The new content has the old file's owner, group and user attributes, not its capability."""
    try:
        os.setxattr(host / "file", "user.note", b"kept")
    except OSError:
        pytest.skip("no extended attributes here")
    if os.getuid() == 0:
        os.chown(host / "file", 1234, 4321)
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(host / "file", "security.capability", capability)
    owner = (host / "file").stat()
    with over(host) as fs:
        fs.write("/p/file", "new")
        applied(fs, host)
    info = (host / "file").stat()
    assert (info.st_uid, info.st_gid) == (owner.st_uid, owner.st_gid)
    assert os.listxattr(host / "file") == ["user.note"]
    assert os.getxattr(host / "file", "user.note") == b"kept"


def test_a_group_directory_stays_one(host: Path) -> None:
    """The set-group-id bit of directories, which new ones inherit, is the host's."""
    (host / "full").chmod(0o2775)
    with over(host) as fs:
        fs.mkdir("/p/full/below")
        fs.chmod("/p/full", 0o755)
        applied(fs, host)
    assert stat.S_IMODE((host / "full").stat().st_mode) == 0o2755
    assert (host / "full" / "below").stat().st_mode & stat.S_ISGID


def test_deep_paths_and_long_names(host: Path) -> None:
    """300 directories in one another, and names as long as they may be."""
    with over(host) as fs:
        deep = "/p/" + "/".join(["d"] * 300)
        put(fs, f"{deep}/{LONG}", "bottom")
        put(fs, f"/p/{LONG}/{LONG}", "long")
        assert fs.apply().conflicts == ()
        assert os.listdir(host / deep[3:]) == [LONG]
        assert (host / LONG / LONG).read_text() == "long"
        fs.remove("/p/d", recursive=True)
        assert fs.apply().conflicts == ()
        assert not (host / "d").exists()


def test_large_files(fs: AgentFS, host: Path, p: Paths) -> None:
    """A file of many pieces is written whole, and one of the host is replaced by an edit of it."""
    data = os.urandom(1 << 20) * 11
    (host / "dir" / "large").write_bytes(data)
    fs.write(p / "made", data)
    with fs.open(p / "dir/large", "r+b") as file:
        file.seek(5_000_000)
        file.write(b"in the middle")
    applied(fs, host)
    assert (host / "made").read_bytes() == data
    assert (host / "dir/large").read_bytes()[5_000_000:5_000_013] == b"in the middle"


def test_many_directories_need_few_descriptors(host: Path) -> None:
    """More directories than a process may have files open are written, changed and removed."""

    def body() -> None:
        with over(host) as fs:
            for number in range(150):
                put(fs, f"/p/d{number}/x", "x")
                fs.chmod(f"/p/d{number}", 0o711)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (90, limits[1]))
            assert fs.apply().conflicts == ()
            for number in range(150):
                fs.write(f"/p/d{number}/x", "y")
            assert fs.apply().conflicts == ()
            for number in range(150):
                fs.remove(f"/p/d{number}", recursive=True)
            assert fs.apply().conflicts == ()
            assert not [each for each in os.listdir(host) if each.startswith("d1")]

    in_a_child(body)


def test_a_host_directory_with_an_odd_name(tmp_path: Path) -> None:
    """Its name has a newline and is not UTF-8, and so has a link that leads into it."""
    host = tmp_path / f"new\nline {NOT_UTF8}"
    (tmp_path / "outside").mkdir()
    host.mkdir()
    lay(host)
    with over(host) as fs:
        put(fs, f"/p/{NOT_UTF8}2/new\nline", "x")
        fs.symlink(f"{host}/{NOT_UTF8}", "/p/to\n")
        fs.remove(f"/p/{NOT_UTF8}")
        applied(fs, host, str(host / f"{NOT_UTF8}2"))
        applied(fs, host)


def test_a_volume_inside_its_own_host_directory_is_left_alone(tmp_path: Path) -> None:
    """A branch's file of that name, and a removed directory around it, are conflicts."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("x")
    with AgentFS.open(tmp_path / "sub" / "own.afs") as fs:
        fs.overlay(tmp_path, "/p")
        fs.write("/p/sub/own.afs", "mine")
        for dry_run in (True, False):
            assert set(conflicts(fs.apply(dry_run=dry_run), "/p")) == {"sub/own.afs"}
        fs.remove("/p/sub", recursive=True)
        for dry_run in (True, False):
            result = fs.apply(dry_run=dry_run)
            assert set(conflicts(result, "/p")) == {"sub"}
            assert set(kinds(result, "/p")) == {"sub/file"}
        assert fs.fsck() == []
    with AgentFS.open(tmp_path / "sub" / "own.afs") as fs:
        assert fs.host_status() == []


def test_special_files_and_own_names_are_not_written(
    fs: AgentFS, host: Path, p: Paths, at: str
) -> None:
    """A FIFO of the branch, and a name like apply's temporary ones, are conflicts."""
    own = f"{hostwrite.TEMPORARY}{'0' * 16}"
    fs.mknod(p / "pipe", stat.S_IFIFO | 0o600)
    fs.write(p / own, "x")
    fs.write(p / f"{hostwrite.TEMPORARY}mine", "x")
    result = fs.apply()
    assert set(conflicts(result, at)) == {"pipe", own}
    assert not (host / "pipe").exists()
    assert (host / f"{hostwrite.TEMPORARY}mine").read_text() == "x"


def test_the_project_folder_of_the_host_is_never_written(host: Path) -> None:
    """`.fmos` at the overlay's top is for people; the one of another directory is a name."""
    (host / ".fmos").mkdir()
    (host / ".fmos" / "policy").write_text("rules\n")
    with over(host) as fs:
        put(fs, "/p/.fmos/policy", "mine\n")
        put(fs, "/p/dir/.fmos/policy", "fine\n")
        for dry_run in (True, False):
            result = fs.apply(dry_run=dry_run)
            assert set(conflicts(result, "/p")) == {".fmos", ".fmos/policy"}
        assert (host / ".fmos" / "policy").read_text() == "rules\n"
        assert (host / "dir" / ".fmos" / "policy").read_text() == "fine\n"


# -- guards ---------------------------------------------------------------------------------------


def same_size_and_time(path: Path) -> None:
    """Write other bytes of the same length in place and set the time back."""
    info = path.stat()
    with path.open("r+b") as file:
        file.write(b"NEW")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def rewrite(path: Path) -> None:
    """Write something longer."""
    path.write_text("the host wrote this\n")


def replace(path: Path) -> None:
    """Move another file of the same length and time there."""
    info, beside = path.stat(), path.with_name("beside")
    beside.write_bytes(b"x" * info.st_size)
    os.utime(beside, ns=(info.st_atime_ns, info.st_mtime_ns))
    beside.rename(path)


def change_mode(path: Path) -> None:
    """Give it another mode."""
    path.chmod(0o606)


def become_a_directory(path: Path) -> None:
    """Put a directory there."""
    path.unlink()
    path.mkdir()


def become_a_link_out(path: Path) -> None:
    """Put a link there that leads to a file outside."""
    path.unlink()
    path.symlink_to("../outside/canary")


def become_a_fifo(path: Path) -> None:
    """Put a FIFO there, on which an ordinary open waits for ever."""
    path.unlink()
    os.mkfifo(path)


def move_the_parent_out(path: Path) -> None:
    """Replace its directory by a link to one outside, which has the name too."""
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.symlink_to("../outside")


def remove_the_parent(path: Path) -> None:
    """Remove its whole directory."""
    shutil.rmtree(path.parent)


CHANGES: list[Callable[[Path], None]] = [
    same_size_and_time, rewrite, replace, change_mode, Path.unlink, become_a_directory,
    become_a_link_out, become_a_fifo, move_the_parent_out, remove_the_parent,
]  # fmt: skip
EDITS: dict[str, Callable[[AgentFS, str], None]] = {
    "modified": lambda fs, path: fs.write(path, "the branch wrote this\n"),
    "mode": lambda fs, path: fs.chmod(path, 0o600),
    "type": lambda fs, path: (fs.remove(path), put(fs, f"{path}/below", "x"))[0],
    "link": lambda fs, path: (fs.remove(path), fs.symlink("deep", path))[0],
    "removed": lambda fs, path: fs.remove(path),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_what_the_host_changed_is_left_alone(
    host: Path, change: Callable[[Path], None], edit: str
) -> None:
    """Each change of the host under each change of the branch: a conflict, or no difference."""
    (host.parent / "outside" / "canary").chmod(0o644)
    (host.parent / "outside" / "inner").write_text("old inner\n")
    with over(host) as fs:
        fs.read("/p/dir/inner")
        fs.write("/p/file", "the rest is written\n")
        EDITS[edit](fs, "/p/dir/inner")
        change(host / "dir" / "inner")
        before = seen(host)
        said, result = fs.apply(dry_run=True), fs.apply()
        assert said.conflicts == result.conflicts
        both = change is become_a_directory and edit == "type"
        if both or (change in (Path.unlink, remove_the_parent) and edit == "removed"):
            assert result.conflicts == ()
            return
        assert "dir/inner" in conflicts(result, "/p")
        assert (host / "file").read_text() == "the rest is written\n"
        after = seen(host)
        for each in (str(host), str(host / "file")):
            del before[each], after[each]
        assert after == before


def test_a_touched_file_is_written(fs: AgentFS, host: Path, p: Paths) -> None:
    """Another time alone is no conflict where the content was read before."""
    for each in ("file", "other", "dir/inner"):
        fs.read(p / each)
    fs.write(p / "file", "new")
    fs.remove(p / "dir/inner")
    fs.rename(p / "other", p / "moved")
    for each in ("file", "other", "dir/inner"):
        (host / each).touch()
    assert len(applied(fs, host).changes) == 4
    assert (host / "moved").read_text() == "old other\n"


def test_a_moved_file_that_changed_underneath_is_left_alone(
    fs: AgentFS, host: Path, p: Paths, at: str
) -> None:
    """Its content is nowhere any more: neither its old name nor its new one is written."""
    fs.rename(p / "file", p / "moved")
    fs.copy(p / "other", p / "copied")
    (host / "file").write_text("the host wrote this\n")
    for dry_run in (True, False):
        result = fs.apply(dry_run=dry_run)
        assert set(conflicts(result, at)) == {"file", "moved"}
        assert set(kinds(result, at)) == {"copied"}
    assert not (host / "moved").exists()


def test_what_a_killed_run_left_is_cleared_away(fs: AgentFS, host: Path, p: Paths) -> None:
    """Temporary files beside what changed go, also if their own file is done; others stay."""
    mine = [host / f"{hostwrite.TEMPORARY}{each}" for each in ("notes", "0123", "0" * 15 + "g")]
    left = [host / each / f"{hostwrite.TEMPORARY}{'0f' * 8}" for each in (".", "full")]
    for each in (*mine, *left):
        each.write_text("x")
    fs.write(p / "file", "new\n")
    fs.listdir(p / "full")
    fs.remove(p / "full", recursive=True)
    fs.apply()
    assert leftovers(host) == []
    assert not (host / "full").exists()
    assert all(each.read_text() == "x" for each in mine)


def test_a_changed_directory_mode_is_left_alone(fs: AgentFS, host: Path, p: Paths, at: str) -> None:
    """A directory that both sides gave other modes, or one that goes, is a conflict."""
    fs.chmod(p / "dir", 0o711)
    fs.remove(p / "full", recursive=True)
    for each in ("dir", "full"):
        (host / each).chmod(0o700)
    for dry_run in (True, False):
        result = fs.apply(dry_run=dry_run)
        assert conflicts(result, at) == dict.fromkeys(
            ("dir", "full"), "its mode was changed on the host"
        )
    assert stat.S_IMODE((host / "dir").stat().st_mode) == 0o700


@pytest.mark.parametrize("becomes", ["nothing", "file", "symlink"])
def test_a_new_file_of_the_host_keeps_its_directory(
    fs: AgentFS, host: Path, p: Paths, at: str, becomes: str
) -> None:
    """A directory that the branch removed stays while the host has something new in it."""
    fs.listdir(p / "full")
    fs.remove(p / "full", recursive=True)
    if becomes == "file":
        fs.write(p / "full", "x")
    elif becomes == "symlink":
        fs.symlink("dir", p / "full")
    (host / "full" / "news").write_text("news\n")
    for dry_run in (True, False):
        result = fs.apply(dry_run=dry_run)
        assert conflicts(result, at) == {"full": "the host has news in it"}
        assert {"full/a", "full/b"} <= set(kinds(result, at))
    assert os.listdir(host / "full") == ["news"]
    (host / "full" / "news").unlink()
    fs.refresh_overlay()
    applied(fs, host)


def test_both_sides_made_the_same_or_another(fs: AgentFS, host: Path, p: Paths, at: str) -> None:
    """What both made counts as applied when it is the same, and is a conflict otherwise."""
    for each in ("same", "dirs/same", "dirs/other", "kind", "mode"):
        put(fs, p / each, "same\n")
    fs.symlink("file", p / "to")
    fs.symlink("file", p / "elsewhere")
    (host / "dirs").mkdir()
    for each in ("same", "dirs/same", "mode"):
        (host / each).write_text("same\n")
        (host / each).chmod(0o644)
    (host / "mode").chmod(0o600)
    (host / "dirs" / "other").write_text("host\n")
    (host / "kind").mkdir()
    (host / "to").symlink_to("file")
    (host / "elsewhere").symlink_to("other")
    for dry_run in (True, False):
        result = fs.apply(dry_run=dry_run)
        assert set(conflicts(result, at)) == {"dirs/other", "kind", "mode", "elsewhere"}
        assert set(kinds(result, at)) == {"same", "dirs", "dirs/same", "to"}
    assert {each.path for each in fs.host_diff()} == {each.path for each in result.conflicts}


@pytest.mark.parametrize("becomes", ["file", "symlink"])
def test_a_directory_that_was_replaced_already_is_only_noted(
    fs: AgentFS, host: Path, p: Paths, becomes: str
) -> None:
    """What a killed run has done, up to a directory that became a file or link, is no conflict."""
    list(fs.walk(p / "dir"))
    fs.remove(p / "dir", recursive=True)
    shutil.rmtree(host / "dir")
    if becomes == "file":
        fs.write(p / "dir", "x")
        (host / "dir").write_text("x")
        (host / "dir").chmod(0o644)
    else:
        fs.symlink("full", p / "dir")
        (host / "dir").symlink_to("full")
    assert len(applied(fs, host).changes) == 4


def test_links_that_lead_out(fs: AgentFS, host: Path, p: Paths, at: str) -> None:
    """They are conflicts unless asked for, and are written but never followed then."""
    for name, target in (
        ("absolute", "/etc/passwd"), ("dir/up", "../../outside/canary"), ("inside", "dir/../file"),
        ("new/up", "../../outside"), ("here", str(host / "file")),
    ):  # fmt: skip
        fs.mkdir(os.path.dirname(p / name), parents=True, exist_ok=True)
        fs.symlink(target, p / name)
    for dry_run in (True, False):
        result = fs.apply(dry_run=dry_run)
        assert set(conflicts(result, at)) == {"absolute", "dir/up", "new/up"}
    result = fs.apply(outside_links=True)
    assert result.conflicts == ()
    assert os.readlink(host / "new" / "up") == "../../outside"
    fs.remove(p / "new/up")
    put(fs, p / "new/up/canary", "through")
    (host / "dir" / "below" / "deep").unlink()
    applied(fs, host, "new")
    assert (host / "new" / "up" / "canary").read_text() == "through"


def test_a_read_of_another_branch_is_no_excuse(host: Path) -> None:
    """That another branch took the host's change over does not make it this one's."""
    with over(host) as fs:
        fs.write("/p/file", "main's\n")
        other = fs.fork("other")
        other.discard()
        same_size_and_time(host / "file")
        (host / "file").touch()
        other.refresh_overlay()
        assert other.read("/p/file").startswith(b"NEW")
        assert set(conflicts(fs.apply(), "/p")) == {"file"}
        assert (host / "file").read_text().startswith("NEW")


def test_a_removed_or_moved_overlay_writes_nothing(host: Path) -> None:
    """That a branch lost its overlay's directory does not empty the host."""
    before = seen(host)
    for edit in (
        lambda fs: fs.remove("/p", recursive=True), lambda fs: fs.rename("/p", "/q"),
        lambda fs: (fs.remove("/p", recursive=True), fs.write("/p", "file")),
    ):  # fmt: skip
        shutil.rmtree(host.parent / "volume", ignore_errors=True)
        (host.parent / "volume").mkdir()
        with AgentFS.open(host.parent / "volume" / "a.afs") as fs:
            fs.overlay(host, "/p")
            edit(fs)
            for paths in (None, ["file"]):
                with pytest.raises(InvalidArgument, match="agentfs discard /p"):
                    fs.apply(paths)
            fs.discard()
            assert of_branch(fs) == of_host(host)
            assert fs.fsck() == []
    assert seen(host) == before


def test_the_host_directory_itself_is_guarded(host: Path) -> None:
    """Where it is gone, moved or a link, nothing is written anywhere."""
    with over(host) as fs:
        fs.write("/p/file", "new")
        aside = host.with_name("aside")
        host.rename(aside)
        for change in (lambda: None, host.mkdir, lambda: (host.rmdir(), host.symlink_to(aside))):
            change()
            for call in (fs.apply, lambda: fs.apply(dry_run=True), fs.host_status):
                with pytest.raises(HostChanged):
                    call()
        assert (aside / "file").read_text() == "old file\n"
        host.unlink()
        aside.rename(host)
        applied(fs, host)


def test_calls_that_cannot_apply_are_refused(fs: AgentFS, host: Path, p: Paths) -> None:
    """Views cannot, though they can say what they would; nor can an open transaction."""
    fs.write(p / "file", "new")
    view = fs.at(fs.log()[0].seq)
    assert len(view.apply(dry_run=True).changes) == 1
    with pytest.raises(ReadOnly):
        view.apply()
    with pytest.raises(InvalidArgument, match="transaction"), fs.transaction():
        fs.apply()
    with AgentFS.open(host.parent / "plain.afs") as plain, pytest.raises(NotFound):
        plain.apply()
    assert (host / "file").read_text() == "old file\n"


# -- changes of the host in the middle of a run ---------------------------------------------------


class Interrupted(hostwrite.HostTree):
    """A host tree in which something happens right before the moment that counts."""

    happens: Callable[[str], None]

    def _place(self, relative: str, temporary: str, guard: hostwrite.Guard) -> None:
        super()._place(relative, temporary, self._late(relative, guard))

    def remove(self, relative: str, is_directory: bool, guard: hostwrite.Guard) -> None:
        """Let it happen, and remove."""
        self.happens(relative)
        super().remove(relative, is_directory, guard)

    def _late(self, relative: str, guard: hostwrite.Guard) -> hostwrite.Guard:
        def check() -> None:
            guard.check()
            self.happens(relative)

        return guard._replace(check=check)


@pytest.mark.parametrize("change", [same_size_and_time, rewrite, replace, become_a_directory,
                                    become_a_link_out, Path.unlink],
                         ids=lambda each: each.__name__)  # fmt: skip
def test_a_change_between_check_and_rename_is_kept(
    host: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """Files change places with what is there, and back when that was not what was checked."""
    done: list[str] = []

    def happens(relative: str) -> None:
        if relative in ("file", "dir/inner", "link") and relative not in done:
            done.append(relative)
            if not (host / relative).is_symlink():
                change(host / relative)
            else:
                (host / relative).unlink()
                (host / relative).symlink_to("elsewhere")

    monkeypatch.setattr(Interrupted, "happens", staticmethod(happens), raising=False)
    monkeypatch.setattr("agentfs.apply.HostTree", Interrupted)
    with over(host) as fs:
        fs.write("/p/file", "the branch wrote this\n")
        fs.remove("/p/dir/inner")
        fs.remove("/p/link")
        fs.symlink("other", "/p/link")
        result = fs.apply()
        assert sorted(done) == ["dir/inner", "file", "link"]
        expected = {"file", "dir/inner", "link"}
        assert set(conflicts(result, "/p")) == expected
        assert os.readlink(host / "link") == "elsewhere"
        shutil.copytree(host, host.parent / "again", symlinks=True)
        for each in ("file", "dir/inner"):
            other = host.parent / "expected"
            shutil.rmtree(other, ignore_errors=True)
            other.mkdir()
            lay(other)
            change(other / each)
            name = str(other / each)
            found = seen(host).get(str(host / each), (0,) * 8)
            wanted = seen(other).get(name, (0,) * 8)
            assert (found[0], found[-1]) == (wanted[0], wanted[-1])


def test_a_file_that_appears_meanwhile_is_kept(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put over what the host made right after it was looked for."""

    def happens(relative: str) -> None:
        if relative in ("new", "to"):
            (host / relative).write_text("the host's\n")

    monkeypatch.setattr(Interrupted, "happens", staticmethod(happens), raising=False)
    monkeypatch.setattr("agentfs.apply.HostTree", Interrupted)
    with over(host) as fs:
        fs.write("/p/new", "the branch's\n")
        fs.symlink("file", "/p/to")
        assert set(conflicts(fs.apply(), "/p")) == {"new", "to"}
        assert (host / "new").read_text() == (host / "to").read_text() == "the host's\n"


def test_a_host_that_is_hammered_loses_nothing(host: Path) -> None:
    """A writer that replaces files all the time finds each of its own, or the branch's, there."""
    stop = threading.Event()
    names = [f"many/{number}" for number in range(8)]
    last: dict[str, str] = {}

    def hammer() -> None:
        count = 0
        while not stop.is_set():
            for each in names[:4]:
                count += 1
                beside = host / "many" / "beside"
                beside.write_text(f"host {count}\n")
                last[each] = f"host {count}\n"
                beside.rename(host / each)

    with over(host) as fs:
        for each in names:
            fs.read(f"/p/{each}")
        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            for number in range(15):
                for each in names:
                    fs.write(f"/p/{each}", f"branch {number}\n")
                result = fs.apply()
                assert not set(conflicts(result, "/p")) & set(names[4:])
                for each in names:
                    text = (host / each).read_text()
                    assert text.endswith("\n")
                    assert text.startswith(("host", "branch")) or len(text) == 2, text
        finally:
            stop.set()
            thread.join()
        for each in names[:4]:
            assert (host / each).read_text() in (last[each], "branch 14\n")


def test_a_directory_that_becomes_a_link_all_the_time_leads_nowhere(host: Path) -> None:
    """While a directory and a link to one outside change places, nothing outside is touched."""
    stop = threading.Event()
    for name in ("inner", "new", "gone"):
        (host.parent / "outside" / name).write_text("outside\n")
    (host / "dir" / "gone").write_text("old gone\n")
    turns = 0

    def swap() -> None:
        nonlocal turns
        while not stop.is_set():
            (host / "dir").rename(host / "aside")
            (host / "dir").symlink_to("../outside")
            turns += 1
            (host / "dir").unlink()
            (host / "aside").rename(host / "dir")

    with over(host) as fs:
        fs.read("/p/dir/inner")
        fs.listdir("/p/dir/below")
        fs.remove("/p/dir/gone")
        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for number in range(60):
                fs.write("/p/dir/inner", f"{number}\n")
                fs.write("/p/dir/new", f"{number}\n")
                fs.chmod("/p/dir/below", 0o700 + number % 8)
                with suppress(HostChanged):
                    fs.apply()
        finally:
            stop.set()
            thread.join()
        assert turns
        fs.refresh_overlay()  # a removal may have been noted while the directory was away
        applied(fs, host)


def test_old_file_systems_work_without_the_exchange(
    fs: AgentFS, host: Path, p: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where renames cannot exchange, plain ones write and remove the same."""
    monkeypatch.setattr(hostwrite, "_renameat2", lambda: None)
    fs.write(p / "file", "new")
    fs.write(p / "made", "new")
    fs.symlink("file", p / "to")
    fs.remove(p / "other")
    applied(fs, host)


def test_a_second_apply_at_once_is_refused(fs: AgentFS, host: Path, p: Paths) -> None:
    """While one process applies, another one is told to wait; later it does its own."""
    fs.write(p / "file", "new")
    fs.write(p / "other", "new")
    errors: list[AgentFSError] = []

    def second(what: str, count: int) -> None:
        del what
        if count == 1:
            with pytest.raises(HostError, match="wait for it") as caught:
                fs.fork("second").apply()
            errors.append(caught.value)

    fs.apply(progress=second)
    assert [each.exit_code for each in errors] == [4]
    assert fs.on("second").apply(dry_run=True).conflicts == ()
    assert len(fs.on("second").apply().changes) == 2


# -- disks ----------------------------------------------------------------------------------------


def test_a_full_disk_stops_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """The error names the path; what was written is whole and noted, and nothing else is there."""
    with small_disk(tmp_path / "disk") as make_room, AgentFS.open(tmp_path / "a.afs") as fs:
        host = tmp_path / "disk" / "host"
        (host / "sub").mkdir(parents=True)
        (host / "old").write_bytes(bytes(300_000))
        fs.overlay(host, "/p")
        for number in range(6):
            fs.write(f"/p/sub/{number}", os.urandom(200_000))
        fs.write("/p/old", os.urandom(300_000))
        with pytest.raises(HostError, match=r"/sub/\d.*No space left.*is noted") as caught:
            fs.apply()
        assert caught.value.errno == errno.ENOSPC
        wanted = of_branch(fs)
        found = of_host(host)
        assert {name: found[name] for name in found if name != "old"} == {
            name: wanted[name] for name in found if name != "old"
        }
        assert 1 < len(found) < len(wanted)
        left = {each.path[3:] for each in fs.host_diff()}
        assert left == (set(wanted) - set(found)) | {"old"} - {
            each for each in found if found[each] == wanted[each]
        }
        assert leftovers(host) == []
        make_room()
        applied(fs, host)
        assert fs.fsck(read_data=True) == []


def test_a_read_only_host_is_a_clear_error(tmp_path: Path) -> None:
    """Nothing is written, nothing is lost, and it works once it can be written."""
    with small_disk(tmp_path / "disk") as make_room, AgentFS.open(tmp_path / "a.afs") as fs:
        make_room()
        (tmp_path / "disk" / "file").write_text("old\n")
        fs.overlay(tmp_path / "disk", "/p")
        fs.write("/p/file", "new\n")
        fs.remove("/p/file")
        fs.write("/p/made", "new\n")
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
        subprocess.run(remount, check=True, capture_output=True)
        try:
            with pytest.raises(HostError, match="Read-only file system") as caught:
                fs.apply()
            assert caught.value.errno == errno.EROFS
            assert len(fs.apply(dry_run=True).changes) == 2
        finally:
            remount[2] = "remount,rw"
            subprocess.run(remount, check=True, capture_output=True)
        applied(fs, tmp_path / "disk")


# -- branches and time ----------------------------------------------------------------------------


def test_the_past_keeps_what_the_host_had(fs: AgentFS, host: Path, p: Paths, at: str) -> None:
    """Forks, snapshots and past states read the old content after apply, and after gc too."""
    fs.fork("before")
    fs.snapshot("kept")
    seq = fs.log()[0].seq
    old = {name: value for name, value in of_host(host).items() if value[0] == stat.S_IFREG}
    fs.write(p / "file", "new\n")
    fs.remove(p / "dir", recursive=True)
    fs.rename(p / "full", p / "fuller")
    fs.chmod(p / "run.sh", 0o700)
    fs.chmod(p / "empty", 0o700)
    applied(fs, host)
    for round_ in range(2):
        for past in (fs.on("before"), fs.at("kept"), fs.at(seq)):
            for name, (_, mode, content) in old.items():
                assert past.read(p / name) == content, (round_, name)
                assert past.stat(p / name).mode & 0o777 == mode
            assert past.stat(p / "empty").mode == 0o755
            assert list(past.host_diff()) == []
        fs.gc()
    assert [each.operation for each in fs.log()][-1] != ""


def test_the_base_of_each_moment_is_that_moments(fs: AgentFS, host: Path, p: Paths) -> None:
    """At a moment before apply the diff against the host was what it was."""
    fs.write(p / "file", "new\n")
    fs.chmod(p / "empty", 0o711)
    put(fs, p / "made/in", "x")
    fs.remove(p / "full", recursive=True)
    seq = fs.log()[0].seq
    wanted = [(each.kind, each.path) for each in fs.host_diff()]
    applied(fs, host)
    done = fs.log()[0].seq
    fs.write(p / "file", "newer\n")
    fs.chmod(p / "empty", 0o700)
    assert [(each.kind, each.path) for each in fs.at(seq).host_diff()] == wanted
    assert list(fs.at(done).host_diff()) == []
    assert fs.at(seq).verify_journal().ok


def test_branches_apply_their_own_changes_only(host: Path) -> None:
    """What one branch applied is no change of another one; where both changed, it is a conflict."""
    with over(host) as fs:
        other = fs.fork("other")
        fs.write("/p/file", "main's\n")
        fs.write("/p/dir/inner", "main's\n")
        fs.write("/p/new", "main's\n")
        other.write("/p/other", "other's\n")
        other.write("/p/dir/inner", "other's\n")
        assert len(applied(fs, host).changes) == 3
        assert [each.path for each in other.host_diff()] == ["/p/dir/inner", "/p/other"]
        assert set(conflicts(other.apply(), "/p")) == {"dir/inner"}
        assert (host / "file").read_text() == (host / "new").read_text() == "main's\n"
        assert (host / "other").read_text() == "other's\n"
        other.refresh_overlay(keep_ours=True)
        assert other.apply().conflicts == ()
        assert of_branch(other) == of_host(host)
        assert (host / "dir" / "inner").read_text() == "other's\n"


def test_a_merge_of_one_that_applied_and_one_that_took_it_over(host: Path) -> None:
    """They agree, and nothing is left to apply."""
    with over(host) as fs:
        other = fs.fork("other")
        fs.write("/p/file", "main's\n")
        put(fs, "/p/new/in", "main's\n")
        fs.remove("/p/full", recursive=True)
        fs.apply()
        other.listdir("/p/full")
        other.refresh_overlay()
        other.write("/p/other", "other's\n")
        fs.merge("other")
        assert [each.path for each in fs.host_diff()] == ["/p/other"]
        applied(fs, host)


# -- selections, and giving up --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "dot", "slash", "volume", "host", "twice"])
def test_selections_name_paths_in_each_way(
    fs: AgentFS, host: Path, p: Paths, at: str, how: str
) -> None:
    """Relative, with dots and slashes, absolute in the volume or on the host, and overlapping."""
    put(fs, p / "new/deeper/file", "x")
    put(fs, p / "new/deeper/beside", "x")
    fs.write(p / "file", "new")
    chosen = {
        "plain": ["new/deeper/file"], "dot": ["./new/./deeper/../deeper/file"],
        "slash": ["new/deeper/file/"], "volume": [p / "new/deeper/file"],
        "host": [str(host / "new/deeper/file")],
        "twice": ["new/deeper/file", "new/deeper/file", p / "new/deeper/file"],
    }[how]  # fmt: skip
    assert set(kinds(applied(fs, host, *chosen), at)) == {"new", "new/deeper", "new/deeper/file"}
    assert os.listdir(host / "new" / "deeper") == ["file"]
    assert {each.path for each in fs.host_diff()} == {p / "file", p / "new/deeper/beside"}
    applied(fs, host, "new", "new/deeper")
    applied(fs, host)


def test_selections_that_mean_nothing_are_refused(fs: AgentFS, host: Path, p: Paths) -> None:
    """Unknown and unchanged paths are not found, and those outside are no paths of the overlay."""
    fs.write(p / "file", "new")
    for path in ("nowhere", "dir", "other", "/elsewhere/file", str(host.parent / "outside")):
        for call in (fs.apply, fs.discard):
            with pytest.raises(NotFound):
                call([path])
    for path in ("../x", "..", "dir/../../file", "../file"):
        with pytest.raises(InvalidArgument):
            fs.apply([path])
    with pytest.raises(NotFound):
        fs.apply(["file", "nowhere"])
    assert (host / "file").read_text() == "old file\n"


def test_discard_gives_the_base_back(fs: AgentFS, host: Path, p: Paths) -> None:
    """Some paths, then all; what was given up comes back from the history."""
    before = of_branch(fs)
    fs.write(p / "file", "new")
    fs.link(p / "file", p / "dir/second")
    fs.rename(p / "full", p / "fuller")
    fs.remove(p / "dir/below", recursive=True)
    fs.chmod(p / "empty", 0o700)
    fs.remove(p / "other")
    put(fs, p / "other/now/a/directory", "x")
    seq, edited = fs.log()[0].seq, of_branch(fs)
    assert {each.path for each in fs.discard(["dir/second", "./other/"])} == {
        p / "dir/second", p / "other", p / "other/now", p / "other/now/a",
        p / "other/now/a/directory",
    }  # fmt: skip
    assert fs.read(p / "other") == b"old other\n"
    assert fs.stat(p / "file").links == 1
    assert fs.read(p / "file") == b"new"
    assert fs.fsck() == []
    fs.discard(["dir/below/deep"])
    assert fs.read(p / "dir/below/deep") == b"old deep\n"
    fs.discard()
    assert list(fs.host_diff()) == []
    assert of_branch(fs) == before == of_host(host)
    assert fs.discard() == []
    fs.restore(seq)
    assert of_branch(fs) == edited
    applied(fs, host)


def test_a_quota_counts_what_apply_and_discard_do(host: Path) -> None:
    """The counted bytes and names agree with what is there, which fsck compares."""
    with over(host) as fs:
        with AgentFS.open(host.parent / "a.afs", system=True) as owner:
            owner.set_quota(bytes=10_000_000)
        fs.write("/p/file", os.urandom(50_000))
        put(fs, "/p/new/in", "x")
        fs.remove("/p/full", recursive=True)
        assert fs.fsck() == []
        applied(fs, host)
        assert fs.fsck() == []
        fs.write("/p/file", os.urandom(60_000))
        fs.remove("/p/dir", recursive=True)
        fs.discard()
        assert fs.fsck() == []
        (host / "other").write_text("host\n")
        fs.refresh_overlay()
        assert fs.fsck() == []


def test_what_the_host_gets_in_a_removed_directory_meanwhile_stays(tmp_path: Path) -> None:
    """A directory that nobody had looked into is pinned when the branch removes it."""
    host = tmp_path / "host"
    (host / "dir" / "deep").mkdir(parents=True)
    (host / "dir" / "deep" / "old").write_text("old")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.overlay(host, "/p")
        fs.remove("/p/dir", recursive=True)
        (host / "dir" / "deep" / "new").write_text("new")
        result = fs.apply()
        assert [each.path for each in result.changes] == ["/p/dir/deep/old"]
        assert {each.path for each in result.conflicts} == {"/p/dir", "/p/dir/deep"}
        assert (host / "dir" / "deep" / "new").read_text() == "new"


def test_a_file_named_like_the_volumes_own_is_never_written(tmp_path: Path) -> None:
    """What a command leaves beside the volume in its view cannot become the volume's log."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "f").write_text("f")
    with AgentFS.open(host / "a.afs") as fs:
        fs.overlay(host, "/p")
        fs.write("/p/a.afs-journal", b"evil")
        fs.write("/p/f", "g")
        result = fs.apply()
        assert [each.path for each in result.conflicts] == ["/p/a.afs-journal"]
        assert not (host / "a.afs-journal").exists()
        assert (host / "f").read_text() == "g"


@pytest.mark.parametrize("path", ["../f", "x/../../f"])
def test_discard_and_refresh_refuse_paths_that_lead_out(tmp_path: Path, path: str) -> None:
    """As in apply, `..` does not come back in by another way."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "f").write_text("f")
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.overlay(host, "/")
        fs.write("/f", "g")
        with pytest.raises(InvalidArgument, match="leads out"):
            fs.discard([path])
        with pytest.raises(InvalidArgument, match="leads out"):
            fs.refresh_overlay([path])
