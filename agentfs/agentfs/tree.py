"""Operations on names: mkdir, remove, rename, copy, links, modes, times, attributes."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

from . import acl, branches, directories, journal, links, nodes, posix
from .directories import Place
from .errors import (
    AlreadyExists,
    HostChanged,
    InvalidArgument,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotEmpty,
    NotFound,
    PermissionDenied,
)
from .nodes import DIRECTORY, SYMLINK, Node, View
from .paths import OVERLAYS_PATH, from_stored, is_inside, split, to_stored


def mkdir(view: View, path: str, mode: int, parents: bool, exist_ok: bool) -> None:
    """Make a directory, and with `parents` the missing ones above it."""
    if parents:
        for above in missing_above(view, path):
            mkdir(view, above, nodes.DIRECTORY_MODE, False, True)
    place = directories.locate(view, path)
    if place.node is None:
        node_id = nodes.make_directory(view, mode & 0o7777)
        directories.set_entry(view, place.directory, place.name, node_id, True)
        journal.append(view, "mkdir", place.path, after=node_id)
    elif not exist_ok or place.node.kind != DIRECTORY:
        raise AlreadyExists(path)


def missing_above(view: View, path: str) -> list[str]:
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
    if node.kind == DIRECTORY and _has_overlays(view):
        _list_below(view, node)
    _drop(view, place, node)


def _has_overlays(view: View) -> bool:
    directory: Node | None = nodes.get(view.session, view.state.root)
    for name in OVERLAYS_PATH.split("/")[1:]:
        directory = directory and directories.lookup(view.session, directory, name)
    return directory is not None


def _list_below(view: View, node: Node) -> None:
    """Look into the directories of an overlay that go, so that what goes is what is there now.

    Else what the host gets there before the removal is applied would go as well, unseen.
    """
    waiting = [node]
    while waiting:
        with suppress(HostChanged, PermissionDenied):
            found = directories.scan(view.session, waiting.pop())
            waiting += [child for _, child in found if child.kind == DIRECTORY]


def rmdir(view: View, path: str) -> None:
    """Remove an empty directory."""
    place, node = _named(view, path)
    if node.kind != DIRECTORY:
        raise NotADirectory(path)
    if directories.listed(view.session, node).entries:
        raise NotEmpty(path)
    # Nothing is below, so that neither known directories nor hard links have to be gone through.
    acl.require_tree(view, place.path, "write")
    view.state.directories.pop(place.path, None)
    directories.drop_entry(view, place.directory, place.name)
    journal.append(view, "rmdir", place.path, before=node.id)


def _named(view: View, path: str) -> tuple[Place, Node]:
    """Return a place that exists and is not the root, without following a final link."""
    place = directories.locate(view, path, follow=False, through=False)
    if place.node is None:
        raise NotFound(path)
    if not place.name:
        raise PermissionDenied(path, "the root directory stays")
    return place, place.node


def _drop(view: View, place: Place, node: Node) -> None:
    acl.require_tree(view, place.path, "write")
    kept = _keep_links(view, (place.path, node))
    if kept is not None:
        links.dropped(view, place.path)
    if node.kind == DIRECTORY:
        directories.forget_below(view, place.path)
    directories.drop_entry(view, place.directory, place.name)
    journal.append(view, "remove", place.path, before=node.id, detail=kept)


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
    _check_replaceable(view, node, new.node, target)
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


def _check_replaceable(view: View, node: Node, there: Node | None, target: str) -> None:
    if there is None:
        return
    if there.kind == DIRECTORY:
        if node.kind != DIRECTORY:
            raise IsADirectory(target)
        if directories.listed(view.session, there).entries:
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
    _check_replaceable(view, node, new.node, target)
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
    set_attributes(view, place, node, "chmod", mode & 0o7777, node.mtime_ns, node.xattrs)


def utime(
    view: View, path: str, mtime_ns: int | None, atime_ns: int | None = None, follow: bool = True
) -> None:
    """Set the times of last modification (None: now) and access (None: as the former)."""
    place, node = _existing(view, path, follow)
    when = time.time_ns() if mtime_ns is None else mtime_ns
    kept = None if atime_ns == when else atime_ns
    extra = posix.read(node.xattrs)._replace(atime_ns=kept)
    set_attributes(view, place, node, "utime", node.mode, when, posix.write(node.xattrs, extra))


def chown(view: View, path: str, uid: int | None, gid: int | None, follow: bool = True) -> None:
    """Set the owner and the group; None leaves one as it is, and whoever looks is stored as such.

    As everywhere, a program that runs as its owner loses that right.
    """
    place, node = _existing(view, path, follow)
    extra, mode = posix.read(node.xattrs), node.mode
    if uid is not None:
        uid = posix.checked_id(uid, path)
        extra = extra._replace(uid=None if uid == os.geteuid() else uid)
    if gid is not None:
        gid = posix.checked_id(gid, path)
        extra = extra._replace(gid=None if gid == os.getegid() else gid)
    if node.kind == nodes.FILE:
        mode = posix.without_set_id(mode)
    set_attributes(view, place, node, "chown", mode, node.mtime_ns, posix.write(node.xattrs, extra))


def mknod(view: View, path: str, mode: int, device: int) -> None:
    """Make an empty file, a FIFO, a socket or a device node, as the type bits of the mode say."""
    kind = posix.kind_of(mode, path)
    place = directories.locate(view, path, follow=False, through=False)
    if place.node is not None:
        raise AlreadyExists(path)
    extra = posix.NOTHING if kind == "file" else posix.Extra(special=kind, device=device)
    made = nodes.make_file(view, mode & 0o7777, 0, 0, b"", posix.write(None, extra))
    directories.set_entry(view, place.directory, place.name, made, True)
    journal.append(view, "mknod", place.path, after=made)


def _existing(view: View, path: str, follow: bool = True) -> tuple[Place, Node]:
    place = directories.locate(view, path, follow)
    if place.node is None:
        raise NotFound(path)
    return place, place.node


def set_attributes(
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
    shown = (each for each in _decode(node).items() if not each[0].startswith(posix.PREFIX))
    return {name: bytes.fromhex(value) for name, value in shown}


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
    if name.startswith(posix.PREFIX):
        raise InvalidArgument(path, f"attributes {posix.PREFIX}* are this library's own")
    _set_xattrs(view, place, node, "setxattr", _decode(node) | {name: value.hex()})


def removexattr(view: View, path: str, name: str) -> None:
    """Remove one extended attribute."""
    place, node = _existing(view, path)
    left = _decode(node)
    if name.startswith(posix.PREFIX) or left.pop(name, None) is None:
        raise NoAttribute(name, f"on {path!r}")
    _set_xattrs(view, place, node, "removexattr", left)


def _set_xattrs(
    view: View, place: Place, node: Node, operation: str, values: dict[str, str]
) -> None:
    text = nodes.dump_xattrs(values)
    set_attributes(view, place, node, operation, node.mode, node.mtime_ns, text)
