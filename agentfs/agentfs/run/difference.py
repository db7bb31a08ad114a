"""What a command changed in a directory of the host, and bringing it into a branch.

What is surveyed is the work of a command that nobody trusts: nothing follows a symbolic link.
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agentfs.errors import NotADirectory, NotFound
from agentfs.paths import is_inside, join
from agentfs.types import Stat

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

Facts = tuple[int, int, int, int, int, int]
"""Mode, size, mtime, ctime, inode and number of names; of a directory only the mode."""
_OWN_ATTRIBUTES = "user.overlay."


class Item(NamedTuple):
    """Something of the host that goes to a relative path; an empty one is the top itself."""

    relative: str
    source: str
    info: os.stat_result
    fresh: bool = False
    """Whether a hard link of the branch at this path is replaced and not written through."""


@dataclass(slots=True)
class Difference:
    """Relative paths that went, and what is there now, parents before children."""

    removed: list[str] = field(default_factory=list)
    present: list[Item] = field(default_factory=list)


# -- what differs ---------------------------------------------------------------------------------


def survey(top: str) -> dict[str, Facts]:
    """Return what tells one state of each path from another, parents before children."""
    return {item.relative: _facts(item.info) for item in items(top)}


def items(top: str) -> Iterator[Item]:
    """Yield a directory and all below it, parents before children."""
    try:
        info = os.lstat(top)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        return
    yield Item("", top, info)
    waiting = [("", top, info)]
    while waiting:
        relative, source, info = waiting.pop()
        for each in _entries(source, info):
            inner = os.path.join(relative, each.name)
            with suppress(FileNotFoundError):
                found = each.stat(follow_symlinks=False)
                yield Item(inner, each.path, found)
                if stat.S_ISDIR(found.st_mode):
                    waiting.append((inner, each.path, found))


def _entries(source: str, info: os.stat_result) -> list[os.DirEntry[str]]:
    with readable(source, info), os.scandir(source) as found:
        return sorted(found, key=lambda each: each.name)


@contextmanager
def readable(source: str, info: os.stat_result) -> Iterator[None]:
    """Let us read what the command has taken our permission from, and put its mode back."""
    needed = 0o500 if stat.S_ISDIR(info.st_mode) else 0o400
    if info.st_mode & needed == needed or os.geteuid() == 0:
        yield
        return
    os.chmod(source, stat.S_IMODE(info.st_mode) | needed)
    try:
        yield
    finally:
        if not stat.S_ISDIR(info.st_mode):
            os.chmod(source, stat.S_IMODE(info.st_mode))


def _facts(info: os.stat_result) -> Facts:
    if stat.S_ISDIR(info.st_mode):
        return (info.st_mode, 0, 0, 0, 0, 0)
    return (
        info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_nlink
    )  # fmt: skip


def settle(folder: str) -> None:
    """Wait until the clock of a file system has moved on, a few milliseconds at the most.

    What is changed from then on has another ctime than anything that is there now.
    """
    probe = os.path.join(folder, "clock")
    with open(probe, "wb") as file:
        start = os.fstat(file.fileno()).st_ctime_ns
        while os.fstat(file.fileno()).st_ctime_ns <= start:
            time.sleep(0.0005)
            os.fchmod(file.fileno(), 0o600)
    os.unlink(probe)


def save(facts: dict[str, Facts], path: str) -> None:
    """Keep a survey for after a kill."""
    with open(path, "w", encoding="ascii") as file:
        json.dump(facts, file)


def load(path: str) -> dict[str, Facts]:
    """Return a survey that was kept."""
    with open(path, encoding="ascii") as file:
        return {name: tuple(facts) for name, facts in json.load(file).items()}


def since(before: dict[str, Facts], top: str) -> Difference:
    """Return what differs below a directory from what a survey found there."""
    found = Difference()
    after: dict[str, int] = {}
    for item in items(top):
        after[item.relative] = stat.S_IFMT(item.info.st_mode)
        old = before.get(item.relative)
        if old != _facts(item.info):
            replaced = old is not None and old[4] != item.info.st_ino
            found.present.append(item._replace(fresh=replaced))
    gone = [each for each in before if after.get(each) != stat.S_IFMT(before[each][0]) and each]
    found.removed = topmost(gone)
    return found


def topmost(paths: list[str]) -> list[str]:
    """Return the paths that are below no other one."""
    kept: set[str] = set()
    for path in sorted(paths, key=lambda each: each.count("/")):
        parts = path.split("/")
        if not any("/".join(parts[:count]) in kept for count in range(1, len(parts))):
            kept.add(path)
    return sorted(kept)


# -- bringing it in -------------------------------------------------------------------------------


@dataclass(slots=True)
class Bringing:
    """Brings a difference into a branch below a path; `skipped` names what it cannot hold."""

    fs: AgentFS
    at: str
    skipped: list[str] = field(default_factory=list)
    _linked: dict[int, str] = field(default_factory=dict)
    _there: set[str] = field(default_factory=set)

    def run(self, difference: Difference) -> None:
        """Bring all of it in, in one transaction."""
        with self.fs.transaction():
            for relative in difference.removed:
                self._remove(self._path(relative))
            for item in difference.present:
                path = self._path(item.relative)
                self._make_above(item, path)
                self._one(item, path)

    def _path(self, relative: str) -> str:
        return join(self.at, relative) if relative else self.at

    def _make_above(self, item: Item, path: str) -> None:
        """Make the directories above a path that are gone from the branch."""
        above, host = posixpath.dirname(path), os.path.dirname(item.source)
        if not item.relative or above in self._there or is_inside(self.at, above):
            return
        if not self.fs.is_dir(above):
            self._make_above(Item(os.path.dirname(item.relative), host, item.info), above)
            self._clear(above, _lstat(self.fs, above))
            self.fs.mkdir(above, mode=stat.S_IMODE(os.lstat(host).st_mode))
        self._there.add(above)

    def _remove(self, path: str) -> None:
        with suppress(NotFound, NotADirectory):
            self.fs.remove(path, recursive=True)

    def _one(self, item: Item, path: str) -> None:
        mode = item.info.st_mode
        there = _lstat(self.fs, path)
        if stat.S_ISDIR(mode):
            self._directory(item, path, there)
        elif stat.S_ISLNK(mode):
            self._clear(path, there)
            self.fs.symlink(os.readlink(item.source), path)
        elif not stat.S_ISREG(mode):
            self._clear(path, there)
            self.fs.mknod(path, mode, item.info.st_rdev)
        elif not self._same_file(item, path, there):
            self._file(item, path, there)
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            self._xattrs(item, path)

    def _clear(self, path: str, there: Stat | None) -> None:
        if there is not None:
            self.fs.remove(path, recursive=True)

    def _directory(self, item: Item, path: str, there: Stat | None) -> None:
        mode = stat.S_IMODE(item.info.st_mode)
        if there is None or not there.is_dir:
            self._clear(path, there)
            self.fs.mkdir(path, parents=True, mode=mode)
        elif there.mode != mode:
            self.fs.chmod(path, mode)

    def _same_file(self, item: Item, path: str, there: Stat | None) -> bool:
        """Make a hard link to a name of the same file that came before, if there is one."""
        if item.info.st_nlink < 2:
            return False
        first = self._linked.setdefault(item.info.st_ino, path)
        if first == path:
            return False
        if there is None or there.node != self.fs.lstat(first).node:
            self._clear(path, there)
            self.fs.link(first, path)
        return True

    def _file(self, item: Item, path: str, there: Stat | None) -> None:
        broken = there is not None and there.links > 1 and item.fresh
        if there is not None and (broken or not there.is_file):
            self._clear(path, there)
        with readable(item.source, item.info):
            totals = self.fs.put_tree(item.source, path)
        self.skipped += totals.failed + totals.skipped
        mode = stat.S_IMODE(item.info.st_mode)
        now = _lstat(self.fs, path)
        if now is not None and now.mode != mode:
            self.fs.chmod(path, mode)

    def _xattrs(self, item: Item, path: str) -> None:
        found = _host_xattrs(item)
        known = {each for each in self.fs.listxattr(path) if each.startswith("user.")}
        for name, value in found.items():
            if name not in known or self.fs.getxattr(path, name) != value:
                self.fs.setxattr(path, name, value)
        for name in known - found.keys():
            self.fs.removexattr(path, name)


def _host_xattrs(item: Item) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if not hasattr(os, "listxattr"):  # only Linux has them
        return found
    with suppress(OSError), readable(item.source, item.info):
        for name in os.listxattr(item.source, follow_symlinks=False):
            if name.startswith("user.") and not name.startswith(_OWN_ATTRIBUTES):
                found[name] = os.getxattr(item.source, name, follow_symlinks=False)
    return found


def _lstat(fs: AgentFS, path: str) -> Stat | None:
    try:
        return fs.lstat(path)
    except (NotFound, NotADirectory):
        return None


def conflicts(
    difference: Difference, at: str, meanwhile: Iterable[str], is_dir: Callable[[str], bool]
) -> list[str]:
    """Return the paths of a difference that the branch changed meanwhile, too.

    `meanwhile` are the paths of the volume that changed, `is_dir` says what is a directory now. A
    directory on both sides is no conflict.
    """
    changed = set(meanwhile)
    found: set[str] = set()
    for relative in difference.removed:
        path = join(at, relative)
        if any(is_inside(each, path) or is_inside(path, each) for each in changed):
            found.add(path)
    for item in difference.present:
        path = join(at, item.relative) if item.relative else at
        both = stat.S_ISDIR(item.info.st_mode) and is_dir(path)
        if (path in changed and not both) or _lost_parent(path, changed, is_dir):
            found.add(path)
    return sorted(found)


def _lost_parent(path: str, changed: set[str], is_dir: Callable[[str], bool]) -> bool:
    above = posixpath.dirname(path)
    while above != "/":
        if above in changed and not is_dir(above):
            return True
        above = posixpath.dirname(above)
    return False
