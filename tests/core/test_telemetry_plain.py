"""Spans of our own providers are what the SDK's would be, and wait until nobody calls."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from fmos.telemetry.instruments import Instruments, Waiting
from fmos.telemetry.plain import PlainTracers
from fmos.telemetry.providers import Ids

LIMITS = SpanLimits(max_span_attributes=4, max_span_attribute_length=8, max_events=2)
_VALUES = st.one_of(st.text(max_size=12), st.integers(-9, 9), st.booleans(), st.lists(st.text()))
_ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=3), _VALUES, max_size=6)


def plain(sample: float = 1.0) -> tuple[PlainTracers, InMemorySpanExporter]:
    """Return providers of our own and where their spans go."""
    exporter = InMemorySpanExporter()
    tracers = PlainTracers(
        exporter,
        sampler=TraceIdRatioBased(sample),
        resource=Resource({"service.name": "here"}),
        ids=Ids(),
        limits=LIMITS,
        queue=64,
        every_ms=60_000,
        piece=2,
    )
    return tracers, exporter


def tell(provider: trace.TracerProvider, attributes: dict[str, Any]) -> None:
    """Tell the same of a span and one below it."""
    tracer = provider.get_tracer("fmos")
    with tracer.start_as_current_span("above", kind=SpanKind.SERVER, start_time=1):
        below = tracer.start_span("below", attributes=attributes, start_time=5)
        below.set_attributes({"more": 1, "of it": [True]})
        for number in range(3):
            below.add_event(f"e{number}", attributes, 6)
        below.set_status(Status(StatusCode.ERROR))
        below.end(9)
        below.set_attribute("late", 1)


def shown(span: ReadableSpan) -> object:
    """Return a span without what is random or the time of day."""
    events = [(each.name, dict(each.attributes or {}), each.timestamp) for each in span.events]
    about = (span.name, span.kind, span.start_time, dict(span.attributes or {}), events)
    return (*about, span.status.status_code, span.parent is None, span.dropped_attributes)


@given(attributes=_ATTRIBUTES)
def test_a_span_is_what_the_sdk_makes_of_it(attributes: dict[str, Any]) -> None:
    """Attributes, events, limits, status and ids are those of the SDK's own span."""
    theirs, ours = InMemorySpanExporter(), plain()
    sdk = TracerProvider(span_limits=LIMITS, shutdown_on_exit=False)
    sdk.add_span_processor(SimpleSpanProcessor(theirs))
    tell(sdk, attributes)
    tell(ours[0], attributes)
    ours[0].shutdown()
    found = ours[1].get_finished_spans()
    assert [shown(each) for each in found] == [shown(e) for e in theirs.get_finished_spans()]
    below, above = found
    assert above.context is not None
    assert below.parent == above.context
    assert below.end_time == 9


def test_a_trace_that_is_not_kept_has_no_span() -> None:
    """With a share of nothing, neither a root nor what is below it is sent."""
    tracers, exporter = plain(0.0)
    tell(tracers, {})
    tracers.shutdown()
    assert exporter.get_finished_spans() == ()


def test_measurements_that_wait_are_in_what_is_read() -> None:
    """A reader finds all that was measured before, and the helper that says so has no metric."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    instruments = Instruments(meters, Waiting())
    assert not isinstance(instruments.served, Histogram)
    for _ in range(100):
        instruments.served.record(0.5, {"a": "b"})
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert getattr(point, "count", 0) == 100
