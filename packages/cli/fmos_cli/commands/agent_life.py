"""`fmos agent list|show|spawn|pause|resume|kill|fork`: what a person says of each agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.options import refuse_unused
from fmos_cli.person import YesOption, agree, person
from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos.runtime.lifecycle import Agent, Checkpoint
    from fmos.types import Principal


AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="The agent's id, or APPLICATION:ID.")
]
TenantOption = Annotated[str, typer.Option(help="Of which tenant the agent is.")]
ApplicationOption = Annotated[str, typer.Option(help="Of which application the agent is.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept in the journal.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def list_(
    context: typer.Context,
    tenant: TenantOption = "default",
    every: Annotated[bool, typer.Option("--all-tenants", help="Of every tenant.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the agents of a tenant with their states. Exit code 8: there is no such tenant."""
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    if every:
        refuse_unused(context, "does not go with --all-tenants", "tenant")
    session: Session = context.obj
    with session.look() as kernel:
        tenants = kernel.home.tenants()
        if not every:
            kernel.home.require_tenant(tenant)
        found = [
            each
            for name in (tenants if every else [tenant])
            for each in Lifecycle(kernel).listing(name)
        ]
    if as_json:
        typer.echo(json.dumps({"agents": [_shown(each) for each in found]}, indent=2))
        return
    if not found:
        typer.echo(_nobody(tenant, tenants, every))
    names = [f"{each.tenant}  {each.key}" if every else each.key for each in found]
    width = max(map(len, names), default=0)
    for name, each in zip(names, found, strict=True):
        typer.echo(safe(f"{name:<{width}}  {_line(each)}"))


def show(
    context: typer.Context,
    agent: AgentArgument,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one agent and its checkpoints. Exit code 8: there is no such agent."""
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.look() as kernel:
        lives = Lifecycle(kernel)
        found, states = lives.show(who), lives.checkpoints(who)
    if as_json:
        rows = [each.model_dump(mode="json") for each in states]
        typer.echo(json.dumps({**_shown(found), "checkpoints": rows}, indent=2))
        return
    typer.echo(safe(f"{found.key}: {_line(found)}"))
    for each in states:
        typer.echo(safe(f"  {_checkpoint(each)}"))


def spawn(
    context: typer.Context,
    agent: AgentArgument,
    source: Annotated[
        str, typer.Option("--from", help="A checkpoint or an agent; without it, the template.")
    ] = "",
    scope: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What it may of what --from AGENT may, in YAML."),
    ] = None,
    expires: Annotated[str, typer.Option(help="How long with --scope: 12h, 90m, 45s.")] = "1h",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an agent, or start the id of a killed one anew.

    Made from another agent's state it stays within that one's contract, and with --scope acts for
    it, as `fmos agent delegate` says. Said again, it changes nothing. Exit code 5: the id is taken
    or cannot be one; 8: there is no such source.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    if scope is None:
        refuse_unused(context, "goes with --scope only", "expires")
    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open() as kernel:
        lives = Lifecycle(kernel)
        was_there = lives.is_there(who)
        if scope is not None:
            _delegated(kernel, who, source, scope, expires)
        found = lives.spawn(who, source, person=person())
    origin = source or "the template"
    said = f"is {found.state.value}, made from {origin}"
    if was_there and scope is None:
        said = f"is there already: {found.state.value}, made from {origin}; nothing was changed"
    _tell(found, f"{found.key} {said}", as_json)


def _delegated(kernel: Kernel, who: Principal, source: str, scope: Path, expires: str) -> None:
    """Make the agent of a spawn with --scope: for a time, within what its source may."""
    from fmos.delegation.delegate import delegate  # noqa: PLC0415 - keeps --help fast
    from fmos.serving.credentials.tokens import parse_ttl  # noqa: PLC0415
    from fmos_cli.commands.agent_delegate import read_scope  # noqa: PLC0415 - imports this

    parent = principal(who.tenant, who.application, source)
    asked, ttl_s = read_scope(scope), parse_ttl(expires)
    delegate(kernel, parent, who, asked, ttl_s=ttl_s, source=source, person=person())


def pause(
    context: typer.Context,
    agent: AgentArgument,
    reason: ReasonOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Deny an agent everything until it is resumed; what runs already ends.

    Exit code 5: it was killed; 8: there is no such agent.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        found = Lifecycle(kernel).pause(who, reason=reason, person=person())
    _tell(found, f"{found.key} is paused; `fmos agent resume {agent}` lets it go on", as_json)


def resume(
    context: typer.Context,
    agent: AgentArgument,
    reason: ReasonOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a paused agent go on. Exit code 5: it was killed; 8: there is no such agent."""
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        found = Lifecycle(kernel).resume(who, reason=reason, person=person())
    _tell(found, f"{found.key} is running", as_json)


def kill(
    context: typer.Context,
    agent: AgentArgument,
    reason: ReasonOption = "",
    yes: YesOption = False,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """End an agent for good and give back what it holds reserved; its files and forks stay.

    `fmos agent spawn` starts its id anew. Exit code 1: not confirmed; 8: there is no such agent;
    11: no terminal and no --yes.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        lives = Lifecycle(kernel)
        lives.show(who)
        agree(f"Kill the agent {who.agent_key}?", "a kill", yes=yes)
        found = lives.kill(who, reason=reason, person=person())
    _tell(found, f"{found.key} was killed; `fmos agent spawn {agent}` starts it anew", as_json)


def fork(
    context: typer.Context,
    agent: AgentArgument,
    new_agent: Annotated[str, typer.Argument(metavar="NEW", help="The id of the fork.")],
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Fork a whole agent: it works under its parent's contract and spends from its account.

    Exit code 5: the new id is taken or cannot be one; 8: there is no such agent.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        found = Lifecycle(kernel).fork(who, new_agent)
    _tell(found, f"{found.key} was forked from {who.agent_key}", as_json)


def _nobody(tenant: str, tenants: list[str], every: bool) -> str:
    if every:
        return "no tenant has agents"
    others = ", ".join(each for each in tenants if each != tenant)
    return f"the tenant {tenant!r} has no agents" + (f"; there are also {others}" if others else "")


def _tell(found: Agent, sentence: str, as_json: bool) -> None:
    typer.echo(json.dumps(_shown(found), indent=2) if as_json else safe(sentence))


def _shown(found: Agent) -> dict[str, Any]:
    return found.model_dump(mode="json")


def _line(found: Agent) -> str:
    state = found.state.value
    if found.since_ns and state != "running":
        state += f" since {_time(found.since_ns)}"
    parts = [state]
    if found.state.value != "running":
        parts += [
            each for each in (f"by {found.person}" * bool(found.person), found.reason) if each
        ]
    if found.parent:
        parts.append(f"from {found.parent}")
    if not found.has_branch:
        parts.append("without a branch")
    return ", ".join(parts)


def _checkpoint(each: Checkpoint) -> str:
    said = f"  {each.message}" if each.message else ""
    return f"{each.name}  {_time(each.created_ns)}{said}"


def _time(time_ns: int) -> str:
    return f"{utc_text(time_ns)} UTC"
