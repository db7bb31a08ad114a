"""Confines a command with bubblewrap: the host read-only, the view in its place, no network.

Decisions: a session of its own for every command (`--new-session`), because a process that shares a
terminal could type into it (TIOCSTI); at a terminal the command gets a new one instead (see
`terminal`), so that job control works. Root keeps the rights over files and loses all others.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentfs.paths import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

    from .backends import Prepared, Target

INSIDE = "/view"
_PROBE_S = 10
# Of these a command gets its own.
_OWN = frozenset({"dev", "proc", "tmp", "run", INSIDE[1:]})
_ROOTS_RIGHTS = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID",
)  # fmt: skip
_HIDDEN_AT_HOME = (
    ".fmos", ".ssh", ".gnupg", ".aws", ".azure", ".config/gh", ".config/gcloud", ".netrc",
    ".docker", ".kube", ".git-credentials", ".pypirc", ".password-store",
)  # fmt: skip


# All that a command sees of the host when it is to see its programs only.
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a command may reach besides the view.

    `bare` shows nothing of the host but its programs; `inside` is where the view is.
    """

    network: bool = False
    hide: tuple[str, ...] = ()
    bare: bool = False
    inside: str = ""


def missing() -> str:
    """Say that bubblewrap is not installed; empty when it is, whether or not it works."""
    return "" if shutil.which("bwrap") else "bubblewrap (bwrap) is not installed"


@functools.cache
def why_not() -> str:
    """Say why bubblewrap does not work here; empty when it does. Asked once per process."""
    if missing():
        return missing()
    command = ["bwrap", *_namespaces(False, False), *_system(), "--", "/bin/true"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start ({error})"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"bubblewrap does not work here ({said[-1] if said else f'code {done.returncode}'})"


def working_directory(target: Target, confinement: Confinement) -> str:
    """Return where a confined command finds the view: the host directory's own path."""
    return confinement.inside or target.host or INSIDE


def arguments(
    fs: AgentFS, target: Target, prepared: Prepared, confinement: Confinement, *,
    status_fd: int, lock_fd: int,
) -> list[str]:  # fmt: skip
    """Return the beginning of a command line that confines the rest of it.

    The sandbox's first process holds `lock_fd`, so that the place is in use until it is gone.
    """
    inside = working_directory(target, confinement)
    masks = _Masks() if confinement.bare else _Masks.of(fs, target, confinement.hide)
    return [
        shutil.which("bwrap") or "bwrap",
        *_namespaces(confinement.network, prepared.mapped),
        *("--new-session", "--json-status-fd", str(status_fd), "--sync-fd", str(lock_fd)),
        *_system(inside, confinement.bare),
        *(_resolver() if confinement.network else ()),
        *masks.outside,
        *("--bind", prepared.source, inside),
        *masks.inside,
        *masks.closed,
        *("--remount-ro", "/"),
        *("--chdir", inside),
        "--",
    ]


def _namespaces(network: bool, mapped: bool) -> list[str]:
    found = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    found += ["--unshare-cgroup-try"]
    if not network:
        found.append("--unshare-net")
    if mapped:  # we are root of a namespace that was made for the mount: be ourselves again
        return [*found, "--unshare-user", "--uid", str(os.geteuid()), "--gid", str(os.getegid())]
    if os.geteuid() != 0:
        return [*found, "--unshare-user"]
    found += ["--cap-drop", "ALL"]
    for each in _ROOTS_RIGHTS:
        found += ["--cap-add", each]
    return found


def _system(inside: str = "/", bare: bool = False) -> list[str]:
    """Return the host, read-only, with directories of the command's own for what is passing.

    The whole host in one piece where it has a directory for the view, because that is faster.
    """
    whole = not bare and os.path.isdir(inside)
    found = ["--ro-bind", "/", "/"] if whole else list(_pieces(bare))
    found += ["--dev", "/dev", "--proc", "/proc", "--perms", "1777", "--tmpfs", "/tmp"]
    if os.geteuid() == 0:  # files there obey whoever is root, also without any capability
        found += ["--remount-ro", "/proc"]
    if os.path.isdir("/run") or not whole:
        found += ["--tmpfs", "/run"]
    if os.path.isdir("/var/tmp") and os.path.realpath("/var/tmp") == "/var/tmp":
        found += ["--perms", "1777", "--tmpfs", "/var/tmp"]
    return found


def _pieces(bare: bool) -> Iterator[str]:
    """Yield each top-level name of the host by itself, which leaves room for others."""
    if bare:
        yield from ("--ro-bind-try", "/etc/alternatives", "/etc/alternatives")
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        if name in _OWN or (bare and name not in _PROGRAMS):
            continue
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        else:
            yield from ("--ro-bind-try", path, path)


def _resolver() -> Iterator[str]:
    """Yield what brings back the file with the name servers, where it is below /run."""
    real = os.path.realpath("/etc/resolv.conf")
    if real.startswith("/run/"):
        yield from ("--ro-bind-try", real, real)


# -- what is hidden -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Masks:
    """What hides paths before and after the view is there, and closes what hides them."""

    outside: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, fs: AgentFS, target: Target, hide: Iterable[str]) -> _Masks:
        """Return the masks of all hidden paths that are there."""
        found = cls()
        for path in sorted({os.path.realpath(each) for each in hidden(fs, hide)}):
            relative = _relative(path, target.host)
            if relative:
                kind = _kind_in_view(fs, f"{target.at.rstrip('/')}/{relative}")
                found._add(found.inside, path, kind)
            elif relative is None and not path.startswith(("/tmp/", "/var/tmp/", "/run/")):
                found._add(found.outside, path, _kind(path))
        return found

    def _add(self, masks: list[str], path: str, kind: str) -> None:
        if kind == "directory":
            masks += ["--tmpfs", path]
            self.closed += ["--remount-ro", path]
        elif kind:
            masks += ["--ro-bind", "/dev/null", path]


def hidden(fs: AgentFS, more: Iterable[str]) -> Iterator[str]:
    """Yield the host paths that no command may see."""
    from . import places  # noqa: PLC0415 - only a command that runs needs it

    yield os.environ.get("FMOS_HOME") or os.path.expanduser("~/.fmos")
    for home in {os.path.expanduser("~"), _home()}:
        for name in _HIDDEN_AT_HOME:
            yield os.path.join(home, name)
    for suffix in VOLUME_SUFFIXES:
        yield f"{fs.path}{suffix}"
    yield places.base()
    yield from (os.path.expanduser(each) for each in more)


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")


def _relative(path: str, host: str | None) -> str | None:
    """Return the part of a path below a host directory; empty for that directory itself."""
    if host is None or not f"{path}/".startswith(f"{host.rstrip('/')}/"):
        return None
    return path[len(host.rstrip("/")) + 1 :]


def _kind(path: str) -> str:
    try:
        return "directory" if stat.S_ISDIR(os.stat(path).st_mode) else "file"
    except OSError:
        return ""


def _kind_in_view(fs: AgentFS, path: str) -> str:
    """Return what the branch has at a path; nothing must be made there only to be hidden."""
    try:
        return fs.lstat(path).kind
    except OSError:
        return ""
