"""Which journal rows a trigger takes: those that changed something at or below its path."""

from __future__ import annotations

from agentfs import directories, nodes
from agentfs.errors import AgentFSError
from agentfs.nodes import DIRECTORY, LINK, Node
from agentfs.paths import LINKS_NAME, is_inside, is_system
from agentfs.transaction import Session
from agentfs.triggers.store import Trigger
from agentfs.types import JournalRow

# They name a node without changing any path, or change a time alone, which is no difference.
_NO_CHANGE = frozenset({"fork", "snapshot", "delete_branch", "utime"})
_OF_ITSELF = frozenset({"mkdir", "chmod", "utime", "setxattr", "removexattr"})
_TWO_PATHS = frozenset({"rename", "copy", "link"})


def matches(session: Session, trigger: Trigger, row: JournalRow) -> bool:
    """Say whether a trigger takes a row."""
    if row.branch != trigger.branch:
        return False
    if row.principal == trigger.own_principal and not trigger.recursive:
        return False
    if trigger.operations is not None:
        if row.operation not in trigger.operations:
            return False
    elif row.operation in _NO_CHANGE or (row.before is None and row.after is None):
        return False
    return _touches(session, trigger.path, row)


def _touches(session: Session, path: str, row: JournalRow) -> bool:
    """Say whether a row is about a path, what is below it, or a directory above it that changed."""
    named = [each for each in (row.path, row.path2) if each.startswith("/")]
    if not is_system(path):
        named = [each for each in named if not is_system(each)]
    if any(is_inside(each, path) for each in named):
        return True
    above = [each for each in named if is_inside(path, each)]
    if not above or row.operation in _OF_ITSELF:
        return False
    if row.operation in _TWO_PATHS or row.before is None or row.after is None:
        return True
    names = path[len(above[0]) :].strip("/").split("/")
    try:
        return _differs(session, row.before, row.after, names)
    except AgentFSError:
        return True


def _differs(session: Session, before: int, after: int, names: list[str]) -> bool:
    """Say whether two states of a directory differ below some names; shared nodes are equal."""
    old, new = nodes.get(session, before), nodes.get(session, after)
    if _below(session, old, names) != _below(session, new, names):
        return True
    # The content of hard-linked files is in an area of its own.
    return _below(session, old, [LINKS_NAME]) != _below(session, new, [LINKS_NAME])


def _below(session: Session, node: Node, names: list[str]) -> int | None:
    for name in names:
        found = directories.lookup(session, node, name) if node.kind == DIRECTORY else None
        if found is None:
            return None
        node = found
    return -node.id if node.kind == LINK else node.id
