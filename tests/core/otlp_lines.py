"""Reads what the file exporter wrote: OTLP as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

KINDS = {1: "internal", 2: "server", 3: "client"}


class Told(NamedTuple):
    """One span as it was written."""

    service: str
    name: str
    kind: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[str]


def spans(path: Path) -> list[Told]:
    """Return every span of a file, in the order of their ends."""
    found: list[Told] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line).get("resourceSpans", ()):
            service = values(resource["resource"]["attributes"])["service.name"]
            for scope in resource["scopeSpans"]:
                found += [_told(service, span) for span in scope["spans"]]
    return found


def metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the data points of every metric of a file, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line).get("resourceMetrics", ()):
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    data = metric.get("sum") or metric["histogram"]
                    points = [
                        {**point, "attributes": values(point["attributes"])}
                        for point in data["dataPoints"]
                    ]
                    found.setdefault(metric["name"], []).extend(points)
    return found


def values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OTLP's list of attributes as a dict."""
    return {each["key"]: _value(each["value"]) for each in attributes}


def _told(service: str, span: dict[str, Any]) -> Told:
    return Told(
        service,
        span["name"],
        KINDS[span["kind"]],
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        values(span["attributes"]),
        [(event["name"], values(event["attributes"])) for event in span.get("events", ())],
        [link["spanId"] for link in span.get("links", ())],
    )


def _value(value: dict[str, Any]) -> Any:
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held)
    if kind == "arrayValue":
        return [_value(each) for each in held["values"]]
    return held
