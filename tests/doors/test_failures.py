"""How failures read: one sentence with a stable code, whatever raised, through every door."""

from __future__ import annotations

import inspect
import logging

import apsw
import pytest

from agentfs import errors as fs
from fmos import errors
from fmos.errors import BudgetExceededError, FmosError, ToolCallError, error_from_meta
from fmos.serving.app import build_server
from fmos.serving.failures import as_sentence, foreseen
from fmos.serving.toolset import Toolset, tool

BUDGET = BudgetExceededError("spent", account="a/b", resource="tokens", asked=5, left=2)


class _Breaking(Toolset):
    """A toolset whose one tool raises what it is told to."""

    name = "breaking"
    error: Exception = RuntimeError("sesame at /root/.fmos")

    @tool("Break")
    def break_it(self) -> dict[str, str]:
        """Raise."""
        raise self.error


def test_every_agentfs_error_has_a_code_of_ours():
    """Each error of agentfs but the two that are our own mistakes becomes one of ours."""
    for name, cls in inspect.getmembers(fs, inspect.isclass):
        if not issubclass(cls, fs.AgentFSError):
            continue
        error = foreseen(cls("/a"))
        if cls in (fs.TransactionRequired, fs.ExtensionError):
            assert error is None
        else:
            assert error is not None, name
            assert "/a" in str(error)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (fs.NotFound("/a"), "state.not_found"),
        (fs.VolumeFull("a.afs"), "storage.unavailable"),
        (fs.VolumeBusy("a.afs"), "storage.unavailable"),
        (fs.PermissionDenied("/.fmos"), "trust.denied"),
        (fs.Corrupt("a.afs"), "storage.format"),
        (fs.RefExists("b"), "argument.invalid"),
        (apsw.FullError("database or disk is full"), "storage.unavailable"),
        (apsw.IOError("disk I/O error"), "storage.unavailable"),
        (apsw.BusyError("database is locked"), "storage.unavailable"),
        (apsw.CorruptError("malformed"), "storage.format"),
        (BUDGET, "budget.exceeded"),
    ],
)
def test_codes(raised, code):
    """What a store or a filesystem raises has the code that says what to do."""
    error = as_sentence("t", raised)
    assert error.code == code
    assert "\n" not in str(error)


def test_full_disk_is_a_sentence(tmp_path):
    """A database that may not grow any more is told from a broken one, for real."""
    connection = apsw.Connection(str(tmp_path / "k.db"))
    connection.execute("CREATE TABLE t(x); PRAGMA max_page_count = 4")
    with pytest.raises(apsw.FullError) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert "free some space" in str(foreseen(caught.value))


@pytest.mark.parametrize("raised", [RuntimeError("sesame"), apsw.SQLError("no such table: sesame")])
def test_what_nobody_foresaw(kernel, raised, caplog):
    """A defect is one sentence without its words; the log has the traceback, once."""
    toolset = _Breaking(kernel)
    toolset.error = raised
    with caplog.at_level(logging.ERROR), pytest.raises(ToolCallError) as caught:
        toolset.call("break_it", {})
    assert str(caught.value).startswith("the tool 'break_it' failed unexpectedly")
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is raised
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info
    answered = build_server(toolset).answer("break_it", {}, None)
    assert answered.is_error
    assert answered.content[0].text == str(caught.value)


def test_a_record_inside_a_tool_is_not_an_argument(kernel):
    """A record that does not fit inside a tool is a defect, not the caller's mistake."""
    from fmos.types import Outcome

    class Inner(_Breaking):
        """Breaks with a record."""

        @tool("Break")
        def break_it(self) -> dict[str, str]:
            """Build a record that does not fit."""
            return Outcome.model_validate({}).model_dump()

    with pytest.raises(ToolCallError, match="ValidationError"):
        Inner(kernel).call("break_it", {})
    answered = build_server(Inner(kernel)).answer("break_it", {}, None)
    assert "ValidationError" in answered.content[0].text


def test_errors_travel_whole():
    """Each class comes back from its `_meta` as itself, with its fields; strangers as ToolCall."""
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    for cls in (cls for cls in classes if issubclass(cls, FmosError)):
        back = error_from_meta("what happened; what to do", cls("x").meta())
        assert (type(back), str(back)) == (cls, "what happened; what to do")
    back = error_from_meta("spent", BUDGET.meta())
    assert isinstance(back, BudgetExceededError)
    assert (back.account, back.resource, back.asked, back.left) == ("a/b", "tokens", 5, 2)
    for strange in ({}, {"fmos/error_code": "x"}, {"fmos/error_code": 3, "fmos/error_fields": 1}):
        assert type(error_from_meta("m", strange)) is ToolCallError
