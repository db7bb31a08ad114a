"""Serves an application on sockets until a signal; shared with the kernel's daemon."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Longer than a client keeps an idle connection, so that it never writes to one we just closed.
_KEEP_ALIVE_S = 75
#: What calls that run when a signal comes have to end.
SHUTDOWN_S = 5


class HttpServer(uvicorn.Server):
    """Uvicorn that says when it is ready and, once stopped by a signal, returns."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], object]) -> None:
        """Serve an application; `on_ready` is called once connections are accepted."""
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._adoptions: set[asyncio.Task[None]] = set()

    def adopt(self, connection: socket.socket, received: bytes = b"") -> None:
        """Serve a connection that somebody else accepted; may be called from any thread.

        `received` is what was read from it already. Once the server stops, it is closed.
        """
        try:
            assert self._loop is not None, "not started"
            self._loop.call_soon_threadsafe(self._begin, connection, received)
        except RuntimeError:  # the loop has ended
            connection.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, then say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; uvicorn tells only those connections to end that it knows by then."""
        while self._adoptions:
            await asyncio.wait(self._adoptions)
        await super().shutdown(sockets)

    def _begin(self, connection: socket.socket, received: bytes) -> None:
        if self.should_exit:
            connection.close()
            return
        task = asyncio.ensure_future(self._adopted(connection, received))
        self._adoptions.add(task)
        task.add_done_callback(self._adoptions.discard)

    async def _adopted(self, connection: socket.socket, received: bytes) -> None:
        loop = asyncio.get_running_loop()
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        protocol = make(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=loop,
        )
        try:
            await loop.connect_accepted_socket(lambda: _Resumed(protocol, received), connection)
        except OSError:
            connection.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal. Uvicorn's own raises it again, which would skip our clean-up."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Resumed(asyncio.Protocol):
    """Gives a connection to its protocol together with what was read from it before."""

    def __init__(self, protocol: asyncio.Protocol, received: bytes) -> None:
        self._protocol = protocol
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)
        if self._received:
            self._protocol.data_received(self._received)
