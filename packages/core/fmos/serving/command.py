"""The options of the four `fmos-*` commands; imported only when one is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from fmos.serving.toolset import Toolset


def run_command(
    toolset_class: type[Toolset],
    arguments: list[str],
    version: str,
    run: Callable[[int | None], int],
) -> None:
    """Parse the options, call `run` with the port (None for stdio) and leave with its exit code."""
    name = f"fmos-{toolset_class.name}"
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command(help=_help(toolset_class))
    def command(
        http: Annotated[
            int | None,
            typer.Option(
                min=0,
                max=65535,
                metavar="PORT",
                help="Listen at 127.0.0.1:PORT/mcp for who has a token (`fmos token issue`).",
            ),
        ] = None,
        show_version: Annotated[
            bool, typer.Option("--version", help="Print the version and leave.")
        ] = False,
    ) -> None:
        if show_version:
            typer.echo(f"{name} {version}")
            return
        raise typer.Exit(run(http))

    app(args=arguments, prog_name=name)


def _help(toolset_class: type[Toolset]) -> str:
    return (
        f"{toolset_class.title}: an MCP server on stdio.\n\n"
        "State lies in $FMOS_HOME (default ~/.fmos). FMOS_TENANT, FMOS_APPLICATION, FMOS_AGENT,"
        " FMOS_SESSION, FMOS_ROLE and FMOS_PROJECT say whom it acts for; without FMOS_AGENT every"
        " call names its agent."
    )
