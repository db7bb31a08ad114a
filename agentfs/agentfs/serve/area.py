"""What one server may reach: its branch, the forks it made, and in them one directory.

A path of a tool is relative to that directory. Symbolic links are followed inside of it only: where
a path really leads is looked up in the same transaction as what is then done there.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agentfs import directories
from agentfs.errors import (
    AgentFSError,
    BranchNotFound,
    HostChanged,
    HostError,
    MergeConflict,
    NotADirectory,
    NotFound,
    VolumeError,
)
from agentfs.filesystem import AgentFS
from agentfs.paths import NAME_BYTES, is_inside, join, normalise, split
from agentfs.transaction import PAST_MARK
from agentfs.types import Branch, Snapshot

from .refusal import ToolRefusal

_NEAR = 3
_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")


class Area:
    """The handles of one server, and the rules for paths, branches and moments."""

    def __init__(self, fs: AgentFS, root: str = "/", *, read_only: bool = False) -> None:
        """Confine to the handle's branch and a directory of it.

        Raises:
            NotFound, NotADirectory: the directory is not there.
        """
        self.own = str(fs.branch)
        self.read_only = read_only
        self._fs = fs.at(self.own) if read_only else fs
        with self._fs.view_for_reading() as view:
            self.root = directories.resolve(view, normalise(root, False)).path
        self._handles: dict[str, AgentFS] = {}
        self._guard = threading.Lock()

    # -- branches and snapshots ---------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """Return what the names of this server's forks and snapshots begin with."""
        return f"{self.own}/"

    def full_name(self, name: str) -> str:
        """Return the name of a fork or snapshot in the volume, from its short or full form."""
        short = name.removeprefix(self.prefix)
        if not short or len(self.prefix.encode()) + len(short.encode()) > NAME_BYTES:
            raise ToolRefusal(f"a name has 1 to {NAME_BYTES - len(self.prefix.encode())} bytes")
        return self.prefix + short

    def short_name(self, name: str) -> str:
        """Return a fork's or snapshot's name as tools show it."""
        return name.removeprefix(self.prefix)

    def handle(self, branch: str = "") -> AgentFS:
        """Return the handle on this server's branch, or on one of its forks.

        Raises:
            ToolRefusal: there is no such fork.
        """
        if branch in ("", self.own):
            return self._fs
        full = self.full_name(branch)
        with self._guard:
            known = self._handles.get(full)
        try:
            made = self._fs.on(full)
        except BranchNotFound:
            names = [self.short_name(each.name) for each in self.forks()]
            raise ToolRefusal(
                f"there is no fork {self.short_name(branch)!r}{_or_near(branch, names)}; make one"
                " with fs_fork, or leave 'branch' out for the branch of this server",
                "ref.not_found",
            ) from None
        if known is not None:
            return known
        if self.read_only:
            made = made.at(full)
        with self._guard:
            return self._handles.setdefault(full, made)

    def forks(self) -> list[Branch]:
        """Return the branches that this server's tools may use beside its own."""
        return [each for each in self._fs.branches() if each.name.startswith(self.prefix)]

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots of this server's branch and of its forks."""
        return [each for each in self._fs.snapshots() if self._is_own(each.branch)]

    def _is_own(self, branch: str) -> bool:
        return branch == self.own or branch.startswith(self.prefix)

    def moment(self, text: str, branch: str = "") -> AgentFS:
        """Return a view of a state that this server may see: a fork, a snapshot or a past moment.

        Raises:
            ToolRefusal: it is none of these, or another branch's.
        """
        fs = self.handle(branch)
        if text in ("", self.own):
            return fs if not text else self.handle().at(self.own)
        refs = {each.name for each in self.forks()} | {each.name for each in self.snapshots()}
        for name in (self.prefix + text, text):
            if name in refs:
                return fs.at(name)
        others = {each.name for each in (*fs.branches(), *fs.snapshots())}
        if text not in others:
            try:
                return fs.at(text)
            except BranchNotFound:
                pass
        shown = sorted(self.short_name(each) for each in refs)
        raise ToolRefusal(
            f"there is no fork, snapshot or moment {text!r}{_or_near(text, shown)}; give '@12' (the"
            " state after that row of fs_log), '-2h' (s, m, h, d, w), a time with its zone, or one"
            " of the names in fs_log",
            "ref.not_found",
        )

    def named(self, state: AgentFS) -> int | str:
        """Return what names the state of a handle or view to the library."""
        name, mark, seq = state.pinned.partition(PAST_MARK)
        return int(seq.removeprefix("@")) if mark else name

    # -- paths ----------------------------------------------------------------------------------

    def path(self, given: str) -> str:
        """Return the path in the volume that a tool's path means, before links are followed."""
        text = given if given.startswith("/") else f"/{given}"
        inside = normalise(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), text))
        full = inside if self.root == "/" else normalise(self.root + inside)
        return normalise(full, False)

    def shown(self, path: str) -> str:
        """Return a path of the volume as tools show it."""
        if self.root != "/" and is_inside(path, self.root):
            path = path[len(self.root) :] or "/"
        return printable(path)

    def real(self, fs: AgentFS, given: str, *, follow: bool = True) -> str:
        """Return where a tool's path really leads; call inside the transaction that uses it.

        Without `follow` a final symbolic link is the place itself.

        Raises:
            ToolRefusal: that is outside of this server's directory.
            NotFound: the directory above is missing.
        """
        path = self.path(given)
        if path == self.root:
            return path
        with fs.view_for_reading() as view:
            if follow:
                real = directories.locate(view, path).path
            else:
                parent, name = split(path)
                real = join(directories.resolve(view, parent).path, name)
        if not is_inside(real, self.root):
            raise ToolRefusal(
                f"{given!r} leads out of this server's directory through a symbolic link",
                "fs.permission_denied",
            )
        return real

    def place(self, given: str, *states: AgentFS) -> str:
        """Return the path of something that is compared or set back, as it is in some states.

        Raises:
            ToolRefusal: in one of them a link above it leads out of this server's directory.
        """
        path = self.path(given)
        if path != self.root:
            parent = split(path)[0]
            for state in states:
                if _is_directory(state, parent):
                    self.real(state, self.shown(parent))
        return path

    @contextmanager
    def looking(self, fs: AgentFS) -> Iterator[None]:
        """See one state of a branch to the end, so that no link changes under a check."""
        with fs.reading():
            yield

    def near(self, fs: AgentFS, given: str) -> str:
        """Return `; did you mean ...` with names that are there, or what is there."""
        parent, name = split(self.path(given))
        while parent != self.root and not _is_directory(fs, parent):
            parent, name = split(parent)
        if not is_inside(parent, self.root) or not _is_directory(fs, parent):
            return ""
        names = fs.listdir(parent)
        found = difflib.get_close_matches(name, names, n=_NEAR, cutoff=0.6)
        shown = [self.shown(join(parent, each)) for each in found]
        if shown:
            return f"; did you mean {' or '.join(repr(each) for each in shown)}?"
        return f"; fs_list {self.shown(parent)!r} shows what is there"

    # -- errors ---------------------------------------------------------------------------------

    def sentence(self, error: AgentFSError) -> str:
        """Return an error of the library as tools say it: with their paths, without commands."""
        if isinstance(error, MergeConflict):
            return printable(str(error))
        if isinstance(error, HostChanged):
            return (
                f"the host's file changed since this branch first saw it ({error.reason}), so it"
                " cannot be read here until a person refreshes the overlay"
            )
        subject = self.shown(error.subject) if error.subject.startswith("/") else error.subject
        if isinstance(error, (HostError, VolumeError)):
            subject = os.path.basename(subject)  # where things are on the host is nobody's business
        text = error.template.format(subject=subject)
        return printable(f"{text}: {error.reason}" if error.reason else text)


def printable(text: str) -> str:
    r"""Return a name as JSON can hold it; bytes that are not UTF-8 as `\udcff`, as they come in."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_directory(fs: AgentFS, path: str) -> bool:
    try:
        return fs.is_dir(path)
    except (NotFound, NotADirectory, PermissionError):
        return False


def _or_near(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=_NEAR)
    return f"; did you mean {' or '.join(repr(each) for each in found)}?" if found else ""
