"""The trap table: compiled from contract and manifest, signed, short-lived, read in microseconds.

Adapters keep one and evaluate it locally. Every doubt (expired, unknown tool, an argument that
is not plainly in scope) means a trap, so a wrong table can only cost time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fmos.audit.keys import AuditKeys, verify_signature
from fmos.canonical import canonical_json, content_digest
from fmos.clock import Clock
from fmos.contract.globs import covers, in_system_area, normalise
from fmos.contract.model import AgentContract
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationClass, OperationKind, Record

_NS = 1_000_000_000

#: Only these are judged by tool name; every other kind belongs to another server and traps.
_LOCAL_KINDS = frozenset({OperationKind.TOOL_CALL, OperationKind.FS_READ})


class TrapRule(Record):
    """How calls of one tool are classed; for an innocuous one, which paths it may read."""

    tool: str
    operation_class: OperationClass
    path_arguments: tuple[str, ...] = ()
    read_paths: tuple[str, ...] = ()

    def classify(self, arguments: Mapping[str, Any]) -> OperationClass:
        """Return the class of a call with these arguments."""
        if self.operation_class is not OperationClass.INNOCUOUS:
            return OperationClass.PRIVILEGED
        for name in self.path_arguments:
            if not self._in_scope(arguments.get(name)):
                return OperationClass.PRIVILEGED
        return OperationClass.INNOCUOUS

    def _in_scope(self, value: object) -> bool:
        """Return whether a path argument is plainly readable; a missing one is not plain."""
        if isinstance(value, list | tuple):
            return bool(value) and all(self._in_scope(item) for item in value)
        if not isinstance(value, str) or not value or "\0" in value:
            return False
        path = normalise(value)
        return not in_system_area(path) and covers(self.read_paths, path)


class TrapTable(Record):
    """The rules of one agent. `version` names the rules; the signature covers every field."""

    version: str
    agent: str
    issued_ns: int
    expires_ns: int
    rules: tuple[TrapRule, ...]
    signature: str = ""

    def classify(self, operation: Operation, now_ns: int) -> OperationClass:
        """Return innocuous only if this table is current and says so, else privileged."""
        if not self.issued_ns <= now_ns < self.expires_ns or operation.kind not in _LOCAL_KINDS:
            return OperationClass.PRIVILEGED
        rule = self._by_tool.get(operation.name)
        if rule is None:
            return OperationClass.PRIVILEGED
        return rule.classify(operation.arguments)

    def is_signed_by(self, public_key: str) -> bool:
        """Return whether the owner of the base64 public key signed exactly this table."""
        return verify_signature(public_key, self.signed_bytes(), self.signature)

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))

    @functools.cached_property
    def _by_tool(self) -> dict[str, TrapRule]:
        return {rule.tool: rule for rule in self.rules}


def compile_table(
    contract: AgentContract | None,
    descriptors: Iterable[ToolDescriptor],
    keys: AuditKeys,
    clock: Clock,
    ttl_s: int = 300,
    *,
    agent: str = "",
) -> TrapTable:
    """Return the signed table of an agent; without a contract every call traps.

    `agent` is the id of a fork that works under its parent's contract.
    """
    rules = tuple(_rule(contract, same) for same in _by_name(descriptors))
    now_ns = clock.now_ns()
    holder = agent or (contract.name if contract else "")
    content = [holder, *(rule.model_dump(mode="json") for rule in rules)]
    table = TrapTable(
        version=content_digest(content),
        agent=holder,
        issued_ns=now_ns,
        expires_ns=now_ns + ttl_s * _NS,
        rules=rules,
    )
    return table.model_copy(update={"signature": keys.sign(table.signed_bytes())})


def is_innocuous(contract: AgentContract, descriptor: ToolDescriptor) -> bool:
    """Return whether calls of a tool may run without a trap, as far as the tool itself goes.

    A tool that sends text out (an address, a command, a body) is never innocuous, whatever its
    declared effect; nor is a file tool that does not say which argument is the path.
    """
    names = (descriptor.name, descriptor.capability)
    paths = descriptor.arguments_of("path")
    return (
        descriptor.effect == "read"
        and contract.grants(*names)
        and not contract.needs_consent(*names)
        and len(paths) == len(descriptor.roles)
        and (bool(paths) or not descriptor.capability.startswith("fs."))
    )


def _by_name(descriptors: Iterable[ToolDescriptor]) -> list[list[ToolDescriptor]]:
    found: dict[str, list[ToolDescriptor]] = {}
    for descriptor in descriptors:
        found.setdefault(descriptor.name, []).append(descriptor)
    return [found[name] for name in sorted(found)]


def _rule(contract: AgentContract | None, same: list[ToolDescriptor]) -> TrapRule:
    """Compile the descriptors of one name; two that differ are a doubt, so they trap."""
    first = same[0]
    plain = contract is not None and all(item == first for item in same)
    if contract is None or not plain or not is_innocuous(contract, first):
        return TrapRule(tool=first.name, operation_class=OperationClass.PRIVILEGED)
    return TrapRule(
        tool=first.name,
        operation_class=OperationClass.INNOCUOUS,
        path_arguments=first.arguments_of("path"),
        read_paths=contract.security.paths.read,
    )
