"""`fmos policy lint`: what is wrong in trust policies, and what is probably not meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.commands.contract_lint import lines_of, report_of
from fmos_cli.principals import principal
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.contract.lint import Report
    from fmos.traps.manifest import ToolDescriptor

EPILOG = """Example:  fmos policy lint --agent writer ~/.fmos/policies/trust/*.yaml

Exit codes: 0 no errors; 1 warnings, with --strict; 4 errors."""


def lint(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Policies; - reads standard input.")
    ],
    agent: Annotated[
        str, typer.Option(help="Hold the names of tools against those that this agent has.")
    ] = "",
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail too.")] = False,
) -> None:
    """List everything that is wrong or doubtful in trust policies, with line and column.

    Rules that never decide, two of one id, limits that nothing meets, and with --agent names of
    tools and arguments that it has not.
    """
    tools = _tools(context.obj, tenant, application, agent) if agent else None
    reports = [_report(name, tools) for name in files]
    errors = sum(report.count("error") for report in reports)
    warnings = sum(report.count("warning") for report in reports)
    if as_json:
        shown = [report.model_dump(mode="json") for report in reports]
        typer.echo(json.dumps({"files": shown, "errors": errors, "warnings": warnings}, indent=2))
    else:
        for report in reports:
            for line in lines_of(report):
                typer.echo(line)
    if errors:
        raise typer.Exit(4)
    raise typer.Exit(1 if strict and warnings else 0)


def _report(name: str, tools: Mapping[str, ToolDescriptor] | None) -> Report:
    from fmos.contract.lint import of_one_kind  # noqa: PLC0415 - keeps --help fast

    return of_one_kind(report_of(name, tools), "TrustPolicy")


def _tools(
    session: Session, tenant: str, application: str, agent: str
) -> Mapping[str, ToolDescriptor]:
    from fmos_trust.service import TrustService  # noqa: PLC0415 - keeps --help fast

    with session.look() as kernel:
        found = TrustService(kernel).tools(principal(tenant, application, agent))
    return {tool.name: tool for tool in found}
