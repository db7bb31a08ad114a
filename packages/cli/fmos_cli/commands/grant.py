"""`fmos grant`: that a text may decide something, for one purpose: "do what the e-mail says"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.commands.agent_life import ApplicationOption, JsonOption, TenantOption
from fmos_cli.person import YesOption, agree, person
from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos_trust.delegation.grants import Grants
    from fmos_trust.delegation.model import Grant

grant_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Grants to content: whose targets may come out of a text that a stranger could write.",
    epilog="Example:  fmos grant give writer --from read_mail --tool pay --expires 1h",
)


@grant_app.command(
    epilog="Example:  fmos grant give writer --from read_mail --tool pay --target recipient --yes"
)
def give(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Whose calls it is for.")],
    tool: Annotated[list[str], typer.Option(help="A tool or glob that may be called for it.")],
    source: Annotated[str, typer.Option("--from", help="The tool whose output it is.")] = "",
    field: Annotated[str, typer.Option(help="Where in that output, such as /body.")] = "",
    digest: Annotated[str, typer.Option(help="SHA-256 of the whole text: only that one.")] = "",
    target: Annotated[
        list[str] | None,
        typer.Option(help="path, recipient, command, body or url; without any, all."),
    ] = None,
    expires: Annotated[str, typer.Option(help="How long: 2d, 1h, 90m; at most 7d.")] = "1h",
    uses: Annotated[int, typer.Option(min=1, max=1000, help="For how many calls.")] = 1,
    yes: YesOption = False,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    session: Annotated[str, typer.Option(help="Only in this session.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let targets of some calls come out of one source, so often, until then.

    Exit code 1: not confirmed; 5: it names no source; 11: no terminal and no --yes.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.credentials.tokens import parse_ttl  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415
    from fmos.traps.manifest import ArgumentRole  # noqa: PLC0415
    from fmos_trust.delegation.model import Source  # noqa: PLC0415

    who = principal(tenant, application, agent, session)
    known: tuple[ArgumentRole, ...] = ("path", "recipient", "command", "body", "url")
    targets: list[ArgumentRole] = [role for role in known if role in (target or ())]
    strange = next((each for each in target or () if each not in known), None)
    if strange is not None:
        raise ArgumentError(f"{strange!r} is no kind of target", hint=f"give {', '.join(known)}")
    try:
        where = Source(tool=source, field=field, digest=digest)
    except ValidationError as error:
        raise ArgumentError(
            describe_validation(error), hint="see `fmos grant give --help`"
        ) from error
    opened: Session = context.obj
    with opened.open(make=False) as kernel:
        what = f"{', '.join(tool)} with what {where.said} says"
        agree(f"Let {who.agent_key} call {what}?", "a grant", yes=yes)
        made = _grants(kernel).give(
            who, where, tool, ttl_s=parse_ttl(expires), uses=uses, targets=targets, person=person()
        )
    typer.echo(json.dumps(_shown(made, ""), indent=2) if as_json else safe(_line(made, "")))


@grant_app.command("list", epilog="Example:  fmos grant list --json")
def list_(
    context: typer.Context, tenant: TenantOption = "default", as_json: JsonOption = False
) -> None:
    """List the grants of a tenant, and why one counts no more."""
    opened: Session = context.obj
    with opened.look() as kernel:
        kernel.home.require_tenant(tenant)
        found = [each for each in _grants(kernel).all() if each[0].principal.tenant == tenant]
    if as_json:
        typer.echo(json.dumps({"grants": [_shown(*each) for each in found]}, indent=2))
        return
    if not found:
        typer.echo(safe(f"nothing is granted in the tenant {tenant!r}"))
    for grant, why in found:
        typer.echo(safe(_line(grant, why)))


@grant_app.command(epilog="Example:  fmos grant end 4f1c0a")
def end(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As in `fmos grant list`.")],
) -> None:
    """End a grant at once. Exit code 8: there is no such grant."""
    opened: Session = context.obj
    with opened.open(make=False) as kernel:
        _grants(kernel).end(identifier, person=person())
    typer.echo(safe(f"ended {identifier}"))


def _grants(kernel: Kernel) -> Grants:
    from fmos_trust.delegation.grants import Grants  # noqa: PLC0415 - keeps --help fast

    return Grants(kernel)


def _shown(grant: Grant, why: str) -> dict[str, Any]:
    hidden = {"boot", "up_until_ns"}
    return {**grant.model_dump(mode="json", exclude=hidden), "counts": not why, "refused": why}


def _line(grant: Grant, why: str) -> str:
    until = utc_text(grant.expires_ns, to="minutes")
    kinds = f" ({', '.join(grant.targets)})" if grant.targets else ""
    said = f"{', '.join(grant.tools)}{kinds} with what {grant.source.said} says"
    left = f"{grant.left} of {grant.uses} left, until {until} UTC"
    return f"{grant.id}  {grant.principal.agent_key}: {said}; {why or left}"
