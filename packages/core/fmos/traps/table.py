"""The trap table: compiled from contract and manifest, signed, short-lived, read in microseconds.

Adapters keep one and evaluate it locally. Every doubt (expired, unknown tool, an argument that
is not plainly in scope) means a trap, so a wrong table can only cost time. Its wire form and its
rules are docs/spec/trap-abi.md.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from fmos.contract.globs import normalise
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.paths import BUILT_IN, MUTE, Guard, Scope, looks_like_path, plain_path
from fmos.traps.signals import MayFire, Thresholds
from fmos.traps.wire import ABI, TableError, canonical_digest, key_id, signed_bytes
from fmos.types import DEFAULT_TENANT, Operation, OperationClass, OperationKind, Record

if TYPE_CHECKING:
    from fmos.clock import Clock
    from fmos.contract.model import AgentContract

#: How long a table is believed without asking again.
TTL_S = 60

#: Which server decides on operations of a kind once they trap.
OWNERS = {
    OperationKind.CHECKPOINT_WRITE: "agentfs",
    OperationKind.CONTEXT_COMPOSE: "context-policy",
    OperationKind.FS_READ: "trust-gate",
    OperationKind.FS_WRITE: "trust-gate",
    OperationKind.MEMORY_READ: "memory",
    OperationKind.MEMORY_WRITE: "memory",
    OperationKind.MESSAGE_SEND: "trust-gate",
    OperationKind.MODEL_GENERATE: "reasoning-budget",
    OperationKind.SKILL_LOAD: "context-policy",
    OperationKind.TOOL_CALL: "trust-gate",
}

#: Only these are judged by the table, by tool name; operations of every other kind always trap.
LOCAL_KINDS = (OperationKind.FS_READ, OperationKind.TOOL_CALL)

_NS = 1_000_000_000
#: So many paths are remembered for each list of scopes, none longer than this.
_REMEMBERED = 4096
_LONG_PATH = 512
#: What says when and by whom a table was made, not what it says.
_ENVELOPE = {"version", "serial", "issued_ns", "expires_ns", "key_id", "signature"}


class Signer(Protocol):
    """What signs tables: `AuditKeys`, or a key of a test."""

    @property
    def public_key(self) -> str:
        """The key that checks the signatures: 32 bytes in base64."""
        ...

    def sign(self, data: bytes) -> str:
        """Return the Ed25519 signature of `data` in base64."""
        ...


class TrapRule(Record):
    """How calls of one tool are classed; for an innocuous one, which paths it may read."""

    tool: str
    operation_class: OperationClass
    path_arguments: tuple[str, ...] = ()
    read_scopes: tuple[tuple[str, ...], ...] = Field(
        default=(), description="lists of globs; a path must be covered by each of the lists"
    )

    @property
    def read_paths(self) -> tuple[str, ...]:
        """Every glob of the scopes, to be shown; `read_scopes` says how they combine."""
        return tuple(dict.fromkeys(glob for scope in self.read_scopes for glob in scope))


class TrapTable(Record):
    """The rules of one agent. `version` names what it says; the signature covers every field."""

    abi: int = ABI
    tenant: str = DEFAULT_TENANT
    agent: str = Field(description="the agent's key: its id, or `application:id`")
    version: str
    serial: int = Field(default=0, ge=0, description="never goes down for one agent")
    issued_ns: int
    expires_ns: int
    key_id: str = Field(default="", description="of the key that signed: see docs/spec/trap-abi.md")
    contract: str = Field(default="", description="digest of the contract; empty: there is none")
    manifest: str = Field(default="", description="digest of the tools' descriptors")
    local: tuple[OperationKind, ...] = Field(
        default=LOCAL_KINDS, description="kinds that the rules judge; every other kind traps"
    )
    owners: dict[OperationKind, str] = Field(
        default_factory=dict, description="the server that a trapped operation of a kind goes to"
    )
    protected: tuple[str, ...] = Field(
        default=BUILT_IN, description="paths that are never innocuous, with all below them"
    )
    guarded: tuple[str, ...] = Field(
        default=(), description="protected paths that no other argument may name either"
    )
    rules: tuple[TrapRule, ...]
    signals: Thresholds = Thresholds()
    model: str = Field(default="", description="digest of the learned traps that must be used")
    signature: str = ""

    def classify(self, operation: Operation, now_ns: int) -> OperationClass:
        """Return innocuous only if this table is current and says so, else privileged.

        Signals and learned traps come on top: see `fmos.traps.judge`.
        """
        found = self.matcher
        kind, arguments = operation.kind, operation.arguments
        if found.is_current(now_ns) and found.passes(operation.name, kind, arguments):
            return OperationClass.INNOCUOUS
        return OperationClass.PRIVILEGED

    def prepare(self) -> TrapTable:
        """Compile the matchers now rather than at the first operation, and return the table."""
        _ = self.matcher
        return self

    def is_signed_by(self, public_key: str) -> bool:
        """Return whether the owner of the base64 public key signed exactly this table."""
        from fmos.audit.keys import verify_signature  # noqa: PLC0415 - a heavy library

        try:
            return verify_signature(public_key, self.signed_bytes(), self.signature)
        except TableError:
            return False  # nobody can have signed what has no canonical form

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        return signed_bytes(self.model_dump(mode="json"))

    @functools.cached_property
    def matcher(self) -> Matcher:
        """The rules ready to be asked."""
        return Matcher.of(self)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A table ready to be asked: no pydantic on the way. Holds only tools that may be innocuous."""

    issued_ns: int
    expires_ns: int
    model: str
    may_fire: MayFire
    local: frozenset[str]
    guard: Guard
    tools: dict[str, tuple[frozenset[str], Scope]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: TrapTable) -> Matcher:
        """Compile a table."""
        made = cls(
            issued_ns=table.issued_ns,
            expires_ns=table.expires_ns,
            model=table.model,
            may_fire=MayFire.of(table.signals),
            local=frozenset(table.local),
            guard=Guard(table.protected, table.guarded),
        )
        scopes: dict[tuple[tuple[str, ...], ...], Scope] = {}
        for rule in table.rules:
            if rule.operation_class is OperationClass.INNOCUOUS:
                scope = scopes.setdefault(rule.read_scopes, Scope(rule.read_scopes))
                made.tools[rule.tool] = (frozenset(rule.path_arguments), scope)
        return made

    def is_current(self, now_ns: int) -> bool:
        """Return whether the table has been issued and has not expired."""
        return self.issued_ns <= now_ns < self.expires_ns

    def passes(self, tool: str, kind: str, arguments: Mapping[str, Any]) -> bool:
        """Return whether the rules call an operation of a tool innocuous."""
        found = self.tools.get(tool)
        if found is None or kind not in self.local:
            return False
        paths, scope = found
        seen = 0
        for name, value in arguments.items():
            if name in paths:
                seen += 1
                if not self._readable(value, scope):
                    return False
            elif value.__class__ not in MUTE and (
                self.guard.is_named_in(value) or self._strays(value, scope)
            ):
                return False
        return seen == len(paths)

    def _judge_path(self, value: str, scope: Scope) -> bool:
        """Judge a path by its text alone, and remember the answer while the table lasts."""
        path = plain_path(value)
        found = (
            path is not None
            and scope.covers(path)
            and not self.guard.forbids(path, relative=value[0] != "/")
        )
        if len(scope.known) < _REMEMBERED and len(value) < _LONG_PATH:
            scope.known[value] = found
        return found

    def _strays(self, value: object, scope: Scope) -> bool:
        """Return whether a text inside a value looks like a path that is not plainly in scope."""
        if isinstance(value, str):
            return looks_like_path(value) and not self._readable(value, scope)
        if isinstance(value, dict):
            return any(self._strays(each, scope) for pair in value.items() for each in pair)
        return isinstance(value, list | tuple) and any(self._strays(each, scope) for each in value)

    def _readable(self, value: object, scope: Scope) -> bool:
        """Return whether a path argument is plainly in scope; anything but text is not plain."""
        if isinstance(value, str):
            known = scope.known.get(value)
            return self._judge_path(value, scope) if known is None else known
        if isinstance(value, list | tuple):
            return bool(value) and all(
                isinstance(item, str) and self._readable(item, scope) for item in value
            )
        return False


def compile_table(
    contract: AgentContract | None,
    descriptors: Iterable[ToolDescriptor],
    keys: Signer,
    clock: Clock,
    ttl_s: int = TTL_S,
    *,
    agent: str = "",
    tenant: str = DEFAULT_TENANT,
    serial: int | None = None,
    private: Iterable[str] = (),
    signals: Thresholds | None = None,
    model: str = "",
    metered: bool = False,
    trapped: frozenset[str] = frozenset(),
) -> TrapTable:
    """Return the signed table of an agent; without a contract every call traps.

    Args:
        contract: The effective contract.
        descriptors: The agent's registered tools.
        keys: The tenant's keys.
        clock: When now is; times are cut to whole seconds, which any JSON reader holds exactly.
        ttl_s: How long the table may be used.
        agent: The agent's key, where it differs from the contract's name.
        tenant: The agent's tenant.
        serial: A number that never goes down for one agent; by default the time in milliseconds.
        private: Absolute host paths that no tool may touch unasked: the FMOS home, by every name.
        signals: The thresholds, without `sensitive`, which the contract says.
        model: Digest of the learned traps that clients must use; empty: none is required.
        metered: A call spends of a limit, of calls or of time, so none may run at once.
        trapped: Names of tools that rules of the gate are about.
    """
    now_ns = clock.now_ns()
    issued_ns = now_ns - now_ns % _NS
    said = _content(
        contract, list(descriptors), agent, tenant, private, signals, model, metered, trapped
    )
    table = said.model_copy(
        update={
            "serial": now_ns // 1_000_000 if serial is None else serial,
            "issued_ns": issued_ns,
            "expires_ns": issued_ns + ttl_s * _NS,
        }
    )
    return signed(table, keys)


class TableVersions:
    """Tells the version of an agent's table without making it again while nothing has changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[_MadeOf, str]] = {}

    def of(
        self,
        contract: AgentContract | None,
        tools: Mapping[str, ToolDescriptor],
        *,
        agent: str,
        tenant: str = DEFAULT_TENANT,
        private: Iterable[str] = (),
        signals: Thresholds | None = None,
        model: str = "",
        metered: bool = False,
        trapped: frozenset[str] = frozenset(),
    ) -> str:
        """Return the version of what `compile_table` makes of the same arguments.

        `contract` and `tools` are looked at again only when they are other objects than before.
        """
        hidden = tuple(sorted(private))
        made_of = _MadeOf(contract, tools, hidden, signals, model, metered, trapped)
        known = self._known.get((tenant, agent))
        if known is not None and known[0].is_same(made_of):
            return known[1]
        described = list(tools.values())
        version = _version(
            _content(contract, described, agent, tenant, hidden, signals, model, metered, trapped)
        )
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[tenant, agent] = (made_of, version)
        return version


@dataclass(frozen=True, slots=True)
class _MadeOf:
    """What a table was made of; it keeps its objects, so that no other can be taken for one."""

    contract: AgentContract | None
    tools: Mapping[str, ToolDescriptor]
    hidden: tuple[str, ...]
    signals: Thresholds | None
    model: str
    metered: bool
    trapped: frozenset[str]

    def is_same(self, other: _MadeOf) -> bool:
        """Return whether the other is made of the very same."""
        rest = (self.hidden, self.signals, self.model, self.metered, self.trapped)
        return (
            self.contract is other.contract
            and self.tools is other.tools
            and rest == (other.hidden, other.signals, other.model, other.metered, other.trapped)
        )


def _content(
    contract: AgentContract | None,
    tools: list[ToolDescriptor],
    agent: str,
    tenant: str,
    private: Iterable[str],
    signals: Thresholds | None,
    model: str,
    metered: bool,
    trapped: frozenset[str],
) -> TrapTable:
    """What a table says, without when and by whom."""
    guarded = tuple(sorted({BUILT_IN[0], *(normalise(path) for path in private)}))
    return TrapTable(
        tenant=tenant,
        agent=agent or (contract.name if contract else ""),
        version="",
        issued_ns=0,
        expires_ns=0,
        contract=contract.digest if contract else "",
        manifest=_manifest(tools),
        owners=OWNERS,
        protected=tuple(sorted({*BUILT_IN, *guarded})),
        guarded=guarded,
        rules=tuple(
            _rule(contract, same, metered or same[0].name in trapped) for same in _by_name(tools)
        ),
        signals=_thresholds(contract, signals),
        model=model,
    )


def signed(table: TrapTable, keys: Signer) -> TrapTable:
    """Return the table with the version that names its content, signed."""
    update = {"version": _version(table), "key_id": key_id(keys.public_key)}
    named = table.model_copy(update=update)
    return named.model_copy(update={"signature": keys.sign(named.signed_bytes())})


def _version(table: TrapTable) -> str:
    return canonical_digest(table.model_dump(mode="json", exclude=_ENVELOPE))


def is_innocuous(contract: AgentContract, descriptor: ToolDescriptor) -> bool:
    """Return whether calls of a tool may run without a trap, as far as the tool itself goes.

    A tool that sends text out (an address, a command, a body) is never innocuous, whatever its
    declared effect; nor is a file tool that does not say which argument is the path.
    """
    names = (descriptor.name, descriptor.capability, *(kind.value for kind in LOCAL_KINDS))
    paths = descriptor.arguments_of("path")
    return (
        descriptor.effect == "read"
        and contract.grants(descriptor.name, descriptor.capability)
        and not contract.needs_consent(*names)
        and not contract.denies(*names)
        and len(paths) == len(descriptor.roles)
        and (bool(paths) or not descriptor.capability.startswith("fs."))
    )


def _by_name(descriptors: Iterable[ToolDescriptor]) -> list[list[ToolDescriptor]]:
    found: dict[str, list[ToolDescriptor]] = {}
    for descriptor in descriptors:
        found.setdefault(descriptor.name, []).append(descriptor)
    return [found[name] for name in sorted(found)]


def _rule(contract: AgentContract | None, same: list[ToolDescriptor], metered: bool) -> TrapRule:
    """Compile the descriptors of one name; two that differ are a doubt, so they trap."""
    first = same[0]
    plain = contract is not None and not metered and all(item == first for item in same)
    if contract is None or not plain or not is_innocuous(contract, first):
        return TrapRule(tool=first.name, operation_class=OperationClass.PRIVILEGED)
    paths = first.arguments_of("path")
    return TrapRule(
        tool=first.name,
        operation_class=OperationClass.INNOCUOUS,
        path_arguments=paths,
        read_scopes=_read_scopes(contract),
    )


def _read_scopes(contract: AgentContract) -> tuple[tuple[str, ...], ...]:
    """The lists of globs that must each cover a path: one of the contract, one per policy."""
    return tuple(tuple(scope) for scope in contract.security.read_scopes())


def _thresholds(contract: AgentContract | None, given: Thresholds | None) -> Thresholds:
    sensitive = tuple(sorted(contract.security.consent_for)) if contract else ()
    return (given or Thresholds()).model_copy(update={"sensitive": sensitive})


def _manifest(tools: Iterable[ToolDescriptor]) -> str:
    """The digest of the descriptors in the order of their names, whatever order they came in."""
    texts = sorted(tool.model_dump_json() for tool in tools)
    return canonical_digest(texts)


def read_table(document: Mapping[str, Any]) -> TrapTable:
    """Return the table in a checked document, ready for use, without fields that are unknown."""
    return TrapTable.from_answer(dict(document)).prepare()
