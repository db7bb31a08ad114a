"""Looks at documents alone: all that is wrong in them, and what is probably not meant.

Whether a contract can be met or scheduled is binding's and admission's matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Literal, NamedTuple

from fmos.contract.binding_document import BindingDocument
from fmos.contract.doubts import Doubt
from fmos.contract.formats import CURRENT, DEPRECATED
from fmos.contract.lint_rules import doubts_about
from fmos.contract.model import AgentContract
from fmos.contract.parse import Document, Tree, parse_tree, read_trees
from fmos.contract.policy import Policy
from fmos.contract.positions import place_of
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import Complaint, ContractError
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Record

Severity = Literal["error", "warning"]


class Finding(Record):
    """One error or warning; line and column count from 1, 0 is unknown."""

    line: int
    column: int
    field: str = ""
    severity: Severity
    code: str
    message: str
    hint: str = ""
    found: str = ""
    expected: str = ""


class Looked(Record):
    """One valid document of a file."""

    kind: str
    name: str
    digest: str


class Report(Record):
    """What lint says about one file."""

    file: str
    documents: tuple[Looked, ...] = ()
    findings: tuple[Finding, ...] = ()

    def count(self, severity: Severity) -> int:
        """Return how many findings are of that severity."""
        return sum(finding.severity == severity for finding in self.findings)


class _Seen(NamedTuple):
    documents: list[Looked]
    findings: list[Finding]


def lint_text(
    text: str, source: str, today: date, tools: Mapping[str, ToolDescriptor] | None = None
) -> Report:
    """Return all errors and warnings about the documents in a text, in its order.

    With `tools`, the names in trust policies are held against them.
    """
    seen = _Seen([], [])
    try:
        trees = list(read_trees(text, source))
    except ContractError as error:
        return unreadable(error, source)
    if not trees:
        seen.findings.append(_alone("it holds no document", "begin with `apiVersion: ...`"))
    for tree in trees:
        _look_at(tree, source, today, seen, tools)
    findings = sorted(seen.findings, key=lambda each: (each.line, each.column))
    return Report(file=source, documents=tuple(seen.documents), findings=tuple(findings))


def unreadable(error: ContractError, source: str) -> Report:
    """Return the report about a file that could not be read as YAML."""
    return Report(file=source, findings=tuple(_of_error(error, source)))


def of_one_kind(report: Report, kind: str) -> Report:
    """Return a report that has an error for each document that is of another kind."""
    others = [each for each in report.documents if each.kind != kind]
    wrong = [_alone(f"{each.name!r} is of the kind {each.kind}, not {kind}", "") for each in others]
    return report.model_copy(update={"findings": (*report.findings, *wrong)})


def name_of(document: Document) -> str:
    """Return what a document is called: its agent, workflow, or layer with its name."""
    if isinstance(document, AgentContract):
        return document.name
    if isinstance(document, BindingDocument):
        return document.agent
    if isinstance(document, TrustPolicy):
        return document.name
    return document.label if isinstance(document, Policy) else document.workflow


def _look_at(
    tree: Tree,
    source: str,
    today: date,
    seen: _Seen,
    tools: Mapping[str, ToolDescriptor] | None,
) -> None:
    seen.findings.extend(_version(tree, today))
    try:
        document = parse_tree(tree, source)
    except ContractError as error:
        seen.findings.extend(_of_error(error, source))
        return
    seen.documents.append(
        Looked(kind=document.kind, name=name_of(document), digest=document.digest)
    )
    seen.findings.extend(_of_doubt(doubt, tree) for doubt in doubts_about(document, tools))


def _version(tree: Tree, today: date) -> Iterator[Finding]:
    version = tree.values.get("apiVersion") if isinstance(tree.values, dict) else None
    until = DEPRECATED.get(version) if isinstance(version, str) else None
    if until is None:
        return
    when = f"is read until {until}" if today <= until else f"was promised to be read until {until}"
    place = place_of(tree.root, ("apiVersion",))
    yield Finding(
        line=place.line,
        column=place.column,
        field="apiVersion",
        severity="warning",
        code="deprecated",
        message=f"{version!r} {when}",
        hint=f"write `apiVersion: {CURRENT}`",
        found=repr(version),
        expected=CURRENT,
    )


def _of_error(error: ContractError, source: str) -> Iterator[Finding]:
    for complaint in error.complaints:
        yield _of_complaint(complaint)
    if not error.complaints:
        message = str(error).removesuffix(f"; {error.hint}").removeprefix(f"{source} ")
        yield _alone(message, error.hint)


def _of_complaint(complaint: Complaint) -> Finding:
    return Finding(
        line=complaint.line,
        column=complaint.column,
        field=complaint.field,
        severity="error",
        code="invalid",
        message=complaint.message,
        hint=complaint.hint,
        found=complaint.found,
        expected=complaint.expected,
    )


def _of_doubt(doubt: Doubt, tree: Tree) -> Finding:
    place = place_of(tree.root, doubt.loc)
    return Finding(
        line=place.line,
        column=place.column,
        field=".".join(str(part) for part in doubt.loc),
        severity=doubt.severity,
        code=doubt.code,
        message=doubt.message,
        hint=doubt.hint,
    )


def _alone(message: str, hint: str) -> Finding:
    return Finding(line=0, column=0, severity="error", code="invalid", message=message, hint=hint)
