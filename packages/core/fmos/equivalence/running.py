"""Runs a sequence on one realisation and notes what can be seen of it from outside.

Effects are real: the file tools work on the agent's files, memories are written and found through
the server. An operation that is not allowed is not carried out, as an adapter would not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentfs.errors import InvalidName
from agentfs.paths import is_system, join, normalise
from fmos.contract.conformity import Happening
from fmos.contract.manifest import Manifest
from fmos.equivalence.homes import Opened, opened
from fmos.equivalence.model import Progress, Seen, Step
from fmos.equivalence.realisation import Realisation
from fmos.errors import ArgumentError, FmosError
from fmos.ledger.model import Balance
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal, Verdict

#: Tells the gate a person's decision: approval id, approved or not, who decided, and why.
Decide: TypeAlias = Callable[[str, bool, str, str], object]
Approvals: TypeAlias = Callable[[Kernel], Decide]

_FILE_TOOLS = ("read_file", "write_file", "remove_file")
_KINDS = ("op.intent", "op.outcome", "memory.write", "approval.decide")


@dataclass(frozen=True, slots=True)
class Row:
    """What a row of the journal says of an operation, without times and hashes."""

    kind: str
    operation: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remembered:
    """One memory that was written, and what came back of it."""

    index: int
    text: str
    source: str
    got: dict[str, Any] | None
    found: bool


@dataclass(slots=True)
class Run:
    """Everything that is seen of one sequence on one realisation; paths are in normal form."""

    realisation: Realisation
    principal: Principal
    manifest: Manifest | None = None
    seen: list[Seen] = field(default_factory=list)
    happened: list[tuple[int, Happening]] = field(default_factory=list)
    remembered: list[Remembered] = field(default_factory=list)
    unwritten: list[tuple[int, str, bool]] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    balances: tuple[Balance, ...] = ()
    rows: list[Row] = field(default_factory=list)
    chain_ok: bool = True


def run(
    realisation: Realisation,
    steps: Sequence[Step],
    approvals: Approvals | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run a sequence on a new home of the realisation; `progress` is told each step.

    Raises:
        ArgumentError: if a step cannot be done here: `advance` with a daemon, `answer` without
            `approvals`.
        ContractError: if the realisation's documents are broken.
    """
    if realisation.transport != "inprocess":
        for index, step in enumerate(steps):
            if step.do == "advance":
                raise ArgumentError(
                    f"step {index}: time cannot be moved in {realisation.name!r}",
                    hint="leave `advance` out, or use `transport: inprocess` in both",
                )
    with opened(realisation) as place:
        running = _Running(place, approvals)
        for index, step in enumerate(steps):
            if progress is not None:
                progress(f"operations on {realisation.name}", index)
            running.do(index, step)
        return running.ended()


class _Running:
    """One sequence on one opened realisation."""

    def __init__(self, place: Opened, approvals: Approvals | None) -> None:
        self._place = place
        self._client = place.client
        self._approvals = approvals
        self._who = place.realisation.principal
        self._run = Run(place.realisation, self._who)
        self._waiting: list[tuple[str, Operation, Step]] = []
        self._written: list[tuple[int, str, str, str]] = []
        for path, text in place.realisation.files.items():
            self._run.expected[normalise(path)] = text
        tools = [tool.model_dump(mode="json") for tool in place.realisation.tools]
        self._client.call("trust_register_tools", {"tools": tools})

    def do(self, index: int, step: Step) -> None:
        """Do one step and note what is seen of it; a refusal is a thing that is seen."""
        try:
            facts = getattr(self, f"_{step.do}")(index, step)
        except ArgumentError:
            raise
        except FmosError as error:
            facts = {"error": error.code}
        what = f"{step.do} {step.name}".strip()
        self._run.seen.append(Seen(index=index, what=what, facts=facts))

    def ended(self) -> Run:
        """Look at what is left, and return all that was seen."""
        found, kernel = self._run, self._place.kernel
        found.manifest = kernel.manifest(self._who)
        for index, memory, text, source in self._written:
            found.remembered.append(self._recalled(index, memory, text, source))
        found.unwritten = [(index, text, self._finds(text)) for index, text, _ in found.unwritten]
        found.files = dict(_files(kernel, self._who))
        found.balances = kernel.ledger.status(kernel.account(self._who))
        volume = kernel.volume(self._who.tenant)
        # Whole, and not by kind: the order of the rows is what counts.
        for row in volume.journal(0, principal=str(self._who)):
            if row.operation in _KINDS:
                identity = str(row.detail.get("id") or row.detail.get("memory") or "")
                found.rows.append(Row(row.operation, identity, dict(row.detail)))
        found.chain_ok = volume.verify_journal().ok
        return found

    def _tool(self, index: int, step: Step) -> dict[str, Any]:
        operation = self._operation(f"op{index}", OperationKind.TOOL_CALL, step)
        return self._called(index, operation, step, approval="")

    def _answer(self, index: int, step: Step) -> dict[str, Any]:
        """Let a person answer what waits longest, and ask again with the answer."""
        if self._approvals is None:
            raise ArgumentError("a person's answer needs approvals", hint="pass `approvals`")
        if not self._waiting:
            return {"waits": False}
        approval, asked, first = self._waiting.pop(0)
        try:
            self._approvals(self._place.kernel)(approval, step.approve, "person", "")
        except ArgumentError as error:  # it waited too long, which is a thing that is seen
            return {"waits": True, "error": error.code}
        again = asked.model_copy(update={"id": f"op{index}", "parent": asked.id})
        return {"waits": True, **self._called(index, again, first, approval=approval)}

    def _called(
        self, index: int, operation: Operation, step: Step, *, approval: str
    ) -> dict[str, Any]:
        asked = operation.model_dump(mode="json", exclude={"principal"})
        arguments = {"operation": asked, "approval": approval}
        verdict = Verdict.from_answer(self._client.call("trust_check", arguments))
        facts: dict[str, Any] = {
            "decision": verdict.decision.value,
            "reasons": sorted(reason.code for reason in verdict.reasons),
        }
        outcome = None
        if verdict.allowed:
            self._use("tool_calls", 1)
            result, status = self._effect(index, operation, step)
            facts |= {"result": result, "status": status.value}
            outcome = Outcome(operation=operation.id, status=status)
            told: dict[str, Any] = {"outcome": outcome.model_dump(mode="json")}
            observed = {"operation": operation.id, "source": operation.name, "text": result}
            self._client.call("trust_settle", told | {"observation": observed})
        elif verdict.approval:
            self._wait(verdict.approval, operation, step)
        if not verdict.allowed:
            self._not_done(operation)
        self._run.happened.append((index, Happening(operation, verdict, outcome)))
        return facts

    def _wait(self, approval: str, operation: Operation, step: Step) -> None:
        """Note what waits for a person; an equal call that waits already has the same approval."""
        if all(approval != waiting for waiting, _, _ in self._waiting):
            self._waiting.append((approval, operation, step))

    def _model(self, index: int, step: Step) -> dict[str, Any]:
        operation = self._operation(f"op{index}", OperationKind.MODEL_GENERATE, step)
        asked = operation.model_dump(mode="json", exclude={"principal"})
        verdict = Verdict.from_answer(self._client.call("budget_admit", {"operation": asked}))
        outcome = None
        if verdict.allowed:
            used = step.tokens if step.used is None else step.used
            usage = {"tokens": max(1, used)}
            self._client.call("budget_settle", {"reservation": verdict.reservation, "usage": usage})
            self._use("tokens", usage["tokens"])
            outcome = Outcome(operation=operation.id, status=OutcomeStatus.OK, usage=usage)
        self._run.happened.append((index, Happening(operation, verdict, outcome)))
        reasons = sorted(reason.code for reason in verdict.reasons)
        return {"decision": verdict.decision.value, "reasons": reasons}

    def _remember(self, index: int, step: Step) -> dict[str, Any]:
        source = f"op{index}"
        try:
            item = self._client.call("memory_write", {"text": step.text, "source": source})
        except FmosError:
            self._run.unwritten.append((index, step.text, False))
            raise
        self._use("memory_writes", 1)
        self._written.append((index, str(item["id"]), step.text, source))
        return {"text": item["text"]}

    def _recall(self, index: int, step: Step) -> dict[str, Any]:
        answer = self._client.call("memory_search", {"query": step.text, "limit": 100})
        return {"found": sorted(str(hit["text"]) for hit in answer["hits"])}

    def _observe(self, index: int, step: Step) -> dict[str, Any]:
        observed = {"source": step.name or "user", "text": step.text}
        self._client.call("trust_observe", {"settled": [{"observation": observed}]})
        return {}

    def _advance(self, index: int, step: Step) -> dict[str, Any]:
        assert self._place.clock is not None, "refused before the run began"
        self._place.clock.advance(step.seconds)
        return {}

    def _operation(self, id: str, kind: OperationKind, step: Step) -> Operation:
        estimate = {"tokens": step.tokens} if kind is OperationKind.MODEL_GENERATE else {}
        return Operation(
            id=id,
            kind=kind,
            name=step.name or "unnamed",
            arguments=step.arguments,
            principal=self._who,
            cost_estimate=estimate,
        )

    def _effect(self, index: int, operation: Operation, step: Step) -> tuple[str, OutcomeStatus]:
        """Do what an allowed tool does; one that is not a file tool only answers."""
        if step.fails:
            return "it failed", OutcomeStatus.FAILED
        name = operation.name
        if name not in _FILE_TOOLS:
            return "done", OutcomeStatus.OK
        files = self._place.kernel.agent_files(self._who)
        try:
            path = normalise(str(operation.arguments.get("path", "")))
            if name == "read_file":
                return files.read(path).decode("utf-8", "replace"), OutcomeStatus.OK
            if name == "write_file":
                content = str(operation.arguments.get("content", ""))
                files.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
                files.write(path, content)
                self._run.expected[path] = content
            else:
                files.remove(path)
                self._run.expected.pop(path, None)
            self._run.touched[path] = index
        except (OSError, ValueError) as error:
            return type(error).__name__, OutcomeStatus.FAILED
        return "done", OutcomeStatus.OK

    def _not_done(self, operation: Operation) -> None:
        """Note which file a refused call would have changed."""
        path = operation.arguments.get("path")
        if operation.name in ("write_file", "remove_file") and isinstance(path, str):
            with suppress(InvalidName):  # names no file that could change
                self._run.refused[normalise(path)] = operation.id

    def _use(self, resource: str, amount: int) -> None:
        self._run.used[resource] = self._run.used.get(resource, 0) + amount

    def _recalled(self, index: int, memory: str, text: str, source: str) -> Remembered:
        try:
            got = self._client.call("memory_get", {"id": memory})
        except FmosError:
            got = None
        return Remembered(index, text, source, got, self._finds(text))

    def _finds(self, text: str) -> bool:
        """Return whether a search for a memory's own words finds it."""
        try:
            answer = self._client.call("memory_search", {"query": text[:400], "limit": 100})
        except FmosError:
            return False
        return any(hit["text"] == text[:4_000] for hit in answer["hits"])


def _files(kernel: Kernel, who: Principal) -> list[tuple[str, str]]:
    """Return the agent's files with their content, without the system area."""
    files = kernel.agent_files(who)
    found: list[tuple[str, str]] = []
    for directory, _, names in files.walk("/"):
        if is_system(directory):
            continue
        for name in names:
            path = join(directory, name)
            found.append((path, files.read(path).decode("utf-8", "replace")))
    return sorted(found)
