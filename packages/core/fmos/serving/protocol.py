"""Offers toolsets over MCP: the only module that imports the SDK (`mcp` 2.x).

Registers each tool with its title, its four annotations and its typed output; turns our errors and
malformed arguments into tool errors of one sentence. The behaviour is the toolsets' own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from mcp_types import SERVER_INFO_META_KEY
from pydantic import ConfigDict, ValidationError
from starlette.routing import BaseRoute

from fmos.errors import ArgumentError, FmosError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.serving.acting import acting, claiming, door_name
from fmos.serving.asking import asked, can_ask
from fmos.serving.failures import as_sentence
from fmos.serving.telling import tell
from fmos.serving.toolset import Toolset, ToolSpec
from fmos.serving.validation import describe_validation, shortened
from fmos.telemetry import served
from fmos.types import Principal

#: Tool outputs of several megabytes are what the context server is for.
MAX_BODY_BYTES = 64 * 1024 * 1024

#: What a client on this machine may call us; anything else is a web page that rebinds its name.
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


class ToolServer(MCPServer[Any]):
    """An MCP server whose tools are plain methods and whose tool errors are one sentence.

    `launch` is whom the process was started for, where a door knows nobody better.
    """

    launch = Principal()
    kernel: Kernel | None = None
    toolsets: tuple[Toolset, ...] = ()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool on a worker thread, which inherits whom the door found out.

        Where the answer is that a person must be asked, a client that can asks them.
        """
        meta = context.request_context.meta if context is not None else None

        async def call(given: dict[str, Any]) -> CallToolResult:
            return await anyio.to_thread.run_sync(self.answer, name, given, meta)

        if context is None or not can_ask(context):
            return await call(arguments)
        return await asked(context, self.toolsets, name, arguments, call)

    def answer(
        self, name: str, arguments: dict[str, Any], meta: Mapping[str, Any] | None
    ) -> CallToolResult:
        """Call a tool and return its result; a failure is one with `is_error` set."""
        try:
            with served(name, door_name(), meta) as told, claiming(meta, self.launch):
                who = acting() or self.launch
                told.acts_for(who)
                result = self._run(name, arguments)
                if self.kernel is not None:
                    tell(self.kernel, who, name, arguments, result.structured_content)
                return result
        except Exception as error:
            failure = as_sentence(name, error)
            return CallToolResult(
                content=[TextContent(type="text", text=str(failure))],
                is_error=True,
                _meta=failure.meta(),
            )

    def on_the_wire(self, result: CallToolResult) -> dict[str, Any]:
        """Return a result as the revision 2026-07-28 sends it."""
        sent = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        sent.setdefault("resultType", "complete")
        stamp = {SERVER_INFO_META_KEY: self._lowlevel_server.server_info_stamp}
        sent["_meta"] = {**sent.get("_meta", {}), **stamp}
        return sent

    def _run(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        tool = self._tool_manager.get_tool(name)
        if tool is None:
            raise self._unknown(name)
        try:
            given = tool.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            raise ArgumentError(describe_validation(error)) from error
        result = tool.fn_metadata.convert_result(tool.fn(**given))
        assert isinstance(result, CallToolResult)
        return result

    def _unknown(self, name: str) -> FmosError:
        tools = ", ".join(tool.name for tool in self._tool_manager.list_tools())
        return NotFoundError(
            f"there is no tool {shortened(name)!r}", hint=f"this server has {tools}"
        )


def create(toolsets: tuple[Toolset, ...], version: str) -> ToolServer:
    """Return one server with the tools of all `toolsets`, which were launched for one principal."""
    tools = [_tool(spec, method) for toolset in toolsets for spec, method in toolset.tools()]
    one = len(toolsets) == 1
    server = ToolServer(
        name=f"fmos-{toolsets[0].name}" if one else "fmos",
        title=toolsets[0].title if one else "FMOS",
        instructions="\n\n".join(toolset.instructions for toolset in toolsets),
        version=version,
        tools=tools,
        log_level="WARNING",
    )
    server.launch, server.kernel = toolsets[0].launch, toolsets[0].kernel
    server.toolsets = toolsets
    return server


def http_routes(server: ToolServer, path: str) -> tuple[list[BaseRoute], Lifespan]:
    """Return the routes that serve `server` at `path`, and what must run while they are served.

    Both protocol eras are served without sessions: all state is keyed by ids in the arguments.
    """
    app = server.streamable_http_app(
        streamable_http_path=path,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
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
