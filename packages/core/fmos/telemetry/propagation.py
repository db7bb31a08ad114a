"""Puts OpenTelemetry's current context into a request's `_meta`, and takes it out again.

Imported only where the process has loaded OpenTelemetry: it is part of its API package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fmos.telemetry.context import BAGGAGE, META_KEYS, TRACEPARENT, TRACESTATE, parsed

_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


def injected() -> dict[str, str]:
    """Return the current context in the three keys that it has; empty where there is none."""
    carrier: dict[str, str] = {}
    if not get_current():
        return carrier
    _TRACE.inject(carrier)
    _BAGGAGE.inject(carrier)
    return carrier


def extracted(meta: Mapping[str, Any]) -> Context:
    """Return the current context with what a request carried; what is malformed is left out."""
    if TRACESTATE not in meta and BAGGAGE not in meta:
        return _below(meta.get(TRACEPARENT))
    carrier = {key: value for key in META_KEYS if isinstance(value := meta.get(key), str)}
    return _BAGGAGE.extract(carrier, _TRACE.extract(carrier))


def _below(traceparent: object) -> Context:
    """Return the current context below a `traceparent`, as the propagators do in three times."""
    sent = parsed(traceparent)
    if sent is None:
        return get_current()
    flags = TraceFlags(int(str(traceparent).split("-")[3], 16))
    ids = SpanContext(int(sent.trace, 16), int(sent.span, 16), True, flags)
    return set_span_in_context(NonRecordingSpan(ids))
