"""`fmos pending`: the calls and workflow steps that wait for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.session import Session
from fmos_cli.telling import safe
from fmos_cli.workflows import waiting_lines

_SHORT = 600

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
    with session.look() as kernel:
        waiting = Approvals(kernel).pending()
        steps = Runs(kernel).pending()
        now_ns = kernel.clock.now_ns()
    if as_json:
        document = {
            "approvals": [item.model_dump(mode="json") for item in waiting],
            "workflows": [step.model_dump(mode="json") for step in steps],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    if not waiting and not steps:
        typer.echo("nothing waits")
    for item in waiting:
        for line in _lines(item, now_ns):
            typer.echo(line)
    for step in steps:
        for line in waiting_lines(step):
            typer.echo(safe(line))


def _lines(item: Approval, now_ns: int) -> Iterator[str]:
    who, left = item.principal, (item.expires_ns - now_ns) // 1_000_000_000
    by = f"{who.agent} in {who.session}" if who.session else who.agent
    escalated = ", escalated" if item.escalated(now_ns) else ""
    yield f"{item.id}  {safe(item.tool)} by {by}, {left} s left{escalated}"
    yield f"    {safe(_short(item.shown))}"
    for reason in item.reasons:
        yield f"    {safe(reason)}"
    if item.effect is not None:
        yield f"    it ran on a fork: {len(item.effect.paths)} paths would change"


def _short(text: str) -> str:
    """Return a text that fits a few lines; `fmos approve` shows all of it."""
    if len(text) <= _SHORT:
        return text
    left = len(text) - _SHORT
    half = _SHORT // 2
    return f"{text[:half]} ... {left} characters, all of them in `fmos approve` ... {text[-half:]}"
