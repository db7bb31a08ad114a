"""agentfs: a copy-on-write filesystem for agents in one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import (
    AgentFSError,
    AlreadyExists,
    BranchInUse,
    BranchNotFound,
    Corrupt,
    ExtensionError,
    HostError,
    InvalidArgument,
    InvalidName,
    IsADirectory,
    MergeConflict,
    NameTooLong,
    NewerFormat,
    NoAttribute,
    NotADirectory,
    NotAVolume,
    NotEmpty,
    NotFound,
    PermissionDenied,
    ReadOnly,
    RefError,
    RefExists,
    TooManyLinks,
    TransactionRequired,
    VolumeBusy,
    VolumeClosed,
    VolumeDenied,
    VolumeError,
    VolumeFull,
    VolumeNotFound,
)
from .extensions import Extension
from .filesystem import AgentFS
from .types import (
    Branch,
    BranchName,
    Change,
    Conflict,
    DirEntry,
    Finding,
    JournalCheck,
    JournalRow,
    Match,
    MergeResult,
    Snapshot,
    Stat,
    Stats,
    Totals,
)

if TYPE_CHECKING:
    from .async_filesystem import AsyncAgentFS

__all__ = [
    "AgentFS",
    "AgentFSError",
    "AlreadyExists",
    "AsyncAgentFS",
    "Branch",
    "BranchInUse",
    "BranchName",
    "BranchNotFound",
    "Change",
    "Conflict",
    "Corrupt",
    "DirEntry",
    "Extension",
    "ExtensionError",
    "Finding",
    "HostError",
    "InvalidArgument",
    "InvalidName",
    "IsADirectory",
    "JournalCheck",
    "JournalRow",
    "Match",
    "MergeConflict",
    "MergeResult",
    "NameTooLong",
    "NewerFormat",
    "NoAttribute",
    "NotADirectory",
    "NotAVolume",
    "NotEmpty",
    "NotFound",
    "PermissionDenied",
    "ReadOnly",
    "RefError",
    "RefExists",
    "Snapshot",
    "Stat",
    "Stats",
    "TooManyLinks",
    "Totals",
    "TransactionRequired",
    "VolumeBusy",
    "VolumeClosed",
    "VolumeDenied",
    "VolumeError",
    "VolumeFull",
    "VolumeNotFound",
]


def __getattr__(name: str) -> object:
    """Import `AsyncAgentFS` when it is first asked for, because asyncio is slow to load."""
    if name == "AsyncAgentFS":
        from .async_filesystem import AsyncAgentFS  # noqa: PLC0415 - start-up time

        return AsyncAgentFS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
