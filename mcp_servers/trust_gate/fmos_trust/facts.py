"""What the rules look at: an operation seen through the tool's descriptor and the contract."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fmos.canonical import content_digest
from fmos.contract.model import AgentContract
from fmos.redaction import texts_in
from fmos.traps.manifest import ArgumentRole, Effect, ToolDescriptor
from fmos.types import Operation, OperationKind
from fmos_trust.commands import Judgement, judge_command
from fmos_trust.delegation.model import Grant
from fmos_trust.evidence.session import Evidence
from fmos_trust.keyed import KeyedHash
from fmos_trust.operators.paths import Links
from fmos_trust.pins.model import NOTHING, InForce
from fmos_trust.provenance.view import SessionView
from fmos_trust.secrets import KnownSecret

if TYPE_CHECKING:
    from fmos.runtime.standing import Standing
    from fmos_trust.policy.compiled import CompiledSet

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
    in_force: InForce = NOTHING
    seen: SessionView | None = None
    #: What binds the principal, and its lineage and account.
    standing: Standing | None = None
    #: The trust policies that bind it.
    rules: CompiledSet | None = None
    #: When the call is judged; 0 is now.
    at_ns: int = 0
    #: Whether nothing is to be written: it is only asked what would be decided.
    dry: bool = False
    #: In a dry run, the calls of a tool in the session and on a day.
    counted: Callable[[str, str], tuple[int, int]] | None = None
    #: Looks up the grants of authority to content; asked through `grants`.
    granted: Callable[[], tuple[Grant, ...]] | None = None
    #: Every name of the home, links followed.
    private: tuple[str, ...] = ()
    #: Opens the agent's files, to follow symbolic links; None without any.
    files: Callable[[], Links | None] | None = None

    def with_arguments(self, arguments: Mapping[str, Any]) -> Facts:
        """Return the same call with other arguments."""
        operation = self.operation.model_copy(update={"arguments": dict(arguments)})
        return dataclasses.replace(self, operation=operation)

    @functools.cached_property
    def grants(self) -> tuple[Grant, ...]:
        """What a person said that a text may decide, as far as it counts now."""
        return self.granted() if self.granted is not None else ()

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
        return [text for value in self.values(role) for text in texts_in(value, numbers=True)]

    @functools.cached_property
    def evidence(self) -> Evidence | None:
        """What the session says of who asked for the call; None where nobody keeps it."""
        if self.seen is None:
            return None
        return self.seen.judge(self.operation, self.descriptor, self.effect)

    def provenance(self, pointer: str) -> frozenset[str]:
        """Return where the value at a JSON pointer into the arguments came from.

        Some of `user`, `system` (trusted tools), `contract`, `field` (of structured output),
        `text` (which a stranger can write), `memory`, `agent`; `none` stands for a part of it that
        stands nowhere. Empty where there is no such value, or nobody keeps what was seen.
        """
        value = _at(self.operation.arguments, pointer)
        if self.seen is None or value is None:
            return frozenset()
        found = self.seen.came_from(value)
        return found | {"contract"} if self._in_contract(value) else found

    def _in_contract(self, value: Any) -> bool:
        """Return whether every text of a value stands in the contract, letter by letter."""
        if self.contract is None:
            return False
        named = {one for scope in self.contract.security.recipient_scopes() for one in scope}
        texts = list(texts_in(value))
        return bool(texts) and named.issuperset(texts)

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


def _at(arguments: Mapping[str, Any], pointer: str) -> Any:
    """Return the value at a JSON pointer (RFC 6901), or None."""
    found: Any = arguments
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list | tuple) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found
