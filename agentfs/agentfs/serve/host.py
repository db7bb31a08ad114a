"""Runs the server: on stdio, or on loopback HTTP until SIGINT or SIGTERM."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from agentfs.errors import InvalidArgument

from .area import Area
from .http import SIGNALS, HttpServer
from .protocol import FileServer

#: What a client on this machine may call us; anything else is a web page that rebinds its name.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Content of 16 MiB, as base64 in JSON.
_MAX_BODY_BYTES = 24 * 1024 * 1024
_BACKLOG = 128


def run_stdio(area: Area) -> None:
    """Serve one client on stdin and stdout until it is gone; a signal ends the process."""
    server = FileServer(area, _version())

    def stop(number: int, frame: FrameType | None) -> None:
        # A thread waits for stdin and cannot be woken. An operation that is under way is undone.
        server.kill()
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        server.run("stdio")
    finally:
        server.close()


def run_http(area: Area, address: str, on_ready: Callable[[str], object]) -> None:
    """Serve at `http://HOST:PORT/mcp`; call `on_ready` with that once connections are accepted.

    Raises:
        InvalidArgument: the address is not this machine's own, or its port is in use.
    """
    host, port = _address(address)
    server = FileServer(area, _version())
    with _listener(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/mcp"
        try:
            HttpServer(_application(server), lambda: on_ready(url)).run([listener])
        finally:
            server.close()


def _version() -> str:
    try:
        return version("fmos")
    except PackageNotFoundError:
        return "0+source"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or LOOPBACK[0]
    if not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(text, "give HOST:PORT, such as 127.0.0.1:8078; port 0 is any")
    if host not in LOOPBACK:
        reason = "the server has no passwords, so it listens on this machine only: use 127.0.0.1"
        raise InvalidArgument(text, reason)
    return ("127.0.0.1" if host == "localhost" else host), int(port)


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay (40 ms a call) off only where the protocol is named.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            reason = "the port is in use; choose another one" if used else str(error.strerror)
            raise InvalidArgument(f"{host}:{port}", reason) from error
        yield listener


def _application(server: FileServer) -> Starlette:
    hosts = [
        pattern for name in ("127.0.0.1", "localhost", "[::1]") for pattern in (name, f"{name}:*")
    ]
    return server.streamable_http_app(
        streamable_http_path="/mcp",
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MAX_BODY_BYTES,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=hosts,
            allowed_origins=[f"http://{host}" for host in hosts],
        ),
    )
