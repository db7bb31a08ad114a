"""What the rules look at: an operation seen through the tool's descriptor and the contract."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fmos.canonical import content_digest
from fmos.contract.model import AgentContract
from fmos.traps.manifest import ArgumentRole, Effect, ToolDescriptor
from fmos.types import Operation, OperationKind
from fmos_trust.commands import Judgement, judge_command
from fmos_trust.keyed import KeyedHash
from fmos_trust.secrets import KnownSecret

_EFFECT_OF_KIND: dict[OperationKind, Effect] = {
    OperationKind.FS_READ: "read",
    OperationKind.FS_WRITE: "write",
    OperationKind.MESSAGE_SEND: "send",
}
_STRENGTH: dict[Effect, int] = {"read": 0, "write": 1, "execute": 2, "send": 2}

#: What an argument means when the tool was not registered, by its usual names.
_USUAL_ROLES: dict[str, ArgumentRole] = {
    "path": "path", "file": "path", "file_path": "path", "filename": "path", "directory": "path",
    "folder": "path", "source": "path", "destination": "path", "src": "path", "dst": "path",
    "to": "recipient", "cc": "recipient", "bcc": "recipient", "recipient": "recipient",
    "recipients": "recipient", "channel": "recipient", "outbox": "recipient",
    "command": "command", "cmd": "command", "script": "command", "argv": "command",
    "url": "url", "uri": "url", "endpoint": "url",
    "body": "body", "text": "body", "content": "body", "message": "body", "subject": "body",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """One operation with everything that is known about it."""

    operation: Operation
    contract: AgentContract | None
    policy: str
    descriptor: ToolDescriptor | None
    secrets: tuple[KnownSecret, ...]
    keyed: KeyedHash
    home: str
    tools: Mapping[str, ToolDescriptor] = field(default_factory=dict)

    def with_arguments(self, arguments: Mapping[str, Any]) -> Facts:
        """Return the same call with other arguments."""
        operation = self.operation.model_copy(update={"arguments": dict(arguments)})
        return dataclasses.replace(self, operation=operation)

    @functools.cached_property
    def pinned(self) -> str:
        """The digest of what judged the call: the sealed contract and the tool's descriptor."""
        tool = self.descriptor.model_dump(mode="json") if self.descriptor else None
        return content_digest([self.policy, tool])

    @property
    def is_synced(self) -> bool:
        """Whether the contract wants the intent of such a call on the disk before the call."""
        return self.contract is not None and self.contract.is_synced(*self.labels)

    @property
    def tool(self) -> str:
        """The tool's name."""
        return self.operation.name

    @property
    def capability(self) -> str:
        """What the contract must grant."""
        if self.descriptor is not None:
            return self.descriptor.capability
        kind = self.operation.kind
        return kind.value if kind in _EFFECT_OF_KIND else self.operation.name

    @property
    def effect(self) -> Effect:
        """What the tool does: the stronger of what its kind and its descriptor say."""
        kind = _EFFECT_OF_KIND.get(self.operation.kind)
        declared = self.descriptor.effect if self.descriptor else (kind or "execute")
        return max((declared, kind or "read"), key=_STRENGTH.__getitem__)

    @property
    def roles(self) -> dict[str, ArgumentRole]:
        """What each argument means; by its name when the tool was not registered."""
        if self.descriptor is not None:
            return dict(self.descriptor.roles)
        given = self.operation.arguments
        return {name: _USUAL_ROLES[name] for name in given if name in _USUAL_ROLES}

    def values(self, role: ArgumentRole) -> list[Any]:
        """Return the given values of the arguments with that role."""
        arguments = self.operation.arguments
        wanted = (name for name, found in self.roles.items() if found == role)
        return [arguments[name] for name in wanted if arguments.get(name) is not None]

    def texts(self, role: ArgumentRole) -> list[str]:
        """Return every text in the arguments with that role."""
        return [text for value in self.values(role) for text in texts_in(value)]

    @functools.cached_property
    def judgement(self) -> Judgement:
        """What the commands among the arguments would destroy."""
        found: list[str] = []
        for value in self.values("command"):
            if isinstance(value, str | list | tuple):
                command = value if isinstance(value, str) else [str(word) for word in value]
                found.extend(judge_command(command).findings)
            else:
                found.append(f"the command is not text but {type(value).__name__}")
        return Judgement(tuple(found))

    @property
    def labels(self) -> tuple[str, ...]:
        """Every name by which a contract may ask for consent."""
        derived = ("destructive",) if self.judgement.destructive else ()
        return (self.tool, self.capability, self.operation.kind.value, *derived)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
