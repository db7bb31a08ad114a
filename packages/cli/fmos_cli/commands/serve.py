"""`fmos serve`: all four servers in one process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from fmos_cli.session import Session


def serve(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Listen on 127.0.0.1 at this port; 0 takes any.")
    ] = 8077,
    no_http: Annotated[
        bool, typer.Option("--no-http", help="Listen on the home's unix socket only.")
    ] = False,
) -> None:
    """Serve all tools over HTTP and the home's unix socket until Ctrl-C.

    Over HTTP each caller needs a token (`fmos token issue`); the socket is its owner's only.
    """
    from fmos.errors import MissingExtraError  # noqa: PLC0415 - keeps --help fast
    from fmos.runtime.jobs import Jobs, kernel_jobs  # noqa: PLC0415
    from fmos.serving.app import tell  # noqa: PLC0415
    from fmos.serving.discovery import discover  # noqa: PLC0415

    session: Session = context.obj
    with session.open() as kernel:
        tell(kernel, "fmos", os.environ)
        discovery = discover()
        toolsets = [cls(kernel) for cls in discovery.require().values()]
        try:
            from fmos.serving.host import Host  # noqa: PLC0415 - needs the `servers` extra
        except ImportError as error:
            raise MissingExtraError(
                f"the MCP SDK cannot be imported ({error})", hint='pip install "fmos[servers]"'
            ) from error
        for name, reason in discovery.missing.items():
            typer.echo(f"fmos: {name} is left out ({reason})", err=True)

        def announce(addresses: Sequence[str]) -> None:
            names = ", ".join(toolset.name for toolset in toolsets)
            typer.echo(f"serving {names} from {session.home}")
            for address in addresses:
                typer.echo(f"  {address}")

        host = Host(toolsets, port=None if no_http else port, unix_socket=kernel.home.socket)
        own = (job for toolset in toolsets for job in toolset.jobs())
        with Jobs(kernel, [*kernel_jobs(kernel), *own]):
            host.run(announce)
    typer.echo("stopped")
