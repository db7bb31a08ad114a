"""The command that offers a branch to agents over MCP: serve."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agentfs.cli.failures import EXIT_USAGE, Refusal

if TYPE_CHECKING:
    from agentfs import AgentFS


def serve(
    context: typer.Context,
    path: Annotated[
        str, typer.Option("--path", metavar="DIR", help="The directory that agents see as /.")
    ] = "/",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer only the tools that change nothing.")
    ] = False,
    principal: Annotated[
        str, typer.Option(help="Who the journal says has done it; access rules hold for this name.")
    ] = "agent:mcp",
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Listen on loopback, not stdio; port 0 is any."),
    ] = None,
) -> None:
    """Offer the branch as an MCP server with file tools (fs_read, fs_edit, fs_fork, ...).

    Agents reach this branch, the forks they make of it, and nothing else. On stdio it ends with its
    client. Needs the extra `servers`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with context.obj.open() as fs:
        agent = fs.on(str(fs.branch), principal=principal, confined=True)
        _run(agent, path, read_only, http)


def _run(fs: AgentFS, path: str, read_only: bool, http: str | None) -> None:
    try:
        from agentfs.serve.area import Area  # noqa: PLC0415 - heavy, and an extra
        from agentfs.serve.host import run_http, run_stdio  # noqa: PLC0415
    except ImportError as error:
        raise Refusal(
            f"`serve` needs the MCP SDK, which cannot be imported ({error});"
            " install it with `pip install 'fmos[servers]'`",
            EXIT_USAGE,
        ) from error
    area = Area(fs, path, read_only=read_only)
    if http is None:
        run_stdio(area)
    else:
        run_http(area, http, _say)


def _say(url: str) -> None:
    print(f"agentfs: serving at {url}", file=sys.stderr, flush=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs -f x.afs -b task-1 serve --path /src")(serve)
