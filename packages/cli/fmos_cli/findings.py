"""Shows the report of `fmos check` to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fmos.check.model import Report
from fmos.types import OperationClass, OperationKind
from fmos_cli.telling import safe

_KINDS = len(OperationKind)


def lines_of(report: Report) -> Iterator[str]:
    """Yield the report's lines; names that applications chose cannot steer the terminal."""
    for part in (_operations, _seams, _gaps, _warnings, _summary):
        for line in part(report):
            yield safe(line)


def _operations(report: Report) -> Iterator[str]:
    if report.contract is None:
        return
    digest, version = report.contract.digest[:12], report.table_version[:12]
    yield f"{report.contract.agent} (contract {digest}, trap table {version})"
    tools = [each for each in report.operations if each.name != each.kind]
    width = max((len(tool.name) for tool in tools), default=0)
    for tool in tools:
        yield f"  {tool.name:<{width}}  {tool.operation_class:<10}  {tool.why}"


def _seams(report: Report) -> Iterator[str]:
    for adapter in dict.fromkeys(seam.adapter for seam in report.seams):
        counts = Counter(seam.status for seam in report.seams if seam.adapter == adapter)
        said = ", ".join(f"{number} {status}" for status, number in counts.items())
        yield f"seams of {adapter}: {said}"


def _gaps(report: Report) -> Iterator[str]:
    if report.gaps:
        yield f"gaps: {len(report.gaps)}"
    for gap in report.gaps:
        yield f"  {gap.where}  {gap.kind}  {gap.file}"
        yield f"      {gap.reason}"
        if gap.hint:
            yield f"      way out: {gap.hint}"


def _warnings(report: Report) -> Iterator[str]:
    if report.warnings:
        yield f"warnings: {len(report.warnings)}"
    for each in report.warnings:
        hint = f"; {each.hint}" if each.hint else ""
        yield f"  {each.where}: {each.reason}{hint}  [{each.code}]"


def _summary(report: Report) -> Iterator[str]:
    """Yield what was proven and what was not, in five lines."""
    gaps = len(report.gaps)
    yield "PROVEN" if report.proven else f"NOT PROVEN: {gaps} gap{'s' if gaps > 1 else ''}"
    if report.contract is None:
        yield "  contract: none was named; only adapters were checked"
    else:
        runs = [o for o in report.operations if o.operation_class is OperationClass.INNOCUOUS]
        yield (
            f"  operations: {_KINDS} kinds and {len(report.operations) - _KINDS} names were tried;"
            f" {len(runs)} may run at once, and only where nothing about the call is sensitive"
        )
    yield from _shown_of_seams(report)
    yield (
        "  not shown by any check: that descriptors are true, and what code of the application does"
        " outside of tools, models and stores"
    )


def _shown_of_seams(report: Report) -> Iterator[str]:
    if not report.seams:
        yield "  seams: none were driven"
        yield "  not intercepted: unknown, for the same reason"
        return
    whole = sum(seam.status == "intercepted" for seam in report.seams)
    yield (
        f"  seams: at {whole} of {len(report.seams)} every canary was judged before it ran,"
        " or did not run"
    )
    open_ = [f"{s.adapter}.{s.name}" for s in report.seams if s.status in ("declared", "accepted")]
    yield f"  not intercepted, as the adapters say: {', '.join(open_) or 'nothing'}"
