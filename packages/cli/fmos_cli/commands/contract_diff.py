"""`fmos contract diff`: what became wider and what narrower from one document to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.commands.contract_inputs import JsonOption, load

if TYPE_CHECKING:
    from fmos.contract.widening import Change

EPILOG = "Example:  fmos contract diff contracts/ada.yaml proposed/ada.yaml"

_MARK = {"wider": "WIDER", "narrower": "narrower", "changed": "changed"}


def diff(
    before: Annotated[Path, typer.Argument(help="A contract, binding, workflow, manifest...")],
    after: Annotated[Path, typer.Argument(help="Another of its kind.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two documents field by field; WIDER marks what lets the agent do more.

    Exit codes: 0 the same, 1 they differ, 4 or 13 one is not valid, 5 they cannot be compared.
    """
    from fmos.contract.compare import compare  # noqa: PLC0415 - keeps --help fast

    found = compare(load(before), load(after))
    if as_json:
        changes = [change.model_dump(mode="json") for change in found.changes]
        document = {"same": found.same, "wider": len(found.wider), "changes": changes}
        typer.echo(json.dumps(document, indent=2))
    else:
        for change in found.changes:
            typer.echo(f"{_MARK[change.effect]:<8}  {change.field}: {change.said}")
        typer.echo(_summary(found.changes))
    if not found.same:
        raise typer.Exit(1)


def _summary(changes: tuple[Change, ...]) -> str:
    counts = {name: sum(1 for each in changes if each.effect == name) for name in _MARK}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return said or "the same"
