"""Offers the tools over MCP; with `host` the only module of agentfs that imports the SDK.

Registers each tool with its title, its annotations and its typed output, and turns what goes wrong
into tool errors of one sentence. The behaviour is that of the tools.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    TextContent,
    ToolAnnotations,
)
from pydantic import ConfigDict, ValidationError

from agentfs.errors import AgentFSError

from .area import Area
from .declare import Declaration, tools
from .history import Branching, LookingBack
from .parts import Image
from .reading import Reading
from .refusal import ToolRefusal
from .results import ReadResult
from .searching import Searching
from .writing import Writing

CODE_META = "agentfs/code"
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}


class FileServer(MCPServer[Any]):
    """An MCP server over one area."""

    def __init__(self, area: Area, version: str) -> None:
        """Register the tools; those that write are left out of a read-only server."""
        self._area = area
        self._searching = Searching(area)
        owners: list[object] = [Reading(area), self._searching, LookingBack(area)]
        if not area.read_only:
            owners += [Writing(area), Branching(area)]
        super().__init__(
            name="agentfs",
            title="agentfs",
            instructions=_instructions(area),
            version=version,
            tools=[_tool(declared, method) for declared, method in tools(*owners)],
            log_level="WARNING",
        )

    def close(self) -> None:
        """Stop what the tools started."""
        self._searching.close()

    def kill(self) -> None:
        """Stop what the tools started, in the middle of a search too."""
        self._searching.kill()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; a failure that was foreseen is a result with `is_error` set."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            foreseen = self._foreseen(name, error)
            if foreseen is None:
                raise
            return CallToolResult(
                content=[TextContent(type="text", text=str(foreseen))],
                is_error=True,
                _meta={CODE_META: foreseen.code},
            )

    def _foreseen(self, name: str, error: ToolError) -> ToolRefusal | None:
        cause = error.__cause__
        if isinstance(cause, ToolRefusal):
            return cause
        if isinstance(cause, AgentFSError):
            return ToolRefusal(self._area.sentence(cause), cause.code)
        if isinstance(error, UnexpectedToolError):
            return None
        if isinstance(cause, ValidationError):
            return ToolRefusal(_describe(cause), "tool.arguments")
        if cause is None:
            known = ", ".join(tool.name for tool in self._tool_manager.list_tools())
            return ToolRefusal(
                f"there is no tool {name!r}; this server has {known}", "tool.unknown"
            )
        return None


def _instructions(area: Area) -> str:
    what = "Files that you may read." if area.read_only else "Files that you may read and change."
    if area.read_only:
        return f"{what} Paths are absolute; '/' is the directory of this server. " + _FINDING
    return f"{what} Paths are absolute; '/' is the directory of this server. {_FINDING} {_TRYING}"


_FINDING = (
    "fs_list, fs_glob and fs_grep find; fs_read shows a file with line numbers and its version"
    " ('node')."
)
_TRYING = (
    "fs_edit replaces a unique text. Nothing is ever lost: each change returns 'undo', a moment for"
    " fs_restore. To try something, fs_fork a branch, work on it with the 'branch' argument, look"
    " at fs_diff, then fs_merge it or leave it."
)


def _tool(declared: Declaration, method: Callable[..., Any]) -> Tool:
    name = method.__name__
    made = Tool.from_function(
        _with_images(method) if name == "fs_read" else method,
        name=name,
        title=declared.title,
        description=inspect.cleandoc(method.__doc__ or ""),
        annotations=ToolAnnotations(
            title=declared.title,
            read_only_hint=declared.read_only,
            destructive_hint=declared.destructive,
            idempotent_hint=declared.idempotent,
            open_world_hint=False,
        ),
        structured_output=True,
    )
    # The SDK drops arguments that a tool does not have: a misspelt one would pass in silence.
    loose = made.fn_metadata.arg_model
    strict = type(loose.__name__, (loose,), {"model_config": ConfigDict(extra="forbid")})
    made.fn_metadata.arg_model = strict
    made.parameters = strict.model_json_schema(by_alias=True)
    return made


def _with_images(method: Callable[..., ReadResult | Image]) -> Callable[..., Any]:
    """Let a tool that may return an image say so with an image block."""

    @functools.wraps(method)
    def call(*given: Any, **named: Any) -> CallToolResult:
        result = method(*given, **named)
        content: list[ContentBlock] = []
        if isinstance(result, Image):
            content.append(
                ImageContent(type="image", data=result.data, mime_type=result.result.mime_type)
            )
            result = result.result
        text = TextContent(type="text", text=result.model_dump_json())
        return CallToolResult(
            content=[*content, text], structured_content=result.model_dump(mode="json")
        )

    signature = inspect.signature(method, eval_str=True)
    returned = Annotated[CallToolResult, ReadResult]
    call.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    call.__annotations__ = {
        **{each.name: each.annotation for each in signature.parameters.values()},
        "return": returned,
    }
    return call


def _describe(error: ValidationError) -> str:
    """Return one sentence that names the first wrong argument and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the arguments"
    if first["type"] in _MISSING:
        return f"argument {where!r} is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no argument {where!r}"
    shown = repr(first.get("input"))
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    message = first["msg"]
    return f"argument {where!r}: {message[:1].lower()}{message[1:]} (got {shown})"
