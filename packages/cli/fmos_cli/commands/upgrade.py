"""`fmos upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.commands.backup import JsonOption
from fmos_cli.files import target
from fmos_cli.options import refuse_unused
from fmos_cli.session import Session
from fmos_cli.telling import progress

EPILOG = "Example:  fmos upgrade --dry-run && fmos upgrade"


def upgrade(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the backup goes.  [default: HOME.backup-TIME.fmos]"
        ),
    ] = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Make no backup before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring an older home to the formats of this fmos in one step, after a backup.

    Each file is brought up to date wholly or not at all; an interrupted upgrade goes on when it is
    called again. Exit code 3: no home, or it is in use; 13: a newer fmos wrote the home; 14: a
    disk is full. --json prints one JSON object.
    """
    from fmos.care.upgrade import upgrade as run  # noqa: PLC0415 - keeps --help fast
    from fmos.serving.app import version  # noqa: PLC0415

    session: Session = context.obj
    if dry_run:
        refuse_unused(context, "does not go with --dry-run", "backup", "no_backup")
        _tell_plan(session, as_json)
        return
    if no_backup:
        refuse_unused(context, "does not go with --no-backup", "backup")
    if backup is not None:
        target(backup, force=False)
    done = run(
        session.home, backup_to=backup, without_backup=no_backup, fmos_version=version(),
        progress=progress(),
    )  # fmt: skip
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
    elif done.state == "current":
        typer.echo(f"{done.home} is up to date")
    else:
        if done.backup:
            typer.echo(f"backed up to {done.backup}")
        for said in done.done:
            typer.echo(f"brought {said}")


def _tell_plan(session: Session, as_json: bool) -> None:
    """Say what an upgrade would do."""
    from fmos.care.upgrade import plan  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import FormatError  # noqa: PLC0415

    ahead = plan(session.home)
    if ahead.newer:
        raise FormatError(ahead.newer[0], hint="upgrade fmos, or use another FMOS_HOME")
    if as_json:
        typer.echo(ahead.model_dump_json(indent=2))
        return
    for step in ahead.steps:
        typer.echo(f"would bring {step.said}")
    if not ahead.steps:
        typer.echo(f"{session.home} is up to date")
