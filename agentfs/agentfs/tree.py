"""Operations on names: mkdir, remove, rename, copy, links, modes, times, attributes."""

from __future__ import annotations

import json
import time
from typing import Any

from . import acl, branches, directories, journal, links, nodes
from .directories import Place
from .errors import (
    AlreadyExists,
    InvalidArgument,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotEmpty,
    NotFound,
    PermissionDenied,
)
from .nodes import DIRECTORY, SYMLINK, Node, View
from .paths import from_stored, is_inside, split, to_stored


def mkdir(view: View, path: str, mode: int, parents: bool, exist_ok: bool) -> None:
    """Make a directory, and with `parents` the missing ones above it."""
    if parents:
        for above in _missing_above(view, path):
            mkdir(view, above, nodes.DIRECTORY_MODE, False, True)
    place = directories.locate(view, path)
    if place.node is None:
        node_id = nodes.make_directory(view, mode & 0o7777)
        directories.set_entry(view, place.directory, place.name, node_id, True)
        journal.append(view, "mkdir", place.path, after=node_id)
    elif not exist_ok or place.node.kind != DIRECTORY:
        raise AlreadyExists(path)


def _missing_above(view: View, path: str) -> list[str]:
    """Return the parents of a path that do not exist, outermost first."""
    missing: list[str] = []
    above = split(path)[0]
    while above != "/" and not _exists(view, above):
        missing.append(above)
        above = split(above)[0]
    return missing[::-1]


def _exists(view: View, path: str) -> bool:
    try:
        return directories.locate(view, path).node is not None
    except NotFound:
        return False


def remove(view: View, path: str, recursive: bool) -> None:
    """Remove a file or link, or with `recursive` a directory and all below it."""
    place, node = _named(view, path)
    if node.kind == DIRECTORY and not recursive:
        raise IsADirectory(path, "remove it with recursive=True, or use rmdir")
    _drop(view, place, node, "remove")


def rmdir(view: View, path: str) -> None:
    """Remove an empty directory."""
    place, node = _named(view, path)
    if node.kind != DIRECTORY:
        raise NotADirectory(path)
    if node.entries:
        raise NotEmpty(path)
    _drop(view, place, node, "rmdir")


def _named(view: View, path: str) -> tuple[Place, Node]:
    """Return a place that exists and is not the root, without following a final link."""
    place = directories.locate(view, path, follow=False, through=False)
    if place.node is None:
        raise NotFound(path)
    if not place.name:
        raise PermissionDenied(path, "the root directory stays")
    return place, place.node


def _drop(view: View, place: Place, node: Node, operation: str) -> None:
    acl.require_tree(view, place.path, "write")
    kept = _keep_links(view, (place.path, node))
    if kept is not None:
        links.dropped(view, place.path)
    if node.kind == DIRECTORY:
        directories.forget_below(view, place.path)
    directories.drop_entry(view, place.directory, place.name)
    journal.append(view, operation, place.path, before=node.id, detail=kept)


def _keep_links(view: View, *places: tuple[str, Node | None]) -> dict[str, Any] | None:
    """Keep the link area for time travel when one of some paths has a hard link."""
    if not any(links.any_at(view, path, node) for path, node in places):
        return None
    branches.bump(view.session, view.state.name)
    return links.state(view)


def link(view: View, source: str, target: str) -> None:
    """Give a file one more name: a hard link."""
    branches.bump(view.session, view.state.name)
    links.link(view, source, target)


def rename(view: View, source: str, target: str) -> None:
    """Move a name atomically, replacing a file, a link or an empty directory."""
    old, node = _named(view, source)
    new = directories.locate(view, target, follow=False, through=False)
    if not new.name:
        raise PermissionDenied(target, "the root directory stays")
    if old.path == new.path or links.same_file(view, node, new.node):
        return
    if is_inside(new.path, old.path):
        raise InvalidArgument(source, "a directory cannot move into itself")
    _check_replaceable(node, new.node, target)
    for place in (old, new):
        acl.require_tree(view, place.path, "write")
        directories.forget_below(view, place.path)
    kept = _keep_links(view, (old.path, node), (new.path, new.node))
    if kept is not None:
        links.release(view, new.node)
        links.moved(view, old.path, new.path)
    directories.drop_entry(view, old.directory, old.name)
    directories.set_entry(view, new.directory, new.name, node.id, new.node is None)
    before = new.node.id if new.node else None
    journal.append(view, "rename", old.path, new.path, before, node.id, kept)


def _check_replaceable(node: Node, there: Node | None, target: str) -> None:
    if there is None:
        return
    if there.kind == DIRECTORY:
        if node.kind != DIRECTORY:
            raise IsADirectory(target)
        if there.entries:
            raise NotEmpty(target)
    elif node.kind == DIRECTORY:
        raise NotADirectory(target)


def copy(view: View, source: str, target: str) -> None:
    """Copy a file or a whole directory by sharing its node; the copies diverge on write."""
    old, new = directories.locate(view, source), directories.locate(view, target)
    node = old.node
    if node is None:
        raise NotFound(source)
    if not new.name:
        raise PermissionDenied(target, "the root directory stays")
    if old.path == new.path:
        return
    if node.kind == DIRECTORY and is_inside(new.path, old.path):
        raise InvalidArgument(source, "a directory cannot be copied into itself")
    _check_replaceable(node, new.node, target)
    acl.require_tree(view, old.path, "read")
    acl.require_tree(view, new.path, "write")
    kept = _keep_links(view, (old.path, node))
    if node.kind == DIRECTORY:
        # From here on neither of the two places may change the node, or one below it, in place.
        if node.generation == view.state.generation:
            branches.bump(view.session, view.state.name)
        directories.forget_below(view, new.path)
    directories.set_entry(view, new.directory, new.name, node.id, new.node is None)
    if kept is not None:
        links.adopt(view, view, old.path, new.path)
    before = new.node.id if new.node else None
    journal.append(view, "copy", old.path, new.path, before, node.id, kept)


def symlink(view: View, target: str, path: str) -> None:
    """Make a symbolic link; the target need not exist."""
    place = directories.locate(view, path, follow=False)
    if place.node is not None:
        raise AlreadyExists(path)
    stored = to_stored(target)
    raw = stored.encode() if isinstance(stored, str) else stored
    if not raw or b"\0" in raw or len(raw) > 4096:
        raise InvalidArgument(path, "a link's target has 1 to 4096 bytes and no NUL")
    node_id = nodes.make_symlink(view, raw)
    directories.set_entry(view, place.directory, place.name, node_id, True)
    journal.append(view, "symlink", place.path, after=node_id)


def readlink(view: View, path: str) -> str:
    """Return the target of a symbolic link as it was given."""
    node = directories.find(view, path, follow=False)
    if node.kind != SYMLINK:
        raise InvalidArgument(path, "it is not a symbolic link")
    return from_stored(nodes.data(view.session, node.id))


def chmod(view: View, path: str, mode: int) -> None:
    """Set the permission bits."""
    place, node = _existing(view, path)
    _set(view, place, node, "chmod", mode & 0o7777, node.mtime_ns, node.xattrs)


def utime(view: View, path: str, mtime_ns: int | None) -> None:
    """Set the time of last modification; None means now."""
    place, node = _existing(view, path)
    when = time.time_ns() if mtime_ns is None else mtime_ns
    _set(view, place, node, "utime", node.mode, when, node.xattrs)


def _existing(view: View, path: str) -> tuple[Place, Node]:
    place = directories.locate(view, path)
    if place.node is None:
        raise NotFound(path)
    return place, place.node


def _set(
    view: View, place: Place, node: Node, operation: str, mode: int, mtime_ns: int,
    xattrs: str | None,
) -> None:  # fmt: skip
    """Change attributes: of an owned directory in place, else as a new version."""
    acl.require_write(view, place.path)
    was: dict[str, Any] | None = None
    if node.kind == DIRECTORY:
        directory = directories.resolve(view, place.path)
        directories.own(view, directory)
        nodes.set_directory(view, directory.id, mode, mtime_ns, xattrs)
        made = directory.id
        # In place nothing else keeps them, and time travel needs them.
        was = {"was": {"mode": node.mode, "mtime_ns": node.mtime_ns, "xattrs": node.xattrs}}
    else:
        made = nodes.remake(view, node, mode, mtime_ns, xattrs)
        directories.set_entry(view, place.directory, place.name, made, False)
    journal.append(view, operation, place.path, before=node.id, after=made, detail=was)


def xattrs(view: View, path: str) -> dict[str, bytes]:
    """Return the extended attributes at a path."""
    node = directories.find(view, path)
    return {name: bytes.fromhex(value) for name, value in _decode(node).items()}


def _decode(node: Node) -> dict[str, str]:
    return json.loads(node.xattrs) if node.xattrs else {}


def getxattr(view: View, path: str, name: str) -> bytes:
    """Return one extended attribute."""
    found = xattrs(view, path).get(name)
    if found is None:
        raise NoAttribute(name, f"on {path!r}")
    return found


def setxattr(view: View, path: str, name: str, value: bytes) -> None:
    """Set one extended attribute."""
    place, node = _existing(view, path)
    if not name or len(name.encode("utf-8", "replace")) > 255 or "\0" in name:
        raise InvalidArgument(path, "an attribute's name has 1 to 255 bytes and no NUL")
    _set_xattrs(view, place, node, "setxattr", _decode(node) | {name: value.hex()})


def removexattr(view: View, path: str, name: str) -> None:
    """Remove one extended attribute."""
    place, node = _existing(view, path)
    left = _decode(node)
    if left.pop(name, None) is None:
        raise NoAttribute(name, f"on {path!r}")
    _set_xattrs(view, place, node, "removexattr", left)


def _set_xattrs(
    view: View, place: Place, node: Node, operation: str, values: dict[str, str]
) -> None:
    text = nodes.dump_xattrs(values)
    _set(view, place, node, operation, node.mode, node.mtime_ns, text)
