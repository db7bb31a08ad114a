"""Keys with JSON values: state of a branch."""

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


def test_any_json_value_comes_back_as_it_was(fs: AgentFS) -> None:
    """Scalars, nested values and texts of any language are returned equal."""
    for value in (None, True, 0, -1.5, "", "žluťoučký\0\n", [], {"a": [1, {"b": None}]}):
        fs.kv.set("k", value)
        assert fs.kv.get("k", "missing") == value
    assert fs.kv.get("other") is None
    assert fs.kv.get("other", 7) == 7


def test_a_large_value_is_stored_as_chunks_and_comes_back(fs: AgentFS) -> None:
    """A value of megabytes is one key like any other."""
    value = {"rows": [f"row {each} " + "x" * 50 for each in range(40_000)]}
    fs.kv.set("large", value)
    assert fs.kv.get("large") == value


def test_keys_are_listed_by_prefix_whatever_they_hold(fs: AgentFS) -> None:
    """Keys with slashes, dots, percent signs and spaces stay themselves and are sorted."""
    keys = sorted(["a", "a/b", "a/../b", ".", "..", "50%", "50%25", " ", "ß", "a b"])
    for key in keys:
        fs.kv.set(key, key)
    assert fs.kv.list() == keys
    assert fs.kv.list("a/") == ["a/../b", "a/b"]
    assert fs.kv.list("zz") == []
    assert all(fs.kv.get(key) == key for key in keys)


def test_delete_says_whether_there_was_something(fs: AgentFS) -> None:
    """A deleted key is gone, and deleting it again changes nothing."""
    assert fs.kv.delete("k") is False
    fs.kv.set("k", 1)
    assert fs.kv.delete("k") is True
    assert fs.kv.delete("k") is False
    assert fs.kv.list() == []


def test_keys_follow_forks_restores_and_merges(fs: AgentFS) -> None:
    """A key is state of its branch: forked, set back and merged with the tree."""
    fs.kv.set("k", "base")
    fs.snapshot("s")
    other = fs.fork("other")
    other.kv.set("theirs", 1)
    fs.kv.set("ours", 2)
    assert other.kv.list() == ["k", "theirs"]
    fs.merge("other")
    assert fs.kv.list() == ["k", "ours", "theirs"]
    fs.restore("s")
    assert fs.kv.list() == ["k"]
    assert other.kv.get("theirs") == 1
    assert fs.at("s").kv.get("k") == "base"


def test_what_is_not_a_key_or_json_is_refused(fs: AgentFS) -> None:
    """Empty and too long keys, and values without a JSON form, change nothing."""
    for key, value in (("", 1), ("x" * 256, 1), ("k", {1, 2}), ("k", float("nan"))):
        with pytest.raises(agentfs.InvalidArgument):
            fs.kv.set(key, value)
    assert fs.kv.list() == []
    with pytest.raises(agentfs.ReadOnly):
        fs.at("main").kv.set("k", 1)


def test_keys_are_not_files_for_a_handle_without_system(fs: AgentFS) -> None:
    """The keys' files are in the system area, which plain calls do not reach."""
    fs.kv.set("k", 1)
    assert fs.listdir("/") == []
    with pytest.raises(agentfs.PermissionDenied):
        fs.read("/.fmos/kv/k")
    with pytest.raises(RuntimeError), fs.transaction():
        fs.kv.set("k", 2)
        raise RuntimeError
    assert fs.kv.get("k") == 1
