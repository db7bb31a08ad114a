"""What is known of a server's tools: pinned, offered by the application, asked for by the agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fmos.traps.manifest import ToolDescriptor

#: Tool name to descriptor.
Toolbox: TypeAlias = Mapping[str, ToolDescriptor]

FIRST_USE = "first use"

State = Literal["pinned", "changed", "new", "gone", "asked"]


@dataclass(frozen=True, slots=True)
class Pin:
    """One tool as it was accepted; `by` is a person, or says that it was the first use."""

    tool: ToolDescriptor
    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class ServerTools:
    """The tools of one server for one agent, by name.

    Args:
        server: The server's name; empty for the application itself.
        pins: What was accepted.
        offer: The whole catalogue as the application registered it last.
        asked: What came through the agent's own door; it counts for nothing until a person agrees.
        pinned_ns: When something was pinned for the first time; 0: never.
        revision: How often it changed.
    """

    server: str
    pins: Mapping[str, Pin] = field(default_factory=dict)
    offer: Mapping[str, ToolDescriptor] = field(default_factory=dict)
    asked: Mapping[str, ToolDescriptor] = field(default_factory=dict)
    pinned_ns: int = 0
    revision: int = 0

    def state(self, name: str) -> State:
        """Return where a tool is between offer and pin."""
        pin, offered = self.pins.get(name), self.offer.get(name)
        if offered is None:
            return "asked" if pin is None else "gone"
        if pin is None:
            return "new"
        return "pinned" if pin.tool == offered else "changed"

    def wanted(self, name: str) -> ToolDescriptor | None:
        """Return the tool as it would be after an approval; None where it is gone."""
        return self.offer.get(name) or self.asked.get(name)

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted({*self.pins, *self.offer, *self.asked})

    def differing(self) -> list[str]:
        """Return the names that a person has to decide on, sorted."""
        return [name for name in self.names() if self._differs(name)]

    def _differs(self, name: str) -> bool:
        asked, pin = self.asked.get(name), self.pins.get(name)
        if asked is not None and name not in self.offer:
            return pin is None or pin.tool != asked
        return self.state(name) not in ("pinned", "asked")


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why a tool that somebody named is not to be used."""

    state: Literal["changed", "new", "gone", "shadow"]
    server: str
    why: str


@dataclass(frozen=True, slots=True)
class InForce:
    """The tools that an agent may be judged by, and those it may not use yet."""

    tools: Mapping[str, ToolDescriptor] = field(default_factory=dict)
    withheld: Mapping[str, Withheld] = field(default_factory=dict)
    problem: str = ""
    servers: tuple[ServerTools, ...] = ()


NOTHING = InForce()


def to_json(found: ServerTools) -> dict[str, Any]:
    """Return everything of a server's tools but the revision, as JSON data."""
    return {
        "server": found.server,
        "pins": [
            {"tool": pin.tool.model_dump(mode="json"), "by": pin.by, "at_ns": pin.at_ns}
            for _, pin in sorted(found.pins.items())
        ],
        "offer": dumped(found.offer),
        "asked": dumped(found.asked),
        "pinned_ns": found.pinned_ns,
    }


def from_json(data: Mapping[str, Any], revision: int = 0) -> ServerTools:
    """Return what `to_json` told of."""
    pins = [
        Pin(ToolDescriptor.from_answer(each["tool"]), str(each["by"]), int(each["at_ns"]))
        for each in data["pins"]
    ]
    return ServerTools(
        server=str(data["server"]),
        pins={pin.tool.name: pin for pin in pins},
        offer=read(data["offer"]),
        asked=read(data["asked"]),
        pinned_ns=int(data["pinned_ns"]),
        revision=revision,
    )


def unpinned(found: ServerTools) -> ServerTools:
    """Return the same with nothing accepted, and so that nothing is for a first use any more."""
    return dataclasses.replace(found, pins={}, pinned_ns=found.pinned_ns or 1)


def dumped(tools: Mapping[str, ToolDescriptor]) -> list[dict[str, Any]]:
    """Return tools as JSON data, sorted by name."""
    return [tool.model_dump(mode="json") for _, tool in sorted(tools.items())]


def read(tools: list[Any]) -> dict[str, ToolDescriptor]:
    """Return by name the tools in JSON data."""
    found = [ToolDescriptor.from_answer(each) for each in tools]
    return {tool.name: tool for tool in found}
