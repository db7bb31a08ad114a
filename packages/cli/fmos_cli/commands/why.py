"""`fmos why`: why a call was allowed, asked about or denied, and what would change that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fmos.clock import utc_text
from fmos_cli.options import refuse_unused
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos_trust.provenance.explain import Explanation

EPILOG = "Example:  fmos why 01a201d33f757db982808f018b6565be"


def why(
    context: typer.Context,
    id: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="Of an operation or an approval; else --agent's last denial."
        ),
    ] = "",
    agent: Annotated[str, typer.Option(help="Whose last denial to explain.")] = "",
    session: Annotated[str, typer.Option(help="In which of its sessions.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say which rule and which evidence decided on a call, and what would change the verdict.

    Exit codes: 5 neither ID nor --agent is given; 8 there is no such operation, approval or tenant.
    """
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.types import Principal  # noqa: PLC0415
    from fmos_trust.provenance.explain import Explanations  # noqa: PLC0415

    own: Session = context.obj
    if id:
        refuse_unused(context, "does not go with an ID", "agent", "session")
    elif not agent:
        raise ArgumentError("neither ID nor --agent is given", hint="`fmos audit show` lists ids")
    Home.existing(own.home).require_tenant(tenant)
    with own.look() as kernel:
        explanations = Explanations(kernel)
        if id:
            found = explanations.explain(tenant, id)
        else:
            who = Principal(tenant=tenant, agent=agent, session=session)
            found = explanations.last_denial(who)
    if as_json:
        shown = None if found is None else found.model_dump(mode="json")
        typer.echo(json.dumps({"tenant": tenant, "agent": agent, "why": shown}, indent=2))
    elif found is None:
        typer.echo(safe(f"nothing that {agent!r} asked was denied"))
    else:
        for line in _lines(found):
            typer.echo(safe(line))


def _lines(found: Explanation) -> Iterator[str]:
    who = f"{found.agent}/{found.session}" if found.session else found.agent
    yield f"{found.tool} by {who}: {found.decision}, {utc_text(found.time_ns)}"
    for reason in found.reasons:
        place = f"{reason.layer}, rule {reason.rule}" if reason.layer else f"rule {reason.rule}"
        yield f"  {reason.message or reason.code}  [{place}]"
    for change in dict.fromkeys(reason.change for reason in found.reasons if reason.change):
        yield f"  unless {change}"
    if found.origins:
        yield "where its arguments came from"
        width = max(len(each.argument) for each in found.origins)
        for each in found.origins:
            yield f"  {each.argument:<{width}}  {', '.join(each.came_from):<12}  {each.value}"
    if found.score is not None:
        parts = (f"{name} {value:.2f}" for name, value in found.features.items() if value)
        yield f"score {found.score:.2f} of 1 ({', '.join(parts)})"
    for answer in found.answers:
        yield f"{answer.state} by {answer.approver}, {utc_text(answer.time_ns)}"
    if found.outcome:
        yield f"it ended: {found.outcome}"
    yield f"decided under {found.policy[:12] or 'no contract'}, operation {found.operation}"
    if not found.complete:
        yield "only the journal is left of it, which has no sentences"
