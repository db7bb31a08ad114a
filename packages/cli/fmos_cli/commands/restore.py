"""`fmos restore FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.commands.backup import JsonOption, PassphraseOption, verify
from fmos_cli.files import source
from fmos_cli.options import refuse_unused
from fmos_cli.session import Session
from fmos_cli.telling import progress

EPILOG = "Example:  fmos --home /srv/fmos restore /mnt/safe/monday.fmos"


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `fmos backup` wrote.")],
    check: Annotated[
        bool, typer.Option("--check", help="Check the file only, as `fmos backup verify` does.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Move a home that is there to HOME.before-TIME.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Restore a home with faults as it is.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a home from a backup: checked first, and put in its place whole or not at all.

    Nothing is deleted. Exit code 3: a home is there or in use; 5: an argument is not what it
    should be; 13: the file is damaged, no backup, or of a newer fmos; 14: a disk is full. --json
    prints one JSON object.
    """
    if check:
        refuse_unused(context, "does not go with --check", "force", "damaged")
        verify(file, passphrase_file, False, as_json)
        return
    from fmos.care.backup import read_passphrase  # noqa: PLC0415 - keeps --help fast
    from fmos.care.restore import restore as put  # noqa: PLC0415

    session: Session = context.obj
    phrase = read_passphrase(source(passphrase_file)) if passphrase_file else None
    done = put(
        source(file), session.home, passphrase=phrase, force=force, damaged=damaged,
        progress=progress(),
    )  # fmt: skip
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
        return
    typer.echo(f"restored {done.home}: {len(done.manifest.members)} files, checked")
    if done.kept:
        typer.echo(f"  the home that was there is now {done.kept}")
    for said in (*done.upgraded, *done.notes):
        typer.echo(f"  {said}")
    for fault in done.faults:
        typer.echo(f"  {fault.thing}: {fault.problem}", err=True)
