"""The files that the kernel knows: their numbers, their names, and what was last seen of them.

The kernel asks by number. A number stays with a file when it, or a directory above it, is renamed,
and all names of a hard-linked file share one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from agentfs import posix
from agentfs.nodes import DIRECTORY, SYMLINK, Node
from agentfs.paths import join
from agentfs.posix import TYPES, Extra

from .protocol import ROOT_ID

if TYPE_CHECKING:
    from .content import Content
    from .listing import Listing

_S_IFREG, _S_IFDIR, _S_IFLNK = TYPES["file"], TYPES["directory"], TYPES["symlink"]


class Found(NamedTuple):
    """What a name leads to: a node, how many names it has, and the number of a hard link."""

    node: Node
    names: int = 1
    link: str = ""


class Inode:
    """One file, directory or link; `names` holds each parent and name that leads to it."""

    __slots__ = (
        "children", "content", "extra", "found", "ino", "kept", "link", "listings", "lookups",
        "missing", "names", "number", "path", "subdirectories", "type_bits", "users",
    )  # fmt: skip

    def __init__(self, number: int, ino: int, found: Found) -> None:
        """Begin without a name."""
        self.number = number
        self.ino = ino
        self.names: dict[tuple[Inode, str], None] = {}
        self.children: dict[str, Inode] = {}
        # Names of which the kernel keeps that they lead to nothing.
        self.missing: set[str] = set()
        self.lookups = 0
        # How many open files and directories the kernel holds.
        self.users = 0
        self.content: Content | None = None
        self.listings: list[Listing] = []
        # The version that the kernel's cached pages come from.
        self.kept = 0
        self.subdirectories: int | None = None
        # A directory's path, and the count of moves at which that was true.
        self.path: tuple[int, str] | None = None
        self.see(found)

    def see(self, found: Found) -> None:
        """Take over what is stored now."""
        self.found: Found | None = found
        self.link = found.link
        node = found.node
        self.extra: Extra = posix.NOTHING if node.xattrs is None else posix.read(node.xattrs)
        self.type_bits = type_bits_of(node, self.extra)

    @property
    def is_needed(self) -> bool:
        """Say whether the kernel, an open file or something below may still ask for it."""
        return bool(self.lookups or self.children or self.users or self.content is not None)

    @property
    def is_directory(self) -> bool:
        """Say whether this is a directory."""
        return self.type_bits == _S_IFDIR

    @property
    def is_file(self) -> bool:
        """Say whether this is an ordinary file."""
        return self.type_bits == _S_IFREG


def type_bits_of(node: Node, extra: Extra = posix.NOTHING) -> int:
    """Return the type bits of a mode for a node."""
    if node.kind == DIRECTORY:
        return _S_IFDIR
    if node.kind == SYMLINK:
        return _S_IFLNK
    return TYPES[extra.special] if extra.special else _S_IFREG


class Table:
    """All inodes that the kernel may ask for, below one directory of the volume."""

    def __init__(self, path: str, root: Found) -> None:
        """Begin with the root, which is never forgotten."""
        self.path = path
        self._next = ROOT_ID + 1
        self._moves = 0
        self._inos: dict[int, Inode] = {}
        self._links: dict[str, Inode] = {}
        self.root = Inode(ROOT_ID, ROOT_ID, root)
        self.inodes: dict[int, Inode] = {ROOT_ID: self.root}
        self._inos[ROOT_ID] = self.root

    def path_of(self, inode: Inode) -> str | None:
        """Return one path of an inode in the volume, or None when no name leads to it any more."""
        waiting: list[tuple[Inode, str]] = []
        while inode is not self.root and (inode.path is None or inode.path[0] != self._moves):
            place = next(iter(inode.names), None)
            if place is None:
                return None
            waiting.append((inode, place[1]))
            inode = place[0]
        path = self.path if inode.path is None else inode.path[1]
        for each, name in reversed(waiting):
            path = join(path, name)
            if each.is_directory:
                each.path = (self._moves, path)
        return path

    def child_path(self, parent: Inode, name: str) -> str | None:
        """Return the path of a name in a directory, or None when that was removed."""
        above = self.path_of(parent)
        return None if above is None else join(above, name)

    def by_path(self, path: str) -> Inode | None:
        """Return the inode at a path of the volume, if the kernel may know it."""
        if path == self.path:
            return self.root
        prefix = "/" if self.path == "/" else self.path + "/"
        if not path.startswith(prefix):
            return None
        inode = self.root
        for name in path[len(prefix) :].split("/"):
            found = inode.children.get(name)
            if found is None:
                return None
            inode = found
        return inode

    def enter(self, parent: Inode, name: str, found: Found) -> Inode:
        """Return the inode of a name that was looked up, known or new."""
        inode = parent.children.get(name)
        if inode is not None and self.is_same(inode, found):
            inode.see(found)
            return inode
        if inode is not None:
            self.detach(parent, name)
        inode = self._by_link(found.link)
        if inode is not None:
            inode.see(found)
        else:
            inode = self._make(parent, name, found)
        self.attach(inode, parent, name)
        return inode

    def _by_link(self, link: str) -> Inode | None:
        """Return the inode of a hard-linked file, unless it is forgotten or was replaced."""
        inode = self._links.get(link) if link else None
        if inode is None or inode.link != link or self.inodes.get(inode.number) is not inode:
            return None
        return inode

    def is_same(self, inode: Inode, found: Found) -> bool:
        """Say whether what is stored under a name is still the same file."""
        if inode.link != found.link and (inode.link or len(inode.names) != 1):
            return False
        extra = posix.NOTHING if found.node.xattrs is None else posix.read(found.node.xattrs)
        if inode.type_bits != type_bits_of(found.node, extra):
            return False
        if found.link and not inode.link:
            if self._by_link(found.link) is not None:
                return False
            self._links[found.link] = inode
        return True

    def _make(self, parent: Inode, name: str, found: Found) -> Inode:
        key = f"/links/{found.link}" if found.link else self.child_path(parent, name) or name
        number, self._next = self._next, self._next + 1
        inode = Inode(number, self._ino(key, number), found)
        self.inodes[number] = inode
        self._inos[inode.ino] = inode
        if found.link:
            self._links[found.link] = inode
        return inode

    def _ino(self, key: str, number: int) -> int:
        """Return a free number that another mount would most likely give too."""
        ino = _hashed(key)
        return ino if ino not in self._inos else 1 << 52 | number

    def likely_ino(self, parent: Inode, name: str) -> int:
        """Return the number that a name gets when it is looked up."""
        return _hashed(self.child_path(parent, name) or name)

    def linked(self, inode: Inode, link: str) -> None:
        """Note that a file has become a hard link with a number."""
        inode.link = link
        self._links[link] = inode

    def attach(self, inode: Inode, parent: Inode, name: str) -> None:
        """Let a name lead to an inode."""
        if inode.is_directory:
            self._moves += bool(inode.children)
            inode.path = None
        parent.children[name] = inode
        parent.missing.discard(name)
        inode.names[parent, name] = None

    def detach(self, parent: Inode, name: str) -> Inode | None:
        """Take a name away and return the inode that it led to."""
        inode = parent.children.pop(name, None)
        if inode is not None:
            inode.names.pop((parent, name), None)
            inode.path = None
            self._moves += bool(inode.children)
            self.drop_if_unused(inode)
        return inode

    def forget(self, number: int, count: int) -> None:
        """Let the kernel's references go."""
        inode = self.inodes.get(number)
        if inode is not None and inode is not self.root:
            inode.lookups = max(inode.lookups - count, 0)
            self.drop_if_unused(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        """Forget an inode, and what is above it, when neither kernel nor children need it."""
        waiting = [inode]
        while waiting:
            each = waiting.pop()
            if each is self.root or each.is_needed:
                continue
            self.inodes.pop(each.number, None)
            if self._inos.get(each.ino) is each:
                del self._inos[each.ino]
            if each.link and self._links.get(each.link) is each:
                del self._links[each.link]
            for parent, name in each.names:
                if parent.children.get(name) is each:
                    del parent.children[name]
                waiting.append(parent)
            each.names.clear()


def _hashed(key: str) -> int:
    raw = key.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(raw, digest_size=6).digest(), "little") | 1 << 48
