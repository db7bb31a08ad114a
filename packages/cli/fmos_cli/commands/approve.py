"""`fmos approve`: a person decides on a call that the trust gate asked about."""

from __future__ import annotations

from typing import Annotated

import typer

from fmos_cli.person import person
from fmos_cli.session import Session


def approve(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As listed by `fmos pending`.")],
    deny: Annotated[bool, typer.Option("--deny", help="Deny it instead.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit journal.")] = "",
) -> None:
    """Approve, or with --deny deny, one waiting call."""
    from fmos_trust.approvals import Approvals  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open() as kernel:
        Approvals(kernel).decide(identifier, not deny, approver=person(), reason=reason)
    typer.echo(f"{'denied' if deny else 'approved'} {identifier}")
