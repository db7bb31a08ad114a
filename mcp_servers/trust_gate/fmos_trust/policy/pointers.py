"""JSON pointers into the arguments of a call; the part `*` stands for every item of a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fmos.errors import ArgumentError

Parts = tuple[str, ...]

_MISSING = object()
_MOST_LEAVES = 10_000


def parts_of(pointer: str) -> Parts:
    """Return the parts of a pointer, unescaped (RFC 6901)."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def found_at(arguments: Mapping[str, Any], parts: Parts) -> list[tuple[str, Any]]:
    """Return every value at a pointer with its own pointer; null counts as left out."""
    found: list[tuple[str, Any]] = [("", arguments)]
    for part in parts:
        found = [each for pointer, value in found for each in _step(pointer, value, part)]
        if not found:
            return found
    return [(pointer, value) for pointer, value in found if value is not None]


def leaves_at(arguments: Mapping[str, Any], parts: Parts) -> list[tuple[str, Any]]:
    """Return the values at a pointer, those of lists one by one.

    Raises:
        ArgumentError: if there are more than 10,000.
    """
    if len(parts) == 1:  # nearly always: an argument that is no list
        value = arguments.get(parts[0])
        if value is None:
            if parts[0] != "*":
                return []
        elif not isinstance(value, list | tuple):
            return [(f"/{_escaped(parts[0])}", value)]
    found: list[tuple[str, Any]] = []
    for pointer, value in found_at(arguments, parts):
        for each in _leaves(pointer, value):
            found.append(each)
            if len(found) > _MOST_LEAVES:
                raise ArgumentError(
                    f"{pointer!r} has more than {_MOST_LEAVES:,} values", hint="give fewer"
                )
    return found


def texts_at(arguments: Mapping[str, Any], parts: Parts) -> list[str]:
    """Return the pointers of every single value at or below a pointer."""
    return [
        each for pointer, value in found_at(arguments, parts) for each in _single(pointer, value)
    ]


def _single(pointer: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        for inner, each in _step(pointer, value, "*"):
            yield from _single(inner, each)
    elif value is not None:
        yield pointer


def replaced(arguments: Mapping[str, Any], parts: Parts, value: Any) -> dict[str, Any]:
    """Return arguments with another value at a pointer; one that is not there is put there.

    Raises:
        ArgumentError: if what is above it is neither an object nor a list that has it.
    """
    return _with(dict(arguments), parts, value)


def _with(node: Any, parts: Parts, value: Any) -> Any:
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if isinstance(node, Mapping):
        names = list(node) if part == "*" else [part]
        return {**node, **{name: _with(node.get(name, {}), rest, value) for name in names}}
    if isinstance(node, list | tuple):
        items = list(node)
        chosen = range(len(items)) if part == "*" else [_index(items, part)]
        for number in chosen:
            items[number] = _with(items[number], rest, value)
        return items
    raise ArgumentError(f"there is nothing at {part!r} to replace", hint="correct the rule")


def _index(items: list[Any], part: str) -> int:
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise ArgumentError(f"the list has no item {part!r}", hint="correct the rule")


def _step(pointer: str, value: Any, part: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        names = list(value) if part == "*" else [part]
        for name in names:
            if (inner := value.get(name, _MISSING)) is not _MISSING:
                yield f"{pointer}/{_escaped(str(name))}", inner
    elif isinstance(value, list | tuple):
        if part == "*":
            yield from ((f"{pointer}/{number}", each) for number, each in enumerate(value))
        elif part.isdecimal() and int(part) < len(value):
            yield f"{pointer}/{part}", value[int(part)]


def _leaves(pointer: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _leaves(f"{pointer}/{number}", each)
    elif value is not None:
        yield pointer, value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name
