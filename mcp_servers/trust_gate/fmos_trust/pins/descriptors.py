"""Makes a descriptor of a tool as an MCP server lists it: what it does, what its arguments mean.

A server's own hints are claims: they can make a tool stricter than its name and schema say, and
`readOnlyHint` counts only where these do not speak against it. What cannot be told executes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmos.errors import ArgumentError
from fmos.traps.manifest import ArgumentRole, Effect, ToolDescriptor
from fmos_trust.evidence.catalogue import Role, ToolFacts, facts_of
from fmos_trust.evidence.words import ACTIONS

_ROLES: dict[Role, ArgumentRole] = {
    "path": "path",
    "recipient": "recipient",
    "account": "recipient",
    "command": "command",
    "url": "url",
    "body": "body",
    "title": "body",
}


@dataclass(frozen=True, slots=True)
class _Listed:
    name: str
    description: str
    input_schema: dict[str, Any]


def descriptor_of(tool: Mapping[str, Any], server: str = "") -> ToolDescriptor:
    """Return the descriptor of a tool in the answer of MCP's `tools/list`.

    Args:
        tool: The tool as JSON data: `name`, `description`, `inputSchema`, `annotations` and so on.
        server: The name of the server that lists it.

    Raises:
        ArgumentError: if it has no name, or its schema is no object.
    """
    name, schema = tool.get("name"), tool.get("inputSchema") or {}
    if not isinstance(name, str) or not name or not isinstance(schema, Mapping):
        raise ArgumentError(
            f"this is no tool of a server: {str(tool)[:120]!r}",
            hint="give each entry of `tools` in the answer of tools/list",
        )
    title, description = str(tool.get("title") or ""), str(tool.get("description") or "")
    hints = {str(key): value for key, value in (tool.get("annotations") or {}).items()}
    facts = facts_of(_Listed(name, description or title, dict(schema)))
    effect = _effect(facts, hints)
    output = tool.get("outputSchema")
    return ToolDescriptor(
        name=name,
        capability=f"{server}.{name}" if server else name,
        effect=effect,
        roles=_roles(facts, effect),
        description=description,
        input_schema=dict(schema),
        title=title,
        output_schema=dict(output) if isinstance(output, Mapping) else None,
        annotations=hints,
        server=server,
    )


def _effect(facts: ToolFacts, hints: Mapping[str, Any]) -> Effect:
    changes = hints.get("readOnlyHint") is False or hints.get("destructiveHint") is True
    if facts.effect == "read":
        return "write" if changes else "read"
    if facts.effect != "write" or facts.verb in ACTIONS:
        return facts.effect
    # Its name does not say what it does.
    return "read" if hints.get("readOnlyHint") is True and not changes else "execute"


def _roles(facts: ToolFacts, effect: Effect) -> dict[str, ArgumentRole]:
    found: dict[str, ArgumentRole] = {
        name: _ROLES[role] for name, role in facts.roles.items() if role in _ROLES
    }
    if effect != "read":
        return found
    return {name: role for name, role in found.items() if role not in ("recipient", "body")}
