"""Brings an AgentFS 0.4 volume into a branch, in batches; the same call again goes on with it.

What is in the branch already stays as it is, so that a second run writes nothing. Names, sizes,
kinds and numbers of the volume are checked one by one: what cannot be right is left out by name.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentfs import directories, journal, nodes, posix, tree
from agentfs.errors import AgentFSError, InvalidArgument, NotFound
from agentfs.nodes import DIRECTORY, FILE, SYMLINK, Node, View
from agentfs.paths import join, normalise

from . import schema
from .calls import ORIGIN, Calls
from .content import Content
from .entries import KEPT_MODE, Bad, kind, mtime_ns, wrong_inode, wrong_name
from .outcome import Spec04Totals
from .source import Entry, Source

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

Step = Callable[[View], None]
Progress = Callable[[Spec04Totals], None]
_BATCH_STEPS = 1000
_BATCH_BYTES = 64 * 1024 * 1024
_TARGET_BYTES = 4096


def read_volume(
    fs: AgentFS, source: Path, path: str, progress: Progress | None = None
) -> Spec04Totals:
    """Bring an AgentFS 0.4 volume to a directory of the branch; keys and tool calls come along.

    A batch is one transaction. What stops the import leaves whole files, and the same call goes on.

    Raises:
        HostError: the file cannot be read.
        ForeignVolume: it is no such volume, is damaged, or is written to meanwhile.
    """
    with Source(source) as volume:
        return _Import(fs, volume, path).run(progress)


class _Level:
    """A directory of the volume whose names are on their way, in order."""

    __slots__ = ("below", "entry", "last", "path")

    def __init__(self, path: str, entry: Entry, below: Iterator[Entry]) -> None:
        self.path = path
        self.entry = entry
        self.below = below
        self.last: bytes | None = None


class _Import:
    """One import."""

    def __init__(self, fs: AgentFS, source: Source, path: str) -> None:
        self.fs = fs
        self.source = source
        self.path = path
        self.totals = Spec04Totals()
        self._calls = Calls(fs, self.totals, schema.setting(source.query, ORIGIN))
        self._entered: set[int] = set()
        self._linked: set[int] = set()
        self._first: dict[int, str | None] = {}
        self._names = 0

    def run(self, progress: Progress | None) -> Spec04Totals:
        self._linked = self.source.linked()
        steps = self._steps()
        more = True
        while more:
            more = self._batch(steps)
            if progress is not None:
                progress(self.totals)
        return self.totals

    def _batch(self, steps: Iterator[Step]) -> bool:
        """Do some steps in one transaction; say whether there may be more."""
        limit = self.totals.bytes + _BATCH_BYTES
        step: Step | None = None
        with self.fs.view_for_writing() as view:
            for _ in range(_BATCH_STEPS):
                step = next(steps, None)
                if step is not None:
                    step(view)
                if step is None or self.totals.bytes > limit:
                    break
            self.source.require_unchanged()
        return step is not None

    def _steps(self) -> Iterator[Step]:
        for path in self.source.whiteouts():
            yield lambda view, path=path: self._white_out(view, path)
        yield from self._tree()
        for key, value in self.source.pairs():
            yield lambda view, key=key, value=value: self._key(key, value)
        for row in self.source.calls():
            yield lambda view, row=row: self._calls.bring(row)
        self._count_lost()

    def _count_lost(self) -> None:
        names, nameless = self.source.counts()
        if nameless:
            self.totals.leave_out("inodes", f"{nameless} of them have no name")
        if names > self._names:
            self.totals.leave_out("names", f"the root leads to {self._names} of {names}")

    # -- whiteouts --------------------------------------------------------------------------

    def _white_out(self, view: View, raw: bytes) -> None:
        """Remove what an overlay removed, unless it put something else there."""
        text = raw.decode("utf-8", "surrogateescape")
        try:
            target = self._removable(text)
            node = None if target is None else _node_at(view, target)
            if target is not None and node is not None and not self._brings(raw):
                tree.remove(view, target, recursive=True)
                self.totals.take_away(target)
        except AgentFSError as error:
            self.totals.leave_out(f"whiteout {text!a}", str(error))

    def _removable(self, text: str) -> str | None:
        if not text.startswith("/") or normalise(text) != text or text == "/":
            self.totals.leave_out(f"whiteout {text!a}", "it is no path below the root")
            return None
        return normalise(text if self.path == "/" else self.path + text, False)

    def _brings(self, raw: bytes) -> bool:
        """Say whether the volume has a name at a path."""
        ino = schema.ROOT
        for name in raw.split(b"/")[1:]:
            found = self.source.child(ino, name)
            if found is None:
                return False
            ino = found
        return True

    # -- the tree ---------------------------------------------------------------------------

    def _tree(self) -> Iterator[Step]:
        """Yield a step for each name, top down, and for each directory one more at its end."""
        root = self.source.root()
        self._entered.add(schema.ROOT)
        yield lambda view: tree.mkdir(view, self.path, 0o755, parents=True, exist_ok=True)
        waiting = [_Level(self.path, root, self.source.entries(schema.ROOT))]
        while waiting:
            level = waiting[-1]
            entry = next(level.below, None)
            if entry is None:
                waiting.pop()
                yield lambda view, level=level: self._leave(view, level.path, level.entry)
                continue
            self._names += 1
            path = self._path(level, entry)
            if path is None:
                continue
            if kind(entry) != stat.S_IFDIR:
                yield lambda view, path=path, entry=entry: self._guarded(view, path, entry)
            elif self._enter(path, entry):
                made: list[bool] = []
                yield lambda view, path=path, made=made: self._directory(view, path, made)
                if made:
                    waiting.append(_Level(path, entry, self.source.entries(entry.ino)))

    def _path(self, level: _Level, entry: Entry) -> str | None:
        """Return where a name goes, or name what is wrong with it."""
        name = entry.name.decode("utf-8", "surrogateescape")
        path = join(level.path, name)
        reason = wrong_name(entry.name, path) or wrong_inode(entry)
        if entry.name == level.last:
            reason = "its directory has the name twice"
        level.last = entry.name
        if reason is not None:
            self.totals.leave_out(ascii(path) if "\0" in name else path, reason)
            return None
        return path

    def _enter(self, path: str, entry: Entry) -> bool:
        if entry.ino in self._entered:
            reason = f"its directory, inode {entry.ino}, is somewhere else already"
            self.totals.leave_out(path, reason)
            return False
        self._entered.add(entry.ino)
        return True

    def _directory(self, view: View, path: str, made: list[bool]) -> None:
        """Make a directory; `made` gets an item when its names can follow."""
        node = _node_at(view, path)
        if node is None:
            tree.mkdir(view, path, 0o755, parents=False, exist_ok=False)
        elif node.kind != DIRECTORY:
            self.totals.leave_out(path, "something that is no directory is there already")
            return
        made.append(True)
        self.totals.directories += 1

    def _leave(self, view: View, path: str, entry: Entry) -> None:
        """Give a directory its mode and time, now that nothing else will be put into it."""
        node = _node_at(view, path)
        if path == "/" or node is None or node.kind != DIRECTORY:
            return
        _give_owner(view, path, node, entry)
        mode, when = entry.mode & KEPT_MODE, mtime_ns(entry)
        if node.mode != mode:
            tree.chmod(view, path, mode)
        if node.mtime_ns != when:
            tree.utime(view, path, when)

    def _guarded(self, view: View, path: str, entry: Entry) -> None:
        """Bring one file or link in, or name why not."""
        try:
            if kind(entry) == stat.S_IFLNK:
                self._symlink(view, path, entry)
            elif kind(entry) in posix.SPECIAL:
                self._special(view, path, entry)
            elif entry.ino in self._linked:
                self._name_of_linked(view, path, entry)
            else:
                self._file(view, path, entry, alone=True)
        except Bad as error:
            self.totals.leave_out(path, str(error))

    def _symlink(self, view: View, path: str, entry: Entry) -> None:
        target = self.source.target(entry.ino, _TARGET_BYTES + 1)
        if not target or b"\0" in target:
            raise Bad(f"a link's target has 1 to {_TARGET_BYTES} bytes and no NUL")
        when = mtime_ns(entry)
        old = _node_at(view, path)
        xattrs = posix.write(None, _owner(entry))
        if old is not None and old.kind == SYMLINK:
            same = (old.mtime_ns, old.xattrs) == (when, xattrs)
            if same and nodes.data(view.session, old.id) == target:
                self.totals.unchanged += 1
                return
        _make_room(view, path, old)
        made = nodes.make_symlink(view, target, when, xattrs)
        place = directories.locate(view, path, follow=False, through=False)
        directories.set_entry(view, place.directory, place.name, made, True)
        journal.append(view, "put", path, after=made)
        self.totals.symlinks += 1

    def _special(self, view: View, path: str, entry: Entry) -> None:
        """Bring in a FIFO, socket or device node; only a mount lets programs use it."""
        old = _node_at(view, path)
        extra = _owner(entry)._replace(special=posix.SPECIAL[kind(entry)])
        if extra.special in ("character", "block"):
            known = isinstance(entry.rdev, int) and 0 <= entry.rdev < 2**32
            extra = extra._replace(device=entry.rdev if known else 0)
        expected = (entry.mode & KEPT_MODE, mtime_ns(entry), extra)
        if old is not None and (old.mode, old.mtime_ns, posix.read(old.xattrs)) == expected:
            self.totals.unchanged += 1
            return
        _make_room(view, path, old)
        tree.mknod(view, path, entry.mode, extra.device)
        made = _node_at(view, path)
        if made is not None:
            _give_owner(view, path, made, entry)
        tree.utime(view, path, mtime_ns(entry))
        self.totals.files += 1

    def _name_of_linked(self, view: View, path: str, entry: Entry) -> None:
        """Bring in the first name of a file with its content, the others as hard links to it."""
        if entry.ino not in self._first:
            self._first[entry.ino] = None
            self._file(view, path, entry, alone=False)
            self._first[entry.ino] = path
            return
        first = self._first[entry.ino]
        if first is None:
            raise Bad("another name of its file was left out")
        old, there = _node_at(view, path), _node_at(view, first)
        if _same_link(view, old, there):
            self.totals.unchanged += 1
            return
        _make_room(view, path, old)
        tree.link(view, first, path)
        self.totals.links += 1

    def _file(self, view: View, path: str, entry: Entry, alone: bool) -> None:
        content = Content(self.source, entry)
        place = directories.locate(view, path, follow=False)
        node = place.node
        if node is not None and (not _is_plain(node) or (alone and place.shown is not None)):
            _make_room(view, path, _node_at(view, path))
            place = directories.locate(view, path, follow=False)
        elif node is not None and _same_file(view, node, entry, content):
            self.totals.unchanged += 1
            return
        content.write(view, place)
        if not content.is_dense:
            missing = f"{entry.size - content.stored} of {entry.size} bytes are not stored"
            self.totals.note(path, f"{missing} and read as zeros")
        made = directories.locate(view, path, follow=False).node
        if made is not None:
            _give_owner(view, path, made, entry)
        self.totals.files += 1
        self.totals.bytes += content.stored

    # -- keys -------------------------------------------------------------------------------

    def _key(self, raw: bytes, value: bytes | None) -> None:
        shown = f"key {raw.decode('utf-8', 'surrogateescape')!a}"
        if value is None:
            self.totals.leave_out(shown, "its value is too long")
            return
        try:
            key, found = raw.decode(), json.loads(value.decode())
            missing = object()
            if not _is_same(self.fs.kv.get(key, missing), found):
                self.fs.kv.set(key, found)
                self.totals.keys += 1
        except (ValueError, RecursionError) as error:
            self.totals.leave_out(shown, f"it is not JSON: {error}")
        except InvalidArgument as error:
            self.totals.leave_out(shown, error.reason)


def _is_same(one: Any, two: Any) -> bool:
    """Say whether two values are the same JSON; 1, 1.0 and true are not."""
    try:
        return json.dumps(one) == json.dumps(two)
    except TypeError:
        return False


def _same_file(view: View, node: Node, entry: Entry, content: Content) -> bool:
    expected = (entry.size, entry.mode & KEPT_MODE, mtime_ns(entry))
    if (node.size, node.mode, node.mtime_ns) != expected or not _has_owner(node, entry):
        return False
    return content.same_as(view, node)


def _is_plain(node: Node) -> bool:
    return node.kind == FILE and posix.read(node.xattrs).special is None


def _owner(entry: Entry) -> posix.Extra:
    """Return the owner as it is stored; what every volume of the Python package has, 0, is none."""
    return posix.Extra(_id(entry.uid, os.geteuid()), _id(entry.gid, os.getegid()))


def _id(stored: Any, own: int) -> int | None:
    known = isinstance(stored, int) and 0 < stored <= posix.MAX_ID
    return stored if known and stored != own else None


def _has_owner(node: Node, entry: Entry) -> bool:
    return posix.read(node.xattrs)[:2] == _owner(entry)[:2]


def _give_owner(view: View, path: str, node: Node, entry: Entry) -> None:
    if _has_owner(node, entry):
        return
    uid, gid, *_ = _owner(entry)
    own = os.geteuid(), os.getegid()
    tree.chown(view, path, own[0] if uid is None else uid, own[1] if gid is None else gid, False)
    if node.mode & (stat.S_ISUID | stat.S_ISGID):
        tree.chmod(view, path, node.mode)


def _same_link(view: View, one: Node | None, two: Node | None) -> bool:
    if one is None or two is None or one.kind != nodes.LINK or two.kind != nodes.LINK:
        return False
    left, right = (directories.link_target(view.session, each) for each in (one, two))
    return left[0] == right[0]


def _make_room(view: View, path: str, node: Node | None) -> None:
    """Remove what is at a path, but not a directory."""
    if node is None:
        return
    if node.kind == DIRECTORY:
        raise Bad("a directory is there already")
    tree.remove(view, path, recursive=False)


def _node_at(view: View, path: str) -> Node | None:
    try:
        return directories.locate(view, path, follow=False, through=False).node
    except NotFound:
        return None
