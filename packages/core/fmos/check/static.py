"""Compares a trap table with what is sensitive by nature: every kind, every tool, many calls.

A call that the table lets run at once although it is sensitive is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fmos.check.model import Gap, OperationFinding
from fmos.check.probes import probes_of, probes_of_kind
from fmos.check.sensitive import BY_NATURE, Nature
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable
from fmos.types import Operation, OperationClass, OperationKind

_SHOWN = 60
_EXAMPLES = 5


@dataclass(slots=True)
class StaticResults:
    """What the probes of one table found."""

    operations: list[OperationFinding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(slots=True)
class _Tally:
    """What became of the probes of one tool or kind."""

    innocuous: bool = False
    sensitive: str = ""
    let_pass: int = 0
    gaps: list[Gap] = field(default_factory=list)

    def note_gap(self, probe: Operation, why: str, file: str) -> None:
        """Keep a few examples, each with a reason of its own, and count them all."""
        self.let_pass += 1
        if len(self.gaps) < _EXAMPLES and all(why not in gap.reason for gap in self.gaps):
            self.gaps.append(_gap(probe, why, file))


def check_table(table: TrapTable, nature: Nature, *, file: str = "") -> StaticResults:
    """Return how every kind and every tool is classed, and each sensitive call that would not trap.

    Args:
        table: What the adapters of the agent use.
        nature: What the agent's operations are judged by.
        file: Where contract or manifest are, for the gaps.
    """
    found = StaticResults()
    names = sorted({tool.name for tool in nature.tools})
    for kind in OperationKind:
        tally = _tally(table, nature, probes_of_kind(kind, _of_kind(kind, names)), file)
        why = BY_NATURE.get(kind, "an operation of it that nothing describes")
        found.operations.append(_finding(kind, str(kind), tally, f"traps: {why}"))
        found.gaps += tally.gaps
    for name in names:
        same = [tool for tool in nature.tools if tool.name == name]
        tally = _tally(table, nature, _probes(same, nature), file)
        why = _why(table, same, tally)
        if tally.let_pass:
            why = f"{why}; {tally.let_pass} sensitive calls that were tried ran at once"
        found.operations.append(_finding(OperationKind.TOOL_CALL, name, tally, why))
        found.gaps += tally.gaps
    found.operations += _untooled(nature)
    found.gaps += _stale(table, nature, file)
    return found


def _of_kind(kind: OperationKind, names: Sequence[str]) -> Sequence[str]:
    """Return the names to try a kind under; tools are probed by themselves where the table may."""
    return names if kind in BY_NATURE else ()


def _probes(same: Sequence[ToolDescriptor], nature: Nature) -> Iterator[Operation]:
    for tool in same:
        yield from probes_of(tool, nature.contract, nature.private)


def _tally(table: TrapTable, nature: Nature, probes: Iterable[Operation], file: str) -> _Tally:
    tally = _Tally()
    for probe in probes:
        why = nature.why_sensitive(probe)
        tally.sensitive = tally.sensitive or why
        if table.classify(probe, table.issued_ns) is OperationClass.INNOCUOUS:
            tally.innocuous = True
            if why:
                tally.note_gap(probe, why, file)
    return tally


def _gap(probe: Operation, why: str, file: str) -> Gap:
    said = repr(probe.arguments)
    shown = said if len(said) <= _SHOWN else said[: _SHOWN - 3] + "..."
    return Gap(
        where=probe.name,
        kind=probe.kind,
        file=file,
        reason=f"the trap table lets {shown} run at once, but {why}",
        hint="narrow the tool's descriptor or the contract's scope, and report it as a defect",
    )


def _stale(table: TrapTable, nature: Nature, file: str) -> Iterator[Gap]:
    """A table must let nothing pass before it is issued or once it has expired."""
    for tool in nature.tools:
        for probe in probes_of(tool, nature.contract, ()):
            for now_ns, when in ((table.issued_ns - 1, "before"), (table.expires_ns, "after")):
                if table.classify(probe, now_ns) is OperationClass.INNOCUOUS:
                    yield _gap(probe, f"it is {when} the time of the table", file)
                    return


def _finding(kind: OperationKind, name: str, tally: _Tally, why: str) -> OperationFinding:
    runs = OperationClass.INNOCUOUS if tally.innocuous else OperationClass.PRIVILEGED
    sensitive = bool(tally.sensitive)
    return OperationFinding(
        kind=kind, name=name, operation_class=runs, sensitive=sensitive, why=why
    )


def _why(table: TrapTable, same: Sequence[ToolDescriptor], tally: _Tally) -> str:
    if not tally.innocuous:
        return f"traps to the trust gate: {tally.sensitive or 'to be safe'}"
    if "path" not in same[0].roles.values():
        return "runs at once"
    rules = [rule for rule in table.rules if rule.tool == same[0].name]
    globs = rules[0].read_paths if rules else ()
    return f"runs at once on {', '.join(globs) or 'nothing'}; traps elsewhere"


def _untooled(nature: Nature) -> Iterator[OperationFinding]:
    """Yield the capabilities that no tool has: a call of such a name traps and is refused."""
    known = {name for tool in nature.tools for name in (tool.name, tool.capability)}
    for capability in nature.contract.capabilities if nature.contract else ():
        if capability not in known:
            yield OperationFinding(
                kind=OperationKind.TOOL_CALL,
                name=capability,
                operation_class=OperationClass.PRIVILEGED,
                sensitive=True,
                why="traps: no tool of this name or capability is registered",
            )
