"""The client: one object through which an adapter calls the tools of all servers."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fmos.client.transport import Http, InProcess, Transport
from fmos.client.unix_socket import UnixSocket
from fmos.config import Home
from fmos.errors import ArgumentError, HomeError, ServerUnreachableError
from fmos.settings import FILE_NAME, read_settings
from fmos.telemetry import configure, requesting
from fmos.types import Principal

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel

_PROBE_TIMEOUT_S = 1.0
#: What the telemetry of a process calls it, where its agent calls the servers.
_SERVICE = "fmos-client"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Client:
    """Calls tools for one principal. Thread-safe."""

    def __init__(self, principal: Principal, transport: Transport) -> None:
        self.principal = principal
        self._transport = transport

    @property
    def where(self) -> str:
        """Where the calls go: `in process`, `unix:PATH` or a URL."""
        return self._transport.where

    @property
    def public_key(self) -> str:
        """The key that checks the tenant's signatures, in base64; empty where it is not known.

        It comes from the home itself, or over HTTP from whoever issued the token: never from the
        server that it is to check.
        """
        return self._transport.public_key

    def call(self, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool and return its structured result; agent and session are filled in.

        Raises:
            FmosError: what the tool answered, as the same class on every transport.
        """
        with requesting(tool, self._transport):
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
    token: str | None = None,
    public_key: str | None = None,
) -> Client:
    """Return a client for `principal`; `Client.where` says what was chosen.

    Args:
        principal: For whom the calls are made.
        home: The FMOS home; by default `$FMOS_HOME`, else `~/.fmos`.
        transport: `inprocess`, `daemon` (the home's unix socket), a URL, or `auto`: the daemon
            where one listens, else in process.
        kernel: An opened home to use in process; it stays open when the client closes.
        token: For a URL, what `fmos token issue` gave for this principal; by default $FMOS_TOKEN.
        public_key: For a URL, the tenant's public key that it printed; by default
            $FMOS_PUBLIC_KEY. Without it no trap table can be checked, so every call traps.

    Raises:
        ServerUnreachableError: if `daemon` was asked for and none listens.
        ArgumentError: if the transport is none of the above, or would show the token to others.
    """
    if kernel is not None and transport in ("auto", "inprocess"):
        configure(kernel.settings.telemetry, _SERVICE, home=kernel.home.path, required=False)
        return Client(principal, InProcess(kernel, principal, owns_kernel=False))
    # The one place where the library looks at the environment: adapters pass no home.
    if transport.startswith(("http://", "https://")):
        token = os.environ.get("FMOS_TOKEN", "") if token is None else token
        key = os.environ.get("FMOS_PUBLIC_KEY", "") if public_key is None else public_key
        _require_private(transport, token)
        return Client(principal, Http(_mcp_url(transport), principal, token=token, public_key=key))
    place = Home((Path(home) if home else Home.default_path(os.environ)).expanduser().absolute())
    _tell(place)
    if transport == "inprocess":
        return _in_process(principal, place)
    if transport == "daemon" or (transport == "auto" and is_listening(place.socket)):
        return _daemon(principal, place)
    if transport == "auto":
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


def _tell(home: Home) -> None:
    """Turn telemetry on if the home says so; what is wrong in its settings, the kernel says."""
    if (home.path / FILE_NAME).exists():
        with suppress(HomeError):
            settings = read_settings(home.path).telemetry
            configure(settings, _SERVICE, home=home.path, required=False)


def _in_process(principal: Principal, home: Home) -> Client:
    from fmos.runtime.kernel import Kernel  # noqa: PLC0415 - a client of the daemon needs no kernel

    return Client(principal, InProcess(Kernel.open(home.path), principal, owns_kernel=True))


def _daemon(principal: Principal, home: Home) -> Client:
    path = home.socket
    if not is_listening(path):
        raise ServerUnreachableError(
            f"no daemon listens at {str(path)!r}",
            hint="start one with `fmos serve`, or connect with transport='inprocess'",
        )
    key = functools.cache(lambda: _public_key(home, principal.tenant))
    return Client(principal, UnixSocket(path, principal, key))


def _public_key(home: Home, tenant: str) -> str:
    """Read a tenant's public key; a tenant that is new gets its keys now."""
    with suppress(OSError):
        return (home.keys / tenant / "audit.pub").read_text(encoding="ascii").strip()
    from fmos.runtime.kernel import Kernel  # noqa: PLC0415 - a client of the daemon needs no kernel

    with Kernel.open(home.path) as kernel:
        return kernel.keys_of(tenant).public_key


def _require_private(url: str, token: str) -> None:
    """Refuse to send a token where others can read it."""
    parts = urlsplit(url)
    if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ArgumentError(
            f"{url!r} would carry the token unencrypted", hint="use https, or a tunnel to 127.0.0.1"
        )


def _mcp_url(url: str) -> str:
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/mcp"
