"""Spans that are plain values while a call runs; what sends them makes them the SDK's.

The SDK checks, copies and locks at each step of a span, on the thread of the call, which waits for
it. Here a call only keeps what it is told; limits and copies are applied when nobody waits.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep, time_ns
from typing import Any, cast

from opentelemetry import trace as traces
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

#: Nobody calls any more when no span began or ended for so long.
_QUIET_NS = 20_000_000
#: So long at most spans wait for that.
_PATIENCE_S = 1.0
#: How long the sending thread lets others have the interpreter between two pieces.
_PAUSE_S = 0.0005

_Attributes = dict[str, Any]


class PlainSpan(Span):
    """One span that a call tells of; nothing is checked before it is built."""

    def __init__(
        self, tracer: PlainTracer, name: str, context: SpanContext, parent: SpanContext | None
    ) -> None:
        self.context = context
        self.kind = SpanKind.INTERNAL
        self.links: list[Link] = []
        self.attributes: _Attributes = {}
        self.start_ns = self.end_ns = 0
        self._tracer = tracer
        self._name = name
        self._parent = parent
        self._events: list[tuple[str, _Attributes, int]] = []
        self._status = _UNSET

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self.context

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        return not self.end_ns

    def set_attribute(self, key: str, value: Any) -> None:
        """Say one thing of it."""
        if not self.end_ns:
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Say several things of it."""
        if not self.end_ns:
            self.attributes.update(attributes)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Say that something happened in it, now or at a time in nanoseconds."""
        if not self.end_ns:
            self._events.append((name, dict(attributes or {}), timestamp or time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Point at another span."""
        if not self.end_ns:
            self.links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if not self.end_ns:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went; what is said to be well stays so."""
        new = status if isinstance(status, Status) else Status(status, description)
        kept = self._status.status_code is StatusCode.OK or new.status_code is StatusCode.UNSET
        if not kept and not self.end_ns:
            self._status = new

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an error as an event, in the words of the conventions."""
        told = {
            "exception.type": type(exception).__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End it, now or at a time in nanoseconds; once."""
        if not self.end_ns:
            self.end_ns = end_time or time_ns()
            self._tracer.ended(self)

    def built(self) -> ReadableSpan:
        """Return it as exporters take it, within the limits."""
        limits, tracer = self._tracer.limits, self._tracer
        longest = limits.max_span_attribute_length
        of_events = (limits.max_event_attributes, limits.max_attribute_length)
        of_links = (limits.max_link_attributes, limits.max_attribute_length)
        events = [Event(name, _bounded(about, *of_events), at) for name, about, at in self._events]
        links = [Link(each.context, _bounded(each.attributes, *of_links)) for each in self.links]
        return ReadableSpan(
            self._name,
            self.context,
            self._parent,
            tracer.resource,
            _bounded(self.attributes, limits.max_span_attributes, longest),
            BoundedList.from_seq(limits.max_events, events),
            BoundedList.from_seq(limits.max_links, links),
            self.kind,
            status=self._status,
            start_time=self.start_ns,
            end_time=self.end_ns,
            instrumentation_scope=tracer.scope,
        )


class PlainTracer(Tracer):
    """Begins plain spans. Thread-safe."""

    def __init__(self, tracers: PlainTracers, scope: InstrumentationScope) -> None:
        self.limits = tracers.limits
        self.resource = tracers.resource
        self.scope = scope
        self._tracers = tracers
        self._ids = tracers.ids
        self._random = TraceFlags.RANDOM_TRACE_ID if tracers.ids.is_trace_id_random() else 0

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Begin a span below the current one, or the one of a context."""
        above: SpanContext | None = traces.get_current_span(context).get_span_context()
        if above is not None and above.is_valid:
            trace, flags, state = above.trace_id, above.trace_flags, above.trace_state
        else:
            above, trace = None, self._ids.generate_trace_id()
            chosen = self._tracers.sampler.should_sample(context, trace, name, kind)
            sampled = TraceFlags.SAMPLED if chosen.decision.is_sampled() else TraceFlags.DEFAULT
            flags, state = TraceFlags(sampled | self._random), chosen.trace_state
        ids = SpanContext(trace, self._ids.generate_span_id(), False, flags, state)
        if not flags & TraceFlags.SAMPLED:
            return NonRecordingSpan(ids)
        span = PlainSpan(self, name, ids, above)
        span.kind = kind
        span.attributes = dict(attributes or {})
        span.links = list(links or ())
        span.start_ns = start_time or time_ns()
        return span

    def start_as_current_span(self, name: str, *args: Any, **named: Any) -> Any:
        """Begin a span that is the current one in a block."""
        return traces.use_span(self.start_span(name, *args, **named), end_on_exit=True)

    def ended(self, span: PlainSpan) -> None:
        """Hand over a span that has ended."""
        self._tracers.ended(span)


class PlainTracers(TracerProvider):
    """Gives plain spans to an exporter, on a thread of its own. Thread-safe."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        sampler: Sampler,
        resource: Resource,
        ids: IdGenerator,
        limits: SpanLimits,
        queue: int,
        every_ms: int,
        piece: int,
        meanwhile: Callable[[int], bool] = lambda count: False,
    ) -> None:
        """Begin to send what ends.

        Args:
            exporter: Where the spans go.
            sampler: Which traces are kept; what is below a span is kept where that is.
            resource: What the process is.
            ids: Makes the ids.
            limits: What a span may hold.
            queue: Spans that wait to be sent; more are dropped.
            every_ms: How often they are sent.
            piece: So many go to the exporter at a time.
            meanwhile: Other work of that thread: does so much, and says whether some is left.
        """
        self.sampler = sampler
        self.resource = resource
        self.ids = ids
        self.limits = limits
        self._last_ns = 0
        self._full = queue // 4
        self._closing = threading.Event()
        self._processor = BatchSpanProcessor(
            _Sending(self, exporter, piece, meanwhile),
            max_queue_size=queue,
            schedule_delay_millis=every_ms,
            max_export_batch_size=self._full,
        )

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Tracer:
        """Return what begins spans."""
        scope = InstrumentationScope(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        return PlainTracer(self, scope)

    def ended(self, span: PlainSpan) -> None:
        """Queue a span that has ended."""
        self._last_ns = span.end_ns
        self._processor.on_end(cast("ReadableSpan", span))  # it looks at the ids only

    def wait_for_quiet(self, count: int) -> None:
        """Wait until nobody calls, unless so many spans are there that the queue fills."""
        if count >= self._full:
            return
        end = monotonic() + _PATIENCE_S
        while time_ns() - self._last_ns < _QUIET_NS and monotonic() < end:
            if self._closing.wait(_QUIET_NS / 2e9):
                return

    def pause(self) -> None:
        """Let others have the interpreter, whose lock they would else wait 5 ms for."""
        if not self._closing.is_set():
            sleep(_PAUSE_S)

    def shutdown(self) -> None:
        """Send what is left, without waiting for anybody."""
        self._closing.set()
        self._processor.shutdown()


class _Sending(SpanExporter):
    """Builds spans and hands them on, in small pieces and when nobody calls."""

    def __init__(
        self,
        tracers: PlainTracers,
        exporter: SpanExporter,
        piece: int,
        meanwhile: Callable[[int], bool],
    ) -> None:
        self._tracers = tracers
        self._exporter = exporter
        self._piece = piece
        self._meanwhile = meanwhile

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand on spans that have ended."""
        self._tracers.wait_for_quiet(len(spans))
        done = SpanExportResult.SUCCESS
        for begin in range(0, len(spans), self._piece):
            part = [cast("PlainSpan", each).built() for each in spans[begin : begin + self._piece]]
            if self._exporter.export(part) is not SpanExportResult.SUCCESS:
                done = SpanExportResult.FAILURE
            self._tracers.pause()
        while self._meanwhile(self._piece):
            self._tracers.pause()
        return done

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()


_UNSET = Status(StatusCode.UNSET)


def _bounded(
    attributes: Mapping[str, Any] | None, most: int | None, longest: int | None
) -> BoundedAttributes:
    return BoundedAttributes(most, attributes, max_value_len=longest)
