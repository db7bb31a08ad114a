"""A call seen through what entered its session: who asked for it, where its values came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fmos.redaction import texts_in
from fmos.traps.manifest import Effect, ToolDescriptor
from fmos.types import Operation
from fmos_trust.evidence.catalogue import Catalogue, ToolFacts, facts_of
from fmos_trust.evidence.session import Evidence
from fmos_trust.keyed import KeyedHash
from fmos_trust.provenance.sessions import Seen

_KEPT = 64


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A tool of which nobody said anything but its name."""

    name: str
    effect: Effect = "execute"
    description: str = ""
    input_schema: dict[str, Any] | None = None


class SessionView:
    """What a session says of calls; it is read when it is first asked."""

    def __init__(
        self, load: Callable[[], Seen], catalogue: Callable[[], Catalogue], keyed: KeyedHash
    ) -> None:
        self._load = load
        self._catalogue = catalogue
        self._keyed = keyed

    @cached_property
    def seen(self) -> Seen:
        """What the session has seen."""
        return self._load()

    def judge(
        self, operation: Operation, descriptor: ToolDescriptor | None, effect: Effect
    ) -> Evidence:
        """Return the evidence on a call."""
        tool = descriptor or Unregistered(operation.name, effect)
        seen = self.seen
        with seen.lock:
            return seen.evidence.judge(tool, operation.arguments, self._catalogue())

    def came_from(self, value: Any) -> frozenset[str]:
        """Return where the texts of a value stand; `none` where one of them stands nowhere."""
        seen, found = self.seen, frozenset[str]()
        with seen.lock:
            for text in texts_in(value, numbers=True):
                found |= seen.came_from(text, self._keyed) or {"none"}
        return found


class Catalogues:
    """What the evidence makes of the tools of agents, made once for a set of tools."""

    def __init__(self) -> None:
        self._known: dict[int, _Made] = {}

    def of(self, tools: Mapping[str, ToolDescriptor]) -> Catalogue:
        """Return the catalogue of a set of tools; what was declared of them counts."""
        return self._made(tools).catalogue

    def outward(self, tools: Mapping[str, ToolDescriptor]) -> frozenset[str]:
        """Return the tools that look at an address outside: what is put into it leaves."""
        return self._made(tools).outward

    def _made(self, tools: Mapping[str, ToolDescriptor]) -> _Made:
        known = self._known.get(id(tools))
        if known is None or known.tools is not tools:
            if len(self._known) >= _KEPT:
                self._known.clear()
            catalogue = Catalogue({name: _facts(tool) for name, tool in tools.items()})
            outward = frozenset(
                name for name, facts in catalogue.tools.items() if "url" in facts.roles.values()
            )
            known = self._known[id(tools)] = _Made(tools, catalogue, outward)
        return known


@dataclass(frozen=True, slots=True)
class _Made:
    """What was made of one set of tools; it keeps the set, so that no other has its id."""

    tools: Mapping[str, ToolDescriptor]
    catalogue: Catalogue
    outward: frozenset[str]


def _facts(tool: ToolDescriptor) -> ToolFacts:
    found = facts_of(tool)
    if not tool.roles:
        return found
    roles = {**found.roles, **tool.roles}
    outward = any(role in ("url", "recipient") for role in roles.values())
    return dataclasses.replace(found, roles=roles, outward=outward)
