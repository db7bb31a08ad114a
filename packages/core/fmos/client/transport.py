"""How a client's calls reach the services: in this process, or MCP over HTTP or a unix socket.

Speaks the stateless revision 2026-07-28 itself (one JSON POST per call), because adapters live in
environments where the MCP SDK may be of another version or absent.
"""

from __future__ import annotations

import itertools
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from fmos.errors import (
    ERROR_CODE_META_KEY,
    MissingExtraError,
    NotFoundError,
    ServerUnreachableError,
    ToolCallError,
    error_for_code,
)
from fmos.types import Principal

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from fmos.runtime.kernel import Kernel
    from fmos.serving.toolset import Toolset

PROTOCOL_VERSION = "2026-07-28"

_META = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "fmos.client", "version": "0.1.0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_CONNECT_TIMEOUT_S = 5.0
_CALL_TIMEOUT_S = 120.0


class Transport(Protocol):
    """What carries a tool call for one principal. Implementations are thread-safe."""

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its structured result."""
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


class InProcess:
    """Calls the services of this process over an opened home."""

    def __init__(self, kernel: Kernel, principal: Principal, *, owns_kernel: bool) -> None:
        from fmos.serving.discovery import discover  # noqa: PLC0415 - imports the servers

        self._kernel = kernel
        self._owns_kernel = owns_kernel
        self._discovery = discover()
        classes = self._discovery.require()
        self._toolsets = [cls(kernel, principal) for cls in classes.values()]
        self._owner = {
            spec.name: toolset for toolset in self._toolsets for spec, _ in toolset.tools()
        }

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its structured result.

        Raises:
            NotFoundError: if no installed server has the tool.
            MissingExtraError: if a server that may have it cannot be imported.
        """
        result = self._toolset(tool).call(tool, arguments)
        return result if isinstance(result, dict) else {"result": result}

    def close(self) -> None:
        """Close the home, if it was opened for this transport."""
        if self._owns_kernel:
            self._kernel.close()

    def _toolset(self, tool: str) -> Toolset:
        toolset = self._owner.get(tool)
        if toolset is not None:
            return toolset
        missing = self._discovery.missing
        if missing:
            why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise MissingExtraError(
                f"no server with the tool {tool!r} is installed ({why})",
                hint='pip install "fmos[servers]"',
            )
        raise NotFoundError(
            f"there is no tool {tool!r}", hint=f"the servers have {', '.join(self._owner)}"
        )


class Http:
    """Speaks MCP to a server at a URL, or to the daemon through its unix socket."""

    def __init__(self, url: str, principal: Principal, *, socket: Path | None = None) -> None:
        import httpx  # noqa: PLC0415 - start-up-heavy, not needed in process

        self._where = str(socket) if socket else url
        self._url = url
        self._principal = principal
        local = socket is not None or url.startswith("http://")
        self._http: httpx.Client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)) if socket else None,
            timeout=httpx.Timeout(_CALL_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            # Without TLS there is nothing to verify, and loading the CA bundle costs 20 ms.
            verify=not local,
            trust_env=not local,
        )
        self._ids = itertools.count(1)
        self._accepted: dict[str, frozenset[str]] | None = None
        self._lock = threading.Lock()

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool for the principal and return its structured result.

        Raises:
            ServerUnreachableError: if no server answers, or what answers does not speak MCP.
            FmosError: what the tool raised, by its code; `ToolCallError` for any other.
        """
        params = {"name": tool, "arguments": {**self._who(tool, arguments), **arguments}}
        result = self._request("tools/call", params, tool)
        if result.get("isError"):
            code = (result.get("_meta") or {}).get(ERROR_CODE_META_KEY, "")
            raise error_for_code(code)(_text(result) or f"the tool {tool!r} failed")
        structured = result.get("structuredContent")
        if isinstance(structured, dict):
            return structured
        raise ToolCallError(f"the tool {tool!r} at {self._where} gave no structured result")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _who(self, tool: str, arguments: dict[str, Any]) -> dict[str, str]:
        """The principal's ids, as far as the tool takes them and the caller did not give them."""
        ids = {"agent": self._principal.agent, "session": self._principal.session}
        accepted = self._arguments_of(tool)
        return {
            name: value
            for name, value in ids.items()
            if value and name in accepted and not arguments.get(name)
        }

    def _arguments_of(self, tool: str) -> frozenset[str]:
        with self._lock:
            if self._accepted is None:
                listed = self._request("tools/list", {}, "")["tools"]
                self._accepted = {
                    entry["name"]: frozenset(entry["inputSchema"].get("properties", ()))
                    for entry in listed
                }
        return self._accepted.get(tool, frozenset())

    def _request(self, method: str, params: dict[str, Any], name: str) -> dict[str, Any]:
        import httpx  # noqa: PLC0415 - loaded already; only its exceptions are wanted

        identifier = next(self._ids)
        body = {
            "jsonrpc": "2.0",
            "id": identifier,
            "method": method,
            "params": {**params, "_meta": _META},
        }
        try:
            response = self._http.post(self._url, json=body, headers=_headers(method, name))
        except httpx.HTTPError as error:
            raise ServerUnreachableError(
                f"no FMOS server answers at {self._where} ({str(error) or type(error).__name__})",
                hint="start one with `fmos serve`, or connect with transport='inprocess'",
            ) from error
        return self._result(_message(response, identifier), response, method)

    def _result(
        self, message: dict[str, Any] | None, response: httpx.Response, method: str
    ) -> dict[str, Any]:
        if message is None:
            raise ServerUnreachableError(
                f"{self._where} does not speak MCP {PROTOCOL_VERSION}: it answered {method} with"
                f" HTTP {response.status_code}",
                hint="check the address; the daemon's is printed by `fmos serve`",
            )
        if "error" in message:
            raise ToolCallError(f"{self._where} refused {method}: {message['error']['message']}")
        return message["result"]


def _headers(method: str, name: str) -> dict[str, str]:
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
        "Mcp-Method": method,
    }
    if name:
        headers["Mcp-Name"] = _header_value(name)
    return headers


def _header_value(value: str) -> str:
    """Wrap a value that would not survive as an HTTP header, as the revision prescribes."""
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{b64encode(value.encode()).decode()}?="


def _message(response: httpx.Response, identifier: int) -> dict[str, Any] | None:
    """The JSON-RPC reply to our request, whether it came as JSON or as an event stream."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        candidates = _events(response.text)
    else:
        candidates = iter([response.text])
    for text in candidates:
        try:
            message = json.loads(text)
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
