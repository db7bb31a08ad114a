"""Worker: Turso's agentfs-sdk behind the line protocol of peers.py; runs in its own environment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from typing import Any

from agentfs_sdk import AgentFS, AgentFSOptions  # pyright: ignore[reportMissingImports]

import work


class Worker:
    """One open database; each method is one request and returns what goes back."""

    def __init__(self) -> None:
        """Begin with no database."""
        self.agent: Any = None

    async def ready(self) -> None:
        """Say that the imports are done."""

    async def open(self, path: str, synchronous: str) -> None:
        """Open a database, making it when it is missing."""
        self.agent = await AgentFS.open(AgentFSOptions(id="bench", path=path))
        if synchronous != "FULL":
            await self.agent.get_database().execute(f"PRAGMA synchronous={synchronous}")

    async def close(self) -> None:
        """Close the database."""
        await self.agent.close()

    async def create(self, directory: str, count: int, size: int, seed: int) -> float:
        """Write new files one by one and return the seconds."""
        fs, data = self.agent.fs, work.contents(count, size, seed)
        await fs.mkdir(directory)
        begin = time.perf_counter()
        for index, each in enumerate(data):
            await fs.write_file(f"{directory}/f{index}", each)
        return time.perf_counter() - begin

    async def read(self, directory: str, count: int, size: int) -> float:
        """Read files one by one and return the seconds."""
        fs = self.agent.fs
        begin = time.perf_counter()
        total = 0
        for index in range(count):
            total += len(await fs.read_file(f"{directory}/f{index}", encoding=None))
        taken = time.perf_counter() - begin
        if total != count * size:
            raise ValueError(f"read {total} bytes of {count * size}")
        return taken

    async def list(self, directory: str, count: int) -> float:
        """List a directory and return the seconds."""
        begin = time.perf_counter()
        found = len(await self.agent.fs.readdir(directory))
        taken = time.perf_counter() - begin
        if found != count:
            raise ValueError(f"listed {found} entries of {count}")
        return taken

    async def remove(self, directory: str) -> float:
        """Remove a directory with all in it and return the seconds."""
        begin = time.perf_counter()
        await self.agent.fs.rm(directory, recursive=True)
        return time.perf_counter() - begin

    async def fork(self, path: str, target: str, sync: bool) -> float:
        """Copy a closed database, which is the documented way to snapshot; return the seconds."""
        begin = time.perf_counter()
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copyfile(path + suffix, target + suffix)
                if sync:
                    _sync(target + suffix)
        return time.perf_counter() - begin


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDWR)
    os.fsync(file)
    os.close(file)


async def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": await getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            answer = {"error": repr(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


asyncio.run(main())
