"""Brings trees of the host in and out, in batches of bounded size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import directories, files, journal, nodes, tree
from .errors import HostError
from .nodes import DIRECTORY, View
from .paths import join, to_stored
from .types import Totals

if TYPE_CHECKING:
    from .filesystem import AgentFS

Progress = Callable[[Totals], None]
_BATCH_FILES = 1000
_BATCH_BYTES = 64 * 1024 * 1024


class HostItem(NamedTuple):
    """One directory, file or link of the host and where it goes."""

    source: str
    path: str
    info: os.stat_result


class Put:
    """One transfer into a volume."""

    def __init__(self, fs: AgentFS, root: str, exclude: tuple[str, ...]) -> None:
        """Begin with nothing moved."""
        self.fs = fs
        self.root = root
        self.exclude = exclude
        self.totals = Totals()
        own = str(fs.path)
        self._own = {os.path.realpath(own + each) for each in ("", "-wal", "-shm", "-journal")}

    def items(self, source: str, path: str) -> Iterator[HostItem]:
        """Yield what is at and below a host path, directories first."""
        info = os.lstat(source)
        if stat.S_ISDIR(info.st_mode):
            yield HostItem(source, path, info)
            with os.scandir(source) as listing:
                found = sorted(listing, key=lambda each: each.name)
            for each in found:
                if not self._excluded(each.path, each.name):
                    yield from self._inner(each.path, join(path, each.name))
        elif self._wanted(source, info):
            yield HostItem(source, path, info)

    def _inner(self, source: str, path: str) -> Iterator[HostItem]:
        try:
            yield from self.items(source, path)
        except OSError as error:
            self._fail(source, error)

    def _excluded(self, source: str, name: str) -> bool:
        if not self.exclude:
            return False
        relative = os.path.relpath(source, self.root)
        return any(fnmatch(name, each) or fnmatch(relative, each) for each in self.exclude)

    def _wanted(self, source: str, info: os.stat_result) -> bool:
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
            self._skip(source, "it is no file, directory or link")
        elif os.path.realpath(source) in self._own and not stat.S_ISLNK(info.st_mode):
            self._skip(source, "it is the volume itself")
        else:
            return True
        return False

    def _skip(self, source: str, reason: str) -> None:
        self.totals.skipped.append(f"{source}: {reason}")

    def _fail(self, source: str, error: OSError) -> None:
        self.totals.failed.append(f"{source}: {error.strerror or error}")

    def batch(self, items: Iterator[HostItem]) -> bool:
        """Bring in one batch in one transaction; say whether there may be more."""
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
            _put_directory(view, item)
            self.totals.directories += 1
        elif stat.S_ISLNK(mode):
            _put_symlink(view, item)
            self.totals.symlinks += 1
        else:
            self._file(view, item)

    def _file(self, view: View, item: HostItem) -> None:
        try:
            with open(item.source, "rb", buffering=0) as file:
                data = file.readall()
        except OSError as error:
            self._fail(item.source, error)
            return
        place = directories.locate(view, item.path)
        mode = stat.S_IMODE(item.info.st_mode)
        files.write_at(view, place, data, mode, "put", item.info.st_mtime_ns)
        self.totals.files += 1
        self.totals.bytes += len(data)


def _put_directory(view: View, item: HostItem) -> None:
    place = directories.locate(view, item.path)
    if place.node is None:
        mode = stat.S_IMODE(item.info.st_mode)
        tree.mkdir(view, item.path, mode, parents=True, exist_ok=True)
    elif place.node.kind != DIRECTORY:
        tree.mkdir(view, item.path, 0o755, parents=False, exist_ok=False)


def _put_symlink(view: View, item: HostItem) -> None:
    place = directories.locate(view, item.path, follow=False)
    if place.node is not None and place.node.kind == DIRECTORY:
        tree.remove(view, item.path, recursive=False)
    stored = to_stored(os.readlink(item.source))
    raw = stored.encode() if isinstance(stored, str) else stored
    node_id = nodes.make_symlink(view, raw, item.info.st_mtime_ns)
    directories.set_entry(view, place.directory, place.name, node_id, place.node is None)
    before = place.node.id if place.node else None
    journal.append(view, "put", place.path, before=before, after=node_id)


def put_tree(
    fs: AgentFS, source: Path, path: str, exclude: tuple[str, ...], progress: Progress | None
) -> Totals:
    """Bring a host file or tree to a path of the volume.

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


def get_tree(fs: AgentFS, path: str, target: Path) -> Totals:
    """Write a file or tree of the volume to a host path.

    Raises:
        NotFound: nothing is at the path.
        HostError: the host refuses a file.
    """
    totals = Totals()
    try:
        _get(fs, path, os.fspath(target), totals)
    except OSError as error:
        if getattr(error, "code", None) is not None:
            raise
        raise HostError(str(target), error.strerror or str(error)) from error
    return totals


def _get(fs: AgentFS, path: str, target: str, totals: Totals) -> None:
    info = fs.lstat(path)
    if info.is_symlink:
        _get_symlink(fs.readlink(path), target)
        totals.symlinks += 1
        return
    if info.is_dir:
        os.makedirs(target, exist_ok=True)
        for entry in fs.scandir(path):
            _get(fs, entry.path, os.path.join(target, entry.name), totals)
        totals.directories += 1
    else:
        data = fs.read(path)
        _write_host(target, data)
        totals.files += 1
        totals.bytes += len(data)
    os.chmod(target, info.mode)
    os.utime(target, ns=(info.mtime_ns, info.mtime_ns))


def _get_symlink(link: str, target: str) -> None:
    if os.path.lexists(target):
        os.unlink(target)
    os.symlink(link, target)


def _write_host(target: str, data: bytes) -> None:
    """Replace a host file; a link there is replaced, not followed out of the target tree."""
    if os.path.islink(target):
        os.unlink(target)
    with open(target, "wb") as file:
        file.write(data)
