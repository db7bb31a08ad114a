"""Brings an older home to the formats of this FMOS in one step, after a look at all of it.

There is no number for a whole home: kernel.db has a version for the tables of each component, and
each volume has a format. Nothing is begun if any part is newer than this FMOS.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import apsw

from agentfs import AgentFS
from agentfs.connection import APPLICATION_ID, FORMAT_VERSION
from agentfs.errors import AgentFSError
from fmos.audit.keys import AuditKeys
from fmos.care import files
from fmos.care.archive import Progress
from fmos.care.backup import backup
from fmos.care.examine import columns_of, components_of, reading
from fmos.care.processes import sole_use
from fmos.config import Home
from fmos.errors import ArgumentError, FormatError, HomeError
from fmos.runtime.kernel import Kernel
from fmos.serving.discovery import discover
from fmos.storage.database import Database
from fmos.types import DEFAULT_TENANT, TEMPLATE_BRANCH, Record

_EVENT = "home.upgrade"
# What keeps tables in kernel.db and is neither a part of the kernel nor of a server.
_STORES = (
    "fmos.serving.credentials.store:TokenStore",
    "fmos.runtime.jobs:JobRuns",
    "fmos.steps.store:StepStore",
    "fmos.workflow.store:WorkflowStore",
)


class Step(Record):
    """One part that is older than this FMOS."""

    file: str
    part: str
    before: int
    after: int

    @property
    def said(self) -> str:
        """What was or would be done, as a sentence."""
        if self.file.startswith(f"{files.KEYS}/"):
            return f"{self.file}: to {files.KEYS}/{DEFAULT_TENANT}/, since each tenant has its own"
        what = f"the {self.part} tables" if self.part else "the volume"
        return f"{self.file}: {what} from version {self.before} to {self.after}"


class Plan(Record):
    """What an upgrade would do; `newer` says which parts a newer FMOS wrote, in sentences."""

    home: str
    steps: tuple[Step, ...]
    newer: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Upgraded(Record):
    """What an upgrade did, and where the backup is that was made before."""

    home: str
    done: tuple[str, ...]
    backup: str = ""
    state: Literal["current", "upgraded"] = "upgraded"


def plan(home: Path) -> Plan:
    """Return what is older and what is newer than this FMOS, without changing anything.

    Raises:
        HomeError: if there is no home.
        FormatError: if a file of it cannot be read.
    """
    if not home.is_dir():
        raise HomeError(
            f"there is no FMOS home at {str(home)!r}", hint="name it with --home or FMOS_HOME"
        )
    steps: list[Step] = []
    newer: list[str] = []
    unknown: list[str] = []
    known = known_components()
    for name, version in _components(home).items():
        if name not in known:
            unknown.append(name)
        elif version > known[name]:
            newer.append(
                f"{files.KERNEL_DB} has {name} tables of version {version}, newer than the"
                f" {known[name]} that this FMOS knows"
            )
        elif version < known[name]:
            steps.append(Step(file=files.KERNEL_DB, part=name, before=version, after=known[name]))
    for name in _volumes(home):
        version = _format(home / name)
        if version > FORMAT_VERSION:
            newer.append(
                f"{name} has format {version}, newer than the {FORMAT_VERSION} that this FMOS reads"
            )
        elif version < FORMAT_VERSION:
            steps.append(Step(file=name, part="", before=version, after=FORMAT_VERSION))
    steps += [
        Step(file=f"{files.KEYS}/{name}", part="", before=0, after=1) for name in _older_keys(home)
    ]
    return Plan(home=str(home), steps=tuple(steps), newer=tuple(newer), unknown=tuple(unknown))


def upgrade(
    home: Path,
    *,
    backup_to: Path | None = None,
    without_backup: bool = False,
    fmos_version: str = "",
    progress: Progress | None = None,
) -> Upgraded:
    """Back the home up, then bring every part up to date; each file wholly or not at all.

    The backup is `<home>.backup-<time>.fmos` unless `backup_to` says another place. What was
    interrupted goes on when it is called again.

    Raises:
        FormatError: if a newer FMOS wrote a part of the home; nothing is changed then.
        HomeError: if there is no home, or somebody uses it.
        StorageError: if a disk is full.
    """
    home = home.resolve()
    ahead = plan(home)
    if ahead.newer:
        raise FormatError(
            f"the home {str(home)!r} cannot be opened: {ahead.newer[0]}",
            hint="upgrade fmos, or restore the backup that was made before the upgrade",
        )
    if not ahead.steps:
        return Upgraded(home=str(home), done=(), state="current")
    if without_backup and backup_to is not None:
        raise ArgumentError("a backup cannot be named and left out", hint="choose one of them")
    with sole_use(home, "upgraded"):
        made = ""
        if not without_backup:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            target = backup_to or home.with_name(f"{home.name}.backup-{stamp}.fmos")
            made = backup(home, target, fmos_version=fmos_version, progress=progress).file
        done = migrate(home)
    return Upgraded(home=str(home), done=tuple(step.said for step in done), backup=made)


def migrate(home: Path) -> tuple[Step, ...]:
    """Bring every part of a home up to date and return what was done."""
    before = plan(home).steps
    if before:
        database = Database(home / files.KERNEL_DB)
        try:
            with database.transaction():  # all components, or none
                kernel = Kernel(Home.open(home), database=database)
                for _ in _install(kernel):
                    pass
            if _older_keys(home):
                kernel.keys_of(DEFAULT_TENANT)  # adopts the keys that all tenants once shared
        finally:
            database.close()
        detail = {"steps": [step.said for step in before]}
        for name in _volumes(home):
            note(home / name, _EVENT, detail)  # which brings its format up to date first
    left = plan(home).steps
    if left:
        raise FormatError(f"{left[0].said} was not done", hint="report this as a fault of fmos")
    return before


def note(path: Path, event: str, detail: dict[str, Any]) -> int:
    """Write an event to a volume's journal, synced, and return its number."""
    with AgentFS.open(
        path, TEMPLATE_BRANCH, "full", create=False, system=True, principal="fmos"
    ) as volume:
        return volume.record(event, detail)


class Part(NamedTuple):
    """Components that are installed together, and the tables and columns that come with them."""

    components: dict[str, int]
    tables: dict[str, tuple[str, ...]]


def known_components() -> dict[str, int]:
    """Return the versions of the tables that this FMOS makes in a new kernel.db."""
    return {name: version for part in parts() for name, version in part.components.items()}


@functools.cache
def parts() -> tuple[Part, ...]:
    """Return what this FMOS makes in a new kernel.db, in the order in which it is made."""
    found: list[Part] = []
    with (
        tempfile.TemporaryDirectory(prefix="fmos-versions-") as folder,
        Kernel.open(Path(folder) / "home") as kernel,
    ):
        found.append(_newly_made(kernel.home, found))
        for _ in _install(kernel):
            found.append(_newly_made(kernel.home, found))
    return tuple(found)


def _newly_made(home: Home, before: list[Part]) -> Part:
    with reading(home.kernel_db) as connection:
        components, tables = components_of(connection), columns_of(connection)
    for part in before:
        components = {n: v for n, v in components.items() if n not in part.components}
        tables = {n: c for n, c in tables.items() if n not in part.tables}
    return Part(components, tables)


def missing_tables(connection: apsw.Connection) -> list[str]:
    """Return the tables that the components of a kernel.db must have, and that are not as made.

    Only of components that have this FMOS's version: others are made, or brought to it, first.
    """
    own, found = components_of(connection), columns_of(connection)
    return [
        table
        for number, part in enumerate(parts())
        if number == 0 or part.components.keys() & own.keys()
        if all(own.get(name, version) == version for name, version in part.components.items())
        for table, columns in part.tables.items()
        if found.get(table) != columns
    ]


def _install(kernel: Kernel) -> Iterator[str]:
    """Make everything that keeps tables in kernel.db bring them up to date, one by one."""
    for name in _STORES:
        module, _, store = name.partition(":")
        getattr(import_module(module), store)(kernel.database)
        yield name
    for name, toolset in discover().found.items():
        toolset(kernel)
        yield name


def _components(home: Path) -> dict[str, int]:
    path = home / files.KERNEL_DB
    if not path.exists():
        return {}
    try:
        with reading(path) as connection:
            return components_of(connection)
    except apsw.Error as error:
        raise _unreadable(path, error) from error


def _volumes(home: Path) -> Iterator[str]:
    return (name for name in files.databases(home) if files.is_volume(name))


def _format(path: Path) -> int:
    try:
        with reading(path) as connection:
            if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
                return FORMAT_VERSION  # not ours to migrate; fsck names it
            return int(connection.execute("PRAGMA user_version").get)
    except (apsw.Error, AgentFSError) as error:
        raise _unreadable(path, error) from error


def _older_keys(home: Path) -> list[str]:
    """Return the files of the one key set that all tenants of an older home shared."""
    return [
        name
        for name in AuditKeys.FILES
        if (home / files.KEYS / name).exists()
        and not (home / files.KEYS / DEFAULT_TENANT / name).exists()
    ]


def _unreadable(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"{str(path)!r} cannot be read ({error})",
        hint="run `fmos doctor`, or restore a backup",
    )
