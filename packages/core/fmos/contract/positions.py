"""Where the fields of a YAML document stand: lines and columns, counted from 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import yaml

Loc = tuple[int | str, ...]

#: What a field of the record may be called in the document, or (with "") be written beside.
_OTHER_SPELLINGS = {"class": ("latency_class",), "latency": ("latency_class",), "slo": ("",)}


class Place(NamedTuple):
    """A line and a column of a document, both from 1."""

    line: int
    column: int


def place_of(root: yaml.Node, loc: Loc) -> Place:
    """Return where the value at a path stands; the deepest part of the path that is there."""
    node, mark = root, root.start_mark
    for part in loc:
        found = _step(node, part)
        if found is None:
            continue
        key, node = found
        inline = not isinstance(node, yaml.CollectionNode) or node.flow_style
        mark = node.start_mark if inline or key is None else key.start_mark
    return Place(mark.line + 1, mark.column + 1)


def key_of(root: yaml.Node, loc: Loc) -> Place:
    """Return where the key at a path stands; where the value does, if it has no key."""
    parent, inside = root, True
    for part in loc[:-1]:
        found = _step(parent, part)
        inside = inside and found is not None
        parent = found[1] if found is not None else parent
    found = _step(parent, loc[-1]) if inside and loc else None
    if found is None or found[0] is None:
        return place_of(root, loc)
    mark = found[0].start_mark
    return Place(mark.line + 1, mark.column + 1)


def duplicates(root: yaml.Node) -> Iterator[tuple[Place, str]]:
    """Yield the place and name of every key that its mapping has already."""
    pending: list[yaml.Node] = [root]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias: looked at where it is first
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            pending.extend(value for _, value in node.value)
            yield from _duplicates_in(node)


def _duplicates_in(node: yaml.MappingNode) -> Iterator[tuple[Place, str]]:
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in keys:
            yield Place(key.start_mark.line + 1, key.start_mark.column + 1), key.value
        keys.add(key.value)


def _step(node: yaml.Node, part: int | str) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Return key and value of one part of a path, in any of its spellings."""
    if isinstance(node, yaml.SequenceNode):
        inside = isinstance(part, int) and part < len(node.value)
        return (None, node.value[part]) if inside else None
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for name in (str(part), *_OTHER_SPELLINGS.get(str(part), ())):
        for key, value in pairs:
            if isinstance(key, yaml.ScalarNode) and key.value == name:
                return key, value
    return None
