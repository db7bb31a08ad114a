"""How a client's calls reach the services: in this process, or MCP over a unix socket or HTTP.

Speaks the stateless revision 2026-07-28 itself (one JSON POST per call), because adapters live in
environments where the MCP SDK may be of another version or absent.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

from fmos.client.messages import Messages, headers
from fmos.errors import MissingExtraError, NotFoundError, ServerUnreachableError
from fmos.types import Principal

if TYPE_CHECKING:
    import httpx

    from fmos.runtime.kernel import Kernel
    from fmos.serving.toolset import Toolset

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 120.0


class Transport(Protocol):
    """What carries a tool call for one principal. Implementations are thread-safe."""

    @property
    def where(self) -> str:
        """Where the calls go: `in process`, `unix:PATH` or a URL."""
        ...

    @property
    def public_key(self) -> str:
        """The key that checks the tenant's signatures, in base64; empty where it is not known."""
        ...

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its structured result."""
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


class InProcess:
    """Calls the services of this process over an opened home."""

    where = "in process"

    def __init__(self, kernel: Kernel, principal: Principal, *, owns_kernel: bool) -> None:
        from fmos.serving.discovery import discover  # noqa: PLC0415 - imports the servers

        self._kernel = kernel
        self._principal = principal
        self._owns_kernel = owns_kernel
        self._discovery = discover()
        classes = self._discovery.require()
        self._toolsets = [cls(kernel, principal) for cls in classes.values()]
        self._owner = {
            spec.name: toolset for toolset in self._toolsets for spec, _ in toolset.tools()
        }

    @property
    def public_key(self) -> str:
        """The key that checks the tenant's signatures, read from the home itself."""
        return self._kernel.keys_of(self._principal.tenant).public_key

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
    """Speaks MCP to a server at a URL, with a bearer token."""

    def __init__(
        self, url: str, principal: Principal, *, token: str = "", public_key: str = ""
    ) -> None:
        import httpx  # noqa: PLC0415 - start-up-heavy, not needed in process

        self.where = url
        self.public_key = public_key
        plain = url.startswith("http://")
        self._http: httpx.Client = httpx.Client(
            timeout=httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # Without TLS there is nothing to verify, and loading the CA bundle costs 20 ms.
            verify=not plain,
            trust_env=not plain,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        self._messages = Messages(principal, url)
        self._ids = itertools.count(1)

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool for the principal and return its structured result.

        Raises:
            ServerUnreachableError: if no server answers, or what answers does not speak MCP.
            PrincipalError: if the server wants another token.
            FmosError: what the tool raised, by its code; `ToolCallError` for any other.
        """
        method = "tools/call"
        identifier = next(self._ids)
        body = self._messages.body(identifier, method, {"name": tool, "arguments": arguments})
        response = self._post(body, headers(method, tool))
        kind = response.headers.get("content-type", "")
        result = self._messages.result(
            response.status_code, kind, response.text, identifier, method
        )
        return self._messages.structured(result, tool)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _post(self, body: bytes, head: dict[str, str]) -> httpx.Response:
        import httpx  # noqa: PLC0415 - loaded already; only its exceptions are wanted

        try:
            return self._http.post(self.where, content=body, headers=head)
        except httpx.HTTPError as error:
            raise ServerUnreachableError(
                f"no FMOS server answers at {self.where} ({str(error) or type(error).__name__})",
                hint="start one with `fmos serve`, or connect with transport='inprocess'",
            ) from error
