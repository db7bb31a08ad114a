"""Writes what a branch changed in an overlay to the host directory, guarded path by path.

A path is written only while the host still has its base there; if not, that is a conflict and the
path is left alone. Before a host file is replaced or removed, its content is kept in the volume:
other branches, snapshots and past states lead to it. Each path that was written moves the base, and
a run that was killed is finished by the next one: what the host has already is only noted. Of a
file's attributes the host gets the permission bits and the time; owners and extended attributes
stay what they are there.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from . import (
    chunklists,
    copyup,
    directories,
    edits,
    files,
    hostguard,
    journal,
    listing,
    nodes,
    overlay,
    posix,
    tree,
)
from .chunklists import ChunkList
from .connection import one
from .errors import HostChanged, HostError, InvalidArgument, VolumeError
from .hostfiles import HostRef, Identity, place
from .hostwrite import Guard, HostTree, is_own
from .nodes import DIRECTORY, FILE, ON_HOST, SYMLINK, Node, View
from .paths import SYSTEM_NAME, from_stored, is_inside, join
from .transaction import Session
from .types import Applied, Change, HostConflict, Overlay, Progress

if TYPE_CHECKING:
    from .filesystem import AgentFS

_IDENTITY = "SELECT identity FROM overlay WHERE id = ?"
_ON_HOST = "SELECT id, digest FROM node WHERE layout = -1 AND kind = 1"
_TAKE_IN = "UPDATE node SET layout = ?, data = ?, digest = ? WHERE id = ?"
_BATCH = 100
# The log is synced by it: what the host loses must be in the volume after a power cut too.
_TO_DISK = "PRAGMA wal_checkpoint(PASSIVE)"
_STOPS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class Step(NamedTuple):
    """One change to write; `path` is relative to the host directory."""

    path: str
    change: Change
    before: Node | None
    after: Node | None

    @property
    def was_directory(self) -> bool:
        """Say whether the base has a directory there."""
        return self.before is not None and self.before.kind == DIRECTORY

    @property
    def is_directory(self) -> bool:
        """Say whether the branch has a directory there."""
        return self.after is not None and self.after.kind == DIRECTORY

    @property
    def is_reserved(self) -> bool:
        """Say whether it is in a folder that is no part of an overlay."""
        return is_inside(f"/{self.path}", f"/{SYSTEM_NAME}")

    @property
    def is_replaced(self) -> bool:
        """Say whether a directory becomes a file or link."""
        return self.was_directory and self.after is not None and not self.is_directory

    @property
    def needs_room(self) -> bool:
        """Say whether the old must go before the new can be made: one of them is a directory."""
        return self.change.kind == "type" and (self.was_directory or self.is_directory)

    @property
    def is_kept(self) -> bool:
        """Say whether the volume has what the base has, as before anything is written."""
        return not _is_on_host(self.before)

    def again(self, session: Session) -> Step:
        """Return the step with its nodes as they are stored now."""
        before, after = (
            each if each is None else nodes.get(session, each.id)
            for each in (self.before, self.after)
        )
        return self._replace(before=before, after=after)


class Application:
    """One run of apply, of all changes of a branch in one overlay or of those at some paths."""

    def __init__(
        self, fs: AgentFS, at: str | None, paths: Sequence[str] | None, outside_links: bool
    ) -> None:
        """Find out what there is to write; nothing is done yet."""
        self.fs = fs
        self.outside_links = outside_links
        self.applied: list[Change] = []
        self.conflicts: dict[str, HostConflict] = {}
        # What each path was right after it was written, or was found to be there already.
        self._done: list[tuple[Step, os.stat_result | None]] = []
        with fs.view_for_reading() as view:
            self.overlay: Overlay = overlay.require(view, at)
            row = one(view.session.execute(_IDENTITY, (self.overlay.id,)), "overlay")
            self.identity = Identity(*json.loads(row[0]))
            changes = overlay.host_diff(view, self.overlay.at)
            _require_root(changes, self.overlay)
            if paths is not None:
                changes = select(changes, self.overlay, paths)
            self.steps = [self._step(view, each) for each in changes]

    def _step(self, view: View, change: Change) -> Step:
        before, after = (
            None if each is None else nodes.get(view.session, each.node)
            for each in (change.before, change.after)
        )
        return Step(overlay.relative(self.overlay, change.path), change, before, after)

    def result(self, dry_run: bool) -> Applied:
        """Return what was written and what was not."""
        left = {each.path for each in self.conflicts.values()}
        written = {each.path: each for each in self.applied if each.path not in left}
        conflicts = sorted(self.conflicts.values(), key=lambda each: each.path)
        return Applied(
            self.overlay, tuple(written[each] for each in sorted(written)), tuple(conflicts),
            dry_run,
        )  # fmt: skip

    # -- what must hold ---------------------------------------------------------------------

    def _check(self, view: View, host: HostTree, step: Step) -> None:
        """Refuse a step that must not be written.

        Raises:
            HostChanged: the host has not the base at the path.
            HostError: people alone may change it, or it leads out of the host directory.
        """
        self._check_wanted(view, host, step)
        if not host.has_parent(step.path):
            raise HostChanged(step.path, "its directory is gone on the host")
        if step.needs_room and step.is_kept and host.look(step.path) is None:
            return  # a run was killed between taking the old away and making the new
        why = hostguard.changed(view.session, host, self.overlay.id, step.path, step.before)
        if why and not _is_half_done(host, step):
            raise HostChanged(step.path, why)

    def _check_wanted(self, view: View, host: HostTree, step: Step) -> None:
        """Refuse what must not be on the host at all, or cannot be read."""
        if step.is_reserved:
            raise HostError(step.path, "a project's .fmos folder is for people to change")
        node = step.after
        if node is None:
            return
        above, name = posixpath.split(step.path)
        if is_own(name):
            raise HostError(step.path, "apply gives such names to its temporary files")
        if name in listing.own_names(view.session.path, place(self.overlay.host, above)):
            raise HostError(step.path, "it is a file of this volume itself")
        special = posix.read(node.xattrs).special
        if special is not None:
            raise HostError(step.path, f"a {special} is not written to a host directory")
        if node.kind == SYMLINK and not self.outside_links:
            self._check_target(step, from_stored(nodes.data(view.session, node.id)))
        if _is_on_host(node) and step.change.kind != "mode":
            self._check_source(view, host, node)

    def _check_source(self, view: View, host: HostTree, node: Node) -> None:
        """Refuse a moved or copied host file that is not any more what it was."""
        ref = HostRef.decode(nodes.data(view.session, node.id))
        if ref.overlay == self.overlay.id:
            why = hostguard.moved_on(view.session, host, ref.overlay, ref.path, ref)
            if why:
                raise HostChanged(ref.path, why)

    def _has(self, view: View, host: HostTree, step: Step) -> bool:
        """Say whether the host has what the step wants."""
        if step.is_reserved:
            return False
        modes = step.was_directory and step.is_directory
        try:
            return hostguard.reached(view.session, host, step.path, step.after, modes)
        except HostChanged:
            # It went with its directory, which an earlier run has replaced already.
            above = self._replaced_above(step) if step.after is None else None
            if above is None or not self._has(view, host, above):
                raise
            return True

    def _replaced_above(self, step: Step) -> Step | None:
        """Return the step of a directory around a path that becomes a file or link."""
        for each in self.steps:
            if each.is_replaced and step.path.startswith(f"{each.path}/"):
                return each
        return None

    def _check_target(self, step: Step, target: str) -> None:
        root = self.overlay.host
        here = posixpath.join(root, posixpath.dirname(step.path))
        if not is_inside(posixpath.normpath(posixpath.join(here, target)), root):
            raise HostError(step.path, f"the link leads out of the directory, to {target!r}")

    @contextmanager
    def _guarded(self, step: Step) -> Iterator[None]:
        """Turn what stops one path into a conflict; what would stop all of them goes on."""
        try:
            yield
        except VolumeError:
            raise
        except OSError as error:
            if error.errno in _STOPS and not isinstance(error, HostError):
                raise _stopped(place(self.overlay.host, step.path), error) from error
            reason = getattr(error, "reason", "") or error.strerror or str(error)
            self.conflicts[step.path] = HostConflict(step.change.path, step.change.kind, reason)

    # -- doing it -------------------------------------------------------------------------------

    def look(self) -> None:
        """Find out what a run would write, and what it would not."""
        made: set[str] = set()
        gone: set[str] = set()
        with (
            self.fs.view_for_reading() as view,
            HostTree(self.overlay.host, self.identity, lock=False) as host,
        ):
            for step, removes in _in_order(self.steps):
                with self._guarded(step):
                    is_below = posixpath.dirname(step.path) in made
                    is_new = is_below or not self._has(view, host, step)
                    if is_below:
                        self._check_wanted(view, host, step)
                    elif is_new:
                        self._check(view, host, step)
                        _check_rest(host, step, gone)
                    self.applied.append(step.change)
                    if removes:
                        gone.add(step.path)
                    elif is_new and step.is_directory and not step.was_directory:
                        made.add(step.path)

    def run(self, progress: Progress | None) -> None:
        """Write the changes to the host."""
        with self.fs.view_for_reading() as view:
            if view.session.depth:
                raise InvalidArgument("apply", "a transaction is open on this thread")
        with HostTree(self.overlay.host, self.identity) as host:
            for above in sorted({posixpath.dirname(each.path) for each in self.steps}):
                host.clean(above)
            self._keep_content(host)
            try:
                self._write(host, progress)
            finally:
                self._record(host)
        detail = {
            "host": self.overlay.host, "applied": len({each.path for each in self.applied}),
            "conflicts": sorted(self.conflicts)[:_BATCH],
        }  # fmt: skip
        with self.fs.view_for_writing() as view:
            journal.append(view, "overlay.apply", self.overlay.at, detail=detail)

    def _write(self, host: HostTree, progress: Progress | None) -> None:
        for number, (step, removes) in enumerate(_in_order(self.steps)):
            self._one(host, step, removes)
            if len(self._done) >= _BATCH:
                self._record(host)
            if progress is not None:
                progress("paths written to the host", number + 1)
        self._set_modes(host)

    def _keep_content(self, host: HostTree) -> None:
        """Take in the host files that will go or were moved, in all file versions of them."""
        wanted = [
            each for each in self.steps
            if each.change.kind != "mode" and (_is_on_host(each.before) or _is_on_host(each.after))
        ]  # fmt: skip
        if not wanted:
            return
        with self.fs.view_for_writing() as view:
            session = view.session
            versions: dict[bytes, list[int]] = {}
            for node_id, digest in session.execute(_ON_HOST).fetchall():
                versions.setdefault(digest, []).append(node_id)
            for step in wanted:
                with self._guarded(step):
                    self._keep(view, host, step.again(session), versions)
            session.forget()
        session.execute(_TO_DISK).fetchall()

    def _keep(
        self, view: View, host: HostTree, step: Step, versions: dict[bytes, list[int]]
    ) -> None:
        session = view.session
        is_going = _is_on_host(step.before) and not self._has(view, host, step)
        if is_going:
            self._check(view, host, step)
        for node in (step.before if is_going else None, step.after):
            if node is None or not _is_on_host(node):
                continue
            same = versions.pop(nodes.digest(nodes.data(session, node.id)), [])
            if same:
                self._check_source(view, host, node)
                layout, data = chunklists.encode(self._take(view, host, node))
                rows = [(layout, data, nodes.digest(data), each) for each in same]
                session.connection.executemany(_TAKE_IN, rows)

    def _take(self, view: View, host: HostTree, node: Node) -> ChunkList:
        """Store the content of a host file, which may have another time now."""
        session = view.session
        ref = HostRef.decode(nodes.data(session, node.id))
        known = hostguard.seen_hash(session, ref.overlay, ref.path, ref)
        info = host.look(ref.path) if ref.overlay == self.overlay.id else None
        if known is None or info is None or not ref.identity.difference(Identity.of(info)):
            return copyup.take(session, node)
        return edits.streamed(session, _expected(host, ref.path, known), node.size)

    def _one(self, host: HostTree, step: Step, removes: bool) -> None:
        """Do one step, unless the host has it already."""
        if step.path in self.conflicts:
            return
        with self._guarded(step), self.fs.view_for_reading() as view:
            step = step.again(view.session)
            info = None if step.after is None else host.look(step.path)
            if not self._has(view, host, step):
                self._check(view, host, step)
                guard = self._guard(view, host, step)
                info = None
                if removes:
                    _remove(host, step, guard)
                else:
                    info = self._put(view, host, step, guard)
            self._done.append((step, info))

    def _guard(self, view: View, host: HostTree, step: Step) -> Guard:
        return Guard(
            lambda: self._check(view, host, step),
            lambda path: hostguard.reached(view.session, host, path, step.before),
        )

    def _put(self, view: View, host: HostTree, step: Step, guard: Guard) -> os.stat_result | None:
        """Write what the branch has at a path; return what a file is right after that."""
        node = step.after
        assert node is not None
        if step.needs_room and host.look(step.path) is not None:
            _remove(host, step, guard)
        if node.kind == DIRECTORY and step.was_directory:
            host.chmod(step.path, 0o700 | node.mode, guard)
        elif node.kind == DIRECTORY:
            host.mkdir(step.path, node.mode)
        elif node.kind == FILE and step.change.kind == "mode":
            return host.chmod(step.path, node.mode, guard)
        elif node.kind == FILE:
            blocks = files.pieces_of(view.session, node)
            info = host.write(step.path, blocks, node.mode, node.mtime_ns, guard)
            if (info.st_size, info.st_mtime_ns) == (node.size, node.mtime_ns):
                return info  # else somebody wrote to it at once
        else:
            host.symlink(step.path, from_stored(nodes.data(view.session, node.id)), guard)
        return None

    def _set_modes(self, host: HostTree) -> None:
        """Give directories their own modes, the innermost first, when nothing is written below."""
        for step in reversed(self.steps):
            node = step.after
            if node is None or node.kind != DIRECTORY or step.path in self.conflicts:
                continue
            with self._guarded(step):
                info = host.look(step.path)
                if info is not None and (info.st_mode ^ node.mode) & 0o777:
                    host.chmod(step.path, node.mode)
                    self._done.append((step, None))

    # -- noting it ------------------------------------------------------------------------------

    def _record(self, host: HostTree) -> None:
        """Let the base be what the host has now."""
        if not self._done:
            return
        host.sync()
        with self.fs.view_for_writing() as view:
            inner = overlay.inner_view(view)
            for step, info in self._done:
                self._move_base(inner, host, step)
                if info is not None and step.after is not None and step.after.kind == FILE:
                    self._note(view, step, step.after, info)
                self.applied.append(step.change)
        self._done.clear()

    def _note(self, view: View, step: Step, node: Node, info: os.stat_result) -> None:
        """Note what the host file is now, and the hash of what it holds."""
        session, found = view.session, None
        if node.layout != ON_HOST:
            found = hostguard.hash_of(session, node)
        elif (known := copyup.noted(session, self.overlay.id, step.path)) is not None:
            found = known[1]
        if found is not None:
            copyup.note(session, self.overlay.id, step.path, Identity.of(info), found)

    def _move_base(self, inner: View, host: HostTree, step: Step) -> None:
        base = overlay.base_path(self.overlay)
        path = join(base, step.path) if step.path else base
        there = directories.locate(inner, path, follow=False, through=False)
        old, new = there.node, step.after
        if new is not None and new.kind == DIRECTORY:
            mode = _mode_now(host, step.path, new.mode)
            if old is not None and old.kind == DIRECTORY:
                attributes = (mode, new.mtime_ns, new.xattrs)
                tree.set_attributes(inner, there, old, "apply", *attributes)
                return
            made: int | None = nodes.make_directory(inner, mode, new.mtime_ns, new.xattrs)
        else:
            made = None if new is None else new.id
        if old is not None and old.kind == DIRECTORY:
            directories.forget_below(inner, path)
        if made is not None:
            directories.set_entry(inner, there.directory, there.name, made, old is None)
        elif old is not None:
            directories.drop_entry(inner, there.directory, there.name)
        before = None if old is None else old.id
        journal.append(inner, "apply", path, step.change.path, before, made)


def _require_root(changes: Sequence[Change], within: Overlay) -> None:
    """Refuse to empty the host directory because the branch has its overlay no more."""
    for each in changes:
        if each.path == within.at and each.kind != "mode":
            raise InvalidArgument(
                within.at,
                "the branch removed, moved or replaced the overlay's own directory;"
                f" `agentfs discard {within.at}` brings it back",
            )


def _is_on_host(node: Node | None) -> bool:
    """Say whether a node is a file whose content was not taken in."""
    return node is not None and node.kind == FILE and node.layout == ON_HOST


def _stopped(path: str, error: OSError) -> HostError:
    failed = HostError(
        path, f"{error.strerror}; what was written is noted, and the next run goes on from there"
    )
    failed.errno = error.errno
    return failed


def _is_half_done(host: HostTree, step: Step) -> bool:
    """Say whether a run was killed while a directory that changes its mode was open for it."""
    info = host.look(step.path)
    if info is None or not (step.was_directory and step.is_directory and step.after):
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_mode & 0o777 == 0o700 | step.after.mode & 0o777


def _mode_now(host: HostTree, path: str, wanted: int) -> int:
    """Return the mode that a directory's base gets: the one wanted, unless it is not set yet."""
    info = host.look(path)
    return wanted if info is None or not (info.st_mode ^ wanted) & 0o777 else info.st_mode & 0o777


def _expected(host: HostTree, path: str, known: bytes) -> Iterator[bytes]:
    """Yield the content of a host file that must have a hash."""
    found = blake3()
    for block in host.blocks(path):
        found.update(block)
        yield block
    if found.digest() != known:
        raise HostChanged(path, "it was written to")


def _remove(host: HostTree, step: Step, guard: Guard) -> None:
    try:
        host.remove(step.path, step.was_directory, guard)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        _check_rest(host, step, set())
        raise


def _check_rest(host: HostTree, step: Step, gone: set[str]) -> None:
    """Refuse to remove a directory in which the host has more than what goes as well."""
    if not step.was_directory or step.is_directory or host.look(step.path) is None:
        return
    left = [each for each in sorted(host.names(step.path)) if f"{step.path}/{each}" not in gone]
    if left:
        raise HostChanged(step.path, f"the host has {', '.join(left[:3])} in it")


def _in_order(steps: Sequence[Step]) -> Iterator[tuple[Step, bool]]:
    """Yield the steps in the order of their writing, and whether each removes something.

    What is new comes first, so that nothing is missing in between; only what is in a directory that
    becomes a file or link has to go before.
    """
    replaced = tuple(f"{each.path}/" for each in steps if each.is_replaced)
    removed = [each for each in reversed(steps) if each.after is None]
    for each in removed:
        if each.path.startswith(replaced):
            yield each, True
    for each in steps:
        if each.after is not None:
            yield each, False
    for each in removed:
        if not each.path.startswith(replaced):
            yield each, True


def select(changes: Sequence[Change], within: Overlay, paths: Sequence[str]) -> list[Change]:
    """Return the changes at and below some paths, with the new directories above them.

    Raises:
        NotFound: nothing changed at or below a path.
        InvalidArgument: a relative path leads out of the overlay.
    """
    found: dict[str, Change] = {}
    for each in paths:
        path = overlay.resolve(within, each)
        here = overlay.require_change(changes, path, each)
        above = [
            change for change in changes
            if change.after is not None and change.after.is_dir
            and (change.before is None or not change.before.is_dir)
            and is_inside(path, change.path)
        ]  # fmt: skip
        found |= {change.path: change for change in (*above, *here)}
    return [found[each] for each in sorted(found)]
