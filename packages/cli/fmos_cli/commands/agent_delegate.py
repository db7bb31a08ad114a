"""`fmos agent delegate|delegations|revoke`: what an agent hands on to a sub-agent, for a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.commands.agent_life import (
    ApplicationOption,
    JsonOption,
    ReasonOption,
    TenantOption,
)
from fmos_cli.person import person
from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.delegation.model import Delegation, Scope


def delegate(
    context: typer.Context,
    parent: Annotated[str, typer.Argument(metavar="PARENT", help="Who hands on: its id or key.")],
    child: Annotated[str, typer.Argument(metavar="CHILD", help="The sub-agent; new or known.")],
    capability: Annotated[
        list[str] | None, typer.Option(help="A capability; without any, all of the parent's.")
    ] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="A tool or glob; without any, every tool.")
    ] = None,
    read: Annotated[list[str] | None, typer.Option(help="A glob of paths to read.")] = None,
    write: Annotated[list[str] | None, typer.Option(help="A glob of paths to write.")] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="A glob of recipients.")] = None,
    budget: Annotated[
        list[str] | None, typer.Option(metavar="RESOURCE=AMOUNT", help="Such as tokens=5k.")
    ] = None,
    expires: Annotated[str, typer.Option(help="How long: 12h, 90m, 45s; at most 30d.")] = "1h",
    further: Annotated[
        int, typer.Option(help="How many more delegations may follow on this one.")
    ] = 0,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    session: Annotated[str, typer.Option(help="The parent's session, which pays.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a sub-agent do a part of what its parent may, signed and for a time.

    What the parent loses, the sub-agent loses. The last delegation to an agent counts. Exit code 5:
    the parent has not what is asked; 11: it may do nothing, or may not delegate.
    """
    from fmos.delegation.delegate import delegate as hand_on  # noqa: PLC0415 - keeps --help fast
    from fmos.delegation.model import Scope  # noqa: PLC0415
    from fmos.serving.credentials.tokens import parse_ttl  # noqa: PLC0415

    asked = {
        "capabilities": capability, "tools": tool, "read": read, "write": write,
        "recipients": recipient,
    }  # fmt: skip
    given = {name: tuple(names) for name, names in asked.items() if names}
    scope = _checked(Scope, {**given, "budgets": dict(_budget(each) for each in budget or ())})
    who = principal(tenant, application, parent, session)
    to = principal(tenant, application, child)
    opened: Session = context.obj
    with opened.open(make=False) as kernel:
        made = hand_on(
            kernel, who, to, scope, ttl_s=parse_ttl(expires), further=further, person=person()
        )
    if as_json:
        document = {**made.delegation.model_dump(mode="json"), "token": made.token}
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(safe(f"{to.agent_key} acts for {who.agent_key} {_until(made.delegation)}"))
    for line in scope_lines(scope):
        typer.echo(safe(f"  {line}"))


def delegations(
    context: typer.Context, tenant: TenantOption = "default", as_json: JsonOption = False
) -> None:
    """List what is delegated in a tenant, and why it counts no more."""
    opened: Session = context.obj
    with opened.look() as kernel:
        kernel.home.require_tenant(tenant)
        found = kernel.delegations.of_tenant(tenant)
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "child": row.child,
                "counts": not refused,
                "refused": refused,
                "delegation": each.model_dump(mode="json") if each else None,
            }
            for row, each, refused in found
        ]
        typer.echo(json.dumps({"delegations": rows}, indent=2))
        return
    if not found:
        typer.echo(safe(f"nothing is delegated in the tenant {tenant!r}"))
    for row, each, refused in found:
        origin = f" from {each.parent.agent_key}, {_until(each)}" if each else ""
        typer.echo(safe(f"{row.child}{origin}" + (f": {refused}" if refused else "")))
        for line in scope_lines(each.scope) if each and not refused else ():
            typer.echo(safe(f"  {line}"))


def revoke(
    context: typer.Context,
    child: Annotated[str, typer.Argument(metavar="CHILD", help="The sub-agent.")],
    reason: ReasonOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
) -> None:
    """End what was delegated to an agent at once, with all that it delegated itself.

    Exit code 5: it had ended before; 8: nothing is delegated to the agent.
    """
    from fmos.delegation.delegate import revoke as end  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, child)
    opened: Session = context.obj
    with opened.open(make=False) as kernel:
        parent = end(kernel, who, reason=reason, person=person())
    typer.echo(safe(f"{who.agent_key} acts for {parent or 'anybody'} no more"))


def read_scope(path: Path) -> Scope:
    """Return the scope in a YAML file: `capabilities`, `tools`, `read`, `write`, and so on.

    Raises:
        ArgumentError: if it cannot be read, or is no scope.
    """
    import yaml  # noqa: PLC0415 - keeps --help fast

    from fmos.delegation.model import Scope  # noqa: PLC0415
    from fmos.errors import ArgumentError  # noqa: PLC0415

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArgumentError(
            f"cannot read the scope {str(path)!r}: {error}", hint="give a YAML file of a scope"
        ) from error
    return _checked(Scope, document)


def scope_lines(scope: Scope) -> list[str]:
    """Return a scope in words, a line for each thing that it limits."""
    shown = scope.model_dump(mode="json", exclude_defaults=True)
    budgets = shown.pop("budgets", {})
    lines = [f"{name}: {', '.join(names) or 'none'}" for name, names in shown.items()]
    if budgets:
        lines.append(
            "budgets: " + ", ".join(f"{name} {amount}" for name, amount in budgets.items())
        )
    return lines or ["all that the parent may"]


def _checked(kind: type[Scope], document: object) -> Scope:
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415

    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ArgumentError(
            describe_validation(error), hint="see docs/trust-gate.md for what a scope may say"
        ) from error


def _budget(text: str) -> tuple[str, str]:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    name, found, amount = text.partition("=")
    if not found:
        raise ArgumentError(f"{text!r} is not a budget", hint="give RESOURCE=AMOUNT: tokens=5k")
    return name, amount


def _until(delegation: Delegation) -> str:
    return f"until {utc_text(delegation.expires_ns, to='minutes')} UTC"
