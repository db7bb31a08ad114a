"""Which paths and texts a trap table lets pass: text alone decides, and every doubt traps.

Nothing is looked up on a disk, so whatever a tool might resolve in a way of its own (`~`, links
below /proc, wildcards, percent signs, `..`) is a doubt. docs/spec/trap-abi.md has the rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fmos.contract.globs import SYSTEM_AREA, normalise
from fmos.contract.globs import _path_rule as path_rule

#: Paths that are never innocuous whatever the contract says: other ways to every file.
BUILT_IN = (SYSTEM_AREA, "/dev", "/proc")

#: A path of these characters is normalised if it has no `/.`, no `./` and no `//`.
_SIMPLE = re.compile(r"/[A-Za-z0-9_@+,=/.-]*[A-Za-z0-9_@+,=-]").fullmatch
_DOUBT = re.compile(
    r"[\x00-\x1f\x7f\\%$*?\[{]|^[A-Za-z][A-Za-z0-9+.-]*:|^~|^\s|\s\Z|\s/|[^/]\.(?:/|\Z)"
).search
_WILD = re.compile(r"[*?]").search
_PATH_LIKE = re.compile(
    r"\A\s*(?:/|\\\\|~(?:[/\\]|\Z|\w+[/\\])|\.{1,2}[/\\]|\.\.\s*\Z|file:|[a-z]:[/\\](?!/)|%(?:2f|2e|7e))"
    r"|(?:[/\\]|%2f|%5c)(?:\.|%2e){2}(?:[/\\]|%2f|%5c|\s*\Z)",
    re.IGNORECASE,
).search
_LONGEST_PATH = 4_096
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_DEEPEST = 8

#: Types of values that name nothing.
MUTE = frozenset({int, float, bool, type(None)})


class Scope:
    """What one list of scopes lets read: a path must be in all of them, each a list of globs.

    `known` is for its owner to remember what it made of a path; it is never read here.
    """

    __slots__ = ("_first", "_folders", "_rest", "known")

    def __init__(self, scopes: Iterable[Sequence[str]]) -> None:
        rules = [_any_of(globs) for globs in scopes]
        self._folders, self._first = rules[0] if rules else ((), None)
        self._rest = rules[1:]
        self.known: dict[str, bool] = {}

    def covers(self, path: str) -> bool:
        """Return whether every scope covers a normalised path; without scopes none is covered."""
        if not path.startswith(self._folders) and not (self._first and self._first(path)):
            return False
        return not self._rest or all(
            path.startswith(folders) or (rule is not None and rule(path) is not None)
            for folders, rule in self._rest
        )


class Guard:
    """What is never innocuous: paths that are protected, and texts that name a guarded one."""

    __slots__ = ("_above", "_at", "_below", "_names", "_texts")

    def __init__(self, protected: Iterable[str], guarded: Iterable[str]) -> None:
        """Take absolute normalised paths; guarded ones are protected too."""
        texts = [ascii_lower(path) for path in guarded]
        self._at = tuple(ascii_lower(path).rstrip("/") for path in (*protected, *texts))
        self._below = tuple(f"{path}/" for path in self._at)
        self._above = frozenset(above for path in texts for above in _ancestors(path))
        self._names = frozenset(path.rpartition("/")[2] for path in texts)
        self._texts = tuple(texts)

    def forbids(self, path: str, *, relative: bool) -> bool:
        """Return whether a normalised path is protected, above a guarded one, or may be one."""
        lower = path.lower() if path.isascii() else ascii_lower(path)
        if lower in self._above:
            return True
        if lower.startswith(self._at) and f"{lower}/".startswith(self._below):
            return True
        return relative and not self._names.isdisjoint(lower.split("/"))

    def is_named_in(self, value: Any, depth: int = 0) -> bool:
        """Return whether a text inside a value names a guarded path; too deep a value may."""
        if isinstance(value, str):
            lower = ascii_lower(value)
            return any(text in lower for text in self._texts)
        if isinstance(value, dict):
            return self.is_named_in([*value, *value.values()], depth)
        if isinstance(value, list | tuple):
            return depth >= _DEEPEST or any(self.is_named_in(item, depth + 1) for item in value)
        return type(value) not in MUTE  # what JSON does not have is a doubt


def plain_path(text: str) -> str | None:
    """Return the normalised path of an argument, or None if a tool might read it otherwise."""
    if _SIMPLE(text) and "/." not in text and "//" not in text and "./" not in text:
        return text
    if not text or _DOUBT(text) or unicodedata.normalize("NFKC", text) != text:
        return None
    if ".." in text and ".." in text.split("/"):
        return None
    return normalise(text)


def looks_like_path(text: str) -> bool:
    """Return whether a value of an argument that nobody declared a path is one by its looks."""
    if len(text) > _LONGEST_PATH or "\n" in text:
        return False
    return _PATH_LIKE(text if text.isascii() else unicodedata.normalize("NFKC", text)) is not None


def ascii_lower(text: str) -> str:
    """Return the text with A to Z in lower case and every other character as it is."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")
    return ["/", *("/".join(parts[:count]) for count in range(2, len(parts)))]


_Rule = tuple[tuple[str, ...], Callable[[str], object] | None]


def _any_of(globs: Iterable[str]) -> _Rule:
    """Return the folders that a list of globs covers whole, and a matcher of the whole list."""
    plain = [normalise(glob) for glob in globs]
    folders = [text[:-2] for text in plain if text.endswith("/**") and not _WILD(text[:-3])]
    found = [f"(?:{path_rule(glob).pattern})" for glob in plain]
    return tuple(folders), re.compile("|".join(found), re.DOTALL).fullmatch if found else None
