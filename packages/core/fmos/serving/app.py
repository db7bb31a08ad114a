"""Runs one server: on stdio, as each `fmos-*` command does, or on loopback HTTP.

Reads the launch configuration (home and principal) from the environment it is given. What MCP
needs is in protocol.py and is imported only when a server is really built.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed_version
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fmos import telemetry
from fmos.config import Home
from fmos.errors import MissingExtraError, PrincipalError
from fmos.runtime.kernel import Kernel
from fmos.serving.failures import foreseen
from fmos.serving.toolset import Toolset
from fmos.serving.validation import describe_validation
from fmos.types import Principal

if TYPE_CHECKING:
    from fmos.serving.protocol import ToolServer

_EXIT_INTERRUPTED = 130


def version() -> str:
    """Return the version of the installed distribution, or `0+source` in a bare checkout."""
    try:
        return _installed_version("fmos")
    except PackageNotFoundError:
        return "0+source"


def build_server(*toolsets: Toolset) -> ToolServer:
    """Return an MCP server with the tools of all `toolsets`.

    Raises:
        MissingExtraError: if the MCP SDK is not installed.
    """
    try:
        from fmos.serving import protocol  # noqa: PLC0415 - start-up-heavy, and an extra
    except ImportError as error:
        raise MissingExtraError(
            f"the MCP SDK cannot be imported ({error})", hint='pip install "fmos[servers]"'
        ) from error
    return protocol.create(toolsets, version())


def launch_principal(environ: Mapping[str, str]) -> Principal:
    """Return whom a process was started for: FMOS_TENANT, FMOS_AGENT and the like.

    Raises:
        PrincipalError: if an id has a form that no id can have.
    """
    fields = {name: environ.get(f"FMOS_{name.upper()}", "") for name in _LAUNCH}
    try:
        return Principal.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise PrincipalError(
            f"FMOS_{name.upper()} is not an id ({describe_validation(error)})",
            hint="use letters, digits and ._@+- only, starting with a letter or digit",
        ) from error


def tell(kernel: Kernel, service: str, environ: Mapping[str, str]) -> None:
    """Turn telemetry on for a process, if the home's settings or the OTEL_* variables say so.

    Raises:
        MissingExtraError: if they do and the extra `otel` is not installed.
        ArgumentError: if a variable cannot be understood.
    """
    settings = telemetry.with_environment(kernel.settings.telemetry, environ)
    name = environ.get("OTEL_SERVICE_NAME") or service
    telemetry.configure(settings, name, home=kernel.home.path)


_LAUNCH = ("tenant", "application", "agent", "session", "role", "project")


def run_stdio(
    toolset_class: type[Toolset],
    environ: Mapping[str, str] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one server as a command and leave with its exit code; stdio unless `--http` is given."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    launch = dict(os.environ if environ is None else environ)
    if not given:
        sys.exit(_guarded(toolset_class, launch, None))
    # The command line library costs 0.15 s that a client's spawn need not pay.
    from fmos.serving.command import run_command  # noqa: PLC0415

    run_command(toolset_class, given, version(), lambda port: _guarded(toolset_class, launch, port))


def _guarded(toolset_class: type[Toolset], environ: Mapping[str, str], port: int | None) -> int:
    try:
        _run(toolset_class, environ, port)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED if port is None else 0
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        print(f"fmos-{toolset_class.name}: {known}", file=sys.stderr)
        return known.exit_code
    return 0


def _run(toolset_class: type[Toolset], environ: Mapping[str, str], port: int | None) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    principal = launch_principal(environ)
    with Kernel.open(Home.default_path(dict(environ))) as kernel:
        tell(kernel, f"fmos-{toolset_class.name}", environ)
        toolset = toolset_class(kernel, principal)
        if port is None:
            build_server(toolset).run("stdio")
            return
        from fmos.serving.host import Host  # noqa: PLC0415 - only with --http

        def announce(addresses: Sequence[str]) -> None:
            print(f"fmos-{toolset_class.name} listens at {addresses[0]}", file=sys.stderr)

        Host([toolset], port=port).run(announce)
