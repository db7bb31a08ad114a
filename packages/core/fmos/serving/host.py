"""Hosts toolsets in one process: on loopback HTTP and on the home's unix socket.

Each server is at `/<name>/mcp`, all together at `/mcp`. One daemon per home, held by a lock in it.
Who calls over TCP needs a token; the socket's client says itself for whom it calls.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from agentfs.serve.http import SHUTDOWN_S, HttpServer
from fmos.errors import ArgumentError, HomeError
from fmos.serving.app import build_server
from fmos.serving.credentials.bearer import BearerDoor
from fmos.serving.credentials.tokens import Tokens
from fmos.serving.health import Health
from fmos.serving.protocol import Lifespan, ToolServer, http_routes
from fmos.serving.socket_door import SocketDoor
from fmos.serving.socket_threads import SocketThreads
from fmos.serving.toolset import Toolset
from fmos.storage import locks

DEFAULT_PORT = 8077

_HOST = "127.0.0.1"
_BACKLOG = 1024
_LOOK_S = 0.02


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
            own, sockets, addresses = self._bind(stack)
            doors = _Doors(self._toolsets, self._unix_socket)
            server = _Server(doors, lambda: on_ready and on_ready(addresses))
            if own is not None:
                server.threads = SocketThreads(own, doors.socket, server.adopt)
            server.run(sockets)

    def _bind(
        self, stack: ExitStack
    ) -> tuple[socket.socket | None, list[socket.socket], list[str]]:
        """Return the home's own listener, those of the event loop, and all addresses."""
        own: socket.socket | None = None
        sockets: list[socket.socket] = []
        addresses: list[str] = []
        if self._unix_socket is not None:
            # The socket first: its lock is what says that the home is served already.
            own = stack.enter_context(_unix_listener(self._unix_socket))
        if self._port is not None:
            listener = stack.enter_context(_tcp_listener(self._port))
            sockets.append(listener)
            addresses.append(f"http://{_HOST}:{listener.getsockname()[1]}/mcp")
        if self._unix_socket is not None:
            addresses.append(f"unix:{self._unix_socket}")
        if not addresses:
            raise ArgumentError("there is nothing to listen on", hint="give a port or a socket")
        return own, sockets, addresses


class _Server(HttpServer):
    """The event loop's server, and beside it the threads of the unix socket."""

    threads: SocketThreads | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start both; what came over the socket before waits in its backlog."""
        await super().startup(sockets)
        if self.threads is not None and self.started:
            self.threads.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop both; running calls have the same few seconds to end."""
        if self.threads is None:
            await super().shutdown(sockets)
            return
        until = time.monotonic() + SHUTDOWN_S
        self.threads.stop()
        await super().shutdown(sockets)
        while self.threads.at_work and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)


class _Doors:
    """ASGI application: sends each request through the door that its listener has."""

    def __init__(self, toolsets: Sequence[Toolset], unix_socket: Path | None) -> None:
        kernel, launch = toolsets[0].kernel, toolsets[0].launch
        servers = {f"/{toolset.name}/mcp": build_server(toolset) for toolset in toolsets}
        servers["/mcp"] = build_server(*toolsets)
        self._app = _application(servers)
        self.socket = SocketDoor(self._app, servers)
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
            await self.socket(scope, receive, send)
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
    file = path.with_suffix(".lock")
    with locks.tried(file, str(os.getpid())) as lock:
        if lock is None:
            raise HomeError(
                f"a daemon serves this home already at {str(path)!r}{locks.said_holder(file)}",
                hint="stop it, or use another FMOS_HOME",
            )
        yield
