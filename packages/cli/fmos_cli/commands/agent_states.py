"""`fmos agent checkpoint|restore|export|import`: the states of an agent, and their ways."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.commands.agent_life import (
    AgentArgument,
    ApplicationOption,
    JsonOption,
    TenantOption,
)
from fmos_cli.files import ForceOption, source, target
from fmos_cli.person import person
from fmos_cli.principals import principal
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.runtime.agent_export import Exported
    from fmos.runtime.agent_import import Imported


def checkpoint(
    context: typer.Context,
    agent: AgentArgument,
    name: Annotated[str, typer.Option(help="Its name after AGENT@; without it, a fresh id.")] = "",
    message: Annotated[str, typer.Option(help="What this state is.")] = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Name the state of a whole agent: files, memory, context, checkpoints of its framework.

    Exit code 5: the name is taken or cannot be one; 8: there is no such agent.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        made = Lifecycle(kernel).checkpoint(who, name, message=message, person=person())
    typer.echo(json.dumps(made.model_dump(mode="json"), indent=2) if as_json else made.name)


def restore(
    context: typer.Context,
    agent: AgentArgument,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Its name, or @N for the journal's row N.")
    ],
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set a whole agent back to a checkpoint; what it spent stays spent.

    Exit code 5: it was killed; 8: there is no such agent or checkpoint.
    """
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        done = Lifecycle(kernel).restore(who, checkpoint, person=person())
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
        return
    back = f"`fmos agent restore {agent} @{done.before}` takes that back"
    typer.echo(f"{done.agent} is as it was at {done.checkpoint}; {back}")


def export(
    context: typer.Context,
    agent: AgentArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    force: ForceOption = False,
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a whole agent to one file, signed with the tenant's key.

    With it go its contract, its tools and, as evidence, the journal's rows of it. Exit code 5: the
    file exists, or the agent's files lie over a host directory; 8: there is no such agent.
    """
    from fmos.runtime.agent_export import export_agent  # noqa: PLC0415 - keeps --help fast

    who = principal(tenant, application, agent)
    target(file, force=force)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        done = export_agent(kernel, who, file, person=person(), replace=force)
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
        return
    _say_exported(done, file)


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    new_agent: Annotated[
        str, typer.Option("--as", help="Its id here; without it, the one that it had.")
    ] = "",
    trust_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="The public key of the tenant that exported it."),
    ] = None,
    install_contract: Annotated[
        bool,
        typer.Option("--install-contract", help="Install its contract, if there is none here."),
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Let it begin paused.")] = False,
    tenant: TenantOption = "default",
    application: Annotated[
        str | None, typer.Option(help="Of which application it is here; without it, as before.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an agent from a file, all of it or nothing; no agent that is there is replaced.

    It gets no rights by that: its contract is laid aside for a person to install. Exit code 5: the
    file is unsigned, altered or of an unknown key, or the id is taken; 13: it is no such file.
    """
    from fmos.runtime.agent_import import import_agent  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open() as kernel:
        done = import_agent(
            kernel, source(file), tenant=tenant, application=application, agent=new_agent,
            trust_keys=trust_key or (), install_contract=install_contract, paused=paused,
            person=person(),
        )  # fmt: skip
        contracts = kernel.home.contracts
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
        return
    _say_imported(done, contracts)


def _say_exported(done: Exported, file: Path) -> None:
    said = done.manifest
    what = f"{said.files} files, {said.bytes:,} bytes"
    typer.echo(f"exported {said.agent} to {file}: {what}")
    typer.echo(f"  signed by {said.public_key}")
    if said.narrowed_by:
        names = ", ".join(said.narrowed_by)
        typer.echo(f"  the contracts of its parents stay behind: {names}")


def _say_imported(done: Imported, contracts: Path) -> None:
    typer.echo(f"imported {done.manifest.agent} as {done.agent}, {done.state.value}")
    typer.echo(f"  its papers are in {done.papers}")
    if done.contract_installed:
        typer.echo("  its contract is installed")
    elif done.contract:
        target = contracts / f"{done.agent.rpartition(':')[2]}.yaml"
        command = f"cp -n {shlex.quote(done.contract)} {shlex.quote(str(target))}"
        typer.echo(f"  it has no rights yet: read its contract, then {command}")
