"""Path rules of contracts: how a path is normalised and when a glob covers it.

`*` and `?` stay inside one name, `**` crosses folders, and `/src/**` covers `/src` itself.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterable

SYSTEM_AREA = "/.fmos"


def normalise(path: str) -> str:
    """Return the absolute path that `path` means from the root, without `.`, `..` or `//`."""
    return posixpath.normpath("/" + path.lstrip("/"))


def in_system_area(path: str) -> bool:
    """Return whether a normalised path is the kernel's own area or below it."""
    return path == SYSTEM_AREA or path.startswith(SYSTEM_AREA + "/")


def covers(patterns: Iterable[str], path: str) -> bool:
    """Return whether one of the path globs covers a normalised path."""
    return any(_path_rule(pattern).fullmatch(path) is not None for pattern in patterns)


def covers_each(scopes: Iterable[Iterable[str]], path: str) -> bool:
    """Return whether every one of the lists of path globs covers a normalised path."""
    return all(covers(patterns, path) for patterns in scopes)


def is_glob(name: str) -> bool:
    """Return whether a name stands for others: it holds `*` or `?`."""
    return "*" in name or "?" in name


def matches_name(patterns: Iterable[str], name: str) -> bool:
    """Return whether a name such as an address matches a glob; `*` matches anything, any case."""
    return any(_name_rule(pattern).fullmatch(name) is not None for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _path_rule(pattern: str) -> re.Pattern[str]:
    text = normalise(pattern)
    parts: list[str] = []
    position = 0
    while position < len(text):
        token, length = _token(text, position)
        parts.append(token)
        position += length
    return re.compile("".join(parts), re.DOTALL)


def _token(text: str, position: int) -> tuple[str, int]:
    rest = text[position:]
    if rest == "/**":
        return "(?:/.*)?", 3
    if rest.startswith("/**/"):
        return "/(?:.*/)?", 4
    if rest.startswith("**"):
        return ".*", 2
    simple = {"*": "[^/]*", "?": "[^/]"}
    return simple.get(rest[0], re.escape(rest[0])), 1


@functools.lru_cache(maxsize=4096)
def _name_rule(pattern: str) -> re.Pattern[str]:
    parts = [{"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern]
    return re.compile("".join(parts), re.DOTALL | re.IGNORECASE)
