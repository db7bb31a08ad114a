"""Brings the tool calls of an AgentFS 0.4 volume in, each once, however often it is imported.

A call is known by the hash of what never changes in it and in all calls before it. So the calls
that two copies of a volume have in common come once, and those that each has of its own all come.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agentfs.errors import InvalidArgument, NotFound

from .outcome import Spec04Totals

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

_DDL = """
CREATE TABLE IF NOT EXISTS ext_spec04_call (
    chain BLOB PRIMARY KEY,     -- of the call and all before it
    id    INTEGER NOT NULL      -- of the call in this volume
) STRICT, WITHOUT ROWID;
"""
_FIND = "SELECT id FROM ext_spec04_call WHERE chain = ?"
_ADD = "INSERT INTO ext_spec04_call(chain, id) VALUES (?, ?)"
_CHAIN_BYTES = 16
#: The setting by which an export says which volume it comes from.
ORIGIN = "agentfs_origin"
_NS = 1_000_000_000
_MAX_TIME_S = 2**63 // _NS - 1


def origin(fs: AgentFS) -> str:
    """Return what tells a volume from others, and nothing else about it."""
    with fs.view_for_reading() as view:
        return sha256(b"origin" + view.session.name_hash_key).hexdigest()[:32]


class Calls:
    """The tool calls of one import, in their order."""

    def __init__(self, fs: AgentFS, totals: Spec04Totals, exported_from: str | None) -> None:
        """Begin before the first call."""
        self._is_ours = exported_from == origin(fs)
        self._fs = fs
        self._totals = totals
        self._known = fs.extension("spec04", _DDL)
        self._chain = b""

    def bring(self, row: tuple[Any, ...]) -> None:
        """Bring one call in, in the transaction that is open, or finish one that was running."""
        number, name, arguments, result, error, status, started, ended = row
        fixed = repr((number, name, arguments, started)).encode()
        self._chain = sha256(self._chain + fixed).digest()[:_CHAIN_BYTES]
        try:
            call = _Call(name, arguments, result, error, status, started, ended)
        except (ValueError, RecursionError) as problem:
            self._totals.leave_out(f"tool call {number}", str(problem))
            return
        known = self._find(number, call)
        if known is not None:
            self._settle(known, call)
            return
        try:
            made = self._make(call)
        except (InvalidArgument, UnicodeEncodeError) as problem:
            self._totals.leave_out(f"tool call {number}", f"it cannot be stored: {problem}")
            return
        self._known.execute(_ADD, (self._chain, made))
        self._totals.calls += 1

    def _find(self, number: Any, call: _Call) -> int | None:
        """Return the number of a call that is here already, also because it comes from here."""
        known = self._known.execute(_FIND, (self._chain,))
        if known:
            return known[0][0]
        if not self._is_ours or not isinstance(number, int):
            return None
        try:
            own = self._fs.toolcalls.get(number)
        except NotFound:
            return None
        told = (own.name, own.arguments, own.started_ns // _NS * _NS)
        return number if told == (call.name, call.arguments, call.started_ns) else None

    def _make(self, call: _Call) -> int:
        calls = self._fs.toolcalls
        if call.status == "pending":
            return calls.start(call.name, call.arguments, started_ns=call.started_ns)
        return calls.record(
            call.name, call.arguments, call.result, call.error,
            started_ns=call.started_ns, ended_ns=call.ended_ns,
        )  # fmt: skip

    def _settle(self, made: int, call: _Call) -> None:
        """Finish a call that was running when it was brought in."""
        calls = self._fs.toolcalls
        if call.status == "pending" or calls.get(made).status != "running":
            self._totals.unchanged += 1
        elif call.error is None:
            calls.finish(made, call.result, ended_ns=call.ended_ns)
            self._totals.calls += 1
        else:
            calls.error(made, call.error, ended_ns=call.ended_ns)
            self._totals.calls += 1


class _Call:
    """One tool call with its types checked."""

    def __init__(
        self, name: Any, arguments: Any, result: Any, error: Any, status: Any, started: Any,
        ended: Any,
    ) -> None:  # fmt: skip
        """Take the columns of a row.

        Raises:
            ValueError: they cannot be right.
        """
        self.name = _text(name) or ""
        self.status = _text(status)
        if self.status not in ("pending", "success", "error"):
            raise ValueError(f"its status is {self.status!r}")
        self.arguments = _json(arguments)
        self.result = _json(result)
        self.started_ns = _time(started)
        self.ended_ns = max(_time(started if ended is None else ended), self.started_ns)
        self.error = _text(error)
        if self.status == "error":
            self.error = self.error or ""
        elif self.status == "success" and self.error is not None:
            raise ValueError("it has a success and an error")


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()


def _json(raw: bytes | None) -> Any:
    return None if raw is None else json.loads(raw.decode())


def _time(seconds: Any) -> int:
    if not isinstance(seconds, int) or abs(seconds) > _MAX_TIME_S:
        raise ValueError(f"its time is {seconds!r}")
    return seconds * _NS
