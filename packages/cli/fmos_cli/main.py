"""The `fmos` command line: global options and the list of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.commands.agent import agent_app
from fmos_cli.commands.approve import approve
from fmos_cli.commands.audit import audit_app
from fmos_cli.commands.backup import EPILOG as BACKUP_EPILOG
from fmos_cli.commands.backup import backup
from fmos_cli.commands.check import EPILOG as CHECK_EPILOG
from fmos_cli.commands.check import check
from fmos_cli.commands.contract import contract_app
from fmos_cli.commands.demo import demo
from fmos_cli.commands.doctor import EPILOG as DOCTOR_EPILOG
from fmos_cli.commands.doctor import doctor
from fmos_cli.commands.equivalent import EPILOG as EQUIVALENT_EPILOG
from fmos_cli.commands.equivalent import equivalent
from fmos_cli.commands.grant import grant_app
from fmos_cli.commands.ledger import ledger_app
from fmos_cli.commands.pending import pending
from fmos_cli.commands.policy import policy_app
from fmos_cli.commands.replay import EPILOG as REPLAY_EPILOG
from fmos_cli.commands.replay import replay
from fmos_cli.commands.report import EPILOG as REPORT_EPILOG
from fmos_cli.commands.report import report
from fmos_cli.commands.restore import EPILOG as RESTORE_EPILOG
from fmos_cli.commands.restore import restore
from fmos_cli.commands.serve import serve
from fmos_cli.commands.token import token_app
from fmos_cli.commands.tools import tools_app
from fmos_cli.commands.traps import traps_app
from fmos_cli.commands.trust import trust
from fmos_cli.commands.upgrade import EPILOG as UPGRADE_EPILOG
from fmos_cli.commands.upgrade import upgrade
from fmos_cli.commands.verify import EPILOG as VERIFY_EPILOG
from fmos_cli.commands.verify import verify
from fmos_cli.commands.versions import versions_app
from fmos_cli.commands.why import EPILOG as WHY_EPILOG
from fmos_cli.commands.why import why
from fmos_cli.commands.workflow import workflow_app
from fmos_cli.failures import CommandGroup
from fmos_cli.session import Session

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="FMOS: memory, context, trust and budget for agents, over one agent filesystem.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from fmos.serving.app import version  # noqa: PLC0415 - keeps --help fast

        typer.echo(f"fmos {version()}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The FMOS home.  [default: $FMOS_HOME, else ~/.fmos]"),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """FMOS: memory, context, trust and budget for agents, over one agent filesystem."""
    context.obj = Session.of(home)


for _command in (serve, pending, approve, demo):
    app.command()(_command)
app.command(epilog=CHECK_EPILOG)(check)
app.command(epilog=BACKUP_EPILOG)(backup)
app.command(epilog=RESTORE_EPILOG)(restore)
app.command(epilog=UPGRADE_EPILOG)(upgrade)
app.command(epilog=DOCTOR_EPILOG)(doctor)
app.command(epilog=REPLAY_EPILOG)(replay)
app.command(epilog=REPORT_EPILOG)(report)
app.command(epilog=WHY_EPILOG)(why)
app.add_typer(agent_app, name="agent")
app.add_typer(audit_app, name="audit")
app.add_typer(contract_app, name="contract")
app.add_typer(grant_app, name="grant")
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")
app.add_typer(token_app, name="token")
app.add_typer(tools_app, name="tools")
app.add_typer(traps_app, name="traps")
app.add_typer(versions_app, name="versions")
app.add_typer(workflow_app, name="workflow")
app.command(epilog=VERIFY_EPILOG)(verify)
app.command(epilog=EQUIVALENT_EPILOG)(equivalent)
app.command(epilog="Example:  fmos trust . && fmos trust --list")(trust)


def main() -> None:
    """Run the command line."""
    app(prog_name="fmos")
