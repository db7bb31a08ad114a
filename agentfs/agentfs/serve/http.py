"""Serves an application on sockets until a signal; shared with the kernel's daemon."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Longer than a client keeps an idle connection, so that it never writes to one we just closed.
_KEEP_ALIVE_S = 75
_SHUTDOWN_S = 5


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
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

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
