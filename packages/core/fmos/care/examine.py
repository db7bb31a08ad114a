"""Looks at the state that a home's files hold: structure, chain, books and keys. Changes nothing.

Opens no kernel, because that would make what is missing and bring older tables up to date.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from agentfs import AgentFS
from agentfs.connection import APPLICATION_ID, FORMAT_VERSION
from agentfs.errors import AgentFSError
from agentfs.looking import look_at
from fmos.audit.keys import AuditKeys, public_text, read_private
from fmos.care import files
from fmos.errors import FmosError
from fmos.ledger.accounts import Account
from fmos.ledger.windows import Window, start_of
from fmos.types import Record

if TYPE_CHECKING:
    from fmos.care.archive import Progress, VolumeFacts

_HEAD = (
    "SELECT seq, hash FROM journal UNION ALL SELECT seq, hash FROM checkpoint"
    " ORDER BY seq DESC LIMIT 1"
)
_ROW = "SELECT hash FROM journal WHERE seq = ?"
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
_COLUMNS = """
SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.name
"""
_OPEN = """
SELECT a.path, r.made_ns, r.amounts FROM reservation r JOIN account a ON a.id = r.account
WHERE r.state = 'open'
"""
_BALANCES = """
SELECT a.path, b.resource, b.window, b.start_ns, b.reserved FROM balance b
JOIN account a ON a.id = b.account
"""
_BELOW = """
SELECT a.path, b.resource, b.spent, coalesce((SELECT sum(c.spent) FROM account k
    JOIN balance c ON c.account = k.id WHERE k.parent = a.id AND c.resource = b.resource
    AND c.window = 'total'), 0) AS below
FROM balance b JOIN account a ON a.id = b.account WHERE b.window = 'total' AND b.spent < below
"""
_LOST = "SELECT count(*) FROM reservation WHERE account NOT IN (SELECT id FROM account)"
_KEYS = "SELECT tenant, public_key FROM tenant_key ORDER BY tenant"
_CHANGED = "SELECT tenant, public_key FROM tenant_key_change ORDER BY number"
_SHOWN = 5
# What rows of tables that somebody changed can end with.
_UNREADABLE = (apsw.Error, FmosError, ValueError, TypeError, AttributeError, LookupError)


class Fault(Record):
    """Something that is not as it must be, and what to do about it."""

    thing: str
    problem: str
    remedy: str = "restore a backup"


def examine(
    home: Path,
    volumes: Mapping[str, VolumeFacts] | None = None,
    *,
    keys: bool = True,
    content: bool = False,
    progress: Progress | None = None,
) -> Iterator[Fault]:
    """Yield what is wrong with a home's databases and keys; `content` reads all stored bytes too.

    `volumes` says what a manifest knows of each journal.
    """
    tell = progress or (lambda _what, _done: None)
    kernel_db = home / files.KERNEL_DB
    if kernel_db.exists():
        tell(files.KERNEL_DB, 0)
        yield from kernel_faults(kernel_db)
        if keys:
            yield from key_faults(home)
    for name in files.databases(home):
        if files.is_volume(name):
            tell(name, 0)
            facts = (volumes or {}).get(Path(name).stem)
            yield from volume_faults(home / name, facts, content=content, progress=tell)


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """Open a database so that nothing in it can be changed.

    Raises:
        apsw.Error: if it is no database, damaged or not readable.
    """
    connection = look_at(str(path))
    try:
        connection.set_busy_timeout(5000)
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        yield connection
    finally:
        with suppress(apsw.Error):
            connection.close()


def kernel_faults(path: Path) -> Iterator[Fault]:
    """Yield what SQLite's check and the ledger's rules find wrong in kernel.db."""
    found = list(sqlite_faults(path))
    yield from found
    if not found:
        with reading(path) as connection:
            yield from ledger_faults(connection, str(path))


def sqlite_faults(path: Path) -> Iterator[Fault]:
    """Yield what SQLite's own check finds wrong in a database."""
    try:
        with reading(path) as connection:
            for (problem,) in connection.execute("PRAGMA integrity_check(5)"):
                if problem != "ok":
                    yield Fault(thing=str(path), problem=f"SQLite finds {problem!r}")
    except apsw.Error as error:
        yield Fault(thing=str(path), problem=f"it cannot be read: {error}")


def ledger_faults(connection: apsw.Connection, thing: str) -> Iterator[Fault]:
    """Yield balances that are not what the reservations and the accounts below come to."""
    if not {"account", "balance", "reservation"} <= tables_of(connection):
        return
    remedy = "restore a backup from before, or ask for help with this line; spending goes on"
    try:
        for problem in _some(_wrong_books(connection)):
            yield Fault(thing=thing, problem=problem, remedy=remedy)
    except _UNREADABLE as error:
        yield Fault(thing=thing, problem=f"its accounts cannot be read: {error}")


def _wrong_books(connection: apsw.Connection) -> Iterator[str]:
    connection.execute("BEGIN")
    try:
        held = _Held(connection)
        for path, resource, window, start_ns, reserved in connection.execute(_BALANCES):
            wanted = held.amount(path, resource, window, start_ns)
            if reserved != wanted:
                yield f"{path} has {reserved} {resource} reserved ({window}), not {wanted}"
        for path, resource, spent, below in connection.execute(_BELOW):
            yield f"{path} has spent {spent} {resource}, less than the {below} below it"
        lost = connection.execute(_LOST).get
        if lost:
            yield f"{lost} reservations are of no account"
    finally:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")


class _Held:
    """What the open reservations at or below each account come to."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._totals = Counter[tuple[str, str]]()
        self._single: dict[str, list[tuple[int, dict[str, int]]]] = {}
        for path, made_ns, text in connection.execute(_OPEN):
            amounts: dict[str, int] = json.loads(text)
            for payer in map(str, Account.parse(path).path):
                self._single.setdefault(payer, []).append((made_ns, amounts))
                for resource, amount in amounts.items():
                    self._totals[payer, resource] += amount

    def amount(self, path: str, resource: str, window: Window, start_ns: int) -> int:
        """Return what is reserved of a resource in the window that began at a moment."""
        if window == "total":
            return self._totals[path, resource]
        return sum(
            amounts.get(resource, 0)
            for made_ns, amounts in self._single.get(path, ())
            if start_of(window, made_ns) == start_ns
        )


def key_faults(home: Path) -> Iterator[Fault]:
    """Yield tenants whose keys are missing, unreadable, open to others or not their own."""
    try:
        with reading(home / files.KERNEL_DB) as connection:
            known = _public_keys(connection)
    except apsw.Error:
        return  # sqlite_faults says so
    for tenant, public_key in known.items():
        folder = home / files.KEYS / tenant
        try:
            keys = AuditKeys(folder, make=False)
            keys.require()
            if public_key != keys.public_key and not _is_changing(folder, public_key):
                yield Fault(
                    thing=str(folder),
                    problem=f"it holds another key than the one of tenant {tenant!r}",
                    remedy="put the tenant's own keys back from a backup",
                )
        except FmosError as error:
            problem = str(error).removesuffix(f"; {error.hint}")
            yield Fault(thing=str(folder), problem=problem, remedy=error.hint)


def _public_keys(connection: apsw.Connection) -> dict[str, str]:
    """Return the public key of each tenant that counts now."""
    tables = tables_of(connection)
    rows: list[Any] = []
    for table, sql in (("tenant_key", _KEYS), ("tenant_key_change", _CHANGED)):
        if table in tables:
            rows += connection.execute(sql).fetchall()
    return {str(tenant): str(public_key) for tenant, public_key in rows}


def _is_changing(folder: Path, public_key: str) -> bool:
    """Return whether a change of keys was cut short, which the next use of them finishes."""
    following = folder / "audit.next.pem"
    return following.exists() and public_text(read_private(following)) == public_key


def volume_faults(
    path: Path,
    facts: VolumeFacts | None = None,
    *,
    content: bool = False,
    progress: Progress | None = None,
) -> Iterator[Fault]:
    """Yield what fsck finds, the journal's chain in it; of an older format SQLite's check only."""
    try:
        with reading(path) as connection:
            version = connection.execute("PRAGMA user_version").get
            if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
                yield Fault(thing=str(path), problem="it is no agentfs volume")
                return
            if facts is not None:
                yield from _other_journal(connection, path, facts)
            if version != FORMAT_VERSION:
                yield from _check_unknown(connection, path, version)
                return
        tell = progress or (lambda _what, _done: None)
        with AgentFS.open(path, system=True, busy_s=5, read_only=True) as volume:
            for finding in volume.fsck(read_data=content, progress=tell):
                yield Fault(
                    thing=str(path),
                    problem=f"invariant {finding.invariant}: {finding.message}",
                    remedy=f"`agentfs -f {path} fsck --repair` on a copy, or restore a backup",
                )
    except (apsw.Error, AgentFSError) as error:
        yield Fault(thing=str(path), problem=f"it cannot be read: {error}")


def _check_unknown(connection: apsw.Connection, path: Path, version: int) -> Iterator[Fault]:
    if version > FORMAT_VERSION:
        yield Fault(
            thing=str(path),
            problem=f"its format {version} is newer than the {FORMAT_VERSION} of this FMOS",
            remedy="upgrade fmos",
        )
        return
    for (problem,) in connection.execute("PRAGMA quick_check(5)"):
        if problem != "ok":
            yield Fault(thing=str(path), problem=f"SQLite finds {problem!r}")


def _other_journal(connection: apsw.Connection, path: Path, facts: VolumeFacts) -> Iterator[Fault]:
    row = connection.execute(_ROW, (facts.journal_rows,)).fetchone()
    head = journal_head(connection)
    same = row is not None and bytes(row[0]).hex() == facts.journal_head
    if not same and head != (facts.journal_rows, facts.journal_head):
        yield Fault(
            thing=str(path),
            problem=f"its journal is not the one that had {facts.journal_rows} rows at the backup",
            remedy="use another backup",
        )


def journal_head(connection: apsw.Connection) -> tuple[int, str]:
    """Return the number and the hash of a volume's newest journal row; 0 without any."""
    row = connection.execute(_HEAD).fetchone()
    return (0, "") if row is None else (int(row[0]), bytes(row[1]).hex())


def components_of(connection: apsw.Connection) -> dict[str, int]:
    """Return the versions of the tables in a kernel.db, by component."""
    if "component" not in tables_of(connection):
        return {}
    rows: list[Any] = connection.execute("SELECT name, version FROM component").fetchall()
    return {str(name): int(version) for name, version in sorted(rows)}


def columns_of(connection: apsw.Connection) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of each table of a database."""
    found: dict[str, tuple[str, ...]] = {}
    for table, column in connection.execute(_COLUMNS):
        found[str(table)] = (*found.get(str(table), ()), str(column))
    return found


def tables_of(connection: apsw.Connection) -> set[str]:
    """Return the names of a database's tables."""
    return {str(name) for (name,) in connection.execute(_TABLES)}


def _some(problems: Iterator[str]) -> Iterator[str]:
    found = list(problems)
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"and {len(found) - _SHOWN} more like these"
