"""What a call looks like on the wire: one JSON request of MCP's stateless revision, one answer.

Shared by the transports; carries the client's own principal, which the server holds against the
caller's credential.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from fmos.errors import (
    ArgumentError,
    PrincipalError,
    ServerUnreachableError,
    ToolCallError,
    error_from_meta,
)
from fmos.serving.acting import PRINCIPAL_META_KEY
from fmos.telemetry import carried
from fmos.types import Principal

PROTOCOL_VERSION = "2026-07-28"

_META = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "fmos.client", "version": "0.1.0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_TOO_LARGE = 413
_UNAUTHORIZED = 401


class Messages:
    """Writes the requests of one principal to one server and reads what it answers."""

    def __init__(self, principal: Principal, where: str) -> None:
        self._where = where
        self._meta = {**_META, PRINCIPAL_META_KEY: principal.model_dump(mode="json")}

    def body(self, identifier: int, method: str, params: dict[str, Any]) -> bytes:
        """Return the body of a request."""
        message = {
            "jsonrpc": "2.0",
            "id": identifier,
            "method": method,
            "params": {**params, "_meta": {**self._meta, **carried()}},
        }
        return json.dumps(message, separators=(",", ":")).encode("ascii")

    def result(
        self, status: int, kind: str, text: str, identifier: int, method: str
    ) -> dict[str, Any]:
        """Return the result in an answer.

        Raises:
            PrincipalError: if the server wants another token.
            ServerUnreachableError: if what answered does not speak MCP.
            ToolCallError: if the server refused the request.
        """
        message = _message(kind, text, identifier)
        if status == _TOO_LARGE:
            raise ArgumentError(f"the call is larger than {self._where} takes", hint="send less")
        if message is None:
            raise ServerUnreachableError(
                f"{self._where} does not speak MCP {PROTOCOL_VERSION}: it answered {method} with"
                f" HTTP {status}",
                hint="check the address; the daemon's is printed by `fmos serve`",
            )
        if "error" in message:
            said = message["error"]["message"]
            if status == _UNAUTHORIZED:
                raise PrincipalError(f"{self._where} refused the call: {said}")
            raise ToolCallError(f"{self._where} refused {method}: {said}")
        return message["result"]

    def structured(self, result: dict[str, Any], tool: str) -> dict[str, Any]:
        """Return what a tool returned.

        Raises:
            FmosError: what the tool raised, by its code; `ToolCallError` for any other.
        """
        if result.get("isError"):
            raise error_from_meta(
                _text(result) or f"the tool {tool!r} failed", result.get("_meta") or {}
            )
        structured = result.get("structuredContent")
        if isinstance(structured, dict):
            return structured
        raise ToolCallError(f"the tool {tool!r} at {self._where} gave no structured result")


def headers(method: str, name: str = "") -> dict[str, str]:
    """Return the headers that the revision wants beside the body."""
    chosen = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
        "Mcp-Method": method,
    }
    if name:
        chosen["Mcp-Name"] = _header_value(name)
    return chosen


def _header_value(value: str) -> str:
    """Wrap a value that would not survive as an HTTP header, as the revision prescribes."""
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{b64encode(value.encode()).decode()}?="


def _message(kind: str, text: str, identifier: int) -> dict[str, Any] | None:
    """The JSON-RPC reply to our request, whether it came as JSON or as an event stream."""
    for candidate in _events(text) if kind.startswith("text/event-stream") else (text,):
        try:
            message = json.loads(candidate)
        except ValueError:
            continue
        if _answers(message, identifier):
            return message
    return None


def _answers(message: object, identifier: int) -> bool:
    """Whether a message is the reply; an error may come without id, if ours was not understood."""
    if not isinstance(message, dict) or message.get("id", None) not in (identifier, None):
        return False
    if isinstance(message.get("error"), dict) and "message" in message["error"]:
        return True
    return isinstance(message.get("result"), dict) and message["id"] == identifier


def _events(stream: str) -> Iterator[str]:
    for event in stream.replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in event.split("\n") if line[:5] == "data:"]
        if data:
            yield "\n".join(data)


def _text(result: dict[str, Any]) -> str:
    return "\n".join(part.get("text", "") for part in result.get("content", ()))
