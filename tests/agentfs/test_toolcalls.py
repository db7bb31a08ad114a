"""The history of tool calls."""

from pathlib import Path

import apsw
import pytest

import agentfs
from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume, and check its structure at the end."""
    with AgentFS.open(tmp_path / "a.afs", principal="ada") as handle:
        yield handle
        assert handle.fsck() == []


def test_a_call_is_started_and_finished_once(fs: AgentFS) -> None:
    """A call runs, ends with a result or an error, and never ends twice."""
    good, bad = fs.toolcalls.start("search", {"q": "x"}), fs.toolcalls.start("search")
    assert fs.toolcalls.get(good).status == "running"
    assert fs.toolcalls.get(good).duration_ns is None
    fs.toolcalls.finish(good, ["hit"])
    fs.toolcalls.error(bad, "timed out")
    done, failed = fs.toolcalls.get(good), fs.toolcalls.get(bad)
    assert (done.status, done.arguments, done.result, done.error) == (
        "ok", {"q": "x"}, ["hit"], None,
    )  # fmt: skip
    assert (failed.status, failed.result, failed.error) == ("error", None, "timed out")
    assert (done.branch, done.principal) == ("main", "ada")
    assert done.duration_ns is not None
    assert done.duration_ns >= 0
    for again in (lambda: fs.toolcalls.finish(good), lambda: fs.toolcalls.error(bad, "again")):
        with pytest.raises(agentfs.InvalidArgument):
            again()
    assert fs.toolcalls.get(good) == done


def test_a_number_that_no_call_has_is_an_error(fs: AgentFS) -> None:
    """Get, finish and error name a call that does not exist."""
    for call in (fs.toolcalls.get, fs.toolcalls.finish, lambda n: fs.toolcalls.error(n, "x")):
        with pytest.raises(agentfs.NotFound):
            call(99)


def test_calls_are_filtered_newest_first(fs: AgentFS) -> None:
    """Each filter narrows the list on its own and with others."""
    for number in range(6):
        fs.toolcalls.record(
            "even" if number % 2 == 0 else "odd", {"n": number}, f"result {number}",
            error="broken" if number == 3 else None,
            started_ns=number * 100, ended_ns=number * 100 + number,
        )  # fmt: skip

    def found(**filters: object) -> list[int]:
        return [each.arguments["n"] for each in fs.toolcalls.list(**filters)]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1, 0]
    assert found(limit=2) == [5, 4]
    assert found(name="odd") == [5, 3, 1]
    assert found(status="error") == [3]
    assert found(since=200, until=400) == [3, 2]
    assert found(text="%result 4%") == [4]
    assert found(text="broken") == [3]
    assert found(name="even", since=100) == [4, 2]
    assert found(branch="none") == []


def test_statistics_count_failures_and_take_percentiles_of_what_ended(fs: AgentFS) -> None:
    """The median and the 95th percentile are durations that calls really took."""
    for took in range(1, 101):
        fs.toolcalls.record("t", started_ns=0, ended_ns=took, error="no" if took > 90 else None)
    fs.toolcalls.start("t")
    fs.toolcalls.start("u")
    one, other = fs.toolcalls.stats()
    assert (one.name, one.calls, one.failures, one.running) == ("t", 101, 10, 1)
    assert (one.mean_ns, one.p50_ns, one.p95_ns) == (50.5, 50, 95)
    assert (other.name, other.calls, other.mean_ns, other.p95_ns) == ("u", 1, None, None)
    assert [each.name for each in fs.toolcalls.stats(name="u")] == ["u"]


def test_history_survives_restore_and_the_branch(fs: AgentFS) -> None:
    """Calls are history of the volume: no restore or deleted branch takes them back."""
    fs.snapshot("s")
    fs.toolcalls.record("a")
    fs.restore("s")
    other = fs.fork("other")
    other.toolcalls.record("b")
    fs.delete_branch("other")
    assert [(each.name, each.branch) for each in fs.toolcalls.list()] == [
        ("b", "other"), ("a", "main"),
    ]  # fmt: skip


def test_an_undone_transaction_leaves_no_call(fs: AgentFS) -> None:
    """A call noted in a transaction that fails was never made, and its number stays unused."""
    with pytest.raises(RuntimeError), fs.transaction():
        fs.toolcalls.record("a")
        raise RuntimeError
    assert fs.toolcalls.list() == []


def test_what_is_not_json_or_ends_before_it_began_is_refused(fs: AgentFS) -> None:
    """Nothing is noted for arguments that JSON cannot hold or a negative duration."""
    with pytest.raises(agentfs.InvalidArgument):
        fs.toolcalls.start("a", {1, 2})
    with pytest.raises(agentfs.InvalidArgument):
        fs.toolcalls.record("a", started_ns=2, ended_ns=1)
    assert fs.toolcalls.list() == []


def test_a_number_is_never_used_twice(fs: AgentFS, tmp_path: Path) -> None:
    """Even when somebody deletes the newest row, the next call gets a new number."""
    first = fs.toolcalls.record("a")
    apsw.Connection(str(tmp_path / "a.afs")).execute("DELETE FROM toolcall")
    assert fs.toolcalls.record("b") > first
