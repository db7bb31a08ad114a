"""The unix socket's door: answers the everyday call itself, and leaves the rest to the SDK.

Who can open the socket owns the home, so the client's own principal counts. A well-formed
`tools/call` (or `tools/list`) of the stateless revision takes one thread and no machinery; anything
else, and anything that is not quite right, goes to the SDK's application as it came, so that there
is one place that says what is wrong with a request. socket_threads.py asks it before the event loop
knows of a connection; as an application it serves those that were passed on to the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fmos.serving.acting import PRINCIPAL_META_KEY, Door, through
from fmos.serving.protocol import MAX_BODY_BYTES, ToolServer
from fmos.telemetry import META_KEYS as TRACE_META_KEYS

_REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_META_KEYS = frozenset(
    {
        f"{_META}protocolVersion",
        f"{_META}clientInfo",
        f"{_META}clientCapabilities",
        PRINCIPAL_META_KEY,
        *TRACE_META_KEYS,
    }
)
_CALL = b"tools/call"
_LIST = b"tools/list"
_PARAMS = {_CALL: frozenset({"name", "arguments", "_meta"}), _LIST: frozenset({"_meta"})}

Headers = Mapping[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A well-formed request: `name` is empty for tools/list."""

    identifier: int | str
    meta: dict[str, Any]
    name: str
    arguments: dict[str, Any]


class SocketDoor:
    """ASGI application in front of the SDK's, with the server of each path."""

    def __init__(self, app: ASGIApp, servers: Mapping[str, ToolServer]) -> None:
        self._app = app
        self._servers = servers
        self._listed: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        with through(Door(trusts_claims=True)):
            headers = everyday(scope["method"], scope["headers"])
            path = scope["path"]
            if headers is None or not self.serves(path):
                await self._app(scope, receive, send)
                return
            body = await _body(receive)
            if body is None:
                return
            # Parsed on the worker as well: a large body must not hold up the others.
            found = await anyio.to_thread.run_sync(self.answered, path, headers, body)
            if found is not None:
                await _reply(send, found)
                return
            if headers[b"mcp-method"] == _LIST and path not in self._listed:
                send = _Kept(send, self._listed, path)
            await self._app(scope, _replayed(body, receive), send)

    def serves(self, path: str) -> bool:
        """Return whether there is a server at a path."""
        return path in self._servers

    def answered(self, path: str, headers: Headers, body: bytes) -> bytes | None:
        """Return the answer to an everyday request, or None where the SDK shall give it."""
        call = _parsed(headers, body)
        if call is None:
            return None
        if call.name:
            server = self._servers[path]
            result = server.on_the_wire(server.answer(call.name, call.arguments, call.meta))
        elif path in self._listed:
            result = self._listed[path]
        else:
            return None
        message = {"jsonrpc": "2.0", "id": call.identifier, "result": result}
        return json.dumps(message, separators=(",", ":")).encode("ascii")


class _Kept:
    """Sends an answer of the SDK on and keeps the list of tools in it: it never changes."""

    def __init__(self, send: Send, listed: dict[str, dict[str, Any]], path: str) -> None:
        self._send = send
        self._listed = listed
        self._path = path
        self._text = b""

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        if message["type"] != "http.response.body":
            return
        self._text += message.get("body", b"")
        if not message.get("more_body", False):
            answer = json.loads(self._text) if self._text else {}
            if isinstance(answer, dict) and "tools" in answer.get("result", {}):
                self._listed[self._path] = answer["result"]


def everyday(method: str, given: HeaderList) -> Headers | None:
    """Return the headers of a request that has none but the usual ones, each once."""
    if method != "POST":
        return None
    headers = dict(given)
    plain = (
        len(headers) == len(given)
        and headers.get(b"host") == b"localhost"
        and b"origin" not in headers
        and headers.get(b"content-type") == b"application/json"
        and b"application/json" in headers.get(b"accept", b"").split(b", ")
        and headers.get(b"mcp-protocol-version") == _REVISION.encode()
        and headers.get(b"mcp-method") in _PARAMS
        and _fits(headers.get(b"content-length"))
        and not any(name.startswith(b"mcp-param-") for name in headers)
    )
    return headers if plain else None


def _fits(length: bytes | None) -> bool:
    return length is not None and length.isdigit() and int(length) <= MAX_BODY_BYTES


def _parsed(headers: Headers, body: bytes) -> _Call | None:
    """Return the request in a body that the SDK would take as well, or None."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.keys() != {"jsonrpc", "id", "method", "params"}:
        return None
    method, params, identifier = headers[b"mcp-method"], message["params"], message["id"]
    good = (
        message["jsonrpc"] == "2.0"
        and type(identifier) in (int, str)
        and message["method"] == method.decode()
        and isinstance(params, dict)
        and params.keys() <= _PARAMS[method]
        and _is_usual(params.get("_meta"))
    )
    if not good:
        return None
    if method == _LIST:
        return _Call(identifier, params["_meta"], "", {})
    return _tool_call(headers, identifier, params)


def _tool_call(headers: Headers, identifier: int | str, params: dict[str, Any]) -> _Call | None:
    name, arguments = params.get("name"), params.get("arguments", {})
    if not name or not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    # A wrapped name (`=?base64?...?=`) is unequal, and so the SDK's to unwrap.
    if not name.isascii() or headers.get(b"mcp-name") != name.encode():
        return None
    return _Call(identifier, params["_meta"], name, arguments)


def _is_usual(meta: object) -> bool:
    """Whether `_meta` has what it must have, and nothing that changes how a request is served."""
    if not isinstance(meta, dict) or not meta.keys() <= _META_KEYS:
        return False
    client = meta.get(f"{_META}clientInfo")
    return (
        meta.get(f"{_META}protocolVersion") == _REVISION
        and meta.get(f"{_META}clientCapabilities") == {}
        and isinstance(client, dict)
        and client.keys() == {"name", "version"}
        and all(isinstance(value, str) for value in client.values())
    )


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if the client went away before it had sent it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already, then goes on."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _reply(send: Send, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
