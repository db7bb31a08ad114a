"""Calls the daemon through its unix socket: HTTP/1.1 on kept connections, and nothing more.

The requests are written in one piece. The answer to an everyday call is read here, any other by
the standard library: an HTTP client library would cost more than the call itself.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

from fmos.client.messages import Messages, headers
from fmos.client.transport import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S
from fmos.errors import ServerUnreachableError
from fmos.types import Principal

#: Connections that are kept for the next call; more are open only while calls run.
_KEPT = 16

_OK = 200
_JSON = "application/json"
_PIECE = 65536
#: All that the daemon says above the answer to an everyday call; HTTPResponse reads any other.
_PLAIN = re.compile(
    rb"HTTP/1\.1 200 OK\r\n"
    rb"content-type: application/json\r\n"
    rb"content-length: (\d{1,12})\r\n\r\n"
)


class UnixSocket:
    """Speaks MCP to the daemon of a home. Thread-safe: each call has a connection of its own."""

    def __init__(
        self, path: Path, principal: Principal, public_key: Callable[[], str] = str
    ) -> None:
        self.where = f"unix:{path}"
        self._path = str(path)
        self._public_key = public_key
        self._messages = Messages(principal, self.where)
        self._ids = itertools.count(1)
        self._idle = _Idle()

    @property
    def public_key(self) -> str:
        """The key that checks the tenant's signatures, from the home and not from the daemon."""
        return self._public_key()

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool for the principal and return its structured result.

        Raises:
            ServerUnreachableError: if no daemon answers; if one was at work when it went away, the
                error says that the call may have had its effect.
            FmosError: what the tool raised, by its code; `ToolCallError` for any other.
        """
        params = {"name": tool, "arguments": arguments}
        try:
            result = self._request("tools/call", params, tool)
        except _Lost as lost:
            if lost.timed_out or not self._only_reads(tool):
                raise _uncertain(tool, self.where, lost) from lost
            result = self._again("tools/call", params, tool)
        return self._messages.structured(result, tool)

    def close(self) -> None:
        """Close the connections."""
        self._idle.close()

    def _only_reads(self, tool: str) -> bool:
        """Whether a call whose answer was lost may simply be made again; not without a daemon."""
        try:
            listed = self._request("tools/list", {}, "")["tools"]
        except (_Lost, ServerUnreachableError):
            return False
        hints = [entry["annotations"] for entry in listed if entry["name"] == tool]
        return bool(hints) and bool(hints[0]["readOnlyHint"])

    def _again(self, method: str, params: dict[str, Any], name: str) -> dict[str, Any]:
        try:
            return self._request(method, params, name)
        except _Lost as lost:
            raise _uncertain(name or method, self.where, lost) from lost

    def _request(self, method: str, params: dict[str, Any], name: str) -> dict[str, Any]:
        identifier = next(self._ids)
        body = self._messages.body(identifier, method, params)
        status, kind, text = self._exchange(_head(method, name, len(body)) + body)
        return self._messages.result(status, kind, text, identifier, method)

    def _exchange(self, request: bytes) -> tuple[int, str, str]:
        """Send one request and read its answer, on a kept connection if one is still good."""
        connection = self._idle.take()
        if connection is not None:
            try:
                connection.sendall(request)
            except OSError:
                # It was not sent whole, so nobody has acted on it.
                connection.close()
                connection = None
        if connection is None:
            connection = self._opened()
            try:
                connection.sendall(request)
            except OSError as error:
                return self._early_answer(connection, error)
        return self._answer(connection)

    def _early_answer(self, connection: socket.socket, error: OSError) -> tuple[int, str, str]:
        """Return what the server said to a request that it did not want to read to its end."""
        try:
            return self._answer(connection)
        except _Lost:
            raise self._unreachable(error) from error

    def _answer(self, connection: socket.socket) -> tuple[int, str, str]:
        try:
            plain = _plain_answer(connection)
            if plain is not None:
                self._idle.give(connection)
                return _OK, _JSON, plain.decode("utf-8", "replace")
            response = HTTPResponse(connection, method="POST")
            response.begin()
            text = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise _Lost(error) from error
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle.give(connection)
        kind = response.getheader("content-type", "")
        return response.status, kind, text.decode("utf-8", "replace")

    def _opened(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.connect(self._path)
            connection.settimeout(CALL_TIMEOUT_S)
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from error
        return connection

    def _unreachable(self, error: OSError) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"no FMOS server answers at {self.where} ({error.strerror or error})",
            hint="start one with `fmos serve`, or connect with transport='inprocess'",
        )


class _Lost(Exception):
    """The request was sent whole and no whole answer came: it may have had its effect."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.timed_out = isinstance(cause, TimeoutError)


class _Idle:
    """Connections that wait for the next call; the one used last is taken first."""

    def __init__(self) -> None:
        self._connections: deque[socket.socket] = deque()
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def take(self) -> socket.socket | None:
        """Return a connection that the server has not closed, or None."""
        if self._owner != os.getpid():
            # A forked child shares its parent's connections and must not talk on them.
            self._connections, self._owner = deque(), os.getpid()
        while True:
            try:
                connection = self._connections.pop()
            except IndexError:
                return None
            if not _readable(connection):
                return connection
            connection.close()

    def give(self, connection: socket.socket) -> None:
        """Keep a connection for the next call."""
        with self._lock:
            if len(self._connections) < _KEPT and self._owner == os.getpid():
                self._connections.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close every kept connection."""
        with self._lock:
            while self._connections:
                self._connections.pop().close()


def _readable(connection: socket.socket) -> bool:
    """Whether an idle connection has something to say: it was closed, or is muddled."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _plain_answer(connection: socket.socket) -> bytes | None:
    """Read the body of an answer that is just a body; leave any other where it is."""
    seen = connection.recv(_PIECE, socket.MSG_PEEK)
    found = _PLAIN.match(seen)
    if found is None:
        return None
    begin, length = found.end(), int(found[1])
    text = connection.recv(begin + length)[begin:]
    parts, missing = [text], length - len(text)
    while missing:
        part = connection.recv(missing)
        if not part:
            raise IncompleteRead(b"".join(parts), missing)
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _head(method: str, name: str, length: int) -> bytes:
    lines = [f"{key}: {value}" for key, value in headers(method, name).items()]
    head = ["POST /mcp HTTP/1.1", "Host: localhost", *lines, f"Content-Length: {length}", "", ""]
    return "\r\n".join(head).encode("ascii")


def _uncertain(what: str, where: str, lost: _Lost) -> ServerUnreachableError:
    said = "is silent and has not" if lost.timed_out else "went away before it"
    return ServerUnreachableError(
        f"the daemon at {where} {said} answered {what!r}, which may have had its effect ({lost})",
        hint="look before you call it again; start the daemon with `fmos serve`",
    )
