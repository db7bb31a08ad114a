"""The TCP door: no request without a valid token; the token says whom a call is made for."""

from __future__ import annotations

import json

import anyio.to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from fmos.errors import FmosError, PrincipalError
from fmos.serving.acting import Door, agree, through
from fmos.serving.credentials.tokens import Tokens
from fmos.serving.failures import as_sentence
from fmos.types import Principal

#: JSON-RPC's range for errors of a server; MCP has given this number no other meaning.
_UNAUTHORIZED = -32001

_SCHEME = b"bearer "


class BearerDoor:
    """ASGI application in front of another one that only those with a token reach.

    `launch` is whom the process was started for: where it names somebody, a token for somebody
    else is refused.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, launch: Principal) -> None:
        self._app = app
        self._tokens = tokens
        self._launch = launch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with 401."""
        text = _bearer(scope)
        try:
            who = await anyio.to_thread.run_sync(self._principal, text)
        except Exception as error:
            await _refuse(send, as_sentence("token", error), given=bool(text))
            return
        with through(Door(who)):
            await self._app(scope, receive, send)

    def _principal(self, text: str) -> Principal:
        who = self._tokens.check(text)
        if self._launch == Principal():
            return who
        return agree(self._launch, who, "this server")


def _bearer(scope: Scope) -> str:
    """Return the token of a request; two that differ are none."""
    given = {value for name, value in scope["headers"] if name == b"authorization"}
    value = given.pop() if len(given) == 1 else b""
    if value[: len(_SCHEME)].lower() != _SCHEME:
        return ""
    return value[len(_SCHEME) :].strip().decode("latin-1")


async def _refuse(send: Send, error: FmosError, *, given: bool) -> None:
    credential = isinstance(error, PrincipalError)
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": None,
            "error": {
                "code": _UNAUTHORIZED,
                "message": str(error),
                "data": {"code": error.code},
            },
        }
    ).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the body is not read, so the connection cannot be used again.
        (b"connection", b"close"),
    ]
    if credential:
        problem = b', error="invalid_token"' if given else b""
        headers.append((b"www-authenticate", b'Bearer realm="fmos"' + problem))
    await send(
        {"type": "http.response.start", "status": 401 if credential else 503, "headers": headers}
    )
    await send({"type": "http.response.body", "body": body})
