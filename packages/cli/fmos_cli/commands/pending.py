"""`fmos pending`: the calls and workflow steps that wait for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.session import Session
from fmos_cli.telling import safe
from fmos_cli.workflows import waiting_lines

if TYPE_CHECKING:
    from fmos_trust.model import Approval


def pending(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """List the calls that wait for `fmos approve`, and the steps for `fmos workflow answer`."""
    from fmos.workflow.views import Runs  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.approvals import Approvals  # noqa: PLC0415

    session: Session = context.obj
    with session.open() as kernel:
        waiting = Approvals(kernel).pending()
        steps = Runs(kernel).pending()
        left = [(item.expires_ns - kernel.clock.now_ns()) // 1_000_000_000 for item in waiting]
    if as_json:
        document = {
            "approvals": [item.model_dump(mode="json") for item in waiting],
            "workflows": [step.model_dump(mode="json") for step in steps],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    if not waiting and not steps:
        typer.echo("nothing waits")
    for item, seconds in zip(waiting, left, strict=True):
        for line in _lines(item, seconds):
            typer.echo(line)
    for step in steps:
        for line in waiting_lines(step):
            typer.echo(safe(line))


def _lines(item: Approval, seconds_left: int) -> Iterator[str]:
    who = item.principal.agent
    yield f"{item.id}  {safe(item.tool)} by {who}, {seconds_left} s left"
    yield f"    {safe(item.shown)}"
    for reason in item.reasons:
        yield f"    {safe(reason)}"
