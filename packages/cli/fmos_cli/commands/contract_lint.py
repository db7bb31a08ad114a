"""`fmos contract lint`: what is wrong in documents, and what is probably not meant."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.contract.lint import Finding, Report
    from fmos.traps.manifest import ToolDescriptor

EPILOG = """Example:  fmos contract lint --strict contracts/*.yaml

Exit codes: 0 no errors; 1 warnings, with --strict; 4 errors."""


def lint(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Documents; - reads standard input.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail too.")] = False,
) -> None:
    """List everything that is wrong or doubtful in contracts, bindings, workflows and policies.

    The documents are looked at alone; `fmos contract bind` says whether one can be met.
    """
    reports = [report_of(name) for name in files]
    errors = sum(report.count("error") for report in reports)
    warnings = sum(report.count("warning") for report in reports)
    if as_json:
        shown = [report.model_dump(mode="json") for report in reports]
        document = {"files": shown, "errors": errors, "warnings": warnings}
        typer.echo(json.dumps(document, indent=2))
    else:
        for report in reports:
            for line in lines_of(report):
                typer.echo(line)
    if errors:
        raise typer.Exit(4)
    raise typer.Exit(1 if strict and warnings else 0)


def report_of(name: str, tools: Mapping[str, ToolDescriptor] | None = None) -> Report:
    """Return what lint says of a file; `tools` are those that rules may name, where known."""
    from datetime import UTC, datetime  # noqa: PLC0415 - keeps --help fast

    from fmos.contract.lint import lint_text, unreadable  # noqa: PLC0415
    from fmos.contract.parse import decoded, read_text  # noqa: PLC0415
    from fmos.errors import ContractError  # noqa: PLC0415

    source = "<stdin>" if name == "-" else name
    try:
        text = decoded(sys.stdin.buffer.read(), source) if name == "-" else read_text(Path(name))
    except ContractError as error:
        return unreadable(error, source)
    return lint_text(text, source, datetime.now(UTC).date(), tools)


def lines_of(report: Report) -> Iterator[str]:
    """Yield a report as a person reads it."""
    for finding in report.findings:
        yield f"{_where(report, finding)}: {finding.severity}: {_sentence(finding)}"
    errors, warnings = report.count("error"), report.count("warning")
    what = ", ".join(f"{each.kind} {each.name}" for each in report.documents)
    counts = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    yield safe(f"{report.file}: {what}{': ' if what else ''}{counts}")


def _where(report: Report, finding: Finding) -> str:
    place = f":{finding.line}:{finding.column}" if finding.line else ""
    return safe(report.file) + place


def _sentence(finding: Finding) -> str:
    hint = f"; {finding.hint}" if finding.hint else ""
    return safe(f"{finding.message}{hint} [{finding.code}]")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
