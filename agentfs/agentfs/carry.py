"""Carries the whole tree of a branch into a branch of another volume.

Names, content, modes, times of modification and access, owners, extended attributes, links of both
kinds and special files arrive as they are, the area `/.fmos` with them if both handles may use it.
The time of a node's own change is that of its arrival, as on any file system.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import chunklists, directories, edits, journal, nodes, tree
from .errors import InvalidArgument
from .nodes import Node, View
from .types import DirEntry, Totals

if TYPE_CHECKING:
    from .filesystem import AgentFS

_PIECE_BYTES = 8 * 1024 * 1024


def carry_tree(source: AgentFS, target: AgentFS) -> Totals:
    """Make the tree of `target` the tree of `source`, in one transaction; return what was carried.

    File versions are made in the order of those they are copies of, so that what sorts by them
    sorts alike.

    Raises:
        InvalidArgument: one of the branches is laid over a host directory.
        QuotaExceeded: the target may not grow so much.
    """
    for fs in (source, target):
        if fs.overlays():
            raise InvalidArgument(
                fs.branch, "a branch over a host directory cannot be carried; apply or discard it"
            )
    with target.transaction(), source.reading():
        for entry in target.scandir("/"):
            target.remove(entry.path, recursive=True)
        carried = _Carry(source, target)
        carried.run()
    return carried.totals


class _Carry:
    """One tree on its way."""

    def __init__(self, source: AgentFS, target: AgentFS) -> None:
        self.source, self.target = source, target
        self.totals = Totals()
        self.directories: list[str] = []
        self.files: list[DirEntry] = []

    def run(self) -> None:
        """Carry directories and symbolic links, then files, then the attributes of directories."""
        with self.source.view_for_reading() as old, self.target.view_for_writing() as new:
            self._names(old, new)
            self._contents(old, new)
            for path in reversed(self.directories):
                _set_directory(new, path, _node(old, path))
        self.totals.directories = len(self.directories) - 1

    def _names(self, old: View, new: View) -> None:
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            self.directories.append(path)
            for entry in self.source.scandir(path):
                if entry.stat.is_dir:
                    tree.mkdir(new, entry.path, entry.stat.mode, False, False)
                    waiting.append(entry.path)
                elif entry.stat.is_symlink:
                    self._symlink(old, new, entry.path)
                else:
                    self.files.append(entry)

    def _contents(self, old: View, new: View) -> None:
        """Carry each file once, and give it its other names."""
        first: dict[int, str] = {}
        for entry in sorted(self.files, key=lambda each: each.stat.node):
            there = first.get(entry.stat.node) if entry.stat.links > 1 else None
            if there is not None:
                tree.link(new, there, entry.path)
            else:
                first[entry.stat.node] = entry.path
                self._file(old, new, entry)
                self.totals.files += 1
                self.totals.bytes += entry.stat.size

    def _file(self, old: View, new: View, entry: DirEntry) -> None:
        node = _node(old, entry.path)
        made = edits.streamed(new.session, self._pieces(entry), node.size)
        layout, stored = chunklists.encode(made)
        times = node.mode, made.size, layout, stored, node.xattrs, node.mtime_ns
        _enter(new, entry.path, nodes.new_file(new, *times).id)

    def _pieces(self, entry: DirEntry) -> Iterator[bytes]:
        for start in range(0, entry.stat.size, _PIECE_BYTES):
            yield self.source.read(entry.path, start, start + _PIECE_BYTES)

    def _symlink(self, old: View, new: View, path: str) -> None:
        node = _node(old, path)
        target = nodes.data(old.session, node.id)
        _enter(new, path, nodes.make_symlink(new, target, node.mtime_ns, node.xattrs))
        self.totals.symlinks += 1


def _node(view: View, path: str) -> Node:
    """Return the node of a path; that of the file where the path is one name of several."""
    if path == "/":
        return nodes.get(view.session, view.state.root)
    return directories.find(view, path, follow=False)


def _enter(view: View, path: str, node: int) -> None:
    """Give a new node its name."""
    place = directories.locate(view, path, follow=False)
    directories.set_entry(view, place.directory, place.name, node, True)
    journal.append(view, "put", place.path, after=node)


def _set_directory(view: View, path: str, wanted: Node) -> None:
    """Give a directory the attributes that it had, once nothing more comes into it."""
    place = directories.locate(view, path, follow=False)
    has = _node(view, path)
    if (has.mode, has.mtime_ns, has.xattrs) != (wanted.mode, wanted.mtime_ns, wanted.xattrs):
        said = wanted.mode, wanted.mtime_ns, wanted.xattrs
        tree.set_attributes(view, place, has, "utime", *said)
