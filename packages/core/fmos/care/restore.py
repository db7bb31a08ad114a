"""Restores a home from a backup: unpacked beside its place, examined, then given its name."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agentfs.errors import AgentFSError
from fmos.care import files
from fmos.care.archive import Manifest, Progress
from fmos.care.backup import KEYS_LEFT_OUT, unpack
from fmos.care.examine import Fault, examine
from fmos.care.processes import sole_use
from fmos.care.upgrade import Step, migrate, note, plan
from fmos.config import Home
from fmos.errors import ArgumentError, FmosError, FormatError, HomeError, StorageError
from fmos.storage import locks, wholefile
from fmos.types import Record

_EVENT = "home.restore"
_EXCHANGE = 2  # RENAME_EXCHANGE
_AT_FDCWD = -100

LOST = (
    "what happened after the backup is not in it: spending since then is unknown to the accounts,"
    " and tokens, trusted projects and approvals are as they were then - look through"
    " `fmos token list` and `fmos trust --list`"
)


class Restored(Record):
    """A home that was restored; `kept` is where the one before lies, if there was one."""

    home: str
    kept: str
    manifest: Manifest
    rows: dict[str, int]
    upgraded: tuple[str, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def restore(
    file: Path,
    home: Path,
    *,
    passphrase: bytes | None = None,
    force: bool = False,
    damaged: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Put the home of a backup at `home`, whole or not at all.

    `force` moves a home that is there to `<home>.before-<time>`; nothing is ever deleted. Every
    volume gets a row `home.restore`. `damaged` takes a home in which faults are found.

    Raises:
        HomeError: if something is at `home` and `force` is not given, or somebody uses it.
        FormatError: if the file is no whole backup, its home has faults, or a newer FMOS wrote it.
        StorageError: if the disk is full; `home` is as it was then.
    """
    tell = progress or (lambda _what, _done: None)
    place = Path(os.path.realpath(home))
    _require_free(place, force)
    with sole_use(place, "replaced"):
        pass  # told now, and not after all was unpacked
    with _staging(place) as staged:
        manifest = unpack(file, staged, passphrase, tell)
        faults = _examined(file, staged, manifest, damaged, tell)
        steps = _migrated(staged, damaged)
        if steps:
            faults += _examined(file, staged, manifest, damaged, tell)
        rows = _noted(staged, manifest, damaged)
        with _synced(staged), sole_use(place, "replaced"):
            _require_free(place, force)
            kept = _put(staged, place)
    notes = [LOST] if manifest.keys else [LOST, KEYS_LEFT_OUT]
    return Restored(
        home=str(place), kept=str(kept) if kept else "", manifest=manifest, rows=rows,
        upgraded=tuple(step.said for step in steps), faults=faults, notes=tuple(notes),
    )  # fmt: skip


def _require_free(place: Path, force: bool) -> None:
    if place.exists() and not place.is_dir():
        raise HomeError(f"{str(place)!r} is a file", hint="name a folder")
    if not force and place.is_dir() and any(place.iterdir()):
        raise HomeError(
            f"there is something at {str(place)!r} already",
            hint="name another --home, or --force to move it aside",
        )
    if not place.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(place.parent)!r}", hint="make it first")


@contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """Make the folder beside the home that is filled; what a killed restore left is removed."""
    staged = place.with_name(f"{place.name}.restoring")
    try:
        with locks.tried(Path(f"{staged}.lock"), remove=True) as lock:
            if lock is None:
                raise HomeError(
                    f"another restore to {str(place)!r} runs already",
                    hint="wait until it has ended",
                )
            shutil.rmtree(staged, ignore_errors=True)
            try:
                staged.mkdir(mode=files.PRIVATE_FOLDER)
                yield staged
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _cannot(place, error) from error


def _examined(
    file: Path, staged: Path, manifest: Manifest, damaged: bool, progress: Progress
) -> tuple[Fault, ...]:
    try:
        newer = plan(staged).newer
    except FormatError:
        if not damaged:
            raise
        newer = ()
    if newer:
        raise FormatError(
            f"{str(file)!r} is of FMOS {manifest.fmos or '?'}: {newer[0]}",
            hint="upgrade fmos, then restore",
        )
    found = [
        fault.model_copy(update={"thing": _relative(fault.thing, staged)})
        for fault in examine(staged, manifest.volumes, keys=manifest.keys, progress=progress)
    ]
    if found and not damaged:
        first = found[0]
        raise FormatError(
            f"the home in {str(file)!r} has {len(found)} faults, the first in {first.thing!r}:"
            f" {first.problem}",
            hint="use another backup, or --damaged to restore it as it is",
        )
    return tuple(found)


def _relative(thing: str, staged: Path) -> str:
    path = Path(thing)
    return str(path.relative_to(staged)) if path.is_relative_to(staged) else thing


def _migrated(staged: Path, damaged: bool) -> tuple[Step, ...]:
    """Bring the home up to date; what cannot be read stays as it is if damage is accepted."""
    try:
        return migrate(staged)
    except (FmosError, AgentFSError):
        if not damaged:
            raise
        return ()


def _noted(staged: Path, manifest: Manifest, damaged: bool) -> dict[str, int]:
    """Write the row of this restore to each volume that can be written."""
    place = Home.open(staged)  # makes the folders that were empty
    detail = {
        "made_ns": manifest.made_ns,
        "restored_ns": time.time_ns(),
        "fmos": manifest.fmos,
        "keys": manifest.keys,
    }
    rows: dict[str, int] = {}
    for tenant, facts in sorted(manifest.volumes.items()):
        known = {"rows": facts.journal_rows, "head": facts.journal_head}
        try:
            rows[tenant] = note(place.volume(tenant), _EVENT, {**detail, **known})
        except AgentFSError:
            if not damaged:
                raise
    return rows


@contextmanager
def _synced(staged: Path) -> Iterator[None]:
    wholefile.sync_tree(staged)
    yield
    wholefile.sync_folder(staged.parent)


def _put(staged: Path, place: Path) -> Path | None:
    """Give the staged home its place; return where the one that was there lies now."""
    if not place.exists() or not any(place.iterdir()):
        os.rename(staged, place)
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = place.with_name(f"{place.name}.before-{stamp}")
    if kept.exists():
        kept = place.with_name(f"{kept.name}-{secrets.token_hex(2)}")
    if not _exchanged(staged, kept, place):
        _moved(staged, kept, place)
    return kept


def _exchanged(staged: Path, kept: Path, place: Path) -> bool:
    """Give the old home its final name in the step that takes its place; False where none can.

    The new home waits under that name, so that the folder of the restore, which is removed whenever
    one ends or begins, never holds the old one.
    """
    own = staged.stat()
    os.rename(staged, kept)
    try:
        return _exchange(kept, place)
    finally:
        if os.path.samestat(own, kept.stat()):  # it is not the old home: that is in its place
            os.rename(kept, staged)


def _moved(staged: Path, kept: Path, place: Path) -> None:
    """Do it in two steps; killed between them, the old home lies whole under its final name."""
    os.rename(place, kept)
    try:
        os.rename(staged, place)
    except BaseException:
        if not place.exists():
            os.rename(kept, place)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, so that the home is there at every moment; Linux only."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return done == 0


def _cannot(place: Path, error: OSError) -> StorageError:
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return StorageError(
            f"{str(place)!r} is a mount point, which cannot be exchanged",
            hint="restore to another folder and set FMOS_HOME to it",
        )
    return StorageError(
        f"cannot restore to {str(place)!r}: {error.strerror or error}",
        hint="check the folder above it and the space on its disk",
    )
