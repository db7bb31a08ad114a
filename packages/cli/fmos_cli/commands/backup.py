"""`fmos backup FILE` and `fmos backup verify FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos.clock import utc_text
from fmos_cli.files import ForceOption, source, target
from fmos_cli.options import refuse_unused
from fmos_cli.session import Session
from fmos_cli.telling import progress

if TYPE_CHECKING:
    from fmos.care.archive import Manifest

PassphraseOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt or open it with the first line of this file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
_EXIT_FAULTS = 1

EPILOG = "Example:  fmos backup /mnt/safe/monday.fmos && fmos backup verify /mnt/safe/monday.fmos"


def backup(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE | verify FILE", help="The file to write.")],
    checked: Annotated[Path | None, typer.Argument(hidden=True, metavar="FILE")] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave the private keys out.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    force: ForceOption = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With verify: its bytes only, not the home in it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back the home up into one file while it is in use, or check such a file.

    All of it is of one instant. A backup with keys can sign as the home does: guard it. Exit code
    0: whole; 1: verify found faults in the home; 3: no home; 5: an argument is not what it should
    be; 13: the file is damaged or no backup; 14: a disk is full. --json prints one JSON object.
    """
    if checked is not None:
        if file != "verify":
            raise typer.BadParameter(f"expected FILE or verify FILE, not {file!r} and a file")
        refuse_unused(context, "does not go with verify", "force", "without_keys")
        verify(checked, passphrase_file, quick, as_json)
        return
    if file == "verify":
        raise typer.BadParameter("name the backup to verify, or write ./verify for a new one")
    refuse_unused(context, "needs verify", "quick")
    from fmos.care.backup import backup as make  # noqa: PLC0415 - keeps --help fast
    from fmos.care.backup import read_passphrase  # noqa: PLC0415
    from fmos.serving.app import version  # noqa: PLC0415

    session: Session = context.obj
    phrase = read_passphrase(source(passphrase_file)) if passphrase_file else None
    target(Path(file), force=force)
    made = make(
        session.home, Path(file), keys=not without_keys, passphrase=phrase, overwrite=force,
        fmos_version=version(), progress=progress(),
    )  # fmt: skip
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
        return
    encrypted = ", encrypted" if made.encrypted else ""
    typer.echo(f"{made.file}: {made.size:,} bytes{encrypted}, sha256 {made.sha256}")
    typer.echo(f"  {_contents(made.manifest)}")
    for each in made.notes:
        typer.echo(f"  {each}")


def verify(file: Path, passphrase_file: Path | None, quick: bool, as_json: bool) -> None:
    """Check a backup and leave with exit code 1 if the home in it has faults."""
    from fmos.care.backup import read_passphrase  # noqa: PLC0415 - keeps --help fast
    from fmos.care.backup import verify as check  # noqa: PLC0415

    phrase = read_passphrase(source(passphrase_file)) if passphrase_file else None
    found = check(source(file), passphrase=phrase, quick=quick, progress=progress())
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        typer.echo(f"{found.file}: every byte is as it was written")
        typer.echo(f"  {_contents(found.manifest)}")
        if not quick and not found.faults:
            typer.echo("  the home in it is sound: databases, volumes, journals, accounts")
        for fault in found.faults:
            typer.echo(f"  {fault.thing}: {fault.problem}", err=True)
    if found.faults:
        raise typer.Exit(_EXIT_FAULTS)


def _contents(manifest: Manifest) -> str:
    made = f"{utc_text(manifest.made_ns)} UTC"
    rows = sum(volume.journal_rows for volume in manifest.volumes.values())
    keys = "with keys" if manifest.keys else "without keys"
    tenants = "1 tenant" if len(manifest.volumes) == 1 else f"{len(manifest.volumes)} tenants"
    return (
        f"of {made} by fmos {manifest.fmos}: {len(manifest.members)} files, {tenants},"
        f" {rows:,} journal rows, {keys}"
    )
