"""Stands in for the agentfs-sdk package where its real speed does not matter: files in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class AgentFSOptions:
    """What the real package's `AgentFS.open` takes."""

    id: str
    path: str


class Filesystem:
    """The calls that the benchmarks make, on a dictionary."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    async def mkdir(self, path: str) -> None:
        """Make a directory: nothing to do here."""

    async def write_file(self, path: str, data: bytes) -> None:
        """Keep a file."""
        self._files[path] = data

    async def read_file(self, path: str, encoding: str | None) -> bytes:
        """Return a file's bytes."""
        assert encoding is None
        return self._files[path]

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return [each for each in self._files if each.startswith(f"{path}/")]

    async def rm(self, path: str, recursive: bool) -> None:
        """Forget a directory's files."""
        assert recursive
        for each in await self.readdir(path):
            del self._files[each]


class _Database:
    async def execute(self, sql: str) -> None:
        assert sql.startswith("PRAGMA synchronous="), sql


class AgentFS:
    """An open database."""

    _stores: dict[str, Filesystem] = {}  # noqa: RUF012 - what is closed can be opened again

    def __init__(self, path: str) -> None:
        self.fs = self._stores.setdefault(path, Filesystem())

    @classmethod
    async def open(cls, options: AgentFSOptions) -> AgentFS:
        """Open a database, and leave a file where the real one is."""
        Path(options.path).write_bytes(b"stand-in")
        return cls(options.path)

    def get_database(self) -> _Database:
        """Return the connection."""
        return _Database()

    async def close(self) -> None:
        """Close the database: nothing to do here."""
