"""Judges calls before they run by whether their tool would take them, and learns what fails.

What is certain to fail is denied with the repair; what is only odd is a note.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmos.canonical import canonical_json
from fmos.contract.globs import normalise
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal
from fmos.versions.reading import VersionReader
from fmos_trust.evidence.catalogue import Catalogue
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, FindingEffect, finding
from fmos_trust.lookahead.failures import OTHER, advice_on, is_transient, kind_of
from fmos_trust.lookahead.hints import Hints
from fmos_trust.lookahead.ids import ids_in, is_plainly_id
from fmos_trust.lookahead.schema import Problem, Schemas, UnreadableSchemaError, nearest
from fmos_trust.lookahead.store import LookAheadStore
from fmos_trust.provenance.view import SessionView

#: In a recording, what an accepted hint said of the tool that is named after it.
HINT = "trust.hint"

_RULE = "look-ahead"
_OPEN = 512
_COUNTS_NS = 600 * 1_000_000_000
_UNASKED = 0.2
#: Of such failures nothing is to be learned for the next call.
_NO_LESSON = frozenset({OTHER, "transient"})
_ASKED = 0.8
#: With more tools than this, another one that fits better is not looked for.
_COMPARED = 100


@dataclass(frozen=True, slots=True)
class _Begun:
    """A call that was judged and has not ended."""

    operation: Operation
    changes: bool


class LookAhead:
    """The look-ahead of one gate. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = LookAheadStore(kernel.database)
        self._schemas = Schemas()
        self._hints = Hints(VersionReader(kernel))
        self._begun: OrderedDict[tuple[str, str, str], _Begun] = OrderedDict()
        self._catalogues: dict[int, tuple[Mapping[str, ToolDescriptor], Catalogue]] = {}

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what the tool of a call would refuse."""
        tool = facts.descriptor
        if tool is None:
            if facts.operation.kind is OperationKind.TOOL_CALL:
                yield from self._unknown(facts)
        else:
            yield from self._arguments(facts, tool)
            yield from self._ids(facts, tool)
            yield from _outside(facts)
            yield from self._intent(facts, tool)
        yield from self._repeated(facts)
        if tool is not None:
            yield from self._hint(facts)
        if not facts.dry:
            self._begin(facts)

    # -- the kinds of error ------------------------------------------------------------------

    def _unknown(self, facts: Facts) -> Iterator[Finding]:
        """Find a tool that the application did not register, by the name that comes closest."""
        if not facts.tools or facts.tool in facts.in_force.withheld:
            return
        near = nearest(facts.tool, list(facts.tools))
        granted = facts.contract is not None and facts.contract.grants(facts.tool)
        if granted or not (near or _is_whole(facts.tools)):
            return
        change = f"use {near!r}" if near else f"use one of {_listed(facts.tools)}"
        message = f"there is no tool {facts.tool!r}; {change}"
        yield _found("deny", "lookahead.tool", message, change)

    def _arguments(self, facts: Facts, tool: ToolDescriptor) -> Iterator[Finding]:
        try:
            problems = self._schemas.problems(tool, facts.operation.arguments)
        except UnreadableSchemaError as error:
            message = f"the schema of {tool.name!r} is none ({error}), so nothing is checked by it"
            yield _found("note", "lookahead.schema", message)
            return
        for each in problems:
            said = f"{each.message}; {each.change}" if each.change else each.message
            yield _found("deny", f"lookahead.{each.kind}", said, each.change)
        if problems and not facts.dry:
            self._learn(facts.operation.principal, tool.name, problems)

    def _ids(self, facts: Facts, tool: ToolDescriptor) -> Iterator[Finding]:
        """Find ids that stand nowhere in what the session has seen."""
        seen = facts.seen
        if seen is None:
            return
        given = ids_in(self._catalogue(facts.tools).facts(tool), facts.operation.arguments)
        for pointer, value in given:
            if "none" not in seen.came_from(value) or _stands_somewhere(value, seen, facts):
                continue
            sure = is_plainly_id(value) and bool(seen.seen.kinds)
            change = "look it up with another tool first, and use an id that was returned"
            message = f"{pointer} {value[:80]!r} is in nothing that this session has seen; {change}"
            yield _found("deny" if sure else "note", "lookahead.id", message, change)

    def _repeated(self, facts: Facts) -> Iterator[Finding]:
        """Find a call that failed before, exactly like this, with nothing changed since."""
        who = facts.operation.principal
        if not self._store.any_failure(who):
            return
        digest = self._digest(facts.operation)
        known = self._store.failure(who, digest)
        if known is None:
            return
        recent = self._kernel.clock.now_ns() - known.at_ns < _COUNTS_NS
        advice = advice_on(known.kind)
        message = f"this very call failed {known.times} time(s) ({known.kind}); {advice}"
        stop = recent and not known.warned and not is_transient(known.kind)
        yield _found("deny" if stop else "note", "lookahead.repeated", message, advice)
        if stop and not facts.dry:
            self._store.warned(who, digest)

    def _intent(self, facts: Facts, tool: ToolDescriptor) -> Iterator[Finding]:
        """Note that another tool fits the request far better."""
        if facts.seen is None or not 2 <= len(facts.tools) <= _COMPARED:
            return
        evidence, catalogue = facts.seen.seen.evidence, self._catalogue(facts.tools)
        mine = catalogue.facts(tool)
        if not mine.changes or evidence.implied(mine) >= _UNASKED:
            return
        with facts.seen.seen.lock:
            better = [
                each.name
                for each in catalogue.tools.values()
                if each.effect == mine.effect and evidence.implied(each) >= _ASKED
            ]
        if len(better) == 1:
            change = f"use {better[0]!r}, if that is what was asked for"
            message = f"the request asks for {better[0]!r} rather than {tool.name!r}"
            yield _found("note", "lookahead.intent", message, change)

    def _hint(self, facts: Facts) -> Iterator[Finding]:
        who = facts.operation.principal
        said = self._hints.of(who, facts.tool)
        if said:
            value = {"tool": facts.tool, "text": said}
            if not facts.dry:
                self._kernel.recordings.premise(who, f"{HINT}:{facts.tool}", said, lambda: value)
            yield _found("note", "lookahead.hint", said)

    # -- what became of calls ----------------------------------------------------------------

    def ended(
        self, who: Principal, outcome: Outcome, text: str = "", ran: Operation | None = None
    ) -> None:
        """Note how a call ended; `ran` is one that nobody was asked about."""
        begun = self._begun.pop(_key(who, outcome.operation), None)
        if begun is None and ran is not None:
            begun = _Begun(ran, changes=False)
        if begun is None:
            return
        if outcome.status is OutcomeStatus.FAILED:
            self._failed(who, begun.operation, f"{outcome.error} {text}")
        elif outcome.status is OutcomeStatus.OK and self._store.any_failure(who):
            # What changed something may have changed what the others failed for.
            digest = "" if begun.changes else self._digest(begun.operation)
            self._store.forget(who, digest)

    def happened(self, who: Principal, event: str, value: Any) -> None:
        """Give a session that is run again the hint that it had."""
        if event.startswith(f"{HINT}:"):
            self._hints.restore(who, value["tool"], value["text"])

    def forget_old(self, before_ns: int) -> None:
        """Forget failures of before a time."""
        self._store.forget_old(before_ns)

    def _failed(self, who: Principal, operation: Operation, text: str) -> None:
        kind, now_ns = kind_of(text), self._kernel.clock.now_ns()
        self._store.failed(who, self._digest(operation), kind, now_ns)
        if kind not in _NO_LESSON:
            advice = f"{kind}: {advice_on(kind)}"
            self._store.learn(who.tenant, operation.name, kind, advice, now_ns)

    def _learn(self, who: Principal, tool: str, problems: list[Problem]) -> None:
        now_ns = self._kernel.clock.now_ns()
        for each in problems[:4]:
            # No value of a call is kept: only which argument, and what the schema wants of it.
            at = each.pointer.split("/")[1] if "/" in each.pointer else ""
            advice = each.change if each.kind == "missing" else f"mind the type of {at!r}"
            if each.kind == "extra":
                advice = "give only the arguments of its schema"
            elif each.kind == "enum":
                advice = f"{at!r} takes only the values that its schema lists"
            self._store.learn(who.tenant, tool, f"{each.kind}:{at}", advice, now_ns)

    def _begin(self, facts: Facts) -> None:
        operation = facts.operation
        key = _key(operation.principal, operation.id)
        self._begun[key] = _Begun(operation, changes=facts.effect != "read")
        while len(self._begun) > _OPEN:
            self._begun.popitem(last=False)

    def _digest(self, operation: Operation) -> str:
        """Return a keyed digest of a call: equal for an equal call, and telling nobody which."""
        said = canonical_json([operation.kind.value, operation.name, operation.arguments])
        return self._kernel.keys_of(operation.principal.tenant).seal("trust_failure", said)

    def _catalogue(self, tools: Mapping[str, ToolDescriptor]) -> Catalogue:
        known = self._catalogues.get(id(tools))
        if known is None or known[0] is not tools:
            if len(self._catalogues) >= 64:
                self._catalogues.clear()
            known = self._catalogues[id(tools)] = (tools, Catalogue.of(tools.values()))
        return known[1]


def _outside(facts: Facts) -> Iterator[Finding]:
    """Find a relative path without its folder, where the contract leaves one folder for it."""
    contract = facts.contract
    if contract is None:
        return
    reads = facts.effect in ("read", "send")
    may = contract.security.may_read if reads else contract.security.may_write
    scopes = contract.security.read_scopes() if reads else contract.security.write_scopes()
    for name, role in facts.roles.items():
        value = facts.operation.arguments.get(name)
        if role != "path" or not isinstance(value, str) or value.startswith("/"):
            continue
        if "\0" in value or may(normalise(value)):
            continue
        roots = {glob.split("*", 1)[0].rstrip("/") for scope in scopes for glob in scope}
        inside = sorted({path for root in roots if may(path := normalise(f"{root}/{value}"))})
        if len(inside) == 1 and "/../" not in f"/{value}/":
            change = f"use {inside[0]!r}, if that is what is meant"
            message = f"/{name} {value[:80]!r} is outside of the contract; {change}"
            yield _found("deny", "lookahead.contract", message, change)


def _found(effect: FindingEffect, code: str, message: str, change: str = "") -> Finding:
    return finding(effect, "selection", code, message, rule=_RULE, change=change)


def _is_whole(tools: Mapping[str, ToolDescriptor]) -> bool:
    """Return whether every tool has a schema: then these are all that a server lists."""
    return all(tool.input_schema is not None for tool in tools.values())


def _stands_somewhere(value: str, seen: SessionView, facts: Facts) -> bool:
    """Return whether a value is a part of any text: of a link, a file name, the contract."""
    if facts.contract is not None and value in facts.contract.model_dump_json():
        return True
    with seen.seen.lock:
        events = seen.seen.evidence.to_json()["events"]
    wanted = value.casefold()
    return any(wanted in str(each.get("text", each.get("user", ""))).casefold() for each in events)


def _listed(tools: Mapping[str, ToolDescriptor]) -> str:
    names = sorted(tools)
    return ", ".join(names[:20]) + (" and others" if len(names) > 20 else "")


def _key(who: Principal, operation: str) -> tuple[str, str, str]:
    return (who.tenant, who.agent_key, operation)
