"""Forks, snapshots, diff, merge, restore, the journal and extensions."""

import random
from pathlib import Path

import apsw
import pytest

import agentfs
from agentfs import AgentFS

TABLES = ("node", "entry", "bucket_ref", "chunk", "branch", "snapshot", "journal")


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume, and check its structure at the end."""
    with AgentFS.open(tmp_path / "a.afs") as handle:
        yield handle
        assert handle.fsck(read_data=True) == []


def rows(fs: AgentFS) -> dict[str, int]:
    """Count the rows of each table."""
    connection = apsw.Connection(str(fs.path))
    return {each: connection.execute(f"SELECT count(*) FROM {each}").get for each in TABLES}


def growth(fs: AgentFS, action) -> dict[str, int]:
    """Return by how many rows each table grew."""
    before = rows(fs)
    action()
    after = rows(fs)
    return {each: after[each] - before[each] for each in TABLES if after[each] != before[each]}


def test_fork_snapshot_and_copy_cost_a_constant_number_of_rows(fs: AgentFS) -> None:
    """With a thousand files they write the same rows as with one."""
    fs.mkdir("/d")
    with fs.transaction():
        for number in range(1000):
            fs.write(f"/d/{number}", "x")
    assert growth(fs, lambda: fs.fork("f")) == {"branch": 1, "journal": 1}
    assert growth(fs, lambda: fs.snapshot("s")) == {"snapshot": 1, "journal": 1}
    assert growth(fs, lambda: fs.copy("/d", "/e")) == {"node": 1, "entry": 2, "journal": 1}


def test_forks_are_isolated_in_both_directions(fs: AgentFS) -> None:
    """What either side of a fork writes is never seen by the other."""
    fs.mkdir("/d")
    fs.write("/d/f", "base")
    child = fs.fork("child")
    fs.write("/d/f", "main")
    fs.write("/d/mine", "x")
    child.write("/d/f", "child")
    child.mkdir("/d/theirs")
    assert (fs.read("/d/f"), child.read("/d/f")) == (b"main", b"child")
    assert fs.listdir("/d") == ["f", "mine"]
    assert child.listdir("/d") == ["f", "theirs"]


def test_a_snapshot_never_changes(fs: AgentFS) -> None:
    """Writes after a snapshot copy what it holds; the view of it is read-only."""
    fs.mkdir("/d")
    fs.write("/d/f", "then")
    fs.snapshot("s", message="first")
    fs.write("/d/f", "now")
    fs.remove("/d", recursive=True)
    view = fs.at("s")
    assert view.read("/d/f") == b"then"
    assert view.read_only
    with pytest.raises(agentfs.ReadOnly):
        view.write("/x", "x")
    assert [(each.name, each.message) for each in fs.snapshots()] == [("s", "first")]


def test_restore_sets_all_or_some_paths_back_and_keeps_history(fs: AgentFS) -> None:
    """A restore brings the old tree back; the journal only grows."""
    fs.mkdir("/d")
    fs.write("/d/f", "1")
    fs.snapshot("s")
    fs.write("/d/f", "2")
    fs.write("/d/g", "2")
    fs.write("/h", "2")
    fs.restore("s", paths=["/d/f", "/d/g"])
    assert fs.read("/d/f") == b"1"
    assert not fs.exists("/d/g")
    assert fs.exists("/h")
    before = len(list(fs.journal()))
    fs.restore("s")
    assert fs.listdir("/") == ["d"]
    fs.write("/d/f", "3")
    assert fs.at("s").read("/d/f") == b"1"
    assert len(list(fs.journal())) == before + 2


def test_names_of_branches_and_snapshots_are_one_space(fs: AgentFS) -> None:
    """A taken, empty or unknown name gives a clear error."""
    fs.fork("a")
    fs.snapshot("s")
    for action in (
        lambda: fs.snapshot("a"),
        lambda: fs.fork("s"),
        lambda: fs.fork("main"),
    ):
        with pytest.raises(agentfs.RefExists):
            action()
    with pytest.raises(agentfs.InvalidName):
        fs.fork("")
    with pytest.raises(agentfs.BranchNotFound):
        fs.restore("nowhere")
    with pytest.raises(agentfs.BranchInUse):
        fs.delete_branch("main")
    fs.delete_branch("a")
    assert [each.name for each in fs.branches()] == ["main"]


def test_diff_lists_each_kind_of_change_sorted(fs: AgentFS) -> None:
    """Added, removed and modified paths appear once; rewritten equal bytes do not."""
    fs.mkdir("/d")
    for name in ("keep", "edit", "drop", "same"):
        fs.write(f"/d/{name}", "x" * 9000)
    other = fs.fork("o")
    other.write("/d/edit", "y")
    other.write("/d/same", "x" * 9000)
    other.remove("/d/drop")
    other.mkdir("/new")
    other.write("/new/f", "z")
    found = [(each.path, each.kind) for each in fs.diff("main", "o")]
    assert found == [
        ("/d/drop", "removed"),
        ("/d/edit", "modified"),
        ("/new", "added"),
        ("/new/f", "added"),
    ]
    assert [each.path for each in fs.diff("main", "o", path="/new")] == ["/new", "/new/f"]


def test_merge_brings_in_what_only_one_side_changed(fs: AgentFS) -> None:
    """Disjoint changes merge, twice in a row and in both directions, and stay isolated."""
    fs.mkdir("/d")
    fs.write("/d/a", "1")
    fs.write("/d/b", "1")
    side = fs.fork("side")
    side.write("/d/a", "2")
    side.mkdir("/d/new")
    fs.write("/d/b", "2")
    assert not fs.merge("side", dry_run=True).merged
    assert fs.read("/d/a") == b"1"
    result = fs.merge("side")
    assert [each.path for each in result.changes] == ["/d/a", "/d/new"]
    assert result.merged
    side.write("/d/new/late", "x")
    assert not fs.exists("/d/new/late")
    fs.remove("/d/a")
    assert [each.path for each in fs.merge("side").changes] == ["/d/new/late"]
    assert not fs.exists("/d/a")
    side.merge("main")
    assert side.listdir("/d") == ["b", "new"]
    assert side.read("/d/b") == b"2"


def test_merge_conflicts_are_typed_and_change_nothing(fs: AgentFS) -> None:
    """With "fail" every conflict is listed and the branch stays; strategies choose a side."""
    for name in ("both", "gone", "kind"):
        fs.write(f"/{name}", "1")
    side = fs.fork("side")
    side.write("/both", "theirs")
    side.remove("/gone")
    side.remove("/kind")
    side.mkdir("/kind")
    fs.write("/both", "ours")
    fs.write("/gone", "ours")
    fs.write("/kind", "ours")
    count = len(list(fs.journal()))
    with pytest.raises(agentfs.MergeConflict) as caught:
        fs.merge("side")
    found = [(each.path, each.kind) for each in caught.value.conflicts]
    assert found == [("/both", "content"), ("/gone", "delete/modify"), ("/kind", "type")]
    assert len(list(fs.journal())) == count
    assert fs.read("/both") == b"ours"
    fs.fork("keep").merge("side", strategy="ours")
    assert fs.on("keep").read("/gone") == b"ours"
    fs.merge("side", strategy="theirs")
    assert fs.read("/both") == b"theirs"
    assert not fs.exists("/gone")
    assert fs.is_dir("/kind")


def test_a_changed_journal_row_is_found(tmp_path: Path) -> None:
    """An edited and a removed row both break the chain; the first bad number is given."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        for number in range(5):
            fs.write(f"/{number}", "x")
        fs.record("op.intent", {"tool": "shell"}, path="/1")
        check = fs.verify_journal()
        assert check.ok
        assert check.rows == 6
        assert [each.detail for each in fs.journal(operation="op.intent")] == [{"tool": "shell"}]
        assert [each.seq for each in fs.journal(since=3, limit=2)] == [4, 5]
    apsw.Connection(str(path)).execute("UPDATE journal SET path = '/evil' WHERE seq = 3")
    with AgentFS.open(path) as fs:
        assert fs.verify_journal().first_bad_seq == 3
        assert [each.invariant for each in fs.fsck()] == [7]
    apsw.Connection(str(path)).execute("DELETE FROM journal WHERE seq = 2")
    with AgentFS.open(path) as fs:
        assert fs.verify_journal().first_bad_seq == 3


def test_a_failed_inner_transaction_undoes_only_itself(fs: AgentFS) -> None:
    """Nested transactions are savepoints; journal rows and caches go back with them."""
    with fs.transaction():
        fs.mkdir("/kept")
        with pytest.raises(RuntimeError), fs.transaction():
            fs.write("/kept/lost", "x")
            fs.mkdir("/lost")
            raise RuntimeError
        fs.write("/kept/f", "x")
    with pytest.raises(RuntimeError), fs.transaction():
        fs.fork("never")
        fs.write("/kept/never", "x")
        raise RuntimeError
    assert fs.listdir("/") == ["kept"]
    assert fs.listdir("/kept") == ["f"]
    assert [each.operation for each in fs.journal()] == ["mkdir", "write"]
    assert fs.verify_journal().ok
    assert len(fs.branches()) == 1


def test_extension_tables_share_the_transaction(fs: AgentFS) -> None:
    """A full-text index commits and rolls back with the file that it describes."""
    ddl = """
        CREATE TABLE IF NOT EXISTS ext_memory_item (node INTEGER PRIMARY KEY, path TEXT);
        CREATE VIRTUAL TABLE IF NOT EXISTS ext_memory_text USING fts5(body);
    """
    memory = fs.extension("memory", ddl)
    with pytest.raises(agentfs.TransactionRequired):
        memory.execute("DELETE FROM ext_memory_item")
    for keep in (True, False):
        try:
            with fs.transaction():
                fs.write("/m", f"the heron {keep}")
                node = fs.stat("/m").node
                memory.execute("INSERT INTO ext_memory_item VALUES (?, '/m')", (node,))
                memory.execute(
                    "INSERT INTO ext_memory_text(rowid, body) VALUES (?, 'heron')", (node,)
                )
                if not keep:
                    raise RuntimeError
        except RuntimeError:
            pass
    query = "SELECT rowid FROM ext_memory_text WHERE ext_memory_text MATCH 'heron'"
    assert memory.query(query) == [(fs.stat("/m").node,)]
    assert fs.extension("memory", ddl).query("SELECT path FROM ext_memory_item") == [("/m",)]
    with pytest.raises(agentfs.ExtensionError):
        fs.extension("memory", "CREATE TABLE other (x)")
    with pytest.raises(agentfs.ExtensionError):
        fs.extension("memory", "DROP TABLE node")


class Model:
    """The engine's promises as plain dictionaries: path to bytes, or None for a directory."""

    def __init__(self) -> None:
        """Begin with an empty main branch."""
        self.trees: dict[str, dict[str, bytes | None]] = {"main": {}}
        self.snapshots: dict[str, dict[str, bytes | None]] = {}

    def subtree(self, branch: str, path: str) -> dict[str, bytes | None]:
        """Return what is at and below a path, by the rest of the path."""
        tree = self.trees[branch]
        return {k[len(path) :]: v for k, v in tree.items() if (k + "/").startswith(path + "/")}

    def drop(self, branch: str, path: str) -> None:
        """Remove what is at and below a path."""
        for rest in self.subtree(branch, path):
            del self.trees[branch][path + rest]

    def put(self, branch: str, path: str, below: dict[str, bytes | None]) -> None:
        """Place a subtree at a path."""
        self.trees[branch].update({path + rest: value for rest, value in below.items()})


def actual(fs: AgentFS) -> dict[str, bytes | None]:
    """Read a whole branch."""
    found: dict[str, bytes | None] = {}
    for directory, _, _ in fs.walk("/"):
        for entry in fs.scandir(directory):
            found[entry.path] = None if entry.stat.is_dir else fs.read(entry.path)
    return found


def random_path(chance: random.Random) -> str:
    """Return a path of one to three short names."""
    return "".join(f"/{chance.choice('abcde')}" for _ in range(chance.randint(1, 3)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_operations_agree_with_a_dictionary(fs: AgentFS, seed: int) -> None:
    """Over 600 random steps, every branch and snapshot is what a plain dictionary says."""
    chance, model = random.Random(seed), Model()
    for step in range(600):
        branch = chance.choice(sorted(model.trees))
        random_step(fs.on(branch), branch, model, chance, step)
        if step % 40 == 0:
            assert all(actual(fs.on(each)) == tree for each, tree in model.trees.items())
    assert all(actual(fs.on(each)) == tree for each, tree in model.trees.items())
    assert all(actual(fs.at(each)) == tree for each, tree in model.snapshots.items())
    assert fs.verify_journal().ok


def random_step(fs: AgentFS, branch: str, model: Model, chance: random.Random, step: int) -> None:
    """Do one operation on both sides; where the engine refuses, the model stays."""
    one, two = random_path(chance), random_path(chance)
    action = chance.choices(
        ["write", "mkdir", "rename", "remove", "copy", "fork", "snapshot", "restore"],
        [8, 6, 3, 2, 4, 0.3, 0.5, 0.4],
    )[0]
    try:
        if action == "write":
            data = str(step).encode() * chance.choice([1, 5000])
            fs.write(one, data)
            model.put(branch, one, {"": data})
        elif action == "mkdir":
            fs.mkdir(one)
            model.put(branch, one, {"": None})
        elif action == "remove":
            fs.remove(one, recursive=True)
            model.drop(branch, one)
        elif action in ("rename", "copy"):
            below = model.subtree(branch, one)
            getattr(fs, action)(one, two)
            if action == "rename" and one != two:
                model.drop(branch, one)
            model.drop(branch, two)
            model.put(branch, two, below)
        elif action == "fork":
            fs.fork(f"b{step}")
            model.trees[f"b{step}"] = dict(model.trees[branch])
        elif action == "snapshot":
            fs.snapshot(f"s{step}")
            model.snapshots[f"s{step}"] = dict(model.trees[branch])
        elif model.snapshots:
            ref = chance.choice(sorted(model.snapshots))
            fs.restore(ref)
            model.trees[branch] = dict(model.snapshots[ref])
    except OSError:
        pass
