"""Frozen records and typed names that the public API returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NewType

BranchName = NewType("BranchName", str)
Durability = Literal["normal", "full"]
Kind = Literal["file", "directory", "symlink"]
ChangeKind = Literal["added", "removed", "modified"]
ConflictKind = Literal["content", "delete/modify", "type"]
Strategy = Literal["fail", "ours", "theirs"]


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known about one node; `node` is the id of the file's immutable version."""

    node: int
    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int

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
    base_root: int | None
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


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken invariant of SPEC.md."""

    invariant: int
    message: str


@dataclass(frozen=True, slots=True)
class Match:
    """One line that a search found."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Sizes and counts of a branch and of its volume."""

    files: int
    directories: int
    symlinks: int
    logical_bytes: int
    chunks: int
    chunk_bytes: int
    branches: int
    snapshots: int
    journal_rows: int
    file_bytes: int


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
