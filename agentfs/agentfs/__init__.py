"""agentfs: a copy-on-write filesystem for agents in one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import (
    AgentFSError,
    AlreadyExists,
    BranchInUse,
    BranchNotFound,
    Corrupt,
    EncryptionMissing,
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
    QuotaExceeded,
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
    WrongKey,
)
from .extensions import Extension
from .filesystem import AgentFS
from .toolcalls import ToolCall, ToolStats
from .types import (
    AccessRule,
    Branch,
    BranchName,
    BranchStats,
    Change,
    Checkpoint,
    Conflict,
    DirEntry,
    Finding,
    GcResult,
    JournalCheck,
    JournalRow,
    Match,
    MergeResult,
    MirrorChange,
    Quota,
    Snapshot,
    Stat,
    Stats,
    Totals,
    Usage,
)

if TYPE_CHECKING:
    from .async_filesystem import AsyncAgentFS

__all__ = [
    "AccessRule",
    "AgentFS",
    "AgentFSError",
    "AlreadyExists",
    "AsyncAgentFS",
    "Branch",
    "BranchInUse",
    "BranchName",
    "BranchNotFound",
    "BranchStats",
    "Change",
    "Checkpoint",
    "Conflict",
    "Corrupt",
    "DirEntry",
    "EncryptionMissing",
    "Extension",
    "ExtensionError",
    "Finding",
    "GcResult",
    "HostError",
    "InvalidArgument",
    "InvalidName",
    "IsADirectory",
    "JournalCheck",
    "JournalRow",
    "Match",
    "MergeConflict",
    "MergeResult",
    "MirrorChange",
    "NameTooLong",
    "NewerFormat",
    "NoAttribute",
    "NotADirectory",
    "NotAVolume",
    "NotEmpty",
    "NotFound",
    "PermissionDenied",
    "Quota",
    "QuotaExceeded",
    "ReadOnly",
    "RefError",
    "RefExists",
    "Snapshot",
    "Stat",
    "Stats",
    "TooManyLinks",
    "ToolCall",
    "ToolStats",
    "Totals",
    "TransactionRequired",
    "Usage",
    "VolumeBusy",
    "VolumeClosed",
    "VolumeDenied",
    "VolumeError",
    "VolumeFull",
    "VolumeNotFound",
    "WrongKey",
]


def __getattr__(name: str) -> object:
    """Import `AsyncAgentFS` when it is first asked for, because asyncio is slow to load."""
    if name == "AsyncAgentFS":
        from .async_filesystem import AsyncAgentFS  # noqa: PLC0415 - start-up time

        return AsyncAgentFS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
