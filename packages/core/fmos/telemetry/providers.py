"""Builds OpenTelemetry's providers from the settings: where spans and metrics go.

Spans wait in a bounded queue and are sent on a thread of their own, so that an exporter that fails
or hangs costs an operation nothing: what does not fit the queue is dropped. Measurements are added
up there, too.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from contextlib import suppress
from pathlib import Path

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from fmos.settings import TelemetrySettings
from fmos.telemetry.instruments import Instruments, Waiting
from fmos.telemetry.otlp_file import FileMetrics, FileSpans, OtlpFile
from fmos.telemetry.plain import PlainTracers
from fmos.telemetry.recorder import Recorder, wanted_trace

#: Spans that wait to be sent; more are dropped.
QUEUE = 4096
#: Spans that an exporter gets at a time: of those that write them here, what takes 0.5 ms.
_OVER_HTTP = 256
_HERE = 8
_EVERY_MS = 1000
_METRICS_EVERY_MS = 60_000
#: How long one attempt to send may take.
_SEND_S = 5
_LONGEST_VALUE = 16_384


class Ids(RandomIdGenerator):
    """Random ids; a root span may ask for the trace that its operation already belongs to."""

    def generate_trace_id(self) -> int:
        """Return the trace id that is asked for, else a fresh one."""
        return wanted_trace.get() or random.getrandbits(128) or 1


def build(settings: TelemetrySettings, service: str, home: Path | None) -> Recorder:
    """Return what tells OpenTelemetry, with exporters as the settings name them.

    Raises:
        ImportError: if the package of the exporter is not installed.
    """
    spans, metrics = _exporters(settings, home)
    resource = Resource.create({"service.name": service, "process.pid": os.getpid()})
    waiting = Waiting()
    tracers = PlainTracers(
        spans,
        sampler=TraceIdRatioBased(settings.sample),
        resource=resource,
        ids=Ids(),
        limits=SpanLimits(max_span_attribute_length=_LONGEST_VALUE),
        queue=QUEUE,
        every_ms=_EVERY_MS,
        piece=_OVER_HTTP if settings.exporter == "otlp" else _HERE,
        meanwhile=waiting.add_up,
    )
    reader = PeriodicExportingMetricReader(
        metrics, export_interval_millis=_METRICS_EVERY_MS, export_timeout_millis=_SEND_S * 1000
    )
    meters = MeterProvider(
        [reader],
        resource=resource,
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOffExemplarFilter(),
    )
    return Recorder(
        tracers,
        Instruments(meters, waiting),
        content=settings.content,
        close=lambda left: _close(tracers, meters, left),
    )


def _close(tracers: PlainTracers, meters: MeterProvider, timeout_s: float) -> None:
    """Send what is left on threads that nobody waits for longer than the time-out."""
    work = (tracers.shutdown, meters.shutdown)
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        with suppress(RuntimeError):  # the interpreter is too far gone to start one
            thread.start()
    for thread in threads:
        if thread.ident is not None:
            thread.join(timeout_s / len(threads))


def _exporters(
    settings: TelemetrySettings, home: Path | None
) -> tuple[SpanExporter, MetricExporter]:
    if settings.exporter == "file":
        path = (home or Path.cwd()) / settings.file
        file = OtlpFile(path, settings.file_megabytes * 1_000_000)
        return FileSpans(file), FileMetrics(file)
    if settings.exporter == "console":
        # Never the standard output: on stdio it is the protocol's.
        return ConsoleSpanExporter(out=sys.stderr), ConsoleMetricExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - heavy
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    base = settings.endpoint.rstrip("/")
    return (
        OTLPSpanExporter(f"{base}/v1/traces" if base else None, timeout=_SEND_S),
        OTLPMetricExporter(f"{base}/v1/metrics" if base else None, timeout=_SEND_S),
    )
