"""The client: one object through which an adapter calls the tools of all servers."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fmos.client.transport import Http, InProcess, Transport
from fmos.config import Home
from fmos.errors import ArgumentError, PrincipalError, ServerUnreachableError
from fmos.types import DEFAULT_TENANT, Principal

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel

_PROBE_TIMEOUT_S = 1.0


class Client:
    """Calls tools for one principal. Thread-safe."""

    def __init__(self, principal: Principal, transport: Transport) -> None:
        self.principal = principal
        self._transport = transport

    def call(self, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool and return its structured result; agent and session are filled in.

        Raises:
            FmosError: what the tool answered, as the same class on every transport.
        """
        return self._transport.call(tool, arguments or {})

    async def acall(self, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool without blocking the event loop."""
        return await asyncio.to_thread(self.call, tool, arguments)

    def close(self) -> None:
        """Let go of connections and files."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    principal: Principal,
    *,
    home: str | os.PathLike[str] | None = None,
    transport: str = "auto",
    kernel: Kernel | None = None,
) -> Client:
    """Return a client for `principal`.

    Args:
        principal: For whom the calls are made.
        home: The FMOS home; by default `$FMOS_HOME`, else `~/.fmos`.
        transport: `inprocess`, `daemon` (the home's unix socket), a URL, or `auto`: the daemon
            where one listens and can act for the principal, else in process.
        kernel: An opened home to use in process; it stays open when the client closes.

    Raises:
        ServerUnreachableError: if `daemon` was asked for and none listens.
        PrincipalError: if the principal is of a tenant, application or branch that only a server
            started for it can act for.
        ArgumentError: if the transport is none of the above.
    """
    if kernel is not None and transport in ("auto", "inprocess"):
        return Client(principal, InProcess(kernel, principal, owns_kernel=False))
    if transport.startswith(("http://", "https://")):
        _require_plain(principal, transport)
        return Client(principal, Http(_mcp_url(transport), principal))
    # The one place where the library looks at the environment: adapters pass no home.
    place = Path(home).expanduser() if home is not None else Home.default_path(os.environ)
    if transport == "inprocess":
        return _in_process(principal, place)
    if transport == "daemon":
        return _daemon(principal, place)
    if transport == "auto":
        if _is_plain(principal) and is_listening(Home(place.absolute()).socket):
            return _daemon(principal, place)
        return _in_process(principal, place)
    raise ArgumentError(
        f"{transport!r} is not a transport", hint="use auto, inprocess, daemon or http://HOST:PORT"
    )


def is_listening(path: Path) -> bool:
    """Return whether a process accepts connections on the unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _in_process(principal: Principal, home: Path) -> Client:
    from fmos.runtime.kernel import Kernel  # noqa: PLC0415 - a client of the daemon needs no kernel

    return Client(principal, InProcess(Kernel.open(home), principal, owns_kernel=True))


def _daemon(principal: Principal, home: Path) -> Client:
    path = Home(home.absolute()).socket
    _require_plain(principal, f"the daemon at {str(path)!r}")
    if not is_listening(path):
        raise ServerUnreachableError(
            f"no daemon listens at {str(path)!r}",
            hint="start one with `fmos serve`, or connect with transport='inprocess'",
        )
    return Client(principal, Http("http://localhost/mcp", principal, socket=path))


def _is_plain(principal: Principal) -> bool:
    """Whether agent and session, which tools take as arguments, say all about the principal."""
    return principal.tenant == DEFAULT_TENANT and not principal.application and not principal.branch


def _require_plain(principal: Principal, where: str) -> None:
    if not _is_plain(principal):
        raise PrincipalError(
            f"{where} cannot act for {str(principal)!r}: tenant, application and branch are fixed"
            " when a server starts",
            hint="connect with transport='inprocess'",
        )


def _mcp_url(url: str) -> str:
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/mcp"
