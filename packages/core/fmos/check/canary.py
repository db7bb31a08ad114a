"""Sends canaries through the seams of adapters and looks for them in the journal.

A canary is a tool (or model) that leaves a mark when it really runs. What ran without a row of the
tenant's journal that allowed it beforehand has bypassed the gate, whatever the adapter says.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentfs import AgentFS
from fmos.audit.record import INTENT, OUTCOME, arguments_digest
from fmos.check.model import Caution, Gap, SeamFinding, SeamStatus
from fmos.check.seams import Seam
from fmos.client import Client, connect
from fmos.errors import BudgetExceededError, ContractError, DeniedError
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import OperationKind, Principal

#: Tells the gate a person's decision: approval id, approved or not, who decided, and why.
Decide: TypeAlias = Callable[[str, bool, str, str], object]
Role: TypeAlias = Literal["reads", "writes", "asks", "forbidden", "undescribed"]

#: What must become of a call: the tool runs, the gate refuses it, or it gets nowhere at all.
Expect: TypeAlias = Literal["run", "refuse", "nothing"]

Progress: TypeAlias = Callable[[str, int, int], None]

_CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: {agent}
capabilities: ["canary.read", "canary.write", "canary.ask", "model.generate"]
modelPolicy: {{ allow: ["canary-*"] }}
security:
  consent_for: ["canary.ask"]
  paths: {{ read: ["/work/**"], write: ["/work/**"] }}
budgets: {{ tokens: 10M }}
"""
_DEMAND = """\
apiVersion: agentos/v0.2
kind: Policy
layer: platform
must: { contract: required }
"""
_CAPABILITY = {"reads": "canary.read", "writes": "canary.write", "asks": "canary.ask"}
_ALLOWED = ("allow", "transform")
_IN_SCOPE = "/work/canary"
_OUT_OF_SCOPE = "/elsewhere/canary"


@dataclass(frozen=True, slots=True)
class CanaryCall:
    """One call that a scripted model makes, and what must become of it."""

    id: str
    tool: str
    arguments: dict[str, Any]
    expect: Expect


@dataclass(frozen=True, slots=True)
class Canary:
    """A tool that leaves a mark; it takes a `path` and a `nonce`, both texts."""

    name: str
    role: Role
    _mark: Callable[[str, dict[str, Any]], None]

    @property
    def descriptor(self) -> ToolDescriptor | None:
        """What the gate is told about the tool; nothing about an undescribed one."""
        if self.role == "undescribed":
            return None
        return ToolDescriptor(
            name=self.name,
            capability=_CAPABILITY.get(self.role, "canary.forbidden"),
            effect="read" if self.role == "reads" else "write",
            roles={"path": "path"},
        )

    def run(self, path: str, nonce: str) -> str:
        """Do what the tool does: leave the mark."""
        self._mark(self.name, {"path": path, "nonce": nonce})
        return f"{self.name} ran"


@dataclass(frozen=True, slots=True)
class _Mark:
    """Something that really ran, and how many rows had allowed it until then."""

    kind: OperationKind
    name: str
    digest: str
    allowed_before: int


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    kind: str
    name: str
    digest: str
    allowed: bool


class CanarySession:
    """What the drive of one seam works with: an agent under a contract, in a home of its own.

    Everything is real: the kernel, the client and the tools. Only the model is scripted: the
    adapter makes one of its framework that answers with `calls` and says `model_ran`.
    """

    def __init__(
        self, kernel: Kernel, agent: str, decide: Decide | None = None, *, since: int = 0
    ) -> None:
        """Make the agent; what the journal has up to `since` is not its own."""
        kernel.contracts.save(_CONTRACT.format(agent=agent))
        self.principal = Principal(agent=agent, session="canaries")
        self.client: Client = connect(self.principal, kernel=kernel)
        #: Records a person's decision on an approval, where the caller of the check gave a way to.
        self.decide = decide
        self.model_name = f"canary-{agent}"
        self._kernel = kernel
        self._lock = threading.Lock()
        self._marks: list[_Mark] = []
        self._journalled: list[tuple[OperationKind, str]] = []
        self._calls: list[CanaryCall] = []
        self._leaks: list[str] = []
        self._refusals = 0
        self._state = kernel.agent_fs(self.principal)
        self._since = since

    @property
    def state(self) -> AgentFS:
        """The agent's branch with the system area, for adapters that keep state there."""
        return self._state

    @property
    def last(self) -> int:
        """The number of the journal's last row."""
        return max((row.seq for row in self._state.journal(self._since)), default=self._since)

    @property
    def tools(self) -> dict[Role, Canary]:
        """One canary of each role."""
        roles: tuple[Role, ...] = ("reads", "writes", "asks", "forbidden", "undescribed")
        suffix = self.principal.agent.replace("-", "_")
        return {role: Canary(f"canary_{role}_{suffix}", role, self._ran) for role in roles}

    @property
    def descriptors(self) -> tuple[ToolDescriptor, ...]:
        """What the application tells the gate about its tools."""
        found = (tool.descriptor for tool in self.tools.values())
        return tuple(descriptor for descriptor in found if descriptor is not None)

    @property
    def canaries(self) -> int:
        """How many calls were wanted and how many other marks were left."""
        others = sum(mark.kind is not OperationKind.TOOL_CALL for mark in self._marks)
        return len(self._calls) + others + len(self._journalled) + self._refusals

    def call(self, role: Role, expect: Expect, *, in_scope: bool = True) -> CanaryCall:
        """Return a new call of a canary, and expect that of it."""
        number = len(self._calls) + 1
        place = _IN_SCOPE if in_scope else _OUT_OF_SCOPE
        nonce = f"{self.principal.agent}-{number}"
        made = CanaryCall(
            id=f"call-{nonce}",
            tool=self.tools[role].name,
            arguments={"path": place, "nonce": nonce},
            expect=expect,
        )
        self._calls.append(made)
        return made

    def calls(self) -> list[CanaryCall]:
        """Return one call of each class: innocuous, allowed, and three that must be refused."""
        return [
            self.call("reads", "run"),
            self.call("writes", "run"),
            self.call("reads", "refuse", in_scope=False),
            self.call("forbidden", "refuse"),
            self.call("undescribed", "refuse"),
        ]

    def model_ran(self, name: str = "") -> None:
        """Note that a model is asked now; it must have been admitted."""
        self._note(OperationKind.MODEL_GENERATE, name or self.model_name, "")

    def ran(self, kind: OperationKind, name: str) -> None:
        """Note that an operation of another kind happens now; its row must be there."""
        self._note(kind, name, "")

    def stored(self, kind: OperationKind, name: str) -> None:
        """Note what was written to the branch; a row about a path with that name must be there."""
        self._journalled.append((kind, name))

    def demand_contracts(self) -> None:
        """Let a platform policy of the canaries' home refuse agents that have no contract."""
        path = self._kernel.home.policies / "contracts.yaml"
        path.write_text(_DEMAND, encoding="utf-8")

    def must_refuse(self, kind: OperationKind, tool: str, arguments: dict[str, Any]) -> None:
        """Call a server's tool for an agent without a contract; anything but a refusal is a bypass.

        A refusal is a denial, a missing contract or an empty budget; another error proves nothing.
        """
        who = Principal(agent=f"{self.principal.agent}-stranger", session="canaries")
        self._refusals += 1
        with connect(who, kernel=self._kernel) as stranger:
            try:
                answer = stranger.call(tool, arguments)
            except (DeniedError, ContractError, BudgetExceededError):
                return
        if answer.get("decision") != "deny":
            self._leaks.append(f"{tool} does {kind} for an agent without a contract")

    def bypasses(self) -> list[str]:
        """Return what ran although nothing allowed it, each as a sentence."""
        rows = self._rows()
        found = [*self._unallowed(rows), *self._forbidden(), *self._unjournalled(), *self._leaks]
        return list(dict.fromkeys(found))

    def failures(self) -> list[str]:
        """Return what else went wrong: calls that got nowhere, and rows that are still open."""
        rows = self._rows()
        return list(dict.fromkeys([*self._astray(rows), *self._unsettled(rows)]))

    def _ran(self, name: str, arguments: dict[str, Any]) -> None:
        self._note(OperationKind.TOOL_CALL, name, self._digest(arguments))

    def _note(self, kind: OperationKind, name: str, digest: str) -> None:
        with self._lock:
            known = [row for row in self._rows() if row.allowed and _is_of(row, kind, name, digest)]
            self._marks.append(_Mark(kind, name, digest, len(known)))

    def _digest(self, arguments: dict[str, Any]) -> str:
        return arguments_digest(self._kernel.keys_of(self.principal.tenant), arguments)

    def _rows(self) -> list[_Row]:
        """Return what was asked so far, as the journal has it."""
        found = [row.detail for row in self._state.journal(self._since, operation=INTENT)]
        return [
            _Row(
                id=str(detail["id"]),
                kind=str(detail["kind"]),
                name=str(detail["name"]),
                digest=str(detail.get("arguments", "")),
                allowed=detail.get("decision") in _ALLOWED,
            )
            for detail in found
        ]

    def _unallowed(self, rows: list[_Row]) -> Iterable[str]:
        """Each mark needs an allowing row of its own: before it ran, or at the end if innocuous."""
        runs: dict[tuple[str, str, str], int] = {}
        innocuous = self.tools["reads"].name
        for mark in self._marks:
            key = (mark.kind.value, mark.name, mark.digest)
            runs[key] = runs.get(key, 0) + 1
            allowed = mark.allowed_before
            if mark.name == innocuous:
                same = (
                    _is_of(row, mark.kind, mark.name, mark.digest) for row in rows if row.allowed
                )
                allowed = sum(same)
            if allowed < runs[key]:
                what = _what(mark.kind, mark.name)
                yield f"{what} ran without a row of the journal that allows it"

    def _forbidden(self) -> Iterable[str]:
        for call in self._calls:
            if call.expect != "run" and self._runs(call):
                yield f"{call.tool} ran although the contract does not allow it"

    def _astray(self, rows: list[_Row]) -> Iterable[str]:
        """Each call must have come to its end: run, or refused by a verdict."""
        for call in self._calls:
            digest = self._digest(call.arguments)
            judged = any(_is_of(row, OperationKind.TOOL_CALL, call.tool, digest) for row in rows)
            if call.expect == "run" and not self._runs(call):
                yield f"{call.tool} did not run although the contract allows it"
            elif call.expect == "refuse" and not judged:
                yield f"the call of {call.tool} never came before the gate"

    def _runs(self, call: CanaryCall) -> int:
        digest = self._digest(call.arguments)
        return sum(mark.name == call.tool and mark.digest == digest for mark in self._marks)

    def _unsettled(self, rows: list[_Row]) -> Iterable[str]:
        settled = {
            str(row.detail["id"]) for row in self._state.journal(self._since, operation=OUTCOME)
        }
        ran = {(mark.kind.value, mark.name) for mark in self._marks}
        for row in rows:
            if row.allowed and (row.kind, row.name) in ran and row.id not in settled:
                yield f"{_what(row.kind, row.name)} ran and was never settled"

    def _unjournalled(self) -> Iterable[str]:
        if not self._journalled:
            return
        paths = [row.path for row in self._state.journal(self._since) if row.path]
        for kind, name in self._journalled:
            if not any(name in path for path in paths):
                yield f"{kind} {name} is stored without a row of the journal"


@dataclass(slots=True)
class SeamResults:
    """What driving the seams found."""

    seams: list[SeamFinding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    warnings: list[Caution] = field(default_factory=list)


def drive_seams(
    adapter: str,
    seams: Iterable[Seam],
    *,
    accept: Iterable[str] = (),
    approvals: Callable[[Kernel], Decide] | None = None,
    progress: Progress | None = None,
) -> SeamResults:
    """Drive every seam in a temporary home and return what became of the canaries.

    Args:
        adapter: The adapter's name, for the report.
        seams: What it registered.
        accept: Names or globs (`langgraph.plain.*`) of declared gaps that are known and accepted.
        approvals: Makes what records a person's decisions, for seams that ask one.
        progress: Told the seam, how many are done and how many there are.
    """
    found = SeamResults()
    every = tuple(seams)
    accepted = tuple(accept)
    with (
        tempfile.TemporaryDirectory(prefix="fmos-check-") as folder,
        Kernel.open(Path(folder) / "home") as kernel,
    ):
        decide = approvals(kernel) if approvals else None
        since = 0
        for number, seam in enumerate(every):
            if progress:
                progress(f"{adapter}.{seam.name}", number, len(every))
            session = CanarySession(kernel, f"c{number:02}", decide, since=since)
            _judge(found, adapter, seam, session, accepted)
            since = session.last
    return found


def _judge(
    found: SeamResults, adapter: str, seam: Seam, session: CanarySession, accepted: tuple[str, ...]
) -> None:
    name = f"{adapter}.{seam.name}"
    failures = _driven(seam, session)
    bypasses = session.bypasses()
    failures = failures or session.failures()
    if not session.canaries:
        failures = failures or ["the drive sent no canary, so it proves nothing"]
    known = any(fnmatchcase(name, pattern) for pattern in accepted)
    status = _status(seam, bypasses, failures, known)
    declared = status in ("declared", "accepted")
    reason = seam.reason if declared else "; ".join([*bypasses, *failures])
    found.seams.append(
        SeamFinding(
            adapter=adapter,
            name=seam.name,
            kind=seam.kind,
            file=seam.file,
            status=status,
            canaries=session.canaries,
            reason=reason,
        )
    )
    if status in ("bypassed", "declared", "failed"):
        gap = Gap(where=name, kind=seam.kind, file=seam.file, reason=reason, hint=seam.hint)
        found.gaps.append(gap)
    if status == "intercepted" and not seam.intercepts:
        found.warnings.append(_closed(name))


def _closed(name: str) -> Caution:
    return Caution(
        code="seam.closed",
        where=name,
        reason="the adapter declares that calls here bypass the gate, but none did",
        hint="let the adapter declare it as intercepted",
    )


def _driven(seam: Seam, session: CanarySession) -> list[str]:
    """Drive a seam; return why it could not be driven, or nothing."""
    try:
        seam.drive(session)
    except Exception as error:  # the check reports whatever a framework raises
        return [f"the drive failed: {type(error).__name__}: {error}"]
    finally:
        session.client.close()
    return []


def _status(seam: Seam, bypasses: list[str], failures: list[str], known: bool) -> SeamStatus:
    if bypasses and seam.intercepts:
        return "bypassed"
    if bypasses:
        return "accepted" if known else "declared"
    return "failed" if failures else "intercepted"


def _is_of(row: _Row, kind: OperationKind, name: str, digest: str) -> bool:
    return row.kind == kind and row.name == name and digest in ("", row.digest)


def _what(kind: str, name: str) -> str:
    return name if kind == OperationKind.TOOL_CALL else f"{kind} {name}"
