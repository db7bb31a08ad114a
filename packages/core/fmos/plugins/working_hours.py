"""The built-in policy module: outside of working hours, calls are asked or denied.

[drivers.options.working-hours]
days = "mon-fri"                 # or "mon,wed,sat"
from = "08:00"
until = "18:00"                  # not included; before `from`: until the next day
timezone = "Europe/Berlin"       # default: UTC
outside = "ask"                  # or "deny"
effects = ["write", "execute", "send"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fmos.drivers import CallFacts, Objection
from fmos.errors import ArgumentError
from fmos.types import Operation

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KNOWN = ("days", "from", "until", "timezone", "outside", "effects")
_EFFECTS = ("read", "write", "execute", "send")


class WorkingHours:
    """Objects to calls outside of working hours."""

    name = "working-hours"

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Take the options of the home.

        Raises:
            ArgumentError: naming the option that is not one, or cannot be understood.
        """
        for key in options:
            if key not in _KNOWN:
                raise _wrong(key, "is no option", f"there are {', '.join(_KNOWN)}")
        self._days = _days(str(options.get("days", "mon-fri")))
        self._from = _time("from", str(options.get("from", "08:00")))
        self._until = _time("until", str(options.get("until", "18:00")))
        self._zone = _zone(str(options.get("timezone", "UTC")))
        self._outside: Literal["ask", "deny"] = _outside(str(options.get("outside", "ask")))
        self._effects = _effects(options.get("effects", ("write", "execute", "send")))

    def judge(self, operation: Operation, facts: CallFacts) -> Sequence[Objection]:
        """Return an objection for a call outside of the hours, if its effect is one of those."""
        now = datetime.fromtimestamp(facts.now_ns / 1e9, UTC).astimezone(self._zone)
        if facts.effect not in self._effects or self._works(now):
            return ()
        hours = f"{self._from:%H:%M} to {self._until:%H:%M}"
        when = f"{_DAYS[now.weekday()]} {now:%H:%M}"
        message = f"it is {when}, and {facts.effect} calls belong to the working hours ({hours})"
        return (Objection(self._outside, message, "working_hours"),)

    def _works(self, now: datetime) -> bool:
        at, day = now.time().replace(tzinfo=None), now.weekday()
        if self._from <= self._until:
            return day in self._days and self._from <= at < self._until
        # Over midnight: the hours after it belong to the day before.
        return (day in self._days and at >= self._from) or (
            (day - 1) % 7 in self._days and at < self._until
        )


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise _wrong("days", f"{text!r} are no days", 'write "mon-fri" or "mon,wed"')
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


def _time(key: str, text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError as error:
        raise _wrong(key, f"{text!r} is no time", 'write "08:00"') from error


def _zone(text: str) -> tzinfo:
    if text == "UTC":
        return UTC
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _wrong("timezone", f"{text!r} is not known here", 'write "Europe/Berlin"') from error


def _outside(text: str) -> Literal["ask", "deny"]:
    if text == "ask":
        return "ask"
    if text == "deny":
        return "deny"
    raise _wrong("outside", f"{text!r} is not ask or deny", 'write "ask"')


def _effects(value: Any) -> frozenset[str]:
    if isinstance(value, list | tuple) and value and all(each in _EFFECTS for each in value):
        return frozenset(value)
    raise _wrong("effects", f"{value!r} are no effects", f"there are {', '.join(_EFFECTS)}")


def _wrong(key: str, what: str, hint: str) -> ArgumentError:
    return ArgumentError(f"[drivers.options.working-hours] {key}: {what}", hint=hint)
