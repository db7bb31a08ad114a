"""Hosts toolsets in one process: on loopback HTTP and on the home's unix socket.

Each server is at `/<name>/mcp`, all together at `/mcp`. One daemon per home, held by a lock in it.
Who calls over TCP needs a token; the socket's client says itself for whom it calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from agentfs.serve.http import HttpServer
from fmos.errors import ArgumentError, HomeError
from fmos.serving.app import build_server
from fmos.serving.credentials.bearer import BearerDoor
from fmos.serving.credentials.tokens import Tokens
from fmos.serving.health import Health
from fmos.serving.protocol import Lifespan, ToolServer, http_routes
from fmos.serving.socket_door import SocketDoor
from fmos.serving.toolset import Toolset

DEFAULT_PORT = 8077

_HOST = "127.0.0.1"
_BACKLOG = 128


class Host:
    """Serves toolsets until SIGINT or SIGTERM."""

    def __init__(
        self,
        toolsets: Sequence[Toolset],
        *,
        port: int | None = DEFAULT_PORT,
        unix_socket: Path | None = None,
    ) -> None:
        self._toolsets = toolsets
        self._port = port
        self._unix_socket = unix_socket

    def run(self, on_ready: Callable[[Sequence[str]], None] | None = None) -> None:
        """Serve; call `on_ready` with the addresses once connections are accepted.

        Raises:
            ArgumentError: if the port is in use, or there is neither port nor socket.
            HomeError: if a daemon serves this home already, or the socket cannot be made.
        """
        for toolset in self._toolsets:
            toolset.kernel.serve_others()
        with ExitStack() as stack:
            sockets, addresses = self._bind(stack)
            app = _Doors(self._toolsets, self._unix_socket)
            HttpServer(app, lambda: on_ready and on_ready(addresses)).run(sockets)

    def _bind(self, stack: ExitStack) -> tuple[list[socket.socket], list[str]]:
        sockets: list[socket.socket] = []
        addresses: list[str] = []
        if self._unix_socket is not None:
            # The socket first: its lock is what says that the home is served already.
            sockets.append(stack.enter_context(_unix_listener(self._unix_socket)))
        if self._port is not None:
            listener = stack.enter_context(_tcp_listener(self._port))
            sockets.insert(0, listener)
            addresses.append(f"http://{_HOST}:{listener.getsockname()[1]}/mcp")
        if self._unix_socket is not None:
            addresses.append(f"unix:{self._unix_socket}")
        if not sockets:
            raise ArgumentError("there is nothing to listen on", hint="give a port or a socket")
        return sockets, addresses


class _Doors:
    """ASGI application: sends each request through the door that its listener has."""

    def __init__(self, toolsets: Sequence[Toolset], unix_socket: Path | None) -> None:
        kernel, launch = toolsets[0].kernel, toolsets[0].launch
        servers = {f"/{toolset.name}/mcp": build_server(toolset) for toolset in toolsets}
        servers["/mcp"] = build_server(*toolsets)
        self._app = _application(servers)
        self._socket = SocketDoor(self._app, servers)
        self._tcp = BearerDoor(self._app, Tokens(kernel.database, kernel.clock), launch)
        self._health = Health(kernel.database)
        self._address = (str(unix_socket), None) if unix_socket is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever did not come over the socket needs a token."""
        owner = self._address is not None and tuple(scope.get("server") or ()) == self._address
        if scope["type"] != "http":  # the start and the end; no route takes web sockets
            await self._app(scope, receive, send)
        elif self._health.asks(scope):
            await self._health(scope, send, owner=owner)
        elif owner:
            await self._socket(scope, receive, send)
        else:
            await self._tcp(scope, receive, send)


def _application(servers: Mapping[str, ToolServer]) -> Starlette:
    routes: list[BaseRoute] = []
    lifespans: list[Lifespan] = []
    for path, server in servers.items():
        served, running = http_routes(server, path)
        routes.extend(served)
        lifespans.append(running)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for enter in lifespans:
                await stack.enter_async_context(enter())
            yield

    return Starlette(routes=routes, lifespan=lifespan)


@contextmanager
def _tcp_listener(port: int) -> Iterator[socket.socket]:
    # asyncio turns Nagle's delay (40 ms a call) off only where the protocol is named.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"({error.strerror})"
            raise ArgumentError(
                f"cannot listen on {_HOST}:{port}: the port {reason}",
                hint="choose another port",
            ) from error
        yield listener


@contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    """Listen at `path`, readable by the owner only; remove it at the end."""
    with _only_daemon(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Whoever left a socket behind does not hold the lock any more.
        path.unlink(missing_ok=True)
        _bind_private(listener, path)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bind_private(listener: socket.socket, path: Path) -> None:
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise HomeError(
            f"cannot listen at {str(path)!r}: {error.strerror or error}",
            hint="a socket's path has room for 107 bytes; set FMOS_HOME to a shorter path",
        ) from error
    finally:
        os.umask(mask)


@contextmanager
def _only_daemon(path: Path) -> Iterator[None]:
    """Hold the lock that one daemon per home holds; the system frees it when a process dies."""
    with open(path.with_suffix(".lock"), "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HomeError(
                f"a daemon serves this home already at {str(path)!r}{_process(lock)}",
                hint="stop it, or use another FMOS_HOME",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _process(lock: IO[str]) -> str:
    lock.seek(0)
    number = lock.read(20).strip()
    return f" (process {number})" if number.isdigit() else ""
