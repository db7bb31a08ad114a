"""The error tree of agentfs: every failure a caller can meet, with a stable code and an exit code.

AgentFSError
+-- NotFound (FileNotFoundError)            fs.not_found            exit 3
+-- NotADirectory (NotADirectoryError)      fs.not_a_directory      exit 4
+-- IsADirectory (IsADirectoryError)        fs.is_a_directory       exit 4
+-- AlreadyExists (FileExistsError)         fs.already_exists       exit 5
+-- NotEmpty (OSError, ENOTEMPTY)           fs.not_empty            exit 5
+-- PermissionDenied (PermissionError)      fs.permission_denied    exit 6
+-- ReadOnly (OSError, EROFS)               fs.read_only            exit 6
+-- InvalidName (OSError, EINVAL)           fs.invalid_name         exit 2
|   +-- NameTooLong (ENAMETOOLONG)          fs.name_too_long        exit 2
+-- InvalidArgument (OSError, EINVAL)       fs.invalid_argument     exit 2
+-- TooManyLinks (OSError, ELOOP)           fs.too_many_links       exit 4
+-- NoAttribute (OSError, ENODATA)          fs.no_attribute         exit 3
+-- QuotaExceeded (OSError, EDQUOT)         fs.quota_exceeded       exit 9
+-- RefError
|   +-- BranchNotFound (LookupError)        ref.not_found           exit 3
|   +-- RefExists                           ref.already_exists      exit 5
|   +-- BranchInUse                         ref.in_use              exit 5
+-- MergeConflict                           merge.conflict          exit 7
+-- ExtensionError                          extension.invalid       exit 2
+-- TransactionRequired                     transaction.required    exit 2
+-- HostError (OSError)                     host.failed             exit 4
+-- ForeignVolume                           spec04.unreadable       exit 8
|   +-- HostChanged (ESTALE)                host.changed            exit 7
+-- RunError
|   +-- NoSandbox                             run.no_sandbox          exit 125
|   +-- NoBackend                             run.no_backend          exit 125
+-- VolumeError
    +-- VolumeNotFound (FileNotFoundError)  volume.not_found        exit 3
    +-- VolumeDenied (PermissionError)      volume.denied           exit 6
    +-- NotAVolume                          volume.not_a_volume     exit 8
    +-- NewerFormat                         volume.newer_format     exit 8
    +-- VolumeBusy (TimeoutError)           volume.busy             exit 9
    +-- VolumeFull (OSError, ENOSPC)        volume.full             exit 9
    +-- VolumeClosed                        volume.closed           exit 2
    +-- WrongKey (PermissionError)          volume.wrong_key        exit 6
    +-- EncryptionMissing                   volume.encryption_missing exit 2
    +-- Corrupt                             volume.corrupt          exit 10
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .types import Conflict


class AgentFSError(Exception):
    """Any failure of agentfs; `template` is filled with the subject and the reason."""

    code: ClassVar[str] = "fs.error"
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "agentfs failed on {subject!r}"
    hint: ClassVar[str] = ""
    number: ClassVar[int] = 0

    def __init__(self, subject: str = "", reason: str = "") -> None:
        """Keep the subject (a path, a name, a file) and an optional reason."""
        self.subject = subject
        self.reason = reason
        self.message = self.template.format(subject=subject)
        if reason:
            self.message += f": {reason}"
        if self.hint:
            self.message += f"; {self.hint}"
        if isinstance(self, OSError):
            OSError.__init__(self, self.number, self.message, subject)
        else:
            Exception.__init__(self, self.message)

    def __reduce__(self) -> tuple[type[AgentFSError], tuple[Any, ...]]:
        """Let the error cross a process border."""
        return type(self), (self.subject, self.reason)

    def __str__(self) -> str:
        """Return the full sentence."""
        return self.message


class NotFound(AgentFSError, FileNotFoundError):
    """A path names nothing."""

    code, exit_code, number = "fs.not_found", 3, errno.ENOENT
    template = "no such file or directory: {subject!r}"


class NotADirectory(AgentFSError, NotADirectoryError):
    """A directory was needed and something else is there."""

    code, exit_code, number = "fs.not_a_directory", 4, errno.ENOTDIR
    template = "not a directory: {subject!r}"


class IsADirectory(AgentFSError, IsADirectoryError):
    """A file was needed and a directory is there."""

    code, exit_code, number = "fs.is_a_directory", 4, errno.EISDIR
    template = "is a directory: {subject!r}"


class AlreadyExists(AgentFSError, FileExistsError):
    """Something is already at a path that must be free."""

    code, exit_code, number = "fs.already_exists", 5, errno.EEXIST
    template = "already exists: {subject!r}"


class NotEmpty(AgentFSError, OSError):
    """A directory that must be empty has entries."""

    code, exit_code, number = "fs.not_empty", 5, errno.ENOTEMPTY
    template = "directory not empty: {subject!r}"


class PermissionDenied(AgentFSError, PermissionError):
    """The handle may not do this; the reason says who may."""

    code, exit_code, number = "fs.permission_denied", 6, errno.EACCES
    template = "permission denied: {subject!r}"


class ReadOnly(AgentFSError, OSError):
    """A write through a read-only view or into a read-only file."""

    code, exit_code, number = "fs.read_only", 6, errno.EROFS
    template = "read-only: {subject!r}"
    hint = "fork the state to write to it"


class InvalidName(AgentFSError, OSError):
    """A path or name that the format cannot hold."""

    code, exit_code, number = "fs.invalid_name", 2, errno.EINVAL
    template = "invalid name: {subject!r}"


class NameTooLong(InvalidName):
    """A name above 255 bytes or a path above 8192 bytes."""

    code, number = "fs.name_too_long", errno.ENAMETOOLONG
    template = "name too long: {subject!r}"


class InvalidArgument(AgentFSError, OSError):
    """Arguments that contradict each other, such as a directory moved into itself."""

    code, exit_code, number = "fs.invalid_argument", 2, errno.EINVAL
    template = "invalid argument for {subject!r}"


class TooManyLinks(AgentFSError, OSError):
    """More than 40 symbolic links in one resolution."""

    code, exit_code, number = "fs.too_many_links", 4, errno.ELOOP
    template = "too many levels of symbolic links: {subject!r}"


class NoAttribute(AgentFSError, OSError):
    """An extended attribute that is not set."""

    code, exit_code, number = "fs.no_attribute", 3, errno.ENODATA
    template = "no such extended attribute: {subject!r}"


class QuotaExceeded(AgentFSError, OSError):
    """A branch would grow beyond its limit; nothing was changed."""

    code, exit_code, number = "fs.quota_exceeded", 9, errno.EDQUOT
    template = "the quota of the branch {subject!r} is exceeded"
    hint = "remove something, or raise the limit"


class RefError(AgentFSError):
    """A problem with the name of a branch or snapshot."""

    code, template = "ref.error", "cannot use the branch or snapshot {subject!r}"


class BranchNotFound(RefError, LookupError):
    """No branch or snapshot has this name."""

    code, exit_code = "ref.not_found", 3
    template = "no such branch or snapshot: {subject!r}"
    hint = "list them with `agentfs branches` and `agentfs snapshots`"


class RefExists(RefError):
    """A branch or snapshot already has this name."""

    code, exit_code = "ref.already_exists", 5
    template = "a branch or snapshot named {subject!r} already exists"
    hint = "choose another name"


class BranchInUse(RefError):
    """The branch cannot be deleted: it is the default one, or the handle's own."""

    code, exit_code = "ref.in_use", 5
    template = "cannot delete the branch {subject!r}"


class MergeConflict(AgentFSError):
    """Both sides changed the same thing; nothing was merged."""

    code, exit_code = "merge.conflict", 7
    template = "cannot merge branch {subject!r}"
    hint = "merge with strategy 'ours' or 'theirs', or resolve them on the branch"

    def __init__(self, subject: str, conflicts: tuple[Conflict, ...] = ()) -> None:
        """List the conflicts in the message."""
        self.conflicts = conflicts
        shown = ", ".join(f"{each.path} ({each.kind})" for each in conflicts[:5])
        more = ", ..." if len(conflicts) > 5 else ""
        super().__init__(subject, f"{len(conflicts)} conflicts: {shown}{more}")

    def __reduce__(self) -> tuple[type[MergeConflict], tuple[str, tuple[Conflict, ...]]]:
        """Let the error cross a process border."""
        return type(self), (self.subject, self.conflicts)


class ExtensionError(AgentFSError):
    """An extension's tables break the naming rule."""

    code, exit_code = "extension.invalid", 2
    template = "invalid extension {subject!r}"


class TransactionRequired(AgentFSError):
    """A call that only makes sense inside `with fs.transaction():`."""

    code, exit_code = "transaction.required", 2
    template = "{subject!r} needs a transaction"
    hint = "wrap the calls in `with fs.transaction():`"


class HostError(AgentFSError, OSError):
    """A file of the host could not be read or written."""

    code, exit_code, number = "host.failed", 4, errno.EIO
    template = "cannot transfer the host path {subject!r}"


class HostChanged(HostError):
    """A file of an overlay's host directory is not what it was when the overlay first saw it."""

    code = "host.changed"
    exit_code = 7
    template = "host file {subject!r} changed underneath"
    hint = "see `agentfs overlay --status`; `--refresh` takes it as it is now"
    number = errno.ESTALE


class ForeignVolume(AgentFSError):
    """A file is no Turso AgentFS 0.4 volume, is damaged, or changes while it is read."""

    code, exit_code = "spec04.unreadable", 8
    template = "cannot read {subject!r} as an AgentFS 0.4 volume"


class RunError(AgentFSError):
    """A command that was not run on a branch."""

    code, exit_code = "run.failed", 125
    template = "cannot run {subject!r}"


class NoSandbox(RunError):
    """Nothing here can confine a command, and nobody said that it may run without that."""

    code = "run.no_sandbox"
    template = "refusing to run {subject!r} unconfined"
    hint = "install bubblewrap, or add --unconfined to let it reach whatever you can"


class NoBackend(RunError):
    """No way to show a branch to a command works here."""

    code = "run.no_backend"
    template = "the back end {subject!r} does not work here"
    hint = "--backend auto takes one that does"


class VolumeError(AgentFSError):
    """A problem with the volume's file itself."""

    code, template = "volume.error", "cannot use the volume {subject!r}"


class VolumeNotFound(VolumeError, FileNotFoundError):
    """The volume's file, or its parent directory, does not exist."""

    code, exit_code, number = "volume.not_found", 3, errno.ENOENT
    template = "no volume at {subject!r}"


class VolumeDenied(VolumeError, PermissionError):
    """The operating system refuses the volume's file."""

    code, exit_code, number = "volume.denied", 6, errno.EACCES
    template = "no permission to open the volume {subject!r}"


class NotAVolume(VolumeError):
    """The file is something else; it was not touched."""

    code, exit_code = "volume.not_a_volume", 8
    template = "{subject!r} is not an agentfs volume"
    hint = "name another file, or move this one away"


class NewerFormat(VolumeError):
    """The volume was written by a newer release; it was not touched."""

    code, exit_code = "volume.newer_format", 8
    template = "the volume {subject!r} has a newer format"
    hint = "upgrade agentfs to open it"


class VolumeBusy(VolumeError, TimeoutError):
    """Another writer held the volume for longer than the wait allows."""

    code, exit_code, number = "volume.busy", 9, errno.EBUSY
    template = "the volume {subject!r} is busy"
    hint = "try again when the other writer has finished"


class VolumeFull(VolumeError, OSError):
    """The disk is full; the operation was rolled back."""

    code, exit_code, number = "volume.full", 9, errno.ENOSPC
    template = "no space left for the volume {subject!r}"


class VolumeClosed(VolumeError):
    """The handle was closed."""

    code, exit_code = "volume.closed", 2
    template = "the volume {subject!r} is closed"


class WrongKey(VolumeError, PermissionError):
    """The key is missing or does not open the volume, or the volume has none."""

    code, exit_code, number = "volume.wrong_key", 6, errno.EACCES
    template = "the key does not open the volume {subject!r}"


class EncryptionMissing(VolumeError):
    """A key was given, and the SQLite in use cannot encrypt."""

    code, exit_code = "volume.encryption_missing", 2
    template = "cannot encrypt the volume {subject!r}"
    hint = "install it with `pip install 'fmos[encryption]'`"


class Corrupt(VolumeError):
    """Stored bytes contradict their hash or their structure."""

    code, exit_code = "volume.corrupt", 10
    template = "the volume is damaged at {subject!r}"
    hint = "run `agentfs fsck` and restore from a copy"
