"""Hard links: several names of one file."""

from collections.abc import Callable
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume with a hard-linked file, and check its structure at the end."""
    with AgentFS.open(tmp_path / "a.afs") as handle:
        handle.mkdir("/d")
        handle.write("/d/a", "one\n")
        handle.link("/d/a", "/d/b")
        yield handle
        assert handle.fsck(read_data=True) == []


def test_every_name_reads_and_writes_the_same_file(fs: AgentFS) -> None:
    """Content, mode, times and attributes are the file's, whichever name is used."""
    fs.append("/d/b", "two\n")
    assert fs.read("/d/a") == b"one\ntwo\n"
    fs.chmod("/d/a", 0o600)
    fs.setxattr("/d/b", "user.x", b"1")
    fs.utime("/d/b", 5)
    with fs.open("/d/a", "r+b") as file:
        file.seek(4)
        file.write(b"TWO")
    first, second = fs.stat("/d/a"), fs.lstat("/d/b")
    assert first == second
    assert (first.kind, first.mode, first.size, first.links) == ("file", 0o600, 8, 2)
    assert fs.getxattr("/d/a", "user.x") == b"1"
    assert fs.read_text("/d/b") == "one\nTWO\n"
    assert fs.scandir("/d")[0].stat == first
    fs.write("/d/b", b"x" * 100_000)
    assert fs.read("/d/a", 99_999) == b"x"


def test_the_file_goes_with_its_last_name(fs: AgentFS) -> None:
    """A removed name leaves the others; the count follows."""
    fs.link("/d/b", "/c")
    assert fs.stat("/c").links == 3
    fs.remove("/d/a")
    assert fs.stat("/c").links == 2
    fs.remove("/d", recursive=True)
    assert (fs.read("/c"), fs.stat("/c").links) == (b"one\n", 1)
    fs.remove("/c")
    assert fs.listdir("/") == []
    assert fs.quota() == agentfs.Quota(None, None, 0, 0)


def test_wrong_sources_and_targets_are_refused(fs: AgentFS) -> None:
    """A directory, a symbolic link and a missing source, and a taken target, are errors."""
    fs.symlink("a", "/d/s")
    for source, target, error in (
        ("/d", "/x", agentfs.IsADirectory),
        ("/d/s", "/x", agentfs.InvalidArgument),
        ("/none", "/x", agentfs.NotFound),
        ("/d/a", "/d/b", agentfs.AlreadyExists),
        ("/d/a", "/none/x", agentfs.NotFound),
        ("/d/a", "/d/a/x", agentfs.NotADirectory),
        ("/d/a", "/.fmos/x", agentfs.PermissionDenied),
    ):
        with pytest.raises(error):
            fs.link(source, target)
    assert fs.stat("/d/a").links == 2


def test_rename_of_and_over_hard_links_is_that_of_posix(fs: AgentFS) -> None:
    """Onto another name of the file nothing happens; onto another file that name goes."""
    fs.rename("/d/a", "/d/b")
    assert fs.listdir("/d") == ["a", "b"]
    fs.write("/other", "other")
    fs.link("/other", "/another")
    fs.rename("/d/a", "/other")
    assert fs.stat("/another").links == 1
    fs.append("/other", "two\n")
    assert fs.read("/d/b") == b"one\ntwo\n"
    fs.write("/plain", "plain")
    fs.rename("/plain", "/d/b")
    assert (fs.read("/d/b"), fs.stat("/d/b").links, fs.stat("/other").links) == (b"plain", 1, 1)


def test_names_follow_a_moved_directory(fs: AgentFS) -> None:
    """After a directory moved, its names are still those of the file, and can be removed."""
    fs.link("/d/a", "/outside")
    fs.rename("/d", "/e")
    fs.write("/e/a", "new")
    assert fs.read("/outside") == fs.read("/e/b") == b"new"
    fs.remove("/e", recursive=True)
    assert fs.stat("/outside").links == 1


def test_a_copied_file_is_plain_and_a_copied_tree_has_links_of_its_own(fs: AgentFS) -> None:
    """Copies never share writes with what they were copied from."""
    fs.copy("/d/a", "/file")
    fs.copy("/d", "/e")
    fs.link("/d/a", "/outside")
    fs.write("/e/a", "copy")
    fs.write("/file", "file")
    assert fs.read("/e/b") == b"copy"
    assert fs.read("/d/b") == fs.read("/outside") == b"one\n"
    assert [fs.stat(each).links for each in ("/d/a", "/e/a", "/file")] == [3, 2, 1]
    fs.copy("/file", "/e/b")
    assert fs.read("/e/a") == b"file"


def test_links_follow_forks_snapshots_and_restores(fs: AgentFS) -> None:
    """A fork has its own file behind the names, and a restore brings names and file back."""
    fs.snapshot("s")
    other = fs.fork("other")
    other.write("/d/a", "other")
    other.remove("/d/b")
    assert (fs.read("/d/b"), fs.stat("/d/b").links) == (b"one\n", 2)
    assert (other.read("/d/a"), other.stat("/d/a").links) == (b"other", 1)
    other.restore("s")
    other.write("/d/b", "again")
    assert other.read("/d/a") == b"again"
    assert fs.at("s").read("/d/a") == b"one\n"


def test_restored_paths_are_linked_among_themselves(fs: AgentFS) -> None:
    """A path that was set back alone has the old content and leaves the others' file alone."""
    fs.snapshot("s")
    fs.write("/d/a", "new")
    fs.restore("s", ["/d/a"])
    assert (fs.read("/d/a"), fs.read("/d/b")) == (b"one\n", b"new")
    assert fs.stat("/d/b").links == 1
    fs.remove("/d", recursive=True)
    fs.restore("s", ["/d"])
    fs.write("/d/a", "both")
    assert fs.read("/d/b") == b"both"


def test_diff_shows_a_change_at_every_name(fs: AgentFS) -> None:
    """A changed file is modified at each of its names; a new name is an added file."""
    fs.snapshot("s")
    fs.link("/d/a", "/c")
    assert [(each.path, each.kind) for each in fs.diff("s", "main")] == [("/c", "added")]
    fs.write("/c", "longer than before\n")
    changes = list(fs.diff("s", "main"))
    assert [(each.path, each.kind) for each in changes] == [
        ("/c", "added"), ("/d/a", "modified"), ("/d/b", "modified"),
    ]  # fmt: skip
    assert changes[1].before is not None
    assert changes[1].after is not None
    assert (changes[1].before.size, changes[1].after.size) == (4, 19)
    assert [each.path for each in fs.diff("s", "main", "/d")] == ["/d/a", "/d/b"]
    fs.chmod("/c", 0o600)
    fs.write("/c", "one\n")
    assert [each.kind for each in fs.diff("s", "main", "/d")] == ["mode", "mode"]


def test_making_a_hard_link_is_no_change_of_the_file(fs: AgentFS) -> None:
    """The first link moves a file's node aside; that is not a change of its content."""
    fs.write("/p", "plain")
    fs.snapshot("s")
    fs.link("/p", "/q")
    assert [(each.path, each.kind) for each in fs.diff("s", "main")] == [("/q", "added")]


def test_a_merge_brings_writes_names_and_removals(fs: AgentFS) -> None:
    """Both sides' names and the one side's content come together."""
    other = fs.fork("other")
    other.write("/d/b", "theirs")
    other.link("/d/a", "/theirs")
    other.remove("/d/b")
    fs.link("/d/a", "/ours")
    result = fs.merge("other")
    assert [(each.path, each.kind) for each in result.changes] == [
        ("/d/a", "modified"), ("/d/b", "removed"), ("/ours", "modified"), ("/theirs", "added"),
    ]  # fmt: skip
    assert fs.stat("/ours").links == 3
    fs.write("/ours", "all")
    assert fs.read("/theirs") == fs.read("/d/a") == b"all"


def test_writes_on_both_sides_conflict_at_a_name(fs: AgentFS) -> None:
    """The conflict names a path that users know, and each strategy takes its side."""
    fs.fork("other").write("/d/b", "theirs")
    fs.write("/d/a", "ours")
    with pytest.raises(agentfs.MergeConflict) as caught:
        fs.merge("other")
    assert [(each.path, each.kind) for each in caught.value.conflicts] == [("/d/a", "content")]
    second = fs.fork("second")
    fs.merge("other", strategy="ours")
    second.merge("other", strategy="theirs")
    assert (fs.read("/d/b"), second.read("/d/a")) == (b"ours", b"theirs")


BOTH_SIDES: dict[str, tuple[Callable[[AgentFS], object], Callable[[AgentFS], object]]] = {
    "removed and written": (
        lambda fs: fs.remove("/d", recursive=True), lambda fs: fs.write("/d/a", "theirs"),
    ),
    "removed and renamed": (
        lambda fs: (fs.remove("/d/a"), fs.remove("/d/b")), lambda fs: fs.rename("/d/a", "/new"),
    ),
    "written and removed": (
        lambda fs: fs.write("/d/a", "ours"), lambda fs: (fs.remove("/d/a"), fs.remove("/d/b")),
    ),
    "linked by both": (lambda fs: fs.link("/d/a", "/x"), lambda fs: fs.link("/d/b", "/x")),
    "plain linked by both": (
        lambda fs: fs.link("/p", "/x"), lambda fs: fs.link("/p", "/y"),
    ),
    "plain written and linked": (
        lambda fs: fs.write("/p", "ours"), lambda fs: fs.link("/p", "/y"),
    ),
    "replaced and written": (
        lambda fs: (fs.remove("/d/a"), fs.write("/d/a", "plain")), lambda fs: fs.write("/d/b", "t"),
    ),
    "moved and written": (lambda fs: fs.rename("/d", "/e"), lambda fs: fs.write("/d/a", "theirs")),
    "moved and linked": (lambda fs: fs.rename("/d", "/e"), lambda fs: fs.link("/d/a", "/y")),
    "moved and removed": (lambda fs: fs.rename("/d", "/e"), lambda fs: fs.remove("/d/a")),
}  # fmt: skip


@pytest.mark.parametrize("strategy", ["ours", "theirs"])
@pytest.mark.parametrize("name", BOTH_SIDES)
def test_no_merge_leaves_names_and_files_apart(fs: AgentFS, name: str, strategy: str) -> None:
    """Whatever both sides did, every name has its file afterwards, and another merge is clean."""
    fs.write("/p", "plain")
    other = fs.fork("other")
    ours, theirs = BOTH_SIDES[name]
    ours(fs)
    theirs(other)
    fs.merge("other", strategy=strategy)  # type: ignore[arg-type]
    assert fs.fsck() == []
    for path, _, names in fs.walk("/"):
        for each in names:
            fs.read(f"{path}/{each}")
    assert fs.merge("other").conflicts == ()


def test_a_past_state_has_its_names_and_contents(fs: AgentFS) -> None:
    """Time travel over links, writes through them, moves and removals finds each state."""
    states: list[tuple[int, dict[str, tuple[bytes, int]]]] = []

    def note() -> None:
        seq = max(row.seq for row in fs.journal())
        found: dict[str, tuple[bytes, int]] = {}
        for path, _, names in fs.walk("/"):
            for each in names:
                where = f"{path.rstrip('/')}/{each}"
                found[where] = (fs.read(where), fs.stat(where).links)
        states.append((seq, found))

    steps: list[Callable[[], object]] = [
        lambda: fs.write("/d/a", "two"),
        lambda: fs.append("/d/b", "three"),
        lambda: fs.link("/d/b", "/c"),
        lambda: fs.rename("/d", "/e"),
        lambda: fs.copy("/e", "/f"),
        lambda: fs.write("/f/a", "copy"),
        lambda: fs.remove("/e/a"),
        lambda: fs.write("/c", "four"),
        lambda: fs.chmod("/c", 0o600),
        lambda: fs.remove("/e", recursive=True),
        lambda: fs.write("/p", "plain"),
        lambda: fs.rename("/p", "/c"),
        lambda: fs.link("/c", "/q"),
        lambda: fs.remove("/f", recursive=True),
    ]
    note()
    for step in steps:
        step()
        note()
    for seq, expected in reversed(states):
        past = fs.at(seq)
        found = [
            f"{path.rstrip('/')}/{each}" for path, _, names in past.walk("/") for each in names
        ]
        assert {each: (past.read(each), past.stat(each).links) for each in found} == expected, seq


def test_a_host_link_over_a_hard_link_takes_that_name_only(fs: AgentFS, tmp_path: Path) -> None:
    """Bringing in a symbolic link replaces the name and leaves the file to the others."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "a").symlink_to("target")
    fs.put_tree(tmp_path / "host", "/d")
    assert fs.readlink("/d/a") == "target"
    assert (fs.read("/d/b"), fs.stat("/d/b").links) == (b"one\n", 1)


def test_the_link_area_cannot_be_reached_by_any_path(fs: AgentFS) -> None:
    """No path, not even of a system handle, names the area, and no listing shows it."""
    system = fs.on("main", system=True)
    for handle in (fs, system):
        assert handle.listdir("/") == ["d"]
        assert [each.name for each in handle.scandir("/")] == ["d"]
        for path in ("//links", "/links", "/d/..//links"):
            assert not handle.exists(path)
    assert [path for path, _, _ in system.walk("/")] == ["/", "/d"]


def test_fsck_finds_and_repairs_names_without_their_file(tmp_path: Path) -> None:
    """A name that the area lost is a finding; repair keeps what is whole and lets go the rest."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/a", "one")
        fs.link("/a", "/b")
        with fs.view_for_writing() as view:
            view.session.execute(
                "DELETE FROM entry WHERE name IN (SELECT e.name FROM entry e JOIN node n"
                " ON n.id = e.node WHERE n.kind = 3 AND CAST(n.data AS TEXT) = '/b')"
            )
            view.session.execute(
                "UPDATE node SET entries = 2 WHERE id IN"
                " (SELECT bucket FROM entry WHERE name = 'file')"
            )
        assert {each.invariant for each in fs.fsck()} == {13}
        fs.fsck(repair=True)
        assert fs.fsck() == []
        assert (fs.read("/b"), fs.stat("/a").links) == (b"one", 2)
