"""Traces and metrics of a process, off unless configured.

Nothing of OpenTelemetry is imported before `configure` (or `attach`) turns it on; until then each
call here returns at once. There is one switch for the process, as there is one OpenTelemetry.
"""

from fmos.telemetry.context import META_KEYS, TraceContext, as_json, carried, current, parsed
from fmos.telemetry.environment import with_environment
from fmos.telemetry.switch import (
    attach,
    configure,
    is_on,
    keeps_content,
    layer,
    note,
    operation,
    recorded,
    requesting,
    served,
    shutdown,
    spending,
)
from fmos.telemetry.turns import Opened, Turns

__all__ = [
    "META_KEYS",
    "Opened",
    "TraceContext",
    "Turns",
    "as_json",
    "attach",
    "carried",
    "configure",
    "current",
    "is_on",
    "keeps_content",
    "layer",
    "note",
    "operation",
    "parsed",
    "recorded",
    "requesting",
    "served",
    "shutdown",
    "spending",
    "with_environment",
]
