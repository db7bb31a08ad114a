"""What can go wrong with a mount, and the one table from failures to error numbers."""

from __future__ import annotations

import errno
import os

from agentfs.errors import AgentFSError, VolumeBusy, VolumeClosed


class MountError(AgentFSError, OSError):
    """The operating system refuses to mount or unmount."""

    code, exit_code, number = "mount.failed", 4, errno.EIO
    template = "cannot mount on {subject!r}"


class MountMissing(MountError):
    """This machine cannot mount; the reason says what is missing and how to get it."""

    code, exit_code, number = "mount.missing", 2, errno.ENOSYS


# Where the number of the class is not what a program expects of a file system.
_NUMBERS: dict[type[AgentFSError], int] = {
    VolumeBusy: errno.EAGAIN,
    VolumeClosed: errno.EIO,
}


def to_errno(error: BaseException) -> int:
    """Return the error number that a program sees for a failure."""
    for kind, number in _NUMBERS.items():
        if isinstance(error, kind):
            return number
    if isinstance(error, AgentFSError):
        return error.number or errno.EIO
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO


def refused(number: int, subject: str) -> OSError:
    """Return the failure that a program sees as an error number."""
    return OSError(number, os.strerror(number), subject)
