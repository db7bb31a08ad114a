"""Turns whatever a tool raised into an error of ours: one sentence with a stable code.

The only place that translates; every door uses it, so that a failure reads alike through each.
"""

from __future__ import annotations

import logging

import apsw

from agentfs import errors as fs
from fmos.errors import (
    ArgumentError,
    DeniedError,
    FmosError,
    FormatError,
    NotFoundError,
    StorageError,
    ToolCallError,
)

_log = logging.getLogger(__name__)

# The first that fits counts.
_OF_AGENTFS: tuple[tuple[tuple[type[fs.AgentFSError], ...], type[FmosError]], ...] = (
    ((fs.NotFound, fs.NoAttribute, fs.BranchNotFound, fs.VolumeNotFound), NotFoundError),
    ((fs.WrongKey, fs.EncryptionMissing, fs.NotAVolume, fs.NewerFormat, fs.Corrupt), FormatError),
    ((fs.VolumeError, fs.QuotaExceeded, fs.HostError), StorageError),
    ((fs.PermissionDenied, fs.ReadOnly), DeniedError),
    ((fs.AgentFSError,), ArgumentError),
)
#: Nobody's arguments and nobody's disk: the code is wrong.
_OUR_FAULT = (fs.TransactionRequired, fs.ExtensionError)
_DAMAGED = (apsw.NotADBError, apsw.CorruptError)
_DISK = "check the disk of the home, and its permissions"
_HELD = "another process holds it; try again"
_UNAVAILABLE: dict[type[apsw.Error], str] = {
    apsw.FullError: "free some space and try again; nothing was changed",
    apsw.BusyError: _HELD,
    apsw.LockedError: _HELD,
    apsw.IOError: _DISK,
    apsw.CantOpenError: _DISK,
    apsw.ReadOnlyError: _DISK,
    apsw.PermissionsError: _DISK,
}


def foreseen(error: BaseException) -> FmosError | None:
    """Return an error as one of ours, or None if nobody expected it."""
    if isinstance(error, FmosError):
        return error
    if isinstance(error, fs.AgentFSError) and not isinstance(error, _OUR_FAULT):
        return next(ours for theirs, ours in _OF_AGENTFS if isinstance(error, theirs))(str(error))
    if isinstance(error, apsw.Error):
        return _of_store(error)
    return None


def as_sentence(tool: str, error: Exception) -> FmosError:
    """Return what a caller of a tool gets to see of an error; the log gets what it does not."""
    known = foreseen(error)
    if known is not None:
        return known
    _log.error("the tool %r failed unexpectedly", tool, exc_info=error)
    return ToolCallError(
        f"the tool {tool!r} failed unexpectedly ({type(error).__name__})",
        hint="the server's log has the details",
    )


def _of_store(error: apsw.Error) -> FmosError | None:
    """Name what is wrong with a database file; a faulty statement is nobody's to foresee."""
    if isinstance(error, _DAMAGED):
        return FormatError(f"a database of the home is damaged ({error})", hint="restore a backup")
    hint = _UNAVAILABLE.get(type(error))
    if hint is None:
        return None
    return StorageError(f"a database of the home cannot be used now ({error})", hint=hint)
