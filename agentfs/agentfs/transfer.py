"""Brings trees of the host in and out, in batches of bounded size.

A volume may come from a hostile agent: what goes out stays below the target, whatever links are
there already, and carries no set-user-id bits. Nothing here recurses, so no tree is too deep.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from functools import lru_cache
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import directories, files, journal, nodes, tree
from .errors import AgentFSError, HostError, NameTooLong, NotFound, PermissionDenied
from .nodes import DIRECTORY, Node, View
from .paths import VOLUME_SUFFIXES, join, normalise, to_stored
from .types import DirEntry, Stat, Totals

if TYPE_CHECKING:
    from .filesystem import AgentFS

Progress = Callable[[Totals], None]
_BATCH_FILES = 1000
_BATCH_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 8 * 1024 * 1024
_KEPT_MODE = 0o1777  # a file must not become a set-user-id program of whoever copies it out
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class HostItem(NamedTuple):
    """One directory, file or link of the host and where it goes.

    A directory comes twice: before what is in it, and `done` after that.
    """

    source: str
    path: str
    info: os.stat_result
    done: bool = False


class Put:
    """One transfer into a volume."""

    def __init__(
        self, fs: AgentFS, root: str, exclude: tuple[str, ...], gone_is_nothing: bool = False
    ) -> None:
        """Begin with nothing moved."""
        self.fs = fs
        self.root = root
        self.exclude = exclude
        self.totals = Totals()
        self._gone_is_nothing = gone_is_nothing
        self._made: set[str] = set()
        self._own = own_files(fs)

    def items(self, source: str, path: str) -> Iterator[HostItem]:
        """Yield what is at and below a host path."""
        try:
            info = os.lstat(source)
        except OSError as error:
            self._fail(source, error)
            return
        if not stat.S_ISDIR(info.st_mode):
            if self._wanted(source, path, info):
                yield HostItem(source, path, info)
            return
        top = HostItem(source, path, info)
        yield top
        waiting = [(top, self._below(top))]
        while waiting:
            directory, below = waiting[-1]
            item = next(below, None)
            if item is None:
                waiting.pop()
                yield directory._replace(done=True)
                continue
            yield item
            if stat.S_ISDIR(item.info.st_mode):
                waiting.append((item, self._below(item)))

    def _below(self, directory: HostItem) -> Iterator[HostItem]:
        """Yield what is in one directory of the host, sorted by name."""
        try:
            with os.scandir(directory.source) as listing:
                found = sorted(listing, key=lambda each: each.name)
        except OSError as error:
            self._fail(directory.source, error)
            return
        for each in found:
            if self._excluded(each.path, each.name):
                continue
            path = join(directory.path, each.name)
            try:
                info = each.stat(follow_symlinks=False)
            except OSError as error:
                self._fail(each.path, error)
                continue
            if self._wanted(each.path, path, info):
                yield HostItem(each.path, path, info)

    def _excluded(self, source: str, name: str) -> bool:
        if not self.exclude:
            return False
        relative = os.path.relpath(source, self.root)
        return any(fnmatch(name, each) or fnmatch(relative, each) for each in self.exclude)

    def _wanted(self, source: str, path: str, info: os.stat_result) -> bool:
        mode = info.st_mode
        try:
            normalise(path, self.fs.system)
        except (NameTooLong, PermissionDenied) as error:
            self._skip(source, str(error))
            return False
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
            self._skip(source, "it is no file, directory or link")
        elif stat.S_ISREG(mode) and os.path.realpath(source) in self._own:
            self._skip(source, "it is the volume itself")
        else:
            return True
        return False

    def _skip(self, source: str, reason: str) -> None:
        self.totals.skipped.append(f"{source}: {reason}")

    def _fail(self, source: str, error: OSError) -> None:
        if self._gone_is_nothing and isinstance(error, FileNotFoundError):
            return
        self.totals.failed.append(f"{source}: {error.strerror or error}")

    def batch(self, items: Iterator[HostItem]) -> bool:
        """Bring in one batch in one transaction; say whether there may be more."""
        before = replace(self.totals)
        try:
            return self._batch(items)
        except AgentFSError as error:
            error.add_note(
                f"{before.files} files, {before.directories} directories and {before.symlinks}"
                " links before it are in the volume; what came after is not"
            )
            raise

    def _batch(self, items: Iterator[HostItem]) -> bool:
        limit = self.totals.bytes + _BATCH_BYTES
        with self.fs.view_for_writing() as view:
            for _ in range(_BATCH_FILES):
                item = next(items, None)
                if item is None:
                    return False
                self._one(view, item)
                if self.totals.bytes > limit:
                    break
        return True

    def _one(self, view: View, item: HostItem) -> None:
        mode = item.info.st_mode
        if stat.S_ISDIR(mode):
            self._directory(view, item)
        elif stat.S_ISLNK(mode):
            self._symlink(view, item)
        else:
            self._file(view, item)

    def _directory(self, view: View, item: HostItem) -> None:
        """Make a directory; when all is in it, give one that was made here the host's time."""
        if item.done:
            if item.path in self._made:
                self._made.remove(item.path)
                tree.utime(view, item.path, item.info.st_mtime_ns)
            return
        node = _node_at(view, item.path)
        if node is None:
            mode = stat.S_IMODE(item.info.st_mode)
            tree.mkdir(view, item.path, mode, parents=True, exist_ok=True)
            self._made.add(item.path)
        elif node.kind != DIRECTORY:
            tree.mkdir(view, item.path, 0o755, parents=False, exist_ok=False)
        self.totals.directories += 1

    def _symlink(self, view: View, item: HostItem) -> None:
        try:
            target = os.readlink(item.source)
        except OSError as error:
            self._fail(item.source, error)
            return
        _put_symlink(view, item, target)
        self.totals.symlinks += 1

    def _file(self, view: View, item: HostItem) -> None:
        try:
            with open(os.open(item.source, _READ), "rb", buffering=0) as file:
                size = _put_file(view, item, _blocks(file))
        except _HostRead as error:
            self._fail(item.source, error.reason)
        except OSError as error:
            if isinstance(error, AgentFSError):
                raise
            self._fail(item.source, error)
        else:
            self.totals.files += 1
            self.totals.bytes += size


def own_files(fs: AgentFS) -> frozenset[str]:
    """Return the host paths of the volume's own files, which no transfer takes in."""
    return _own_files(str(fs.path))


@lru_cache(maxsize=16)
def _own_files(path: str) -> frozenset[str]:
    return frozenset(os.path.realpath(path + each) for each in VOLUME_SUFFIXES)


class _HostRead(Exception):
    """A host file that could not be read to its end."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _blocks(file: RawIOBase) -> Iterator[bytes]:
    try:
        while block := file.read(_PIECE_BYTES):
            yield block
    except OSError as error:
        raise _HostRead(error) from error


def _put_file(view: View, item: HostItem, blocks: Iterator[bytes]) -> int:
    """Store a host file, holding one block of it in memory; return its size."""
    place = directories.locate(view, item.path)
    mode, expected = stat.S_IMODE(item.info.st_mode), item.info.st_size
    made = files.write_stream(view, place, blocks, expected, mode, "put", item.info.st_mtime_ns)
    return nodes.get(view.session, made).size


def _node_at(view: View, path: str) -> Node | None:
    try:
        return directories.locate(view, path).node
    except NotFound:
        return None


def _put_symlink(view: View, item: HostItem, target: str) -> None:
    place = directories.locate(view, item.path, follow=False)
    if place.shown is not None or (place.node is not None and place.node.kind == DIRECTORY):
        tree.remove(view, item.path, recursive=False)
        place = directories.locate(view, item.path, follow=False)
    stored = to_stored(target)
    raw = stored.encode() if isinstance(stored, str) else stored
    node_id = nodes.make_symlink(view, raw, item.info.st_mtime_ns)
    directories.set_entry(view, place.directory, place.name, node_id, place.node is None)
    before = place.node.id if place.node else None
    journal.append(view, "put", place.path, before=before, after=node_id)


def put_tree(
    fs: AgentFS, source: Path, path: str, exclude: tuple[str, ...], progress: Progress | None
) -> Totals:
    """Bring a host file or tree to a path of the volume.

    Batches are atomic: what stops a transfer leaves whole files, and the same call goes on with
    it. Inside `fs.transaction()` it is all or nothing.

    Raises:
        HostError: the host path does not exist or cannot be read.
    """
    root = os.path.abspath(source)
    if not os.path.exists(root):
        raise HostError(str(source), "it does not exist")
    put = Put(fs, root, exclude)
    items = put.items(os.path.realpath(root), path)
    more = True
    while more:
        more = put.batch(items)
        if progress is not None:
            progress(put.totals)
    return put.totals


def put_below(
    fs: AgentFS, root: Path, relative: str, path: str, exclude: tuple[str, ...],
    passed: list[HostItem] | None = None, progress: Progress | None = None,
) -> Totals:  # fmt: skip
    """Bring what is at a name below a host directory to a path; a link stays a link.

    `exclude` is relative to the host directory; `passed` gets what came by. What has gone
    meanwhile is nothing.
    """
    put = Put(fs, str(root), exclude, gone_is_nothing=True)
    items = put.items(os.path.join(root, relative), path)
    if passed is not None:
        items = _noted(items, passed)
    more = True
    while more:
        more = put.batch(items)
        if progress is not None:
            progress(put.totals)
    return put.totals


def _noted(items: Iterator[HostItem], passed: list[HostItem]) -> Iterator[HostItem]:
    for item in items:
        passed.append(item)
        yield item


def get_tree(fs: AgentFS, path: str, target: Path) -> Totals:
    """Write a file or tree of the volume, as it is at one moment, to a host path.

    Host files are replaced as a whole, and links below the target are replaced, not followed.

    Raises:
        NotFound: nothing is at the path.
        HostError: the host refuses a file.
    """
    get = Get(fs)
    try:
        with fs.view_for_reading():
            get.run(path, os.fspath(target))
    except AgentFSError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or target
        raise HostError(os.fsdecode(where), error.strerror or str(error)) from error
    return get.totals


class Get:
    """One transfer out of a volume."""

    def __init__(self, fs: AgentFS) -> None:
        """Begin with nothing moved."""
        self.fs = fs
        self.totals = Totals()

    def run(self, path: str, target: str) -> None:
        """Write what is at a path to a host path."""
        info = self.fs.lstat(path)
        if not info.is_dir:
            self._one(DirEntry("", path, info), target, top=True)
            return
        os.makedirs(target, exist_ok=True)
        waiting = [(info, target, iter(self.fs.scandir(path)))]
        while waiting:
            info, here, below = waiting[-1]
            entry = next(below, None)
            if entry is None:
                waiting.pop()
                self.totals.directories += 1
                _set_attributes(here, info)
                continue
            inner = os.path.join(here, entry.name)
            if entry.stat.is_dir:
                _make_directory(inner)
                waiting.append((entry.stat, inner, iter(self.fs.scandir(entry.path))))
            else:
                self._one(entry, inner)

    def _one(self, entry: DirEntry, target: str, top: bool = False) -> None:
        if entry.stat.is_symlink:
            _get_symlink(self.fs.readlink(entry.path), entry.stat, target)
            self.totals.symlinks += 1
        elif not entry.stat.is_file:
            self.totals.skipped.append(f"{entry.path}: it is a {entry.stat.kind}, no file")
        elif top and os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb", buffering=0) as file:  # a device or pipe that was named
                self._copy(entry, file.fileno())
        else:
            self._file(entry, target)

    def _file(self, entry: DirEntry, target: str) -> None:
        """Write beside the target, then rename: no reader of the host sees half a file."""
        beside = os.path.join(os.path.dirname(target), f".agentfs-{os.urandom(8).hex()}")
        file = os.open(beside, _CREATE, 0o600)
        try:
            try:
                self._copy(entry, file)
            finally:
                os.close(file)
            _set_attributes(beside, entry.stat)
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise

    def _copy(self, entry: DirEntry, file: int) -> None:
        for start in range(0, entry.stat.size, _PIECE_BYTES):
            piece = memoryview(self.fs.read(entry.path, start, start + _PIECE_BYTES))
            self.totals.bytes += len(piece)
            while piece:
                piece = piece[os.write(file, piece) :]
        self.totals.files += 1


def _make_directory(target: str) -> None:
    """Make a directory, in place of anything else that has its name."""
    try:
        os.mkdir(target)
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(target).st_mode):
            return
        os.unlink(target)
        os.mkdir(target)


def _set_attributes(target: str, info: Stat) -> None:
    os.chmod(target, info.mode & _KEPT_MODE)
    os.utime(target, ns=(info.mtime_ns, info.mtime_ns))


def _get_symlink(link: str, info: Stat, target: str) -> None:
    if os.path.lexists(target):
        os.unlink(target)
    os.symlink(link, target)
    os.utime(target, ns=(info.mtime_ns, info.mtime_ns), follow_symlinks=False)
