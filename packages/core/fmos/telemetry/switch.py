"""The switch: what instrumented code calls, which does nothing until telemetry is turned on.

Off, each call is one look at a variable. On, it goes to the recorder, which alone knows
OpenTelemetry.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fmos.errors import MissingExtraError
from fmos.telemetry import context

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from fmos.settings import TelemetrySettings
    from fmos.telemetry.recorder import Recorder
    from fmos.types import Operation, Principal, Verdict

_log = logging.getLogger(__name__)

#: How long a process that ends waits for what was not sent yet.
FLUSH_S = 3.0

_EXTRA = 'pip install "fmos[otel]"'

_recorder: Recorder | None = None


class Call(Protocol):
    """One served call under way, as its door tells of it."""

    def acts_for(self, who: Principal) -> None:
        """Say whom it is made for, once that is known."""


class _Nothing:
    """What there is to tell while telemetry is off."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def acts_for(self, who: Principal) -> None:
        return None


class _Untold:
    """An operation while telemetry is off: its row still says which trace it belongs to."""

    __slots__ = ("span", "trace")

    def __init__(self, trace: str, span: str | None) -> None:
        self.trace = trace
        self.span = span

    def __enter__(self) -> _Untold:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def noted(self, seq: int) -> None:
        return None


_NOTHING = _Nothing()
_NO_LAYER: AbstractContextManager[None] = nullcontext()


def configure(
    settings: TelemetrySettings, service: str, *, home: Path | None = None, required: bool = True
) -> bool:
    """Turn telemetry on as the settings say, and return whether it is on now.

    The first that turns it on in a process counts. Headers and resource attributes come from the
    standard environment variables, which OpenTelemetry's own exporter reads.

    Args:
        settings: The `[telemetry]` of a home.
        service: What the process is called: `service.name`.
        home: Where a relative path of the file exporter starts.
        required: A missing package is an error; else the process goes on without telemetry.

    Raises:
        MissingExtraError: if the extra `otel` is not installed.
    """
    global _recorder
    if settings.exporter == "none" or _recorder is not None:
        return _recorder is not None
    try:
        from fmos.telemetry.providers import build  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        missing = MissingExtraError(
            f"telemetry is turned on, but OpenTelemetry cannot be imported ({error})", hint=_EXTRA
        )
        if required:
            raise missing from error
        _log.warning("%s", missing)
        return False
    _recorder = build(settings, service, home)
    atexit.register(shutdown)
    return True


def attach(tracers: TracerProvider, meters: MeterProvider | None = None) -> None:
    """Tell the providers that the application has set up already, in place of any of our own.

    Raises:
        MissingExtraError: if the extra `otel` is not installed.
    """
    global _recorder
    try:
        from fmos.telemetry.instruments import Instruments  # noqa: PLC0415 - an extra
        from fmos.telemetry.recorder import Recorder  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"{error}", hint=_EXTRA) from error
    _recorder = Recorder(tracers, Instruments(meters) if meters is not None else None)


def shutdown(timeout_s: float = FLUSH_S) -> None:
    """Send what is left, for no longer than the time-out, and turn telemetry off."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        atexit.unregister(shutdown)
        recorder.shutdown(timeout_s)


def is_on() -> bool:
    """Return whether telemetry is on."""
    return _recorder is not None


def recorder() -> Recorder | None:
    """Return what tells OpenTelemetry, or None while telemetry is off."""
    return _recorder


def keeps_content() -> bool:
    """Return whether content may be sent, as far as the settings go; a contract must agree."""
    return _recorder is not None and _recorder.content


def served(
    tool: str, door: str, meta: Mapping[str, Any] | None = None
) -> AbstractContextManager[Call]:
    """Return what a door holds around a served tool call: its server span.

    `meta` is the `_meta` of its request, whose trace context becomes the parent.
    """
    if _recorder is not None:
        try:
            return _recorder.served(tool, door, meta)
        except Exception as error:  # what a stranger sent must not fail for being told of
            _log.warning("a call of %r is not told of (%s)", tool[:80], type(error).__name__)
            return _NOTHING
    if not meta or context.TRACEPARENT not in meta:
        return _NOTHING
    sent = context.parsed(meta[context.TRACEPARENT])
    return _NOTHING if sent is None else context.Carrying(sent)


def requesting(tool: str, transport: object) -> AbstractContextManager[object]:
    """Return what a client holds around a call of a server: its client span."""
    if _recorder is None:
        return _NOTHING
    return _recorder.requesting(tool, str(getattr(transport, "where", "in process")))


def operation(operation: Operation, verdict: Verdict) -> AbstractContextManager[Any]:
    """Return what is held around the intent row of an operation: its span, with its ids.

    `trace` and `span` of what it yields are for the row: a row always has a trace.
    """
    if _recorder is not None:
        return _recorder.operation(operation, verdict)
    trace = context.trace_id(operation.trace)
    if trace is not None:
        return _Untold(trace, context.span_id(operation.span))
    here = context.current()
    return _Untold(here.trace, here.span) if here else _Untold(context.new_trace(), None)


def layer(name: str) -> AbstractContextManager[None]:
    """Return what is held around the work of one layer below the services: its time is told."""
    return _NO_LAYER if _recorder is None else _recorder.layer(name)


def note(attributes: Mapping[str, Any]) -> None:
    """Set attributes of the span of the current call."""
    if _recorder is not None:
        _recorder.note(attributes)


def recorded(event: str, seq: int, about: object = None) -> None:
    """Tell of a row of the journal, as an event of the current span."""
    if _recorder is not None:
        _recorder.recorded(event, seq, about)


def spending(
    who: Principal, amounts: Mapping[str, int] | None = None
) -> AbstractContextManager[None]:
    """Return what is held around work of the ledger: its time, what it spends and refuses.

    `amounts` are spent for good if the block ends well; without them it only sets aside.
    """
    return _NO_LAYER if _recorder is None else _recorder.spending(who, amounts or {})
