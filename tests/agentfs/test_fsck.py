"""What fsck and verify find, what repair puts right, and what it leaves alone."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import agentfs
from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume with a large directory, a chunked file, a fork and a merge."""
    chance = random.Random(1)
    with AgentFS.open(tmp_path / "a.afs") as handle:
        with handle.transaction():
            handle.mkdir("/many")
            for number in range(400):
                handle.write(f"/many/{number}", str(number))
            handle.write("/large", chance.randbytes(300_000))
            handle.write("/small", "small")
            handle.symlink("small", "/link")
        child = handle.fork("child")
        child.write("/many/new", "new")
        handle.write("/many/other", "other")
        handle.merge("child")
        assert handle.fsck(read_data=True) == handle.verify() == []
        yield handle


def damage(fs: AgentFS, sql: str) -> None:
    """Change the volume behind the library's back."""
    database = apsw.Connection(str(fs.path))
    database.execute(sql).fetchall()
    assert database.total_changes() > 0
    database.close()


_DAMAGES = {
    "a missing node": ("DELETE FROM node WHERE id = (SELECT node FROM entry"
                       " WHERE name = '17')", {2}, "lost"),
    "a wrong count": ("UPDATE node SET entries = entries + 5 WHERE depth > 0", {3}, "nothing is"),
    "a missing slot": ("DELETE FROM bucket_ref WHERE slot = 1", {4}, ""),
    "a wrong bucket": ("UPDATE entry SET bucket = (SELECT max(bucket) FROM bucket_ref WHERE"
                       " directory = (SELECT max(directory) FROM bucket_ref))"
                       " WHERE name LIKE '%7' AND bucket"
                       " = (SELECT min(bucket) FROM bucket_ref WHERE directory"
                       " = (SELECT max(directory) FROM bucket_ref))", {4}, ""),
    "a wrong size": ("UPDATE node SET size = size + 1 WHERE layout > 0", {5}, "nothing is lost"),
    "shared generations": ("UPDATE meta SET value = 1 WHERE key = 'next_generation'", {8},
                           "nothing is lost"),
    "low counters": ("UPDATE meta SET value = 3 WHERE key IN ('next_node', 'next_chunk')", {9},
                     "nothing is lost"),
    "a missing point": ("DELETE FROM point WHERE id = (SELECT max(parent) FROM point_parent)", {11},
                        "forgotten"),
}  # fmt: skip


@pytest.mark.parametrize("name", _DAMAGES)
def test_what_follows_from_the_rest_is_put_right(fs: AgentFS, name: str) -> None:
    """The finding names its invariant, the repair says what it did, and then nothing is left."""
    sql, invariants, said = _DAMAGES[name]
    damage(fs, sql)
    found = fs.fsck()
    assert {each.invariant for each in found} & invariants, found
    assert not any(each.repair for each in found)
    repaired = fs.fsck(repair=True)
    assert all(each.repair for each in repaired), repaired
    assert any(said in each.repair for each in repaired)
    assert fs.fsck(read_data=True) == []
    assert next(iter(fs.log(1))).operation == "fsck.repair"
    fs.write("/many/after", "x")
    fs.on("child").write("/many/after", "y")
    # A slot that no other one leads to the bucket of takes its names along, which the keyed hash
    # chooses anew in each volume; the repair has said so then.
    if not any("are lost" in each.repair for each in repaired):
        assert fs.read("/many/300") == b"300"
    assert fs.fsck(read_data=True) == []


_CONTENT = {
    "a chunk": "UPDATE chunk SET data = zeroblob(length(data)) WHERE id = 1",
    "an inline file": "UPDATE node SET data = CAST('smell' AS BLOB) WHERE data = CAST('small' AS"
    " BLOB) AND kind = 1",
    "a link's target": "UPDATE node SET data = CAST('smell' AS BLOB) WHERE kind = 3",
    "a list of chunks": "UPDATE node SET data = CAST(data || 'x' AS BLOB) WHERE layout > 0",
    "a missing chunk": "DELETE FROM chunk WHERE id = 1",
}


@pytest.mark.parametrize("name", _CONTENT)
def test_lost_content_is_found_and_never_invented(fs: AgentFS, name: str) -> None:
    """Repair leaves damaged content where it is, so that reading it stays an error."""
    damage(fs, _CONTENT[name])
    found = fs.fsck(read_data=True)
    assert {each.invariant for each in found} <= {5, 6}
    assert found
    assert fs.verify() or name == "a missing chunk"
    path = "/large" if "chunk" in name else "/link" if "link" in name else "/small"
    with pytest.raises(agentfs.Corrupt):
        fs.read(path)
    assert not any(each.repair for each in fs.fsck(read_data=True, repair=True))
    with pytest.raises(agentfs.Corrupt):
        fs.read(path)


def test_a_changed_journal_row_is_found_and_not_repaired(fs: AgentFS) -> None:
    """The chain is evidence: nobody makes it fit again."""
    damage(fs, "UPDATE journal SET path = '/forged' WHERE seq = 7")
    for found in (fs.fsck(), fs.verify(), fs.fsck(repair=True)):
        assert [(each.invariant, each.repair) for each in found] == [(7, "")]


def test_text_that_is_no_utf8_is_a_finding(fs: AgentFS) -> None:
    """A flipped byte in a name or a journal row is no traceback."""
    damage(fs, "UPDATE entry SET name = CAST(x'ff31' AS TEXT) WHERE name = '17'")
    damage(fs, "UPDATE journal SET operation = CAST(x'ff31' AS TEXT) WHERE seq = 7")
    assert {4, 7} <= {each.invariant for each in fs.fsck()}
    assert {each.invariant for each in fs.verify()} == {7}


def test_progress_is_told_and_names_the_part(fs: AgentFS) -> None:
    """Checking tells what it looks at."""
    told: list[str] = []
    fs.fsck(read_data=True, progress=lambda what, _count: told.append(what))
    fs.verify(progress=lambda what, _count: told.append(what))
    assert {"the file", "content", "the journal", "branch 'main'"} <= set(told)
