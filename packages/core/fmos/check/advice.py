"""What is no bypass but not as it seems.

Names that fit nothing, tools that say other than they do, limits that nothing meters, promises that
nothing keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from fmos.check.model import Caution
from fmos.contract.model import AgentContract
from fmos.contract.promises import declared, enforced_by
from fmos.traps.manifest import ToolDescriptor

#: Words by which a tool's name says that it changes something, unless it begins with the others.
_CHANGES = """
add append apply approve book buy cancel charge chmod clear click close commit copy create delete
deploy destroy drop edit email eval exec execute grant insert install invite kill launch mail mkdir
modify move order overwrite patch pay post publish purchase push put remove rename replace reset
restart revoke rm rmdir run save schedule send set shell start stop submit transfer truncate unlink
update upload wire withdraw write
"""
_READS = """
check compare count describe exists fetch find get grep head list look lookup open peek query read
recall search select show stat status summarize tail view
"""
_ROLE_OF_NAME = {
    "path": "path file file_path filepath filename directory folder dir src dst source destination",
    "command": "command cmd script shell argv code",
    "url": "url uri endpoint webhook href",
    "recipient": "to cc bcc recipient recipients to_address email channel",
    "body": "body content payload data",
}
_ROLES = {name: role for role, names in _ROLE_OF_NAME.items() for name in names.split()}
_FORMATS = {"uri": "url", "uri-reference": "url", "email": "recipient", "path": "path"}


def cautions(contract: AgentContract | None, tools: Sequence[ToolDescriptor]) -> Iterator[Caution]:
    """Yield every warning about a contract and the tools that are known."""
    if contract is not None:
        yield from _capabilities(contract, tools)
        yield from _ungranted(contract, tools)
        yield from unkept(contract)
    yield from _twins(tools)
    for tool in tools:
        yield from _contradictions(tool)


def unmetered(contract: AgentContract, metered: frozenset[str]) -> Iterator[Caution]:
    """Yield a warning for each limit of a contract whose resource is not among the metered."""
    for resource in sorted(declared_limits(contract) - metered):
        yield Caution(
            code="budget.unmetered",
            where=f"budgets.{resource}",
            reason="nothing takes this resource from an account, so the limit never binds",
            hint="let the application reserve it with every operation, or leave the limit out",
        )


def declared_limits(contract: AgentContract) -> set[str]:
    """Return the resources that a contract limits anywhere."""
    budgets = contract.budgets
    windows = (limits for limits in budgets.windows().values())
    return {
        *budgets.limits(),
        *budgets.agent.limits(),
        *(name for part in windows for name in part),
    }


def unkept(contract: AgentContract) -> Iterator[Caution]:
    """Yield a warning for each promise that a contract declares and nothing enforces.

    Limits are not looked up but tried: `unmetered` names those that nothing meters.
    """
    for path in declared(contract):
        field = ".".join(path)
        if path[0] != "budgets" and enforced_by(field) is None:
            yield Caution(
                code="promise.unenforced",
                where=field,
                reason="it is declared, but nothing enforces it yet",
                hint="rely on it only where the application sees to it itself",
            )


def _capabilities(contract: AgentContract, tools: Sequence[ToolDescriptor]) -> Iterator[Caution]:
    known = sorted({name for tool in tools for name in (tool.name, tool.capability)})
    for field, names in (
        ("capabilities", contract.capabilities),
        ("security.consent_for", contract.security.consent_for),
        ("security.deny", contract.security.deny),
    ):
        labels = {*known, *contract.capabilities} if field != "capabilities" else {*known}
        labels |= set(_LABELS) if field != "capabilities" else set()
        for name in names:
            if name not in labels:
                yield _unused(field, name, sorted(labels))


#: Labels of operations beside names: their kinds, and what the gate derives itself.
_LABELS = ("tool.call", "fs.read", "fs.write", "message.send", "model.generate", "destructive")


def _unused(field: str, name: str, known: list[str]) -> Caution:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return Caution(
        code="capability.unused",
        where=f"{field}: {name}",
        reason="no tool has this name or capability",
        hint=f"did you mean {near[0]!r}?" if near else "register the tool, or leave it out",
    )


def _ungranted(contract: AgentContract, tools: Sequence[ToolDescriptor]) -> Iterator[Caution]:
    for tool in tools:
        if not contract.grants(tool.name, tool.capability):
            yield Caution(
                code="tool.ungranted",
                where=tool.name,
                reason=f"no capability grants it ({tool.capability!r}), so every call is denied",
                hint=f"add {tool.capability!r} to `capabilities`, or take the tool away",
            )


def _twins(tools: Sequence[ToolDescriptor]) -> Iterator[Caution]:
    first: dict[str, ToolDescriptor] = {}
    for tool in tools:
        if first.setdefault(tool.name, tool) != tool:
            yield Caution(
                code="tool.twice",
                where=tool.name,
                reason="two descriptors of this name differ, so every call of it traps",
                hint="give each tool its own name, or register the one that is right",
            )


def _contradictions(tool: ToolDescriptor) -> Iterator[Caution]:
    if tool.effect != "read":
        return
    words = _words(tool.name)
    said = [word for word in words if word in _CHANGES.split()]
    if said and words[0] not in _READS.split():
        yield _contradiction(tool, f"its effect is 'read' and its name says {said[0]!r}")
    properties = (tool.input_schema or {}).get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        role = _role_of(str(name), schema)
        if role and name not in tool.roles:
            yield _contradiction(tool, f"its argument {name!r} looks like a {role} and has no role")


def _contradiction(tool: ToolDescriptor, reason: str) -> Caution:
    return Caution(
        code="tool.contradicts",
        where=tool.name,
        reason=reason,
        hint="calls of it may run at once: check what it does, and correct effect or roles",
    )


def _role_of(name: str, schema: Any) -> str:
    kind = schema.get("format") if isinstance(schema, dict) else None
    return _FORMATS.get(str(kind), "") or _ROLES.get("_".join(_words(name)), "")


def _words(name: str) -> list[str]:
    """Return the words of `sendMail`, `send_mail` or `mail.send`, in lower case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]
