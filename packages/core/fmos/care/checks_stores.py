"""The doctor's checks of what a home keeps: kernel.db, ledger, volumes, journals and keys."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw

from agentfs.errors import AgentFSError
from fmos.care import files
from fmos.care.doctor import Check, Finding, Patient, counted, error, note, ok, warning
from fmos.care.examine import (
    Fault,
    key_faults,
    ledger_faults,
    reading,
    sqlite_faults,
    tables_of,
    volume_faults,
)
from fmos.care.upgrade import missing_tables, plan
from fmos.clock import utc_text
from fmos.errors import FmosError
from fmos.runtime.kernel import Kernel
from fmos.types import checked_id

_LONG_WAL = 64 << 20
_BUSY_MS = 2000
_AHEAD_NS = 300 * 10**9
_NEWEST = "SELECT time_ns FROM journal ORDER BY seq DESC LIMIT 1"
_TREE = "ext_audit_tree"
_RESTORE = "restore a backup: `fmos restore FILE --force`"


def kernel_db(patient: Patient) -> Iterator[Finding]:
    """Is kernel.db there, whole, not locked for long, and its log short."""
    path = patient.home / files.KERNEL_DB
    if not path.exists():
        if _volumes(patient):
            yield error(
                str(path), "it is not there, and the volumes are: accounts and agents are lost",
                _RESTORE,
            )  # fmt: skip
        else:
            yield note(str(path), "it is not there; the first command that uses it makes it")
        return
    found = [*_faults(sqlite_faults(path))] or [*_tables(path)]
    found += [*_writable(path), *_log(path)]
    yield from found or [ok(str(path), "SQLite's check passes")]


def ledger(patient: Patient) -> Iterator[Finding]:
    """Do the accounts come to what their reservations say."""
    path = patient.home / files.KERNEL_DB
    if not path.exists():
        return
    try:
        with reading(path) as connection:
            found = [*_faults(ledger_faults(connection, str(path)))]
            number = _count(connection, "account")
    except apsw.Error as failure:
        yield _unreadable(path, failure)
        return
    yield from found or [ok(str(path), f"{counted(number, 'account')}, and the books agree")]


def formats(patient: Patient) -> Iterator[Finding]:
    """Are the tables and volumes of this FMOS's versions."""
    try:
        found = plan(patient.home)
    except FmosError as failure:
        yield error(str(patient.home), _without_hint(failure), failure.hint or _RESTORE)
        return
    for said in found.newer:
        yield error(str(patient.home), said, "upgrade fmos; nothing of this home can be used by it")
    for step in found.steps:
        remedy = "run `fmos upgrade` (--dry-run shows what it does)"
        yield warning(str(patient.home / step.file), f"it is older: {step.said}", remedy)
    for name in found.unknown:
        yield note(
            str(patient.home / files.KERNEL_DB),
            f"the tables of {name!r} are of no part of this FMOS",
        )
    if not found.newer and not found.steps:
        yield ok(str(patient.home), "every part has the version of this FMOS")


def volumes(patient: Patient) -> Iterator[Finding]:
    """Fsck of every volume, its journal's chain in it; with --deep of all stored bytes."""
    for name in _volumes(patient):
        path = patient.home / name
        try:
            checked_id(path.stem, "a tenant id")
        except FmosError:
            yield warning(
                str(path), "its name is no tenant's, so that nobody opens it", "move it away"
            )
            continue
        found = [
            *_faults(volume_faults(path, content=patient.deep, progress=patient.progress)),
            *_log(path),
        ]
        how = "all bytes were read" if patient.deep else "its chain is whole"
        yield from found or [ok(str(path), f"fsck finds nothing, {how}")]
    for each in sorted((patient.home / files.TENANTS).glob("*")):
        if not each.name.endswith((".afs", ".afs-wal", ".afs-shm", ".afs-journal")):
            yield note(str(each), "it is no volume", "move it away if it is not yours")


def keys(patient: Patient) -> Iterator[Finding]:
    """Has every tenant its own keys, readable by their owner only."""
    path = patient.home / files.KERNEL_DB
    if not path.exists():
        return
    found = [*_faults(key_faults(patient.home))]
    for draft in sorted((patient.home / files.KEYS).glob("*/.*")):
        yield note(str(draft), "a command that was killed left it", f"remove it: `rm {draft}`")
    try:
        with reading(path) as connection:
            number = _count(connection, "tenant_key")
    except apsw.Error as failure:
        yield _unreadable(path, failure)
        return
    yield from found or [
        ok(str(patient.home / files.KEYS), f"the keys of {counted(number, 'tenant')}")
    ]


def clock(patient: Patient) -> Iterator[Finding]:
    """Is the clock plausible beside what the journals say."""
    now_ns = time.time_ns()
    if now_ns < 1_735_689_600 * 10**9:  # 2025
        yield error("clock", f"it says {_date(now_ns)}", "set the clock: tokens and budgets use it")
        return
    for name in _volumes(patient):
        path = patient.home / name
        try:
            with reading(path) as connection:
                row = connection.execute(_NEWEST).fetchone()
        except apsw.Error:
            continue  # `volumes` says so
        newest = 0 if row is None else int(row[0])
        if newest > now_ns + _AHEAD_NS:
            yield warning(
                str(path), f"its newest row is of {_date(newest)}, and it is {_date(now_ns)}",
                "set the clock; until then nothing that expired comes back, and budgets wait",
            )  # fmt: skip
            return
    yield ok("clock", _date(now_ns))


def checkpoints(patient: Patient) -> Iterator[Finding]:
    """With --deep: do the signed checkpoints agree with the journals; see docs/audit.md."""
    where = str(patient.home)
    if not patient.deep:
        yield ok(where, "the signed checkpoints are read with --deep")
        return
    if not _is_usable(patient):
        return  # formats, kernel.db or keys say why
    from fmos.audit.verify import verify  # noqa: PLC0415 - with --deep only

    number = 0
    with Kernel.look(patient.home) as kernel:
        for tenant in _with_tree(patient):
            try:
                report = verify(kernel, tenant)
            except (FmosError, AgentFSError) as failure:
                yield error(f"the journal of tenant {tenant!r}", str(failure), _RESTORE)
                continue
            number += report.checkpoints
            for each in report.problems:
                yield error(
                    f"the journal of tenant {tenant!r}", each.sentence,
                    "`fmos audit verify` says more; docs/audit.md says what each thing means",
                )  # fmt: skip
    yield ok(where, f"{counted(number, 'checkpoint')} read")


def _is_usable(patient: Patient) -> bool:
    """Return whether opening the kernel would change nothing and fail at nothing."""
    path = patient.home / files.KERNEL_DB
    try:
        ahead = plan(patient.home)
    except FmosError:
        return False
    faults = [*sqlite_faults(path), *key_faults(patient.home)] if path.exists() else [path]
    return not (faults or ahead.steps or ahead.newer)


def _with_tree(patient: Patient) -> list[str]:
    """Return the tenants whose journals were ever signed for: looking at others would begin it."""
    found: list[str] = []
    for name in _volumes(patient):
        with suppress(apsw.Error), reading(patient.home / name) as connection:
            if _TREE in tables_of(connection):
                found.append(Path(name).stem)
    return found


def jobs(patient: Patient) -> Iterator[Finding]:
    """Does somebody hold the lock of the background jobs for too long; see runtime/jobs.py."""
    from fmos.runtime.jobs import doctor  # noqa: PLC0415 - only this check needs it

    found = False
    for severity, thing, problem, remedy in doctor(patient.home, patient.deep):
        found = True
        yield Finding(severity=severity, thing=thing, problem=problem, remedy=remedy)
    if not found:
        yield ok(str(patient.home), "nothing is wrong with them")


def _volumes(patient: Patient) -> list[str]:
    return [name for name in files.databases(patient.home) if files.is_volume(name)]


def _faults(faults: Iterator[Fault]) -> Iterator[Finding]:
    for fault in faults:
        yield error(fault.thing, fault.problem, fault.remedy)


def _tables(path: Path) -> Iterator[Finding]:
    try:
        with reading(path) as connection:
            missing = missing_tables(connection)
    except apsw.Error as failure:
        yield _unreadable(path, failure)
        return
    if missing:
        what = f"{len(missing)} tables are not there or have other columns: {missing[0]!r}"
        yield error(str(path), f"{what}{', ...' if len(missing) > 1 else ''}", _RESTORE)


def _writable(path: Path) -> Iterator[Finding]:
    """Try whether a write could begin; nothing is written."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as failure:
        yield _unreadable(path, failure)
        return
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except apsw.BusyError:
        yield warning(
            str(path), f"somebody has kept it locked for {_BUSY_MS / 1000:.0f} s",
            "look for a stopped process below `users`, and end it",
        )  # fmt: skip
    except apsw.ReadOnlyError as failure:
        yield error(str(path), f"it cannot be written: {failure}", f"run `chmod u+rw {path}`")
    except apsw.Error:
        pass  # SQLite's check says what is wrong
    finally:
        connection.close()


def _log(path: Path) -> Iterator[Finding]:
    log = Path(f"{path}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _LONG_WAL:
        yield warning(
            str(log), f"SQLite's log has grown to {size >> 20} MiB: a long reader holds it",
            "end the process that reads for so long (see `users`); the next write shortens it",
        )  # fmt: skip
    if os.path.exists(f"{path}-journal"):
        yield note(f"{path}-journal", "an interrupted write is undone at the next opening")


def _count(connection: apsw.Connection, table: str) -> int:
    if table not in tables_of(connection):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {table}").get)


def _unreadable(path: Path, failure: apsw.Error) -> Finding:
    return error(str(path), f"it cannot be read: {failure}", _RESTORE)


def _without_hint(failure: FmosError) -> str:
    return str(failure).removesuffix(f"; {failure.hint}") if failure.hint else str(failure)


def _date(time_ns: int) -> str:
    return f"{utc_text(time_ns)} UTC"


CHECKS = (
    Check("formats", formats),
    Check("kernel.db", kernel_db, long=True),
    Check("ledger", ledger, long=True),
    Check("volumes", volumes, long=True),
    Check("keys", keys),
    Check("checkpoints", checkpoints, long=True),
    Check("jobs", jobs),
    Check("clock", clock),
)
