"""Governs one agent session: what every adapter does around model and tool calls.

Classifies with the trap table that it fetched and checked, the session's signals and, where given,
learned traps; innocuous operations run at once and their observations ride on the next trap,
privileged ones go to the owning server. Decides nothing itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import monotonic_ns, perf_counter
from typing import TYPE_CHECKING, Any

from fmos.client.client import Client
from fmos.clock import Clock, SystemClock
from fmos.errors import ArgumentError, NotFoundError
from fmos.telemetry import Opened, Turns
from fmos.traps.judge import Judge, Judgement, Learned
from fmos.traps.keeper import TableKeeper
from fmos.types import (
    Decision,
    Observation,
    Operation,
    Outcome,
    OutcomeStatus,
    Reason,
    Step,
    Verdict,
)

if TYPE_CHECKING:
    from fmos.traps.manifest import ToolDescriptor

#: More than this many innocuous outcomes are not kept waiting for a trap to ride on.
_QUEUE_LIMIT = 64
_QUEUE_CHARACTERS = 4_000_000

#: What a trapped operation's labels begin with where a signal made it trap.
SIGNAL_LABEL = "signal:"


@dataclass(slots=True)
class _Open:
    """An operation that was let through and has not ended."""

    verdict: Verdict
    fast: bool
    added_ms: float
    traced: Opened


class Governor:
    """The traps of one session. Thread-safe; each method has an async twin with the prefix `a`."""

    def __init__(
        self,
        client: Client,
        on_step: Callable[[Step], None] | None = None,
        *,
        clock: Clock | None = None,
        steady_ns: Callable[[], int] = monotonic_ns,
        learned: Learned | None = None,
        obligations: Iterable[str] = (),
    ) -> None:
        """Govern the session of the client's principal.

        Args:
            client: Calls the servers.
            on_step: Told of every operation when it has ended.
            clock: The time of day.
            steady_ns: Nanoseconds of a clock that is never set back.
            learned: Learned traps to add: `fmos.traps.learned.load`.
            obligations: Those of an allowed call that the adapter fulfils, such as `effect_done`;
                with any other one the call is refused.
        """
        self.client = client
        self.tokens_raw = 0
        self.tokens_sent = 0
        self._on_step = on_step
        self._clock = clock or SystemClock()
        self._steady_ns = steady_ns
        self._judge = Judge(learned)
        self._obligations = frozenset(obligations)
        self._keeper = TableKeeper(
            lambda: self._call("trust_table"),
            lambda: client.public_key,
            tenant=client.principal.tenant,
            agent=client.principal.agent_key,
            clock=self._clock,
            steady_ns=steady_ns,
            model=self._judge.model,
        )
        self._owed: list[tuple[str, dict[str, Any]]] = []
        self._queue: list[dict[str, Any]] = []
        self._open: dict[str, _Open] = {}
        self._turns = Turns(client.principal)
        self._lock = threading.RLock()

    def register_tools(self, descriptors: Iterable[ToolDescriptor]) -> str:
        """Tell the trust gate which tools the agent has and return the trap table's version."""
        tools = [descriptor.model_dump(mode="json") for descriptor in descriptors]
        answer = self._call("trust_register_tools", {"tools": tools})
        with self._lock:
            self._keeper.drop()
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
        return self._call("context_open", arguments)

    def append(
        self, role: str, text: str, *, name: str = "", call_id: str = "", pinned: bool = False
    ) -> dict[str, Any]:
        """Append a message to the session's context; a user's text is an observation as well."""
        if role == "user":
            self._turns.began()
            with self._lock:
                self._judge.past.note_text(text, of_user=True)
            self._enqueue({"observation": Observation(source="user", text=text)})
        arguments = {"role": role, "text": text, "name": name, "call_id": call_id}
        return self._call("context_append", {**arguments, "pinned": pinned})

    def before_tool(self, operation: Operation, *, approval: str = "") -> Verdict:
        """Return the verdict on a tool call: at once if it is innocuous, else the trust gate's."""
        start = perf_counter()
        traced = self._turns.opened(operation)
        with self._lock:
            table = self._keeper.current()
            judged = self._judge.judge(table, operation, self._clock.now_ns(), self._steady_ns())
            problem = self._keeper.new_problem()
        if table is not None and judged.innocuous:
            verdict = _innocuous(operation, table.version)
            self._opened(operation, verdict, traced, fast=True, start=start)
            return verdict
        answer = self._check(_labelled(operation, judged), approval, traced)
        verdict = self._understood(_explained(answer, judged, problem))
        self._opened(operation, verdict, traced, fast=False, start=start)
        return verdict

    def tried(self, operation: Operation, approval: str, effect: str, output: str) -> Verdict:
        """Tell the gate on which fork an asked call ran, so that a person sees what it did there.

        Args:
            operation: The call, as it was asked about.
            approval: What waits for a person.
            effect: The fork's branch.
            output: What the call printed there; it comes back with `effect_done`.
        """
        said = {"approval": approval, "effect": effect, "output": output}
        asked = {"operation": _dump(operation), **said}
        return Verdict.from_answer(self._call("trust_check", asked))

    def after_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> str:
        """Close a tool call and return what the model shall see: the text, or a stub with a handle.

        The trust gate observes the full text; what it hides of it is not kept in the context.
        """
        return str(self.close_tool(operation, outcome, text, call_id=call_id)["text"])

    def close_tool(
        self, operation: Operation, outcome: Outcome, text: str, *, call_id: str = ""
    ) -> dict[str, Any]:
        """Do what `after_tool` does and return the whole context item: `item`, `text`, `handle`."""
        start = perf_counter()
        opened = self._close(operation)
        observation = Observation(operation=operation.id, source=operation.name, text=text)
        with self._lock:
            self._judge.past.note_text(text, of_user=False)
        if opened.fast:
            ran = _traced(operation, opened.traced)
            entry = {"operation": ran, "outcome": outcome, "observation": observation}
            text = self._observed(entry, text, opened.traced)
        else:
            text = self._settle(outcome, observation, opened.traced)
        # Observed first: a context that refuses the text must not leave the gate blind for it.
        said = {"role": "tool", "text": text, "name": operation.name}
        named = {"call_id": call_id or operation.id, "pinned": False}
        shown = self._call("context_append", {**said, **named}, opened.traced)
        self._report(operation, opened, start)
        opened.traced.tool_closed(outcome, call_id, opened.added_ms)
        return shown

    def running(self, operation: Operation) -> AbstractContextManager[None]:
        """Return what is held around an allowed call itself, so that its trace goes on in it."""
        opened = self._open.get(operation.id)
        return nullcontext() if opened is None else opened.traced.running()

    def before_model(self, operation: Operation) -> Verdict:
        """Reserve the budget of a model call, or return why there is none."""
        start = perf_counter()
        traced = self._turns.opened(operation)
        asked = {"operation": _dump(_traced(operation, traced))}
        verdict = Verdict.from_answer(self._call("budget_admit", asked, traced))
        self._heard(verdict.table)
        self._opened(operation, verdict, traced, fast=False, start=start)
        return verdict

    def after_model(self, operation: Operation, usage: dict[str, int]) -> dict[str, Any]:
        """Settle a model call with what it really used; an empty usage gives all back."""
        start = perf_counter()
        opened = self._close(operation)
        answer: dict[str, Any] = {}
        if opened.verdict.reservation:
            used = {"reservation": opened.verdict.reservation, "usage": usage}
            answer = self._call("budget_settle", used, opened.traced)
            with self._lock:
                self._judge.past.note_budget(_share_used(answer))
        self._report(operation, opened, start)
        opened.traced.model_closed(usage, opened.added_ms)
        return answer

    def cancelled(self, operation: Operation) -> None:
        """Let go of an operation that was cut off: give its budget back, say its end is unknown.

        For `except BaseException`, also in a coroutine: it waits for nothing but the server and
        raises no error; what cannot be handed over now is handed over by `flush`.
        """
        with self._lock:
            opened = self._open.pop(operation.id, None)
        if opened is None:
            return
        unknown = Outcome(operation=operation.id, status=OutcomeStatus.UNKNOWN, error="Cancelled")
        nothing = Observation(operation=operation.id, source=operation.name, text="")
        with suppress(Exception):  # it stays queued, or owed
            if opened.fast:
                ran = _traced(operation, opened.traced)
                self._enqueue({"operation": ran, "outcome": unknown, "observation": nothing})
            else:
                self._owed.append(_debt(opened.verdict.reservation, unknown))
                self._pay()
        opened.traced.cancelled()
        self._emit(operation, opened)

    def compose(self, max_tokens: int = 0, items: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the session's messages that fit the window, oldest first; `id` names the item."""
        answer = self._call("context_compose", {"max_tokens": max_tokens, "items": list(items)})
        with self._lock:
            self.tokens_raw += int(answer["tokens_raw"])
            self.tokens_sent += int(answer["tokens"])
        return [{"id": message["item"], **message} for message in answer["messages"]]

    def flush(self) -> None:
        """Hand over what waits for a trap to ride on, and end the turn; call it when a run ends."""
        self._hand_over()
        self._turns.ended()

    def _hand_over(self) -> None:
        self._pay()
        queued = self._drain()
        if not queued:
            return
        try:
            answer = self._call("trust_observe", {"settled": _dumped(queued)})
        except BaseException:
            self._put_back(queued)
            raise
        self._heard(answer.get("table"))

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

    def _pay(self) -> None:
        """Hand over what cancelled operations left; what fails stays owed."""
        while self._owed:
            with self._lock:
                if not self._owed:
                    return
                tool, arguments = self._owed[0]
                # Not found: it was settled, or has expired, and nothing is owed any more.
                with suppress(ArgumentError, NotFoundError):
                    self._call(tool, arguments)
                self._owed.pop(0)

    def _heard(self, version: object) -> None:
        """Note which trap table a server says is the agent's now."""
        with self._lock:
            self._keeper.answered(version)

    def _call(
        self, tool: str, arguments: dict[str, Any] | None = None, traced: Opened | None = None
    ) -> dict[str, Any]:
        """Call a tool for an operation, or for the turn; an operation that cannot go on ends."""
        with (traced or self._turns).within():
            try:
                return self.client.call(tool, arguments)
            except BaseException:
                if traced is not None:
                    traced.cancelled()
                raise

    def _check(self, operation: Operation, approval: str, traced: Opened) -> Verdict:
        queued = self._drain()
        said = {"approval": approval, "settled": _dumped(queued)}
        arguments = {"operation": _dump(_traced(operation, traced)), **said}
        try:
            verdict = Verdict.from_answer(self._call("trust_check", arguments, traced))
        except BaseException:
            self._put_back(queued)
            raise
        self._heard(verdict.table)
        return verdict

    def _understood(self, verdict: Verdict) -> Verdict:
        """Return a denial for an allowed call that obliges the adapter to what it does not know."""
        unknown = {each.kind for each in verdict.obligations} - self._obligations
        if not verdict.allowed or not unknown:
            return verdict
        message = f"it may run only with {', '.join(sorted(unknown))}, which this adapter cannot do"
        reason = Reason(code="obligation.unknown", message=message, rule="governor")
        denied = Outcome(operation=verdict.operation, status=OutcomeStatus.DENIED)
        with suppress(Exception):  # it is owed then, and the call does not run either way
            self._owed.append(("trust_settle", {"outcome": _dump(denied)}))
            self._pay()
        update = {"decision": Decision.DENY, "reasons": (reason, *verdict.reasons)}
        return verdict.model_copy(update=update)

    def _settle(self, outcome: Outcome, observation: Observation, traced: Opened) -> str:
        """Close a call at the gate and return its text as the model may read it."""
        arguments = {"outcome": _dump(outcome), "observation": _dump(observation)}
        answer = self._call("trust_settle", arguments, traced)
        self._heard(answer.get("table"))
        redacted = answer.get("redacted")
        return observation.text if redacted is None else str(redacted)

    def _observed(self, entry: dict[str, Any], text: str, traced: Opened) -> str:
        """Report what ran at once, and return its text as the model may read it.

        Most texts wait for a trap; one that shows a secret is the gate's to redact, so it is
        handed over now. If that fails it stays queued, and what was found here is hidden.
        """
        from fmos.redaction import find, hidden_spans  # noqa: PLC0415 - most clients read no tool

        spans = find(text)
        if not spans:
            self._enqueue(entry)
            return text
        queued = [*self._drain(), entry]
        try:
            answer = self._call("trust_observe", {"settled": _dumped(queued)}, traced)
        except Exception:
            self._put_back(queued)
            return hidden_spans(text, spans, lambda span: f"<{span.rule.id}>")
        self._heard(answer.get("table"))
        redacted = answer.get("redacted")
        return text if redacted is None else str(redacted)

    def _enqueue(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self._queue.append(entry)
            waiting = sum(len(queued["observation"].text) for queued in self._queue)
            full = len(self._queue) > _QUEUE_LIMIT or waiting > _QUEUE_CHARACTERS
        if full:
            self._hand_over()

    def _drain(self) -> list[dict[str, Any]]:
        with self._lock:
            queued, self._queue = self._queue, []
            return queued

    def _put_back(self, queued: list[dict[str, Any]]) -> None:
        """Keep what could not be handed over: nothing that entered the session is forgotten."""
        with self._lock:
            self._queue[:0] = queued

    def _opened(
        self, operation: Operation, verdict: Verdict, traced: Opened, *, fast: bool, start: float
    ) -> None:
        opened = _Open(verdict, fast, (perf_counter() - start) * 1000, traced)
        traced.decided(verdict, fast=fast, added_ms=opened.added_ms)
        if verdict.allowed:
            with self._lock:
                self._open[operation.id] = opened
        else:
            self._emit(operation, opened)

    def _close(self, operation: Operation) -> _Open:
        with self._lock:
            opened = self._open.pop(operation.id, None)
        # An operation that we never saw is reported to the gate rather than taken as harmless.
        if opened is not None:
            return opened
        allowed = Verdict(operation=operation.id, decision=Decision.ALLOW)
        return _Open(allowed, False, 0.0, self._turns.opened(operation))

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


def _debt(reservation: str | None, unknown: Outcome) -> tuple[str, dict[str, Any]]:
    """The call that lets go of a cancelled operation: its budget, or its open intent."""
    if reservation:
        return "budget_settle", {"reservation": reservation, "usage": {}}
    return "trust_settle", {"outcome": _dump(unknown)}


def _innocuous(operation: Operation, version: str) -> Verdict:
    reason = Reason(code="trap.innocuous", message="innocuous by the trap table", rule=version)
    return Verdict(
        operation=operation.id, decision=Decision.ALLOW, reasons=(reason,), table=version
    )


def _labelled(operation: Operation, judged: Judgement) -> Operation:
    """The operation as it traps: its labels say which signals it raised."""
    if not judged.signals:
        return operation
    labels = [f"{SIGNAL_LABEL}{name}" for name in judged.signals]
    kept = [label for label in operation.labels if label not in labels]
    return operation.model_copy(update={"labels": (*kept, *labels)})


def _explained(verdict: Verdict, judged: Judgement, problem: str) -> Verdict:
    """The verdict with what made the operation trap, where the table alone did not."""
    reasons = list(verdict.reasons)
    if judged.signals:
        said = f"it trapped for {', '.join(judged.signals)}"
        reasons.append(Reason(code="trap.signal", message=said, rule="signals"))
    if problem:
        reasons.append(Reason(code="trap.table", message=problem, rule="trap-table"))
    if len(reasons) == len(verdict.reasons):
        return verdict
    signals = tuple(dict.fromkeys((*verdict.signals, *judged.signals)))
    return verdict.model_copy(update={"reasons": tuple(reasons), "signals": signals})


def _share_used(answer: dict[str, Any]) -> float:
    """The largest share of a limit that the accounts of an answer have used or hold reserved."""
    shares = [
        (int(balance.get("spent", 0)) + int(balance.get("reserved", 0))) / balance["limit"]
        for balance in answer.get("balances", ())
        if balance.get("limit")
    ]
    return max(shares, default=0.0)


def _traced(operation: Operation, traced: Opened) -> Operation:
    """The operation as the servers hear of it: with its place in a trace."""
    return operation.model_copy(update={"trace": traced.trace, "span": traced.span})


def _dumped(queued: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _dump(value) for name, value in entry.items()} for entry in queued]


def _dump(value: Any) -> dict[str, Any]:
    return value.model_dump(mode="json")
