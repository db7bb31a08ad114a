"""Governs one agent session: what every adapter does around model and tool calls.

Classifies with the cached trap table; innocuous operations run at once and their observations ride
on the next trap, privileged ones go to the owning server. Decides nothing itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fmos.client.client import Client
from fmos.clock import Clock, SystemClock
from fmos.types import (
    Decision,
    Observation,
    Operation,
    OperationClass,
    Outcome,
    OutcomeStatus,
    Reason,
    Step,
    Verdict,
    new_id,
)

if TYPE_CHECKING:
    from fmos.traps.manifest import ToolDescriptor
    from fmos.traps.table import TrapTable

#: More than this many innocuous outcomes are not kept waiting for a trap to ride on.
_QUEUE_LIMIT = 64
_QUEUE_CHARACTERS = 4_000_000


@dataclass(slots=True)
class _Open:
    """An operation that was let through and has not ended."""

    verdict: Verdict
    fast: bool
    added_ms: float


class Governor:
    """The traps of one session. Thread-safe; each method has an async twin with the prefix `a`."""

    def __init__(
        self,
        client: Client,
        on_step: Callable[[Step], None] | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.client = client
        self.tokens_raw = 0
        self.tokens_sent = 0
        self._on_step = on_step
        self._clock = clock or SystemClock()
        self._table: TrapTable | None = None
        self._queue: list[dict[str, Any]] = []
        self._open: dict[str, _Open] = {}
        self._lock = threading.RLock()

    def register_tools(self, descriptors: Iterable[ToolDescriptor]) -> str:
        """Tell the trust gate which tools the agent has and return the trap table's version."""
        tools = [descriptor.model_dump(mode="json") for descriptor in descriptors]
        answer = self.client.call("trust_register_tools", {"tools": tools})
        with self._lock:
            self._table = None
        return str(answer["table_version"])

    def open_session(
        self, system: str = "", *, max_tokens: int = 16000, threshold_bytes: int = 8192
    ) -> dict[str, Any]:
        """Open the session's context; opening it again continues it."""
        arguments = {
            "system": system,
            "max_tokens": max_tokens,
            "threshold_bytes": threshold_bytes,
        }
        return self.client.call("context_open", arguments)

    def append(
        self, role: str, text: str, *, name: str = "", call_id: str = "", pinned: bool = False
    ) -> dict[str, Any]:
        """Append a message to the session's context; a user's text is an observation as well."""
        if role == "user":
            self._enqueue({"observation": Observation(source="user", text=text)})
        return self._append(role, text, name=name, call_id=call_id, pinned=pinned)

    def before_tool(self, operation: Operation, *, approval: str = "") -> Verdict:
        """Return the verdict on a tool call: at once if it is innocuous, else the trust gate's."""
        start = perf_counter()
        table = self._trap_table()
        if table.classify(operation, self._clock.now_ns()) is OperationClass.INNOCUOUS:
            verdict = _innocuous(operation, table.version)
            self._opened(operation, verdict, fast=True, start=start)
            return verdict
        verdict = self._check(operation, approval)
        self._opened(operation, verdict, fast=False, start=start)
        return verdict

    def after_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> str:
        """Close a tool call and return what the model shall see: the text, or a stub with a handle.

        The full text is kept in the context and observed by the trust gate either way.
        """
        return str(self.close_tool(operation, outcome, text, call_id=call_id)["text"])

    def close_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> dict[str, Any]:
        """Do what `after_tool` does and return the whole context item: `item`, `text`, `handle`."""
        start = perf_counter()
        opened = self._close(operation)
        observation = Observation(operation=operation.id, source=operation.name, text=text)
        if opened.fast:
            self._enqueue({"operation": operation, "outcome": outcome, "observation": observation})
        else:
            self._settle(outcome, observation)
        # Observed first: a context that refuses the text must not leave the gate blind for it.
        shown = self._append("tool", text, name=operation.name, call_id=call_id or operation.id)
        self._report(operation, opened, start)
        return shown

    def before_model(self, operation: Operation) -> Verdict:
        """Reserve the budget of a model call, or return why there is none."""
        start = perf_counter()
        answer = self.client.call("budget_admit", {"operation": operation.model_dump(mode="json")})
        verdict = Verdict.model_validate(answer)
        self._opened(operation, verdict, fast=False, start=start)
        return verdict

    def after_model(self, operation: Operation, usage: dict[str, int]) -> dict[str, Any]:
        """Settle a model call with what it really used; an empty usage gives all back."""
        start = perf_counter()
        opened = self._close(operation)
        answer: dict[str, Any] = {}
        if opened.verdict.reservation:
            answer = self.client.call(
                "budget_settle", {"reservation": opened.verdict.reservation, "usage": usage}
            )
        self._report(operation, opened, start)
        return answer

    def compose(self, max_tokens: int = 0, items: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the session's messages that fit the window, oldest first; `id` names the item."""
        answer = self.client.call(
            "context_compose", {"max_tokens": max_tokens, "items": list(items)}
        )
        with self._lock:
            self.tokens_raw += int(answer["tokens_raw"])
            self.tokens_sent += int(answer["tokens"])
        return [{"id": message["item"], **message} for message in answer["messages"]]

    def flush(self) -> None:
        """Hand over what waits for a trap to ride on; call it when a run ends."""
        queued = self._drain()
        try:
            while queued:
                entry = queued[0]
                self._settle(entry.get("outcome") or _seen(), entry["observation"])
                queued.pop(0)
        finally:
            self._put_back(queued)

    async def aregister_tools(self, descriptors: Iterable[ToolDescriptor]) -> str:
        """Do what `register_tools` does, without blocking the event loop."""
        return await asyncio.to_thread(self.register_tools, descriptors)

    async def aopen_session(
        self, system: str = "", *, max_tokens: int = 16000, threshold_bytes: int = 8192
    ) -> dict[str, Any]:
        """Do what `open_session` does, without blocking the event loop."""
        return await asyncio.to_thread(
            self.open_session, system, max_tokens=max_tokens, threshold_bytes=threshold_bytes
        )

    async def aappend(
        self, role: str, text: str, *, name: str = "", call_id: str = "", pinned: bool = False
    ) -> dict[str, Any]:
        """Do what `append` does, without blocking the event loop."""
        return await asyncio.to_thread(
            self.append, role, text, name=name, call_id=call_id, pinned=pinned
        )

    async def abefore_tool(self, operation: Operation, *, approval: str = "") -> Verdict:
        """Do what `before_tool` does, without blocking the event loop."""
        return await asyncio.to_thread(self.before_tool, operation, approval=approval)

    async def aafter_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> str:
        """Do what `after_tool` does, without blocking the event loop."""
        return await asyncio.to_thread(self.after_tool, operation, outcome, text, call_id=call_id)

    async def aclose_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> dict[str, Any]:
        """Do what `close_tool` does, without blocking the event loop."""
        return await asyncio.to_thread(self.close_tool, operation, outcome, text, call_id=call_id)

    async def abefore_model(self, operation: Operation) -> Verdict:
        """Do what `before_model` does, without blocking the event loop."""
        return await asyncio.to_thread(self.before_model, operation)

    async def aafter_model(self, operation: Operation, usage: dict[str, int]) -> dict[str, Any]:
        """Do what `after_model` does, without blocking the event loop."""
        return await asyncio.to_thread(self.after_model, operation, usage)

    async def acompose(
        self, max_tokens: int = 0, items: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Do what `compose` does, without blocking the event loop."""
        return await asyncio.to_thread(self.compose, max_tokens, items)

    async def aflush(self) -> None:
        """Do what `flush` does, without blocking the event loop."""
        await asyncio.to_thread(self.flush)

    def _trap_table(self) -> TrapTable:
        from fmos.traps.table import TrapTable  # noqa: PLC0415 - loads the signature library

        with self._lock:
            table = self._table
            if table is None or table.expires_ns <= self._clock.now_ns():
                table = TrapTable.model_validate(self.client.call("trust_table"))
                self._table = table
            return table

    def _check(self, operation: Operation, approval: str) -> Verdict:
        queued = self._drain()
        settled = [{name: _dump(value) for name, value in entry.items()} for entry in queued]
        arguments = {"operation": _dump(operation), "approval": approval, "settled": settled}
        try:
            return Verdict.model_validate(self.client.call("trust_check", arguments))
        except Exception:
            self._put_back(queued)
            raise

    def _settle(self, outcome: Outcome, observation: Observation) -> None:
        arguments = {"outcome": _dump(outcome), "observation": _dump(observation)}
        self.client.call("trust_settle", arguments)

    def _append(
        self, role: str, text: str, *, name: str = "", call_id: str = "", pinned: bool = False
    ) -> dict[str, Any]:
        arguments = {"role": role, "text": text, "name": name, "call_id": call_id}
        return self.client.call("context_append", {**arguments, "pinned": pinned})

    def _enqueue(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self._queue.append(entry)
            waiting = sum(len(queued["observation"].text) for queued in self._queue)
            full = len(self._queue) > _QUEUE_LIMIT or waiting > _QUEUE_CHARACTERS
        if full:
            self.flush()

    def _drain(self) -> list[dict[str, Any]]:
        with self._lock:
            queued, self._queue = self._queue, []
            return queued

    def _put_back(self, queued: list[dict[str, Any]]) -> None:
        """Keep what could not be handed over: nothing that entered the session is forgotten."""
        with self._lock:
            self._queue[:0] = queued

    def _opened(self, operation: Operation, verdict: Verdict, *, fast: bool, start: float) -> None:
        opened = _Open(verdict, fast, (perf_counter() - start) * 1000)
        if verdict.allowed:
            with self._lock:
                self._open[operation.id] = opened
        else:
            self._emit(operation, opened)

    def _close(self, operation: Operation) -> _Open:
        with self._lock:
            opened = self._open.pop(operation.id, None)
        # An operation that we never saw is reported to the gate rather than taken as harmless.
        return opened or _Open(Verdict(operation=operation.id, decision=Decision.ALLOW), False, 0.0)

    def _report(self, operation: Operation, opened: _Open, start: float) -> None:
        opened.added_ms += (perf_counter() - start) * 1000
        self._emit(operation, opened)

    def _emit(self, operation: Operation, opened: _Open) -> None:
        if self._on_step is None:
            return
        self._on_step(
            Step(
                operation=f"{operation.kind} {operation.name}",
                id=operation.id,
                path="fast" if opened.fast else "slow",
                verdict=opened.verdict.decision,
                added_ms=round(opened.added_ms, 3),
                reason=opened.verdict.reason,
            )
        )


def _innocuous(operation: Operation, version: str) -> Verdict:
    reason = Reason(code="trap.innocuous", message="innocuous by the trap table", rule=version)
    return Verdict(operation=operation.id, decision=Decision.ALLOW, reasons=(reason,))


def _seen() -> Outcome:
    """The outcome of a text that entered the session without an operation of ours."""
    return Outcome(operation=new_id(), status=OutcomeStatus.OK)


def _dump(value: Any) -> dict[str, Any]:
    return value.model_dump(mode="json")
