"""Runs under mcp 1.x, in another environment: lists a stdio server's tools and calls one.

Prints one JSON object. Takes the tool, its arguments as JSON, and the server's command line.
"""

import asyncio
import json
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(tool: str, arguments: str, command: list[str]) -> None:
    """Print what an old client sees of the server."""
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        hello = await session.initialize()
        listed = await session.list_tools()
        result = await session.call_tool(tool, json.loads(arguments))
        wrong = await session.call_tool(tool, {"bogus": 1})
    seen = {
        "protocol": hello.protocolVersion,
        "tools": [entry.model_dump(mode="json") for entry in listed.tools],
        "is_error": result.isError,
        "structured": result.structuredContent,
        "wrong_is_error": wrong.isError,
        "wrong": wrong.content[0].text,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
