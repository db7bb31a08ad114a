"""One try on a fork of an agent's branch, and what its merge would change there now.

An effect has a digest over the content of every path before and after. It is that of the merge, not
of the fork: as long as the branch has not moved where the fork did, it stays the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from agentfs import AgentFS
from agentfs.errors import BranchNotFound, MergeConflict
from agentfs.patch import unified
from agentfs.types import Change
from fmos.canonical import content_digest
from fmos.types import new_id

#: Stands between an agent's branch and the name of a try. No agent id holds a tilde.
TRIAL_MARK = "~try-"
_PATCH_CHARACTERS = 65_536
#: Above so many lines a file is summarised: the others are to be seen as well.
_FILE_LINES = 400
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class PathChange:
    """One path that a merge would change; digests are empty where there is nothing."""

    path: str
    kind: str
    was: str
    now: str
    size: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What merging a fork would change in the branch as it is now.

    `patch` is a unified diff for people: binary and huge files are only named, and a long one is
    cut. With `conflicts` (paths) it cannot be merged.
    """

    branch: str
    digest: str
    changes: tuple[PathChange, ...]
    patch: str
    conflicts: tuple[str, ...] = ()


class Trial:
    """A fork of an agent's branch on which something is tried."""

    def __init__(self, files: AgentFS, branch: str) -> None:
        """Take the agent's own handle, and the fork's name."""
        self._files = files
        self.branch = branch

    @classmethod
    def begin(cls, files: AgentFS) -> Trial:
        """Fork the branch of a handle."""
        branch = f"{files.branch}{TRIAL_MARK}{new_id()[-8:]}"
        files.fork(branch)
        return cls(files, branch)

    @property
    def files(self) -> AgentFS:
        """A handle on the fork, which sees no more than the agent's own."""
        own = self._files
        return own.on(self.branch, system=False, confined=own.confined)

    def effect(self) -> Effect:
        """Return what a merge would change now."""
        return look(self._files, self.branch)

    def merge(self) -> int:
        """Bring the fork into the branch and drop it; return how many paths changed.

        Raises:
            MergeConflict: if the branch has changed in the same place; the fork stays.
        """
        with self._files.transaction():
            merged = self._files.merge(self.branch)
            self._files.delete_branch(self.branch)
        return len(merged.changes)

    def discard(self) -> None:
        """Drop the fork; nothing of it reaches the branch."""
        discard(self._files, self.branch)


class _Undo(Exception):
    """Takes a merge back that was made to be looked at."""


def look(files: AgentFS, branch: str) -> Effect:
    """Return what merging a fork into the branch of a handle would change now; nothing changes.

    Raises:
        BranchNotFound: if there is no such fork.
        PermissionDenied: if the handle is confined and this is no fork of its branch.
    """
    after: dict[str, str] = {}
    found: tuple[Change, ...] = ()
    conflicts: tuple[str, ...] = ()
    patch = ""
    with files.transaction():
        try:
            with files.transaction():
                found = files.merge(branch).changes
                after = {each.path: _digest(files, each.path) for each in found if each.after}
                patch = _patch(files, found)
                raise _Undo
        except _Undo:
            pass
        except MergeConflict as conflict:
            conflicts = tuple(sorted({each.path for each in conflict.conflicts}))
        before = {each.path: _digest(files, each.path) for each in found if each.before}
    changes = tuple(
        PathChange(
            path=each.path,
            kind=each.kind,
            was=before.get(each.path, ""),
            now=after.get(each.path, ""),
            size=each.after.size if each.after is not None else 0,
        )
        for each in found
    )
    said = [[each.path, each.kind, each.was, each.now] for each in changes]
    return Effect(branch, content_digest([said, conflicts]), changes, patch, conflicts)


def is_trial_of(branch: str, own: str) -> bool:
    """Return whether a branch is a try on an agent's own branch, by its name."""
    return branch.startswith(own + TRIAL_MARK)


def discard(files: AgentFS, branch: str) -> None:
    """Drop a fork, if it is there."""
    with suppress(BranchNotFound):
        files.delete_branch(branch)


def _digest(files: AgentFS, path: str) -> str:
    """Return the SHA-256 of all of a path that counts: kind, mode, attributes, content."""
    stat = files.lstat(path)
    said = hashlib.sha256(f"{stat.kind} {stat.mode:o} {stat.uid}:{stat.gid}\n".encode())
    for name in () if stat.is_symlink else sorted(files.listxattr(path)):
        said.update(f"{name}={files.getxattr(path, name).hex()}\n".encode())
    if stat.is_symlink:
        said.update(files.readlink(path).encode("utf-8", "surrogateescape"))
    elif stat.is_file:
        with files.open(path, "rb") as source:
            while piece := source.read(_PIECE):
                said.update(piece)
    return said.hexdigest()


def _patch(files: AgentFS, changes: tuple[Change, ...]) -> str:
    """Return the changes as a unified diff of bounded length."""
    parts: list[str] = []
    length = 0
    for number, change in enumerate(changes):
        text = "".join(_short(files, change))
        parts.append(text)
        length += len(text)
        if length > _PATCH_CHARACTERS:
            left = len(changes) - number - 1
            parts.append(f"(and {left} more paths, listed above)\n" if left else "")
            break
    return "".join(parts)


def _short(files: AgentFS, change: Change) -> Iterator[str]:
    for number, line in enumerate(unified(files, change)):
        if number >= _FILE_LINES:
            yield f"(the rest of {change.path} is not shown)\n"
            return
        yield line[:2_000].decode("utf-8", "replace")
