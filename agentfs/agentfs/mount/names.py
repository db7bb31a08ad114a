"""Operations on names: looking up, making, removing, moving and linking."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from agentfs import acl, directories, journal, nodes, posix, quota, tree
from agentfs.directories import LINKED_FILE, Place
from agentfs.errors import AlreadyExists, InvalidArgument, NotEmpty, NotFound
from agentfs.nodes import DIRECTORY, FILE, Node, View
from agentfs.paths import LINKS_PATH, join
from agentfs.posix import Extra

from . import protocol
from .content import Content
from .errors import refused
from .inodes import Found, Inode
from .protocol import Op

if TYPE_CHECKING:
    from .server import Handler, Request
    from .state import State

_MOST_MISSING = 10_000
_NO_NODE = Node(0, FILE, 0, 0, 0, 0, 0, 0, 0, 0, None)


class Names:
    """The operations on names of one mount."""

    def __init__(self, state: State) -> None:
        """Work on the state of a mount."""
        self.state = state
        self.table = state.table

    def handlers(self) -> dict[int, Handler]:
        """Return what answers which question."""
        return {
            Op.LOOKUP: self.lookup, Op.FORGET: self.forget, Op.BATCH_FORGET: self.forget_many,
            Op.MKDIR: self.mkdir, Op.MKNOD: self.mknod, Op.SYMLINK: self.symlink,
            Op.CREATE: self.create, Op.UNLINK: self.unlink, Op.RMDIR: self.rmdir,
            Op.RENAME: self.rename, Op.RENAME2: self.rename2, Op.LINK: self.link,
            Op.READLINK: self.readlink,
        }  # fmt: skip

    # -- looking up -----------------------------------------------------------------------

    def lookup(self, request: Request) -> bytes:
        """Say what a name leads to, or that it leads to nothing."""
        parent, name = request.inode, request.name()
        inode = self.known(parent, name)
        if inode is not None:
            return self.state.entry_out(inode)
        if len(parent.missing) >= _MOST_MISSING:
            raise NotFound(name)  # which the kernel does not keep
        parent.missing.add(name)
        return self.state.negative_out()

    def known(self, parent: Inode, name: str) -> Inode | None:
        """Return the inode of a name, looked up in the volume unless it is known and current."""
        inode = parent.children.get(name)
        if inode is not None and inode.found is not None:
            return inode
        path = self.table.child_path(parent, name)
        if path is None or self.state.is_hidden(path):
            return None
        path = self.state.child(parent, name)
        with self.state.reading() as view:
            found = self.state.find(view, path)
        if found is None:
            if inode is not None:
                self.table.detach(parent, name)
            return None
        return self.table.enter(parent, name, found)

    def forget(self, request: Request) -> None:
        """Let references of the kernel go."""
        (count,) = protocol.HANDLE_IN.unpack_from(request.body)
        self.table.forget(request.number, count)

    def forget_many(self, request: Request) -> None:
        """Let references to many inodes go."""
        (count,) = protocol.SIZE_IN.unpack_from(request.body)
        for index in range(count):
            self.table.forget(*protocol.FORGET_ONE.unpack_from(request.body, 8 + 16 * index))

    def readlink(self, request: Request) -> bytes:
        """Return the target of a symbolic link."""
        found = self.state.seen(request.inode)
        with self.state.reading() as view:
            return nodes.data(view.session, found.node.id)

    # -- making ---------------------------------------------------------------------------

    def _owner(self, request: Request, parent: Inode) -> Extra:
        """Return who owns what a program makes in a directory."""
        node = self.state.seen(parent).node
        inherited = parent.extra.gid if node.mode & stat.S_ISGID else self._group(request.gid)
        return Extra(None if request.uid == self.state.uid else request.uid, inherited)

    def _group(self, gid: int) -> int | None:
        return None if gid == self.state.gid else gid

    def _free(self, view: View, path: str) -> Place:
        """Return the place of a name that leads to nothing.

        Raises:
            AlreadyExists: it leads to something.
        """
        place = directories.locate(view, path, follow=False, through=False)
        if place.node is not None:
            raise AlreadyExists(path)
        acl.require_write(view, path)
        return place

    def _enter(self, view: View, place: Place, node_id: int, operation: str) -> tuple[Found, Found]:
        """Store a name; return what it leads to, and what its directory is now."""
        directories.set_entry(view, place.directory, place.name, node_id, True)
        journal.append(view, operation, place.path, after=node_id)
        above = Found(nodes.get(view.session, place.directory.id))
        return Found(nodes.get(view.session, node_id)), above

    def _added(self, parent: Inode, name: str, made: tuple[Found, Found]) -> bytes:
        """Answer with what was made."""
        found, above = made
        self.state.changed(parent, above, found.node.kind == DIRECTORY)
        return self.state.entry_out(self.table.enter(parent, name, found))

    def mkdir(self, request: Request) -> bytes:
        """Make a directory."""
        mode, _ = protocol.MKDIR_IN.unpack_from(request.body)
        parent, name = request.inode, request.name(protocol.MKDIR_IN.size)
        path = self.state.child(parent, name)
        mode = mode & 0o7777 | self.state.seen(parent).node.mode & stat.S_ISGID
        xattrs = posix.write(None, self._owner(request, parent))
        self.state.before_change(parent)
        with self.state.changing() as view:
            place = self._free(view, path)
            made = nodes.make_directory(view, mode, None, xattrs)
            stored = self._enter(view, place, made, "mkdir")
        return self._added(parent, name, stored)

    def symlink(self, request: Request) -> bytes:
        """Make a symbolic link."""
        parent, name = request.inode, request.name()
        target = bytes(request.body[len(os.fsencode(name)) + 1 :]).rstrip(b"\0")
        path = self.state.child(parent, name)
        xattrs = posix.write(None, self._owner(request, parent))
        self.state.before_change(parent)
        with self.state.changing() as view:
            place = self._free(view, path)
            made = nodes.make_symlink(view, target, None, xattrs)
            stored = self._enter(view, place, made, "symlink")
        return self._added(parent, name, stored)

    def mknod(self, request: Request) -> bytes:
        """Make an empty file, a FIFO, a socket or a device node."""
        mode, device, _, _ = protocol.MKNOD_IN.unpack_from(request.body)
        parent, name = request.inode, request.name(protocol.MKNOD_IN.size)
        path = self.state.child(parent, name)
        kind = posix.kind_of(mode, path)
        extra = self._owner(request, parent)
        if kind != "file":
            number = os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00)
            extra = extra._replace(special=kind, device=number)
        self.state.before_change(parent)
        with self.state.changing() as view:
            place = self._free(view, path)
            made = nodes.make_file(view, mode & 0o7777, 0, 0, b"", posix.write(None, extra))
            stored = self._enter(view, place, made, "mknod")
        return self._added(parent, name, stored)

    def create(self, request: Request) -> bytes:
        """Make a file and open it; it is stored with what is written, when it is closed."""
        flags, mode, _, _ = protocol.CREATE_IN.unpack_from(request.body)
        parent, name = request.inode, request.name(protocol.CREATE_IN.size)
        inode = self._begin(request, parent, name, mode)
        if inode is None:
            inode = self._there(parent, name, flags)
        entry = self.state.entry_out(inode)
        inode.users += 1
        return entry + protocol.OPEN_OUT.pack(handle_of(flags), protocol.FOPEN_KEEP_CACHE, 0)

    def _there(self, parent: Inode, name: str, flags: int) -> Inode:
        """Return what somebody else made a moment before."""
        inode = self.known(parent, name)
        if inode is None:
            raise NotFound(name)
        if flags & os.O_EXCL:
            raise AlreadyExists(name)
        if not inode.is_file:
            raise refused(errno.ESTALE, name)  # the kernel looks again, and finds a link, say
        if flags & os.O_TRUNC and self.state.seen(inode).node.size:
            now = time.time_ns()
            self.state.content(inode).resize(0)
            self.state.change_node(inode, size=0, mtime_ns=now, ctime_ns=now)
        return inode

    def _begin(self, request: Request, parent: Inode, name: str, mode: int) -> Inode | None:
        """Make the inode of a file that is stored later, or None where something is already."""
        path = self.state.child(parent, name)
        self.state.require_writable()
        self.state.before_change(parent)
        with self.state.reading() as view:
            if name in parent.children or self.state.find(view, path) is not None:
                return None
            acl.require_write(view, path)
            counts = view.state.replaced is not None
        now = time.time_ns()
        xattrs = posix.write(None, self._owner(request, parent))
        node = _NO_NODE._replace(mode=mode & 0o7777, mtime_ns=now, ctime_ns=now, xattrs=xattrs)
        above = self.state.seen(parent)
        inode = self.table.enter(parent, name, Found(node))
        inode.content = Content(None, now)
        self.state.dirty[inode] = None
        node = above.node._replace(mtime_ns=now, ctime_ns=now, entries=above.node.entries + 1)
        self.state.changed(parent, above._replace(node=node))
        if counts:
            self._store_now(inode, parent, name)
        return inode

    def _store_now(self, inode: Inode, parent: Inode, name: str) -> None:
        """Store an empty file at once, because the quota may refuse one more name."""
        try:
            self.state.commit([inode])
        except BaseException:
            self._take(parent, name)
            inode.content = None
            self.state.dirty.pop(inode, None)
            self.table.drop_if_unused(inode)
            raise

    # -- removing -------------------------------------------------------------------------

    def unlink(self, request: Request) -> bytes:
        """Remove a name; an open file goes on without it."""
        parent, name = request.inode, request.name()
        path = self.state.child(parent, name)
        self.state.before_change(parent)
        inode = self.known(parent, name)
        if inode is None:
            raise NotFound(path)
        is_last = self._is_last(inode)
        left: Found | None = None
        above: Found | None = None
        if not _is_waiting(inode):
            with self.state.changing() as view:
                tree.remove(view, path, False)
                left = _stamp_link(view, inode.link)
                above = self.state.look_above(view, path)
        self._lose(inode, is_last, left)
        self._take(parent, name)
        self.state.changed(parent, above)
        return b""

    def _is_last(self, inode: Inode) -> bool:
        return len(inode.names) == 1 and self.state.seen(inode).names == 1

    def _lose(self, inode: Inode, is_last: bool, left: Found | None) -> None:
        """Take over that a name is gone; of an open file, the bytes are kept with the last one."""
        if is_last:
            self.state.detach(inode)
        elif left is not None and inode.content is None:
            inode.see(left)
        elif left is not None:
            inode.found = self.state.seen(inode)._replace(names=left.names)

    def _take(self, parent: Inode, name: str) -> None:
        """Take a name from the table; what nobody uses goes with it."""
        inode = parent.children.get(name)
        if inode is None:
            return
        for below in list(inode.children):  # which others have removed
            self.table.detach(inode, below)
        if len(inode.names) == 1:
            now = time.time_ns()
            if inode.found is not None:
                node = inode.found.node._replace(ctime_ns=now)
                inode.found = inode.found._replace(node=node)
        self.table.detach(parent, name)
        self.state.discard(inode)

    def rmdir(self, request: Request) -> bytes:
        """Remove an empty directory."""
        parent, name = request.inode, request.name()
        path = self.state.child(parent, name)
        self.state.before_change(parent)
        inode = self.known(parent, name)
        if inode is not None:
            self._require_empty(inode, path)
            self.state.seen(inode)
        with self.state.changing() as view:
            tree.rmdir(view, path)
            above = self.state.look_above(view, path)
        self._take(parent, name)
        self.state.changed(parent, above, -1)
        return b""

    @staticmethod
    def _require_empty(inode: Inode, path: str) -> None:
        """Refuse a directory with files that the volume does not have yet."""
        if any(_is_waiting(each) for each in inode.children.values()):
            raise NotEmpty(path)

    # -- moving and linking ---------------------------------------------------------------

    def rename(self, request: Request) -> bytes:
        """Move a name."""
        (target,) = protocol.RENAME_IN.unpack_from(request.body)
        return self._rename(request, target, 0, protocol.RENAME_IN.size)

    def rename2(self, request: Request) -> bytes:
        """Move a name, or exchange two."""
        target, flags, _ = protocol.RENAME2_IN.unpack_from(request.body)
        if flags & ~(protocol.RENAME_NOREPLACE | protocol.RENAME_EXCHANGE):
            raise InvalidArgument("rename", "of its flags, NOREPLACE and EXCHANGE are known")
        return self._rename(request, target, flags, protocol.RENAME2_IN.size)

    def _rename(self, request: Request, target: int, flags: int, offset: int) -> bytes:
        old_name = request.name(offset)
        new_name = request.name(offset + len(os.fsencode(old_name)) + 1)
        old_parent, new_parent = request.inode, self.table.inodes[target]
        paths = self.state.child(old_parent, old_name), self.state.child(new_parent, new_name)
        self.state.before_change(old_parent, new_parent)
        moved, there = self.known(old_parent, old_name), self.known(new_parent, new_name)
        if moved is None:
            raise NotFound(paths[0])
        if flags & protocol.RENAME_NOREPLACE and there is not None:
            raise AlreadyExists(paths[1])
        if flags & protocol.RENAME_EXCHANGE:
            if there is None:
                raise NotFound(paths[1])
            self._exchange(moved, there, paths)
        else:
            self._replace(moved, there, paths)
            self._take(new_parent, new_name)
        self._follow((old_parent, old_name), (new_parent, new_name), moved,
                     there if flags & protocol.RENAME_EXCHANGE else None)  # fmt: skip
        if there is not None and not flags:
            self.state.changed(new_parent, None, -there.is_directory)
        return b""

    def _replace(self, moved: Inode, there: Inode | None, paths: tuple[str, str]) -> None:
        """Move a name in the volume, over what may be at the other one."""
        stored: Found | None = None
        left: Found | None = None
        if there is not None and there.is_directory:
            self._require_empty(there, paths[1])
        is_last = there is not None and self._is_last(there)
        with self.state.changing() as view:
            if moved.content is not None:
                stored = self.state.store(view, moved)
            tree.rename(view, *paths)
            if there is not None:
                left = _stamp_link(view, there.link)
            found = _stamp(view, paths[1])
        if stored is not None:
            self.state.settle(moved, stored)
        moved.see(found)
        if there is not None:
            self._lose(there, is_last, left)

    def _exchange(self, moved: Inode, there: Inode, paths: tuple[str, str]) -> None:
        """Let two names change places, in one transaction."""
        waiting = [each for each in (moved, there) if each.content is not None]
        aside = join(os.path.dirname(paths[0]), f".agentfs-exchange-{time.time_ns():x}")
        with self.state.changing() as view:
            stored = [self.state.store(view, each) for each in waiting]
            tree.rename(view, paths[0], aside)
            tree.rename(view, paths[1], paths[0])
            tree.rename(view, aside, paths[1])
            found = [_stamp(view, each) for each in paths]
        for inode, each in zip(waiting, stored, strict=True):
            self.state.settle(inode, each)
        there.see(found[0])
        moved.see(found[1])

    def _follow(
        self, old: tuple[Inode, str], new: tuple[Inode, str], moved: Inode, there: Inode | None
    ) -> None:
        """Let the table have the names as they are now."""
        for place, inode in ((old, moved), (new, there)):
            if inode is not None:
                place[0].children.pop(place[1], None)
                inode.names.pop(place, None)
                inode.path = None
        self.table.attach(moved, *new)
        if there is not None:
            self.table.attach(there, *old)
        self.state.moves += moved.is_directory or (there is not None and there.is_directory)
        change = moved.is_directory - (there.is_directory if there is not None else 0)
        if old[0] is not new[0]:
            self.state.changed(old[0], None, -change)
            self.state.changed(new[0], None, change)
        else:
            self.state.changed(old[0], None)

    def link(self, request: Request) -> bytes:
        """Give a file one more name."""
        (number,) = protocol.LINK_IN.unpack_from(request.body)
        inode = self.table.inodes[number]
        parent, name = request.inode, request.name(protocol.LINK_IN.size)
        if inode.type_bits in (stat.S_IFLNK, stat.S_IFDIR):
            raise refused(errno.EPERM, name)
        target = self.state.child(parent, name)
        self.state.before_change(parent)
        if self.known(parent, name) is not None:
            raise AlreadyExists(target)
        path = self.state.path(inode)
        stored: Found | None = None
        with self.state.changing() as view:
            if inode.content is not None:
                stored = self.state.store(view, inode)
            tree.link(view, path, target)
            link = self.state.find(view, target)
            found = _stamp_link(view, link.link) if link is not None else None
        if stored is not None:
            self.state.settle(inode, stored)
        assert found is not None
        self.table.linked(inode, found.link)
        inode.see(found)
        self.table.attach(inode, parent, name)
        self.state.changed(parent, None)
        return self.state.entry_out(inode)


def handle_of(flags: int) -> int:
    """Return what the kernel shows of an open file again: whether writes go to its end."""
    return 1 if flags & os.O_APPEND else 0


def _is_waiting(inode: Inode) -> bool:
    """Say whether a file is not in the volume yet."""
    return inode.content is not None and inode.content.is_new


def _stamp(view: View, path: str) -> Found:
    """Set the time of the last change of what is at a path to now, which moving it is."""
    place = directories.locate(view, path, follow=False)
    node = place.node
    if node is None:
        raise NotFound(path)
    if node.kind != DIRECTORY:
        return _remade(view, place, node)
    directory = directories.resolve(view, path)
    directories.own(view, directory)
    nodes.set_directory(view, directory.id, node.mode, node.mtime_ns, node.xattrs)
    quota.settle(view)
    return Found(nodes.get(view.session, directory.id))


def _remade(view: View, place: Place, node: Node) -> Found:
    made = nodes.remake(view, node, node.mode, node.mtime_ns, node.xattrs)
    directories.set_entry(view, place.directory, place.name, made, False)
    quota.settle(view)
    now = nodes.get(view.session, made)
    if place.name == LINKED_FILE and place.directory.path.startswith(LINKS_PATH):
        return Found(now, place.directory.entries - 1, place.directory.name)
    return Found(now)


def _stamp_link(view: View, link: str) -> Found | None:
    """Set the time of the last change of a hard-linked file to now, if a name is left."""
    if not link:
        return None
    inner = view if view.system else View(view.session, view.state, True, view.principal)
    try:
        home = directories.resolve(inner, join(LINKS_PATH, link))
    except FileNotFoundError:
        return None
    node = directories.lookup(inner.session, home, LINKED_FILE)
    if node is None:
        return None
    return _remade(inner, Place(home, LINKED_FILE, node), node)
