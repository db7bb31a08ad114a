"""Mounting and unmounting: the system call for root, fusermount3 for everybody else."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path

from .errors import MountError, MountMissing

_DEVICE = "/dev/fuse"
_HELPERS = ("fusermount3", "fusermount")
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH = 2
_KIND = "fuse.agentfs"


def unavailable() -> str | None:
    """Return why nothing can be mounted here and what to do about it, or None."""
    if not os.path.exists(_DEVICE):
        return (
            f"{_DEVICE} is missing: load the module (`modprobe fuse`), or start the container"
            f" with `--device {_DEVICE} --cap-add SYS_ADMIN`"
        )
    if os.geteuid() != 0:
        if _helper() is None:
            return "fusermount3 is missing, and only root mounts without it: `apt install fuse3`"
        return None
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return f"{_DEVICE} may not be opened: give this container `--device {_DEVICE}`"
    return None


def _helper() -> str | None:
    return next((found for each in _HELPERS if (found := shutil.which(each))), None)


def mount(directory: str, source: str, *, read_only: bool, allow_other: bool) -> int:
    """Mount on a directory and return the connection to the kernel.

    Raises:
        MountMissing: this machine cannot mount.
        MountError: the kernel or fusermount3 refuses.
    """
    reason = unavailable()
    if reason is not None:
        raise MountMissing(directory, reason)
    options = ["default_permissions", *(["allow_other"] if allow_other else [])]
    if os.geteuid() == 0:
        try:
            return _mount_directly(directory, source, options, read_only)
        except PermissionError as error:
            if _helper() is None:
                raise MountError(directory, f"{error.strerror}: it needs CAP_SYS_ADMIN") from error
    return _mount_by_helper(directory, source, options, read_only)


def _mount_directly(directory: str, source: str, options: list[str], read_only: bool) -> int:
    connection = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        root = os.stat(directory).st_mode & 0o170000
        told = [f"fd={connection}", f"rootmode={root:o}", f"user_id={os.geteuid()}"]
        text = ",".join([*told, f"group_id={os.getegid()}", *options])
        flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if read_only else 0)
        _call("mount", source.encode(), os.fsencode(directory), _KIND.encode(), flags,
              text.encode())  # fmt: skip
    except PermissionError:
        os.close(connection)
        raise
    except OSError as error:
        os.close(connection)
        raise MountError(directory, error.strerror or str(error)) from error
    return connection


def _call(name: str, *arguments: bytes | int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    kinds = {bytes: ctypes.c_char_p, int: ctypes.c_ulong}
    values = [kinds[type(each)](each) for each in arguments]
    if getattr(library, name)(*values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount_by_helper(directory: str, source: str, options: list[str], read_only: bool) -> int:
    """Let fusermount3 mount; it hands the open device over through a socket."""
    helper = _helper()
    if helper is None:
        raise MountMissing(directory, "fusermount3 is missing: `apt install fuse3`")
    options = [*options, f"fsname={source.replace(',', '_')}", "subtype=agentfs", "nosuid", "nodev"]
    options += ["ro"] if read_only else []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            [helper, "-o", ",".join(options), "--", directory], pass_fds=[theirs.fileno()],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            reason = done.stderr.strip() or f"{helper} failed"
            if "open /dev/fuse" in reason:
                reason += f"; as root: `chmod 666 {_DEVICE}`, its usual mode"
            raise MountError(directory, reason)
        return _received(ours, directory)


def _received(channel: socket.socket, directory: str) -> int:
    numbers = array.array("i")
    _, extra, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(numbers.itemsize))
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: numbers.itemsize])
            os.set_inheritable(numbers[0], False)
            return numbers[0]
    raise MountError(directory, "fusermount3 did not hand over the device")


def unmount(directory: str, *, lazy: bool = False) -> None:
    """Unmount a directory; `lazy` takes it out of sight at once even while it is in use.

    Raises:
        MountError: it is in use, or not a mount of agentfs.
    """
    try:
        if os.geteuid() == 0:
            return _call("umount2", os.fsencode(directory), _MNT_DETACH if lazy else 0)
    except OSError as error:
        if error.errno != errno.EPERM or _helper() is None:
            raise MountError(directory, error.strerror or str(error)) from error
    helper = _helper()
    if helper is None:
        raise MountMissing(directory, "fusermount3 is missing: `apt install fuse3`")
    command = [helper, "-u", *(["-z"] if lazy else []), "--", directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MountError(directory, done.stderr.strip() or f"{helper} failed")
    return None


def mounted_at(directory: str) -> str | None:
    """Return the kind of the file system that is mounted exactly here, or None."""
    wanted, found = os.path.abspath(directory), None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if _plain(left.split(" ")[4]) == wanted:
                found = right.split(" ")[0]
    return found


def _plain(field: str) -> str:
    """Undo the octal escapes of a field of mountinfo."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def is_ours(directory: str) -> bool:
    """Say whether a mount of agentfs is exactly here."""
    return mounted_at(directory) == _KIND


def is_stale(directory: str) -> bool:
    """Say whether a mount is here whose process is gone."""
    try:
        os.stat(directory)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def prepare(directory: str, *, nonempty: bool) -> str:
    """Return the absolute path of a directory that can be mounted on, freed from a stale mount.

    Raises:
        MountError: it is missing, no directory, not empty, or a live mount.
    """
    path = os.path.realpath(directory)
    while is_stale(path):
        unmount(path, lazy=True)
    if is_ours(path):
        raise MountError(path, "it is mounted already; `agentfs unmount` it first")
    if not os.path.isdir(path):
        raise MountError(path, f"it is no directory; `mkdir -p {path}`")
    if not nonempty and any(Path(path).iterdir()):
        raise MountError(path, "it is not empty; add --nonempty to hide what is in it")
    return path
