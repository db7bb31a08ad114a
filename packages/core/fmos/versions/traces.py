"""Recorded sessions that candidates are judged on, and which of them are held out.

From a file of labelled calls (the format of `fmos traps`, docs/spec/trap-abi.md), from a tenant's
recordings (docs/replay.md), or from its journal, which knows names and decisions but no arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentfs import AgentFS
from fmos.audit.record import INTENT
from fmos.canonical import content_digest
from fmos.errors import ArgumentError
from fmos.replay.encryption import SessionCipher
from fmos.replay.reading import sessions
from fmos.replay.store import RecordingStore
from fmos.runtime.kernel import Kernel
from fmos.traps.replay import Call, Run, read_runs, split
from fmos.types import Decision, Operation, OperationKind

HELD_OUT = 0.3


@dataclass(frozen=True, slots=True)
class Traces:
    """Sessions, and the share of them that candidates are judged on.

    `source` names exactly these; `decided` has what was answered to an operation, where that is
    known, and `capabilities` what a tool's name needs to be granted.
    """

    runs: tuple[Run, ...]
    source: str
    held_out: float = HELD_OUT
    path: Path | None = None
    decided: Mapping[str, Decision] = field(default_factory=dict)
    capabilities: Mapping[str, str] = field(default_factory=dict)

    def judged(self) -> Traces:
        """Return the sessions held out; which these are depends on their names only."""
        return replace(self, runs=tuple(split(self.runs, self.held_out)[1]))

    def split_again(self, by: str, share: float) -> Traces:
        """Return the same file with other groups, and at most that share held out."""
        if self.path is None:
            return self
        runs = tuple(read_runs(self.path, by))
        return replace(self, runs=runs, held_out=min(share, self.held_out))


def read_traces(path: Path, *, split_by: str = "run", held_out: float = HELD_OUT) -> Traces:
    """Return the sessions of a file of labelled calls.

    Raises:
        ArgumentError: if the share to hold out is none.
        FormatError: if the file cannot be read.
    """
    if not 0 < held_out <= 1:
        raise ArgumentError(
            f"{held_out} is no share of traces to hold out", hint="give one above 0, up to 1"
        )
    runs = tuple(read_runs(path, split_by))
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    return Traces(runs, source, held_out, path)


def traces_of_journal(
    volume: AgentFS,
    *,
    since: int = 0,
    until: int | None = None,
    held_out: float = HELD_OUT,
    capabilities: Mapping[str, str] | None = None,
) -> Traces:
    """Return the sessions that a volume's journal tells of, with what was decided in them.

    Arguments are not in the journal: rules on paths and recipients cannot be judged by it.

    Raises:
        ArgumentError: if it tells of no session.
    """
    runs: dict[str, Run] = {}
    decided: dict[str, Decision] = {}
    for row in volume.journal(since, operation=INTENT, until=until):
        operation = _operation(row.detail)
        session = row.principal
        if operation is None or session.endswith("/-"):
            continue
        runs.setdefault(session, Run(session, session, "")).calls.append(
            Call(operation, "", positive=False)
        )
        decided[operation.id] = Decision(row.detail["decision"])
    if not runs:
        raise ArgumentError(
            "the journal tells of no session", hint="give a file of recorded traces: --traces FILE"
        )
    source = content_digest(sorted(decided))
    found = tuple(runs.values())
    return Traces(found, source, held_out, None, decided, dict(capabilities or {}))


def traces_of_recordings(kernel: Kernel, tenant: str, *, held_out: float = HELD_OUT) -> Traces:
    """Return the recorded sessions of a tenant, with arguments, outputs and what was decided.

    Nobody labelled them: every call of theirs counts as harmless.

    Raises:
        ArgumentError: if none is recorded.
    """
    runs: list[Run] = []
    decided: dict[str, Decision] = {}
    capabilities: dict[str, str] = {}
    volume = kernel.volume(tenant)
    for recorded in sessions(volume):
        cipher = SessionCipher(kernel.keys_of(tenant), recorded.salt)
        session = _Session(recorded.principal)
        for entry in RecordingStore(volume).entries(recorded.id, cipher):
            if entry.content is not None:
                session.take(entry.name, entry.content)
        if session.asked:
            runs.append(session.run())
            decided.update(session.decided)
            capabilities.update(session.capabilities)
    if not runs:
        raise ArgumentError(
            f"no session of the tenant {tenant!r} is recorded",
            hint="see `[replay]` in fmos.toml, or give a file of recorded traces: --traces FILE",
        )
    source = content_digest(sorted(decided))
    return Traces(tuple(runs), source, held_out, None, decided, capabilities)


class _Session:
    """One recording as it is read: what was asked, answered and seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prompt = ""
        self.asked: dict[str, Operation] = {}
        self.outputs: dict[str, str] = {}
        self.decided: dict[str, Decision] = {}
        self.capabilities: dict[str, str] = {}

    def take(self, name: str, content: dict[str, Any]) -> None:
        """Take one recorded entry into account; those of other servers say nothing here."""
        if name in ("trust.tools", "trust.pins"):
            for tool in _tools(content.get("value") or ()):
                self.capabilities[tool["name"]] = tool["capability"]
            return
        given = content.get("arguments") or {}
        for item in given.get("settled") or ():
            self._saw(item.get("observation"))
            self._ran(item.get("operation"), Decision.ALLOW)
        if name == "trust_settle":
            self._saw(given.get("observation"))
        elif name == "trust_check":
            answer = content.get("answer") or {}
            self._ran(given.get("operation"), Decision(answer.get("decision", Decision.DENY)))

    def run(self) -> Run:
        """Return the session as the metrics take it."""
        calls = [
            Call(each, self.outputs.get(each.id, ""), positive=False)
            for each in self.asked.values()
        ]
        return Run(self.name, self.name, self.prompt, calls)

    def _ran(self, operation: dict[str, Any] | None, decision: Decision) -> None:
        if operation is not None:
            asked = Operation.from_answer(operation)
            self.asked[asked.id] = asked
            self.decided[asked.id] = decision

    def _saw(self, observation: dict[str, Any] | None) -> None:
        if observation is None:
            return
        if observation["source"] == "user" and not self.prompt:
            self.prompt = observation["text"]
        elif observation.get("operation"):
            self.outputs[observation["operation"]] = observation["text"]


def _operation(detail: dict[str, Any]) -> Operation | None:
    try:
        return Operation(
            id=detail["id"],
            kind=OperationKind(detail["kind"]),
            name=detail["name"],
            labels=tuple(detail.get("labels", ())),
        )
    except (KeyError, ValueError, ValidationError):  # of a version that says something else
        return None


def _tools(value: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the tools that a recording tells of: by server, or those of an older FMOS."""
    for each in value:
        if "pins" in each:
            yield from (pin["tool"] for pin in each["pins"])
        else:
            yield each
