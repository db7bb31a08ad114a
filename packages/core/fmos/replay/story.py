"""Rebuilds what a session did from its volume alone: the journal, the recording, the context.

Every text in a story has been through the redactor, unless the caller asks for it as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentfs import AgentFS
from agentfs.types import JournalRow
from fmos.audit.keys import AuditKeys
from fmos.redaction import Redactor
from fmos.replay.reading import Found, entries
from fmos.replay.store import Entry

_ITEM = re.compile(r"^/\.fmos/context/[^/]+/items/\d+\.json$")
_SYSTEM = "/.fmos"
_HIDDEN = frozenset({"memory.write", "context.compose", "recording.start"})


@dataclass(slots=True)
class Step:
    """One thing that happened: an operation, a message, a person's answer, a change of a file."""

    time_ns: int
    seq: int | None
    kind: str
    name: str = ""
    id: str = ""
    arguments: Any = None
    decision: str = ""
    reasons: list[str] = field(default_factory=list)
    status: str = ""
    duration_ms: float | None = None
    usage: dict[str, int] = field(default_factory=dict)
    text: str = ""
    policy: str = ""
    signals: list[str] = field(default_factory=list)
    fast: bool = False


@dataclass(slots=True)
class Story:
    """A session as its volume tells it; `sealed` counts what the keys at hand do not open."""

    tenant: str
    agent: str
    session: str
    branch: str
    recorded: bool
    sealed: int
    redacted: bool
    steps: list[Step]


def tell(
    volume: AgentFS, found: Found, keys: AuditKeys | None = None, *, redacted: bool = True
) -> Story:
    """Return the story of a session, in the order in which things happened."""
    kept = list(entries(volume, found, keys))
    rows = list(volume.journal(principal=found.principal))
    steps = _Telling(volume, found, kept).steps(rows)
    if redacted:
        _redact(steps)
    tenant, _, agent, _ = found.principal.split("/")
    sealed = sum(entry.content is None for entry in kept)
    recorded = found.recorded is not None
    return Story(tenant, agent, found.session, found.branch, recorded, sealed, redacted, steps)


class _Telling:
    """Puts rows and entries of one session together."""

    def __init__(self, volume: AgentFS, found: Found, kept: Iterable[Entry]) -> None:
        self._volume = volume
        self._branch = found.branch
        self._by_row = {each.seq: each for each in kept if each.seq is not None}
        self._after: dict[int, int] = {}
        last = 0
        for each in kept:
            last = each.seq or last
            self._after[each.number] = last
        self._loose = [each for each in kept if each.seq is None and each.content is not None]
        self._has_texts = any(each.name == "context_append" for each in self._loose)
        self._open: dict[str, Step] = {}
        self._settled = {
            item["operation"]["id"]: item
            for each in kept
            for item in ((each.content or {}).get("arguments") or {}).get("settled") or ()
            if item.get("operation")
        }

    def steps(self, rows: Iterable[JournalRow]) -> list[Step]:
        """Return the steps in the journal's order; what has no row follows what had one."""
        told = [((row.seq, 0), step) for row in rows for step in self._of_row(row)]
        for number, entry in enumerate(self._loose, 1):
            told.extend(((self._after[entry.number], number), step) for step in _of_entry(entry))
        ordered = [step for _, step in sorted(told, key=lambda each: each[0])]
        return list(_without_echoes(ordered))

    def _of_row(self, row: JournalRow) -> Iterator[Step]:
        detail, entry = row.detail, self._by_row.get(row.seq)
        content = (entry.content if entry else None) or {}
        if row.operation == "op.intent":
            yield self._intent(row, content)
        elif row.operation == "op.outcome":
            self._outcome(row, content)
        elif row.operation == "memory.write":
            yield from self._memory(row, content)
        elif row.operation == "context.compose":
            shown = {name: detail.get(name) for name in ("tokens", "tokens_raw", "budget")}
            yield Step(row.time_ns, row.seq, "context.compose", arguments=shown)
        elif "." in row.operation and row.operation not in _HIDDEN:
            shown = content.get("arguments", detail)
            yield Step(row.time_ns, row.seq, row.operation, arguments=shown)
        elif _ITEM.match(row.path) and not self._has_texts:
            yield from self._item(row)
        elif row.path and "." not in row.operation and not row.path.startswith(_SYSTEM):
            yield Step(row.time_ns, row.seq, "file", f"{row.operation} {row.path}")

    def _intent(self, row: JournalRow, content: dict[str, Any]) -> Step:
        detail = row.detail
        asked = _asked(content, detail["id"]) or self._fast(detail["id"], "operation")
        answer = content.get("answer") or {}
        reasons = [f"{each['code']}: {each['message']}" for each in answer.get("reasons", ())]
        codes = list(detail.get("reasons", ()))
        step = Step(
            row.time_ns,
            row.seq,
            detail["kind"],
            detail["name"],
            detail["id"],
            arguments=asked.get("arguments"),
            decision=detail.get("decision", ""),
            reasons=reasons or codes,
            policy=detail.get("policy", ""),
            signals=list(detail.get("signals", ())),
            fast=codes == ["trap.innocuous"],
        )
        self._open[step.id] = step
        return step

    def _outcome(self, row: JournalRow, content: dict[str, Any]) -> None:
        detail = row.detail
        step = self._open.get(detail["id"])
        if step is None:
            return
        step.status = detail.get("status", "")
        step.duration_ms = detail.get("duration_ms")
        step.usage = dict(detail.get("usage") or {})
        observed = (content.get("arguments") or {}).get("observation") or {}
        observed = observed or self._fast(step.id, "observation")
        step.text = observed.get("text", "") or step.text

    def _fast(self, operation: str, part: str) -> dict[str, Any]:
        """Return what was reported later of an operation that ran without a trap."""
        return self._settled.get(operation, {}).get(part) or {}

    def _memory(self, row: JournalRow, content: dict[str, Any]) -> Iterator[Step]:
        detail = row.detail
        if detail.get("phase") == "intent":
            name = detail.get("namespace", "")
            step = Step(row.time_ns, row.seq, "memory.write", name, detail["memory"])
            step.decision = "allow"
            self._open[step.id] = step
            yield step
        elif step := self._open.get(detail.get("memory", "")):
            step.status = "ok" if detail.get("phase") == "done" else "failed"
            step.arguments = content.get("arguments")

    def _item(self, row: JournalRow) -> Iterator[Step]:
        """Yield the message that the context server keeps, where no recording has it."""
        try:
            item = json.loads(self._volume.on(self._branch).read(row.path))
            text = item["stub"] if item["text"] is None else item["text"]
            yield _message(row.time_ns, row.seq, item["role"], item["name"], text)
        except (OSError, ValueError, KeyError):  # the branch went back, or was dropped
            yield Step(row.time_ns, row.seq, "message", status="gone")


def _asked(content: dict[str, Any], operation: str) -> dict[str, Any]:
    """Return the operation of this id in what a call was given."""
    given = content.get("arguments") or {}
    found = given.get("operation") or {}
    return found if found.get("id") == operation else {}


def _of_entry(entry: Entry) -> Iterator[Step]:
    given = (entry.content or {}).get("arguments") or {}
    if entry.name == "context_append":
        answer = (entry.content or {}).get("answer") or {}
        text = given["text"] if answer.get("inline", True) else answer["text"]
        yield _message(entry.time_ns, None, given["role"], given["name"], text)
    elif entry.name == "context_open":
        yield Step(entry.time_ns, None, "context.open", arguments=given)


def _without_echoes(steps: Iterable[Step]) -> Iterator[Step]:
    """Leave out the message that repeats what the tool call before it returned."""
    returned = ""
    for step in steps:
        if step.kind == "message" and step.name.startswith("tool") and step.text == returned:
            continue
        returned = step.text or returned
        yield step


def _message(time_ns: int, seq: int | None, role: str, name: str, text: str) -> Step:
    return Step(time_ns, seq, "message", f"{role} {name}".strip(), text=text)


def _redact(steps: list[Step]) -> None:
    """Hide every secret of the session in all of it, also before the place that shows it is one."""
    redactor = Redactor()
    for step in steps:
        redactor.learn([step.arguments, step.text, step.reasons])
    for step in steps:
        step.arguments = redactor.redacted(step.arguments)
        step.text = redactor.redacted(step.text)
        step.reasons = redactor.redacted(step.reasons)
        step.name = redactor.redacted(step.name)
