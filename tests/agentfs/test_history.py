"""Time travel, retention and the journal that carries them."""

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

import agentfs
from agentfs import AgentFS

_SOAK = int(os.environ.get("AGENTFS_SOAK", "0") or 0)
_STEPS = 400 if _SOAK else 120
_NAMES = ("a", "b", "c")


def flat(fs: AgentFS) -> dict[str, Any]:
    """Return everything about the tree that a past state must have, by path."""
    found: dict[str, Any] = {"/": (fs.stat("/").mode, fs.listxattr("/"))}
    waiting = ["/"]
    while waiting:
        for entry in fs.scandir(waiting.pop()):
            stat = fs.lstat(entry.path)
            if stat.is_dir:
                waiting.append(entry.path)
                found[entry.path] = ("directory", stat.mode, fs.listxattr(entry.path))
            elif stat.is_symlink:
                found[entry.path] = ("symlink", fs.readlink(entry.path))
            else:
                found[entry.path] = ("file", stat.mode, stat.mtime_ns, fs.read(entry.path))
    return found | {f"kv {key}": fs.kv.get(key) for key in fs.kv.list()}


def head(fs: AgentFS) -> int:
    """Return the number of the newest journal row."""
    rows = fs.log(1)
    return max([row.seq for row in rows] + [row.seq for row in fs.journal()], default=0)


def a_path(chance: random.Random) -> str:
    """Return a path of up to three short names."""
    return "/" + "/".join(chance.choice(_NAMES) for _ in range(chance.randint(1, 3)))


def step(fs: AgentFS, chance: random.Random, number: int) -> None:
    """Do one random operation, which may fail."""
    one, two = a_path(chance), a_path(chance)
    data = bytes(chance.randrange(256) for _ in range(chance.choice((0, 3, 60)))) * 100
    branches = [each.name for each in fs.branches()]
    refs = branches + [each.name for each in fs.snapshots()]
    operations: list[tuple[int, Callable[[], Any]]] = [
        (8, lambda: fs.write(one, data)),
        (2, lambda: fs.append(one, data)),
        (1, lambda: fs.truncate(one, 5)),
        (8, lambda: fs.mkdir(one, parents=True)),
        (1, lambda: fs.rmdir(one)),
        (2, lambda: fs.remove(one, recursive=True)),
        (5, lambda: fs.rename(one, two)),
        (4, lambda: fs.copy(one, two)),
        (1, lambda: fs.symlink(two, one)),
        (3, lambda: fs.link(one, two)),
        (2, lambda: fs.chmod(chance.choice((one, "/")), chance.choice((0o700, 0o755)))),
        (2, lambda: fs.setxattr(one, f"user.{number}", b"x")),
        (1, lambda: fs.utime(one, number)),
        (1, lambda: fs.kv.set(chance.choice(_NAMES), number)),
        (1, lambda: fs.kv.delete(chance.choice(_NAMES))),
        (1, lambda: fs.snapshot(f"s{number}")),
        (1, lambda: fs.fork(f"b{number}") if len(branches) < 3 else None),
        (1, lambda: fs.restore(chance.choice([*refs, chance.randint(1, number + 1)]))),
        (1, lambda: fs.restore(chance.choice(refs), paths=[one, two])),
        (1, lambda: fs.merge(chance.choice(branches), strategy="theirs")),
        (1, lambda: fs.gc()),
        (1, lambda: fs.at(chance.randint(1, number + 1)).listdir()),
        (1, lambda: fs.put_tree(Path(__file__).parent / "__init__.py", one)),
    ]
    weights = [weight for weight, _ in operations]
    with suppress(agentfs.AgentFSError, OSError):
        chance.choices([each for _, each in operations], weights)[0]()


@pytest.mark.parametrize("seed", range(20 * _SOAK or 2))
def test_every_past_state_is_as_it_was(tmp_path: Path, seed: int) -> None:
    """After random operations on several branches, each row gives the state that was recorded."""
    chance = random.Random(seed)
    states: dict[tuple[str, int], dict[str, Any]] = {}
    with AgentFS.open(tmp_path / "a.afs") as fs:
        for number in range(_STEPS):
            step(fs.on(chance.choice(fs.branches()).name), chance, number)
            seq = head(fs)
            for branch in fs.branches():
                states.setdefault((branch.name, seq), flat(fs.on(branch.name)))
        for branch, seq in chance.sample(sorted(states), len(states)):
            past = flat(fs.on(branch).at(seq))
            assert (seed, branch, seq, past) == (seed, branch, seq, states[branch, seq])
        assert fs.fsck(read_data=True) == []


def test_a_moment_has_many_forms(tmp_path: Path) -> None:
    """A row's number, a time, an age and a name lead to the same state."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", "one")
        before = time.time_ns()
        moment = datetime.now(UTC)
        while time.time_ns() // 1000 == before // 1000:
            pass
        fs.write("/f", "two")
        fs.snapshot("12")
        fs.write("/f", "three")
        for form in (1, "@1", f"ns:{before}", moment, moment.isoformat()):
            assert fs.at(form).read("/f") == b"one", form
        assert fs.at(moment.astimezone(datetime.now().astimezone().tzinfo)).read("/f") == b"one"
        assert fs.at("-0s").read("/f") == b"three"
        assert fs.at("12").read("/f") == b"two"
        assert fs.at(1).branch == "main@1"
        assert fs.at(1).at(2).read("/f") == fs.at("12").at(2).read("/f") == b"two"


def test_ambiguous_moments_name_the_forms(tmp_path: Path) -> None:
    """A bare number, a time without zone and an unknown name are refused with an explanation."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", "one")
        for text in ("1", "2026-11-21", "2026-11-21T16:00:00", "-3", "@x1", "12 o'clock"):
            with pytest.raises((agentfs.InvalidArgument, agentfs.BranchNotFound), match="-2h"):
                fs.at(text)
        with pytest.raises(agentfs.InvalidArgument, match="time zone"):
            fs.at(datetime(2026, 11, 21))
        with pytest.raises(agentfs.BranchNotFound):
            fs.at("nowhere")


def test_moments_outside_the_history_name_what_is_kept(tmp_path: Path) -> None:
    """The future, the time before the volume and before a fork are no empty trees."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", "one")
        assert fs.at(0).listdir() == []
        child = fs.fork("child")
        for moment in (99, -1, datetime.now(UTC) - timedelta(days=1), "-1w"):
            with pytest.raises(agentfs.NotFound, match="kept from journal row 0"):
                fs.at(moment)
        with pytest.raises(agentfs.NotFound, match="made by journal row 2"):
            child.at(1)
        assert child.at(2).read("/f") == b"one"


def test_views_are_read_only_and_do_not_move(tmp_path: Path) -> None:
    """A view refuses writes, stays as it is, and does not change what the branch has."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", "one")
        fs.write("/f", "two")
        view = fs.at(1)
        with pytest.raises(agentfs.ReadOnly):
            view.write("/f", "x")
        fs.write("/f", "three")
        assert (view.read("/f"), fs.read("/f"), fs.at(2).read("/f")) == (b"one", b"three", b"two")
        assert {each.name for each in fs.branches()} == {"main"}
        assert fs.snapshots() == []


def test_rows_of_one_transaction_are_moments_of_their_own(tmp_path: Path) -> None:
    """The state after a row in the middle of a transaction has only what came before it."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        with fs.transaction():
            fs.write("/one", "1")
            fs.write("/two", "2")
        assert fs.at(1).listdir() == ["one"]
        assert fs.at(2).listdir() == ["one", "two"]


def test_a_directory_changed_later_is_not_newer_than_the_moment(tmp_path: Path) -> None:
    """The time of a directory in a past state is never after that state."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/d")
        fs.write("/d/one", "1")
        when = next(iter(fs.journal(since=1))).time_ns
        fs.write("/d/two", "2")
        assert fs.at(2).stat("/d").mtime_ns <= when


def test_past_states_cost_rows_once(tmp_path: Path) -> None:
    """The tree of a moment is made once and found again, also by another handle."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        for number in range(20):
            fs.write("/f", str(number))
        fs.at(5)
        rows = fs.stats().nodes
        with AgentFS.open(path) as other:
            assert other.at(5).read("/f") == b"4"
        assert fs.stats().nodes == rows


def test_journal_filters_join(tmp_path: Path) -> None:
    """Branch, principal, operation, path and both ends narrow the rows, one after the other."""
    with AgentFS.open(tmp_path / "a.afs", principal="ann") as fs:
        fs.mkdir("/d")
        fs.write("/d/f", "1")
        fs.write("/dd", "2")
        fs.rename("/d/f", "/g")
        fs.fork("b").on("b", principal="bob").write("/d/f", "3")
        raw = os.fsdecode(b"/d/\xff")
        fs.write(raw, "4")
        assert [each.path for each in fs.journal(path="/d")] == ["/d", "/d/f", "/d/f", "/d/f", raw]
        assert [each.seq for each in fs.journal(path="/g")] == [4]
        assert [each.seq for each in fs.journal(principal="bob")] == [6]
        assert [each.seq for each in fs.journal(branch="b", operation="write")] == [6]
        assert [each.seq for each in fs.journal(since=1, until=3)] == [2, 3]
        assert [each.seq for each in fs.journal(path="/d", limit=2, since=1)] == [2, 4]


# -- retention -----------------------------------------------------------------------------------


def test_retention_replaces_old_rows_by_a_checkpoint(tmp_path: Path) -> None:
    """Older rows go, the chain goes on from the checkpoint, and older moments name the range."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        assert fs.retention() == 30 * 24 * 3600
        for number in range(10):
            fs.write("/f", str(number) * 10_000)
        assert fs.gc().journal_rows == 0
        fs.set_retention(0)
        result = fs.gc(sign=lambda digest: b"signed " + digest)
        assert result.journal_rows == 11
        assert result.nodes >= 9
        assert [each.operation for each in fs.journal()] == ["gc.journal"]
        fs.write("/f", "new")
        check = fs.verify_journal()
        assert (check.ok, check.rows) == (True, 2)
        assert fs.fsck(read_data=True) == []
        with pytest.raises(agentfs.NotFound, match="kept from journal row 11"):
            fs.at(5)
        assert fs.at(11).read("/f") == b"9" * 10_000
    signature = apsw.Connection(str(tmp_path / "a.afs")).execute("SELECT signature FROM checkpoint")
    assert signature.get.startswith(b"signed ")


def test_rows_removed_behind_the_back_of_the_chain_are_found(tmp_path: Path) -> None:
    """Neither a missing row, nor a forged checkpoint passes; the honest one does."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        for number in range(10):
            fs.write("/f", str(number))
        fs.gc(retention=0)
        for number in range(5):
            fs.write("/f", str(number))
        assert fs.verify_journal().ok
        database = apsw.Connection(str(path))
        database.execute("UPDATE checkpoint SET hash = zeroblob(32)")
        assert not fs.verify_journal().ok
    with AgentFS.open(tmp_path / "b.afs") as fs:
        for number in range(10):
            fs.write("/f", str(number))
        database = apsw.Connection(str(tmp_path / "b.afs"))
        database.execute(
            "INSERT INTO checkpoint SELECT seq, time_ns, hash, 4, NULL FROM journal WHERE seq = 4"
        )
        database.execute("DELETE FROM journal WHERE seq <= 4")
        assert fs.verify_journal().first_bad_seq == 4
        assert [each.invariant for each in fs.fsck()] == [7]


def test_only_gc_writes_its_own_rows(tmp_path: Path) -> None:
    """An upper layer cannot record the row that lets journal rows go."""
    with AgentFS.open(tmp_path / "a.afs") as fs, pytest.raises(agentfs.InvalidArgument):
        fs.record("gc.journal", {"until": 100})


def test_a_restored_directory_of_hard_links_can_be_undone(tmp_path: Path) -> None:
    """The moment before a restore to the very same directory has the links it had."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/d")
        fs.write("/d/x", b"one")
        fs.link("/d/x", "/d/y")
        fs.snapshot("s")
        fs.write("/beside", b"")
        before, seq = flat(fs), head(fs)
        fs.restore("s", paths=["/d"])
        fs.write("/d/y", b"two")
        assert flat(fs.at(seq)) == before
