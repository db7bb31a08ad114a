"""The file exporter: spans and metrics as lines of OTLP's JSON, for where nothing may be sent.

The format is that of OpenTelemetry's file exporter
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/), which a collector reads with
its `otlpjsonfile` receiver. Its own package (opentelemetry-exporter-otlp-json-file, beta) pins
other versions of its parts than the OTLP exporter does, and its file grows without end.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

_log = logging.getLogger(__name__)

Json = dict[str, Any]


class OtlpFile:
    """A file that any number of processes append whole lines to; its owner alone may read it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._said = False

    def append(self, message: Json) -> bool:
        """Append one message, and return whether it could be written."""
        line = json.dumps(message, separators=(",", ":"), ensure_ascii=False) + "\n"
        try:
            self._make_room()
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line.encode("utf-8", "replace"))
            finally:
                os.close(handle)
        except OSError as error:
            if not self._said:  # once: a full disk stays full for a while
                _log.warning("telemetry cannot be written to %r: %s", str(self.path), error)
            self._said = True
            return False
        self._said = False
        return True

    def _make_room(self) -> None:
        try:
            full = self.path.stat().st_size >= self._max_bytes
        except FileNotFoundError:
            return
        if full:
            self.path.replace(f"{self.path}.1")


class FileSpans(SpanExporter):
    """Appends spans to a file."""

    def __init__(self, file: OtlpFile) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append spans as one line."""
        done = self._file.append({"resourceSpans": _resource_spans(spans)})
        return SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing: no line waits."""


class FileMetrics(MetricExporter):
    """Appends metrics to a file."""

    def __init__(self, file: OtlpFile) -> None:
        super().__init__()
        self._file = file

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Append metrics as one line."""
        found = [
            {
                "resource": _resource(each.resource),
                "scopeMetrics": [
                    {
                        "scope": {"name": scope.scope.name},
                        "metrics": [_metric(metric) for metric in scope.metrics],
                    }
                    for scope in each.scope_metrics
                ],
            }
            for each in metrics_data.resource_metrics
        ]
        done = not found or self._file.append({"resourceMetrics": found})
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: no line waits."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Do nothing: no line waits."""


def _resource_spans(spans: Sequence[ReadableSpan]) -> list[Json]:
    ordered = sorted(spans, key=lambda span: id(span.resource))
    return [
        {
            "resource": _resource(own[0].resource),
            "scopeSpans": [{"scope": {"name": "fmos"}, "spans": [_span(span) for span in own]}],
        }
        for own in (list(group) for _, group in groupby(ordered, lambda span: id(span.resource)))
    ]


def _resource(resource: Resource) -> Json:
    return {"attributes": _attributes(resource.attributes)}


def _span(span: ReadableSpan) -> Json:
    ids = span.get_span_context()
    assert ids is not None, "a span that was recorded has ids"
    told: Json = {
        **_ids(ids),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from `unspecified`
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes),
        "status": {"code": span.status.status_code.value},
    }
    if span.parent is not None:
        told["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.status.description:
        told["status"]["message"] = span.status.description
    if span.events:
        told["events"] = [
            {
                "timeUnixNano": str(event.timestamp),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.links:
        told["links"] = [
            {**_ids(link.context), "attributes": _attributes(link.attributes)}
            for link in span.links
        ]
    return told


def _ids(ids: SpanContext) -> Json:
    told: Json = {"traceId": f"{ids.trace_id:032x}", "spanId": f"{ids.span_id:016x}"}
    if ids.trace_state:
        told["traceState"] = ids.trace_state.to_header()
    return told


def _attributes(attributes: Mapping[str, Any] | None) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in (attributes or {}).items()]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, Iterable):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def _metric(metric: Metric) -> Json:
    told: Json = {"name": metric.name, "unit": metric.unit, "description": metric.description}
    data = metric.data
    if isinstance(data, Sum):
        told["sum"] = {
            "aggregationTemporality": _temporality(data.aggregation_temporality),
            "isMonotonic": data.is_monotonic,
            "dataPoints": [{**_times(point), **_number(point.value)} for point in data.data_points],
        }
    elif isinstance(data, Histogram):
        told["histogram"] = {
            "aggregationTemporality": _temporality(data.aggregation_temporality),
            "dataPoints": [
                {
                    **_times(point),
                    "count": str(point.count),
                    "sum": point.sum,
                    "min": point.min,
                    "max": point.max,
                    "bucketCounts": [str(count) for count in point.bucket_counts],
                    "explicitBounds": list(point.explicit_bounds),
                }
                for point in data.data_points
            ],
        }
    return told


def _temporality(value: AggregationTemporality) -> int:
    return int(value.value)


def _times(point: Any) -> Json:
    return {
        "attributes": _attributes(point.attributes),
        "startTimeUnixNano": str(point.start_time_unix_nano),
        "timeUnixNano": str(point.time_unix_nano),
    }


def _number(value: float) -> Json:
    return {"asInt": str(value)} if isinstance(value, int) else {"asDouble": value}
