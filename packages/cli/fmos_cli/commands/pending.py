"""`fmos pending`: the calls that wait for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos_trust.model import Approval


def pending(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """List the calls that wait for `fmos approve`, oldest first."""
    from fmos_trust.approvals import Approvals  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open() as kernel:
        waiting = Approvals(kernel).pending()
        left = [(item.expires_ns - kernel.clock.now_ns()) // 1_000_000_000 for item in waiting]
    if as_json:
        document = {"approvals": [item.model_dump(mode="json") for item in waiting]}
        typer.echo(json.dumps(document, indent=2))
        return
    if not waiting:
        typer.echo("nothing waits")
    for item, seconds in zip(waiting, left, strict=True):
        for line in _lines(item, seconds):
            typer.echo(line)


def _lines(item: Approval, seconds_left: int) -> Iterator[str]:
    who = item.principal.agent
    yield f"{item.id}  {_safe(item.tool)} by {who}, {seconds_left} s left"
    yield f"    {_safe(item.shown)}"
    for reason in item.reasons:
        yield f"    {_safe(reason)}"


def _safe(text: str) -> str:
    """Escape what a terminal would obey: the agent chose these words, and a person must see all."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
