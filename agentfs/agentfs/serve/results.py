"""What the tools return; these classes are the tools' output schemas."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Kind = Literal["file", "directory", "symlink", "fifo", "socket", "character", "block"]


class Result(BaseModel):
    """Any result of a tool."""


class ReadResult(Result):
    """A file, or a part of one."""

    path: str
    kind: Literal["text", "binary", "image"]
    mime_type: str
    content: str = Field(
        description="Text (with line numbers and a tab before each line when 'numbered'), base64 of"
        " binary content, or empty for an image, which is in an image block."
    )
    size_bytes: int = Field(description="Of the whole file.")
    node: int = Field(description="The version of the file; give it as if_node when you change it.")
    truncated: bool = Field(description="There is more after this part.")
    next_start_line: int | None = Field(None, description="start_line of the next part.")
    next_start_byte: int | None = Field(None, description="start_byte of the next part.")
    start_line: int | None = None
    end_line: int | None = None
    total_lines: int | None = Field(None, description="Known once the end was reached.")
    start_byte: int | None = None
    end_byte: int | None = None
    cut_lines: list[int] = Field(
        default_factory=list, description="Lines of which only the beginning is shown."
    )


class WriteResult(Result):
    """A file that was written."""

    path: str
    created: bool
    size_bytes: int
    node: int
    undo: str = Field(description="fs_restore with this moment and the path undoes it.")


class EditResult(Result):
    """A file in which text was replaced."""

    path: str
    replacements: int
    first_line: int
    snippet: str = Field(description="The lines around the first replacement, numbered.")
    size_bytes: int
    node: int
    undo: str


class Entry(BaseModel):
    """One name."""

    path: str
    kind: Kind
    size_bytes: int
    mtime: str


class ListResult(Result):
    """Names in a directory."""

    path: str
    entries: list[Entry]
    truncated: bool
    next_cursor: str | None = Field(None, description="Give it as cursor to go on.")


class GlobResult(Result):
    """Paths that match a pattern."""

    pattern: str
    paths: list[str]
    truncated: bool
    next_cursor: str | None = None


class GrepMatch(BaseModel):
    """One line that matches."""

    path: str
    line: int
    text: str


class GrepResult(Result):
    """Lines, or files, that match."""

    matches: list[GrepMatch]
    files: list[str] = Field(default_factory=list, description="With output='files'.")
    files_searched: int
    skipped: list[str] = Field(
        default_factory=list, description="Files that are too large, or cannot be read."
    )
    truncated: bool
    next_cursor: str | None = None
    timed_out: bool = Field(False, description="The time was up; next_cursor goes on.")


class StatResult(Result):
    """What is known about a path."""

    path: str
    kind: Kind
    size_bytes: int
    mode: str
    mtime: str
    node: int
    names: int = Field(description="How many names (hard links) the file has.")
    target: str | None = Field(None, description="Of a symbolic link.")
    mime_type: str | None = None
    files_below: int | None = Field(None, description="Of a directory.")
    bytes_below: int | None = None


class MoveResult(Result):
    """A path that was moved."""

    source: str
    target: str
    replaced: bool
    undo: str


class RemoveResult(Result):
    """A path that was removed."""

    path: str
    kind: Kind
    undo: str


class SnapshotResult(Result):
    """A state with a name."""

    name: str
    moment: str
    message: str


class ForkResult(Result):
    """A branch that was made."""

    branch: str = Field(description="Give it as 'branch' to the other tools.")
    full_name: str


class DiffEntry(BaseModel):
    """One path that differs."""

    path: str
    kind: Literal["added", "removed", "modified", "mode", "type"]
    size_before: int | None
    size_after: int | None


class DiffResult(Result):
    """What differs between two states."""

    before: str
    after: str
    changes: list[DiffEntry]
    total_changes: int
    patch: str | None = None
    patch_truncated: bool = False
    truncated: bool
    next_cursor: str | None = None


class MergeEntry(BaseModel):
    """One path that both sides changed."""

    path: str
    kind: str


class MergeReport(Result):
    """What a merge did, or would do."""

    branch: str
    merged: bool
    changes: list[DiffEntry]
    total_changes: int
    conflicts: list[MergeEntry]
    undo: str | None = None


class RestoreResult(Result):
    """What was set back."""

    moment: str
    paths: list[str]
    undo: str


class LogRow(BaseModel):
    """One operation."""

    moment: str = Field(description="The state after it.")
    time: str
    principal: str
    branch: str
    operation: str
    path: str
    path2: str | None = None


class Named(BaseModel):
    """One fork or snapshot."""

    name: str
    of: str
    time: str
    message: str = ""


class LogResult(Result):
    """The history of a branch, newest first, and what has a name."""

    branch: str
    rows: list[LogRow]
    forks: list[Named]
    snapshots: list[Named]
    truncated: bool
    next_cursor: str | None = None
