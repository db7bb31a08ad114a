"""Reads the spans that the file exporter wrote: OTLP as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

_KINDS = {1: "internal", 2: "server", 3: "client"}


class Told(NamedTuple):
    """One span as it was written; `ms` is how long it lasted."""

    name: str
    kind: str
    trace: str
    span: str
    parent: str
    ms: float
    attributes: dict[str, Any]
    rows: list[int]


def spans(path: Path) -> list[Told]:
    """Return every span of a file."""
    found: list[Told] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            for resource in json.loads(line).get("resourceSpans", ()):
                for scope in resource["scopeSpans"]:
                    found += [_told(span) for span in scope["spans"]]
    return found


def _told(span: dict[str, Any]) -> Told:
    events = (_values(event["attributes"]) for event in span.get("events", ()))
    return Told(
        span["name"],
        _KINDS[span["kind"]],
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6,
        _values(span["attributes"]),
        [each["fmos.journal.seq"] for each in events if "fmos.journal.seq" in each],
    )


def _values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: _value(each["value"]) for each in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held)
    return [_value(each) for each in held["values"]] if kind == "arrayValue" else held
