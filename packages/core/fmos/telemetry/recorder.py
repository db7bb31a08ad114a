"""Tells OpenTelemetry: which spans and metrics there are for calls, operations and turns.

Imports the API only; where what is told goes to is the providers' matter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter, time_ns
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from opentelemetry import context as contexts
from opentelemetry import trace as traces
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TracerProvider,
)

from fmos.errors import BudgetExceededError, FmosError
from fmos.telemetry import names
from fmos.telemetry.context import span_id, trace_id
from fmos.telemetry.instruments import Instruments
from fmos.telemetry.propagation import extracted
from fmos.types import Operation, Principal, Verdict

SCOPE = "fmos"

_APPROVALS_KEPT = 1024
_SHOWN = 128

#: The id that the next root span's trace shall have: see `providers.Ids`.
wanted_trace: ContextVar[int | None] = ContextVar("fmos_wanted_trace", default=None)

_OF_SERVICE = {"context": "context", "memory": "memory"}


class _Timing:
    """One served call: the seconds of its layers so far, and what its span shall say."""

    __slots__ = ("layers", "mark_ns", "said")

    def __init__(self) -> None:
        self.layers: dict[str, float] = {}
        self.said: dict[str, Any] = {}
        self.mark_ns = time_ns()


_timing: ContextVar[_Timing | None] = ContextVar("fmos_timing", default=None)


class Recorder:
    """What a process tells OpenTelemetry. Thread-safe."""

    def __init__(
        self,
        tracers: TracerProvider,
        instruments: Instruments | None = None,
        *,
        content: bool = False,
        close: Callable[[float], None] | None = None,
    ) -> None:
        self.content = content
        self.tracer = tracers.get_tracer(SCOPE)
        self.instruments = instruments or Instruments(NoOpMeterProvider())
        self.open_turns: WeakSet[Any] = WeakSet()
        self._close = close
        self._asked: OrderedDict[str, SpanContext] = OrderedDict()
        self._lock = threading.Lock()

    def shutdown(self, timeout_s: float) -> None:
        """End the turns that nobody ended, and send what is left."""
        for turn in list(self.open_turns):
            turn.end()
        if self._close is not None:
            self._close(timeout_s)

    def served(self, tool: str, door: str, meta: Mapping[str, Any] | None) -> ServedCall:
        """Return the server span of a tool call, below what its request carried."""
        return ServedCall(self, tool, door, extracted(meta) if meta else None)

    def requesting(self, tool: str, where: str) -> ClientCall | _InProcess:
        """Return the client span of a call; in process there is nothing between the two sides."""
        return IN_PROCESS if where == "in process" else ClientCall(self, tool, where)

    def operation(self, operation: Operation, verdict: Verdict) -> OperationSpan:
        """Return the span of an operation that is being noted."""
        return OperationSpan(self, operation, verdict)

    def layer(self, name: str) -> Layer:
        """Return what takes the time of a layer."""
        return Layer(_timing.get(), name)

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes of the served call's span, else of the current one."""
        timing = _timing.get()
        if timing is not None:
            timing.said.update(attributes)
        else:
            traces.get_current_span().set_attributes(dict(attributes))

    def recorded(self, event: str, seq: int, about: object) -> None:
        """Add a row of the journal to the current span, as an event."""
        span = traces.get_current_span()
        if not span.is_recording():
            return
        attributes: dict[str, Any] = {names.JOURNAL_SEQ: seq}
        if isinstance(about, str):
            attributes[names.OPERATION_ID] = about
        span.add_event(event, attributes)

    def spending(self, who: Principal, amounts: Mapping[str, int]) -> Spending:
        """Return what takes the time of the ledger and counts what it spends and refuses."""
        return Spending(self.instruments, _timing.get(), who, amounts)

    def asked(self, approval: str, context: SpanContext) -> None:
        """Remember where an approval was asked for, so that its use can point back."""
        with self._lock:
            self._asked.setdefault(approval, context)
            if len(self._asked) > _APPROVALS_KEPT:
                self._asked.popitem(last=False)

    def asked_at(self, approval: str) -> SpanContext | None:
        """Return where an approval was asked for, if it was in this process."""
        with self._lock:
            return self._asked.get(approval)


class _InProcess:
    """A call that leaves no process: the server's span is all there is."""

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None


IN_PROCESS = _InProcess()


class Layer:
    """Adds the time of its block to a layer of the served call around it."""

    __slots__ = ("_begin", "_name", "_timing")

    def __init__(self, timing: _Timing | None, name: str) -> None:
        self._timing = timing
        self._name = name

    def __enter__(self) -> None:
        self._begin = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._timing is not None:
            layers, taken = self._timing.layers, perf_counter() - self._begin
            layers[self._name] = layers.get(self._name, 0.0) + taken


class Spending(Layer):
    """The ledger's time, with what was spent in it and what an account had not left."""

    def __init__(
        self,
        instruments: Instruments,
        timing: _Timing | None,
        who: Principal,
        amounts: Mapping[str, int],
    ) -> None:
        super().__init__(timing, "ledger")
        self._instruments = instruments
        self._tenant = who.tenant
        self._amounts = amounts

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, BudgetExceededError):
            self._instruments.refused.add(1, self._of(error.resource))
        elif error is None:
            for resource, amount in self._amounts.items():
                if amount > 0:
                    self._instruments.spent.add(amount, self._of(resource))

    def _of(self, resource: str) -> dict[str, Any]:
        return {names.TENANT: self._tenant, names.RESOURCE: resource}


class _Held:
    """A span that is the current one while its block runs."""

    def __init__(self, span: Span) -> None:
        self.told = span
        self._error = ""

    def _enter(self) -> None:
        self._token = contexts.attach(traces.set_span_in_context(self.told))
        self._begin = perf_counter()

    def _exit(self, error: BaseException | None) -> float:
        """Stop being the current span, and return the seconds that the block took."""
        contexts.detach(self._token)
        if error is not None:
            self._error = error.code if isinstance(error, FmosError) else type(error).__name__
        return perf_counter() - self._begin


class ServedCall(_Held):
    """The server span of one tool call: one for every door, and for calls in process."""

    def __init__(self, recorder: Recorder, tool: str, door: str, parent: Context | None) -> None:
        shown = tool[:_SHOWN]
        attributes = {
            names.MCP_METHOD: names.TOOLS_CALL,
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.TOOL_NAME: shown,
            names.DOOR: door,
        }
        if tool in names.KINDS:
            attributes[names.OPERATION_KIND] = names.KINDS[tool]
        if door in _TRANSPORTS:
            attributes[names.TRANSPORT] = _TRANSPORTS[door]
        super().__init__(
            recorder.tracer.start_span(
                f"{names.TOOLS_CALL} {shown}",
                parent,
                SpanKind.SERVER,
                attributes,
            )
        )
        self._recorder = recorder
        self._tool = shown
        self._timing = _Timing()

    def acts_for(self, who: Principal) -> None:
        """Say whom the call is made for."""
        self._timing.said.update(of_principal(who))

    def __enter__(self) -> ServedCall:
        self._enter()
        self._outer = _timing.set(self._timing)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _timing.reset(self._outer)
        seconds = self._exit(error)
        labels = {names.MCP_METHOD: names.TOOLS_CALL, names.TOOL_NAME: self._tool}
        if self._error:
            labels[names.ERROR_TYPE] = "tool_error"
            self._timing.said |= {names.ERROR_TYPE: "tool_error", names.ERROR_CODE: self._error}
            self.told.set_status(Status(StatusCode.ERROR))
        self._recorder.instruments.served.record(seconds, labels)
        self._overheads(seconds)
        # All at once: each setting takes a lock and costs as much as the values.
        self.told.set_attributes(self._timing.said)
        self.told.end()

    def _overheads(self, seconds: float) -> None:
        layers = self._timing.layers
        own = _OF_SERVICE.get(self._tool.partition("_")[0], "service")
        whole = {**layers, own: max(0.0, seconds - sum(layers.values()))}
        shown = {f"{names.LAYER}.{name}_ms": round(s * 1000, 4) for name, s in whole.items()}
        self._timing.said |= shown
        for name, taken in whole.items():
            self._recorder.instruments.overhead.record(taken, {names.LAYER: name})


_TRANSPORTS = {"unix": "unix", "http": "tcp", "stdio": "pipe"}


class ClientCall(_Held):
    """The client span of one tool call that goes to another process."""

    def __init__(self, recorder: Recorder, tool: str, where: str) -> None:
        unix = where.startswith("unix:")
        address = where.removeprefix("unix:") if unix else urlsplit(where).hostname or ""
        attributes = {
            names.MCP_METHOD: names.TOOLS_CALL,
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool[:_SHOWN],
            names.SERVER_ADDRESS: address,
            names.TRANSPORT: "unix" if unix else "tcp",
        }
        name = f"{names.TOOLS_CALL} {tool[:_SHOWN]}"
        super().__init__(recorder.tracer.start_span(name, None, SpanKind.CLIENT, attributes))
        self._recorder = recorder
        self._tool = tool[:_SHOWN]

    def __enter__(self) -> ClientCall:
        self._enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds = self._exit(error)
        labels = {names.MCP_METHOD: names.TOOLS_CALL, names.TOOL_NAME: self._tool}
        if self._error:
            labels[names.ERROR_TYPE] = self._error
            self.told.set_attribute(names.ERROR_TYPE, self._error)
            self.told.set_status(Status(StatusCode.ERROR))
        self._recorder.instruments.requested.record(seconds, labels)
        self.told.end()


class OperationSpan:
    """The span of one operation: from what came before it in the call to its row."""

    def __init__(self, recorder: Recorder, operation: Operation, verdict: Verdict) -> None:
        self._recorder = recorder
        self._operation = operation
        self._verdict = verdict
        self._fast = any(reason.code == "trap.innocuous" for reason in verdict.reasons)
        self._timing = _timing.get()
        self.told = self._started()
        ids = self.told.get_span_context()
        self.trace = f"{ids.trace_id:032x}"
        self.span: str | None = f"{ids.span_id:016x}"

    def noted(self, seq: int) -> None:
        """Say which row of the journal it is."""
        self.told.set_attribute(names.JOURNAL_SEQ, seq)

    def __enter__(self) -> OperationSpan:
        self._token = contexts.attach(traces.set_span_in_context(self.told))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        contexts.detach(self._token)
        if error is not None:
            self.told.set_attribute(names.ERROR_TYPE, type(error).__name__)
            self.told.set_status(Status(StatusCode.ERROR))
        end_ns = time_ns()
        self.told.end(end_ns)
        if self._timing is not None:
            self._timing.mark_ns = end_ns
        self._recorder.instruments.operations.add(
            1,
            {
                names.OPERATION_KIND: self._operation.kind.value,
                names.DECISION: self._verdict.decision.value,
                names.PATH: self._path,
            },
        )

    @property
    def _path(self) -> str:
        return "fast" if self._fast else "slow"

    def _started(self) -> Span:
        operation, verdict = self._operation, self._verdict
        here = traces.get_current_span().get_span_context()
        asked = trace_id(operation.trace)
        elsewhere = asked is not None and f"{here.trace_id:032x}" != asked
        # What ran on the fast path is a child of its own span, not of the call that reports it.
        own = span_id(operation.span) if self._fast or elsewhere else None
        links = self._links(here if own or elsewhere else None)
        parent = _remote(asked, own) if asked and own else None
        wanted = None
        if elsewhere and parent is None:
            parent, wanted = Context(), int(str(asked), 16)
        token = wanted_trace.set(wanted)
        try:
            span = self._recorder.tracer.start_span(
                f"{operation.kind.value} {operation.name[:_SHOWN]}",
                parent,
                SpanKind.INTERNAL,
                self._attributes(),
                links,
                self._timing.mark_ns if self._timing is not None else None,
            )
        finally:
            wanted_trace.reset(token)
        self._approval(span, verdict)
        return span

    def _attributes(self) -> dict[str, Any]:
        operation, verdict = self._operation, self._verdict
        attributes: dict[str, Any] = {
            **of_principal(operation.principal),
            names.OPERATION_ID: operation.id,
            names.OPERATION_KIND: operation.kind.value,
            names.OPERATION_TARGET: operation.name[:_SHOWN],
            names.DECISION: verdict.decision.value,
            names.REASONS: [reason.code for reason in verdict.reasons],
            names.PATH: self._path,
        }
        if verdict.policy:
            attributes[names.POLICY] = verdict.policy
        signals = [*verdict.signals, *signals_of(operation)]
        if signals:
            attributes[names.SIGNALS] = list(dict.fromkeys(signals))
        return attributes

    def _links(self, carrier: SpanContext | None) -> list[Link]:
        links = [Link(carrier)] if carrier is not None and carrier.is_valid else []
        if self._verdict.approval and self._verdict.allowed:
            asked = self._recorder.asked_at(self._verdict.approval)
            if asked is not None:
                links.append(Link(asked, {names.APPROVAL: self._verdict.approval}))
        return links

    def _approval(self, span: Span, verdict: Verdict) -> None:
        if not verdict.approval:
            return
        if not verdict.allowed:
            self._recorder.asked(verdict.approval, span.get_span_context())
        event = "fmos.approval.used" if verdict.allowed else "fmos.approval.asked"
        span.set_attribute(names.APPROVAL, verdict.approval)
        span.add_event(event, {names.APPROVAL: verdict.approval})


def of_principal(who: Principal) -> dict[str, Any]:
    """Return the attributes that say whom a span is for."""
    attributes = {names.TENANT: who.tenant, names.AGENT: who.agent, names.SESSION: who.session}
    if who.application:
        attributes[names.APPLICATION] = who.application
    if who.agent:
        attributes[names.AGENT_ID] = who.agent_key
    if who.session:
        attributes[names.CONVERSATION] = who.session
    return {name: value for name, value in attributes.items() if value}


def signals_of(operation: Operation) -> list[str]:
    """Return the signals that a client says an operation raised."""
    begin = "signal:"
    return [label.removeprefix(begin) for label in operation.labels if label.startswith(begin)]


def _remote(trace: str, span: str) -> Context:
    """Return a context below a span that another process has."""
    ids = SpanContext(int(trace, 16), int(span, 16), True, TraceFlags(TraceFlags.SAMPLED))
    return traces.set_span_in_context(NonRecordingSpan(ids), Context())
