"""Runs under the real `agentfs-sdk`, elsewhere: makes a volume, or says what is in one.

`make PATH` writes a volume; `hold PATH` does so, says "ready" and keeps it open until its stdin
ends; `show PATH` prints one JSON object with everything that the package can read.
"""

import asyncio
import json
import sys

from agentfs_sdk import AgentFS, AgentFSOptions

LARGE = bytes(range(256)) * 400


async def make(path: str, hold: bool) -> None:
    """Write files, keys and tool calls, as an agent does."""
    volume = await AgentFS.open(AgentFSOptions(path=path))
    await volume.fs.write_file("/docs/read me.txt", "hello\n")
    await volume.fs.write_file("/docs/naïve\nname", "")
    await volume.fs.write_file("/large.bin", LARGE)
    await volume.fs.mkdir("/empty")
    await volume.kv.set("user:1", {"name": "Ada", "tags": ["ü", None, 1.5]})
    call = await volume.tools.start("search", {"query": "x"})
    await volume.tools.success(call, {"hits": 2})
    await volume.tools.record("search", 1_700_000_000, 1_700_000_003, {"query": "y"}, None, "boom")
    await volume.tools.start("slow", None)
    if hold:
        print("ready", flush=True)
        sys.stdin.read()
        return  # without closing it, as a process that is killed
    await volume.close()


async def show(path: str) -> None:
    """Print what the package reads from a volume, and write to it once."""
    volume = await AgentFS.open(AgentFSOptions(path=path))
    found: dict[str, object] = {}
    waiting = ["/"]
    while waiting:
        here = waiting.pop()
        for name in await volume.fs.readdir(here):
            inner = f"{here.rstrip('/')}/{name}"
            info = await volume.fs.stat(inner)
            told = [oct(info.mode), info.size, info.mtime, info.nlink, info.uid]
            if info.is_directory():
                waiting.append(inner)
            elif info.is_file():
                told.append((await volume.fs.read_file(inner, encoding=None)).hex())
            found[inner] = told
    stats = [[each.name, each.total_calls, each.successful, each.failed, each.avg_duration_ms]
             for each in await volume.tools.get_stats()]  # fmt: skip
    calls = [[each.status, each.parameters, each.result, each.error]
             for each in await volume.tools.get_by_name("search")]  # fmt: skip
    keys = await volume.kv.list("")
    await volume.fs.write_file("/written-by-the-sdk", "it works")
    await volume.close()
    print(json.dumps({"tree": found, "stats": stats, "calls": calls, "keys": keys}))


if __name__ == "__main__":
    if sys.argv[1] == "show":
        asyncio.run(show(sys.argv[2]))
    else:
        asyncio.run(make(sys.argv[2], sys.argv[1] == "hold"))
