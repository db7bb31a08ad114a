"""Opens a volume to read what one session did in it; needs neither kernel.db nor a running home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentfs import AgentFS
from agentfs.errors import AgentFSError
from fmos.audit.keys import AuditKeys
from fmos.errors import ArgumentError, FormatError, HomeError, NotFoundError
from fmos.replay.encryption import SessionCipher
from fmos.replay.store import Entry, Recorded, RecordingStore

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Found:
    """One session of a volume: its branch, its principal, and its recording if there is one."""

    branch: str
    principal: str
    session: str
    recorded: Recorded | None

    @property
    def agent(self) -> str:
        """The agent's id."""
        return self.principal.split("/")[2]


@contextmanager
def opened(path: Path, *, noting: bool = False) -> Iterator[AgentFS]:
    """Yield the volume at a path, with access to the system area; only `noting` can write to it.

    Raises:
        NotFoundError: if there is no such file.
        FormatError: if it is no volume.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no volume at {str(path)!r}", hint="check the path")
    try:
        volume = AgentFS.open(
            path, system=True, principal="fmos", create=False, read_only=not noting
        )
    except AgentFSError as error:
        raise FormatError(
            f"{str(path)!r} cannot be read as a volume: {error}",
            hint="name a file such as tenants/default.afs, or a copy of one",
        ) from error
    with volume:
        yield volume


def find(volume: AgentFS, session: str, *, agent: str = "", application: str = "") -> Found:
    """Return the session of a name.

    Raises:
        NotFoundError: if the volume has no such session.
        ArgumentError: if agents share the name, naming them.
    """
    found = {each.principal: each for each in _candidates(volume, session)}
    wanted = [each for each in found.values() if _is(each, agent, application)]
    if not wanted:
        raise NotFoundError(
            f"the volume has no session {session!r}" + (f" of agent {agent!r}" if agent else ""),
            hint="`fmos replay --list` shows those that are recorded",
        )
    if len(wanted) > 1:
        names = ", ".join(each.principal for each in wanted[:_SHOWN])
        raise ArgumentError(
            f"{len(wanted)} agents have a session {session!r}: {names}",
            hint="name one with --agent, and its application with --application",
        )
    return wanted[0]


def sessions(volume: AgentFS) -> list[Recorded]:
    """Return the recorded sessions of a volume, oldest first."""
    return RecordingStore(volume).named()


def entries(volume: AgentFS, found: Found, keys: AuditKeys | None) -> Iterator[Entry]:
    """Yield what was recorded of a session; without the keys, entries have no content."""
    if found.recorded is not None:
        cipher = SessionCipher(keys, found.recorded.salt) if keys is not None else None
        yield from RecordingStore(volume).entries(found.recorded.id, cipher)


def keys_of(folder: Path, tenant: str) -> AuditKeys | None:
    """Return a tenant's keys, or None where they cannot be read."""
    keys = AuditKeys(folder / tenant, make=False)
    try:
        keys.require()
    except HomeError:
        return None
    return keys


def _is(found: Found, agent: str, application: str) -> bool:
    _, app, name, _ = found.principal.split("/")
    return agent in ("", name) and application in ("", app)


def _candidates(volume: AgentFS, session: str) -> Iterator[Found]:
    known = RecordingStore(volume).named(session)
    for each in known:
        yield Found(each.branch, each.principal, session, each)
    if known:
        return
    seen: set[str] = set()
    for row in volume.journal():
        if row.principal.endswith(f"/{session}") and row.principal not in seen:
            seen.add(row.principal)
            if row.principal.count("/") == 3:
                yield Found(row.branch, row.principal, session, None)
