"""What a rule's `when:` sees of a call: each part is worked out when an expression names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from fmos.contract.written import program
from fmos.versions.trust_policies import roles_of
from fmos_trust.facts import Facts
from fmos_trust.policy.pointers import leaves_at

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOST = 200

#: Which fields of a name an expression asks for; None is all.
Fields = tuple[str, ...] | None

#: Looks something up for one call.
Look = Callable[[Facts], Mapping[str, Any]]


class UnusableError(Exception):
    """A rule cannot be judged for a call; the text says why, without the value's secrets."""


def nothing(facts: Facts) -> Mapping[str, Any]:
    """Return nothing: what is not known here."""
    return {}


class Surroundings:
    """What is around one call; asked for one name twice, it looks once."""

    def __init__(
        self,
        facts: Facts,
        now_ns: Callable[[], int],
        zone: tzinfo = UTC,
        *,
        counters: Look = nothing,
        ledger: Look = nothing,
    ) -> None:
        self._facts = facts
        self._now_ns = now_ns
        self._zone = zone
        self._looks: dict[str, Look] = {"counters": counters, "ledger": ledger} | _LOOKS
        self._known: dict[tuple[str, Fields], Any] = {}

    def variable(self, name: str, fields: Fields) -> Any:
        """Return the value of one of the names that an expression may use, or these fields of it.

        Only what is asked for is worked out and handed over, which is most of what it costs.
        """
        key = (name, fields)
        if key not in self._known:
            found = self._now() if name == "time" else self._facts
            parts = _FIELDS.get(name)
            if parts is None:
                self._known[key] = self._looks[name](self._facts)
            else:
                asked = parts.items() if fields is None else ((f, parts[f]) for f in fields)
                self._known[key] = {field: part(found) for field, part in asked}
        return self._known[key]

    def _now(self) -> datetime:
        seconds = (self._facts.at_ns or self._now_ns()) // 1_000_000_000
        return datetime.fromtimestamp(seconds, self._zone)


class Condition:
    """One `when:` expression, compiled."""

    __slots__ = ("_asked", "_program")

    def __init__(self, text: str) -> None:
        self._program = program(text)
        known = self._program.variables()
        self._asked = tuple((name, _fields(name, text)) for name in sorted(_NAMES) if name in known)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of the surroundings that it looks at."""
        return tuple(name for name, _ in self._asked)

    def holds(self, around: Surroundings) -> bool:
        """Return whether it is true of a call.

        Raises:
            UnusableError: if it cannot be worked out, or is neither true nor false.
        """
        given = {name: around.variable(name, fields) for name, fields in self._asked}
        try:
            found = self._program.execute(given)
        except Exception as error:
            raise UnusableError(f"`when` cannot be worked out: {_why(error)}") from error
        if found is True or found is False:
            return found
        raise UnusableError(f"`when` is neither true nor false but a {type(found).__name__}")


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]!r}" if error.args else "a key is missing"
    return str(error).partition(". CEL does not")[0].partition(": the operation")[0][:_MOST]


def _fields(name: str, text: str) -> Fields:
    """Return which fields of a name an expression asks for; None if that cannot be told."""
    parts = _FIELDS.get(name)
    found = re.findall(rf"\b{name}\.([a-z]+)\b", text)
    if parts is None or len(found) != len(re.findall(rf"\b{name}\b", text)):
        return None
    return tuple(sorted({field for field in found if field in parts}))


def _roles(facts: Facts) -> list[str]:
    role = facts.operation.principal.role
    return list(roles_of(facts.standing)) if facts.standing else [role] * bool(role)


def _provenance(facts: Facts) -> dict[str, list[str]]:
    """Return where each value of the arguments came from; nothing where that is not known."""
    found: dict[str, list[str]] = {}
    for name in facts.operation.arguments:
        part = name.replace("~", "~0").replace("/", "~1")
        for pointer, _ in leaves_at(facts.operation.arguments, (name,)):
            found[pointer] = sorted(sources_of(facts, pointer))
        found.setdefault(f"/{part}", sorted(sources_of(facts, f"/{part}")))
    return found


def sources_of(facts: Facts, pointer: str) -> frozenset[str]:
    """Return the kinds of sources that a value came from; none where it is not known."""
    look: Callable[[str], Iterable[str]] | None = getattr(facts, "provenance", None)
    return frozenset(look(pointer)) if look is not None else frozenset()


def _arguments(facts: Facts) -> dict[str, Any]:
    return facts.operation.arguments


#: The fields of the names that have a fixed set of them, each worked out by itself.
_FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "principal": {
        "tenant": lambda facts: facts.operation.principal.tenant,
        "application": lambda facts: facts.operation.principal.application,
        "agent": lambda facts: facts.operation.principal.agent,
        "session": lambda facts: facts.operation.principal.session,
        "role": lambda facts: facts.operation.principal.role,
        "roles": _roles,
    },
    "time": {
        "hour": lambda now: now.hour,
        "minute": lambda now: now.minute,
        "weekday": lambda now: _DAYS[now.weekday()],
        "day": lambda now: now.day,
        "month": lambda now: now.month,
        "year": lambda now: now.year,
        "date": lambda now: f"{now:%Y-%m-%d}",
        "clock": lambda now: f"{now:%H:%M}",
    },
    "tool": {
        "name": lambda facts: facts.tool,
        "capability": lambda facts: facts.capability,
        "effect": lambda facts: facts.effect,
        "kind": lambda facts: facts.operation.kind.value,
    },
}
_LOOKS: dict[str, Look] = {"args": _arguments, "provenance": _provenance}
_NAMES = frozenset({*_LOOKS, *_FIELDS, "counters", "ledger"})
