"""W3C trace context: reads it, writes it, and knows which trace the current call belongs to.

https://www.w3.org/TR/trace-context/. In MCP it travels in a request's `_meta` (SEP-414). Needs
nothing of OpenTelemetry, and asks it only where the process has loaded it already.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"

#: What a request's `_meta` may carry beside what MCP itself defines.
META_KEYS = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE})

_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE = re.compile(r"[0-9a-f]{32}")
_SPAN = re.compile(r"[0-9a-f]{16}")


class TraceContext(NamedTuple):
    """A place in a trace: trace id and span id in hex, and whether the trace is kept."""

    trace: str
    span: str
    sampled: bool = True


#: The context that the request of the current call carried, where telemetry is off.
_request: ContextVar[TraceContext | None] = ContextVar("fmos_request_trace", default=None)


def parsed(value: object) -> TraceContext | None:
    """Return the context in a `traceparent`, or None if it is none: that is never an error."""
    match = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & 1))


def written(context: TraceContext) -> str:
    """Return a context as a `traceparent`."""
    return f"00-{context.trace}-{context.span}-{int(context.sampled):02x}"


def trace_id(value: object) -> str | None:
    """Return a value if it is a W3C trace id, else None."""
    if not isinstance(value, str) or value == _NO_TRACE:
        return None
    return value if _TRACE.fullmatch(value) else None


def span_id(value: object) -> str | None:
    """Return a value if it is a W3C span id, else None."""
    if not isinstance(value, str) or value == _NO_SPAN:
        return None
    return value if _SPAN.fullmatch(value) else None


def new_trace() -> str:
    """Return a fresh trace id."""
    return os.urandom(16).hex()


def current() -> TraceContext | None:
    """Return where the current call is: the active span of OpenTelemetry, else what was sent."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is not None:
        found = opentelemetry.get_current_span().get_span_context()
        if found.is_valid:
            ids = (f"{found.trace_id:032x}", f"{found.span_id:016x}")
            return TraceContext(*ids, bool(found.trace_flags & 1))
    return _request.get()


def carried() -> Mapping[str, str]:
    """Return what a request's `_meta` shall carry: the active span's context, with its baggage."""
    if sys.modules.get("opentelemetry.trace") is None:
        return _NOTHING
    from fmos.telemetry.propagation import injected  # noqa: PLC0415 - it is loaded already

    return injected()


_NOTHING: Mapping[str, str] = {}


class Carrying:
    """Makes the context that a request carried the current one, while telemetry is off."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: TraceContext) -> None:
        self._context = context

    def __enter__(self) -> Carrying:
        self._token = _request.set(self._context)
        return self

    def __exit__(self, *_: object) -> None:
        _request.reset(self._token)

    def acts_for(self, who: object) -> None:
        """Do nothing: there is no span."""


def as_json(value: object) -> str:
    """Return a value as an attribute holds it, where the conventions have a structure."""
    return json.dumps(value, ensure_ascii=False, default=str)
