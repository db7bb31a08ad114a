"""`fmos check`: shows that every sensitive operation is privileged, or lists each gap."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.session import Session

#: The command is registered with it in main.py.
EPILOG = (
    "Exit codes: 0 proven, 1 a gap (with --strict also a warning), else that of the error.\n\n"
    "Example: fmos check --contract contracts/worker.yaml --tools tools.json"
    " --adapter langgraph --accept 'langgraph.graph.*'"
)
_NO_ADAPTER = "none"


def check(
    context: typer.Context,
    named: Annotated[
        str, typer.Argument(metavar="[AGENT|FILE]", help="An agent's id, or a contract file.")
    ] = "",
    contract: Annotated[
        str, typer.Option("--contract", metavar="AGENT|FILE", help="The same, as an option.")
    ] = "",
    tools: Annotated[
        Path | None,
        typer.Option("--tools", metavar="FILE", help="Tool descriptors: a JSON list of them."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME",
            help="Drive canaries through this adapter; `none` for no adapter.  [default: all]",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept", metavar="SEAM", help="A gap that an adapter declares is no gap; globs work."
        ),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="The agent's tenant.")] = "default",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Show that every sensitive operation of an agent is privileged, or list what could bypass it.

    Compiles the agent's trap table and tries it with many calls of every tool and kind; sends
    canaries through every entry point of the adapters and looks for them in the journal. Without a
    contract only the adapters are checked. Nothing in the home is changed.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast
    from fmos_cli.checking import Request, run_check  # noqa: PLC0415
    from fmos_cli.findings import lines_of  # noqa: PLC0415

    if named and contract:
        raise ArgumentError("the contract is named twice", hint="leave out --contract")
    session: Session = context.obj
    report = run_check(
        Request(
            home=session.home,
            contract=named or contract,
            tools=tools,
            adapters=None if not adapter else tuple(a for a in adapter if a != _NO_ADAPTER),
            accept=tuple(accept or ()),
            tenant=tenant,
        )
    )
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        for line in lines_of(report):
            typer.echo(line)
    if not report.proven or (strict and report.warnings):
        raise typer.Exit(1)
