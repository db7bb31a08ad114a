"""`fmos agent`: the agents of a tenant, and what a person says of each."""

from __future__ import annotations

import typer

from fmos_cli.commands.agent_delegate import delegate, delegations, revoke
from fmos_cli.commands.agent_life import fork, kill, list_, pause, resume, show, spawn
from fmos_cli.commands.agent_states import checkpoint, export, import_, restore

agent_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Agents: start, pause, resume, kill, checkpoint, restore, fork, and move to another home.",
    epilog="Example:  fmos agent pause writer --reason 'it writes nonsense'",
)

agent_app.command("list", epilog="Example:  fmos agent list --tenant acme --json")(list_)
agent_app.command(epilog="Example:  fmos agent show writer --json")(show)
agent_app.command(epilog="Example:  fmos agent spawn reviewer --from writer@before-review")(spawn)
agent_app.command(epilog="Example:  fmos agent pause writer --reason 'it writes nonsense'")(pause)
agent_app.command(epilog="Example:  fmos agent resume writer")(resume)
agent_app.command(epilog="Example:  fmos agent kill writer --yes")(kill)
agent_app.command(epilog="Example:  fmos agent fork writer writer-2")(fork)
agent_app.command(epilog="Example:  fmos agent checkpoint writer --name before-review")(checkpoint)
agent_app.command(epilog="Example:  fmos agent restore writer before-review")(restore)
agent_app.command(epilog="Example:  fmos agent export writer writer.fmos")(export)
agent_app.command("import", epilog="Example:  fmos agent import writer.fmos --as writer-2")(import_)
agent_app.command(
    epilog="Example:  fmos agent delegate writer checker --capability fs.read --expires 1h"
)(delegate)
agent_app.command(epilog="Example:  fmos agent delegations --tenant acme --json")(delegations)
agent_app.command(epilog="Example:  fmos agent revoke checker --reason 'it is done'")(revoke)
