"""Serves the unix socket with threads and blocking I/O: the everyday call in one thread, no loop.

A connection has a thread that reads a request, answers it and writes the answer in one piece. The
first request that is not everyday goes to the SDK's server together with its connection and the
bytes read so far. So does a connection that no thread is left for, and one that is slow to say
what it wants, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from fmos.serving.acting import Door, through
from fmos.serving.socket_door import HeaderList, Headers, SocketDoor, everyday

HandOver = Callable[[socket.socket, bytes], None]

_log = logging.getLogger(__name__)

_THREADS = 64
#: As long as the SDK's server keeps an idle connection.
_IDLE_S = 75
#: What a client may take between the first byte of a request and its last.
_REST_S = 1.0
#: What it may take before it reads some of its answer.
_WRITE_S = 30
#: How long a thread without a connection keeps what it opened: files, statements, caches.
_SPARE_S = 10.0
_NO_FILES_S = 0.1
_PIECE = 65536
_LARGE_PIECE = 1 << 20
_END = b"\r\n\r\n"
_CHANGES_FRAMING = (b"transfer-encoding", b"expect")
_OWNER = Door(trusts_claims=True)


class SocketThreads:
    """The threads of one listener. What they do not answer is handed over, from any of them."""

    def __init__(
        self,
        listener: socket.socket,
        door: SocketDoor,
        hand_over: HandOver,
        *,
        threads: int = _THREADS,
    ) -> None:
        self._listener = listener
        self._door = door
        self._hand_over = hand_over
        self._most = threads
        self._threads = 0
        self._spare = 0
        self._stopping = False
        self._open: set[socket.socket] = set()
        self._waiting: SimpleQueue[socket.socket] = SimpleQueue()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start to accept connections."""
        self._thread("accept", self._accept)

    def stop(self) -> None:
        """Take no more connections and requests; what was sent whole is answered still."""
        with self._lock:
            self._stopping = True
            # Wakes who waits for more, lets the client's next write fail and what came stay.
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    @property
    def at_work(self) -> bool:
        """Whether a connection is open still."""
        return bool(self._open)

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=f"fmos socket: {name}", daemon=True).start()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                # The listener is closed, or there are no more file numbers just now.
                time.sleep(0 if self._stopping else _NO_FILES_S)
                continue
            try:
                self._take(connection)
            except Exception:
                _log.exception("a connection was not served")
                self._close(connection)

    def _take(self, connection: socket.socket) -> None:
        """Give a connection to a thread: one that waits, a new one, or the SDK's server's."""
        _limit_waits(connection)
        with self._lock:
            if self._stopping:
                connection.close()
                return
            served = self._spare > 0 or self._threads < self._most
            if served:
                self._open.add(connection)
            if self._spare:
                self._spare -= 1
                self._waiting.put(connection)
                return
            self._threads += served
        if served:
            try:
                self._thread("serve", lambda: self._work(connection))
            except RuntimeError:  # the system has no more threads
                with self._lock:
                    self._threads -= 1
                self._pass_on(connection, b"")
        else:
            self._hand_over(connection, b"")

    def _work(self, connection: socket.socket | None) -> None:
        """Serve a connection, then others, until none comes for a while."""
        while connection is not None:
            try:
                self._serve(connection)
            except OSError:
                self._close(connection)  # the client went away, or does not read its answer
            except Exception:
                _log.exception("a request on the unix socket failed")
                self._close(connection)
            with self._lock:
                self._spare += 1
            connection = self._next()

    def _next(self) -> socket.socket | None:
        try:
            return self._waiting.get(timeout=_SPARE_S)
        except Empty:
            pass
        with self._lock:
            # One may have been put just now; who put it counts on this thread.
            with suppress(Empty):
                return self._waiting.get_nowait()
            self._spare -= 1
            self._threads -= 1
        return None

    def _serve(self, connection: socket.socket) -> None:
        """Answer everyday requests; close the connection at its end, or pass it on."""
        silent = True
        while True:
            try:
                received = connection.recv(_PIECE)
            except BlockingIOError:  # idle for long
                if silent:
                    self._pass_on(connection, b"")
                else:
                    self._close(connection)
                return
            if not received:
                self._close(connection)
                return
            received, answer = self._answered(connection, received)
            if answer is None:
                self._pass_on(connection, received)
                return
            connection.sendall(answer)
            silent = False

    def _answered(self, connection: socket.socket, received: bytes) -> tuple[bytes, bytes | None]:
        """Return all bytes of a request and its answer, or what was read of it and None."""
        end = received.find(_END) + len(_END)
        head = _head(received[:end]) if end >= len(_END) else None
        if head is None or not self._door.serves(head.path):
            return received, None
        whole = end + int(head.headers[b"content-length"])
        if len(received) < whole:
            received = _rest(connection, received, whole)
        if len(received) != whole:
            return received, None
        return received, copy_context().run(self._answer, head, received[end:])

    def _answer(self, head: _Head, body: bytes) -> bytes | None:
        with through(_OWNER):
            answer = self._door.answered(head.path, head.headers, body)
        if answer is None:
            return None
        return b"%b%d%b%b" % (_OK, len(answer), _END, answer)

    def _pass_on(self, connection: socket.socket, received: bytes) -> None:
        with self._lock:
            self._open.discard(connection)
        self._hand_over(connection, received)

    def _close(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
            connection.close()


_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "


class _Head:
    """What httptools finds in the head of a request."""

    __slots__ = ("_pairs", "_target", "headers")

    def __init__(self) -> None:
        self._target = b""
        self._pairs: HeaderList = []
        self.headers: Headers = {}

    @property
    def path(self) -> str:
        return self._target.decode("ascii", "replace")

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name.lower(), value))

    def is_everyday(self, method: bytes) -> bool:
        found = everyday(method.decode("ascii"), self._pairs)
        if found is None or any(name in found for name in _CHANGES_FRAMING):
            return False
        self.headers = found
        return True


def _head(data: bytes) -> _Head | None:
    """Return the head of an everyday request on a connection that is kept, or None."""
    head = _Head()
    parser = HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except (HttpParserError, HttpParserUpgrade):
        return None
    kept = parser.get_http_version() == "1.1" and parser.should_keep_alive()
    return head if kept and head.is_everyday(parser.get_method()) else None


def _rest(connection: socket.socket, received: bytes, whole: int) -> bytes:
    """Return the request as far as it comes in time."""
    parts, missing = [received], whole - len(received)
    until = time.monotonic() + _REST_S
    try:
        while missing and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            part = connection.recv(min(missing, _LARGE_PIECE))
            if not part:
                raise ConnectionResetError("the client went away in the middle of a request")
            parts.append(part)
            missing -= len(part)
    except TimeoutError:
        pass
    connection.settimeout(None)
    return b"".join(parts)


def _limit_waits(connection: socket.socket) -> None:
    """Let the system end long waits: Python's own time-out would ask it twice for each one."""
    connection.settimeout(None)
    for option, seconds in ((socket.SO_RCVTIMEO, _IDLE_S), (socket.SO_SNDTIMEO, _WRITE_S)):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
