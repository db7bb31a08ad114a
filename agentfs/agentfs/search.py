"""Walk, glob and grep: iterators that read one directory or file at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate
from typing import TYPE_CHECKING

from .errors import AgentFSError, InvalidArgument
from .paths import join, normalise
from .types import DirEntry, Match

if TYPE_CHECKING:
    from .filesystem import AgentFS

_BINARY_PROBE = 8192
_MAGIC = re.compile(r"[*?\[]")


def walk(fs: AgentFS, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each directory with its directory and file names, top down.

    Names removed from the list of directories are not entered.
    """
    waiting = [path]
    fs.scandir(path)  # a wrong start is an error, a directory that vanishes later is not
    while waiting:
        here = waiting.pop()
        entries = _entries(fs, here)
        below = [each.name for each in entries if each.stat.is_dir]
        yield here, below, [each.name for each in entries if not each.stat.is_dir]
        waiting += [join(here, name) for name in reversed(below)]


def glob(fs: AgentFS, pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern with `*`, `?`, `[...]` and `**`, sorted per level."""
    parts = [each for each in pattern.split("/") if each]
    yield from dict.fromkeys(_glob(fs, parts))


def _glob(fs: AgentFS, parts: list[str]) -> Iterator[str]:
    """Search depth first; the stack is our own, because a tree may be deeper than Python's."""
    waiting: list[Iterator[tuple[str, list[str]]]] = [iter([("/", parts)])]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif found[1]:
            waiting.append(_matches(fs, *found))
        else:
            yield found[0]


def _matches(fs: AgentFS, path: str, parts: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what the first part of a pattern leads to, each with the parts that are left."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield path, rest
        for entry in _entries(fs, path):
            if entry.stat.is_dir:
                yield entry.path, parts
            elif not rest:
                yield entry.path, []
    elif not _MAGIC.search(part):
        here = normalise(join(path, part))
        if _exists(fs, here):
            yield here, rest
    else:
        matches = re.compile(translate(part)).match
        for entry in _entries(fs, path):
            if matches(entry.name) and (not rest or not entry.stat.is_file):
                yield entry.path, rest


def _exists(fs: AgentFS, path: str) -> bool:
    try:
        fs.lstat(path)
    except AgentFSError:
        return False
    return True


def _entries(fs: AgentFS, path: str) -> list[DirEntry]:
    try:
        return fs.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def grep(fs: AgentFS, pattern: str | re.Pattern[str], path: str) -> Iterator[Match]:
    """Yield the lines of text files at and below a path that match a regular expression."""
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise InvalidArgument(str(pattern), f"it is no regular expression: {error}") from error
    for each in _files(fs, path):
        try:
            data = fs.read(each)
        except FileNotFoundError:
            continue  # removed by another writer meanwhile
        if b"\0" in data[:_BINARY_PROBE]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
            if search(line):
                yield Match(each, number, line.rstrip("\r"))


def _files(fs: AgentFS, path: str) -> Iterator[str]:
    if fs.stat(path).is_file:
        yield path
        return
    for directory, _, _ in walk(fs, path):
        for entry in _entries(fs, directory):
            if entry.stat.is_file:
                yield entry.path
