"""The history of tool calls: rows that are added and finished once, and never go back.

The rows belong to the volume, not to the tree: a restore or a deleted branch leaves them.
"""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .connection import Row
from .errors import InvalidArgument, NotFound
from .nodes import View

Status = Literal["running", "ok", "error"]
Run = Callable[..., Any]

_FIELDS = "id, name, status, arguments, result, error, started_ns, ended_ns, branch, principal"
_START = (
    "INSERT INTO toolcall(name, status, arguments, started_ns, branch, principal)"
    " VALUES (?, 'running', ?, ?, ?, ?) RETURNING id"
)
_FINISH = (
    "UPDATE toolcall SET status = ?, result = ?, error = ?, ended_ns = ?"
    " WHERE id = ? AND status = 'running' RETURNING id"
)
_RECORD = (
    "INSERT INTO toolcall(name, status, arguments, result, error, started_ns, ended_ns, branch,"
    " principal) VALUES (?,?,?,?,?,?,?,?,?) RETURNING id"
)
_GET = f"SELECT {_FIELDS} FROM toolcall WHERE id = ?"
# A filter that is not given is NULL, and then lets every row through.
_WHERE = (
    " WHERE (:name IS NULL OR name = :name) AND (:status IS NULL OR status = :status)"
    " AND (:since IS NULL OR started_ns >= :since) AND (:until IS NULL OR started_ns < :until)"
    " AND (:branch IS NULL OR branch = :branch)"
    " AND (:text IS NULL OR arguments LIKE :text OR result LIKE :text OR error LIKE :text)"
)
_LIST = f"SELECT {_FIELDS} FROM toolcall{_WHERE} ORDER BY id DESC LIMIT :limit"
_STATS = (
    "WITH timed AS (SELECT name, ended_ns - started_ns AS took, row_number() OVER (PARTITION BY"
    " name ORDER BY ended_ns - started_ns) AS place, count(*) OVER (PARTITION BY name) AS ended"
    f" FROM toolcall{_WHERE} AND ended_ns IS NOT NULL),"
    " counted AS (SELECT name, count(*) AS calls, sum(status = 'error') AS failures,"
    f" sum(status = 'running') AS running FROM toolcall{_WHERE} GROUP BY name)"
    " SELECT c.name, c.calls, c.failures, c.running, avg(t.took),"
    " min(t.took) FILTER (WHERE t.place * 100 >= t.ended * 50),"
    " min(t.took) FILTER (WHERE t.place * 100 >= t.ended * 95)"
    " FROM counted c LEFT JOIN timed t ON t.name = c.name GROUP BY c.name ORDER BY c.name"
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool."""

    id: int
    name: str
    status: Status
    arguments: Any
    result: Any
    error: str | None
    started_ns: int
    ended_ns: int | None
    branch: str
    principal: str

    @property
    def duration_ns(self) -> int | None:
        """Return how long the call took, or None while it runs."""
        return None if self.ended_ns is None else self.ended_ns - self.started_ns


@dataclass(frozen=True, slots=True)
class ToolStats:
    """What the calls of one tool have in common; times only count calls that ended."""

    name: str
    calls: int
    failures: int
    running: int
    mean_ns: float | None
    p50_ns: int | None
    p95_ns: int | None


class ToolCalls:
    """`fs.toolcalls`: the history of tool calls in a volume."""

    def __init__(self, change: Run, ask: Run) -> None:
        """Take what runs a function in a transaction, for writing and for reading."""
        self._change = change
        self._ask = ask

    def start(self, name: str, arguments: Any = None, *, started_ns: int | None = None) -> int:
        """Note that a call began, by default now, and return its number."""
        began = time.time_ns() if started_ns is None else started_ns
        return self._change(_start, name, _encode(name, arguments), began)

    def finish(self, call: int, result: Any = None, *, ended_ns: int | None = None) -> None:
        """Note what a running call returned, by default now.

        Raises:
            NotFound: no call has this number.
            InvalidArgument: it ended already.
        """
        self._change(_finish, call, "ok", _encode(str(call), result), None, ended_ns)

    def error(self, call: int, message: str, *, ended_ns: int | None = None) -> None:
        """Note that a running call failed, by default now.

        Raises:
            NotFound: no call has this number.
            InvalidArgument: it ended already.
        """
        self._change(_finish, call, "error", None, message, ended_ns)

    def record(
        self, name: str, arguments: Any = None, result: Any = None, error: str | None = None, *,
        started_ns: int | None = None, ended_ns: int | None = None,
    ) -> int:  # fmt: skip
        """Note a whole call at once, and return its number; with `error` it failed."""
        ended = time.time_ns() if ended_ns is None else ended_ns
        started = ended if started_ns is None else started_ns
        if ended < started:
            raise InvalidArgument(name, "a call cannot end before it began")
        status = "ok" if error is None else "error"
        given = None if error is not None and result is None else _encode(name, result)
        row = (name, status, _encode(name, arguments), given, error, started, ended)
        return self._change(_record, row)

    def get(self, call: int) -> ToolCall:
        """Return one call.

        Raises:
            NotFound: no call has this number.
        """
        return self._ask(_get, call)

    def list(
        self, name: str | None = None, status: Status | None = None, since: int | None = None,
        until: int | None = None, text: str | None = None, branch: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[ToolCall]:  # fmt: skip
        """Return the calls that pass all filters, newest first.

        `since` and `until` bound the start in nanoseconds; `text` is a LIKE pattern (with `%` and
        `_`) over arguments, result and error.
        """
        filters = _filters(name, status, since, until, text, branch)
        return self._ask(_list, filters | {"limit": -1 if limit is None else limit})

    def stats(
        self, name: str | None = None, since: int | None = None, until: int | None = None,
        branch: str | None = None,
    ) -> builtins.list[ToolStats]:  # fmt: skip
        """Return count, failures, mean, median and 95th percentile per tool, sorted by name."""
        return self._ask(_stats, _filters(name, None, since, until, None, branch))


def _filters(
    name: str | None, status: str | None, since: int | None, until: int | None, text: str | None,
    branch: str | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "status": status, "since": since, "until": until, "text": text,
        "branch": branch,
    }  # fmt: skip


def _encode(subject: str, value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(subject, f"it is not JSON: {error}") from error


def _start(view: View, name: str, arguments: str, started_ns: int) -> int:
    row = (name, arguments, started_ns, view.state.name, view.principal)
    return view.session.execute(_START, row).get


def _finish(
    view: View, call: int, status: Status, result: str | None, error: str | None,
    ended_ns: int | None,
) -> None:  # fmt: skip
    row = (status, result, error, time.time_ns() if ended_ns is None else ended_ns, call)
    if view.session.execute(_FINISH, row).fetchone() is None:
        ended = _get(view, call)
        raise InvalidArgument(str(call), f"the call of {ended.name!r} has ended already")


def _record(view: View, row: Row) -> int:
    return view.session.execute(_RECORD, (*row, view.state.name, view.principal)).get


def _get(view: View, call: int) -> ToolCall:
    row = view.session.execute(_GET, (call,)).fetchone()
    if row is None:
        raise NotFound(f"tool call {call}")
    return _to_call(row)


def _list(view: View, bindings: dict[str, Any]) -> list[ToolCall]:
    return [_to_call(row) for row in view.session.execute(_LIST, bindings)]


def _stats(view: View, bindings: dict[str, Any]) -> list[ToolStats]:
    return [ToolStats(*row) for row in view.session.execute(_STATS, bindings)]


def _to_call(row: Row) -> ToolCall:
    number, name, status, arguments, result, *rest = row
    given = None if result is None else json.loads(result)
    return ToolCall(number, name, status, json.loads(arguments), given, *rest)
