"""Listing directories: large ones bucket by bucket, with or without attributes.

Opening a directory is not answered at all: the kernel then opens and closes directories itself, and
keeps their lists until names change or the watcher tells it. So a list belongs to a directory and
not to whoever has it open: whoever reads from its beginning begins it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agentfs import directories, links, nodes
from agentfs.nodes import DIRECTORY, LINK, Node, View
from agentfs.paths import LINKS_NAME, SYSTEM_NAME, join

from . import protocol
from .inodes import Found, Inode, type_bits_of
from .protocol import Op

if TYPE_CHECKING:
    from .server import Handler, Request
    from .state import State

_AT_ONCE = 4096
_DOTS = 2
_MOST_BEGUN = 256

Item = tuple[str, Node]
_DOT = Node(0, DIRECTORY, 0, 0, 0, 0, 0, 0, 0, 0, None)


class Listing:
    """The names of a directory as they were when it was last begun, read as far as was asked."""

    def __init__(self, state: State, inode: Inode) -> None:
        """Begin a listing of a directory."""
        self.state = state
        self.inode = inode
        # Whether the directory still has exactly these names.
        self.is_current = True
        self.items: list[Item] = []
        self._waiting: list[int] = []
        self.begin()

    def begin(self) -> None:
        """List from the beginning, with what is there now."""
        self.items, self._waiting, self.is_current = [], [], True
        path = self.state.table.path_of(self.inode)
        if path is None:
            return
        self.state.commit_below(self.inode)
        with self.state.reading() as view:
            directory = directories.resolve(view, path)
            if directory.entries <= _AT_ONCE:
                self._take(view, path, directories.scan(view.session, directory))
            else:
                self._waiting = sorted(set(directories.buckets(view.session, directory).values()))

    def at(self, index: int) -> Item | None:
        """Return the entry with a number, or None behind the last one."""
        while index >= len(self.items) and self._waiting:
            self._more(1)
        return self.items[index] if index < len(self.items) else None

    def finish(self) -> None:
        """Read all names, because the directory is about to change."""
        self._more(len(self._waiting))

    def _more(self, count: int) -> None:
        buckets, self._waiting = self._waiting[:count], self._waiting[count:]
        path = self.state.table.path_of(self.inode)
        if path is None or not buckets:
            return
        with self.state.reading() as view:
            for bucket in buckets:
                found = directories.entries(view.session, {bucket})
                items = [(name, nodes.get(view.session, each)) for name, each in found.items()]
                self._take(view, path, items)

    def _take(self, view: View, path: str, items: list[Item]) -> None:
        if path == "/":
            hidden = {LINKS_NAME} if view.system else {LINKS_NAME, SYSTEM_NAME}
            items = [each for each in items if each[0] not in hidden]
        if view.limits is not None:
            items = [each for each in items if view.limits.visible(join(path, each[0]))]
        self.items += items


class Listings:
    """The operations on directories of one mount."""

    def __init__(self, state: State) -> None:
        """Work on the state of a mount."""
        self.state = state
        self.table = state.table
        # Those that somebody may still read on in, the latest last.
        self._begun: dict[Inode, Listing] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return what answers which question."""
        return {
            Op.READDIR: self.readdir, Op.READDIRPLUS: self.readdirplus,
            Op.FSYNCDIR: self.fsyncdir,
        }  # fmt: skip

    def fsyncdir(self, request: Request) -> bytes:
        """Store the files that were made in a directory."""
        self.state.commit_below(request.inode)
        return b""

    def _listing(self, inode: Inode, offset: int) -> Listing:
        listing = self._begun.pop(inode, None)
        if listing is None:
            listing = Listing(self.state, inode)
            inode.listings.append(listing)
        elif not offset:
            listing.begin()
        self._begun[inode] = listing
        if len(self._begun) > _MOST_BEGUN:
            oldest = next(iter(self._begun))
            oldest.listings.remove(self._begun.pop(oldest))
        return listing

    def readdir(self, request: Request) -> bytes:
        """Return names with their kind and number."""
        return self._filled(request, self._plain, protocol.DIRENT.size)

    def readdirplus(self, request: Request) -> bytes:
        """Return names with all attributes, which saves asking for each."""
        return self._filled(request, self._with_attributes, _PLUS_BYTES)

    def _filled(
        self, request: Request, make: Callable[[Listing, int, Item], bytes], fixed: int
    ) -> bytes:
        _, offset, size = protocol.READ_IN.unpack_from(request.body)
        listing = self._listing(request.inode, offset)
        parts: list[bytes] = []
        left = size
        for index, item in self._items(listing, offset):
            length = fixed + len(item[0].encode("utf-8", "surrogateescape"))
            left -= length + -length % 8
            if left < 0:
                break
            parts.append(make(listing, index + 1, item))
        return b"".join(parts)

    @staticmethod
    def _items(listing: Listing, offset: int) -> Iterator[tuple[int, Item]]:
        """Yield entries from a number on; the first two are the directory and the one above."""
        for index, name in enumerate((".", "..")):
            if index >= offset:
                yield index, (name, _DOT)
        index = max(offset, _DOTS)
        while (item := listing.at(index - _DOTS)) is not None:
            yield index, item
            index += 1

    def _plain(self, listing: Listing, offset: int, item: Item) -> bytes:
        name, node = item
        raw = name.encode("utf-8", "surrogateescape")
        if name in (".", ".."):
            return protocol.dirent(listing.inode.ino, offset, raw, listing.inode.type_bits)
        inode = listing.inode.children.get(name)
        if inode is not None:
            return protocol.dirent(inode.ino, offset, raw, inode.type_bits)
        bits = 0 if node.kind == LINK else type_bits_of(node)
        ino = self.table.likely_ino(listing.inode, name)
        return protocol.dirent(ino, offset, raw, bits)

    def _with_attributes(self, listing: Listing, offset: int, item: Item) -> bytes:
        name, node = item
        if name in (".", "..") or not listing.is_current:
            return bytes(protocol.ENTRY_OUT.size) + self._plain(listing, offset, item)
        inode = listing.inode.children.get(name)
        if inode is None or inode.found is None:
            inode = self.table.enter(listing.inode, name, self._found(node))
        entry = self.state.entry_out(inode)
        raw = name.encode("utf-8", "surrogateescape")
        return entry + protocol.dirent(inode.ino, offset, raw, inode.type_bits)

    def _found(self, node: Node) -> Found:
        if node.kind != LINK:
            return Found(node)
        with self.state.reading() as view:
            link, _ = directories.link_target(view.session, node)
            root = directories.root(view)
            return Found(*links.require_file(view.session, root, node), link)


_PLUS_BYTES = protocol.ENTRY_OUT.size + protocol.DIRENT.size
