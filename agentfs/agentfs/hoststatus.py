"""What the host changed below an overlay since a branch saw it, and taking that over.

Only what was looked at is compared: a directory that nobody has listed yet has no base to differ
from. Taking over moves the base, and the branch too where it has what the base had.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from . import diff, directories, hostguard, journal, listing, nodes, overlay, tree
from .connection import one
from .directories import Place
from .hostfiles import HostEntry, Identity
from .hostwrite import HostTree
from .nodes import DIRECTORY, ON_HOST, Node, View
from .paths import SYSTEM_NAME, VOLUME_SUFFIXES, is_inside, join, to_stored
from .transaction import Session
from .types import ChangeKind, HostChange, Overlay

_IDENTITY = "SELECT identity FROM overlay WHERE id = ?"
_FORGET = "DELETE FROM overlay_file WHERE overlay = ? AND path = ?"
# Paths that are not UTF-8 are stored as BLOB, which sorts after all text.
_FORGET_BELOW = (
    "DELETE FROM overlay_file WHERE overlay = :overlay AND path >= :below AND path < :next",
    "DELETE FROM overlay_file WHERE overlay = :overlay"
    " AND path >= CAST(:below AS BLOB) AND path < CAST(:next AS BLOB)",
)


class Found(NamedTuple):
    """One name that differs; `info` is what the host has there, or None."""

    path: str
    kind: ChangeKind
    base: Node | None
    info: os.stat_result | None


def opened(view: View, over: Overlay) -> HostTree:
    """Open the host directory of an overlay for comparing."""
    row = one(view.session.execute(_IDENTITY, (over.id,)), f"overlay {over.id}")
    return HostTree(over.host, Identity(*json.loads(row[0])), lock=False)


def status(view: View, at: str | None) -> list[HostChange]:
    """Return what the host changed below an overlay, sorted by path of the volume.

    Raises:
        HostChanged: the host directory itself is gone or another one.
    """
    over = overlay.require(view, at)
    with opened(view, over) as host:
        found = list(_differing(view, host, over))
    changes = [HostChange(_inside(over, each.path), each.kind) for each in found]
    return sorted(changes, key=lambda each: each.path)


def _inside(over: Overlay, path: str) -> str:
    return join(over.at, path) if path else over.at


def _differing(view: View, host: HostTree, over: Overlay) -> Iterator[Found]:
    """Yield the names that differ; what is below a name that came or went is not listed."""
    own = {os.path.realpath(view.session.path + each) for each in VOLUME_SUFFIXES}
    root = nodes.get(view.session, overlay.base_of(view, over).id)
    if (found := _compare(view, host, over, "", root)) is not None:
        yield found
    waiting = [("", root)]
    while waiting:
        here, directory = waiting.pop()
        if directory.layout == ON_HOST:
            continue
        try:
            there = {
                each for each in host.names(here)
                if (here or each != SYSTEM_NAME) and os.path.join(over.host, here, each) not in own
            }  # fmt: skip
        except (PermissionError, FileNotFoundError):
            continue  # what is in it cannot be compared, or it went just now
        base = dict(directories.scan(view.session, directory))
        for name in sorted(base.keys() | there):
            path = f"{here}/{name}" if here else name
            found = _compare(view, host, over, path, base.get(name))
            if found is not None:
                yield found
            if name in base and base[name].kind == DIRECTORY and _is_kept(found):
                waiting.append((path, base[name]))


def _is_kept(found: Found | None) -> bool:
    """Say whether both sides have a directory, which may differ in its mode."""
    return found is None or found.kind == "mode"


def _compare(
    view: View, host: HostTree, over: Overlay, path: str, base: Node | None
) -> Found | None:
    info = host.look(path)
    kind = None if info is None else hostguard.kind_of(info)
    if base is None:
        return Found(path, "added", None, info) if kind is not None else None
    if info is None:
        return Found(path, "removed", base, None)
    if not hostguard.same_kind(info, base):
        return Found(path, "type" if kind else "removed", base, info if kind else None)
    try:
        if not hostguard.changed(view.session, host, over.id, path, base):
            return None
        is_mode = base.kind != nodes.SYMLINK and hostguard.only_mode(view.session, host, path, base)
    except PermissionError:
        is_mode = False  # it has another time, and its content cannot be compared
    return Found(path, "mode" if is_mode else "modified", base, info)


def refresh(
    view: View, at: str | None, paths: Sequence[str] | None, keep_ours: bool
) -> tuple[list[HostChange], list[HostChange]]:
    """Take over what the host changed; return what was taken, and what the branch changed as well.

    Those are left alone, or with `keep_ours` the base moves and the branch keeps its own, so that
    applying it replaces what the host has now.

    Raises:
        HostChanged: the host directory itself is gone or another one.
    """
    over = overlay.require(view, at)
    wanted = None if paths is None else [overlay.resolve(over, each) for each in paths]
    taken: list[HostChange] = []
    disputed: list[HostChange] = []
    with opened(view, over) as host:
        for found in list(_differing(view, host, over)):
            change = HostChange(_inside(over, found.path), found.kind)
            if wanted is not None and not any(is_inside(change.path, each) for each in wanted):
                continue
            ours = _locate(view, change.path)
            untouched = _is_untouched(view, found, ours)
            if not untouched and not keep_ours:
                disputed.append(change)
                continue
            _take(view, host, over, found, ours if untouched else None)
            taken.append(change)
    view.session.forget()
    if taken:
        detail = {"host": over.host, "taken": len(taken), "disputed": len(disputed)}
        journal.append(view, "overlay.refresh", over.at, detail=detail)
    return taken, disputed


def _is_untouched(view: View, found: Found, ours: Place | None) -> bool:
    """Say whether the branch still has what the base has, in what the host changed."""
    node, base = ours.node if ours else None, found.base
    if node is None or base is None or node.id == base.id:
        return node is base or (node is not None and base is not None)
    if node.kind != DIRECTORY or base.kind != DIRECTORY:
        return False
    if found.kind == "mode":
        return node.mode == base.mode
    return diff.same_state(view.session, base, node)


def _locate(view: View, path: str) -> Place | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        return directories.locate(view, path, follow=False, through=False)
    return None


def _take(view: View, host: HostTree, over: Overlay, found: Found, ours: Place | None) -> None:
    """Let the base, and the branch where its place is given, have what the host has."""
    inner, path = overlay.inner_view(view), overlay.base_path(over)
    below = join(path, found.path) if found.path else path
    base = directories.locate(inner, below, follow=False, through=False)
    is_directory = found.base is not None and found.base.kind == DIRECTORY
    if is_directory and found.kind == "mode":
        _take_mode(((base, inner), (ours, view)), found)
        return
    made = _made(view.session, host, over, found)
    _forget(view.session, over, found.path, is_directory)
    for place, system in ((base, inner), (ours, view)):
        if place is None:
            continue
        if place.node is not None and place.node.kind == DIRECTORY:
            directories.forget_below(system, place.path)
        if made is not None:
            directories.set_entry(system, place.directory, place.name, made, place.node is None)
        elif place.node is not None:
            directories.drop_entry(system, place.directory, place.name)
        before = place.node.id if place.node else None
        journal.append(system, "refresh", place.path, "", before, made)


def _made(session: Session, host: HostTree, over: Overlay, found: Found) -> int | None:
    """Write the node of what the host has, if it has anything."""
    if found.info is None:
        return None
    is_link = hostguard.kind_of(found.info) == "symlink"
    target = host.target(found.path) if is_link else None
    entry = HostEntry(found.path.rpartition("/")[2], found.info, target)
    return listing.add(session, over.id, found.path, entry)


def _take_mode(places: Sequence[tuple[Place | None, View]], found: Found) -> None:
    """Give a directory the mode that it has on the host; what is in it stays."""
    assert found.info is not None
    mode = stat.S_IMODE(found.info.st_mode)
    for place, system in places:
        if place is not None and place.node is not None:
            node = place.node
            tree.set_attributes(system, place, node, "refresh", mode, node.mtime_ns, node.xattrs)


def _forget(session: Session, over: Overlay, path: str, is_directory: bool) -> None:
    """Drop the hashes of what is not there any more."""
    session.execute(_FORGET, (over.id, to_stored(path)))
    if is_directory:
        bounds = {"overlay": over.id, "below": to_stored(path + "/"), "next": to_stored(path + "0")}
        for each in _FORGET_BELOW:
            session.execute(each, bounds)
