"""Hints for tools, learned from failures: candidates that a person accepts before they are given.

A hint is an artefact of the kind `tool_hint` under the tool's name: `fmos tools hints --propose`
proposes, `fmos versions accept` accepts, and the verdicts on the tool carry it as a note.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from fmos.errors import ArgumentError, FmosError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.versions.reading import VersionReader
from fmos_trust.lookahead.store import Lesson

KIND = "tool_hint"
#: A kind of failure is a habit from so many times on.
LEAST = 3
_LONGEST = 600
_FRESH_S = 30.0
_KEPT = 2048


@dataclass(frozen=True, slots=True)
class Hint:
    """A candidate: the tool, what would be said of it, and how many failures speak for it."""

    tool: str
    text: str
    times: int


def candidates(lessons: Iterable[Lesson]) -> list[Hint]:
    """Return one candidate for each tool whose calls fail in the same way again and again."""
    by_tool: dict[str, list[Lesson]] = {}
    for each in lessons:
        by_tool.setdefault(each.tool, []).append(each)
    return [
        Hint(tool, _text(tool, mine), sum(each.times for each in mine))
        for tool, mine in sorted(by_tool.items())
    ]


def proposed(kernel: Kernel, tenant: str, hints: Iterable[Hint], *, author: str) -> list[str]:
    """Propose hints as versions and return what was proposed; known ones are passed over."""
    from fmos.versions.versions import Versions  # noqa: PLC0415 - only the command needs it

    versions, done = Versions(kernel), list[str]()
    for each in hints:
        with suppress(ArgumentError):  # it was proposed before, or the name cannot be one
            why = f"{each.times} calls failed in these ways"
            candidate = versions.propose(
                tenant, KIND, each.tool, each.text.encode(), author=author, why=why
            )
            done.append(candidate.label)
    return done


def _text(tool: str, lessons: list[Lesson]) -> str:
    said = "; ".join(dict.fromkeys(each.advice for each in lessons))
    return f"calls of {tool!r} fail often: {said}"[:_LONGEST]


class Hints:
    """The accepted hints; which tools have one is looked up at most twice a minute. Thread-safe."""

    def __init__(self, reader: VersionReader, steady: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._steady = steady
        self._names: dict[str, tuple[float, frozenset[str]]] = {}
        self._texts: dict[tuple[str, str, str, str], tuple[float, str]] = {}
        self._restored: dict[tuple[str, str, str, str], str] = {}

    def of(self, who: Principal, tool: str) -> str:
        """Return what a person wants said of a tool, or an empty text."""
        now = self._steady()
        if self._restored:
            restored = self._restored.get(_key(who, tool))
            if restored is not None:
                return restored
        if tool not in self._with_hint(who.tenant, now):
            return ""
        key = _key(who, tool)
        known = self._texts.get(key)
        if known is not None and now - known[0] < _FRESH_S:
            return known[1]
        text = self._read(who, tool)
        if known is not None and known[1] == text:
            text = known[1]  # the same object: nothing is new
        if len(self._texts) >= _KEPT:
            self._texts.clear()
        self._texts[key] = (now, text)
        return text

    def restore(self, who: Principal, tool: str, text: str) -> None:
        """Give a session the hint that it had, when it is run again."""
        self._restored[_key(who, tool)] = text

    def _with_hint(self, tenant: str, now: float) -> frozenset[str]:
        known = self._names.get(tenant)
        if known is not None and now - known[0] < _FRESH_S:
            return known[1]
        try:
            served = self._reader.register(tenant).artefacts
        except FmosError:  # what cannot be read is no hint; it never stops a call
            served = {}
        found = (key.partition("/") for key in served)
        names = frozenset(name for kind, _, name in found if kind == KIND)
        self._names[tenant] = (now, names)
        return names

    def _read(self, who: Principal, tool: str) -> str:
        try:
            found = self._reader.current(who, KIND, tool)
        except FmosError:
            return ""
        return found.content.decode("utf-8", "replace").strip()[:_LONGEST] if found else ""


def _key(who: Principal, tool: str) -> tuple[str, str, str, str]:
    return (who.tenant, who.agent_key, who.session, tool)
