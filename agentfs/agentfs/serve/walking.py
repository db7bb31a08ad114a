"""Walks a tree in the order of its paths, so that a walk can go on where another one stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import translate

from agentfs.errors import AgentFSError, VolumeError
from agentfs.filesystem import AgentFS
from agentfs.types import DirEntry

_Level = tuple[Iterator[DirEntry], list[str], int]


def entries(
    fs: AgentFS, top: str, depth: int | None = None, after: list[str] | None = None
) -> Iterator[DirEntry]:
    """Yield what is below a directory: each name, then what is below it, in the order of names.

    `after` are the names of the last path that an earlier walk returned. `depth` 1 is one level.
    """
    stack: list[_Level] = [(iter(fs.scandir(top)), after or [], 1)]
    while stack:
        below, skip, level = stack[-1]
        entry = next(below, None)
        if entry is None:
            stack.pop()
            continue
        rest: list[str] = []
        if skip:
            if entry.name < skip[0]:
                continue
            if entry.name == skip[0]:
                rest = skip[1:]
            else:
                stack[-1] = (below, [], level)
        if not skip or entry.name != skip[0]:
            yield entry
        if entry.stat.is_dir and (depth is None or level < depth):
            stack.append((iter(_scan(fs, entry.path)), rest, level + 1))


def _scan(fs: AgentFS, path: str) -> list[DirEntry]:
    try:
        return fs.scandir(path)
    except VolumeError:
        raise
    except AgentFSError:
        return []  # removed by another writer meanwhile, or not readable in an overlay's host


class Pattern:
    """A glob of names with `*`, `?` and `[...]`, and `**` for any number of directories.

    Its time grows with the length of the pattern and of the path only.
    """

    def __init__(self, pattern: str) -> None:
        """Take a pattern; one without a slash matches names at any depth."""
        parts = [each for each in pattern.split("/") if each and each != "."]
        if "/" not in pattern.strip("/") and not pattern.startswith("/"):
            parts = ["**", *parts]
        self._parts: list[Callable[[str], object] | None] = [
            None if each == "**" else re.compile(translate(each)).match for each in parts
        ]

    def matches(self, names: list[str]) -> bool:
        """Say whether the names of a relative path match."""
        reached = {0}
        for name in names:
            reached = self._step(self._closed(reached), name)
            if not reached:
                return False
        return len(self._parts) in self._closed(reached)

    def _closed(self, reached: set[int]) -> set[int]:
        """Add what is reached when `**` stands for no name."""
        found = set(reached)
        for index, part in enumerate(self._parts):
            if part is None and index in found:
                found.add(index + 1)
        return found

    def _step(self, reached: set[int], name: str) -> set[int]:
        found: set[int] = set()
        for index in reached:
            if index == len(self._parts):
                continue
            part = self._parts[index]
            if part is None:
                found.add(index)
            elif part(name):
                found.add(index + 1)
        return found
