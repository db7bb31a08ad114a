"""The windows of a limit: fixed and aligned to UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

Window = Literal["total", "minute", "hour", "day", "month"]

#: `total` never ends; the others begin at each full minute, hour, day (00:00) and month (the 1st).
WINDOWS: tuple[Window, ...] = ("total", "minute", "hour", "day", "month")

_NS = 1_000_000_000
_LENGTH_S: dict[Window, int] = {"minute": 60, "hour": 3_600, "day": 86_400}


def start_of(window: Window, now_ns: int) -> int:
    """Return when the window that holds a moment began, in nanoseconds since the Unix epoch."""
    if window == "total":
        return 0
    if window == "month":
        return _month(now_ns, 0)
    length_ns = _LENGTH_S[window] * _NS
    return now_ns - now_ns % length_ns


def end_of(window: Window, start_ns: int) -> int | None:
    """Return when the window that began at `start_ns` ends; None for `total`."""
    if window == "total":
        return None
    if window == "month":
        return _month(start_ns, 1)
    return start_ns + _LENGTH_S[window] * _NS


def _month(now_ns: int, later: int) -> int:
    day = datetime.fromtimestamp(now_ns // _NS, UTC)
    months = day.year * 12 + day.month - 1 + later
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) * _NS
