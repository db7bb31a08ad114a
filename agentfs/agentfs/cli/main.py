"""The `agentfs` application: global options and the list of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentfs.cli import (
    branches,
    changes,
    files,
    history,
    kv,
    limits,
    listing,
    mirroring,
    mounting,
    overlays,
    restoring,
    running,
    searching,
    serving,
    spec04,
    transfer,
    triggers,
    volume,
)
from agentfs.cli.failures import CommandGroup
from agentfs.cli.session import Session

_HELP = "A copy-on-write file system for agents in one file: fork, compare, merge, restore."
_EPILOG = (
    "Example:  agentfs -f x.afs init && echo hi | agentfs -f x.afs write /hello.txt    "
    "Exit codes: 0 done; 1 error; 2 wrong usage; 130 interrupted; 141 output pipe closed; "
    "others: docs/agentfs.md."
)

app = typer.Typer(
    cls=CommandGroup,
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to load

        try:
            typer.echo(f"agentfs {version('fmos')}")
        except PackageNotFoundError:
            typer.echo("agentfs (not installed: running from a source tree)")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    file: Annotated[
        Path, typer.Option("-f", "--file", envvar="AGENTFS_FILE", help="The volume.")
    ] = Path("agent.afs"),
    branch: Annotated[
        str | None, typer.Option("-b", "--branch", help="The branch; else the volume's default.")
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="Show and reach system state under /.fmos.")
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="A file with the key of an encrypted volume."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Keep what every command needs to reach the volume."""
    context.obj = Session(file=file, branch=branch, system=system, key_file=key_file)


for group in (
    listing, searching, files, transfer, mirroring, mounting, spec04, branches, changes, restoring,
    history, triggers, kv, limits, overlays, running, volume, serving,
):  # fmt: skip
    group.register(app)


def main() -> None:
    """Run the `agentfs` command; the entry point of the package."""
    app(prog_name="agentfs")


if __name__ == "__main__":
    main()
