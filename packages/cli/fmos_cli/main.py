"""The `fmos` command line: global options and the list of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.commands.approve import approve
from fmos_cli.commands.check import check
from fmos_cli.commands.demo import demo
from fmos_cli.commands.pending import pending
from fmos_cli.commands.serve import serve
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


for _command in (serve, pending, approve, check, demo):
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    app(prog_name="fmos")
