"""Puts OpenTelemetry's current context into a request's `_meta`, and takes it out again.

Imported only where the process has loaded OpenTelemetry: it is part of its API package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fmos.telemetry.context import META_KEYS

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
    carrier = {key: value for key in META_KEYS if isinstance(value := meta.get(key), str)}
    return _BAGGAGE.extract(carrier, _TRACE.extract(carrier))
