"""The tool `context_read`, by which a model pages back in what a handle stands for."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from fmos.client import Client
from fmos.errors import FmosError

NAME = "context_read"

_DESCRIPTION = (
    "Read a part of a long text that was paged out, by the handle in its stub. Give a pattern"
    " (a regular expression) to get only the matching lines, numbered; else offset and limit, in"
    " characters, to read around a place."
)


def make_reader(client: Client) -> BaseTool:
    """Return the tool, bound to a client's session."""

    def context_read(handle: str, offset: int = 0, limit: int = 4000, pattern: str = "") -> str:
        arguments = {"handle": handle, "offset": offset, "limit": limit, "pattern": pattern}
        try:
            return _shown(client.call(NAME, arguments))
        except FmosError as error:
            raise ToolException(str(error)) from error

    return StructuredTool.from_function(
        context_read, name=NAME, description=_DESCRIPTION, handle_tool_error=True
    )


def _shown(span: dict[str, Any]) -> str:
    following = span["next_offset"]
    if following is None:
        return span["text"]
    where = f"characters {span['offset']} to {following} of {span['total']}"
    return f"{span['text']}\n[{where}; read on with offset={following}]"
