"""Brings what another tree changed since a common state into a branch, path by path.

Walks only what the other tree changed. Each path has up to three parts that merge on their own:
content, mode and extended attributes.
"""

from __future__ import annotations

import json
import os
from typing import Literal, TypeVar

from . import diff, directories, files, nodes, posix, textmerge
from .directories import LINKED_FILE, Directory
from .lineage import FILES, SYSTEM
from .nodes import DIRECTORY, FILE, Node, View
from .paths import LINKS_PATH, SYSTEM_NAME, SYSTEM_PATH, join
from .types import Conflict, ConflictKind

Choice = Literal["fail", "ours", "theirs", "neither"]
"""What a path in conflict becomes: ours (also with "fail"), theirs, or what neither side has."""

# The part of the system area that every handle reaches, through calls of its own.
_OPEN_PARTS = ("kv", "overlays")
_NO_MODE = -1
_NO_XATTR = "?"
_Part = TypeVar("_Part", Node, int, str, None)


def area_of(path: str) -> int:
    """Return the area that a path belongs to; `/.fmos` itself counts as system."""
    names = path.split("/", 3)
    return SYSTEM if names[1] == SYSTEM_NAME and "".join(names[2:3]) not in _OPEN_PARTS else FILES


class TreeMerge:
    """One merge in a write transaction; changes the view's tree as it walks."""

    def __init__(self, view: View, choice: Choice) -> None:
        """Begin with no conflicts."""
        self.view = view
        self.session = view.session
        self.choice: Choice = choice
        self.conflicts: list[Conflict] = []
        self._area = FILES
        self._waiting: list[tuple[Directory, Node | None, Node | None]] = []

    def bring(self, base: Node | None, theirs: Node, area: int) -> None:
        """Bring in what the other tree changed in one area since the base."""
        self._area = area
        self._waiting.append((directories.root(self.view), base, theirs))
        while self._waiting:
            self._directory(*self._waiting.pop())

    def _directory(self, ours: Directory, base: Node | None, theirs: Node | None) -> None:
        """Bring into one directory what the other side changed since the base."""
        mine = nodes.get(self.session, ours.id)
        if theirs is not None:
            if theirs.id == mine.id or (base is not None and theirs.id == base.id):
                return
            if area_of(ours.path) == self._area:
                self._directory_attributes(ours, base, mine, theirs)
        is_split = ours.path in ("/", SYSTEM_PATH)
        for name, (old, new) in diff.differing(self.session, base, theirs).items():
            path = join(ours.path, name)
            if path in (SYSTEM_PATH, LINKS_PATH):
                self._into(ours, name, self._directory_node(old), self._directory_node(new))
            elif not is_split or area_of(path) == self._area:
                self._name(ours, name, old, new)

    def _directory_attributes(
        self, ours: Directory, base: Node | None, mine: Node, theirs: Node
    ) -> None:
        mode, xattrs = self._attributes(ours.path, base, mine, theirs)
        if (mode, xattrs) != (mine.mode, mine.xattrs):
            directories.own(self.view, ours)
            nodes.set_directory(self.view, ours.id, mode, mine.mtime_ns, xattrs)

    def _into(self, root: Directory, name: str, base: Node | None, theirs: Node | None) -> None:
        """Go into `/.fmos` or the link area, which are never taken or removed as a whole."""
        path = join(root.path, name)
        changed = diff.differing(self.session, base, theirs)
        if all(area_of(join(path, each)) != self._area for each in changed):
            return
        mine = directories.lookup(self.session, root, name)
        if mine is None:
            made = nodes.make_directory(self.view, nodes.DIRECTORY_MODE)
            directories.set_entry(self.view, root, name, made, True)
        elif mine.kind != DIRECTORY:
            return
        self._waiting.append((directories.resolve(self.view, path), base, theirs))

    def _name(self, parent: Directory, name: str, base: int | None, theirs: int | None) -> None:
        mine = directories.lookup(self.session, parent, name)
        ours = mine.id if mine else None
        if ours == theirs:
            return
        if ours == base:
            self._take(parent, name, ours, theirs)
            return
        base_node, their_node = self._node(base), self._node(theirs)
        if mine is not None and their_node is not None and mine.kind == their_node.kind:
            if base_node is not None and base_node.kind != mine.kind:
                base_node = None
            self._both_changed(parent, name, base_node, mine, their_node)
        else:
            self._one_kind_gone(parent, name, base_node, mine, their_node)

    def _both_changed(
        self, parent: Directory, name: str, base: Node | None, mine: Node, theirs: Node
    ) -> None:
        """Merge two nodes of a kind; a base of another kind does not count."""
        path = join(parent.path, name)
        if mine.kind == DIRECTORY:
            self._waiting.append((directories.resolve(self.view, path), base, theirs))
            return
        content = self._content(path, base, mine, theirs)
        mode, xattrs = self._attributes(path, base, mine, theirs)
        if isinstance(content, bytes):
            made = self._make_file(content, mode, xattrs)
        elif (mode, xattrs) == (content.mode, content.xattrs):
            made = content.id
        else:
            made = nodes.remake(self.view, content, mode, content.mtime_ns, xattrs)
        if made != mine.id:
            self._take(parent, name, mine.id, made)

    def _make_file(self, content: bytes, mode: int, xattrs: str | None) -> int:
        layout, stored = files.store(self.view, content)
        return nodes.make_file(self.view, mode, len(content), layout, stored, xattrs)

    def _content(self, path: str, base: Node | None, mine: Node, theirs: Node) -> Node | bytes:
        """Return the version with the content that the result has, or that content."""
        session = self.session
        if diff.same_bytes(session, mine, theirs):
            return mine
        if base is not None:
            if diff.same_bytes(session, base, theirs):
                return mine
            if diff.same_bytes(session, base, mine):
                return theirs
            merged = self._lines(base, mine, theirs) if base.kind == FILE else None
            if merged is not None:
                return merged
        self._conflict(path, "content" if base else "add/add", base, mine, theirs)
        return _unlike_any() if self.choice == "neither" else self._chosen(mine, theirs, mine)

    def _lines(self, *versions: Node) -> bytes | None:
        if any(each.size > textmerge.MAX_BYTES for each in versions):
            return None
        return textmerge.merge(*(files.content(self.view, each) for each in versions))

    def _attributes(
        self, path: str, base: Node | None, mine: Node, theirs: Node
    ) -> tuple[int, str | None]:
        """Return the mode and the extended attributes that the result has."""
        old_mode, old_xattrs = (base.mode, base.xattrs) if base else (None, None)
        mode, disputed = self._part(old_mode, mine.mode, theirs.mode, _NO_MODE)
        if disputed:
            self._conflict(path, "mode", base, mine, theirs)
        xattrs = mine.xattrs
        if xattrs != theirs.xattrs:
            xattrs, disputed = self._xattrs(old_xattrs, xattrs, theirs.xattrs)
            if disputed:
                self._conflict(path, "xattrs", base, mine, theirs)
        return mode, xattrs

    def _part(
        self, base: _Part | None, ours: _Part, theirs: _Part, neither: _Part
    ) -> tuple[_Part, bool]:
        """Return the value of a part, and whether both sides changed it."""
        if ours == theirs or theirs == base:
            return ours, False
        if ours == base:
            return theirs, False
        return self._chosen(ours, theirs, neither), True

    def _chosen(self, ours: _Part, theirs: _Part, neither: _Part) -> _Part:
        return {"theirs": theirs, "neither": neither}.get(self.choice, ours)

    def _xattrs(
        self, base: str | None, ours: str | None, theirs: str | None
    ) -> tuple[str | None, bool]:
        """Merge extended attributes, each on its own."""
        old, mine, new = (json.loads(each) if each else {} for each in (base, ours, theirs))
        result: dict[str, str] = {}
        any_disputed = False
        for name in old | mine | new:
            parts = (old.get(name), mine.get(name), new.get(name))
            value, disputed = self._part(*parts, _NO_XATTR)
            any_disputed |= disputed and name != posix.ATIME
            if value is not None:
                result[name] = value
        return nodes.dump_xattrs(result), any_disputed

    def _one_kind_gone(
        self, parent: Directory, name: str, base: Node | None, mine: Node | None,
        theirs: Node | None,
    ) -> None:  # fmt: skip
        """Merge a name that one side removed, or made another kind of."""
        if diff.same_state(self.session, base, theirs):
            return
        ours_id, theirs_id = mine.id if mine else None, theirs.id if theirs else None
        if diff.same_state(self.session, base, mine):
            self._take(parent, name, ours_id, theirs_id)
            return
        if parent.path == LINKS_PATH and self._keep_new_names(parent, name, base, mine, theirs):
            return
        kind: ConflictKind = "type" if mine and theirs else "delete/modify"
        self._conflict(join(parent.path, name), kind, base, mine, theirs)
        if self.choice == "theirs":
            self._take(parent, name, ours_id, theirs_id)
        elif self.choice == "neither":
            self._take(parent, name, ours_id, self._make_file(_unlike_any(), _NO_MODE, None))

    def _keep_new_names(
        self, area: Directory, number: str, base: Node | None, mine: Node | None,
        theirs: Node | None,
    ) -> bool:  # fmt: skip
        """Leave a hard-linked file its new names only, where the other side removed all it had.

        Not if its content changed: then say no, and it is a conflict.
        """
        rest = mine or theirs
        if base is None or rest is None:
            return False
        new = diff.differing(self.session, base, rest)
        if LINKED_FILE in new:
            return False
        home = nodes.make_directory(self.view, rest.mode)
        self._take(area, number, mine.id if mine else None, home)
        directory = directories.resolve(self.view, join(area.path, number))
        file = directories.lookup(self.session, rest, LINKED_FILE)
        names = {LINKED_FILE: file.id if file else None} | {
            name: now for name, (was, now) in new.items() if was is None
        }
        for name, node in names.items():
            if node is not None:
                directories.set_entry(self.view, directory, name, node, True)
        return True

    def _conflict(
        self, path: str, kind: ConflictKind, base: Node | None, mine: Node | None,
        theirs: Node | None,
    ) -> None:  # fmt: skip
        ids = (each.id if each else None for each in (base, mine, theirs))
        self.conflicts.append(Conflict(path, kind, *ids))

    def _take(self, parent: Directory, name: str, ours: int | None, theirs: int | None) -> None:
        directories.forget_below(self.view, join(parent.path, name))
        if theirs is not None:
            directories.set_entry(self.view, parent, name, theirs, ours is None)
        else:
            directories.drop_entry(self.view, parent, name)

    def _node(self, node_id: int | None) -> Node | None:
        return None if node_id is None else nodes.get(self.session, node_id)

    def _directory_node(self, node_id: int | None) -> Node | None:
        node = self._node(node_id)
        return node if node is not None and node.kind == DIRECTORY else None


def _unlike_any() -> bytes:
    """Return bytes that no file has and that are never merged by line."""
    return b"\0" + os.urandom(16)
