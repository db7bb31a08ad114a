"""The doctor's checks of a home's folders, files and daemon."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fmos.care import files
from fmos.care.doctor import Check, Finding, Patient, error, note, ok, warning
from fmos.care.processes import users_of
from fmos.config import FOLDERS, Home
from fmos.runtime.agent_import import PAPERS
from fmos.storage import locks

_MEGA = 1 << 20
_FREE_WARNING, _FREE_ERROR = 500 * _MEGA, 20 * _MEGA
_FREE_INODES = 1000
_SOCKET_BYTES = 107
_ANSWER_S = 3.0
# File systems on which SQLite's locks and shared memory do not work between machines.
_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2",
    "ocfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "davfs",
}  # fmt: skip


def home(patient: Patient) -> Iterator[Finding]:
    """The folder: there, its owner's, for nobody else, writable."""
    path = patient.home
    if not path.exists():
        what = "a link that leads nowhere" if path.is_symlink() else "not there"
        yield error(str(path), f"the home is {what}", "start FMOS once, or restore a backup there")
        return
    if not path.is_dir():
        yield error(str(path), "the home is a file", "set FMOS_HOME to a folder")
        return
    found = [*_modes(path), *_missing(path)]
    yield from found
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"run `chmod u+rwx {path}` as its owner"
        yield error(str(path), "the home cannot be read and written", remedy)
    elif not found:
        yield ok(str(path), "for its owner only")


def _modes(path: Path) -> Iterator[Finding]:
    for folder in (path, *(path / name for name in FOLDERS)):
        if folder.is_dir():
            yield from _mode(folder, files.PRIVATE_FOLDER)
    private = [
        *(path / name for name in files.databases(path)),
        *(path / name for name in files.plain_files(path) if _is_secret(name)),
    ]
    for file in private:
        yield from _mode(file, files.PRIVATE_FILE)


def _is_secret(name: str) -> bool:
    return name.startswith(f"{files.KEYS}/") and not name.endswith(".pub")


def _mode(path: Path, wanted: int) -> Iterator[Finding]:
    it = path.stat()
    if it.st_uid != os.geteuid():
        yield error(
            str(path), f"it belongs to the user {it.st_uid}, not to you ({os.geteuid()})",
            f"run `chown {os.geteuid()} {path}` as an administrator, or run fmos as its owner",
        )  # fmt: skip
        return
    open_to_others = stat.S_IMODE(it.st_mode) & 0o077
    if open_to_others:
        yield warning(
            str(path), f"others may use it (mode {stat.S_IMODE(it.st_mode):04o})",
            f"run `chmod {wanted:o} {path}`, or `fmos doctor --fix`", _chmod(path, wanted),
        )  # fmt: skip


def _chmod(path: Path, mode: int) -> Callable[[], str]:
    def fix() -> str:
        os.chmod(path, mode)
        return f"made it {mode:04o}"

    return fix


def _missing(path: Path) -> Iterator[Finding]:
    for name in FOLDERS:
        folder = path / name
        if folder.exists() and not folder.is_dir():
            yield error(str(folder), "it is no folder", f"move it away: `mv {folder} {folder}.old`")
        elif folder.is_symlink() and not folder.exists():
            yield error(str(folder), "it is a link that leads nowhere", "put back what it led to")
        elif not folder.exists():
            yield note(str(folder), "it is not there; it is made when it is needed")


def disk(patient: Patient) -> Iterator[Finding]:
    """Free bytes and inodes, and the kind of file system."""
    it = os.statvfs(patient.home)
    free = it.f_bavail * it.f_frsize
    where = str(patient.home)
    said = f"{free / 1e9:,.1f} GB free"
    if free < _FREE_ERROR:
        yield error(where, f"its disk is full: {said}", "free space: nothing can be written")
    elif free < _FREE_WARNING:
        yield warning(where, f"its disk is nearly full: {said}", "free space on it")
    if it.f_files and it.f_favail < _FREE_INODES:
        yield warning(where, f"only {it.f_favail} inodes are free", "remove small files from it")
    if it.f_flag & os.ST_RDONLY:
        yield error(where, "it is on a read-only file system", "mount it for writing")
    kind = _file_system(patient.home)
    if kind in _NETWORK:
        yield error(
            where, f"it is on a network file system ({kind}), where SQLite's locks do not hold",
            "move the home to a local disk",
        )  # fmt: skip
    elif kind in ("tmpfs", "ramfs"):
        yield note(where, f"it is in memory ({kind}) and gone at the next start of the machine")
    elif free >= _FREE_WARNING:
        yield ok(where, f"{said}, on {kind or 'an unknown file system'}")


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds a path, or nothing where /proc is not."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind


def leftovers(patient: Patient) -> Iterator[Finding]:
    """What killed commands left beside and in the home."""
    path = patient.home
    restoring = path.with_name(f"{path.name}.restoring")
    if restoring.exists() and locks.holder(Path(f"{restoring}.lock")) is None:
        yield note(
            str(restoring), "a restore was interrupted", "run it again, or remove the folder"
        )
    kept = sorted(path.parent.glob(f"{path.name}.before-*"))
    if kept:
        yield note(
            str(kept[-1]), f"{len(kept)} older homes lie beside this one",
            "remove them when the restored home has proved itself",
        )  # fmt: skip
    known = {"audit", PAPERS, *FOLDERS}
    strange = [
        each.name for each in path.iterdir()
        if each.is_dir() and each.name not in known and not each.name.startswith(".")
    ]  # fmt: skip
    for name in strange[:5]:
        yield note(str(path / name), "a folder that this FMOS does not know; backups hold it too")
    if not strange and not restoring.exists():
        yield ok(str(path), "nothing was left by interrupted commands")


def socket_path(patient: Patient) -> Iterator[Finding]:
    """The daemon's socket: its path fits, and it is one."""
    path = Home(patient.home).socket
    length = len(os.fsencode(path))
    if length > _SOCKET_BYTES:
        yield error(
            str(path), f"its path has {length} bytes and a socket's may have {_SOCKET_BYTES}",
            "set FMOS_HOME to a shorter path, or serve over HTTP only",
        )  # fmt: skip
        return
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        yield error(str(path), "it is no socket", f"move it away: `mv {path} {path}.old`")
        return
    if path.exists() and locks.holder(path.with_suffix(".lock")) is None:
        yield warning(
            str(path), "a daemon that was killed left it",
            "start `fmos serve`, which takes it over, or run `fmos doctor --fix`", _remove(path),
        )  # fmt: skip
        return
    yield ok(str(path), "fits")


def _remove(path: Path) -> Callable[[], str]:
    def fix() -> str:
        if locks.holder(path.with_suffix(".lock")) is not None:
            return "left it: a daemon has started"
        path.unlink(missing_ok=True)
        return "removed it"

    return fix


def daemon(patient: Patient) -> Iterator[Finding]:
    """Whether a daemon runs, answers, and is of this version."""
    path = Home(patient.home).socket
    if locks.holder(path.with_suffix(".lock")) is None:
        yield ok(str(path), "no daemon runs; one is not needed")
        return
    began = time.monotonic()
    try:
        status, body = _ask(path)
    except (OSError, http.client.HTTPException) as failure:
        yield error(
            str(path), f"a daemon holds the home and does not answer: {failure}",
            f"stop process {_holder(path)} and start `fmos serve` again",
        )  # fmt: skip
        return
    took_ms = (time.monotonic() - began) * 1000
    said = _health(body)
    if status != http.client.OK:
        why = said.get("problem", f"it answers {status}")
        yield error(str(path), f"the daemon is not well: {why}", "look at its standard error")
    elif said.get("version") != patient.version:
        yield warning(
            str(path),
            f"the daemon is fmos {said.get('version')}, this command is {patient.version}",
            f"stop process {said.get('pid')} and start `fmos serve` again",
        )
    else:
        yield ok(str(path), f"process {said.get('pid')} answers in {took_ms:.0f} ms")


def _ask(path: Path) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=_ANSWER_S)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(_ANSWER_S)
        stream.connect(str(path))
        connection.sock = stream
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read(4096)


def _health(body: bytes) -> dict[str, object]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _holder(path: Path) -> str:
    number = locks.holder(path.with_suffix(".lock")) or ""
    return number if number.isdigit() else "(see `fuser`)"


def users(patient: Patient) -> Iterator[Finding]:
    """Which processes have the home open."""
    found = [user for user in users_of(patient.home) if user.pid != os.getpid()]
    listed = ", ".join(map(str, found[:5])) + (" and more" if len(found) > 5 else "")
    yield ok(str(patient.home), f"in use by {listed}" if found else "in nobody's use")


CHECKS = (
    Check("home", home, needs_home=False),
    Check("disk", disk),
    Check("leftovers", leftovers),
    Check("socket", socket_path),
    Check("daemon", daemon),
    Check("users", users),
)
