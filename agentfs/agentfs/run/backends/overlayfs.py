"""The kernel's overlay of what the branch changed over the host directory.

It is mounted in a mount namespace of the command's own, in which an ordinary user is root. What the
command changes is in the upper directory: a removed name is a character device 0/0, a directory
that replaced another one has the attribute `user.overlay.opaque`.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

from agentfs.paths import VOLUME_SUFFIXES
from agentfs.run import difference, places
from agentfs.run.difference import Difference, Item
from agentfs.run.materialise import Writer

from . import Prepared, Target, Unprepared

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS
    from agentfs.run.places import Place

# The layers are named relative to the working directory of the mount, because in a path of their
# own a comma or colon would have a meaning.
_MOUNT = 'cd "$1" && mount -t overlay agentfs -o "$2" view && shift 2 && exec "$@"'
_OPTIONS = "lowerdir={lower},upperdir=upper,workdir=work,userxattr"
_OPAQUE = "user.overlay.opaque"
_PROBE_S = 10


class Overlayfs:
    """Costs what the branch has changed so far, however large the host directory is."""

    name: ClassVar[str] = "overlayfs"
    keeps: ClassVar[bool] = True

    def why_not(self) -> str:
        """Say why it does not work here."""
        return _why_not()

    @contextmanager
    def prepare(self, fs: AgentFS, target: Target, place: Place) -> Iterator[Prepared]:
        """Lay out the layers; the mount itself is made where the command runs."""
        namespace = _namespace()
        if namespace is None:
            raise Unprepared(_why_not())
        if "-U" in namespace and target.host is not None:
            _require_own(target.host)
        with fs.view_for_reading():
            lower = _layers(fs, target, place)
            info = fs.lstat(target.at)
        for each in ("upper", "work", "view"):
            place.folder(each)
        os.chmod(place.inside("upper"), info.mode)
        os.utime(place.inside("upper"), ns=(info.mtime_ns, info.mtime_ns))
        place.keep()
        wrap = _wrapped(namespace, place.path, lower)
        yield Prepared(place.inside("view"), wrap, mapped="-U" in namespace)

    def difference(self, place: Place) -> Difference:
        """Read the upper directory."""
        return read_upper(place.inside("upper"))


def _require_own(host: str) -> None:
    """Refuse files of other users and groups: a user namespace cannot copy them to the upper layer.

    Only the first level is looked at, as a sample.
    """
    with os.scandir(host) as found:
        for each in found:
            info = each.stat(follow_symlinks=False)
            if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
                raise Unprepared(f"{each.path!r} belongs to another user or group")


def _layers(fs: AgentFS, target: Target, place: Place) -> str:
    """Write what the branch has over the host, or all of it, as the layer `lower`."""
    lower = place.folder("lower")
    if target.host is None:
        Writer(fs).tree(target.at, lower)
        return "lower"
    os.symlink(target.host, place.inside("host"))
    for relative in _unlisted(fs, target):
        _own_whiteout(lower, target.host, relative)
    Writer(fs).changes(
        target.at, fs.host_diff(target.at), lower, functools.partial(_whiteout, lower)
    )
    return "lower:host"


def _unlisted(fs: AgentFS, target: Target) -> list[str]:
    """Return what an overlay never shows: the volume's own files and a folder `.fmos`."""
    assert target.host is not None
    own = [os.path.realpath(f"{fs.path}{each}") for each in VOLUME_SUFFIXES]
    own.append(os.path.join(target.host, ".fmos"))
    return [
        os.path.relpath(each, target.host) for each in own if each.startswith(f"{target.host}/")
    ]


def _own_whiteout(layer: str, host: str, relative: str) -> None:
    """Hide a file of the volume, in directories with the attributes of the host's."""
    above = ""
    for name in relative.split("/")[:-1]:
        above = os.path.join(above, name)
        with suppress(FileExistsError):
            os.mkdir(os.path.join(layer, above), 0o700)
            shutil.copystat(os.path.join(host, above), os.path.join(layer, above))
    _whiteout(layer, relative)


def _whiteout(layer: str, relative: str) -> None:
    """Take a name of the layers below away, unless a directory above it went already."""
    with suppress(FileExistsError, FileNotFoundError, NotADirectoryError):
        os.mknod(os.path.join(layer, relative), stat.S_IFCHR, os.makedev(0, 0))


def _wrapped(namespace: tuple[str, ...], folder: str, lower: str) -> tuple[str, ...]:
    shell = shutil.which("bash") or "/bin/sh"
    options = _OPTIONS.format(lower=lower)
    return (*namespace, shell, "-c", _MOUNT, "agentfs-mount", folder, options)


def read_upper(upper: str) -> Difference:
    """Return what an upper directory says against the layers below it."""
    found = Difference()
    for item in difference.items(upper):
        if _is_whiteout(item):
            found.removed.append(item.relative)
            continue
        found.present.append(item._replace(fresh=True))
        if item.relative and stat.S_ISDIR(item.info.st_mode) and _is_opaque(item):
            found.removed.append(item.relative)
    return found


def _is_whiteout(item: Item) -> bool:
    return stat.S_ISCHR(item.info.st_mode) and item.info.st_rdev == 0


def _is_opaque(item: Item) -> bool:
    try:
        with difference.readable(item.source, item.info):
            return os.getxattr(item.source, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


@functools.cache
def _namespace() -> tuple[str, ...] | None:
    """Return the command that makes a mount namespace in which an overlay works, if any does."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("mount") is None:
        return None
    choices: list[tuple[str, ...]] = [(unshare, "-U", "-r", "-m")]
    if os.geteuid() == 0:
        choices.insert(0, (unshare, "-m"))
    return next((each for each in choices if not _try(each)), None)


def _try(namespace: tuple[str, ...]) -> str:
    """Make an overlay in a directory like those of the runs; return what went wrong."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir=places.base()) as folder:
        for each in ("lower", "upper", "work", "view"):
            os.mkdir(os.path.join(folder, each))
        command = (*_wrapped(namespace, folder, "lower"), "mkdir", "view/x")
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            with suppress(OSError):
                os.chmod(os.path.join(folder, "work", "work"), 0o700)
        return done.stderr.decode("utf-8", "replace") or "it failed" if done.returncode else ""


@functools.cache
def _why_not() -> str:
    if _namespace() is not None:
        return ""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare and mount (util-linux) are not installed"
    return "the kernel does not let this user mount an overlay"
