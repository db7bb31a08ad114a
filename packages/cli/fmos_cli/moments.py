"""The times that options take: a day, a time, a span before now, or a number of the journal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_NS = 1_000_000_000
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

#: What the help of --since and --until says where rows can be named as well.
SINCE_HELP = "Only what came after it: a row's number, a day, a time, or 7d."
UNTIL_HELP = "Only what came up to this row, or before this day, time or span."


def moment_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of a day, a time (UTC unless it says), or a span.

    Raises:
        ArgumentError: if it is none of them.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            ago = timedelta(seconds=float(span[1]) * UNITS[span[2]])
            return int((datetime.now(UTC) - ago).timestamp() * _NS)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(
            f"{text!r} is no time",
            hint="give 2026-01-31, 2026-01-31T12:00 or 7d (s, m, h, d, w)",
        ) from error
    zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(zoned.timestamp()) * _NS


def is_number(text: str) -> bool:
    """Return whether an option names a row, or an id, and not a time."""
    return text.isascii() and text.isdigit()
