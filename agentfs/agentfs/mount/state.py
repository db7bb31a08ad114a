"""What all operations of one mount share: the handle, the inodes, and the writes not stored yet."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from agentfs import acl, chunklists, directories, edits, files, journal, nodes, quota
from agentfs.chunklists import ChunkList
from agentfs.directories import Place
from agentfs.errors import AgentFSError, Corrupt, NotADirectory, NotFound, QuotaExceeded, ReadOnly
from agentfs.nodes import DIRECTORY, FILE, Node, View
from agentfs.paths import is_system, normalise, split
from agentfs.types import Quota

from .content import COMMIT_BYTES, Content
from .errors import refused
from .inodes import Found, Inode, Table
from .protocol import ATTR_OUT, ENTRY_OUT

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

NS = 1_000_000_000
_BLOCK = 4096
# Above this the subdirectories of a directory are not counted, and its link count is 1: unknown.
_COUNTED_ENTRIES = 1000
_NO_LIMIT = 1 << 100
_EMPTY = ChunkList(1, [], b"")


class State:
    """One mount: its handle on the volume, its inodes, and the writes that are not stored yet."""

    def __init__(self, fs: AgentFS, path: str, read_only: bool, kernel_s: float) -> None:
        """Look at the directory that the mount shows."""
        self.fs = fs
        self.read_only = read_only or fs.read_only
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.timeout = (int(kernel_s), int((kernel_s % 1) * NS))
        # Held by whoever looks at or changes what is below.
        self.lock = threading.RLock()
        self.dirty: dict[Inode, None] = {}
        # Journal rows that this mount wrote, as first and last number.
        self.own: list[tuple[int, int]] = []
        # Files of which the kernel keeps pages that are not what is stored.
        self.spoiled: list[Inode] = []
        # How often this mount moved a directory; rows from before have paths from before.
        self.moves = 0
        # How much the branch may still grow, once somebody asked since the last commit.
        self.room_bytes: int | None = None
        with fs.view_for_reading() as view:
            directory = directories.resolve(view, path)
            root = Found(nodes.get(view.session, directory.id))
        self.table = Table(directory.path, root)

    # -- the volume -----------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[View]:
        """See one state of the volume."""
        return self.fs.view_for_reading()

    def require_writable(self) -> None:
        """Refuse changes through a mount that is read only.

        Raises:
            ReadOnly: it is.
        """
        if self.read_only:
            raise ReadOnly(self.table.path, "it is mounted to be read only")

    @contextmanager
    def changing(self) -> Iterator[View]:
        """Make one operation of the volume, in a transaction, and note which rows it wrote."""
        self.require_writable()
        self.room_bytes = None
        with self.fs.view_for_writing() as view:
            first = journal.head(view.session)
            yield view
            last = journal.head(view.session)
            if view.state.replaced is None:
                self.room_bytes = _NO_LIMIT
        if last > first:
            self.own.append((first + 1, last))

    def stored(self, node: Node, start: int, stop: int) -> bytes:
        """Return a range of the bytes of a stored version."""
        with self.reading() as view:
            return files.content(view, node, start, stop)

    # -- what names lead to ---------------------------------------------------------------

    def path(self, inode: Inode) -> str:
        """Return a path of an inode.

        Raises:
            NotFound: it was removed.
        """
        found = self.table.path_of(inode)
        if found is None:
            raise NotFound(f"inode {inode.ino}", "it was removed")
        return found

    def child(self, parent: Inode, name: str) -> str:
        """Return the path of a name in a directory.

        Raises:
            NotFound: the directory was removed.
            NameTooLong, PermissionDenied.
        """
        found = self.table.child_path(parent, name)
        if found is None:
            raise NotFound(name, "its directory was removed")
        return normalise(found, self.fs.system)

    def is_hidden(self, path: str) -> bool:
        """Say whether a path is in the system area and the handle may not see that."""
        return not self.fs.system and is_system(path)

    @staticmethod
    def find(view: View, path: str) -> Found | None:
        """Return what is stored at a path."""
        place = directories.locate(view, path, follow=False)
        return None if place.node is None else State.found_at(place, place.node)

    @staticmethod
    def found_at(place: Place, node: Node) -> Found:
        """Return what a place leads to."""
        if place.shown is None:
            return Found(node)
        return Found(node, place.directory.entries - 1, place.directory.name)

    def seen(self, inode: Inode) -> Found:
        """Return what an inode is now, asking the volume when something may have changed.

        Raises:
            OSError: somebody else removed or replaced it; the kernel then looks the name up again.
        """
        if inode.found is not None:
            return inode.found
        path = self.path(inode)
        try:
            with self.reading() as view:
                found = self.find(view, path)
        except (NotFound, NotADirectory):
            found = None
        if found is None or not self.table.is_same(inode, found):
            for parent, name in list(inode.names):
                self.table.detach(parent, name)
            raise refused(errno.ESTALE, path)
        inode.see(found)
        return found

    def stale(self, inode: Inode) -> None:
        """Let the next look at an inode go to the volume, unless what is here is newer."""
        if (inode.content is None and inode.names) or inode is self.table.root:
            inode.found = None
        inode.subdirectories = None

    def look_above(self, view: View, path: str) -> Found:
        """Return what the directory is that a name was made or removed in."""
        directory = directories.resolve(view, split(path)[0])
        return Found(nodes.get(view.session, directory.id))

    def changed(self, parent: Inode, above: Found | None, subdirectories: int = 0) -> None:
        """Note that names in a directory were made or removed."""
        parent.subdirectories = _count_after(parent, subdirectories)
        parent.found = above
        for listing in parent.listings:
            listing.is_current = False

    def before_change(self, *parents: Inode) -> None:
        """Let open listings of directories read on before names there change."""
        for parent in parents:
            for listing in parent.listings:
                listing.finish()

    # -- attributes -----------------------------------------------------------------------

    def attributes(self, inode: Inode) -> tuple[int, ...]:
        """Return the attributes of an inode as the protocol has them."""
        found = self.seen(inode)
        node, extra = found.node, inode.extra
        names = self._links(inode, found)
        atime = node.mtime_ns if extra.atime_ns is None else extra.atime_ns
        size = node.size if node.kind != DIRECTORY else _BLOCK
        return (
            inode.ino, size, -(-size // 512), atime // NS, node.mtime_ns // NS, node.ctime_ns // NS,
            atime % NS, node.mtime_ns % NS, node.ctime_ns % NS, inode.type_bits | node.mode, names,
            self.uid if extra.uid is None else extra.uid,
            self.gid if extra.gid is None else extra.gid, _device(extra.device), _BLOCK, 0,
        )  # fmt: skip

    def _links(self, inode: Inode, found: Found) -> int:
        if not inode.names and inode is not self.table.root:
            return 0
        if not inode.is_directory:
            return found.names
        if inode.subdirectories is None:
            inode.subdirectories = self._count(inode, found.node)
        return 1 if inode.subdirectories < 0 else 2 + inode.subdirectories

    def _count(self, inode: Inode, node: Node) -> int:
        """Return how many directories are in a directory, or -1 when that takes too long."""
        if node.entries > _COUNTED_ENTRIES:
            return -1
        if not node.entries and not node.layout:
            return 0
        with self.reading() as view:
            directory = directories.resolve(view, self.path(inode))
            found = directories.scan(view.session, directory)
        return sum(each.kind == DIRECTORY for name, each in found if "/" not in name)

    def attr_out(self, inode: Inode) -> bytes:
        """Return the answer to a question for attributes."""
        return ATTR_OUT.pack(*self.timeout, 0, *self.attributes(inode))

    def entry_out(self, inode: Inode) -> bytes:
        """Return the answer that names an inode; the kernel then holds one reference more."""
        seconds, ns = self.timeout
        attributes = self.attributes(inode)
        inode.lookups += 1
        return ENTRY_OUT.pack(inode.number, 0, seconds, seconds, ns, ns, *attributes)

    def negative_out(self) -> bytes:
        """Return the answer that a name leads to nothing, which the kernel may keep."""
        seconds, ns = self.timeout
        return ENTRY_OUT.pack(0, 0, seconds, 0, ns, 0, *[0] * 16)

    # -- writes that are not stored yet ---------------------------------------------------

    def content(self, inode: Inode) -> Content:
        """Return the changes of a file that are not stored yet, begun when there are none."""
        self.require_writable()
        if inode.content is None:
            node = self.seen(inode).node
            self._require_write(inode)
            inode.content = Content(node, time.time_ns())
        self.dirty[inode] = None
        return inode.content

    def _require_write(self, inode: Inode) -> None:
        """Refuse at once what the access rules would refuse when it is stored."""
        path = self.table.path_of(inode)
        if path is not None:
            with self.reading() as view:
                acl.require_write(view, path)

    def give_up(self, inode: Inode) -> None:
        """Drop changes of a file that could not be stored when it was closed."""
        self.dirty.pop(inode, None)
        inode.content = None
        inode.found = None if inode.names else inode.found
        inode.kept = 0
        self.spoiled.append(inode)

    def change_node(self, inode: Inode, **fields: object) -> None:
        """Change what is seen of a file whose changes are not stored yet."""
        found = self.seen(inode)
        inode.see(found._replace(node=found.node._replace(**fields)))  # type: ignore[arg-type]

    def require_room(self, growth: int) -> None:
        """Refuse what would grow a branch with a quota beyond it.

        Raises:
            QuotaExceeded: there is no room.
        """
        if self.room_bytes is None:
            self.room_bytes = self._room()
        if growth > self.room_bytes:
            raise QuotaExceeded(str(self.fs.branch))
        self.room_bytes -= growth

    def limits(self) -> Quota | None:
        """Return the limits of the branch and their use, or None when it has none."""
        with self.reading() as view:
            return None if view.state.replaced is None else quota.read(view)

    def free_bytes(self) -> int:
        """Return how many bytes the disk of the volume has left."""
        disk = os.statvfs(self.fs.path)
        return disk.f_bavail * disk.f_frsize

    def _room(self) -> int:
        limits = self.limits()
        if limits is None or limits.max_bytes is None:
            return _NO_LIMIT
        waiting = sum(
            max(each.found.node.size - (each.content.base.size if each.content.base else 0), 0)
            for each in self.dirty
            if each.content is not None and each.found is not None and each.names
        )
        return limits.max_bytes - limits.used_bytes - waiting

    def commit(self, wanted: Iterable[Inode] | None = None) -> None:
        """Store the changes of some files, or of all, in one transaction."""
        waiting = [each for each in (self.dirty if wanted is None else wanted) if each.names]
        waiting = [each for each in waiting if each.content is not None]
        if not waiting:
            return
        with self.changing() as view:
            stored = [self.store(view, each) for each in waiting]
            above = self._parents(view, waiting)
        for parent, found in above.items():
            parent.found = found
        for inode, found in zip(waiting, stored, strict=True):
            self.settle(inode, found)

    def _parents(self, view: View, inodes: Iterable[Inode]) -> dict[Inode, Found]:
        """Return what the directories of files that are new in the volume are now."""
        return {
            parent: self.look_above(view, self.path(each))
            for each in inodes
            if each.content is not None and each.content.is_new
            for parent, _ in each.names
        }

    def vanish(self, inode: Inode) -> None:
        """Let an open file go on without a name that somebody else has removed."""
        self.detach(inode)
        for parent, name in list(inode.names):
            parent.found = None
            self.table.detach(parent, name)

    def commit_each(self, inodes: Iterable[Inode]) -> list[str]:
        """Store the changes of some files, each on its own; return those that could not be."""
        lost: list[str] = []
        for inode in list(inodes):
            try:
                self.commit_one(inode)
            except AgentFSError as error:
                lost.append(f"{self.table.path_of(inode)}: {error}")
        return lost

    def commit_one(self, inode: Inode) -> None:
        """Store the changes of a file; when somebody else removed it, it goes on without a name."""
        try:
            self.commit([inode])
        except (NotFound, NotADirectory):
            self.vanish(inode)

    def commit_below(self, inode: Inode) -> None:
        """Store the files in a directory that have changes, before it is listed."""
        waiting = [each for each in inode.children.values() if each.content is not None]
        try:
            self.commit(waiting)
        except AgentFSError:
            self.commit_each(waiting)

    def commit_large(self, inode: Inode) -> None:
        """Store what was written to a file when much of it waits."""
        content = inode.content
        if content is not None and content.written.size_bytes >= COMMIT_BYTES:
            self.commit_one(inode)

    def commit_old(self, seconds: float) -> None:
        """Store what has waited for so long in files that stay open."""
        limit = time.time_ns() - int(seconds * NS)
        old = [each for each in self.dirty if each.content and each.content.since_ns < limit]
        self.commit_each(old)

    def settle(self, inode: Inode, found: Found) -> None:
        """Note that the changes of a file were stored."""
        if inode.found is not None and inode.kept == inode.found.node.id:
            inode.kept = found.node.id
        inode.content = None
        self.dirty.pop(inode, None)
        inode.see(found)

    def store(self, view: View, inode: Inode) -> Found:
        """Write a version of a file with its changes; `settle` it after the commit."""
        content, node = inode.content, self.seen(inode).node
        assert content is not None
        path = self.path(inode)
        place = directories.locate(view, path, follow=False)
        old = place.node
        if old is None and not content.is_new:
            raise NotFound(path, "somebody else removed it")
        if old is not None and old.kind != FILE:
            raise NotFound(path, "somebody else replaced it")
        if old is not None and content.base is not None and old.id != content.base.id:
            self.spoiled.append(inode)  # what others wrote meanwhile is in no page of the kernel
        size, layout, data = _stored_form(view, content, old, node.size)
        made = nodes.new_file(
            view, node.mode, size, layout, data, node.xattrs, node.mtime_ns, node.ctime_ns
        )
        directories.set_entry(view, place.directory, place.name, made.id, old is None)
        directories.remember(place, made)
        before = None if old is None else old.id
        journal.append(view, "write", place.path, before=before, after=made.id)
        return self.found_at(place, made)

    def discard(self, inode: Inode) -> None:
        """Drop what is left of a file that has no name, once it is not open any more."""
        if inode.content is not None and not inode.names and not inode.users:
            inode.content.close()
            inode.content = None
            self.dirty.pop(inode, None)
            self.table.drop_if_unused(inode)

    def detach(self, inode: Inode) -> None:
        """Keep the bytes of an open file whose last name goes, outside of the volume."""
        self.dirty.pop(inode, None)
        found = self.seen(inode)
        if inode.is_file and inode.users:
            content = inode.content
            if content is None:
                content = inode.content = Content(found.node, time.time_ns())
            with suppress(Corrupt):  # what cannot be read any more is zero bytes
                content.detach(found.node.size, self.stored, self.fs.encrypted)
        elif inode.content is not None:
            inode.content = None

    def read(self, inode: Inode, start: int, size: int) -> bytes | bytearray:
        """Return a range of a file, less at its end."""
        try:
            return self._read(inode, start, size)
        except Corrupt:
            # gc may have let the version go that was seen last; then the file as it is now counts.
            if inode.content is not None or not inode.names:
                raise
            before, inode.found = inode.found, None
            if before is not None and self.seen(inode).node.id == before.node.id:
                raise
            return self._read(inode, start, size)

    def _read(self, inode: Inode, start: int, size: int) -> bytes | bytearray:
        node = self.seen(inode).node
        stop = min(start + size, node.size)
        if start >= stop:
            return b""
        if inode.content is not None:
            return inode.content.read(start, stop, self.stored)
        return self.stored(node, start, stop)

    def close(self) -> list[str]:
        """Store everything; return the paths of files that could not be."""
        with self.lock:
            try:
                self.commit()
            except AgentFSError:
                return self.commit_each(self.dirty)
        return []


def _count_after(parent: Inode, change: int) -> int | None:
    known = parent.subdirectories
    return known if known is None or known < 0 else known + change


def _stored_form(
    view: View, content: Content, old: Node | None, size: int
) -> tuple[int, int, bytes]:
    """Return size, layout and data of a file's stored version with its changes."""
    whole = content.written.whole(size) if not content.limit else None
    if whole is not None:
        return size, *files.store(view, memoryview(whole))
    made = _EMPTY if old is None else files.chunk_list(view.session, old)
    before = 0 if content.base is None else content.base.size
    if content.limit < before:
        made = edits.resize(view.session, made, min(content.limit, made.size))
    made = edits.overwrite(view.session, made, content.written.runs())
    if made.size != size and (made.size < size or content.limit < before):
        made = edits.resize(view.session, made, size)
    return made.size, *chunklists.encode(made)


def _device(number: int) -> int:
    """Return a device number in the form of the protocol: minor, major, rest of the minor."""
    if not number:
        return 0
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
