"""Where versions are kept: files of the template branch, forks of it, and one table of history.

All state of one change is written in one transaction of the volume, with its journal row.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agentfs import AgentFS
from agentfs.errors import NotFound
from fmos.errors import FormatError
from fmos.versions.model import Candidate, Register

REGISTER = "/.fmos/versions/register.json"
_CANDIDATES = "/.fmos/versions/candidates"
_SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
_SERVED = (
    "INSERT OR IGNORE INTO ext_versions_served(kind, name, principal, version, seq)"
    " VALUES (?, ?, ?, ?, ?)"
)
_WAS_SERVED = (
    "SELECT 1 FROM ext_versions_served"
    " WHERE kind = ? AND name = ? AND principal = ? AND version = ?"
)
_SESSIONS = (
    "SELECT principal, max(version) FROM ext_versions_served"
    " WHERE kind = ? AND name = ? GROUP BY principal HAVING count(*) = 1 AND min(seq) > ?"
)
_R = TypeVar("_R", bound=BaseModel)


class VersionStore:
    """The versions of one tenant, in its volume. Thread-safe."""

    def __init__(self, volume: AgentFS) -> None:
        """Use the tenant's volume on its template branch, with the system area."""
        self.volume = volume
        self._table = volume.extension("versions", _SCHEMA)

    def register(self) -> Register:
        """Return what the tenant serves.

        Raises:
            FormatError: if the register cannot be read.
        """
        return read_register(self.volume)

    def put_register(self, register: Register) -> None:
        """Replace the register, in the caller's transaction."""
        self._write(REGISTER, register)

    def candidate(self, kind: str, name: str, identifier: str) -> Candidate | None:
        """Return one version's record, or None.

        Raises:
            FormatError: if it cannot be read.
        """
        path = f"{_CANDIDATES}/{kind}/{name}/{identifier}"
        with suppress(NotFound):
            return _parsed(Candidate, self.volume.read(path), path)
        return None

    def put_candidate(self, candidate: Candidate) -> None:
        """Write one version's record, in the caller's transaction."""
        self._write(f"{_CANDIDATES}/{candidate.key}/{candidate.id}", candidate)

    def identifiers(self, kind: str, name: str) -> list[str]:
        """Return the ids of all versions of an artefact."""
        return self._names(f"{_CANDIDATES}/{kind}/{name}")

    def artefacts(self, kind: str = "") -> list[tuple[str, str]]:
        """Return kind and name of everything that was ever proposed, of one kind or of all."""
        kinds = [kind] if kind else self._names(_CANDIDATES)
        return [(each, name) for each in kinds for name in self._names(f"{_CANDIDATES}/{each}")]

    def was_served(self, kind: str, name: str, principal: str, version: str) -> bool:
        """Return whether it is noted that a session got a version."""
        return bool(self._table.query(_WAS_SERVED, (kind, name, principal, version)))

    def note_served(self, kind: str, name: str, principal: str, version: str, seq: int) -> None:
        """Note that a session got a version, in the caller's transaction."""
        self._table.execute(_SERVED, (kind, name, principal, version, seq))

    def sessions(self, kind: str, name: str, since: int) -> dict[str, str]:
        """Return the version of each session that got one only, first after the row `since`."""
        found = self._table.query(_SESSIONS, (kind, name, since))
        return {str(principal): str(version) for principal, version in found}

    def _names(self, path: str) -> list[str]:
        with suppress(NotFound):
            return self.volume.listdir(path)
        return []

    def _write(self, path: str, record: BaseModel) -> None:
        folder = path.rpartition("/")[0]
        self.volume.mkdir(folder, parents=True, exist_ok=True)
        self.volume.write(path, record.model_dump_json())


def read_register(volume: AgentFS) -> Register:
    """Return what a tenant serves; one that has no register serves nothing.

    Raises:
        FormatError: if the register cannot be read.
    """
    with suppress(NotFound):
        return _register(volume.read(REGISTER))
    return Register()


@functools.lru_cache(maxsize=64)
def _register(data: bytes) -> Register:
    return _parsed(Register, data, REGISTER)


def _parsed(model: type[_R], data: bytes, path: str) -> _R:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise FormatError(
            f"{path!r} in the template branch is not what FMOS wrote there: {first['msg']}",
            hint="set it back with `agentfs restore --paths`, or restore a backup",
        ) from error
