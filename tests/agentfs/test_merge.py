"""Three-way merge: the right base for any two branches, typed conflicts, nothing lost silently."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from agentfs import AgentFS, MergeConflict, MergeResult, directories, lineage


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A fresh volume, whose structure is checked at the end."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as handle:
        yield handle
        assert handle.fsck(read_data=True) == []


def conflicts_of(fs: AgentFS, name: str) -> list[tuple[str, str]]:
    """Merge, and return the conflicts that stopped it."""
    with pytest.raises(MergeConflict) as caught:
        fs.merge(name)
    return [(each.path, each.kind) for each in caught.value.conflicts]


def changed(result: MergeResult) -> list[tuple[str, str]]:
    """Return what a merge changed."""
    return [(each.path, each.kind) for each in result.changes]


def tree(fs: AgentFS) -> dict[str, bytes]:
    """Return all files."""
    return {each: fs.read(each) for each in fs.glob("/**") if fs.is_file(each)}


def prune(fs: AgentFS) -> None:
    """Let go of what no merge can need."""
    with fs.view_for_writing() as view:
        lineage.prune(view.session)


def test_siblings_merge_against_the_state_they_were_forked_from(fs: AgentFS) -> None:
    """What the parent changed later counts for neither of two siblings."""
    fs.write("/f", "1")
    left, right = fs.fork("left"), fs.fork("right")
    fs.write("/f", "main")
    left.write("/l", "x")
    right.remove("/f")
    assert changed(left.merge("right")) == [("/f", "removed")]
    assert tree(left) == {"/l": b"x"}
    assert fs.read("/f") == b"main"


def test_a_grandchild_merges_after_its_parent_was_deleted(fs: AgentFS) -> None:
    """A snapshot keeps the lineage of a deleted branch, also when gc pruned in between."""
    fs.write("/f", "1")
    child = fs.fork("child")
    child.write("/f", "2")
    child.snapshot("kept")
    fs.delete_branch("child")
    prune(fs)
    grandchild = fs.fork("grandchild", source="kept")
    grandchild.write("/g", "x")
    fs.write("/h", "x")
    prune(fs)
    assert changed(fs.merge("grandchild")) == [("/f", "modified"), ("/g", "added")]
    assert fs.merge("kept").changes == ()


def test_a_snapshot_merges_like_a_branch(fs: AgentFS) -> None:
    """Only what was there when the snapshot was taken is brought in."""
    side = fs.fork("side")
    side.write("/early", "x")
    side.snapshot("s")
    side.write("/late", "x")
    assert changed(fs.merge("s")) == [("/early", "added")]
    assert changed(fs.merge("side")) == [("/late", "added")]


def test_going_back_to_a_past_state_is_an_edit_and_a_fork_of_it_stands_alone(fs: AgentFS) -> None:
    """Going back keeps the common ancestors; a fork of a past state has none and says add/add."""
    fs.write("/f", "1")
    past = list(fs.journal())[-1].seq
    fs.write("/f", "2")
    side = fs.fork("side")
    side.write("/g", "x")
    fs.restore(past)
    assert changed(fs.merge("side")) == [("/g", "added")]
    assert tree(fs) == {"/f": b"1", "/g": b"x"}
    fork = fs.fork("fork", source=past)
    fork.write("/f", "3")
    assert conflicts_of(fs, "fork") == [("/f", "add/add")]


def test_after_a_restore_a_merge_brings_the_same_again(fs: AgentFS) -> None:
    """A restored branch stands where it was restored to, before the merge."""
    fs.write("/f", "1")
    fs.snapshot("before")
    fs.fork("side").write("/g", "x")
    fs.merge("side")
    assert fs.merge("side").changes == ()
    fs.restore("before")
    assert changed(fs.merge("side")) == [("/g", "added")]


def test_branches_merged_crosswise_have_the_merge_of_both_as_base(fs: AgentFS) -> None:
    """After m1 and s1 went both ways, an edit of what either brought is no conflict."""
    fs.write("/f", "1")
    fs.write("/g", "1")
    side = fs.fork("side")
    fs.write("/f", "main")
    side.write("/g", "side")
    fs.snapshot("m1")
    side.snapshot("s1")
    fs.merge("s1")
    side.merge("m1")
    prune(fs)
    fs.write("/f", "again")
    side.remove("/g")
    assert changed(side.merge("main")) == [("/f", "modified")]
    assert changed(fs.merge("side")) == [("/g", "removed")]
    assert tree(fs) == tree(side) == {"/f": b"again"}


def test_what_crosswise_merges_resolved_differently_is_in_conflict_again(fs: AgentFS) -> None:
    """Neither resolution is taken for an unchanged file, not even an empty one."""
    fs.write("/f", "1")
    side = fs.fork("side")
    fs.write("/f", "main")
    side.write("/f", "")
    fs.snapshot("m1")
    side.snapshot("s1")
    fs.merge("s1", strategy="ours")
    side.merge("m1", strategy="ours")
    assert conflicts_of(fs, "side") == [("/f", "content")]
    assert conflicts_of(side, "main") == [("/f", "content")]


def test_conflicts_have_a_kind_and_the_three_nodes(fs: AgentFS) -> None:
    """Content, add/add, delete/modify, type, mode and xattrs are told apart."""
    for name in ("content", "deleted", "type", "mode", "xattrs"):
        fs.write(f"/{name}", "1")
    side = fs.fork("side")
    for each, value in ((fs, "ours"), (side, "theirs")):
        each.write("/content", value)
        each.write("/added", value)
        each.setxattr("/xattrs", "same", b"1")
        each.setxattr("/xattrs", "user", value.encode())
    fs.chmod("/mode", 0o600)
    side.chmod("/mode", 0o700)
    base = side.stat("/deleted").node
    side.remove("/deleted")
    fs.write("/deleted", "2")
    fs.write("/type", "2")
    side.remove("/type")
    side.mkdir("/type")
    with pytest.raises(MergeConflict) as caught:
        fs.merge("side")
    found = {each.path: each for each in caught.value.conflicts}
    assert {path: each.kind for path, each in found.items()} == {
        "/added": "add/add",
        "/content": "content",
        "/deleted": "delete/modify",
        "/mode": "mode",
        "/type": "type",
        "/xattrs": "xattrs",
    }
    deleted = found["/deleted"]
    assert (deleted.base, deleted.ours, deleted.theirs) == (base, fs.stat("/deleted").node, None)


def test_strategies_choose_only_where_there_is_a_conflict(fs: AgentFS) -> None:
    """With ours or theirs, what only one side changed is merged all the same."""
    fs.write("/f", "1")
    fs.write("/g", "1")
    side = fs.fork("side")
    for each, value in ((fs, "ours"), (side, "theirs")):
        each.write("/f", value)
        each.write(f"/{value}", "x")
    side.chmod("/f", 0o600)
    copy = fs.fork("copy")
    copy.merge("side", strategy="theirs")
    fs.merge("side", strategy="ours")
    rest = {"/g": b"1", "/ours": b"x", "/theirs": b"x"}
    assert tree(fs) == rest | {"/f": b"ours"}
    assert tree(copy) == rest | {"/f": b"theirs"}
    assert fs.stat("/f").mode == copy.stat("/f").mode == 0o600


def test_content_mode_and_each_attribute_merge_on_their_own(fs: AgentFS) -> None:
    """One side may change the bytes of a file while the other changes its mode and attributes."""
    fs.write("/f", "1")
    fs.setxattr("/f", "old", b"1")
    side = fs.fork("side")
    fs.write("/f", "2")
    fs.setxattr("/f", "ours", b"1")
    side.chmod("/f", 0o600)
    side.setxattr("/f", "theirs", b"1")
    side.removexattr("/f", "old")
    fs.merge("side")
    assert (fs.read("/f"), fs.stat("/f").mode) == (b"2", 0o600)
    assert fs.listxattr("/f") == ["ours", "theirs"]


def test_texts_merge_by_line_and_binary_files_never(fs: AgentFS) -> None:
    """Different lines of one text merge; the same change of a binary file is a conflict."""
    lines = [f"line {each}\n" for each in range(1000)]
    fs.write("/text", "".join(lines))
    fs.write("/binary", "\0" + "".join(lines))
    side = fs.fork("side")
    for each, number in ((fs, 10), (side, 900)):
        edited = [*lines[:number], "edited\n", *lines[number + 1 :]]
        each.write("/text", "".join(edited))
    assert changed(fs.merge("side", dry_run=True)) == [("/text", "modified")]
    fs.merge("side")
    expected = list(lines)
    expected[10] = expected[900] = "edited\n"
    assert fs.read("/text").decode() == "".join(expected)
    for each in (fs, side):
        each.write("/binary", b"\0" + each.branch.encode() + b"\n" + fs.read("/text"))
    assert ("/binary", "content") in conflicts_of(fs, "side")


def test_an_edit_below_what_the_other_side_renamed_is_not_lost(fs: AgentFS) -> None:
    """A rename counts as a removal and an addition, so the edit is in conflict with it."""
    fs.mkdir("/d")
    fs.write("/d/f", "1")
    fs.write("/g", "1")
    side = fs.fork("side")
    side.write("/d/f", "edited")
    fs.rename("/d", "/moved")
    fs.rename("/g", "/h")
    assert conflicts_of(fs, "side") == [("/d", "delete/modify")]
    assert conflicts_of(side, "main") == [("/d", "delete/modify")]
    side.merge("main", strategy="ours")
    assert tree(side) == {"/d/f": b"edited", "/h": b"1", "/moved/f": b"1"}


def test_a_failed_merge_changes_nothing(fs: AgentFS) -> None:
    """Neither the tree, the journal nor the lineage keeps anything of it; nor of a dry run."""
    fs.write("/f", "1")
    side = fs.fork("side")
    for each in (fs, side):
        each.write("/f", each.branch)
    side.write("/new", "x")
    before = stored(fs)
    assert conflicts_of(fs, "side") == [("/f", "content")]
    tried = fs.merge("side", strategy="theirs", dry_run=True)
    assert changed(tried) == [("/f", "modified"), ("/new", "added")]
    assert not tried.merged
    assert stored(fs) == before


def stored(fs: AgentFS) -> list[Any]:
    """Return the rows of the tables that a merge writes."""
    connection = apsw.Connection(str(fs.path))
    tables = ("branch", "node", "entry", "point", "point_parent", "journal")
    return [connection.execute(f"SELECT * FROM {each}").fetchall() for each in tables]


def test_both_directions_give_the_same_tree(fs: AgentFS) -> None:
    """Disjoint changes merged either way around are the same."""
    fs.mkdir("/d")
    for number in range(300):
        fs.write(f"/d/{number}", "x")
    left, right = fs.fork("left"), fs.fork("right")
    left.write("/d/1", "left")
    right.remove("/d/2")
    right.write("/d/new", "x")
    fs.fork("copy", source="left")
    left.merge("right")
    right.merge("copy")
    assert list(fs.diff("left", "right")) == []


def test_a_merge_without_system_leaves_the_system_area_to_a_later_one(fs: AgentFS) -> None:
    """A plain handle brings files and keys, a system handle the rest, and nothing comes twice."""
    fs.mkdir("/.fmos/memory", parents=True)
    fs.write("/.fmos/memory/old", "1")
    fs.write("/f", "1")
    side = fs.fork("side")
    side.write("/.fmos/memory/new", "1")
    side.remove("/.fmos/memory/old")
    side.write("/f", "2")
    side.kv.set("key", 1)
    plain = fs.on("main", system=False)
    sub = side.fork("sub")
    assert changed(plain.merge("side")) == [("/f", "modified")]
    assert fs.kv.get("key") == 1
    assert fs.listdir("/.fmos/memory") == ["old"]
    assert plain.merge("side").changes == ()
    fs.write("/f", "1")
    sub.write("/sub", "x")
    assert changed(plain.merge("sub")) == [("/sub", "added")]
    prune(fs)
    assert changed(fs.merge("side")) == [
        ("/.fmos/memory/new", "added"),
        ("/.fmos/memory/old", "removed"),
    ]
    assert fs.merge("side").changes == ()
    assert fs.read("/f") == b"1"


def test_hard_links_merge_as_names_of_one_file(fs: AgentFS) -> None:
    """A name from one side and bytes from the other meet in one file."""
    fs.write("/a", "1\n2\n3\n4\n5\n")
    fs.link("/a", "/b")
    side = fs.fork("side")
    side.link("/a", "/c")
    side.write("/b", "1\n2\n3\n4\nfive\n")
    fs.write("/a", "one\n2\n3\n4\n5\n")
    fs.merge("side")
    assert {fs.read(each) for each in ("/a", "/b", "/c")} == {b"one\n2\n3\n4\nfive\n"}
    fs.write("/c", "same\n")
    assert fs.read("/a") == b"same\n"
    side.write("/a", "other\n")
    assert [each for each, _ in conflicts_of(fs, "side")] == ["/a"]


def test_a_hard_link_that_came_keeps_its_file(fs: AgentFS) -> None:
    """One side removes all old names while the other adds one: the new name keeps the bytes."""
    fs.write("/a", "x")
    fs.link("/a", "/b")
    side = fs.fork("side")
    side.link("/a", "/c")
    fs.remove("/a")
    fs.remove("/b")
    fs.merge("side")
    assert tree(fs) == {"/c": b"x"}


def test_a_hard_linked_file_goes_with_its_last_name(fs: AgentFS) -> None:
    """Each side removes another name: no name is left, and nothing hidden either."""
    fs.write("/a", "x")
    fs.link("/a", "/b")
    side = fs.fork("side")
    side.remove("/b")
    fs.remove("/a")
    fs.merge("side")
    with fs.view_for_reading() as view:
        assert directories.root(view).entries == 0


def test_a_removed_hard_link_is_in_conflict_with_an_edit(fs: AgentFS) -> None:
    """Removing all names of a file and editing it do not go together."""
    fs.write("/a", "x")
    fs.link("/a", "/b")
    side = fs.fork("side")
    side.write("/b", "edited")
    for name in ("/a", "/b"):
        fs.remove(name)
    assert [kind for _, kind in conflicts_of(fs, "side")] == ["delete/modify"]
    assert [kind for _, kind in conflicts_of(side, "main")] == ["delete/modify"]
    fs.merge("side", strategy="theirs")
    assert tree(fs) == {"/a": b"edited", "/b": b"edited"}


def test_a_merge_ends_for_names_that_only_differ_in_time(fs: AgentFS) -> None:
    """A touched file is unchanged: the other side's removal of it stands."""
    fs.write("/f", "1")
    side = fs.fork("side")
    side.remove("/f")
    fs.utime("/f", mtime_ns=1)
    fs.merge("side")
    assert tree(fs) == {}


def test_pruning_keeps_few_points(fs: AgentFS) -> None:
    """A hundred rounds of fork, merge and delete leave no states behind, with or without edits."""
    for number in range(100):
        side = fs.fork(f"b{number}")
        side.write(f"/{number}", "x")
        fs.write("/f", str(number))
        fs.merge(f"b{number}")
        fs.delete_branch(f"b{number}")
    prune(fs)
    connection = apsw.Connection(str(fs.path))
    assert connection.execute("SELECT count(*), count(root) FROM point").fetchall() == [(1, 0)]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM point WHERE id = (SELECT point FROM branch WHERE name = 'side')",
        "UPDATE point_parent SET parent = point",
        "UPDATE point SET root = NULL",
    ],
)
def test_fsck_finds_a_broken_lineage(tmp_path: Path, damage: str) -> None:
    """A missing point, a parent that is not older and a lost root are invariant 11."""
    path = tmp_path / "broken.afs"
    with AgentFS.open(path) as fs:
        fs.fork("side").write("/f", "x")
        fs.fork("other").write("/f", "y")
        fs.on("side").snapshot("s")
    apsw.Connection(str(path)).execute(damage)
    with AgentFS.open(path) as fs:
        assert {each.invariant for each in fs.fsck()} == {11}
