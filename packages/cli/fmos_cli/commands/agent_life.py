"""`fmos agent list|show|spawn|pause|resume|kill|fork`: what a person says of each agent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.person import person
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.runtime.lifecycle import Agent, Checkpoint
    from fmos.types import Principal

_NS = 1_000_000_000

AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
TenantOption = Annotated[str, typer.Option(help="Of which tenant the agent is.")]
ApplicationOption = Annotated[str, typer.Option(help="Of which application the agent is.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept in the journal.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def list_(
    context: typer.Context, tenant: TenantOption = "default", as_json: JsonOption = False
) -> None:
    """List the agents of a tenant with their states."""
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open() as kernel:
        found = Lifecycle(kernel).listing(tenant)
    if as_json:
        typer.echo(json.dumps({"agents": [_shown(each) for each in found]}, indent=2))
        return
    if not found:
        typer.echo(f"the tenant {tenant!r} has no agents")
    width = max((len(each.key) for each in found), default=0)
    for each in found:
        typer.echo(safe(f"{each.key:<{width}}  {_line(each)}"))


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
    with session.open() as kernel:
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
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an agent, or start the id of a killed one anew.

    Made from another agent's state it stays within that one's contract. Said again, it changes
    nothing. Exit code 5: the id is taken or cannot be one; 8: there is no such source.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open() as kernel:
        found = Lifecycle(kernel).spawn(who, source, person=person())
    _tell(found, f"{found.key} is running, made from {source or 'the template'}", as_json)


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
    with session.open() as kernel:
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
    with session.open() as kernel:
        found = Lifecycle(kernel).resume(who, reason=reason, person=person())
    _tell(found, f"{found.key} is running", as_json)


def kill(
    context: typer.Context,
    agent: AgentArgument,
    reason: ReasonOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """End an agent for good and give back what it holds reserved; its files and forks stay.

    `fmos agent spawn` starts its id anew. Exit code 1: not confirmed; 8: there is no such agent.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open() as kernel:
        lives = Lifecycle(kernel)
        lives.show(who)
        if not yes and not _confirmed(f"Kill the agent {who.agent_key}?"):
            typer.echo("fmos: nothing was done (--yes does not ask)", err=True)
            raise typer.Exit(1)
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
    with session.open() as kernel:
        found = Lifecycle(kernel).fork(who, new_agent)
    _tell(found, f"{found.key} was forked from {who.agent_key}", as_json)


def principal(tenant: str, application: str, agent: str) -> Principal:
    """Return the principal that the options name.

    Raises:
        ArgumentError: if an id cannot be one.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415
    from fmos.types import Principal, checked_id  # noqa: PLC0415

    checked_id(agent, "an agent id")
    try:
        return Principal(tenant=tenant, application=application, agent=agent)
    except ValidationError as error:
        raise ArgumentError(
            describe_validation(error),
            hint="use letters, digits and ._@+- only, starting with a letter or digit",
        ) from error


def _confirmed(question: str) -> bool:
    """Ask; whoever cannot answer has not said yes."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)
        return False


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
    return datetime.fromtimestamp(time_ns // _NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
