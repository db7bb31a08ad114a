"""Ids, keys and handles in the arguments of a call that nothing in the session has shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fmos_trust.evidence.catalogue import ToolFacts

_NAMED = re.compile(
    r"(?:^|_)(?:id|ids|uuid|guid|key|handle|ref|reference|identifier|sha|hash|token|cursor)$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHORTEST = 3
_LONGEST = 200
_MOST = 32


class Given(NamedTuple):
    """One value that names something, and the JSON pointer to it."""

    pointer: str
    value: str


def ids_in(tool: ToolFacts, arguments: Mapping[str, Any]) -> list[Given]:
    """Return the values that must name something that exists already.

    What a tool creates may get an id of the caller's choice.
    """
    if tool.creates:
        return []
    found: list[Given] = []
    for name, value in arguments.items():
        if is_id(name):
            found += list(_leaves(f"/{name}", value))
    return found[:_MOST]


def is_plainly_id(value: str) -> bool:
    """Return whether nobody would make up such a value: it has digits, or is long and one word."""
    return any(map(str.isdigit, value)) and not value.isspace() and " " not in value.strip()


@functools.lru_cache(maxsize=4096)
def is_id(name: str) -> bool:
    """Return whether an argument of this name says which of several things is meant."""
    return _NAMED.search(_CAMEL.sub("_", name).lower().replace("-", "_")) is not None


def _leaves(pointer: str, value: Any) -> Iterator[Given]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, str | int):
        text = str(value).strip()
        if _SHORTEST <= len(text) <= _LONGEST:
            yield Given(pointer, text)
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from _leaves(f"{pointer}/{at}", each)
