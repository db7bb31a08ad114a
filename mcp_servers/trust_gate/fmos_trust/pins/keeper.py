"""Pins the tools of agents: what was accepted counts, and a change counts once a person agrees.

The first catalogue that an application registers of a server is pinned (`[trust] pins =
"first_use"`); whatever differs later waits for `fmos tools approve`, and so does everything that an
agent registers through a door of its own. A tool is in force while the application still offers it
exactly as it was pinned.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fmos.canonical import content_digest
from fmos.clock import Clock
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding
from fmos_trust.pins.compare import Difference, changed_fields, differences, weaker
from fmos_trust.pins.model import (
    FIRST_USE,
    NOTHING,
    InForce,
    Pin,
    ServerTools,
    Withheld,
    from_json,
    to_json,
)
from fmos_trust.pins.names import LookAlikes
from fmos_trust.pins.store import PinStore, Seen

_KEPT = 256
_MOST_TOOLS = 5_000
_MOST_ASKED = 16
APPROVE = "a person decides with `fmos tools diff` and `fmos tools approve`"


class Pins:
    """The pinned tools of one home. Thread-safe; any number of processes may register."""

    def __init__(self, store: PinStore, clock: Clock, *, first_use: bool = True) -> None:
        self._store = store
        self._clock = clock
        self._first_use = first_use
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], tuple[tuple[Seen, ...], InForce]] = {}

    # -- what is in force --------------------------------------------------------------------

    def in_force(self, tenant: str, lineage: Sequence[str]) -> InForce:
        """Return the tools of an agent; a fork has its ancestors' tools too.

        The same object, until something is registered or approved for one of them.
        """
        key = (tenant, *lineage)
        seen = tuple(self._store.seen(tenant, agent) for agent in lineage)
        known = self._known.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        new = [agent for agent, rows in zip(lineage, seen, strict=True) if not rows]
        if new and self._adopt(tenant, new):
            seen = tuple(self._store.seen(tenant, agent) for agent in lineage)
        found = self._read(tenant, lineage)
        with self._lock:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = (seen, found)
        return found

    def _read(self, tenant: str, lineage: Sequence[str]) -> InForce:
        tools: dict[str, ToolDescriptor] = {}
        withheld: dict[str, Withheld] = {}
        everything: dict[str, ServerTools] = {}
        for agent in lineage:
            servers, problem = self._store.servers(tenant, agent)
            if problem:
                return InForce(problem=problem)
            mine, held = _resolved(servers)
            for name in (mine.keys() | held.keys()) - (tools.keys() | withheld.keys()):
                if name in held:
                    withheld[name] = held[name]
                else:
                    tools[name] = mine[name]
            for each in servers:
                everything.setdefault(each.server, each)
        if not everything:
            return NOTHING
        return InForce(tools, withheld, servers=tuple(everything.values()))

    # -- registering -------------------------------------------------------------------------

    def register(
        self, who: Principal, lineage: Sequence[str], tools: Iterable[ToolDescriptor], *,
        launched: bool,
    ) -> list[str]:  # fmt: skip
        """Take the whole catalogue of each server that the tools name; return what has to wait.

        Args:
            who: The agent.
            lineage: Its key and those of its ancestors.
            tools: Every tool of these servers.
            launched: It is the application that says so; what an agent says waits in any case.

        Raises:
            ArgumentError: if there are too many.
        """
        by_server: dict[str, dict[str, ToolDescriptor]] = {}
        for tool in tools:
            by_server.setdefault(tool.server, {})[tool.name] = tool
        if sum(map(len, by_server.values())) > _MOST_TOOLS:
            raise ArgumentError(
                f"more than {_MOST_TOOLS:,} tools at once", hint="register those that are used"
            )
        self.in_force(who.tenant, lineage)  # takes over what an older FMOS kept
        take = self._take_offer if launched else self._take_asked
        with self._store.database.transaction():
            for server, offered in sorted(by_server.items()):
                take(who, lineage, server, offered)
        found = self.in_force(who.tenant, lineage)
        named = {name: tool for offered in by_server.values() for name, tool in offered.items()}
        return sorted(name for name, tool in named.items() if found.tools.get(name) != tool)

    def _take_offer(
        self, who: Principal, lineage: Sequence[str], server: str,
        offered: Mapping[str, ToolDescriptor],
    ) -> None:  # fmt: skip
        known = self._server(who.tenant, who.agent_key, server)
        made = dataclasses.replace(known, offer=offered)
        if self._first_use and not known.pinned_ns and not known.pins:
            now_ns = self._clock.now_ns()
            free = self._free(who.tenant, lineage, server, offered)
            pins = {name: Pin(offered[name], FIRST_USE, now_ns) for name in free}
            made = dataclasses.replace(made, pins=pins, pinned_ns=now_ns)
        if made != known:
            self._store.put(who.tenant, who.agent_key, made)

    def _take_asked(
        self, who: Principal, lineage: Sequence[str], server: str,
        offered: Mapping[str, ToolDescriptor],
    ) -> None:  # fmt: skip
        servers, _ = self._store.servers(who.tenant, who.agent_key)
        known = next((each for each in servers if each.server == server), ServerTools(server))
        asked = {
            name: tool
            for name, tool in offered.items()
            if name not in known.pins or known.pins[name].tool != tool
        }
        if asked == known.asked:
            return
        if sum(bool(each.asked) for each in servers) >= _MOST_ASKED and not known.asked:
            raise ArgumentError(
                f"tools of {_MOST_ASKED} servers wait already",
                hint="let a person decide on them: `fmos tools diff`",
            )
        made = dataclasses.replace(known, asked=asked)
        self._store.put(who.tenant, who.agent_key, made)

    def _free(
        self, tenant: str, lineage: Sequence[str], server: str,
        offered: Mapping[str, ToolDescriptor],
    ) -> list[str]:  # fmt: skip
        """Return the names that a first use may pin: those that stand for nothing else yet."""
        taken: dict[str, ToolDescriptor] = {}
        elsewhere: list[str] = []
        for at, agent in enumerate(lineage):
            for each in self._store.servers(tenant, agent)[0]:
                for name, pin in each.pins.items():
                    taken.setdefault(name, pin.tool)
                    if at == 0 and each.server != server:
                        elsewhere.append(name)
        others, own = LookAlikes(elsewhere), LookAlikes([*offered, *taken])
        return [
            name
            for name, tool in offered.items()
            if _is_same(taken.get(name, tool), tool)
            and (name in taken or not (others.near(name) or others.looks_like(name)))
            and (name.isascii() or not own.looks_like(name))
        ]

    def _server(self, tenant: str, agent: str, server: str) -> ServerTools:
        servers, _ = self._store.servers(tenant, agent)
        return next((each for each in servers if each.server == server), ServerTools(server))

    def _adopt(self, tenant: str, agents: Sequence[str]) -> bool:
        """Pin what an older FMOS kept of agents that have nothing pinned, and say whether any."""
        adopted = False
        for agent in agents:
            older = self._store.older(tenant, agent)
            if not older:
                continue
            tools = [ToolDescriptor.model_validate_json(text) for text in older]
            now_ns = self._clock.now_ns()
            pins = {tool.name: Pin(tool, "an older FMOS", now_ns) for tool in tools}
            made = ServerTools("", pins, {tool.name: tool for tool in tools}, {}, now_ns)
            with self._store.database.transaction():
                if not self._store.seen(tenant, agent):
                    self._store.put(tenant, agent, made)
                self._store.forget_older(tenant, agent)
            adopted = True
        return adopted

    # -- deciding ----------------------------------------------------------------------------

    def agents(self) -> list[tuple[str, str]]:
        """Return tenant and key of every agent of which tools are known."""
        return self._store.agents()

    def servers(self, tenant: str, agent: str) -> tuple[list[ServerTools], str]:
        """Return what is known of an agent's tools by server, and what is wrong with it."""
        return self._store.servers(tenant, agent)

    def differences(self, tenant: str, agent: str) -> list[Difference]:
        """Return what waits for a person, by server and name."""
        servers, _ = self._store.servers(tenant, agent)
        return list(_differences(servers))

    def stamp(self, tenant: str, agent: str) -> str:
        """Return a digest of what waits now: an approval is for what was shown, or for nothing."""
        servers, problem = self._store.servers(tenant, agent)
        return content_digest([problem, *map(to_json, servers)])

    def approve(
        self, tenant: str, agent: str, names: Iterable[str], *, by: str, stamp: str
    ) -> list[str]:
        """Pin tools as they are offered now, and forget those that are gone; return their names.

        Raises:
            NotFoundError: if one of the names does not wait.
            DeniedError: if anything changed since it was shown.
        """
        wanted = list(dict.fromkeys(names))
        with self._store.database.transaction():
            if self.stamp(tenant, agent) != stamp:
                raise DeniedError(
                    f"the tools of {agent!r} changed while they were looked at",
                    hint="look again with `fmos tools diff`",
                )
            servers, _ = self._store.servers(tenant, agent)
            waiting = {name for each in servers for name in each.differing()}
            for name in wanted:
                if name not in waiting:
                    raise NotFoundError(
                        f"no tool {name!r} of {agent!r} waits for a person",
                        hint="`fmos tools diff` lists what does",
                    )
            now_ns = self._clock.now_ns()
            for each in servers:
                self._store.put(tenant, agent, _approved(each, set(wanted), by, now_ns))
        return sorted(wanted)

    # -- replay ------------------------------------------------------------------------------

    def premise(self, found: InForce) -> list[dict[str, Any]]:
        """Return what the verdicts of a session depend on, for its recording."""
        return [to_json(each) for each in found.servers]

    def restore(self, who: Principal, value: Iterable[Mapping[str, Any]]) -> None:
        """Bring about what `premise` told of."""
        with self._store.database.transaction():
            for data in value:
                known = self._server(who.tenant, who.agent_key, str(data["server"]))
                made = from_json(data, known.revision)
                self._store.put(who.tenant, who.agent_key, made)

    def restore_tools(self, who: Principal, tools: Iterable[ToolDescriptor]) -> None:
        """Bring about what recordings of an older FMOS told of: tools that all count."""
        now_ns = self._clock.now_ns()
        made = {tool.name: tool for tool in tools}
        pins = {name: Pin(tool, FIRST_USE, now_ns) for name, tool in made.items()}
        self.restore(who, [to_json(ServerTools("", pins, made, {}, now_ns))])

    # -- judging -----------------------------------------------------------------------------

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find whether a call is of a tool that nobody accepted as it is now."""
        found = facts.in_force
        if found.problem:
            yield finding(
                "deny",
                "selection",
                "pins.seal",
                f"{found.problem}, so no tool of this agent is used",
                rule="pins",
                change="a person looks at `fmos tools diff` and runs `fmos tools approve --all`",
            )
            return
        held = found.withheld.get(facts.tool)
        if held is not None:
            code = f"pins.{held.state}"
            yield finding("deny", "selection", code, held.why, rule="pins", change=APPROVE)


def _resolved(
    servers: Iterable[ServerTools],
) -> tuple[dict[str, ToolDescriptor], dict[str, Withheld]]:
    """Return by name what is in force of an agent's own servers, and what is withheld.

    Two servers that claim one name differently are a doubt: nobody gets it.
    """
    tools: dict[str, ToolDescriptor] = {}
    withheld: dict[str, Withheld] = {}
    for each in servers:
        for name in sorted({*each.pins, *each.offer}):
            held = _held(each, name)
            if held is not None:
                if name not in tools:
                    withheld.setdefault(name, held)
            elif name in tools and not _is_same(tools[name], each.offer[name]):
                del tools[name]
                why = f"two servers have a tool {name!r}, which one is meant cannot be told"
                withheld[name] = Withheld("shadow", each.server, why)
            elif withheld.get(name) is None or withheld[name].state != "shadow":
                withheld.pop(name, None)
                tools[name] = each.offer[name]
    return tools, withheld


def _held(tools: ServerTools, name: str) -> Withheld | None:
    """Return why a tool is not in force, or None."""
    state = tools.state(name)
    of = f" of the server {tools.server!r}" if tools.server else ""
    if state == "changed":
        old, new = tools.pins[name].tool, tools.offer[name]
        what = ", ".join(weaker(old, new) or changed_fields(old, new))
        why = f"the tool {name!r}{of} is not as it was accepted ({what}); {APPROVE}"
        return Withheld("changed", tools.server, why)
    if state == "new":
        return Withheld(
            "new", tools.server, f"nobody accepted the tool {name!r}{of} yet; {APPROVE}"
        )
    if state == "gone":
        why = f"the application no longer has the tool {name!r}{of}; use another one"
        return Withheld("gone", tools.server, why)
    return None


def _is_same(one: ToolDescriptor, other: ToolDescriptor) -> bool:
    """Return whether two tools are equal, whichever servers they are of."""
    return one == other or one.model_copy(update={"server": other.server}) == other


def _differences(servers: Sequence[ServerTools]) -> Iterator[Difference]:
    for each in servers:
        others = [name for other in servers if other is not each for name in other.pins]
        yield from differences(each, others)


def _approved(tools: ServerTools, names: set[str], by: str, now_ns: int) -> ServerTools:
    pins, offer, asked = dict(tools.pins), dict(tools.offer), dict(tools.asked)
    for name in names & set(tools.differing()):
        wanted = tools.wanted(name)
        asked.pop(name, None)
        if wanted is None:
            del pins[name]
        else:
            pins[name] = Pin(wanted, by, now_ns)
            offer[name] = wanted
    return dataclasses.replace(
        tools, pins=pins, offer=offer, asked=asked, pinned_ns=tools.pinned_ns or now_ns
    )


def pins_of(kernel: Kernel) -> Pins:
    """Return the pins of a kernel's home."""
    first_use = kernel.settings.trust.pins == "first_use"
    return Pins(PinStore(kernel.database, kernel.keys_of), kernel.clock, first_use=first_use)
