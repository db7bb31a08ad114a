"""Frozen records and typed names that the public API returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NewType

BranchName = NewType("BranchName", str)
Progress = Callable[[str, int], None]
"""Is told what is being done, and how many of them so far."""
Durability = Literal["normal", "full"]
Kind = Literal["file", "directory", "symlink", "fifo", "socket", "character", "block"]
ChangeKind = Literal["added", "removed", "modified", "mode", "type"]
ConflictKind = Literal["content", "add/add", "delete/modify", "type", "mode", "xattrs"]
Strategy = Literal["fail", "ours", "theirs"]
MirrorKind = Literal["added", "modified", "removed"]
Access = Literal["none", "read", "write"]


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known about one node; `node` is the id of the file's immutable version.

    `links` is how many names a file has. `uid` and `gid` are those of whoever looks where nothing
    else was set, and `atime_ns` is the time of the last change; `device` is a device node's number.
    """

    node: int
    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int = 1
    uid: int = 0
    gid: int = 0
    atime_ns: int = 0
    device: int = 0

    @property
    def is_file(self) -> bool:
        """Say whether this is a file."""
        return self.kind == "file"

    @property
    def is_dir(self) -> bool:
        """Say whether this is a directory."""
        return self.kind == "directory"

    @property
    def is_symlink(self) -> bool:
        """Say whether this is a symbolic link."""
        return self.kind == "symlink"


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in a directory."""

    name: str
    path: str
    stat: Stat


@dataclass(frozen=True, slots=True)
class Branch:
    """A named, writable line of the tree."""

    name: str
    root: int
    generation: int
    parent: str | None
    created_ns: int
    principal: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named, immutable state."""

    name: str
    branch: str
    root: int
    seq: int
    message: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two states."""

    path: str
    kind: ChangeKind
    before: Stat | None
    after: Stat | None


@dataclass(frozen=True, slots=True)
class Overlay:
    """A host directory that a branch is laid over, and where in its tree it is."""

    id: int
    at: str
    host: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class HostConflict:
    """One path that was not written to the host, and why."""

    path: str
    kind: ChangeKind
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` wrote to a host directory, or would have; paths are those of the volume."""

    overlay: Overlay
    changes: tuple[Change, ...]
    conflicts: tuple[HostConflict, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class HostChange:
    """One path that the host changed below an overlay since the branch saw it."""

    path: str
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class Conflict:
    """One path that both sides of a merge changed."""

    path: str
    kind: ConflictKind
    base: int | None
    ours: int | None
    theirs: int | None


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did, or would do with `dry_run`."""

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    merged: bool


@dataclass(frozen=True, slots=True)
class AccessRule:
    """What a principal, or `*` for any, may do at a path and below it."""

    prefix: str
    principal: str
    access: Access


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of a branch, None for none, and its use: bytes of files, and names."""

    max_bytes: int | None
    max_files: int | None
    used_bytes: int
    used_files: int


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row of the append-only record of what changed."""

    seq: int
    time_ns: int
    principal: str
    branch: str
    operation: str
    path: str
    path2: str
    before: int | None
    after: int | None
    detail: dict[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """The outcome of recomputing the journal's hash chain."""

    ok: bool
    rows: int
    first_bad_seq: int | None
    head_hash: bytes


Damage = Literal["changed", "removed", "reordered"]
"""What can be told of a journal row that does not follow from the one before it."""


class JournalPart(NamedTuple):
    """The hashes of journal rows that follow each other, and the first number that does not."""

    hashes: list[bytes]
    first_bad_seq: int | None


class JournalStart(NamedTuple):
    """Where the journal begins: after which row of which hash, and whether gc announced it."""

    seq: int
    hash: bytes
    announced: bool
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The journal row after which the kept ones begin; `rows` counts those that were let go."""

    seq: int
    time_ns: int
    hash: bytes
    rows: int
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class GcResult:
    """What gc let go of, or would with `dry_run`.

    `bytes_freed` counts stored bytes of nodes and chunks, `bytes_returned` what the file shrank by.
    """

    nodes: int
    chunks: int
    journal_rows: int
    bytes_freed: int
    bytes_returned: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a path takes: `logical_bytes` for each name, `stored_bytes` once for shared content."""

    files: int
    directories: int
    symlinks: int
    logical_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class BranchStats:
    """The stored bytes of one branch; deleting it frees the private ones, once history is gone."""

    name: str
    logical_bytes: int
    stored_bytes: int
    shared_bytes: int
    private_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken invariant of SPEC.md; `repair` says what was done about it and what is lost."""

    invariant: int
    message: str
    repair: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """One line that a search found."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Sizes and counts of a branch and of its volume.

    `logical_bytes` counts each name's file (a hard-linked one once); `stored_bytes` what the branch
    reaches, as it is on disk, once: `private_bytes` of it no other branch or snapshot reaches,
    `shared_bytes` others do. From `nodes` on the figures are the volume's: `dedup_ratio` is the
    logical bytes of all branches for each distinct byte, `compression_ratio` the bytes of chunks
    for each stored one. `per_branch` is filled on request.
    """

    files: int
    directories: int
    symlinks: int
    logical_bytes: int
    stored_bytes: int
    shared_bytes: int
    private_bytes: int
    nodes: int
    chunks: int
    chunk_bytes: int
    branches: int
    snapshots: int
    journal_rows: int
    file_bytes: int
    free_bytes: int
    dedup_ratio: float
    compression_ratio: float
    per_branch: tuple[BranchStats, ...]


@dataclass(frozen=True, slots=True)
class MirrorChange:
    """What an import or export changed on its target's side, or would with `dry_run`."""

    path: str
    kind: MirrorKind


@dataclass(slots=True)
class Totals:
    """What a transfer between the host and a volume moved.

    `skipped` names what a volume cannot hold (sockets, itself), `failed` what could not be read.
    """

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
