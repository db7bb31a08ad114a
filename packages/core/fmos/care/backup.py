"""Backs up a home while it is in use, into one file; and checks such a file.

Everything is of one instant (see cut.py), so a restored home is what a power cut would have left:
no account lacks spending for an effect that the journal has.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import apsw

from fmos.care import files
from fmos.care.archive import Manifest, Progress, VolumeFacts, Writer, read
from fmos.care.cut import Snapshot, copy, one_instant
from fmos.care.examine import Fault, components_of, examine, journal_head
from fmos.errors import ArgumentError, HomeError, StorageError
from fmos.storage import locks, wholefile
from fmos.types import Record

#: Whoever reads a backup with keys can sign as the home does.
KEYS_INSIDE = "it holds the home's private keys: keep it where only you can read it"
#: A home that is restored without them refuses its tenants until they are put back.
KEYS_LEFT_OUT = (
    "it holds no keys: a restored home works only once its keys/ folder is put back from elsewhere"
)
_PASSPHRASE_BYTES = 4096
_SMALL_BYTES = 1 << 16


class Backup(Record):
    """A backup that was made: its file, what it holds, and the SHA-256 of the whole file."""

    file: str
    size: int
    sha256: str
    encrypted: bool
    manifest: Manifest
    notes: tuple[str, ...]


class Checked(Record):
    """A backup whose bytes are as they were written; `faults` are of the home that it holds."""

    file: str
    manifest: Manifest
    faults: tuple[Fault, ...]


def backup(
    home: Path,
    target: Path,
    *,
    keys: bool = True,
    passphrase: bytes | None = None,
    overwrite: bool = False,
    fmos_version: str = "",
    progress: Progress | None = None,
) -> Backup:
    """Write everything that a home keeps to a new file, readable by its owner only.

    The file gets its name when it is whole and synced; until then it is `<target>.partial`.

    Raises:
        HomeError: if there is no home.
        ArgumentError: if the target is in the home, exists already, or is being written.
        StorageError: if a disk is full or a file cannot be read; no target is left then.
    """
    home, target = _places(home, target, overwrite)
    tell = progress or _quiet
    partial = target.with_name(target.name + ".partial")
    try:
        with _draft(partial, target) as out:
            writer = Writer(out, passphrase)
            manifest = _write(writer, home, Path(f"{partial}.db"), keys, fmos_version, tell)
            wholefile.sync(out)
        os.replace(partial, target)
        wholefile.sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _cannot_write(target, error) from error
    digest = _digest(target)
    return Backup(
        file=str(target), size=target.stat().st_size, sha256=digest,
        encrypted=passphrase is not None, manifest=manifest,
        notes=(KEYS_INSIDE if keys else KEYS_LEFT_OUT, *manifest.warnings),
    )  # fmt: skip


def verify(
    file: Path,
    *,
    passphrase: bytes | None = None,
    quick: bool = False,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check every byte of a backup, and unless `quick` the home that it holds.

    For the latter it is unpacked into a temporary folder (in `folder`, if given), which is removed.

    Raises:
        FormatError: naming what is wrong, if the file is no backup, changed or cut short.
        ArgumentError: if the passphrase is missing or not needed.
    """
    tell = progress or _quiet
    if quick:
        manifest = read(file, passphrase, lambda _name, pieces: _use_up(pieces))
        return Checked(file=str(file), manifest=manifest, faults=())
    with tempfile.TemporaryDirectory(prefix="fmos-verify-", dir=folder) as made:
        manifest = unpack(file, Path(made), passphrase, tell)
        faults = tuple(examine(Path(made), manifest.volumes, keys=manifest.keys, progress=tell))
    return Checked(file=str(file), manifest=manifest, faults=faults)


def unpack(file: Path, into: Path, passphrase: bytes | None, progress: Progress) -> Manifest:
    """Write what a backup holds below an empty folder, for its owner only.

    Raises:
        FormatError: if the file is no backup, changed or cut short.
        StorageError: if the disk is full.
    """

    def take(name: str, pieces: Iterator[bytes]) -> None:
        path = into / name
        for folder in [*reversed(Path(name).parents)][1:]:  # each with the mode, not the last only
            (into / folder).mkdir(exist_ok=True, mode=files.PRIVATE_FOLDER)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE_FILE)
        done = 0
        with os.fdopen(descriptor, "wb") as out:
            for piece in pieces:
                out.write(piece)
                done += len(piece)
                progress(name, done)

    try:
        return read(file, passphrase, take)
    except OSError as error:
        if error.errno is None or isinstance(error, StorageError):
            raise
        raise _cannot_write(into, error) from error


def read_passphrase(path: Path) -> bytes:
    """Return the first line of a file.

    Raises:
        ArgumentError: if it cannot be read, is empty or too long, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ArgumentError(
                f"others can read the passphrase's file {str(path)!r}",
                hint=f"run `chmod 600 {path}`",
            )
        with open(path, "rb") as file:
            line = file.read(_PASSPHRASE_BYTES + 1).split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        raise ArgumentError(f"cannot read {str(path)!r}: {error.strerror}") from error
    if not 8 <= len(line) <= _PASSPHRASE_BYTES:
        raise ArgumentError(
            f"the first line of {str(path)!r} is no passphrase",
            hint=f"write 8 to {_PASSPHRASE_BYTES} bytes there",
        )
    return line


def _places(home: Path, target: Path, overwrite: bool) -> tuple[Path, Path]:
    real = Path(os.path.realpath(home))
    if not real.is_dir():
        raise HomeError(
            f"there is no FMOS home at {str(home)!r}", hint="name it with --home or FMOS_HOME"
        )
    if not (real / files.KERNEL_DB).exists() and not (real / files.TENANTS).is_dir():
        raise HomeError(f"{str(home)!r} is no FMOS home: it has no {files.KERNEL_DB}")
    aim = Path(os.path.realpath(target.parent)) / target.name
    if aim.is_relative_to(real):
        raise ArgumentError(
            f"a backup in the home itself, as {str(target)!r}, is lost with it",
            hint="name a file elsewhere, best on another disk",
        )
    if aim.is_dir():
        raise ArgumentError(f"{str(target)!r} is a folder", hint="name a file in it")
    if not aim.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(target.parent)!r}", hint="make it first")
    if aim.exists() and not overwrite:
        raise ArgumentError(
            f"{str(target)!r} is there already",
            hint="name another file, or replace it with --force",
        )
    return real, aim


@contextmanager
def _draft(partial: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open the draft, held by a lock; what a killed backup left there is written over."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(partial, flags, files.PRIVATE_FILE)
    with os.fdopen(descriptor, "w+b") as out:
        if not locks.take(out):
            raise ArgumentError(
                f"another backup is being written to {str(target)!r}", hint="name another file"
            )
        os.fchmod(descriptor, files.PRIVATE_FILE)
        out.truncate(0)
        try:
            yield out
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _write(
    writer: Writer, home: Path, staged: Path, keys: bool, version: str, progress: Progress
) -> Manifest:
    components: dict[str, int] = {}
    volumes: dict[str, VolumeFacts] = {}
    warnings: list[str] = []
    made_ns = 0
    plain: list[_Plain] = []

    def meanwhile() -> None:
        """Take the other files while nobody can sign a checkpoint, or make a tenant."""
        nonlocal made_ns
        made_ns = time.time_ns()
        # In this order (`audit.next.pem` first) a change of keys that goes on beside it is
        # either not begun, done, or finished by the first use of what is restored.
        plain.extend(_opened(stack, home, name) for name in files.plain_files(home, keys=keys))

    with ExitStack() as stack, one_instant(home, meanwhile) as snapshots:
        for each in plain:
            if each.file is not None:
                writer.add(each.name, each.file, each.size, progress)
        for snapshot in snapshots:
            fault = _add_database(writer, snapshot, staged, progress)
            if fault:
                warnings.append(f"{snapshot.name} is damaged, and kept as it is: {fault}")
                continue
            if snapshot.name == files.KERNEL_DB:
                components = components_of(_reader(snapshot))
            elif files.is_volume(snapshot.name):
                tenant = Path(snapshot.name).stem
                volumes[tenant] = _facts(_reader(snapshot))
    manifest = Manifest(
        fmos=version, made_ns=made_ns, home=str(home), keys=keys, components=components,
        volumes=volumes, members=tuple(writer.members), warnings=tuple(warnings),
    )  # fmt: skip
    writer.finish(manifest)
    return manifest


class _Plain(NamedTuple):
    """A file that is no database, as it was at the instant; no file if it was gone by then.

    Small ones were read. Of others the first `size` bytes of what was opened are it: the home's
    files are replaced whole, or only grow.
    """

    name: str
    file: IO[bytes] | None
    size: int = 0


def _opened(stack: ExitStack, home: Path, name: str) -> _Plain:
    try:
        file = open(home / name, "rb")  # noqa: SIM115 - the stack closes it
    except FileNotFoundError:
        return _Plain(name, None)
    except OSError as error:
        raise StorageError(
            f"cannot read {str(home / name)!r}: {error.strerror}", hint="check its permissions"
        ) from error
    size = os.fstat(file.fileno()).st_size
    if size > _SMALL_BYTES:
        return _Plain(name, stack.enter_context(file), size)
    with file:
        data = file.read()
    return _Plain(name, io.BytesIO(data), len(data))


def _add_database(writer: Writer, snapshot: Snapshot, staged: Path, progress: Progress) -> str:
    """Add a database and return what is wrong with it, if anything."""
    if snapshot.connection is None:
        with open(snapshot.path, "rb") as file:
            writer.add(snapshot.name, file, os.fstat(file.fileno()).st_size, progress)
        return snapshot.damage
    staged.unlink(missing_ok=True)
    try:
        copy(snapshot, staged, lambda pages: progress(snapshot.name, pages))
        with open(staged, "rb") as file:
            writer.add(snapshot.name, file, os.fstat(file.fileno()).st_size, progress)
        return _damage(staged)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{staged}{suffix}").unlink(missing_ok=True)


def _damage(path: Path) -> str:
    connection = apsw.Connection(str(path))
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").get)
    except apsw.Error as error:
        return str(error)
    finally:
        connection.close()
    return "" if found == "ok" else found


def _reader(snapshot: Snapshot) -> apsw.Connection:
    assert snapshot.connection is not None
    return snapshot.connection


def _facts(connection: apsw.Connection) -> VolumeFacts:
    rows, head = journal_head(connection)
    version = connection.execute("PRAGMA user_version").get
    return VolumeFacts(format=version, journal_rows=rows, journal_head=head)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _use_up(pieces: Iterator[bytes]) -> None:
    for _ in pieces:
        pass


def _cannot_write(target: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    with suppress(OSError):
        Path(f"{target}.partial").unlink(missing_ok=True)
    return StorageError(
        f"cannot write {str(target)!r}: {error.strerror or error}",
        hint="free space on its disk, or name a file on another" if full else "check the folder",
    )


def _quiet(what: str, done: int) -> None:
    pass
