"""Offers toolsets over MCP: the only module that imports the SDK (`mcp` 2.x).

Registers each tool with its title, its four annotations and its typed output; turns our errors and
malformed arguments into tool errors of one sentence. The behaviour is the toolsets' own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, ValidationError
from starlette.routing import BaseRoute

from fmos.errors import ERROR_CODE_META_KEY, ArgumentError, FmosError, NotFoundError
from fmos.serving.toolset import Toolset, ToolSpec, describe_validation

#: Tool outputs of several megabytes are what the context server is for.
_MAX_BODY_BYTES = 64 * 1024 * 1024

#: What a client on this machine may call us; anything else is a web page that rebinds its name.
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


class ToolServer(MCPServer[Any]):
    """An MCP server whose tool errors are one sentence, with our stable code in `_meta`."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; a failure that we foresaw is a result with `is_error` set."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            foreseen = self._foreseen(name, error)
            if foreseen is None:
                raise
            return CallToolResult(
                content=[TextContent(type="text", text=str(foreseen))],
                is_error=True,
                _meta={ERROR_CODE_META_KEY: foreseen.code},
            )

    def _foreseen(self, name: str, error: ToolError) -> FmosError | None:
        cause = error.__cause__
        if isinstance(cause, FmosError):
            return cause
        if isinstance(error, UnexpectedToolError):
            return None
        if isinstance(cause, ValidationError):
            return ArgumentError(describe_validation(cause))
        tools = ", ".join(tool.name for tool in self._tool_manager.list_tools())
        if cause is None:
            return NotFoundError(f"there is no tool {name!r}", hint=f"this server has {tools}")
        return None


def create(toolsets: tuple[Toolset, ...], version: str) -> ToolServer:
    """Return one server with the tools of all `toolsets`."""
    tools = [_tool(spec, method) for toolset in toolsets for spec, method in toolset.tools()]
    one = len(toolsets) == 1
    return ToolServer(
        name=f"fmos-{toolsets[0].name}" if one else "fmos",
        title=toolsets[0].title if one else "FMOS",
        instructions="\n\n".join(toolset.instructions for toolset in toolsets),
        version=version,
        tools=tools,
        log_level="WARNING",
    )


def http_routes(server: ToolServer, path: str) -> tuple[list[BaseRoute], Lifespan]:
    """Return the routes that serve `server` at `path`, and what must run while they are served.

    Both protocol eras are served without sessions: all state is keyed by ids in the arguments.
    """
    app = server.streamable_http_app(
        streamable_http_path=path,
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MAX_BODY_BYTES,
        transport_security=_loopback_only(),
    )
    return list(app.routes), server.session_manager.run


def _loopback_only() -> TransportSecuritySettings:
    hosts = [pattern for name in _LOOPBACK for pattern in (name, f"{name}:*")]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"http://{host}" for host in hosts],
    )


def _tool(spec: ToolSpec, method: Callable[..., Any]) -> Tool:
    tool = Tool.from_function(
        method,
        name=spec.name,
        title=spec.title,
        description=inspect.cleandoc(spec.description),
        annotations=ToolAnnotations(
            title=spec.title,
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.idempotent,
            open_world_hint=spec.open_world,
        ),
        structured_output=True,
    )
    # The SDK drops arguments that a tool does not have: a misspelt one would pass in silence.
    loose = tool.fn_metadata.arg_model
    strict = type(loose.__name__, (loose,), {"model_config": ConfigDict(extra="forbid")})
    tool.fn_metadata.arg_model = strict
    tool.parameters = strict.model_json_schema(by_alias=True)
    return tool
